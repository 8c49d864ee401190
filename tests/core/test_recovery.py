"""What is made of what an interrupted run left open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.core.configuration import Configuration, Declared, Lifecycle, Moved, Settings
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.recovery import recover, settle
from reconciler.core.state import AccountRecord, Intent, Owed, State
from reconciler.core.values import AccountId, Source

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject

ROOT = AccountId("root-id")
HERE = Source("a.yaml", 1, 1)
NOTHING = Configuration(Settings(), {})
INTENT = Intent("a", ROOT, "A", "a.example.com", 1000, "digest", "run")
BY_NAME = replace(INTENT, realm=None)
OWED = Owed(AccountId("x"), reseller=True, settings={"org": "X", "caller_id": {"n": 1}}, run="run")


def an_account(
    name: str = "A", current: str = "x", *, parent: str = ROOT, created: int = 1000, **settings: Any
) -> LiveAccount:
    document = {"name": name, "realm": "a.example.com", **settings}
    reseller = bool(document.pop("reseller", False))
    return LiveAccount(AccountId(current), AccountId(parent), document, reseller, "1-x", created)


def there(*accounts: LiveAccount) -> Live:
    rows = {
        a.id: Row(a.id, a.name, str(a.document["realm"]), a.parent_id or ROOT) for a in accounts
    }
    return Live(root=ROOT, rows=rows, accounts={a.id: a for a in accounts})


def a_state(*intents: Intent, owed: Owed | None = None, **applied: JsonObject) -> State:
    accounts = {
        key: AccountRecord(AccountId("x"), ROOT, False, {"settings": {}, **block}, {}, "", "")
        for key, block in applied.items()
    }
    return State(
        lineage="lineage",
        serial=1,
        tool="tool",
        api_url="url",
        root=ROOT,
        digest_key="00",
        accounts=accounts,
        intents={intent.key: intent for intent in intents},
        owed={owed.id: owed} if owed else {},
    )


def declaring(
    key: str, *, by_id: str = "", moved: tuple[Moved, ...] = (), **block: Any
) -> Configuration:
    declared = Declared(
        key=key,
        parent="root",
        block={"settings": {"name": "A"}, **block},
        sensitive={},
        lifecycle=Lifecycle((("settings", "org"),)),
        layers=(),
        source=HERE,
        id=AccountId(by_id) if by_id else None,
    )
    return Configuration(Settings(), {key: declared}, moved=moved)


# --- creates ---


@pytest.mark.parametrize("intent", [INTENT, BY_NAME])
def test_an_account_that_fits_is_taken_into_state(intent: Intent) -> None:
    found = recover(NOTHING, a_state(intent), there(an_account()))
    assert found.state.intents == {}
    assert found.state.accounts["a"].id == "x"
    assert found.state.accounts["a"].applied == {"settings": {}}
    assert [(u.key, u.found, u.doubtful) for u in found.unfinished] == [("a", ("x",), False)]


@pytest.mark.parametrize("intent", [INTENT, BY_NAME])
def test_where_there_is_none_it_never_happened(intent: Intent) -> None:
    other = an_account("B", "y", realm="b.example.com")
    found = recover(NOTHING, a_state(intent), there(other))
    assert (found.state.intents, found.state.accounts) == ({}, {})
    assert not found.unfinished[0].doubtful


DOUBTS: dict[str, tuple[Intent, list[LiveAccount]]] = {
    "two of that name": (BY_NAME, [an_account(), an_account(current="y", realm="b.example.com")]),
    "another name": (INTENT, [an_account("B")]),
    "another parent": (INTENT, [an_account(parent="y")]),
    "older than the create": (INTENT, [an_account(created=600)]),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_anything_else_is_for_people_to_decide(doubt: str) -> None:
    intent, accounts = DOUBTS[doubt]
    state = a_state(intent)
    found = recover(NOTHING, state, there(*accounts))
    assert found.state is state
    (unfinished,) = found.unfinished
    assert unfinished.doubtful
    assert unfinished.found == tuple(sorted(account.id for account in accounts))
    for account in accounts:
        assert account.id in unfinished.detail
    assert recover(declaring("a", by_id="x"), state, there(*accounts)).unfinished == ()


def test_an_account_that_is_managed_is_not_what_another_create_made() -> None:
    found = settle(a_state(INTENT, b={}), there(an_account()))
    assert list(found.accounts) == ["b"]
    assert found.intents == {}


def test_a_clock_that_is_not_known_keeps_nobody_out() -> None:
    for intent, created in ((INTENT, 0), (replace(INTENT, since=0), 1000), (INTENT, 701)):
        found = settle(a_state(intent), there(an_account(created=created)))
        assert list(found.accounts) == ["a"]


# --- what was taken ---


def owed_fields(found: Configuration, state: State, live: Live) -> list[tuple[str, ...]]:
    recovery = recover(found, state, live)
    assert (len(recovery.owed) == 1) is bool(recovery.unfinished)
    return [field.path[-1:] for fields in recovery.owed.values() for field in fields]


def test_all_that_is_missing_is_owed_to_whom_nobody_declares() -> None:
    assert owed_fields(NOTHING, a_state(owed=OWED), there(an_account())) == [
        ("reseller",),
        ("org",),
        ("n",),
    ]


def test_what_is_there_again_or_somebody_else_set_is_not_owed() -> None:
    state = a_state(owed=OWED)
    again = an_account(reseller=True, org="Y", caller_id={"n": 2, "m": 3})
    assert settle(state, there(again)).owed == {}
    assert settle(state, there()).owed == {}  # and a gone account misses nothing
    partly = an_account(org="Y")
    assert owed_fields(NOTHING, state, there(partly)) == [("reseller",), ("n",)]


@pytest.mark.parametrize(
    ("configuration", "applied", "left"),
    [
        (declaring("a", reseller=False), {}, ["org", "n"]),
        (declaring("a", reseller=True), {}, ["org", "n"]),
        (declaring("a"), {"reseller": True}, ["org", "n"]),
        (declaring("a"), {}, ["reseller", "org", "n"]),
        (declaring("a", settings={"caller_id": {}}), {}, ["reseller", "org"]),
        (declaring("a", settings={"caller_id": {"n": None}}), {}, ["reseller", "org"]),
        (declaring("a", settings={"org": "Z"}), {}, ["reseller", "org", "n"]),  # ignored changes
        (declaring("new", moved=(Moved("a", "new", HERE),), reseller=False), {}, ["org", "n"]),
    ],
)
def test_the_yaml_has_the_last_word(
    configuration: Configuration, applied: JsonObject, left: list[str]
) -> None:
    state = a_state(owed=OWED, a=applied)
    found = owed_fields(configuration, state, there(an_account()))
    assert [name for (name,) in found] == left


def test_what_the_yaml_settles_is_moot() -> None:
    rank = replace(OWED, settings={})
    recovery = recover(
        declaring("a", reseller=False), a_state(owed=rank, a={}), there(an_account())
    )
    assert (recovery.moot, recovery.owed, recovery.unfinished) == ((rank,), {}, ())
