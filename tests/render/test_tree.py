"""The tree that a terminal shows: changes below their parents, what is folded as a number."""

from __future__ import annotations

from dataclasses import replace

from reconciler.render import text

from .plans import Texts, a_change, a_plan

TEXTS = Texts("A name")
ALIKE = a_change("x", TEXTS).fields[:1]


def test_accounts_that_change_alike_are_a_number_below_their_parent() -> None:
    shops = [
        replace(a_change(f"s{n:02}", TEXTS, parent="acme" if n < 9 else "globex"), fields=ALIKE)
        for n in range(12)
    ]
    acme = replace(a_change("acme", TEXTS), fields=ALIKE)
    other = a_change("s99", TEXTS, parent="globex")
    plan = a_plan(acme, *shops, other, texts=TEXTS)
    assert text.tree(plan, text.plain).splitlines() == [
        "accounts.globex",
        "├── s99 (A name)  updated",
        "└── 3 accounts as told below",
        "root",
        "└── acme (A name)  updated",
        "    └── 9 accounts as told below",
    ]
    assert text.tree(plan, text.plain, fold=False).count("(A name)") == 14


def test_a_small_plan_is_shown_account_by_account_and_an_empty_one_not_at_all() -> None:
    changes = (a_change("acme", TEXTS), a_change("new", TEXTS, "create", "acme"))
    assert text.tree(a_plan(*changes, texts=TEXTS), text.plain).splitlines() == [
        "root",
        "└── acme (A name)  updated",
        "    └── new (A name)  created",
    ]
    assert text.tree(a_plan(texts=TEXTS), text.plain) == ""
