"""The shape of the user's files: which keys stand where, and of what type their values are.

What a value means is not asked here; settings of accounts are judged by `validate`.

Source: docs/configuration.md.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
)

from reconciler.core.effects import Effect  # noqa: TC001 - pydantic reads the annotations
from reconciler.core.limits import Rule  # noqa: TC001 - likewise
from reconciler.core.values import (
    ABSENT,
    ID,
    KEY,
    PATH,
    ROOT,
    Diagnostic,
    JsonValue,
    MappingNode,
    MaybeJson,
    Source,
    dotted,
    locate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

DURATION: Final = "^[0-9]{1,9}(ms|s|m)$"
DAY: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"

DEFAULT_STATE: Final = "state/reconciler.state.json"
VARIABLE: Final = "[A-Za-z_][A-Za-z0-9_]*"
RESERVED: Final = ("VINIX_", "RECONCILER_")
"""How environment variables begin that a file can't name."""

ACCOUNT_PATTERN: Final = r"(?:accounts\.)?[A-Za-z0-9*][A-Za-z0-9_*-]{0,63}"
"""A key or an address, in which `*` may stand for any part."""

API_URL: Final = (
    r"^(?:sandbox:.*"
    r"|https://(?:[^\s/?#@:\[\]\\]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[^\s?#]*)?"
    r"|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(?:/[^\s?#]*)?)$"
)
"""Where the platform may be: no user part, no query, and http:// on this machine alone."""

_OWNER: Final = 2
"""Segments of a path that name an account or a template: accounts.acme."""

_SHOWN: Final = 60
"""Characters of a wrong value that an error quotes."""

_LISTED: Final = 20
"""Names of those allowed that an error lists."""

MAX_RULE: Final = 10_000
"""Characters of an expression: a screen or two is a long one."""

MAX_PROBLEMS: Final = 1000
"""Mistakes of form in one file that are told. With more, it is no file of ours."""

_COMPARED: Final = 200_000
"""Names that are compared at most in search of near ones: a second of work."""


# --- texts ------------------------------------------------------------------------------------
# What these say is for the JSON Schema: that such a text is right is checked where it is used.


def _text(**keywords: Any) -> Any:
    """What JSON Schema says of a text."""
    return Field(json_schema_extra=keywords)


_KEY: Final[dict[str, Any]] = {"pattern": f"^{KEY}$"}
_ACCOUNT_KEY: Final[dict[str, Any]] = {**_KEY, "not": {"const": ROOT}}
_OUTSIDE: Final = r"^\s*$|^/|(?:^|/)\.\.(?:/|$)"
_NO_GLOB: Final = r"[^/]\*\*|\*\*[^/]"

KeyText = Annotated[str, _text(**_KEY)]
AccountKey = Annotated[str, _text(**_ACCOUNT_KEY)]
IdText = Annotated[str, _text(pattern=f"^{ID}$")]
PathText = Annotated[str, _text(pattern=rf"^(?:settings\.)?{PATH}$")]
InsidePath = Annotated[str, _text(**{"not": {"pattern": _OUTSIDE}})]
InsidePattern = Annotated[str, _text(**{"not": {"pattern": f"{_OUTSIDE}|{_NO_GLOB}"}})]
AccountPattern = Annotated[str, _text(pattern=f"^{ACCOUNT_PATTERN}$")]
DayText = Annotated[str, _text(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
UrlText = Annotated[str, _text(pattern=API_URL)]
EnvironmentName = Annotated[str, _text(**{"not": {"pattern": f"^(?:{'|'.join(RESERVED)})"}})]


# --- the shapes -------------------------------------------------------------------------------


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
    __hash__ = object.__hash__  # pydantic copies a default that has none, for each account anew


class ApiShape(_Shape):
    """How the platform is reached."""

    url: UrlText = Field(
        "",
        min_length=1,
        description="Base URL ending in the version; `sandbox:` is the embedded sandbox.",
    )
    account_id: IdText = Field(
        "",
        min_length=1,
        description="Root of what is managed; default: the account of the credentials.",
    )
    concurrency: int = Field(16, ge=1, le=256, description="Requests in flight at most.")
    timeout: str = Field(
        "30s", pattern=DURATION, description="For one request, all of it: 500ms, 30s, 2m."
    )
    proxy_from_environment: bool = Field(
        default=False, description="Whether HTTPS_PROXY and NO_PROXY are obeyed."
    )
    welcome_email: bool = Field(
        default=False, description="Whether the platform mails new accounts."
    )
    extra_fields: Literal["refuse", "allow"] = Field(
        "refuse", description="Whether account fields that the models don't know pass unchecked."
    )


class VariableShape(_Shape):
    """A variable that `${var.NAME}` stands for."""

    default: Any = Field(None, description="The value if nothing else gives one.")
    env: EnvironmentName = Field(
        "",
        min_length=1,
        description="Name of an environment variable that may give the value.",
    )
    sensitive: bool = Field(
        default_factory=bool,  # what it is if not said, no constant tells
        description="Whether outputs mask it; if not said, only what the environment gave.",
    )
    description: str = Field("", description="What it is for.")


def _or_interpolation(value: object, check: Callable[[object], object]) -> object:
    """Let an interpolation pass: what it stands for is judged when it is filled in."""
    return value if isinstance(value, str) and "${" in value else check(value)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


ListOrOne = Annotated[
    list[KeyText], BeforeValidator(_as_list, json_schema_input_type=KeyText | list[KeyText])
]
Flag = Annotated[bool, WrapValidator(_or_interpolation)]


class LifecycleShape(_Shape):
    """How changes of an account are treated."""

    ignore_changes: list[PathText] = Field(
        [], description="Settings that are set at creation and never after."
    )
    prevent_destroy: Flag = Field(default=False, description="Forbids to delete the account.")


class ExceptionShape(_Shape):
    """What a limit does not count, for a while."""

    rule: Rule = Field(description="The key of `safety` that it is from.")
    class_: Effect | None = Field(
        None, alias="class", description="Of `protect`: the class of effect."
    )
    value: int = Field(0, ge=1, description="Of the others: how many changes are not counted.")
    account: KeyText = Field(
        "", pattern=f"^{KEY}$", description="Only this account and those below it."
    )
    reason: str = Field(min_length=1, description="Why, for those who review.")
    until: str = Field(pattern=DAY, description="The last day, in UTC: 2026-12-31.")


_PROTECT: Final = "Classes of effect that no change may have."
_EXCEPTIONS: Final = "What these limits don't count, for a while."


class AccountSafetyShape(_Shape):
    """How much one run may change of an account and what stands below it."""

    max_delete: int | None = Field(None, ge=0, description="Deletes allowed in one run.")
    max_demote: int | None = Field(None, ge=0, description="Demotions allowed in one run.")
    max_update_percent: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Share of these accounts that one run may update or move.",
    )
    protect: list[Effect] = Field([], description=_PROTECT)
    exceptions: list[ExceptionShape] = Field([], description=_EXCEPTIONS)


class _Shared(_Shape):
    """What all blocks have in common."""

    parent: KeyText = Field(ROOT, description="Key of the parent account, or `root`.")
    reseller: Flag = Field(
        default_factory=bool,  # absent is not false
        description="Whether the account is a reseller; absent: not managed.",
    )
    settings: dict[str, Any] = Field({}, description="The account document.")
    lifecycle: LifecycleShape = Field(
        LifecycleShape(), description="How changes of the account are treated."
    )
    safety: AccountSafetyShape = Field(
        AccountSafetyShape(),
        description="How much one run may change of the account and what stands below it.",
    )


class _Extending(_Shape):
    extends: list[KeyText] = Field([], description="Templates below this one, merged in order.")


class BlockShape(_Shared, _Extending):
    """What defaults, templates and accounts have in common."""


class _Adopting(_Shared):
    id: IdText = Field("", min_length=1, description="Id of an existing account to adopt.")


class AccountShape(_Adopting, BlockShape):
    """An account."""


class _Rows(_Shape):
    file: InsidePath = Field(description="CSV file, or YAML file with a list of mappings.")
    key: AccountKey = Field(description="Key of the account that a row makes: `${row.code}`.")
    template: ListOrOne = Field(
        [], description="Template below these accounts, or several, merged in order."
    )
    types: dict[str, Literal["boolean", "integer", "number"]] = Field(
        {}, description="Columns of a CSV file that are not text."
    )


class AccountsFromShape(_Adopting, _Rows):
    """Accounts made from the rows of a file; `${row.COLUMN}` stands for a cell in any value."""


class SafetyShape(_Shape):
    """How much one run may change."""

    max_delete: int = Field(0, ge=0, description="Deletes allowed in one run.")
    max_demote: int = Field(0, ge=0, description="Demotions allowed in one run.")
    max_update_percent: int = Field(
        30,
        ge=0,
        le=100,
        description="Share of the managed accounts that one run may update or move.",
    )
    protect: list[Effect] = Field([], description=_PROTECT)
    exceptions: list[ExceptionShape] = Field([], description=_EXCEPTIONS)


class KnownShape(_Shape):
    """Drift that is known, and left alone for a while."""

    path: PathText = Field(description="The field, or what it stands in: `settings.timezone`.")
    account: AccountPattern = Field(
        description="Key or address of the account; `*` stands for any part of it."
    )
    reason: str = Field(min_length=1, description="Why it may stay so.")
    until: DayText = Field(description="The last day that this holds, in UTC: 2026-12-31.")


class DriftShape(_Shape):
    """What is known of changes made outside."""

    accept: list[KnownShape] = Field([], description="Known drift.")


class PolicyShape(_Shape):
    """A rule that plans are judged by."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["deny"]}, {"required": ["warn"]}]}
    )

    name: KeyText = Field(min_length=1, description="What refusals and warnings call it.")
    when: str = Field(
        min_length=1,
        max_length=MAX_RULE,
        description="Expression in CEL over `plan`, or over each `change` of it.",
    )
    deny: str = Field("", min_length=1, description="Why such a plan is refused.")
    warn: str = Field("", min_length=1, description="What to say of such a plan.")


class MovedShape(_Shape):
    """An account whose key was changed."""

    from_: str = Field(alias="from", description="The old key.")
    to: AccountKey = Field(description="The new key.")


class RemovedShape(_Shape):
    """An account that leaves the YAML."""

    account: str = Field(description="The key it had.")
    destroy: bool = Field(description="false: forget it and leave it alone; true: delete it.")


class _Settings(_Shape):
    """What stands in `reconciler.yaml` alone."""

    version: Annotated[int, Field(ge=1, le=1)] = Field(description="Version of this format: 1.")
    api: ApiShape = Field(ApiShape(), description="How the platform is reached.")
    state: str = Field(DEFAULT_STATE, min_length=1, description="Where state is kept: a path.")
    include: list[InsidePattern] = Field(
        [], description="Files, directories and globs of further files."
    )
    safety: SafetyShape = Field(SafetyShape(), description="How much one run may change.")
    drift: DriftShape = Field(DriftShape(), description="What is known of changes made outside.")
    policy: list[PolicyShape] = Field(
        [], max_length=100, description="Rules that plans are judged by."
    )
    variables: dict[str, VariableShape | None] = Field(
        {},
        description="What `${var.NAME}` stands for.",
        json_schema_extra={"propertyNames": {"pattern": f"^{VARIABLE}$"}},
    )
    defaults: BlockShape = Field(BlockShape(), description="What lies under every account.")


class IncludedShape(_Shape):
    """A file named by `include`."""

    templates: dict[str, BlockShape] = Field(
        {},
        description="What accounts can extend.",
        json_schema_extra={"propertyNames": _KEY},
    )
    accounts: dict[str, AccountShape] = Field(
        {},
        description="The accounts, by key.",
        json_schema_extra={"propertyNames": _ACCOUNT_KEY},
    )
    accounts_from: Annotated[
        list[AccountsFromShape],
        BeforeValidator(
            _as_list, json_schema_input_type=AccountsFromShape | list[AccountsFromShape]
        ),
    ] = Field(
        [], description="Accounts made from the rows of files: one such block, or a list of them."
    )
    moved: list[MovedShape] = Field([], description="Keys that were changed.")
    removed: list[RemovedShape] = Field([], description="Accounts that leave the YAML.")


class ProjectShape(IncludedShape, _Settings):
    """`reconciler.yaml`."""


# --- judging a document ----------------------------------------------------------------------


def check_shape(node: JsonValue, shape: type[BaseModel], file: str) -> list[Diagnostic]:
    """What of a document's shape is not as `shape` says.

    What is wrong is taken out of `node`, so that the rest can be looked at all the same.
    """
    if not isinstance(node, MappingNode):
        found = "nothing" if node is None else shown(node)
        detail = f"Found {found}; expected a mapping with {_keys(shape)}."
        return [problem("A file without content", detail, locate(node, ()) or Source(file, 1, 1))]
    try:
        shape.model_validate(node)
    except ValidationError as error:
        wrong = [(_place(node, found["loc"]), found) for found in error.errors(include_url=False)]
    else:
        return []
    diagnostics = [_shape_problem(node, shape, *found) for found in wrong[:MAX_PROBLEMS]]
    if len(wrong) > MAX_PROBLEMS:
        detail = f"{len(wrong):,} in this document; {MAX_PROBLEMS:,} of them are told."
        diagnostics.append(problem("Too many mistakes", detail, Source(file, 1, 1)))
    _take_out(node, [path for path, _ in wrong])
    return diagnostics


def _place(node: MappingNode, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Take from pydantic's path what is no place in the document: the index of a lone block."""
    if path[0] == "accounts_from" and isinstance(node.get("accounts_from"), dict):
        path = path[:1] + path[2:]
    if "template" in path and isinstance(walk(node, path[:-1]), str):
        path = path[:-1]
    return tuple(part for part in path if part != "[key]")


def _take_out(node: JsonValue, paths: Sequence[tuple[str | int, ...]]) -> None:
    """Remove what is wrong; all of an account whose templates are not known, or of a list.

    Settings that are no mapping stay: without any, the account would be told to lack a name.
    """
    doomed: dict[int, tuple[MappingNode, set[str]]] = {}
    for whole in paths:
        stays = whole[0] in ("accounts", "templates") and whole[2:] == ("settings",)
        path = () if stays else whole
        if whole[0] in ("moved", "removed", "accounts_from", "drift", "policy"):
            path = whole[:1]
        elif "exceptions" in path:
            path = path[: path.index("exceptions") + 1]
        elif "extends" in path[2:3] or (len(path) > _OWNER and isinstance(path[-1], int)):
            path = path[:2]
        while path:
            inner = walk(node, path[:-1])
            if isinstance(inner, MappingNode) and path[-1] in inner:
                doomed.setdefault(id(inner), (inner, set()))[1].add(str(path[-1]))
                break
            path = path[:-1]
    for mapping, keys in doomed.values():
        mapping.drop(keys)


def _shape_problem(
    node: MappingNode, shape: type[BaseModel], path: tuple[str | int, ...], found: Any
) -> Diagnostic:
    owner = (
        f"{path[0]}.{path[1]}" if path[0] in ("accounts", "templates") and len(path) > 1 else None
    )
    unknown = found["type"] == "extra_forbidden"
    summary, detail = _told(shape, path, found)
    field_path = dotted(path[2:] if owner else path)
    source = locate(node, path, key=unknown)
    return problem(summary, detail, source, address=owner, path=field_path or None)


def _told(shape: type[BaseModel], path: tuple[str | int, ...], found: Any) -> tuple[str, str]:
    kind = found["type"]
    if kind == "extra_forbidden":
        known = _known(shape, path[:-1])
        near = nearest(str(path[-1]), known)
        return f"An unknown key {shown(path[-1])}", f"Allowed are {', '.join(known)}.{near}"
    if kind == "missing":
        return "A missing key", f"{dotted(path)} must be given."
    expected = _EXPECTED.get(kind, found["msg"].replace("Input should", "It should") + ".")
    if found["input"] is None:
        name = shown(path[-1])
        return f"A key without a value: {name}", f"{expected} Take the key out if nothing is meant."
    secret = path[0] == "variables" and isinstance(found["input"], str)
    value = "a string" if secret else shown(found["input"])
    return "A wrong value", f"Found {value}. {expected}"


_EXPECTED: Final = {
    "bool_type": "It should be true or false.",
    "dict_type": "It should be a mapping.",
    "int_type": "It should be an integer.",
    "list_type": "It should be a list.",
    "model_type": "It should be a mapping.",
    "string_too_short": "It should not be empty.",
    "string_type": "It should be a string: quote it.",
}


def _known(shape: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the mapping at `path` of a document of this shape may have."""
    here: Any = shape
    for segment in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = {
                info.alias or name: info.annotation for name, info in here.model_fields.items()
            }
            here = _not_none(fields.get(str(segment)))
        else:  # a list or a map: whatever the segment, its items
            here = _not_none(get_args(here)[-1]) if get_args(here) else None
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [info.alias or name for name, info in here.model_fields.items()]
    return []


def _not_none(annotation: Any) -> Any:
    """What an optional holds."""
    if type(None) in get_args(annotation):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation


def _keys(shape: type[BaseModel]) -> str:
    return ", ".join(info.alias or name for name, info in shape.model_fields.items())


def walk(node: JsonValue, path: Sequence[str | int]) -> MaybeJson:
    """What stands at `path` below `node`; unlike `value_at`, it may lead into lists."""
    for segment in path:
        if isinstance(node, dict) and segment in node:
            node = node[str(segment)]
        elif isinstance(node, list) and isinstance(segment, int) and segment < len(node):
            node = node[segment]
        else:
            return ABSENT
    return node


# --- telling what is wrong -------------------------------------------------------------------


def shown(value: MaybeJson) -> str:
    """A value as an error quotes it; a long one is cut."""
    match value:
        case None:
            text = "null"
        case bool():
            text = str(value).lower()
        case str():
            text = '"' + value + '"'
        case dict():
            text = "a mapping"
        case list():
            text = "a list"
        case _:
            text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def nearest(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """What to add to an error: ` Nearest: "x".` if something known is near `name`, else nothing."""
    return Known(known).nearest(name)


class Known:
    """Names that there are: which is nearest to a wrong one, as long as that is cheaply found."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.found: dict[str, str] = {}
        self.most = max(1, _COMPARED // max(1, len(self.names)))

    def nearest(self, name: str) -> str:
        """What to add to an error, as the function of that name does."""
        if name not in self.found and len(self.found) < self.most:
            near = get_close_matches(name, self.names, n=1)
            self.found[name] = f' Nearest: "{near[0]}".' if near else ""
        return self.found.get(name, "")


def listed(names: Iterable[str]) -> str:
    """Names with commas between; of many, the first."""
    known = list(names)
    more = f", … ({len(known)} in all)" if len(known) > _LISTED else ""
    return ", ".join(name[:_SHOWN] for name in known[:_LISTED]) + more


def problem(
    summary: str,
    detail: str,
    source: Source | None,
    *,
    address: str | None = None,
    path: str | None = None,
) -> Diagnostic:
    """An error, in fewer words."""
    return Diagnostic("error", summary, detail, address, path, source)


def folded(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """In order of place; what many accounts have from one place is told once, with their number."""
    groups: dict[tuple[object, ...], list[Diagnostic]] = {}
    for found in sorted(diagnostics, key=Diagnostic.sort_key):
        same = (found.source, found.path, found.summary, found.detail)
        groups.setdefault(same if found.source else (id(found),), []).append(found)
    return [
        replace(first, detail=f"{first.detail} (The same from here: {len(others)} more.)")
        if others
        else first
        for first, *others in groups.values()
    ]
