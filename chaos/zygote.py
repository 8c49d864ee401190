"""Runs the tool in forks of one process that has everything imported, each to be killed at a point.

Started with the tripwire preloaded. Reads jobs as JSON lines from stdin, answers each with a line:
`status` (exit status, or minus the signal), `points` (how many were passed). A job: `arguments`,
`environment`, `output` (a file for stdout and stderr together), `point` (0: none), `seconds`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from chaos.hurry import hurried

if TYPE_CHECKING:
    from collections.abc import Mapping


def main() -> None:
    """Serve jobs until stdin ends."""
    _import_all()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


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
    with os.fdopen(counted) as points:
        text = points.read()
    return {"status": status, "points": int(text or -1)}


def _be_the_tool(job: Mapping[str, Any], told: int) -> NoReturn:
    tripwire = ctypes.CDLL(None)
    tripwire.tripwire_count.restype = ctypes.c_long
    os.environ.update(job["environment"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    from reconciler.cli import main as tool

    tripwire.tripwire_arm(ctypes.c_long(job["point"]))
    try:
        with hurried():
            status = tool(job["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    points = tripwire.tripwire_count()
    tripwire.tripwire_arm(ctypes.c_long(0))
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(told, str(points).encode())
    os._exit(status)


def _ended(child: int, seconds: float) -> int:
    """The exit status; minus the signal that ended it. What hangs is killed, as by SIGXCPU."""
    until = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGXCPU
        time.sleep(0.002)


if __name__ == "__main__":
    main()
