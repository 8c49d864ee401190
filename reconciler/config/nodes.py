"""Bytes to nodes with positions. The only place that sees PyYAML.

The values are built from the parser's events, not by a YAML loader: that is twice as fast, keeps
every position, and lets the scalars be what `docs/configuration.md` says they are: nothing is
anything but a string unless it looks so in YAML 1.2, and nothing is converted silently.
"""

from __future__ import annotations

import re
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from reconciler.core.shapes import MAX_PROBLEMS, shown
from reconciler.core.values import (
    Diagnostic,
    JsonValue,
    MappingNode,
    SequenceNode,
    Source,
    pack,
    unpack,
)
from reconciler.core.variables import NOT_TEXT, scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000_000
MAX_KEY: Final = 1024
"""Characters of a key; as many as one has that needs no `?`."""
_MAX_DIRECTIVES: Final = 64
"""Lines that may begin with %: the parser compares each `%TAG` with all before it."""

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

    `file` is the name that positions carry. Each document is a mapping or a list; a file without
    any document has nothing wrong with it here.
    """
    builder = _Builder(file)
    try:
        documents = builder.documents(text_of(file, data))
    except Malformed as error:
        return [], [*builder.diagnostics, error.diagnostic]
    return documents, builder.diagnostics


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
        read = error.object  # without the byte order mark
        place = _after(file, read[: error.start].decode())
        detail = f"Byte 0x{read[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        raise Malformed(_problem("Bytes that are not UTF-8", detail, place)) from error
    if data.translate(None, _PLAIN) and (found := _UNSEEN.search(text)):
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
_DIRECTIVE = re.compile("(?:^|[\r\n])%")
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PLAIN = b"\t\n\r" + bytes(range(0x20, 0x7F))
_UNSEEN = re.compile(
    f"[\x85\u2028\u2029\ufeff\U000e0000-\U000e007f]|{_BIDI.pattern}"
    "|[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
"""What YAML forbids, and what reviewers can't see though it changes how a text is read."""


_SURROGATE = re.compile(r"\\u[dD](?=[89a-fA-F][0-9a-fA-F]{2})")
_STAND_IN = re.compile("[\ue800-\uefff]|" r"\\[uU]0*[eE][89a-fA-F][0-9a-fA-F]{2}")
_MASKED = re.compile(r"\\u[eE](?=[89a-fA-F][0-9a-fA-F]{2})")
_WATCHED = re.compile(r"\\(?:0|x00|u0000|U00000000)|(?:^|[\s,\[{])\?\S")
"""How a NUL is written, and a `?` with no blank behind it: where to look, no proof of either."""


def masked(text: str) -> str:
    """`text` with stand-ins, as long as they are, for the escapes of surrogates.

    JSON writes a character beyond U+FFFF as two escapes; YAML's parser refuses such. `unmasked`
    turns this back, which is why nothing is masked in a text that has stand-ins of its own.
    """
    if "\\" not in text:
        return text
    return text if _STAND_IN.search(text) else _SURROGATE.sub(lambda m: _shifted(m[0], 1), text)


def unmasked(text: str) -> str:
    """What `text` was before `masked`."""
    return _MASKED.sub(lambda m: _shifted(m[0], -1), text)


def _shifted(escape: str, by: int) -> str:
    """The escape with another digit at its end: d8 to df and e8 to ef stand for each other."""
    return escape[:-1] + chr(ord(escape[-1]) + by)


def _joined(text: str) -> str:
    """`text` with pairs of stand-ins made one character. Raises: ValueError if one is alone."""
    halves = re.sub("[\ue800-\uefff]", lambda m: chr(ord(m[0]) - 0x1000), text)
    return halves.encode("utf-16", "surrogatepass").decode("utf-16")


_ADVICE: Final = (
    ("start any token", "Indent with blanks, not tabs; quote what begins with @, ` or %."),
    ("tab character", "Indent with blanks, not tabs."),
    ("mapping values", "Indent a key like those beside it; quote a value that has a colon in it."),
    ("find expected ':'", "A line here is `key: value` or `- item`."),
    ("expected key", "Indent a key like those beside it; quote a value as a whole."),
    ("expected '-'", "Indent an item like those beside it."),
    ("sequence entries", "A list begins on a line of its own."),
    ("expected ','", "Close the bracket, put the comma, or quote what has a bracket in it: ${…}."),
    ("parsing a flow", "Close the bracket, or take out what is too much in it."),
    ("node content", "Something is too much here, or a quote is missing."),
    ("end of stream", "Close the quote."),
    ("document indicator", "Close the quote above."),
    (
        "escape",
        r"In double quotes a backslash begins an escape: write \\ for one, or quote with '.",
    ),
    ("document start", "Indent a key like those beside it; only --- begins another document."),
)
"""What to do, by words of what the parser says."""


class _Builder:
    """Builds the documents of one file from the parser's events.

    `anchors`: name -> value, number of values in it, levels below it, characters. `last`: the event
    that ended the last collection. `open`: where the innermost one begins that an error broke off.
    """

    __slots__ = (
        "anchors",
        "copied",
        "diagnostics",
        "file",
        "last",
        "masked",
        "next",
        "nodes",
        "open",
        "unfinished",
    )

    def __init__(self, file: str) -> None:
        self.file = file
        self.diagnostics: list[Diagnostic] = []
        self.anchors: dict[str, tuple[JsonValue, int, int, int]] = {}
        self.unfinished: set[str] = set()
        self.nodes = 0
        self.copied = 0
        self.masked = False
        self.open: int | None = None
        self.last: Any = None
        self.next: Callable[[], Any]

    def documents(self, text: str) -> list[JsonValue]:
        self._check_directives(text)
        hidden = masked(text)
        self.masked = hidden != text
        parser = yaml.CSafeLoader(hidden)
        following: Callable[[], Any] = parser.get_event
        self.next = following
        watched = "\\" in text or "?" in text  # the search takes its time
        if self.masked or (watched and _WATCHED.search(text)):
            self.next = lambda: self._watched(following(), text)
        try:
            return list(self._documents())
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, len(text)) from error
        finally:
            parser.dispose()

    def _documents(self) -> Iterator[JsonValue]:
        others: list[tuple[JsonValue, int]] = []
        while not isinstance(event := self.next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                start, event = _position(event), self.next()
                at = _position(event)
                value = self._value(event, at, 1)[0]
                if isinstance(value, MappingNode | SequenceNode):
                    yield value
                elif len(others) <= MAX_PROBLEMS:
                    others.append((value, start if value is None else at))
        for value, at in others:  # only now: text that is no YAML often begins like a scalar
            found = "nothing" if value is None else shown(value)
            detail = f"Found {found}; expected a mapping. Fill it, or take its --- out."
            self._report("A document without content", detail, at)

    def _check_directives(self, text: str) -> None:
        if text.count("%") < _MAX_DIRECTIVES:
            return
        for number, found in enumerate(_DIRECTIVE.finditer(text)):
            if number == _MAX_DIRECTIVES:
                detail = f"More than {_MAX_DIRECTIVES} lines begin with %. Take them out."
                place = _after(self.file, text[: found.end() - 1])
                raise Malformed(_problem("Too many directives", detail, place))

    def _watched(self, event: Any, text: str) -> Any:
        """The event with its scalar as the file means it; told is what the parser would lose."""
        if not isinstance(event, yaml.ScalarEvent):
            return event
        start: int = event.start_mark.index  # type: ignore[union-attr] # marks are optional in the stubs alone
        if start and text[start - 1] == "?" and _length(event, event):
            detail = "It begins a key there, and is no part of it. Quote the text, or put a blank."
            self._report("A question mark in brackets", detail, _position(event))
        if self.masked:
            event.value = unmasked(event.value)
            try:
                event.value = _joined(event.value) if event.style == '"' else event.value
            except ValueError:
                detail = r"Half of a pair of escapes: characters beyond U+FFFF are \U and 8 digits."
                self._report("A forbidden character", detail, _position(event))
        if "\0" in event.value:
            detail = r"U+0000 can't be kept anywhere. Take the escape out."
            self._report("A forbidden character", detail, _position(event))
        return event

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
            value = self._scalar(event, at)
            if event.anchor:
                self.anchors[event.anchor] = (value, 1, 0, _length(event, event))
                self.unfinished.discard(event.anchor)
            return value, 0
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth, at)
        if event.tag is not None:
            self._tag(event.tag, at)
        if event.anchor:
            self.unfinished.add(event.anchor)
        nodes, copied = self.nodes, self.copied
        try:
            value, below = (
                self._mapping(at, depth)
                if isinstance(event, yaml.MappingStartEvent)
                else self._sequence(at, depth)
            )
        except yaml.YAMLError:
            self.open = self.open or at
            raise
        if event.anchor:
            length = _length(event, self.last) + self.copied - copied
            self.anchors[event.anchor] = (value, self.nodes - nodes + 1, below, length)
            self.unfinished.discard(event.anchor)
        return value, below

    def _alias(self, event: Any, depth: int, at: int) -> tuple[JsonValue, int]:
        name = event.anchor
        if name in self.unfinished:
            self._stop("An alias inside what it names", f"{shown(name)} contains itself.", at)
        if name not in self.anchors:
            detail = f"Nothing above in this document is marked &{name[:60]}."
            self._stop("An unknown alias", detail, at)
        value, size, below, length = self.anchors[name]
        self.nodes += size - 1
        self.copied += length
        if self.nodes > MAX_NODES:
            self._stop(
                "Too many values", f"More than {MAX_NODES:,} after aliases are expanded.", at
            )
        if self.copied > MAX_BYTES:
            detail = f"Aliases repeat more than {MAX_BYTES:,} characters."
            self._stop("Too much text", detail, at)
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
            detail = f"{text[:40]} is {error}. Quote it if it is a string."
            self._report("A number that can't be kept", detail, at)
            return text

    def _mapping(self, at: int, depth: int) -> tuple[MappingNode, int]:
        node = MappingNode(self.file, at)
        merged: list[tuple[JsonValue, int, int]] = []
        repeated: list[tuple[str, int]] = []
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
                special = event.implicit[0] and text[:1] in NOT_TEXT
                value = self._scalar(event, value_at) if special else text
            else:
                merging = plain and key == _MERGE
                value, below = self._value(event, value_at, depth + (not merging))
                if merging:  # what is merged is no deeper than where it goes
                    below -= 1 + isinstance(value, list)
                deepest = max(deepest, below + 1)
            if plain and key == _MERGE:
                merged.append((value, key_at, value_at))
            elif key in node:
                repeated.append((key, key_at))
            else:
                node[key] = value
                mark(key_at)
                mark(value_at)
        self.last = event
        if repeated or merged:
            self._finish(node, repeated, merged)
        return node, deepest

    def _finish(
        self,
        node: MappingNode,
        repeated: list[tuple[str, int]],
        merged: list[tuple[JsonValue, int, int]],
    ) -> None:
        """Tell which keys stand there twice, and add what the merge key brings."""
        for key, at in repeated:
            first = node.key_source(key)
            detail = f"{shown(key)} stands at {first} already. Remove one of the two."
            self._report("A key declared twice", detail, at)
        for _, at, _ in merged[1:]:
            first = unpack(self.file, merged[0][1])
            detail = f'"<<" stands at {first} already. Merge a list: `<<: [*first, *second]`.'
            self._report("A key declared twice", detail, at)
        for value, _, at in merged[:1]:
            self._merge(node, value, at)

    def _key(self, event: Any, at: int) -> tuple[str, bool]:
        """The mapping key that `event` is, and whether it stands there unquoted."""
        if not isinstance(event, yaml.ScalarEvent):
            self._stop("A key that is no string", "Keys are plain strings here.", at)
        if len(event.value) > MAX_KEY:
            self._stop("A key that is too long", f"More than {MAX_KEY:,} characters.", at)
        if event.tag is not None:
            self._tag(event.tag, at)
        plain: bool = event.implicit[0]
        if plain and event.value[:1] in NOT_TEXT and not isinstance(_lenient(event.value), str):
            text = event.value[:60] or "nothing"
            detail = f"{text} is no string unless it is quoted. Quote it."
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
        self.last = event
        return node, deepest

    def _tag(self, tag: str, at: int) -> None:
        written = shown(tag.replace("tag:yaml.org,2002:", "!!", 1))
        self._report("A YAML tag", f"{written}: tags are not supported. Quote strings instead.", at)

    def _report(self, summary: str, detail: str, at: int) -> None:
        if len(self.diagnostics) == MAX_PROBLEMS:
            detail = f"More than {MAX_PROBLEMS:,} in this file; the rest was not looked at."
            self._stop("Too many mistakes", detail, at)
        self.diagnostics.append(_problem(summary, detail, unpack(self.file, at)))

    def _stop(self, summary: str, detail: str, at: int) -> NoReturn:
        raise Malformed(_problem(summary, detail, unpack(self.file, at)))

    def _syntax(self, error: yaml.MarkedYAMLError, length: int) -> Malformed:
        """What the parser says, told where it can be mended: never at the end of the file."""
        mark, begun = error.problem_mark, error.context_mark
        said = ", ".join(filter(None, [error.problem, error.context]))
        at = self.open or pack(1, 1)
        if begun and ("find expected ':'" in said or "end of stream" in said):
            at = pack(begun.line + 1, begun.column + 1)
        elif mark and (mark.index < length or not self.open):
            at = pack(mark.line + 1, mark.column + 1)
        if begun and mark and begun.index < mark.index:
            said += f" that begins at {begun.line + 1}:{begun.column + 1}"
        advice = next((f" {text}" for words, text in _ADVICE if words in said), "")
        detail = f"The parser says: {said}.{advice}"
        return Malformed(_problem("Broken YAML", detail, unpack(self.file, at)))


def _length(first: Any, last: Any) -> int:
    """Characters of the file from one event to another, both with."""
    length: int = last.end_mark.index - first.start_mark.index
    return length


def _position(event: Any) -> int:
    mark = event.start_mark
    position: int = ((mark.line + 1) << 24) | (mark.column + 1)  # `pack`, inlined: a million calls
    return position


def _lenient(text: str) -> JsonValue:
    try:
        return scalar(text)
    except ValueError:
        return 0
