"""Creates: each account once, whatever becomes of the answer.

A create is in state as an intent before it is sent, and is never repeated blindly: after an
unclear answer the account is looked for.

Source: docs/platform.md 3.4, 6.3.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.api.client import SLOW, malformed
from reconciler.api.errors import ApiError, Limited, NotSent, Refused, Unauthorized, Unclear
from reconciler.api.gate import HOPELESS, backoff
from reconciler.api.refresh import LAGS, descendants, parent_of, read_account
from reconciler.api.search import GOING_ON, LOOKS, look_for
from reconciler.core.account import normal_realm
from reconciler.core.diff import same
from reconciler.core.graph import Action
from reconciler.core.limits import limits_json
from reconciler.core.recovery import first_record, fits, is_meant, is_new
from reconciler.core.state import Entry, Intent
from reconciler.core.values import ABSENT, AccountId, account_id, leaves, value_at
from reconciler.writes import TRIES, Failed, pause, reveal

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from reconciler.api.client import Answer
    from reconciler.core.graph import Operation
    from reconciler.core.live import LiveAccount, Row
    from reconciler.core.outcome import Result
    from reconciler.core.values import JsonObject
    from reconciler.writes import Writes

log = logging.getLogger("reconciler")

_GOING_ON_TRIES: Final = 2
"""So often is a create sent whose end is not known: each may still be carried out."""
_LOGINS: Final = 2
"""So often is it sent that the platform says that the caller is not logged in."""


class Creates:
    """The creates of a run.

    By number of operation, `sent`: all; `refused`: those that the platform said no to at once;
    `taken`: what was sent of those whose realm or name was taken, perhaps by themselves, since `head`
    says so and writes all the same (docs/platform.md 5). `known`: the accounts that were there before
    this run, or were made by it. `repeated`: whether any was sent again. `reopened`: the keys of those
    that an earlier run had sent already.
    """

    def __init__(self, writes: Writes) -> None:
        self.writes = writes
        self.sent: dict[int, Intent] = {}
        self.refused: set[int] = set()
        self.taken: dict[int, JsonObject] = {}
        self.known = {*writes.plan.before, writes.plan.root}
        self.repeated = False
        self.reopened = {u.key for u in writes.plan.unfinished if u.action is Action.CREATE}

    async def make(self, operation: Operation) -> LiveAccount:
        """Create the account; as it is then. Raises: ApiError, Doubtful, Failed."""
        intent = self._intent(operation)
        self.sent[operation.n] = intent
        await self.writes.recorder.durable(Entry("intend", operation.key, intent=intent))
        live = await self._appeared(operation, intent, await self._created(operation, intent))
        self.writes.ids[operation.ident] = live.id
        self.known.add(live.id)
        return replace(live, parent_id=intent.parent_id)

    def _intent(self, operation: Operation) -> Intent:
        """What is to be known of a create before it is sent."""
        body = reveal(operation.body)
        declared = self.writes.changes[operation.key].declared
        realm, name = (value_at(body, ("data", field)) for field in ("realm", "name"))
        return Intent(
            key=operation.key,
            parent_id=account_id(self.writes.path(operation).partition("?")[0].rsplit("/", 1)[1]),
            name=str(name),
            realm=realm if isinstance(realm, str) else None,
            since=self.writes.client.server_time,
            body_digest=self.writes.plan.state.digest(body),
            run=self.writes.run,
            prevent_destroy=declared is not None and declared.lifecycle.prevent_destroy,
            safety=limits_json(declared.limits) if declared else {},
        )

    async def _created(self, operation: Operation, intent: Intent) -> AccountId:
        """Send the create until there is one account of it, and never two.

        Raises: ApiError, Doubtful. The intent stays open where it may have been made.
        """
        unclear, going_on = operation.key in self.reopened, False
        for attempt in range(1, TRIES + 1):
            try:
                return await self._sent(operation, intent)
            except Limited:
                raise  # what refuses for its rate may have passed it on before
            except (Refused, NotSent) as error:
                failure: ApiError = error
                again = attempt <= len(LAGS) and self.writes.is_given(operation, error)
                unclear = self._is_in_its_own_way(operation, error) or again or unclear
                if not unclear:
                    self._came_to_nothing(operation, error)
            except Unclear as error:
                failure, unclear, again = error, True, True
                going_on |= error.going_on
            if unclear:
                alone = intent.realm is None  # nothing but the look keeps a second one out
                found = await self._look(intent, GOING_ON if going_on or alone else LOOKS)
                if found is not None:
                    return found
            tries = _GOING_ON_TRIES if going_on else TRIES
            if not again or attempt >= tries:
                raise failure
            self.repeated = True
        raise AssertionError("unreachable")

    def _is_in_its_own_way(self, operation: Operation, error: Refused | NotSent) -> bool:
        """Whether a create may have been refused because it had been carried out before."""
        if not (isinstance(error, Refused) and error.taken):
            return False
        self.taken[operation.n] = _data(operation)
        return error.resent > 0

    def _came_to_nothing(self, operation: Operation, error: Refused | NotSent) -> None:
        """Note that no account was made, as far as an answer can tell."""
        if isinstance(error, Refused):
            self.refused.add(operation.n)
        else:
            self.writes.recorder.add(Entry("settle", operation.key))
            del self.sent[operation.n]

    async def _sent(self, operation: Operation, intent: Intent) -> AccountId:
        """Send the create until it is answered otherwise than by 429; the new account's id.

        A gateway may refuse what it has passed on. That a realm is unique keeps a second account
        out then; where none is declared, only a look does. Raises: ApiError, Doubtful.
        """
        timeout, insist = max(SLOW, self.writes.client.timeout), intent.realm is not None
        for attempt in range(1, HOPELESS + 1):
            try:
                return self._new_id(
                    await self.writes.send(operation, timeout=timeout, insist=insist)
                )
            except (Limited, Unauthorized) as error:
                tries = HOPELESS if isinstance(error, Limited) else _LOGINS
                if insist or attempt >= tries:
                    raise
                self.repeated = True
                found = await self._look(intent, (backoff(attempt),))
                if found is not None:
                    return found
        raise AssertionError("unreachable")

    async def _look(
        self, intent: Intent, pauses: Sequence[float], *, but: AccountId | None = None
    ) -> AccountId | None:
        """The account that a create made, if it is found; not `but`. Raises: ApiError, Doubtful."""
        client, root = self.writes.client, self.writes.plan.root
        known = self.known if but is None else self.known | {but}
        found = await look_for(client, root, intent, known, pauses)
        return None if found is None else found.id

    def _new_id(self, answer: Answer) -> AccountId:
        """The id of the account that a create made. Raises: Unclear if it is none, or an old one."""
        try:
            created = account_id(answer.document.get("id"))
        except ValueError as error:
            raise malformed(answer, "a create without an id in its answer", method="PUT") from error
        if created in self.known:
            what = f"a create that answered with {created}, which was there before"
            raise malformed(answer, what, method="PUT")
        return created

    async def _appeared(
        self, operation: Operation, intent: Intent, created: AccountId
    ) -> LiveAccount:
        """The new account, read by its id.

        An answer may be that of another request. Then the account is looked for, and nothing is
        sent again. Raises: ApiError, Doubtful, Failed.
        """
        live = await self._read(operation, created)
        if live is None or not is_meant(intent, live):
            found = await self._look(intent, GOING_ON, but=created)
            live = live if found is None else await self._read(operation, found)
        if live is not None and is_meant(intent, live):
            return live
        if live is not None and await self._may_be(operation, intent, live):
            return live  # the platform did not keep its name or realm
        what = "that can't be read" if live is None else f"that is another account ({live.name})"
        raise Failed(
            f"the platform says that it made {created}, but {what}. Apply again later: it looks again."
        )

    async def _may_be(self, operation: Operation, intent: Intent, live: LiveAccount) -> bool:
        """Whether an account by another name or realm is the one that a create made, as its answer said.

        Not if another create of this run is to make one like it: then answers were crossed.
        """
        others = (other for n, other in self.sent.items() if n != operation.n)
        if live.id in self.known or any(is_meant(other, live) for other in others):
            return False
        data = {n: value for n, value in _data(operation).items() if n not in ("name", "realm")}
        parent = await parent_of(self.writes.client, live.id)
        return is_new(intent, live) and parent == intent.parent_id and _has(live, data)

    async def _read(self, operation: Operation, current: AccountId) -> LiveAccount | None:
        """An account that should be there; another node may need a moment to see it."""
        for attempt in range(1, TRIES + 1):
            try:
                live = await self.writes.read(operation.key, current)
            except Refused:
                return None
            if live is not None:
                return live
            await pause(attempt)
        return None

    async def review(self, results: Sequence[Result]) -> list[Result]:
        """Results of creates that turn out otherwise by the list of accounts: one for all of them.

        A gateway may take one path for another, so a new account may stand where it should not;
        and a create that was refused may have been carried out all the same.
        """
        creates = [result for result in results if result.n in self.sent]
        if not creates:
            return []
        try:
            rows = await descendants(self.writes.client, self.writes.plan.root)
            doubtful = self.repeated or any(result.n in self.refused for result in creates)
            for lag in (*LAGS, *self._longer()):
                if doubtful or any(r.id not in rows for r in creates):
                    await asyncio.sleep(lag)
                    rows |= await descendants(self.writes.client, self.writes.plan.root)
            strangers = _strangers(rows.values(), self.known)
            found = [await self._otherwise(result, rows, strangers) for result in creates]
            if self._is_whole(rows, results):
                self._settle_refused(creates, strangers)
        except ApiError as error:
            log.warning("where new accounts stand is not known; the next plan finds out: %s", error)
            return []
        return [result for result in found if result is not None]

    def _longer(self) -> Sequence[float]:
        """Seconds before one more list, if a create was refused that nothing but a list finds again."""
        alone = any(n in self.refused and i.realm is None for n, i in self.sent.items())
        return GOING_ON[-1:] if alone else ()

    async def _otherwise(
        self,
        result: Result,
        rows: Mapping[AccountId, Row],
        strangers: Mapping[str, list[AccountId]],
    ) -> Result | None:
        """How the result of a create turns out by the list; None if it stays as it is."""
        if result.id is None:
            return await self._made_all_the_same(result, strangers)
        return await self._twice(result, strangers) or await self._misplaced(result, rows)

    async def _twice(
        self, result: Result, strangers: Mapping[str, list[AccountId]]
    ) -> Result | None:
        """Whether there is a second account of it: of a request that was taken for lost, or of others."""
        client, listed = self.writes.client, self._like(result, strangers)
        others = [i for i in listed if await read_account(client, i, {}) is not None]
        if not others:
            return None
        error = (
            f"it was created as {result.id}, which is in state; but there is another like it:"
            f" {', '.join(others)}. Look at both, and delete by hand what is not wanted."
        )
        return replace(result, status="failed", error=error)

    async def _misplaced(self, result: Result, rows: Mapping[AccountId, Row]) -> Result | None:
        """Whether a new account stands elsewhere. It is recorded there, and never deleted for it."""
        intent, row = self.sent[result.n or 0], rows.get(result.id or AccountId(""))
        if result.id is None or (row is not None and row.parent_id == intent.parent_id):
            return None
        parent = await parent_of(self.writes.client, result.id)
        record = self.writes.records.get(result.key)
        if parent is None or parent == intent.parent_id or record is None:
            return None
        self.writes.recorder.add(Entry("record", result.key, replace(record, parent_id=parent)))
        error = (
            f"it was created as {result.id}, but stands below {parent}, not below {intent.parent_id}."
            " Nothing was deleted: the next plan moves it."
        )
        return replace(result, status="failed", error=error)

    async def _made_all_the_same(
        self, result: Result, strangers: Mapping[str, list[AccountId]]
    ) -> Result | None:
        """Whether a create that failed left an account behind: exactly one that is surely its own."""
        intent, ids = self.sent[result.n or 0], self._like(result, strangers)
        read = [await read_account(self.writes.client, current, {}) for current in ids]
        found = [account for account in read if account is not None]
        if result.n in self.taken:  # or it is somebody else's
            found = [account for account in found if _has(account, self.taken[result.n])]
        if len(found) == 1 and fits(intent, found[0]):
            record = first_record(found[0], intent)
            self.writes.recorder.add(Entry("record", result.key, record))
            error = f"{result.error} Yet it was created, as {record.id}, and is in state now: apply again."
            return replace(result, id=record.id, error=error)
        return None

    def _is_whole(self, rows: Container[AccountId], results: Sequence[Result]) -> bool:
        """Whether a list has all accounts that must be there: one that lacks some says nothing of others."""
        deleted = {result.id for result in results if result.action is Action.DELETE}
        there = self.known - deleted - {self.writes.plan.root}
        return all(current in rows for current in there)

    def _settle_refused(
        self, creates: Sequence[Result], strangers: Mapping[str, list[AccountId]]
    ) -> None:
        """Nothing is open of what the platform said no to, if nothing is there that is like it.

        Nor if what is there is somebody else's, who took the realm or the name.
        """
        for result in creates:
            known = result.n in self.taken or not self._like(result, strangers)
            if result.n in self.refused and known:
                self.writes.recorder.add(Entry("settle", result.key))

    def _like(self, result: Result, strangers: Mapping[str, list[AccountId]]) -> list[AccountId]:
        """The new accounts that are like the one of a create."""
        intent = self.sent[result.n or 0]
        return strangers.get(_mark(intent.realm, intent.parent_id, intent.name), [])


def _has(account: LiveAccount, data: JsonObject) -> bool:
    """Whether an account has nothing else than a create sent; the platform may have kept less."""
    return all(
        (found := value_at(account.document, path)) is ABSENT
        or same(("settings", *path), value, found)
        for path, value in leaves(data)
    )


def _data(operation: Operation) -> JsonObject:
    """The document that a create sends."""
    data = value_at(reveal(operation.body), ("data",))
    return data if isinstance(data, dict) else {}


def _strangers(rows: Iterable[Row], known: AbstractSet[AccountId]) -> dict[str, list[AccountId]]:
    """The accounts that were not known before, by realm, and by parent and name."""
    found: dict[str, list[AccountId]] = {}
    for row in rows:
        if row.id not in known:
            for realm in (row.realm, None):
                found.setdefault(_mark(realm, row.parent_id, row.name), []).append(row.id)
    return found


def _mark(realm: str | None, parent: AccountId, name: str) -> str:
    """By what an account is recognised: its realm; without one, its place and name."""
    return f"name {parent} {name}" if realm is None else f"realm {normal_realm(realm)}"
