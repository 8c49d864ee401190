"""State as text, and how it changes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.core.state import (
    AccountRecord,
    Entry,
    Intent,
    State,
    Unusable,
    dump,
    entry_from,
    entry_json,
    fold,
    parse,
    rekeyed,
    without,
)
from reconciler.core.values import AccountId, JsonValue

LINEAGE = "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11"

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(), json_values, max_size=3)
ids = st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True).map(AccountId)
keys = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
records = st.builds(
    AccountRecord, ids, ids, st.booleans(), objects, objects, st.text(), st.text(), st.booleans(),
    st.sampled_from([{}, {"max_delete": 0, "protect": ["money"]}]),
)  # fmt: skip
intents = st.builds(
    Intent, keys, ids, st.text(), st.none() | st.text(), st.integers(0, 2**40), st.text(), st.text()
)
states = st.builds(
    State,
    st.just(LINEAGE),
    st.integers(0, 2**40),
    st.text(),
    st.text(),
    ids,
    st.text(),
    st.dictionaries(keys, records, max_size=3),
    st.dictionaries(keys, intents, max_size=2),
)


def a_record(name: str) -> AccountRecord:
    return AccountRecord(
        AccountId(name), AccountId("root"), True, {"settings": {"name": name}}, {}, "1-a", "2026"
    )


def a_state(**accounts: AccountRecord) -> State:
    return State(
        LINEAGE,
        3,
        "reconciler",
        "https://api.example.com/v2",
        AccountId("root"),
        "00" * 32,
        accounts,
    )


@given(states)
def test_what_was_written_is_read_back(state: State) -> None:
    assert parse(dump(state)) == state


@given(records, intents, keys)
def test_a_journal_entry_is_read_back(record: AccountRecord, intent: Intent, key: str) -> None:
    for entry in (
        Entry("record", key, record=record),
        Entry("intend", key, intent=intent),
        Entry("forget", key),
    ):
        assert entry_from(entry_json(entry)) == entry


def test_every_flipped_bit_and_every_truncation_is_found() -> None:
    text = dump(a_state(acme=a_record("acme")))
    for bit in range(len(text) * 8):
        damaged = bytearray(text)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(Unusable):
            parse(bytes(damaged))
    for length in range(len(text)):
        with pytest.raises(Unusable):
            parse(text[:length])


def test_the_text_is_sorted_indented_json() -> None:
    text = dump(a_state(b=a_record("b"), a=a_record("a"))).decode()
    document = json.loads(text)
    assert text == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert list(document["accounts"]) == ["a", "b"]


def test_a_newer_format_says_to_upgrade() -> None:
    text = dump(a_state()).replace(b'"format": 1', b'"format": 9')
    with pytest.raises(Unusable, match="checksum"):
        parse(text)
    with pytest.raises(Unusable, match=r"its format is 9.*Upgrade"):
        parse(b'{"format": 9}')


@pytest.mark.parametrize(
    "text", [b"", b"  \n", b"{}", b"null", b"[]", b"\xff", b'{"version": 4, "serial": 1}']
)
def test_what_is_no_state_is_never_taken_for_none(text: bytes) -> None:
    with pytest.raises(Unusable):
        parse(text)


def test_folding_raises_the_serial_by_one_however_much_it_is() -> None:
    entries = [
        Entry("record", "a", record=a_record("a")),
        Entry("record", "b", record=a_record("b")),
    ]
    folded = fold(a_state(), entries)
    assert folded.serial == 4
    assert sorted(folded.accounts) == ["a", "b"]


def test_folding_what_changes_nothing_is_the_same_state() -> None:
    state = a_state(a=a_record("a"))
    assert fold(state, []) is state
    assert fold(state, [Entry("record", "a", record=a_record("a"))]) is state
    assert fold(state, [Entry("forget", "zz")]) is state


def test_a_record_settles_the_intent_of_its_key() -> None:
    intent = Intent("a", AccountId("root"), "A", None, 0, "", "run")
    opened = fold(a_state(), [Entry("intend", "a", intent=intent)])
    assert opened.intents == {"a": intent}
    assert fold(opened, [Entry("record", "a", record=a_record("a"))]).intents == {}
    assert fold(opened, [Entry("settle", "a")]).intents == {}


def test_the_digest_depends_on_the_key_and_the_value() -> None:
    state = a_state()
    assert state.digest("x") == state.digest("x")
    assert state.digest("x") != state.digest("y")
    assert state.digest("x") != replace(state, digest_key="11" * 32).digest("x")
    assert "00" * 32 not in repr(state)


@given(states, keys, keys)
def test_a_key_that_changes_takes_all_with_it_and_nothing_else(
    state: State, old: str, new: str
) -> None:
    assume(new not in state.accounts and new not in state.intents and new != old)
    known = [*state.accounts, *state.intents]
    old = known[0] if known else old
    moved = rekeyed(state, old, new)
    assert moved.serial == state.serial + bool(known)
    assert {new if k == old else k: r for k, r in state.accounts.items()} == moved.accounts
    assert moved.intents.keys() == {new if k == old else k for k in state.intents}
    if new in moved.intents:
        assert moved.intents[new] == replace(state.intents[old], key=new)


@given(states)
def test_nothing_is_left_of_what_is_forgotten(state: State) -> None:
    keys = [*state.accounts, *state.intents][:2]
    left = without(state, keys)
    assert left.accounts == {k: r for k, r in state.accounts.items() if k not in keys}
    assert left.intents == {k: i for k, i in state.intents.items() if k not in keys}
    assert left.serial == state.serial + bool(keys)
