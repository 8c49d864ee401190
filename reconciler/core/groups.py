"""The same change on many accounts, told once.

A group is one leaf that changes in the same way on several accounts. Not in groups are the fields of
accounts that are to be created, which are told with the account, and whatever is dangerous.

Source: docs/reviewing.md, "Folding".
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.core.danger import is_dangerous
from reconciler.core.diff import RESELLER
from reconciler.core.graph import Action
from reconciler.core.masking import open_side
from reconciler.core.values import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reconciler.core.danger import Danger
    from reconciler.core.diff import FieldChange
    from reconciler.core.plan import Change
    from reconciler.core.values import Key

FOLDED_FROM: Final = 11
"""So many accounts must change alike for the group to be told in place of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """Accounts of which the same leaf changes in the same way, as far as outputs may tell.

    `field`: the leaf of the first account. `keys` in order. `resellers`: the topmost resellers of
    the accounts and how many are under each, most first; `root` for those under none.
    """

    field: FieldChange
    keys: tuple[Key, ...]
    resellers: Mapping[Key, int]


def groups(changes: Iterable[Change]) -> tuple[Group, ...]:
    """What changes alike on two or more accounts; the largest group first, then by path."""
    members: dict[tuple[object, ...], list[tuple[Change, FieldChange]]] = defaultdict(list)
    for change in changes:
        if Action.CREATE not in change.actions:
            for field in change.fields:
                if not is_dangerous(field):
                    members[same(field)].append((change, field))
    found = [_group(alike) for alike in members.values() if len(alike) > 1]
    return tuple(sorted(found, key=lambda group: (-len(group.keys), same(group.field))))


def same(field: FieldChange) -> tuple[str, ...]:
    """What is equal of two changes that can be told as one. Sensitive values are equal in outputs."""
    sides = (_text(field.before), _text(field.after))
    return (*field.path, "", field.op, *sides, str(field.sensitive), str(field.drift))


def _text(side: object) -> str:
    shown = open_side(side)  # type: ignore[arg-type]
    return "" if shown is ABSENT else json.dumps(shown, sort_keys=True)


def _group(alike: Sequence[tuple[Change, FieldChange]]) -> Group:
    counted = Counter(change.top for change, _ in alike)
    resellers = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
    return Group(alike[0][1], tuple(change.key for change, _ in alike), resellers)


def large(found: Iterable[Group]) -> tuple[Group, ...]:
    """The groups that can stand for their accounts."""
    return tuple(group for group in found if len(group.keys) >= FOLDED_FROM)


def folded(
    changes: Iterable[Change], found: Iterable[Group], dangerous: Iterable[Danger]
) -> frozenset[Key]:
    """The accounts of which groups tell everything: updates of which each leaf is in one of `found`.

    Never one that anything dangerous happens to, also for the time being; nor one whose rank changed
    outside.
    """
    told = {same(group.field) for group in found}
    spared = {danger.key for danger in dangerous}
    return frozenset(
        change.key
        for change in changes
        if _is_update(change)
        and change.key not in spared
        and all(same(field) in told for field in change.fields)
    )


def _is_update(change: Change) -> bool:
    """Whether an account is to be updated, or fields of it were changed outside."""
    if change.actions:
        return change.actions == (Action.UPDATE,)
    return all(field.path != RESELLER for field in change.fields)
