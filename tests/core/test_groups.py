"""Folding: every change is told, each once, and nothing dangerous disappears in a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.danger import dangers, is_dangerous
from reconciler.core.diff import FieldChange
from reconciler.core.graph import Action, Operation
from reconciler.core.groups import FOLDED_FROM, Group, folded, groups, large, same
from reconciler.core.plan import Change, Plan
from reconciler.core.state import State
from reconciler.core.values import ABSENT, AccountId, Sensitive, parse_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.core.diff import Side

ROOT = AccountId("r")
STATE = State("l", 7, "t", "sandbox:", ROOT, "00" * 32, {})
SLOW = settings(max_examples=150, deadline=None)

fields = st.builds(
    lambda path, sides, drift: FieldChange(parse_path(path), sides[0], sides[1], sides[2], drift),
    st.sampled_from(
        [
            "settings.language",
            "settings.enabled",
            "settings.call_recording.account.any.any.url",
            "settings.caller_id.emergency.number",
            "settings.org",
        ]
    ),
    st.sampled_from(
        [
            ("add", ABSENT, "x"),
            ("change", True, False),
            ("change", 1, 0),
            ("change", Sensitive("a", "var.x"), Sensitive("b", "var.x")),
            ("change", Sensitive("c", "var.y"), Sensitive("d", "var.x")),
            ("remove", {"b": 1, "a": 2}, ABSENT),
            ("remove", {"a": 2, "b": 1}, ABSENT),
        ]
    ),
    st.booleans(),
)
kinds = st.sampled_from(
    [(Action.UPDATE,)] * 4 + [(Action.CREATE,), (Action.DEMOTE, Action.UPDATE), (Action.MOVE,)]
)
parts = st.tuples(
    kinds, st.lists(fields, max_size=3, unique_by=lambda f: f.path), st.sampled_from("xyz")
)


def changes_of(drawn: Sequence[tuple[tuple[Action, ...], list[FieldChange], str]]) -> list[Change]:
    return [
        Change(
            f"a{n:03}", AccountId(f"a{n}"), "A", "root", actions, tuple(found), "", None, None, None,
            top=top,
        )
        for n, (actions, found, top) in enumerate(drawn)
    ]  # fmt: skip


def a_plan(changes: Sequence[Change], *operations: Operation) -> Plan:
    return Plan(STATE, ROOT, "Root", tuple(changes), (), operations, (), 0)


def told(found: Group) -> set[tuple[str, tuple[str, ...]]]:
    return {(key, same(found.field)) for key in found.keys}


@SLOW
@given(st.lists(parts, max_size=40))
def test_groups_are_exactly_what_two_or_more_accounts_have_in_common(
    drawn: list[tuple[tuple[Action, ...], list[FieldChange], str]],
) -> None:
    changes = changes_of(drawn)
    found = groups(changes)
    grouped = [pair for group in found for pair in told(group)]
    everything = [
        (change.key, same(field))
        for change in changes
        if Action.CREATE not in change.actions
        for field in change.fields
        if not is_dangerous(field)
    ]
    alike = [what for _, what in everything]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {pair for pair in everything if alike.count(pair[1]) > 1}
    assert all(sum(group.resellers.values()) == len(group.keys) for group in found)
    sizes = [len(group.keys) for group in found]
    assert sizes == sorted(sizes, reverse=True)


@SLOW
@given(st.lists(parts, max_size=40))
def test_what_is_folded_is_told_by_groups_and_nothing_dangerous_is(
    drawn: list[tuple[tuple[Action, ...], list[FieldChange], str]],
) -> None:
    plan = a_plan(changes_of(drawn))
    found = groups(plan.changes)  # of any size: the rule must not rest on the number
    left_out = folded(plan.changes, found, dangers(plan))
    pairs = {pair for group in found for pair in told(group)}
    for change in plan.changes:
        if change.key in left_out:
            assert change.actions == (Action.UPDATE,)
            assert {(change.key, same(field)) for field in change.fields} <= pairs
    assert left_out.isdisjoint({danger.key for danger in dangers(plan)})


def test_what_outputs_can_t_tell_apart_is_one_group_and_what_they_can_is_not() -> None:
    secret = [Sensitive("a", "var.x"), Sensitive("b", "var.y")]
    sides: list[Side] = [*secret, True, 1, "1", {"a": 1, "b": 2}, {"b": 2, "a": 1}]
    keys = {same(FieldChange(("settings", "x"), "add", ABSENT, side)) for side in sides}
    assert len(keys) == len(sides) - 2


def test_a_group_stands_for_its_accounts_if_they_are_more_than_ten() -> None:
    field = FieldChange(("settings", "org"), "add", ABSENT, "x")
    for count in (FOLDED_FROM - 1, FOLDED_FROM):
        changes = changes_of([((Action.UPDATE,), [field], "x")] * count)
        assert bool(large(groups(changes))) is (count > 10)


def test_a_reseller_that_is_demoted_for_the_time_being_is_not_folded() -> None:
    field = FieldChange(("settings", "org"), "add", ABSENT, "x")
    changes = changes_of([((Action.UPDATE,), [field], "x")] * 3)
    demotion = Operation(1, "a001", "a1", Action.DEMOTE, "DELETE", "/x", None, (), True)
    plan = a_plan(changes, demotion)
    assert folded(plan.changes, groups(changes), dangers(plan)) == {"a000", "a002"}
