"""One leaf of an account, or one entry of a list, changed in the text of a file; the rest stays as it is.

The parser's events tell where in the text each value stands. What is new is put there, and not a byte
elsewhere is touched. What comes out is read again and compared with what went in: it must differ where
it should and nowhere else, and no comment may be lost; else nothing is changed.

Source: docs/drift.md, "Accepting"; why not a library: docs/decisions/022-edits-at-marks.md.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

import yaml

from reconciler.config.nodes import masked, parse, text_of
from reconciler.config.write import comments_in, order_of, same
from reconciler.core.shapes import walk
from reconciler.core.values import ABSENT, JsonValue, dotted
from reconciler.core.variables import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reconciler.core.values import FieldPath, MaybeJson

_BOM: Final = b"\xef\xbb\xbf"
_STEP: Final = 2
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./+@-]*(?: [A-Za-z0-9_./+@-]+)*")
_OTHERS: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""Words that readers of another YAML than ours take for something else than text."""


class NotEditable(Exception):
    """Something that can't be changed by itself where it stands. The text says why."""


def with_leaf(name: str, data: bytes, path: FieldPath, value: MaybeJson) -> bytes:
    """The file with `value` at `path` of one of its documents; ABSENT takes out what stands there.

    What would come back from elsewhere if it were taken out gets the value `null`. Mappings that
    are missing on the way are made, those that get empty go; the first two segments name a mapping
    that is there. Raises: NotEditable.
    """
    text, before = _read(name, data)
    if value is not ABSENT:
        return _checked(name, data, before, _set(text, path, value, before), path, value)
    try:
        return _checked(name, data, before, _remove(text, path), path, ABSENT)
    except NotEditable:
        return _checked(name, data, before, _set(text, path, None, before), path, None)


def with_entry(name: str, data: bytes, path: FieldPath, entry: dict[str, JsonValue]) -> bytes:
    """The file with `entry` behind those of the list at `path` of its first document.

    Raises: NotEditable.
    """
    text, before = _read(name, data)
    old = walk(before[0], path)
    if old is ABSENT:
        old = []
    if not isinstance(old, list):
        raise NotEditable(f"{dotted(path)} is no list")
    expected: list[JsonValue] = [*old, entry]
    return _checked(name, data, before, _set(text, path, expected, before), path, expected)


# --- reading and proving ---------------------------------------------------------------------


def _read(name: str, data: bytes) -> tuple[str, list[JsonValue]]:
    documents, diagnostics = parse(name, data)
    if diagnostics:
        raise NotEditable(f"the file has mistakes: {diagnostics[0].detail}")
    return text_of(name, data), documents


def _checked(
    name: str,
    data: bytes,
    before: list[JsonValue],
    text: str,
    path: FieldPath,
    value: MaybeJson,
) -> bytes:
    """The text as the file has it. Raises: NotEditable if it says anything but what it should."""
    found = (_BOM if data.startswith(_BOM) else b"") + text.encode()
    after, diagnostics = parse(name, found)
    if diagnostics or len(after) != len(before):
        raise NotEditable("what would be written could not be read again")
    number = next(n for n, document in enumerate(before) if _holds(document, path))
    others = [
        place
        for n, (old, new) in enumerate(zip(before, after, strict=True))
        for place in _differing(old, new, ())
        if n != number or not _on_the_way(path, place)
    ]
    if others:
        shown = ", ".join(map(dotted, others[:3])) + (", …" if len(others) > 3 else "")  # noqa: PLR2004 - as shown
        raise NotEditable(f"{shown} would change, too: what stands there is used in several places")
    now = walk(after[number], path)
    if now is not value and (now is ABSENT or value is ABSENT or not same(now, value)):
        raise NotEditable("what would be read there is not what is to be written")
    if comments_in(masked(text)) != comments_in(masked(text_of(name, data))):
        raise NotEditable("a comment would be lost")
    return found


def _holds(document: JsonValue, path: FieldPath) -> bool:
    """Whether the document is the one: it has what the first two segments name, if any has."""
    return walk(document, path[:2]) is not ABSENT or path[0] == "drift"


def _on_the_way(path: FieldPath, place: FieldPath) -> bool:
    """Whether what differs is the leaf, inside of it, or an empty mapping around it."""
    firm = 2 if path[0] == "accounts" else 0  # an account neither comes nor goes
    return place[: len(path)] == path or (len(place) > firm and path[: len(place)] == place)


def _differing(old: MaybeJson, new: MaybeJson, path: FieldPath) -> Iterator[FieldPath]:
    """Where two values differ, as deep as mappings go; nothing and no mapping are empty ones."""
    before = {} if old is ABSENT or old is None else old
    after = {} if new is ABSENT or new is None else new
    if isinstance(before, dict) and isinstance(after, dict) and (before or after):
        for name in {**before, **after}:
            yield from _differing(before.get(name, ABSENT), after.get(name, ABSENT), (*path, name))
    elif old is ABSENT or new is ABSENT:
        if old is not new:
            yield path
    elif not same(old, new):
        yield path


# --- where things stand ----------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """A value in the text, from `start` to `end`; `body`: where it begins behind its anchor.

    `entries`: keys and values of a mapping; `items` of a list. `style` of a scalar: its quote, or
    how it is folded; of an alias `*`; of a collection `{` in brackets, else "".
    """

    kind: type
    start: int
    body: int
    end: int
    style: str = ""
    value: str = ""
    anchor: str = ""
    entries: list[tuple[_Node, _Node]] = field(default_factory=list)
    items: list[_Node] = field(default_factory=list)

    @property
    def flow(self) -> bool:
        """Whether it is a collection in brackets."""
        return self.style == "{"

    def entry(self, key: str) -> tuple[_Node, _Node] | None:
        """The entry of that key, as far as it stands here itself."""
        return next((e for e in self.entries if e[0].value == key and e[0].style != "*"), None)


class _Text:
    """A text, its documents as nodes, and the places of its comments."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.hidden = masked(text)
        self.aliases: Counter[str] = Counter()
        self.parser: Any = yaml.CSafeLoader(self.hidden)
        try:
            self.roots = list(self._documents())
        finally:
            self.parser.dispose()
        self.comments = list(_comment_spans(self.hidden))

    def _documents(self) -> Iterator[_Node]:
        while not isinstance(event := self.parser.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                yield self._node(self.parser.get_event())

    def _node(self, event: Any) -> _Node:
        start: int = event.start_mark.index
        end: int = event.end_mark.index
        anchor = event.anchor or ""
        if isinstance(event, yaml.AliasEvent):
            self.aliases[anchor] += 1
            return _Node(yaml.AliasEvent, start, start, end, "*", anchor)
        body = start
        if anchor:
            rest = re.match(r"\s*", self.text[start + len(anchor) + 1 :])
            body = start + len(anchor) + 1 + (rest.end() if rest else 0)
        if isinstance(event, yaml.ScalarEvent):
            style = event.style or ""
            return _Node(yaml.ScalarEvent, start, min(body, end), end, style, event.value, anchor)
        style = "{" if event.flow_style else ""
        node = _Node(type(event), start, body, end, style, "", anchor)
        mapping = isinstance(event, yaml.MappingStartEvent)
        while not isinstance(inside := self.parser.get_event(), yaml.CollectionEndEvent):
            inner = self._node(inside)
            if mapping:
                node.entries.append((inner, self._node(self.parser.get_event())))
            else:
                node.items.append(inner)
        if node.flow:
            mark: Any = inside.end_mark
            node.end = mark.index
        else:
            last = node.entries[-1][1] if mapping else node.items[-1]
            node.end = last.end
        return node

    def trimmed(self, node: _Node) -> int:
        """Where what is written of a value ends, without the blank lines that follow it."""
        while node.entries or node.items:
            if node.flow:
                return node.end
            node = node.entries[-1][1] if node.entries else node.items[-1]
        if node.style in ("|", ">"):
            return node.start + len(self.text[node.start : node.end].rstrip())
        return node.end

    def line_start(self, place: int) -> int:
        """Where the line of `place` begins."""
        return max(self.text.rfind("\n", 0, place), self.text.rfind("\r", 0, place)) + 1

    def line_end(self, place: int) -> int:
        """Behind the end of the line of `place`, its line break with it."""
        found = re.compile(r"\r\n?|\n").search(self.text, place)
        return found.end() if found else len(self.text)

    def column(self, place: int) -> int:
        """Characters of the line before `place`."""
        return place - self.line_start(place)

    def begins_line(self, place: int) -> bool:
        """Whether nothing but blanks stands before `place` in its line."""
        return not self.text[self.line_start(place) : place].strip(" ")

    @property
    def line_break(self) -> str:
        """How lines end here."""
        found = re.search(r"\r\n?|\n", self.text)
        return found[0] if found else "\n"

    def comments_within(self, start: int, end: int) -> list[str]:
        """The comments between two places."""
        return [self.text[a:b] for a, b in self.comments if start <= a < end]

    def spliced(self, start: int, end: int, new: str) -> str:
        """The text with `new` from `start` to `end`."""
        return self.text[:start] + new + self.text[end:]


def _comment_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each comment begins and ends: in what the scanner skips, and behind `|` and `>`."""
    scanner: Any = yaml.CSafeLoader(text)
    end = 0
    try:
        while token := scanner.get_token():
            start = token.start_mark.index
            yield from _in_gap(text, end, start)
            end = token.end_mark.index
            if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
                first = re.search(r"[\r\n]", text[start:end])
                yield from _in_gap(text, start, start + first.start() if first else end)
    finally:
        scanner.dispose()


def _in_gap(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for found in re.finditer(r"#[^\r\n]*", text[start:end]):
        bare = found[0].rstrip()
        yield start + found.start(), start + found.start() + len(bare)


def _found(text: _Text, path: FieldPath) -> tuple[list[tuple[_Node, _Node]], FieldPath]:
    """The entries on the way to `path` that are there, and the rest of the path.

    Begins with the document itself, under a key of no length. Raises: NotEditable.
    """
    for root in text.roots:
        way = [(root, root)]
        for number, segment in enumerate(path):
            entry = way[-1][1].entry(segment)
            if entry is None:
                break
            way.append(entry)
            if entry[1].style == "*" and number < len(path) - 1:
                line = text.text.count("\n", 0, entry[1].start) + 1
                raise NotEditable(
                    f"line {line} takes {dotted(path[: number + 1])} as a whole from *{entry[1].value}"
                )
        if len(way) > min(2, len(path) - 1) or path[0] == "drift":
            return way, path[len(way) - 1 :]
    raise NotEditable(f"{dotted(path[:2])} is not written out in this file")


# --- writing ---------------------------------------------------------------------------------


def _set(source: str, path: FieldPath, value: JsonValue, before: Sequence[JsonValue]) -> str:
    text = _Text(source)
    way, rest = _found(text, path)
    if not rest:
        old = (walk(document, path) for document in before)
        found = next((value for value in old if value is not ABSENT), ABSENT)
        return _replaced(text, *way[-1], value, found)
    node = way[-1][1]
    if node.kind is yaml.ScalarEvent and not node.style and node.value in ("", "~", "null"):
        return _replaced(text, *way[-1], _nested(rest, value))
    if node.kind is not yaml.MappingStartEvent:
        raise NotEditable(f"{dotted(path[: len(way) - 1])} is written as one value there")
    if node.flow:
        return _into_flow(text, node, rest, value)
    return _into_block(text, node, path[: len(way) - 1], rest, value)


def _nested(rest: FieldPath, value: JsonValue) -> JsonValue:
    for segment in reversed(rest):
        value = {segment: value}
    return value


def _into_flow(text: _Text, node: _Node, rest: FieldPath, value: JsonValue) -> str:
    new = f"{_text(rest[0])}: {literal(_nested(rest[1:], value))}"
    if not node.entries:
        return text.spliced(node.body, node.end, f"{{{new}}}")
    end = node.entries[-1][1].end
    return text.spliced(end, end, f", {new}")


def _into_block(
    text: _Text, node: _Node, path: FieldPath, rest: FieldPath, value: JsonValue
) -> str:
    """The text with a new entry in a mapping that is written over lines."""
    column = text.column(node.entries[0][0].start)
    lines = _lines(rest, value, column)
    before = _last_before(node, path, rest[0])
    first = node.entries[0][0]
    if before is None and text.begins_line(first.start):
        place = text.line_start(first.start)
        return text.spliced(place, place, "".join(line + text.line_break for line in lines))
    last = (before or node.entries[-1])[1]
    keeps = last.style in ("|", ">") and "+" in text.text[last.start : last.start + 4]
    place = last.end if keeps else text.line_end(text.trimmed(last))
    new = "".join(line + text.line_break for line in lines)
    if place and text.text[place - 1] not in "\r\n":
        new = text.line_break + new[: -len(text.line_break)]
    return text.spliced(place, place, new)


def _last_before(node: _Node, path: FieldPath, key: str) -> tuple[_Node, _Node] | None:
    """The last entry that stands before `key` in the order of the models; None if none does."""
    order = order_of(path)
    rank = {name: number for number, name in enumerate(order)}
    mine = rank.get(key, len(order))
    entries = [e for e in node.entries if rank.get(e[0].value, len(order)) <= mine]
    merged = [e for e in node.entries if e[0].value == "<<"]
    return entries[-1] if entries else (merged[-1] if merged else None)


def _lines(rest: FieldPath, value: JsonValue, column: int) -> list[str]:
    """A key below each other, each deeper than the one above; entries of a list of mappings, too."""
    *above, last = rest
    lines = [f"{' ' * (column + depth * _STEP)}{_text(key)}:" for depth, key in enumerate(above)]
    column += len(above) * _STEP
    if isinstance(value, list) and value and all(isinstance(v, dict) and v for v in value):
        lines.append(f"{' ' * column}{_text(last)}:")
        return lines + [line for v in value for line in _item(v, column + _STEP)]
    return [*lines, f"{' ' * column}{_text(last)}: {literal(value)}"]


def _item(value: JsonValue, column: int) -> list[str]:
    """An item of a list over lines, if it is a mapping: a key each."""
    if not isinstance(value, dict) or not value:
        return [f"{' ' * column}- {literal(value)}"]
    entries = [f"{_text(key)}: {literal(inner)}" for key, inner in value.items()]
    return [f"{' ' * column}{'- ' if n == 0 else '  '}{text}" for n, text in enumerate(entries)]


def _replaced(
    text: _Text, key: _Node, node: _Node, value: JsonValue, old: MaybeJson = ABSENT
) -> str:
    """The text with another value in the place of one that is there; `old`: what that one is."""
    if node.anchor and text.aliases[node.anchor]:
        line = text.text.count("\n", 0, node.start) + 1
        raise NotEditable(f"line {line} has it as &{node.anchor}, which is used elsewhere, too")
    over_lines = node.kind is yaml.SequenceStartEvent and not node.flow
    if over_lines and isinstance(value, list) and value:
        listed = _in_list(text, node, old if isinstance(old, list) else [], value)
        if listed is not None:
            return listed
    start, end = node.body, text.trimmed(node)
    new = literal(value, quoted=node.style in ("'", '"'))
    lost = text.comments_within(start, end)
    if node.kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent) and not node.flow:
        start = _behind(text, key, node)
        lost = text.comments_within(start, end)
    if start and text.text[start - 1] == ":":
        new = f" {new}"
    if not lost:
        return text.spliced(start, end, new)
    tail = re.split("[\r\n]", text.text[end:], maxsplit=1)[0]
    code = tail.strip() and not tail.strip().startswith("#")
    if code or not text.begins_line(key.start):
        raise NotEditable("a comment stands inside of it")
    indent = text.line_break + " " * text.column(key.start)
    below = "".join(indent + comment for comment in lost)
    return text.spliced(start, end + len(tail), new + tail + below)


def _behind(text: _Text, key: _Node, node: _Node) -> int:
    """Behind the colon of a key, or the anchor of its value, in the same line."""
    if node.anchor:
        return node.start + len(node.anchor) + 1
    return text.text.index(":", key.end) + 1


def _in_list(text: _Text, node: _Node, old: list[JsonValue], value: list[JsonValue]) -> str | None:
    """The text with other items in a list over lines; those that stay, stay as they are written.

    None if it is written in a way that this can't take apart.
    """
    starts = [text.line_start(item.start) for item in node.items]
    dashed = all(
        re.fullmatch(r" *- +", text.text[start : item.start])
        for start, item in zip(starts, node.items, strict=True)
    )
    if not dashed or len(set(starts)) < len(starts):
        return None
    ends = [text.line_end(text.trimmed(item)) for item in node.items]
    begins = [starts[0], *ends[:-1]]
    indent = text.text[starts[0] : node.items[0].start].partition("-")[0]
    before = [json.dumps(item, sort_keys=True) for item in old]
    after = [json.dumps(item, sort_keys=True) for item in value]
    pieces: list[str] = []
    for op, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if op == "equal":
            pieces += [text.text[begins[n] : ends[n]] for n in range(a, b)]
            continue
        for n in range(a, b):
            pieces += [indent + comment for comment in text.comments_within(begins[n], ends[n])]
        pieces += [line for n in range(c, d) for line in _item(value[n], len(indent))]
    whole = (p if p[-1:] in ("\r", "\n") else p + text.line_break for p in pieces)
    joined = "".join(whole)
    if text.text[ends[-1] - 1] not in "\r\n":
        joined = joined.removesuffix(text.line_break)
    return text.spliced(begins[0], ends[-1], joined)


def _remove(source: str, path: FieldPath) -> str:
    text = _Text(source)
    way, rest = _found(text, path)
    if rest:
        raise NotEditable(f"{dotted(path)} is not written there itself")
    while len(way) > _BLOCK and len(way[-2][1].entries) == 1:
        way.pop()  # an empty mapping would mean something else than none
    if len(way) == _BLOCK and way[-1][1].entries:
        return _replaced(text, *way[-1], {})
    key, node = way[-1]
    parent = way[-2][1]
    if parent.flow:
        return _out_of_flow(text, parent, key, node)
    start, end = text.line_start(key.start), text.line_end(text.trimmed(node))
    if not text.begins_line(key.start):
        raise NotEditable("something else stands in its line")
    lost = text.comments_within(start, end)
    indent = " " * text.column(key.start)
    new = "".join(f"{indent}{comment}{text.line_break}" for comment in lost)
    return text.spliced(start, end, new)


_BLOCK: Final = 4
"""Entries on the way to a key of an account's block: document, accounts, account, key."""


def _out_of_flow(text: _Text, parent: _Node, key: _Node, node: _Node) -> str:
    number = next(n for n, entry in enumerate(parent.entries) if entry[0] is key)
    if number:
        start, end = parent.entries[number - 1][1].end, node.end
    elif len(parent.entries) > 1:
        start, end = key.start, parent.entries[1][0].start
    else:
        start, end = key.start, node.end
    if text.comments_within(start, end):
        raise NotEditable("a comment stands inside of it")
    return text.spliced(start, end, "")


# --- values as text --------------------------------------------------------------------------


def literal(value: JsonValue, *, quoted: bool = False) -> str:
    """A value as YAML on one line, which loads as exactly that value; `quoted`: text always is."""
    match value:
        case float():
            plain = f"{Decimal(repr(value)):f}"
            return plain if "." in plain else f"{plain}.0"
        case str():
            return _text(value, quoted=quoted)
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case dict():
            inner = (f"{_text(key)}: {literal(item)}" for key, item in value.items())
            return f"{{{', '.join(inner)}}}"
        case _:
            return json.dumps(value)


def _text(text: str, *, quoted: bool = False) -> str:
    """Text as it is if nobody can take it for anything else, else in double quotes."""
    if not quoted and _PLAIN.fullmatch(text) and text.lower() not in _OTHERS and _is_text(text):
        return text
    return "".join(map(_escaped, json.dumps(text, ensure_ascii=False)))


def _is_text(text: str) -> bool:
    try:
        return scalar(text) == text
    except ValueError:
        return False


def _escaped(character: str) -> str:
    """What reviewers can't see stands as its code point."""
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four digits
