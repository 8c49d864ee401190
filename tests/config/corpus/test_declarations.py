"""Variables, interpolation, rows and templates: what means something, what is refused, and where."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.config.rows import read_rows
from reconciler.core.assembly import MAX_TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from reconciler.core.values import JsonValue

Load = Any  # the fixture's type: see conftest.py
Found = "tuple[Configuration | None, list[Diagnostic]]"


def errors(found: Any) -> list[str]:
    """`file:line:column path summary` of each error, in order."""
    return [
        " ".join(str(part) for part in (d.source, d.path, d.summary) if part)
        for d in found[1]
        if d.severity == "error"
    ]


def settings(found: Any, key: str = "a") -> dict[str, Any]:
    assert errors(found) == []
    settings: dict[str, Any] = found[0].accounts[key].settings
    return settings


# --- interpolation -----------------------------------------------------------------------------

VARIABLES = (
    "variables: {v: {default: d}, n: {default: 5}, f: {default: 1.50}, t: {default: true}, z: {default: null},"
    " l: {default: [1, x]}, m: {default: {x: '${var.v}'}}, q: {default: '911'}, s: {default: '${var.n}'}}\n"
)
ACCOUNT = "accounts: {a: {settings: {name: A, realm: aaaa, zones: {home: %s}}}}\n"
COLUMN = 63
"""Where the value begins."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${var.v}", "d"), ("${var.n}", 5), ("${var.f}", 1.5), ("${var.t}", True), ("${var.z}", None), ("${var.l}", [1, "x"]), ("${var.q}", "911"),
        ("x${var.n}", "x5"), ("${var.n} ", "5 "), ("${var.f}!", "1.5!"), ("${var.t}${var.v}", "trued"), ("${ var.v }", "d"), ("${var.v}${account.key}", "da"),
        ("$${var.v}", "${var.v}"), ("a$${b", "a${b"), ("$$${var.v}", "$${var.v}"), ("$${${var.v}}", "${d}"), ("$", "$"), ("$x", "$x"), ("$$", "$$"),
        ("{var.v}", "{var.v}"), ("$ {var.v}", "$ {var.v}"), ("%{if}", "%{if}"), ("}${var.v}{", "}d{"), ("${account.key}", "a"),
        # what a variable holds is not looked into again
        ("${var.s}", "${var.n}"), ("x${var.s}", "x${var.n}"), ("${var.m}", {"x": "${var.v}"}),
    ],
)  # fmt: skip
def test_an_interpolation_becomes_the_value_and_a_lone_one_keeps_its_type(
    loaded: Load, text: str, value: JsonValue
) -> None:
    found = settings(loaded({"reconciler.yaml": VARIABLES + ACCOUNT % f"'{text}'"}))["zones"][
        "home"
    ]
    assert json.dumps(found) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "${", "${}", "${var.v", "x ${var.v", "${var}", "${var.}", "${var.nope}", "${VAR.v}", "${var.V}", "${var. v}", "${var.v.x}", "${var.m.x}", "${var[v]}",
        "${${var.v}}", "${var.v | upper}", "${env.HOME}", "${file.x}", "${path}", "${account}", "${account.name}", "${account.realm}", "${accounts.a.name}", "${row.x}", "${template.x}",
        "x${var.l}", "x${var.m}", "${var.z}x", '${"x"}', "${5}", "$${x} ${y}",
    ],
)  # fmt: skip
def test_an_interpolation_that_means_nothing_is_refused_where_it_stands(
    loaded: Load, text: str
) -> None:
    found = loaded({"reconciler.yaml": VARIABLES + ACCOUNT % f"'{text}'"})
    assert errors(found) == [
        f"reconciler.yaml:4:{COLUMN} settings.zones.home A broken interpolation"
    ]


def test_a_value_that_could_not_be_filled_in_is_not_judged_further(loaded: Load) -> None:
    text = (
        "accounts:\n  a: {parent: '${var.x}', settings: {name: '${var.x}', realm: '${var.x}', timezone: '${var.x}'}}\n"
        "  b: {settings: {name: '${var.x}', realm: '${var.x}', enabled: '${var.x}', caller_id: {external: {name: '${var.x}'}}}}\n"
    )
    found = errors(loaded({"reconciler.yaml": text}))
    assert {error.partition(" A ")[2] for error in found} == {"broken interpolation"}
    assert len(found) == 8


def test_interpolation_reaches_into_lists_and_into_no_key(loaded: Load) -> None:
    text = VARIABLES + ACCOUNT % "{'${var.v}': ['${var.n}', {x: 'y${var.v}'}]}"
    found = loaded({"reconciler.yaml": text})
    assert settings(found)["zones"] == {"home": {"${var.v}": [5, {"x": "yd"}]}}
    (warning,) = (d for d in found[1] if d.summary == "An interpolation in a key")
    assert str(warning.source) == f"reconciler.yaml:4:{COLUMN + 1}"


def test_what_is_no_block_is_not_filled_in(loaded: Load) -> None:
    block = "{extends: ['${var.v}'], settings: {name: A, realm: aaaa}}"
    assert errors(
        loaded(
            {"reconciler.yaml": f"{VARIABLES}templates: {{d: {{}}}}\naccounts: {{a: {block}}}\n"}
        )
    ) == ["reconciler.yaml:5:26 extends An unknown template"]
    assert errors(
        loaded({"reconciler.yaml": VARIABLES + "accounts: {'${var.v}': {settings: {name: A}}}\n"})
    ) == ["reconciler.yaml:4:12 A malformed key"]


@pytest.mark.parametrize("value", ["5", "true", "null", "[x]", "{x: y}"])
def test_a_parent_that_becomes_no_string_is_refused(loaded: Load, value: str) -> None:
    text = f"variables: {{v: {{default: {value}}}}}\naccounts: {{a: {{parent: '${{var.v}}', settings: {{name: A, realm: aaaa}}}}}}\n"
    assert errors(loaded({"reconciler.yaml": text})) == [
        "reconciler.yaml:4:24 parent A wrong value"
    ]


# --- variables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "given", "value"),
    [
        ("5", "6", 6), ("5", "-6", -6), ("1.5", "2", 2), ("1.5", "2.5", 2.5), ("true", "false", False), ("'5'", "6", "6"), ("'x'", "true", "true"), ("null", "5", "5"), ("x", "", ""),
        ("x", "${var.v}", "${var.v}"), ("x", "caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        *[("5", text, None) for text in ("", "x", "5.0", "05", "+5", "1e3", " 5", "5 ", "0x5", "9" * 19, "9" * 5000, "true", "\u0665")],
        *[("1.5", text, None) for text in (".5", "1.", "1e3", ".inf", "9" * 400 + ".0", "0.12345678901234567890", "x", "true")],
        *[("true", text, None) for text in ("True", "yes", "1", "", "null")], ("[x]", "y", None), ("{x: y}", "y", None), ("x", "a\udcff", None), ("x", "a\x00", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("outside", ["command line", "environment"])
def test_text_from_outside_takes_the_type_of_the_default_or_is_refused(
    loaded: Load, outside: str, default: str, given: str, value: JsonValue
) -> None:
    text = f"variables: {{v: {{default: {default}}}}}\n" + ACCOUNT % "'${var.v}'"
    by_line, by_environment = (
        ({"v": given}, {}) if outside == "command line" else ({}, {"RECONCILER_VAR_v": given})
    )
    found = loaded({"reconciler.yaml": text}, by_line, by_environment)
    if value is None:
        assert errors(found) == ["reconciler.yaml:3:13 A wrong value for the variable: v"]
    else:
        assert (type(settings(found)["zones"]["home"]), settings(found)["zones"]["home"]) == (
            type(value),
            value,
        )


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ("{a-b: {default: x}}", "3:13 A malformed variable name"), ("{'': {default: x}}", "3:13 A malformed variable name"), ("{1a: {default: x}}", "3:13 A malformed variable name"),
        ("{a: {}}", "3:13 No value for the variable: a"), ("{a: }", "3:13 No value for the variable: a"), ("{a: {env: NOT_SET}}", "3:13 No value for the variable: a"),
        ("{a: {env: VINIX_API_KEY}}", "3:13 A reserved environment variable"), ("{a: {env: RECONCILER_PLAN_KEY}}", "3:13 A reserved environment variable"),
        ("[a]", "3:12 variables A wrong value"), ("{a: x}", "3:16 variables.a A wrong value"), ("{a: {default: x, sensitive: 'yes'}}", "3:40 variables.a.sensitive A wrong value"),
        ("{a: {default: x, env: ''}}", "3:34 variables.a.env A wrong value"), ("{a: {default: x, defualt: y}}", '3:29 variables.a.defualt An unknown key "defualt"'),
        ("{a: {default: x}, a: {default: y}}", "3:30 A key declared twice"), ("{a: {default: x, settings: {}}}", '3:29 variables.a.settings An unknown key "settings"'),
    ],
)  # fmt: skip
def test_a_variable_that_can_not_be_one_is_refused(
    loaded: Load, variables: str, error: str
) -> None:
    found = errors(loaded({"reconciler.yaml": f"variables: {variables}\naccounts: {{}}\n"}))
    assert found == [f"reconciler.yaml:{error}"]


def test_unknown_variables_are_errors_and_unused_ones_warnings(loaded: Load) -> None:
    found = loaded(
        {"reconciler.yaml": "variables: {region: {default: x}}\n"},
        {"regio": "y"},
        {"RECONCILER_VAR_REGION": "z"},
    )
    told = [(d.severity, d.summary) for d in found[1]]
    assert sorted(told) == [
        ("error", "An undeclared variable: regio"),
        ("warning", "An undeclared variable: REGION"),
    ]
    found = loaded({"reconciler.yaml": "variables: {region: {default: x}}\n"})
    assert [(d.severity, d.summary, str(d.source)) for d in found[1]] == [
        ("warning", "A variable that nothing uses: region", "reconciler.yaml:3:13")
    ]


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("default", "block"),
    [
        (SECRET, "{settings: {name: '${var.s}', realm: aaaa}}"), (SECRET, "{settings: {name: A, realm: '${var.s}'}}"), (SECRET, "{parent: '${var.s}', settings: {name: A, realm: aaaa}}"),
        (SECRET, "{id: '${var.s}', settings: {name: A, realm: aaaa}}"), (f"{SECRET} x", "{id: '${var.s}', settings: {name: A, realm: aaaa}}"), (SECRET, "{reseller: '${var.s}', settings: {name: A, realm: aaaa}}"),
        (f"{SECRET}..", "{settings: {name: A, realm: aaaa}, lifecycle: {ignore_changes: ['${var.s}']}}"), (SECRET, "{settings: {name: A, realm: aaaa}, lifecycle: {prevent_destroy: '${var.s}'}}"),
        (SECRET, "{settings: {name: A, realm: aaaa, timezone: '${var.s}'}}"), (SECRET * 3, "{settings: {name: A, realm: aaaa, caller_id: {external: {name: '${var.s}'}}}}"),
        (f"{{external: {{nam: {SECRET}}}}}", "{settings: {name: A, realm: aaaa, caller_id: '${var.s}'}}"), (f"[{SECRET}, 5]", "{settings: {name: A, realm: aaaa, flags: '${var.s}'}}"),
    ],
)  # fmt: skip
def test_an_error_about_a_secret_does_not_tell_it(loaded: Load, default: str, block: str) -> None:
    text = f"variables: {{s: {{default: {default}, sensitive: true}}}}\naccounts: {{a: {block}}}\n"
    found = loaded({"reconciler.yaml": text})
    assert errors(found)
    assert SECRET not in str(found[1])


@pytest.mark.parametrize(
    "variables",
    [
        f"{{s: {SECRET}}}", f"{{s: {{default: {SECRET}, sensitive: '{SECRET}'}}}}", f"{{s: {{default: 5, description: [{SECRET}]}}}}",
        f"{{s: {{default: {SECRET}}}, s: {{default: {SECRET}}}}}",
    ],
)  # fmt: skip
def test_an_error_about_variables_does_not_tell_their_values(loaded: Load, variables: str) -> None:
    found = loaded({"reconciler.yaml": f"variables: {variables}\n"})
    assert errors(found)
    assert SECRET not in str(found[1])


def test_a_wrong_value_does_not_tell_the_default(loaded: Load) -> None:
    found = loaded(
        {"reconciler.yaml": "variables: {pin: {default: 4711, sensitive: true}}\n"}, {"pin": "x"}
    )
    assert errors(found)
    assert "4711" not in str(found[1])


def test_what_is_inside_a_secret_mapping_is_secret_and_so_is_a_url_inside_one(loaded: Load) -> None:
    url = "https://u:p@h.example.com/"
    text = (
        f"variables: {{m: {{default: {{x: {SECRET}, y: {{z: [1]}}}}, sensitive: true}}, u: {{default: {{x: plain, y: ['{url}']}}}}}}\n"
        "accounts: {a: {settings: {name: A, realm: aaaa, zones: {m: '${var.m}', u: '${var.u}'}}}}\n"
    )
    account = loaded({"reconciler.yaml": text})[0].accounts["a"]
    at = ("settings", "zones")
    assert account.sensitive == {
        (*at, "m", "x"): "var.m", (*at, "m", "y", "z"): "var.m", (*at, "u", "y"): "accounts.a.settings.zones.u.y",
    }  # fmt: skip
    source, kind = account.origin((*at, "m", "y", "z"))
    assert (str(source), kind) == ("reconciler.yaml:4:60", "variable m")


# --- templates ---------------------------------------------------------------------------------


def test_a_template_that_is_extended_twice_lies_where_it_was_laid_last(loaded: Load) -> None:
    text = (
        "templates:\n  base: {settings: {org: base, language: b}}\n  one: {extends: [base], settings: {org: one}}\n  two: {extends: [base], settings: {language: two}}\n"
        "accounts: {a: {extends: [one, two], settings: {name: A, realm: aaaa}}, b: {extends: [two, one], settings: {name: B, realm: bbbb}}}\n"
    )
    found = loaded({"reconciler.yaml": text})
    assert (settings(found)["org"], settings(found)["language"]) == ("base", "two")
    assert (settings(found, "b")["org"], settings(found, "b")["language"]) == ("one", "b")
    assert [layer.origin for layer in found[0].accounts["a"].layers] == [
        "template one",
        "template base",
        "template two",
        "account",
    ]


@pytest.mark.parametrize(
    ("templates", "error", "detail"),
    [
        ("{t: {extends: [t]}}", "templates.t:3:27 extends Templates in a circle", "t -> t."), ("{t: {extends: [u]}, u: {extends: [v]}, v: {extends: [t]}}", "templates.v:3:65 extends Templates in a circle", "t -> u -> v -> t."),
        ("{t: {extends: [u]}, u: {extends: [v]}, v: {extends: [u]}}", "templates.v:3:65 extends Templates in a circle", "u -> v -> u."),
        ("{t: {extends: [tt]}}", "templates.t:3:27 extends An unknown template", '"tt" is no template. Nearest: "t".'), ("{u: {}}", "accounts.a:4:26 extends An unknown template", '"t" is no template.'),
    ],
)  # fmt: skip
def test_what_is_wrong_between_templates_is_told_once_at_the_template(
    loaded: Load, templates: str, error: str, detail: str
) -> None:
    account = "{extends: [t], settings: {name: %s, realm: %s.example.com}}"
    text = f"templates: {templates}\naccounts: {{a: {account % ('a', 'a')}, b: {account % ('b', 'b')}}}\n"
    found = [d for d in loaded({"reconciler.yaml": text})[1] if d.severity == "error"]
    first = found[0]
    place = f"{first.source}".removeprefix("reconciler.yaml")
    assert f"{first.address}{place} {first.path} {first.summary}" == error
    assert first.detail == detail
    assert len(found) == (2 if first.address == "accounts.a" else 1)


def test_as_many_templates_as_are_allowed_lie_below_an_account(loaded: Load) -> None:
    templates = "templates:\n" + "".join(
        f"  t{n}: {{extends: [t{n - 1}]}}\n" if n else "  t0: {settings: {org: deep}}\n"
        for n in range(MAX_TEMPLATES)
    )
    text = f"{templates}accounts: {{a: {{extends: [t{MAX_TEMPLATES - 1}], settings: {{name: A, realm: aaaa}}}}}}\n"
    assert settings(loaded({"reconciler.yaml": text}))["org"] == "deep"


# --- rows --------------------------------------------------------------------------------------

ROWS = "accounts_from: {file: %s, key: '${row.k}', settings: {name: '${row.n}', realm: '${row.k}.example.com'}}\n"


def test_cells_are_text_as_they_stand_and_are_not_filled_in(loaded: Load) -> None:
    cells = {
        "a": "${var.secret}", "b": "$${x}", "c": "911", "d": "true", "e": " padded ", "f": "=1+2", "g": "null", "h": "${account.key}", "i": "01.50",
        "j": "x,y", "k": "${row.k}", "l": "\u202d"[1:] + "\xe9\U0001f600", "m": 'he said "hi"', "n": "two\nlines",
    }  # fmt: skip
    data = "k,n\r\n" + "".join(
        f'{key},"{cell.replace(chr(34), chr(34) * 2)}"\r\n' for key, cell in cells.items()
    )
    files = {
        "reconciler.yaml": f"variables: {{secret: {{default: {SECRET}, sensitive: true}}}}\n"
        + ROWS % "d.csv",
        "d.csv": data,
    }
    found = loaded(files)
    assert {key: settings(found, key)["name"] for key in cells} == cells
    assert not any(account.sensitive for account in found[0].accounts.values())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("", "d.csv:1:1 A data file without rows"), ("k,n\n", "d.csv:1:1 A data file without rows"), ("\n\n", "d.csv:1:1 A data file without rows"), ("k,n\na\n", "d.csv:2:1 A row that does not fit the header"), ("k,n\na,A\nb,B,x\n", "d.csv:3:1 A row that does not fit the header"),
        ("k,n\na,A\n\n\nb\n", "d.csv:5:1 A row that does not fit the header"), ('k,n\na,"x\ny"\nb\n', "d.csv:4:1 A row that does not fit the header"), ("k,k\na,A\n", "d.csv:1:1 A column declared twice"), ("k,,n\na,x,A\n", "d.csv:1:1 A column without a name"), ("k,n,\na,A,\n", "d.csv:1:1 A column without a name"),
        ('k,n\na,"A\nb,B\n', "d.csv:2:1 Broken CSV"), ('k,n\na,"A"x\n', "d.csv:2:1 Broken CSV"), ("k,n\na," + "x" * 200_000 + "\n", "d.csv:2:1 Broken CSV"), ("k,n\na,\0\n", f"d.csv:2:3 {'A forbidden character'}"), ("k,n\na,x\u202ey\n", "d.csv:2:4 A forbidden character"), ("k,n\ra,A\rb\r", "d.csv:3:1 A row that does not fit the header"),
        ("k,n\na b,A\n", "d.csv:2:1 A malformed key"), ("k,n\n,A\n", "d.csv:2:1 A malformed key"), ("k,n\nroot,A\n", "d.csv:2:1 A malformed key"), ("k,n\na,A\nb,B\na,C\n", "d.csv:4:1 An account declared twice"), ("k,n\na,\n", "d.csv:2:1 settings.name A value that is too short"),
        ("k,n\na,A\nb,a!\n", "d.csv:3:1 settings.name A name declared twice"), ("k;n\na;A\n", "reconciler.yaml:3:35 A row without a key"), ("K,n\na,A\n", "reconciler.yaml:3:35 A row without a key"), ("k,N\na,A\nb,B\n", "reconciler.yaml:3:64 settings.name A broken interpolation"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_an_error_at_the_row_and_a_wrong_block_one_at_the_block(
    loaded: Load, data: str, error: str
) -> None:
    assert errors(loaded({"reconciler.yaml": ROWS % "d.csv", "d.csv": data})) == [error]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("", "d.yaml:1:1 A malformed data file"), ("[]\n", "d.yaml:1:1 A malformed data file"), ("- {k: a, n: A}\n- x\n", "d.yaml:2:3 A malformed data file"), ("- {k: a, n: A}\n-\n", "d.yaml:2:2 A malformed data file"), ("- - {k: a}\n", "d.yaml:1:3 A malformed data file"), ("x\n", "d.yaml:1:1 A document without content"),
        ("- {k: a, k: b}\n", "d.yaml:1:10 A key declared twice"), ("- {k: 5, n: A}\n", "d.yaml:1:3 A malformed key"), ("- {k: a, n: 911}\n", "d.yaml:1:3 settings.name A value of the wrong type"), ("- {k: a, n: A}\n- {k: a, n: B}\n", "d.yaml:2:3 An account declared twice"), ("- {k: a, n: A}\n- {k: b}\n", "reconciler.yaml:3:65 settings.name A broken interpolation"),
        ("{k: a, n: 'x\n", "d.yaml:1:11 Broken YAML"),
    ],
)  # fmt: skip
def test_a_wrong_list_of_rows_is_refused_at_the_row(loaded: Load, data: str, error: str) -> None:
    assert errors(loaded({"reconciler.yaml": ROWS % "d.yaml", "d.yaml": data})) == [error]


def test_a_row_that_lacks_a_column_is_named(loaded: Load) -> None:
    found = loaded(
        {"reconciler.yaml": ROWS % "d.yaml", "d.yaml": "- {k: a, n: A}\n- {k: b, m: B}\n"}
    )
    assert [d.detail for d in found[1]] == [
        '"n" is no column of the row at d.yaml:2:3; it has k, m. Nearest: "m".'
    ] or [d.detail for d in found[1]] == ['"n" is no column of the row at d.yaml:2:3; it has k, m.']


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("integer", "5", 5), ("integer", "-5", -5), ("number", "5", 5), ("number", "1.50", 1.5), ("boolean", "true", True), ("boolean", "false", False),
        *[("integer", cell, None) for cell in ("x", "05", "5.0", "+5", " 5", '""', "99999999999999999999", "1e3", "true")], *[("number", cell, None) for cell in ("x", ".5", "1e3", ".inf", "9" * 400 + ".0", '""')],
        *[("boolean", cell, None) for cell in ("True", "yes", "1", '""')],
    ],
)  # fmt: skip
def test_cells_of_a_column_with_a_type_are_of_that_type_or_refused(
    kind: str, cell: str, value: JsonValue
) -> None:
    rows, wrong = read_rows("d.csv", f"k,v\na,{cell}\n".encode(), {"v": kind})
    if value is None:
        assert [f"{d.source} {d.summary}" for d in wrong] == ["d.csv:2:1 A wrong cell"]
    else:
        assert wrong == []
        assert (type(rows[0].values["v"]), rows[0].values["v"]) == (type(value), value)


def test_a_hundred_thousand_rows_are_read_and_a_million_cells_are_the_limit() -> None:
    rows, wrong = read_rows("d.csv", b"a,b,c\n" + b"1,2,3\n" * 100_000, {})
    assert (len(rows), wrong, str(rows[-1].source)) == (100_000, [], "d.csv:100001:1")
    _, (wrong,) = read_rows("d.csv", b"a,b,c,d\n" + b",,,\n" * 250_000, {})  # type: ignore[assignment]
    assert (str(wrong.source), wrong.summary) == ("d.csv:250001:1", "Too many values")  # type: ignore[attr-defined]


def test_of_thousands_of_wrong_rows_a_thousand_are_told() -> None:
    _, wrong = read_rows("d.csv", b"a,b\n" + b"1\n" * 3000, {})
    assert (len(wrong), wrong[-1].summary) == (1001, "Too many mistakes")


@pytest.mark.parametrize(
    "file", ["../d.csv", "/etc/passwd", "nowhere.csv", "", "dir", "pipe", "${row.x}"]
)
def test_data_is_read_from_files_of_the_project_alone(
    loaded: Load, tmp_path: Path, file: str
) -> None:
    import os

    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "pipe")
    found = loaded({"reconciler.yaml": ROWS % f"'{file}'"})
    assert errors(found) == ["reconciler.yaml:3:23 accounts_from.file A wrong data file"]


def test_an_account_that_is_declared_twice_is_named_at_both_places_whatever_declares_it(
    loaded: Load,
) -> None:
    files = {
        "reconciler.yaml": "include: [x.yaml]\n" + ROWS % "d.csv", "d.csv": "k,n\na,A\nb,B\n", "x.yaml": "accounts: {b: {settings: {name: C, realm: cccc}}}\n---\naccounts: {b: {settings: {name: D, realm: dddd}}}\n",
    }  # fmt: skip
    found = [d for d in loaded(files)[1] if d.severity == "error"]
    assert [(str(d.source), d.detail.partition(" already")[0]) for d in found] == [
        ("d.csv:3:1", "It stands at x.yaml:1:12"), ("x.yaml:3:12", "It stands at x.yaml:1:12"),
    ]  # fmt: skip


# --- a file that is cut off --------------------------------------------------------------------

PROJECT: Mapping[str, str] = {
    "reconciler.yaml": "include: [accounts.yaml]\ntemplates:\n  retail: {settings: {timezone: Europe/Paris}}\n",
    "accounts.yaml": """\
# the customers
accounts:
  acme:
    reseller: true
    settings:
      name: "Acme \\u00e9"
      realm: acme.example.com
      caller_id: {external: {name: 'Acme', number: "+33123456789"}}
      flags: [gold, "911"]
  acme-east:
    parent: acme
    extends:
      - retail
    settings:
      name: >-
        Acme
        East
      realm: east.example.com
      zones: &zones {home: eu}
---
accounts: {globex: {settings: {name: Globex, realm: globex.example.com, zones: {home: us}}}}
""",
}


def test_a_file_cut_off_anywhere_is_an_error_or_has_accounts_and_never_fails(loaded: Load) -> None:
    whole = PROJECT["accounts.yaml"]
    for length in range(len(whole)):
        configuration, diagnostics = loaded({**PROJECT, "accounts.yaml": whole[:length]})
        wrong = [d for d in diagnostics if d.severity == "error"]
        assert wrong or configuration.accounts, whole[:length]
        lines = whole[:length].count("\n") + 1
        assert all(d.source is not None and d.source.line <= lines for d in wrong), whole[:length]


# --- a project that somebody's hand slipped on -------------------------------------------------

TYPED = [
    "null", "~", "5", "-1", "1.5", "true", "[]", "{}", "[x]", "{x: 1}", '""', '"${var.v}"', '"${x}"', "*s", "&z 1", "x", "root", "acme", '"\\ud800"', ".inf", "!!str x",
    "[[1]]", '{"": 1}', "<<", "|", "\xe9", "\t", "- a", "1: 2", "? x", "---\n", "...\n", "#", '"', "{", "}", "[", "]", ",", ":", "\n", "    ", "settings: {a: 1}",
]  # fmt: skip
WORD = re.compile(r"[A-Za-z0-9_.${}\"/:^+@-]+")


def slipped(text: str, hand: random.Random) -> str:
    """The text with a word typed over, something typed in, a line gone or twice, or a part lost."""
    at = hand.randrange(len(text))
    lines = text.split("\n")
    line = hand.randrange(len(lines))
    word = hand.choice(list(WORD.finditer(text)))
    return hand.choice(
        [
            text[: word.start()] + hand.choice(TYPED) + text[word.end() :],
            text[: word.start()] + hand.choice(TYPED) + text[word.end() :],
            text[:at] + hand.choice(TYPED) + text[at:],
            text[:at] + text[at + hand.randint(1, 20) :],
            "\n".join(lines[:line] + lines[line + 1 :]),
            "\n".join([*lines[:line], hand.choice(lines), *lines[line:]]),
        ]
    )


EVERYTHING: Mapping[str, str] = {
    "reconciler.yaml": """\
state: state/x.json
include: [accounts.yaml]
variables:
  v: {default: x, env: MY_V, sensitive: false}
  m: {default: {home: us}}
defaults: {settings: {enabled: true}}
templates:
  t: {reseller: true, settings: {timezone: Europe/Paris, flags: [a]}}
  u: {extends: [t], settings: {org: "${var.v}"}}
safety: {max_delete: 0, max_update_percent: 30}
accounts_from: {file: d.csv, key: "${row.k}", template: u, settings: {name: "${row.n}", realm: "${row.k}.example.com"}}
moved: [{from: old, to: acme}]
removed: [{account: gone, destroy: false}]
""",
    "accounts.yaml": """\
accounts:
  acme:
    extends: [u]
    parent: root
    settings:
      name: Acme
      realm: ${account.key}.example.com
      zones: ${var.m}
      call_recording: {account: {any: {any: {time_limit: 60, url: "https://u:p@x.example.com/"}}}}
      metaflows: {numbers: {"1": {module: play, data: {id: x}, children: {"2": {module: hangup}}}}}
      formatters: {From: [{regex: "^1"}]}
      dial_plan: {"^1": {prefix: "+"}}
    lifecycle: {ignore_changes: [org, zones.home], prevent_destroy: false}
  east: {parent: acme, settings: &s {name: East, realm: east.example.com}}
""",
    "d.csv": "k,n\nc1,One\nc2,Two\n",
}


@pytest.mark.parametrize("seed", range(10))
def test_a_hand_that_slips_is_told_in_a_line_that_is_there(loaded: Load, seed: int) -> None:
    assert errors(loaded(EVERYTHING)) == []
    hand = random.Random(seed)  # noqa: S311 - slips that can be repeated, no secrets
    for _ in range(40):
        name = hand.choice(list(EVERYTHING))
        text = slipped(slipped(EVERYTHING[name], hand), hand)
        files = {**EVERYTHING, name: text.encode("utf-8", "replace").decode()}
        configuration, diagnostics = loaded(files)
        for found in diagnostics:
            assert found.source is not None
            head = 2 if found.source.file == "reconciler.yaml" else 0  # what the fixture adds
            whole = files[found.source.file].replace("\r", "\n")
            assert 1 <= found.source.line <= whole.count("\n") + 1 + head
        assert configuration is not None or errors((None, diagnostics))
