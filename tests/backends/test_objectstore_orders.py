"""In whichever order the requests of several runs come, no two of them write at the same time.

Each run is a thread that goes from one request to the next when it is told; hypothesis says which.
All take the lock from each other at once, as if the others had been silent. Answers get lost, and
requests come when nobody waits for them any more.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
from obstore.store import MemoryStore

from reconciler.backends import objects
from reconciler.backends.backend import Lost, Unwritable
from reconciler.backends.lease import Timing
from reconciler.backends.objects import Object, Objects
from reconciler.backends.objectstore import ObjectStoreBackend
from reconciler.core.state import fold

from .other_run import a_state, an_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore import PutMode, UpdateVersion

    from reconciler.backends.objectstore import ObjectStoreWriter

GREEDY: Final = Timing(heartbeat=600, lease=0, poll=0)
RUNS: Final = ("x", "y", "z")
Step = tuple[int, int, str]
"""Who goes on for how many requests, and what becomes of the last, if it is a write."""


class Actor(threading.Thread):
    """Goes on when it is told, and stops before its next request."""

    def __init__(self, act: Callable[[Actor], None]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self.fault = ""
        self.ended = False
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        self._go.acquire()
        try:
            self._act(self)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.error = error
        self.ended = True
        self._stopped.release()

    def stop(self) -> str:
        """Wait until it is told to go on. Returns what becomes of its request."""
        self._stopped.release()
        self._go.acquire()
        return self.fault

    def go_on_for(self, requests: int, fault: str) -> None:
        for left in reversed(range(requests)):
            if not self.ended:
                self.go_on("" if left else fault)

    def go_on(self, fault: str) -> None:
        self.fault = fault
        self._go.release()
        self._stopped.acquire()


class SteppedObjects(Objects):
    """The objects of a store, as an actor sees them."""

    def __init__(self, store: MemoryStore, actor: Actor, late: list[Callable[[], object]]) -> None:
        super().__init__(store, "s3://bucket")
        self._actor = actor
        self._late = late

    def get(self, path: str) -> Object | None:
        self._actor.stop()
        return super().get(path)

    def get_all(self, paths: Sequence[str]) -> list[Object | None]:
        return [self.get(path) for path in paths]

    def names(self, directory: str, after: str) -> list[str]:
        self._actor.stop()
        return super().names(directory, after)

    def remove(self, paths: Sequence[str]) -> None:
        self._actor.stop()
        super().remove(paths)

    def probe(self, path: str) -> None:
        """It has tests of its own."""

    def _write(self, path: str, body: bytes, mode: PutMode) -> UpdateVersion:
        write = super()._write
        fault = self._actor.stop()
        if fault == "late":
            self._late.append(lambda: write(path, body, mode))
        elif fault == "answer lost":
            write(path, body, mode)
        if fault:
            raise GenericError("the connection was lost")
        return write(path, body, mode)


class World:
    """Runs that work on one state, somebody who reads it, and what they were told is done.

    Who has lost the lock, or could not write, may try again, `attempts` in all. Who does not
    `journal` only saves.
    """

    def __init__(self, attempts: int, reads: int, *, journal: bool) -> None:
        self._store = MemoryStore()
        with self._backend().lock("first", "", 0) as writer:
            writer.save(a_state(1, "first"))
        self._late: list[Callable[[], object]] = []
        self._confirmed = {"first"}
        self._journal = journal
        self._actors = [Actor(self._runs(name, attempts)) for name in RUNS]
        self._actors.append(Actor(self._reads(reads)))

    def _backend(self, actor: Actor | None = None) -> ObjectStoreBackend:
        if actor is None:
            return ObjectStoreBackend(Objects(self._store, "s3://bucket"), "k", timing=GREEDY)
        stepped = SteppedObjects(self._store, actor, self._late)
        return ObjectStoreBackend(stepped, "k", timing=GREEDY)

    def _runs(self, name: str, attempts: int) -> Callable[[Actor], None]:
        def act(actor: Actor) -> None:
            for attempt in range(attempts):
                with suppress(Lost, Unwritable):
                    self._run(self._backend(actor), f"{name}{attempt}")
                    break

        return act

    def _run(self, backend: ObjectStoreBackend, name: str) -> None:
        with backend.lock(name, "", 0) as writer:
            try:
                self._work(writer, name)
            except Lost:
                lock, _ = self._backend()._place.lock()
                assert lock.fence > writer._held.fence, "it was not taken over"
                raise

    def _work(self, writer: ObjectStoreWriter, name: str) -> None:
        base = writer.read()
        assert base is not None
        confirmed = set(self._confirmed)
        if self._journal:
            writer.journal(base, [an_entry(f"{name}-1")])
            assert base.accounts.keys() >= confirmed  # or it would have been lost
            self._confirmed.add(f"{name}-1")
        writer.save(fold(base, [an_entry(f"{name}-1"), an_entry(f"{name}-2")]))
        self._confirmed |= {f"{name}-1", f"{name}-2"}

    def _reads(self, reads: int) -> Callable[[Actor], None]:
        def act(actor: Actor) -> None:
            serial = 1
            for _ in range(reads):
                confirmed = set(self._confirmed)
                state = self._backend(actor).read()
                assert state is not None
                assert state.serial >= serial
                assert state.accounts.keys() >= confirmed
                serial = state.serial

        return act

    def play(self, steps: Sequence[Step]) -> None:
        """Take the steps, then go on in turn until all have ended; then all that is late comes."""
        for who, requests, fault in steps:
            if who == len(self._actors):
                self._let_come()
            else:
                self._actors[who].go_on_for(requests, fault)
        for actor in self._actors:
            while not actor.ended:
                actor.go_on("")
        while self._late:
            self._let_come()

    def _let_come(self) -> None:
        if self._late:
            with suppress(AlreadyExistsError, PreconditionError):
                self._late.pop(0)()

    def check(self) -> None:
        for actor in self._actors:
            if actor.error is not None:
                raise actor.error
        state = self._backend().read()
        assert state is not None
        assert state.accounts.keys() >= self._confirmed
        with self._backend().lock("last", "", 0) as writer:
            self._work(writer, "last")
        with self._backend().lock("empty", "", 0) as writer:
            last = writer.read()
        assert last is not None
        assert set(last.accounts) == {*state.accounts, "last-1", "last-2"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PAUSES", ())


def check(*steps: Step, attempts: int = 1, reads: int = 0, journal: bool = True) -> None:
    world = World(attempts, reads, journal=journal)
    world.play(steps)
    try:
        world.check()
    except Exception as error:
        error.add_note(f"after {steps}")
        raise


X, Y, Z, READER, LATE_COMES = 0, 1, 2, 3, (4, 1, "")
ALL: Final = 100
REQUESTS: Final = 12
"""As many as a run that is alone."""


def two_numbers() -> Iterator[tuple[int, int]]:
    numbers = range(1, REQUESTS + 1)
    return itertools.product(numbers, numbers)


def test_a_run_that_stops_anywhere_while_another_is_anywhere() -> None:
    for i, j in two_numbers():
        check((X, i, ""), (Y, j, ""), (X, ALL, ""), (Y, ALL, ""))


def test_two_that_stop_anywhere_and_wake_up_after_a_third() -> None:
    for i, j in two_numbers():
        check((X, i, ""), (Y, j, ""), (Z, ALL, ""), (X, ALL, ""), (Y, ALL, ""))


def test_any_write_of_a_run_that_comes_late_while_another_is_anywhere() -> None:
    for i, j in two_numbers():
        check((X, i, "late"), (X, ALL, ""), (Y, j, ""), LATE_COMES, (Y, ALL, ""))


def test_a_reader_who_stops_anywhere_while_runs_go_on() -> None:
    for i, j in two_numbers():
        check((X, j, ""), (READER, i, ""), (X, ALL, ""), (Y, j, ""), (READER, ALL, ""), reads=2)


def test_a_reader_sees_nothing_that_is_gone_later() -> None:
    for i, j in two_numbers():
        steps = [(X, j, "late"), (READER, i, ""), (X, ALL, ""), (READER, ALL, "")]
        check(*steps, reads=2, journal=False)


STEPS = st.lists(
    st.tuples(
        st.integers(0, len(RUNS) + 1),
        st.integers(1, REQUESTS),
        st.sampled_from(["", "", "answer lost", "late"]),
    ),
    max_size=20,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_any_order_whatever_gets_lost_or_late(steps: list[Step]) -> None:
    check(*steps, attempts=2, reads=3)
