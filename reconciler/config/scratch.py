"""Where files of a project are written until they are whole: in its `.reconciler/`, out of Git's sight.

A run that is killed leaves what it had begun there, and nothing beside the files of users.

Source: docs/adopting.md, "When it is interrupted".
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIRECTORY: Final = ".reconciler"


@contextmanager
def unfinished(directory: Path) -> Iterator[Path]:
    """A free name in the project `directory`, to be linked or renamed into place; gone afterwards.

    Raises: OSError.
    """
    place = directory / DIRECTORY
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{uuid4().hex}.new"  # no number of a process: containers have the same ones
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
