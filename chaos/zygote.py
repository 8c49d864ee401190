"""Runs the tool in forks of one process that has everything imported, each to be killed at a point.

Started with the tripwire preloaded. Reads jobs as JSON lines from stdin, answers each with a line:
`status` (exit status, or minus the signal), `points` (how many were passed). A job: `arguments`,
`environment`, `output` (a file for stdout and stderr together), `point` (0: none), `signal`,
`seconds`, `trace` (a file for what was made durable and sent, or null), `plant` (a bug to run with,
or null). A child that got SIGSTOP is answered as `stopped`, with its `pid`; the job {"go_on": pid}
wakes it, and is answered when it has ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from chaos.hurry import hurried
from chaos.plants import PLANTS

if TYPE_CHECKING:
    from collections.abc import Mapping


_PATIENCE: Final = 60.0


def main() -> None:
    """Serve jobs until stdin ends."""
    _import_all()
    for line in sys.stdin:
        job = json.loads(line)
        answer = _go_on(job["go_on"]) if "go_on" in job else _run(job)
        print(json.dumps(answer), flush=True)


def _import_all() -> None:
    """What commands import when they need it is imported once, here."""
    import importlib

    for name in (
        "reconciler.execute",
        "reconciler.workflow",
        "reconciler.render.text",
        "reconciler.render.progress",
        "reconciler.backends.local",
        "deepdiff",
        "zoneinfo",
    ):
        importlib.import_module(name)


def _run(job: Mapping[str, Any]) -> dict[str, int]:
    counted, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(counted)
        _be_the_tool(job, told)
    os.close(told)
    status = _ended(child, job["seconds"])
    if status is None:
        os.close(counted)
        return {"status": 0, "points": -1, "stopped": child}
    with os.fdopen(counted) as points:
        text = points.read()
    return {"status": status, "points": int(text or -1)}


def _go_on(child: int) -> dict[str, int]:
    os.kill(child, signal.SIGCONT)
    return {"status": _ended(child, _PATIENCE) or 0, "points": -1}


def _be_the_tool(job: Mapping[str, Any], told: int) -> NoReturn:
    tripwire = ctypes.CDLL(None)
    tripwire.tripwire_count.restype = ctypes.c_long
    os.environ.update(job["environment"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    if job["trace"]:
        tripwire.tripwire_trace(
            os.open(job["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )
    if job["plant"]:
        PLANTS[job["plant"]]()
    from reconciler.cli import main as tool

    tripwire.tripwire_arm(ctypes.c_long(job["point"]), job["signal"])
    try:
        with hurried():
            status = tool(job["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    points = tripwire.tripwire_count()
    tripwire.tripwire_arm(ctypes.c_long(0), 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(told, str(points).encode())
    os._exit(status)


def _ended(child: int, seconds: float) -> int | None:
    """The exit status; minus the signal that ended it; None if it stands still.

    What hangs is killed, and told as ended by SIGXCPU.
    """
    until = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            return None
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGXCPU
        time.sleep(0.002)


if __name__ == "__main__":
    main()
