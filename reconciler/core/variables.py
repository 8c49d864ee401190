"""What `${…}` stands for: variables, the account's key, a row's cells; and what no output may show.

Whatever is filled in, stays what it was: a value that is one interpolation takes over the type. A
value that holds a sensitive variable is sensitive as a whole, and so is a URL with credentials.

Source: docs/configuration.md, "Interpolation", "Variables".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from reconciler.core.shapes import VariableShape, nearest, problem, shown
from reconciler.core.values import (
    ABSENT,
    Diagnostic,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    MappingNode,
    MaybeJson,
    Source,
    dotted,
    locate,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_INTERPOLATION: Final = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_OWN = "RECONCILER_VAR_"
_RESERVED = ("VINIX_", "RECONCILER_")


# --- variables -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of a variable.

    `assumed`: nobody said that it is sensitive, but where it is from. `given_by`: the environment
    variable, the command line or `default`; `source`: where it is declared.
    """

    value: JsonValue = field(repr=False)
    sensitive: bool
    assumed: bool = False
    given_by: str = "default"
    source: Source | None = None


def read_variables(
    node: MappingNode, given: Mapping[str, JsonValue], environment: Mapping[str, str]
) -> tuple[dict[str, Variable], list[Diagnostic]]:
    """The variables' values, and what is wrong with them.

    `given` comes from the command line and the variable files, `environment` is the process's;
    only `RECONCILER_VAR_*` and what a variable's own `env:` names is looked at.
    """
    variables: dict[str, Variable] = {}
    diagnostics: list[Diagnostic] = []
    blocks = node.get("variables")
    declared: JsonObject = blocks if isinstance(blocks, MappingNode) else {}
    for name, block in declared.items():
        source = locate(node, ("variables", name), key=True)
        try:
            variables[name] = _variable(name, block, given, environment, source)
        except _NoVariable as error:
            diagnostics.append(problem(error.summary, error.detail, source))
    for name in sorted(given.keys() - declared.keys()):
        detail = f"It stands in no `variables:` of reconciler.yaml.{nearest(name, declared)}"
        diagnostics.append(problem(f"An undeclared variable: {name}", detail, None))
    for variable in sorted(environment):
        name = variable.removeprefix(_OWN)
        if name != variable and name not in declared:
            near = nearest(name, declared)
            detail = f"{variable} is set, but no `variables:` of reconciler.yaml has it.{near}"
            diagnostics.append(Diagnostic("warning", f"An undeclared variable: {name}", detail))
    return variables, diagnostics


class _NoVariable(Exception):
    """A variable without a usable value."""

    def __init__(self, summary: str, detail: str) -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail


def _variable(
    name: str,
    block: JsonValue,
    given: Mapping[str, JsonValue],
    environment: Mapping[str, str],
    source: Source | None,
) -> Variable:
    """The value of one variable, from the nearest of its sources. Raises: _NoVariable."""
    if not _NAME.fullmatch(name):
        raise _NoVariable(
            "A malformed variable name", f"{shown(name)}: letters, digits and _ only."
        )
    shape = VariableShape.model_validate(block or {})
    if shape.env.startswith(_RESERVED):
        detail = (
            f"{shape.env} is the tool's own: a file can't reach credentials. Name another variable."
        )
        raise _NoVariable("A reserved environment variable", detail)
    default = block.get("default", ABSENT) if isinstance(block, dict) else ABSENT
    value, given_by = _nearest_value(name, shape.env, given, environment)
    if value is ABSENT:
        value = default
    if value is ABSENT:
        sources = [f"--var {name}=…", f"{_OWN}{name}", *([shape.env] if shape.env else [])]
        detail = f"Give one by {', '.join(sources)} or a default."
        raise _NoVariable(f"No value for the variable: {name}", detail)
    assumed = "sensitive" not in shape.model_fields_set
    sensitive = given_by not in ("default", "--var") if assumed else shape.sensitive
    try:
        return Variable(_typed(value, default), sensitive, assumed, given_by, source)
    except ValueError as error:
        raise _NoVariable(f"A wrong value for the variable: {name}", f"{error}.") from error


def _nearest_value(
    name: str, env: str, given: Mapping[str, JsonValue], environment: Mapping[str, str]
) -> tuple[MaybeJson, str]:
    """The value from outside of the files, and by what it was given."""
    if name in given:
        return given[name], "--var"
    for variable in (f"{_OWN}{name}", env):
        if variable and variable in environment:
            return environment[variable], variable
    return ABSENT, "default"


def _typed(value: JsonValue, default: MaybeJson) -> JsonValue:
    """Text from outside in the type of the variable's default. Raises: ValueError."""
    if not isinstance(value, str):
        return value
    if _UNWRITABLE.search(value):
        raise ValueError("it is no UTF-8 text, or holds a NUL")
    if default is ABSENT or default is None or isinstance(default, str):
        return value
    if isinstance(default, list | dict):
        raise ValueError("its default is a list or mapping: give it in a --var-file")  # noqa: TRY004
    kind = "boolean" if isinstance(default, bool) else "integer"
    try:
        return typed(value, "number" if isinstance(default, float) else kind)
    except ValueError as error:
        raise ValueError(f"its default is {shown(default)}, so it {error}") from error


def typed(text: str, kind: str) -> JsonValue:
    """`text` as a `boolean`, `integer` or `number`. Raises: ValueError with what it must be."""
    if kind == "boolean":
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    if not _NUMBER.fullmatch(text) or (kind == "integer" and "." in text):
        raise ValueError("must be an integer" if kind == "integer" else "must be a number")
    return float(text) if "." in text else int(text)


# --- interpolation ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a data file. `values`: column -> value."""

    values: Mapping[str, JsonValue]
    source: Source


@dataclass(frozen=True, slots=True)
class Notes:
    """What came up while a block was filled in.

    `sensitive`: the leaves that no output may show, with their origin; `problems`: what was wrong,
    by path.
    """

    sensitive: dict[FieldPath, str] = field(default_factory=dict)
    problems: list[tuple[FieldPath, str]] = field(default_factory=list)


class Filler:
    """Replaces interpolations. `used` has the variables that stood in any of them."""

    def __init__(self, variables: Mapping[str, Variable]) -> None:
        self.variables = variables
        self.used: set[str] = set()

    def fill(self, block: JsonObject, key: Key, row: Row | None) -> tuple[JsonObject, Notes]:
        """The block filled in; what needs nothing is shared with the one given."""
        notes = Notes()
        return _Filling(self, key, row, notes).mapping(block, ()), notes

    def text(self, text: str, key: Key, row: Row | None) -> JsonValue:
        """What one text stands for. Raises: ValueError with the reason if it is nothing."""
        return _Filling(self, key, row, Notes()).text(text)[0]

    def assumed(self, origin: str) -> bool:
        """Whether a value is sensitive only because its variable came from the environment."""
        variable = self.variables.get(origin.removeprefix("var."))
        return variable is not None and variable.assumed


@dataclass(frozen=True, slots=True)
class _Filling:
    """One account being filled in."""

    filler: Filler
    key: Key
    row: Row | None
    notes: Notes

    def mapping(self, block: JsonObject, path: FieldPath) -> JsonObject:
        filled: JsonObject | None = None
        for name, value in block.items():
            if isinstance(value, str):
                if "${" not in value and "://" not in value:
                    continue
                new = self._leaf(value, (*path, name))
            elif isinstance(value, dict):
                new = self.mapping(value, (*path, name))
            elif isinstance(value, list):
                new = self._leaf(value, (*path, name))
            else:
                continue
            if new is not value:
                filled = dict(block) if filled is None else filled
                filled[name] = new
        return block if filled is None else filled

    def _leaf(self, value: JsonValue, path: FieldPath) -> JsonValue:
        try:
            filled, origin = self._value(value)
        except ValueError as error:
            self.notes.problems.append((path, f"{error}"))
            return value
        if origin is not None:
            self.notes.sensitive[path] = origin or f"accounts.{self.key}.{dotted(path)}"
        return filled

    def _value(self, value: JsonValue) -> tuple[JsonValue, str | None]:
        """The value filled in, and its origin if it is sensitive ("" if that is the file)."""
        if isinstance(value, str):
            text, origin = self.text(value) if "${" in value else (value, None)
            if origin is None and isinstance(text, str) and has_credentials(text):
                origin = ""
            return text, origin
        if isinstance(value, list):
            items = [self._value(item) for item in value]
            same = all(new is old for (new, _), old in zip(items, value, strict=True))
            return value if same else [new for new, _ in items], _first(o for _, o in items)
        if isinstance(value, dict):
            inner = {name: self._value(item) for name, item in value.items()}
            same = all(new is value[name] for name, (new, _) in inner.items())
            filled = value if same else {name: new for name, (new, _) in inner.items()}
            return filled, _first(origin for _, origin in inner.values())
        return value, None

    def text(self, text: str) -> tuple[JsonValue, str | None]:
        whole = _INTERPOLATION.fullmatch(text)
        if whole and whole[1] is not None:
            return self._expression(whole)
        origins: list[str | None] = []

        def replace(match: re.Match[str]) -> str:
            if match[1] is None:
                return "${"
            value, origin = self._expression(match)
            origins.append(origin)
            if isinstance(value, dict | list) or value is None:
                raise ValueError(f"${{{match[1]}}} is no text; it can stand alone only.")
            return str(value).lower() if isinstance(value, bool) else str(value)

        return _INTERPOLATION.sub(replace, text), _first(origins)

    def _expression(self, match: re.Match[str]) -> tuple[JsonValue, str | None]:
        expression = match[1].strip()
        if not match[2]:
            raise ValueError(f"{shown(match[0])} is not closed; write $${{ for a literal ${{.")
        kind, _, name = expression.partition(".")
        if expression == "account.key":
            return self.key, None
        if kind == "row" and name:
            return self._cell(name), None
        if kind == "var" and name:
            return self._variable(name)
        allowed = "${var.NAME}, ${account.key}, ${row.COLUMN} in accounts_from"
        raise ValueError(
            f"{shown(match[0])} means nothing; allowed are {allowed}, and $${{ for a literal ${{."
        )

    def _variable(self, name: str) -> tuple[JsonValue, str | None]:
        variables = self.filler.variables
        if name not in variables:
            raise ValueError(f"{shown(name)} is no variable.{nearest(name, variables)}")
        self.filler.used.add(name)
        variable = variables[name]
        return variable.value, f"var.{name}" if variable.sensitive else None

    def _cell(self, name: str) -> JsonValue:
        if self.row is None:
            raise ValueError(
                "${row.…} stands for something only where accounts_from makes accounts."
            )
        if name not in self.row.values:
            known = self.row.values
            columns = ", ".join(known)
            raise ValueError(
                f"{shown(name)} is no column of this row; it has {columns}.{nearest(name, known)}"
            )
        return self.row.values[name]


def _first(origins: Iterable[str | None]) -> str | None:
    return next((origin for origin in origins if origin is not None), None)


def interpolated(text: JsonValue) -> tuple[str, ...]:
    """What the interpolations in `text` name, each once: `var.region`, `row.name`."""
    if not isinstance(text, str) or "${" not in text:
        return ()
    names = (match[1].strip() for match in _INTERPOLATION.finditer(text) if match[1])
    return tuple(dict.fromkeys(names))


# --- URLs with credentials -------------------------------------------------------------------


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
