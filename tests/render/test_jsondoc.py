"""JSON for machines, which people print on terminals all the same."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from reconciler.render.jsondoc import dumps
from reconciler.render.safe import terminal


@given(st.text(st.characters(exclude_categories=[])))
def test_what_is_written_is_read_back_the_same(text: str) -> None:
    assert json.loads(dumps({text: [text]})) == {text: [text]}


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_in_it_is_obeyed_by_a_terminal(text: str) -> None:
    lines = dumps({"name": text}).splitlines()
    assert len(lines) == 3
    assert [terminal(line) for line in lines] == lines


def test_a_character_beyond_the_first_plane_is_a_pair_of_escapes() -> None:
    assert "\\udb40\\udc41" in dumps({"name": "\U000e0041"})
