"""Realms that are kept, and rings of them: what is told. The rest is tried over HTTP and as golden plans."""

from __future__ import annotations

from reconciler.core.graph import Node, order
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.uniqueness import kept, swaps
from reconciler.core.values import AccountId

ROOT = AccountId("root")


def taking(number: int, count: int) -> Node:
    """The account of that number, which is to have the realm of the next; the last that of the first."""
    key, mine, other = f"a{number:02}", f"r{number}", f"r{(number + 1) % count}"
    return Node(
        *(key, key, key, ROOT, ROOT, False, False),
        update={"realm": other},
        gets=frozenset({("realm", other)}),
        loses=frozenset({("realm", mine)}),
    )


def test_of_a_long_ring_some_are_told_and_how_many_more_there_are() -> None:
    nodes = {node.ident: node for node in (taking(number, 13) for number in range(13))}
    (refusal,) = swaps(order(nodes, welcome_email=False).rings, nodes)
    assert refusal.key == "a00"
    assert refusal.detail.startswith(
        "accounts.a00 is to have the realm of accounts.a01, accounts.a01"
    )
    assert "accounts.a09 is to have the realm of accounts.a10, … (3 more): none" in refusal.detail


def test_what_an_account_itself_says_of_its_realm_counts_for_more_than_the_list() -> None:
    """Right after an apply the list may be behind."""
    holder, taker = AccountId("h"), taking(0, 2)
    rows = {holder: Row(holder, "H", "R1", ROOT)}
    nodes = {"h": Node("h", "h", "H", ROOT, ROOT, False, False), taker.ident: taker}

    def refused(**accounts: LiveAccount) -> list[str]:
        live = Live(ROOT, rows, {AccountId(name): found for name, found in accounts.items()})
        return [refusal.detail for refusal in kept(nodes, live, {holder: "h"}, set())]

    assert "accounts.h (h) has it" in refused()[0]
    assert refused(h=LiveAccount(holder, ROOT, {"realm": "free"}, False, "1")) == []
