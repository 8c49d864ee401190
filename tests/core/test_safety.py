"""Limits: each block by itself, the strictest wins, exceptions for a while, and nothing lifts silently."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.diff import FieldChange
from reconciler.core.effects import EFFECTS
from reconciler.core.graph import Action, Node, Operation
from reconciler.core.limits import (
    Exemption,
    Limits,
    ended,
    limits_from,
    limits_json,
    read_limits,
)
from reconciler.core.live import Live
from reconciler.core.plan import Change
from reconciler.core.reach import Tree, impacts
from reconciler.core.safety import Proposal, Scope, Terms, Verdict, check
from reconciler.core.state import AccountRecord
from reconciler.core.values import ABSENT, AccountId, Source, parse_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.core.limits import Rule
    from reconciler.core.values import JsonObject

TODAY: Final = date(2026, 6, 30)
HERE: Final = Source("reconciler.yaml", 5, 9)
ROOT: Final = AccountId("id-root")
PARENTS: Final = {
    "acme": "root",
    "east": "acme",
    **{f"e{n}": "east" for n in range(6)},
    **{f"a{n}": "acme" for n in range(6)},
    "globex": "root",
    **{f"g{n}": "globex" for n in range(6)},
}


def a_change(key: str, *actions: Action, path: str = "") -> Change:
    fields = (FieldChange(parse_path(path), "change", ABSENT, "x"),) if path else ()
    known = AccountId(f"id-{key}")
    return Change(key, known, key, "root", actions, fields, "", None, None, None)


def deletes(*keys: str) -> list[Change]:
    return [a_change(key, Action.DELETE) for key in keys]


def updates(*keys: str, path: str = "settings.name") -> list[Change]:
    return [a_change(key, Action.UPDATE, path=path) for key in keys]


def judged(
    changes: Sequence[Change],
    *scopes: Scope,
    operations: tuple[Operation, ...] = (),
    today: date = TODAY,
    **allow: int,
) -> Verdict:
    """What is said about changes of the tree above, all of which is in state."""
    nodes = {
        f"id-{key}": Node(f"id-{key}", key, key, f"id-{parent}", f"id-{parent}", False, False)
        for key, parent in PARENTS.items()
    }
    tree = Tree(nodes)
    records = {
        key: AccountRecord(AccountId(f"id-{key}"), ROOT, False, {}, {}, "", "") for key in PARENTS
    }
    found = tuple(impacts(changes, operations, tree))
    live = Live(ROOT, {}, {})
    terms = Terms(today, {name.replace("__", "."): value for name, value in allow.items()})
    return check(Proposal(changes, operations, records, live, tree, found), scopes, terms)


def rules(verdict: Verdict) -> list[tuple[str, str | None]]:
    return [(refusal.rule, refusal.key) for refusal in verdict.refusals]


def project(limits: Limits = Limits(99, 99, 100)) -> Scope:  # noqa: B008 - frozen
    return Scope(limits)


def of(key: str, limits: Limits) -> Scope:
    return Scope(limits, key, f"id-{key}")


def an_exemption(rule: Rule, value: int = 0, account: str | None = None, **more: str) -> Exemption:
    effect = next((effect for effect in EFFECTS if effect == more.get("effect")), None)
    return Exemption(rule, "a reason", TODAY, HERE, account, effect, value)


# --- limits ----------------------------------------------------------------------------------


def test_a_limit_holds_for_the_account_and_all_below_it_and_nowhere_else() -> None:
    scope = of("acme", Limits(max_delete=0))
    assert rules(judged(deletes("e1"), project(), scope)) == [("max_delete", "acme")]
    assert rules(judged(deletes("acme"), project(), scope)) == [("max_delete", "acme")]
    assert rules(judged(deletes("g1", "globex"), project(), scope)) == []


def test_what_an_account_does_not_say_is_not_limited_there() -> None:
    scope = of("acme", Limits(protect=("emergency",)))
    demoted = [a_change("a1", Action.DEMOTE), *updates(*PARENTS)]
    assert rules(judged(demoted, project(), scope)) == []


def test_a_share_counts_the_accounts_below_from_ten_on() -> None:
    half = Limits(max_update_percent=50)
    seven = updates("acme", "east", *(f"e{n}" for n in range(6)))  # of 14
    assert rules(judged(seven, project(), of("acme", half))) == [("max_update_percent", "acme")]
    assert rules(judged(seven[:7], project(), of("acme", half))) == []
    assert rules(judged(seven, project(), of("east", half))) == []  # 7 accounts say nothing


def test_allow_goes_before_the_limits_of_all_blocks() -> None:
    scopes = (project(Limits(0, 0, 30)), of("acme", Limits(max_delete=0)))
    assert rules(judged(deletes("e1", "e2"), *scopes, delete=2)) == []
    assert rules(judged(deletes("e1", "e2"), *scopes, delete=1)) == [
        ("max_delete", None),
        ("max_delete", "acme"),
    ]


def test_a_demotion_for_the_time_being_counts_where_it_is_made() -> None:
    demotion = Operation(1, "e1", "id-e1", Action.DEMOTE, "DELETE", "/x", None, (), True)
    scopes = (project(), of("acme", Limits(max_demote=0, protect=("money",))))
    found = judged([], *scopes, operations=(demotion,))
    assert rules(found) == [("max_demote", "acme"), ("protect", "acme")]
    assert "--allow reparent" in found.refusals[0].detail
    assert rules(judged([], *scopes, operations=(demotion,), reparent=1, protect__money=1)) == []


limits = st.builds(
    Limits,
    st.none() | st.integers(0, 4),
    st.none() | st.integers(0, 4),
    st.none() | st.integers(0, 100),
    st.lists(st.sampled_from(EFFECTS), unique=True, max_size=2).map(tuple),
)
scopes = st.dictionaries(st.sampled_from(sorted(PARENTS)), limits, max_size=4).map(
    lambda found: [project(), *(of(key, one) for key, one in found.items())]
)
actions = st.sampled_from([Action.DELETE, Action.DEMOTE, Action.UPDATE, Action.MOVE])
some_changes = st.dictionaries(st.sampled_from(sorted(PARENTS)), actions, max_size=12).map(
    lambda found: [a_change(key, action, path="settings.realm") for key, action in found.items()]
)


@settings(max_examples=200, deadline=None)
@given(some_changes, scopes, limits)
def test_the_strictest_wins_no_further_block_ever_lifts_a_refusal(
    changes: list[Change], blocks: list[Scope], more: Limits
) -> None:
    before = {r for r in judged(changes, *blocks).refusals if r.rule != "has_descendants"}
    after = judged(changes, *blocks, of("east", more)).refusals
    assert before <= {*after}


@settings(max_examples=100, deadline=None)
@given(some_changes, scopes)
def test_blocks_are_judged_each_by_itself(changes: list[Change], blocks: list[Scope]) -> None:
    together = judged(changes, *blocks).refusals
    alone = [refusal for block in blocks for refusal in judged(changes, block).refusals]
    assert {*together} == {*alone}


# --- protect ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (a_change("e1", Action.UPDATE, path="settings.caller_id.emergency.number"), True),
        (a_change("acme", Action.UPDATE, path="settings.call_restriction.emergency.action"), True),
        (a_change("g1", Action.UPDATE, path="settings.caller_id.emergency.number"), False),
        (a_change("e1", Action.UPDATE, path="settings.caller_id.external.number"), False),
        (a_change("e1", Action.DELETE), True),
    ],
    ids=["below", "itself", "elsewhere", "another class", "an account that goes"],
)
def test_protect_refuses_a_class_in_the_subtree(change: Change, refused: bool) -> None:
    found = rules(judged([change], project(), of("acme", Limits(protect=("emergency",)))))
    assert found == ([("protect", "acme")] if refused else [])


def test_protect_of_the_project_holds_everywhere() -> None:
    scope = project(Limits(99, 99, 100, protect=("cosmetic",)))
    found = judged(updates("a1", "a2", "g1", "g2"), scope)
    assert rules(found) == [("protect", None)]
    assert "accounts.a1, accounts.a2, accounts.g1 and 1 more" in found.refusals[0].detail


def test_what_comes_from_above_is_refused_too() -> None:
    scope = of("east", Limits(protect=("money",)))
    assert rules(judged([a_change("acme", Action.MOVE)], project(), scope)) == [("protect", "east")]
    assert rules(judged(updates("acme"), project(), scope)) == []
    assert rules(judged([a_change("a1", Action.MOVE)], project(), scope)) == []


def test_allow_lifts_one_class_everywhere() -> None:
    scopes = (project(), of("acme", Limits(protect=("service", "cosmetic"))))
    changes = [*updates("e1"), *updates("e2", path="settings.realm")]
    assert len(judged(changes, *scopes, protect__service=1).refusals) == 1
    assert rules(judged(changes, *scopes, protect__service=1, protect__cosmetic=1)) == []


# --- exceptions ------------------------------------------------------------------------------


def test_an_exception_holds_until_the_end_of_its_last_day() -> None:
    scope = project(Limits(0, 0, 100, exceptions=(an_exemption("max_delete", 2),)))
    assert rules(judged(deletes("e1", "e2"), scope)) == []
    assert rules(judged(deletes("e1", "e2"), scope, today=TODAY + timedelta(1))) == [
        ("max_delete", None)
    ]


def test_it_lifts_the_rule_of_its_own_block_alone_and_no_more_than_it_names() -> None:
    lifted = Limits(max_delete=0, exceptions=(an_exemption("max_delete", 1, "east"),))
    assert rules(judged(deletes("e1"), project(), of("acme", lifted))) == []
    assert rules(judged(deletes("a1"), project(), of("acme", lifted))) == [("max_delete", "acme")]
    assert rules(judged(deletes("e1", "e2"), project(), of("acme", lifted))) == [
        ("max_delete", "acme")
    ]
    assert rules(judged(deletes("e1"), project(Limits(0)), of("acme", lifted))) == [
        ("max_delete", None)
    ]


def test_the_most_particular_exception_is_used_up_first() -> None:
    wide, narrow = an_exemption("max_delete", 1), an_exemption("max_delete", 1, "east")
    inner = an_exemption("max_delete", 2, "e1")
    scope = project(Limits(0, 0, 100, exceptions=(wide, narrow)))
    assert rules(judged(deletes("e1", "g1"), scope)) == []
    assert rules(judged(deletes("g1", "g2"), scope)) == [("max_delete", None)]
    nested = project(Limits(0, 0, 100, exceptions=(narrow, inner)))
    assert rules(judged(deletes("e1", "g1"), nested)) == [("max_delete", None)]


def test_an_exception_from_protect_is_for_one_class_and_one_account() -> None:
    exemption = an_exemption("protect", account="east", effect="cosmetic")
    scope = of("acme", Limits(protect=("service", "cosmetic"), exceptions=(exemption,)))
    assert rules(judged(updates("e1", "east"), project(), scope)) == []
    assert rules(judged(updates("a1"), project(), scope)) == [("protect", "acme")]
    realm = updates("e1", path="settings.realm")
    assert rules(judged(realm, project(), scope)) == [("protect", "acme")]


def test_a_plan_tells_the_exceptions_that_it_needs_and_their_first_end() -> None:
    later = replace(an_exemption("max_update_percent", 99), until=TODAY + timedelta(9))
    scope = project(Limits(0, 0, 0, exceptions=(an_exemption("max_delete", 1), later)))
    needed = judged([*deletes("e1"), *updates("e2")], scope)
    assert needed.until == TODAY
    assert [found.source for found in needed.excepted] == [HERE, HERE]
    assert "a reason" in needed.excepted[0].detail
    unneeded = judged([], scope)
    assert (unneeded.excepted, unneeded.until) == ((), None)


def test_an_exception_for_an_account_that_is_nowhere_lifts_nothing() -> None:
    scope = project(Limits(0, 0, 100, exceptions=(an_exemption("max_delete", 9, "nobody"),)))
    assert rules(judged(deletes("e1"), scope)) == [("max_delete", None)]


def test_what_has_ended_is_a_warning_that_names_the_place() -> None:
    limits = Limits(exceptions=(an_exemption("protect", account="east", effect="service"),))
    blocks = [(None, Limits()), ("acme", limits)]
    assert [*ended(blocks, TODAY)] == []
    (found,) = ended(blocks, TODAY + timedelta(1))
    assert (found.severity, found.source, found.address) == ("warning", HERE, "accounts.acme")
    assert "protect: service of accounts.east" in found.detail


# --- reading and keeping ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"rule": "protect"}, "names one `class`"),
        ({"rule": "protect", "class": "money", "value": 2}, "names one `class`"),
        ({"rule": "max_delete"}, "how many changes"),
        ({"rule": "max_delete", "value": 1, "class": "money"}, "how many changes"),
        ({"rule": "max_delete", "value": 1, "until": "2026-02-30"}, "no day 2026-02-30"),
    ],
)
def test_an_exception_that_can_t_be_is_told(entry: JsonObject, said: str) -> None:
    block: JsonObject = {"exceptions": [{"until": "2026-01-01", "reason": "x", **entry}]}
    found, problems = read_limits(block, lambda _: HERE)
    assert found.exceptions == ()
    ((detail, source),) = problems
    assert said in detail
    assert source == HERE


@given(limits)
def test_state_keeps_limits_as_they_were(found: Limits) -> None:
    kept = limits_from(limits_json(found))
    assert replace(kept, protect=()) == replace(found, protect=())
    assert {*kept.protect} == {*found.protect}
