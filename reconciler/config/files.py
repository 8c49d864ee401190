"""The files of a project: found, and read, without ever leaving it.

What a pull request adds must not read the machine that plans it: every path is resolved, links
included, and must end at a regular file below the project's directory.

Source: docs/configuration.md, "What a file can't reach".
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.config.nodes import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS: Final = (".yaml", ".yml")
"""Of the files that an included directory has; others in it are not looked at."""


class Unreadable(ValueError):
    """A file that can't be read, or must not be. The text says which, why, and what to do."""


def named(directory: Path, pattern: str) -> list[Path]:
    """The files that an entry of `include` names, resolved; at least one. Raises: Unreadable."""
    _check_relative(pattern)
    root = directory.resolve()
    start = root / pattern
    if os.path.lexists(start):
        found = [start]
    elif any(character in pattern for character in "*?["):
        found = sorted(root.glob(pattern))
        if not found:
            raise Unreadable(f'"{pattern}" matches no file. Remove it, or correct it.')
    else:
        raise Unreadable(f'"{pattern}" is no file and no directory of the project.')
    files: list[Path] = []
    for path in found:
        resolved = _resolved(root, path)
        files += _below(root, resolved, frozenset()) if resolved.is_dir() else [resolved]
    if not files:
        raise Unreadable(f'"{pattern}" has no file that ends in .yaml or .yml.')
    return files


def inside(directory: Path, name: str) -> Path:
    """The one file of that name, resolved. Raises: Unreadable if it is none, or outside."""
    _check_relative(name)
    root = directory.resolve()
    if not os.path.lexists(root / name):
        raise Unreadable(f'"{name}" is no file of the project.')
    return _resolved(root, root / name)


def read(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content, or one byte more than a file may have of a larger one. Raises: Unreadable.

    Opened without waiting, and looked at before it is read: a FIFO would wait for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable("It is no regular file.")
            return file.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"{error.strerror}.") from error


def _check_relative(name: str) -> None:
    path = Path(name)
    if not name.strip():
        raise Unreadable('"" names no file.')
    if path.is_absolute() or ".." in path.parts:
        raise Unreadable(f'"{name}" leads out of the project; only files inside it can be named.')


def _below(root: Path, directory: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The YAML files in a directory, at any depth. Links are followed, but not round in a circle."""
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        wanted = path.suffix in ENDINGS
        if not wanted and not entry.is_dir():
            continue
        if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
            path = _resolved(root, path)
        if path.is_dir() if entry.is_symlink() else entry.is_dir():
            if path not in above:
                yield from _below(root, path, above | {directory})
        else:
            yield path


def _resolved(root: Path, path: Path) -> Path:
    """Where `path` really is. Raises: Unreadable if that is outside, or nothing to read from."""
    name = str(path.relative_to(root))
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Unreadable(f'"{name}" is a link that leads nowhere.') from error
    if root not in (resolved, *resolved.parents):
        raise Unreadable(f'"{name}" leads out of the project through a link.')
    if not (resolved.is_file() or resolved.is_dir()):
        raise Unreadable(f'"{name}" is no regular file; FIFOs and devices are not read.')
    return resolved
