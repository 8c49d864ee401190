"""The log of a state in an object store: what its objects are, and what they say together.

`KEY` is the state, as everybody reads it. `KEY.journal/NUMBER` are records, one object each, numbered
without end: what a run made sure of (`entries`), a whole state (`saved`), the mark of a run that
took over (`sealed`). `KEY.lock` says who holds the lock, which record is the first that is not done
with, and which records hold the states that were saved last: so they are the generations, too.

The state is what the last record of a save says that is not done with, else what lies in `KEY`,
which must then be what the lock says was saved last; and the entries that come after.

Source: docs/state.md, "Object stores".
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

from reconciler.backends.backend import Holder, Unwritable
from reconciler.backends.codec import Codec, checked_line, read_checked_line
from reconciler.backends.integrity import DISCARDED, Witness
from reconciler.backends.objects import Object, Objects, Unavailable
from reconciler.core.state import Entry, State, Unusable, fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obstore import UpdateVersion

GENERATIONS: Final = 10
_TOMBSTONE: Final = b'{"discarded": '


@dataclass(frozen=True, slots=True)
class Saved:
    """A state that was saved: the record that holds its text, and what to remember of it.

    `digest`: SHA-256 of the text.
    """

    number: int
    at: str
    witness: Witness
    digest: str

    def check(self, text: bytes) -> None:
        """Raises: Unusable if `text` is not what was saved."""
        if digest_of(text) != self.digest:
            raise Unusable("it is not what was saved here last. Put the right one back")


@dataclass(frozen=True, slots=True)
class Lock:
    """What `KEY.lock` says. `next`: the first record that is not done with; `saved`: latest first."""

    fence: int = 0
    holder: Holder | None = None
    next: int = 1
    saved: tuple[Saved, ...] = ()

    @property
    def last(self) -> Witness | None:
        """What was saved last; None if nothing is known."""
        return self.saved[0].witness if self.saved else None

    def encode(self) -> bytes:
        """One line."""
        return checked_line(asdict(self)) + b"\n"

    def after(self, saved: Saved) -> Lock:
        """The lock when a state was saved, and the log before it is done with."""
        before = [old for old in self.saved if old.witness.lineage][:GENERATIONS]
        return replace(self, next=saved.number + 1, saved=(saved, *before))


@dataclass(frozen=True, slots=True)
class Record:
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
class View:
    """What the log and the state say together.

    `begun`: a save that may not be finished. `changed`: by entries, after what was saved.
    """

    state: State | None
    begun: Record | None
    changed: bool


class Place:
    """The objects of one state, and what they say, whoever looks."""

    def __init__(self, objects: Objects, key: str, codec: Codec) -> None:
        self.objects = objects
        self.key = key
        self.codec = codec
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

    def lock(self) -> tuple[Lock, UpdateVersion | None]:
        """The lock, and its version if there is one. Raises: Unavailable."""
        there = self.objects.get(self.lock_path)
        if there is None:
            return Lock(), None
        try:
            return _lock_from(there.body), there.version
        except (KeyError, TypeError, Unusable) as error:
            raise Unavailable(
                f"{self.named(self.lock_path)} is damaged ({error}). If no run is under way, remove it"
            ) from error

    def records(self, first: int) -> list[Record]:
        """The records from `first` on, by number. Raises: Unavailable."""
        names = self.objects.names(self._journal, f"{first - 1:012d}")
        return self.fetch([int(name) for name in names if name.isdecimal()])

    def fetch(self, numbers: Sequence[int]) -> list[Record]:
        """Those of the records that there are. Raises: Unavailable."""
        found = self.objects.get_all([self.path(number) for number in numbers])
        return [
            _record_from(n, there.body) for n, there in zip(numbers, found, strict=True) if there
        ]

    def saved(self, saved: Saved) -> State:
        """A state that was saved, from its record. Raises: Unavailable, Unusable."""
        for record in self.fetch([saved.number]):
            return self._decoded(record)
        raise Unusable(f"{self.named(self.path(saved.number))} is gone")

    def _decoded(self, record: Record) -> State:
        try:
            return self.codec.decode(record.payload, record.witness)
        except Unusable as error:
            raise Unusable(f"{self.named(self.path(record.number))}: {error}") from error

    # --- what it says ---

    def view(self, lock: Lock, there: Object | None, records: Sequence[Record]) -> View:
        """What the state is. Raises: Unusable."""
        begun = next((record for record in reversed(records) if record.kind == "saved"), None)
        if begun is None:
            state, first = self._trusted(lock, there), lock.next
        else:
            state, first = self.saved_over(there, begun), begun.number + 1
        last = begun.witness if begun else lock.last
        entries = self._entries(state, last, [r for r in records if r.number >= first], first)
        after = fold(state, entries) if state else None
        return View(after, begun, changed=after is not state)

    def saved_over(self, there: Object | None, begun: Record) -> State | None:
        """The state that a save is about, which was begun on what is `there`. Raises: Unusable."""
        if there and digest_of(there.body) not in (*begun.before, digest_of(begun.payload)):
            raise Unusable(
                f"{self.named(self.key)}: it was changed by hand while a run was saving. Remove it to have"
                " what that run saved; or keep it, and save it anew by `reconciler state push --force`"
            )
        return self._decoded(begun) if begun.witness != DISCARDED else None

    def _trusted(self, lock: Lock, there: Object | None) -> State | None:
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
        self, state: State | None, last: Witness | None, records: list[Record], first: int
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

    def _recorded(self, state: State | None, last: Witness | None, record: Record) -> list[Entry]:
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


def _lock_from(text: bytes) -> Lock:
    """Read a lock. Raises: Unusable, KeyError, TypeError."""
    document = read_checked_line(text.rstrip(b"\n"))
    holder = document["holder"]
    return Lock(
        document["fence"],
        Holder(**holder) if holder else None,
        document["next"],
        tuple(
            Saved(**(saved | {"witness": Witness(**saved["witness"])}))
            for saved in document["saved"]
        ),
    )


def _record_from(number: int, text: bytes) -> Record:
    """Read a record. One that can't be read is of the kind `damaged`, and says why."""
    line, _, payload = text.partition(b"\n")
    try:
        document = read_checked_line(line)
        saved = document["saved"]
        return Record(
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
        return Record(number, "damaged", 0, "", "", str(error).encode())


def tombstone(number: int) -> bytes:
    """What lies in the state's place when it was discarded by the record `number`."""
    return _TOMBSTONE + b"%d}\n" % number


def digest_of(text: bytes) -> str:
    """What tells a text from any other."""
    return sha256(text).hexdigest()
