"""What all operations do by the same steps: send, read back, record, and give back what was taken.

What is recorded is what was read, never what was asked for.

Source: docs/platform.md 3.2, 4, 6.3; docs/behaviours.md, "Apply".
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.api.errors import ApiError, Limited, NotFound, NotSent, Refused, Unclear
from reconciler.api.refresh import account
from reconciler.core.graph import Action, Operation
from reconciler.core.live import generation
from reconciler.core.state import Entry, Owed
from reconciler.core.values import (
    AccountId,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    account_id,
    concealed,
    value_at,
)
from reconciler.record import Recorder, confirm

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.api.client import Answer, Client
    from reconciler.core.live import LiveAccount
    from reconciler.core.plan import Plan

TRIES: Final = 5
_PLACEHOLDER = re.compile(r"\{accounts\.[^}]*\}")
_PAUSE: Final = 1.0


class Failed(Exception):
    """An operation that did not succeed, for a reason that no error of the API tells."""


class Stale(Failed):
    """The account is not as the plan found it."""


class Writes:
    """The steps, and what a run learns by them.

    `ids`: of accounts made by this run, by what stands for them in the plan. `seen`: the highest
    revision of each account so far. `taken`: what is to be given back. `requests`: the last
    request's id, by number of operation.
    """

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
        self.seen = {live.id: generation(live.revision) for live in self.live.values()}
        self.owed = dict(plan.state.owed)
        self.requests: dict[int, str] = {}
        self._operations = {operation.n: operation for operation in plan.operations}

    def is_given(self, operation: Operation, error: Refused | NotSent) -> bool:
        """Whether it was refused for a realm or a name that another account let go of in this run.

        The platform looks into a view for that, which lags (docs/platform.md 5.4).
        """
        before = (self._operations[n] for n in operation.after)
        frees = (Action.UPDATE, Action.DELETE)
        given = any(o.action in frees and o.key != operation.key for o in before)
        return given and isinstance(error, Refused) and error.taken

    def id(self, operation: Operation) -> AccountId:
        """The operation's account. Raises: ValueError if that is not known yet."""
        return self.ids.get(operation.ident) or account_id(operation.ident)

    def path(self, operation: Operation) -> str:
        """The operation's path with the ids that are known by now."""
        return _PLACEHOLDER.sub(lambda match: self.ids[match[0]], operation.path)

    async def send(
        self,
        operation: Operation,
        body: JsonObject | None = None,
        *,
        timeout: float | None = None,
        insist: bool = True,
    ) -> Answer:
        """Send the operation's request once; what was surely not sent, again. See `Client.send`."""
        content = reveal(body if body is not None else operation.body)
        # A body of our own making puts live values back, whose worth nobody knows.
        secretive = body is not None or content != operation.body
        if operation.action is Action.MOVE:
            content = {"data": {"to": self.target(operation)}}
        for attempt in range(1, TRIES + 1):
            self.recorder.check()
            self.sent = True
            try:
                answer = await self.client.send(
                    operation.method,
                    self.path(operation),
                    content,
                    timeout=timeout,
                    secretive=secretive,
                    insist=insist,
                )
            except NotSent as error:
                if attempt == TRIES or isinstance(error, Limited):
                    raise
                await pause(attempt)
            else:
                self.requests[operation.n] = answer.request_id
                return answer
        raise AssertionError("unreachable")

    def target(self, operation: Operation) -> AccountId:
        """The account that a move goes below."""
        to = value_at(operation.body, ("data", "to"))
        return self.ids.get(str(to)) or account_id(to)

    async def read(self, key: Key, current: AccountId) -> LiveAccount | None:
        """The account as it is now; None if it is gone.

        A node of the platform that has not heard of the last write yet is given time to. Raises:
        ApiError, Failed.
        """
        known = self.live.get(key)
        parent = known.parent_id if known else None
        for attempt in range(1, TRIES + 1):
            try:
                live = await self.client.read(
                    f"/accounts/{current}", lambda answer: account(current, answer, parent)
                )
            except NotFound:
                return None
            if self._is_new(live):
                return live
            await pause(attempt)
        raise Failed(
            f"the platform keeps answering what {current} was before its last write, so what it is now"
            " can't be known. Apply again later."
        )

    def _is_new(self, live: LiveAccount) -> bool:
        """Whether this is no older than what was read before; the number of a revision only grows."""
        number = generation(live.revision)
        before = self.seen.get(live.id, 0)
        self.seen[live.id] = max(number, before)
        return number >= before or not number

    def record(self, key: Key, live: LiveAccount) -> tuple[FieldPath, ...]:
        """Record the account as it was read; returns the declared leaves that are not so."""
        change = self.changes.get(key)
        self.live[key] = live
        if change is None or change.declared is None:
            return ()
        record, missed = confirm(change, self.records.get(key), live, self.plan.state)
        self.records[key] = record
        self.recorder.add(Entry("record", key, record))
        return missed

    async def settle(
        self,
        operation: Operation,
        satisfied: Callable[[LiveAccount | None], bool],
        body: JsonObject | None = None,
    ) -> LiveAccount | None:
        """Send until what is read back is as it should be. Raises: ApiError, Failed.

        Only for what may be repeated. An error is read back too: it may have been done. `body`: in
        place of the operation's own.
        """
        unclear = False
        for attempt in range(1, TRIES + 1):
            error: ApiError | None = None
            live: LiveAccount | None = None
            try:
                live = self._newer(operation, await self.send(operation, body))
            except (Unclear, Refused) as failed:
                error = failed
            if live is None or not satisfied(live):
                live = await self.read(operation.key, self.id(operation))
            # A refusal stands, whatever is read: unless it answers a repeat of what was done before.
            refused = isinstance(error, Refused) and not isinstance(error, NotFound) and not unclear
            if error is None or (satisfied(live) and not refused):
                return live
            if isinstance(error, Refused) or attempt == TRIES:
                if live is not None:
                    self.record(operation.key, live)
                if isinstance(error, Refused):
                    error.done = satisfied(live)
                raise error
            unclear = True
            await pause(attempt)
        raise AssertionError("unreachable")

    def _newer(self, operation: Operation, answer: Answer) -> LiveAccount | None:
        """The account in a write's own answer, if it is newer than what was known before."""
        current, known = self.id(operation), self.live.get(operation.key)
        before = self.seen.get(current, 0)
        if operation.action is Action.DELETE or answer.document.get("id") != current:
            return None
        if generation(answer.revision) <= before:
            return None
        self.seen[current] = generation(answer.revision)
        return account(current, answer, known.parent_id if known else None)

    async def fresh(self, operation: Operation) -> LiveAccount:
        """The account as it is right before the write. Raises: Stale if it is gone."""
        live = await self.read(operation.key, self.id(operation))
        if live is None:
            raise Stale("it was deleted since the plan was made. Plan again.")
        self.live[operation.key] = live
        return live

    # --- what is taken for the time being ---

    async def owe(
        self, operation: Operation, *, reseller: bool = False, settings: JsonObject | None = None
    ) -> None:
        """Make durable what is about to be taken from the account and must be given back."""
        current = self.id(operation)
        before = self.owed.get(current) or Owed(current, False, {}, self.run)
        owed = replace(
            before, reseller=before.reseller or reseller, settings=settings or before.settings
        )
        self.owed[current] = owed
        await self.recorder.durable(Entry("owe", "", owed=owed))

    def repay(self, current: AccountId, *, reseller: bool, settings: bool) -> None:
        """Note what the account has again. It need not be durable: what is back is seen to be."""
        owed = self.owed.get(current)
        if owed is None:
            return
        left = replace(
            owed,
            reseller=owed.reseller and not reseller,
            settings={} if settings else owed.settings,
        )
        if left == owed:
            return
        self.owed[current] = left
        kept = left.reseller or left.settings
        self.recorder.add(Entry("owe" if kept else "repay", "", owed=left))


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


async def pause(attempt: int) -> None:
    """Wait before the next attempt: exponential, full jitter."""
    await asyncio.sleep(random.uniform(0, _PAUSE * 2 ** (attempt - 1)))  # noqa: S311 - jitter, no secret
