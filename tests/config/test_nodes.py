"""Bytes to values with positions."""

from __future__ import annotations

import pytest

from reconciler.config.nodes import MAX_BYTES, parse
from reconciler.core.values import JsonValue, MappingNode, locate


def value_of(text: str) -> JsonValue:
    """What `x` is in a file that says `x: text`."""
    documents, diagnostics = parse("f.yaml", f"x: {text}\n".encode())
    assert not diagnostics
    assert isinstance(documents[0], dict)
    return documents[0]["x"]


def errors(data: str | bytes) -> list[tuple[str, str]]:
    """(line:column, summary) of each error in a file."""
    _, diagnostics = parse("f.yaml", data if isinstance(data, bytes) else data.encode())
    return [
        (f"{d.source.line}:{d.source.column}" if d.source else "", d.summary) for d in diagnostics
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-7", -7), ("911", 911), ("1.50", 1.5), ("-0.25", -0.25), ("[]", []), ("{}", {}),
        ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_the_plain_forms_are_values(text: str, value: JsonValue) -> None:
    found = value_of(text)
    assert found == value
    assert isinstance(found, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "yes", "no", "on", "off", "y", "True", "TRUE", "Null", "+15551234567", "0755", "08", "0112",
        "1_000", "0x1F", "0o17", "1e3", "1.", ".5", "12:30:00", "22:30", "2026-01-01", "=", "1.2.3",
        "${var.x}", "--1", "+1",
    ],
)  # fmt: skip
def test_all_else_is_the_string_as_written(text: str) -> None:
    assert value_of(text) == text


@pytest.mark.parametrize("text", ['"911"', "'911'", '"true"', "'null'", '""'])
def test_what_is_quoted_is_a_string(text: str) -> None:
    assert value_of(text) == text[1:-1]


@pytest.mark.parametrize(
    "text", [".nan", ".inf", "-.inf", "+.Inf", "98765432109876543210", "0.12345678901234567890"]
)
def test_what_json_can_not_keep_is_refused_where_it_stands(text: str) -> None:
    assert errors(f"a: 1\nx: {text}\n") == [("2:4", "A number that can't be kept")]


@pytest.mark.parametrize(
    ("text", "place", "summary"),
    [
        ("a: 1\na: 2\n", "2:1", "A key declared twice"),
        ("a: [1, 2\nb: 3\n", "2:2", "Broken YAML"),
        ("a:\n\tb: 1\n", "2:1", "Broken YAML"),
        ("1: a\n", "1:1", "A key that is no string"),
        ("? [a]\n: b\n", "1:3", "A key that is no string"),
        ("a: !!python/object:os.system x\n", "1:4", "A YAML tag"),
        ("a: !custom {}\n", "1:4", "A YAML tag"),
        ("a: *b\n", "1:4", "An unknown alias"),
        ("a: &b [*b]\n", "1:8", "An alias inside what it names"),
        ("a: {<<: 5}\n", "1:9", "A merge key without a mapping"),
        ("a: " + "[" * 70 + "]" * 70, "1:67", "Too deep a nesting"),
        ("a: x\x00y\n", "1:5", "A forbidden character"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, summary: str) -> None:
    assert (place, summary) in errors(text)


@pytest.mark.parametrize(
    ("data", "place", "summary"),
    [
        (b"a: \xff\n", "1:4", "Bytes that are not UTF-8"),
        ("a: 1".encode("utf-16"), "1:1", "An encoding that is not UTF-8"),
        (b" " * (MAX_BYTES + 1), "1:1", "A file that is too large"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, place: str, summary: str) -> None:
    assert errors(data) == [(place, summary)]


def test_a_bomb_of_aliases_ends_at_the_limit() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for n in range(1, 12):
        bomb += f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n"
    assert [summary for _, summary in errors(bomb)] == ["Too many values"]


def test_merge_keys_bring_what_is_not_there() -> None:
    documents, diagnostics = parse(
        "f.yaml", b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 5}, *a]}\n"
    )
    assert not diagnostics
    assert documents == [{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 5, "y": 2}}]


def test_every_value_knows_its_place() -> None:
    documents, _ = parse("f.yaml", b"a:\n  b: [x, {c: 5}]\n---\nd: 1\n")
    first = documents[0]
    assert isinstance(first, MappingNode)
    assert str(locate(first, ("a", "b"))) == "f.yaml:2:6"
    assert str(locate(first, ("a", "b"), key=True)) == "f.yaml:2:3"
    assert str(locate(first, ("a", "b", 1, "c"))) == "f.yaml:2:14"
    assert str(locate(first, ("a", "z"))) == "f.yaml:2:3"
    assert str(locate(documents[1], ("d",))) == "f.yaml:4:4"


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse("f.yaml", b"\xef\xbb\xbfa: 1\n") == ([{"a": 1}], [])
