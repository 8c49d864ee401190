"""How fields are removed where null removes nothing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.core.diff import present
from reconciler.core.values import leaves
from reconciler.perform import emptying
from reconciler.sandbox.rules import merged

if TYPE_CHECKING:
    from reconciler.core.values import FieldPath, JsonObject

names = st.sampled_from(["a", "b", "c.d", ""])
values = st.recursive(
    st.sampled_from([0, 1.5, True, "x", ["y"], {}]),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(names, values, min_size=1, max_size=3)


def found(document: JsonObject) -> dict[FieldPath, object]:
    """The leaves that are there; what is empty counts as nothing."""
    return {path: value for path, value in leaves(document) if present(value)}


@given(document=documents, data=st.data())
def test_after_both_requests_just_the_removed_leaves_are_gone(
    document: JsonObject, data: st.DataObject
) -> None:
    nested = [path for path in found(document) if len(path) > 1]
    assume(nested)
    removed = data.draw(st.lists(st.sampled_from(nested), min_size=1, unique=True))
    expected = {path: v for path, v in found(document).items() if path not in removed}
    before = copy.deepcopy(document)
    emptied, rest = emptying(document, removed)
    assert document == before
    after = merged(merged(document, emptied, null_removes=False), rest, null_removes=False)
    assert found(after) == expected
    # and no more is touched than the objects around them
    tops = [path for path, value in leaves(emptied) if value == {}]
    assert len(tops) == len(list(leaves(emptied)))
    assert all(any(path[: len(top)] == top for path in removed) for top in tops)


def test_a_field_in_no_object_is_left_to_be_told_of() -> None:
    assert emptying({"language": "en-us"}, [("language",)]) == ({}, {})


def test_an_object_that_is_to_go_goes_as_a_whole() -> None:
    document: JsonObject = {"a": {"b": {"c": 1}, "d": 2}}
    assert emptying(document, [("a", "b")]) == ({"a": {"b": {}}}, {})
