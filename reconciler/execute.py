"""Walks the operations of a plan: which one begins when, and what a signal does.

Only here are signals and cancellation handled. What an operation does stands in `perform.py`.

Source: docs/behaviours.md, "Apply".
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.core.graph import Action, Operation, Walk
from reconciler.core.outcome import Event, Outcome, Result, Started
from reconciler.core.state import Entry
from reconciler.core.values import address
from reconciler.perform import Performer
from reconciler.record import Recorder, confirm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reconciler.api.client import Client
    from reconciler.backends.backend import StateWriter
    from reconciler.core.plan import Change, Plan
    from reconciler.core.state import State


_LOOK: Final = 0.5
"""Seconds, at most, until a run that waits for the platform sees that it has lost the lock."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How operations are run: so many at a time; and whether a failure keeps others from beginning."""

    concurrency: int
    fail_fast: bool = False


async def execute(
    plan: Plan,
    client: Client,
    writer: StateWriter,
    *,
    run: str,
    pace: Pace,
    emit: Callable[[Event], None],
) -> Outcome:
    """Do what the plan says and record what came of it. The lock is held.

    Raises: Unwritable, if nothing was begun. Whatever comes later is in the outcome instead.
    """
    recorder = Recorder(writer, plan.state)
    performer = Performer(plan, client, recorder, run)
    results = list(_record_silently(plan, recorder))
    await recorder.durable()
    with _signals() as stop:
        try:
            walked = await _walk(plan, performer, stop, pace, emit)
            whole = stop.signal is None and not recorder.failure()
            corrected = await _reviewed(performer, walked, stop) if whole else {}
            for result in corrected.values():
                _tell(emit, result)
            results += [corrected.get(result.n, result) for result in walked]
        finally:
            await recorder.close()
    return Outcome(tuple(results), performer.writes.sent, stop.signal, recorder.failure())


async def _reviewed(
    performer: Performer, walked: list[Result], stop: _Stop
) -> dict[int | None, Result]:
    """The results that turn out otherwise, by number; none if a signal cuts that short."""
    stop.reviewing = asyncio.create_task(performer.creates.review(walked))
    with suppress(asyncio.CancelledError):
        return {result.n: result for result in await stop.reviewing}
    return {}


def _tell(emit: Callable[[Event], None], event: Event) -> None:
    """Tell of an event. That nobody reads on, or that a disk is full, must not end an apply half-way."""
    with suppress(OSError):
        emit(event)


def _record_silently(plan: Plan, recorder: Recorder) -> Iterator[Result]:
    """Record what needs no API call: adopted and forgotten accounts, new keys, new claims.

    And that a saved plan is being applied: nothing was sent yet, and it is never applied again.
    """
    if plan.seal:
        recorder.add(Entry("take", "", seal=plan.seal))
    recorder.add(*(Entry("repay", "", owed=owed) for owed in plan.moot))
    for change in (*plan.silent, *plan.changes):
        if change.key in plan.stale:
            for action in (Action.ADOPT, Action.FORGET):
                if action in change.actions:
                    reason = plan.stale[change.key]
                    yield Result(None, change.key, action, "stale", change.id, reason)
            continue
        recorder.add(*_learned(change, plan.state))
        for action in (Action.ADOPT, Action.FORGET):
            if action in change.actions:
                yield Result(None, change.key, action, "done", change.id)


def _learned(change: Change, state: State) -> Iterator[Entry]:
    """What state learns of an account before anything is done to it."""
    if change.moved_from is not None:
        yield Entry("forget", change.moved_from)
        if change.record is not None:
            yield Entry("record", change.key, change.record)
    if Action.FORGET in change.actions:
        yield Entry("forget", change.key)
    elif change.live is not None and change.declared is not None:
        record, _ = confirm(change, change.record, change.live, state)
        yield Entry("record", change.key, record)


class _Stop:
    """Whether the run is to end: at the first signal nothing more begins, at the second all stops.

    What only looks, after all operations, stops at the first.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.failed = False
        self.reviewing: asyncio.Task[list[Result]] | None = None
        self.running: dict[asyncio.Task[Result], Operation] = {}

    def may_begin(self, pace: Pace) -> bool:
        """Whether one more operation may begin."""
        ended = self.signal is not None or (self.failed and pace.fail_fast)
        return not ended and len(self.running) < pace.concurrency

    def __call__(self, number: int) -> None:
        if self.signal is not None:
            for task in self.running:
                task.cancel()
        if self.reviewing is not None:
            self.reviewing.cancel()
        self.signal = number


@contextmanager
def _signals() -> Iterator[_Stop]:
    """Catch what would end the run, but for signals that were to be ignored, as under nohup."""
    stop = _Stop()
    loop = asyncio.get_running_loop()
    caught = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        if before is signal.SIG_IGN:
            continue
        with suppress(ValueError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, stop, number)
            caught.append((number, before))
    try:
        yield stop
    finally:
        for number, before in caught:
            loop.remove_signal_handler(number)
            signal.signal(number, before)


async def _walk(
    plan: Plan,
    performer: Performer,
    stop: _Stop,
    pace: Pace,
    emit: Callable[[Event], None],
) -> list[Result]:
    """Perform the operations, each when its time has come."""
    walk = Walk(plan.operations)
    results: dict[int, Result] = {}
    recorder = performer.writes.recorder
    try:
        while not recorder.failure():
            while stop.may_begin(pace) and (ready := walk.ready()):
                _tell(emit, Started(ready))
                stop.running[asyncio.create_task(performer.perform(ready))] = ready
            if not stop.running:
                break
            ended, _ = await asyncio.wait(
                stop.running, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED
            )
            for task in ended:
                for n, result in _ended(walk, stop.running.pop(task), task.result()):
                    results[n] = result
                    _tell(emit, result)
                    stop.failed = stop.failed or result.status != "done"
    finally:  # whatever ended the walk, nothing goes on behind it
        for task in stop.running:
            task.cancel()
        cut = await asyncio.gather(*stop.running, return_exceptions=True)
    for operation, broken_off in zip(stop.running.values(), cut, strict=True):
        if isinstance(broken_off, Result):
            results[operation.n] = broken_off
            _tell(emit, broken_off)
    for operation in plan.operations:
        results.setdefault(operation.n, _skipped(operation, "the run was stopped before"))
    return [results[operation.n] for operation in plan.operations]


def _ended(walk: Walk, operation: Operation, result: Result) -> Iterator[tuple[int, Result]]:
    """The result of an operation, and of those that now never can begin."""
    yield operation.n, result
    if result.status == "done":
        walk.done(operation.n)
        return
    why = f"{address(operation.key)} could not be {_PAST[operation.action]} before"
    for lost in walk.failed(operation.n):
        yield lost.n, _skipped(lost, why)


_PAST: Final = {
    Action.CREATE: "created",
    Action.PROMOTE: "promoted",
    Action.DEMOTE: "demoted",
    Action.MOVE: "moved",
    Action.UPDATE: "updated",
    Action.DELETE: "deleted",
}


def _skipped(operation: Operation, why: str) -> Result:
    return Result(
        operation.n,
        operation.key,
        operation.action,
        "skipped",
        error=why,
        temporary=operation.temporary,
    )
