"""State in PostgreSQL: one database for the states of many projects, each by its name.

A lock is a row with the holder, a fence and a sign of life, all judged by the server's clock. Every
write is one transaction that takes that row before it ends: it finds out there whether the fence is
still its own, and keeps everybody else away. A connection that was lost is made again, and if the
answer to a write was lost with it, the row says whether it was done.

Source: docs/state.md, "PostgreSQL".
"""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import psycopg

from reconciler.backends.backend import Generation, Holder, Locked, Lost, Unwritable
from reconciler.backends.codec import PLAIN, Codec
from reconciler.backends.integrity import check_next
from reconciler.backends.lease import TIMING, Pulse, Timing, beating, known_dead, this_run
from reconciler.backends.postgres_connection import READ, WRITE, Database, is_lost, parsed
from reconciler.backends.postgres_tables import Found, Noted, Tables
from reconciler.core.state import Entry, State, Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import LiteralString

    from reconciler.backends.postgres_connection import Connection
    from reconciler.backends.postgres_tables import Changes

    Work = Callable[[Connection, Noted], Noted]
    Send = Callable[[Connection], None]

T = TypeVar("T")

_KEPT = "What this run recorded before is kept there, and is taken up by the next."


class PostgresBackend:
    """Keeps state in a PostgreSQL database."""

    def __init__(
        self,
        url: str,
        environment: Mapping[str, str],
        codec: Codec = PLAIN,
        timing: Timing = TIMING,
    ) -> None:
        """Raises: ValueError with the reason if that is no place to keep state in."""
        self._database, name = parsed(url, environment, timing.lease)
        self._tables = Tables(name, codec)
        self._timing = timing

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        with self._database.reading() as connection:
            return self._tables.find(connection).state

    @contextmanager
    def lock(self, run: str, command: str, timeout: float) -> Iterator[PostgresWriter]:
        """Be the only writer. Raises: Locked, Unwritable."""
        lock = _Lock(self._database, self._tables, self._timing, this_run(run, command))
        with closing(lock):
            lock.acquire(timeout)
            try:
                with beating(lock.beat, self._timing) as pulse:
                    yield PostgresWriter(lock, pulse)
            finally:
                lock.release()

    def holder(self) -> Holder | None:
        """Who holds the lock now, dead or alive; None if nobody does. Raises: Unusable."""
        with self._database.reading() as connection:
            made = self._tables.are_made(connection)
            return self._tables.holder(connection) if made else None

    def unlock(self, run: str) -> None:
        """Take the lock away from that run, if it still has it. Raises: Unwritable."""
        with (
            self._database.telling(Unwritable),
            closing(self._database.connect()) as connection,
            self._database.transaction(connection, WRITE),
        ):
            if self._tables.are_made(connection):
                self._tables.free(connection, run)

    def history(self) -> Sequence[Generation]:
        """The generations that are kept, the latest first. Raises: Unusable."""
        with self._database.reading() as connection:
            return self._tables.history(connection)

    def generation(self, serial: int) -> State:
        """A generation that is kept. Raises: Unusable."""
        with self._database.reading() as connection:
            return self._tables.generation(connection, serial)


class _Done(Exception):
    """A write was done before, and only the answer was lost: what was sent again is taken back."""


def _nothing(_: Connection) -> None:
    """Nothing large is to be sent."""


class _Lock:
    """The lock as its holder has it, and the connection by which it is held and written."""

    def __init__(self, database: Database, tables: Tables, timing: Timing, me: Holder) -> None:
        self.database = database
        self.tables = tables
        self._timing = timing
        self._me = me
        self._fence = 0
        self._connection: Connection | None = None
        self._mutex = threading.Lock()

    def acquire(self, timeout: float) -> None:
        """Become the holder. Raises: Locked, Unwritable."""
        until = time.monotonic() + timeout
        self._enter()
        dead = 0
        while (holder := self._take(dead)) is not self._me:
            if holder is not None and holder.fence != dead and known_dead(holder):
                dead = holder.fence
            elif time.monotonic() >= until:
                raise Locked(holder)
            else:
                time.sleep(self._timing.poll)

    def _enter(self) -> None:
        """Make sure that there is a row to hold. At first use, make the tables. Raises: Unwritable."""

        def enter(connection: Connection) -> None:
            if not self.tables.are_made(connection):
                self.tables.make(connection)
            self.tables.enter(connection)

        with self.database.telling(Unwritable):
            self._repeat(enter, patience=0)

    def _take(self, dead: int) -> Holder | None:
        """Take the lock, if nobody has it, or one who is silent or has the fence `dead`.

        Answers who has it then. Raises: Unwritable.
        """
        write = uuid4().hex

        def take(connection: Connection) -> Holder | None:
            fence = self.tables.take(connection, self._me, self._timing.lease, dead, write)
            if fence is None:
                return self.tables.holder(connection)
            self._fence = fence
            return self._me

        with self.database.telling(Unwritable):
            try:
                return self._repeat(take, self._timing.lease)
            except psycopg.errors.LockNotAvailable:  # in a write that takes longer than a lease
                return self._repeat(self.tables.holder, self._timing.lease)

    def read(self) -> Found:
        """What is there. Raises: Unusable."""
        with self.database.telling(Unusable):
            return self._repeat(self.tables.find, self._timing.lease, READ)

    def write(self, work: Work, send: Send = _nothing) -> None:
        """Do `send` and `work`, if the lock is still held: wholly and durably, or not at all.

        `send` is for what is large: who stands still in the middle of a message to the server can't
        be thrown out, so the row of the lock must still be free then. `work` is told what is noted
        in that row, and answers what shall be. Raises: Unwritable, Lost.
        """
        self._write(work, send, self._timing.lease)

    def _write(self, work: Work, send: Send, patience: float) -> None:
        write = uuid4().hex

        def once(connection: Connection) -> None:
            send(connection)
            held = self.tables.hold(connection, self._me.run, self._fence)
            if held is None:
                raise Lost.to(self.tables.holder(connection))
            written, noted = held
            if written == write:
                raise _Done
            self.tables.note(connection, write, work(connection, noted))

        with self.database.telling(Unwritable, _KEPT), suppress(_Done):
            self._repeat(once, patience)

    def beat(self) -> bool:
        """Give a sign of life; whether the lock is still held. Raises: Unwritable."""
        try:
            self._write(lambda _, noted: noted, _nothing, self._timing.poll)
        except Lost:
            return False
        return True

    def release(self) -> None:
        """Let go. Where that can't be told to the server, the lease runs out."""
        with suppress(psycopg.Error):
            self._repeat(
                lambda connection: self.tables.free(connection, self._me.run, self._fence),
                self._timing.poll,
            )

    def _repeat(
        self, work: Callable[[Connection], T], patience: float, mode: LiteralString = WRITE
    ) -> T:
        """Do `work` in a transaction; again when the connection is lost, for `patience` seconds."""
        until: float | None = None
        with self._mutex:
            while True:
                try:
                    with self.database.transaction(self._open(), mode) as connection:
                        return work(connection)
                except psycopg.Error as error:
                    self.close()
                    until = until or time.monotonic() + patience
                    if not is_lost(error) or time.monotonic() >= until:
                        raise
                time.sleep(self._timing.poll)

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self.database.connect()
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresWriter:
    """The holder of the lock on a state in PostgreSQL."""

    def __init__(self, lock: _Lock, pulse: Pulse) -> None:
        self._lock = lock
        self._tables = lock.tables
        self._pulse = pulse
        self._known: Found | None = None

    def check(self) -> None:
        """Make sure that the lock is not known to be lost. Raises: Lost."""
        self._pulse.check()

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        self._known = None
        self._known = self._lock.read()
        return self._known.state

    def _look(self) -> Found:
        """What is there, before it is followed by something else. Raises: Unusable."""
        if self._known is None:
            self._known = self._lock.read()
        return self._known

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Write a record. Raises: Unwritable, Lost, Unusable."""
        if not entries:
            self._lock.write(self._check_rights)
            return
        saved = self._look().saved
        if saved is None or base.serial != saved.state.serial:
            self.save(base)  # it holds what an interrupted run left in its journal
        self._lock.write(
            lambda connection, noted: self._tables.add_record(connection, noted, base, entries)
        )

    def _check_rights(self, connection: Connection, noted: Noted) -> Noted:
        """Raises: Unwritable if what is to be written would be refused."""
        missing = self._tables.missing_rights(connection)
        if missing:
            raise Unwritable(self._lock.database.lacks(", ".join(missing)))
        return noted

    def save(self, state: State) -> None:
        """Write the accounts that changed, and the rest. Raises: Unwritable, Lost, Unusable."""
        known = self._look()
        check_next(known.state, state)
        if known.saved and state == known.state and state.serial == known.saved.state.serial:
            self._lock.write(self._tables.drop_journal)
            return
        saved = known.saved
        self._replace(
            self._tables.changes(saved, state),
            lambda noted: saved is None or noted.is_of(saved.state),
        )

    def replace(self, state: State) -> None:
        """Save a state whatever is there. Raises: Unwritable, Lost."""
        self._settle()
        self._replace(self._tables.changes(None, state), lambda _: True)

    def _replace(self, changes: Changes, fits: Callable[[Noted], bool]) -> None:
        """Save `changes`, if they fit to what is there."""
        number = 0

        def send(connection: Connection) -> None:
            nonlocal number
            number = self._tables.send(connection, changes)

        def put(connection: Connection, noted: Noted) -> Noted:
            if not fits(noted):
                raise Unusable("somebody else changed it during this run")
            return self._tables.put(connection, changes, number)

        self._lock.write(put, send)
        self._known = Found(changes.after, changes.after.state)

    def discard(self) -> None:
        """Begin anew. Raises: Unwritable, Lost."""
        self._settle()
        self._lock.write(lambda connection, _: self._tables.put_away(connection))
        self._known = Found()

    def _settle(self) -> None:
        """Fold the journal in, if there is one to be trusted: a generation has none."""
        with suppress(Unusable):
            known = self.read()
            if known is not None:
                self.save(known)
