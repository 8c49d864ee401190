"""State in a file.

`PATH` is the state, `PATH.journal` what a run made sure of since, `PATH.lock` says who is writing,
`PATH.backup.SERIAL` are the generations before. All are readable by their owner alone.

The lock is the kernel's (`flock`): it ends with the process that holds it, however that ends. The
lock file's text is for people. A journal belongs to one lineage and serial: one that is left
behind after its state was saved is recognised by that, and ignored.

Source: docs/state.md.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import socket
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson

from reconciler.backends.backend import Holder, Locked, Unwritable
from reconciler.core.state import Entry, State, Unusable, dump, entry_from, entry_json, fold, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from reconciler.core.values import JsonObject, JsonValue

GENERATIONS: Final = 10
HEARTBEAT: Final = 10.0
"""Seconds between two signs of life in the lock file."""
_POLL: Final = 0.2


class LocalBackend:
    """Keeps state in a file of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal_path = path.with_name(path.name + ".journal")
        self._lock_path = path.with_name(path.name + ".lock")
        self._journal_file: int | None = None

    # --- reading ---

    def read(self) -> State | None:
        """The state with what interrupted runs recorded. Raises: Unusable."""
        text = self._read_file(self.path)
        journal = self._read_file(self._journal_path)
        if text is None:
            if self._backups():
                raise Unusable(
                    f"{self.path} is gone, but {self._backups()[-1].name} is there. Restore it by copying"
                    f" it to {self.path.name}, or remove the backups to begin anew."
                )
            if journal:
                raise Unusable(f"{self.path} is gone, but {self._journal_path.name} is there")
            return None
        try:
            state = parse(text)
        except Unusable as error:
            raise Unusable(
                f"{self.path}: {error}. The generations before: {self.path.name}.backup.*"
            ) from error
        return fold(state, self._journalled(state, journal)) if journal else state

    def _read_file(self, path: Path) -> bytes | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unusable(f"{path}: {_why(error)}") from error
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _journalled(self, state: State, journal: bytes) -> list[Entry]:
        """The entries of a journal that goes with `state`. A torn last line was never confirmed."""
        *lines, torn = journal.split(b"\n")
        entries: list[Entry] = []
        for number, line in enumerate(lines, 1):
            try:
                document = _checked(line)
                if number == 1:
                    if document != {"lineage": state.lineage, "serial": state.serial}:
                        return []
                    continue
                entries.append(entry_from(document))
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines) and not torn:
                    break
                raise Unusable(f"{self._journal_path}:{number}: it is damaged ({error})") from error
        return entries

    # --- writing ---

    @contextmanager
    def lock(self, run: str, command: str, timeout: float) -> Iterator[None]:
        """Be the only writer. Raises: Locked, Unwritable, Unusable."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._lock_path, flags, 0o600)
        except OSError as error:
            raise Unwritable(f"{self._lock_path}: {_why(error)}") from error
        try:
            self._wait_for(descriptor, timeout)
            holder = _holder(run, command)
            _write_holder(descriptor, holder)
            over = threading.Event()
            pulse = threading.Thread(target=_pulse, args=(descriptor, holder, over), daemon=True)
            pulse.start()
            try:
                self._recover()
                yield
            finally:
                over.set()
                pulse.join()
                os.ftruncate(descriptor, 0)
                self._close_journal()
        finally:
            os.close(descriptor)

    def _recover(self) -> None:
        """Fold in what an interrupted run left in the journal, before it is written anew."""
        if not self._journal_path.exists():
            return
        state = self.read()
        text = self._read_file(self.path)
        if state is not None and text is not None and state.serial != parse(text).serial:
            self.save(state)
        self._journal_path.unlink(missing_ok=True)

    def _wait_for(self, descriptor: int, timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Locked(_read_holder(descriptor)) from None
                time.sleep(_POLL)
            else:
                return

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Append `entries` to the journal and sync it. Raises: Unwritable."""
        try:
            text = b""
            if self._journal_file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                self._journal_file = os.open(self._journal_path, flags, 0o600)
                text = _line({"lineage": base.lineage, "serial": base.serial})
            text += b"".join(_line(entry_json(entry)) for entry in entries)
            _write(self._journal_file, text)
            os.fsync(self._journal_file)
        except OSError as error:
            raise Unwritable(f"{self._journal_path}: {_why(error)}") from error

    def save(self, state: State) -> None:
        """Write the state beside its place, sync it, keep the old one, and put it there."""
        text = dump(state)
        if self._read_file(self.path) == text:
            self._drop_journal()  # what it says came to nothing
            return
        new = self.path.with_name(f"{self.path.name}.new.{os.getpid()}")
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(
                new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                _write(descriptor, text)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._keep_generation()
            new.replace(self.path)
            self._sync_directory()
            self._drop_journal()
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise Unwritable(
                f"{self.path}: {_why(error)}. The state that was there is whole; what this run did stands in"
                f" {self._journal_path.name} and is taken up by the next run."
            ) from error

    def _keep_generation(self) -> None:
        """Give the present state a second name, and drop the oldest of those."""
        present = self._read_file(self.path)
        if present is None:
            return
        serial = parse(present).serial
        backup = self.path.with_name(f"{self.path.name}.backup.{serial:09d}")
        backup.unlink(missing_ok=True)
        os.link(self.path, backup)
        for old in self._backups()[:-GENERATIONS]:
            old.unlink()

    def _backups(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.backup.*"))

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _drop_journal(self) -> None:
        self._close_journal()
        self._journal_path.unlink(missing_ok=True)

    def _close_journal(self) -> None:
        if self._journal_file is not None:
            os.close(self._journal_file)
            self._journal_file = None


def _line(document: JsonObject) -> bytes:
    text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _checked(line: bytes) -> JsonObject:
    """A journal line's document. Raises: ValueError if its checksum is wrong."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("a wrong checksum")
    document: JsonObject | JsonValue = orjson.loads(text)
    if not isinstance(document, dict):
        raise TypeError("no mapping")
    return document


def _write(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]


def _why(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link, which is refused"
    return error.strerror or str(error)


def _holder(run: str, command: str) -> Holder:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in many containers
        who = str(os.getuid())
    return Holder(run, who, socket.gethostname(), os.getpid(), command, now, now)


def _write_holder(descriptor: int, holder: Holder) -> None:
    text = orjson.dumps(asdict(holder), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return Holder(**orjson.loads(os.pread(descriptor, 65536, 0)))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _pulse(descriptor: int, holder: Holder, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _write_holder(descriptor, replace(holder, heartbeat=now))
