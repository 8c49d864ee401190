"""What all locks have in common: who holds one, signs of life, and when a silent holder is given up.

Clocks of two hosts are never compared: who waits sees for himself, by his own monotonic clock, that
a heartbeat has not changed for the length of a lease.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from reconciler.backends.backend import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_JOB_URLS: Final = ("CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL")


@dataclass(frozen=True, slots=True)
class Timing:
    """How locks are kept, in seconds: a sign of life each `heartbeat`, given up after `lease`."""

    heartbeat: float = 5.0
    lease: float = 20.0
    poll: float = 0.2


def now() -> str:
    """The time for people: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def this_run(run: str, command: str, environment: Mapping[str, str] = os.environ) -> Holder:
    """The holder that this process is."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in many containers
        who = str(os.getuid())
    since = now()
    return Holder(
        run, who, socket.gethostname(), os.getpid(), command, since, since, job=_job(environment)
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


class Watch:
    """Watches the heartbeat of a lock that somebody else holds."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: tuple[str, str] | None = None
        self._since = 0.0

    def given_up(self, holder: Holder) -> bool:
        """Whether the holder has given no sign of life for the length of a lease."""
        sign = (holder.run, holder.heartbeat)
        if sign != self._seen:
            self._seen, self._since = sign, time.monotonic()
        return time.monotonic() - self._since >= self._lease


@contextmanager
def beating(beat: Callable[[], None], every: float) -> Iterator[None]:
    """Call `beat` from a thread of its own, `every` so many seconds, as long as the block runs.

    `beat` deals with its own errors; a missed sign of life is for the next write to find out.
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
