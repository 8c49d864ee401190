"""One leaf, or one entry, changed in a text: that one, and no byte and no comment elsewhere."""

from __future__ import annotations

import json
import string
from contextlib import suppress
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from reconciler.config.edit import NotEditable, literal, with_entry, with_leaf
from reconciler.config.nodes import masked, parse, text_of
from reconciler.config.write import comments_in
from reconciler.core.values import ABSENT, FieldPath, JsonValue, place, value_at


def after(text: str, path: str, value: Any) -> str:
    return with_leaf("f", dedent(text).encode(), tuple(path.split(".")), value).decode()


def loaded(text: str) -> list[Any]:
    documents, diagnostics = parse("f", text.encode())
    assert not diagnostics, (text, diagnostics)
    return [json.loads(json.dumps(document)) for document in documents]


@pytest.mark.parametrize(
    ("before", "path", "value", "expected"),
    [
        ("{a: {k: {x: 1}}}", "a.k.x", 2, "{a: {k: {x: 2}}}"),
        ("{a: {k: {x: 1}}}", "a.k.w", None, "{a: {k: {x: 1, w: null}}}"),
        ("{a: {k: {x: 1, y: 2}}}", "a.k.x", ABSENT, "{a: {k: {y: 2}}}"),
        ("{a: {k: {x: 1, y: 2}}}", "a.k.y", ABSENT, "{a: {k: {x: 1}}}"),
        ("a:\n  k:\n    x: |\n      b\n\n\n    y: 1\n", "a.k.x", "c", "a:\n  k:\n    x: c\n\n\n    y: 1\n"),
        ("a:\n  k:\n    x: |+\n      b\n\n\n", "a.k.w", 1, "a:\n  k:\n    x: |+\n      b\n\n\n    w: 1\n"),
        ("a:\n  k:\n    x: 1", "a.k.w", 2, "a:\n  k:\n    x: 1\n    w: 2"),
        ("a:\n  k:\n    x:\n    y: 2\n", "a.k.x", 3, "a:\n  k:\n    x: 3\n    y: 2\n"),
        ("a:\r\n  k:\r\n    x: 1\r\n    y: 1\r\n", "a.k.z.q", 2, "a:\r\n  k:\r\n    x: 1\r\n    y: 1\r\n    z:\r\n      q: 2\r\n"),
        ("a:\n  k:\n    x: [1, # one\n      2] # two\n", "a.k.x", [3], "a:\n  k:\n    x: [3] # two\n    # one\n"),
        ("a:\n  k:\n    x: # c\n      - 1\n    y: 1\n", "a.k.x", ABSENT, "a:\n  k:\n    # c\n    y: 1\n"),
        ("a:\n  k:\n    x: &n 1\n    y: 1\n", "a.k.x", 2, "a:\n  k:\n    x: &n 2\n    y: 1\n"),
        ("a:\n  k:\n   s:\n    x: {n: 1}\n    y: 1\n", "a.k.s.x.n", ABSENT, "a:\n  k:\n   s:\n    y: 1\n"),
        ("---\nb: {}\n---\na: {k: {x: 1}}\n...\n", "a.k.x", "on", '---\nb: {}\n---\na: {k: {x: "on"}}\n...\n'),
        ("\ufeffa: {k: {x: 1}}", "a.k.x", 2, "\ufeffa: {k: {x: 2}}"),
        ('a: {k: {x: "\\ud83d\\ude00", y: 1}}', "a.k.y", 2, 'a: {k: {x: "\\ud83d\\ude00", y: 2}}'),
    ],
)  # fmt: skip
def test_an_edit_changes_what_it_should(before: str, path: str, value: Any, expected: str) -> None:
    found = with_leaf("f", before.encode(), tuple(path.split(".")), value)
    assert found == expected.encode()


@pytest.mark.parametrize(
    ("before", "path", "reason"),
    [
        ("a: {k: &s {x: 1}, l: *s}", "a.k.x", "would change, too"),
        ("a: {k: {x: &s 1, y: *s}}", "a.k.x", "used elsewhere"),
        ("a: {k: &s {x: {z: 1}}, l: *s}", "a.l.x.z", "as a whole from *s"),
        ("a: {s: &s {x: {y: 1, z: 1}}, k: {<<: *s}}", "a.k.x.z", "would change, too"),
        ("a: {k: {x: [1]}}", "a.k.x.y", "is no mapping"),
        ("a: {k: {x: 1}}", "a.l.x", "not written out"),
    ],
)
def test_what_can_t_be_changed_alone_is_left_alone(before: str, path: str, reason: str) -> None:
    with pytest.raises(NotEditable, match=reason.replace("*", r"\*")):
        after(before, path, 5)


def test_an_entry_goes_behind_the_others_whatever_the_style() -> None:
    entry: dict[str, JsonValue] = {"path": "x", "reason": "r: r"}
    for before, expected in (
        ("version: 1\n", 'version: 1\ndrift:\n  accept:\n    - path: x\n      reason: "r: r"\n'),
        ("version: 1\ndrift: {}\n", 'version: 1\ndrift: {accept: [{path: x, reason: "r: r"}]}\n'),
        (
            "version: 1\ndrift:\n  accept: # all\n  - {path: y, reason: r} # one\n  # end\naccounts: {}\n",
            'version: 1\ndrift:\n  accept: # all\n  - {path: y, reason: r} # one\n  - path: x\n    reason: "r: r"\n  # end\naccounts: {}\n',
        ),
    ):
        assert with_entry("f", before.encode(), ("drift", "accept"), entry).decode() == expected


TEXTS = st.one_of(
    st.sampled_from(
        ["yes", "911", "on", "~", "null", "", " a ", "a: b", "# no", "${var.x}", "a\nb", "\u202e", "- a",
         "{", "1.5", "'", '"', "\\", "é", "😀", "\u2028", "\x07", "\x85", "\ufeff", "a #b", "*a", "&a", "!t",
         "0x1F", "1e3", "2026-01-01", "=", "<<", "%", "@", "`", "?", "? a", "[a", "a]", "a,b"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


@given(VALUES)
def test_a_literal_loads_as_exactly_the_value(value: JsonValue) -> None:
    text = f"a: {{k: {literal(value)}}}"
    assert "\n" not in text
    (document,) = loaded(text)
    assert json.dumps(document["a"]["k"], sort_keys=True) == json.dumps(value, sort_keys=True)


# --- any document ------------------------------------------------------------------------------

NAMES = st.sampled_from(["x", "y", "zz", "key one", "^1", "yes"])
LEAVES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
TREES = st.recursive(
    LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=8
)


class _Writer:
    """Writes a document in any style, with a comment wherever there may be one."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.count = 0

    def comment(self) -> str:
        if not self.draw(st.booleans()):
            return ""
        self.count += 1
        return f"  # comment {self.count}: {self.draw(st.sampled_from(string.punctuation))}"

    def own(self, indent: int) -> str:
        comment = self.comment()
        blank = "\n" if self.draw(st.integers(0, 5)) == 0 else ""
        return f"{blank}{' ' * indent}{comment.strip()}\n" if comment else blank

    def value(self, value: Any, indent: int) -> str:
        """What stands behind a key, with the end of the line."""
        block = self.draw(st.booleans())
        if isinstance(value, dict) and value and block:
            return f"{self.comment()}\n{self.mapping(value, indent + self.draw(st.sampled_from([1, 2, 4])))}"
        if isinstance(value, list) and value and block:
            return f"{self.comment()}\n{self.sequence(value, indent + self.draw(st.sampled_from([0, 2])))}"
        if isinstance(value, str) and _is_literal(value) and self.draw(st.booleans()):
            lines = value.removesuffix("\n").split("\n")
            chomp = "" if value.endswith("\n") else "-"
            body = "".join(f"{' ' * (indent + 2)}{line}\n" for line in lines)
            return f" |{chomp}{self.comment()}\n{body}"
        if isinstance(value, list) and value and self.draw(st.booleans()):
            inner = "".join(f"\n{' ' * (indent + 2)}{self.flow(v)},{self.comment()}" for v in value)
            return f" [{inner}\n{' ' * (indent + 1)}]{self.comment()}\n"
        return f" {self.flow(value)}{self.comment()}\n"

    def flow(self, value: Any) -> str:
        style = self.draw(st.integers(0, 2))
        if isinstance(value, str) and style == 0 and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
        return literal(value, quoted=style == 1)

    def mapping(self, value: dict[str, Any], indent: int) -> str:
        return "".join(
            f"{self.own(indent)}{' ' * indent}{literal(key)}:{self.value(inner, indent)}"
            for key, inner in value.items()
        )

    def sequence(self, value: list[Any], indent: int) -> str:
        return "".join(
            f"{self.own(indent)}{' ' * indent}- {self.flow(item)}{self.comment()}\n"
            for item in value
        )


def _is_literal(text: str) -> bool:
    lines = text.removesuffix("\n").split("\n")
    plain = all(line and line.isprintable() and line[0] != " " for line in lines)
    return (plain and text.isprintable()) or (plain and "\n" in text and not text.endswith("\n\n"))


@st.composite
def documents(draw: Any) -> tuple[str, dict[str, Any]]:
    accounts = draw(st.dictionaries(st.sampled_from("abc"), st.dictionaries(NAMES, TREES, min_size=1, max_size=3), min_size=1, max_size=3))  # fmt: skip
    document = {"accounts": {key: {"settings": block} for key, block in accounts.items()}}
    return _Writer(draw).mapping(document, 0), document


def paths(tree: Any, prefix: FieldPath) -> list[FieldPath]:
    if isinstance(tree, dict) and tree:
        return [path for name, inner in tree.items() for path in paths(inner, (*prefix, name))]
    return [prefix]


@settings(max_examples=150, deadline=None)
@given(documents(), st.data())
def test_an_edit_changes_one_leaf_and_keeps_every_comment(
    written: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    text, document = written
    assert loaded(text) == [document]
    key = data.draw(st.sampled_from(sorted(document["accounts"])))
    tree = document["accounts"][key]["settings"]
    path = data.draw(st.sampled_from(paths(tree, ("accounts", key, "settings"))))
    if data.draw(st.booleans()):
        path = (*path[:-1], "new", *data.draw(st.sampled_from([(), ("deeper",)])))
    value = data.draw(st.one_of(st.just(ABSENT), VALUES))
    missing = value_at(document, path) is ABSENT
    assume(len(path) > 3 and not (missing and value is ABSENT))
    try:
        found = with_leaf("f", text.encode(), path, value).decode()
    except NotEditable as error:
        event("refused")
        # Of what has brackets a comment can't always be kept, so it stays as it is.
        assert "comment" in str(error)  # noqa: PT017
        return
    if value is ABSENT:
        now = loaded(found)[0]
        assert value_at(now, path) is ABSENT
        expected = [p for p in paths(document, ()) if p != path]
        assert [p for p in paths(now, ()) if value_at(now, p) != {}] == [
            p for p in expected if value_at(document, p) != {}
        ]
        assert all(value_at(now, p) == value_at(document, p) for p in expected)
    else:
        place(document, path, json.loads(json.dumps(value)))
        assert json.dumps(loaded(found), sort_keys=True) == json.dumps([document], sort_keys=True)
    assert comments_in(masked(text_of("f", found.encode()))) == comments_in(masked(text))


@example("a")
@given(st.text(max_size=3))
def test_no_text_makes_an_edit_fail_otherwise_than_by_saying_so(text: str) -> None:
    with suppress(NotEditable):
        with_leaf("f", text.encode("utf-8", "surrogatepass"), ("accounts", "a", "x"), 1)
