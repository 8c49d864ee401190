"""Who holds a lock, whether he lives, and when he is given up."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.backend import Locked, Lost, Unwritable
from reconciler.backends.lease import Pulse, Timing, Watch, beating, known_dead, now, this_run

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMING = Timing(heartbeat=0.01, lease=0.2, poll=0.005)
LONG_AGO = "2001-01-01T00:00:00+00:00"


class Beats:
    """A heart that counts."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        self.number += 1
        return True


def test_a_holder_knows_the_job_that_it_is() -> None:
    github = {
        "GITHUB_SERVER_URL": "https://github.example.com",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "7",
    }
    assert this_run("r", "c", github).job == "https://github.example.com/o/r/actions/runs/7"
    assert this_run("r", "c", {"CI_JOB_URL": "https://ci.example.com/1"}).job.endswith("/1")
    assert this_run("r", "c", {}).job == ""


def test_only_what_surely_was_a_process_of_this_machine_is_known_to_be_dead() -> None:
    mine = this_run("r", "c")
    assert not known_dead(mine)
    assert known_dead(replace(mine, process=mine.process + "9"))  # the number was given out again
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    gone = replace(mine, pid=ended.pid)
    assert known_dead(gone)
    assert not known_dead(replace(gone, machine="another"))
    assert not known_dead(replace(gone, process="pid:[1]:5"))  # of another container
    assert not known_dead(replace(gone, process=""))


def test_who_is_silent_for_a_lease_is_given_up_and_who_gives_signs_is_not() -> None:
    holder = this_run("r", "c")
    watch = Watch(TIMING, 0)
    until = time.monotonic() + 2 * TIMING.lease
    while time.monotonic() < until:
        assert not watch.given_up(holder)
        holder = replace(holder, heartbeat=now())
        time.sleep(TIMING.heartbeat)
    began = time.monotonic()
    while not watch.given_up(holder):
        time.sleep(TIMING.poll)
    assert time.monotonic() - began >= TIMING.lease - 2 * TIMING.heartbeat


def test_a_sign_that_comes_back_is_not_a_new_one() -> None:
    """A place that answers now from one copy and now from another shows signs in any order."""
    holder = this_run("r", "c")
    later = replace(holder, heartbeat=now())
    watch = Watch(TIMING, 0)
    watch.given_up(holder)
    watch.given_up(later)
    time.sleep(TIMING.lease)
    assert watch.given_up(holder)


def test_a_fresh_holder_is_not_waited_for_and_one_silent_for_long_is_watched() -> None:
    holder = this_run("r", "c")
    with pytest.raises(Locked):
        Watch(TIMING, 0).wait(holder)
    silent = replace(holder, heartbeat=LONG_AGO)
    watch = Watch(TIMING, 0)
    while not watch.given_up(silent):
        watch.wait(silent)


def test_a_pulse_tells_a_lost_lock_and_goes_on_after_a_sign_that_failed() -> None:
    answers: Iterator[bool | Unwritable] = iter(
        [True, Unwritable("the network is down"), True, False]
    )

    def beat() -> bool:
        answer = next(answers)
        if isinstance(answer, Unwritable):
            raise answer
        return answer

    pulse = Pulse(beat, TIMING)
    for _ in range(3):
        pulse.beat()
        pulse.check()
    pulse.beat()
    with pytest.raises(Lost):
        pulse.check()


def test_a_holder_without_signs_for_a_lease_asks_before_it_goes_on() -> None:
    """As one that was stopped and wakes up."""
    asked = Beats()
    pulse = Pulse(asked, TIMING)
    pulse.check()
    assert asked.number == 0
    time.sleep(TIMING.lease)
    pulse.check()
    assert asked.number == 1

    def fails() -> bool:
        raise Unwritable("the network is down")

    cut_off = Pulse(fails, TIMING)
    cut_off.beat()
    cut_off.check()
    time.sleep(TIMING.lease)
    with pytest.raises(Lost, match="No sign of life"):
        cut_off.check()


def test_the_heart_beats_until_the_block_ends() -> None:
    beats = Beats()
    with beating(beats, TIMING):
        while beats.number < 3:
            time.sleep(TIMING.poll)
    after = beats.number
    time.sleep(5 * TIMING.heartbeat)
    assert beats.number == after
