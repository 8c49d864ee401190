"""The files that plans are saved in: written once and as a whole, for their owner's eyes alone."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.config import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES: Final = 1 << 30
"""Of a saved plan; a hundred thousand creates take two thirds of it."""


class Unsaved(Exception):
    """A plan that can't be saved there, or can't be read from there. The text says why."""


def seal_key(environment: Mapping[str, str]) -> bytes | None:
    """The key that plans are sealed with, if there is one."""
    key = environment.get("RECONCILER_PLAN_KEY")
    return os.fsencode(key) if key else None


def check_free(path: Path, *, force: bool) -> None:
    """Raises: Unsaved if something is there that must not be replaced."""
    if not force and os.path.lexists(path):
        raise Unsaved(f"{path} is there already; --force replaces it.")
    if path.exists() and not path.is_file():
        raise Unsaved(f"{path} is no regular file.")


def write(path: Path, text: bytes, *, force: bool) -> None:
    """Put `text` there as a whole or not at all; over a file only with `force`. Raises: Unsaved."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if force:
            new.replace(path)
        else:
            os.link(new, path)  # unlike a rename, it never replaces what is there
    except FileExistsError as error:
        raise Unsaved(f"{path} is there already; --force replaces it.") from error
    except OSError as error:
        raise Unsaved(f"{path}: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            new.unlink()


def read(path: Path) -> bytes:
    """What is there. Raises: Unsaved if it is no file, or too large for a plan."""
    try:
        if path.stat().st_size <= MAX_BYTES:
            return files.read(path, MAX_BYTES)
    except OSError as error:
        raise Unsaved(f"{path}: {error.strerror}.") from error
    except files.Unreadable as error:
        raise Unsaved(f"{path}: {error}") from error
    raise Unsaved(f"{path}: It is larger than a saved plan can be.")
