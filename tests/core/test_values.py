"""Addresses, ids and paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.values import (
    ABSENT,
    account_id,
    dotted,
    is_key,
    leaves,
    parse_path,
    place,
    value_at,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_path_that_was_written_is_read_back(segments: list[str]) -> None:
    assert parse_path(dotted(tuple(segments))) == tuple(segments)


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a[b]", 'a["b', "a b", "a[0]"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a path is names"):
        parse_path(text)


@pytest.mark.parametrize("text", ["", "../x", "a/b", "a" * 65, "ä", "a b", None, 7, "a?b", "a\n"])
def test_what_could_change_a_url_is_no_id(text: object) -> None:
    with pytest.raises(ValueError, match="account id"):
        account_id(text)


@pytest.mark.parametrize("text", ["5bbc699c2e8e4a21b2b0c1f0f6b7a001", "9c1f-AB", "a"])
def test_ids_are_opaque(text: str) -> None:
    assert account_id(text) == text


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("acme", True),
        ("0-a_B", True),
        ("-a", False),
        ("a.b", False),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a\n", False),
    ],
)
def test_keys_are_plain_words(text: str, good: bool) -> None:
    assert is_key(text) is good


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_document_is_the_sum_of_its_leaves(document: dict[str, object]) -> None:
    rebuilt: dict[str, object] = {}
    for path, value in leaves(document):  # type: ignore[arg-type]
        place(rebuilt, path, value)  # type: ignore[arg-type]
        assert value_at(document, path) == value  # type: ignore[arg-type]
    assert rebuilt == document


def test_what_is_not_there_is_absent() -> None:
    assert value_at({"a": {"b": None}}, ("a", "c")) is ABSENT
    assert value_at({"a": {"b": None}}, ("a", "b")) is None
    assert value_at({"a": "b"}, ("a", "b")) is ABSENT
