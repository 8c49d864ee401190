"""Performs one operation: intent, write, read back, confirm.

Only here do writes to the platform and what is recorded of them meet.

Source: docs/platform.md 3.4, 3.6 to 3.10, 4, 6.3; docs/behaviours.md, "Apply".
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

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
from reconciler.api.search import Doubtful, look_for
from reconciler.core import diff
from reconciler.core.diff import RESELLER
from reconciler.core.graph import Action, Operation
from reconciler.core.outcome import Result, Status
from reconciler.core.state import Entry, Intent
from reconciler.core.values import (
    ABSENT,
    AccountId,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    Sensitive,
    account_id,
    concealed,
    dotted,
    place,
    value_at,
)
from reconciler.record import Recorder, confirm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reconciler.api.client import Answer
    from reconciler.core.live import LiveAccount
    from reconciler.core.plan import Change, Plan

_PLACEHOLDER = re.compile(r"\{accounts\.[^}]*\}")
_TRIES: Final = 5
_PAUSE: Final = 1.0


class Failed(Exception):
    """An operation that did not succeed, for a reason that no error of the API tells."""


class Stale(Failed):
    """The account is not as the plan found it."""


class Performer:
    """Performs operations: each method one kind of them, all by the same steps."""

    def __init__(self, plan: Plan, client: Client, recorder: Recorder, run: str) -> None:
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
        except (Failed, Doubtful) as failed:
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
        _check_unchanged(change, operation, live)
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
        change = self.changes[operation.key]
        current = self._id(operation)
        to = self._target(operation)
        await self.client.get(f"/accounts/{to}")  # a move to nowhere loses the account: 3.9
        before = change.live.parent_id if change.live else None
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
        change = self.changes[operation.key]
        live = await self._read(operation.key, self._id(operation))
        if live is not None:
            for name in ("name", "realm"):
                if change.live is not None and live.document.get(name) != change.live.document.get(
                    name
                ):
                    raise Stale(f"its {name} was changed since the plan was made. Plan again.")
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


def _check_unchanged(change: Change, operation: Operation, live: LiveAccount) -> None:
    """Raises: Stale if the fields that the plan rests on are not as the plan found them."""
    if change.live is None:
        return  # created by this run
    for field in change.fields:
        if field.path[0] != "settings":
            continue
        before = field.before.value if isinstance(field.before, Sensitive) else field.before
        now = value_at(live.block, field.path)
        same = (
            before == now
            if before is ABSENT or now is ABSENT
            else diff.same(field.path, before, now)
        )
        if not same and (diff.present(now) or before is not ABSENT):
            raise Stale(f"{dotted(field.path)} was changed since the plan was made. Plan again.")
    then, now = change.live.document.get("enabled"), live.document.get("enabled")
    if then != now and operation.body is not None:
        raise Stale("settings.enabled was changed since the plan was made. Plan again.")


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
