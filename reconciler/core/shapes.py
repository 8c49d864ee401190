"""The shape of the user's files: which keys stand where, and of what type their values are.

What a value means is not asked here; settings of accounts are judged by `validate`.

Source: docs/configuration.md.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.core.values import (
    Diagnostic,
    JsonValue,
    MappingNode,
    MaybeJson,
    Source,
    dotted,
    locate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DURATION: Final = r"^[0-9]+(ms|s|m)$"

_OWNER: Final = 2
"""Segments of a path that name an account or a template: accounts.acme."""

_SHOWN: Final = 60
"""Characters of a wrong value that an error quotes."""


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class ApiShape(_Shape):
    """How the platform is reached."""

    url: str | None = Field(
        None, description="Base URL ending in the version; `sandbox:` is the embedded sandbox."
    )
    account_id: str | None = Field(
        None, description="Root of what is managed; default: the account of the credentials."
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
    env: str | None = Field(
        None, description="Name of an environment variable that may give the value."
    )
    sensitive: bool | None = Field(
        None,
        description="Whether outputs mask it; true by default if it comes from the environment.",
    )
    description: str | None = Field(None, description="What it is for.")


class LifecycleShape(_Shape):
    """How changes of an account are treated."""

    ignore_changes: list[str] = Field(
        [], description="Settings that are set at creation and never after."
    )
    prevent_destroy: bool = Field(default=False, description="Forbids to delete the account.")


class BlockShape(_Shape):
    """What defaults, templates and accounts have in common."""

    extends: list[str] = Field([], description="Templates below this one, merged in order.")
    parent: str | None = Field(None, description="Key of the parent account, or `root`.")
    reseller: bool | None = Field(
        None, description="Whether the account is a reseller; absent: not managed."
    )
    settings: dict[str, Any] | None = Field(None, description="The account document.")
    lifecycle: LifecycleShape | None = Field(None, description="How changes are treated.")


class AccountShape(BlockShape):
    """An account."""

    id: str | None = Field(None, description="Id of an existing account to adopt.")


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


class MovedShape(_Shape):
    """An account whose key was changed."""

    from_: str = Field(alias="from", description="The old key.")
    to: str = Field(description="The new key.")


class RemovedShape(_Shape):
    """An account that leaves the YAML."""

    account: str = Field(description="The key it had.")
    destroy: bool = Field(description="false: forget it and leave it alone; true: delete it.")


class IncludedShape(_Shape):
    """A file named by `include`."""

    accounts: dict[str, AccountShape | None] | None = Field(
        None, description="The accounts, by key."
    )
    templates: dict[str, BlockShape | None] | None = Field(
        None, description="What accounts can extend."
    )
    moved: list[MovedShape] | None = Field(None, description="Keys that were changed.")
    removed: list[RemovedShape] | None = Field(None, description="Accounts that leave the YAML.")


class ProjectShape(IncludedShape):
    """`reconciler.yaml`."""

    version: Annotated[int, Field(ge=1, le=1)] = Field(description="Version of this format: 1.")
    api: ApiShape | None = Field(None, description="How the platform is reached.")
    state: str | None = Field(None, description="Where state is kept: a path.")
    include: list[str] | None = Field(
        None, description="Files, directories and globs of further files."
    )
    variables: dict[str, VariableShape | None] | None = Field(
        None, description="What `${var.NAME}` stands for."
    )
    defaults: BlockShape | None = Field(None, description="What lies under every account.")
    safety: SafetyShape | None = Field(None, description="How much one run may change.")


# --- judging a document ----------------------------------------------------------------------


def check_shape(node: JsonValue, shape: type[BaseModel], file: str) -> list[Diagnostic]:
    """What of a document's shape is not as `shape` says.

    What is wrong is taken out of `node`, so that the rest can be looked at all the same.
    """
    if not isinstance(node, MappingNode):
        found = "nothing" if node is None else shown(node)
        source = Source(file, 1, 1)
        return [
            problem(
                "A file without content",
                f"Found {found}; expected a mapping with {_keys(shape)}.",
                source,
            )
        ]
    try:
        shape.model_validate(node)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        diagnostics = [_shape_problem(node, shape, found) for found in wrong]
        for mistake in wrong:
            _take_out(node, mistake["loc"])
        return diagnostics
    return []


def _take_out(node: JsonValue, path: Sequence[str | int]) -> None:
    """Remove what is wrong; all of an account whose templates are not known, or of a list."""
    if path[0] in ("moved", "removed"):
        path = path[:1]
    elif "extends" in path[2:3] or (len(path) > _OWNER and isinstance(path[-1], int)):
        path = path[:2]
    while path:
        inner = walk(node, path[:-1])
        if isinstance(inner, dict) and path[-1] in inner:
            del inner[str(path[-1])]
            return
        path = path[:-1]


def _shape_problem(node: MappingNode, shape: type[BaseModel], found: Any) -> Diagnostic:
    path: tuple[str | int, ...] = found["loc"]
    unknown = found["type"] == "extra_forbidden"
    source = locate(node, path, key=unknown)
    owner = (
        f"{path[0]}.{path[1]}" if path[0] in ("accounts", "templates") and len(path) > 1 else None
    )
    field_path = dotted(path[2:] if owner else path)
    if unknown:
        known = _known(shape, path[:-1])
        detail = f"Allowed are {', '.join(known)}.{nearest(str(path[-1]), known)}"
        return problem(
            f"An unknown key {shown(path[-1])}", detail, source, address=owner, path=field_path
        )
    if found["type"] == "missing":
        return problem(
            "A missing key",
            f"{dotted(path)} must be given.",
            source,
            address=owner,
            path=field_path,
        )
    detail = f"Found {shown(found['input'])}. {found['msg'].replace('Input should', 'It should')}."
    return problem("A wrong value", detail, source, address=owner, path=field_path)


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


def walk(node: JsonValue, path: Sequence[str | int]) -> JsonValue:
    """What stands at `path` below `node`; None if nothing does."""
    for segment in path:
        if isinstance(node, dict) and segment in node:
            node = node[str(segment)]
        elif isinstance(node, list) and isinstance(segment, int) and segment < len(node):
            node = node[segment]
        else:
            return None
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
    near = get_close_matches(name, list(known), n=1)
    return f' Nearest: "{near[0]}".' if near else ""


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
