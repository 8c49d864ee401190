"""One hunt for each planted bug: what it does to a tool, and what gives it away.

A hunt answers what is wrong; without the plant it must find nothing.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chaos import invariants
from chaos.crash import Runner
from chaos.places import LOCAL
from chaos.scenarios import CANARY, SCENARIOS, Scenario, accounts
from chaos.world import served
from reconciler.sandbox.faults import parse_faults
from reconciler.sandbox.options import ROOT_API_KEY, ROOT_ID, SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PAGES: Final = 520
"""Accounts of strangers, more than a page of a list has."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A runner, and the bug that its runs have."""

    runner: Runner
    plant: str | None

    def run(self, *arguments: str, **job: Any) -> int:
        """Run a command with the bug; its exit status."""
        return self.runner.run(*arguments, plant=self.plant, **job)[0]

    def begin(self, scenario: Scenario) -> None:
        """Make things as they are before the scenario, without the bug, and declare what comes."""
        self.runner.begin()
        self.runner.declare(scenario.project(after=False))
        if scenario.before and self.runner.run("apply", "--auto-approve")[0]:
            raise RuntimeError(self.runner.output.read_text())
        self.runner.declare(scenario.project(after=True))
        self.runner.world.platform.log.clear()

    def fault(self, **rule: Any) -> None:
        """One more rule for a bad day."""
        self.runner.world.platform.faults.add(*parse_faults([rule]))


def _scenario(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


_SMALL: Final = Scenario("small", accounts(a={}), accounts(a={"org": "A"}))


def lost_answer(lab: Lab) -> Iterator[str]:
    """The answer of a create that no realm marks is lost."""
    lab.begin(_scenario("create-without-realm"))
    lab.fault(method="PUT", path="/accounts/*", phase="after", drop=True)
    lab.run("apply", "--auto-approve")
    yield from invariants.twins(lab.runner.world)


def unkept(lab: Lab) -> Iterator[str]:
    """The platform answers a PATCH with success, and did nothing."""
    lab.begin(_SMALL)
    lab.fault(
        method="PATCH",
        path="/accounts/*",
        status=200,
        times=None,
        body={"data": {}, "status": "success"},
    )
    lab.run("apply", "--auto-approve")
    yield from invariants.false_claims(lab.runner.world, lab.runner.backend().read(), frozenset())


def power_cut(lab: Lab) -> Iterator[str]:
    """What was written, and is not on the disk yet when something rests on it."""
    lab.begin(_scenario("create-and-promote"))
    trace = lab.runner.scratch / "trace"
    lab.run("apply", "--auto-approve", "--parallelism", "1", trace=str(trace))
    yield from invariants.unsynced(trace.read_text().splitlines())


def second_page(lab: Lab) -> Iterator[str]:
    """An account that is to be made exists, on the last page of the list."""
    _crowd(lab)
    lab.fault(method="GET", path="/accounts/*/descendants", status=416)
    status = lab.run("plan")
    if status != _REFUSED:
        yield f"a plan that would make an account twice ended with {status}"


def proxy_page(lab: Lab) -> Iterator[str]:
    """A proxy answers the list with a page of HTML and status 200."""
    _crowd(lab)
    lab.fault(
        method="GET", path="/accounts/*/descendants", status=200, times=None,
        body="<html>Welcome</html>", content_type="text/html",
    )  # fmt: skip
    status = lab.run("plan")
    if status != _FAILED:
        yield f"a plan without a list ended with {status}"


_FAILED: Final = 1
_REFUSED: Final = 3


def _crowd(lab: Lab) -> None:
    """Many accounts of strangers, and one declared that is among them."""
    lab.begin(Scenario("crowd", {}, accounts(aaa={})))
    for number in range(_PAGES):
        name = f"Stranger {number}"
        lab.runner.world.call(
            "PUT", f"/accounts/{ROOT_ID}", {"name": name, "realm": f"s{number}.example.com"}
        )
    lab.runner.world.call(
        "PUT", f"/accounts/{ROOT_ID}", {"name": "Aaa", "realm": "aaa.example.com"}
    )


def loud_log(lab: Lab) -> Iterator[str]:
    """Everything is logged that can be."""
    lab.begin(_scenario("update"))
    log = lab.runner.directory / "log.txt"
    lab.run("apply", "--auto-approve", "--log-level", "debug", "--log-file", str(log))
    yield from invariants.of_output(lab.runner.output.read_text(), lab.runner.directory)
    if ROOT_API_KEY in log.read_text():
        yield "the API key was logged"


def elsewhere(lab: Lab) -> Iterator[str]:
    """An answer names another host, which writes down what comes."""
    lab.begin(_SMALL)
    with _listening() as (url, heard):
        lab.fault(
            method="GET", path="/accounts/*", status=302, times=None, headers={"Location": url}
        )
        lab.run("plan")
    if heard:
        yield f"another host got {', '.join(heard[0])}"


@contextmanager
def _listening() -> Iterator[tuple[str, list[list[str]]]]:
    heard: list[list[str]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(sorted(self.headers.keys()))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sleeper(lab: Lab) -> Iterator[str]:
    """A run is stopped in the middle; its lock is taken away; another run does it all; it wakes up."""
    for point in (20, 28, 44, 52):
        lab.begin(_scenario("create-and-promote"))
        answer = lab.runner.ask(
            ("apply", "--auto-approve"), point=point, signal=signal.SIGSTOP, plant=lab.plant
        )
        if "stopped" not in answer:
            return
        unlocked = lab.runner.run("unlock", "--force")[0] == 0
        # One that stands still within a write holds the others up, for moments as a rule.
        took_over = unlocked and lab.runner.run("apply", "--auto-approve")[0] == 0
        before, sent = lab.runner.backend().read(), len(lab.runner.world.writes())
        lab.runner.go_on(answer["stopped"])
        if took_over and lab.runner.backend().read() != before:
            yield f"a run that was stopped at {point} wrote over another"
        if took_over and len(lab.runner.world.writes()) > sent + 1:
            yield f"a run that was stopped at {point} went on"


def old_plan(lab: Lab) -> Iterator[str]:
    """A saved plan is applied after somebody else applied something."""
    lab.begin(_SMALL)
    file = lab.runner.scratch / "plan.json"
    file.unlink(missing_ok=True)
    lab.runner.run("plan", "--out", str(file))
    lab.runner.declare(Scenario("", {}, accounts(a={"language": "fr-fr"})).project(after=True))
    lab.runner.run("apply", "--auto-approve")
    status = lab.run("apply", str(file))
    if status != _REFUSED:
        yield f"a stale plan ended with {status}"


def odd_secret(lab: Lab) -> Iterator[str]:
    """A secret that is written otherwise in JSON than it is."""
    odd = CANARY + '"\\'
    lab.begin(Scenario("secret", {}, accounts(a={"org": "${var.secret}"})))
    lab.runner.ask(
        ("plan",), plant=lab.plant, environment={**lab.runner.environment, "CHAOS_SECRET": odd}
    )
    output = lab.runner.output.read_text()
    if odd in output or json.dumps(odd)[1:-1] in output:
        yield "a secret was printed"


HUNTS: Final[dict[str, Callable[[Lab], Iterator[str]]]] = {
    "blind-retry": lost_answer,
    "state-before-answer": unkept,
    "no-fsync": power_cut,
    "page-two-ignored": second_page,
    "html-trusted": proxy_page,
    "body-logged": loud_log,
    "redirect-followed": elsewhere,
    "lock-without-fence": sleeper,
    "stale-plan-accepted": old_plan,
    "substring-redaction": odd_secret,
}


def hunt(name: str, plant: str | None, tripwire: Path) -> list[str]:
    """What one hunt finds, with a bug or without."""
    options = SandboxOptions(rate_limit=False, log_requests=True, unique_names=False, seed="chaos")
    with tempfile.TemporaryDirectory() as scratch, served(options) as world:
        runner = Runner(tripwire, Path(scratch), world, LOCAL)
        try:
            return list(HUNTS[name](Lab(runner, plant)))
        finally:
            runner.close()
