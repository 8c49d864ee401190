"""Saves a state again and again with little room, and tells what came of it, a line each.

A process of its own: the limit on the size of files is one of the process.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.backends.backend import StateWriter, Unwritable
from reconciler.backends.local import LocalBackend
from reconciler.core.state import dump, fold

from .other_run import a_state, an_entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from reconciler.core.state import State


def old_and_new(accounts: int) -> tuple[State, State]:
    """A state, and the same with one account more."""
    old = a_state(1, *(f"a{n}" for n in range(accounts)))
    return old, fold(old, [an_entry("b")])


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes. Python ignores SIGXFSZ, so a write fails half-way."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """The file system that we stand on has `free` bytes left."""
    filler = Path("filler")
    filler.write_bytes(b"x" * max(0, shutil.disk_usage(".").free - free))
    try:
        yield
    finally:
        filler.unlink()


def attempt(writer: StateWriter, old: State, new: State, *, journal: bool) -> str:
    """What is told of it; "" if it could be saved."""
    if journal:
        with suppress(Unwritable):  # then an apply ends, and saves what it can
            writer.journal(old, [an_entry("b")])
    try:
        writer.save(new)
    except Unwritable as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. `old`: the file is as it was; `beside`: the new state is in another."""

    told: str
    journal: bool
    old: bool
    read: str
    beside: bool


def run(
    room: AbstractContextManager[None], directory: Path, accounts: int, *, journal: bool
) -> Answer:
    old, new = old_and_new(accounts)
    backend = LocalBackend(directory / "s.json")
    with backend.lock("run-1", "test", 0) as writer:
        writer.save(old)
        with room:
            told = attempt(writer, old, new, journal=journal)
    found = backend.read()
    beside = [path for path in directory.iterdir() if ".new" in path.name]
    return Answer(
        told,
        journal,
        old=(directory / "s.json").read_bytes() == dump(old),
        read="old" if found == old else "new" if found == new else "something else",
        beside=[path.read_bytes() for path in beside if path.name != "s.json.lock.new"]
        == [dump(new)],
    )


def main() -> None:
    kind, accounts, last, step = sys.argv[1], *map(int, sys.argv[2:])
    rooms = {"small files": small_files, "full disk": full_disk}[kind]
    directory = Path("state")
    for number, room in enumerate(range(0, last, step)):
        answer = run(rooms(room), directory, accounts, journal=number % 2 == 0)
        print(json.dumps(asdict(answer)))  # noqa: T201 - this is how it answers
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
