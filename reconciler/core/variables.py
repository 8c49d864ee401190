"""What `${…}` stands for: variables, the account's key, a row's cells; and what no output may show.

Whatever is filled in, stays what it was: a value that is one interpolation takes over the type. A
value that holds a sensitive variable is sensitive as a whole, and so is a URL with credentials.

Source: docs/configuration.md, "Interpolation", "Variables".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from reconciler.core.shapes import (
    RESERVED,
    VARIABLE,
    Known,
    VariableShape,
    listed,
    nearest,
    problem,
    shown,
)
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
_NAME = re.compile(VARIABLE)
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_MOST_TEXT: Final = 128 * 1024 * 1024
"""Characters that interpolations may make; a hundred thousand accounts need a fifth of it."""
_OWN = "RECONCILER_VAR_"


# --- text --------------------------------------------------------------------------------------

_KEYWORDS: Final[Mapping[str, JsonValue]] = {
    "true": True,
    "false": False,
    "null": None,
    "~": None,
    "": None,
}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC_START = frozenset("-+.0123456789")
NOT_TEXT: Final = frozenset(["", "~", "t", "f", "n", *_NUMERIC_START])
"""How text begins, if not quoted, that may be anything but a string."""


def scalar(text: str) -> JsonValue:
    """What text that is not quoted means. Raises: ValueError with the reason if it can mean nothing."""
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if text[0] not in _NUMERIC_START:
        return text
    if _INTEGER.fullmatch(text):
        # Beyond 64 bits JSON libraries round or refuse; a long number is a string in disguise.
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:  # noqa: PLR2004 - digits of 2**63
            raise ValueError("an integer beyond 64 bits")
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        if Decimal(repr(number)) != Decimal(text):
            raise ValueError("a decimal that can't be kept exactly; shorten it")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("not a finite number")
    return text


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
    if shape.env.startswith(RESERVED):
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
        raise ValueError("its default is a list or mapping: give it in a --var-file")  # noqa: TRY004 - a value of the user
    kind = "boolean" if isinstance(default, bool) else "integer"
    try:
        return typed(value, "number" if isinstance(default, float) else kind)
    except ValueError as error:
        raise ValueError(f"it {error}, as its default is") from error


_KINDS: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "boolean": ((bool,), "true or false"),
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
}


def typed(text: str, kind: str) -> JsonValue:
    """`text` as a `boolean`, `integer` or `number`. Raises: ValueError with what it must be."""
    types, name = _KINDS[kind]
    try:
        value = scalar(text)
    except ValueError as error:
        raise ValueError(f"is {error}") from error
    if type(value) not in types:
        raise ValueError(f"must be {name}")
    return value


# --- interpolation ---------------------------------------------------------------------------

_COLUMN = r"row\.\s*[^\s\}][^\}]*"
_LITERAL = r"\$+[^$\{]|\$\$+\{"
"""A dollar sign that begins no interpolation: another character follows, or it is doubled."""

WHOLE: Final = rf"^\$\{{\s*(?:var\.{VARIABLE}|{_COLUMN})\s*\}}$"
"""A text that is one interpolation, which may become anything; `${account.key}` is always text."""

INTERPOLATED: Final = rf"^[^$]*(?:(?:{_LITERAL})[^$]*)*\$\{{"
"""A text with an interpolation in it, as a regular expression that is searched for."""


def well_formed(*, rows: bool) -> str:
    """A regular expression for texts whose interpolations all mean something, with rows or without.

    It says the same as `Filler` does, for those who have a file alone: its JSON Schema.
    """
    expressions = "|".join(["account\\.key", rf"var\.{VARIABLE}", *([_COLUMN] if rows else [])])
    return rf"^[^$]*(?:(?:{_LITERAL}|\$\{{\s*(?:{expressions})\s*\}})[^$]*)*\$*$"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a data file. `values`: column -> value."""

    values: Mapping[str, JsonValue]
    source: Source


@dataclass(frozen=True, slots=True)
class Notes:
    """What came up while a block was filled in.

    `sensitive`: the leaves that no output may show, with their origin; `problems`: what was wrong,
    by path; `keys`: the paths to keys that hold an interpolation, which stays as it is.
    """

    sensitive: dict[FieldPath, str] = field(default_factory=dict)
    problems: list[tuple[FieldPath, str]] = field(default_factory=list)
    keys: list[FieldPath] = field(default_factory=list)


class Filler:
    """Replaces interpolations.

    `used`: the variables that stood in any of them. `left`: how many characters may still come of
    them, in all accounts together.
    """

    def __init__(self, variables: Mapping[str, Variable]) -> None:
        self.variables = variables
        self.known = Known(variables)
        self.used: set[str] = set()
        self.left = _MOST_TEXT

    def fill(self, block: JsonObject, key: Key | None, row: Row | None) -> tuple[JsonObject, Notes]:
        """The block filled in; what needs nothing is shared with the one given.

        Without a `key` there is no account, and what only one can tell is left out.
        """
        notes = Notes()
        return _Filling(self, key, row, notes).mapping(block, ()), notes

    def text(self, text: str, key: Key, row: Row | None) -> tuple[JsonValue, str | None]:
        """What one text stands for, and its origin if it is sensitive.

        Raises: ValueError with the reason if it stands for nothing.
        """
        return _Filling(self, key, row, Notes()).text(text)

    def assumed(self, origin: str) -> bool:
        """Whether a value is sensitive only because its variable came from the environment."""
        variable = self.variables.get(origin.removeprefix("var."))
        return variable is not None and variable.assumed


class _Waits(Exception):
    """Only for an account can it be told what this becomes."""


@dataclass(frozen=True, slots=True)
class _Filling:
    """One account being filled in, or what accounts are made of: then there is no `key`."""

    filler: Filler
    key: Key | None
    row: Row | None
    notes: Notes

    def mapping(self, block: JsonObject, path: FieldPath) -> JsonObject:
        filled: dict[str, MaybeJson] = {}
        for name, value in block.items():
            if "${" in name:
                self.notes.keys.append((*path, name))
            new: MaybeJson = value
            if isinstance(value, dict):
                new = self.mapping(value, (*path, name))
            elif isinstance(value, list) or (
                isinstance(value, str) and ("${" in value or "://" in value)
            ):
                new = self._leaf(value, (*path, name))
            if new is not value:
                filled[name] = new
        if not filled:
            return block
        laid = ((name, filled.get(name, value)) for name, value in block.items())
        return {name: value for name, value in laid if value is not ABSENT}

    def _leaf(self, value: JsonValue, path: FieldPath) -> MaybeJson:
        try:
            filled, origin = self._value(value)
        except _Waits:
            return ABSENT
        except ValueError as error:
            self.notes.problems.append((path, f"{error}"))
            return value
        self._hide(filled, path, origin)
        return filled

    def _hide(self, value: JsonValue, path: FieldPath, origin: str | None) -> None:
        """Note the leaves at and below `path` that no output may show."""
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                self._hide(inner, (*path, name), origin)
        elif origin is not None or _has_credentials_in(value):
            self.notes.sensitive[path] = origin or f"accounts.{self.key}.{dotted(path)}"

    def _value(self, value: JsonValue) -> tuple[JsonValue, str | None]:
        """The value filled in, and the variable that it comes from, if that is sensitive."""
        if isinstance(value, str):
            return self.text(value) if "${" in value else (value, None)
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
            value, origin = self._expression(whole)
            self._spend(value)
            return value, origin
        origins: list[str | None] = []
        waits = False

        def replace(match: re.Match[str]) -> str:
            nonlocal waits
            if match[1] is None:
                return "${"
            try:
                value, origin = self._expression(match)
            except _Waits:
                waits = True
                return ""
            origins.append(origin)
            if isinstance(value, dict | list) or value is None:
                raise ValueError(f"${{{match[1]}}} is no text; it can stand alone only.")
            self._spend(value)
            return str(value).lower() if isinstance(value, bool) else str(value)

        filled = _INTERPOLATION.sub(replace, text)
        if waits:
            raise _Waits
        return filled, _first(origins)

    def _spend(self, value: JsonValue) -> None:
        """Raises: ValueError if the interpolations make more text than memory is for."""
        self.filler.left -= len(value) if isinstance(value, str) else 1
        if self.filler.left < 0:
            raise ValueError(f"The interpolations make more than {_MOST_TEXT:,} characters.")

    def _expression(self, match: re.Match[str]) -> tuple[JsonValue, str | None]:
        expression = match[1].strip()
        if not match[2]:
            raise ValueError(f"{shown(match[0])} is not closed; write $${{ for a literal ${{.")
        kind, _, name = expression.partition(".")
        if self.key is None and (expression == "account.key" or (kind == "row" and name)):
            raise _Waits
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
            raise ValueError(f"{shown(name)} is no variable.{self.filler.known.nearest(name)}")
        self.filler.used.add(name)
        variable = variables[name]
        return variable.value, f"var.{name}" if variable.sensitive else None

    def _cell(self, name: str) -> JsonValue:
        if self.row is None:
            raise ValueError(
                "${row.…} stands for something only where accounts_from makes accounts."
            )
        if name not in self.row.values:
            columns, place = self.row.values, self.row.source
            here = f"the row at {place}" if isinstance(columns, MappingNode) else place.file
            has = f"it has {listed(columns)}.{nearest(name, columns)}"
            raise ValueError(f"{shown(name)} is no column of {here}; {has}")
        return self.row.values[name]


def _has_credentials_in(value: JsonValue) -> bool:
    """Whether a leaf is a URL with credentials, or a list that has one at any depth."""
    if isinstance(value, str):
        return has_credentials(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_credentials_in(item) for item in inner)


def _first(origins: Iterable[str | None]) -> str | None:
    return next((origin for origin in origins if origin is not None), None)


def interpolated(text: MaybeJson) -> tuple[str, ...]:
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
