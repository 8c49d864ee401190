"""Walks the operations of a plan: intent, write, read back, confirm, save.

Only here do writes to the platform and writes to state meet, and only here are signals and
cancellation handled. State is told what was read back, never what was asked for.

Source: docs/platform.md 3.4, 3.6 to 3.10, 4, 6.3; docs/behaviours.md, "Apply".
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import orjson

from reconciler.api.client import (
    SLOW,
    ApiError,
    Client,
    Limited,
    NotFound,
    NotSent,
    Refused,
    Unclear,
)
from reconciler.api.refresh import account, parent_of
from reconciler.core import diff
from reconciler.core.account import normal_realm
from reconciler.core.diff import PARENT, RESELLER
from reconciler.core.graph import Action, Operation, Walk
from reconciler.core.outcome import Event, Outcome, Result, Started, Status
from reconciler.core.state import AccountRecord, Entry, Intent, State, fold
from reconciler.core.values import (
    ABSENT,
    AccountId,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    Sensitive,
    account_id,
    address,
    concealed,
    dotted,
    place,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reconciler.api.client import Answer
    from reconciler.backends.backend import StateWriter
    from reconciler.core.live import LiveAccount
    from reconciler.core.plan import Change, Plan

_PLACEHOLDER = re.compile(r"\{accounts\.[^}]*\}")
_TRIES: Final = 5
_LOOKS: Final = (0.1, 2.5)
"""Seconds before each look for an account that a create may have made: lists lag (3.2)."""
_PAUSE: Final = 1.0
_LOOK: Final = 0.5
"""Seconds, at most, until a run that waits for the platform sees that it has lost the lock."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How operations are run: so many at a time; and whether a failure keeps others from beginning."""

    concurrency: int
    fail_fast: bool = False


class Failed(Exception):
    """An operation that did not succeed, for a reason that no error of the API tells."""


class Stale(Failed):
    """The account is not as the plan found it."""


class _Recorder:
    """Makes entries durable, those that come together in one go."""

    def __init__(self, writer: StateWriter, base: State) -> None:
        self.entries: list[Entry] = []
        self._writer = writer
        self._base = base
        self._waiting: list[Entry] = []
        self._writing = asyncio.Lock()

    def add(self, *entries: Entry) -> None:
        """Keep `entries`; they become durable with the next that must be."""
        self._waiting += entries

    async def durable(self, *entries: Entry) -> None:
        """Keep `entries` and return when they, and all before, are durable. Raises: Unwritable."""
        self.add(*entries)
        await asyncio.shield(asyncio.ensure_future(self._write()))

    async def _write(self) -> None:
        """Write what waits. Goes on if who asked for it is stopped: half a record helps nobody."""
        async with self._writing:
            batch, self._waiting = self._waiting, []
            if batch:
                self.entries += batch
                await asyncio.to_thread(self._writer.journal, self._base, batch)

    async def idle(self) -> None:
        """Wait for a write that goes on although who asked for it was stopped."""
        async with self._writing:
            return

    def check(self) -> None:
        """Make sure that this run may still change anything. Raises: Lost."""
        self._writer.check()

    def state(self) -> State:
        """The state after all that was kept."""
        return fold(self._base, [*self.entries, *self._waiting])


async def execute(
    plan: Plan,
    client: Client,
    writer: StateWriter,
    *,
    run: str,
    pace: Pace,
    emit: Callable[[Event], None],
) -> Outcome:
    """Do what the plan says and record what came of it. The lock is held.

    Raises: Unwritable. Whatever the platform answers is in the outcome instead.
    """
    recorder = _Recorder(writer, plan.state)
    performer = _Performer(plan, client, recorder, run)
    results = list(_record_silently(plan, recorder))
    try:
        await recorder.durable()
        with _signals() as stop:
            results += await _walk(plan, performer, stop, pace, emit)
    finally:
        await recorder.idle()
        writer.save(recorder.state())
    return Outcome(tuple(results), performer.sent, stop.signal)


def _record_silently(plan: Plan, recorder: _Recorder) -> Iterator[Result]:
    """Record what needs no API call: adopted and forgotten accounts, new keys, new claims.

    And that a saved plan is being applied: nothing was sent yet, and it is never applied again.
    """
    if plan.seal:
        recorder.add(Entry("take", "", seal=plan.seal))
    for change in (*plan.silent, *plan.changes):
        if change.key in plan.stale:
            for action in (Action.ADOPT, Action.FORGET):
                if action in change.actions:
                    reason = plan.stale[change.key]
                    yield Result(None, change.key, action, "stale", change.id, reason)
            continue
        if change.moved_from is not None and change.record is not None:
            recorder.add(
                Entry("forget", change.moved_from), Entry("record", change.key, change.record)
            )
        if Action.FORGET in change.actions:
            recorder.add(Entry("forget", change.key))
            yield Result(None, change.key, Action.FORGET, "done", change.id)
        elif change.live is not None and change.declared is not None:
            record, _ = confirm(change, change.record, change.live, plan.state)
            recorder.add(Entry("record", change.key, record))
            if Action.ADOPT in change.actions:
                yield Result(None, change.key, Action.ADOPT, "done", change.id)


def confirm(
    change: Change, record: AccountRecord | None, live: LiveAccount, state: State
) -> tuple[AccountRecord, tuple[FieldPath, ...]]:
    """The record of an account as it was read, and the declared leaves that are not so."""
    if change.declared is None:
        raise AssertionError("only a declared account is confirmed")
    applied, observed, missed = diff.confirmed(change.declared, record, live, state)
    fresh = AccountRecord(
        id=live.id,
        parent_id=live.parent_id or (record.parent_id if record else live.id),
        reseller=live.reseller,
        applied=applied,
        observed=observed,
        etag=live.revision,
        updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        prevent_destroy=change.declared.lifecycle.prevent_destroy,
    )
    if record is not None and fresh == replace(
        record, updated_at=fresh.updated_at, etag=fresh.etag
    ):
        return record, missed
    return fresh, missed


class _Stop:
    """Whether the run is to end: at the first signal nothing more begins, at the second all stops."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.failed = False
        self.running: dict[asyncio.Task[Result], Operation] = {}

    def may_begin(self, pace: Pace) -> bool:
        """Whether one more operation may begin."""
        ended = self.signal is not None or (self.failed and pace.fail_fast)
        return not ended and len(self.running) < pace.concurrency

    def __call__(self, number: int) -> None:
        if self.signal is not None:
            for task in self.running:
                task.cancel()
        self.signal = number


@contextmanager
def _signals() -> Iterator[_Stop]:
    """Catch SIGINT and SIGTERM while operations run."""
    stop = _Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, stop, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)


async def _walk(
    plan: Plan,
    performer: _Performer,
    stop: _Stop,
    pace: Pace,
    emit: Callable[[Event], None],
) -> list[Result]:
    """Perform the operations, each when its time has come."""
    walk = Walk(plan.operations)
    results: dict[int, Result] = {}
    try:
        while True:
            while stop.may_begin(pace) and (ready := walk.ready()):
                emit(Started(ready))
                stop.running[asyncio.create_task(performer.perform(ready))] = ready
            if not stop.running:
                break
            ended, _ = await asyncio.wait(
                stop.running, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED
            )
            performer.recorder.check()
            for task in ended:
                for n, result in _ended(walk, stop.running.pop(task), task.result()):
                    results[n] = result
                    emit(result)
                    stop.failed = stop.failed or result.status != "done"
    finally:  # whatever ended the walk, nothing goes on behind it
        for task in stop.running:
            task.cancel()
        await asyncio.gather(*stop.running, return_exceptions=True)
    for operation in plan.operations:
        results.setdefault(operation.n, _skipped(operation, "the run was stopped before"))
    return [results[operation.n] for operation in plan.operations]


def _ended(walk: Walk, operation: Operation, result: Result) -> Iterator[tuple[int, Result]]:
    """The result of an operation, and of those that now never can begin."""
    yield operation.n, result
    if result.status == "done":
        walk.done(operation.n)
        return
    why = f"{address(operation.key)} could not be {_PAST[operation.action]} before"
    for lost in walk.failed(operation.n):
        yield lost.n, _skipped(lost, why)


_PAST: Final = {
    Action.CREATE: "created",
    Action.PROMOTE: "promoted",
    Action.DEMOTE: "demoted",
    Action.MOVE: "moved",
    Action.UPDATE: "updated",
    Action.DELETE: "deleted",
}


def _skipped(operation: Operation, why: str) -> Result:
    return Result(
        operation.n,
        operation.key,
        operation.action,
        "skipped",
        error=why,
        temporary=operation.temporary,
    )


class _Performer:
    """Performs operations: each method one kind of them, all by the same steps."""

    def __init__(self, plan: Plan, client: Client, recorder: _Recorder, run: str) -> None:
        self.client = client
        self.recorder = recorder
        self.run = run
        self.plan = plan
        self.sent = False
        self.changes = {change.key: change for change in plan.changes}
        self.records = {c.key: c.record for c in plan.changes if c.record is not None}
        self.live = {c.key: c.live for c in plan.changes if c.live is not None}
        self.ids: dict[str, AccountId] = {}
        self.last = {operation.key: operation.n for operation in plan.operations}

    async def perform(self, operation: Operation) -> Result:
        """Do one operation. Raises: Unwritable; all else is in the result."""
        status: Status = "done"
        error, request_id = "", ""
        try:
            await self._dispatch(operation)
        except Stale as stale:
            status, error = "stale", str(stale)
        except Failed as failed:
            status, error = "failed", str(failed)
        except ApiError as failed:
            status, error, request_id = "failed", str(failed), failed.request_id
        except asyncio.CancelledError:
            status, error = (
                "failed",
                "stopped while it was under way; the next apply finds out what became of it",
            )
        known = self.ids.get(operation.ident) or (
            None if operation.ident.startswith("{") else AccountId(operation.ident)
        )
        return Result(
            operation.n,
            operation.key,
            operation.action,
            status,
            known,
            error,
            request_id,
            operation.temporary,
        )

    async def _dispatch(self, operation: Operation) -> None:
        if operation.key in self.plan.stale:
            raise Stale(self.plan.stale[operation.key])
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

    # --- the steps that all share ---

    def _id(self, operation: Operation) -> AccountId:
        return self.ids.get(operation.ident) or account_id(operation.ident)

    def _path(self, operation: Operation) -> str:
        """The operation's path with the ids that are known by now."""
        return _PLACEHOLDER.sub(lambda match: self.ids[match[0]], operation.path)

    async def _send(
        self, operation: Operation, body: JsonObject | None = None, *, timeout: float | None = None
    ) -> Answer:
        """Send the operation's request once; what was surely not sent, again."""
        content = reveal(body if body is not None else operation.body)
        # A body of our own making puts live values back, whose worth nobody knows.
        secretive = body is not None or content != operation.body
        if operation.action is Action.MOVE:
            content = {"data": {"to": self._target(operation)}}
        self.sent = True
        for attempt in range(1, _TRIES + 1):
            self.recorder.check()
            try:
                return await self.client.send(
                    operation.method,
                    self._path(operation),
                    content,
                    timeout=timeout,
                    secretive=secretive,
                )
            except NotSent as error:
                if attempt == _TRIES or isinstance(error, Limited):
                    raise
                await _pause(attempt)
        raise AssertionError("unreachable")

    async def _read(self, key: Key, current: AccountId) -> LiveAccount | None:
        """The account as it is now; None if it is gone. Raises: ApiError."""
        try:
            answer = await self.client.get(f"/accounts/{current}")
        except NotFound:
            return None
        known = self.live.get(key)
        return account(current, answer, known.parent_id if known else None)

    def _record(self, key: Key, live: LiveAccount) -> tuple[FieldPath, ...]:
        """Record the account as it was read; returns the declared leaves that are not so."""
        change = self.changes.get(key)
        self.live[key] = live
        if change is None or change.declared is None:
            return ()
        record, missed = confirm(change, self.records.get(key), live, self.plan.state)
        self.records[key] = record
        self.recorder.add(Entry("record", key, record))
        return missed

    async def _settle(
        self,
        operation: Operation,
        satisfied: Callable[[LiveAccount | None], bool],
    ) -> LiveAccount | None:
        """Send until what is read back is as it should be. Raises: ApiError, Failed.

        Only for what may be repeated. An error is read back too: it may have been done.
        """
        current = self._id(operation)
        unclear = False
        for attempt in range(1, _TRIES + 1):
            error: ApiError | None = None
            live: LiveAccount | None = None
            try:
                answer = await self._send(operation)
                live = self._newer(operation, current, answer)
            except (Unclear, Refused) as failed:
                error = failed
            if live is None or not satisfied(live):
                live = await self._read(operation.key, current)
            # A refusal stands, whatever is read: unless it answers a repeat of what was done before.
            refused = isinstance(error, Refused) and not isinstance(error, NotFound) and not unclear
            if error is None or (satisfied(live) and not refused):
                return live
            if isinstance(error, Refused) or attempt == _TRIES:
                if live is not None:
                    self._record(operation.key, live)
                raise error
            unclear = True
            await _pause(attempt)
        raise AssertionError("unreachable")

    def _newer(
        self, operation: Operation, current: AccountId, answer: Answer
    ) -> LiveAccount | None:
        """The account in a write's own answer, if it is newer than what was known before."""
        known = self.live.get(operation.key)
        if answer.document.get("id") != current or operation.action is Action.DELETE:
            return None
        if known is not None and generation(answer.revision) <= generation(known.revision):
            return None
        return account(current, answer, known.parent_id if known else None)

    async def _fresh(self, operation: Operation) -> LiveAccount:
        """The account as it is right before the write. Raises: Stale if it is gone."""
        live = await self._read(operation.key, self._id(operation))
        if live is None:
            raise Stale("it was deleted since the plan was made. Plan again.")
        self.live[operation.key] = live
        return live

    # --- the kinds of operations ---

    async def _update(self, operation: Operation) -> None:
        change = self.changes[operation.key]
        live = await self._fresh(operation)
        _check_unchanged(operation, live)
        paths = {field.path for field in change.fields if field.path[0] == "settings"} or {
            ("settings", "enabled")
        }

        def satisfied(read: LiveAccount | None) -> bool:
            if read is None or change.declared is None:
                return False
            missed = diff.confirmed(
                change.declared, self.records.get(change.key), read, self.plan.state
            )[2]
            return not paths & set(missed)

        found = await self._settle(operation, satisfied)
        if found is None:
            raise Failed("it was deleted while it was updated. Plan again.")
        missed = self._record(operation.key, found)
        unremoved = [path for path in missed if path in paths and _is_removal(change, path)]
        if unremoved:
            missed = await self._remove(operation, found, unremoved)
        lost = [path for path in missed if path != RESELLER]
        if lost:
            raise Failed(_not_kept(change, lost))

    async def _remove(
        self, operation: Operation, live: LiveAccount, paths: Sequence[FieldPath]
    ) -> tuple[FieldPath, ...]:
        """Remove leaves that the platform keeps in spite of null (docs/platform.md 3.7).

        The enclosing object is emptied, then what else was in it is put back. A field that stands
        in no object can't be removed.
        """
        tops: set[FieldPath] = set()
        kept: JsonObject = orjson.loads(orjson.dumps(live.document))
        for path in paths:
            inside = path[1:]
            parent = inside if isinstance(value_at(live.document, inside), dict) else inside[:-1]
            if parent:
                tops.add(parent)
                _drop(kept, inside)
        tops = {top for top in tops if not any(top[:n] in tops for n in range(1, len(top)))}
        enabled = live.document.get("enabled", True)
        emptied: JsonObject = {"enabled": enabled}
        restored: JsonObject = {"enabled": enabled}
        for top in sorted(tops):
            place(emptied, top, {})
            rest = value_at(kept, top)
            if rest is not ABSENT and diff.present(rest):
                place(restored, top, rest)
        if tops:
            await self._send(operation, {"data": emptied})
            if len(restored) > 1:
                await self._send(operation, {"data": restored})
        read = await self._read(operation.key, live.id)
        return self._record(operation.key, read) if read else ()

    async def _rank(self, operation: Operation) -> None:
        wanted = operation.action is Action.PROMOTE
        live = await self._fresh(operation)
        if live.reseller != wanted:
            found = await self._settle(
                operation, lambda read: read is not None and read.reseller is wanted
            )
            if found is None or found.reseller is not wanted:
                raise Failed(
                    "the platform took the request, and did not change the account's rank."
                )
            live = found
        self._record(operation.key, live)

    async def _move(self, operation: Operation) -> None:
        current = self._id(operation)
        to = self._target(operation)
        await self.client.get(f"/accounts/{to}")  # a move to nowhere loses the account: 3.9
        before = operation.rests_on.get(PARENT)
        parent = await parent_of(self.client, current)
        if parent != to:
            if before is not None and parent != before:
                raise Stale(f"it stands below {parent} now, not below {before}. Plan again.")
            parent = await self._moved(operation, current, to)
        read = await self._read(operation.key, current)
        if parent != to or read is None:
            raise Failed(f"the platform took the request, and the account stands below {parent}.")
        self._record(operation.key, replace(read, parent_id=to))

    def _target(self, operation: Operation) -> AccountId:
        """The account that a move goes below."""
        to = value_at(operation.body, ("data", "to"))
        return self.ids.get(str(to)) or account_id(to)

    async def _moved(
        self, operation: Operation, current: AccountId, to: AccountId
    ) -> AccountId | None:
        """Send the move until the account is there. Returns its parent then."""
        parent = None
        for attempt in range(1, _TRIES + 1):
            try:
                await self._send(operation)
            except Unclear:
                if attempt == _TRIES:
                    raise
            parent = await parent_of(self.client, current)
            if parent == to:
                break
            await _pause(attempt)
        return parent

    async def _delete(self, operation: Operation) -> None:
        live = await self._read(operation.key, self._id(operation))
        if live is not None:
            _check_unchanged(operation, live)
            left = await self._settle(operation, lambda read: read is None)
            if left is not None:
                raise Failed("the platform took the request, and the account is there still.")
        await self.recorder.durable(Entry("forget", operation.key))

    async def _create(self, operation: Operation) -> None:
        change = self.changes[operation.key]
        body = reveal(operation.body)
        parent = account_id(self._path(operation).partition("?")[0].rsplit("/", 1)[1])
        data = body["data"] if body and isinstance(body["data"], dict) else {}
        realm = data.get("realm")
        intent = Intent(
            key=operation.key,
            parent_id=parent,
            name=str(data.get("name")),
            realm=realm if isinstance(realm, str) else None,
            since=self.client.server_time,
            body_digest=hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest(),
            run=self.run,
        )
        await self.recorder.durable(Entry("intend", operation.key, intent=intent))
        created = await self._created(operation, intent)
        self.ids[operation.ident] = created
        live = await self._appeared(operation, created)
        # The intent is durable, so the record may wait for the next thing that must be.
        missed = self._record(operation.key, replace(live, parent_id=parent))
        later = {RESELLER} | (
            {("settings", "enabled")} if self.last[operation.key] != operation.n else set()
        )
        lost = [path for path in missed if path not in later]
        if lost:
            raise Failed(_not_kept(change, lost))

    async def _created(self, operation: Operation, intent: Intent) -> AccountId:
        """Send the create until there is one account of it, and never two. Raises: ApiError, Failed."""
        unclear = False
        for attempt in range(1, _TRIES + 1):
            failure: Exception
            try:
                answer = await self._send(operation, timeout=max(SLOW, self.client.timeout))
                return account_id(answer.document.get("id"))
            except (Refused, NotSent) as error:
                if not unclear:  # nothing was made, and nothing is open
                    self.recorder.add(Entry("settle", operation.key))
                    raise
                failure = error
            except Unclear as error:
                failure, unclear = error, True
            except ValueError:
                failure, unclear = Failed("the platform answered the create without an id."), True
            found = await look_for(self.client, self.plan.root, intent, self._known())
            if found is not None:
                return found
            if isinstance(failure, Refused | NotSent) or attempt == _TRIES:
                raise failure
        raise AssertionError("unreachable")

    def _known(self) -> frozenset[AccountId]:
        """The accounts that were there before this run, or were made by it."""
        return self.plan.before | frozenset(self.ids.values())

    async def _appeared(self, operation: Operation, created: AccountId) -> LiveAccount:
        """The new account, read by its id; another node may need a moment to see it."""
        for attempt in range(1, _TRIES + 1):
            live = await self._read(operation.key, created)
            if live is not None:
                return live
            await _pause(attempt)
        raise Failed(f"the platform says that it made {created}, but that can't be read.")


async def look_for(
    client: Client, root: AccountId, intent: Intent, known: frozenset[AccountId]
) -> AccountId | None:
    """The account that a create made whose answer was lost; None if there is none after two looks.

    Raises: Failed if what is there is not surely that account; ApiError.
    """
    for pause in _LOOKS:
        await asyncio.sleep(pause)
        if intent.realm is not None:
            path = f"/accounts/{root}/descendants?filter_realm={quote(intent.realm, safe='')}&paginate=false"
        else:
            path = (
                f"/accounts/{intent.parent_id}/children?created_from={intent.since}&paginate=false"
            )
        answer = await client.get(path)
        rows = (
            [row for row in answer.data if isinstance(row, dict)]
            if isinstance(answer.data, list)
            else []
        )
        found = [account_id(row.get("id")) for row in rows if _fits(row, intent)]
        fresh = [candidate for candidate in found if candidate not in known]
        if len(fresh) == 1 and len(found) == 1:
            read = account(fresh[0], await client.get(f"/accounts/{fresh[0]}"), None)
            parent = await parent_of(client, fresh[0])
            if read.name == intent.name and parent == intent.parent_id:
                return fresh[0]
            raise Failed(
                f"after a lost answer the account {fresh[0]} has the realm, but its name is {read.name!r} and"
                f" its parent {parent}; expected {intent.name!r} below {intent.parent_id}. Look at it by hand."
            )
        if found:
            listed = ", ".join(found)
            raise Failed(
                f"after a lost answer more than one account could be the new one: {listed}. Look at them by hand."
            )
    return None


def _fits(row: JsonObject, intent: Intent) -> bool:
    if intent.realm is not None:
        return normal_realm(str(row.get("realm"))) == normal_realm(intent.realm)
    return row.get("name") == intent.name


def reveal(body: JsonObject | None) -> JsonObject | None:
    """The body as it is sent: sensitive values in clear."""

    def fill(value: JsonValue) -> JsonValue:
        secret = concealed(value)
        if secret is not None:
            return secret.value
        return (
            {name: fill(inner) for name, inner in value.items()}
            if isinstance(value, dict)
            else value
        )

    return None if body is None else {name: fill(value) for name, value in body.items()}


def generation(revision: str) -> int:
    """The number in front of a revision, which only grows; 0 if there is none."""
    number = revision.partition("-")[0]
    return int(number) if number.isdigit() else 0


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


def _is_removal(change: Change, path: FieldPath) -> bool:
    return any(field.path == path and field.after is ABSENT for field in change.fields)


def _not_kept(change: Change, paths: Sequence[FieldPath]) -> str:
    removals = [dotted(path) for path in paths if _is_removal(change, path)]
    values = [dotted(path) for path in paths if not _is_removal(change, path)]
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


def _drop(document: JsonObject, path: FieldPath) -> None:
    """Remove the value at `path`, if it is there."""
    inner = value_at(document, path[:-1])
    if isinstance(inner, dict):
        inner.pop(path[-1], None)


async def _pause(attempt: int) -> None:
    """Wait before the next attempt: exponential, full jitter."""
    await asyncio.sleep(random.uniform(0, _PAUSE * 2 ** (attempt - 1)))  # noqa: S311 - jitter, no secret
