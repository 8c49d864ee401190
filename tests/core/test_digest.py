"""The digest of a plan: equal for what is the same, and telling where two plans differ."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core import digest as module
from reconciler.core.diff import FieldChange
from reconciler.core.digest import NAMED, difference, digest, is_digest
from reconciler.core.graph import Action, Operation
from reconciler.core.plan import Change, Plan
from reconciler.core.state import State
from reconciler.core.values import AccountId, Sensitive, conceal

ROOT = AccountId("r")
STATE = State("l", 7, "t", "sandbox:", ROOT, "00" * 32, {})


def a_plan(*keys: str, state: State = STATE, value: object = "new") -> Plan:
    """An update of the language of each of `keys`."""
    changes = tuple(
        Change(
            key,
            AccountId(f"id-{key}"),
            key,
            "root",
            (Action.UPDATE,),
            (FieldChange(("settings", "language"), "change", "old", "new"),),
            "why",
            None,
            None,
            None,
        )
        for key in keys
    )
    operations = tuple(
        Operation(
            n,
            key,
            f"id-{key}",
            Action.UPDATE,
            "PATCH",
            f"/accounts/id-{key}",
            {"data": {"language": value}},  # type: ignore[dict-item]
            (),
            rests_on={("settings", "language"): "old"},
        )
        for n, key in enumerate(keys, 1)
    )
    plan = Plan(state, ROOT, "Root", changes, (), operations, (), 0)
    return replace(plan, digest=digest(plan))


def test_the_same_plan_has_the_same_digest_whatever_else_is_in_state() -> None:
    plan = a_plan("a", "b")
    assert plan.digest == a_plan("a", "b", state=replace(STATE, serial=8)).digest
    assert difference(plan.digest, plan, ()) is None
    assert difference(plan.digest.partition(".")[0], plan, ()) is None
    assert is_digest(plan.digest)


def with_operation(plan: Plan, **changed: object) -> Plan:
    """The plan with its first operation changed, and its digest made anew."""
    first = replace(plan.operations[0], **changed)  # type: ignore[arg-type]
    plan = replace(plan, operations=(first, *plan.operations[1:]))
    return replace(plan, digest=digest(plan))


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PUT"},
        {"path": "/accounts/other"},
        {"body": {"data": {"language": "other"}}},
        {"body": {"data": {"language": conceal("new", "var.x")}}},
        {"rests_on": {("settings", "language"): "older"}},
        {"rests_on": {("settings", "language"): Sensitive("old", "live")}},
        {"rests_on": {}},
        {"temporary": True},
        {"action": Action.DEMOTE},
    ],
)
def test_all_that_an_operation_is_counts(changed: dict[str, object]) -> None:
    plan = a_plan("a", "b")
    other = with_operation(plan, **changed)
    assert difference(plan.digest, other, ()) == "Different: accounts.a."


def test_endpoint_root_lineage_and_order_count() -> None:
    plan = a_plan("a", "b")
    for state, told in (
        (replace(STATE, api_url="https://x"), "the endpoint"),
        (replace(STATE, lineage="m"), "the lineage of the state"),
    ):
        assert difference(plan.digest, a_plan("a", "b", state=state), ()) == f"Different: {told}."
    other = replace(plan, root=AccountId("s"))
    other = replace(other, digest=digest(other))
    assert difference(plan.digest, other, ()) == "Different: the root account."
    other = with_operation(plan, n=2, after=(1,))
    assert difference(plan.digest, other, ()) == "Different: the order of the operations."


def test_actions_without_a_call_count() -> None:
    plan = a_plan("a", "b")
    forgotten = replace(plan.changes[0], key="c", actions=(Action.FORGET,))
    other = replace(plan, changes=(*plan.changes, forgotten))
    other = replace(other, digest=digest(other))
    assert difference(plan.digest, other, ()) == "Different: accounts.c."
    assert difference(other.digest, plan, {"a", "b", "c", "d"}) == "Different: accounts.c."


def test_a_sensitive_value_counts_also_before_there_is_a_state() -> None:
    for state in (STATE, replace(STATE, digest_key="")):
        one = a_plan("a", state=state, value=conceal("one", "var.x"))
        two = a_plan("a", state=state, value=conceal("two", "var.x"))
        assert one.digest != two.digest
        assert "accounts.a" in str(difference(one.digest, two, ()))
        assert a_plan("a", state=state, value=conceal("one", "var.x")).digest == one.digest


def test_more_than_can_be_named_is_said_to_be_too_much() -> None:
    keys = [f"a{n}" for n in range(NAMED + 1)]
    text = difference(a_plan().digest, a_plan(*keys), keys)
    assert text is not None
    assert "too much" in text
    assert all(f"accounts.{key}" in text for key in keys)


@given(
    st.integers(0, 300),
    st.dictionaries(st.integers(0, 320), st.sampled_from(["gone", "other"]), max_size=10),
)
def test_the_sketch_tells_every_difference_or_that_there_are_too_many(
    size: int, changed: dict[int, str]
) -> None:
    def hashed(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    now = {f"accounts.{n}": hashed(f"{n}") for n in range(size)}
    then = dict(now)
    for n, how in changed.items():
        if how == "gone":
            then.pop(f"accounts.{n}", None)
        else:
            then[f"accounts.{n}"] = hashed(f"{n} as it was")
    names = sorted(f"accounts.{n}" for n in range(321))
    differing = [name for name in names if now.get(name) != then.get(name)]
    told = module._differing(module._sketch(then), now, names)
    assert told == (differing if len(differing) <= NAMED else None)
