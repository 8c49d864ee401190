"""Files that are whole or not there: written beside their place, synced, renamed.

Readable by their owner alone. Symbolic links are refused: what is written must not land elsewhere.
All raise OSError; `why` says it in words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o600
_RETRY: Final = 0.002
"""Seconds until a mutex that others hold for moments is tried again."""


def why(error: OSError) -> str:
    """What went wrong, in words."""
    if error.errno == errno.ELOOP:
        return "it is a symbolic link, which is refused"
    return error.strerror or str(error)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, as far as they are not there: for their owner alone."""
    for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
        sync_directory(missing.parent)


def opened(path: Path) -> int | None:
    """A descriptor to read from; None if there is no such file."""
    try:
        return os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None


def read(path: Path) -> bytes | None:
    """What is in a file; None if there is none."""
    descriptor = opened(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def create(path: Path) -> int:
    """A descriptor of a new, empty file, in place of one that is there."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, _MODE)


def write_new(path: Path, text: bytes) -> None:
    """Make a file with `text` in it, durable but for its name."""
    descriptor = create(path)
    try:
        write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(descriptor: int, text: bytes, at: int = 0) -> None:
    """Write all of `text`."""
    view = memoryview(text)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def sync_directory(path: Path) -> None:
    """Make durable which names there are in a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def mutex(path: Path, patience: float) -> Iterator[None]:
    """Be alone among all processes and threads that ask for the same file, for moments.

    The file is never replaced; should somebody remove it, the one that is there now counts.
    Raises: TimeoutError after `patience` seconds; OSError.
    """
    until = time.monotonic() + patience
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, _MODE)
        try:
            _flock(descriptor, until)
            if _is_at(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _flock(descriptor: int, until: float) -> None:
    while not try_flock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= until:
            raise TimeoutError(
                errno.ETIMEDOUT, "another process stands still in the middle of a write"
            )
        time.sleep(_RETRY)


def try_flock(descriptor: int, kind: int) -> bool:
    """Take the kernel's lock on an open file, if nobody has it. It ends with the last descriptor."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
