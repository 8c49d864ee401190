"""A saved plan that is to be applied: whether it may be, and what it is made of now.

What is wrong with it as a whole refuses it before anything is sent: `Unfit`. What is no more as it was
with a single account leaves that account alone: `Plan.stale`. All else is done as it was saved.

Source: docs/behaviours.md, "Saved plans".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import orjson

from reconciler.core.configuration import Declared, Lifecycle
from reconciler.core.graph import Action
from reconciler.core.limits import limits_from
from reconciler.core.masking import as_mask, masks
from reconciler.core.saved import Unfit, restored
from reconciler.core.state import fingerprint
from reconciler.core.uniqueness import place_of, taken_places
from reconciler.core.values import (
    ABSENT,
    AccountId,
    JsonObject,
    JsonValue,
    Key,
    Sensitive,
    Source,
    account_id,
    conceal,
    dotted,
    parse_path,
    place,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from reconciler.core.configuration import Configuration
    from reconciler.core.graph import Ident, Operation
    from reconciler.core.live import Live
    from reconciler.core.plan import Change, Plan
    from reconciler.core.saved import SavedAccount, SavedChange, SavedOperation, SavedPlan
    from reconciler.core.state import AccountRecord, State
    from reconciler.core.values import FieldPath

_SKEW: Final = timedelta(minutes=5)
"""So far may the clock of the machine that made the plan be ahead of this one's."""

_PLACE: Final = Source("a saved plan", 1, 1)


def check(saved: SavedPlan, endpoint: str, now: datetime, max_age: timedelta) -> None:
    """Raises: Unfit if the plan is about another platform, too old, or rests on what has ended."""
    reasons = []
    if saved.endpoint != endpoint:
        reasons.append(f"It is about {saved.endpoint}, but the project names {endpoint}.")
    if now - saved.created > max_age:
        reasons.append(
            f"It was made {saved.created.isoformat()}, longer ago than --max-age allows."
        )
    if saved.until is not None and now.date() > saved.until:
        reasons.append(f"It rests on an exception that ended on {saved.until}.")
    if saved.created - now > _SKEW:
        reasons.append(
            f"It was made {saved.created.isoformat()}: the clock there is wrong, or here."
        )
    if reasons:
        raise Unfit(" ".join([*reasons, "Plan again."]))


def check_state(saved: SavedPlan, state: State | None, root: AccountId) -> None:
    """Raises: Unfit if `state`, None if there is none, is not the one that the plan was made from."""
    reason = _moved_on(saved, state)
    if saved.root != root:
        reason = f"It is about the root account {saved.root}, but this run's is {root}."
    if reason is not None:
        raise Unfit(f"{reason} Plan again.")


def _moved_on(saved: SavedPlan, state: State | None) -> str | None:
    """How the state is another than the one that the plan was made from; None if it is not."""
    if state is None:
        return "It was made from a state, and there is none." if saved.lineage else None
    made_from = f"the state {saved.lineage}" if saved.lineage else "no state yet"
    reasons = (
        (state.applied_plan == saved.seal, "It was applied already."),
        (
            state.lineage != saved.lineage,
            f"It was made from {made_from}, not from {state.lineage}.",
        ),
        (
            state.serial != saved.serial,
            f"The state moved on since, from serial {saved.serial} to {state.serial}.",
        ),
        (
            fingerprint(state) != saved.state,
            f"The state moved on since: a run was under way at serial {state.serial}.",
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)


def ids(saved: SavedPlan) -> set[AccountId]:
    """The accounts that something is done to or put below, or learnt of, and that exist."""
    found = [change.id for change in _all(saved)] + [_below(o) for o in saved.operations]
    return {
        account_id(i) for i in found if i is not None and not i.startswith("{") and i != saved.root
    }


def _below(operation: SavedOperation) -> Ident | None:
    """The account that the operation puts one below, if it does."""
    match operation.action:
        case Action.CREATE:
            return operation.below
        case Action.MOVE:
            return str(value_at(operation.body, ("data", "to")))
        case _:
            return None


def has_secrets(saved: SavedPlan) -> bool:
    """Whether sensitive values are needed to apply the plan."""
    return any(True for change in _all(saved) for _ in _secrets(change))


def _all(saved: SavedPlan) -> Iterator[SavedChange]:
    yield from saved.changes
    yield from saved.silent


def _secrets(change: SavedChange) -> Iterator[tuple[FieldPath, JsonObject]]:
    """The sensitive values that are declared: their paths, and what their masks tell."""
    return masks(change.declared.block) if change.declared else iter(())


def revived(
    saved: SavedPlan, state: State, live: Live, configuration: Configuration | None
) -> Plan:
    """The plan as it can be executed now.

    `live` was read for this, with the accounts of `ids`. `configuration` is where sensitive values
    are found; None if the plan has none. Raises: Unfit if one of them is not what it was.
    """
    digester = replace(state, digest_key=saved.digest_key) if saved.digest_key else state
    secrets = _found(saved, digester, configuration)
    now = _Now(saved, state, live, digester, secrets)
    plan = restored(saved, state, now.before, now.after)
    of = {change.key: change for change in _all(saved)}
    for operation in plan.operations:
        now.place(operation)
    return replace(
        plan,
        changes=tuple(now.change(of[change.key], change) for change in plan.changes),
        silent=tuple(now.change(of[change.key], change) for change in plan.silent),
        operations=tuple(map(now.operation, plan.operations)),
        before=frozenset(live.rows),
        stale=now.stale,
        seal=saved.seal if saved.changes or saved.silent else "",
    )


def _found(
    saved: SavedPlan, digester: State, configuration: Configuration | None
) -> dict[tuple[Key, FieldPath], JsonValue]:
    """The sensitive values, by key and path, as the project has them.

    Raises: Unfit if one is not the one that the plan was made with.
    """
    found: dict[tuple[Key, FieldPath], JsonValue] = {}
    wrong: list[str] = []
    accounts = configuration.accounts if configuration else {}
    for change in _all(saved):
        declared = accounts.get(change.key)
        for path, mask in _secrets(change):
            value = value_at(declared.block, path) if declared else ABSENT
            if value is ABSENT or digester.digest(value) != mask["digest"]:
                wrong.append(f"{change.address}: {dotted(path)} ({mask['from']})")
            else:
                found[change.key, path] = value
    if wrong:
        raise Unfit(
            f"These sensitive values are not those that it was made with: {', '.join(wrong)}. Plan again."
        )
    return found


class _Now:
    """What is known when a saved plan is applied. `stale` fills up as the plan is put together."""

    def __init__(
        self,
        saved: SavedPlan,
        state: State,
        live: Live,
        digester: State,
        secrets: Mapping[tuple[Key, FieldPath], JsonValue],
    ) -> None:
        self.stale: dict[Key, str] = {}
        self._state = state
        self._live = live
        self._digester = digester
        self._secrets = secrets
        self._accounts = {c.key: live.accounts.get(AccountId(c.id)) for c in _all(saved) if c.id}
        self._parents = {o.key: below for o in saved.operations if (below := _below(o))}
        managed = ids(saved) | {record.id for record in state.accounts.values()}
        self._taken = taken_places(live, managed)

    def after(self, key: Key, path: FieldPath, mask: JsonObject) -> Sensitive:
        """A declared value: the project has it."""
        if (key, path) not in self._secrets:
            raise Unfit(f"It has a sensitive value that nothing declares: {dotted(path)}.")
        return Sensitive(self._secrets[key, path], str(mask["from"]))

    def before(self, key: Key, path: FieldPath, mask: JsonObject) -> Sensitive:
        """A live value: the platform has it, if it is the same still."""
        live = self._accounts.get(key)
        value = value_at(live.block, path) if live else ABSENT
        if value is ABSENT or self._digester.digest(value) != mask["digest"]:
            self._leave(key, f"{dotted(path)} was changed since the plan was made.")
            value = None
        return Sensitive(value, str(mask["from"]))

    def _leave(self, key: Key, reason: str) -> None:
        self.stale[key] = f"{reason} Plan again."

    def place(self, operation: Operation) -> None:
        """Leave an account alone that nothing else is told of, and that is no longer below the root."""
        if not self._is_inside(operation.ident):
            self._leave(operation.key, "it is no longer below the root.")

    def change(self, saved: SavedChange, change: Change) -> Change:
        """The change with its account as it is declared, in state, and live."""
        reason = self._outdated(saved)
        if reason is not None:
            self._leave(change.key, reason)
        return replace(
            change,
            declared=self._declared(change.key, saved.declared) if saved.declared else None,
            record=self._record(change),
            live=self._accounts.get(change.key),
        )

    def _outdated(self, saved: SavedChange) -> str | None:
        """Why the account must be left alone, as far as that can be told before it is written to."""
        live = self._accounts.get(saved.key)
        if Action.CREATE in saved.actions:
            return self._lost_parent(self._parents.get(saved.key)) or self._occupied(saved)
        if live is not None and not saved.exists:
            return "it is there again since the plan was made."
        if live is None:
            return "it was deleted since the plan was made." if saved.declared else None
        target, below = self._parents.get(saved.key), self._live.parent(live.id)
        if not self._is_inside(live.id):
            return "it is no longer below the root."
        if below not in (saved.below, target):
            return f"it stands below {below} now, not below {saved.below}."
        return self._lost_parent(target)

    def _lost_parent(self, parent: Ident | None) -> str | None:
        """Whether an account that another one is to stand below is not there any more."""
        gone = parent is not None and (parent in self._live.missing or not self._is_inside(parent))
        return f"{parent} is no longer below the root." if gone else None

    def _is_inside(self, ident: Ident) -> bool:
        """Whether an account stands below the root, or is made by the plan, or is gone altogether."""
        made = ident.startswith("{")
        return made or ident in self._live.missing or self._live.is_inside(AccountId(ident))

    def _occupied(self, saved: SavedChange) -> str | None:
        """Which account has the place of one that is to be created, if one has it by now."""
        record = self._state.accounts.get(saved.key)
        if record is not None and record.id in self._live.rows:
            return f"it is there by now: {record.id}."
        settings = saved.declared.block.get("settings") if saved.declared else None
        if not isinstance(settings, dict):
            return None
        row = self._taken.get(place_of(settings, self._parents.get(saved.key, "")))
        what = "realm" if isinstance(settings.get("realm"), str) else "name and parent"
        return f"the account {row.id} ({row.name}) has its {what} by now." if row else None

    def _declared(self, key: Key, saved: SavedAccount) -> Declared:
        found = dict(masks(saved.block))
        block = saved.block
        if found:
            block = orjson.loads(orjson.dumps(block))
            for path in found:
                place(block, path, self._secrets[key, path])
        origins = {path: str(mask["from"]) for path, mask in found.items()}
        ignored = tuple(map(parse_path, saved.ignore_changes))
        return Declared(
            key=key,
            parent=saved.parent,
            block=block,
            # What was sensitive when it was applied last, and is not now, is not for state either.
            sensitive={path: origin for path, origin in origins.items() if origin != "applied"},
            lifecycle=Lifecycle(ignored, saved.prevent_destroy),
            limits=limits_from(saved.safety),
            layers=(),
            source=_PLACE,
        )

    def _record(self, change: Change) -> AccountRecord | None:
        """What state has of the account. Raises: Unfit if that is not what the plan was made from."""
        if change.id is None or Action.ADOPT in change.actions:
            return None
        record = self._state.accounts.get(change.moved_from or change.key)
        if record is None and change.key == change.id:
            return None  # nobody manages it; something is given back to it
        if record is None or record.id != change.id:
            raise Unfit(f"The state has {change.address} no more as it was. Plan again.")
        return record

    def operation(self, operation: Operation) -> Operation:
        """The operation with its sensitive values."""
        body = operation.body
        if body is not None and any(True for _ in masks(body)):
            body = {"data": self._filled(operation.key, ("settings",), body.get("data"))}
        return replace(operation, body=body)

    def _filled(self, key: Key, path: FieldPath, value: JsonValue) -> JsonValue:
        mask = as_mask(value)
        if mask is not None:
            secret = self.after(key, path, mask)
            return conceal(secret.value, secret.origin)
        if isinstance(value, dict):
            return {n: self._filled(key, (*path, n), inner) for n, inner in value.items()}
        return value
