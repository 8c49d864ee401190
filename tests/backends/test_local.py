"""State in a file: what every place promises, and what only files can do."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.backends.backend import Locked, Lost, Unwritable
from reconciler.backends.codec import checked_line, read_checked_line
from reconciler.core.state import AccountRecord, Entry, Unusable, dump, fold
from reconciler.core.values import AccountId

from .contract import LEASE, LONG, POLL, Contract, Runs, locked, open_again, save
from .full_disk import Answer, attempt, old_and_new
from .other_run import a_state, an_entry, flipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .contract import Harm

KEY = "a key for tests, and for nothing else"


@dataclass(frozen=True)
class LocalPlace:
    directory: Path
    named: str = "state/s.json"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.directory / self.named

    def beside(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{name}")

    def copy(self) -> bytes:
        return self.path.read_bytes()

    def put(self, copy: object) -> None:
        assert isinstance(copy, bytes)
        self.path.write_bytes(copy)

    def harm(self, how: Harm) -> None:
        text = self.path.read_bytes()
        match how:
            case "gone":
                self.path.unlink()
            case "empty":
                self.path.write_bytes(b"")
            case "cut":
                self.path.write_bytes(text[: len(text) // 2])
            case "flipped":
                self.path.write_bytes(text.replace(b"tool", b"topl"))

    def empty_twin(self) -> LocalPlace:
        return LocalPlace(self.directory, "twin/s.json", self.environment)


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path)


@pytest.fixture
def runs(place: LocalPlace, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(place, tmp_path / "held")
    yield runs
    runs.end()


class TestContract(Contract):
    """What every place promises, on files."""


class TestContractUnderAKey(Contract):
    """The same, encrypted."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> LocalPlace:
        return LocalPlace(tmp_path, environment={"RECONCILER_STATE_KEY": KEY})


# --- the files ---


def test_all_files_are_for_their_owner_alone(place: LocalPlace) -> None:
    os.umask(old := os.umask(0))
    try:
        os.umask(0)
        save(place, 1, 2)
        with locked(place) as writer:
            state = writer.read()
            assert state is not None
            writer.journal(state, [an_entry("b")])
    finally:
        os.umask(old)
    names = ["s.json", "s.json.backup.000000001", "s.json.journal", "s.json.lock", "s.json.mutex"]
    assert sorted(path.name for path in place.path.parent.iterdir()) == names
    assert {path.stat().st_mode & 0o777 for path in place.path.parent.iterdir()} == {0o600}
    assert place.path.parent.stat().st_mode & 0o777 == 0o700


def test_the_state_is_the_text_that_json_tools_read(place: LocalPlace) -> None:
    save(place, 1)
    assert place.path.read_bytes() == dump(a_state(1, "a1"))
    assert json.loads(place.path.read_bytes())["accounts"]["a1"]["id"] == "a1"


def test_reading_writes_nothing(place: LocalPlace) -> None:
    with locked(place) as writer:
        writer.save(a_state(1))
        writer.journal(a_state(1), [an_entry("a")])
    before = {path: path.read_bytes() for path in place.path.parent.iterdir()}
    open_again(place).read()
    open_again(place).history()
    open_again(place).holder()
    assert {path: path.read_bytes() for path in place.path.parent.iterdir()} == before
    elsewhere = LocalPlace(place.directory / "none", "none/s.json")
    assert open_again(elsewhere).read() is None
    assert not elsewhere.directory.exists()


def test_a_run_that_was_killed_while_saving_leaves_nothing_behind(
    place: LocalPlace, runs: Runs
) -> None:
    (dead,) = runs.start("dead")
    assert dead.ask("lock", 0) == "held"
    dead.kill()
    place.beside("new.dead").write_bytes(b"half a sta")
    with locked(place):
        assert not place.beside("new.dead").exists()


def test_a_journal_costs_the_same_whatever_the_state_s_size(place: LocalPlace) -> None:
    """An apply of one account among many writes a few kilobytes before the final save."""
    record = AccountRecord(
        AccountId("x" * 32), AccountId("root"), False,
        {"settings": {f"setting_{n}": "a value" for n in range(40)}},
        {"settings": {f"setting_{n}": "a value" for n in range(40)}}, "1-a", "",
    )  # fmt: skip
    written = []
    for names in ([], [f"a{n}" for n in range(2000)]):
        twin = LocalPlace(place.directory / str(len(names)))
        with locked(twin) as writer:
            state = a_state(1, *names)
            writer.save(state)
            writer.journal(state, [])
            writer.journal(state, [Entry("record", "one", record)])
            written.append(
                sum(path.stat().st_size for path in twin.path.parent.iterdir())
                - twin.path.stat().st_size
            )
    assert written[0] == written[1]
    assert written[0] < 5000


@pytest.mark.parametrize("name", ["s.json", "s.json.journal", "s.json.lock", "s.json.mutex"])
def test_symbolic_links_are_refused(place: LocalPlace, name: str) -> None:
    elsewhere = place.directory / "elsewhere"
    with locked(place) as writer:
        writer.save(a_state(1))
        writer.journal(a_state(1), [an_entry("a")])
    link = place.path.with_name(name)
    link.replace(elsewhere)
    link.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises((Unusable, Unwritable), match="symbolic link"), locked(place) as writer:
        writer.save(a_state(9, "z"))
    assert elsewhere.read_bytes() == before
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["s.json.lock.new", "s.json.new.run-1", "s.json.backup.000000001"])
def test_a_link_where_a_new_file_goes_is_replaced_and_not_followed(
    place: LocalPlace, name: str
) -> None:
    elsewhere = place.directory / "elsewhere"
    elsewhere.write_text("as it was")
    save(place, 1)
    place.path.with_name(name).symlink_to(elsewhere)
    save(place, 2)
    assert elsewhere.read_text() == "as it was"
    assert open_again(place).read() == a_state(2, "a2")


def test_no_descriptor_is_left_open(place: LocalPlace) -> None:
    def descriptors() -> list[str]:
        return os.listdir("/proc/self/fd")  # noqa: PTH208

    before = len(descriptors())
    for serial in range(1, 4):
        with locked(place) as writer:
            writer.save(a_state(serial))
            writer.journal(a_state(serial), [an_entry("a")])
            with pytest.raises(Locked), locked(place, "run-2"):
                raise AssertionError
            writer.save(a_state(serial))
    assert len(descriptors()) == before


# --- damage ---


def test_a_state_that_is_gone_beside_backups_is_refused_without_a_lock_file(
    place: LocalPlace,
) -> None:
    """As where the lock's file was not copied along, or is of version 0.1."""
    save(place, 1, 2)
    place.path.unlink()
    place.beside("lock").unlink()
    with pytest.raises(Unusable, match=r"is gone, but s.json.backup.000000001 is there"):
        open_again(place).read()


def test_a_state_without_a_lock_file_is_taken_as_it_is(place: LocalPlace) -> None:
    save(place, 1)
    for text in (None, b"", b'{"run": "r", "pid": 1}'):  # gone, or as version 0.1 left it
        place.beside("lock").unlink()
        if text is not None:
            place.beside("lock").write_bytes(text)
        assert open_again(place).read() == a_state(1, "a1")
        with locked(place) as writer:
            assert writer.read() == a_state(1, "a1")


@pytest.fixture
def journalled(place: LocalPlace) -> bytes:
    """The text of a journal with two records, which is there."""
    with locked(place) as writer:
        writer.save(a_state(1))
        writer.journal(a_state(1), [Entry("forget", "z"), an_entry("a")])
        writer.journal(a_state(1), [an_entry("b")])
    return place.beside("journal").read_bytes()


def test_every_flipped_bit_of_a_journal_is_found(place: LocalPlace, journalled: bytes) -> None:
    backend = open_again(place)
    for damaged in flipped(journalled):
        place.beside("journal").write_bytes(damaged)
        with pytest.raises(Unusable, match=r"s\.json\.journal:[123]: "):
            backend.read()


def test_a_cut_journal_is_what_was_confirmed_before(place: LocalPlace, journalled: bytes) -> None:
    """A record without its end was never confirmed; one that lacks the end alone is whole."""
    first = journalled.index(b"\n")
    backend = open_again(place)
    for length in range(len(journalled) + 1):
        place.beside("journal").write_bytes(journalled[:length])
        records = (length >= first) + (length >= len(journalled) - 1)
        assert backend.read() == fold(a_state(1), [an_entry("a"), an_entry("b")][:records])


def test_a_record_that_a_power_cut_left_as_zeros_was_never_confirmed(
    place: LocalPlace, journalled: bytes
) -> None:
    whole, second = journalled.split(b"\n")[:2]
    length = len(second) + 1
    for zeros in range(1, length):
        kept = length - zeros
        for torn in (second[:kept] + bytes(zeros), bytes(zeros) + second[zeros:] + b"\n"):
            place.beside("journal").write_bytes(whole + b"\n" + torn)
            names = ["a", "b"] if torn == second + b"\0" else ["a"]
            assert open_again(place).read() == a_state(2, *names)


def test_the_next_run_takes_up_a_cut_journal_and_goes_on(
    place: LocalPlace, journalled: bytes
) -> None:
    place.beside("journal").write_bytes(journalled[:-5])
    with locked(place) as writer:
        state = writer.read()
        assert state == a_state(2, "a")
        writer.journal(state, [an_entry("c")])
    assert open_again(place).read() == a_state(3, "a", "c")


def test_a_journal_that_was_left_behind_is_ignored(place: LocalPlace, journalled: bytes) -> None:
    with locked(place) as writer:
        state = writer.read()
        assert state is not None
        writer.save(state)
    place.beside("journal").write_bytes(journalled)
    assert open_again(place).read() == a_state(2, "a", "b")


def test_a_state_older_than_its_journal_was_rolled_back(place: LocalPlace) -> None:
    save(place, 1)
    old = place.copy()
    with locked(place) as writer:
        writer.save(a_state(2))
        writer.journal(a_state(2), [an_entry("a")])
    place.put(old)
    place.beside("lock").unlink()
    with pytest.raises(Unusable, match=r"journal:1: .*rolled back"):
        open_again(place).read()


def test_every_flipped_bit_of_the_lock_is_found(place: LocalPlace) -> None:
    save(place, 1)
    text = place.beside("lock").read_bytes()
    for damaged in flipped(text):
        place.beside("lock").write_bytes(damaged)
        if not damaged.startswith(b"{"):
            with pytest.raises(Unusable, match="lock: it is damaged"):
                open_again(place).read()


def test_what_can_not_be_read_is_kept_when_it_is_replaced(
    place: LocalPlace, journalled: bytes
) -> None:
    place.harm("flipped")
    damaged = place.copy()
    with locked(place) as writer:
        writer.replace(a_state(9))
    (kept,) = place.path.parent.glob("s.json.damaged.*")
    (journal,) = place.path.parent.glob("s.json.damaged-journal.*")
    assert (kept.read_bytes(), journal.read_bytes()) == (damaged, journalled)
    assert open_again(place).read() == a_state(9)


# --- errors of the file system ---


OLD, NEW = old_and_new(2)


def told(kind: str, *numbers: int, under: tuple[str, ...] = (), cwd: Path) -> list[Answer]:
    """What `full_disk.py` tells. `numbers`: of accounts, and the range of room in bytes."""
    command = [*under, sys.executable, "-m", Answer.__module__, kind, *map(str, numbers)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    assert ran.stderr == ""
    return [Answer(**json.loads(line)) for line in ran.stdout.splitlines()]


def check(answer: Answer, error: str) -> None:
    """One state is whole, and what is said of the other is true."""
    if not answer.told:
        assert (answer.old, answer.read, answer.beside) == (False, "new", False)
        return
    assert error in answer.told
    assert answer.old
    assert answer.beside is ("the new one stands in" in answer.told)
    if "the next run takes it up" in answer.told:
        assert (answer.journal, answer.read) == (True, "new")
    else:
        assert answer.beside or "could not be written anywhere" in answer.told
        assert answer.read in ("old", "new")


def kinds(answers: list[Answer]) -> set[str]:
    """The ends that there are: each must come up, or a test of them tests nothing."""
    return {answer.told.rpartition(" ")[2] for answer in answers}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory if there is such a thing: a thousand saves take their time to sync."""
    memory = Path("/dev/shm")  # noqa: S108 - only what the tests make goes below it
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        yield Path(directory)


def test_a_disk_that_is_full_at_any_byte_leaves_the_old_state_whole(memory: Path) -> None:
    answers = told("small files", 2, len(dump(NEW)) + 2, 1, cwd=memory)
    for answer in answers:
        check(answer, "File too large")
    assert kinds(answers) == {"", "up.", "anywhere."}


def test_a_file_system_without_room_leaves_the_old_state_whole(tmp_path: Path) -> None:
    mount = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    script = 'mount -t tmpfs -o size=128k tmpfs . && cd "$PWD" && exec "$@"'
    if subprocess.run([*mount, script, "sh", "true"], check=False, cwd=tmp_path).returncode:
        pytest.skip("no file system may be mounted here")
    answers = told("full disk", 60, 81920, 4096, under=(*mount, script, "sh"), cwd=tmp_path)
    for answer in answers:
        check(answer, "No space left on device")
    assert kinds(answers) == {"", "up.", "anywhere."}


def failing(monkeypatch: pytest.MonkeyPatch, call: str, nth: int, error: int) -> None:
    """Let the nth call of a function of the operating system fail."""
    real = getattr(os, call)
    numbers = itertools.count(1)

    def fail(*arguments: Any, **named: Any) -> Any:
        if next(numbers) == nth:
            raise OSError(error, os.strerror(error))
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, fail)


FAILURES = {
    "fsync": errno.EIO,
    "pwrite": errno.EDQUOT,
    "link": errno.EROFS,
    "replace": errno.ENOSPC,
    "open": errno.EACCES,
}


@pytest.mark.parametrize("call", FAILURES)
def test_an_error_at_any_step_leaves_a_whole_state_and_says_where_the_other_is(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    told = []
    for nth in range(1, 20):
        twin = LocalPlace(place.directory / str(nth))
        with locked(twin) as writer:
            writer.save(OLD)
            with monkeypatch.context() as patch:
                failing(patch, call, nth, FAILURES[call])
                text = attempt(writer, OLD, NEW, journal=nth % 2 == 0)
            if text:
                assert os.strerror(FAILURES[call]) in text
            _check_found(twin, text)
            writer.save(NEW)  # and when the file system is well again, so are we
        assert open_again(twin).read() == NEW
        told.append(text)
    assert told[-1] == ""
    assert any(told)


def _check_found(place: LocalPlace, text: str) -> None:
    found = open_again(place).read()
    if not text or "in its place" in text:
        assert found == NEW
        return
    assert place.path.read_bytes() == dump(OLD)
    assert found == NEW if "the next run takes it up" in text else found in (OLD, NEW)
    if "the new one stands in" in text:
        assert place.beside("new.run-1").read_bytes() == dump(NEW)


def test_after_a_record_that_failed_none_is_taken_until_the_next_save(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of a page that could not be synced, nobody knows: another sync says nothing."""
    with locked(place) as writer:
        writer.save(a_state(1))
        writer.journal(a_state(1), [an_entry("a")])
        with monkeypatch.context() as patch:
            failing(patch, "fsync", 1, errno.EIO)
            for name in ("b", "c"):
                with pytest.raises(Unwritable, match=r"journal: Input/output error"):
                    writer.journal(a_state(1), [an_entry(name)])
        assert open_again(place).read() == a_state(2, "a")
        writer.save(a_state(2, "a", "b"))
        writer.journal(a_state(2, "a", "b"), [an_entry("c")])
    assert open_again(place).read() == a_state(3, "a", "b", "c")


def test_a_sign_of_life_that_fails_is_made_good_by_the_next(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(place) as writer:
        with monkeypatch.context() as patch:
            failing(patch, "utime", 1, errno.EIO)
            before = time.monotonic()
            while time.monotonic() < before + LEASE:
                writer.check()
                time.sleep(POLL)
        writer.check()
        writer.save(a_state(1))


def test_a_place_that_can_not_be_written_is_told_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Unwritable, match="file/state: Not a directory"),
        locked(LocalPlace(tmp_path / "file")),
    ):
        raise AssertionError


# --- the lock ---


def moved_elsewhere(place: LocalPlace) -> None:
    """Make the present holder one of another machine, whose kernel tells us nothing."""
    lock = place.beside("lock")
    document = read_checked_line(lock.read_bytes().rstrip(b"\n"))
    document["holder"]["machine"] = "another"
    lock.write_bytes(checked_line(document) + b"\n")


def test_a_dead_holder_elsewhere_is_taken_over_after_its_lease(
    place: LocalPlace, runs: Runs
) -> None:
    (dead,) = runs.start("dead")
    assert dead.ask("lock", 0) == "held"
    dead.kill()
    moved_elsewhere(place)
    with pytest.raises(Locked), locked(place):
        raise AssertionError
    began = time.monotonic()
    with locked(place, timeout=LONG) as writer:
        assert time.monotonic() - began >= LEASE
        writer.save(a_state(1))


def test_a_clock_that_goes_wrong_takes_no_lock_from_the_living(
    place: LocalPlace, runs: Runs
) -> None:
    """The time of its last sign looks long ago; the watch sees the next one."""
    (holder,) = runs.start("holder")
    assert holder.ask("lock", 0) == "held"
    os.utime(place.beside("lock"), (0, 0))
    with pytest.raises(Locked), locked(place):
        raise AssertionError
    assert holder.ask("save", 1) == "saved"


def test_a_process_that_stands_still_in_the_middle_of_a_write_keeps_others_out(
    place: LocalPlace,
) -> None:
    save(place, 1)
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(place.beside("mutex"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(Unwritable, match="stands still"), locked(place):
            raise AssertionError
        assert open_again(place).read() == a_state(1, "a1")
        process.kill()
    with locked(place) as writer:
        writer.save(a_state(2))


@pytest.mark.parametrize("name", ["lock", "mutex"])
def test_who_removes_the_lock_s_files_lets_two_write_nothing(place: LocalPlace, name: str) -> None:
    with locked(place) as first:
        first.save(a_state(1))
        place.beside(name).unlink()
        if name == "mutex":
            with pytest.raises(Locked), locked(place, "run-2"):
                raise AssertionError
            first.save(a_state(2))
            return
        with locked(place, "run-2") as second:
            with pytest.raises(Lost):
                first.save(a_state(2, "z"))
            second.save(a_state(2))
    assert open_again(place).read() == a_state(2)
