"""A plan as a file: what would be sent, what that rests on, and a seal over every byte of it.

The classes are the format. A plan that was saved stands for itself: the YAML may have changed since,
or be gone. Only sensitive values are looked up anew, since the file has no more than a keyed digest
of them; and what state and the platform tell now is taken from there.

Source: docs/formats.md, "Saved plan"; docs/behaviours.md, "Saved plans".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)

from reconciler.core.diff import FieldChange
from reconciler.core.effects import Effect  # noqa: TC001 - pydantic reads the annotation
from reconciler.core.graph import Action, Operation
from reconciler.core.known import Known
from reconciler.core.limits import limits_json
from reconciler.core.masking import HIDDEN, as_mask, mask, masked, open_side, rests_json
from reconciler.core.plan import Change, Plan
from reconciler.core.reach import Reached
from reconciler.core.state import SENSITIVE, State, fingerprint
from reconciler.core.values import (
    ABSENT,
    AccountId,
    Diagnostic,
    FieldPath,
    JsonObject,
    Key,
    Sensitive,
    Source,
    address,
    dotted,
    parse_path,
    place,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.diff import Side

FORMAT: Final = "1"

_SEALED = re.compile(rb'\{"seal":"((?:hmac-)?sha256:[0-9a-f]{64})",')
_BLANK: Final = b'{"seal":"'
_PATH: Final = (
    r"^/accounts/([A-Za-z0-9-]{1,64}|\{accounts\.[A-Za-z0-9_-]{1,64}\.id\})"
    r"(/reseller|/move|\?send_email_on_creation=false)?$"
)
"""All that a plan ever sends to; a file can't name anything else."""


_Json = TypeVar("_Json")


class Unfit(Exception):
    """A saved plan that must not be used. The text says why, and what to do."""


# --- the format ------------------------------------------------------------------------------


def _check_path(text: str) -> str:
    parse_path(text)
    return text


Address = Annotated[str, Field(pattern=r"^accounts\.[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Dotted = Annotated[str, AfterValidator(_check_path)]


_STRICT: Final = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class SavedKnown:
    """The entry of known drift by which a leaf is left alone."""

    __pydantic_config__ = _STRICT

    account: str
    path: Dotted
    reason: str
    until: date
    source: tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class SavedField:
    """A leaf that changes; as in the JSON of a plan, but with masks for sensitive values."""

    __pydantic_config__ = _STRICT

    path: Dotted
    op: Literal["add", "change", "remove"]
    before: JsonValue
    after: JsonValue
    drift: bool
    source: tuple[str, int, int] | None
    origin: str
    known: SavedKnown | None = None


@dataclass(frozen=True, slots=True)
class SavedAccount:
    """An account as it was declared. Of it state is told what the platform confirms."""

    __pydantic_config__ = _STRICT

    parent: Key
    block: dict[str, JsonValue]
    ignore_changes: tuple[Dotted, ...]
    prevent_destroy: bool
    safety: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class SavedChange:
    """What happens to one address. `exists`: whether there was such an account; `below`: its parent's id."""

    __pydantic_config__ = _STRICT

    address: Address
    id: Id | None
    name: str
    parent: Key
    actions: tuple[Action, ...]
    reason: str
    drift: bool
    moved_from: Key | None
    exists: bool
    below: Id | None
    declared: SavedAccount | None
    fields: tuple[SavedField, ...]
    top: Key
    known: tuple[SavedField, ...] = ()

    @property
    def key(self) -> Key:
        """The key of the account."""
        return self.address.removeprefix("accounts.")


@dataclass(frozen=True, slots=True)
class SavedOperation:
    """A call, as in the JSON of a plan, and what it rests on: path -> `{"value": …}`, `{}` if absent."""

    __pydantic_config__ = _STRICT

    n: int
    address: Address
    action: Action
    method: Annotated[str, Field(pattern=r"^(PUT|PATCH|POST|DELETE)$")]
    path: Annotated[str, Field(pattern=_PATH)]
    body: dict[str, JsonValue] | None
    after: tuple[int, ...]
    temporary: bool
    rests_on: dict[Dotted, dict[str, JsonValue]]

    @property
    def key(self) -> Key:
        """The key of the account."""
        return self.address.removeprefix("accounts.")

    @property
    def below(self) -> str:
        """The account in the path: the operation's own or, of a create, the parent."""
        return self.path.split("/")[2].partition("?")[0]


@dataclass(frozen=True, slots=True)
class SavedDiagnostic:
    """A warning that the plan was made with."""

    __pydantic_config__ = _STRICT

    severity: Literal["error", "warning"]
    summary: str
    detail: str
    address: str | None
    path: str | None
    source: tuple[str, int, int] | None


@dataclass(frozen=True, slots=True)
class SavedReached:
    """How many accounts are affected in one way, under how many resellers."""

    __pydantic_config__ = _STRICT

    accounts: int
    resellers: int


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """The whole file. `state`: its fingerprint; `digest_key`: of the masks, where there was no state yet."""

    __pydantic_config__ = _STRICT

    seal: str
    format_version: Literal["1"]
    tool: str
    created: AwareDatetime
    endpoint: str
    root: Id
    root_name: str
    lineage: str | None
    serial: int
    state: str | None
    configuration: str
    targets: tuple[str, ...]
    allow: dict[str, int]
    complete: bool
    refreshed: bool
    digest: str
    digest_key: str | None
    unchanged: int
    changes: tuple[SavedChange, ...]
    silent: tuple[SavedChange, ...]
    operations: tuple[SavedOperation, ...]
    diagnostics: tuple[SavedDiagnostic, ...]
    effects: dict[Effect, SavedReached]
    until: date | None


_FILE: Final = TypeAdapter(SavedPlan)


# --- to a file -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Making:
    """How a plan was made. `digest_key`: a random one, used only where there is no state yet."""

    tool: str
    created: datetime
    configuration: str
    targets: tuple[str, ...]
    allow: Mapping[str, int]
    digest_key: str


def save(plan: Plan, making: Making, key: bytes | None) -> bytes:
    """The plan as a sealed file. `key`: of the seal, if there is one."""
    state, first = plan.state, not plan.state.digest_key
    if first:
        state = replace(state, digest_key=making.digest_key)
    document = SavedPlan(
        seal="",
        format_version=FORMAT,
        tool=making.tool,
        created=making.created,
        endpoint=state.api_url,
        root=plan.root,
        root_name=plan.root_name,
        lineage=state.lineage or None,
        serial=state.serial,
        state=None if first else fingerprint(state),
        configuration=making.configuration,
        targets=making.targets,
        allow=dict(making.allow),
        complete=plan.complete,
        refreshed=plan.refreshed,
        digest=plan.digest,
        digest_key=making.digest_key if first else None,
        unchanged=plan.unchanged,
        changes=tuple(_saved_change(change, state) for change in plan.changes),
        silent=tuple(_saved_change(change, state) for change in plan.silent),
        operations=tuple(_saved_operation(operation, state) for operation in plan.operations),
        diagnostics=tuple(map(_saved_diagnostic, plan.diagnostics)),
        effects={e: SavedReached(r.accounts, r.resellers) for e, r in plan.effects.items()},
        until=plan.until,
    )
    text = _FILE.dump_json(document) + b"\n"
    return _BLANK + _seal(text, key).encode() + text[len(_BLANK) :]


def _saved_change(change: Change, state: State) -> SavedChange:
    return SavedChange(
        address=change.address,
        id=change.id,
        name=change.name,
        parent=change.parent,
        actions=change.actions,
        reason=change.reason,
        drift=change.drift,
        moved_from=change.moved_from,
        exists=change.live is not None,
        below=change.live.parent_id if change.live else None,
        declared=_saved_account(change.declared, change.fields, state) if change.declared else None,
        fields=tuple(_saved_field(field, state) for field in change.fields),
        top=change.top,
        known=tuple(_saved_field(field, state) for field in change.known),
    )


def _saved_account(
    declared: Declared, fields: tuple[FieldChange, ...], state: State
) -> SavedAccount:
    block = _plain(declared.block)
    hidden = {f.path: f.after.origin for f in fields if isinstance(f.after, Sensitive)}
    for path, origin in {**hidden, **declared.sensitive}.items():
        value = value_at(block, path)
        if value is not ABSENT:
            place(block, path, masked(Sensitive(value, origin), state))
    return SavedAccount(
        parent=declared.parent,
        block=block,
        ignore_changes=tuple(map(dotted, declared.lifecycle.ignore_changes)),
        prevent_destroy=declared.lifecycle.prevent_destroy,
        safety=limits_json(declared.limits),
    )


def _saved_field(field: FieldChange, state: State) -> SavedField:
    return SavedField(
        path=dotted(field.path),
        op=field.op,
        before=_saved_side(field.before, state),
        after=_saved_side(field.after, state),
        drift=field.drift,
        source=_saved_source(field.source),
        origin=field.origin,
        known=_saved_known(field.known) if field.known else None,
    )


def _saved_known(known: Known) -> SavedKnown:
    place = (known.source.file, known.source.line, known.source.column)
    return SavedKnown(known.account, dotted(known.path), known.reason, known.until, place)


def _saved_side(side: Side, state: State) -> JsonValue:
    """One side of a change; a mask also has what may be shown of a URL."""
    if side is ABSENT:
        return None
    if isinstance(side, Sensitive):
        shown = open_side(side)
        more: JsonObject = {} if shown is ABSENT or shown == HIDDEN else {"shown": shown}
        return {SENSITIVE: {**mask(side, state), **more}}
    return _plain(side)


def _saved_operation(operation: Operation, state: State) -> SavedOperation:
    body = operation.body
    return SavedOperation(
        n=operation.n,
        address=address(operation.key),
        action=operation.action,
        method=operation.method,
        path=operation.path,
        body=body and {name: _plain(masked(inner, state)) for name, inner in body.items()},
        after=operation.after,
        temporary=operation.temporary,
        rests_on=_plain(rests_json(operation.rests_on, state)),
    )


def _saved_diagnostic(found: Diagnostic) -> SavedDiagnostic:
    return SavedDiagnostic(
        severity=found.severity,
        summary=found.summary,
        detail=found.detail,
        address=found.address,
        path=found.path,
        source=_saved_source(found.source),
    )


def _saved_source(source: Source | None) -> tuple[str, int, int] | None:
    return (source.file, source.line, source.column) if source else None


def _plain(value: _Json) -> _Json:
    """A copy of plain mappings and lists, without what they know of the files that they stood in."""
    copy: _Json = orjson.loads(orjson.dumps(value))
    return copy


def configuration_digest(configuration: Configuration) -> str:
    """A digest of all that is declared, but for sensitive values: to tell what a plan was made of."""
    document = {
        "accounts": {key: _declared(d) for key, d in configuration.accounts.items()},
        "moved": [[moved.old, moved.new] for moved in configuration.moved],
        "removed": [[r.key, r.destroy] for r in configuration.removed.values()],
    }
    text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _declared(declared: Declared) -> JsonObject:
    """What is declared of one account, with origins in place of sensitive values."""
    block = declared.block
    if declared.sensitive:
        block = _plain(block)
        for path, origin in declared.sensitive.items():
            place(block, path, {SENSITIVE: origin})
    return {
        "id": declared.id,
        "parent": declared.parent,
        "block": block,
        "ignore_changes": [dotted(path) for path in declared.lifecycle.ignore_changes],
        "prevent_destroy": declared.lifecycle.prevent_destroy,
        "safety": limits_json(declared.limits),
    }


# --- the seal --------------------------------------------------------------------------------


def _seal(text: bytes, key: bytes | None) -> str:
    """The seal of a text in which its own place is blank."""
    if key is None:
        return f"sha256:{hashlib.sha256(text).hexdigest()}"
    return f"hmac-sha256:{hmac.new(key, text, hashlib.sha256).hexdigest()}"


def unsealed(text: bytes, key: bytes | None) -> SavedPlan:
    """Read what `save` wrote. Raises: Unfit if a byte of it is another, or `key` is."""
    sealed = _SEALED.match(text)
    if sealed is None:
        raise Unfit("It is no saved plan, or was changed or cut off.")
    seal = sealed[1].decode()
    if key is None and seal.startswith("hmac"):
        raise Unfit("It is sealed with a key: set RECONCILER_PLAN_KEY.")
    if key is not None and not seal.startswith("hmac"):
        raise Unfit("It is sealed without a key, so anybody can have made it.")
    if not hmac.compare_digest(_seal(_BLANK + text[sealed.end(1) :], key), seal):
        with_key = ", or its key is not RECONCILER_PLAN_KEY" if key else ""
        raise Unfit(f"It was changed or cut off since it was sealed{with_key}.")
    try:
        return _FILE.validate_json(text)
    except ValidationError as error:
        where = error.errors(include_input=False)[0]["loc"]
        if where == ("format_version",):
            raise Unfit("It is of another format: this version is too old for it.") from error
        raise Unfit(f"It is no plan of this version ({dotted(where)}).") from error


# --- from a file -----------------------------------------------------------------------------

Unmask = Callable[[Key, FieldPath, JsonObject], Sensitive]
"""(key, path in the account block, what the mask there tells) -> the value that it stands for."""


def shown(saved: SavedPlan) -> Plan:
    """The plan to be looked at, without the values that its masks stand for."""
    state = State(
        saved.lineage or "", saved.serial, saved.tool, saved.endpoint, AccountId(saved.root), "", {}
    )

    return restored(saved, state, _unneeded, _unneeded)


def restored(saved: SavedPlan, state: State, before: Unmask, after: Unmask) -> Plan:
    """The plan as far as the file has it: bodies with their masks, changes without their accounts."""
    return Plan(
        state=state,
        root=AccountId(saved.root),
        root_name=saved.root_name,
        changes=tuple(_change(change, before, after) for change in saved.changes),
        silent=tuple(_change(change, before, after) for change in saved.silent),
        operations=tuple(_operation(operation, before) for operation in saved.operations),
        refusals=(),
        unchanged=saved.unchanged,
        diagnostics=tuple(map(_diagnostic, saved.diagnostics)),
        effects={e: Reached(r.accounts, r.resellers) for e, r in saved.effects.items()},
        until=saved.until,
        complete=saved.complete,
        refreshed=saved.refreshed,
        digest=saved.digest,
    )


def _change(saved: SavedChange, before: Unmask, after: Unmask) -> Change:
    return Change(
        key=saved.key,
        id=AccountId(saved.id) if saved.id else None,
        name=saved.name,
        parent=saved.parent,
        actions=saved.actions,
        fields=tuple(_field(saved.key, field, before, after) for field in saved.fields),
        reason=saved.reason,
        declared=None,
        record=None,
        live=None,
        drift=saved.drift,
        moved_from=saved.moved_from,
        top=saved.top,
        known=tuple(_field(saved.key, field, _unneeded, _unneeded) for field in saved.known),
    )


def _unneeded(_key: Key, _path: FieldPath, mask: JsonObject) -> Sensitive:
    """A value that is only looked at, or left alone."""
    return Sensitive(mask.get("shown"), str(mask["from"]))


def _field(key: Key, saved: SavedField, before: Unmask, after: Unmask) -> FieldChange:
    path = parse_path(saved.path)
    return FieldChange(
        path=path,
        op=saved.op,
        before=ABSENT if saved.op == "add" else _side(key, path, saved.before, before),
        after=ABSENT if saved.op == "remove" else _side(key, path, saved.after, after),
        drift=saved.drift,
        source=_source(saved.source),
        origin=saved.origin,
        known=_known(saved.known) if saved.known else None,
    )


def _known(saved: SavedKnown) -> Known:
    path = parse_path(saved.path)
    return Known(saved.account, path, saved.reason, saved.until, Source(*saved.source))


def _side(key: Key, path: FieldPath, value: JsonValue, unmask: Unmask) -> Side:
    found = as_mask(value)
    return value if found is None else unmask(key, path, found)


def _operation(saved: SavedOperation, before: Unmask) -> Operation:
    rests_on: dict[FieldPath, Side] = {}
    for dotted_path, rest in saved.rests_on.items():
        path = parse_path(dotted_path)
        found = "value" in rest
        rests_on[path] = _side(saved.key, path, rest["value"], before) if found else ABSENT
    return Operation(
        n=saved.n,
        key=saved.key,
        ident=f"{{{saved.address}.id}}" if saved.action is Action.CREATE else saved.below,
        action=saved.action,
        method=saved.method,
        path=saved.path,
        body=saved.body,
        after=saved.after,
        temporary=saved.temporary,
        rests_on=rests_on,
    )


def _diagnostic(saved: SavedDiagnostic) -> Diagnostic:
    source = _source(saved.source)
    return Diagnostic(
        saved.severity, saved.summary, saved.detail, saved.address, saved.path, source
    )


def _source(saved: tuple[str, int, int] | None) -> Source | None:
    return Source(*saved) if saved else None
