from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.core.account import (
    MODULES,
    NEVER_ABSENT,
    OPTION_NAMES,
    READ_ONLY,
    SERVER_WRITTEN,
    Account,
    Violation,
    broken_patterns,
    default_of,
    equal,
    json_schema,
    known_keys,
    normal_name,
    normal_realm,
    unknown_modules,
    violations,
)
from reconciler.core.values import ABSENT, FieldPath, JsonObject, JsonValue

SEED_EXAMPLE = Path(__file__).parents[1] / "data" / "seed_example.json"


def an_account(**settings: JsonValue) -> JsonObject:
    return {"name": "Acme", **settings}


def at(path: str, value: JsonValue) -> JsonObject:
    """Build an account in which `value` stands at the dotted `path`."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return an_account(**cast("JsonObject", value))


def a_metaflow(node: JsonValue) -> JsonObject:
    return an_account(metaflows={"numbers": {"1": node}})


def a_recording(**parameters: JsonValue) -> JsonObject:
    return an_account(call_recording={"account": {"any": {"any": {**parameters}}}})


def a_formatter(options: JsonValue) -> JsonObject:
    return an_account(formatters={"From": options})


def broken(document: JsonObject, *, extra_fields: bool = False) -> list[tuple[str, str]]:
    """Name what is wrong, as (dotted path, rule)."""
    found = violations(document, extra_fields=extra_fields)
    return [(".".join(map(str, violation.path)), violation.rule) for violation in found]


def only(document: JsonObject) -> Violation:
    (violation,) = violations(document)
    return violation


def the_seed_example() -> JsonObject:
    return cast("JsonObject", json.loads(SEED_EXAMPLE.read_text("utf-8")))


def the_seed_example_with_digits() -> JsonObject:
    """Take the vendor's example with keys that can be pressed instead of placeholders."""
    example = the_seed_example()
    metaflows = cast("JsonObject", example["metaflows"])
    numbers = cast("JsonObject", metaflows["numbers"])
    metaflows["numbers"] = {"1": numbers["property1"], "2": numbers["property2"]}
    return example


# --- the vendor's example


def test_the_seeds_example_is_valid_once_its_placeholder_keys_are_digits() -> None:
    assert violations(the_seed_example_with_digits()) == []


def test_the_seeds_example_as_it_stands_breaks_only_the_closed_keys_of_numbers() -> None:
    """The platform refuses `property1` there: the vendor's page fills in names by machine."""
    assert broken(the_seed_example()) == [
        ("metaflows.numbers.property1", "additionalProperties"),
        ("metaflows.numbers.property2", "additionalProperties"),
    ]


def test_the_seeds_example_round_trips_through_the_model() -> None:
    example = the_seed_example_with_digits()
    again = Account.model_validate(example).model_dump(exclude_unset=True, by_alias=True)
    assert json.dumps(again, sort_keys=True) == json.dumps(example, sort_keys=True)


def test_the_model_knows_the_seeds_fields_and_no_others() -> None:
    assert set(known_keys(())) == set(the_seed_example())


# --- call_recording

LEAF_SETS = list(
    product(("account", "endpoint"), ("any", "inbound", "outbound"), ("any", "onnet", "offnet"))
)


def test_there_are_eighteen_recording_leaf_sets() -> None:
    assert len(LEAF_SETS) == 18


@pytest.mark.parametrize("place", LEAF_SETS, ids=".".join)
def test_each_recording_leaf_set_takes_all_parameters_and_keeps_their_limits(
    place: tuple[str, str, str],
) -> None:
    path = ".".join(("call_recording", *place))
    parameters: JsonObject = {
        "enabled": True,
        "format": "wav",
        "record_min_sec": 0,
        "record_on_answer": False,
        "record_on_bridge": True,
        "record_sample_rate": 8000,
        "time_limit": 10800,
        "url": "https://u:p@rec.example.com:8443/a?k=v",
    }
    assert violations(at(path, parameters)) == []
    assert broken(at(path, {**parameters, "time_limit": 4, "pause": True})) == [
        (f"{path}.pause", "additionalProperties"),
        (f"{path}.time_limit", "minimum"),
    ]
    assert set(known_keys(tuple(path.split(".")))) == set(parameters)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "example.com/x",
        "",
        "http://",
        "http:///x",
        "http://LOCALHOST/x",
        "https://127.0.0.1:8080",
        "http://u@0.0.0.0/",
        "mailto:a@example.com",
    ],
)
def test_an_upload_url_of_another_scheme_or_to_the_server_itself_is_an_invalid_client_url(
    url: str,
) -> None:
    violation = only(a_recording(url=url))
    assert (violation.rule, violation.message) == ("error", "invalid client URL")


@pytest.mark.parametrize(
    "url",
    ["http://a b", "http://exämple.com", "http://a/%zz", "http://[::1", "http://a:99999", "a\nb"],
)
def test_an_upload_url_that_is_no_uri_has_the_wrong_format(url: str) -> None:
    assert only(a_recording(url=url)).rule == "wrong_format"


@pytest.mark.parametrize(
    "url", ["http://example.com", "HTTPS://example.com/", "http://[2001:db8::1]:80/x%20y"]
)
def test_an_upload_url_by_http_to_another_host_is_valid(url: str) -> None:
    assert violations(a_recording(url=url)) == []


# --- each rule, broken once

CALLER_ID = [f"caller_id.{who}" for who in ("internal", "external", "emergency", "asserted")]

BROKEN: list[tuple[JsonObject, str, str]] = [
    ({}, "name", "required"),
    (an_account(name=""), "name", "minLength"),
    (an_account(name="x" * 129), "name", "maxLength"),
    (an_account(name=911), "name", "type"),
    (an_account(realm="a.b"), "realm", "minLength"),
    (an_account(realm="a" * 254), "realm", "maxLength"),
    (an_account(realm="a b.example.com"), "realm", "pattern"),
    (an_account(realm="société.example.com"), "realm", "pattern"),
    (an_account(realm="a.example.com\n"), "realm", "pattern"),
    (an_account(enabled="true"), "enabled", "type"),
    (an_account(enabled=1), "enabled", "type"),
    (an_account(timezone="UTC"), "timezone", "minLength"),
    (an_account(timezone="x" * 33), "timezone", "maxLength"),
    (an_account(timezone="inherit"), "timezone", "error"),
    (an_account(language=1), "language", "type"),
    (an_account(name="\ud800"), "name", "wrong_format"),
    (an_account(flags="vip"), "flags", "type"),
    (an_account(flags=["vip", 1]), "flags.1", "type"),
    (an_account(call_recording=[]), "call_recording", "type"),
    (at("call_recording.users", {}), "call_recording.users", "additionalProperties"),
    (at("call_recording.account.both", {}), "call_recording.account.both", "additionalProperties"),
    (
        at("call_recording.account.any.net", {}),
        "call_recording.account.any.net",
        "additionalProperties",
    ),
    (a_recording(format="ogg"), "call_recording.account.any.any.format", "enum"),
    (a_recording(time_limit=10801), "call_recording.account.any.any.time_limit", "maximum"),
    (a_recording(time_limit=60.0), "call_recording.account.any.any.time_limit", "type"),
    (a_recording(time_limit="60"), "call_recording.account.any.any.time_limit", "type"),
    (a_recording(record_min_sec=True), "call_recording.account.any.any.record_min_sec", "type"),
    (a_recording(enabled=0), "call_recording.account.any.any.enabled", "type"),
    (a_recording(url=5), "call_recording.account.any.any.url", "type"),
    (at("call_restriction.did_us", "deny"), "call_restriction.did_us", "type"),
    (at("call_restriction.did_us.action", "allow"), "call_restriction.did_us.action", "enum"),
    (at("call_restriction.did_us.rule", 1), "call_restriction.did_us.rule", "additionalProperties"),
    (at("call_waiting.enabled", "on"), "call_waiting.enabled", "type"),
    (at("do_not_disturb.on", True), "do_not_disturb.on", "additionalProperties"),
    *((at(f"{who}.name", "x" * 36), f"{who}.name", "maxLength") for who in CALLER_ID),
    *((at(f"{who}.number", "1" * 36), f"{who}.number", "maxLength") for who in CALLER_ID),
    (at("caller_id.emergency.number", 911), "caller_id.emergency.number", "type"),
    (at("caller_id.internal.realm", "x"), "caller_id.internal.realm", "additionalProperties"),
    (at("caller_id.asserted.realm", 1), "caller_id.asserted.realm", "type"),
    (at("caller_id_options.outbound_privacy", "no"), "caller_id_options.outbound_privacy", "enum"),
    (at("caller_id_options.show_rate", 1), "caller_id_options.show_rate", "type"),
    (at("dial_plan.system", "us"), "dial_plan.system", "type"),
    (at("dial_plan.system", [1]), "dial_plan.system.0", "type"),
    (an_account(dial_plan={r"^(\d{7})$": "+1"}), r"dial_plan.^(\d{7})$", "type"),
    (at("dial_plan.x.prefix", 1), "dial_plan.x.prefix", "type"),
    (at("dial_plan.x.infix", "1"), "dial_plan.x.infix", "additionalProperties"),
    (a_formatter("x"), "formatters.From", "not_one_schema_valid"),
    (a_formatter(["x"]), "formatters.From.0", "type"),
    (a_formatter({"direction": "in"}), "formatters.From.direction", "enum"),
    (a_formatter([{}, {"direction": "in"}]), "formatters.From.1.direction", "enum"),
    (a_formatter({"regex": "("}), "formatters.From.regex", "error"),
    (a_formatter([{"regex": "a{99999999999}"}]), "formatters.From.0.regex", "error"),
    (a_formatter({"strip": "yes"}), "formatters.From.strip", "type"),
    (a_formatter({"match_invite_format": 1}), "formatters.From.match_invite_format", "type"),
    (a_formatter([{"replace": "x"}]), "formatters.From.0.replace", "additionalProperties"),
    (at("metaflows.binding_digit", 1), "metaflows.binding_digit", "type"),
    (at("metaflows.binding_digit", "A"), "metaflows.binding_digit", "enum"),
    (at("metaflows.digit_timeout", -1), "metaflows.digit_timeout", "minimum"),
    (at("metaflows.listen_on", "none"), "metaflows.listen_on", "enum"),
    (at("metaflows.digits", {}), "metaflows.digits", "additionalProperties"),
    (
        at("metaflows.numbers.a", {"module": "hangup"}),
        "metaflows.numbers.a",
        "additionalProperties",
    ),
    (
        at("metaflows.numbers.\u0661", {"module": "hangup"}),
        "metaflows.numbers.\u0661",
        "additionalProperties",
    ),
    (an_account(metaflows={"patterns": {"": {"module": "x"}}}), "metaflows.patterns.", "minLength"),
    (a_metaflow({}), "metaflows.numbers.1.module", "required"),
    (a_metaflow({"module": ""}), "metaflows.numbers.1.module", "minLength"),
    (a_metaflow({"module": "x" * 65}), "metaflows.numbers.1.module", "maxLength"),
    (a_metaflow({"module": "hangup", "data": []}), "metaflows.numbers.1.data", "type"),
    (
        a_metaflow({"module": "x", "children": {"2": {"module": "y", "next": {}}}}),
        "metaflows.numbers.1.children.2.next",
        "additionalProperties",
    ),
    (at("music_on_hold.media_id", "x" * 2049), "music_on_hold.media_id", "maxLength"),
    (
        at("notifications.low_balance.threshold", True),
        "notifications.low_balance.threshold",
        "type",
    ),
    (at("notifications.low_balance.enabled", 1), "notifications.low_balance.enabled", "type"),
    (
        at("notifications.low_balance.last_notification", 1.5),
        "notifications.low_balance.last_notification",
        "type",
    ),
    (
        at("notifications.first_occurrence.sent_initial_call", "no"),
        "notifications.first_occurrence.sent_initial_call",
        "type",
    ),
    (at("preflow.never", "x"), "preflow.never", "additionalProperties"),
    (at("preflow.always", {}), "preflow.always", "type"),
    (at("ringtones.internal", "x" * 257), "ringtones.internal", "maxLength"),
    (at("ringtones.external", "x" * 257), "ringtones.external", "maxLength"),
    (at("topup.threshold", "5"), "topup.threshold", "type"),
    (at("topup.threshold", float("nan")), "topup.threshold", "type"),
    (at("topup.threshold", float("inf")), "topup.threshold", "type"),
    (at("topup.amount", 5), "topup.amount", "additionalProperties"),
    (at("voicemail.notify.callback.number", 5), "voicemail.notify.callback.number", "type"),
    (at("voicemail.notify.callback.attempts", "3"), "voicemail.notify.callback.attempts", "type"),
    (
        at("voicemail.notify.callback.schedule", [60, 1.5]),
        "voicemail.notify.callback.schedule.1",
        "type",
    ),
    (at("voicemail.notify.callback.disabled", 0), "voicemail.notify.callback.disabled", "type"),
    (at("voicemail.notify.email", {}), "voicemail.notify.email", "additionalProperties"),
    (an_account(zones=[]), "zones", "type"),
    (an_account(colour="red"), "colour", "additionalProperties"),
]


@pytest.mark.parametrize(
    ("document", "path", "rule"), BROKEN, ids=[f"{path}-{rule}" for _, path, rule in BROKEN]
)
def test_a_rule_that_is_broken_is_named_with_its_place(
    document: JsonObject, path: str, rule: str
) -> None:
    assert broken(document) == [(path, rule)]


VALID: list[JsonObject] = [
    an_account(name="x", realm="a_-.", timezone="Etc/UTC", enabled=False),
    an_account(name="é" * 128, realm="A" * 253, timezone="x" * 32),
    an_account(language="", org="", flags=["b", "a", "b"]),
    an_account(call_restriction={"did_us": {"action": "deny"}, "tollfree_us": {}}),
    an_account(dial_plan={r"^\+?1?(\d{10})$": {"prefix": "+1"}, "system": ["us"]}),
    an_account(formatters={"Any Key!": {}, "From": [], "To": [{"regex": "[[:alnum:]]+"}]}),
    an_account(zones={"home": "us-east", "fallback": ["eu", {"x": None}]}),
    at("topup.threshold", 5),
    at("topup.threshold", -0.5),
    at("metaflows.binding_digit", "#"),
    an_account(metaflows={"patterns": {r"^2(\d+)$": {"module": "transfer"}}}),
]


@pytest.mark.parametrize("document", VALID, ids=range(len(VALID)))
def test_what_is_at_its_limit_or_free_is_valid_and_kept_as_sent(document: JsonObject) -> None:
    assert violations(document) == []
    again = Account.model_validate(document).model_dump(exclude_unset=True, by_alias=True)
    assert json.dumps(again, sort_keys=True) == json.dumps(document, sort_keys=True)


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_places() -> None:
    document = an_account(timezone="UTC", realm=5, formatters={"A": [{"strip": 1}] * 11}, extra=1)
    assert broken(document) == [
        ("extra", "additionalProperties"),
        *((f"formatters.A.{index}.strip", "type") for index in range(11)),
        ("realm", "type"),
        ("timezone", "minLength"),
    ]


def test_a_violation_carries_the_limit_and_what_stands_there() -> None:
    assert only(at("caller_id.external.name", "x" * 36)) == Violation(
        ("caller_id", "external", "name"),
        "maxLength",
        35,
        "x" * 36,
        "Length must be at most 35, in characters.",
    )
    assert only(a_recording(format="ogg")).target == ["mp3", "wav"]
    assert only(an_account(enabled="no")).target == "boolean"
    assert only(an_account(realm="a b.c")).target == "^[A-Za-z0-9_.-]+$"
    missing = only({})
    assert (missing.target, missing.value) == (ABSENT, ABSENT)
    assert only(at("metaflows.numbers.a", {"module": "x"})).value == {"module": "x"}


@pytest.mark.parametrize(
    "document",
    [
        an_account(name="S3cr3t" * 30),
        an_account(realm="S3cr3t!"),
        an_account(enabled="S3cr3t"),
        an_account(S3cr3t="S3cr3t"),
        a_recording(url="ftp://S3cr3t"),
        a_recording(url="http://S3cr3t @example.com"),
        a_recording(format="S3cr3t"),
        a_formatter("S3cr3t"),
        a_formatter([{"regex": "(S3cr3t"}]),
        an_account(metaflows={"numbers": {"S3cr3t": {"module": "x"}}}),
        a_metaflow({"module": "play", "data": {"leg": "S3cr3t"}}),
    ],
    ids=str,
)
def test_a_message_says_what_is_allowed_and_never_what_was_found(document: JsonObject) -> None:
    message = only(document).message
    assert message
    assert "S3cr3t" not in message


def test_a_key_that_is_not_unicode_is_a_violation_of_the_whole_document() -> None:
    assert broken(an_account(**{"\ud800": 1})) == [("", "wrong_format")]


@pytest.mark.parametrize("depth", [300, 5000])
def test_a_document_nested_thousands_deep_is_refused_and_crashes_nothing(depth: int) -> None:
    node: JsonObject = {"module": "vendor"}
    for _ in range(depth):
        node = {"module": "hangup", "children": {"1": node}}
    document = a_metaflow(node)
    assert [violation.rule for violation in violations(document)] == ["error"]
    assert len(unknown_modules(document)) == 1
    assert equal((), document, document)


# --- metaflow modules

RIGHT_AND_WRONG: list[tuple[str, JsonObject, JsonObject, str, str]] = [
    (
        "audio_level",
        {"action": "start", "mode": "read", "level": 2},
        {"level": "2"},
        "level",
        "type",
    ),
    ("break", {}, {"x": 1}, "x", "additionalProperties"),
    (
        "callflow",
        {"id": "a", "captures": "b", "collected": "c", "flow": {}},
        {"id": 1},
        "id",
        "type",
    ),
    ("hangup", {}, {"x": 1}, "x", "additionalProperties"),
    ("hold", {"moh_aleg": "a", "moh_bleg": "b", "unhold_key": "1"}, {"unhold_key": 1}, "unhold_key",
     "type"),
    ("hold_control", {"action": "unhold"}, {"action": "mute"}, "action", "enum"),
    ("intercept", {"target_id": "a", "target_type": "user", "auto_answer": True},
     {"target_type": "group"}, "target_type", "enum"),
    ("move", {"device_id": "a", "owner_id": "b", "dial_strategy": "single"}, {"auto_answer": 1},
     "auto_answer", "type"),
    ("pivot", {"voice_url": "http://x", "method": "GET", "req_format": "twiml"}, {"debug": True},
     "voice_url", "required"),
    ("play", {"id": "a", "leg": "self"}, {"leg": "none"}, "leg", "enum"),
    ("record_call", {"action": "mask", "format": "wav", "time_limit": 60, "method": "put"},
     {"time_limit": "60"}, "time_limit", "type"),
    ("relate", {"conference_id": "a", "participant_id": "1", "other_participant": "2"},
     {"conference_id": "a", "participant_id": "1"}, "other_participant", "required"),
    ("resume", {}, {"x": 1}, "x", "additionalProperties"),
    ("say", {"text": "5", "type": "number"}, {"text": 5}, "text", "type"),
    ("sound_touch", {"action": "start", "pitch": 1, "rate": 1.5}, {"pitch": True}, "pitch", "type"),
    ("transfer", {"target": "200", "captures": ["a"], "timeout": 20}, {"transfer_type": "warm"},
     "transfer_type", "enum"),
    ("tts", {"text": "hello", "terminators": ["#"]}, {"terminators": ["#", None]}, "terminators.1",
     "type"),
]  # fmt: skip


def test_every_module_is_tried() -> None:
    assert {module for module, *_ in RIGHT_AND_WRONG} == set(MODULES)


@pytest.mark.parametrize(
    ("module", "right", "wrong", "path", "rule"),
    RIGHT_AND_WRONG,
    ids=[module for module, *_ in RIGHT_AND_WRONG],
)
def test_the_data_of_a_module_is_checked_below_its_path(
    module: str, right: JsonObject, wrong: JsonObject, path: str, rule: str
) -> None:
    child: JsonObject = {"module": module, "data": right, "children": {}}
    document = a_metaflow({"module": "hangup", "children": {"9": child}})
    assert violations(document) == []
    child["data"] = wrong
    assert broken(document) == [(f"metaflows.numbers.1.children.9.data.{path}", rule)]


RELATION: JsonObject = {"conference_id": "a", "participant_id": 1, "other_participant": "2"}


@pytest.mark.parametrize(
    ("module", "data", "path", "rule"),
    [
        ("audio_level", {"level": -5}, "level", "minimum"),
        ("audio_level", {"level": 5}, "level", "maximum"),
        ("pivot", {"voice_url": "ftp://x"}, "voice_url", "pattern"),
        ("pivot", {"voice_url": "https://x", "cdr_url": "x"}, "cdr_url", "pattern"),
        ("relate", {**RELATION, "participant_id": 1.5}, "participant_id", "type"),
        ("relate", {**RELATION, "participant_id": True}, "participant_id", "type"),
        ("relate", {**RELATION, "other_participant": None}, "other_participant", "type"),
        ("say", {"gender": "female"}, "gender", "enum"),
        ("say", {"method": "sung"}, "method", "enum"),
        ("say", {"type": "song"}, "type", "enum"),
        ("sound_touch", {"adjust_in_octaves": -1.1}, "adjust_in_octaves", "minimum"),
        ("sound_touch", {"adjust_in_octaves": 1.1}, "adjust_in_octaves", "maximum"),
        ("sound_touch", {"adjust_in_semitones": -15}, "adjust_in_semitones", "minimum"),
        ("sound_touch", {"adjust_in_semitones": 14.5}, "adjust_in_semitones", "maximum"),
        ("sound_touch", {"pitch": 0.9}, "pitch", "minimum"),
        ("sound_touch", {"rate": 0}, "rate", "minimum"),
        ("sound_touch", {"tempo": 0.99}, "tempo", "minimum"),
        ("tts", {"terminators": ["12"]}, "terminators.0", "enum"),
    ],
)
def test_the_data_of_modules_has_the_limits_of_the_platform(
    module: str, data: JsonObject, path: str, rule: str
) -> None:
    """Each limit is broken once. Source: docs/platform.md 7.4."""
    node: JsonObject = {"module": module, "data": data}
    assert broken(a_metaflow(node)) == [(f"metaflows.numbers.1.data.{path}", rule)]


@pytest.mark.parametrize(
    ("module", "data"),
    [
        ("audio_level", {"level": -4}),
        ("audio_level", {"level": 4}),
        ("pivot", {"voice_url": "http://localhost/x", "cdr_url": "https://x"}),
        ("relate", RELATION),
        ("sound_touch", {"adjust_in_octaves": 1, "adjust_in_semitones": -14.0, "pitch": 1}),
        ("tts", {"terminators": ["*", "0", "*"]}),
    ],
)
def test_the_data_of_modules_may_go_to_the_limits(module: str, data: JsonObject) -> None:
    assert violations(a_metaflow({"module": module, "data": data})) == []


PCRE = [
    r"^(?<number>\d+)$", r"(?'n'\d)\k'n'", r"\p{Lu}\P{^L}\pN", r"\h+\R\K", r"\Q(*[\E.", r"(?|a|(b))",
    r"a(?i)b", r"(*UTF8)^a", r"(a|(?R)b)(?1)(?&n)", r"a++b", r"[[:alnum:]_]+", r"\\Q(a)",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PCRE)
def test_what_only_the_platforms_expressions_know_is_no_mistake(pattern: str) -> None:
    assert violations(a_formatter({"regex": pattern})) == []


@pytest.mark.parametrize("pattern", ["(", "a**", "[z-a]", "*", "a)", "\\", r"\\Q(", r"(?<n>"])
def test_an_expression_that_compiles_nowhere_is_refused(pattern: str) -> None:
    assert broken(a_formatter({"regex": pattern})) == [("formatters.From.regex", "error")]


def test_a_key_that_should_match_something_and_does_not_compile_is_told_but_kept() -> None:
    """The platform takes it as it takes any other. Source: docs/platform.md 7.3, 7.4."""
    document = an_account(
        dial_plan={"system": [], "^1(": {}, r"^(\d)$": {}},
        metaflows={"patterns": {"[": {"module": "hangup"}, "^2$": {"module": "hangup"}}},
    )
    assert violations(document) == []
    assert broken_patterns(document) == [("dial_plan", "^1("), ("metaflows", "patterns", "[")]


@pytest.mark.parametrize("node", [{"module": "pivot"}, {"module": "pivot", "data": None}])
def test_a_module_that_needs_data_misses_it_when_there_is_none(node: JsonObject) -> None:
    assert broken(a_metaflow(node)) == [("metaflows.numbers.1.data.voice_url", "required")]


def test_the_defaults_of_a_modules_data_are_those_that_the_platform_writes() -> None:
    assert MODULES["hold"]().model_dump()["unhold_key"] == "1"
    assert MODULES["transfer"]().model_dump()["captures"] == ["no_match"]
    assert MODULES["tts"]().model_dump(include={"engine", "voice", "leg"}) == {
        "engine": "flite",
        "voice": "female",
        "leg": "self",
    }


def test_an_unknown_module_takes_any_data_and_is_told_where_it_stands() -> None:
    child: JsonObject = {"module": "b", "data": {"any": [None, {"x": 1}]}}
    document = an_account(
        metaflows={
            "patterns": {"^9": {"module": "hangup"}},
            "numbers": {"2": None, "1": {"module": "a", "children": {"x": child, "y": None}}},
        }
    )
    assert violations(document) == []
    assert unknown_modules(document) == [
        ("metaflows", "numbers", "1", "children", "x", "module"),
        ("metaflows", "numbers", "1", "module"),
    ]


@pytest.mark.parametrize("metaflows", [None, [], {"numbers": 5}, {"numbers": {"1": {"module": 5}}}])
def test_unknown_modules_passes_over_what_is_malformed(metaflows: JsonValue) -> None:
    assert unknown_modules(an_account(metaflows=metaflows)) == []


# --- null


def leaves_that_may_be_absent() -> list[str]:
    return sorted(set(known_keys(())) - NEVER_ABSENT)


@pytest.mark.parametrize("field", leaves_that_may_be_absent())
def test_null_stands_for_absence_at_the_top_level(field: str) -> None:
    assert violations(an_account(**{field: None})) == []


@pytest.mark.parametrize("field", sorted(NEVER_ABSENT))
def test_null_is_refused_for_what_is_never_absent(field: str) -> None:
    assert broken(an_account(**{field: None})) == [(field, "type")]


@pytest.mark.parametrize(
    "path",
    [
        "call_recording.account.any.any.url",
        "call_recording.account.any",
        "call_restriction.did_us",
        "call_restriction.did_us.action",
        "caller_id.external",
        "dial_plan.system",
        "dial_plan.x",
        "dial_plan.x.prefix",
        "formatters.From",
        "formatters.From.regex",
        "metaflows.numbers.1",
        "metaflows.binding_digit",
        "notifications.first_occurrence.sent_initial_call",
        "zones.home",
    ],
)
def test_null_stands_for_absence_below_the_top_level(path: str) -> None:
    assert violations(at(path, None)) == []


def test_null_in_a_list_is_a_violation_because_lists_are_sent_whole() -> None:
    assert broken(an_account(flags=[None])) == [("flags.0", "type")]
    assert broken(a_formatter([None])) == [("formatters.From.0", "type")]
    assert broken(a_formatter([{"regex": None, "strip": None, "direction": None}])) == [
        ("formatters.From.0.direction", "type"),
        ("formatters.From.0.regex", "type"),
        ("formatters.From.0.strip", "type"),
    ]
    assert only(a_formatter([{"regex": None}])).value is None


# --- extra fields


@pytest.mark.parametrize(
    "path",
    [
        "is_trial_account",
        "topup.amount",
        "caller_id.external.format",
        "metaflows.extra",
        "metaflows.numbers.1.extra",
        "formatters.From.extra",
        "notifications.low_balance.extra",
    ],
)
def test_extra_fields_lets_unknown_keys_pass_where_the_platform_stores_them(path: str) -> None:
    document = at(path, 5)
    if path.startswith("metaflows.numbers"):
        document = a_metaflow({"module": "hangup", "extra": 5})
    assert broken(document) == [(path, "additionalProperties")]
    assert broken(document, extra_fields=True) == []


@pytest.mark.parametrize(
    "path",
    [
        "call_recording.x",
        "call_recording.account.x",
        "call_recording.account.any.x",
        "call_recording.account.any.any.x",
        "preflow.x",
        "metaflows.numbers.x",
        *sorted(OPTION_NAMES),
        *sorted(READ_ONLY),
        "pvt_enabled",
        "_id",
    ],
)
def test_extra_fields_opens_neither_closed_objects_nor_reserved_names(path: str) -> None:
    assert broken(at(path, {"module": "x"}), extra_fields=True) == [(path, "additionalProperties")]


def test_extra_fields_loosens_nothing_else() -> None:
    assert broken(an_account(timezone="UTC", x=1), extra_fields=True) == [("timezone", "minLength")]


def test_option_names_are_ordinary_keys_below_the_top_level() -> None:
    assert violations(at("call_restriction.did_us.action", "deny")) == []
    assert violations(at("zones.verb", "delete")) == []


def test_a_reserved_name_is_refused_with_its_reason() -> None:
    assert only(an_account(id="x")).message == READ_ONLY["id"]
    assert "option" in only(an_account(verb="delete")).message
    assert "pvt_" in only(an_account(pvt_x=1)).message


# --- what the models tell


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (("caller_id", "external"), ("name", "number")),
        (("caller_id", "asserted"), ("name", "number", "realm")),
        (("call_restriction", "did_us"), ("action",)),
        (("dial_plan",), ("system",)),
        (("dial_plan", r"^(\d+)$"), ("description", "prefix", "suffix")),
        (("metaflows", "patterns", "^1", "children", "2"), ("module", "data", "children")),
        (("topup",), ("threshold",)),
        (("call_restriction",), ()),
        (("metaflows", "numbers"), ()),
        (("metaflows", "numbers", "1", "data"), ()),
        (("zones",), ()),
        (("zones", "home"), ()),
        (("name",), ()),
        (("nowhere", "at", "all"), ()),
    ],
)
def test_known_keys_are_those_of_the_object_at_the_path(
    path: FieldPath, keys: tuple[str, ...]
) -> None:
    assert known_keys(path) == keys


def test_known_keys_are_found_in_both_forms_of_a_formatter() -> None:
    options = ("direction", "match_invite_format", "prefix", "regex", "strip", "suffix", "value")
    assert known_keys(("formatters", "From")) == options
    assert known_keys(("formatters", "From", 0)) == options


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("enabled", True),
        ("call_restriction", {}),
        ("music_on_hold", {}),
        ("preflow", {}),
        ("ringtones", {}),
        ("metaflows.binding_digit", "*"),
        ("metaflows.numbers.1.data", {}),
        ("metaflows.patterns.^1.children.2.children.3.data", {}),
        ("notifications.first_occurrence.sent_initial_call", False),
        ("notifications.first_occurrence.sent_initial_registration", False),
        ("name", ABSENT),
        ("realm", ABSENT),
        ("timezone", ABSENT),
        ("call_waiting", ABSENT),
        ("call_waiting.enabled", ABSENT),
        ("metaflows", ABSENT),
        ("metaflows.numbers", ABSENT),
        ("metaflows.numbers.1", ABSENT),
        ("metaflows.numbers.1.module", ABSENT),
        ("metaflows.numbers.1.children", ABSENT),
        ("metaflows.numbers.1.data.action", ABSENT),
        ("notifications.first_occurrence", ABSENT),
        ("dial_plan.^1", ABSENT),
        ("zones.home", ABSENT),
        ("nowhere", ABSENT),
    ],
)
def test_the_platforms_own_defaults_are_known(path: str, value: JsonValue) -> None:
    assert default_of(tuple(path.split("."))) == value


def test_there_is_no_default_of_the_whole_document() -> None:
    assert default_of(()) is ABSENT


def test_a_default_that_is_changed_does_not_change_the_next_one() -> None:
    default = default_of(("preflow",))
    assert isinstance(default, dict)
    default["always"] = "x"
    assert default_of(("preflow",)) == {}


def test_fields_that_the_platform_writes_lie_in_objects_that_we_know() -> None:
    assert len(SERVER_WRITTEN) == 5
    assert all(known_keys(path[:-1]) for path in SERVER_WRITTEN)


def test_no_reserved_name_is_a_field() -> None:
    fields = set(known_keys(()))
    assert not fields & OPTION_NAMES
    assert not fields & set(READ_ONLY)
    assert fields >= NEVER_ABSENT


# --- equality

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
)
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def numbers_as_floats(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: numbers_as_floats(part) for key, part in reversed(value.items())}
    if isinstance(value, list):
        return [numbers_as_floats(part) for part in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


def booleans_as_numbers(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: booleans_as_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [booleans_as_numbers(part) for part in value]
    return int(value) if isinstance(value, bool) else value


def has_booleans(value: JsonValue) -> bool:
    parts = list(value.values()) if isinstance(value, dict) else value
    if isinstance(parts, list):
        return any(map(has_booleans, parts))
    return isinstance(value, bool)


@given(json_values)
def test_equality_takes_numbers_by_value_and_mappings_by_key(value: JsonValue) -> None:
    assert equal(("zones",), value, numbers_as_floats(value))


@given(json_values)
def test_equality_never_takes_a_boolean_for_a_number(value: JsonValue) -> None:
    assert equal(("zones",), value, booleans_as_numbers(value)) is not has_booleans(value)


@given(json_values, json_values)
def test_equality_is_symmetric_and_no_wider_than_pythons(left: JsonValue, right: JsonValue) -> None:
    assert equal(("zones",), left, right) is equal(("zones",), right, left)
    assert left == right or not equal(("zones",), left, right)


@given(st.lists(st.text(max_size=3)))
def test_flags_are_a_set_and_other_lists_are_not(flags: list[str]) -> None:
    turned: list[JsonValue] = [*reversed(flags), *flags]
    plain: list[JsonValue] = [*flags]
    assert equal(("flags",), plain, turned)
    assert equal((), {"flags": plain}, {"flags": turned})
    assert equal(("dial_plan", "system"), plain, turned) is (not flags)
    assert equal((), {"zones": {"flags": plain}}, {"zones": {"flags": turned}}) is (not flags)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a", "A"),
        ("é", "e\u0301"),
        ("1", 1),
        (None, {}),
        ({}, []),
        ("", None),
        ({"a": None}, {}),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ({"a": 1}, [1]),
        ({"regex": "x"}, [{"regex": "x"}]),
    ],
)
def test_things_that_only_look_alike_are_not_equal(left: JsonValue, right: JsonValue) -> None:
    assert not equal(("formatters", "From"), left, right)


def test_flags_that_differ_or_are_no_strings_are_compared_as_they_stand() -> None:
    assert not equal(("flags",), ["a", "b"], ["a", "c"])
    assert not equal(("flags",), ["a", "b"], ["a"])
    assert not equal(("flags",), [1, "a"], ["a", 1])
    assert equal(("flags",), [1, "a"], [1.0, "a"])


# --- normal forms


@pytest.mark.parametrize("name", ["Acme, Inc.", "acme inc", "ACMEINC"])
def test_names_that_the_platform_takes_for_the_same_have_one_normal_form(name: str) -> None:
    assert normal_name(name) == "acmeinc"


@pytest.mark.parametrize(
    ("name", "normal"),
    [("Société", "socit"), ("株式会社", ""), ("!", ""), ("\u212a9 ٣", "9"), ("A_1", "a1")],
)
def test_letters_and_digits_beyond_ascii_vanish_from_a_name(name: str, normal: str) -> None:
    assert normal_name(name) == normal


def test_a_realms_normal_form_has_no_blanks_and_no_capitals() -> None:
    assert normal_realm("Acme.Example.com") == "acme.example.com"
    assert normal_realm("a b.example.com") == "ab.example.com"


@given(st.text())
def test_normal_forms_are_their_own_normal_forms(text: str) -> None:
    assert normal_name(normal_name(text)) == normal_name(text)
    assert normal_realm(normal_realm(text)) == normal_realm(text)


# --- JSON Schema

ZONES = ("Etc/UTC", "Europe/Paris", "UTC")
NOT_IN_A_SCHEMA = ("formatters.From.regex", "formatters.From.0.regex", "metaflows.patterns.(")
"""Places in `BROKEN` of regular expressions that don't compile, which no schema can tell."""


def as_yaml_has_it(document: JsonObject) -> bool:
    """Whether a file can hold this: no NaN, no half characters; and 60.0 not for what 60 is."""
    text = json.dumps(document)
    return not re.search(r"NaN|Infinity|\\ud800|60\.0|\\n", text)


def objects_in(schema: JsonValue) -> list[JsonObject]:
    parts: list[JsonValue] = []
    if isinstance(schema, dict):
        parts = [*schema.values()]
    elif isinstance(schema, list):
        parts = schema
    below = [found for part in parts for found in objects_in(part)]
    return [schema, *below] if isinstance(schema, dict) else below


def test_the_json_schema_describes_every_field_of_every_object() -> None:
    schema = json_schema(ZONES)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    properties = cast("JsonObject", schema["properties"])
    assert set(properties) == set(known_keys(()))
    definitions = cast("dict[str, JsonObject]", schema["$defs"])
    for definition in (schema, *definitions.values()):
        fields = cast("dict[str, JsonObject]", definition.get("properties", {}))
        assert all(field.get("description") for field in fields.values()), definition


def test_the_json_schema_refers_only_to_what_it_defines() -> None:
    schema = json_schema(ZONES)
    defined = {f"#/$defs/{name}" for name in cast("JsonObject", schema["$defs"])}
    referred = {found["$ref"] for found in objects_in(schema) if "$ref" in found}
    assert referred == defined


def test_the_json_schema_states_limits_defaults_and_the_data_of_modules() -> None:
    schema = json_schema(ZONES)
    definitions = cast("dict[str, JsonObject]", schema["$defs"])
    properties = cast("dict[str, JsonObject]", schema["properties"])
    assert (properties["realm"]["minLength"], properties["realm"]["maxLength"]) == (4, 253)
    assert properties["enabled"]["default"] is True
    assert "default" not in properties["realm"]
    metaflows = cast("dict[str, JsonObject]", definitions["Metaflows"]["properties"])
    assert metaflows["binding_digit"]["default"] == "*"
    assert metaflows["numbers"]["propertyNames"] == {"pattern": "^[0-9]+$"}
    assert properties["timezone"]["enum"] == ["Etc/UTC", "Europe/Paris"]
    cases = cast("list[JsonObject]", definitions["MetaflowNode"]["allOf"])
    assert len(cases) == len(MODULES)


def test_the_json_schema_is_the_same_each_time() -> None:
    assert json.dumps(json_schema(ZONES)) == json.dumps(json_schema(ZONES))


def test_the_json_schema_refuses_what_breaks_a_rule_and_accepts_the_rest() -> None:
    validator = Draft202012Validator(json_schema([*ZONES, "x" * 32]))
    for document in VALID:
        assert validator.is_valid(document), document
    for document, path, _ in BROKEN:
        if path not in NOT_IN_A_SCHEMA and as_yaml_has_it(document):
            assert not validator.is_valid(document), document
