"""Bad days drawn by lot: a scenario, up to four faults, one plain run after it, and a look at the damage.

A seed makes a schedule, the same each time. The tool runs in this process, over real HTTP; only
its sleeping is a hundred times faster, and so are the delays of the platform.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chaos import invariants
from chaos.hurry import hurried
from chaos.scenarios import CANARY, SCENARIOS
from chaos.world import served
from reconciler.backends.local import LocalBackend
from reconciler.cli import main
from reconciler.sandbox.faults import parse_faults
from reconciler.sandbox.options import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chaos.scenarios import Scenario
    from chaos.world import World
    from reconciler.core.values import JsonObject

_EXPECTED: Final = frozenset({0, 1, 3, 5})
"""How a run on a bad day may end."""

_SHAPES: Final[tuple[JsonObject, ...]] = (
    {"drop": True},
    {"truncate": 0},
    {"truncate": 20},
    {"status": 400},
    {"status": 403},
    {"status": 404},
    {"status": 409},
    {"status": 429},
    {"status": 429, "headers": {"Retry-After": "1"}},
    {"status": 429, "headers": {"Retry-After": "soon"}},
    {"status": 500},
    {"status": 502},
    {"status": 503},
    {"status": 504},
    {"status": 200, "body": "<html>Welcome</html>", "content_type": "text/html"},
    {"status": 200, "body": ""},
    {"status": 200, "body": {"data": [], "status": "success"}},
    {"status": 200, "body": {"data": {}, "status": "success"}},
    {"status": 302, "headers": {"Location": "http://127.0.0.1:9/elsewhere"}},
    {"expire_tokens": True},
    {"delay_ms": 1000},
    {"occur": True},
)
_PATHS: Final = (
    "*",
    "/accounts/*",
    "/accounts/*/reseller",
    "/accounts/*/move",
    "/accounts/*/descendants",
)


@dataclass(slots=True)
class Sum:
    """What came of schedules: how runs on bad days ended, and what was violated."""

    schedules: int = 0
    ends: dict[int, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


def faults_of(lot: random.Random) -> list[JsonObject]:
    """One to four rules."""
    return [
        {
            "method": lot.choice(
                [None, "GET", "PUT", "PUT", "PUT", "POST", "PATCH", "PATCH", "DELETE"]
            ),
            "path": lot.choice(_PATHS),
            "nth": lot.randint(1, 4),
            "times": lot.choice([1, 1, 1, 2, 5]),
            "phase": lot.choice(["before", "after", "after", "mid"]),
            **lot.choice(_SHAPES),
        }
        for _ in range(lot.randint(1, 4))
    ]


def run_all(seeds: Iterable[int]) -> Sum:
    """Run the schedules of `seeds`, a platform per scenario."""
    found = Sum()
    by_scenario: dict[int, list[int]] = {}
    for seed in seeds:
        by_scenario.setdefault(seed % len(SCENARIOS), []).append(seed)
    with hurried(), tempfile.TemporaryDirectory() as scratch:
        for number, chosen in by_scenario.items():
            _run_some(SCENARIOS[number], chosen, Path(scratch), found)
    return found


def _run_some(scenario: Scenario, seeds: Iterable[int], scratch: Path, found: Sum) -> None:
    options = SandboxOptions(
        dialect=scenario.dialect, rate_limit=False, log_requests=True,
        unique_names=scenario.unique_names, seed="chaos",
    )  # fmt: skip
    with served(options) as world:
        project = _Project(scratch / scenario.name, world, scenario)
        project.begin()
        for seed in seeds:
            project.again()
            found.schedules += 1
            found.violations += [f"seed {seed}: {text}" for text in project.bad_day(seed, found)]


class _Project:
    """A scenario's project, brought back to its beginning for each schedule."""

    def __init__(self, directory: Path, world: World, scenario: Scenario) -> None:
        self.directory = directory
        self.beginning = directory.with_suffix(".beginning")
        self.world = world
        self.scenario = scenario

    def begin(self) -> None:
        """Apply what was before, and remember how everything is then."""
        self.directory.mkdir()
        self.declare(after=False)
        if self.scenario.before:
            status, output = self.run("apply", "--auto-approve")
            if status:
                raise RuntimeError(output)
        if self.scenario.outside is not None:
            self.scenario.outside(self.world)
        if self.scenario.command == ("apply",):
            self.declare(after=True)
        shutil.copytree(self.directory, self.beginning)
        self.records = self.world.records()

    def again(self) -> None:
        """Bring all back as it was."""
        shutil.rmtree(self.directory)
        shutil.copytree(self.beginning, self.directory)
        self.world.clear()
        self.world.platform.store.put_new(self.records)

    def bad_day(self, seed: int, found: Sum) -> Iterator[str]:
        """One run with faults, one without, and what is wrong after each."""
        rules = faults_of(random.Random(seed))  # noqa: S311 - a lot, no secret
        told = f"{self.scenario.name} {json.dumps(rules)}"
        self.world.platform.faults.add(*parse_faults([*rules]))
        status, output = self.run(*self.scenario.command, "--auto-approve")
        found.ends[status] = found.ends.get(status, 0) + 1
        problems = [] if status in _EXPECTED else [f"it ended with {status}"]
        self.world.platform.faults.clear()
        state = self.state()
        problems += invariants.after_crash(self.world, state, self.scenario)
        status, more = self.run(*self.scenario.command, "--auto-approve")
        problems += [f"the run after it ended with {status}"] if status else []
        sent = len(self.world.writes())
        self.declare(after=True)
        status, last = self.run("plan", "--detailed-exitcode")
        problems += [f"the plan after that ended with {status}"] if status else []
        problems += ["plan sent a write"] if len(self.world.writes()) != sent else []
        problems += invariants.after_recovery(self.world, state, self.state(), self.scenario)
        problems += invariants.of_output(output + more + last, self.directory)
        yield from (f"{told}: {text}\n{output}\n{more}\n{last}" for text in problems)

    def state(self) -> Any:
        """The state as it is now."""
        return LocalBackend(self.directory / "state" / "reconciler.state.json").read()

    def declare(self, *, after: bool) -> None:
        """Write the project's file."""
        text = json.dumps(self.scenario.project(after=after))
        (self.directory / "reconciler.yaml").write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command in this process; its exit status and all that it printed."""
        printed = io.StringIO()
        os.environ.update({**self.world.environment, "CHAOS_SECRET": CANARY})
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                status = main([*arguments, "-C", str(self.directory)])
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
        return status, printed.getvalue()
