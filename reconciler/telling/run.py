"""A run that has ended, in numbers: what metrics are made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, get_args

from reconciler.core.graph import Action
from reconciler.core.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.exchange import Exchange
    from reconciler.core.outcome import Outcome
    from reconciler.core.plan import Change, Plan
    from reconciler.core.state import State

STATUSES: Final[tuple[Status, ...]] = get_args(Status)


@dataclass(slots=True)
class Traffic:
    """Counts requests to the platform. `answers`: by method and status, "none" where no answer came."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    resent: int = 0

    def add(self, exchange: Exchange) -> None:
        """One more request has ended."""
        self.answers[exchange.method, str(exchange.status or "none")] += 1
        self.resent += exchange.resent > 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found and did.

    `root`: the root account's name, else its id. `accounts` and `serial`: of the state after it.
    `changes`: how many accounts are to be changed, by action; None where that is not asked.
    `results`: how many operations ended how; None where none was to be performed. `drifted`:
    accounts that were changed outside.
    """

    root: str
    accounts: int
    serial: int
    drifted: int
    changes: Mapping[str, int] | None = None
    results: Mapping[Status, int] | None = None
    refusals: int = 0

    @property
    def changed(self) -> bool:
        """Whether something was done."""
        return bool(self.results and self.results["done"])


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended.

    `project`: the name of its directory. `code`: the exit status. `began` and `ended`: seconds
    since 1970. `found`: None if it ended before it had found anything.
    """

    command: str
    project: str
    code: int
    began: float
    ended: float
    found: Found | None
    traffic: Traffic


def of_plan(plan: Plan, outcome: Outcome | None = None) -> Found:
    """What a plan would change; with `outcome`, what became of that."""
    state = outcome.state if outcome and outcome.state else plan.state
    ended = Counter(result.status for result in outcome.results) if outcome else {}
    return Found(
        root=plan.root_name or plan.root,
        accounts=len(state.accounts),
        serial=state.serial,
        drifted=sum(change.drift for change in plan.changes),
        changes={action.value: plan.count(action) for action in Action},
        results={status: ended[status] for status in STATUSES} if outcome else None,
        refusals=len(plan.refusals),
    )


def of_drift(state: State, changes: Sequence[Change]) -> Found:
    """What was changed outside."""
    return Found(state.root, len(state.accounts), state.serial, len(changes))
