"""Bytes to nodes with positions. The only place that sees PyYAML.

The values are built from the parser's events, not by a YAML loader: that is twice as fast, keeps
every position, and lets the scalars be what `docs/configuration.md` says they are: nothing is
anything but a string unless it looks so in YAML 1.2, and nothing is converted silently.
"""

from __future__ import annotations

import re
from decimal import Decimal
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from reconciler.core.values import (
    Diagnostic,
    JsonValue,
    MappingNode,
    SequenceNode,
    Source,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000_000

_KEYWORDS: Final[dict[str, JsonValue]] = {
    "true": True,
    "false": False,
    "null": None,
    "~": None,
    "": None,
}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC_START = frozenset("-+.0123456789")
_NOT_TEXT = frozenset(["", "~", "t", "f", "n", *_NUMERIC_START])
"""How an unquoted scalar begins that may be anything but a string."""

_MERGE = "<<"
_END = yaml.MappingEndEvent
_SCALAR = yaml.ScalarEvent


class Malformed(Exception):
    """A file that can't be read on from here."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.summary)
        self.diagnostic = diagnostic


def parse(file: str, data: bytes) -> tuple[list[JsonValue], list[Diagnostic]]:
    """The documents in `data`, and what is wrong with them; with errors, what could be read.

    `file` is the name that positions carry. An empty document is None.
    """
    builder = _Builder(file)
    try:
        documents = builder.documents(text_of(file, data))
    except Malformed as error:
        return [], [*builder.diagnostics, error.diagnostic]
    return documents, builder.diagnostics


def scalar(text: str) -> JsonValue:
    """What an unquoted scalar means. Raises: ValueError with the reason if it can mean nothing."""
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if text[0] not in _NUMERIC_START:
        return text
    if _INTEGER.fullmatch(text):
        # Beyond 64 bits JSON libraries round or refuse; a long number is a string in disguise.
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:  # noqa: PLR2004 - digits of 2**63
            raise ValueError("an integer beyond 64 bits; quote it if it is a string")
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        if Decimal(repr(number)) != Decimal(text):
            raise ValueError("a decimal that can't be kept exactly; shorten it, or quote it")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("not a finite number; JSON has none such. Quote it if it is a string")
    return text


def _problem(summary: str, detail: str, source: Source) -> Diagnostic:
    return Diagnostic("error", summary, detail, source=source)


def text_of(file: str, data: bytes) -> str:
    """The UTF-8 text of a file, without the byte order mark, with nothing in it that can't be seen.

    Raises: Malformed.
    """
    if len(data) > MAX_BYTES:
        detail = f"The file has more than {MAX_BYTES:,} bytes. Split it."
        raise Malformed(_problem("A file that is too large", detail, Source(file, 1, 1)))
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")) or b"\0" in data[:2]:
        detail = "The file is UTF-16 or UTF-32; only UTF-8 is allowed. Save it as UTF-8."
        raise Malformed(_problem("An encoding that is not UTF-8", detail, Source(file, 1, 1)))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _after(file, data[: error.start].decode("utf-8-sig"))
        detail = f"Byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        raise Malformed(_problem("Bytes that are not UTF-8", detail, place)) from error
    if found := _UNSEEN.search(text):
        detail = f"U+{ord(found[0]):04X} {_why(found[0])}"
        raise Malformed(
            _problem("A forbidden character", detail, _after(file, text[: found.start()]))
        )
    return text


def _why(character: str) -> str:
    escape = f'Write "\\u{ord(character):04x}" if it is meant.'
    if character in "\x85\u2028\u2029":
        return f"ends the line for some readers only. {escape}"
    if _BIDI.fullmatch(character):
        return f"shows text in another order than it has. {escape}"
    return "may not stand in a file. Remove it."


def _after(file: str, text: str) -> Source:
    """The place right behind `text`."""
    lines = _LINE_END.split(text)
    return Source(file, len(lines), len(lines[-1]) + 1)


_LINE_END = re.compile("\r\n|\r|\n")
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNSEEN = re.compile(
    f"[\x85\u2028\u2029\ufeff\U000e0000-\U000e007f]|{_BIDI.pattern}"
    "|[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""What YAML forbids, and what reviewers can't see though it changes how a text is read."""


class _Builder:
    """Builds the documents of one file from the parser's events."""

    __slots__ = ("anchors", "diagnostics", "file", "next", "nodes", "unfinished")

    def __init__(self, file: str) -> None:
        self.file = file
        self.diagnostics: list[Diagnostic] = []
        self.anchors: dict[str, tuple[JsonValue, int, int]] = {}
        self.unfinished: set[str] = set()
        self.nodes = 0
        self.next: Callable[[], Any]

    def documents(self, text: str) -> list[JsonValue]:
        parser = yaml.CSafeLoader(text)
        self.next = parser.get_event
        found: list[JsonValue] = []
        try:
            while True:
                event = self.next()
                if isinstance(event, yaml.StreamEndEvent):
                    return found
                if isinstance(event, yaml.DocumentStartEvent):
                    self.anchors.clear()
                    event = self.next()
                    found.append(self._value(event, _position(event), 1)[0])
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from error
        finally:
            parser.dispose()

    def _value(self, event: Any, at: int, depth: int) -> tuple[JsonValue, int]:
        """The value that begins with `event` at `at`, and how deep it goes below here."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._stop(
                "Too many values", f"More than {MAX_NODES:,} after aliases are expanded.", at
            )
        if depth > MAX_DEPTH:
            self._stop("Too deep a nesting", f"More than {MAX_DEPTH} levels.", at)
        if isinstance(event, yaml.ScalarEvent):
            return self._anchored(event, self._scalar(event, at), 1, 0)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth, at)
        if event.tag is not None:
            self._tag(event.tag, at)
        if event.anchor:
            self.unfinished.add(event.anchor)
        before = self.nodes
        value, below = (
            self._mapping(at, depth)
            if isinstance(event, yaml.MappingStartEvent)
            else self._sequence(at, depth)
        )
        return self._anchored(event, value, self.nodes - before + 1, below)

    def _anchored(
        self, event: Any, value: JsonValue, size: int, below: int
    ) -> tuple[JsonValue, int]:
        if event.anchor:
            self.anchors[event.anchor] = (value, size, below)
            self.unfinished.discard(event.anchor)
        return value, below

    def _alias(self, event: Any, depth: int, at: int) -> tuple[JsonValue, int]:
        if event.anchor in self.unfinished:
            self._stop("An alias inside what it names", f"*{event.anchor} contains itself.", at)
        if event.anchor not in self.anchors:
            self._stop("An unknown alias", f"Nothing above is marked &{event.anchor}.", at)
        value, size, below = self.anchors[event.anchor]
        self.nodes += size
        if self.nodes > MAX_NODES:
            self._stop(
                "Too many values", f"More than {MAX_NODES:,} after aliases are expanded.", at
            )
        if depth + below > MAX_DEPTH:
            self._stop("Too deep a nesting", f"More than {MAX_DEPTH} levels.", at)
        return value, below

    def _scalar(self, event: Any, at: int) -> JsonValue:
        if event.tag is not None:
            self._tag(event.tag, at)
        text: str = event.value
        if not event.implicit[0]:
            return text
        try:
            return scalar(text)
        except ValueError as error:
            self._report("A number that can't be kept", f"{text[:40]} is {error}.", at)
            return text

    def _mapping(self, at: int, depth: int) -> tuple[MappingNode, int]:
        node = MappingNode(self.file, at)
        merged: list[tuple[JsonValue, int]] = []
        deepest = 0
        following, mark = self.next, node.marks.append
        while not isinstance(event := following(), _END):
            start = (
                event.start_mark
            )  # here and below `_position`, without the call: a million times
            key_at = ((start.line + 1) << 24) | (start.column + 1)
            key, plain = self._key(event, key_at)
            event = following()
            start = event.start_mark
            value_at = ((start.line + 1) << 24) | (start.column + 1)
            if type(event) is _SCALAR and event.tag is None and not event.anchor:
                # The common case of what `_value` does, without its calls: half of the time.
                self.nodes += 1
                deepest = deepest or 1
                text = event.value
                special = event.implicit[0] and text[:1] in _NOT_TEXT
                value = self._scalar(event, value_at) if special else text
            else:
                value, below = self._value(event, value_at, depth + 1)
                if below >= deepest:
                    deepest = below + 1
            if plain and key == _MERGE:
                merged.append((value, value_at))
            elif key in node:
                first = node.key_source(key)
                detail = f"It stands at {first} already. Remove one of the two."
                self._report(f"The key {key!r} declared twice", detail, key_at)
            else:
                node[key] = value
                mark(key_at)
                mark(value_at)
        for value, value_at in merged:
            self._merge(node, value, value_at)
        return node, deepest

    def _key(self, event: Any, at: int) -> tuple[str, bool]:
        """The mapping key that `event` is, and whether it stands there unquoted."""
        if not isinstance(event, yaml.ScalarEvent):
            self._stop("A key that is no string", "Keys are plain strings here.", at)
        if event.tag is not None:
            self._tag(event.tag, at)
        plain: bool = event.implicit[0]
        if plain and event.value[:1] in _NOT_TEXT and not isinstance(_lenient(event.value), str):
            detail = f"{event.value or 'nothing'} is no string unless it is quoted. Quote it."
            self._report("A key that is no string", detail, at)
        return intern(event.value), plain  # few keys make up most of all: each is kept once

    def _merge(self, node: MappingNode, value: JsonValue, at: int) -> None:
        """Add what a merge key brings: what stands in the mapping itself wins, then the first."""
        sources = value if isinstance(value, SequenceNode) else [value]
        for source in sources:
            if not isinstance(source, MappingNode):
                self._report("A merge key without a mapping", "<< takes mappings: `<<: *name`.", at)
                continue
            for key, inner, key_at, value_at in source.entries():
                if key not in node:
                    node.add(key, inner, key_at, value_at)

    def _sequence(self, at: int, depth: int) -> tuple[SequenceNode, int]:
        node = SequenceNode(self.file, at)
        deepest = 0
        following = self.next
        while not isinstance(event := following(), yaml.SequenceEndEvent):
            at = _position(event)
            value, below = self._value(event, at, depth + 1)
            deepest = max(deepest, below + 1)
            node.append(value)
            node.marks.append(at)
        return node, deepest

    def _tag(self, tag: str, at: int) -> None:
        self._report(
            "A YAML tag", f"{tag[:60]!r}: tags are not supported. Quote strings instead.", at
        )

    def _report(self, summary: str, detail: str, at: int) -> None:
        self.diagnostics.append(_problem(summary, detail, unpack(self.file, at)))

    def _stop(self, summary: str, detail: str, at: int) -> NoReturn:
        raise Malformed(_problem(summary, detail, unpack(self.file, at)))

    def _syntax(self, error: yaml.MarkedYAMLError) -> Malformed:
        mark = error.problem_mark or error.context_mark
        source = (
            Source(self.file, mark.line + 1, mark.column + 1) if mark else Source(self.file, 1, 1)
        )
        context = f" ({error.context})" if error.context else ""
        return Malformed(_problem("Broken YAML", f"{error.problem}{context}.", source))


def _position(event: Any) -> int:
    mark = event.start_mark
    position: int = ((mark.line + 1) << 24) | (mark.column + 1)  # `pack`, inlined: a million calls
    return position


def _lenient(text: str) -> JsonValue:
    try:
        return scalar(text)
    except ValueError:
        return 0
