"""What became of an apply, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reconciler.core.graph import Action, Operation
    from reconciler.core.values import AccountId, Key

Status = Literal["done", "failed", "skipped", "stale"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one operation, or of an action that needs no API call (`n` is None then)."""

    n: int | None
    key: Key
    action: Action
    status: Status
    id: AccountId | None = None
    error: str = ""
    request_id: str = ""
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """An operation begins."""

    operation: Operation


Event = Started | Result


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an apply. `sent`: whether any write left; `signal`: what stopped it.

    `unsaved`: why not all of it could be recorded, if so.
    """

    results: tuple[Result, ...]
    sent: bool
    signal: int | None = None
    unsaved: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether everything was done, and recorded."""
        done = all(result.status == "done" for result in self.results)
        return done and self.signal is None and not self.unsaved
