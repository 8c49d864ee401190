"""Each rule of the platform broken once: refused where it stands, with what was found."""

from __future__ import annotations

import zoneinfo
from textwrap import dedent, indent
from typing import TYPE_CHECKING

import pytest

from reconciler.config.project import load, open_project
from reconciler.core.shapes import folded
from reconciler.core.validate import validate

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.values import Diagnostic

HEAD = """\
version: 1
api: {url: "sandbox:"}
accounts:
  good: {settings: {name: Good, realm: good.example.com}}
  acme:
    settings:
"""
LINE = HEAD.count("\n") + 1
"""Where the first line of the broken settings stands."""


def found(tmp_path: Path, text: str) -> list[Diagnostic]:
    (tmp_path / "reconciler.yaml").write_text(text)
    configuration, diagnostics = load(open_project(tmp_path, {}), {})
    assert diagnostics == []
    return folded(validate(configuration, frozenset(zoneinfo.available_timezones())))


def errors(tmp_path: Path, text: str) -> list[str]:
    """line:column path summary."""
    return [
        f"{d.source.line}:{d.source.column} {d.path} {d.summary}"
        for d in found(tmp_path, text)
        if d.severity == "error" and d.source
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("realm: a.example.com", "0:5 settings.name A missing field"),
        ("name: ''\nrealm: aaaa", "1:13 settings.name A value that is too short"),
        ("name: null\nrealm: aaaa", "1:13 settings.name"),
        ("name: A\nrealm: abc", "2:14 settings.realm A value that is too short"),
        ("name: A\nrealm: a b.example.com", "2:14 settings.realm A malformed value"),
        ("name: A\nrealm: null", "2:14 settings.realm"),
        ("name: A\nrealm: aaaa\nenabled: 'yes'", "3:16 settings.enabled A value of the wrong type"),
        ("name: A\nrealm: aaaa\nenabled: null", "3:16 settings.enabled"),
        ("name: A\nrealm: aaaa\ntimezone: UTC", "3:17 settings.timezone A value that is too short"),
        ("name: A\nrealm: aaaa\ntimezone: Europe/Pari", "3:17 settings.timezone An unknown time zone"),
        ("name: A\nrealm: aaaa\ntimezone: inherit", "3:17 settings.timezone"),
        ("name: A\nrealm: aaaa\nlanguage: 5", "3:17 settings.language A value of the wrong type"),
        ("name: A\nrealm: aaaa\nflags: [x, 5]", "3:18 settings.flags[1] A value of the wrong type"),
        ("name: A\nrealm: aaaa\ncaller_id:\n  external:\n    number: 911", "5:19 settings.caller_id.external.number A value of the wrong type"),
        ("name: A\nrealm: aaaa\ncaller_id: {external: {nam: x}}", "3:30 settings.caller_id.external.nam An unknown field"),
        ("name: A\nrealm: aaaa\ncall_recording: {account: {any: {any: {time_limit: 4}}}}", "3:58 settings.call_recording.account.any.any.time_limit A number that is too small"),
        ("name: A\nrealm: aaaa\ncall_recording: {account: {any: {any: {time_limit: 10801}}}}", "3:58 settings.call_recording.account.any.any.time_limit A number that is too large"),
        ("name: A\nrealm: aaaa\ncall_recording: {account: {any: {any: {format: ogg}}}}", "3:54 settings.call_recording.account.any.any.format A value that is not allowed"),
        ("name: A\nrealm: aaaa\ncall_recording: {account: {any: {any: {url: 'ftp://x/y'}}}}", "3:51 settings.call_recording.account.any.any.url A wrong value"),
        ("name: A\nrealm: aaaa\ncall_recording: {acount: {}}", "3:24 settings.call_recording.acount An unknown field"),
        ("name: A\nrealm: aaaa\ncall_restriction: {toll_us: {action: allow}}", "3:44 settings.call_restriction.toll_us.action A value that is not allowed"),
        ("name: A\nrealm: aaaa\nmetaflows: {binding_digit: '12'}", "3:34 settings.metaflows.binding_digit A value that is not allowed"),
        ("name: A\nrealm: aaaa\nmetaflows: {numbers: {x: {module: hold}}}", "3:29 settings.metaflows.numbers.x An unknown field"),
        ("name: A\nrealm: aaaa\nmetaflows: {numbers: {'1': {data: {}}}}", "3:29 settings.metaflows.numbers.1.module A missing field"),
        ("name: A\nrealm: aaaa\nformatters: {f: {regex: '('}}", "3:31 settings.formatters.f.regex A wrong value"),
        ("name: A\nrealm: aaaa\nringtones: {internal: " + "x" * 257 + "}", "3:29 settings.ringtones.internal A value that is too long"),
        ("name: A\nrealm: aaaa\nverb: delete", "3:7 settings.verb An unknown field"),
        ("name: A\nrealm: aaaa\nid: x", "3:7 settings.id An unknown field"),
        ("name: A\nrealm: aaaa\npvt_x: 1", "3:7 settings.pvt_x An unknown field"),
        ("name: A\nrealm: aaaa\nvoicemail: {notify: {callback: {schedule: [1, '2']}}}", "3:53 settings.voicemail.notify.callback.schedule[1] A value of the wrong type"),
        ("name: A\nrealm: GOOD.example.com", "2:14 settings.realm A realm declared twice"),
        ("name: g-o.O d\nrealm: aaaa", "1:13 settings.name A name declared twice"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_refused_where_it_stands(
    tmp_path: Path, settings: str, expected: str
) -> None:
    (error,) = errors(tmp_path, HEAD + indent(settings, " " * 6) + "\n")
    line, _, rest = error.partition(":")
    assert f"{int(line) - LINE + 1}:{rest}".startswith(expected)


def test_all_errors_come_at_once_in_order_of_place(tmp_path: Path) -> None:
    settings = "name: 5\nrealm: a\nlanguage: true\nbogus: 1\ntimezone: UTC\n"
    lines = [
        int(error.partition(":")[0]) - LINE + 1
        for error in errors(tmp_path, HEAD + indent(settings, " " * 6))
    ]
    assert lines == [1, 2, 3, 4, 5]


def test_an_unknown_field_names_the_nearest_known_one(tmp_path: Path) -> None:
    (error,) = found(
        tmp_path, HEAD + "      name: A\n      realm: aaaa\n      time_zone: Europe/Paris\n"
    )
    assert 'Nearest: "timezone".' in error.detail


def test_a_number_where_text_is_expected_says_to_quote_it(tmp_path: Path) -> None:
    (error,) = found(
        tmp_path,
        HEAD + "      name: A\n      realm: aaaa\n      caller_id: {emergency: {number: 911}}\n",
    )
    assert "Found 911." in error.detail
    assert "Quote it." in error.detail


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        ("a: {parent: b, settings: {name: A, realm: aaaa}}", ["4:15 parent An unknown parent"]),
        ("a: {parent: b, settings: {name: A, realm: aaaa}}\nb: {parent: a, settings: {name: B, realm: bbbb}}", ["4:15 parent Parents in a circle"]),
        ("a: {parent: a, settings: {name: A, realm: aaaa}}", ["4:15 parent Parents in a circle"]),
    ],
)  # fmt: skip
def test_parents_must_lead_to_the_root(tmp_path: Path, accounts: str, expected: list[str]) -> None:
    text = 'version: 1\napi: {url: "sandbox:"}\naccounts:\n' + indent(accounts, "  ") + "\n"
    assert errors(tmp_path, text) == expected


def test_a_circle_is_printed_as_a_path(tmp_path: Path) -> None:
    text = dedent(
        """\
        version: 1
        api: {url: "sandbox:"}
        accounts:
          a: {parent: c, settings: {name: A, realm: aaaa}}
          b: {parent: a, settings: {name: B, realm: bbbb}}
          c: {parent: b, settings: {name: C, realm: cccc}}
        """
    )
    (error,) = found(tmp_path, text)
    assert error.detail == "a -> c -> b -> a."


def test_what_is_odd_but_legal_is_a_warning(tmp_path: Path) -> None:
    text = dedent(
        """\
        version: 1
        api: {url: "sandbox:"}
        accounts:
          a:
            settings:
              name: A
              notifications: {first_occurrence: {sent_initial_call: true}}
              metaflows: {numbers: {'1': {module: vendor_thing}}}
        """
    )
    warnings = found(tmp_path, text)
    assert [d.severity for d in warnings] == ["warning"] * 3
    assert sorted(d.summary for d in warnings) == [
        "A field that the platform writes",
        "An account without a realm",
        "An unknown metaflow module",
    ]


def test_a_sensitive_value_is_not_quoted(tmp_path: Path) -> None:
    text = (
        "variables: {s: {default: hunter2hunter2hunter2hunter2hunter2xx, sensitive: true}}\n"
        + HEAD[HEAD.index("accounts") :]
    )
    text = (
        'version: 1\napi: {url: "sandbox:"}\n'
        + text
        + "      name: A\n      realm: aaaa\n      caller_id: {external: {name: '${var.s}'}}\n"
    )
    (error,) = found(tmp_path, text)
    assert "(sensitive)" in error.detail
    assert "hunter2" not in str(error)


def test_extra_fields_pass_when_they_are_allowed(tmp_path: Path) -> None:
    text = HEAD.replace('{url: "sandbox:"}', '{url: "sandbox:", extra_fields: allow}')
    text += "      name: A\n      realm: aaaa\n      new_field: 1\n      verb: delete\n"
    assert [error.partition(" ")[2] for error in errors(tmp_path, text)] == [
        "settings.verb An unknown field"
    ]


def test_a_reseller_may_stand_below_an_account_that_is_none(tmp_path: Path) -> None:
    """The platform refuses to promote above a reseller, not below: docs/platform.md 3.8."""
    text = dedent(
        """\
        version: 1
        api: {url: "sandbox:"}
        accounts:
          a: {reseller: false, settings: {name: A, realm: aaaa}}
          b: {parent: a, settings: {name: B, realm: bbbb}}
          c: {parent: b, reseller: true, settings: {name: C, realm: cccc}}
        """
    )
    assert found(tmp_path, text) == []


def test_a_pattern_that_does_not_compile_is_a_warning_at_its_key(tmp_path: Path) -> None:
    text = (
        HEAD
        + "      name: A\n      realm: aaaa\n      dial_plan:\n        '^1(':\n          prefix: '1'\n"
    )
    (warning,) = found(tmp_path, text)
    assert (warning.severity, warning.path) == ("warning", 'settings.dial_plan["^1("]')
    assert warning.source is not None
    assert warning.source.line == LINE + 3
