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

from reconciler.backends.encryption import cipher_from
from reconciler.backends.integrity import Witness
from reconciler.core.state import (
    AccountRecord,
    Entry,
    State,
    Unusable,
    dump_document,
    entry_from,
    entry_json,
    parse_document,
    record_from,
    record_json,
    state_from,
    state_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.backends.encryption import Cipher
    from reconciler.core.values import JsonObject, Key

_SECRET: Final = ("accounts", "digest_key", "intents", "owed")
_ENCRYPTED: Final = "encrypted"


@dataclass(frozen=True, slots=True)
class Codec:
    """How state is written down: encrypted, if there is a key."""

    cipher: Cipher | None = None

    @property
    def encrypts(self) -> bool:
        """Whether what is written will be encrypted."""
        return self.cipher is not None and self.cipher.seals

    @property
    def rotates(self) -> bool:
        """Whether what is there may be under an earlier key."""
        return self.cipher is not None and self.cipher.rotates

    def encode(self, state: State) -> bytes:
        """The whole state as text. Who it is about stays readable, and is bound to the rest."""
        document = state_json(state)
        if self.cipher is not None and self.encrypts:
            secret = {name: document.pop(name) for name in _SECRET if name in document}
            text = self.cipher.seal(state.lineage, orjson.dumps(secret), _canonical(document))
            document[_ENCRYPTED] = text
        return dump_document(document)

    def decode(self, text: bytes, last: Witness | None = None) -> State:
        """Read what `encode` wrote. `last`: what the place remembers, if it does.

        Raises: Unusable if it is damaged, can't be decrypted, or can't be what was saved last.
        """
        document = parse_document(text)
        sealed = document.pop(_ENCRYPTED, None)
        if sealed is not None:
            document |= self._opened(document.get("lineage"), sealed, document)
        state = state_from(document)
        if last is not None:
            last.check(state, encrypted=sealed is not None)
        return state

    def witness(self, state: State) -> Witness:
        """What to remember when `state` was saved."""
        return Witness(state.lineage, state.serial, self.encrypts)

    def encode_record(self, base: State, number: int, entries: Sequence[Entry]) -> bytes:
        """The record `number` of the journal that goes with `base`: one line, without its end."""
        document: JsonObject = {"lineage": base.lineage, "serial": base.serial, "number": number}
        secret: JsonObject = {"entries": [entry_json(entry) for entry in entries]}
        if self.cipher is not None and self.encrypts:
            text = self.cipher.seal(base.lineage, orjson.dumps(secret), _canonical(document))
            secret = {_ENCRYPTED: text}
        return checked_line(document | secret)

    def decode_record(
        self, base: State, number: int, record: bytes, last: Witness | None = None
    ) -> list[Entry] | None:
        """Read what `encode_record` wrote; None if it goes with another state.

        Raises: Unusable if it is damaged, can't be decrypted, or goes with a later state than `base`.
        """
        document = read_checked_line(record)
        sealed = document.pop(_ENCRYPTED, None)
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
            if sealed is not None:
                document |= self._opened(base.lineage, sealed, document)
            elif last is not None and last.encrypted and self.encrypts:
                raise Unusable("it is not encrypted, but the state is: somebody else wrote it")
            return [entry_from(entry) for entry in document["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Unusable(f"it is no record of a journal ({error})") from error

    def encode_account(self, lineage: str, key: Key, record: AccountRecord) -> bytes:
        """One account of a state, where they are kept apart. Encrypted, it is bound to its key."""
        document = record_json(record)
        if self.cipher is not None and self.encrypts:
            text = self.cipher.seal(lineage, orjson.dumps(document), _canonical({"key": key}))
            document = {_ENCRYPTED: text}
        return _canonical(document)

    def decode_account(self, lineage: str, key: Key, text: bytes) -> AccountRecord:
        """Read what `encode_account` wrote. Raises: Unusable."""
        try:
            document = orjson.loads(text)
            if _ENCRYPTED in document:
                document = self._opened(lineage, document[_ENCRYPTED], {"key": key})
            if document["observed"] == document["applied"]:
                document["observed"] = document["applied"]  # kept once: half the memory
            return record_from(document)
        except (KeyError, TypeError, ValueError) as error:
            raise Unusable(f"what is kept of accounts.{key} is no record ({error})") from error

    def _opened(self, lineage: object, sealed: object, beside: JsonObject) -> JsonObject:
        """What is encrypted in a document. Raises: Unusable."""
        if self.cipher is None:
            raise Unusable("it is encrypted. Set RECONCILER_STATE_KEY to the key it was saved with")
        if not isinstance(lineage, str) or not isinstance(sealed, str):
            raise Unusable("it is no state of this tool (what is encrypted is no text)")
        opened: JsonObject = orjson.loads(self.cipher.open(lineage, sealed, _canonical(beside)))
        return opened


PLAIN: Final = Codec()


def codec_from(environment: Mapping[str, str]) -> Codec:
    """How state is written down, as the environment says. Raises: Unusable."""
    return Codec(cipher_from(environment))


def _canonical(document: JsonObject) -> bytes:
    """What an encrypted text is bound to."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


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
