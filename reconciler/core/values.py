"""What all other modules speak in: JSON, addresses, paths, places in files, diagnostics.

Nothing here knows of the platform, of YAML or of state.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NewType, TypeAlias

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"
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

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


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


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A place in a file of the project. Lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


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
        return (place.file, place.line, place.column, self.address or "", self.path or "", self.summary)
