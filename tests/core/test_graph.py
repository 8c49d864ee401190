"""The order of operations, tried on a platform that refuses what the real one refuses."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.core.graph import (
    Action,
    Mark,
    Node,
    Operation,
    Taking,
    Walk,
    order,
    temporary_demotions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.values import JsonObject

ROOT = "root-id"
KINDS: tuple[Literal["realm", "name"], ...] = ("realm", "name")


@dataclass
class Platform:
    """Accounts, and the platform's refusals (docs/platform.md 3.4, 3.8 to 3.10, 5.4)."""

    parents: dict[str, str]
    resellers: set[str] = field(default_factory=set)
    marks: dict[str, dict[str, str]] = field(default_factory=dict)
    unique: bool = True

    def below(self, top: str) -> set[str]:
        found = {child for child, parent in self.parents.items() if parent == top}
        return found | {deeper for child in found for deeper in self.below(child)}

    def perform(self, operation: Operation) -> None:
        ident = operation.ident
        if operation.action is Action.CREATE:
            parent = operation.path.partition("?")[0].rsplit("/", 1)[1]
            assert parent == ROOT or parent in self.parents, "created below nothing"
            assert ident not in self.parents
            self.parents[ident] = parent
            self.marked(operation)
            return
        assert ident in self.parents, f"{operation.action} of an account that is not there"
        if operation.action in (Action.PROMOTE, Action.DEMOTE):
            assert not self.below(ident) & self.resellers, "a reseller stands below"
            assert (ident in self.resellers) is (operation.action is Action.DEMOTE)
            self.resellers ^= {ident}
        elif operation.action is Action.MOVE:
            assert operation.body is not None
            data = operation.body["data"]
            assert isinstance(data, dict)
            to = str(data["to"])
            assert to == ROOT or to in self.parents
            assert to != ident
            assert to not in self.below(ident), "moved below itself"
            self.parents[ident] = to
        elif operation.action is Action.UPDATE:
            self.marked(operation)
        elif operation.action is Action.DELETE:
            assert not self.below(ident), "deleted above others"
            del self.parents[ident]
            self.marks.pop(ident, None)
            self.resellers.discard(ident)

    def marked(self, operation: Operation) -> None:
        assert operation.body is not None
        data = operation.body["data"]
        assert isinstance(data, dict)
        new: dict[str, str] = {kind: str(data[kind]) for kind in KINDS if kind in data}
        for other, marks in self.marks.items():
            if other != operation.ident and self.unique:
                assert not marks.items() & new.items(), f"taken by {other}"
        self.marks.setdefault(operation.ident, {}).update(new)


@dataclass(frozen=True)
class Case:
    nodes: Mapping[str, Node]
    before: Platform
    after: Platform


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A tree as it is and a tree as it is wanted, over up to nine accounts; so realms and names."""
    names = [f"a{n}" for n in range(draw(st.integers(1, 9)))]
    existing = [name for name in names if draw(st.booleans())]
    staying = [name for name in names if name not in existing or draw(st.integers(0, 4)) > 0]
    parents = tree(draw, existing)
    wanted = tree(draw, draw(st.permutations(staying)))
    resellers = {name for name in existing if draw(st.booleans())}
    ranks = {name for name in staying if draw(st.booleans())}
    have, get = marks(draw, existing, staying)
    nodes = {}
    for name in names:
        changed = {k: v for k, v in get.get(name, {}).items() if have.get(name, {}).get(k) != v}
        body: JsonObject = {"org": "x", **changed}
        updated = name in existing and name in staying and (changed or draw(st.booleans()))
        nodes[name] = Node(
            ident=name,
            key=name,
            name=name,
            parent_before=parents.get(name),
            parent_after=wanted.get(name),
            reseller_before=name in resellers,
            reseller_after=name in ranks,
            create=None if name in existing else body,
            update=body if updated else {"org": "x"} if name not in existing else None,
            gets=as_marks(get.get(name, {})) - as_marks(have.get(name, {})),
            loses=as_marks(have.get(name, {})) - as_marks(get.get(name, {})),
        )
    before, after = Platform(parents, resellers, have), Platform(wanted, ranks, get)
    return Case({name: node for name, node in nodes.items() if is_there(node)}, before, after)


def is_there(node: Node) -> bool:
    return node.parent_before is not None or node.parent_after is not None


def marks(
    draw: st.DrawFn, existing: list[str], staying: list[str]
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Realms and names as they are and as they are wanted, each of one account alone."""
    have: dict[str, dict[str, str]] = {name: {} for name in existing}
    get: dict[str, dict[str, str]] = {name: {} for name in staying}
    for kind in KINDS:
        pool = [f"{kind}{n}" for n in range(10)]
        for name, value in zip(existing, pool, strict=False):
            have[name][kind] = value
        kept = {name: have[name][kind] for name in staying if name in have and draw(st.booleans())}
        free = draw(st.permutations([value for value in pool if value not in kept.values()]))
        others = [name for name in staying if name not in kept]
        for name, value in [*kept.items(), *zip(others, free, strict=False)]:
            get[name][kind] = value
    return have, get


def as_marks(values: dict[str, str]) -> frozenset[Mark]:
    return frozenset((kind, values[kind]) for kind in KINDS if kind in values)


def tree(draw: st.DrawFn, names: list[str]) -> dict[str, str]:
    return {name: draw(st.sampled_from([ROOT, *names[:index]])) for index, name in enumerate(names)}


def in_some_order(operations: tuple[Operation, ...], seed: int) -> list[Operation]:
    """One of the many orders in which a run could do them."""
    chance = random.Random(seed)  # noqa: S311
    waiting = {operation.n: set(operation.after) for operation in operations}
    done: list[Operation] = []
    while waiting:
        n = chance.choice([n for n, before in waiting.items() if not before])
        del waiting[n]
        done.append(operations[n - 1])
        for before in waiting.values():
            before.discard(n)
    return done


@settings(max_examples=600, deadline=None)
@given(cases(), st.integers(0, 2**32))
def test_every_order_that_the_graph_allows_is_accepted_and_ends_as_wanted(
    case: Case, seed: int
) -> None:
    """Where realms or names go round in a ring, and the plan is refused, but for these."""
    ordered = order(case.nodes, welcome_email=False)
    platform = deepcopy(case.before)
    platform.unique = not ordered.rings
    for operation in in_some_order(ordered.operations, seed):
        platform.perform(operation)
    assert platform.parents == case.after.parents
    assert platform.resellers == case.after.resellers
    assert platform.marks == case.after.marks


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(7)), st.integers(0, 7))
def test_only_what_goes_round_in_a_ring_has_no_order(places: list[int], staying: int) -> None:
    """Account n gets the realm of account `places[n]`; those from `staying` on are to be deleted."""
    nodes = {
        f"a{n}": an_account(
            f"a{n}", ROOT, ROOT if n < staying else None, ("realm", f"r{n}"), ("realm", f"r{place}")
        )
        for n, place in enumerate(places)
    }
    expected = set()
    for start in range(staying):
        ring = [start]
        while places[ring[-1]] not in ring and ring[-1] < staying:
            ring.append(places[ring[-1]])
        if ring[-1] < staying and len(ring) > 1:
            expected.add(frozenset(f"a{n}" for n in ring))
    rings = order(nodes, welcome_email=False).rings
    assert {frozenset(taking.taker for taking in ring) for ring in rings} == expected
    assert len(rings) == len(expected)


@settings(max_examples=300, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 6), st.integers(5, 8), st.integers(1, 8))
def test_what_is_not_freed_is_not_taken(
    places: list[int], existing: int, staying: int, failing: int
) -> None:
    """Accounts from `existing` on are new, those that stay are the first; one operation fails."""
    nodes = {
        f"a{n}": an_account(
            f"a{n}",
            ROOT if n < existing else None,
            ROOT if n < staying else None,
            ("realm", f"r{n}"),
            ("realm", f"r{place}"),
        )
        for n, place in enumerate(places)
        if n < max(existing, staying)
    }
    ordered = order(nodes, welcome_email=False)
    assume(not ordered.rings)
    there = [f"a{n}" for n in range(existing)]
    platform = Platform(
        dict.fromkeys(there, ROOT), marks={name: {"realm": f"r{name[1:]}"} for name in there}
    )
    walk = Walk(ordered.operations)
    while (operation := walk.ready()) is not None:
        if operation.n == failing:
            walk.failed(operation.n)
        else:
            platform.perform(operation)
            walk.done(operation.n)


def an_account(
    ident: str, before: str | None, after: str | None, had: Mark | None, gets: Mark | None
) -> Node:
    """An account that stands below `before` and has a realm or a name, and what is to become of both."""
    had, gets = had if before else None, gets if after else None
    new = gets if gets != had else None
    body: JsonObject | None = {new[0]: new[1]} if new else None
    create, update = (None, body) if before else (body or {}, None)
    return Node(
        *(ident, ident, ident, before, after, False, False, create, update),
        gets=frozenset({new} if new else ()),
        loses=frozenset({had} if had and gets != had else ()),
    )


def test_a_chain_of_realms_goes_from_its_end_and_ends_with_a_failure() -> None:
    count = 3000
    nodes = {
        f"a{n}": an_account(f"a{n}", ROOT, ROOT, ("realm", f"r{n}"), ("realm", f"r{n + 1}"))
        for n in range(count)
    }
    operations = order(nodes, welcome_email=False).operations
    assert [o.key for o in operations] == [f"a{n}" for n in reversed(range(count))]
    walk = Walk(operations)
    first = walk.ready()
    assert first is not None
    assert len(walk.failed(first.n)) == count - 1
    assert walk.ready() is None
    assert walk.why_blocked(2) == first


def test_a_ring_through_other_rules_is_told() -> None:
    """`n` needs the name of `c`, whose delete waits for what is moved below `n`."""
    nodes = {
        "c": an_account("c", ROOT, None, ("name", "c"), None),
        "n": an_account("n", None, ROOT, None, ("name", "c")),
        "x": an_account("x", "c", "n", None, None),
    }
    ordered = order(nodes, welcome_email=False)
    assert ordered.rings == ((Taking("n", "c", ("name", "c")),),)
    assert len(ordered.operations) == 3


def test_an_account_lets_go_of_its_name_before_it_moves_below_the_one_that_gets_it() -> None:
    nodes = {
        "a": an_account("a", ROOT, "n", ("name", "acme"), ("name", "acmeeast")),
        "n": an_account("n", None, ROOT, None, ("name", "acme")),
    }
    nodes["n"] = replace(nodes["n"], reseller_after=True)
    ordered = order(nodes, welcome_email=False)
    assert ordered.rings == ()
    told = [(o.key, o.action) for o in ordered.operations]
    assert told == [
        ("a", Action.UPDATE), ("n", Action.CREATE), ("n", Action.PROMOTE), ("a", Action.MOVE)
    ]  # fmt: skip


def test_names_that_several_have_already_are_no_reason_to_wait() -> None:
    nodes = {i: an_account(i, ROOT, ROOT, ("name", ""), ("name", i)) for i in "ab"}
    nodes["c"] = an_account("c", None, ROOT, None, ("name", ""))
    assert all(not o.after for o in order(nodes, welcome_email=False).operations)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_nothing_is_done_twice_and_nothing_needless(case: Case) -> None:
    operations = order(case.nodes, welcome_email=False).operations
    plain = [o for o in operations if not o.temporary]
    both = case.before.parents.keys() & case.after.parents.keys()
    created = case.after.parents.keys() - case.before.parents.keys()
    expected = {
        Action.CREATE: created,
        Action.DELETE: case.before.parents.keys() - case.after.parents.keys(),
        Action.MOVE: {a for a in both if case.before.parents[a] != case.after.parents[a]},
        Action.PROMOTE: case.after.resellers - (case.before.resellers & both),
        Action.DEMOTE: (case.before.resellers & both) - case.after.resellers,
    }
    for action, idents in expected.items():
        assert sorted(o.ident for o in plain if o.action is action) == sorted(idents)
    demoted = [o.ident for o in operations if o.temporary and o.action is Action.DEMOTE]
    assert sorted(demoted) == sorted(temporary_demotions(case.nodes))


def test_a_new_tree_needs_no_temporary_demotion() -> None:
    nodes = {
        f"a{n}": Node(
            f"a{n}", f"a{n}", "x", None, ROOT if n == 0 else f"a{n - 1}", False, True, {"name": "x"}
        )
        for n in range(5)
    }
    operations = order(nodes, welcome_email=True).operations
    assert len(operations) == 10
    assert not any(o.temporary for o in operations)
    assert operations[0].path == f"/accounts/{ROOT}"


def a_chain() -> tuple[Operation, ...]:
    """A new reseller, a customer below it, and an update of an account there already."""
    nodes = {
        "{accounts.r.id}": Node(
            "{accounts.r.id}", "r", "R", None, ROOT, False, True, {"name": "R"}
        ),
        "{accounts.c.id}": Node(
            "{accounts.c.id}", "c", "C", None, "{accounts.r.id}", False, False, {"name": "C"}
        ),
        "old": Node("old", "old", "Old", ROOT, ROOT, False, False, None, {"org": "x"}),
    }
    return order(nodes, welcome_email=False).operations


def test_what_depends_on_a_failure_never_begins_and_the_rest_goes_on() -> None:
    walk = Walk(a_chain())
    begun = [walk.ready(), walk.ready()]
    assert [o.key for o in begun if o] == ["old", "r"] or [o.key for o in begun if o] == [
        "r",
        "old",
    ]
    create = next(o for o in begun if o and o.key == "r")
    lost = walk.failed(create.n)
    assert {(o.key, o.action) for o in lost} == {("r", Action.PROMOTE), ("c", Action.CREATE)}
    assert walk.ready() is None
    assert walk.why_blocked(lost[0].n) == create


def test_a_reseller_gets_its_rank_back_when_what_it_was_for_failed() -> None:
    nodes = {
        "top": Node("top", "top", "Top", ROOT, ROOT, False, True),
        "sub": Node("sub", "sub", "Sub", "top", "top", True, True),
    }
    operations = order(nodes, welcome_email=False).operations
    assert [(o.key, o.action.value, o.temporary) for o in operations] == [
        ("sub", "demote", True),
        ("top", "promote", False),
        ("sub", "promote", True),
    ]
    walk = Walk(operations)
    assert walk.ready() == operations[0]
    walk.done(1)
    assert walk.ready() == operations[1]
    assert walk.failed(2) == []
    assert walk.ready() == operations[2]


@pytest.mark.parametrize("failing", [Action.DEMOTE, Action.MOVE])
def test_it_does_so_too_when_its_own_demotion_or_move_failed(failing: Action) -> None:
    """After an answer that says nothing it may be demoted all the same."""
    nodes = {
        "top": Node("top", "top", "Top", ROOT, ROOT, False, True),
        "sub": Node("sub", "sub", "Sub", ROOT, "top", True, True),
    }
    walk = Walk(order(nodes, welcome_email=False).operations)
    begun = []
    while (operation := walk.ready()) is not None:
        begun.append((operation.key, operation.action))
        if operation.action is failing:
            walk.failed(operation.n)
        else:
            walk.done(operation.n)
    assert begun[-1] == ("sub", Action.PROMOTE)
    assert ("top", Action.PROMOTE) not in begun


def test_each_operation_is_given_once() -> None:
    walk = Walk(a_chain())
    given_out = []
    while (operation := walk.ready()) is not None:
        given_out.append(operation.n)
        walk.done(operation.n)
    assert sorted(given_out) == [o.n for o in a_chain()]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_accounts_are_numbered_the_same_however_they_come(seed: int) -> None:
    nodes = {
        o.ident: Node(o.ident, o.key, "n", None, ROOT, False, False, {"name": "n"})
        for o in a_chain()
    }
    shuffled = list(nodes.items())
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    assert order(dict(shuffled), welcome_email=False) == order(nodes, welcome_email=False)
