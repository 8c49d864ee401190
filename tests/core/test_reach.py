"""Whom changes reach: their account, or all below it, under which resellers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from reconciler.core.diff import FieldChange
from reconciler.core.graph import Action, Node, Operation
from reconciler.core.plan import Change
from reconciler.core.reach import Tree, impacts, of_change, reached
from reconciler.core.values import ABSENT, AccountId, Sensitive, parse_path

if TYPE_CHECKING:
    from reconciler.core.diff import Side

PARENTS: Final = {
    "acme": "root0",
    "east": "acme",
    "shop": "east",
    "globex": "root0",
    "lone": "root0",
}
RESELLERS: Final = {"acme", "east", "globex"}


def a_tree(**moved: str) -> Tree:
    return Tree(
        {
            f"id-{key}": Node(
                f"id-{key}", key, key, f"id-{parent}", f"id-{moved.get(key, parent)}",
                key in RESELLERS, key in RESELLERS,
            )
            for key, parent in PARENTS.items()
        }
    )  # fmt: skip


def a_change(key: str, *actions: Action, **fields: Side) -> Change:
    changed = tuple(
        FieldChange(("settings", *parse_path(path.replace("__", "."))), "change", ABSENT, after)
        for path, after in fields.items()
    )
    known = AccountId(f"id-{key}")
    return Change(key, known, key, "root", actions, changed, "", None, None, None)


def of(*changes: Change, operations: tuple[Operation, ...] = ()) -> dict[str, tuple[int, int]]:
    tree = a_tree()
    found = reached(impacts(changes, operations, tree), tree)
    return {effect: (one.accounts, one.resellers) for effect, one in found.items()}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (a_change("acme", Action.UPDATE, timezone="Etc/UTC"), {"service": (1, 1)}),
        (a_change("lone", Action.UPDATE, name="x"), {"cosmetic": (1, 0)}),
        (a_change("lone", Action.CREATE, name="x", caller_id__emergency__number="1"), {"service": (1, 0), "emergency": (1, 0)}),
        (a_change("acme", Action.UPDATE, enabled=False), {"service": (1, 1), "emergency": (1, 1)}),
        (a_change("acme", Action.UPDATE, enabled=Sensitive(False, "var.x")), {"service": (1, 1), "emergency": (1, 1)}),
        (a_change("acme", Action.UPDATE, enabled=True), {"service": (1, 1)}),
        (a_change("acme", Action.UPDATE, language="fr"), {"cosmetic": (3, 1)}),
        (a_change("acme", Action.MOVE), {"service": (3, 1), "money": (3, 1)}),
        (a_change("east", Action.PROMOTE), {"money": (2, 1)}),
        (a_change("acme", Action.DEMOTE), {"service": (3, 1), "money": (3, 1)}),
        (a_change("shop", Action.DELETE), {"service": (1, 1), "emergency": (1, 1), "money": (1, 1)}),
        (a_change("shop", Action.FORGET), {}),
        (a_change("shop", Action.ADOPT), {}),
    ],
    ids=str,
)  # fmt: skip
def test_one_change(change: Change, expected: dict[str, tuple[int, int]]) -> None:
    assert of(change) == expected


def test_each_account_counts_once_and_each_topmost_reseller() -> None:
    changes = [a_change(key, Action.UPDATE, realm="x", timezone="y") for key in PARENTS]
    assert of(*changes, a_change("acme", Action.MOVE))["service"] == (5, 2)


def test_a_demotion_for_the_time_being_reaches_those_below() -> None:
    demotion = Operation(1, "east", "id-east", Action.DEMOTE, "DELETE", "/x", None, (), True)
    assert of(operations=(demotion,)) == {"service": (2, 1), "money": (2, 1)}


def test_of_an_object_that_is_removed_each_field_counts() -> None:
    whole: Side = {"emergency": {"number": "1"}, "internal": {"name": "x"}}
    removed = FieldChange(("settings", "caller_id"), "remove", whole, ABSENT)
    change = Change("a", None, "a", "root", (Action.UPDATE,), (removed,), "", None, None, None)
    assert of_change(change) == {"emergency", "cosmetic"}


def test_the_topmost_reseller_is_that_of_the_new_place() -> None:
    tree = a_tree(shop="globex")
    assert [tree.top(f"id-{key}") for key in PARENTS] == [
        "acme",
        "acme",
        "globex",
        "globex",
        "root",
    ]
    assert tree.top("id-nobody") == "root"


def test_above_an_account_are_its_old_and_its_new_place() -> None:
    found = a_tree(shop="globex").above("id-shop")
    assert found == {"id-shop", "id-east", "id-acme", "id-globex", "id-root0"}


def test_a_ring_of_parents_ends() -> None:
    nodes = {i: Node(i, i, i, other, other, False, False) for i, other in (("a", "b"), ("b", "a"))}
    tree = Tree(nodes)
    assert tree.below("a") == ["b"]
    assert tree.above("a") == {"a", "b"}
    assert tree.top("a") == "root"
    assert reached([], tree) == {}
