"""Makes durable what a run learned, and says what of an account may be claimed.

State is told what was read back, never what was asked for. Source: docs/state.md.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.core import diff
from reconciler.core.state import AccountRecord, Entry, State, fold

if TYPE_CHECKING:
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


def confirm(
    change: Change, record: AccountRecord | None, live: LiveAccount, state: State
) -> tuple[AccountRecord, tuple[FieldPath, ...]]:
    """The record of an account as it was read, and the declared leaves that are not so."""
    if change.declared is None:
        raise AssertionError("only a declared account is confirmed")
    return claimed(change.declared, record, live, state)


def claimed(
    declared: Declared, record: AccountRecord | None, live: LiveAccount, state: State
) -> tuple[AccountRecord, tuple[FieldPath, ...]]:
    """The same of a declared account."""
    applied, observed, missed = diff.confirmed(declared, record, live, state)
    fresh = AccountRecord(
        id=live.id,
        parent_id=live.parent_id or (record.parent_id if record else live.id),
        reseller=live.reseller,
        applied=applied,
        observed=observed,
        etag=live.revision,
        updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        prevent_destroy=declared.lifecycle.prevent_destroy,
    )
    if record is not None and fresh == replace(
        record, updated_at=fresh.updated_at, etag=fresh.etag
    ):
        return record, missed
    return fresh, missed
