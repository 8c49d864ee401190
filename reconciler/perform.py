"""Performs operations: one way for each kind, and what may go wrong with it in words.

What can't be repeated blindly is in state before it is sent: a create as an intent, and what is
taken from an account for the time being as something to give back. All else is repeated until what
is read back is as it should be.

Source: docs/platform.md 3.6 to 3.10; docs/behaviours.md, "Apply".
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from reconciler.api.client import performing
from reconciler.api.errors import ApiError, Refused, Unclear
from reconciler.api.refresh import LAGS, descendants, parent_of
from reconciler.api.search import Doubtful
from reconciler.backends.backend import Unwritable
from reconciler.core import diff
from reconciler.core.diff import ENABLED, PARENT, RESELLER
from reconciler.core.graph import Action, Operation
from reconciler.core.outcome import Result, Status
from reconciler.core.state import Entry
from reconciler.core.values import (
    ABSENT,
    AccountId,
    FieldPath,
    JsonObject,
    JsonValue,
    Sensitive,
    dotted,
    leaves,
    place,
    value_at,
)
from reconciler.creates import Creates
from reconciler.writes import TRIES, Failed, Stale, Writes, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reconciler.api.client import Client
    from reconciler.core.live import LiveAccount, Row
    from reconciler.core.plan import Change, Plan
    from reconciler.record import Recorder


class Performer:
    """Performs operations: each method one kind of them, all by the same steps."""

    def __init__(self, plan: Plan, client: Client, recorder: Recorder, run: str) -> None:
        self.writes = Writes(plan, client, recorder, run)
        self.creates = Creates(self.writes)
        self.changes = self.writes.changes
        self._listed: Mapping[AccountId, Row] | None = None
        self.updated = {o.key for o in plan.operations if o.action is Action.UPDATE}

    async def perform(self, operation: Operation) -> Result:
        """Do one operation, in a task of its own. Whatever comes of it is in the result."""
        performing.set(operation.n)
        status: Status = "done"
        error = ""
        try:
            await self._dispatch(operation)
        except Stale as stale:
            status, error = "stale", str(stale)
        except ApiError as failed:
            status, error = "failed", str(failed)
            self.writes.requests[operation.n] = failed.request_id
        except (Failed, Doubtful) as failed:
            status, error = "failed", str(failed)
        except Unwritable:  # why is told once, for the run
            status, error = "failed", "what became of it could not be recorded"
        except asyncio.CancelledError:
            status = "failed"
            error = "stopped while it was under way; the next apply finds out what became of it"
        known = self.writes.ids.get(operation.ident) or (
            None if operation.ident.startswith("{") else AccountId(operation.ident)
        )
        return Result(
            operation.n,
            operation.key,
            operation.action,
            status,
            known,
            error,
            "" if status == "done" else self.writes.requests.get(operation.n, ""),
            operation.temporary,
        )

    async def _dispatch(self, operation: Operation) -> None:
        if operation.key in self.writes.plan.stale:
            raise Stale(self.writes.plan.stale[operation.key])
        match operation.action:
            case Action.CREATE:
                await self._create(operation)
            case Action.UPDATE:
                await self._update(operation)
            case Action.PROMOTE | Action.DEMOTE:
                await self._rank(operation)
            case Action.MOVE:
                await self._move(operation)
            case _:
                await self._delete(operation)

    async def _create(self, operation: Operation) -> None:
        live = await self.creates.make(operation)
        # The intent is durable, so the record may wait for the next thing that must be.
        missed = self.writes.record(operation.key, live)
        later = {RESELLER, ENABLED} if operation.key in self.updated else {RESELLER}
        lost = [path for path in missed if path not in later]
        if lost:
            raise Failed(_not_kept(self.changes[operation.key], lost))

    # --- update ---

    async def _update(self, operation: Operation) -> None:
        change = self.changes[operation.key]
        live = await self.writes.fresh(operation)
        _check_unchanged(operation, live)
        fields = [field for field in change.fields if field.path[0] == "settings"]
        if change.live is None:  # created by this run: all else was in the create
            fields = [field for field in fields if field.path == ENABLED]

        def satisfied(read: LiveAccount | None) -> bool:
            return read is not None and all(diff.holds(field, read) for field in fields)

        found = await self._settled(operation, satisfied)
        if found is None:
            raise Failed("it was deleted while it was updated. Plan again.")
        missed = self.writes.record(operation.key, found)
        whole = all(diff.holds(f, found) for f in fields if f.after is not ABSENT)
        self.writes.repay(found.id, reseller=False, settings=whole)
        kept = [f.path for f in fields if f.after is ABSENT and not diff.holds(f, found)]
        if kept:
            found = await self._remove(operation, found, kept)
            missed = self.writes.record(operation.key, found)
        lost = [path for path in missed if path != RESELLER]
        lost += [f.path for f in fields if f.path not in lost and not diff.holds(f, found)]
        if lost:
            raise Failed(_not_kept(change, lost))

    async def _settled(
        self, operation: Operation, satisfied: Callable[[LiveAccount | None], bool]
    ) -> LiveAccount | None:
        """Update, and again where it is to get what another account has just let go of."""
        for lag in LAGS:
            try:
                return await self.writes.settle(operation, satisfied)
            except Refused as error:
                if not self.writes.is_given(operation, error):
                    raise
            await asyncio.sleep(lag)
        return await self.writes.settle(operation, satisfied)

    async def _remove(
        self, operation: Operation, live: LiveAccount, paths: Sequence[FieldPath]
    ) -> LiveAccount:
        """Remove leaves that the platform keeps in spite of null (docs/platform.md 3.7).

        The enclosing object is emptied, then what else was in it is put back. A field that stands
        in no object can't be removed. Returns the account as it is then.
        """
        emptied, rest = emptying(live.document, [path[1:] for path in paths])
        if not emptied:
            return live
        kept = _undeclared(self.changes[operation.key], rest)
        if kept:
            await self.writes.owe(operation, settings=kept)
        enabled: JsonObject = {"enabled": live.document.get("enabled", True)}
        found = live
        for part in (emptied, rest):
            wanted = list(leaves(part))
            if wanted:
                found = await self._written(operation, {"data": {**enabled, **part}}, wanted)
        self.writes.repay(found.id, reseller=False, settings=True)
        return found

    async def _written(
        self,
        operation: Operation,
        body: JsonObject,
        wanted: Sequence[tuple[FieldPath, JsonValue]],
    ) -> LiveAccount:
        """Patch until the leaves are as they are wanted; an empty object means: nothing in it."""

        def satisfied(read: LiveAccount | None) -> bool:
            return read is not None and all(
                value_at(read.document, path) == value
                or not (diff.present(value) or diff.present(value_at(read.document, path)))
                for path, value in wanted
            )

        found = await self.writes.settle(operation, satisfied, body)
        if found is None:
            raise Failed("it was deleted while it was updated. Plan again.")
        return found

    # --- rank, place, end ---

    async def _rank(self, operation: Operation) -> None:
        wanted = operation.action is Action.PROMOTE
        live = await self.writes.fresh(operation)
        owed = self.writes.owed.get(live.id)
        if operation.temporary and wanted and not live.reseller and not (owed and owed.reseller):
            raise Stale("it was demoted since the plan was made, by others. Plan again.")
        if live.reseller != wanted:
            if operation.temporary and not wanted:
                await self.writes.owe(operation, reseller=True)
            live = await self._ranked(operation, wanted=wanted)
        self.writes.record(operation.key, live)
        self.writes.repay(live.id, reseller=wanted, settings=False)

    async def _ranked(self, operation: Operation, *, wanted: bool) -> LiveAccount:
        """Promote or demote. Raises: ApiError, Failed."""
        try:
            found = await self.writes.settle(
                operation, lambda read: read is not None and read.reseller is wanted
            )
        except Refused:
            if self.writes.live[operation.key].reseller:  # by what was read back after the refusal
                self.writes.repay(self.writes.id(operation), reseller=True, settings=False)
            raise
        if found is None or found.reseller is not wanted:
            raise Failed(
                "the platform took the request, and did not change the account's rank. Ask its operator."
            )
        return found

    async def _move(self, operation: Operation) -> None:
        current = self.writes.id(operation)
        to = self.writes.target(operation)
        await self.writes.client.get(f"/accounts/{to}")  # a move to nowhere loses the account: 3.9
        before = operation.rests_on.get(PARENT)
        parent = await parent_of(self.writes.client, current)
        if parent != to:
            if before is not None and parent != before:
                raise Stale(f"it stands {_below(parent)} now, not below {before}. Plan again.")
            parent = await self._moved(operation, current, to)
        if parent != to:
            raise Failed(
                f"the platform took the request, and the account stands {_below(parent)}. Plan again."
            )
        await self._stands_below(operation, to)

    async def _stands_below(self, operation: Operation, to: AccountId) -> None:
        """Record the account in its new place."""
        read = await self.writes.read(operation.key, self.writes.id(operation))
        if read is None:
            raise Failed("it was deleted while it was moved. Plan again.")
        self.writes.record(operation.key, replace(read, parent_id=to))

    async def _moved(
        self, operation: Operation, current: AccountId, to: AccountId
    ) -> AccountId | None:
        """Send the move until the account is there. Returns its parent then. Raises: ApiError, Failed."""
        parent = None
        for attempt in range(1, TRIES + 1):
            error: ApiError | None = None
            try:
                await self.writes.send(operation)
            except (Unclear, Refused) as failed:
                error = failed
            parent = await parent_of(self.writes.client, current)
            if isinstance(error, Refused) and attempt == 1 and parent == to:
                await self._stands_below(operation, to)  # said no, and did it
            elif parent == to:
                return parent
            if error is not None and (isinstance(error, Refused) or attempt == TRIES):
                raise error
            await pause(attempt)
        return parent

    async def _delete(self, operation: Operation) -> None:
        current = self.writes.id(operation)
        live = await self.writes.read(operation.key, current)
        if live is None:
            await self._check_gone(current)
        else:
            _check_unchanged(operation, live)
            live = await self.writes.settle(operation, lambda read: read is None)
        attempt = 0
        while live is not None:  # another node of the platform may need a moment to hear of it
            attempt += 1
            if attempt == TRIES:
                raise Failed(
                    "the platform took the request, and the account is there still. Apply again."
                )
            await pause(attempt)
            live = await self.writes.read(operation.key, current)
        self.writes.repay(current, reseller=True, settings=True)
        await self.writes.recorder.durable(Entry("forget", operation.key))

    async def _check_gone(self, current: AccountId) -> None:
        """Raises: ApiError, Stale if the list has an account that does not exist by its own GET."""
        if self._listed is None:  # one list for all: in an older one there are more, not fewer
            self._listed = await descendants(self.writes.client, self.writes.plan.root)
        if current in self._listed:
            raise Stale(
                "it does not exist by its own GET, yet the list of accounts has it. Plan again."
            )


def _below(parent: AccountId | None) -> str:
    return f"below {parent}" if parent else "where the platform does not tell"


def _check_unchanged(operation: Operation, live: LiveAccount) -> None:
    """Raises: Stale if what the operation rests on is no more as the plan found it."""
    for path, before in operation.rests_on.items():
        then = before.value if isinstance(before, Sensitive) else before
        now = value_at(live.block, path)
        same = (
            not diff.present(then) and not diff.present(now)
            if then is ABSENT or now is ABSENT
            else diff.same(path, then, now)
        )
        if not same:
            raise Stale(f"{dotted(path)} was changed since the plan was made. Plan again.")


def _not_kept(change: Change, paths: Sequence[FieldPath]) -> str:
    removed = {field.path for field in change.fields if field.after is ABSENT}
    removals = [dotted(path) for path in paths if path in removed]
    values = [dotted(path) for path in paths if path not in removed]
    parts = []
    if values:
        parts.append(
            f"the platform took the request, and did not keep {', '.join(values)}. Declare what it keeps, or"
            " leave it alone by lifecycle.ignore_changes."
        )
    if removals:
        parts.append(
            f"the platform does not remove {', '.join(removals)}. Declare a value for it, or leave it alone"
            " by lifecycle.ignore_changes."
        )
    return " ".join(parts)


def emptying(document: JsonObject, paths: Sequence[FieldPath]) -> tuple[JsonObject, JsonObject]:
    """Two bodies that remove `paths` where null does not: objects to empty, and what to put back.

    A path that stands in no object is in neither.
    """
    tops: set[FieldPath] = set()
    kept: JsonObject = orjson.loads(orjson.dumps(document))
    for path in paths:
        top = path if isinstance(value_at(document, path), dict) else path[:-1]
        if top:
            tops.add(top)
            _drop(kept, path)
    emptied: JsonObject = {}
    rest: JsonObject = {}
    for top in sorted(tops):
        if any(top[:length] in tops for length in range(1, len(top))):
            continue  # goes with the object around it
        place(emptied, top, {})
        left = value_at(kept, top)
        if left is not ABSENT and diff.present(left):
            place(rest, top, left)
    return emptied, rest


def _drop(document: JsonObject, path: FieldPath) -> None:
    """Remove the value at `path`, if it is there."""
    inner = value_at(document, path[:-1])
    if isinstance(inner, dict):
        inner.pop(path[-1], None)


def _undeclared(change: Change, rest: JsonObject) -> JsonObject:
    """What of `rest` no later run could put back from the YAML. Raises: Failed if it is a secret."""
    kept: JsonObject = {}
    declared = change.declared
    for path, value in leaves({"settings": rest}) if rest else ():
        if declared is not None and diff.declares(declared, path):
            continue
        if diff.is_secret(value) or (declared is not None and path in declared.sensitive):
            raise Failed(
                f"the platform removes a field only together with what stands beside it, and"
                f" {dotted(path)}, which would be put back at once, holds a credential that may not be"
                " kept in state in case the run is interrupted. Declare it, or remove the field by hand."
            )
        place(kept, path[1:], value)
    return kept
