"""State and journal entries to bytes and back, for all backends alike.

A journal is a sequence of records, numbered from 1, that belong to one lineage and serial: what a
run made sure of since that state was saved. A record carries a checksum and what it belongs to, so
that one from elsewhere is never taken.

Source: docs/state.md.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from reconciler.backends.integrity import Witness
from reconciler.core.state import Entry, State, Unusable, dump, entry_from, entry_json, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.values import JsonObject


@dataclass(frozen=True, slots=True)
class Codec:
    """How state is written down."""

    def encode(self, state: State) -> bytes:
        """The whole state as text."""
        return dump(state)

    def decode(self, text: bytes, last: Witness | None = None) -> State:
        """Read what `encode` wrote. `last`: what the place remembers, if it does.

        Raises: Unusable if it is damaged, or can't be what was saved last.
        """
        state = parse(text)
        if last is not None:
            last.check(state, encrypted=False)
        return state

    def witness(self, state: State) -> Witness:
        """What to remember when `state` was saved."""
        return Witness(state.lineage, state.serial, encrypted=False)

    def encode_record(self, base: State, number: int, entries: Sequence[Entry]) -> bytes:
        """The record `number` of the journal that goes with `base`: one line, without its end."""
        return checked_line(
            {
                "lineage": base.lineage,
                "serial": base.serial,
                "number": number,
                "entries": [entry_json(entry) for entry in entries],
            }
        )

    def decode_record(self, base: State, number: int, record: bytes) -> list[Entry] | None:
        """Read what `encode_record` wrote; None if it goes with another state.

        Raises: Unusable if it is damaged, or goes with a later state than `base`.
        """
        document = read_checked_line(record)
        try:
            if document["lineage"] != base.lineage or document["serial"] < base.serial:
                return None
            if document["serial"] != base.serial:
                raise Unusable(
                    f"it goes with serial {document['serial']}, but the state has {base.serial}:"
                    " the state was rolled back"
                )
            if document["number"] != number:
                raise Unusable(f"record {document['number']} stands where {number} should")
            return [entry_from(entry) for entry in document["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Unusable(f"it is no record of a journal ({error})") from error


PLAIN: Final = Codec()


def codec_from(environment: Mapping[str, str]) -> Codec:  # noqa: ARG001 - until there are keys
    """How state is written down, as the environment says."""
    return PLAIN


def checked_line(document: JsonObject) -> bytes:
    """A small document as one line with a CRC-32, without the line's end."""
    text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return b"%08x %s" % (zlib.crc32(text), text)


def is_whole(line: bytes) -> bool:
    """Whether a line's CRC-32 is right."""
    checksum, _, text = line.partition(b" ")
    return checksum == b"%08x" % zlib.crc32(text)


def read_checked_line(line: bytes) -> dict[str, Any]:
    """Read what `checked_line` wrote. Raises: Unusable if it is damaged."""
    if not is_whole(line):
        raise Unusable("a wrong checksum")
    try:
        document = orjson.loads(line.partition(b" ")[2])
    except orjson.JSONDecodeError as error:
        raise Unusable(f"it is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise Unusable("it is no mapping")
    return document
