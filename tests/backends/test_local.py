"""State in a file: whole or as it was, one writer at a time, nothing lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.backend import Locked, Unwritable
from reconciler.backends.local import GENERATIONS, LocalBackend
from reconciler.core.state import AccountRecord, Entry, Intent, State, Unusable, dump, fold
from reconciler.core.values import AccountId

if TYPE_CHECKING:
    from collections.abc import Iterator

LINEAGE = "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11"


def a_record(name: str) -> AccountRecord:
    return AccountRecord(
        AccountId(name), AccountId("root"), False, {"settings": {"name": name}}, {}, "1-a", ""
    )


def an_entry(name: str) -> Entry:
    return Entry("record", name, record=a_record(name))


def a_state(serial: int = 1, *names: str) -> State:
    return State(
        LINEAGE,
        serial,
        "t",
        "sandbox:",
        AccountId("root"),
        "00" * 32,
        {n: a_record(n) for n in names},
    )


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "state" / "s.json")


@contextmanager
def locked(backend: LocalBackend) -> Iterator[None]:
    with backend.lock("run", "test", 0):
        yield


def test_no_file_is_no_state(backend: LocalBackend) -> None:
    assert backend.read() is None


def test_what_was_saved_is_read(backend: LocalBackend) -> None:
    with locked(backend):
        backend.save(a_state(1, "a"))
    assert backend.read() == a_state(1, "a")
    assert backend.path.stat().st_mode & 0o777 == 0o600
    assert backend.path.parent.stat().st_mode & 0o777 == 0o700


def test_ten_generations_are_kept(backend: LocalBackend) -> None:
    with locked(backend):
        for serial in range(1, 15):
            backend.save(a_state(serial))
    kept = sorted(backend.path.parent.glob("s.json.backup.*"))
    assert [int(path.suffix[1:]) for path in kept] == list(range(14 - GENERATIONS, 14))
    assert kept[-1].read_bytes() == dump(a_state(13))


def test_a_journal_is_read_with_the_state_and_folded_in_by_the_next_run(
    backend: LocalBackend,
) -> None:
    with locked(backend):
        backend.save(a_state(1))
        backend.journal(a_state(1), [an_entry("a")])
        backend.journal(a_state(1), [an_entry("b")])
    folded = fold(a_state(1), [an_entry("a"), an_entry("b")])
    assert backend.read() == folded
    before = backend.path.read_bytes()
    assert backend.read() == folded
    assert backend.path.read_bytes() == before  # reading writes nothing
    with locked(backend):
        pass
    assert backend.path.read_bytes() == dump(folded)
    assert not backend.path.with_name("s.json.journal").exists()


def test_a_torn_last_line_was_never_confirmed(backend: LocalBackend) -> None:
    with locked(backend):
        backend.save(a_state(1))
        backend.journal(a_state(1), [an_entry("a")])
        backend.journal(a_state(1), [an_entry("b")])
    journal = backend.path.with_name("s.json.journal")
    whole = journal.read_bytes()
    only_a = fold(a_state(1), [an_entry("a")])
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole) - len(lines[-1]), len(whole)):
        journal.write_bytes(whole[:length])
        assert backend.read() == only_a
    journal.write_bytes(lines[0] + b"00000000" + lines[1][8:] + lines[2])
    with pytest.raises(Unusable, match=r"s.json.journal:2"):
        backend.read()


def test_a_journal_that_was_left_behind_is_ignored(backend: LocalBackend) -> None:
    with locked(backend):
        backend.save(a_state(1))
        backend.journal(a_state(1), [an_entry("a")])
    left = backend.path.with_name("s.json.journal").read_bytes()
    with locked(backend):
        backend.save(a_state(5, "z"))
    backend.path.with_name("s.json.journal").write_bytes(left)
    assert backend.read() == a_state(5, "z")


def test_an_intent_survives_in_the_journal(backend: LocalBackend) -> None:
    intent = Intent("a", AccountId("root"), "A", "a.example.com", 5, "d", "run")
    with locked(backend):
        backend.save(a_state(1))
        backend.journal(a_state(1), [Entry("intend", "a", intent=intent)])
    state = backend.read()
    assert state is not None
    assert state.intents == {"a": intent}


def test_a_state_that_is_gone_while_its_backups_are_there_is_refused(backend: LocalBackend) -> None:
    with locked(backend):
        backend.save(a_state(1))
        backend.save(a_state(2))
    backend.path.unlink()
    with pytest.raises(Unusable, match=r"is gone, but s.json.backup.000000001 is there"):
        backend.read()


@pytest.mark.parametrize("text", [b"", b"{}", b"garbage"])
def test_a_damaged_state_is_refused_and_names_the_backups(
    backend: LocalBackend, text: bytes
) -> None:
    backend.path.parent.mkdir()
    backend.path.write_bytes(text)
    with pytest.raises(Unusable, match=r"s.json: .*backup"):
        backend.read()


def test_a_symbolic_link_is_refused(backend: LocalBackend, tmp_path: Path) -> None:
    backend.path.parent.mkdir()
    (tmp_path / "elsewhere").write_bytes(dump(a_state(1)))
    backend.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unusable, match="symbolic link"):
        backend.read()


HOLD = """
import sys
from pathlib import Path
from reconciler.backends.local import LocalBackend
with LocalBackend(Path(sys.argv[1])).lock("run-1", "reconciler apply", 0):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_that_is_held_names_its_holder(backend: LocalBackend) -> None:
    with holder(backend.path) as other:
        with pytest.raises(Locked) as caught, backend.lock("run-2", "test", 0):
            raise AssertionError
        assert caught.value.holder is not None
        assert caught.value.holder.pid == other.pid
        assert caught.value.holder.run == "run-1"
        assert "reconciler apply" in str(caught.value)


def test_a_dead_holder_holds_nothing(backend: LocalBackend) -> None:
    with holder(backend.path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with backend.lock("run-2", "test", 0):
            pass


def test_one_waits_for_a_lock_that_is_let_go(backend: LocalBackend) -> None:
    with holder(backend.path) as other:
        assert other.stdin is not None
        other.stdin.close()
        with backend.lock("run-2", "test", 10):
            pass


FILL = """
import resource, sys
from pathlib import Path
from reconciler.backends.backend import Unwritable
from reconciler.backends.local import LocalBackend
from reconciler.core.state import fold, parse, dump
sys.path.insert(0, sys.argv[3])
from test_local import a_state, an_entry
backend = LocalBackend(Path(sys.argv[1]))
limit = int(sys.argv[2])
with backend.lock("run", "test", 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        backend.journal(a_state(1), [an_entry("b")])
        backend.save(fold(a_state(1), [an_entry("b")]))
    except Unwritable as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_a_full_disk_leaves_the_old_state_whole(backend: LocalBackend, share: float) -> None:
    with locked(backend):
        backend.save(a_state(1))
    full = int(len(dump(fold(a_state(1), [an_entry("b")]))) * share)
    ran = subprocess.run(
        [sys.executable, "-c", FILL, str(backend.path), str(full), str(Path(__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    assert "File too large" in ran.stdout
    assert backend.path.read_bytes() == dump(a_state(1))
    assert not list(backend.path.parent.glob("*.new.*"))
    state = backend.read()
    assert state in (a_state(1), fold(a_state(1), [an_entry("b")]))


def test_a_directory_that_can_not_be_written_is_told_before_anything_is_done(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    backend = LocalBackend(tmp_path / "file" / "s.json")
    with pytest.raises(Unwritable, match=r"s.json.lock|file"), backend.lock("run", "test", 0):
        raise AssertionError


def test_no_descriptor_is_left_open(backend: LocalBackend) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208

    before = descriptors()
    for serial in range(1, 4):
        with locked(backend):
            backend.save(a_state(serial))
            backend.journal(a_state(serial), [an_entry("a")])
    assert descriptors() == before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
