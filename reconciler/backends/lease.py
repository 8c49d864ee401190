"""What all locks have in common: who holds one, signs of life, and when a silent holder is given up.

Clocks of two hosts are never compared: who waits sees for himself, by his own monotonic clock, that
a heartbeat has not changed for the length of a lease. A holder counts in the same way: when it could
give no sign of life for a lease, it asks whether the lock is still its own before it goes on.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.backends.backend import Holder, Locked, Lost, Unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_JOB_URLS: Final = ("CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL")
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Timing:
    """How locks are kept, in seconds: a sign of life each `heartbeat`, given up after `lease`."""

    heartbeat: float = 5.0
    lease: float = 20.0
    poll: float = 0.2


TIMING: Final = Timing()


def now() -> str:
    """The time for people: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# --- who ---


def this_run(run: str, command: str, environment: Mapping[str, str] = os.environ) -> Holder:
    """The holder that this process is."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in many containers
        who = str(os.getuid())
    since = now()
    return Holder(
        run=run,
        who=who,
        host=socket.gethostname(),
        pid=os.getpid(),
        command=command,
        since=since,
        heartbeat=since,
        job=_job(environment),
        machine=this_machine(),
        process=_process(os.getpid()),
    )


def _job(environment: Mapping[str, str]) -> str:
    """The URL of the CI job that this is, if it is one."""
    server, repository, number = (
        environment.get(name, "")
        for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    )
    if server and repository and number:
        return f"{server}/{repository}/actions/runs/{number}"
    return next((environment[name] for name in _JOB_URLS if environment.get(name)), "")


def this_machine() -> str:
    """The running kernel. Containers share it; another boot, or another host, has another."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def _process(pid: int) -> str:
    """Which process a number is now: its namespace and its start; "" if it is none, or unknown."""
    try:
        namespace = (_PROC / "self/ns/pid").readlink()
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()  # proc(5): the name before it may hold anything
    return "" if state == "Z" else f"{namespace}:{rest[18]}"


def known_dead(holder: Holder) -> bool:
    """Whether the holder surely was a process of this machine, and is no more."""
    if not holder.process or holder.machine != this_machine():
        return False
    namespace = holder.process.rpartition(":")[0]
    mine = _process(os.getpid()).rpartition(":")[0]
    return namespace == mine and _process(holder.pid) != holder.process


# --- who waits ---


class Watch:
    """Waits for a lock that somebody else holds, at most `timeout` seconds, and watches its heart."""

    def __init__(self, timing: Timing, timeout: float) -> None:
        self._timing = timing
        self._until = time.monotonic() + timeout
        self._signs: list[tuple[str, str]] = []
        self._since = 0.0

    def given_up(self, holder: Holder) -> bool:
        """Whether the holder has given no sign of life for the length of a lease."""
        sign = (holder.run, holder.heartbeat)
        if sign not in self._signs:
            self._signs.append(sign)
            self._since = time.monotonic()
        return time.monotonic() - self._since >= self._timing.lease

    def wait(self, holder: Holder) -> None:
        """Sleep until the lock is worth another look. Raises: Locked when the time is up.

        It is not yet up for a holder who seems to be silent for long. The clocks of two hosts say
        no more than that: whether he is, the watch must see.
        """
        if time.monotonic() >= self._until and not self._seems_silent(holder):
            raise Locked(holder)
        time.sleep(self._timing.poll)

    def _seems_silent(self, holder: Holder) -> bool:
        if len(self._signs) > 1:
            return False
        silence = datetime.now(UTC) - datetime.fromisoformat(holder.heartbeat)
        return silence >= timedelta(seconds=self._timing.lease)


# --- who holds ---


class Pulse:
    """The signs of life of a holder, and whether the lock is still its own.

    `beat` gives one and answers whether the lock is still held; it may raise Unwritable if neither
    could be found out.
    """

    def __init__(self, beat: Callable[[], bool], timing: Timing) -> None:
        self._beat = beat
        self._timing = timing
        self._lost = False
        self._last = time.monotonic()

    def beat(self) -> None:
        """Give a sign of life. One that fails is made good by the next, or found out by `check`."""
        began = time.monotonic()
        try:
            if self._beat():
                self._last = began
            else:
                self._lost = True
        except Unwritable:
            return

    def check(self) -> None:
        """Raises: Lost if the lock is known to be lost, or no sign of life could be given for a lease."""
        if not self._lost and self._silent():
            self.beat()
        if self._lost:
            raise Lost("The lock was lost: another run took over.")
        if self._silent():
            raise Lost(
                f"No sign of life could be given for {self._timing.lease:g} seconds: another run may have"
                " taken over the lock."
            )

    def _silent(self) -> bool:
        return time.monotonic() - self._last >= self._timing.lease


@contextmanager
def beating(beat: Callable[[], bool], timing: Timing) -> Iterator[Pulse]:
    """Call `beat` from a thread of its own, again and again, as long as the block runs."""
    pulse = Pulse(beat, timing)
    over = threading.Event()

    def run() -> None:
        while not over.wait(timing.heartbeat):
            pulse.beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        over.set()
        thread.join()
