"""The file of a plan: sealed to the last byte, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from reconciler.core import revive
from reconciler.core.configuration import Configuration, Declared, Lifecycle, Settings
from reconciler.core.diff import FieldChange
from reconciler.core.graph import Action, Operation
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.plan import Change, Plan
from reconciler.core.saved import Making, Unfit, save, shown, unsealed
from reconciler.core.state import AccountRecord, State
from reconciler.core.values import ABSENT, AccountId, JsonObject, Sensitive, Source, conceal

if TYPE_CHECKING:
    from reconciler.core.diff import Side
    from reconciler.core.values import FieldPath

ROOT, ID = AccountId("r"), AccountId("a1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAKING = Making("t", NOW, "sha256:0", (), {}, "11" * 32)
RECORD = AccountRecord(ID, ROOT, False, {"settings": {}}, {"settings": {}}, "1-a", "")
STATE = State(
    "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11", 7, "t", "sandbox:", ROOT, "00" * 32, {"a": RECORD}
)
BLOCK: JsonObject = {"settings": {"name": "A", "org": "secret", "flags": [1.0, None, {"x": {}}]}}
ORG = ("settings", "org")


def a_plan(state: State = STATE) -> Plan:
    """One update, of a sensitive value, that rests on another."""
    declared = Declared(
        "a", "root", BLOCK, {ORG: "var.x"}, Lifecycle((("x",),)), (), Source("f", 1, 1)
    )
    live = LiveAccount(ID, ROOT, {"name": "A", "org": "old"}, False, "1-a")
    field = FieldChange(ORG, "change", Sensitive("old", "var.x"), Sensitive("secret", "var.x"))
    change = Change("a", ID, "A", "root", (Action.UPDATE,), (field,), "why", declared, RECORD, live)
    body: JsonObject = {"data": {"org": conceal("secret", "var.x"), "enabled": True}}
    rests: dict[FieldPath, Side] = {ORG: field.before, ("settings", "enabled"): ABSENT}
    operation = Operation(
        1, "a", ID, Action.UPDATE, "PATCH", f"/accounts/{ID}", body, (), rests_on=rests
    )
    return Plan(state, ROOT, "Root", (change,), (), (operation,), (), 3)


def now(settings: JsonObject | None) -> Live:
    """What is live when the plan is applied; None: the account is gone."""
    accounts = {ROOT: LiveAccount(ROOT, None, {"name": "Root"}, True, "1-a")}
    rows = {}
    if settings is not None:
        accounts[ID] = LiveAccount(ID, ROOT, settings, False, "2-b")
        rows[ID] = Row(ID, "A", "", ROOT)
    return Live(ROOT, rows, accounts)


def configured(block: JsonObject) -> Configuration:
    declared = Declared("a", "root", block, {}, Lifecycle(), (), Source("f", 1, 1))
    return Configuration(Settings(), {"a": declared})


@pytest.mark.parametrize("key", [None, b"key"])
def test_every_byte_is_sealed(key: bytes | None) -> None:
    text = save(a_plan(), MAKING, key)
    assert unsealed(text, key).serial == 7
    for at in range(len(text)):
        for bit in range(8):
            with pytest.raises(Unfit):
                unsealed(text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :], key)
        with pytest.raises(Unfit):
            unsealed(text[:at], key)
        with pytest.raises(Unfit):
            unsealed(text[:at] + b" " + text[at:], key)


@pytest.mark.parametrize(("made", "read"), [(None, b"k"), (b"k", None), (b"k", b"l")])
def test_a_seal_of_another_kind_or_key_is_refused(made: bytes | None, read: bytes | None) -> None:
    with pytest.raises(Unfit):
        unsealed(save(a_plan(), MAKING, made), read)


def test_the_same_plan_is_the_same_file() -> None:
    assert save(a_plan(), MAKING, None) == save(a_plan(), MAKING, None)


def test_no_sensitive_value_is_in_the_file() -> None:
    text = save(a_plan(), MAKING, None)
    assert b"secret" not in text
    assert b'"old"' not in text


def forged(**changed: object) -> bytes:
    """A file with a right seal that says something else: anybody can make one."""
    document = json.loads(save(a_plan(), MAKING, None))
    operation = {n[3:]: v for n, v in changed.items() if n.startswith("op_")}
    document["operations"][0] |= operation
    document |= {n: v for n, v in changed.items() if not n.startswith("op_")}
    document["seal"] = ""
    text = json.dumps(document, separators=(",", ":")).encode()
    return text.replace(
        b'"seal":""', b'"seal":"sha256:%s"' % hashlib.sha256(text).hexdigest().encode(), 1
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"format_version": "2"},
        {"format_version": 1},
        {"serial": "7"},
        {"root": "../r"},
        {"created": "yesterday"},
        {"created": "2026-01-01T00:00:00"},
        {"more": 1},
        {"changes": None},
        {"op_path": "/accounts/../x"},
        {"op_path": "/users/a1"},
        {"op_path": "/accounts/a1\n"},
        {"op_method": "GET"},
        {"op_action": "explode"},
        {"op_address": "accounts.-a"},
        {"op_rests_on": {"..": {}}},
        {"op_after": [1.5]},
    ],
)
def test_what_no_plan_can_say_is_refused(changed: dict[str, object]) -> None:
    assert unsealed(forged(), None).serial == STATE.serial
    with pytest.raises(Unfit):
        unsealed(forged(**changed), None)


def test_a_newer_format_says_what_it_is() -> None:
    with pytest.raises(Unfit, match="too old"):
        unsealed(forged(format_version="2", more={}), None)


def test_what_comes_out_is_what_went_in() -> None:
    plan = a_plan()
    saved = unsealed(save(plan, MAKING, None), None)
    live = now({"name": "A", "org": "old", "other": 1})
    revived = revive.revived(saved, STATE, live, configured(BLOCK))
    (change,), (operation,) = revived.changes, revived.operations
    assert revived.stale == {}
    assert operation == plan.operations[0]
    assert change.fields == plan.changes[0].fields
    assert change.declared is not None
    assert plan.changes[0].declared is not None
    assert replace(change.declared, source=Source("f", 1, 1)) == plan.changes[0].declared
    assert change.record is RECORD
    assert change.live is live.accounts[ID]
    assert revived.before == {ID}


def test_a_value_that_was_sensitive_once_is_hidden_and_not_for_state() -> None:
    """It is declared in clear by now; applied it was sensitive, so that plan does not show it."""
    plan = a_plan()
    (change,), (operation,) = plan.changes, plan.operations
    assert change.declared is not None
    after = Sensitive("secret", "applied")
    change = replace(
        change,
        declared=replace(change.declared, sensitive={}),
        fields=(replace(change.fields[0], after=after),),
    )
    operation = replace(operation, body={"data": {"org": conceal("secret", "applied")}})
    text = save(replace(plan, changes=(change,), operations=(operation,)), MAKING, None)
    assert b"secret" not in text
    live = now({"name": "A", "org": "old"})
    revived = revive.revived(unsealed(text, None), STATE, live, configured(BLOCK))
    assert revived.changes[0].declared is not None
    assert revived.changes[0].declared.sensitive == {}
    assert revived.operations[0].body == operation.body


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "A", "org": "newer"}, "settings.org was changed"),
        ({"name": "A"}, "settings.org was changed"),
        (None, "it was deleted"),
    ],
)
def test_an_account_that_is_not_as_it_was_is_left_alone(
    settings: JsonObject | None, reason: str
) -> None:
    saved = unsealed(save(a_plan(), MAKING, None), None)
    revived = revive.revived(saved, STATE, now(settings), configured(BLOCK))
    assert reason in revived.stale["a"]


def test_another_sensitive_value_refuses_the_plan() -> None:
    saved = unsealed(save(a_plan(), MAKING, None), None)
    assert revive.has_secrets(saved)
    other = configured({"settings": {"name": "A", "org": "other"}})
    for configuration in (other, None):
        with pytest.raises(Unfit, match=r"accounts\.a: settings\.org \(var\.x\)"):
            revive.revived(saved, STATE, now({}), configuration)


def test_the_first_plan_brings_a_key_of_its_own_for_its_digests() -> None:
    first = replace(STATE, lineage="", serial=0, digest_key="", accounts={})
    plan = a_plan(first)
    (change,) = plan.changes
    assert change.declared is not None
    change = replace(change, id=None, actions=(Action.CREATE,), record=None, live=None, fields=())
    saved = unsealed(save(replace(plan, changes=(change,), operations=()), MAKING, None), None)
    assert (saved.digest_key, saved.lineage, saved.state) == ("11" * 32, None, None)
    fresh = replace(STATE, accounts={})
    revived = revive.revived(saved, fresh, now(None), configured(BLOCK))
    assert revived.changes[0].declared is not None
    assert revived.changes[0].declared.block == BLOCK


@pytest.mark.parametrize(
    ("age", "endpoint", "word"),
    [
        (timedelta(hours=1), "sandbox:", None),
        (timedelta(hours=25), "sandbox:", "longer ago"),
        (timedelta(minutes=-4), "sandbox:", None),
        (timedelta(minutes=-6), "sandbox:", "clock"),
        (timedelta(hours=1), "sandbox:other", "sandbox:other"),
    ],
)
def test_age_and_endpoint(age: timedelta, endpoint: str, word: str | None) -> None:
    saved = unsealed(save(a_plan(), MAKING, None), None)
    expected = pytest.raises(Unfit, match=word) if word else nullcontext()
    with expected:
        revive.check(saved, endpoint, NOW + age, timedelta(hours=24))


@pytest.mark.parametrize(("days", "refused"), [(0, False), (-1, True), (None, False)])
def test_what_rests_on_an_exception_is_not_applied_after_its_last_day(
    days: int | None, *, refused: bool
) -> None:
    until = None if days is None else NOW.date() + timedelta(days)
    saved = unsealed(save(replace(a_plan(), until=until), MAKING, None), None)
    assert shown(saved).until == until
    with pytest.raises(Unfit, match="exception that ended") if refused else nullcontext():
        revive.check(saved, "sandbox:", NOW, timedelta(hours=24))


def test_the_state_must_be_the_very_same() -> None:
    saved = unsealed(save(a_plan(), MAKING, None), None)
    revive.check_state(saved, STATE, ROOT)
    other = replace(STATE, accounts={"a": replace(RECORD, etag="2-b")})
    for state, root, word in (
        (None, ROOT, "there is none"),
        (replace(STATE, serial=8), ROOT, "from serial 7 to 8"),
        (replace(STATE, lineage="x"), ROOT, "not from x"),
        (replace(STATE, serial=8, applied_plan=saved.seal), ROOT, "applied already"),
        (other, ROOT, "under way"),
        (STATE, AccountId("s"), "root account"),
    ):
        with pytest.raises(Unfit, match=word):
            revive.check_state(saved, state, root)
