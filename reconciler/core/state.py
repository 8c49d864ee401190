"""What the tool knows of what it did: the state, its text form, and how it changes.

State claims what the API confirmed and nothing else. A value of this module never changes; a run
collects `Entry` values, which `fold` lays over the state that the run began with.

Source: docs/state.md.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, NoReturn, cast, get_args
from uuid import UUID

import orjson

from reconciler.core.values import (
    ABSENT,
    AccountId,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    MaybeJson,
    account_id,
    is_key,
    leaves,
    place,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = 1
SENSITIVE: Final = "$sensitive"
"""The key of the mapping that stands for a value which nobody may see."""

_CHECKSUM: Final = b'\n  "checksum": "'
_DIGITS: Final = 64
_ACCOUNTS: Final = b'{\n  "accounts": {'
_ACCOUNT_END: Final = b"\n    }"
_ACCOUNTS_END: Final = b'\n  },\n  "api": '
"""The text's layout, which the checksum vouches for. In a string a line's end is escaped."""


class Unusable(Exception):
    """A state that can't be trusted. Never the same as no state."""


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """One account under management.

    `applied`: the declared leaves at the last apply, as an account block; sensitive ones as
    digests. `observed`: what the API answered for them. `updated_at`: UTC, ISO 8601. `safety`: the
    account's limits then, as `limits_json` writes them.
    """

    id: AccountId
    parent_id: AccountId
    reseller: bool
    applied: JsonObject
    observed: JsonObject
    etag: str
    updated_at: str
    prevent_destroy: bool = False
    safety: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intent:
    """A create that was begun and whose end is not known.

    `since`: the platform's own time before the create was sent, in Gregorian seconds; 0 if it
    was not known. `body_digest`: a keyed digest of the body. `prevent_destroy`, `safety`: what guards the
    account, as it was declared.
    """

    key: Key
    parent_id: AccountId
    name: str
    realm: str | None
    since: int
    body_digest: str
    run: str
    prevent_destroy: bool = False
    safety: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owed:
    """What a run took from an account for the time being, and is to give back.

    `reseller`: its rank. `settings`: fields that stood beside one that could not be removed alone;
    none of them is declared or holds a credential. Nobody need manage the account.
    """

    id: AccountId
    reseller: bool
    settings: JsonObject
    run: str


@dataclass(frozen=True, slots=True, repr=False)  # large, and it holds a key
class State:
    """All accounts under management. `api_url` and `root` say on which platform.

    `intents`: creates that were begun, by key. `owed`: what is to be given back, by account. Both are
    empty unless a run is under way or was interrupted. `applied_plan`: the seal of the saved plan
    that was applied last.
    """

    lineage: str
    serial: int
    tool: str
    api_url: str
    root: AccountId
    digest_key: str
    accounts: Mapping[Key, AccountRecord]
    intents: Mapping[Key, Intent] = field(default_factory=dict)
    applied_plan: str = ""
    owed: Mapping[AccountId, Owed] = field(default_factory=dict)

    def digest(self, value: JsonValue) -> str:
        """A keyed digest of a sensitive value: enough to see that it changed."""
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return hmac.new(bytes.fromhex(self.digest_key), text, hashlib.sha256).hexdigest()


Kind = Literal["record", "forget", "intend", "settle", "owe", "repay", "take"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a run made sure of, as the journal keeps it.

    `record`: what is true of the account now. `forget`: it is out of state. `intend`: a create
    is about to be sent. `settle`: that create is known not to have happened, or is recorded.
    `owe`: something is about to be taken from an account for the time being. `repay`: it has that
    again, or is not to have it any more. `take`: the saved plan with that seal is being applied. The
    last three have no key.
    """

    kind: Kind
    key: Key
    record: AccountRecord | None = None
    intent: Intent | None = None
    seal: str = ""
    owed: Owed | None = None


def fold(state: State, entries: Sequence[Entry]) -> State:
    """The state after `entries`, with the next serial. Without any, the same state."""
    if not entries:
        return state
    accounts, intents, owed = dict(state.accounts), dict(state.intents), dict(state.owed)
    applied_plan = state.applied_plan
    for entry in entries:
        match entry:
            case Entry(kind="record", record=AccountRecord() as record):
                accounts[entry.key] = record
                intents.pop(entry.key, None)
            case Entry(kind="forget"):
                accounts.pop(entry.key, None)
            case Entry(kind="intend", intent=Intent() as intent):
                intents[entry.key] = intent
            case Entry(kind="owe", owed=Owed() as found):
                owed[found.id] = found
            case Entry(kind="repay", owed=Owed() as found):
                owed.pop(found.id, None)
            case Entry(kind="take"):
                applied_plan = entry.seal
            case _:
                intents.pop(entry.key, None)
    after = replace(state, accounts=accounts, intents=intents, owed=owed, applied_plan=applied_plan)
    return state if after == state else replace(after, serial=state.serial + 1)


def rekeyed(state: State, old: Key, new: Key) -> State:
    """The state with `new` for the key `old`, also of a create that was begun under it."""
    entries: list[Entry] = []
    if record := state.accounts.get(old):
        entries += [Entry("forget", old), Entry("record", new, record)]
    if intent := state.intents.get(old):
        entries += [Entry("settle", old), Entry("intend", new, intent=replace(intent, key=new))]
    return fold(state, entries)


def without(state: State, keys: Sequence[Key]) -> State:
    """The state without anything about `keys`."""
    return fold(state, [Entry(kind, key) for key in keys for kind in ("forget", "settle")])


# --- what an apply may claim -----------------------------------------------------------------


def masked(
    block: JsonObject, sensitive: Mapping[FieldPath, str], state: State | None
) -> JsonObject:
    """The block with each sensitive leaf as its digest; without a state to key it, as "".

    A block without sensitive leaves is returned as it is, not copied.
    """
    if not sensitive:
        return block
    copy = cast("JsonObject", orjson.loads(orjson.dumps(block)))
    for path in sensitive:
        value = value_at(copy, path)
        if value is not ABSENT:
            place(copy, path, {SENSITIVE: state.digest(value) if state else ""})
    return copy


def is_masked(value: MaybeJson) -> bool:
    """Whether `value` stands for a sensitive one."""
    return isinstance(value, dict) and value.keys() == {SENSITIVE}


def applied_leaves(record: AccountRecord) -> dict[FieldPath, JsonValue]:
    """The leaves that were declared at the last apply. A digest is one leaf."""
    found: dict[FieldPath, JsonValue] = {}
    for path, value in leaves(record.applied):
        if path[-1] == SENSITIVE:
            found[path[:-1]] = {SENSITIVE: value}
        elif path != ("settings",):
            found[path] = value
    return found


# --- text ------------------------------------------------------------------------------------


def dump(state: State) -> bytes:
    """The state as text: sorted, indented, with a checksum over every byte of it."""
    return dump_document(state_json(state))


def parse(text: bytes) -> State:
    """Read what `dump` wrote. Raises: Unusable, with what is wrong and what to do."""
    return state_from(parse_document(text))


def state_json(state: State) -> JsonObject:
    """The state as JSON, without the checksum of its text."""
    document: JsonObject = {
        "format": FORMAT,
        "lineage": state.lineage,
        "serial": state.serial,
        "tool": state.tool,
        "api": {"url": state.api_url, "root": state.root},
        "digest_key": state.digest_key,
        "accounts": {key: record_json(record) for key, record in state.accounts.items()},
        "intents": {key: intent_json(intent) for key, intent in state.intents.items()},
    }
    if state.owed:
        document["owed"] = {found.id: owed_json(found) for found in state.owed.values()}
    if state.applied_plan:
        document["applied_plan"] = state.applied_plan
    return document


def fingerprint(state: State) -> str:
    """A digest of all that is in the state. A run that is under way makes two of one serial."""
    return hashlib.sha256(dump(state)).hexdigest()


def state_from(document: JsonObject) -> State:
    """Read what `state_json` wrote. Raises: Unusable."""
    try:
        api = _object(document["api"])
        return State(
            lineage=str(UUID(_string(document["lineage"]))),
            serial=_integer(document["serial"]),
            tool=_string(document["tool"]),
            api_url=_string(api["url"]),
            root=account_id(api["root"]),
            digest_key=_string(document["digest_key"]),
            accounts={
                _key(k): record_from(_object(v)) for k, v in _object(document["accounts"]).items()
            },
            intents={
                _key(k): intent_from(_object(v)) for k, v in _object(document["intents"]).items()
            },
            applied_plan=_string(document.get("applied_plan", "")),
            owed={
                account_id(k): owed_from(_object(v))
                for k, v in _object(document.get("owed", {})).items()
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"it is no state of this tool ({error})") from error


def dump_document(document: JsonObject) -> bytes:
    """A document as text, with a checksum over every byte of it."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    text = orjson.dumps(document | {"checksum": "0" * _DIGITS}, option=options)
    at = text.rindex(_CHECKSUM) + len(_CHECKSUM)
    view = memoryview(text)  # hundreds of megabytes, perhaps: copied once and no more
    return b"".join((view[:at], _digest(text, at), view[at + _DIGITS :]))


def parse_document(text: bytes) -> JsonObject:
    """Read what `dump_document` wrote. Raises: Unusable, with what is wrong and what to do."""
    document = _verified(text)
    del document["checksum"]
    if document.get("format") != FORMAT:
        _unusable(
            f"its format is {document.get('format')!r}; this version reads {FORMAT}. Upgrade the tool"
        )
    return document


def _verified(text: bytes) -> JsonObject:
    """The document, after its checksum was found right."""
    if not text.strip():
        _unusable("it is empty")
    at = text.rfind(_CHECKSUM) + len(_CHECKSUM)
    if at < len(_CHECKSUM):
        try:
            newer = _object(orjson.loads(text)).get("format")
        except (orjson.JSONDecodeError, TypeError):
            newer = None
        if isinstance(newer, int) and newer > FORMAT:
            _unusable(f"its format is {newer}; this version reads {FORMAT}. Upgrade the tool")
        _unusable("it has no checksum: it is cut off, or no state of this tool")
    if _digest(text, at) != text[at : at + _DIGITS]:
        _unusable("its checksum is wrong: it was damaged, cut off or edited")
    try:
        return _loaded(text)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Unusable(f"it is no JSON of this tool ({error})") from error


def _loaded(text: bytes) -> JsonObject:
    """The document that `dump_document` wrote: its accounts one by one.

    Most accounts are on the platform as they were declared. What is said twice is kept once, and
    forgotten before the next account is read: that halves the memory of a large state.
    """
    end = text.rfind(_ACCOUNTS_END)
    if not text.startswith(_ACCOUNTS) or end < 0:
        return _object(orjson.loads(text))
    document = _object(orjson.loads(_ACCOUNTS + text[end:]))
    accounts = _object(document["accounts"])
    at = len(_ACCOUNTS)
    while at < end:
        stop = text.index(_ACCOUNT_END, at) + len(_ACCOUNT_END)
        for key, account in orjson.loads(b"{%s}" % text[at:stop]).items():
            if account["observed"] == account["applied"]:
                account["observed"] = account["applied"]
            accounts[key] = account
        at = stop + len(b",")
    return document


def _digest(text: bytes, at: int) -> bytes:
    """SHA-256 of the text with zeros at the checksum's own place."""
    view = memoryview(text)
    found = hashlib.sha256(view[:at])
    found.update(b"0" * _DIGITS)
    found.update(view[at + _DIGITS :])
    return found.hexdigest().encode()


def _unusable(reason: str) -> NoReturn:
    raise Unusable(reason)


def record_json(record: AccountRecord) -> JsonObject:
    """An account's record as JSON."""
    document: JsonObject = {
        "id": record.id,
        "parent_id": record.parent_id,
        "reseller": record.reseller,
        "applied": record.applied,
        "observed": record.observed,
        "etag": record.etag,
        "updated_at": record.updated_at,
    }
    if record.prevent_destroy:
        document["prevent_destroy"] = True
    if record.safety:
        document["safety"] = record.safety
    return document


def record_from(document: JsonObject) -> AccountRecord:
    """Read what `record_json` wrote. Raises: KeyError, TypeError, ValueError."""
    return AccountRecord(
        id=account_id(document["id"]),
        parent_id=account_id(document["parent_id"]),
        reseller=document["reseller"] is True,
        applied=_object(document["applied"]),
        observed=_object(document["observed"]),
        etag=_string(document["etag"]),
        updated_at=_string(document["updated_at"]),
        prevent_destroy=document.get("prevent_destroy") is True,
        safety=_object(document.get("safety", {})),
    )


def intent_json(intent: Intent) -> JsonObject:
    """An intent as JSON."""
    document: JsonObject = {
        "key": intent.key,
        "parent_id": intent.parent_id,
        "name": intent.name,
        "realm": intent.realm,
        "since": intent.since,
        "body_digest": intent.body_digest,
        "run": intent.run,
    }
    if intent.prevent_destroy:
        document["prevent_destroy"] = True
    if intent.safety:
        document["safety"] = intent.safety
    return document


def intent_from(document: JsonObject) -> Intent:
    """Read what `intent_json` wrote. Raises: KeyError, TypeError, ValueError."""
    return Intent(
        key=_key(_string(document["key"])),
        parent_id=account_id(document["parent_id"]),
        name=_string(document["name"]),
        realm=None if document["realm"] is None else _string(document["realm"]),
        since=_integer(document["since"]),
        body_digest=_string(document["body_digest"]),
        run=_string(document["run"]),
        prevent_destroy=document.get("prevent_destroy") is True,
        safety=_object(document.get("safety", {})),
    )


def owed_json(owed: Owed) -> JsonObject:
    """What was taken, as JSON."""
    return {
        "id": owed.id,
        "reseller": owed.reseller,
        "settings": owed.settings,
        "run": owed.run,
    }


def owed_from(document: JsonObject) -> Owed:
    """Read what `owed_json` wrote. Raises: KeyError, TypeError, ValueError."""
    return Owed(
        id=account_id(document["id"]),
        reseller=document["reseller"] is True,
        settings=_object(document["settings"]),
        run=_string(document["run"]),
    )


def entry_json(entry: Entry) -> JsonObject:
    """A journal entry as JSON."""
    document: JsonObject = {"kind": entry.kind, "key": entry.key}
    if entry.record is not None:
        document["record"] = record_json(entry.record)
    if entry.intent is not None:
        document["intent"] = intent_json(entry.intent)
    if entry.owed is not None:
        document["owed"] = owed_json(entry.owed)
    if entry.kind == "take":
        document["seal"] = entry.seal
    return document


def entry_from(document: JsonObject) -> Entry:
    """Read what `entry_json` wrote. Raises: KeyError, TypeError, ValueError."""
    kind = document["kind"]
    if kind == "take":
        return Entry("take", "", seal=_string(document["seal"]))
    if kind not in get_args(Kind):
        raise ValueError(f"an unknown kind of entry, {kind!r}")
    if kind in ("owe", "repay"):
        return Entry(cast("Kind", kind), "", owed=owed_from(_object(document["owed"])))
    return Entry(
        cast("Kind", kind),
        _key(_string(document["key"])),
        record_from(_object(document["record"])) if "record" in document else None,
        intent_from(_object(document["intent"])) if "intent" in document else None,
    )


def _object(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise TypeError(f"expected a mapping, found {type(value).__name__}")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, found {type(value).__name__}")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer, found {type(value).__name__}")
    return value


def _key(text: str) -> Key:
    if not is_key(text):
        raise ValueError(f"{text[:80]!r} is no key of an account")
    return text
