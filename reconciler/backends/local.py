"""State in a file.

`PATH` is the state, `PATH.journal` what a run made sure of since, `PATH.backup.SERIAL` are the
generations before, `PATH.lock` says who writes and what was saved last. All are readable by their
owner alone.

Who holds the lock has made `PATH.lock` anew and keeps the kernel's lock (`flock`) on it, which ends
with the process: so its death is known at once on the same machine. Its sign of life is the file's
time. Every change of any of the files happens in `PATH.mutex`, which is held for moments, and
begins with a look whether `PATH.lock` still names the writer. To take over is to replace
`PATH.lock` in the same mutex: a writer that was stopped finds another name there before it can
write, at whichever point it was stopped.

Source: docs/state.md.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from reconciler.backends import files
from reconciler.backends.backend import Generation, Holder, Lost, Unwritable
from reconciler.backends.codec import PLAIN, Codec, checked_line, is_whole, read_checked_line
from reconciler.backends.integrity import DISCARDED, Witness, check_next
from reconciler.backends.lease import TIMING, Pulse, Timing, Watch, beating, this_machine, this_run
from reconciler.core.state import Entry, State, Unusable, fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from reconciler.core.values import JsonObject

GENERATIONS: Final = 10
_UNREAD: Final = -1


@dataclass(frozen=True, slots=True)
class _Record:
    """What `PATH.lock` says. `fence`: of the last holder; `saved`: None if nothing is known."""

    fence: int = 0
    holder: Holder | None = None
    saved: Witness | None = None


class LocalBackend:
    """Keeps state in a file."""

    def __init__(self, path: Path, codec: Codec = PLAIN, timing: Timing = TIMING) -> None:
        self._place = _Place(path, codec, timing)

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        return self._place.read()[0]

    @contextmanager
    def lock(self, run: str, command: str, timeout: float) -> Iterator[LocalWriter]:
        """Be the only writer. Raises: Locked, Unwritable."""
        lock = self._place.acquire(this_run(run, command), timeout)
        try:
            with beating(lock.beat, self._place.timing) as pulse:
                writer = LocalWriter(lock, pulse)
                try:
                    yield writer
                finally:
                    writer.close()
        finally:
            lock.release()

    def holder(self) -> Holder | None:
        """Who holds the lock now, dead or alive; None if nobody does."""
        return self._place.record().holder

    def unlock(self, run: str) -> None:
        """Take the lock away from that run, if it still has it. Raises: Unwritable."""
        place = self._place
        with _unwritable(place.lock_path), place.mutex():
            record = place.record()
            if record.holder is not None and record.holder.run == run:
                os.close(place.put_record(replace(record, holder=None)))

    def history(self) -> Sequence[Generation]:
        """The generations that are kept, the latest first."""
        return self._place.history()

    def generation(self, serial: int) -> State:
        """A generation that is kept. Raises: Unusable."""
        return self._place.generation(serial)


class _Place:
    """The files of one state, and what is true of them whoever looks."""

    def __init__(self, path: Path, codec: Codec, timing: Timing) -> None:
        self.path = path
        self.journal_path = self.beside("journal")
        self.lock_path = self.beside("lock")
        self.new_lock_path = self.beside("lock.new")
        self.codec = codec
        self.timing = timing

    def beside(self, name: str) -> Path:
        """The path of another file of this state."""
        return self.path.with_name(f"{self.path.name}.{name}")

    def new_path(self, run: str) -> Path:
        """Where a run writes its new state before it is put in its place."""
        return self.beside(f"new.{run[:8]}")

    # --- the state ---

    def read(self) -> tuple[State | None, int]:
        """The state with its journal folded in, and the serial that it was saved with, 0 if never.

        The lock is read first and the state last, so that who saves meanwhile is never mistaken
        for damage: the state may only be newer than what the others say. Raises: Unusable.
        """
        last = self.record().saved
        journal = self._read(self.journal_path)
        text = self._read(self.path)
        if text is None:
            self._check_gone(last, journal)
            return None, 0
        try:
            state = self.codec.decode(text, last)
        except Unusable as error:
            raise Unusable(
                f"{self.path}: {error}. The generations before: {self.path.name}.backup.*"
            ) from error
        return fold(state, self._journalled(state, journal or b"", last)), state.serial

    def _check_gone(self, last: Witness | None, journal: bytes | None) -> None:
        """Raises: Unusable if there must be a state."""
        try:
            if last is not None:
                last.check_gone()
        except Unusable as error:
            raise Unusable(f"{self.path}: {error}") from error
        left = self.backups()[-1:] or ([self.journal_path] if journal else [])
        if last is None and left:
            raise Unusable(
                f"{self.path} is gone, but {left[0].name} is there. Restore a generation"
                " (`reconciler state restore`), or begin anew by `reconciler init --new-state`"
            )

    def _journalled(self, state: State, journal: bytes, last: Witness | None) -> list[Entry]:
        """The entries of a journal that goes with `state`; a torn end was never confirmed."""
        *lines, end = journal.split(b"\n")
        if lines and not end and _is_torn(lines[-1]):
            lines.pop()
        entries: list[Entry] = []
        for number, line in enumerate(lines, 1):
            entries += self._recorded(state, number, line, last)
        if not _is_cut(end):
            entries += self._recorded(state, len(lines) + 1, end.removesuffix(b"\0"), last)
        return entries

    def _recorded(
        self, state: State, number: int, line: bytes, last: Witness | None
    ) -> list[Entry]:
        try:
            return self.codec.decode_record(state, number, line, last) or []
        except Unusable as error:
            raise Unusable(f"{self.journal_path}:{number}: it is damaged ({error})") from error

    def _read(self, path: Path) -> bytes | None:
        try:
            return files.read(path)
        except OSError as error:
            raise Unusable(f"{path}: {files.why(error)}") from error

    # --- the generations ---

    def backups(self) -> list[Path]:
        """The generations that are kept, the oldest first."""
        found = self.path.parent.glob(f"{self.path.name}.backup.*")
        kept = [path for path in found if path.suffix[1:].isdigit()]
        return sorted(kept, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def history(self) -> list[Generation]:
        """The generations that are kept, the latest first."""
        return [
            Generation(int(path.suffix[1:]), _iso(path.stat().st_mtime))
            for path in reversed(self.backups())
        ]

    def backup_path(self, serial: int) -> Path:
        """Where a generation is kept."""
        return self.beside(f"backup.{serial:09d}")

    def keep_generation(self, serial: int) -> None:
        """Give the present state a second name, and drop the oldest of those. Raises: OSError."""
        _keep_as(self.path, self.backup_path(serial))
        for old in self.backups()[:-GENERATIONS]:
            old.unlink()

    def keep_damaged(self, fence: int) -> None:
        """Give what can't be read a second name: the state and its journal. Raises: OSError."""
        for path, name in ((self.path, "damaged"), (self.journal_path, "damaged-journal")):
            with suppress(FileNotFoundError):
                _keep_as(path, self.beside(f"{name}.{fence}"))

    def generation(self, serial: int) -> State:
        """A generation that is kept. Raises: Unusable."""
        path = self.backup_path(serial)
        text = self._read(path)
        if text is None:
            kept = ", ".join(str(generation.serial) for generation in self.history())
            raise Unusable(f"no generation {serial} is kept. There are: {kept or 'none'}")
        try:
            return self.codec.decode(text)
        except Unusable as error:
            raise Unusable(f"{path}: {error}") from error

    # --- the lock ---

    @contextmanager
    def mutex(self) -> Iterator[None]:
        """Be alone with the files, for moments. Raises: Unwritable."""
        path = self.beside("mutex")
        with ExitStack() as stack:
            with _unwritable(path):
                stack.enter_context(files.mutex(path, self.timing.lease))
            yield

    def record(self) -> _Record:
        """What the lock says. Raises: Unusable."""
        try:
            descriptor = files.opened(self.lock_path)
            if descriptor is None:
                return _Record()
            with os.fdopen(descriptor, "rb") as file:
                text, seen = file.read(), os.fstat(descriptor)
        except OSError as error:
            raise Unusable(f"{self.lock_path}: {files.why(error)}") from error
        if not text or text.startswith(b"{"):  # as version 0.1 left it
            return _Record()
        try:
            return _record_from(text, _iso(seen.st_mtime))
        except (KeyError, TypeError, Unusable) as error:
            raise Unusable(
                f"{self.lock_path}: it is damaged ({error}). If no run is under way, remove it"
            ) from error

    def acquire(self, me: Holder, timeout: float) -> _Lock:
        """Become the holder. Raises: Locked, Unwritable."""
        with _unwritable(self.path.parent):
            files.make_directory(self.path.parent)
        watch = Watch(self.timing, timeout)
        while True:
            with _unwritable(self.lock_path), self.mutex():
                record = self.record()
                held = record.holder
                if held is None or self._has_died(held) or watch.given_up(held):
                    mine = _Record(
                        record.fence + 1, replace(me, fence=record.fence + 1), record.saved
                    )
                    lock = _Lock(self, mine, self.put_record(mine))
                    self._clear(held)
                    return lock
            watch.wait(held)

    def _clear(self, dead: Holder | None) -> None:
        """Remove what a run left half written that is no longer the holder."""
        if dead is not None:
            self.new_path(dead.run).unlink(missing_ok=True)

    def _has_died(self, holder: Holder) -> bool:
        """Whether the holder ran on this machine and has ended, as the kernel says."""
        if holder.machine != this_machine():
            return False
        descriptor = files.opened(self.lock_path)
        if descriptor is None:
            return False
        try:
            return files.try_flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def put_record(self, record: _Record) -> int:
        """Replace the lock file, in the mutex. Returns what it is held by. Raises: OSError."""
        descriptor = self.prepare_record(record)
        try:
            self.new_lock_path.replace(self.lock_path)
            files.sync_directory(self.path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def prepare_record(self, record: _Record) -> int:
        """Write the next lock file beside the present one, held already. Raises: OSError."""
        descriptor = files.create(self.new_lock_path)
        try:
            files.try_flock(descriptor, fcntl.LOCK_EX)
            files.write(descriptor, checked_line(_record_json(record)) + b"\n")
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


class _Lock:
    """The lock as its holder has it."""

    def __init__(self, place: _Place, record: _Record, descriptor: int) -> None:
        self.place = place
        self._record = record
        self._descriptor = descriptor

    @property
    def run(self) -> str:
        """Who holds it."""
        return self._record.holder.run if self._record.holder else ""

    @property
    def fence(self) -> int:
        """The number that no other holder has."""
        return self._record.fence

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be alone with the files, and surely the holder. Raises: Lost, Unwritable."""
        with self.place.mutex():
            try:
                found = self.place.record()
            except Unusable as error:
                raise Unwritable(f"{error}.") from error
            if (found.fence, found.holder and found.holder.run) != (self.fence, self.run):
                raise Lost.to(found.holder)
            yield

    def beat(self) -> bool:
        """Give a sign of life; whether the lock is still held. Raises: Unwritable."""
        try:
            with _unwritable(self.place.lock_path), self.held():
                os.utime(self._descriptor)
        except Lost:
            return False
        return True

    @contextmanager
    def remembering(self, saved: Witness) -> Iterator[None]:
        """Note, while `held`, what the block saves. Nothing that can fill a disk comes after it.

        Raises: OSError.
        """
        place = self.place
        record = replace(self._record, saved=saved)
        descriptor = place.prepare_record(record)
        try:
            yield
            place.new_lock_path.replace(place.lock_path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._record, self._descriptor = record, descriptor
        files.sync_directory(place.path.parent)

    def release(self) -> None:
        """Let go. On a full disk the file stays as it is, and the kernel's lock alone ends."""
        try:
            with suppress(Unwritable), _unwritable(self.place.lock_path), self.held():
                os.close(self.place.put_record(replace(self._record, holder=None)))
        finally:
            os.close(self._descriptor)


class _Journal:
    """The journal that a writer has begun. After a failure it takes nothing more."""

    def __init__(self, lock: _Lock) -> None:
        self._lock = lock
        self._path = lock.place.journal_path
        self._descriptor: int | None = None
        self._number = 0
        self._end = 0
        self._failed: Unwritable | None = None
        self._entries = 0

    def append(self, base: State, entries: Sequence[Entry]) -> None:
        """Write a record and sync it. Raises: Unwritable, Lost."""
        if self._failed is not None:
            raise self._failed
        record = self._lock.place.codec.encode_record(base, self._number + 1, entries) + b"\n"
        try:
            with _unwritable(self._path):
                descriptor = self._write(record)
                os.fsync(descriptor)
        except Lost:
            raise
        except Unwritable as error:
            self._failed = error
            self._cut()
            raise
        self._number += 1
        self._end += len(record)
        self._entries += len(entries)

    @property
    def holds(self) -> bool:
        """Whether all that the run made sure of stands in it."""
        return self._entries > 0 and self._failed is None

    def _write(self, record: bytes) -> int:
        with self._lock.held():
            if self._descriptor is None:
                self._descriptor = files.create(self._path)
                files.sync_directory(self._path.parent)
            files.write(self._descriptor, record, self._end)
        return self._descriptor

    def _cut(self) -> None:
        """Leave no half of a record behind. What could not be synced may stay: it is true."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)

    def close(self) -> None:
        """Write no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class LocalWriter:
    """The holder of the lock on a state in a file."""

    def __init__(self, lock: _Lock, pulse: Pulse) -> None:
        self._lock = lock
        self._pulse = pulse
        self._place = lock.place
        self._known: State | None = None
        self._stored = _UNREAD
        self._journal = _Journal(lock)

    def check(self) -> None:
        """Make sure that the lock is not known to be lost. Raises: Lost."""
        self._pulse.check()

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        self._stored = _UNREAD
        self._known, self._stored = self._place.read()
        return self._known

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Append a record to the journal and sync it. Raises: Unwritable, Lost, Unusable."""
        self._look()
        if base.serial != self._stored:  # it holds what an interrupted run left in its journal
            self.save(base)
        self._journal.append(base, entries)

    def save(self, state: State) -> None:
        """Write the state beside its place, keep the old one, and put it there.

        Raises: Unwritable, Lost, Unusable.
        """
        self._look()
        check_next(self._known, state)
        if state == self._known and state.serial == self._stored:
            with self._lock.held(), _unwritable(self._place.journal_path):
                self._drop_journal()
        else:
            self._write(state)

    def replace(self, state: State) -> None:
        """Save a state whatever is there. Raises: Unwritable, Lost."""
        self._settle()
        self._write(state)

    def discard(self) -> None:
        """Begin anew. Raises: Unwritable, Lost."""
        self._settle()
        with self._lock.held(), _unwritable(self._place.path):
            self._keep()
            with self._lock.remembering(DISCARDED):
                self._place.path.unlink(missing_ok=True)
                self._drop_journal()
        self._known, self._stored = None, 0

    def _look(self) -> None:
        """Know what is there, before it is followed by something else."""
        if self._stored == _UNREAD:
            self.read()

    def _settle(self) -> None:
        """Fold the journal in, if there is one to be trusted: a generation has none."""
        with suppress(Unusable):
            known = self.read()
            if known is not None:
                self.save(known)

    def _write(self, state: State) -> None:
        new = self._place.new_path(self._lock.run)
        written = False
        try:
            with self._lock.held():
                pass  # large states are not written in vain
            files.write_new(new, self._place.codec.encode(state))
            written = True
            with self._lock.held():
                self._put(new, state)
        except OSError as error:
            raise Unwritable(
                f"{self._place.path}: {files.why(error)}. {self._whereabouts(new, written=written)}"
            ) from error
        except BaseException:  # the lock was lost, or the run is interrupted
            new.unlink(missing_ok=True)
            raise
        self._known, self._stored = state, state.serial

    def _put(self, new: Path, state: State) -> None:
        """Put the new state in its place, while the lock is held."""
        self._keep()
        with self._lock.remembering(self._place.codec.witness(state)):
            new.replace(self._place.path)
            files.sync_directory(self._place.path.parent)
        self._drop_journal()

    def _keep(self) -> None:
        """Give what is there another name, before it loses its own."""
        if self._stored == _UNREAD:
            self._place.keep_damaged(self._lock.fence)
        elif self._stored:
            self._place.keep_generation(self._stored)

    def _whereabouts(self, new: Path, *, written: bool) -> str:
        """Where the state is that could not be saved."""
        if written and not new.exists():
            return "The new state is in its place, but it may not survive a power cut."
        whole = "The state that was there is whole"
        if written and not self._journal.holds:
            return f"{whole}; the new one stands in {new}."
        with suppress(OSError):
            new.unlink(missing_ok=True)
        if self._journal.holds:
            return f"{whole}; what this run did stands in {self._place.journal_path}, and the next run takes it up."
        return f"{whole}; the new one could not be written anywhere."

    def _drop_journal(self) -> None:
        """Be done with the journal, this run's or another's, while the lock is held."""
        self._journal.close()
        self._place.journal_path.unlink(missing_ok=True)
        self._journal = _Journal(self._lock)

    def close(self) -> None:
        """Write no more; what is in the journal stays."""
        self._journal.close()


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    """What an error of the file system means to who writes."""
    try:
        yield
    except OSError as error:
        raise Unwritable(f"{path}: {files.why(error)}") from error


def _keep_as(path: Path, name: Path) -> None:
    """Give a file a second name. Raises: OSError."""
    name.unlink(missing_ok=True)
    os.link(path, name, follow_symlinks=False)


def _is_torn(line: bytes) -> bool:
    """Whether a power cut left a line half written: with zeros, which no single bit makes two of."""
    return line.startswith(b"\0") or b"\0\0" in line


def _is_cut(end: bytes) -> bool:
    """Whether a line without its end lacks more than that. One with another end is damaged."""
    return not (is_whole(end.removesuffix(b"\0")) or is_whole(end[:-1]))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _record_json(record: _Record) -> JsonObject:
    return {
        "fence": record.fence,
        "holder": asdict(record.holder) if record.holder else None,
        "saved": asdict(record.saved) if record.saved else None,
    }


def _record_from(line: bytes, heartbeat: str) -> _Record:
    """Read a lock file. Raises: Unusable, KeyError, TypeError."""
    document = read_checked_line(line.rstrip(b"\n"))
    holder, saved = document["holder"], document["saved"]
    return _Record(
        document["fence"],
        Holder(**(holder | {"heartbeat": heartbeat})) if holder else None,
        Witness(**saved) if saved else None,
    )
