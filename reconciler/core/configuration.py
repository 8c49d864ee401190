"""What the user's files say, as values: settings, and accounts as they should be.

`assembly` makes a `Configuration` of the files. An account remembers the layers it is made of, so
that every leaf of it can name the place it comes from; nothing is computed for that until somebody
asks.

Source: docs/configuration.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from reconciler.core.known import Known, read_known
from reconciler.core.limits import UNLIMITED, Limits, read_limits
from reconciler.core.shapes import DEFAULT_STATE, ProjectShape, problem, shown, walk
from reconciler.core.values import (
    ABSENT,
    AccountId,
    Diagnostic,
    FieldPath,
    JsonObject,
    Key,
    MappingNode,
    MaybeJson,
    Source,
    account_id,
    is_key,
    locate,
)
from reconciler.core.variables import Row, Variable, interpolated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reconciler.core.shapes import PolicyShape

Section = Literal["accounts", "templates", "defaults"]

SHOWN: Final[tuple[FieldPath, ...]] = (
    ("settings", "name"),
    ("settings", "realm"),
    ("parent",),
    ("id",),
)
"""What accounts are shown as and found by, so that it can't be kept secret."""


_PROJECT: Final = Limits(max_delete=0, max_demote=0, max_update_percent=30)
"""What holds for a project that says nothing."""

WRONG_EXCEPTION: Final = "An exception that can't be"

# --- the values ------------------------------------------------------------------------------


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
    origin. What blocks have in common they share: none may be changed. `row`: what it was made
    from by `accounts_from`. `section`: where it is declared; only `accounts` is ever applied.
    `limits`: how much one run may change of it and what stands below it.
    `broken`: where an interpolation could not be filled in, so that the value is none to judge.
    `known`: the entries of known drift that hold for it.
    """

    key: Key
    parent: Key
    block: JsonObject
    sensitive: Mapping[FieldPath, str]
    lifecycle: Lifecycle
    layers: tuple[Layer, ...]
    source: Source
    id: AccountId | None = None
    row: Row | None = None
    section: Section = "accounts"
    limits: Limits = UNLIMITED
    broken: tuple[FieldPath, ...] = ()
    known: tuple[Known, ...] = ()

    @property
    def settings(self) -> JsonObject:
        """The declared account document."""
        settings = self.block["settings"]
        return settings if isinstance(settings, dict) else {}

    @property
    def address(self) -> str:
        """What the account is called in plans and errors: `accounts.acme`."""
        return self.section if self.section == "defaults" else f"{self.section}.{self.key}"

    def is_broken(self, path: Sequence[str | int]) -> bool:
        """Whether the value at `path` holds an interpolation that could not be filled in."""
        return any(tuple(path[: len(broken)]) == broken for broken in self.broken)

    def origin(self, path: FieldPath) -> tuple[Source, str]:
        """Where the value at `path` of the block comes from, and of what kind that place is.

        The kind: account, default, template NAME, variable NAME (several: with commas), row.
        """
        layer, stands, found = self._found(path)
        if layer is None:
            return self.source, "account"
        named = interpolated(found)
        if self.row is not None and _of_row(named):
            return self.row.source, "row"
        variables = ", ".join(name[4:] for name in named if name.startswith("var."))
        kind = f"variable {variables}" if variables else layer.origin
        return locate(layer.block, stands) or self.source, kind

    def place(self, path: Sequence[str | int], *, key: bool = False) -> Source:
        """Where `path` of the block stands, or what encloses it."""
        layer, stands, found = self._found(path)
        if layer is None:
            return self.place(path[:-1], key=len(path) == 1) if path else self.source
        if self.row is not None and _of_row(interpolated(found)):
            return self.row.source
        return locate(layer.block, stands, key=key) or self.source

    def written(self, path: Sequence[str]) -> Source:
        """Where the text at `path` stands, also if a row fills it in."""
        layer, stands, _ = self._found(path)
        return (locate(layer.block, stands) if layer else None) or self.source

    def _found(
        self, path: Sequence[str | int]
    ) -> tuple[Layer | None, Sequence[str | int], MaybeJson]:
        """The layer that the value at `path` is from, and what stands there, or around it.

        Around it, if the value is part of what an interpolation stands for.
        """
        for layer in reversed(self.layers):
            for depth in range(len(path), 0, -1):
                found = walk(layer.block, path[:depth])
                if found is not ABSENT and (depth == len(path) or not isinstance(found, dict)):
                    return layer, path[:depth], found
                if found is not ABSENT:
                    break
        return None, (), ABSENT


def _of_row(named: Sequence[str]) -> bool:
    """Whether a cell of a row is among what a text names."""
    return any(name.startswith("row.") for name in named)


@dataclass(frozen=True, slots=True)
class Removed:
    """An account that leaves the YAML: deleted if `destroy`, else forgotten.

    `block`: what the YAML says of it all the same, as `destroy` has it: it guards the account still.
    """

    key: Key
    destroy: bool
    source: Source
    block: Declared | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A key that became another."""

    old: Key
    new: Key
    source: Source


@dataclass(frozen=True, slots=True)
class Rule:
    """What plans are judged by: where `when`, in CEL, is true, `text` is told.

    `denies`: and the plan is refused. `source`: where `when` stands.
    """

    name: str
    when: str
    text: str
    denies: bool
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
    limits: Limits = _PROJECT
    known: tuple[Known, ...] = ()
    policy: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)  # large
class Configuration:
    """All that the files say, accounts in order of key, and what is odd about it.

    `spare`: the defaults and the templates by themselves, to be judged and never applied.
    """

    settings: Settings
    accounts: Mapping[Key, Declared]
    moved: tuple[Moved, ...] = ()
    removed: Mapping[Key, Removed] = field(default_factory=dict)
    variables: Mapping[str, Variable] = field(default_factory=dict)
    spare: tuple[Declared, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()

    def limits(self) -> Iterator[tuple[Key | None, Limits]]:
        """All limits with their account, in order of key; those of the project first, with None."""
        yield None, self.settings.limits
        yield from ((key, declared.limits) for key, declared in self.accounts.items())


class Invalid(Exception):
    """The configuration can't be used. Carries every diagnostic, warnings too, in order."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(f"{len(diagnostics)} problems")
        self.diagnostics = sorted(diagnostics, key=Diagnostic.sort_key)


# --- reconciler.yaml -------------------------------------------------------------------------


def read_settings(node: MappingNode) -> tuple[Settings, list[Diagnostic]]:
    """The settings in `reconciler.yaml`, whose shape was checked."""
    accounts = ("accounts", "accounts_from", "templates", "defaults", "moved", "removed")
    shape = ProjectShape.model_validate(
        {name: value for name, value in node.items() if name not in accounts}
    )
    api, root, diagnostics = shape.api, None, []
    if api.account_id:
        try:
            root = account_id(api.account_id)
        except ValueError as error:
            source = locate(node, ("api", "account_id"))
            path = "api.account_id"
            diagnostics.append(problem("A malformed account id", f"{error}.", source, path=path))
    include = tuple(
        (pattern, locate(node, ("include", index)) or Source(node.file, 1, 1))
        for index, pattern in enumerate(shape.include)
    )
    here = Source(node.file, 1, 1)
    limits, unlimited = read_limits(
        shape.safety.model_dump(by_alias=True),
        lambda index: locate(node, ("safety", "exceptions", index)) or here,
    )
    diagnostics += [
        problem(WRONG_EXCEPTION, detail, source, path="safety.exceptions")
        for detail, source in unlimited
    ]
    known, wrong = read_known(shape.drift, node)
    diagnostics += wrong
    settings = Settings(
        url=api.url or None,
        url_source=locate(node, ("api", "url")),
        account_id=root,
        concurrency=api.concurrency,
        timeout=seconds(api.timeout),
        proxy_from_environment=api.proxy_from_environment,
        welcome_email=api.welcome_email,
        extra_fields=api.extra_fields == "allow",
        state=shape.state,
        include=include,
        limits=limits,
        known=known,
        policy=_rules(node, shape.policy, diagnostics),
    )
    return settings, diagnostics


def _rules(
    node: MappingNode, shapes: Sequence[PolicyShape], diagnostics: list[Diagnostic]
) -> tuple[Rule, ...]:
    """The rules, and what is wrong with them besides their expressions."""
    rules: list[Rule] = []
    for index, shape in enumerate(shapes):
        source = locate(node, ("policy", index, "when")) or Source(node.file, 1, 1)
        if not is_key(shape.name):
            detail = f"Found {shown(shape.name)}; allowed are letters, digits, _ and -, 64 at most."
            diagnostics.append(problem("A malformed name", detail, source, path="policy"))
        deny, warn = (" ".join(text.split()) for text in (shape.deny, shape.warn))
        if bool(deny) == bool(warn):
            detail = "A rule has `deny` or `warn`, one of the two: the text that is told."
            diagnostics.append(problem("A rule without effect", detail, source, path="policy"))
        if shape.name in {rule.name for rule in rules}:
            detail = f"There is another rule `{shape.name}`. Give one of the two another name."
            diagnostics.append(problem("Two rules of one name", detail, source, path="policy"))
        rules.append(Rule(shape.name, shape.when, deny or warn, bool(deny), source))
    return tuple(rules)


def seconds(duration: str) -> float:
    """`500ms`, `30s`, `2m`, `24h` in seconds. Raises: ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h)", duration)
    if match is None:
        raise ValueError("a duration is a number with ms, s, m or h: 500ms, 30s, 2m, 24h")
    return int(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]]
