"""Two runs on one project: one waits or gives way, and who lost the lock changes nothing more."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from reconciler.backends import lease
from reconciler.backends.local import LocalBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.core.values import JsonObject

    from .conftest import Project, World

SHORT = lease.Timing(heartbeat=0.2, lease=1.5, poll=0.02)
SHORTLY = (
    "import sys; from reconciler.backends import lease; from reconciler.cli import run;"
    f" lease.TIMING = lease.{SHORT}; run()"
)
CUSTOMERS = [f"customer-{number}" for number in range(4)]
NO_LIMIT: JsonObject = {"max_update_percent": 100}
KEY = "a key for tests, and for nothing else"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TIMING", SHORT)


@contextmanager
def applying(
    project: Project, world: World, nth: int, delay_ms: int, method: str = "PUT"
) -> Iterator[Run]:
    """An apply as a process, while the platform keeps it waiting for the answer to its nth write."""
    world.fault(method=method, path="^/accounts/.*", nth=nth, delay_ms=delay_ms, phase="after")
    before = len(world.writes)
    command = ["apply", "--auto-approve", "--parallelism", "1", "-C", str(project.directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", SHORTLY, *command], stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        wait_for(lambda: len(world.writes) >= before + nth)
        yield process
        process.kill()


Run = subprocess.Popen[bytes]


@pytest.fixture(autouse=True)
def _four_customers(project: Project, _short: None) -> None:
    project.declare({key: {} for key in CUSTOMERS})


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def test_of_two_applies_one_gives_way_and_names_the_other(release: World, project: Project) -> None:
    with applying(project, release, 2, 1500) as first:
        second = project.apply()
        assert second.code == 4
        assert f"pid {first.pid}" in second.err
        assert "`reconciler apply`" in second.err
        assert project.plan().code == 2  # needs no lock, and sees what is recorded so far
        out, err = first.communicate(timeout=20)
    assert first.returncode == 0, err
    assert b"4 created" in out
    assert project.plan().code == 0


def test_one_that_waits_long_enough_comes_after_the_other(release: World, project: Project) -> None:
    with applying(project, release, 4, 700) as first:
        second = project.apply("--lock-timeout", "20s")
        assert second.code == 0, second.err
        assert "No changes" in second.out
        first.communicate(timeout=20)
    assert first.returncode == 0
    assert len(release.writes) == 4


def test_after_kill_9_the_next_run_takes_the_lock_at_once(release: World, project: Project) -> None:
    with applying(project, release, 2, 300) as first:
        first.kill()
        first.wait()
        time.sleep(0.3)  # the platform carries out what it was asked, whoever listens
        applied = project.apply()
    assert applied.code == 0, applied.err
    assert release.names() == CUSTOMERS
    assert project.plan().code == 0


def test_a_run_that_stood_still_finds_its_lock_gone_and_changes_nothing_more(
    release: World, project: Project
) -> None:
    with applying(project, release, 2, 600) as first:
        first.send_signal(signal.SIGSTOP)
        assert project.apply().code == 4  # its last sign of life is fresh
        taken = project.apply("--lock-timeout", "20s")
        assert taken.code == 0, taken.err
        before, state = len(release.writes), project.state_file.read_bytes()
        first.send_signal(signal.SIGCONT)
        out, err = first.communicate(timeout=20)
    assert first.returncode == 5, err
    assert b"The lock was lost" in out
    assert len(release.writes) == before == 4
    assert project.state_file.read_bytes() == state
    assert project.plan().code == 0


def test_a_run_that_wakes_up_without_its_lock_sends_nothing_more(
    release: World, project: Project
) -> None:
    project.settle()
    project.declare({key: {"language": "de-de"} for key in CUSTOMERS}, safety=NO_LIMIT)
    with applying(project, release, 2, 300, "PATCH") as first:
        first.send_signal(signal.SIGSTOP)
        with LocalBackend(project.state_file, timing=SHORT).lock("by hand", "test", 20):
            pass
        first.send_signal(signal.SIGCONT)
        out, err = first.communicate(timeout=20)
    assert first.returncode == 5, err
    assert b"The lock was lost" in out
    assert [entry.method for entry in release.writes] == ["PUT"] * 4 + ["PATCH"] * 2
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert project.plan().code == 0


def test_a_run_whose_lock_is_taken_by_hand_ends_while_it_waits_for_the_platform(
    release: World, project: Project
) -> None:
    with applying(project, release, 2, 20_000) as first:
        place = LocalBackend(project.state_file)
        holder = place.holder()
        assert holder is not None
        place.unlock(holder.run)
        out, err = first.communicate(timeout=10)
    assert first.returncode == 5, err
    assert b"The lock was lost" in out
    assert len(release.writes) == 2
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert release.names() == CUSTOMERS


def test_state_under_a_key(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILER_STATE_KEY", KEY)
    project.declare({"acme": {}})
    project.settle()
    text = project.state_file.read_bytes()
    assert b"acme" not in text
    assert project.state()["serial"] == 2
    outputs = []
    for wrong in ("", "hunter2", "wrong, but as long as needs be"):
        monkeypatch.setenv("RECONCILER_STATE_KEY", wrong)
        for command in ("plan", "apply"):
            ended = project.run(command, *(["--auto-approve"] if command == "apply" else []))
            assert ended.code == 1
            assert "RECONCILER_STATE_KEY" in ended.err
            outputs.append(ended.out + ended.err)
    assert project.state_file.read_bytes() == text
    assert len(release.writes) == 1
    for secret in (KEY, "hunter2", "wrong, but"):
        assert not any(secret in output for output in outputs)
    monkeypatch.setenv("RECONCILER_STATE_KEY", KEY)
    assert project.plan().code == 0


def test_nothing_but_state_lock_and_generations_is_left(release: World, project: Project) -> None:
    project.settle()
    assert project.apply().code == 0
    name = project.state_file.name
    left = sorted(path.name.removeprefix(name) for path in project.state_file.parent.iterdir())
    assert left == ["", ".backup.000000001", ".lock", ".mutex"]
    assert release.names() == CUSTOMERS
