"""Nodes with positions to a `Configuration`: what the user's files say, merged and filled in.

The way: each file is checked for its shape; accounts, templates and the rest are gathered; then
every account is made of its layers (defaults, templates in order, the account itself), and its
interpolations are replaced. An account remembers its layers, so that every leaf of it can name
the place it comes from; nothing is computed for that until somebody asks.

Source: docs/configuration.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from reconciler.core.shapes import (
    ApiShape,
    ProjectShape,
    VariableShape,
    nearest,
    problem,
    shown,
    walk,
)
from reconciler.core.values import (
    ABSENT,
    ROOT,
    AccountId,
    Diagnostic,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    MappingNode,
    MaybeJson,
    SequenceNode,
    Source,
    account_id,
    address,
    dotted,
    is_key,
    locate,
    parse_path,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_STATE: Final = "state/reconciler.state.json"

_INTERPOLATION = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IDENTITY = frozenset({("settings", "name"), ("settings", "realm")})
"""What an account is shown as and found by, so that it can't be kept secret."""

_RESERVED = ("VINIX_", "RECONCILER_")


# --- the values ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may change. `max_update_percent` is of the accounts under management."""

    max_delete: int = 0
    max_demote: int = 0
    max_update_percent: int = 30
    reparent: bool = False


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How changes of an account are treated. Paths are relative to the account block."""

    ignore_changes: tuple[FieldPath, ...] = ()
    prevent_destroy: bool = False

    def ignores(self, path: FieldPath) -> bool:
        """Whether the field at `path`, or one that encloses it, is to be left alone."""
        return any(path[: len(ignored)] == ignored for ignored in self.ignore_changes)


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the blocks an account is made of. `origin`: account, default, template NAME."""

    origin: str
    block: MappingNode


@dataclass(frozen=True, slots=True, repr=False)  # large, and its values are in clear
class Declared:
    """An account as the YAML wants it.

    `block` holds what is managed: `{"settings": {...}}` and, if it is declared, `"reseller"`.
    Values are in clear; `sensitive` has the paths of those that no output may show, with their
    origin.
    """

    key: Key
    parent: Key
    block: JsonObject
    sensitive: Mapping[FieldPath, str]
    lifecycle: Lifecycle
    layers: tuple[Layer, ...]
    source: Source
    id: AccountId | None = None

    @property
    def settings(self) -> JsonObject:
        """The declared account document."""
        settings = self.block["settings"]
        return settings if isinstance(settings, dict) else {}

    def origin(self, path: FieldPath) -> tuple[Source, str]:
        """Where the value at `path` of the block comes from, and of what kind that place is."""
        for layer in reversed(self.layers):
            found = value_at(layer.block, path)
            if found is not ABSENT:
                kind = layer.origin
                if isinstance(found, str) and (match := _INTERPOLATION.search(found)):
                    kind = (
                        f"variable {match[1][4:]}" if (match[1] or "").startswith("var.") else kind
                    )
                return locate(layer.block, path) or self.source, kind
        return self.source, "account"

    def place(self, path: Sequence[str | int], *, key: bool = False) -> Source:
        """Where `path` of the block stands, or what encloses it."""
        for layer in reversed(self.layers):
            depth = len(path)
            if value_at(layer.block, [str(part) for part in path]) is not ABSENT or (
                depth
                and isinstance(path[-1], int)
                and isinstance(walk(layer.block, path[:-1]), list)
            ):
                return locate(layer.block, path, key=key) or self.source
        if path:
            return self.place(path[:-1], key=len(path) == 1)
        return self.source


@dataclass(frozen=True, slots=True)
class Removed:
    """An account that leaves the YAML: deleted if `destroy`, else forgotten."""

    key: Key
    destroy: bool
    source: Source


@dataclass(frozen=True, slots=True)
class Moved:
    """A key that became another."""

    old: Key
    new: Key
    source: Source


@dataclass(frozen=True, slots=True)
class Settings:
    """What `reconciler.yaml` says besides accounts. `timeout` in seconds."""

    url: str | None = None
    url_source: Source | None = None
    account_id: AccountId | None = None
    concurrency: int = 16
    timeout: float = 30.0
    proxy_from_environment: bool = False
    welcome_email: bool = False
    extra_fields: bool = False
    state: str = DEFAULT_STATE
    include: tuple[tuple[str, Source], ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of a variable. `assumed`: nobody said that it is sensitive, but where it is from."""

    value: JsonValue = field(repr=False)
    sensitive: bool
    assumed: bool = False


@dataclass(frozen=True, slots=True, repr=False)  # large
class Configuration:
    """All that the files say, accounts in order of key, and what is odd about it."""

    settings: Settings
    accounts: Mapping[Key, Declared]
    moved: tuple[Moved, ...] = ()
    removed: Mapping[Key, Removed] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()


class Invalid(Exception):
    """The configuration can't be used. Carries every diagnostic, warnings too, in order."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(f"{len(diagnostics)} problems")
        self.diagnostics = sorted(diagnostics, key=Diagnostic.sort_key)


# --- reconciler.yaml -------------------------------------------------------------------------


def read_settings(node: MappingNode) -> tuple[Settings, list[Diagnostic]]:
    """The settings in `reconciler.yaml`, whose shape was checked."""
    diagnostics: list[Diagnostic] = []
    shape = ProjectShape.model_validate(
        {
            name: value
            for name, value in node.items()
            if name not in ("accounts", "templates", "defaults")
        }
    )
    api = shape.api or ApiShape()
    root = None
    if api.account_id is not None:
        try:
            root = account_id(api.account_id)
        except ValueError as error:
            source = locate(node, ("api", "account_id"))
            diagnostics.append(
                problem("A malformed account id", f"{error}.", source, path="api.account_id")
            )
    include = node.get("include")
    marks = include.marks if isinstance(include, SequenceNode) else []
    return (
        Settings(
            url=api.url,
            url_source=locate(node, ("api", "url")),
            account_id=root,
            concurrency=api.concurrency,
            timeout=seconds(api.timeout),
            proxy_from_environment=api.proxy_from_environment,
            welcome_email=api.welcome_email,
            extra_fields=api.extra_fields == "allow",
            state=shape.state or DEFAULT_STATE,
            include=tuple(
                (pattern, locate(node, ("include", index)) or Source(node.file, 1, 1))
                for index, pattern in enumerate(shape.include or [])
                if index < len(marks)
            ),
            limits=Limits(**shape.safety.model_dump()) if shape.safety else Limits(),
        ),
        diagnostics,
    )


def seconds(duration: str) -> float:
    """`500ms`, `30s`, `2m` in seconds. Raises: ValueError."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m)", duration)
    if match is None:
        raise ValueError("a duration is a number with ms, s or m: 500ms, 30s, 2m")
    return int(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]


def read_variables(
    node: MappingNode, given: Mapping[str, JsonValue], environment: Mapping[str, str]
) -> tuple[dict[str, Variable], list[Diagnostic]]:
    """The variables' values.

    `given` comes from the command line and the variable files, `environment` is the process's;
    only `RECONCILER_VAR_*` and what a variable's own `env:` names is looked at.
    """
    variables: dict[str, Variable] = {}
    diagnostics: list[Diagnostic] = []
    blocks = node.get("variables")
    declared: JsonObject = blocks if isinstance(blocks, MappingNode) else {}
    for name, block in declared.items():
        try:
            variables[name] = _variable(name, block, given, environment)
        except _NoVariable as error:
            source = locate(node, ("variables", name), key=True)
            diagnostics.append(problem(error.summary, error.detail, source))
    for name in sorted(given.keys() - declared.keys()):
        detail = f"It stands in no `variables:` of reconciler.yaml.{nearest(name, declared)}"
        diagnostics.append(problem(f"An undeclared variable {name}", detail, None))
    return variables, diagnostics


class _NoVariable(Exception):
    """A variable without a usable value."""

    def __init__(self, summary: str, detail: str) -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail


def _variable(
    name: str, block: JsonValue, given: Mapping[str, JsonValue], environment: Mapping[str, str]
) -> Variable:
    """The value of one variable, from the nearest of its sources. Raises: _NoVariable."""
    if not _NAME.fullmatch(name):
        raise _NoVariable(
            "A malformed variable name", f"{shown(name)}: letters, digits and _ only."
        )
    shape = VariableShape.model_validate(block or {})
    if shape.env is not None and shape.env.startswith(_RESERVED):
        detail = (
            f"{shape.env} is the tool's own: a file can't reach credentials. Name another variable."
        )
        raise _NoVariable("A reserved environment variable", detail)
    default = block.get("default", ABSENT) if isinstance(block, dict) else ABSENT
    text = environment.get(f"RECONCILER_VAR_{name}", shape.env and environment.get(shape.env))
    value: MaybeJson = given.get(name, default if text is None else text)
    if value is ABSENT:
        sources = [f"--var {name}=…", f"RECONCILER_VAR_{name}", *([shape.env] if shape.env else [])]
        detail = f"Give one by {', '.join(sources)} or a default."
        raise _NoVariable(f"No value for the variable {name}", detail)
    from_environment = name not in given and text is not None
    sensitive = shape.sensitive if shape.sensitive is not None else from_environment
    try:
        return Variable(_typed(value, default), sensitive, assumed=shape.sensitive is None)
    except ValueError as error:
        raise _NoVariable(f"A wrong value for the variable {name}", f"{error}.") from error


def _typed(value: JsonValue, default: MaybeJson) -> JsonValue:
    """Text from outside in the type of the variable's default. Raises: ValueError."""
    if (
        not isinstance(value, str)
        or isinstance(default, str)
        or default is ABSENT
        or default is None
    ):
        return value
    if isinstance(default, bool):
        if value in ("true", "false"):
            return value == "true"
        raise ValueError("its default is a boolean, so it must be true or false")
    if isinstance(default, int | float):
        if not _NUMBER.fullmatch(value) or (isinstance(default, int) and "." in value):
            raise ValueError(f"its default is {shown(default)}, so it must be such a number")
        return float(value) if "." in value else int(value)
    raise ValueError("its default is a list or mapping: give it in a --var-file")


# --- accounts --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Blocks:
    """What all files hold together, each thing once."""

    accounts: dict[str, MappingNode]
    templates: dict[str, MappingNode]
    moved: list[Moved]
    removed: dict[str, Removed]
    diagnostics: list[Diagnostic]


def assemble(
    project: MappingNode,
    files: Sequence[MappingNode],
    settings: Settings,
    variables: Mapping[str, Variable],
) -> tuple[Configuration, list[Diagnostic]]:
    """Everything the files say, and what is wrong with it. Shapes were checked."""
    blocks = _gather([project, *files])
    diagnostics = blocks.diagnostics
    filler = _Filler(variables)
    defaults = project.get("defaults")
    bottom = (Layer("default", defaults),) if isinstance(defaults, MappingNode) else ()
    accounts: dict[str, Declared] = {}
    for key in sorted(blocks.accounts):
        block = blocks.accounts[key]
        layers = (
            *bottom,
            *_templates(key, block, blocks.templates, diagnostics),
            Layer("account", block),
        )
        accounts[key] = _declare(key, layers, filler, diagnostics)
    configuration = Configuration(settings, accounts, tuple(blocks.moved), blocks.removed)
    return configuration, diagnostics


def _gather(documents: Sequence[MappingNode]) -> _Blocks:
    blocks = _Blocks({}, {}, [], {}, [])
    for document in documents:
        _gather_named(document, "accounts", blocks.accounts, blocks.diagnostics)
        _gather_named(document, "templates", blocks.templates, blocks.diagnostics)
        _gather_lists(document, blocks)
    return blocks


def _gather_named(
    document: MappingNode, section: str, into: dict[str, MappingNode], diagnostics: list[Diagnostic]
) -> None:
    named = document.get(section)
    if not isinstance(named, MappingNode):
        return
    for key, block in named.items():
        source = named.key_source(key)
        if not is_key(key) or (section == "accounts" and key == ROOT):
            allowed = (
                "letters, digits, _ and -, beginning with a letter or digit, 64 at most; not `root`"
            )
            diagnostics.append(
                problem("A malformed key", f"Found {shown(key)}; allowed are {allowed}.", source)
            )
        elif key in into:
            first = locate(into[key], ()) or source
            detail = f"It stands at {first.file}:{first.line} already. Remove one of the two."
            diagnostics.append(
                problem(
                    f"{section}.{key} declared twice", detail, source, address=f"{section}.{key}"
                )
            )
        else:
            node = block if isinstance(block, MappingNode) else MappingNode(named.file, 0)
            node.mark = named.marks[key] >> 48
            into[key] = node


def _gather_lists(document: MappingNode, blocks: _Blocks) -> None:
    for index, entry in enumerate(_list(document.get("moved"))):
        source = locate(document, ("moved", index)) or Source(document.file, 1, 1)
        blocks.moved.append(Moved(str(entry["from"]), str(entry["to"]), source))
    for index, entry in enumerate(_list(document.get("removed"))):
        source = locate(document, ("removed", index)) or Source(document.file, 1, 1)
        key = str(entry["account"])
        if key in blocks.removed:
            detail = f"It stands at {blocks.removed[key].source} already. Remove one of the two."
            blocks.diagnostics.append(
                problem("An account removed twice", detail, source, address=address(key))
            )
        blocks.removed[key] = Removed(key, entry["destroy"] is True, source)


def _list(value: JsonValue) -> list[JsonObject]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _templates(
    key: str,
    block: MappingNode,
    templates: Mapping[str, MappingNode],
    diagnostics: list[Diagnostic],
    above: tuple[str, ...] = (),
) -> list[Layer]:
    """The layers below `block`, lowest first: each template stands on those it extends itself."""
    layers: list[Layer] = []
    extends = block.get("extends")
    for index, name in enumerate(map(str, extends) if isinstance(extends, list) else []):
        source = locate(block, ("extends", index))
        if name not in templates:
            detail = f"{shown(name)} is no template.{nearest(name, templates)}"
            diagnostics.append(
                problem("An unknown template", detail, source, address=address(key), path="extends")
            )
        elif name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            diagnostics.append(
                problem(
                    "Templates in a circle",
                    f"{circle}.",
                    source,
                    address=address(key),
                    path="extends",
                )
            )
        else:
            template = templates[name]
            layers += _templates(key, template, templates, diagnostics, (*above, name))
            layers.append(Layer(f"template {name}", template))
    return layers


def _declare(
    key: str, layers: tuple[Layer, ...], filler: _Filler, diagnostics: list[Diagnostic]
) -> Declared:
    merged: JsonObject = {}
    for layer in layers:
        _merge(merged, layer.block)
    source = locate(layers[-1].block, ()) or Source("", 1, 1)
    draft = Declared(key, ROOT, merged, {}, Lifecycle(), layers, source)
    sensitive = filler.fill(draft, merged, diagnostics)
    block: JsonObject = {"settings": merged.get("settings") or {}}
    if merged.get("reseller") is not None:
        block["reseller"] = merged["reseller"]
    return Declared(
        key,
        str(merged.get("parent") or ROOT),
        block,
        sensitive,
        _lifecycle(draft, merged.get("lifecycle"), diagnostics),
        layers,
        source,
        _declared_id(draft, merged.get("id"), diagnostics),
    )


def _merge(target: JsonObject, layer: JsonObject) -> None:
    """Lay `layer` over `target`: mappings merge deeply, all else replaces."""
    for name, value in layer.items():
        if isinstance(value, dict):
            inner = target.get(name)
            if not isinstance(inner, dict):
                inner = target[name] = {}
            _merge(inner, value)
        else:
            target[name] = value


def _lifecycle(draft: Declared, block: JsonValue, diagnostics: list[Diagnostic]) -> Lifecycle:
    if not isinstance(block, dict):
        return Lifecycle()
    paths: list[FieldPath] = []
    listed = block.get("ignore_changes")
    for index, text in enumerate(listed if isinstance(listed, list) else []):
        try:
            paths.append(("settings", *parse_path(str(text).removeprefix("settings."))))
        except ValueError as error:
            source = draft.place(("lifecycle", "ignore_changes", index))
            diagnostics.append(
                problem(
                    "A malformed path",
                    f"{shown(text)}: {error}.",
                    source,
                    address=address(draft.key),
                    path="lifecycle.ignore_changes",
                )
            )
    return Lifecycle(tuple(paths), block.get("prevent_destroy") is True)


def _declared_id(
    draft: Declared, text: JsonValue, diagnostics: list[Diagnostic]
) -> AccountId | None:
    if text is None:
        return None
    try:
        return account_id(text)
    except ValueError as error:
        source = draft.place(("id",))
        diagnostics.append(
            problem(
                "A malformed account id", f"{error}.", source, address=address(draft.key), path="id"
            )
        )
        return None


def _shown_all_the_same(draft: Declared, path: FieldPath) -> Diagnostic:
    detail = (
        "Its variable comes from the environment, so it counts as sensitive; but accounts are shown by"
        " their name and found by their realm. Declare the variable `sensitive: false`."
    )
    source = draft.place(path)
    return Diagnostic(
        "warning", "A value that is shown", detail, address(draft.key), dotted(path), source
    )


class _Filler:
    """Replaces interpolations and notes which values are sensitive."""

    def __init__(self, variables: Mapping[str, Variable]) -> None:
        self.variables = variables

    def fill(
        self, draft: Declared, block: JsonObject, diagnostics: list[Diagnostic]
    ) -> dict[FieldPath, str]:
        """Fill in `block` in place. Returns the sensitive leaves with their origin."""
        sensitive: dict[FieldPath, str] = {}
        self._mapping(draft, block, (), sensitive, diagnostics)
        return sensitive

    def _mapping(
        self,
        draft: Declared,
        block: JsonObject,
        path: FieldPath,
        sensitive: dict[FieldPath, str],
        diagnostics: list[Diagnostic],
    ) -> None:
        for name, value in block.items():
            if isinstance(value, dict):
                self._mapping(draft, value, (*path, name), sensitive, diagnostics)
            elif (isinstance(value, str) and ("${" in value or "://" in value)) or isinstance(
                value, list
            ):
                here = (*path, name)
                try:
                    block[name], origin = self._value(draft.key, value)
                except ValueError as error:
                    diagnostics.append(
                        problem(
                            "A broken interpolation",
                            f"{error}",
                            draft.place(here),
                            address=address(draft.key),
                            path=dotted(here),
                        )
                    )
                    continue
                if here in _IDENTITY and self._assumed(origin):
                    diagnostics.append(_shown_all_the_same(draft, here))
                elif origin is not None:
                    sensitive[here] = origin or f"{address(draft.key)}.{dotted(here)}"

    def _assumed(self, origin: str | None) -> bool:
        """Whether a value is sensitive only because its variable came from the environment."""
        variable = self.variables.get((origin or "").removeprefix("var."))
        return variable is not None and variable.assumed

    def _value(self, key: Key, value: JsonValue) -> tuple[JsonValue, str | None]:
        """The value filled in, and its origin if it is sensitive ("" if that is the file)."""
        if isinstance(value, list):
            return self._items(key, value)
        if isinstance(value, dict):
            filled = {name: self._value(key, inner) for name, inner in value.items()}
            origins = [origin for _, origin in filled.values() if origin is not None]
            return {name: inner for name, (inner, _) in filled.items()}, origins[
                0
            ] if origins else None
        if not isinstance(value, str):
            return value, None
        text, origin = self._text(key, value) if "${" in value else (value, None)
        if origin is None and isinstance(text, str) and has_credentials(text):
            origin = ""
        return text, origin

    def _items(self, key: Key, items: list[JsonValue]) -> tuple[JsonValue, str | None]:
        filled = [self._value(key, item) for item in items]
        origins = [origin for _, origin in filled if origin is not None]
        return [item for item, _ in filled], origins[0] if origins else None

    def _text(self, key: Key, text: str) -> tuple[JsonValue, str | None]:
        whole = _INTERPOLATION.fullmatch(text)
        if whole and whole[1] is not None:
            return self._expression(key, whole[1])
        origins: list[str] = []

        def replace(match: re.Match[str]) -> str:
            if match[1] is None:
                return "${"
            value, origin = self._expression(key, match[1])
            if origin is not None:
                origins.append(origin)
            if isinstance(value, dict | list) or value is None:
                raise ValueError(f"${{{match[1]}}} is no text; it can stand alone only.")
            return str(value).lower() if isinstance(value, bool) else str(value)

        return _INTERPOLATION.sub(replace, text), origins[0] if origins else None

    def _expression(self, key: Key, expression: str) -> tuple[JsonValue, str | None]:
        expression = expression.strip()
        if expression == "account.key":
            return key, None
        name = expression.removeprefix("var.")
        if name == expression:
            raise ValueError(
                f"${{{expression[:60]}}} means nothing; allowed are ${{var.NAME}},"
                " ${account.key}, and $${ for a literal ${."
            )
        if name not in self.variables:
            raise ValueError(f"{shown(name)} is no variable.{nearest(name, self.variables)}")
        variable = self.variables[name]
        return variable.value, f"var.{name}" if variable.sensitive else None


def has_credentials(text: str) -> bool:
    """Whether `text` is a URL with a user part or a query, which outputs must not show."""
    if "://" not in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return True
    return bool("@" in parts.netloc or parts.query or parts.fragment)


def masked_url(text: str, mask: str) -> str:
    """A URL with its user part and query replaced by `mask`; `mask` alone if it can't be taken apart."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return mask
    if not parts.scheme or not parts.netloc:
        return mask
    host = parts.netloc.rpartition("@")[2]
    user = f"{mask}@" if "@" in parts.netloc else ""
    query = f"?{mask}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{user}{host}{parts.path}{query}"
