"""A project's file in canonical order and layout, with its comments: what `fmt` writes.

A file is read into a tree of entries, from the parser's events and the text between them; the
entries are sorted as the models have their fields; the tree is written anew. No scalar is ever
interpreted: it is a piece of the text, quotes and all. Of comments, those at the end of a line stay
with what the line says, those above an entry go where it goes, and those that are indented deeper
than the entry above them belong to that one. What comes out is read again and compared with what
went in, so that whatever the tree can't express ends in an error and not in another meaning.

Source: docs/configuration.md; why not a library: docs/decisions/009-formatting-from-events.md.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, get_args, get_origin

import yaml
from pydantic import BaseModel

from reconciler.config import files
from reconciler.config.nodes import masked, parse, text_of, unmasked
from reconciler.config.scratch import unfinished
from reconciler.core.account import known_keys
from reconciler.core.configuration import Invalid
from reconciler.core.shapes import ProjectShape
from reconciler.core.values import Diagnostic, JsonObject, JsonValue, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_STEP: Final = 2
_MERGE: Final = "<<"
_ITEM: Final = "- "
_BRACKETS: Final = {True: ("{", "}"), False: ("[", "]")}
_APART: Final = ("accounts", "templates")
"""Whose entries have a line between them."""

_MODELINE = re.compile(r"#.*(?:yaml-language-server:|-\*-|\bvim?:)")
_LINE_END = re.compile("\r\n?")
_INDICATORS = re.compile(r"([|>][-+1-9]*)")
_PLAIN = re.compile(r"[A-Za-z_](?:[\w./@+-]| (?=\w))*", re.ASCII)
_WORDS: Final = frozenset(
    ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"]
)
"""What some readers of YAML take for something else than a string."""
_SKIPPED = re.compile(r"\s*(?:#.*\s*)*")
"""What may stand between an anchor and its scalar."""


def formatted(name: str, data: bytes) -> str:
    """The file `data` in canonical order and layout. Formatting that again changes nothing.

    `name` is what diagnostics call the file. Raises: Invalid if it can't be parsed, or if it would
    not mean the same afterwards.
    """
    before = _values(name, data)
    text = _LINE_END.sub("\n", text_of(name, data))
    hidden = masked(text)
    documents, rest = _Reader(hidden).documents()
    for document in documents:
        _arrange(document.root, ProjectShape)
    written = _written(documents, rest)
    result = written if hidden == text else unmasked(written)
    if not same(before, _reread(name, result)):
        raise _refusal(name, "its values would not be the same")
    if comments_in(hidden) != comments_in(written):
        raise _refusal(name, "a comment would be lost")
    return result


def composed(document: JsonObject) -> str:
    """A new file with what `document` has, in canonical order and layout.

    Strings are the strings that they will be read as, so a `${` in one must be doubled before. What
    YAML can't hold (docs/configuration.md, "Scalars") must not be in it.
    """
    root = _Entry(value=_composed(document))
    _arrange(root, ProjectShape)
    return _written([_Document([], "", [], root, [], None)], [])


def _composed(value: JsonValue) -> _Leaf | _Collection:
    if isinstance(value, dict):
        entries = [_Entry(_scalar(key), key, _composed(inner)) for key, inner in value.items()]
        return _Collection(True, "", flow=not entries, entries=entries)
    if isinstance(value, list):
        entries = [_Entry(value=_composed(inner)) for inner in value]
        return _Collection(False, "", flow=not entries, entries=entries)
    return _Leaf([_scalar(value)])


def _scalar(value: JsonValue) -> str:
    """A scalar as YAML: a string without quotes only if every reader of YAML takes it for that string."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else _quoted(value)
    if isinstance(value, float):
        digits = f"{Decimal(repr(value)):f}"
        return digits if "." in digits else f"{digits}.0"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """`text` in double quotes; what can't be seen in it is written as an escape."""
    escaped = json.dumps(text, ensure_ascii=False)
    if escaped.isprintable():
        return escaped
    return "".join(c if c.isprintable() else _escape(c) for c in escaped)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - as YAML has it


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A file that is not as it should be. `name`: what diagnostics call it; `text`: what belongs there."""

    path: Path
    name: str
    text: str


def rewritten(path: Path, name: str) -> Rewrite | None:
    """What `fmt` would write to a file; None if that stands there. Raises: Invalid."""
    try:
        data = files.read(path)
    except files.Unreadable as error:
        place = Source(name, 1, 1)
        found = Diagnostic("error", "An unreadable file", f"{error}", source=place)
        raise Invalid([found]) from error
    text = formatted(name, data)
    return None if text.encode() == data else Rewrite(path, name, text)


def rewrite(directory: Path, found: Sequence[Rewrite]) -> None:
    """Write files of the project `directory`, each as a whole or not at all. Raises: OSError."""
    for file in found:
        with unfinished(directory) as new:
            new.write_text(file.text, encoding="utf-8")
            shutil.copymode(file.path, new)
            new.replace(file.path)


def _values(name: str, data: bytes) -> list[JsonValue]:
    documents, diagnostics = parse(name, data)
    if diagnostics:
        raise Invalid(diagnostics)
    return documents


def _reread(name: str, result: str) -> list[JsonValue]:
    try:
        return _values(name, result.encode())
    except Invalid as error:
        raise _refusal(name, "it could not be read any more") from error


def same(before: JsonValue, after: JsonValue) -> bool:
    """Whether both are equal but for the order of keys; 1, 1.0 and true differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(same, before, after))
    return type(before) is type(after) and before == after


def _refusal(name: str, why: str) -> Invalid:
    detail = f"In canonical layout {why}. The file is left as it is; write it more plainly."
    place = Source(name, 1, 1)
    return Invalid([Diagnostic("error", "A file that can't be formatted", detail, source=place)])


def comments_in(text: str) -> Counter[str]:
    """The comments in `text`: what the scanner skips, and what follows the head of a `|` or `>`."""
    found: Counter[str] = Counter()
    scanner: Any = yaml.CSafeLoader(text)
    end = 0
    try:
        while token := scanner.get_token():
            start, skipped = token.start_mark.index, text[end : token.start_mark.index]
            end = token.end_mark.index
            if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
                skipped += text[start:end].partition("\n")[0]
            if "#" in skipped:
                found.update(comment.rstrip() for comment in re.findall("#.*", skipped))
    finally:
        scanner.dispose()
    return found


# --- the tree --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """A line without content: a comment, or, if `text` is empty, a blank one."""

    text: str
    column: int = 0


@dataclass(slots=True)
class _Leaf:
    """A scalar or an alias as it is written, with its anchor.

    All lines but the first are without their indentation, which is `step` more than the entry's.
    `literal`: written with `|` or `>`. `keeps`: the blank lines at its end are part of it.
    """

    lines: list[str]
    literal: bool = False
    keeps: bool = False
    step: int = _STEP


@dataclass(slots=True)
class _Collection:
    """A mapping, or else a list. `anchor` with its `&`, `flow`: in brackets.

    Of those in brackets: `spread` are the ones written over several lines, with a comment behind
    the opening bracket in `opening`, and those above the closing one in `foot`. `apart`: blank
    lines are wanted between the entries.
    """

    mapping: bool
    anchor: str
    flow: bool
    entries: list[_Entry] = field(default_factory=list)
    spread: bool = False
    opening: str = ""
    foot: list[_Line] = field(default_factory=list)
    apart: bool = False


@dataclass(slots=True)
class _Entry:
    """A key and its value, an item of a list, or the root of a document.

    `key` is the text, `name` what it means. `head` stands above, `foot` below, indented deeper;
    `tail` is the comment at the end of the line, with the blanks before it. `names`: anchors and
    aliases in here, in order, each with whether it is an anchor.
    """

    key: str = ""
    name: str = ""
    value: _Leaf | _Collection = field(default_factory=lambda: _Leaf([""]))
    head: list[_Line] = field(default_factory=list)
    tail: str = ""
    foot: list[_Line] = field(default_factory=list)
    names: list[tuple[str, bool]] = field(default_factory=list)


@dataclass(slots=True)
class _Document:
    """A document. `start`: the line `---` and the directives above it, or nothing; `end`: `...`."""

    before: list[_Line]
    start: str
    head: list[_Line]
    root: _Entry
    foot: list[_Line]
    end: _Entry | None


# --- reading ---------------------------------------------------------------------------------


class _Reader:
    """Builds the tree. What stands between two events is judged when the second one comes.

    `end`: up to where the text was read. `lines`: comments and blanks since the last content, or
    since the dash of `item`; `above_item` those before that dash. `owner`: whose line is read.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parser = yaml.CSafeLoader(text)
        self.end = 0
        self.lines: list[_Line] = []
        self.above_item: list[_Line] = []
        self.owner = self.item = _Entry()
        self.dash = 0
        self.names: list[tuple[str, bool]] = []

    def documents(self) -> tuple[list[_Document], list[_Line]]:
        """All documents, and the lines after the last."""
        try:
            self._next()
            found: list[_Document] = []
            while not isinstance(event := self._next(), yaml.StreamEndEvent):
                found.append(self._document(event))
            return found, self._take()
        finally:
            self.parser.dispose()

    def _document(self, start: Any) -> _Document:
        before = self._take() if start.explicit else []
        self.owner = opening = _Entry()
        event = self._next()
        head = self._header()
        self.owner = root = _Entry()
        self._fill(root, event, 0)
        end = self._next()
        foot = self._take()
        self.owner = closing = _Entry()
        marker = self._slice(start) + opening.tail
        return _Document(before, marker, head, root, foot, closing if end.explicit else None)

    def _header(self) -> list[_Line]:
        """Take what stays at the head of the document, whatever its first key is.

        That is all that stands there, but for what is close above the key, with a line between.
        """
        while self.lines and not self.lines[0].text:
            del self.lines[0]
        stays = [n for n, line in enumerate(self.lines, 1) if _stays(line)]
        cut = stays[-1] if stays else len(self.lines)
        head, self.lines = self.lines[:cut], self.lines[cut:]
        return head

    def _fill(self, entry: _Entry, event: Any, column: int) -> None:
        """Read the value that begins with `event` into `entry`, which stands in `column`."""
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            entry.value = self._flow(event, entry) if event.flow_style else self._block(event)
            return
        if self._slice(event):  # what is between the key and the value has nowhere else to go
            entry.head += self._take_comments()
        text = self._text(event, entry)
        if isinstance(event, yaml.ScalarEvent) and event.style in ("|", ">"):
            entry.value = self._literal(text, event.value, column)
            entry.head += [_Line(entry.tail.lstrip())] if entry.tail else []
            entry.tail = ""  # that end of the line is the scalar's
        else:
            entry.value = _Leaf([_trimmed(line) for line in text.split("\n")])

    def _block(self, start: Any) -> _Collection:
        mapping = isinstance(start, yaml.MappingStartEvent)
        found = _Collection(mapping, _anchor(start), flow=False)
        column = 0
        while True:
            seen = len(self.names)
            event = self._next()
            if isinstance(event, yaml.CollectionEndEvent):
                self._give_deeper(found.entries, self.lines, column)
                return found
            if mapping:
                column = event.start_mark.column
                entry, above, self.lines = self._key(event), self.lines, []
            else:
                column, entry, above = self.dash, self.item, self.above_item
            self._give_deeper(found.entries, above, column)
            entry.head += above
            self._fill(entry, self._next() if mapping else event, column)
            entry.names = self.names[seen:]
            found.entries.append(entry)

    def _key(self, event: Any) -> _Entry:
        """Begin the entry with the key `event`; what follows in its line is its own."""
        self.owner = _Entry(name=event.value)
        self.owner.key = self._text(event, self.owner)
        return self.owner

    def _text(self, event: Any, entry: _Entry) -> str:
        """A scalar or alias as written. A comment behind its anchor goes above `entry`."""
        text = self._slice(event)
        anchor = _anchor(event)
        if not anchor:
            return text
        skipped = _SKIPPED.match(text, len(anchor))
        start = skipped.end() if skipped else 0
        comments = re.findall("#.*", text[:start])
        entry.head += [_Line(comment.rstrip()) for comment in comments]
        return _spaced(anchor) + text[start:]

    def _give_deeper(self, entries: list[_Entry], lines: list[_Line], column: int) -> None:
        """Move the first of `lines` to the entry above them if they are indented deeper than it.

        Never below a `|` or `>`: what is indented there is part of it.
        """
        if not entries or (isinstance(last := entries[-1].value, _Leaf) and last.literal):
            return
        count = _deeper(lines, column)
        entries[-1].foot += lines[:count]
        del lines[:count]

    def _flow(self, start: Any, owner: _Entry) -> _Collection:
        owner.head += self._take_comments()
        mapping = isinstance(start, yaml.MappingStartEvent)
        found = _Collection(mapping, _anchor(start), flow=True)
        seen, event = len(self.names), self._next()
        found.opening, owner.tail = owner.tail, ""
        while not isinstance(event, yaml.CollectionEndEvent):
            entry = self._key(event) if mapping else _Entry()
            entry.head += self._take_comments()
            self.owner = entry
            self._fill(entry, self._next() if mapping else event, 0)
            entry.names = self.names[seen:]
            found.entries.append(entry)
            seen, event = len(self.names), self._next()
        found.foot, self.owner = self._take_comments(), owner
        source = self.text[start.start_mark.index : self.end]
        found.spread = "\n" in source and bool(found.entries or found.opening or found.foot)
        if not found.spread:
            found.opening, owner.tail = "", found.opening
        return found

    def _literal(self, text: str, value: str, column: int) -> _Leaf:
        """Read a scalar written with `|` or `>`. `column`: of the entry that it stands in."""
        first, *body = text.removesuffix("\n").split("\n")
        start, marks, rest = _INDICATORS.split(first, 1)
        step = int(marks[1:].strip("+-") or 0)
        margin = column + step if step else _margin(body)
        lines = [line[margin:] for line in body]
        if value and not value.endswith("\n") and "-" not in marks:
            # It ended with the file, which had no last newline; the result has one.
            marks = marks.replace("+", "") + "-"
        keeps = "+" in marks
        while lines and not lines[-1] and not keeps:
            self.lines = [_Line("")]
            lines.pop()
        return _Leaf([f"{start}{marks}{rest}".rstrip(), *lines], True, keeps, step or _STEP)

    # --- the text between the events

    def _next(self) -> Any:
        """The next event, after reading what stands before it."""
        event: Any = self.parser.get_event()
        start, end = event.start_mark.index, event.end_mark.index
        if start > self.end:
            self._between(self.end, start)
        self.end = max(self.end, end)
        if anchor := getattr(event, "anchor", None):
            self.names.append((anchor, not isinstance(event, yaml.AliasEvent)))
        if isinstance(event, yaml.CollectionStartEvent):
            # Its end is that of its first token only if it has brackets, and behind an anchor
            # there may be a comment.
            self.end = start + len(_anchor(event))
            if event.flow_style and end > self.end:
                self._between(self.end, end - 1)
                self.end = end
        return event

    def _between(self, start: int, end: int) -> None:
        """Sort what stands between two events: comments, blank lines, indicators."""
        gap = self.text[start:end]
        if "#" not in gap and "-" not in gap and gap.count("\n") < 2:  # noqa: PLR2004 - no blank line
            return
        column = start - (self.text.rfind("\n", 0, start) + 1)
        *whole, last = gap.split("\n")
        for line in whole:
            self._between_in(line, column)
            if not column and not line.strip():
                self.lines.append(_Line(""))
            column = 0
        self._between_in(last, column)

    def _between_in(self, part: str, column: int) -> None:
        """Sort what stands in one line between two events, from `column` on."""
        code, mark, comment = part.partition("#")
        if "-" in code:
            self._open_item(column + code.index("-"))
        if mark:
            self._comment(code, mark + comment.rstrip(), own=not column and not code.strip())

    def _open_item(self, column: int) -> None:
        self.above_item, self.lines = self.lines, []
        self.owner = self.item = _Entry()
        self.dash = column

    def _comment(self, code: str, comment: str, *, own: bool) -> None:
        if own:
            self.lines.append(_Line(comment, len(code)))
        elif self.owner.tail:
            self.owner.head.append(_Line(comment))  # a line has but one end
        else:
            blanks = len(code) - len(code.rstrip())
            self.owner.tail = " " * max(blanks, 1) + comment

    def _slice(self, event: Any) -> str:
        return self.text[event.start_mark.index : event.end_mark.index]

    def _take(self) -> list[_Line]:
        taken, self.lines = self.lines, []
        return taken

    def _take_comments(self) -> list[_Line]:
        return [line for line in self._take() if line.text]


def _anchor(event: Any) -> str:
    return "" if isinstance(event, yaml.AliasEvent) or not event.anchor else f"&{event.anchor}"


def _stays(line: _Line) -> bool:
    return not line.text or _MODELINE.match(line.text) is not None


def _deeper(lines: Sequence[_Line], column: int) -> int:
    """How many of the first lines are comments right of `column`, and blanks between them."""
    count = 0
    for number, line in enumerate(lines, 1):
        if line.text and line.column <= column:
            break
        if line.text:
            count = number
    return count


def _margin(body: Sequence[str]) -> int:
    """The indentation of a block scalar: that of its first line that is not blank."""
    first = next((line for line in body if line.strip(" ")), "")
    return len(first) - len(first.lstrip(" ")) if first else max(map(len, body), default=0)


def _trimmed(line: str) -> str:
    """A line of a scalar without the blanks around it, which mean nothing unless escaped."""
    line = line.lstrip(" \t")
    bare = line.rstrip(" \t")
    return line[: len(bare) + 1] if bare.endswith("\\") else bare


# --- the order of keys -----------------------------------------------------------------------

_Place: TypeAlias = object
"""What stands somewhere: the type that a shape gives it, or its path in an account document."""


def _arrange(entry: _Entry, place: _Place) -> None:
    """Put the keys of all mappings below into the order of the models."""
    value = entry.value
    if isinstance(value, _Leaf):
        return
    if value.mapping:
        place = _one(place)
        value.entries = _sorted(value.entries, _keys(place))
    for number, inner in enumerate(value.entries):
        _arrange(inner, _below(place, inner.name if value.mapping else number))
        if place is ProjectShape and inner.name in _APART and isinstance(inner.value, _Collection):
            inner.value.apart = any(_is_block(account.value) for account in inner.value.entries)


def _sorted(entries: list[_Entry], keys: Sequence[str]) -> list[_Entry]:
    """Known keys in their order, others behind; as written if an alias would lose its anchor."""
    if not keys:
        return entries
    rank = {_MERGE: -1, **{key: number for number, key in enumerate(keys)}}
    found = sorted(entries, key=lambda entry: rank.get(entry.name, len(keys)))
    return found if _bound(found) == _bound(entries) else entries


def _bound(entries: Sequence[_Entry]) -> tuple[Counter[tuple[str, int, int]], dict[str, int]]:
    """Which aliases mean which anchors, and which anchors are in force in the end."""
    aliases: Counter[tuple[str, int, int]] = Counter()
    anchors: dict[str, int] = {}
    for entry in entries:
        for name, is_anchor in entry.names:
            if is_anchor:
                anchors[name] = id(entry)
            else:
                aliases[name, id(entry), anchors.get(name, 0)] += 1
    return aliases, anchors


def _is_model(place: _Place) -> TypeGuard[type[BaseModel]]:
    return isinstance(place, type) and issubclass(place, BaseModel)


def _is_block(value: _Leaf | _Collection) -> bool:
    return isinstance(value, _Collection) and not value.flow


def _keys(place: _Place) -> tuple[str, ...]:
    """The keys of a mapping in their order; none if they are the user's own."""
    if isinstance(place, tuple):
        return known_keys(place)
    if not _is_model(place):
        return ()
    return tuple(info.alias or name for name, info in place.model_fields.items())


def order_of(path: Sequence[str]) -> tuple[str, ...]:
    """The keys of the mapping at `path` of a document in their order; none if they are the user's own."""
    place: _Place = ProjectShape
    for segment in path:
        place = _below(_one(place), segment)
    return _keys(_one(place))


def _below(place: _Place, segment: str | int) -> _Place:
    if isinstance(place, tuple):
        return (*place, segment)
    if not _is_model(place):
        return get_args(place)[-1] if get_args(place) else None
    if segment == "settings" and segment in place.model_fields:
        return ()
    info = place.model_fields.get(str(segment))
    return info.annotation if info else None


def _one(place: _Place) -> _Place:
    """What a mapping is, where there may be nothing or a list of such as well."""
    if get_origin(place) is list:
        return get_args(place)[0]
    if type(None) in get_args(place):
        return next(kind for kind in get_args(place) if kind is not type(None))
    return place


# --- writing ---------------------------------------------------------------------------------


class _Page:
    """The lines written so far.

    `lead` stands before the next line instead of its indentation: dashes. After a line that opens
    something, and at the end of a text that would have them for its own, there are no blank lines.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lead = ""
        self.closed = True

    def put(self, indent: int, text: str, *, opens: bool = False) -> None:
        self.lines.append((self.lead or " " * indent) + text)
        self.lead = ""
        self.closed = opens

    def blank(self) -> None:
        if not self.closed and self.lines[-1]:
            self.lines.append("")

    def comments(self, indent: int, lines: Sequence[_Line]) -> None:
        for line in lines:
            if line.text:
                self.put(indent, line.text)
            else:
                self.blank()

    def text(self) -> str:
        while self.lines and not self.lines[-1] and not self.closed:
            self.lines.pop()
        return "".join(f"{line}\n" for line in self.lines)


def _written(documents: Sequence[_Document], rest: Sequence[_Line]) -> str:
    page = _Page()
    for document in documents:
        _write_document(page, document)
    page.comments(0, rest)
    return page.text()


def _write_document(page: _Page, document: _Document) -> None:
    page.comments(0, document.before)
    if document.start:
        for line in document.start.split("\n"):
            page.put(0, line.rstrip(), opens=True)
    page.comments(0, document.head)
    _write_root(page, document.root, after_comment=any(line.text for line in document.head))
    page.comments(0, document.foot)
    if document.end:
        page.put(0, "..." + document.end.tail)


def _write_root(page: _Page, root: _Entry, *, after_comment: bool) -> None:
    value = root.value
    if isinstance(value, _Leaf) and value.lines == [""]:
        return
    if isinstance(value, _Leaf) or value.flow:
        page.comments(0, root.head)
        _write_entry(page, root, 0, "")
        return
    if value.anchor:
        page.put(0, value.anchor + root.tail, opens=True)
    elif after_comment and value.entries[0].head:
        page.blank()
    _write_block(page, value, 0)


def _write_block(page: _Page, block: _Collection, indent: int) -> None:
    for entry in block.entries:
        if block.apart:
            page.blank()
        page.comments(indent, [*entry.head, *_hoisted(entry)])
        _write_entry(page, entry, indent, f"{entry.key}: " if block.mapping else _ITEM)
        page.comments(indent + _STEP, entry.foot)


def _hoisted(item: _Entry) -> Iterator[_Line]:
    """Take what stands above the first entry of an item: with its dash, it begins the line."""
    while not item.key and _is_compact(item.value, item.tail):
        item = item.value.entries[0]
        yield from item.head
        item.head = []


def _is_compact(value: _Leaf | _Collection, tail: str) -> TypeGuard[_Collection]:
    """Whether it begins in the line of the dash."""
    return isinstance(value, _Collection) and not (value.flow or value.anchor or tail)


def _write_entry(page: _Page, entry: _Entry, indent: int, prefix: str, suffix: str = "") -> None:
    """Write an entry from its `prefix` (key or dash) on, with the comma behind it, if any."""
    value = entry.value
    if isinstance(value, _Leaf):
        _write_leaf(page, value, indent, prefix, suffix + entry.tail)
    elif value.spread:
        _write_spread(page, value, indent, prefix, suffix + entry.tail)
    elif value.flow:
        page.put(indent, prefix + _inline(value) + suffix + entry.tail)
    elif prefix == _ITEM and _is_compact(value, entry.tail):
        page.lead = (page.lead or " " * indent) + _ITEM
        page.closed = True
        _write_block(page, value, indent + _STEP)
    else:
        page.put(indent, (prefix + value.anchor).rstrip() + entry.tail, opens=True)
        _write_block(page, value, indent + _STEP)


def _write_leaf(page: _Page, leaf: _Leaf, indent: int, prefix: str, end: str) -> None:
    first, *others = leaf.lines
    page.put(indent, prefix + first if others or end.startswith(",") else (prefix + first).rstrip())
    for line in others:
        page.put(indent + leaf.step if line else 0, line)
    page.lines[-1] += end
    page.closed = leaf.keeps


def _write_spread(page: _Page, flow: _Collection, indent: int, prefix: str, end: str) -> None:
    """One entry a line, the closing bracket below what opened it."""
    opener, closer = _BRACKETS[flow.mapping]
    page.put(indent, f"{prefix}{_spaced(flow.anchor)}{opener}{flow.opening}", opens=True)
    indent += _STEP if prefix == _ITEM else 0
    for number, entry in enumerate(flow.entries, 1):
        page.comments(indent + _STEP, entry.head)
        key = f"{entry.key}: " if flow.mapping else ""
        suffix = "," if number < len(flow.entries) else ""
        _write_entry(page, entry, indent + _STEP, key, suffix)
    page.comments(indent + _STEP, flow.foot)
    page.put(indent, closer + end)


def _inline(value: _Leaf | _Collection) -> str:
    if isinstance(value, _Leaf):
        return value.lines[0]
    opener, closer = _BRACKETS[value.mapping]
    keys = [f"{entry.key}: " if value.mapping else "" for entry in value.entries]
    parts = [key + _inline(entry.value) for key, entry in zip(keys, value.entries, strict=True)]
    return _spaced(value.anchor) + opener + ", ".join(parts) + closer


def _spaced(anchor: str) -> str:
    return f"{anchor} " if anchor else ""
