"""Another run, as a process of its own: does what it is told on stdin, a line each.

Started by `contract.Run`; also what the tests of a backend build their states from.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.backends.backend import Locked, Lost, Unwritable, open_backend
from reconciler.backends.lease import Timing
from reconciler.core.state import AccountRecord, Entry, State, Unusable
from reconciler.core.values import AccountId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.backends.backend import Backend, StateWriter

LINEAGE = "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11"
OTHER_LINEAGE = "0b6e1d1c-93a1-4a3f-8f0e-0c7f3a8d2b42"


def a_record(name: str) -> AccountRecord:
    return AccountRecord(
        AccountId(name), AccountId("root"), False, {"settings": {"name": name}}, {}, "1-a", ""
    )


def an_entry(name: str) -> Entry:
    return Entry("record", name, record=a_record(name))


def a_state(serial: int = 1, *names: str, lineage: str = LINEAGE) -> State:
    return State(
        lineage,
        serial,
        "t",
        "sandbox:",
        AccountId("root"),
        "00" * 32,
        {n: a_record(n) for n in names},
    )


def flipped(text: bytes) -> Iterator[bytes]:
    """The text with each of its bits flipped."""
    for bit in range(len(text) * 8):
        damaged = bytearray(text)
        damaged[bit // 8] ^= 1 << (bit % 8)
        yield bytes(damaged)


@dataclass(frozen=True, slots=True)
class Opening:
    """All that `open_backend` needs: the same place, whichever process opens it."""

    named: str
    directory: str
    environment: dict[str, str]
    heartbeat: float
    lease: float
    poll: float

    def open(self) -> Backend:
        timing = Timing(self.heartbeat, self.lease, self.poll)
        return open_backend(self.named, Path(self.directory), self.environment, timing)


class Puppet:
    """Each method is a command, and returns what is answered."""

    def __init__(self, backend: Backend, run: str, witness: Path) -> None:
        self._backend = backend
        self._run = run
        self._witness = witness
        self._stack = ExitStack()
        self._writer: StateWriter | None = None
        self._base = a_state()

    @property
    def writer(self) -> StateWriter:
        assert self._writer is not None
        return self._writer

    def lock(self, timeout: str) -> str:
        self._writer = self._stack.enter_context(
            self._backend.lock(self._run, "reconciler apply", float(timeout))
        )
        os.close(os.open(self._witness, os.O_CREAT | os.O_EXCL))
        return "held"

    def release(self) -> str:
        self._witness.unlink()
        self._stack.close()
        return "released"

    def check(self) -> str:
        self.writer.check()
        return "mine"

    def save(self, serial: str, *names: str) -> str:
        state = a_state(int(serial), *names)
        self.writer.save(state)
        self._base = state
        return "saved"

    def journal(self, *names: str) -> str:
        """Append to what was saved last."""
        self.writer.journal(self._base, [an_entry(name) for name in names])
        return "written"


def main() -> None:
    opening, run, witness = json.loads(sys.argv[1])
    puppet = Puppet(Opening(**opening).open(), run, Path(witness))
    print("ready", flush=True)  # noqa: T201 - this is how it answers
    for line in sys.stdin:
        command, *words = line.split()
        try:
            answer = getattr(puppet, command)(*words)
        except Locked as error:
            answer = f"locked by {error.holder.run if error.holder else 'nobody'}"
        except FileExistsError:
            answer = "TWO HOLDERS"
        except (Lost, Unwritable, Unusable) as error:
            answer = type(error).__name__
        print(answer, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
