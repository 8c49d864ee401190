"""From what is to happen to accounts, to API calls in an order that the platform accepts.

An operation is one API call and what it waits for. The rules, in the words of the platform
(docs/platform.md 3.4, 3.8, 3.9, 3.10):

- An account exists before anything is done to it, its parent before it is created.
- Promoting or demoting an account is refused while an account below it is a reseller. So all
  demotions come first, from the leaves up; then the moves, in the order of the tree as it will
  be; then the promotions, from the root down. A reseller that must stay one, and stands below an
  account that is promoted or demoted, is demoted for the time being: `temporary`.
- A new account takes its promotion at once, before anything is put below it: then nothing below
  needs to be touched.
- Deletes go from the leaves up.
- Promoting and demoting writes all accounts below: updates of those wait for it, but don't fail
  with it.
- A realm, and as a rule a name, belongs to one account at a time (5.4): who is to have it waits for
  the one that has it to let go, and fails with it. Where each waits for the other, there is no
  order: a `Ring`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from reconciler.core.diff import Side
    from reconciler.core.values import FieldPath, JsonObject, Key


class Action(StrEnum):
    """What happens to an account."""

    CREATE = "create"
    ADOPT = "adopt"
    MOVE = "move"
    PROMOTE = "promote"
    DEMOTE = "demote"
    UPDATE = "update"
    FORGET = "forget"
    DELETE = "delete"


Ident = str
"""An account in the graph: its id, or `{accounts.KEY.id}` while it has none."""

Mark = tuple[Literal["realm", "name"], str]
"""What one account at a time may have, in the form in which the platform compares it."""

_Name = tuple[Ident, str]
"""A draft: its account and action."""


@dataclass(frozen=True, slots=True)
class Node:
    """An account as far as order is concerned.

    `parent_before` is None for one that is to be created, `parent_after` for one to be deleted.
    `body`: for a create, the document; for an update, the changed fields; `enable`: an update
    that a create needs on top. `name`: the present one. `gets`, `loses`: what is to be the
    account's alone and is not yet, and what no more.
    """

    ident: Ident
    key: Key
    name: str
    parent_before: Ident | None
    parent_after: Ident | None
    reseller_before: bool
    reseller_after: bool
    create: JsonObject | None = None
    update: JsonObject | None = None
    gets: frozenset[Mark] = frozenset()
    loses: frozenset[Mark] = frozenset()


@dataclass(frozen=True, slots=True)
class Taking:
    """An account is to have what another one has and lets go of."""

    taker: Ident
    holder: Ident
    mark: Mark


Ring = tuple[Taking, ...]
"""Takings that all wait for each other, so that none of them can come first; in order of key."""


@dataclass(frozen=True, slots=True)
class Order:
    """Operations in an accepted order, but for the `rings`, in which there is none."""

    operations: tuple[Operation, ...]
    rings: tuple[Ring, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One API call. `n` counts from 1; `after` has the numbers of those it waits for.

    `path` is below the base URL, with the query. `body` may hold `Sensitive` values, and
    `{accounts.KEY.id}` where the id is known only after another operation. `rests_on`: what was
    read when the plan was made, and must still be so when it is sent.
    """

    n: int
    key: Key
    ident: Ident
    action: Action
    method: str
    path: str
    body: JsonObject | None
    after: tuple[int, ...]
    temporary: bool = False
    rests_on: Mapping[FieldPath, Side] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """An operation before it has a number."""

    node: Node
    action: Action
    temporary: bool = False
    after: set[_Name] = field(default_factory=set)


_RANK = {
    Action.DEMOTE: "1",
    Action.CREATE: "2",
    Action.MOVE: "3",
    Action.PROMOTE: "4",
    Action.UPDATE: "5",
    Action.DELETE: "6",
}


def order(nodes: Mapping[Ident, Node], *, welcome_email: bool) -> Order:
    """The operations for `nodes`, which are all accounts below the root that are known of.

    Accounts that nothing happens to are among them, since their place and rank matter.
    Numbered in an order in which they could be done one after the other. Where there is none, they
    are numbered as if no account had to let go of anything first: to be shown, not to be sent.
    """
    planner = _Planner(nodes)
    planner.draft()
    planner.link()
    rings = planner.untie()
    return Order(_numbered(planner.drafts, welcome_email=welcome_email), rings)


def temporary_demotions(nodes: Mapping[Ident, Node]) -> frozenset[Ident]:
    """The resellers that stay resellers and must be demoted for the time being."""
    return frozenset(_Planner(nodes).temporary)


class _Planner:
    """Builds the drafts and what they wait for. Drafts are named by account and action."""

    def __init__(self, nodes: Mapping[Ident, Node]) -> None:
        self.nodes = nodes
        self.drafts: dict[_Name, _Draft] = {}
        self.takings: list[tuple[_Name, _Name, Taking]] = []
        self.promoted = {i for i, n in nodes.items() if n.reseller_after and not n.reseller_before}
        self.demoted = {
            i
            for i, n in nodes.items()
            if n.reseller_before and not n.reseller_after and n.parent_after is not None
        }
        self.moved = sorted(
            i
            for i, n in nodes.items()
            if n.parent_before is not None
            and n.parent_after is not None
            and n.parent_before != n.parent_after
        )
        self.early, self.temporary = self._ranks()

    def above(self, ident: Ident, *, after: bool) -> Iterator[Ident]:
        """The accounts above `ident` up to the root, without it: as it is or as it will be."""
        seen = {ident}
        while True:
            node = self.nodes[ident]
            parent = node.parent_after if after else node.parent_before
            if parent is None or parent in seen or parent not in self.nodes:
                return
            seen.add(parent)
            yield parent
            ident = parent

    def _ranks(self) -> tuple[set[Ident], set[Ident]]:
        """Which promotions can come right after their account's creation, and what is temporary.

        Each depends on the other: a promotion is late if one above it is late, and what stands
        below a late one must be demoted for the time being and is promoted late itself.
        """
        temporary: set[Ident] = set()
        while True:
            early = {i for i in self.promoted if self._is_early(i, temporary)}
            found = self._below_changing(self.promoted - early, temporary)
            if not found:
                return early, temporary
            temporary |= found

    def _is_early(self, ident: Ident, temporary: set[Ident]) -> bool:
        chain = [ident, *self.above(ident, after=True)]
        return all(
            i not in temporary and self.nodes[i].parent_before is None
            for i in chain
            if i in self.promoted or i in temporary
        )

    def _below_changing(self, late: set[Ident], temporary: set[Ident]) -> set[Ident]:
        """Resellers, not yet among the temporary, below an account whose rank changes."""
        if not (late or self.demoted):
            return set()
        falling, rising = self.demoted | temporary, late | temporary
        return {
            ident
            for ident, node in self.nodes.items()
            if node.reseller_before
            and ident not in falling
            and (
                any(above in falling for above in self.above(ident, after=False))
                or any(above in rising for above in self.above(ident, after=True))
            )
        }

    # --- drafts ---

    def draft(self) -> None:
        """One draft for each API call."""
        moved = set(self.moved)
        for ident, node in self.nodes.items():
            if node.create is not None:
                self._add(node, Action.CREATE)
            if ident in self.demoted:
                self._add(node, Action.DEMOTE)
            if ident in self.temporary:
                self._add(node, Action.DEMOTE, temporary=True)
                if node.parent_after is not None:
                    self._add(node, Action.PROMOTE, temporary=True)
            if ident in moved:
                self._add(node, Action.MOVE)
            if ident in self.promoted:
                self._add(node, Action.PROMOTE)
            if node.update is not None:
                self._add(node, Action.UPDATE)
            if node.parent_after is None:
                self._add(node, Action.DELETE)

    def _add(self, node: Node, action: Action, *, temporary: bool = False) -> None:
        self.drafts[node.ident, action] = _Draft(node, action, temporary)

    # --- what waits for what ---

    def link(self) -> None:
        """Fill in what each draft waits for."""
        for (ident, action), draft in self.drafts.items():
            own = [a for a in _RANK if (ident, a) in self.drafts]
            before = own[: own.index(Action(action))]
            self._wait(draft, ident, before[-1:])
        self._link_creates()
        self._link_demotions()
        self._link_moves()
        self._link_promotions()
        self._link_updates()
        self._link_deletes()
        self._link_takings()

    def _wait(self, draft: _Draft, ident: Ident, actions: Iterable[str]) -> None:
        draft.after |= {(ident, a) for a in actions if (ident, a) in self.drafts}

    def _of(self, action: Action) -> Iterator[tuple[Ident, _Draft]]:
        return ((i, d) for (i, a), d in self.drafts.items() if a == action)

    def _link_creates(self) -> None:
        """A create waits for the parent, for demotions along the way, and as a rule for promotions.

        It can't wait for a promotion that itself waits for a move to below the new account.
        """
        receiving = {a for m in self.moved for a in self.above(m, after=True)}
        for ident, draft in self._of(Action.CREATE):
            for parent in self.above(ident, after=True):
                self._wait(draft, parent, (Action.CREATE,))
                if parent in self.early or ident not in receiving:
                    self._wait(draft, parent, (Action.PROMOTE,))
                if self.nodes[parent].parent_before is not None:
                    for above in self._ways(parent):
                        self._wait(draft, above, (Action.DEMOTE,))
                if any((parent, a) in self.drafts for a in (Action.CREATE, Action.PROMOTE)):
                    break

    def _ways(self, ident: Ident) -> set[Ident]:
        """The account and all above it, as it is and as it will be."""
        return {ident, *self.above(ident, after=False), *self.above(ident, after=True)}

    def _link_demotions(self) -> None:
        for ident, _ in self._of(Action.DEMOTE):
            for above in self.above(ident, after=False):
                if (above, Action.DEMOTE) in self.drafts:
                    self.drafts[above, Action.DEMOTE].after.add((ident, Action.DEMOTE))
                    break

    def _link_moves(self) -> None:
        """A move waits for the demotions along its old and new way, and for what it goes below."""
        for ident, draft in self._of(Action.MOVE):
            for above in self.above(ident, after=False):
                self._wait(draft, above, (Action.DEMOTE,))
            for above in self.above(ident, after=True):
                self._wait(draft, above, (Action.CREATE, Action.MOVE, Action.DEMOTE))
                if above in self.early:
                    self._wait(draft, above, (Action.PROMOTE,))

    def _link_promotions(self) -> None:
        """A promotion waits for the one above it, and for the demotions above it.

        Unless it is early, also for what goes on below: demotions, moves in or out, and deletes
        of resellers.
        """
        for ident, draft in self._of(Action.PROMOTE):
            for above in self.above(ident, after=False):
                self._wait(draft, above, (Action.DEMOTE,))
            for above in self.above(ident, after=True):
                if (above, Action.PROMOTE) in self.drafts:
                    self._wait(draft, above, (Action.PROMOTE,))
                    break
        late = {i for i, _ in self._of(Action.PROMOTE)} - self.early
        for (ident, action), draft in self.drafts.items() if late else ():
            leaving = action == Action.DELETE and draft.node.reseller_before
            if leaving or action in (Action.DEMOTE, Action.MOVE):
                ways = self._ways(ident) - {ident}
                # Until it is done, the account goes along with whatever is moved above it.
                along = {a for above in ways for a in self.above(above, after=True)}
                for above in (ways | along) & late:
                    self.drafts[above, Action.PROMOTE].after.add((ident, action))

    def _link_updates(self) -> None:
        """An update waits for the promotions and demotions whose cascade touches the account."""
        changing = {i for i, a in self.drafts if a in (Action.PROMOTE, Action.DEMOTE)}
        if not changing:
            return
        for ident, draft in self._of(Action.UPDATE):
            for above in self.above(ident, after=True):
                if above in changing:
                    self._wait(draft, above, (Action.PROMOTE, Action.DEMOTE))
                    break

    def _link_deletes(self) -> None:
        for ident, node in self.nodes.items():
            parent = node.parent_before
            if parent is not None and (parent, Action.DELETE) in self.drafts:
                self._wait(self.drafts[parent, Action.DELETE], ident, (Action.MOVE, Action.DELETE))

    def _link_takings(self) -> None:
        """Who is to have what another account has waits for that one's update or delete."""
        holders: dict[Mark, list[Ident]] = defaultdict(list)
        for ident, node in self.nodes.items():
            for mark in node.loses:
                holders[mark].append(ident)
        for taker, node in self.nodes.items() if holders else ():
            for mark in sorted(node.gets):
                held = holders.get(mark, [])
                if mark[0] == "name" and len(held) > 1:
                    continue  # the platform lets names be equal
                for holder in held:
                    self._link_taking(Taking(taker, holder, mark))

    def _link_taking(self, taking: Taking) -> None:
        new = self.nodes[taking.taker].parent_before is None
        going = self.nodes[taking.holder].parent_after is None
        takes = (taking.taker, str(Action.CREATE if new else Action.UPDATE))
        frees = (taking.holder, str(Action.DELETE if going else Action.UPDATE))
        self.drafts[takes].after.add(frees)
        self.takings.append((takes, frees, taking))

    def untie(self) -> tuple[Ring, ...]:
        """The rings, whose drafts don't wait for what is let go of any more."""
        if not self.takings:
            return ()
        number = self._circles()
        given: dict[_Name, set[_Name]] = defaultdict(set)
        for takes, frees, _ in self.takings:
            given[takes].add(frees)
        tied = {frees for takes, frees, _ in self.takings if number[takes] == number[frees]}
        hurried = [ident for ident, action in tied if action == Action.UPDATE]
        for ident in hurried:
            self._hurry(ident, given[ident, Action.UPDATE])
        number = self._circles() if hurried else number
        rings: dict[int, list[Taking]] = defaultdict(list)
        for takes, frees, taking in self.takings:
            if number[takes] == number[frees]:
                self.drafts[takes].after.discard(frees)
                rings[number[takes]].append(taking)
        found = (tuple(sorted(ring, key=self._keys)) for ring in rings.values())
        return tuple(sorted(found, key=lambda ring: self._keys(ring[0])))

    def _hurry(self, ident: Ident, given: set[_Name]) -> None:
        """Let go of a realm or name before all else that happens to the account, and around it.

        `given`: what lets go of what it gets itself.
        """
        self.drafts[ident, Action.UPDATE].after = given
        ranks = {(above, a) for above in self._ways(ident) for a in (Action.DEMOTE, Action.PROMOTE)}
        for later in ranks | {(ident, Action.MOVE)}:
            if later in self.drafts:
                self.drafts[later].after.add((ident, Action.UPDATE))

    def _circles(self) -> dict[_Name, int]:
        return _circles({name: draft.after for name, draft in self.drafts.items()})

    def _keys(self, taking: Taking) -> tuple[Key, Key, Mark]:
        return self.nodes[taking.taker].key, self.nodes[taking.holder].key, taking.mark


def _circles(waits: Mapping[_Name, Collection[_Name]]) -> dict[_Name, int]:
    """A number for each, the same for those that wait for each other, over whatever steps.

    Tarjan's strongly connected components (1972); without recursion, since a chain of accounts that
    each take the next one's realm may be as long as there are accounts.
    """
    place: dict[_Name, int] = {}
    lowest: dict[_Name, int] = {}
    number: dict[_Name, int] = {}
    found: list[_Name] = []
    for start in waits:
        work = [] if start in place else [(start, iter(waits[start]))]
        while work:
            name, rest = work[-1]
            if name not in place:
                place[name] = lowest[name] = len(place)
                found.append(name)
            for before in rest:
                if before not in place:
                    work.append((before, iter(waits[before])))
                    break
                if before not in number:
                    lowest[name] = min(lowest[name], place[before])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[name])
                while lowest[name] == place[name] and name not in number:
                    number[found.pop()] = place[name]
    return number


def _numbered(drafts: Mapping[_Name, _Draft], *, welcome_email: bool) -> tuple[Operation, ...]:
    """Number the drafts in an order that respects `after`; the same for the same drafts."""
    waiting = {name: len(draft.after) for name, draft in drafts.items()}
    followers: dict[_Name, list[_Name]] = defaultdict(list)
    for name, draft in drafts.items():
        for before in draft.after:
            followers[before].append(name)

    def rank(name: _Name) -> tuple[str, str, _Name]:
        return (drafts[name].node.key, _RANK[drafts[name].action], name)

    ready = [rank(name) for name, count in waiting.items() if not count]
    heapify(ready)
    numbers: dict[_Name, int] = {}
    while ready:
        name = heappop(ready)[2]
        numbers[name] = len(numbers) + 1
        for follower in followers[name]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heappush(ready, rank(follower))
    if len(numbers) != len(drafts):
        stuck = sorted(drafts[name].node.key for name in drafts if name not in numbers)
        raise AssertionError(f"operations that wait for each other: {stuck}")
    return tuple(
        _operation(
            n, drafts[name], tuple(sorted(numbers[b] for b in drafts[name].after)), welcome_email
        )
        for name, n in numbers.items()
    )


def _operation(n: int, draft: _Draft, after: tuple[int, ...], welcome_email: bool) -> Operation:
    node = draft.node
    account = f"/accounts/{node.ident}"
    body: JsonObject | None = None
    match draft.action:
        case Action.CREATE:
            quiet = "" if welcome_email else "?send_email_on_creation=false"
            method, path, body = (
                "PUT",
                f"/accounts/{node.parent_after}{quiet}",
                {"data": node.create},
            )
        case Action.PROMOTE:
            method, path, body = "PUT", f"{account}/reseller", {"data": {"name": node.name}}
        case Action.DEMOTE:
            method, path = "DELETE", f"{account}/reseller"
        case Action.MOVE:
            method, path, body = "POST", f"{account}/move", {"data": {"to": node.parent_after}}
        case Action.UPDATE:
            method, path, body = "PATCH", account, {"data": node.update}
        case _:
            method, path = "DELETE", account
    return Operation(
        n, node.key, node.ident, draft.action, method, path, body, after, draft.temporary
    )


class Walk:
    """Which operation may begin, as others end. The one mutable thing of the core."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = {operation.n: operation for operation in operations}
        self._waiting = {operation.n: set(operation.after) for operation in operations}
        self._followers: dict[int, list[int]] = defaultdict(list)
        for operation in operations:
            for before in operation.after:
                self._followers[before].append(operation.n)
        self._blocked: dict[int, int] = {}
        self._ready = [n for n, before in self._waiting.items() if not before]
        heapify(self._ready)

    def ready(self) -> Operation | None:
        """The next operation that waits for nothing, if there is one; each is given once."""
        return self.operations[heappop(self._ready)] if self._ready else None

    def done(self, n: int) -> None:
        """The operation succeeded."""
        self._release(n)

    def failed(self, n: int) -> list[Operation]:
        """The operation failed. Returns those that now never can begin."""
        lost = [self.operations[n]]
        for before in lost:  # it grows; a chain may be too long for recursion
            for follower in self._followers[before.n]:
                operation = self.operations[follower]
                if follower not in self._blocked and _needs(operation, before):
                    self._blocked[follower] = before.n
                    lost.append(operation)
            self._release(before.n)
        return lost[1:]

    def why_blocked(self, n: int) -> Operation | None:
        """The operation whose failure keeps this one from beginning."""
        return self.operations[self._blocked[n]] if n in self._blocked else None

    def _release(self, n: int) -> None:
        for follower in self._followers[n]:
            self._waiting[follower].discard(n)
            if not self._waiting[follower] and follower not in self._blocked:
                heappush(self._ready, follower)


def _needs(operation: Operation, before: Operation) -> bool:
    """Whether `operation` is pointless or wrong if `before` failed.

    An update waits for the ranks of other accounts only so as not to meet their cascades. A reseller
    that was demoted for the time being, or perhaps was, gets its rank back whatever became of all else.
    """
    if operation.action is Action.PROMOTE and operation.temporary:
        return False
    cascade = before.action in (Action.PROMOTE, Action.DEMOTE)
    return operation.key == before.key or operation.action is not Action.UPDATE or not cascade
