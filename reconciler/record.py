"""Makes durable what a run learned, and says what of an account may be claimed.

State is told what was read back, never what was asked for. Source: docs/state.md.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.core import diff
from reconciler.core.state import AccountRecord, Entry, State, fold

if TYPE_CHECKING:
    from reconciler.backends.backend import Backend
    from reconciler.core.live import LiveAccount
    from reconciler.core.plan import Change
    from reconciler.core.values import FieldPath


class Recorder:
    """Makes entries durable, those that come together in one go."""

    def __init__(self, backend: Backend, base: State) -> None:
        self.entries: list[Entry] = []
        self._backend = backend
        self._base = base
        self._waiting: list[Entry] = []
        self._writing = asyncio.Lock()

    def add(self, *entries: Entry) -> None:
        """Keep `entries`; they become durable with the next that must be."""
        self._waiting += entries

    async def durable(self, *entries: Entry) -> None:
        """Keep `entries` and return when they, and all before, are durable. Raises: Unwritable.

        What has begun to be written is written to its end, also for who is cancelled meanwhile:
        nobody may write beside it.
        """
        self.add(*entries)
        async with self._writing:
            batch, self._waiting = self._waiting, []
            if not batch:
                return
            self.entries += batch
            writing = asyncio.ensure_future(
                asyncio.to_thread(self._backend.journal, self._base, batch)
            )
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                while not writing.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([writing])
                raise

    def state(self) -> State:
        """The state after all that was kept."""
        return fold(self._base, [*self.entries, *self._waiting])


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
