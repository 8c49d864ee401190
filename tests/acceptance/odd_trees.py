"""Trees of accounts as years of use and other tools leave them: all that a platform can hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from reconciler.sandbox.records import Record

if TYPE_CHECKING:
    from random import Random

    from reconciler.core.values import JsonObject, JsonValue

NAMES: Final = (
    "Acme, Inc.", "ACME INC", "acme inc", 'He said "no"', "it's", "${var.secret}", "$${x}", "a ${",
    "two\nlines", "tab\there", "[/x]", "<script>alert(1)</script>", "\u202egnp.exe", "a\u200bb",
    "😀", "😀😀", "株式会社", "Компания", "Société Générale", "Ünïcödé GmbH", "yes", "no", "0755", "911",
    "1e3", "null", "~", "-", "- x", "# no comment", "a: b", "a #b", "&anchor", "*alias", "!tag", "|", ">",
    "%percent", "@at", "`tick`", "{curly}", "[square]", " leading", "trailing ", "x" * 128, "x" * 127 + "y",
    "root", "ROOT", "templates", "accounts", "../../etc/passwd", "C:\\x", "\x07bell", "\x7f", "\x85", "\u2028",
    "::add-mask::x", "##[error]x", "a\\nb", "\\u0041", "\\ud83d", "é", "e\u0301", "\ue800", "\ufeff", "\U000e0041",
)  # fmt: skip
"""Names that a document can be declared with."""

UNDECLARABLE: Final = ("", "x" * 200, "nul\0", "https://user:pass@example.com/")
"""Names that no declaration can have."""

_SETTINGS: Final[tuple[JsonObject, ...]] = (
    {"language": "en-us"},
    {"org": 'Quotes " and \\ and ${x} and\nlines'},
    {"flags": []},
    {"flags": ["b", "a", "a", "yes", "911"]},
    {"caller_id": {}},
    {"caller_id": {"external": {"name": "0755", "number": "+15551234567"}, "emergency": {"number": "911"}}},
    {"caller_id_options": {"outbound_privacy": "full", "show_rate": False}},
    {"call_recording": {"account": {"inbound": {"offnet": {"enabled": True, "time_limit": 3600}}}}},
    {"call_recording": {"account": {"any": {"any": {"url": "https://rec.example.com/up"}}}}},
    {"call_restriction": {"international": {"action": "deny"}, "emergency": {}}},
    {"dial_plan": {"system": [], r"^\+?1(\d{10})$": {"prefix": "+1"}, "${x}": {"suffix": "#"}, "": {}}},
    {"dial_plan": {"(unclosed": {"description": "kept, matches nothing"}, "yes": {"prefix": "0"}}},
    {"formatters": {"request": {"regex": "^x", "strip": True}, "from": [{"value": "a"}, {"prefix": "1"}]}},
    {"metaflows": {"binding_digit": "*", "digit_timeout": 0, "numbers": {"1": {"module": "hold", "data": {}}}}},
    {"metaflows": {"binding_digit": "#", "patterns": {r"^7(\d+)$": {
        "module": "transfer", "data": {"takeback_dtmf": "*1"},
        "children": {"2": {"module": "vendors_own", "data": {"x": [1.5, None, {"y": {}}]}}}}}}},
    {"music_on_hold": {"media_id": "silence_stream://300000"}},
    {"notifications": {"low_balance": {"enabled": True, "threshold": 12.5, "sent_low_balance": True}}},
    {"notifications": {"first_occurrence": {"sent_initial_call": True, "sent_initial_registration": False}}},
    {"topup": {"threshold": 1e-07}},
    {"topup": {"threshold": 2.5e21}},
    {"voicemail": {"notify": {"callback": {"number": "1", "schedule": [1, 2], "disabled": None}}}},
    {"zones": {"home": "us-east", "yes": {"no": []}, "911": None, "big": 2**62, "e": {"f": {"g": {}}}}},
    {"zones": {}},
    {"preflow": {"always": "abc"}},
    {"ringtones": {"internal": "", "external": "\u202ebell"}},
    {"do_not_disturb": {"enabled": False}, "call_waiting": {}},
)  # fmt: skip
"""What can be declared, nearly all of it."""

_UNFIT: Final[tuple[JsonObject, ...]] = (
    {"timezone": "UTC"},
    {"timezone": "Mars/Olympus_Mons"},
    {"call_forward": {"enabled": False}},
    {"addresses": [{"city": "x"}]},
    {"blacklists": []},
    {"verb": "delete"},
    {"call_recording": {"account": {"inbound": {"offnet": {"enabled": True, "time_limit": 5, "url": "https://u:p@r.example.com/?sig=s3cret"}}}}},
    {"call_recording": {"account": {"inbound": {"offnet": {"time_limit": 99999, "format": "ogg"}}}}},
    {"caller_id": {"external": {"name": "x" * 36, "number": 15551234567}, "vip": {"name": "x"}}},
    {"flags": ["a", None]},
    {"flags": "not-a-list"},
    {"metaflows": {"numbers": {"1": {"data": {"a": 1}}, "2a": {"module": "hold"}, "3": {"module": "pivot"}}}},
    {"metaflows": {"numbers": {"1": {"module": "pivot", "data": {"voice_url": "https://x.example.com/?k=s3cret"}}}}},
    {"metaflows": []},
    {"topup": {"threshold": "12"}},
    {"zones": {"nul\0": 1, "value": "nul\0", "huge": 2**63, "$sensitive": "x", "k" * 1100: 1}},
    {"org": "https://example.com/?token=s3cret"},
    {"language": 5},
    {"zones": {"deep": {"er": {}}, "list": [[[[[[[[[[]]]]]]]]]]}},
)  # fmt: skip
"""What can't, and must be left out."""


def _nested(levels: int) -> JsonValue:
    return {"deeper": _nested(levels - 1)} if levels else [[]]


def odd_tree(root: Record, count: int, random: Random) -> list[Record]:
    """`count` accounts below `root`, parents first, and two that nothing leads to."""
    above = [root]
    records: list[Record] = []
    for number in range(count):
        deep = number % 50 == 49
        parent = records[-1] if records and (deep or number < 40) else random.choice(above)
        record = _account(parent, number, random)
        records.append(record)
        if record.is_reseller or random.random() < 0.05:
            above.append(record)
    lost = _account(replace(root, id="f" * 32, tree=(root.id,)), count, random)
    itself = replace(root, id=f"{count + 2:032x}", tree=(root.id,))
    circle = _account(itself, count + 1, random)
    return [*records, lost, circle]


def _account(parent: Record, number: int, random: Random) -> Record:
    document: JsonObject = {
        "name": _name(number, random),
        "realm": random.choice(["r{}.example.com", "R{}.Example.COM", "under_score-{}"]).format(number),
        "timezone": random.choice(["Europe/Paris", "America/New_York", "Etc/UTC"]),
        "call_restriction": {}, "music_on_hold": {}, "preflow": {}, "ringtones": {},
    }  # fmt: skip
    for part in random.sample(_SETTINGS, k=random.randrange(6)):
        document.update(part)
    if random.random() < 0.15:
        document.update(random.choice(_UNFIT))
    if random.random() < 0.01:
        document["zones"] = {
            "flat": 1,
            "deep": _nested(random.choice([50, 51, 52, 53, 54, 80])),
        }
    if random.random() < 0.005:
        del document["name"]
    if random.random() < 0.02:
        document["realm"] = random.choice(["has blank.example.com", "x", "r1.example.com"])
    return Record(
        id=f"{number + 1:032x}",
        document=document,
        tree=(*parent.tree, parent.id),
        created=63_000_000_000 + random.randrange(10**6),
        revision=f"1-{number:032x}",
        api_key=f"{number + 1:064x}",
        enabled=random.random() > 0.1,
        is_reseller=random.random() < 0.05,
    )


def _name(number: int, random: Random) -> str:
    dice = random.random()
    if dice < 0.02:
        return random.choice(UNDECLARABLE)
    if dice < 0.3:
        return random.choice(NAMES)
    return f"{random.choice(NAMES)[:100]} {number}"


def changed(value: JsonValue) -> JsonValue:
    """Another value, of the same kind where that has two."""
    match value:
        case bool():
            return not value
        case str():
            return f"{value}x"
        case list():
            return [*value, "one more"]
        case dict():
            return {**value, "more": 1}
        case None:
            return "something"
        case _:
            return value + 1 if value < 1e15 else 7


def put(document: JsonObject, path: tuple[str, ...], value: Any) -> JsonObject:
    """The document with another value at `path`; `...` takes it away."""
    copy = dict(document)
    if len(path) > 1:
        copy[path[0]] = put(copy[path[0]], path[1:], value)  # type: ignore[arg-type]
    elif value is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = value
    return copy
