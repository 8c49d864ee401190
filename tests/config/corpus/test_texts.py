"""Tricky and hostile YAML, each with its verdict: the exact value, or one error and its place.

What the web's lists of such files have: YAML 1.1 against 1.2, duplicate keys, anchors, tags, tabs,
encodings, characters that can't be seen, broken syntax, JSON. A wrong text must be one clear error
where it can be mended; a right one must mean exactly what is written.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING

import pytest

from reconciler.cli import main
from reconciler.config.nodes import MAX_BYTES, parse
from reconciler.core.values import JsonValue, MappingNode, locate

if TYPE_CHECKING:
    from pathlib import Path


def documents(text: str | bytes) -> list[JsonValue]:
    """What a file of this content says."""
    found, diagnostics = parse("f.yaml", text if isinstance(text, bytes) else text.encode())
    assert diagnostics == []
    return found


def errors(text: str | bytes) -> list[str]:
    """`line:column summary` of each thing that is wrong with it."""
    _, diagnostics = parse("f.yaml", text if isinstance(text, bytes) else text.encode())
    return [f"{d.source.line}:{d.source.column} {d.summary}" for d in diagnostics if d.source]


def exactly(value: object) -> str:
    """The value in a form that tells 1, 1.0 and true, 0.0 and -0.0 apart."""
    return json.dumps(value)


# --- scalars -----------------------------------------------------------------------------------

PLAIN: list[tuple[str, JsonValue]] = [
    ("true", True), ("false", False), ("null", None), ("~", None), ("", None), ("# nothing", None),
    ("0", 0), ("-0", 0), ("7", 7), ("-7", -7), ("10", 10), ("911", 911), ("15551234567", 15551234567),
    ("9007199254740993", 9007199254740993), ("9223372036854775807", 2**63 - 1),
    ("-9223372036854775808", -(2**63)),
    ("0.0", 0.0), ("-0.0", -0.0), ("1.0", 1.0), ("1.50", 1.5), ("1.10", 1.1), ("-1.5", -1.5), ("0.1", 0.1),
    ("00.5", 0.5), ("01.5", 1.5), ("0.30000000000000004", 0.30000000000000004), ("0.0000001", 1e-07),
    ("100000000000000000000.0", 1e20), ("9007199254740992.0", 9007199254740992.0),
]  # fmt: skip

TEXTS = [
    "True", "TRUE", "False", "FALSE", "yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off",
    "OFF", "y", "Y", "n", "N", "t", "f", "Null", "NULL", "nil", "none", "None", "undefined", "~x", "-~",
    "+1", "+0", "+15551234567", "--1", "-", "+", "00", "-00", "01", "07", "08", "09", "0112", "-08",
    "0o17", "0O17", "0b101", "-0b1", "0x1F", "0X1F", "-0x1f", "1_000", "1_0.5", "0_1", "1,000", "1 000",
    "1.", ".5", "-.5", "+.5", "+1.5", "1.2.3", ".", "..", "-.", "1.e3", "1e3", "1E+3", "1e-3", "1.5e3",
    "1e400", "6.8523015e+5", "190:20:30", "190:20:30.15", "22:30", "1:2", "-1:30",
    "2001-12-14", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "2002-1-1", "2026-01",
    "inf", "nan", "NaN", "Infinity", "-Infinity", "-.nan", "+.nan", ".Nan", ".iNF", ".infinity",
    "=", "<", "<<", "!", "::x", ":x", "-x", "?x", "a:b", "http://x:80/", "a#b", "x'", 'x"', "it's",
    "a b  c", "${var.x}", "$x", "%x"[1:] + "%", "(a)", "a, b", "a]", "a}", "a[0]", "a{}", "*"[1:] + "a*b",
    "\u0663", "\uff11\uff12", "-\u0663", "1\u0663", "1.\u0663", "\u2212" + "1", "1\u00a0000", "½",
    "caf\u00e9", "日本", "\U0001f600", "x\u200dy", "\ue000", "\U0010ffff",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), PLAIN)
def test_the_plain_forms_are_values_and_keep_their_types(text: str, value: JsonValue) -> None:
    for written in (f"x: {text}\n", f"x:   {text}   \n", f"x: {text} # said\n", f"x:\n  {text}\n"):
        assert exactly(documents(written)) == exactly([{"x": value}])
    if text and "#" not in text:
        assert exactly(documents(f"[{text}, {text} ]")) == exactly([[value, value]])
        assert exactly(documents(f"x: '{text}'\n")) == exactly([{"x": text}])


@pytest.mark.parametrize("text", [text for text in TEXTS if text not in ("-", "!")])
def test_all_else_is_the_text_as_it_is_written_as_a_value_and_as_a_key(text: str) -> None:
    assert exactly(documents(f"x: {text}\n")) == exactly([{"x": text}])
    assert exactly(documents(f"x: {text} # said\n")) == exactly([{"x": text}])
    if text != "<<" and not text.startswith((":", "?")):
        assert exactly(documents(f"{text}: x\n")) == exactly([{text: "x"}])


@pytest.mark.parametrize(
    "text",
    [
        ".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", "+.inf", "+.Inf", "+.INF", ".nan", ".NaN", ".NAN",
        "9223372036854775808", "-9223372036854775809", "12345678901234567890", "99999999999999999999",
        "1" * 400, "-" + "9" * 900, "3.141592653589793238", "0.1000000000000000055511151231257827",
        "123456789.123456789", "9007199254740993.0", "0." + "0" * 400 + "1", "1" * 400 + ".0", "-0.99999999999999999999",
    ],
)  # fmt: skip
def test_a_number_that_can_not_be_kept_is_refused_wherever_it_stands(text: str) -> None:
    assert errors(f"a: 1\nx: {text}\n") == ["2:4 A number that can't be kept"]
    assert errors(f"x: [1, {text}]\n") == ["1:8 A number that can't be kept"]
    assert errors(f"x: 1\n{text}: 1\n") == ["2:1 A key that is no string"]
    assert documents(f"x: '{text}'\n") == [{"x": text}]


@pytest.mark.parametrize("text", [text for text, _ in PLAIN if text and "#" not in text])
def test_a_key_that_would_be_no_string_is_to_be_quoted(text: str) -> None:
    assert errors(f"a: 1\n{text}: x\n") == ["2:1 A key that is no string"]
    assert errors(f"x: {{{text}: 1}}\n") == ["1:5 A key that is no string"]
    assert documents(f'"{text}": x\n') == [{text: "x"}]


QUOTED: list[tuple[str, str]] = [
    ('"911"', "911"), ("'true'", "true"), ('""', ""), ("''", ""), ("'~'", "~"), ('"1.0"', "1.0"),
    ("'it''s'", "it's"), ("''''", "'"), ("'\"'", '"'), (r"'a\n'", r"a\n"), ("'a\"b'", 'a"b'), ("' a '", " a "),
    (r'"\""', '"'), (r'"\\"', "\\"), (r'"\/"', "/"), ('"\'"', "'"), ('"#x"', "#x"), ('"a: b"', "a: b"),
    (r'"\a\b\t\n\v\f\r\e"', "\a\b\t\n\v\f\r\x1b"), (r'"\N\_\L\P"', "\x85\xa0\u2028\u2029"), (r'"\ "', " "),
    (r'"\x41\u0042\U00000043"', "ABC"), (r'"\x7f\x9b"', "\x7f\x9b"), (r'"\u202e"', "\u202e"),
    (r'"\ufeff\uffff\ufffe"', "\ufeff\uffff\ufffe"), (r'"\U0001F600"', "\U0001f600"),
    (r'"\ud83d\ude00"', "\U0001f600"), (r'"\uD83D\uDE00!"', "\U0001f600!"), (r'"\udbff\udfff"', "\U0010ffff"),
    (r'"\\ud83d\\ude00"', r"\ud83d\ude00"), (r"'\ud83d\ude00'", r"\ud83d\ude00"), (r"\ud83d\uDe00", r"\ud83d\uDe00"),
    (r'"\\0\\x00\\u0000"', r"\0\x00\u0000"), (r"'\0'", r"\0"), (r"\x00", r"\x00"),
    ('"a\n  b"', "a b"), ('"a\n\n  b"', "a\nb"), ('"a \\\n  b"', "a b"), ('"a\\\n  \\ b"', "a b"), ("'a\n\n\n  b'", "a\n\nb"),
    ('"a\tb"', "a\tb"), ('"a\n\tb"', "a b"), ('"  a  \n  b  "', "  a b  "), ('"a\n  --- \n  b"', "a --- b"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), QUOTED)
def test_what_is_quoted_is_a_string_with_the_escapes_of_its_quotes(text: str, value: str) -> None:
    assert documents(f"x: {text}\n") == [{"x": value}]


SEVERAL_LINES: list[tuple[str, JsonValue]] = [
    ("a: x\n  y\n  z\n", "x y z"), ("a: x\n\n  y\n", "x\ny"), ("a: x\n\n\n  y\n", "x\n\ny"), ("a: 1\n  2\n", "1 2"),
    ("a:\n  true\n", True), ("a: true\n  false\n", "true false"), ("a: x\n  # y\n", "x"), ("a: x\n  - y\n", "x - y"),
    ("a: |\n  x\n  y\n", "x\ny\n"), ("a: |-\n  x\n  y\n", "x\ny"), ("a: |+\n  x\n\n", "x\n\n"), ("a: |\n  x\n\n\n", "x\n"),
    ("a: >\n  x\n  y\n", "x y\n"), ("a: >-\n  x\n  y\n", "x y"), ("a: >+\n  x\n\n", "x\n\n"), ("a: >\n  x\n\n  y\n", "x\ny\n"),
    ("a: >\n  x\n   y\n  z\n", "x\n y\nz\n"), ("a: |2\n   x\n", " x\n"), ("a: |1-\n  x\n", " x"), ("a: |-1\n  x\n", " x"),
    ("a: | # said\n  x # not said\n", "x # not said\n"), ("a: |\n  # x\n", "# x\n"), ("a: |\n\n  x\n", "\nx\n"),
    ("a: |\n  x  \n", "x  \n"), ("a: |\n  x\ty\n", "x\ty\n"), ("a: |\n  ---\n  x\n", "---\nx\n"), ("a: |\n  x", "x"), ("a: |\n", ""),
    ("a: |+\n\n", "\n"), ("a: |\n  911\n", "911\n"), ("a: >-\n  911\n", "911"), ("a: |\n  true\n", "true\n"),
    ("a: |\r\n  x\r\n  y\r\n", "x\ny\n"), ("a: |\r  x\r", "x\n"), ("a: |\n  ${var.x}: 'y'\n", "${var.x}: 'y'\n"),
    ("a: |\n  \\ud83d\\ude00\n", "\\ud83d\\ude00\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SEVERAL_LINES)
def test_text_of_several_lines_is_folded_or_kept_as_yaml_says(text: str, value: JsonValue) -> None:
    assert exactly(documents(text)) == exactly([{"a": value}])


# --- structure ---------------------------------------------------------------------------------

RIGHT: list[tuple[str, list[JsonValue]]] = [
    # flow, JSON
    ("{a: 1, b: [x, {c: d}], e: {}}", [{"a": 1, "b": ["x", {"c": "d"}], "e": {}}]), ("x: {a, b}\n", [{"x": {"a": None, "b": None}}]),
    ("x: [a, b: c]\n", [{"x": ["a", {"b": "c"}]}]), ("x: {a: }\n", [{"x": {"a": None}}]), ("x: [a, ]\n", [{"x": ["a"]}]),
    ("x: {a:1}\n", [{"x": {"a:1": None}}]), ("x: [a:1]\n", [{"x": ["a:1"]}]), ('x: ["a":1]\n', [{"x": [{"a": 1}]}]),
    ("x: [? a : b]\n", [{"x": [{"a": "b"}]}]), ("x: [a?, b?c, '?d', \"?e\"]\ny: ?f\n?g: 1\n", [{"x": ["a?", "b?c", "?d", "?e"], "y": "?f", "?g": 1}]), ("x: [1,\t2,\n\t3]\n", [{"x": [1, 2, 3]}]), ("x: [1, # said\n 2]\n", [{"x": [1, 2]}]),
    ('{"a":1,"b":[true,null,"x"],"c":{"d":-1.5}}', [{"a": 1, "b": [True, None, "x"], "c": {"d": -1.5}}]),
    ('{\n\t"a":\t1\n}', [{"a": 1}]), ('{"a": 1e3, "b": NaN, "c": -Infinity}', [{"a": "1e3", "b": "NaN", "c": "-Infinity"}]),
    (r'{"a": "x\/y\u00e9\ud83d\ude00"}', [{"a": "x/y\xe9\U0001f600"}]), ('{"a": 1,}', [{"a": 1}]), ("{'a': 1}", [{"a": 1}]),
    # block
    ("a:\n- b\n- c\n", [{"a": ["b", "c"]}]), ("a:\n- b: 1\n  c: 2\n- d\n", [{"a": [{"b": 1, "c": 2}, "d"]}]), ("- - 1\n  - 2\n- 3\n", [[[1, 2], 3]]),
    ("a   : 1\n", [{"a": 1}]), ("a\t: 1\n", [{"a": 1}]), ("a:\t1\t# said\n", [{"a": 1}]), ("? a\n: 1\n", [{"a": 1}]), ("? a\n? b\n", [{"a": None, "b": None}]),
    ("? |\n  a\n: 1\n", [{"a\n": 1}]), ("a:\n  b:\n    c:\n", [{"a": {"b": {"c": None}}}]), ("#!/usr/bin/env x\na: 1\n", [{"a": 1}]), ("k" * 1024 + ": 1\n", [{"k" * 1024: 1}]),
    ("a: &x\nb: *x\n", [{"a": None, "b": None}]), ("yes: 1\nno: 2\non: 3\n", [{"yes": 1, "no": 2, "on": 3}]), ('"<<": {a: 1}\n', [{"<<": {"a": 1}}]),
    # anchors and merging
    ("a: &x 1\nb: &x 2\nc: *x\n", [{"a": 1, "b": 2, "c": 2}]), ("a: &x {b: &x 1, c: *x}\nd: *x\n", [{"a": {"b": 1, "c": 1}, "d": {"b": 1, "c": 1}}]),
    ("&r {a: &x [1], b: *x}\n", [{"a": [1], "b": [1]}]), ("a: &x {k: 1}\nb: {<<: *x, k: 2}\n", [{"a": {"k": 1}, "b": {"k": 2}}]),
    ("a: &x {k: 1}\nb: {k: 2, <<: *x}\n", [{"a": {"k": 1}, "b": {"k": 2}}]), ("b: {<<: [{k: 1}, {k: 2, l: 3}]}\n", [{"b": {"k": 1, "l": 3}}]),
    ("a: &a {p: {x: 1}}\nb: {<<: *a, p: {y: 2}}\n", [{"a": {"p": {"x": 1}}, "b": {"p": {"y": 2}}}]), ("b: {<<: {}}\n", [{"b": {}}]),
    ("a: &a {p: 1}\nb: &b {<<: *a, q: 2}\nc: {<<: *b}\n", [{"a": {"p": 1}, "b": {"q": 2, "p": 1}, "c": {"q": 2, "p": 1}}]),
    # documents
    ("a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}]), ("---\na: 1\n...\n---\nb: 2\n...\n", [{"a": 1}, {"b": 2}]), ("--- {a: 1}\n--- [b]\n", [{"a": 1}, ["b"]]),
    ("%YAML 1.2\n---\na: yes\n", [{"a": "yes"}]), ("%YAML 1.1\n---\na: yes\n", [{"a": "yes"}]), ("%TAG ! tag:x,2000:\n---\na: 1\n", [{"a": 1}]), ("--- # said\na: 1\n", [{"a": 1}]),
    ("", []), ("\n\n", []), ("# said\n", []), ("   \n", []), ("\ufeff", []), ("\ufeff# said\n", []),
    # lines and marks
    ("a: 1\r\nb: 2\r\n", [{"a": 1, "b": 2}]), ("a: 1\rb: 2\r", [{"a": 1, "b": 2}]), ("a: 1\r\nb: 2\nc: 3\rd: 4", [{"a": 1, "b": 2, "c": 3, "d": 4}]),
    ("\ufeffa: 1\n", [{"a": 1}]), ("\ufeff---\na: 1\n", [{"a": 1}]), ("a: x\xa0y\n", [{"a": "x\xa0y"}]), ("a: x\u3000y\n", [{"a": "x\u3000y"}]),
    ("a: \U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f\n", [{"a": "\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f"}]), ("a: \u05d0\u05d1\u05d2\n", [{"a": "\u05d0\u05d1\u05d2"}]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), RIGHT)
def test_a_right_text_means_what_is_written(text: str, value: list[JsonValue]) -> None:
    assert exactly(documents(text)) == exactly(value)


TWICE, BROKEN, TAG, ALIAS = "A key declared twice", "Broken YAML", "A YAML tag", "An unknown alias"
ITSELF, MERGE, KEY = (
    "An alias inside what it names",
    "A merge key without a mapping",
    "A key that is no string",
)
EMPTY, NUMBER, CHARACTER = (
    "A document without content",
    "A number that can't be kept",
    "A forbidden character",
)
MARK = "A question mark in brackets"

WRONG: list[tuple[str, str]] = [
    # keys declared twice
    ("a: 1\nb: 2\na: 3\n", f"3:1 {TWICE}"), ("a:\n  b: 1\n  c: 1\n  b: 2\n", f"4:3 {TWICE}"), ("x: {a: 1, a: 2}\n", f"1:11 {TWICE}"), ('a: 1\n"a": 2\n', f"2:1 {TWICE}"),
    ("'a': 1\na: 2\n", f"2:1 {TWICE}"), ('"\\x61": 1\na: 2\n', f"2:1 {TWICE}"), ("? a\n: 1\n? a\n: 2\n", f"3:3 {TWICE}"), ('{"a":1,\n "b":{"c":1,"c":2}}', f"2:13 {TWICE}"),
    ("a: 1\r\nb: 1\r\na: 2\r\n", f"3:1 {TWICE}"), ("a: 1\ra: 2\r", f"2:1 {TWICE}"), ("- {a: 1}\n- {a: 1, a: 1}\n", f"2:10 {TWICE}"), ("a: 1\n---\nb: 1\nb: 1\n", f"4:1 {TWICE}"),
    ("x: &x {k: 1}\ny:\n  <<: *x\n  k: 2\n  k: 3\n", f"5:3 {TWICE}"), ("x: &x {k: 1}\ny:\n  <<: *x\n  <<: *x\n", f"4:3 {TWICE}"), ("\xe9: 1\ne\u0301: 1\n\xe9: 2\n", f"3:1 {TWICE}"),
    # keys that are no strings
    ("1: a\n", f"1:1 {KEY}"), ("a: {1: b}\n", f"1:5 {KEY}"), ("? 1\n: a\n", f"1:3 {KEY}"), ("? [a]\n: b\n", f"1:3 {KEY}"), ("[a]: b\n", f"1:1 {KEY}"), ("{a: b}: c\n", f"1:1 {KEY}"),
    ("? {a: b}\n: c\n", f"1:3 {KEY}"), ("a: &x k\n*x : 1\n", f"2:1 {KEY}"), ("?\n", f"1:2 {KEY}"), ("x: {?}\n", f"1:6 {KEY}"), ("? - a\n: b\n", f"1:3 {KEY}"), ("? ? a\n  : b\n: c\n", f"1:3 {KEY}"),
    ("? " + "k" * 1025 + "\n: 1\n", "1:3 A key that is too long"), ("x:\n  ? |\n   " + "k" * 2000 + "\n  : 1\n", "2:5 A key that is too long"),
    # anchors
    ("a: *x\n", f"1:4 {ALIAS}"), ("a: *x\nb: &x 1\n", f"1:4 {ALIAS}"), ("a: &x 1\n---\nb: *x\n", f"3:4 {ALIAS}"), ("a: [&x 1, *y]\n", f"1:11 {ALIAS}"), ("*a\n", f"1:1 {ALIAS}"),
    ("a: &x [*x]\n", f"1:8 {ITSELF}"), ("a: &x {b: *x}\n", f"1:11 {ITSELF}"), ("a: &x\n  b:\n    c: [1, *x]\n", f"3:12 {ITSELF}"), ("&r {a: *r}\n", f"1:8 {ITSELF}"), ("o: &x 1\np: &x [*x]\n", f"2:8 {ITSELF}"),
    ("a: &x {<<: *x}\n", f"1:12 {ITSELF}"), ("a: &a\n  b:\n    <<: *a\n", f"3:9 {ITSELF}"), ("a: &x &y 1\n", f"1:7 {BROKEN}"), ("a: & 1\n", f"1:5 {BROKEN}"), ("a: &x 1\nb: &y *x\n", f"2:7 {BROKEN}"),
    # merging
    ("y: {<<: x}\n", f"1:9 {MERGE}"), ("y: {<<: 5}\n", f"1:9 {MERGE}"), ("y: {<<: null}\n", f"1:9 {MERGE}"), ("y:\n  <<:\n", f"2:6 {MERGE}"), ("y: {<<: [1]}\n", f"1:9 {MERGE}"),
    ("x: &x {k: 1}\ny: {<<: [[*x]]}\n", f"2:9 {MERGE}"), ("x: &x [1]\ny: {<<: *x}\n", f"2:9 {MERGE}"), ("y: {<<: *x}\n", f"1:9 {ALIAS}"),
    # tags and directives
    *[(f"x: 1\na: {tag}\n", f"2:4 {TAG}") for tag in (
        "!!python/object:os.system x", "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]",
        "!!timestamp 2001-01-01", "!!float 1", "!!int '1'", "!!str 1", "!!bool yes", "!!null ''", "!!map {}", "!!seq []", "!x 1", "!x {}", "!<tag:yaml.org,2002:str> x", "!<!x> y", "! 1", "!ruby/object:X {}",
        "!include x", "!vault x", "!env HOME",
    )],
    ("!!str a: 1\n", f"1:1 {TAG}"), ("[!!str a]\n", f"1:2 {TAG}"), ("%TAG !e! tag:x,2000:\n---\na: !e!b 1\n", f"3:4 {TAG}"), ("a: !e!b 1\n", f"1:4 {BROKEN}"), ("a: !!\n", f"1:6 {BROKEN}"),
    ("%YAML 2.0\n---\na: 1\n", f"1:1 {BROKEN}"), ("%YAML 1.1\n%YAML 1.1\n---\na: 1\n", f"2:1 {BROKEN}"), ("%YAML x\n---\na: 1\n", f"1:7 {BROKEN}"), ("%FOO x\n---\na: 1\n", f"1:5 {BROKEN}"),
    ("%YAML 1.2\na: 1\n", f"2:1 {BROKEN}"), ("%TAG ! a:\n%TAG ! b:\n---\na: 1\n", f"2:1 {BROKEN}"), ("".join(f"%TAG !{n}! x:\n" for n in range(99)) + "---\n", "65:1 Too many directives"),
    # documents
    ("---\n", f"1:1 {EMPTY}"), ("# said\n--- # more\n", f"2:1 {EMPTY}"), ("a: 1\n---\n", f"2:1 {EMPTY}"), ("---\n---\na: 1\n", f"1:1 {EMPTY}"), ("null\n", f"1:1 {EMPTY}"), ("~\n", f"1:1 {EMPTY}"), ("\n\nhello\n", f"3:1 {EMPTY}"),
    ("911\n", f"1:1 {EMPTY}"), ('"x"\n', f"1:1 {EMPTY}"), ("key:value\n", f"1:1 {EMPTY}"), ("--- |\n  x\n", f"1:5 {EMPTY}"), ("accounts\n", f"1:1 {EMPTY}"), ("a:\xa01\n", f"1:1 {EMPTY}"), ("a\uff1a 1\n", f"1:1 {EMPTY}"),
    ("--- a: 1\n", f"1:6 {BROKEN}"), ("a: 1\n...\nb: 2\n", f"3:1 {BROKEN}"), ("a: 1\n... x\n", f"2:5 {BROKEN}"), ("...\n", f"1:1 {BROKEN}"), ('a: "x\n---\ny"\n', f"2:1 {BROKEN}"), ("a: 'x\n...\n'\n", f"2:1 {BROKEN}"), ("a: [1,\n---\n2]\n", f"2:1 {BROKEN}"),
    # tabs
    ("a:\n\tb: 1\n", f"2:1 {BROKEN}"), ("a:\n  b: 1\n\tc: 1\n", f"3:1 {BROKEN}"), ("\ta: 1\n", f"1:1 {BROKEN}"), ("a:\n  \tb: 1\n", f"2:3 {BROKEN}"), ("a:\n-\tb: 1\n", f"2:2 {BROKEN}"), ("a: b\n\tc\n", f"2:1 {BROKEN}"),
    ("a: |\n\tx\n", f"2:1 {BROKEN}"), ("a: |\n  x\n\ty\n", f"3:1 {BROKEN}"), ("?\ta\n:\t1\n", f"1:2 {BROKEN}"), ("\t\n", f"1:1 {BROKEN}"),
    # indentation
    ("a:\n  b: 1\n c: 2\n", f"3:2 {BROKEN}"), ("a:\n  b: 1\n    c: 2\n", f"3:6 {BROKEN}"), (" a: 1\nb: 2\n", f"2:1 {BROKEN}"), ("a: 1\n  b: 2\n", f"2:4 {BROKEN}"), ("a:\n  - b\n - c\n", f"3:2 {BROKEN}"), ("a:\n  - b\n  c: 1\n", f"3:3 {BROKEN}"),
    ("- a\nb: 1\n", f"2:1 {BROKEN}"), ("a: 1\n- b\n", f"2:1 {BROKEN}"), ("a: - b\n", f"1:4 {BROKEN}"), ("a:\n  b\n  c: 1\n", f"3:4 {BROKEN}"), ("a: |\n    x\n  y\n", f"3:3 {BROKEN}"), ("a: |\n     \n  x\n", f"3:3 {BROKEN}"), ("a: |\nx\n", f"2:1 {BROKEN}"),
    # quotes and brackets
    ('a: "x\nb: 1\nc: 2\n', f"1:4 {BROKEN}"), ("a: 1\nb: 'x\n", f"2:4 {BROKEN}"), ('a: 1\nb: "x', f"2:4 {BROKEN}"), ("a: 'it's'\n", f"1:8 {BROKEN}"), ('a: "x" y\n', f"1:8 {BROKEN}"), ("a: 'x' y\n", f"1:8 {BROKEN}"), ('a: "x\nb: "y"\n', f"2:5 {BROKEN}"),
    ("a: [x\nb: 1\n", f"2:2 {BROKEN}"), ("a: {x: 1\nb: 2\nc: 3\n", f"2:2 {BROKEN}"), ("a: 1\nb: [x,\n  y,\n", f"2:4 {BROKEN}"), ("a: 1\nb: {x: 1,\n  y: 2\n", f"2:4 {BROKEN}"), ("a: [[1, 2], [3\n\n# end\n", f"1:13 {BROKEN}"),
    ('{"a":', f"1:1 {BROKEN}"), ('{"a"', f"1:1 {BROKEN}"), ('{"a": {"b": 1', f"1:7 {BROKEN}"), ("[", f"1:1 {BROKEN}"), ("{", f"1:1 {BROKEN}"), ("a: ]\n", f"1:4 {BROKEN}"), ("a: {b: 1}}\n", f"1:10 {BROKEN}"), ("a: [1]]\n", f"1:7 {BROKEN}"), ("a: [}\n", f"1:5 {BROKEN}"),
    ("a: {]\n", f"1:5 {BROKEN}"), ("a: [1,,2]\n", f"1:7 {BROKEN}"), ("a: [,]\n", f"1:5 {BROKEN}"), ("a: {,}\n", f"1:5 {BROKEN}"), ("a: {b: ${var.x}}\n", f"1:9 {BROKEN}"), ("a: [x] y\n", f"1:8 {BROKEN}"), ('{"a": 1 "b": 2}', f"1:12 {BROKEN}"), ('{"a" 1}', f"1:6 {BROKEN}"),
    ('{"a": 1}{"b": 2}', f"1:9 {BROKEN}"), ('{"a": 1}\n{"b": 2}\n', f"2:1 {BROKEN}"), ('{"a"\n: 1}', f"2:1 {BROKEN}"),
    # a sign that would be lost
    ("a: [?x]\n", f"1:6 {MARK}"), ("a: {?x: 1}\n", f"1:6 {MARK}"), ("a: [b,\n  ?'x']\n", f"2:4 {MARK}"), ("a: {b: 1, ?c}\n", f"1:12 {MARK}"),
    # one sign too many, or one too few
    ("a: b: c\n", f"1:5 {BROKEN}"), ("a:\n  b: c: d\n", f"2:7 {BROKEN}"), ("a: x\ny\n", f"2:1 {BROKEN}"), ("a: 1\nkey:value\nb: 2\n", f"2:1 {BROKEN}"), ("a: 1\nb\nc: 2\n", f"2:1 {BROKEN}"), ("a: @x\n", f"1:4 {BROKEN}"), ("a: `x`\n", f"1:4 {BROKEN}"), ("a: %x\n", f"1:4 {BROKEN}"),
    ("@a: 1\n", f"1:1 {BROKEN}"), ("a: -\n", f"1:4 {BROKEN}"), ("a: ?\n", f"1:4 {BROKEN}"), ("a: :\n", f"1:4 {BROKEN}"), (": a\n", f"1:1 {BROKEN}"), ("a: , b\n", f"1:4 {BROKEN}"), ("a: |x\n", f"1:5 {BROKEN}"), ("a: |0\n  x\n", f"1:5 {BROKEN}"), ("a: |+-\n  x\n", f"1:6 {BROKEN}"),
    ("k" * 1025 + ": 1\n", f"1:1026 {BROKEN}"), ("a: x #c\n  y\n", f"2:3 {BROKEN}"), ("a\nb: 1\n", f"2:2 {BROKEN}"), ("- a\n- c: d: e\n", f"2:7 {BROKEN}"), ("a: <x\n  b: 1\n", f"2:4 {BROKEN}"), ("a: x:\n", f"1:5 {BROKEN}"),
    # escapes
    (r'a: "\q"', f"1:5 {BROKEN}"), (r"""a: "\'" """, f"1:5 {BROKEN}"), (r'a: "C:\Users"', f"1:9 {BROKEN}"), (r'a: "\d+"', f"1:5 {BROKEN}"), (r'a: "\x1"', f"1:7 {BROKEN}"), (r'a: "\u12"', f"1:7 {BROKEN}"), (r'a: "\U00110000"', f"1:7 {BROKEN}"),
    ('x: 1\na: "\\ud800"', f"2:4 {CHARACTER}"), (r'a: "\udc00\ud800"', f"1:4 {CHARACTER}"), (r'{"a": "\ude00 \ud83d"}', f"1:7 {CHARACTER}"), (r'"\ud800": 1', f"1:1 {CHARACTER}"), (r'a: "\ue900\ud83d\ude00"', f"1:13 {BROKEN}"),
    (r'a: "x\0y"', f"1:4 {CHARACTER}"), (r'a: "\x00"', f"1:4 {CHARACTER}"), (r'a: ["\u0000"]', f"1:5 {CHARACTER}"), (r'"\U00000000": 1', f"1:1 {CHARACTER}"),
    # numbers, depth, characters
    ("a: [1, .inf]\n", f"1:8 {NUMBER}"), ('{"a": 123456789012345678901234567890}', f"1:7 {NUMBER}"), ("a: " + "[" * 64 + "]" * 64, "1:67 Too deep a nesting"), ("- " * 65 + "x", "1:129 Too deep a nesting"),
    *[(f"a: 1\nb: x{chr(code)}y\n", f"2:5 {CHARACTER}") for code in (
        0, 1, 7, 8, 11, 12, 14, 27, 31, 127, 128, 133, 155, 159, 0x61C, 0x200E, 0x200F, 0x2028, 0x2029, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069, 0xFEFF, 0xFFFE, 0xFFFF, 0xE0001, 0xE0041, 0xE007F,
    )],
    ("a: 1\n\ufeffb: 2\n", f"2:1 {CHARACTER}"), ("\ufeff\ufeffa: 1\n", f"1:1 {CHARACTER}"), ("a: 1\n---\n\ufeffb: 2\n", f"3:1 {CHARACTER}"), ("# \u202e\n", f"1:3 {CHARACTER}"), ("a: 'x\x1b[2Jy'\n", f"1:6 {CHARACTER}"), ("a\x85b: 1\n", f"1:2 {CHARACTER}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error"), WRONG)
def test_a_wrong_text_is_one_error_where_it_can_be_mended(text: str, error: str) -> None:
    assert errors(text) == [error]


SAMPLE = "a: 1\nb: \xe9\n"
UTF8, TEXT = "Bytes that are not UTF-8", "An encoding that is not UTF-8"
WRONG_BYTES: list[tuple[bytes, str]] = [
    (SAMPLE.encode("utf-16"), f"1:1 {TEXT}"), (SAMPLE.encode("utf-16-le"), f"1:1 {TEXT}"), (SAMPLE.encode("utf-16-be"), f"1:1 {TEXT}"), (codecs.BOM_UTF16_BE + SAMPLE.encode("utf-16-be"), f"1:1 {TEXT}"),
    (SAMPLE.encode("utf-32"), f"1:1 {TEXT}"), (SAMPLE.encode("utf-32-le"), f"1:1 {TEXT}"), (SAMPLE.encode("utf-32-be"), f"1:1 {TEXT}"), (codecs.BOM_UTF32_BE + SAMPLE.encode("utf-32-be"), f"1:1 {TEXT}"),
    (SAMPLE.encode("latin-1"), f"2:4 {UTF8}"), ("a: 1\r\nb: 2\r\nc: caf\xe9\r\n".encode("latin-1"), f"3:7 {UTF8}"), (b"a: 1\rb: \xe9\r", f"2:4 {UTF8}"), (SAMPLE.encode("cp037"), f"1:1 {UTF8}"), ("\xe9: 1\n".encode("utf-16-le"), f"1:1 {TEXT}"),
    (b"\xef\xbb\xbfa: \xe9\n", f"1:4 {UTF8}"), (b"a: 1\nb: \xc0\xaf\n", f"2:4 {UTF8}"), (b"a: \xe0\x80\xaf\n", f"1:4 {UTF8}"), (b"a: \xc0\x80\n", f"1:4 {UTF8}"), (b"a: 1\nb: \xed\xa0\x80\n", f"2:4 {UTF8}"), (b"a: \xed\xa0\xbd\xed\xb8\x80\n", f"1:4 {UTF8}"),
    (b"a: \xf8\x88\x80\x80\x80\n", f"1:4 {UTF8}"), (b"a: \xf4\x90\x80\x80\n", f"1:4 {UTF8}"), (b"a: 1\nb: \xc3", f"2:4 {UTF8}"), (b"a: \xe2\x82\nb: 1\n", f"1:4 {UTF8}"), (b"a: \x80\n", f"1:4 {UTF8}"), (b"\xff", f"1:1 {UTF8}"), (b"\xfe\xff", f"1:1 {TEXT}"), (b"\xef\xbb", f"1:1 {UTF8}"),
    (b"\0", f"1:1 {TEXT}"), (b"\0" * 99, f"1:1 {TEXT}"), (b"a: 1\nb: 2\n\0\0\0", f"3:1 {CHARACTER}"), (b"\x1f\x8b\x08\0\0", f"1:2 {UTF8}"), (b"\x89PNG\r\n\x1a\n", f"1:1 {UTF8}"), (b"\x7fELF\x02\x01", f"1:1 {CHARACTER}"), (b"PK\x03\x04", f"1:3 {CHARACTER}"),
    (b"#" * (MAX_BYTES + 1), "1:1 A file that is too large"), (b"a: " + b"x" * (64 * 1024 * 1024), "1:1 A file that is too large"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "error"), WRONG_BYTES, ids=[str(n) for n in range(len(WRONG_BYTES))]
)
def test_bytes_that_are_no_text_are_one_error(data: bytes, error: str) -> None:
    assert errors(data) == [error]


def test_sixty_four_levels_and_a_merge_chain_of_any_length_are_fine() -> None:
    assert documents("a: " + "[" * 63 + "]" * 63)
    chain = "a0: &a0 {k0: 1}\n"
    chain += "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}\n" for n in range(1, 200))
    (found,) = documents(chain)
    assert isinstance(found, MappingNode)
    assert len(found["a199"]) == 200  # type: ignore[arg-type]
    assert documents(
        "a0: &a0 {}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}]}}\n" for n in range(1, 99))
    )


def test_what_a_merge_key_brings_keeps_its_own_place() -> None:
    (found,) = documents("x: &x\n  k: 1\ny:\n  <<: *x\n  l: 2\n")
    assert str(locate(found, ("y", "k"))) == "f.yaml:2:6"
    assert str(locate(found, ("y", "l"))) == "f.yaml:5:6"


def test_both_places_of_a_key_that_is_declared_twice_are_named() -> None:
    _, (first, second) = parse("f.yaml", b"a: 1\nb: &x {}\na: 2\nc:\n  <<: *x\n  <<: *x\n")
    assert sorted([first.detail, second.detail]) == [
        '"<<" stands at f.yaml:5:3 already. Merge a list: `<<: [*first, *second]`.',
        '"a" stands at f.yaml:1:1 already. Remove one of the two.',
    ]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("a:\n\tb: 1\n", "Indent with blanks"), ("a: b: c\n", "quote a value that has a colon"), ("a: {b: ${var.x}}\n", "quote what has a bracket"),
        (r'a: "\d"', "quote with '"), ('a: "x\n', "Close the quote"), ("a: [1\n", "Close the bracket"), ("a: 1\nb\nc: 1\n", "A line here is `key: value`"),
        ("a: 1\nb: 'x\n", "Close the quote"), ("a: *x\n", "marked &x"), ("1: x\n", "Quote it"), ("a: .inf\n", "Quote it if it is a string"), ("a: !!str 1\n", '"!!str"'),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do(text: str, advice: str) -> None:
    _, (found,) = parse("f.yaml", text.encode())
    assert advice in found.detail


@pytest.mark.parametrize(
    "text",
    [
        "k: 1\n" * 3000, "".join(f"{n}: x\n" for n in range(3000)), "a: [" + ".inf, " * 3000 + "]", "a: [" + "!x 1, " * 3000 + "]", "--- x\n" * 3000, "---\n" * 3000,
        "a: &a {}\nb:\n" + "  <<: *a\n" * 3000, "a: {<<: [" + "1, " * 3000 + "]}",
    ],
    ids=range(8),
)  # fmt: skip
def test_of_thousands_of_mistakes_in_a_file_a_thousand_are_told(text: str) -> None:
    found = errors(text)
    assert len(found) == 1001
    assert found[-1].endswith("Too many mistakes")


# --- through the command line ------------------------------------------------------------------


def test_a_project_of_hostile_files_tells_each_mistake_in_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them at once, as text and as JSON: exit status 1, and nothing a terminal obeys."""
    (tmp_path / "reconciler.yaml").write_text("version: 1\ninclude: [hostile]\n")
    (tmp_path / "hostile").mkdir()
    files = [(text.encode(), error) for text, error in WRONG]
    files += [(data, error) for data, error in WRONG_BYTES if len(data) < MAX_BYTES]
    expected = {}
    for number, (data, error) in enumerate(files):
        (tmp_path / f"hostile/{number:03}.yaml").write_bytes(data)
        expected[f"hostile/{number:03}.yaml"] = error
    assert main(["validate", "-C", str(tmp_path), "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)["diagnostics"]
    places = {f"{d['file']} {d['line']}:{d['column']} {d['summary']}" for d in told}
    assert [
        f"{file} {error}" for file, error in expected.items() if f"{file} {error}" not in places
    ] == []
    assert main(["validate", "-C", str(tmp_path)]) == 1
    text = capsys.readouterr().err
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]", text)
    assert max(map(len, text.splitlines())) < 1000
    assert "Traceback" not in text
