"""The order of operations, tried on a platform that refuses what the real one refuses."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.graph import Action, Node, Operation, Walk, order, temporary_demotions

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "root-id"


@dataclass
class Platform:
    """Parents and ranks, and the platform's refusals (docs/platform.md 3.4, 3.8 to 3.10)."""

    parents: dict[str, str]
    resellers: set[str] = field(default_factory=set)

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
        elif operation.action is Action.DELETE:
            assert not self.below(ident), "deleted above others"
            del self.parents[ident]
            self.resellers.discard(ident)


@dataclass(frozen=True)
class Case:
    nodes: Mapping[str, Node]
    before: Platform
    after: Platform


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A tree as it is and a tree as it is wanted, over up to nine accounts."""
    names = [f"a{n}" for n in range(draw(st.integers(1, 9)))]
    existing = [name for name in names if draw(st.booleans())]
    staying = [name for name in names if name not in existing or draw(st.integers(0, 4)) > 0]
    parents = tree(draw, existing)
    wanted = tree(draw, draw(st.permutations(staying)))
    resellers = {name for name in existing if draw(st.booleans())}
    ranks = {name for name in staying if draw(st.booleans())}
    nodes = {
        name: Node(
            ident=name,
            key=name,
            name=name,
            parent_before=parents.get(name),
            parent_after=wanted.get(name),
            reseller_before=name in resellers,
            reseller_after=name in ranks,
            create=None if name in existing else {"name": name},
            update={"org": "x"} if name in staying and draw(st.booleans()) else None,
        )
        for name in [*names]
        if name in existing or name in staying
    }
    return Case(nodes, Platform(dict(parents), set(resellers)), Platform(wanted, ranks))


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


@settings(max_examples=400, deadline=None)
@given(cases(), st.integers(0, 2**32))
def test_every_order_that_the_graph_allows_is_accepted_and_ends_as_wanted(
    case: Case, seed: int
) -> None:
    platform = Platform(dict(case.before.parents), set(case.before.resellers))
    for operation in in_some_order(order(case.nodes, welcome_email=False), seed):
        platform.perform(operation)
    assert platform.parents == case.after.parents
    assert platform.resellers == case.after.resellers


@settings(max_examples=200, deadline=None)
@given(cases())
def test_nothing_is_done_twice_and_nothing_needless(case: Case) -> None:
    operations = order(case.nodes, welcome_email=False)
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
    operations = order(nodes, welcome_email=True)
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
    return order(nodes, welcome_email=False)


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
    operations = order(nodes, welcome_email=False)
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
    walk = Walk(order(nodes, welcome_email=False))
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
