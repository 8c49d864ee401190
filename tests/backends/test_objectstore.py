"""State in an object store: what every place promises, and what only objects can do."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import httpx
import obstore
import pytest
from obstore.store import S3Store

from reconciler.backends.backend import Locked, Lost
from reconciler.backends.lease import Timing
from reconciler.backends.objects import open_objects
from reconciler.backends.objectstore import ObjectStoreBackend
from reconciler.core.state import fold

from . import s3_server
from .contract import Contract
from .other_run import a_state, an_entry
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

    from reconciler.backends.backend import StateWriter
    from reconciler.core.state import Entry

    from .contract import Harm
    from .wire import Fault

KEY: Final = "state/s.json"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Where an S3 server answers."""
    with subprocess.Popen(
        [sys.executable, s3_server.__file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")


def a_store(endpoint: str, bucket: str) -> S3Store:
    return S3Store(
        bucket, region="us-east-1", endpoint=endpoint, client_options={"allow_http": True}
    )


@dataclass(frozen=True)
class S3Place:
    endpoint: str
    directory: Path
    bucket: str = field(default_factory=lambda: f"bucket-{uuid4()}")
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def named(self) -> str:
        return f"s3://{self.bucket}/{KEY}?region=us-east-1&endpoint={self.endpoint}"

    @property
    def store(self) -> ObjectStore:
        return a_store(self.endpoint, self.bucket)

    def copy(self) -> bytes:
        return bytes(obstore.get(self.store, KEY).bytes())

    def put(self, copy: object) -> None:
        assert isinstance(copy, bytes)
        obstore.put(self.store, KEY, copy)

    def harm(self, how: Harm) -> None:
        text = self.copy()
        match how:
            case "gone":
                obstore.delete(self.store, KEY)
            case "empty":
                self.put(b"")
            case "cut":
                self.put(text[: len(text) // 2])
            case "flipped":
                self.put(text.replace(b"a2", b"a3") if b"a2" in text else text[:-1])

    def empty_twin(self) -> S3Place:
        return a_place(self.endpoint, self.directory)


def a_place(endpoint: str, directory: Path) -> S3Place:
    """A new bucket."""
    place = S3Place(endpoint, directory)
    httpx.put(f"{endpoint}/{place.bucket}").raise_for_status()
    return place


def a_saved_place(endpoint: str, directory: Path) -> S3Place:
    """A new bucket, where a state was saved."""
    place = a_place(endpoint, directory)
    with a_backend(place).lock("first", "reconciler apply", 0) as writer:
        writer.save(a_state(1, "first"))
    return place


class TestContract(Contract):
    """What every place promises, on a server that speaks S3."""

    @pytest.fixture
    def place(self, endpoint: str, tmp_path: Path) -> S3Place:
        return a_place(endpoint, tmp_path)


# --- what goes wrong on the wire ---

STILL: Final = Timing(heartbeat=600, lease=600, poll=0.01)
"""Nobody gives signs of life while requests are counted, and nobody is given up."""


def a_backend(place: S3Place, endpoint: str = "") -> ObjectStoreBackend:
    objects, key = open_objects(replace(place, endpoint=endpoint or place.endpoint).named, {})
    return ObjectStoreBackend(objects, key, timing=STILL)


class Worker:
    """A run that does all that a run can do, and knows what it was told is done."""

    def __init__(self, backend: ObjectStoreBackend, name: str) -> None:
        self._backend = backend
        self._name = name
        self.confirmed: set[str] = set()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self._backend.lock(self._name, "reconciler apply", 0) as writer:
                self.work(writer)
        except (Locked, Lost) as error:
            self.error = error

    def work(self, writer: StateWriter) -> None:
        base = writer.read()
        assert base is not None
        writer.journal(base, [])
        entries: list[Entry] = []
        for name in (f"{self._name}-1", f"{self._name}-2"):
            entries.append(an_entry(name))
            writer.journal(base, entries[-1:])
            self.confirmed.add(name)
        entries.append(an_entry(f"{self._name}-3"))
        writer.save(fold(base, entries))
        self.confirmed.add(f"{self._name}-3")


def names(place: S3Place) -> set[str]:
    """The accounts in the state, as a reader sees it."""
    state = a_backend(place).read()
    assert state is not None
    return set(state.accounts)


def objects(place: S3Place) -> list[str]:
    return sorted(found["path"] for found in obstore.list(place.store).collect())


@pytest.fixture
def s3(endpoint: str, tmp_path: Path) -> S3Place:
    return a_saved_place(endpoint, tmp_path)


@contextmanager
def a_dead_run(place: S3Place) -> Iterator[set[str]]:
    """One that holds the lock and recorded something, and does nothing more. Yields what."""
    with ExitStack() as stack:
        writer = stack.enter_context(a_backend(place).lock("dead", "reconciler apply", 0))
        writer.journal(a_state(1, "first"), [an_entry("dead-1")])
        yield {"dead-1"}
        with pytest.raises(Lost):
            writer.journal(a_state(1, "first"), [an_entry("dead-2")])


@pytest.mark.parametrize("fault", ["answer lost", "answer replaced"])
def test_whichever_answer_of_a_run_gets_lost_it_ends_well(
    endpoint: str, tmp_path: Path, fault: Fault
) -> None:
    for at in itertools.count(1):
        place = a_saved_place(endpoint, tmp_path)
        with Wire(endpoint, fault, at) as wire:
            worker = Worker(a_backend(place, wire.endpoint), "a")
            worker.run()
            if not wire.struck.is_set():
                assert at > 15
                return
        assert worker.error is None
        assert names(place) == {"first", "a-1", "a-2", "a-3"}
        assert a_backend(place).holder() is None
        assert [generation.serial for generation in a_backend(place).history()] == [1]


@pytest.mark.parametrize("wakes", ["while another holds the lock", "after two others"])
@pytest.mark.parametrize("after_a_dead_run", [False, True])
def test_whichever_request_of_a_run_comes_late_it_writes_nothing_once_it_was_taken_over(
    endpoint: str, tmp_path: Path, wakes: str, *, after_a_dead_run: bool
) -> None:
    for at in itertools.count(1):
        place = a_saved_place(endpoint, tmp_path)
        with ExitStack() as stack:
            before = {"first"}
            if after_a_dead_run:
                before |= stack.enter_context(a_dead_run(place))
                a_backend(place).unlock("dead")
            wire = stack.enter_context(Wire(endpoint, "late", at))
            late = Worker(a_backend(place, wire.endpoint), "late")
            thread = threading.Thread(target=late.run)
            thread.start()
            while thread.is_alive() and not wire.struck.wait(0.01):
                pass
            if not wire.struck.is_set():
                thread.join()
                assert at > 15
                return
            a_backend(place).unlock("late")
            second, third = Worker(a_backend(place), "second"), Worker(a_backend(place), "third")
            with a_backend(place).lock("second", "reconciler apply", 0) as writer:
                found = names(place)
                assert found >= before | late.confirmed
                if wakes == "while another holds the lock":
                    wire.let_go()
                    thread.join()
                second.work(writer)
            third.run()
            wire.let_go()
            thread.join()
        assert third.error is None
        assert late.confirmed <= found
        assert names(place) == found | second.confirmed | third.confirmed
        assert a_backend(place).holder() is None
