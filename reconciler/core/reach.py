"""Whom the changes of a plan reach: how many accounts are affected in which way, under which resellers.

A change reaches its own account, and some reach all that stand below it (`effects.PASSED_ON`,
`effects.INHERITED`). That is looked up in the tree of all accounts below the root, whether or not
anybody manages them.

Source: docs/reviewing.md, "Effects".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.core.danger import inside, plain
from reconciler.core.diff import ENABLED
from reconciler.core.effects import ACTIONS, EFFECTS, INHERITED, PASSED_ON, of_path
from reconciler.core.graph import Action
from reconciler.core.values import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reconciler.core.diff import FieldChange
    from reconciler.core.effects import Effect
    from reconciler.core.graph import Ident, Node, Operation
    from reconciler.core.plan import Change
    from reconciler.core.values import Key


@dataclass(frozen=True, slots=True)
class Reached:
    """How many accounts are affected in one way, and how many resellers they stand below."""

    accounts: int
    resellers: int


@dataclass(frozen=True, slots=True)
class Impact:
    """What one change does: `own` to its account, `below` to each account below that."""

    ident: Ident
    key: Key
    own: frozenset[Effect]
    below: frozenset[Effect]


class Tree:
    """All accounts below the root, as they are and as they will be, and the ways up and down."""

    def __init__(self, nodes: Mapping[Ident, Node]) -> None:
        self.nodes = nodes
        self.idents = {node.key: ident for ident, node in nodes.items()}
        self._children: dict[Ident, list[Ident]] | None = None
        self._tops: dict[Ident, Key] = {}

    def above(self, ident: Ident) -> frozenset[Ident]:
        """The account, and all that it stands below or will stand below, the root included."""
        found = {ident}
        waiting = [ident]
        while waiting:
            node = self.nodes.get(waiting.pop())
            parents = (node.parent_before, node.parent_after) if node else ()
            more = [parent for parent in parents if parent is not None and parent not in found]
            found.update(more)
            waiting += more
        return frozenset(found)

    def below(self, ident: Ident) -> list[Ident]:
        """The accounts that stand below now."""
        if self._children is None:
            self._children = defaultdict(list)
            for child, node in self.nodes.items():
                if node.parent_before is not None:
                    self._children[node.parent_before].append(child)
        found, seen = list(self._children.get(ident, ())), {ident}
        for current in found:
            if current not in seen:  # a move to nowhere can leave a ring behind
                seen.add(current)
                found += self._children.get(current, ())
        return [current for current in found if current != ident]

    def top(self, ident: Ident) -> Key:
        """The key of the topmost reseller that the account will stand below, or is; else `root`.

        Who becomes a reseller, or was one so far, counts as one. What is to be deleted stands where
        it is. An account that nobody manages counts as a
        reseller only if it was read.
        """
        way: list[Ident] = []
        current = ident
        while current in self.nodes and current not in self._tops and current not in way:
            way.append(current)
            node = self.nodes[current]
            current = node.parent_after or node.parent_before or ""
        top = self._tops.get(current, ROOT)
        for passed in reversed(way):
            node = self.nodes[passed]
            if top == ROOT and (node.reseller_before or node.reseller_after):
                top = node.key
            self._tops[passed] = top
        return self._tops.get(ident, ROOT)


def of_field(field: FieldChange) -> frozenset[Effect]:
    """What the change of one leaf affects. Parent and rank: nothing, actions tell of them."""
    if field.path[0] != "settings":
        return frozenset()
    if field.path == ENABLED and plain(field.after) is False:
        return frozenset(ACTIONS["disable"])
    own, *inner = inside(field)
    return frozenset(effect for path in inner or [own] for effect in of_path(path[1:]))


def of_change(change: Change) -> frozenset[Effect]:
    """What a change does to its own account. Nobody has seen a new one before: no looks change."""
    whole = frozenset(effect for action in change.actions for effect in ACTIONS[action])
    found = whole.union(*map(of_field, change.fields))
    return found - {"cosmetic"} if Action.CREATE in change.actions else found


def passed_on(change: Change) -> frozenset[Effect]:
    """What of it reaches all accounts below."""
    found = {e for a in change.actions if a in PASSED_ON for e in ACTIONS[a]}
    for field in change.fields:
        if field.path[0] == "settings" and field.path[1:] in INHERITED:
            found |= of_field(field)
    return frozenset(found)


def impacts(
    changes: Iterable[Change], operations: Iterable[Operation], tree: Tree
) -> Iterator[Impact]:
    """What each change does; also those that are made for the time being only."""
    for change in changes:
        ident = change.id or tree.idents.get(change.key, change.key)
        if own := of_change(change):
            yield Impact(ident, change.key, own, passed_on(change))
    demoted = frozenset(ACTIONS["demote"])
    for operation in operations:
        if operation.temporary and operation.action is Action.DEMOTE:
            yield Impact(operation.ident, operation.key, demoted, demoted)


def reached(found: Iterable[Impact], tree: Tree) -> dict[Effect, Reached]:
    """How many accounts are affected in each way, each counted once; nothing that affects none."""
    accounts: dict[Effect, set[Ident]] = {effect: set() for effect in EFFECTS}
    for impact in found:
        for effect in impact.own:
            accounts[effect].add(impact.ident)
        below = tree.below(impact.ident) if impact.below else ()
        for effect in impact.below:
            accounts[effect].update(below)
    return {
        effect: Reached(len(idents), len({tree.top(ident) for ident in idents} - {ROOT}))
        for effect, idents in accounts.items()
        if idents
    }
