"""Kills the tool at every point of every scenario, lets one plain run mend it, and looks at the damage.

A point is right before or right after a call that changes a file of the project or moves bytes
through a socket (chaos/tripwire.c). For each: the project is applied as it was before, the
command is run and killed at the point, is run again as it is, and must leave nothing to do. Then
the invariants of docs/reliability.md are asked of the platform's own records and log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from chaos import invariants
from chaos.scenarios import CANARY
from chaos.world import served
from reconciler.sandbox.options import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaos.places import Place
    from chaos.scenarios import Scenario
    from chaos.world import World
    from reconciler.backends.backend import Backend

SECONDS: Final = 60
"""After which a run counts as hanging."""

KILLED: Final = -9


@dataclass(slots=True)
class Tally:
    """What came of the points of one scenario. `missed`: not reached, since runs differ a little."""

    scenario: str
    place: str
    points: int = 0
    missed: int = 0
    violations: list[str] = field(default_factory=list)


class Runner:
    """Runs the tool on a project of its own, in forks that can be killed at a point."""

    def __init__(self, tripwire: Path, scratch: Path, world: World, place: Place) -> None:
        self.scratch = scratch
        self.world = world
        self.place = place
        self.directory = scratch / "project"
        self.output = scratch / "output"
        self._number = 0
        self._name = uuid4().hex
        os.environ.update(place.environment)  # libraries look for credentials there
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "chaos.zygote"],
            env={**os.environ, "LD_PRELOAD": str(tripwire)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def close(self) -> None:
        """End the process that forks."""
        self._zygote.communicate()

    def begin(self) -> None:
        """An empty project on an empty platform."""
        self._number += 1
        self.world.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self.output.write_bytes(b"")

    @property
    def environment(self) -> dict[str, str]:
        """What the tool is run with."""
        return {
            **self.world.environment,
            **self.place.environment,
            "CHAOS_SECRET": CANARY,
            "TRIPWIRE_DIR": str(self.directory),
        }

    @property
    def state(self) -> str:
        """The value of `state` for the present project."""
        return self.place.template.format(f"{self._name}-{self._number}")

    def declare(self, project: dict[str, Any]) -> None:
        """Write the project's file."""
        text = json.dumps({**project, "state": self.state})
        (self.directory / "reconciler.yaml").write_text(text, encoding="utf-8")

    def run(self, *arguments: str, **job: Any) -> tuple[int, int]:
        """Run a command; its exit status (minus the signal), and how many points it passed.

        `job`: what of a job of the zygote is not as usual: `point`, `plant`, `trace`.
        """
        answer = self.ask(arguments, **job)
        return answer["status"], answer["points"]

    def ask(self, arguments: Iterable[str], **job: Any) -> dict[str, int]:
        """Run a command; the zygote's whole answer."""
        usual = {
            "environment": self.environment,
            "point": 0,
            "signal": signal.SIGKILL,
            "seconds": SECONDS,
            "trace": None,
            "plant": None,
        }
        return self._send(
            {
                "arguments": [*arguments, "-C", str(self.directory)],
                "output": str(self.output),
                **usual,
                **job,
            }
        )

    def go_on(self, pid: int) -> int:
        """Wake a run that was stopped; its exit status."""
        return self._send({"go_on": pid})["status"]

    def _send(self, job: dict[str, Any]) -> dict[str, int]:
        if self._zygote.stdin is None or self._zygote.stdout is None:
            raise AssertionError("pipes were asked for")
        print(json.dumps(job), file=self._zygote.stdin, flush=True)
        answer: dict[str, int] = json.loads(self._zygote.stdout.readline())
        return answer

    def backend(self) -> Backend:
        """Where the present project's state is kept."""
        from reconciler.backends.backend import open_backend

        environment = {**os.environ, **self.place.environment}
        return open_backend(self.state, self.directory, environment)


def crash_all(scenario: Scenario, tripwire: Path, place: Place, every: int = 1) -> Tally:
    """Kill a scenario at each of its points, or at every so-manieth."""
    tally = Tally(scenario.name, place.kind)
    options = SandboxOptions(
        dialect=scenario.dialect, rate_limit=False, log_requests=True,
        unique_names=scenario.unique_names, seed="chaos",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch, served(options) as world:
        runner = Runner(tripwire, Path(scratch), world, place)
        try:
            total = _prepare_and_run(runner, scenario, 0)[1]
            for point in range(1, total + 1, every):
                _crash(runner, scenario, point, tally)
        finally:
            runner.close()
    return tally


def _prepare_and_run(runner: Runner, scenario: Scenario, point: int) -> tuple[int, int]:
    runner.begin()
    runner.declare(scenario.project(after=False))
    if scenario.before:
        status, _ = runner.run("apply", "--auto-approve")
        if status:
            raise RuntimeError(f"{scenario.name}: no beginning\n{runner.output.read_text()}")
    if scenario.outside is not None:
        scenario.outside(runner.world)
    if scenario.command == ("apply",):
        runner.declare(scenario.project(after=True))
    runner.world.platform.log.clear()
    return runner.run(*scenario.command, "--auto-approve", point=point)


def _crash(runner: Runner, scenario: Scenario, point: int, tally: Tally) -> None:
    status, _ = _prepare_and_run(runner, scenario, point)
    if status != KILLED:
        tally.missed += 1
        return
    tally.points += 1
    after_crash = runner.backend().read()
    found = list(invariants.after_crash(runner.world, after_crash, scenario))
    status, _ = runner.run(*scenario.command, "--auto-approve")
    if status:
        found.append(f"the run after it ended with {status}")
    sent = len(runner.world.writes())
    runner.declare(scenario.project(after=True))
    status, _ = runner.run("plan", "--detailed-exitcode")
    if status:
        found.append(f"the plan after that ended with {status}")
    if len(runner.world.writes()) != sent:
        found.append("plan sent a write")
    recovered = runner.backend().read()
    output = runner.output.read_text(encoding="utf-8", errors="replace")
    found += invariants.after_recovery(runner.world, after_crash, recovered, scenario)
    found += invariants.of_output(output, runner.directory)
    tally.violations += [
        f"{scenario.name} on {runner.place.kind} at {point}: {text}\n{output}" for text in found
    ]
