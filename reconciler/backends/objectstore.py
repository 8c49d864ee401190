"""State in an object store: one log of records, which decides, and a lock, which keeps the peace.

`KEY` is the state, as everybody reads it. `KEY.journal/NUMBER` are records, one object each, numbered
without end: what a run made sure of (`entries`), a whole state (`saved`), the mark of a run that
took over (`sealed`). `KEY.lock` says who holds the lock, which record is the first that is not done
with, and which records hold the states that were saved last: so they are the generations, too.

A record is created if none has its number, and never changed. So writers agree on one order,
whoever they are and whenever they wake up:

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
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

from reconciler.backends.backend import Generation, Holder, Lost, Unwritable
from reconciler.backends.codec import PLAIN, Codec, checked_line, read_checked_line
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
from reconciler.backends.objects import Object, Objects, Unavailable
from reconciler.core.state import Entry, State, Unusable, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore import UpdateVersion

GENERATIONS: Final = 10
_TOMBSTONE: Final = b'{"discarded": '
"""How the object begins that lies in the state's place when it was discarded."""


@dataclass(frozen=True, slots=True)
class _Saved:
    """A state that was saved: the record that holds its text, and what to remember of it.

    `digest`: SHA-256 of the text.
    """

    number: int
    at: str
    witness: Witness
    digest: str

    def check(self, text: bytes) -> None:
        """Raises: Unusable if `text` is not what was saved."""
        if _digest(text) != self.digest:
            raise Unusable("it is not what was saved here last. Put the right one back")


@dataclass(frozen=True, slots=True)
class _Lock:
    """What `KEY.lock` says. `next`: the first record that is not done with; `saved`: latest first."""

    fence: int = 0
    holder: Holder | None = None
    next: int = 1
    saved: tuple[_Saved, ...] = ()

    @property
    def last(self) -> Witness | None:
        """What was saved last; None if nothing is known."""
        return self.saved[0].witness if self.saved else None

    def after(self, saved: _Saved) -> _Lock:
        """The lock when a state was saved, and the log before it is done with."""
        before = [old for old in self.saved if old.witness.lineage][:GENERATIONS]
        return replace(self, next=saved.number + 1, saved=(saved, *before))


@dataclass(frozen=True, slots=True)
class _Record:
    """A record of the log. `payload`: of `entries`, a record of the codec; of `saved`, the text.

    Of `saved`: `witness`, what to remember; `before`, digests of what may lie in the state's place
    until the text does.
    """

    number: int
    kind: Literal["entries", "saved", "sealed", "damaged"]
    fence: int
    run: str
    at: str
    payload: bytes = field(repr=False)
    witness: Witness | None = None
    before: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """A line that says what it is, then the payload."""
        line = checked_line(
            {
                "kind": self.kind,
                "fence": self.fence,
                "run": self.run,
                "at": self.at,
                "saved": asdict(self.witness) if self.witness else None,
                "before": [*self.before],
            }
        )
        return line + b"\n" + self.payload


@dataclass(frozen=True, slots=True)
class _View:
    """What the log and the state say together.

    `begun`: a save that may not be finished. `changed`: by entries, after what was saved.
    """

    state: State | None
    begun: _Record | None
    changed: bool


class ObjectStoreBackend:
    """Keeps state in an object store. `key`: the name of the object."""

    def __init__(
        self, objects: Objects, key: str, codec: Codec = PLAIN, timing: Timing = TIMING
    ) -> None:
        self._place = _Place(objects, key, codec, timing)

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

    def _read_by(self, lock: _Lock) -> State | Unusable | None:
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
            held = place.acquire(this_run(run, command), timeout)
        try:
            with beating(held.beat, place.timing) as pulse:
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
                held = place.take(lock, version, this_run(f"unlock-{run}", "reconciler unlock"))
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


class _Place:
    """The objects of one state, and what they say, whoever looks."""

    def __init__(self, objects: Objects, key: str, codec: Codec, timing: Timing) -> None:
        self.objects = objects
        self.key = key
        self.codec = codec
        self.timing = timing
        self.lock_path = f"{key}.lock"
        self._journal = f"{key}.journal"

    def path(self, number: int) -> str:
        """Where a record is."""
        return f"{self._journal}/{number:012d}"

    def named(self, path: str) -> str:
        """How people are told of an object."""
        return f"{self.objects.name}/{path}"

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What it means to who reads that the store can't be used."""
        try:
            yield
        except Unavailable as error:
            raise Unusable(f"{self.named(self.key)}: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What it means to who writes that the store can't be used."""
        try:
            yield
        except Unavailable as error:
            raise Unwritable(f"{self.named(self.key)}: {error}") from error

    # --- what is there ---

    def state(self) -> Object | None:
        """What lies in the state's place. Raises: Unavailable."""
        return self.objects.get(self.key)

    def lock(self) -> tuple[_Lock, UpdateVersion | None]:
        """The lock, and its version if there is one. Raises: Unavailable."""
        there = self.objects.get(self.lock_path)
        if there is None:
            return _Lock(), None
        try:
            return _lock_from(there.body), there.version
        except (KeyError, TypeError, Unusable) as error:
            raise Unavailable(
                f"{self.named(self.lock_path)} is damaged ({error}). If no run is under way, remove it"
            ) from error

    def records(self, first: int) -> list[_Record]:
        """The records from `first` on, by number. Raises: Unavailable."""
        names = self.objects.names(self._journal, f"{first - 1:012d}")
        return self.fetch([int(name) for name in names if name.isdecimal()])

    def fetch(self, numbers: Sequence[int]) -> list[_Record]:
        """Those of the records that there are. Raises: Unavailable."""
        found = self.objects.get_all([self.path(number) for number in numbers])
        return [
            _record_from(n, there.body) for n, there in zip(numbers, found, strict=True) if there
        ]

    def saved(self, saved: _Saved) -> State:
        """A state that was saved, from its record. Raises: Unavailable, Unusable."""
        there = self.objects.get(self.path(saved.number))
        if there is None:
            raise Unusable(f"{self.named(self.path(saved.number))} is gone")
        return self._decoded(_record_from(saved.number, there.body))

    def _decoded(self, record: _Record) -> State:
        try:
            return self.codec.decode(record.payload, record.witness)
        except Unusable as error:
            raise Unusable(f"{self.named(self.path(record.number))}: {error}") from error

    # --- what it says ---

    def view(self, lock: _Lock, there: Object | None, records: Sequence[_Record]) -> _View:
        """What the state is. Raises: Unusable."""
        begun = next((record for record in reversed(records) if record.kind == "saved"), None)
        if begun is None:
            state, first = self._trusted(lock, there), lock.next
        else:
            state, first = self.saved_over(there, begun), begun.number + 1
        last = begun.witness if begun else lock.last
        entries = self._entries(state, last, [r for r in records if r.number >= first], first)
        after = fold(state, entries) if state else None
        return _View(after, begun, changed=after is not state)

    def saved_over(self, there: Object | None, begun: _Record) -> State | None:
        """The state that a save is about, which was begun on what is `there`. Raises: Unusable."""
        if there and _digest(there.body) not in (*begun.before, _digest(begun.payload)):
            raise Unusable(
                f"{self.named(self.key)}: it was changed by hand while a run was saving. Remove it to have"
                " what that run saved; or keep it, and save it anew by `reconciler state push --force`"
            )
        return self._decoded(begun) if begun.witness != DISCARDED else None

    def _trusted(self, lock: _Lock, there: Object | None) -> State | None:
        """What lies in the state's place. Raises: Unusable if it is not what was saved last."""
        try:
            if there is None or there.body.startswith(_TOMBSTONE):
                if lock.last:
                    lock.last.check_gone()
                return None
            state = self.codec.decode(there.body, lock.last)
            if lock.saved:
                lock.saved[0].check(there.body)
        except Unusable as error:
            serial = lock.last.serial if lock.last else 0
            kept = f". Serial {serial} is kept as a generation" if serial else ""
            raise Unusable(f"{self.named(self.key)}: {error}{kept}") from error
        return state

    def _entries(
        self, state: State | None, last: Witness | None, records: list[_Record], first: int
    ) -> list[Entry]:
        """What was recorded after `state`. Raises: Unusable if something of it is missing."""
        entries: list[Entry] = []
        for number, record in enumerate(records, first):
            path = self.named(self.path(number))
            if record.number != number:
                raise Unusable(f"{path} is gone, but there are records after it")
            if record.kind == "damaged":
                raise Unusable(f"{path} is damaged ({record.payload.decode()})")
            if record.kind == "entries":
                entries += self._recorded(state, last, record)
        return entries

    def _recorded(self, state: State | None, last: Witness | None, record: _Record) -> list[Entry]:
        """The entries of a record. Raises: Unusable if they are not about `state`."""
        path, number = self.named(self.path(record.number)), record.number
        found = None
        try:
            if state is not None:
                found = self.codec.decode_record(state, number, record.payload, last)
        except Unusable as error:
            raise Unusable(f"{path} is damaged ({error})") from error
        if found is None:
            raise Unusable(f"{path} goes with another state than is there")
        return found

    # --- the lock ---

    def acquire(self, me: Holder, timeout: float) -> _Held:
        """Become the holder. Raises: Locked, Unavailable."""
        watch = Watch(self.timing, timeout)
        while True:
            lock, version = self.lock()
            other = lock.holder
            if other is None or known_dead(other) or watch.given_up(other):
                if held := self.take(lock, version, me):
                    return held
            else:
                watch.wait(other)

    def take(self, lock: _Lock, version: UpdateVersion | None, me: Holder) -> _Held | None:
        """Become the holder after what `lock` says; None if it says so no more. Raises: Unavailable."""
        fence = lock.fence if version else max((r.fence for r in self.records(1)), default=0)
        me = replace(me, fence=fence + 1)
        mine = replace(lock, fence=fence + 1, holder=me)
        new = self.objects.put(self.lock_path, _encode_lock(mine), version)
        released = lock.holder is None and (version is not None or fence == 0)
        return _Held(self, me, (mine, new), released=released) if new else None


class _Held:
    """The lock and the log, as the holder of the lock has them."""

    def __init__(
        self, place: _Place, me: Holder, lock: tuple[_Lock, UpdateVersion], *, released: bool
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

    def change(self, change: Callable[[_Lock], _Lock]) -> None:
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
                    raise _lost(found.holder)
                self._version = there  # written by this run, which did not learn of it
            self.lock, self._version = lock, version

    def _put(self, lock: _Lock) -> UpdateVersion | None:
        return self.place.objects.put(self.place.lock_path, _encode_lock(lock), self._version)

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

    def open(self) -> list[_Record]:
        """The records that are not done with; nobody else adds to them any more.

        Raises: Lost, Unavailable.
        """
        records = self._seen(self.place.records(self._next))
        if not self._released:
            sealed_after = self._next
            self.append("sealed", lambda _: b"")
            records += self._seen(self.place.fetch(range(sealed_after, self._next)))
        return records

    def _seen(self, records: list[_Record]) -> list[_Record]:
        if any(record.fence > self.fence for record in records):
            raise _lost(self.place.lock()[0].holder)
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
    ) -> _Record:
        """Add a record, whose payload its number decides. Raises: Lost, Unavailable."""
        place, me = self.place, self._me
        while True:
            number = self._next
            record = _Record(
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
        there = self.place.objects.get(self.place.path(number))
        found = _record_from(number, there.body) if there else None
        mine = found and (found.run, found.fence) == (self._me.run, self.fence)
        earlier = found and found.fence < self.fence
        if not (mine or (sealing and earlier)):
            raise _lost(self.place.lock()[0].holder)
        self._next += 1

    def record(self, base: State, entries: Sequence[Entry]) -> None:
        """Add entries to the log. Raises: Lost, Unavailable."""
        codec = self.place.codec
        added = self.append("entries", lambda number: codec.encode_record(base, number, entries))
        self._removable.append(added.number)
        self._unsaved = self._unsaved or bool(entries)

    def done_with(self, saved: _Record | None) -> None:
        """Say in the lock that the log up to `saved`, else all of it, is done with.

        Raises: Lost, Unavailable.
        """
        if saved is None or saved.witness is None:
            self.change(lambda lock: replace(lock, next=self._next))
        else:
            kept = _Saved(saved.number, saved.at, saved.witness, _digest(saved.payload))
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
                if view.begun:
                    self._before += (_digest(view.begun.payload),)
                if view.state and (view.changed or not (view.begun or held.lock.saved)):
                    self._save(view.state)
                elif view.begun:
                    self._finish(view.begun)
                elif records:
                    held.done_with(None)
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
            self._finish(self._held.append("saved", _tombstone, DISCARDED, self._before))
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

    def _finish(self, saved: _Record) -> None:
        """Be done with a save that the log holds. Raises: Lost, Unavailable, Unusable."""
        try:
            self._put(saved)
            self._held.done_with(saved)
        except (Unavailable, Unusable) as error:
            what = f"{self._place.named(self._place.key)}: a save of this run did not end"
            self._problem = Unusable(f"{what} ({error})")
            raise

    def _put(self, saved: _Record) -> None:
        """Put its text in the state's place. Raises: Lost, Unavailable, Unusable."""
        place, digest = self._place, _digest(saved.payload)
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
        self._before = (_digest(there.body),) if there else ()
        return there


def _lost(holder: Holder | None) -> Lost:
    by = f" by {holder}" if holder else ""
    return Lost(f"The lock was lost: it was taken over{by}. Nothing was written since.")


def _with_sign_of_life(lock: _Lock) -> _Lock:
    return replace(lock, holder=replace(lock.holder, heartbeat=now()) if lock.holder else None)


def _digest(text: bytes) -> str:
    return sha256(text).hexdigest()


def _tombstone(number: int) -> bytes:
    return _TOMBSTONE + b"%d}\n" % number


def _encode_lock(lock: _Lock) -> bytes:
    return checked_line(asdict(lock)) + b"\n"


def _lock_from(text: bytes) -> _Lock:
    """Read a lock. Raises: Unusable, KeyError, TypeError."""
    document = read_checked_line(text.rstrip(b"\n"))
    holder = document["holder"]
    return _Lock(
        document["fence"],
        Holder(**holder) if holder else None,
        document["next"],
        tuple(
            _Saved(**(saved | {"witness": Witness(**saved["witness"])}))
            for saved in document["saved"]
        ),
    )


def _record_from(number: int, text: bytes) -> _Record:
    """Read a record. One that can't be read is of the kind `damaged`, and says why."""
    line, _, payload = text.partition(b"\n")
    try:
        document = read_checked_line(line)
        saved = document["saved"]
        return _Record(
            number,
            document["kind"],
            document["fence"],
            document["run"],
            document["at"],
            payload,
            Witness(**saved) if saved else None,
            tuple(document["before"]),
        )
    except (KeyError, TypeError, Unusable) as error:
        return _Record(number, "damaged", 0, "", "", str(error).encode())
