"""Signals, and readers that go away: a run ends in good order, or goes on as if nothing had been."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.local import LocalBackend

from .conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.core.values import JsonObject

    from .conftest import Project, World

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
APPLY = ("apply", "--auto-approve", "--parallelism", "2")
LONG = 60_000


def five() -> dict[str, JsonObject]:
    return {f"a{number}": {} for number in range(5)}


def struck(world: World, number: int) -> Callable[[], bool]:
    return lambda: world.platform.faults.matches() >= number


def waiting(pipe: int) -> int:
    """The bytes in a pipe that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def assert_nothing_is_held(project: Project) -> None:
    assert LocalBackend(project.state_file).holder() is None


# --- before anything is sent ---


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("command", [("plan",), APPLY])
def test_while_accounts_are_read_it_ends_at_once(
    release: World, project: Project, command: tuple[str, ...], number: signal.Signals
) -> None:
    release.fault(path="/accounts/*/descendants", delay_ms=LONG)
    project.declare(five())
    with project.start(*command) as process:
        wait_for(struck(release, 1))
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert out == b""
    assert f"Interrupted: by {number.name}".encode() in err
    assert b"Traceback" not in err
    assert release.writes == []
    assert_nothing_is_held(project)
    release.platform.faults.clear()
    assert project.apply().code == 0


@pytest.mark.parametrize("number", ENDING)
def test_while_it_waits_for_the_lock_it_ends_at_once(
    release: World, project: Project, number: signal.Signals
) -> None:
    project.declare(five())
    with LocalBackend(project.state_file).lock("other", "reconciler apply", 0):
        with project.start(*APPLY, "--lock-timeout", "60s") as process:
            wait_for(lambda: sleeps(process.pid))
            process.send_signal(number)
            _, err = process.communicate(timeout=10)
        assert process.returncode == 128 + number, err
        holder = LocalBackend(project.state_file).holder()
        assert holder is not None
        assert holder.run == "other"
    assert release.log == []


def sleeps(pid: int) -> bool:
    """Whether a process does nothing until some time has passed; waiting for an answer is not that."""
    return Path(f"/proc/{pid}/wchan").read_text(encoding="ascii") == "hrtimer_nanosleep"


# --- while operations run ---


@pytest.mark.parametrize("number", ENDING)
def test_once_what_is_in_flight_is_finished_and_the_rest_is_told(
    release: World, project: Project, number: signal.Signals
) -> None:
    release.fault(method="PUT", path="^/accounts/.*", nth=2, delay_ms=500)
    project.declare(five())
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(struck(release, 2))
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert release.names() == ["a0", "a1"]
    assert b"2 created" in out
    assert b"0 failed, 3 skipped" in out
    assert b"accounts.a4: create: skipped: the run was stopped before" in out
    assert f"Interrupted by {number.name}: nothing more was begun.".encode() in out
    assert b"a new plan and apply go on from here." in out
    assert b"accounts.a1: created" in err
    assert_nothing_is_held(project)
    state = project.state()
    assert sorted(state["accounts"]) == ["a0", "a1"]
    assert state["intents"] == {}
    assert project.apply().code == 0
    assert project.plan().code == 0


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("phase", ["before", "after"])
def test_twice_it_stops_at_once_and_the_next_apply_finds_out(
    release: World, project: Project, phase: str, number: signal.Signals
) -> None:
    release.fault(method="PUT", path="^/accounts/.*", nth=2, phase=phase, delay_ms=LONG)
    project.declare(five())
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(struck(release, 2))
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)  # it waits for what is in flight
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert b"accounts.a1: create: failed: stopped while it was under way" in out
    assert list(project.state()["intents"]) == ["a1"]
    assert_nothing_is_held(project)
    release.platform.faults.clear()
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert release.names() == sorted(five())
    assert project.plan().code == 0


def test_a_signal_that_was_to_be_ignored_is(release: World, project: Project) -> None:
    """As under nohup."""
    release.fault(method="PUT", path="^/accounts/.*", nth=2, delay_ms=300)
    project.declare(five())
    command = [sys.executable, "-m", "reconciler", *APPLY, "-C", str(project.directory)]
    ignored = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", ignored, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(struck(release, 2))
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert release.names() == sorted(five())


@pytest.mark.parametrize("command", [("plan",), APPLY])
def test_many_interrupts_end_it_without_a_traceback(
    release: World, project: Project, command: tuple[str, ...]
) -> None:
    project.declare(five())
    for number in (1, 2):
        release.platform.faults.clear()
        release.fault(method="GET", path="^/accounts/.*", times=None, delay_ms=200)
        with project.start(*command) as process:
            wait_for(struck(release, number))
            for _ in range(5):
                process.send_signal(signal.SIGINT)
                time.sleep(0.005)  # so that the kernel does not make them one
            out, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert b"Traceback" not in err
        assert out == b""
    assert release.names() == []


# --- readers that go away ---


def test_output_that_cant_be_taken_at_once_is_waited_for(release: World, project: Project) -> None:
    project.declare({f"a{number}": {"org": "x" * 200} for number in range(400)})
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [sys.executable, "-m", "reconciler", "plan", "-C", str(project.directory)]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        wait_for(lambda: waiting(reader) > 60_000)  # it is all but full
        with os.fdopen(reader, "rb") as stream:
            out = stream.read()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert b"\nAffects service of 400 accounts.\n" in out
    assert release.writes == []


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_an_apply_goes_on_when_nobody_reads(release: World, project: Project, gone: str) -> None:
    many: dict[str, JsonObject] = {f"a{number}": {"org": "x" * 100} for number in range(40)}
    project.declare(many)
    with project.start(*APPLY) as process:
        stream = process.stdout if gone == "stdout" else process.stderr
        assert stream is not None
        stream.close()  # so the first line that is written breaks the pipe
        other = process.stderr if gone == "stdout" else process.stdout
        assert other is not None
        seen = other.read()
        process.wait(20)
    assert process.returncode == 0, seen
    assert (b"accounts.a39: created" if gone == "stdout" else b"40 created") in seen
    assert b"BrokenPipe" not in seen
    assert release.names() == sorted(many)
    assert project.plan().code == 0


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("apply", "--auto-approve"), 0),
        (("plan", "--detailed-exitcode"), 1),
        (("drift", "--format", "json"), 1),
        (("schema",), 1),
    ],
)
def test_a_full_disk_behind_the_output_is_told(
    release: World, project: Project, command: tuple[str, ...], status: int
) -> None:
    project.declare(five())
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "reconciler", *command, "-C", project.directory],
            stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert ended.returncode == status, ended.stderr
    assert b"Output that can't be written: No space left on device." in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert len(release.names()) == (5 if command[0] == "apply" else 0)


def test_the_exit_status_is_the_same_when_nobody_reads(release: World, project: Project) -> None:
    release.create("a0", realm="other.example.com")
    project.declare(five())
    for command, code in (
        (("plan",), 0),
        (("plan", "--detailed-exitcode"), 2),
        (("plan", "--format", "json", "--detailed-exitcode"), 2),
        (APPLY, 5),
    ):
        with project.start(*command) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            err = process.stderr.read()
            process.wait(20)
        assert process.returncode == code, err


def test_a_full_disk_under_the_events_ends_no_apply(release: World, project: Project) -> None:
    project.declare(five())
    applied = project.apply("--events", "/dev/full")
    assert applied.code == 0, applied.err
    assert applied.err.count("no more events are written: No space left on device") == 1
    assert "5 created" in applied.out
    assert release.names() == sorted(five())


# --- state that can't be written any more ---


def test_a_lock_that_is_taken_away_in_mid_apply_stops_it_and_says_what_was_done(
    release: World, project: Project
) -> None:
    release.fault(method="PUT", path="^/accounts/.*", nth=3, delay_ms=LONG)
    project.declare(five())
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(struck(release, 3))
        assert project.run("unlock", "--force").code == 0
        out, err = process.communicate(timeout=20)
    assert process.returncode == 5, err
    assert b"Apply incomplete: 2 created" in out, out[-900:]
    assert b"1 failed, 2 skipped." in out
    assert b"Not all of this could be recorded in state: The lock was lost" in out
    assert b"Traceback" not in err
    assert len(release.writes) <= 3
    assert project.apply().code == 0
    assert release.names() == sorted(five())
    assert project.plan().code == 0


def test_a_disk_that_is_full_in_mid_apply_stops_it_and_the_next_finishes(
    release: World, project: Project
) -> None:
    accounts: dict[str, JsonObject] = {
        f"a{number:03}": {"language": "en-us"} for number in range(60)
    }
    project.declare(accounts)
    with project.start(*APPLY, "--format", "json") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (16_000, 16_000))
        out, err = process.communicate(timeout=30)
    assert process.returncode == 5, err
    document = json.loads(out)
    made = [result for result in document["results"] if result["status"] == "done"]
    assert 0 < len(made) < 60
    assert "File too large" in document["diagnostics"][-1]["detail"]
    assert b"Traceback" not in err
    assert project.apply().code == 0
    assert release.names() == sorted(accounts)
    assert project.plan().code == 0
