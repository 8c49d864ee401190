"""`python -m chaos crash`: kill the tool everywhere, and say what came of it."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Final

from chaos.crash import Tally, crash_all
from chaos.places import OPENED, Place
from chaos.scenarios import SCENARIOS, Scenario

SOURCE: Final = Path(__file__).with_name("tripwire.c")
WORKERS: Final = 4
"""More than the two cores: an interrupted create is looked for in the list, which takes its time."""


def build(directory: Path) -> Path:
    """Compile the tripwire. Raises: CalledProcessError."""
    target = directory / "tripwire.so"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", target, SOURCE, "-ldl"], check=True)
    return target


def crash(scenarios: list[Scenario], places: list[Place], every: int) -> list[Tally]:
    """Kill each scenario on each place at each point, or at every so-manieth."""
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(WORKERS) as pool:
        tripwire = build(Path(scratch))
        jobs = [
            pool.submit(crash_all, scenario, tripwire, place, every)
            for scenario, place in product(scenarios, places)
        ]
        return [_told(job.result()) for job in as_completed(jobs)]


def _told(tally: Tally) -> Tally:
    print(
        f"{tally.scenario:32} {tally.place:12} {tally.points:5} points, {len(tally.violations)} violations"
    )
    for violation in tally.violations[:3]:
        print(violation, file=sys.stderr)
    sys.stdout.flush()
    return tally


def main() -> int:
    """Run what the arguments ask for; 1 if any invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--scenario", action="append", default=[], help="this one alone")
    parser.add_argument(
        "--place", action="append", default=[], choices=OPENED, help="this one alone"
    )
    parser.add_argument("--every", type=int, default=1, help="kill at each so-manieth point")
    arguments = parser.parse_args()
    wanted = [s for s in SCENARIOS if not arguments.scenario or s.name in arguments.scenario]
    began = time.monotonic()
    with ExitStack() as stack:
        places = [stack.enter_context(OPENED[kind]()) for kind in arguments.place or OPENED]
        tallies = crash(wanted, places, arguments.every)
    violations = sum(len(tally.violations) for tally in tallies)
    points = sum(tally.points for tally in tallies)
    print(f"{points} points, {violations} violations, {time.monotonic() - began:.0f} s")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
