"""`python -m chaos`: kill the tool everywhere, give it bad days, plant bugs; say what came of it."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos.crash import Tally, crash_all
from chaos.hunts import HUNTS, hunt
from chaos.places import OPENED
from chaos.scenarios import SCENARIOS
from chaos.schedules import run_all

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(__file__).with_name("tripwire.c")
PAGE: Final = Path(__file__).parents[1] / "docs" / "reliability.md"
MARK: Final = "<!-- Written by `make chaos`. -->\n"
WORKERS: Final = 4
"""More than the two cores: an interrupted create is looked for in the list, which takes its time."""
_BATCH: Final = 500
_SHOWN: Final = 3
"""Violations of one kind that are told in full; of the others the first line."""


def build(directory: Path) -> Path:
    """Compile the tripwire. Raises: CalledProcessError."""
    target = directory / "tripwire.so"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", target, SOURCE, "-ldl"], check=True)
    return target


def main() -> int:
    """Run what the arguments ask for; 1 if any invariant was violated, or a planted bug not found."""
    arguments = _arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(WORKERS) as pool:
        tripwire = build(Path(scratch))
        lines, violations = [], []
        for kind in arguments.place or OPENED:
            every = arguments.every if kind == "local" else arguments.every * arguments.coarser
            tally = _crashes(pool, tripwire, kind, every, arguments.scenario)
            lines.append(
                _told(f"crashes, state in {kind}", f"{tally.points} points", tally.violations)
            )
            violations += tally.violations
        days, wrong = _days(pool, arguments.days)
        lines.append(_told("bad days", days, wrong))
        missed = _missed(pool, tripwire)
        lines.append(
            _told("planted bugs", f"{len(HUNTS)} planted, {len(HUNTS) - len(missed)} found", missed)
        )
    command = " ".join(["python -m chaos", *sys.argv[1:]])
    took = f"`{command}`: {(time.monotonic() - began) / 60:.0f} minutes, {WORKERS} at a time."
    print(took)
    if arguments.write:
        text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        table = "\n".join(["| what | how many | violations |", "|---|---|---|", *lines])
        PAGE.write_text(f"{text}{MARK}\n{table}\n\n{took}\n", encoding="utf-8")
    return 1 if violations or wrong or missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--scenario", action="append", default=[], help="this one alone")
    parser.add_argument(
        "--place", action="append", default=[], choices=OPENED, help="this one alone"
    )
    parser.add_argument("--every", type=int, default=1, help="kill at each so-manieth point")
    parser.add_argument("--coarser", type=int, default=10, help="so much fewer on servers")
    parser.add_argument("--days", type=int, default=20_000, help="how many bad days")
    parser.add_argument(
        "--write", action="store_true", help=f"write the figures to docs/{PAGE.name}"
    )
    return parser.parse_args()


def _told(what: str, count: str, violations: list[str]) -> str:
    print(f"{what}: {count}, {len(violations)} violations", flush=True)
    for number, violation in enumerate(violations):
        print(violation if number < _SHOWN else violation.partition("\n")[0], file=sys.stderr)
    return f"| {what} | {count} | {len(violations)} |"


def _crashes(
    pool: ProcessPoolExecutor, tripwire: Path, kind: str, every: int, only: list[str]
) -> Tally:
    """Kill all scenarios on one kind of place."""
    whole = Tally("all", kind)
    wanted = [scenario for scenario in SCENARIOS if not only or scenario.name in only]
    with ExitStack() as stack:
        place = stack.enter_context(OPENED[kind]())
        jobs = [pool.submit(crash_all, scenario, tripwire, place, every) for scenario in wanted]
        for job in as_completed(jobs):
            whole.points += job.result().points
            whole.violations += job.result().violations
    return whole


def _days(pool: ProcessPoolExecutor, count: int) -> tuple[str, list[str]]:
    """So many bad days: how they ended, and what was violated."""
    ends: Counter[int] = Counter()
    violations: list[str] = []
    for found in pool.map(run_all, _batches(count)):
        ends.update(found.ends)
        violations += found.violations
    told = ", ".join(f"{n} ended with {int(end)}" for end, n in sorted(ends.items()))
    return f"{count} schedules: {told}", violations


def _batches(count: int) -> Iterator[range]:
    return (range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH))


def _missed(pool: ProcessPoolExecutor, tripwire: Path) -> list[str]:
    """The planted bugs that were not found, and hunts that found one where none was planted."""
    clean = {name: pool.submit(hunt, name, None, tripwire) for name in HUNTS}
    planted = {name: pool.submit(hunt, name, name, tripwire) for name in HUNTS}
    return [
        *(f"{name} was found where it is not" for name, job in clean.items() if job.result()),
        *(f"{name} was not found" for name, job in planted.items() if not job.result()),
    ]


if __name__ == "__main__":
    sys.exit(main())
