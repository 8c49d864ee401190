"""Makes durable what a run learned, and says what of an account may be claimed.

State is told what was read back, never what was asked for. Source: docs/state.md.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.backends.backend import Unwritable
from reconciler.core import diff
from reconciler.core.limits import limits_json
from reconciler.core.state import AccountRecord, Entry, State, fold

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from reconciler.backends.backend import StateWriter
    from reconciler.core.configuration import Declared
    from reconciler.core.live import LiveAccount
    from reconciler.core.plan import Change
    from reconciler.core.values import FieldPath


class Recorder:
    """Makes entries durable, those that come together in one go."""

    def __init__(self, writer: StateWriter, base: State) -> None:
        self.entries: list[Entry] = []
        self._writer = writer
        self._base = base
        self._waiting: list[Entry] = []
        self._writing = asyncio.Lock()
        self._failure: Unwritable | None = None

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
                with self._noted():
                    await asyncio.to_thread(self._writer.journal, self._base, batch)

    async def close(self) -> State | None:
        """Save all of it, when what is being written is. Returns it; None if it could not be saved."""
        async with self._writing:
            if not self.failure():
                state = fold(self._base, [*self.entries, *self._waiting])
                with suppress(Unwritable), self._noted():
                    self._writer.save(state)
                    return state
        return None

    def check(self) -> None:
        """Make sure that this run may still change anything. Raises: Unwritable."""
        with self._noted():
            self._writer.check()

    def failure(self) -> str:
        """Why nothing more can be recorded, and so nothing more may be changed; "" if it can."""
        with suppress(Unwritable):
            self.check()
        return "" if self._failure is None else str(self._failure)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Once state was not written, it is not tried again: the first reason is the one to tell."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except Unwritable as error:
            self._failure = error
            raise


def confirm(
    change: Change, record: AccountRecord | None, live: LiveAccount, state: State
) -> tuple[AccountRecord, tuple[FieldPath, ...]]:
    """The record of an account as it was read, and the declared leaves that are not so."""
    if change.declared is None:
        raise AssertionError("only a declared account is confirmed")
    held = {field.path for field in change.known}
    return claimed(change.declared, record, live, state, held)


def claimed(
    declared: Declared,
    record: AccountRecord | None,
    live: LiveAccount,
    state: State,
    held: Collection[FieldPath] = (),
) -> tuple[AccountRecord, tuple[FieldPath, ...]]:
    """The same of a declared account. `held`: known drift that is left alone."""
    applied, observed, missed = diff.confirmed(declared, record, live, state, held)
    parent = live.parent_id or (record.parent_id if record else live.id)
    fresh = AccountRecord(
        id=live.id,
        parent_id=record.parent_id if record and diff.PARENT in held else parent,
        reseller=live.reseller,
        applied=applied,
        observed=observed,
        etag=live.revision,
        updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        prevent_destroy=declared.lifecycle.prevent_destroy,
        safety=limits_json(declared.limits),
    )
    if record is not None and fresh == replace(
        record, updated_at=fresh.updated_at, etag=fresh.etag
    ):
        return record, missed
    return fresh, missed
