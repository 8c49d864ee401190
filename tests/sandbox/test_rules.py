"""The pure rules, where a call would show too little of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox import rules

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue


def metaflow(module: str, **data: JsonValue) -> JsonObject:
    return {"name": "A", "metaflows": {"numbers": {"1": {"module": module, "data": data}}}}


@pytest.mark.parametrize(
    ("name", "compared"),
    [("Acme, Inc.", "acmeinc"), ("Société", "socit"), ("Ⅷ İ 株", ""), ("\u212aelvin", "elvin")],
)
def test_only_ascii_letters_and_digits_count_in_names(name: str, compared: str) -> None:
    assert rules.comparable_name(name) == compared


def test_only_the_blank_is_taken_out_of_a_realm() -> None:
    assert rules.stored_realm(" A b\t.c ") == "Ab\t.c"
    assert rules.comparable_realm("A B.Example") == "ab.example"


def test_merging_leaves_what_it_merges_alone() -> None:
    stored: JsonObject = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    change: JsonObject = {"a": {"b": None, "d": {"e": None}}, "l": {"x": 1}, "n": None}
    assert rules.merged(stored, change, null_removes=True) == {
        "a": {"c": 2, "d": {}},
        "l": {"x": 1},
    }
    assert rules.merged(stored, change, null_removes=False) == {
        "a": {"b": 1, "c": 2, "d": {}},
        "l": {"x": 1},
    }
    assert stored == {"a": {"b": 1, "c": 2}, "l": [1, 2]}


def test_defaults_go_only_where_an_object_is() -> None:
    document: JsonObject = {
        "metaflows": {
            "numbers": {"1": {"module": "hold", "children": {"2": {"module": "unheard_of"}}}},
            "patterns": {"^2$": {"module": "play", "data": {"leg": "self"}}},
        },
        "notifications": {"low_balance": {}},
    }
    filled = rules.with_defaults(document)
    assert filled["metaflows"] == {
        "binding_digit": "*",
        "numbers": {
            "1": {
                "module": "hold",
                "data": {"unhold_key": "1"},
                "children": {"2": {"module": "unheard_of", "data": {}}},
            }
        },
        "patterns": {"^2$": {"module": "play", "data": {"leg": "self"}}},
    }
    assert filled["notifications"] == {"low_balance": {}}
    first = rules.with_defaults({"notifications": {"first_occurrence": {}}})["notifications"]
    unsent = {"sent_initial_call": False, "sent_initial_registration": False}
    assert first == {"first_occurrence": unsent}
    assert "metaflows" not in rules.with_defaults({})


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("5", 5), ("5.0", 5), ("-3", -3), (5.4, 5), (2.5, 3), (-2.5, -3), ("1.5", 2)],
)
def test_an_integer_is_made_of_text_and_fractions(sent: JsonValue, kept: int) -> None:
    result = rules.checked(metaflow("transfer", timeout=sent))
    assert result.errors == {}
    assert result.document == metaflow("transfer", timeout=kept)


@pytest.mark.parametrize("sent", ["five", "0x5", "", True, [], {}, "1e3"])
def test_an_integer_is_made_of_nothing_else(sent: JsonValue) -> None:
    path = "metaflows.numbers.1.data.timeout"
    assert set(rules.checked(metaflow("transfer", timeout=sent)).errors[path]) == {"type"}


def test_repairs_reach_into_lists_and_keep_fractions_of_numbers() -> None:
    document: JsonObject = {
        "name": "A",
        "topup": {"threshold": "2.5"},
        "voicemail": {"notify": {"callback": {"schedule": [1, "2"], "disabled": "true"}}},
    }
    result = rules.checked(document)
    assert result.errors == {}
    assert result.document == {
        "name": "A",
        "topup": {"threshold": 2.5},
        "voicemail": {"notify": {"callback": {"schedule": [1, 2], "disabled": True}}},
    }


def test_null_is_an_error_only_where_a_type_is_known() -> None:
    sent: JsonObject = {"name": "A", "caller_id": {"external": None}, "flags": [None], "mine": None}
    assert set(rules.null_errors(sent)) == {"caller_id.external", "flags.0"}
