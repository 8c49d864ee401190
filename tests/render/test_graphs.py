"""Graphs have an edge for each parent and each wait, and no label says more than it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.graph import Action, Operation
from reconciler.render.graphs import Graph, Node, document, dot, mermaid, of_operations
from reconciler.render.safe import terminal

from .plans import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable

labels = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=4), max_size=3).map("".join)
MERMAID = re.compile(r'flowchart LR\n  n0\["([^"]*)"\]\n  n1\[\["([^"]*)"\]\]\n  n0 --> n1\n')
DOT = re.compile(
    r'digraph reconciler \{\n  rankdir=LR;\n  node \[shape=box\];\n  "a" \[label="((?:[^"\\\n]|\\.)*)"\];\n'
    r'  "b" \[label="((?:[^"\\\n]|\\.)*)", peripheries=2\];\n  "a" -> "b";\n\}\n'
)


def two(first: str, second: str) -> Graph:
    return Graph((Node("a", first, "account"), Node("b", second, "reseller")), (("a", "b"),))


def shown(write: Callable[[Graph], str], form: re.Pattern[str], *texts: str) -> tuple[str, ...]:
    """The labels of a graph of two, which must be nothing else but that."""
    match = form.fullmatch(write(two(*texts)))
    assert match is not None
    return match.groups()


@given(labels, labels)
def test_a_label_of_mermaid_is_the_text_and_nothing_else(first: str, second: str) -> None:
    for label, text in zip(shown(mermaid, MERMAID, first, second), (first, second), strict=True):
        assert not re.search(r"[^\w .,()#;-]", label, re.ASCII) or not label.isascii()
        codes = re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label)
        assert codes == terminal(text)


@given(labels, labels)
def test_a_label_of_dot_is_the_text_and_nothing_else(first: str, second: str) -> None:
    for label, text in zip(shown(dot, DOT, first, second), (first, second), strict=True):
        assert re.sub(r"\\(.)", r"\1", label).replace("&amp;", "&") == terminal(text)
        assert not re.search("&(?!amp;)", label)


def test_an_edge_leads_to_what_waits() -> None:
    operations = [
        Operation(1, "a", "a", Action.DEMOTE, "DELETE", "/a", None, (), temporary=True),
        Operation(2, "b", "b", Action.MOVE, "POST", "/b", None, (1,)),
    ]
    graph = of_operations(operations)
    assert mermaid(graph) == (
        'flowchart LR\n  n0["1 demote accounts.a (temporary)"]\n  n1["2 move accounts.b"]\n  n0 --> n1\n'
    )
    assert document(graph)["edges"] == [{"from": "1", "to": "2"}]


def test_a_label_is_cut() -> None:
    assert len(mermaid(two("x" * 5000, "y"))) < 300
