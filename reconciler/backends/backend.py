"""What a place for state promises.

`StateReader` can only read: what takes one can't write, and its signature proves it. `Backend`
can write, and only while its lock is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from reconciler.core.state import Entry, State


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `since` and `heartbeat`: UTC, ISO 8601."""

    run: str
    who: str
    host: str
    pid: int
    command: str
    since: str
    heartbeat: str

    def __str__(self) -> str:
        return (
            f"{self.who} on {self.host} (pid {self.pid}), `{self.command}`, since {self.since},"
            f" last sign of life {self.heartbeat}"
        )


class Locked(Exception):
    """Somebody else holds the lock."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"The state is locked by {holder or 'another run'}.")
        self.holder = holder


class Unwritable(Exception):
    """State can't be saved. The text says where what was not saved is, and what to do."""


class StateReader(Protocol):
    """Reads state; needs no lock."""

    def read(self) -> State | None:
        """The state with what interrupted runs recorded; None if there is none yet.

        Raises: Unusable if there is one that can't be trusted.
        """


class Backend(StateReader, Protocol):
    """Keeps state. `journal` and `save` only inside `lock`."""

    def lock(self, run: str, command: str, timeout: float) -> AbstractContextManager[None]:
        """Be the only writer. `timeout`: seconds to wait for another. Raises: Locked, Unwritable."""

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Make `entries` durable, which come after `base`. Cost does not grow with the state.

        Raises: Unwritable.
        """

    def save(self, state: State) -> None:
        """Replace the state, durably and as a whole, if it is another; the journal is done with. Raises: Unwritable."""
