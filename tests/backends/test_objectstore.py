"""State in an object store: what every place promises, and what only objects can do."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import uuid4

import httpx
import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, S3Store

from reconciler.backends import objects as objects_module
from reconciler.backends.backend import Lost, Unwritable, open_backend
from reconciler.backends.codec import codec_from
from reconciler.backends.lease import Timing
from reconciler.backends.objects import Objects, open_objects
from reconciler.backends.objectstore import ObjectStoreBackend
from reconciler.core.state import Unusable, dump, fold

from . import contract, s3_server
from .contract import Contract
from .other_run import a_state, an_entry, flipped
from .wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

    from .contract import Harm
    from .wire import Fault

KEY: Final = "state/s.json"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Where an S3 server answers."""
    command = [sys.executable, s3_server.__file__]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")


class ObjectPlace:
    """Harm that is done to an object."""

    store: ObjectStore

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


class S3Place(ObjectPlace):
    def __init__(self, endpoint: str, directory: Path, bucket: str = "") -> None:
        self.endpoint = endpoint
        self.directory = directory
        self.environment: dict[str, str] = {}
        self.bucket = bucket or f"bucket-{uuid4()}"
        self.named = self.named_by(endpoint)
        self.store = S3Store(self.bucket, endpoint=endpoint, client_options={"allow_http": True})

    def named_by(self, endpoint: str) -> str:
        return f"s3://{self.bucket}/{KEY}?region=us-east-1&endpoint={endpoint}"

    def empty_twin(self) -> S3Place:
        return a_place(self.endpoint, self.directory)


def a_place(endpoint: str, directory: Path, bucket: str = "") -> S3Place:
    """A new bucket."""
    place = S3Place(endpoint, directory, bucket)
    httpx.put(f"{endpoint}/{place.bucket}").raise_for_status()
    return place


def a_backend(place: S3Place, endpoint: str = "") -> ObjectStoreBackend:
    """The place, perhaps by another way to the server."""
    return ObjectStoreBackend(*open_objects(place.named_by(endpoint or place.endpoint), {}))


@pytest.fixture
def s3(endpoint: str, tmp_path: Path) -> S3Place:
    """A place where a state was saved."""
    place = a_place(endpoint, tmp_path)
    with a_backend(place).lock("first", "reconciler apply", 0) as writer:
        writer.save(a_state(1, "first"))
    return place


def sizes(place: S3Place) -> dict[str, int]:
    """All objects of the bucket, by name."""
    return {o["path"]: o["size"] for o in obstore.list(place.store).collect()}


class TestOnS3(Contract):
    """What every place promises, on a server that speaks S3."""

    @pytest.fixture
    def place(self, endpoint: str, tmp_path: Path) -> S3Place:
        return a_place(endpoint, tmp_path)


@dataclass(frozen=True)
class MemoryPlace(ObjectPlace):
    directory: Path
    store: ObjectStore = field(default_factory=MemoryStore)
    named: str = "memory://"
    environment: dict[str, str] = field(default_factory=dict)

    def open(self, lease: float) -> ObjectStoreBackend:
        timing = Timing(contract.HEARTBEAT, lease, contract.POLL)
        return ObjectStoreBackend(Objects(self.store, self.named), KEY, timing=timing)

    def empty_twin(self) -> MemoryPlace:
        return MemoryPlace(self.directory)


class TestInMemory(Contract):
    """What every place promises, on the store that the library has for one process."""

    @pytest.fixture
    def place(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryPlace:
        monkeypatch.setattr(contract, "open_again", lambda place, lease=1.0: place.open(lease))
        return MemoryPlace(tmp_path)

    @pytest.fixture
    def runs(self) -> NoReturn:
        pytest.skip("another process has another memory")


# --- what goes wrong on the way ---


class Worker:
    """A run that does all that a run can do."""

    def __init__(self, place: S3Place, endpoint: str = "") -> None:
        self._backend = a_backend(place, endpoint)

    def run(self, name: str) -> None:
        with self._backend.lock(name, "reconciler apply", 0) as writer:
            base = writer.read()
            assert base is not None
            entries = [an_entry(f"{name}-{n}") for n in range(3)]
            writer.journal(base, [])
            writer.journal(base, entries[:1])
            writer.journal(base, entries[1:2])
            writer.save(fold(base, entries))


@pytest.mark.parametrize("fault", ["dropped", "replaced"])
def test_whichever_answer_gets_lost_a_run_ends_well(
    s3: S3Place, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asks again, and is told that its condition does not hold: by its own write."""
    at_once = {
        "init_backoff": timedelta(milliseconds=1),
        "max_backoff": timedelta(milliseconds=5),
        "base": 2,
    }
    monkeypatch.setitem(objects_module._RETRIES, "backoff", at_once)
    expected = {"first"}
    for at in itertools.count(1):
        with Wire(s3.endpoint, fault, at) as wire:
            Worker(s3, wire.endpoint).run(f"run{at}")
        expected |= {f"run{at}-{n}" for n in range(3)}
        state = a_backend(s3).read()
        assert state is not None
        assert state.accounts.keys() == expected
        assert state.serial == 1 + at
        assert a_backend(s3).holder() is None
        if not wire.struck:
            assert at > 15
            break


def test_a_create_that_fails_although_nothing_is_there_is_tried_again(s3: S3Place) -> None:
    with Wire(s3.endpoint, "conflict", 1) as wire:
        there, _ = open_objects(s3.named_by(wire.endpoint), {})
        assert there.put("new", b"text", None) is not None
    assert wire.methods == [b"PUT", b"GET", b"PUT"]


def test_reading_sends_nothing_but_gets(s3: S3Place) -> None:
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        writer.journal(a_state(1, "first"), [an_entry("a")])
        with Wire(s3.endpoint, "dropped", 1000) as wire:
            assert a_backend(s3, wire.endpoint).read() == a_state(2, "first", "a")
            assert a_backend(s3, wire.endpoint).holder() is not None
            assert a_backend(s3, wire.endpoint).history() == []
    assert set(wire.methods) == {b"GET"}


def test_a_run_leaves_no_more_objects_than_it_must(s3: S3Place) -> None:
    for name in ("a", "b"):
        Worker(s3).run(name)
    journal = [f"{KEY}.journal/{number:012d}" for number in (1, 5, 9)]
    assert sorted(sizes(s3)) == [KEY, *journal, f"{KEY}.lock"]


def test_what_a_run_records_is_small_however_large_the_state_is(s3: S3Place) -> None:
    base = a_state(2, *(f"account-{n}" for n in range(2000)))
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        writer.save(base)
        before = sizes(s3)
        writer.journal(base, [an_entry("one-more")])
        written = sum(size for path, size in sizes(s3).items() if path not in before)
    assert 0 < written < 1000 < before[KEY]


def test_under_a_key_no_object_shows_an_account(tmp_path: Path) -> None:
    store = MemoryPlace(tmp_path).store
    codec = codec_from({"RECONCILER_STATE_KEY": "a secret text of some length"})
    backend = ObjectStoreBackend(Objects(store, "memory://"), KEY, codec)
    with backend.lock("run", "reconciler apply", 0) as writer:
        writer.save(a_state(1, "hidden-1"))
        writer.journal(a_state(1, "hidden-1"), [an_entry("hidden-2")])
    assert backend.read() == a_state(2, "hidden-1", "hidden-2")
    for found in obstore.list(store).collect():
        assert b"hidden" not in bytes(obstore.get(store, found["path"]).bytes())


# --- stores that don't do as they are told ---


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_a_condition_is_refused_before_anything_is_written(
    endpoint: str, tmp_path: Path, header: str
) -> None:
    place = a_place(endpoint, tmp_path, f"deaf-{header.lower()}")
    with (
        pytest.raises(Unwritable, match=f"does not obey {header}, so nothing"),
        a_backend(place).lock("run", "reconciler apply", 0),
    ):
        raise AssertionError
    assert sizes(place) == {}


def test_a_store_without_conditional_writes_is_refused(tmp_path: Path) -> None:
    """The library's store of files creates on condition, but can't replace on condition."""
    backend = ObjectStoreBackend(Objects(LocalStore(tmp_path), "file://"), "s.json")
    assert backend.read() is None
    with (
        pytest.raises(Unwritable, match="does not support conditional writes"),
        backend.lock("run", "reconciler apply", 0),
    ):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_not_an_empty_one(endpoint: str, tmp_path: Path) -> None:
    place = S3Place(endpoint, tmp_path)
    with pytest.raises(Unusable, match=f"s3://{place.bucket}/{KEY}: NoSuchBucket"):
        a_backend(place).read()
    with pytest.raises(Unwritable, match="NoSuchBucket"), a_backend(place).lock("run", "", 0):
        raise AssertionError


def test_a_store_that_can_not_be_reached_is_told_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(objects_module._RETRIES, "max_retries", 0)
    with pytest.raises(Unusable) as caught:
        a_backend(S3Place("http://127.0.0.1:1", tmp_path)).read()
    assert str(caught.value).endswith("Connection refused")
    assert "the-" not in str(caught.value)


def test_without_credentials_it_is_said_where_they_come_from(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(objects_module._RETRIES, "max_retries", 0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")  # of no cloud
    with pytest.raises(Unusable, match=r"no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_"):
        a_backend(S3Place(endpoint, tmp_path)).read()


def test_a_store_that_fails_while_a_run_records_is_told_with_where_that_is(
    s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(objects_module._RETRIES, "max_retries", 0)
    with Wire(s3.endpoint, "dropped", 1000) as wire:
        backend = a_backend(s3, wire.endpoint)
        with backend.lock("run", "reconciler apply", 0) as writer:
            writer.journal(a_state(1, "first"), [an_entry("a")])
            wire.cut()
            with pytest.raises(Unwritable, match=f"{KEY}: Connection refused. What this run"):
                writer.journal(a_state(1, "first"), [an_entry("b")])
            with pytest.raises(Unwritable, match=f"{KEY}: Connection refused. What this run"):
                writer.save(a_state(2, "first", "a", "b"))
    assert a_backend(s3).read() == a_state(2, "first", "a")


# --- objects that somebody else changed ---


def test_a_lock_that_was_removed_costs_nothing_that_was_saved(s3: S3Place) -> None:
    Worker(s3).run("a")
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        base = writer.read()
        assert base is not None
        writer.journal(base, [an_entry("b")])
    obstore.delete(s3.store, f"{KEY}.lock")
    expected = fold(base, [an_entry("b")])
    assert a_backend(s3).read() == expected
    Worker(s3).run("c")
    state = a_backend(s3).read()
    assert state is not None
    assert state.accounts.keys() == {*expected.accounts, "c-0", "c-1", "c-2"}


def test_a_state_that_was_put_there_by_hand_is_taken_and_kept(
    endpoint: str, tmp_path: Path
) -> None:
    place = a_place(endpoint, tmp_path)
    place.put(dump(a_state(5, "by-hand")))
    assert a_backend(place).read() == a_state(5, "by-hand")
    Worker(place).run("a")
    assert a_backend(place).generation(5) == a_state(5, "by-hand")


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_record_of_the_journal_that_is_missing_or_damaged_is_named(
    s3: S3Place, harm: str
) -> None:
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        for name in ("a", "b", "c"):
            writer.journal(a_state(1, "first"), [an_entry(name)])
    second = f"{KEY}.journal/{3:012d}"
    if harm == "gone":
        obstore.delete(s3.store, second)
    else:
        obstore.put(
            s3.store, second, bytes(obstore.get(s3.store, second).bytes()).replace(b'"b"', b'"x"')
        )
    with pytest.raises(Unusable, match=f"{second} .*{harm}"):
        a_backend(s3).read()
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:  # noqa: SIM117 - in it alone
        with pytest.raises(Unusable, match=f"{second} .*{harm}"):
            writer.journal(a_state(1, "first"), [])
    with pytest.raises(Unusable, match=f"{second} .*{harm}"):
        a_backend(s3).read()
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        writer.discard()
    assert a_backend(s3).read() is None


def test_a_state_that_is_changed_by_hand_under_a_writer_is_replaced_on_purpose(s3: S3Place) -> None:
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        s3.put(dump(a_state(9, "by-hand")))
        with pytest.raises(Unusable):
            writer.save(a_state(2, "second"))
        writer.replace(a_state(10, "third"))
        assert a_backend(s3).read() == writer.read() == a_state(10, "third")


def test_a_later_state_that_is_put_there_by_hand_is_refused(s3: S3Place) -> None:
    s3.put(dump(a_state(2, "by-hand")))
    with pytest.raises(Unusable, match=r"not what was saved here last. .* Serial 1 is kept"):
        a_backend(s3).read()


def test_what_a_run_recorded_outlives_that_its_lock_was_taken_away(s3: S3Place) -> None:
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        writer.journal(a_state(1, "first"), [an_entry("a")])
        a_backend(s3).unlock("run")
    assert a_backend(s3).read() == a_state(2, "first", "a")


def test_a_record_that_appears_from_an_earlier_run_is_not_passed_over(s3: S3Place) -> None:
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        of_the_first = obstore.get(s3.store, f"{KEY}.journal/{1:012d}").bytes()
        obstore.put(s3.store, f"{KEY}.journal/{2:012d}", of_the_first)
        with pytest.raises(Lost):
            writer.journal(a_state(1, "first"), [an_entry("a")])


def test_every_flipped_bit_of_what_lies_there_is_found() -> None:
    place = MemoryPlace(Path())
    backend = place.open(lease=0)
    with ExitStack() as stack:
        writer = stack.enter_context(backend.lock("run", "", 0))
        writer.save(a_state(1, "a"))
        writer.journal(a_state(1, "a"), [an_entry("b")])
        obstore.put(place.store, KEY, b"")  # so that this save is begun, and does not end
        with pytest.raises(Unusable):
            writer.save(a_state(2, "a", "b"))
        obstore.delete(place.store, KEY)
        assert backend.read() == a_state(2, "a", "b")
        for path in (f"{KEY}.lock", f"{KEY}.journal/{3:012d}"):
            whole = bytes(obstore.get(place.store, path).bytes())
            for damaged in flipped(whole):
                obstore.put(place.store, path, damaged)
                with pytest.raises(Unusable):
                    backend.read()
            obstore.put(place.store, path, whole)
        assert backend.read() == a_state(2, "a", "b")


def test_a_damaged_lock_is_named(s3: S3Place) -> None:
    obstore.put(s3.store, f"{KEY}.lock", b"{}")
    with pytest.raises(Unusable, match=rf"{KEY}.lock is damaged .* remove it"):
        a_backend(s3).read()
    with (
        pytest.raises(Unwritable, match=f"{KEY}.lock is damaged"),
        a_backend(s3).lock("run", "", 0),
    ):
        raise AssertionError


def test_a_state_that_is_changed_by_hand_under_a_writer_is_not_overwritten(s3: S3Place) -> None:
    by_hand = dump(a_state(9, "by-hand"))
    with a_backend(s3).lock("run", "reconciler apply", 0) as writer:
        s3.put(by_hand)
        with pytest.raises(Unusable, match="changed by hand while a run was saving"):
            writer.save(a_state(2, "second"))
        with pytest.raises(Unusable, match="a save of this run did not end"):
            writer.journal(a_state(2, "second"), [an_entry("third")])
    with pytest.raises(Unusable, match="changed by hand"):
        a_backend(s3).read()
    assert s3.copy() == by_hand
    s3.harm("gone")
    assert a_backend(s3).read() == a_state(2, "second")
    with a_backend(s3).lock("run", "reconciler apply", 0):
        assert s3.copy() == dump(a_state(2, "second"))


# --- URLs ---


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://bucket", "no KEY"),
        ("s3://bucket/", "no KEY"),
        ("s3:///key", "has a bucket"),
        ("s3://bucket/a//b", "no KEY"),
        ("s3://bucket/a/../b", "no KEY"),
        ("s3://bucket/a/%2e%2e/b", "no KEY"),
        ("s3://bucket/key#part", "no KEY"),
        ("s3://Bucket/key", "lower case"),
        ("s3://id:secret@bucket/key", "neither user, password nor port"),
        ("s3://bucket:443/key", "neither user, password nor port"),
        ("s3://bucket/key?access_key_id=id", "'access_key_id'. Allowed, with a value: endpoint, region"),
        ("s3://bucket/key?region", "'region'"),
        ("s3://bucket/key?region=a&region=b", "twice"),
        ("s3://bucket/key?endpoint=http://store.example.com", "not encrypted"),
        ("s3://bucket/key?endpoint=ftp://store.example.com", "no https:// address"),
        ("s3://bucket/key?endpoint=https://id:secret@store.example.com", "no https:// address"),
        ("gs://bucket/key?endpoint=https://store.example.com", "'endpoint'. Allowed, with a value: nothing"),
        ("az://container/key", "Account must be specified"),
        ("az://container/key?sas=secret", "'sas'. Allowed, with a value: account"),
        ("ftp://bucket/key", "not supported; give a path, s3://, gs://, az://"),
    ],
)  # fmt: skip
def test_a_url_that_is_refused_says_why_and_shows_no_secret(
    tmp_path: Path, url: str, why: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        open_backend(url, tmp_path, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/key",
        "s3://bucket/a/b.json?region=eu-west-1",
        "s3://bucket/key?endpoint=https://store.example.com",
        "s3://bucket/key?endpoint=http://localhost:9000",
        "s3://bucket/key?endpoint=http://[::1]:9000",
        "gs://bucket/key",
        "az://container/key?account=company",
    ],
)
def test_a_url_that_is_right_needs_nothing_but_the_environment(tmp_path: Path, url: str) -> None:
    assert isinstance(open_backend(url, tmp_path, {}), ObjectStoreBackend)


def test_a_file_can_not_name_another_endpoint_than_the_environment(tmp_path: Path) -> None:
    environment = {"AWS_ENDPOINT_URL_S3": "https://store.example.com"}
    with pytest.raises(ValueError, match="not be able to send"):
        open_backend(
            "s3://bucket/key?endpoint=https://elsewhere.example.com", tmp_path, environment
        )
    with pytest.raises(ValueError, match="not encrypted"):
        open_backend("s3://bucket/key", tmp_path, {"AWS_ENDPOINT_URL": "http://store.example.com"})
    open_backend("s3://bucket/key?endpoint=https://store.example.com/", tmp_path, environment)


def test_without_the_library_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, objects_module.__name__)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(
        ValueError, match=r"needs more packages: pip install 'reconciler\[objectstore\]'"
    ):
        open_backend("s3://bucket/key", tmp_path, {})


# --- the command line ---

PROJECT: Final = """
version: 1
api: {{url: "sandbox:"}}
state: {state}
accounts:
{accounts}
"""
ACCOUNT: Final = "  customer-{0}: {{settings: {{name: Customer {0}, realm: c{0}.sip.example.com}}}}"


def test_a_run_that_was_killed_is_taken_up_by_one_plain_apply(
    endpoint: str, tmp_path: Path
) -> None:
    place = a_place(endpoint, tmp_path)
    accounts = "\n".join(ACCOUNT.format(number) for number in range(12))
    (tmp_path / "reconciler.yaml").write_text(PROJECT.format(state=place.named, accounts=accounts))
    with start(tmp_path, "apply", "--auto-approve", "--parallelism", "1") as applying:
        while len(sizes(place)) < 7:
            assert applying.poll() is None
        applying.kill()
        applying.communicate()
    with start(tmp_path, "apply", "--auto-approve") as applied:
        assert "0 failed" in applied.communicate()[0]
    with start(tmp_path, "plan") as planned:
        assert "No changes. 12 accounts match" in planned.communicate()[0]
    state = open_backend(place.named, tmp_path, {}).read()
    assert state is not None
    assert len(state.accounts) == 12


def start(project: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reconciler", *words, "-C", str(project)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
