"""Tells others how a run ended, as far as the command line and the environment ask for it."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.cli.exits import Exit, Problem
from reconciler.cli.signals import Interrupted, interruptible

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from reconciler.core.exchange import Exchange
    from reconciler.core.outcome import Event, Outcome
    from reconciler.core.plan import Change, Plan
    from reconciler.core.state import State
    from reconciler.render.message import Message
    from reconciler.render.report import Report
    from reconciler.telling.metrics import Place
    from reconciler.telling.notify import Gravity, Service
    from reconciler.telling.run import Found, Traffic
    from reconciler.telling.tracing import Tracer

    Tasks = Mapping[str, Callable[[], None]]

_VERDICTS: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.CHANGES: "there are changes",
    Exit.REFUSED: "refused",
    Exit.LOCKED: "the state is locked",
    Exit.PARTLY: "partly applied",
}
_SUCCESS: Final = (Exit.DONE, Exit.CHANGES)
_GRAVITIES: Final[Mapping[int, Gravity]] = {Exit.DONE: "success", Exit.CHANGES: "warning"}


class Teller:
    """Gathers what there is to tell of one run, and tells it when that has ended.

    `report` builds the run's report; a command sets it as soon as it can. Where nothing is asked
    for, nothing is imported and nothing counted.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.report: Callable[[datetime], Report] | None = None
        self._arguments = arguments
        self._began = time.time(), time.monotonic()
        self._found: Found | None = None
        self._traffic: Traffic | None = None
        self._place: Place | None = None
        self._services: tuple[Service, ...] = ()
        self._tracer: Tracer | None = None

    def open(self) -> None:
        """Find out where to tell it, before anything else is done. Raises: Problem."""
        if not hasattr(self._arguments, "notify"):
            return
        metrics = self._arguments.metrics or os.environ.get("RECONCILER_METRICS")
        if metrics:
            self._open_metrics(metrics)
        urls = [*self._arguments.notify, *os.environ.get("RECONCILER_NOTIFY", "").split()]
        if urls:
            self._open_services(urls)
        if any(name.startswith("OTEL_") for name in os.environ):
            self._open_tracer()

    def _open_metrics(self, text: str) -> None:
        from reconciler.telling.metrics import Unfit, place
        from reconciler.telling.run import Traffic

        try:
            self._place = place(text)
        except Unfit as error:
            raise Problem(f"--metrics: {error}") from error
        self._traffic = Traffic()

    def _open_services(self, urls: Sequence[str]) -> None:
        from reconciler.telling.notify import Unfit, services

        try:
            self._services = services(urls)
        except Unfit as error:
            raise Problem(f"--notify: {error}") from error

    def _open_tracer(self) -> None:
        from reconciler.telling.tracing import Unfit, tracer

        try:
            self._tracer = tracer(self._arguments.command, self._project, os.environ)
        except Unfit as error:
            _warn(f"traces: {error}")

    @property
    def observe(self) -> Callable[[Exchange], None] | None:
        """What is to be told of each request; None if nobody wants to know."""
        traffic, tracer = self._traffic, self._tracer
        observers = [o for o in (traffic and traffic.add, tracer and tracer.exchanged) if o]
        if not observers:
            return None

        def observe(exchange: Exchange) -> None:
            for observer in observers:
                observer(exchange)

        return observe

    def event(self, event: Event) -> None:
        """An operation has begun or ended."""
        if self._tracer:
            self._tracer.event(event)

    def planned(self, plan: Plan, outcome: Outcome | None = None) -> None:
        """The run has made a plan; with `outcome`, it has applied it."""
        if self._place or self._services:
            from reconciler.telling.run import of_plan

            self._found = of_plan(plan, outcome)

    def drifted(self, state: State, changes: Sequence[Change]) -> None:
        """The run has looked for drift."""
        if self._place or self._services:
            from reconciler.telling.run import of_drift

            self._found = of_drift(state, changes)

    def end(self, code: int) -> None:
        """Tell that the run ended with exit status `code`. What can't be told is a warning.

        A signal ends the telling, and leaves the run's exit status as it is.
        """
        try:
            with interruptible():
                tasks = {**self._metrics(code), **self._messages(code), **self._traces(code)}
                for failure in _delivered(tasks):
                    _warn(failure)
        except Interrupted as end:
            _warn(f"all that {end} did not let wait for")

    def _traces(self, code: int) -> Tasks:
        if self._tracer is None:
            return {}
        self._tracer.end(code, failed=code not in _SUCCESS)
        return {"traces": self._tracer.send}

    def _metrics(self, code: int) -> Tasks:
        if self._place is None or self._traffic is None:
            return {}
        from reconciler.telling.run import Run

        began, at = self._began
        run = Run(
            command=self._arguments.command,
            project=self._project,
            code=code,
            began=began,
            ended=began + time.monotonic() - at,
            found=self._found,
            traffic=self._traffic,
        )
        place = self._place
        return {"metrics": lambda: place.send(run)}

    def _messages(self, code: int) -> Tasks:
        """Nobody is told where there was nothing to do: what is told too often is not read."""
        changed = self._found is not None and self._found.changed
        if not self._services or self.report is None or (code == Exit.DONE and not changed):
            return {}
        message = cache(partial(self._message, self.report, code))
        gravity = _GRAVITIES.get(code, "failure")
        return {
            f"a message by {service.kind} (URL {number})": partial(_send, service, message, gravity)
            for number, service in enumerate(self._services, 1)
        }

    def _message(self, build: Callable[[datetime], Report], code: int) -> Message:
        from reconciler.render.message import ci_link, message

        report = build(datetime.now(UTC))
        where = f"Project {self._project}"
        if self._found:
            where += f", root account {self._found.root}"
        verdict = _VERDICTS[Exit(code)] if code in _VERDICTS else "interrupted"
        if code == Exit.CHANGES and report.command == "drift":
            verdict = "there is drift"
        return message(report, verdict, where, ci_link(os.environ))

    @property
    def _project(self) -> str:
        """The name of the project's directory."""
        return Path(self._arguments.chdir).resolve().name


def _delivered(tasks: Tasks) -> Sequence[str]:
    """Run the tasks, and answer what came to nothing."""
    if not tasks:
        return ()
    from reconciler.telling.deliver import deliver

    return deliver(tasks)


def _send(service: Service, message: Callable[[], Message], gravity: Gravity) -> None:
    made = message()
    service.send(made.title, made.body, gravity)


def _warn(what: str) -> None:
    from reconciler.render.safe import terminal

    print(f"Warning: not told: {terminal(what)}", file=sys.stderr)
