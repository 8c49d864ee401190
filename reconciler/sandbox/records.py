"""What the platform keeps of an account: the public document, and what is private about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject


@dataclass(frozen=True, slots=True)
class Record:
    """An account as stored.

    document: the public fields; never changed in place, a write makes a new one.
    tree: ids of the ancestors, the platform's root first, the parent last. created: Gregorian
    seconds. revision: `N-hex`, N rises with every write. stored_reseller: what the services
    record says, which may differ from what the tree says (docs/platform.md 3.9).
    trial_until: Unix seconds. old_api_key: the key that the next write brings back (3.1).
    """

    id: str
    document: JsonObject
    tree: tuple[str, ...]
    created: int
    revision: str
    api_key: str
    enabled: bool = True
    is_reseller: bool = False
    stored_reseller: str = ""
    superduper: bool = False
    notification_preference: str | None = None
    trial_until: int | None = None
    old_api_key: str | None = None

    @property
    def name(self) -> str:
        """The display name, exactly as stored."""
        return str(self.document.get("name", ""))

    @property
    def realm(self) -> str:
        """The SIP domain, exactly as stored."""
        return str(self.document.get("realm", ""))


class Ids:
    """An endless row of hex strings; the same seed gives the same row."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def hex(self, length: int) -> str:
        """Make the next string, of at most 64 characters."""
        self._count += 1
        return hashlib.sha256(f"{self._seed}:{self._count}".encode()).hexdigest()[:length]


def to_bytes(record: Record) -> bytes:
    """Write a record for the store's file."""
    return orjson.dumps(record)


def from_bytes(data: bytes) -> Record:
    """Read what `to_bytes` wrote."""
    fields = orjson.loads(data)
    fields["tree"] = tuple(fields["tree"])
    return Record(**fields)
