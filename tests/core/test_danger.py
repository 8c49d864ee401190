"""Which changes are dangerous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.danger import dangers, dangers_outside
from reconciler.core.diff import FieldChange
from reconciler.core.graph import Action, Operation
from reconciler.core.live import LiveAccount
from reconciler.core.plan import Change, Plan
from reconciler.core.state import State
from reconciler.core.values import ABSENT, AccountId, Sensitive, parse_path

if TYPE_CHECKING:
    from reconciler.core.diff import Side

ROOT = AccountId("r")
STATE = State("l", 7, "t", "sandbox:", ROOT, "00" * 32, {})


def found(
    *fields: FieldChange, actions: tuple[Action, ...] = (), operations: tuple[Operation, ...] = ()
) -> list[str]:
    change = Change("a", AccountId("a"), "A", "root", actions, fields, "", None, None, None)
    plan = Plan(STATE, ROOT, "Root", (change,), (), operations, (), 0)
    return [danger.what for danger in dangers(plan)]


def a_change(path: str, before: Side, after: Side) -> FieldChange:
    return FieldChange(parse_path(path), "change", before, after)


@pytest.mark.parametrize(
    ("path", "before", "after", "what"),
    [
        ("parent", "root", "b", "move"),
        ("settings.enabled", True, False, "disable"),
        ("settings.enabled", ABSENT, Sensitive(False, "var.x"), "disable"),
        ("settings.enabled", False, True, None),
        ("settings.call_recording.account.any.any.url", ABSENT, "https://x", "recording_url"),
        ("settings.call_recording.account.any.any.url", "https://x", ABSENT, "recording_url"),
        (
            "settings.call_recording.account",
            {"any": {"any": {"url": "x"}}},
            ABSENT,
            "recording_url",
        ),
        ("settings.call_recording.account", Sensitive(None, "live"), ABSENT, "recording_url"),
        ("settings.call_recording.account.any.any.enabled", True, False, None),
        ("settings.caller_id.emergency.number", "1", "2", "emergency_caller_id"),
        ("settings.caller_id.emergency.name", "1", ABSENT, "emergency_caller_id"),
        ("settings.caller_id", {"emergency": {"number": "1"}}, ABSENT, "emergency_caller_id"),
        ("settings.caller_id.external.number", "1", "2", None),
        ("settings.notifications.url", "https://x", "https://y", None),
        ("reseller", True, False, None),
    ],
)
def test_a_leaf(path: str, before: Side, after: Side, what: str | None) -> None:
    assert found(a_change(path, before, after)) == ([what] if what else [])


def test_a_rank_or_an_account_that_is_lost() -> None:
    assert found(actions=(Action.DELETE,)) == ["delete"]
    assert found(actions=(Action.DEMOTE, Action.UPDATE)) == ["demote"]
    assert found(actions=(Action.CREATE, Action.PROMOTE, Action.ADOPT, Action.FORGET)) == []
    demotion = Operation(1, "b", "b", Action.DEMOTE, "DELETE", "/accounts/b", None, (), True)
    assert found(operations=(demotion,)) == ["demote"]


def test_the_gravest_come_first_then_the_keys_and_last_what_is_temporary() -> None:
    leaves = (
        a_change("settings.call_recording.account.any.any.url", "x", "y"),
        a_change("settings.caller_id.emergency.number", "1", "2"),
        a_change("settings.enabled", True, False),
        a_change("parent", "root", "b"),
    )
    updates = [
        Change(key, AccountId(key), "A", "root", (Action.UPDATE,), leaves, "", None, None, None)
        for key in "ab"
    ]
    lost = [
        Change(key, AccountId(key), "A", "root", (action,), (), "", None, None, None)
        for key, action in (("y", Action.DEMOTE), ("z", Action.DELETE))
    ]
    demotion = Operation(1, "0", "0", Action.DEMOTE, "DELETE", "/accounts/0", None, (), True)
    plan = Plan(STATE, ROOT, "Root", (*updates, *lost), (), (demotion,), (), 0)
    assert [(danger.what, danger.key) for danger in dangers(plan)] == [
        ("delete", "z"),
        ("demote", "y"),
        *((what, key) for what in ("move", "disable", "emergency_caller_id", "recording_url") for key in "ab"),
        ("demote", "0"),
    ]  # fmt: skip


def test_what_was_changed_outside_is_as_dangerous() -> None:
    live = LiveAccount(AccountId("a"), ROOT, {}, False, "")
    lost = Change("z", AccountId("z"), "Z", "root", (), (), "", None, None, None)
    ranks = (a_change("reseller", True, False), a_change("settings.enabled", True, False))
    changed = Change("a", AccountId("a"), "A", "root", (), ranks, "", None, None, live)
    promoted = Change(
        "b", AccountId("b"), "B", "root", (), (a_change("reseller", False, True),), "", None, None, live
    )  # fmt: skip
    found = dangers_outside((changed, promoted, lost))
    assert [(danger.what, danger.key) for danger in found] == [
        ("delete", "z"),
        ("demote", "a"),
        ("disable", "a"),
    ]
