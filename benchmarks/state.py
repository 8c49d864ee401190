"""How long a state takes to load and to save, and what an apply of one account writes before that.

`python benchmarks/state.py [ACCOUNTS] [--state URL]`; under a key if RECONCILER_STATE_KEY is set. The
state is that of the project that `projects.py` makes, everything applied; it is kept in a new file, or
at a URL where there is none yet. A process that has done nothing before is timed; the collector is
off, as it is in the tool.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from projects import members

from reconciler.backends.backend import open_backend
from reconciler.core.state import AccountRecord, Entry, State, fold
from reconciler.core.values import AccountId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.backends.backend import Backend
    from reconciler.core.values import JsonObject

Result = TypeVar("Result")

_ROOT = AccountId("5bbc699c2e8e4a21b2b0c1f0f6b7a001")
_LINEAGE = "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11"


def a_state(count: int) -> State:
    """A state of `count` accounts."""
    return State(_LINEAGE, 1, "reconciler", "sandbox:", _ROOT, "00" * 32, dict(records(count)))


def records(count: int) -> Iterator[tuple[str, AccountRecord]]:
    """Its accounts by key, as the platform has them."""
    for number, member in enumerate(members(count)):
        identity = f"{number:032x}"
        settings = cast("JsonObject", member.document)
        applied: JsonObject = {"reseller": member.reseller, "settings": settings}
        yield (
            member.key,
            AccountRecord(
                AccountId(identity),
                _ROOT,
                member.reseller,
                applied,
                applied,
                f"3-{identity}",
                "2026-01-01T00:00:00+00:00",
            ),
        )


def timed(what: str, step: Callable[[], Result]) -> Result:
    """Do a step, and print what it took."""
    began, cpu = time.perf_counter(), time.process_time()
    result = step()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what:<40} {wall:6.2f} s, {cpu:6.2f} s of CPU, {memory:5} MiB at most")
    return result


def make(directory: Path, named: str, count: int) -> None:
    """Save the state to measure."""
    state = a_state(count)
    with place(directory, named).lock("run-1", "benchmark", 0) as writer:
        timed(f"save all of {count:,} accounts", lambda: writer.save(state))


def measure(directory: Path, named: str) -> None:
    """An apply of one account, without its platform."""
    with place(directory, named).lock("run-2", "benchmark", 0) as writer:
        state = timed("load", writer.read)
        assert state is not None  # noqa: S101 - it was saved a moment ago
        key, record = next(iter(state.accounts.items()))
        entry = Entry("record", key, replace(record, etag="4-changed"))
        before = size(directory)
        writer.journal(state, [])
        timed("record one account", lambda: writer.journal(state, [entry]))
        if before:
            print(f"{'written until then':<40} {size(directory) - before} bytes")
        timed("save", lambda: writer.save(fold(state, [entry])))


def place(directory: Path, named: str) -> Backend:
    """Where it is kept."""
    return open_backend(named, directory, os.environ)


def size(directory: Path) -> int:
    """Bytes in all files, if it is kept in files."""
    return sum(path.stat().st_size for path in directory.iterdir())


def main() -> None:
    """Make a state, and have another process measure it."""
    gc.disable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("accounts", type=int, nargs="?", default=100_000)
    parser.add_argument("--state", default="s.json", metavar="URL")
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of:
        measure(arguments.of, arguments.state)
        return
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory), arguments.state, arguments.accounts)
        if megabytes := size(Path(directory)) / 1e6:
            print(f"{megabytes:.0f} MB", flush=True)
        again = [sys.executable, __file__, "--state", arguments.state, "--of", directory]
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
