"""The files of a project: found, and read, without ever leaving it.

What a pull request adds must not read the machine that plans it: every path is resolved, links
included, and must end at a regular file below the project's directory.

Source: docs/configuration.md, "What a file can't reach".
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from reconciler.config.nodes import MAX_BYTES

ENDINGS: Final = (".yaml", ".yml")
"""Of the files that an included directory has; others in it are not looked at."""


_TOLD: Final = 400
"""Characters of a path that an error quotes."""


class Unreadable(ValueError):
    """A file that can't be read, or must not be. The text says which, why, and what to do."""


def named(directory: Path, pattern: str) -> list[Path]:
    """The files that an entry of `include` names, resolved; at least one. Raises: Unreadable."""
    _check_relative(pattern)
    root = directory.resolve()
    files: list[Path] = []
    for path in _matching(root, pattern):
        resolved = _resolved(root, path)
        files += _below(root, resolved) if resolved.is_dir() else [resolved]
    if not files:
        raise Unreadable(f"{_told(pattern)} has no file that ends in .yaml or .yml.")
    return files


def _matching(root: Path, pattern: str) -> list[Path]:
    """What is there by that name, or else matches it. As in a shell, `*` matches no hidden name."""
    if os.path.lexists(root / pattern):
        return [root / pattern]
    if not any(character in pattern for character in "*?["):
        raise Unreadable(f"{_told(pattern)} is no file and no directory of the project.")
    try:
        found = sorted(root.glob(pattern))
    except (OSError, RecursionError, ValueError) as error:
        raise Unreadable(f"{_told(pattern)} can not be matched: {error}.") from error
    if not any(part.startswith(".") for part in Path(pattern).parts):
        found = [path for path in found if not _is_hidden(path.relative_to(root))]
    if not found:
        raise Unreadable(f"{_told(pattern)} matches no file. Remove it, or correct it.")
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def inside(directory: Path, name: str) -> Path:
    """The one file of that name, resolved. Raises: Unreadable if it is none, or outside."""
    _check_relative(name)
    root = directory.resolve()
    if not os.path.lexists(root / name):
        raise Unreadable(f"{_told(name)} is no file of the project.")
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


def _told(name: str | Path) -> str:
    return f'"{str(name)[:_TOLD]}"'


def _check_relative(name: str) -> None:
    path = Path(name)
    if not name.strip():
        raise Unreadable('"" names no file.')
    if path.is_absolute() or ".." in path.parts:
        raise Unreadable(
            f"{_told(name)} leads out of the project; only files inside it can be named."
        )


def _below(root: Path, directory: Path) -> list[Path]:
    """The YAML files in a directory, at any depth, but for hidden ones.

    Links are followed; however many lead to a directory, it is looked at once.
    """
    files: list[Path] = []
    seen, waiting = {directory}, [directory]
    while waiting:
        for path in _entries(root, waiting.pop()):
            if os.path.isdir(path):  # noqa: PTH112 - unlike the method it is False for all it can't tell
                resolved = _resolved(root, path) if path.is_symlink() else path
                if resolved not in seen:
                    seen.add(resolved)
                    waiting.append(resolved)
            elif path.suffix.lower() in ENDINGS:
                plain = path.is_file() and not path.is_symlink()
                files.append(path if plain else _resolved(root, path))
    return files


def _entries(root: Path, directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        name = directory.relative_to(root)
        raise Unreadable(f"{_told(name)} can not be listed: {error.strerror}.") from error
    return [directory / name for name in names]


def _resolved(root: Path, path: Path) -> Path:
    """Where `path` really is. Raises: Unreadable if that is outside, or nothing to read from."""
    name = path.relative_to(root)
    try:
        resolved = path.resolve()
        if not resolved.is_relative_to(root):  # told before anything is told of what is there
            link = next(way for way in _ways(root, path) if not way.resolve().is_relative_to(root))
            raise Unreadable(
                f"{_told(link.relative_to(root))} is a link that leads out of the project."
            )
        path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Unreadable(f"{_told(name)} is a link that leads nowhere.") from error
    if not (resolved.is_file() or resolved.is_dir()):
        raise Unreadable(f"{_told(name)} is no regular file; FIFOs and devices are not read.")
    return resolved


def _ways(root: Path, path: Path) -> list[Path]:
    """The path and what is above it, below the root, from the top: nothing of what is outside."""
    inside = [path, *path.parents]
    return inside[: inside.index(root)][::-1]
