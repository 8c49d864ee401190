"""What of a plan is more than one run may do, and must not be done.

A plan is judged as a whole, after it was made: so that all of it can be shown with its refusals.

Source: docs/behaviours.md, "Safety".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from reconciler.core.graph import Action

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from reconciler.core.configuration import Limits
    from reconciler.core.graph import Operation
    from reconciler.core.live import Live
    from reconciler.core.plan import Change
    from reconciler.core.state import AccountRecord
    from reconciler.core.values import Key

_FEW: Final = 10
"""Below so many accounts under management, a share of them says nothing (design: safety)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that keeps a plan from being applied, by the name of its rule."""

    rule: str
    detail: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a plan would do, and what there is: in state, by key, and on the platform."""

    changes: Sequence[Change]
    operations: Sequence[Operation]
    records: Mapping[Key, AccountRecord]
    live: Live


def check(proposal: Proposal, limits: Limits) -> list[Refusal]:
    """What of the plan is more than one run may do."""
    counts = Counter(action for change in proposal.changes for action in change.actions)
    demotions = counts[Action.DEMOTE]
    if not limits.reparent:
        demotions += sum(o.temporary and o.action is Action.DEMOTE for o in proposal.operations)
    refusals = []
    if counts[Action.DELETE] > limits.max_delete:
        refusals.append(_over("max_delete", "delete", counts[Action.DELETE], limits.max_delete))
    if demotions > limits.max_demote:
        refusals.append(_over("max_demote", "demote", demotions, limits.max_demote))
        if demotions > counts[Action.DEMOTE]:
            hint = " Those for the time being are allowed by --allow reparent."
            refusals[-1] = replace(refusals[-1], detail=refusals[-1].detail + hint)
    managed = len(proposal.records)
    touched = sum(
        bool({Action.UPDATE, Action.MOVE} & {*change.actions}) for change in proposal.changes
    )
    if managed >= _FEW and touched * 100 > limits.max_update_percent * managed:
        detail = (
            f"{touched} of {managed} accounts would be updated or moved; at most"
            f" {limits.max_update_percent}% may be in one run. To allow it once: --allow update=100%."
        )
        refusals.append(Refusal("max_update_percent", detail))
    refusals += _undeletable(proposal)
    if counts[Action.CREATE] or counts[Action.DELETE]:
        refusals += _outage(proposal)
    ranks = counts[Action.PROMOTE] + counts[Action.DEMOTE]
    if ranks and proposal.live.promoting_allowed is False:
        detail = (
            f"{ranks} accounts would be promoted or demoted. That takes the token of a superduper"
            " admin, and the account that this one belongs to is none."
        )
        refusals.append(Refusal("superduper_admin", detail))
    return refusals


def _over(rule: str, word: str, count: int, limit: int) -> Refusal:
    detail = f"The plan would {word} {count}; at most {limit} may be in one run."
    detail += f" To allow it once: --allow {word}={count}."
    return Refusal(rule, detail)


def _outage(proposal: Proposal) -> Iterator[Refusal]:
    """A list that lacks most of the accounts that are there says nothing of what else is."""
    missing = lacking(proposal.records.values(), proposal.live)
    if missing:
        detail = (
            f"The platform's list lacks {missing} of {len(proposal.records)} accounts that are there by"
            " their own GET, so what else is there can't be known: nothing is created or deleted."
            " Try again later."
        )
        yield Refusal("outage", detail)


def _undeletable(proposal: Proposal) -> list[Refusal]:
    """Deletes of accounts that something stays below."""
    going = {c.id for c in proposal.changes if Action.DELETE in c.actions}
    leaving = {c.id for c in proposal.changes if Action.MOVE in c.actions}
    refusals = []
    for change in proposal.changes:
        if Action.DELETE in change.actions and change.id is not None:
            staying = [
                i for i in proposal.live.children.get(change.id, ()) if i not in going | leaving
            ]
            if staying:
                names = ", ".join(proposal.live.rows[i].name for i in staying[:3])
                detail = f"{change.address} can't be deleted: {len(staying)} accounts stay below it ({names})."
                refusals.append(Refusal("has_descendants", detail, change.key))
    return refusals


def lacking(records: Collection[AccountRecord], live: Live) -> int:
    """How many of the accounts in state the list lacks although they are there, if over half; else 0."""
    unlisted = live.unlisted
    missing = sum(record.id in unlisted for record in records)
    return missing if missing * 2 > len(records) else 0
