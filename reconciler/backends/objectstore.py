"""State in an object store: one log of records, which decides, and a lock, which keeps the peace.

A record of the log (`objectlog.py`) is created if none has its number, and never changed. So writers
agree on one order, whoever they are and whenever they wake up:

- Who takes over from a holder that has not let go first seals the log: creates the next record. The
  old holder finds that number taken at its next write, and has lost. If its record was there
  first, the new holder reads it and seals behind it. A seal is never removed.
- `save` is done when its record is created. Then its text is put in place of `KEY`, on the condition
  that this is as it was read, then the lock says so, then what came before is removed. A run that
  ends in between is finished by the next one, with the same text; of two that do it, one finds
  the text there already. A put that comes late finds another version and does nothing: no text
  comes twice, because serials rise.
- Who has lost can't change the lock either, which is only written on condition. It may remove
  records that were done with while it was the holder: their numbers are not used again.
- Who took over, stood still, and was taken over itself, finds a record with a later fence when it
  reads the log, or its number taken.
- Who reads without the lock begins again if the lock says, afterwards, that records were done with.

The lock is a lease: who waits watches the heartbeat by a clock of its own. A holder that does not
know what became of a write of its own does not let go: it might come late, and must be sealed off.

Source: docs/state.md, "Object stores".
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from reconciler.backends.backend import Generation, Lost, Unwritable
from reconciler.backends.codec import PLAIN, Codec
from reconciler.backends.integrity import DISCARDED, Witness, check_next
from reconciler.backends.lease import (
    TIMING,
    Pulse,
    Timing,
    Watch,
    beating,
    known_dead,
    now,
    this_run,
)
from reconciler.backends.objectlog import Lock, Place, Record, Saved, digest_of, tombstone
from reconciler.backends.objects import Unavailable
from reconciler.core.state import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore import UpdateVersion

    from reconciler.backends.backend import Holder
    from reconciler.backends.objects import Object, Objects
    from reconciler.core.state import Entry, State


class ObjectStoreBackend:
    """Keeps state in an object store. `key`: the name of the object."""

    def __init__(
        self, objects: Objects, key: str, codec: Codec = PLAIN, timing: Timing = TIMING
    ) -> None:
        self._place = Place(objects, key, codec)
        self._timing = timing

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        place = self._place
        with place.reading():
            lock, _ = place.lock()
            while True:
                found = self._read_by(lock)
                before, (lock, _) = lock, place.lock()
                if (lock.next, lock.saved) == (before.next, before.saved):
                    break
        if isinstance(found, Unusable):
            raise found
        return found

    def _read_by(self, lock: Lock) -> State | Unusable | None:
        """The state, or why it can't be trusted, if that lock is not out of date."""
        place = self._place
        try:
            return place.view(lock, place.state(), place.records(lock.next)).state
        except Unusable as error:
            return error

    @contextmanager
    def lock(self, run: str, command: str, timeout: float) -> Iterator[ObjectStoreWriter]:
        """Be the only writer. Raises: Locked, Unwritable."""
        place = self._place
        with place.writing():
            place.objects.probe(f"{place.key}.probe")
            held = _acquire(place, this_run(run, command), Watch(self._timing, timeout))
        try:
            with beating(held.beat, self._timing) as pulse:
                writer = ObjectStoreWriter(held, pulse)
                writer.recover()
                yield writer
        finally:
            held.release()

    def holder(self) -> Holder | None:
        """Who holds the lock now, dead or alive; None if nobody does."""
        with self._place.reading():
            return self._place.lock()[0].holder

    def unlock(self, run: str) -> None:
        """Take the lock away from that run, if it still has it. Raises: Unwritable."""
        place = self._place
        with place.writing():
            while True:
                lock, version = place.lock()
                if lock.holder is None or lock.holder.run != run:
                    return
                held = _take(place, lock, version, this_run(f"unlock-{run}", "reconciler unlock"))
                if held is not None:  # else it has given a sign of life
                    held.open()
                    held.release()
                    return

    def history(self) -> Sequence[Generation]:
        """The generations that are kept, the latest first."""
        with self._place.reading():
            before = self._place.lock()[0].saved[1:]
        return [Generation(old.witness.serial, old.at) for old in before]

    def generation(self, serial: int) -> State:
        """A generation that is kept, or what was saved last, from the log. Raises: Unusable."""
        place = self._place
        with place.reading():
            saved = [old for old in place.lock()[0].saved if old.witness.lineage]
            for old in saved:
                if old.witness.serial == serial:
                    return place.saved(old)
            kept = ", ".join(str(old.witness.serial) for old in saved)
            raise Unusable(f"no generation {serial} is kept. There are: {kept or 'none'}")


def _acquire(place: Place, me: Holder, watch: Watch) -> _Held:
    """Become the holder. Raises: Locked, Unavailable."""
    while True:
        lock, version = place.lock()
        other = lock.holder
        if other is None or known_dead(other) or watch.given_up(other):
            if held := _take(place, lock, version, me):
                return held
        else:
            watch.wait(other)


def _take(place: Place, lock: Lock, version: UpdateVersion | None, me: Holder) -> _Held | None:
    """Become the holder after what `lock` says; None if it says so no more. Raises: Unavailable."""
    fence = lock.fence if version else max((r.fence for r in place.records(1)), default=0)
    me = replace(me, fence=fence + 1)
    mine = replace(lock, fence=fence + 1, holder=me)
    new = place.objects.put(place.lock_path, mine.encode(), version)
    released = lock.holder is None and (version is not None or fence == 0)
    return _Held(place, me, (mine, new), released=released) if new else None


class _Held:
    """The lock and the log, as the holder of the lock has them."""

    def __init__(
        self, place: Place, me: Holder, lock: tuple[Lock, UpdateVersion], *, released: bool
    ) -> None:
        self.place = place
        self.lock, self._version = lock
        self._me = me
        self._mutex = threading.Lock()
        self._released = released
        self._next = self.lock.next
        self._removable: list[int] = []
        self._unsaved = False
        self._unsure = False

    @property
    def fence(self) -> int:
        """The number that no other holder has."""
        return self._me.fence

    # --- the lock ---

    def change(self, change: Callable[[Lock], Lock]) -> None:
        """Write the lock anew. Raises: Lost, Unavailable."""
        with self._mutex:
            lock = change(self.lock)
            while not (version := self._put(lock)):
                found, there = self.place.lock()
                mine = found.holder and (found.holder.run, found.fence) == (
                    self._me.run,
                    self.fence,
                )
                if not mine or there is None:
                    raise Lost.to(found.holder)
                self._version = there  # written by this run, which did not learn of it
            self.lock, self._version = lock, version

    def _put(self, lock: Lock) -> UpdateVersion | None:
        return self.place.objects.put(self.place.lock_path, lock.encode(), self._version)

    def beat(self) -> bool:
        """Give a sign of life; whether the lock is still held. Raises: Unwritable."""
        try:
            with self.place.writing():
                self.change(_with_sign_of_life)
        except Lost:
            return False
        return True

    def release(self) -> None:
        """Let go, unless a write may come late; what this can't do, the next run will."""
        if not self._unsure:
            done = self.lock.next if self._unsaved else self._next
            with suppress(Lost, Unavailable):
                self.change(lambda lock: replace(lock, holder=None, next=done))
                self._sweep()

    # --- the log ---

    def open(self) -> list[Record]:
        """The records that are not done with; nobody else adds to them any more.

        Raises: Lost, Unavailable.
        """
        records = self._seen(self.place.records(self._next))
        if not self._released:
            sealed_after = self._next
            self.append("sealed", lambda _: b"")
            records += self._seen(self.place.fetch(range(sealed_after, self._next)))
        return records

    def _seen(self, records: list[Record]) -> list[Record]:
        if any(record.fence > self.fence for record in records):
            raise Lost.to(self.place.lock()[0].holder)
        self._unsaved = self._unsaved or any(record.kind != "sealed" for record in records)
        self._removable += [record.number for record in records if record.kind == "entries"]
        self._next = max([self._next, *(record.number + 1 for record in records)])
        return records

    def append(
        self,
        kind: Literal["entries", "saved", "sealed"],
        payload: Callable[[int], bytes],
        witness: Witness | None = None,
        before: tuple[str, ...] = (),
    ) -> Record:
        """Add a record, whose payload its number decides. Raises: Lost, Unavailable."""
        place, me = self.place, self._me
        while True:
            number = self._next
            record = Record(
                number, kind, self.fence, me.run, now(), payload(number), witness, before
            )
            self._unsure = True
            created = place.objects.put(place.path(number), record.encode(), None)
            self._unsure = False
            if created:
                self._next += 1
                self._unsaved = self._unsaved or kind == "saved"
                return record
            self._pass(number, sealing=kind == "sealed")

    def _pass(self, number: int, *, sealing: bool) -> None:
        """Go on behind a record that came first. Raises: Lost, Unavailable."""
        for found in self.place.fetch([number]):
            mine = (found.run, found.fence) == (self._me.run, self.fence)
            if mine or (sealing and found.fence < self.fence):
                self._next += 1
                return
        raise Lost.to(self.place.lock()[0].holder)

    def record(self, base: State, entries: Sequence[Entry]) -> None:
        """Add entries to the log. Raises: Lost, Unavailable."""
        codec = self.place.codec
        added = self.append("entries", lambda number: codec.encode_record(base, number, entries))
        self._removable.append(added.number)
        self._unsaved = self._unsaved or bool(entries)

    def done_with(self, saved: Record | None) -> None:
        """Say in the lock that the log up to `saved`, else all of it, is done with.

        Raises: Lost, Unavailable.
        """
        if saved is None or saved.witness is None:
            self.change(lambda lock: replace(lock, next=self._next))
        else:
            kept = Saved(saved.number, saved.at, saved.witness, digest_of(saved.payload))
            before = self.lock.saved
            self.change(lambda lock: lock.after(kept))
            self._removable += [old.number for old in before if old not in self.lock.saved]
        self._unsaved = False
        self._sweep()

    def _sweep(self) -> None:
        """Remove the records that are done with. Seals stay, and the states that are kept."""
        done = [number for number in self._removable if number < self.lock.next]
        self.place.objects.remove([self.place.path(number) for number in done])
        self._removable = [number for number in self._removable if number >= self.lock.next]


class ObjectStoreWriter:
    """The holder of the lock on a state in an object store."""

    def __init__(self, held: _Held, pulse: Pulse) -> None:
        self._held = held
        self._pulse = pulse
        self._place = held.place
        self._state: State | None = None
        self._problem: Unusable | None = None
        self._version: UpdateVersion | None = None
        self._before: tuple[str, ...] = ()

    def check(self) -> None:
        """Make sure that the lock is not known to be lost. Raises: Lost."""
        self._pulse.check()

    def recover(self) -> None:
        """Finish what the run before left open. Raises: Unwritable, Lost."""
        place, held = self._place, self._held
        with place.writing():
            records = held.open()
            there = self._look()
            try:
                view = place.view(held.lock, there, records)
                self._state = view.state
                if view.state and (view.changed or not (view.begun or held.lock.saved)):
                    self._save(view.state)
                elif view.begun:
                    self._finish(view.begun)
            except Unusable as error:
                held.change(_with_sign_of_life)  # who has lost the lock is misled by what it says
                self._problem = error

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        if self._problem is not None:
            raise self._problem
        return self._state

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Add a record to the log. Raises: Unwritable, Lost, Unusable."""
        self.read()
        with self._recording():
            self._held.record(base, entries)

    def save(self, state: State) -> None:
        """Add the state to the log, and put it in its place. Raises: Unwritable, Lost, Unusable."""
        check_next(self.read(), state)
        with self._recording():
            if state == self._state:
                self._held.done_with(None)
            else:
                self._save(state)
        self._state = state

    def replace(self, state: State) -> None:
        """Save the state whatever is there. Raises: Unwritable, Lost, Unusable."""
        with self._recording():
            self._save(state)
        self._state, self._problem = state, None

    def discard(self) -> None:
        """Begin anew. Raises: Unwritable, Lost, Unusable."""
        with self._recording():
            self._finish(self._held.append("saved", tombstone, DISCARDED, self._before))
        self._state, self._problem = None, None

    @contextmanager
    def _recording(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            raise Unwritable(
                f"{self._place.named(self._place.key)}: {error}. What this run could record is in the journal"
                " beside it, and the next run takes it up"
            ) from error

    def _save(self, state: State) -> None:
        codec = self._place.codec
        text, witness = codec.encode(state), codec.witness(state)
        self._finish(self._held.append("saved", lambda _: text, witness, self._before))

    def _finish(self, saved: Record) -> None:
        """Be done with a save that the log holds. Raises: Lost, Unavailable, Unusable."""
        try:
            self._put(saved)
            self._held.done_with(saved)
        except (Unavailable, Unusable) as error:
            what = f"{self._place.named(self._place.key)}: a save of this run did not end"
            self._problem = Unusable(f"{what} ({error})")
            raise

    def _put(self, saved: Record) -> None:
        """Put its text in the state's place. Raises: Lost, Unavailable, Unusable."""
        place, digest = self._place, digest_of(saved.payload)
        while True:
            self._before += (digest,)  # from now on it may be there
            version = place.objects.put(place.key, saved.payload, self._version)
            if version is not None:
                break
            there = self._look()
            self._held.change(_with_sign_of_life)
            place.saved_over(there, saved)
        self._version, self._before = version, (digest,)

    def _look(self) -> Object | None:
        """What lies in the state's place, which is to be replaced. Raises: Unavailable."""
        there = self._place.state()
        self._version = there.version if there else None
        self._before = (digest_of(there.body),) if there else ()
        return there


def _with_sign_of_life(lock: Lock) -> Lock:
    return replace(lock, holder=replace(lock.holder, heartbeat=now()) if lock.holder else None)
