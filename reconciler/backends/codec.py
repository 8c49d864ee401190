"""State and journal entries to bytes and back, for all backends alike.

A journal is a sequence of records, numbered from 1, that belong to one lineage and serial: what a
run made sure of since that state was saved. A record carries a checksum and what it belongs to, so
that one from elsewhere is never taken.

Source: docs/state.md.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from reconciler.core.state import Entry, State, Unusable, dump, entry_from, entry_json, parse

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Codec:
    """How state is written down."""

    def encode(self, state: State) -> bytes:
        """The whole state as text."""
        return dump(state)

    def decode(self, text: bytes) -> State:
        """Read what `encode` wrote. Raises: Unusable."""
        return parse(text)

    def encode_record(self, base: State, number: int, entries: Sequence[Entry]) -> bytes:
        """The record `number` of the journal that goes with `base`: one line, without its end."""
        document = {
            "lineage": base.lineage,
            "serial": base.serial,
            "number": number,
            "entries": [entry_json(entry) for entry in entries],
        }
        text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        return b"%08x %s" % (zlib.crc32(text), text)

    def decode_record(self, base: State, number: int, record: bytes) -> list[Entry] | None:
        """Read what `encode_record` wrote; None if it goes with another state.

        Raises: Unusable if it is damaged.
        """
        checksum, _, text = record.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            raise Unusable("a wrong checksum")
        try:
            document = orjson.loads(text)
            if (document["lineage"], document["serial"]) != (base.lineage, base.serial):
                return None
            if document["number"] != number:
                raise Unusable(f"record {document['number']} stands where {number} should")
            return [entry_from(entry) for entry in document["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Unusable(f"it is no record of a journal ({error})") from error
