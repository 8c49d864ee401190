"""Declared, applied and live, leaf by leaf."""

from __future__ import annotations

import copy

import deepdiff
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core import diff
from reconciler.core.configuration import Declared, Lifecycle
from reconciler.core.live import LiveAccount
from reconciler.core.state import AccountRecord, State, is_masked, masked
from reconciler.core.values import (
    ABSENT,
    AccountId,
    FieldPath,
    JsonObject,
    JsonValue,
    MaybeJson,
    Sensitive,
    Source,
    leaves,
    place,
    value_at,
)

ID = AccountId("a1")
STATE = State("l", 1, "t", "sandbox:", AccountId("r"), "00" * 32, {})


def declared(
    settings: JsonObject,
    *,
    sensitive: dict[FieldPath, str] | None = None,
    ignore: tuple[FieldPath, ...] = (),
    reseller: bool | None = None,
) -> Declared:
    block: JsonObject = {"settings": settings}
    if reseller is not None:
        block["reseller"] = reseller
    return Declared("a", "root", block, sensitive or {}, Lifecycle(ignore), (), Source("f", 1, 1))


def record(settings: JsonObject | None, *, reseller: bool | None = None) -> AccountRecord:
    applied: JsonObject = {"settings": settings or {}}
    if reseller is not None:
        applied["reseller"] = reseller
    return AccountRecord(ID, AccountId("r"), False, applied, {}, "1-a", "")


def live(settings: JsonObject, *, reseller: bool = False) -> LiveAccount:
    return LiveAccount(ID, AccountId("r"), settings, reseller, "1-a")


def one(value: MaybeJson) -> JsonObject:
    """A document whose org is `value`, or which has none."""
    return {} if value is ABSENT else {"org": value}


@pytest.mark.parametrize(
    ("wanted", "applied", "found", "op", "drift"),
    [
        ("new", "old", "old", "change", False),
        ("new", "old", "else", "change", True),
        ("new", "new", "else", "change", True),
        ("new", "old", ABSENT, "add", True),
        ("new", ABSENT, "else", "change", False),
        ("new", ABSENT, ABSENT, "add", False),
        ("new", "new", "new", None, False),
        ("new", "old", "new", None, False),
        (ABSENT, "old", "old", "remove", False),
        (ABSENT, "old", "else", "remove", True),
        (ABSENT, "old", ABSENT, None, False),
        (ABSENT, ABSENT, "else", None, False),
        (None, "old", "old", "remove", False),
        (None, ABSENT, "else", "remove", False),
        (None, ABSENT, ABSENT, None, False),
        ("", "old", "old", "change", False),
        ("", "", "", None, False),
    ],
)
def test_three_versions_decide(
    wanted: MaybeJson, applied: MaybeJson, found: MaybeJson, op: str | None, drift: bool
) -> None:
    changes = diff.compare(declared(one(wanted)), record(one(applied)), live(one(found)), STATE)
    assert [(c.op, c.drift) for c in changes] == ([] if op is None else [(op, drift)])


@pytest.mark.parametrize(
    ("wanted", "found", "paths"),
    [
        ({"zones": {}}, {"zones": {"a": 1}}, ["zones"]),
        ({"zones": {}}, {"zones": {}}, []),
        ({"zones": {"a": 1}}, {"zones": {"a": 1.0, "b": 2}}, []),
        ({"zones": {"a": True}}, {"zones": {"a": 1}}, ["zones.a"]),
        ({"zones": {"a": [1, 2]}}, {"zones": {"a": [2, 1]}}, ["zones.a"]),
        ({"flags": ["x", "y"]}, {"flags": ["y", "x", "y"]}, []),
        ({"flags": ["x"]}, {"flags": ["y"]}, ["flags"]),
        ({"formatters": {"f": {"strip": True}}}, {"formatters": {"f": [{"strip": True}]}}, ["formatters.f.strip"]),
        ({"formatters": {"f": [{"strip": True}]}}, {"formatters": {"f": {"strip": True}}}, ["formatters.f"]),
        ({"caller_id": None}, {"caller_id": {"external": {}}}, []),
        ({"caller_id": None}, {"caller_id": {"external": {"name": "x"}}}, ["caller_id"]),
        ({"name": "É"}, {"name": "E\u0301"}, ["name"]),
    ],
)  # fmt: skip
def test_equality_is_the_platforms(wanted: JsonObject, found: JsonObject, paths: list[str]) -> None:
    changes = diff.compare(declared(wanted), None, live(found), STATE)
    assert [".".join(c.path[1:]) for c in changes] == paths
    assert diff.settled(declared(wanted), record(wanted), live(found), STATE) is (not paths)


def test_what_can_not_be_absent_is_let_go() -> None:
    settings: JsonObject = {
        "name": "A",
        "realm": "a.example.com",
        "timezone": "Etc/UTC",
        "enabled": False,
    }
    assert diff.compare(declared({"name": "A"}), record(settings), live(settings), STATE) == ()


def test_a_leaf_that_became_an_object_is_replaced_not_removed() -> None:
    changes = diff.compare(
        declared({"zones": {"a": {"b": 1}}}),
        record({"zones": {"a": 5}}),
        live({"zones": {"a": 5}}),
        STATE,
    )
    assert [(c.op, c.path[1:]) for c in changes] == [("add", ("zones", "a", "b"))]


def test_what_is_ignored_is_left_alone_after_creation() -> None:
    wanted = declared({"org": "new", "language": "fr-fr"}, ignore=(("settings", "org"),))
    changes = diff.compare(
        wanted,
        record({"org": "old", "ringtones": {}}),
        live({"org": "else", "language": "x"}),
        STATE,
    )
    assert [c.path for c in changes] == [("settings", "language")]
    assert ("settings", "org") in [c.path for c in diff.creation(wanted)]


def test_what_the_platform_writes_is_never_drift() -> None:
    settings: JsonObject = {"notifications": {"first_occurrence": {"sent_initial_call": False}}}
    found: JsonObject = {"notifications": {"first_occurrence": {"sent_initial_call": True}}}
    assert diff.compare(declared(settings), record(settings), live(found), STATE) == ()
    assert diff.drifted(record(settings), declared(settings), live(found), STATE) == ()


@pytest.mark.parametrize(
    ("wanted", "applied", "found", "after"),
    [
        (True, None, False, True),
        (False, None, True, False),
        (None, True, True, False),
        (None, False, True, None),
        (None, None, True, None),
        (True, True, True, None),
    ],
)
def test_rank_is_a_field_and_leaving_it_means_demote(
    wanted: bool | None, applied: bool | None, found: bool, after: bool | None
) -> None:
    changes = diff.compare(
        declared({}, reseller=wanted), record({}, reseller=applied), live({}, reseller=found), STATE
    )
    assert [c.after for c in changes] == ([] if after is None else [after])


def test_sensitive_values_are_hidden_on_both_sides_and_compared_by_digest() -> None:
    path = ("settings", "org")
    wanted = declared({"org": "new-secret"}, sensitive={path: "var.s"})
    known = record({"org": {"$sensitive": STATE.digest("old-secret")}})
    (change,) = diff.compare(wanted, known, live({"org": "old-secret"}), STATE)
    assert isinstance(change.before, Sensitive)
    assert isinstance(change.after, Sensitive)
    assert not change.drift
    assert "secret" not in repr(change)
    (drifted,) = diff.drifted(known, wanted, live({"org": "third-secret"}), STATE)
    assert "secret" not in repr(drifted)


def test_credentials_in_a_live_url_are_hidden_though_nothing_declares_them() -> None:
    (change,) = diff.compare(
        declared({"org": "x"}), None, live({"org": "https://u:p@h/?k=1"}), STATE
    )
    assert isinstance(change.before, Sensitive)
    assert change.after == "x"


def test_deepdiff_is_not_called_for_an_account_that_is_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(deepdiff, "DeepDiff", never)
    settings: JsonObject = {
        "name": "A",
        "flags": ["b", "a"],
        "caller_id": {"external": {"name": "x"}},
    }
    found: JsonObject = {**copy.deepcopy(settings), "flags": ["a", "b"], "music_on_hold": {}}
    assert diff.compare(declared(settings), record({}), live(found), STATE) == ()
    with pytest.raises(AssertionError):
        diff.compare(declared(settings), record({}), live({}), STATE)


# --- properties ---

scalars = st.sampled_from([True, False, 0, 1, 1.5, "", "a", "b"])
names = st.sampled_from(["p", "q", "r"])
values = st.recursive(
    scalars | st.lists(scalars, max_size=2),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["x", "y", "z"]), values, max_size=3)
wishes = st.recursive(
    scalars | st.none() | st.lists(scalars, max_size=2),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def patched(document: JsonObject, changes: tuple[diff.FieldChange, ...]) -> JsonObject:
    """What the platform makes of the changes: a PATCH on the dialect that removes nulls."""

    def merge(target: JsonObject, patch: JsonObject) -> None:
        for name, value in patch.items():
            inner = target.get(name)
            if value is None:
                target.pop(name, None)
            elif isinstance(value, dict) and value and isinstance(inner, dict):
                merge(inner, value)
            elif isinstance(value, dict) and value:
                target[name] = {}
                merge(target[name], value)  # type: ignore[arg-type]
            else:
                target[name] = value

    patch: JsonObject = {}
    for change in changes:
        place(patch, change.path[1:], None if change.after is ABSENT else change.after)  # type: ignore[arg-type]
    result = copy.deepcopy(document)
    merge(result, patch)
    return result


@given(st.dictionaries(st.sampled_from(["x", "y", "z"]), wishes, max_size=3), documents, documents)
def test_what_was_changed_as_planned_is_settled(
    wanted: JsonObject, applied: JsonObject, found: JsonObject
) -> None:
    known = record(applied)
    changes = diff.compare(declared(wanted), known, live(found), STATE)
    result = live(patched(found, changes))
    again, observed, missed = diff.confirmed(declared(wanted), known, result, STATE)
    assert missed == ()
    assert (
        diff.compare(
            declared(wanted), AccountRecord(ID, ID, False, again, observed, "", ""), result, STATE
        )
        == ()
    )


@given(documents, documents)
def test_nothing_but_what_is_declared_or_was_applied_is_touched(
    wanted: JsonObject, found: JsonObject
) -> None:
    changes = diff.compare(declared(wanted), None, live(found), STATE)
    ours = {path for path, _ in leaves(wanted)}
    assert all(change.path[1:] in ours for change in changes)
    result = patched(found, changes)
    for path, value in leaves(found):
        if not any(path[: len(p)] == p or p[: len(path)] == path for p in ours):
            assert value_at(result, path) == value


@given(documents, documents)
def test_settled_says_the_same_as_compare(wanted: JsonObject, found: JsonObject) -> None:
    equal = diff.settled(declared(wanted), record(wanted), live(found), STATE)
    assert equal is (diff.compare(declared(wanted), record(wanted), live(found), STATE) == ())


@given(documents)
def test_masking_leaves_no_sensitive_value(document: JsonObject) -> None:
    paths = {("settings", *path): "var.s" for path, _ in leaves(document)}
    block: JsonObject = {"settings": document}
    hidden = masked(block, paths, STATE)
    for path in paths:
        assert is_masked(value_at(hidden, path))
    assert block == {"settings": document}


def test_a_value_that_was_not_kept_is_owed_and_what_was_claimed_stays() -> None:
    wanted: JsonObject = {"org": "new", "language": "de-de"}
    applied, _, missed = diff.confirmed(
        declared(wanted),
        record({"org": "old", "ringtones": {"internal": "x"}}),
        live({"org": "old", "language": "de-de", "ringtones": {"internal": "x"}}),
        STATE,
    )
    assert applied == {
        "settings": {"org": "old", "language": "de-de", "ringtones": {"internal": "x"}}
    }
    assert missed == (("settings", "org"), ("settings", "ringtones", "internal"))


def test_values_are_told_apart() -> None:
    absent: JsonValue = None
    assert not diff.present(absent)
    assert not diff.present({"a": {"b": {}}})
    assert diff.present("")
    assert diff.present([])
    assert diff.present(False)
