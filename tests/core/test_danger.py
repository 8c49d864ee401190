"""Which changes are dangerous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.danger import dangers
from reconciler.core.diff import FieldChange
from reconciler.core.graph import Action, Operation
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
