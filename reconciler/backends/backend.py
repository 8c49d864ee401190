"""What a place for state promises, and how one is chosen.

`StateReader` can only read: what takes one can't write, and its signature proves it. To write is
to hold a `StateWriter`, which only `Backend.lock` gives: who has none can't write either.

A lock is a lease. Its holder gives a sign of life every few seconds; who waits for it and sees none
for the length of a lease, by a clock of its own or of the store, takes over. Each holder has a
fence, a number that only rises, and every write is bound to it: a holder that was stopped and wakes
up after somebody else took over gets `Lost`, and has written nothing.

Source: docs/state.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from reconciler.backends.lease import Timing
    from reconciler.core.state import Entry, State


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `since` and `heartbeat`: UTC, ISO 8601. `job`: URL of the CI job, or "".

    `machine`: the running kernel, as no other is called; `process`: which of its processes, so that
    a number that was given out again is not mistaken. Both are "" where they can't be told.
    """

    run: str
    who: str
    host: str
    pid: int
    command: str
    since: str
    heartbeat: str
    fence: int = 0
    job: str = ""
    machine: str = ""
    process: str = ""

    def __str__(self) -> str:
        """In words; what is not known is left out."""
        known = (
            (self.pid, f"pid {self.pid}"),
            (self.job, self.job),
            (self.command, f"`{self.command}`"),
            (self.since, f"since {self.since}"),
            (self.heartbeat, f"last sign of life {self.heartbeat}"),
        )
        place = f"{self.who or 'somebody'} on {self.host or 'an unknown host'}"
        return ", ".join([place, *(text for value, text in known if value)])


@dataclass(frozen=True, slots=True)
class Generation:
    """A state that was replaced and is kept. `saved_at`: UTC, ISO 8601."""

    serial: int
    saved_at: str


class Locked(Exception):
    """Somebody else holds the lock."""

    def __init__(self, holder: Holder | None) -> None:
        dead = (
            "a run that died is taken over by itself"
            if holder is None or holder.heartbeat
            else "whether that run is alive can't be seen at this place"
        )
        super().__init__(
            f"The state is locked by {holder or 'another run'}. Wait for it by --lock-timeout 5m; {dead}."
            " `reconciler unlock` takes the lock from one that hangs."
        )
        self.holder = holder


class Unwritable(Exception):
    """State can't be saved. The text says where what was not saved is, and what to do."""


class Lost(Unwritable):
    """The lock was lost: another run took over, and this one has not written since."""

    @classmethod
    def to(cls, holder: Holder | None) -> Lost:
        """The lock was lost to that run; None: to somebody who took it away, and let go of it."""
        how = f"it was taken over by {holder}" if holder else "it was taken away"
        return cls(f"The lock was lost: {how}. Nothing was written since.")


class StateReader(Protocol):
    """Reads state; needs no lock."""

    def read(self) -> State | None:
        """The state with what interrupted runs recorded; None if there never was one.

        Raises: Unusable if there is one that can't be trusted, or was one that is gone.
        """


class StateWriter(StateReader, Protocol):
    """The holder of the lock. Every write fails with `Lost` once somebody else took over."""

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Make `entries` durable, which come after `base`. Cost does not grow with the state.

        `base`: what `read` answered or `save` was given last. Without entries: find out that it
        could be done. Raises: Unwritable, Lost, Unusable.
        """

    def save(self, state: State) -> None:
        """Replace the state, durably and as a whole, if it is another; the journal is done with.

        Another state must have a higher serial and the same lineage (`check_next`).
        Raises: Unwritable, Lost, Unusable if what is there can't be trusted.
        """

    def replace(self, state: State) -> None:
        """Save `state` whatever is there, even another lineage or what `read` can't trust.

        As a whole, like `save`: there is never a moment without a state. What was there is kept as
        a generation. Who calls has chosen a serial that nothing had. Raises: Unwritable, Lost.
        """

    def discard(self) -> None:
        """Begin anew: from now on there never was a state. What was there is kept as a generation.

        Works, too, where `read` raises. Raises: Unwritable, Lost.
        """

    def check(self) -> None:
        """Make sure that the lock is not known to be lost; before anything is sent. Cheap.

        Asks the place only if signs of life have failed for a lease. Raises: Lost.
        """


class Backend(StateReader, Protocol):
    """A place where state is kept."""

    def lock(self, run: str, command: str, timeout: float) -> AbstractContextManager[StateWriter]:
        """Be the only writer. `timeout`: seconds to wait for another run.

        A dead holder is taken over: at once where its death can be known, else when its lease has
        run out. A state that can't be trusted does not hinder it: `discard` and a restored
        generation need the lock, too. Raises: Locked, Unwritable, Unusable if the lock itself
        can't be read.
        """

    def holder(self) -> Holder | None:
        """Who holds the lock now, dead or alive; None if nobody does. Raises: Unusable."""

    def unlock(self, run: str) -> None:
        """Take the lock away from that run, if it still has it. Raises: Unwritable, Unusable."""

    def history(self) -> Sequence[Generation]:
        """The generations that are kept, the latest first."""

    def generation(self, serial: int) -> State:
        """A generation that is kept. Raises: Unusable."""


def open_backend(
    named: str,
    directory: Path,
    environment: Mapping[str, str],
    timing: Timing | None = None,
) -> Backend:
    """The backend that the key `state` of a project names. Raises: ValueError with the reason."""
    from reconciler.backends.codec import codec_from
    from reconciler.backends.lease import TIMING

    codec = codec_from(environment)
    timing = timing or TIMING
    scheme, separator, _ = named.partition("://")
    if not separator:
        from reconciler.backends.local import LocalBackend

        return LocalBackend(directory / named, codec, timing)
    if scheme in ("postgresql", "postgres"):
        try:
            from reconciler.backends.postgres import PostgresBackend
        except ImportError as error:
            raise ValueError(_extra(scheme, "postgres")) from error
        return PostgresBackend(named, environment, codec, timing)
    if scheme in ("s3", "gs", "az"):
        try:
            from reconciler.backends.objects import open_objects
            from reconciler.backends.objectstore import ObjectStoreBackend
        except ImportError as error:
            raise ValueError(_extra(scheme, "objectstore")) from error
        return ObjectStoreBackend(*open_objects(named, environment), codec, timing)
    if scheme in ("http", "https"):
        from reconciler.backends.state_server import address_of
        from reconciler.backends.terraform_http import TerraformHttpBackend

        address = address_of(named, environment)
        return TerraformHttpBackend(address, directory / ".reconciler", codec, timing)
    known = "a path, s3://, gs://, az://, postgresql:// or https://"
    raise ValueError(f"{scheme}:// is not supported; give {known}")


def _extra(scheme: str, extra: str) -> str:
    return f"{scheme}:// needs more packages: pip install 'reconciler[{extra}]'"
