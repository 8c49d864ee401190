"""What of a plan, or of drift, does harm that is hard to undo: repeated at the end, the gravest first.

Source: docs/behaviours.md, "Dangerous changes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from reconciler.core.diff import ENABLED, PARENT, RESELLER
from reconciler.core.graph import Action
from reconciler.core.values import Sensitive, leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reconciler.core.diff import FieldChange, Side
    from reconciler.core.plan import Change, Plan
    from reconciler.core.values import FieldPath, Key, MaybeJson

What = Literal["delete", "demote", "move", "disable", "emergency_caller_id", "recording_url"]
"""In order of gravity."""

_GRAVITY: Final = {what: rank for rank, what in enumerate(get_args(What))}
_RECORDING: Final = ("settings", "call_recording")
_EMERGENCY: Final = ("settings", "caller_id", "emergency")


@dataclass(frozen=True, slots=True)
class Danger:
    """One dangerous change. `field`: the leaf that changes, if it is about one."""

    key: Key
    what: What
    field: FieldChange | None = None
    temporary: bool = False


def dangers(plan: Plan) -> tuple[Danger, ...]:
    """The dangerous changes of a plan, the gravest first, then by key; temporary demotions last."""
    found = [danger for change in plan.changes for danger in _of(change)]
    found += [
        Danger(operation.key, "demote", temporary=True)
        for operation in plan.operations
        if operation.temporary and operation.action is Action.DEMOTE
    ]
    return _sorted(found)


def dangers_outside(changes: Iterable[Change]) -> tuple[Danger, ...]:
    """What is dangerous of that which was changed outside, in the same order."""
    return _sorted(danger for change in changes for danger in _outside(change))


def _sorted(found: Iterable[Danger]) -> tuple[Danger, ...]:
    def gravity(danger: Danger) -> tuple[bool, int, Key]:
        return danger.temporary, _GRAVITY[danger.what], danger.key

    return tuple(sorted(found, key=gravity))


def _outside(change: Change) -> Iterator[Danger]:
    if change.live is None:
        yield Danger(change.key, "delete")
    if any(field.path == RESELLER and plain(field.after) is not True for field in change.fields):
        yield Danger(change.key, "demote")
    yield from _leaves(change)


def _of(change: Change) -> Iterator[Danger]:
    if Action.DELETE in change.actions:
        yield Danger(change.key, "delete")
    if Action.DEMOTE in change.actions:
        yield Danger(change.key, "demote")
    yield from _leaves(change)


def _leaves(change: Change) -> Iterator[Danger]:
    for field in change.fields:
        what = _what(field)
        if what is not None:
            yield Danger(change.key, what, field)


def is_dangerous(field: FieldChange) -> bool:
    """Whether a leaf is among what plans repeat at their end."""
    return _what(field) is not None


def _what(field: FieldChange) -> What | None:
    """What is dangerous about a leaf: where recordings go to, what an emergency call tells, and such."""
    if field.path == PARENT:
        return "move"
    if field.path == ENABLED:
        return "disable" if plain(field.after) is False else None
    if field.path[:2] == _RECORDING:
        # What can't be seen of a saved plan may be one.
        hit = field.sensitive or any(path[-1] == "url" for path in inside(field))
        return "recording_url" if hit else None
    if field.path[:2] == _EMERGENCY[:2]:
        hit = any(path[:3] == _EMERGENCY for path in inside(field))
        return "emergency_caller_id" if hit else None
    return None


def inside(field: FieldChange) -> Iterator[FieldPath]:
    """The path of a leaf, and those inside it: what is removed may be a whole object."""
    yield field.path
    for side in (field.before, field.after):
        value = plain(side)
        if isinstance(value, dict):
            yield from (inner for inner, _ in leaves(value, field.path))


def plain(side: Side) -> MaybeJson:
    """One side of a change in clear."""
    return side.value if isinstance(side, Sensitive) else side
