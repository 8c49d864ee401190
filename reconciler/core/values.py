"""What all other modules speak in: JSON, addresses, paths, places in files, diagnostics.

Nothing here knows of the platform, of YAML or of state.
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Literal, NewType, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

AccountId = NewType("AccountId", str)
"""The platform's id of an account. Opaque; always made by `account_id()`."""

Key: TypeAlias = str
"""What an account is called in the YAML; its address is `accounts.KEY`."""

FieldPath: TypeAlias = tuple[str, ...]
"""The way to a field of an account block: `("settings", "caller_id", "external", "name")`."""


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT
"""There is no value. Not the same as `None`, `""`, `{}` or `[]`."""

MaybeJson: TypeAlias = JsonValue | Literal[Absent.ABSENT]

ROOT: Final = "root"
"""The word for the root account where a parent's key is expected."""

ID: Final = "[A-Za-z0-9-]{1,64}"
KEY: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""What the platform's ids and the keys of accounts and templates look like: regular expressions."""

_PLAIN: Final = "[A-Za-z0-9_-]+"
_QUOTED: Final = r'\["(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"\]'
PATH: Final = rf"(?:{_PLAIN}|{_QUOTED}(?:{_PLAIN})?)(?:\.{_PLAIN}|{_QUOTED}(?:{_PLAIN})?)*"
"""What `parse_path` reads, as a regular expression."""

_ID = re.compile(ID)
_KEY = re.compile(KEY)
_PATH = re.compile(PATH)
_SEGMENT = re.compile(rf"({_PLAIN})|({_QUOTED})")
_PLAIN_SEGMENT = re.compile(_PLAIN)


def account_id(text: object) -> AccountId:
    """Take `text` as an account's id. Raises: ValueError if it could not stand in a URL safely."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise ValueError("an account id is 1 to 64 letters, digits and dashes")
    return AccountId(text)


def is_key(text: str) -> bool:
    """Whether `text` may be an account's key."""
    return _KEY.fullmatch(text) is not None


def address(key: Key) -> str:
    """Name the account `key` as people and JSON do: `accounts.acme`."""
    return f"accounts.{key}"


def dotted(path: FieldPath | tuple[str | int, ...]) -> str:
    """Write a path for people: dots between plain names, `["…"]` around all others."""
    parts: list[str] = []
    for segment in path:
        if isinstance(segment, int):
            parts.append(f"[{segment}]")
        elif _PLAIN_SEGMENT.fullmatch(segment):
            parts.append(f".{segment}" if parts else segment)
        else:
            parts.append(f"[{json.dumps(segment, ensure_ascii=False)}]")
    return "".join(parts)


def parse_path(text: str) -> FieldPath:
    """Read what `dotted` writes. Raises: ValueError if `text` is no such path."""
    if not _PATH.fullmatch(text):
        raise ValueError('a path is names with dots between, and ["…"] around odd names')
    return tuple(plain or json.loads(quoted)[0] for plain, quoted in _SEGMENT.findall(text))


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A place in a file of the project. Lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class MappingNode(dict[str, JsonValue]):
    """A mapping as it stands in a file: a plain dict that also knows where each key stands.

    `marks` holds two packed positions per entry, of key and value, in the order of the entries: a
    hundred thousand accounts have millions of keys, and an object for each would cost gigabytes.
    Entries come and go by `add` and `drop` alone.
    """

    __slots__ = ("file", "mark", "marks", "numbers")

    def __init__(self, file: str, mark: int) -> None:
        super().__init__()
        self.file = file
        self.mark = mark
        self.marks = array("Q")
        self.numbers: dict[str, int] | None = None

    def add(self, key: str, value: JsonValue, key_mark: int, value_mark: int) -> None:
        """Put a further entry behind the others."""
        self[key] = value
        self.marks.append(key_mark)
        self.marks.append(value_mark)

    def drop(self, keys: Container[str]) -> None:
        """Take entries out."""
        kept = [entry for entry in self.entries() if entry[0] not in keys]
        self.clear()
        self.marks, self.numbers = array("Q"), None
        for entry in kept:
            self.add(*entry)

    def entries(self) -> Iterator[tuple[str, JsonValue, int, int]]:
        """Each key and value with their marks, in order."""
        keys, values = self.marks[::2], self.marks[1::2]
        return ((k, self[k], at, to) for k, at, to in zip(self, keys, values, strict=True))

    def key_source(self, key: str) -> Source:
        """Where the key stands; the mapping itself if it has no such key."""
        return unpack(self.file, self.marks[2 * self._number(key)] if key in self else self.mark)

    def value_source(self, key: str) -> Source:
        """Where the key's value stands; the mapping itself if it has no such key."""
        return unpack(
            self.file, self.marks[2 * self._number(key) + 1] if key in self else self.mark
        )

    def _number(self, key: str) -> int:
        """Which entry the key is. All are counted at once, and only if somebody asks."""
        if self.numbers is None or len(self.numbers) != len(self):
            self.numbers = {name: number for number, name in enumerate(self)}
        return self.numbers[key]


class SequenceNode(list[JsonValue]):
    """A list as it stands in a file; `marks` has a packed position per item."""

    __slots__ = ("file", "mark", "marks")

    def __init__(self, file: str, mark: int) -> None:
        super().__init__()
        self.file = file
        self.mark = mark
        self.marks = array("Q")


def accounts(count: int) -> str:
    """`1 account`, `418 accounts`."""
    return "1 account" if count == 1 else f"{count} accounts"


def pack(line: int, column: int) -> int:
    """One integer for a position, 24 bits a part: enough for the 16 MiB that a file may have."""
    return (line << 24) | column


def unpack(file: str, mark: int) -> Source:
    """The position in the lowest 48 bits of `mark`."""
    return Source(file, (mark >> 24) & 0xFFFFFF, mark & 0xFFFFFF)


def locate(node: JsonValue, path: Sequence[str | int], *, key: bool = False) -> Source | None:
    """Where the value at `path` stands, or the innermost enclosing thing that is there.

    With `key`, the position of the last mapping key rather than of its value. None if `node`
    came from no file.
    """
    found = unpack(node.file, node.mark) if isinstance(node, MappingNode | SequenceNode) else None
    for depth, segment in enumerate(path):
        if isinstance(node, MappingNode) and isinstance(segment, str) and segment in node:
            last = key and depth == len(path) - 1
            found = node.key_source(segment) if last else node.value_source(segment)
            node = node[segment]
        elif isinstance(node, SequenceNode) and isinstance(segment, int) and segment < len(node):
            found = unpack(node.file, node.marks[segment])
            node = node[segment]
        else:
            break
    return found


@dataclass(frozen=True, slots=True)
class Sensitive:
    """A value that no output may show. `origin` says where it can be had again: `var.secret`."""

    value: JsonValue = field(repr=False)
    origin: str


def conceal(value: JsonValue, origin: str) -> JsonValue:
    """A `Sensitive` that can stand inside a body.

    A body is JSON but for these, so whoever prints or sends one must say which of the two he
    means; serialising it without that fails.
    """
    return cast("JsonValue", Sensitive(value, origin))


def concealed(value: JsonValue) -> Sensitive | None:
    """The `Sensitive` that stands here in a body, if one does."""
    inner: object = value
    return inner if isinstance(inner, Sensitive) else None


def value_at(document: JsonValue, path: Sequence[str]) -> MaybeJson:
    """The value at `path` below `document`, or ABSENT."""
    for segment in path:
        if not isinstance(document, dict) or segment not in document:
            return ABSENT
        document = document[segment]
    return document


def place(document: JsonObject, path: FieldPath, value: JsonValue) -> None:
    """Put `value` at `path` into `document`, making the mappings on the way."""
    for segment in path[:-1]:
        inner = document.setdefault(segment, {})
        if not isinstance(inner, dict):
            inner = document[segment] = {}
        document = inner
    document[path[-1]] = value


def leaves(document: JsonObject, prefix: FieldPath = ()) -> Iterator[tuple[FieldPath, JsonValue]]:
    """Each leaf of `document` with its path, in order. Lists and empty mappings are leaves."""
    for name, value in document.items():
        path = (*prefix, name)
        if isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield path, value


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong, or odd, with what the user wrote or the platform answered.

    `summary` is a noun phrase, `detail` says what was found, what is allowed and what to do.
    Neither holds a sensitive value. Text in it from outside is made harmless when rendered.
    """

    severity: Literal["error", "warning"]
    summary: str
    detail: str
    address: str | None = None
    path: str | None = None
    source: Source | None = None

    def sort_key(self) -> tuple[str, int, int, str, str, str]:
        """Order by file and position, then by address and field."""
        place = self.source or Source("", 0, 0)
        return (
            place.file,
            place.line,
            place.column,
            self.address or "",
            self.path or "",
            self.summary,
        )


def stays_here(host: str) -> bool:
    """Whether what is sent to `host` does not leave this machine, so that it may go in clear."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
