"""How long plan and apply take, how much CPU and memory, beside the floor (`floor.py`).

Every measured command is a process of its own, and so is the platform: the sandbox on a port, in
memory, without rate limits. Prints what was measured, good or bad; nothing is asserted. `make
bench` runs it with the defaults, in a few minutes on two cores. docs/benchmarks.md reads a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from projects import write_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Environment = Mapping[str, str]

TOOL = [sys.executable, "-m", "reconciler"]
FLOOR = [sys.executable, str(Path(__file__).with_name("floor.py"))]
COLUMNS = "{:>8}  {:>7}  {:<26} {:>8} {:>8} {:>7}   {:>8} {:>8}   {:>6} {:>6}"
HEADER = COLUMNS.format(
    *("accounts", "latency", "command", "wall s", "CPU s", "MiB"),
    *("floor s", "CPU s", "x wall", "x CPU"),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took: seconds of wall clock, seconds of CPU, MiB of memory at its peak."""

    wall: float
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Row:
    """One command at one size. `latency`: milliseconds that every answer waits."""

    accounts: int
    latency: int | None
    command: str
    cost: Cost
    floor: Cost | None

    def __str__(self) -> str:
        latency = "" if self.latency is None else f"{self.latency} ms"
        beside = ("", "", "", "")
        if self.floor is not None:
            beside = (
                f"{self.floor.wall:.2f}",
                f"{self.floor.cpu:.2f}",
                f"{self.cost.wall / self.floor.wall:.2f}",
                f"{self.cost.cpu / self.floor.cpu:.2f}",
            )
        own = (f"{self.cost.wall:.2f}", f"{self.cost.cpu:.2f}", f"{self.cost.memory:.0f}")
        return COLUMNS.format(f"{self.accounts:,}", latency, self.command, *own, *beside)


def measure(command: Sequence[str], environment: Environment) -> Cost:
    """Run a command to its end. Raises: RuntimeError with what it printed if it fails."""
    # What Linux reports as the peak of a process is at least that of the one that started it, so
    # this one keeps nothing.
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(max(0, output.tell() - 2000))
            shown = output.read().decode("utf-8", "replace")
            raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}\n{shown}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def best(repeat: int, command: Sequence[str], environment: Environment) -> Cost:
    """The quickest of so many runs."""
    return min((measure(command, environment) for _ in range(repeat)), key=lambda c: c.wall)


@contextmanager
def sandbox(latency: int) -> Iterator[Environment]:
    """A new platform in a process of its own; gives the environment in which it is named."""
    command = [*TOOL, "sandbox", "--no-rate-limit", "--latency", str(latency), "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout or ())
            announced = json.loads("".join(_until(lines, "}\n")))
            yield {
                **os.environ,
                "VINIX_API_URL": announced["url"],
                "VINIX_ACCOUNT_ID": announced["account_id"],
                "VINIX_API_KEY": announced["api_key"],
            }
        finally:
            process.terminate()


def _until(lines: Iterator[str], last: str) -> Iterator[str]:
    for line in lines:
        yield line
        if line == last:
            return


def in_project(directory: Path, concurrency: int, command: str, *options: str) -> list[str]:
    """The command line of the tool."""
    return [*TOOL, command, "-C", str(directory), "--parallelism", str(concurrency), *options]


def measure_size(count: int, arguments: argparse.Namespace) -> Iterator[Row]:
    """All commands on a project of so many accounts."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_project(directory, count)
        if arguments.only in (None, "validate"):
            command = [*TOOL, "validate", "-C", name]
            yield Row(count, None, "validate", best(arguments.repeat, command, os.environ), None)
        if arguments.only == "validate":
            return
        for latency in arguments.latency:
            with sandbox(latency) as environment:
                applied = measure_apply(directory, environment, arguments, latency)
                if arguments.only != "plan":
                    floor = floor_of_apply(count, latency, arguments)
                    yield Row(count, latency, "apply, all new", applied, floor)
                if arguments.only != "apply":
                    yield from measure_plan(directory, count, latency, arguments, environment)


def measure_apply(
    directory: Path, environment: Environment, arguments: argparse.Namespace, latency: int
) -> Cost:
    """Make all accounts; the last time on the platform of `environment`, for the plans to come."""
    command = in_project(directory, arguments.concurrency, "apply", "--auto-approve")
    costs = []
    for _ in range(0 if arguments.only == "plan" else arguments.repeat - 1):
        shutil.rmtree(directory / "state", ignore_errors=True)
        with sandbox(latency) as other:
            costs.append(measure(command, other))
    shutil.rmtree(directory / "state", ignore_errors=True)
    return min([*costs, measure(command, environment)], key=lambda cost: cost.wall)


def floor_of_apply(count: int, latency: int, arguments: argparse.Namespace) -> Cost:
    """The same accounts made by a bare loop."""
    command = [*FLOOR, "create", str(arguments.concurrency), str(count)]
    costs = []
    for _ in range(arguments.repeat):
        with sandbox(latency) as environment:
            costs.append(measure(command, environment))
    return min(costs, key=lambda cost: cost.wall)


def measure_plan(
    directory: Path,
    count: int,
    latency: int,
    arguments: argparse.Namespace,
    environment: Environment,
) -> Iterator[Row]:
    """Plans on what was applied: as it is, and after one account in a hundred was edited."""
    floor = best(arguments.repeat, [*FLOOR, "read", str(arguments.concurrency)], environment)
    command = in_project(directory, arguments.concurrency, "plan")
    cost = best(arguments.repeat, command, environment)
    yield Row(count, latency, "plan, nothing to do", cost, floor)
    write_project(directory, count, changed=True)
    cost = best(arguments.repeat, command, environment)
    yield Row(count, latency, "plan, 1 % changed", cost, floor)
    write_project(directory, count)
    yield Row(count, latency, "adopt, all new", measure_adopt(arguments, environment), floor)


def measure_adopt(arguments: argparse.Namespace, environment: Environment) -> Cost:
    """All accounts of the platform into a project that is not there yet."""
    costs = []
    for _ in range(arguments.repeat):
        with tempfile.TemporaryDirectory() as name:
            command = in_project(Path(name), arguments.concurrency, "adopt")
            costs.append(measure(command, environment))
    return min(costs, key=lambda cost: cost.wall)


def main() -> None:
    """Measure, and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1000, 10000], metavar="N")
    parser.add_argument("--latency", type=int, nargs="+", default=[0, 20], metavar="MS")
    parser.add_argument("--concurrency", type=int, default=16, metavar="N")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the best of so many")
    parser.add_argument("--only", choices=("plan", "apply", "validate"))
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    arguments = parser.parse_args()
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "concurrency": arguments.concurrency,
        "best_of": arguments.repeat,
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{HEADER}\n{'-' * len(HEADER)}", flush=True)
    rows = []
    for count in arguments.accounts:
        for row in measure_size(count, arguments):
            print(row, flush=True)
            rows.append(asdict(row))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
