"""Wrong documents: each error names its place, all are told at once, and nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project, World

WRONG = {
    "an unknown key": ("accounts: {a: {settings: {name: A}, @colour: red}}", "colour"),
    "an unknown field": (
        "accounts:\n  a:\n    settings:\n      name: A\n      @langauge: de",
        'Nearest: "language"',
    ),
    "a number for text": ("accounts:\n  a: {settings: {name: A, org: @911}}", "Quote it"),
    "text for a number": (
        "accounts:\n  a: {settings: {name: A, topup: {threshold: @'5'}}}",
        "threshold",
    ),
    "no name": ("accounts:\n  a: {@settings: {org: x}}", "settings.name"),
    "an unknown time zone": (
        "accounts:\n  a:\n    settings: {name: A, timezone: @Europe/Pari}",
        'Nearest: "Europe/Paris"',
    ),
    "an unknown parent": ("accounts:\n  a: {parent: @b, settings: {name: A}}", "accounts.a"),
    "parents in a circle": (
        """accounts:
  a: {parent: @b, settings: {name: A}}
  b: {parent: a, settings: {name: B}}""",
        "a -> b -> a",
    ),
    "a realm twice": (
        """accounts:
  a: {settings: {name: A, realm: one.example.com}}
  b: {settings: {name: B, realm: @One.example.com}}""",
        "accounts/wrong.yaml:2:34",
    ),
    "a name twice": (
        "accounts:\n  a: {settings: {name: 'Acme, Inc.'}}\n  b: {settings: {name: @ACME INC}}",
        "accounts/wrong.yaml:2:24",
    ),
    "a field that is read only": (
        "accounts:\n  a: {settings: {name: A, @is_reseller: true}}",
        "is_reseller",
    ),
    "the name of an option": ("accounts:\n  a: {settings: {name: A, @verb: delete}}", "verb"),
    "null where nothing can be absent": (
        "accounts:\n  a: {settings: {name: A, realm: @null}}",
        "realm",
    ),
    "too small a number": (
        """accounts:
  a: {settings: {name: A, call_recording: {account: {any: {any: {time_limit: @4}}}}}}""",
        "time_limit",
    ),
    "a value that is none of those allowed": (
        "accounts:\n  a: {settings: {name: A, call_restriction: {did_us: {action: @allow}}}}",
        "deny",
    ),
    "a key twice in a file": (
        "accounts:\n  a: {settings: {name: A}}\n  @a: {settings: {name: B}}",
        "accounts/wrong.yaml:2",
    ),
    "a key twice in two files": ("accounts:\n  @first: {settings: {name: B}}", "first"),
    "an unknown template": ("accounts:\n  a: {extends: [@whole], settings: {name: A}}", "whole"),
    "an unknown variable": ("accounts:\n  a: {settings: {name: @'${var.nmae}'}}", "nmae"),
    "broken YAML": ("accounts:\n  a: {settings: {name: A}\n  @b: 1", "Broken YAML"),
    "a tag": ("accounts:\n  a: {settings: {name: @!!str A}}", "tag"),
    "a malformed id": ("accounts:\n  a: {id: @../x, settings: {name: A}}", "id"),
    "a malformed key": ("accounts:\n  @'a b': {settings: {name: A}}", "a b"),
}
"""What is wrong: a file with `@` before the place that the error must name, a word it must say."""

PROJECT = (
    "version: 1\n"
    "include: [accounts]\n"
    "accounts:\n  first: {settings: {name: First, realm: first.example.com}}\n"
)


@pytest.mark.parametrize("wrong", WRONG)
def test_an_error_names_its_place(release: World, project: Project, wrong: str) -> None:
    text, word = WRONG[wrong]
    before, _, after = text.partition("@")
    place = f"{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"
    project.write("reconciler.yaml", PROJECT)
    project.write("accounts/wrong.yaml", f"{before}{after}\n")
    for command in (["plan"], ["apply", "--auto-approve"]):
        ended = project.run(*command)
        assert ended.code == 1
        line = next(
            (x for x in ended.err.splitlines() if x.startswith(f"accounts/wrong.yaml:{place}:")),
            None,
        )
        assert line is not None, ended.err
        assert word in line
    assert release.log == []


def test_all_errors_are_told_at_once(project: Project) -> None:
    settings = "{langauge: x, timezone: Mars, realm: null, org: 5, name: A}"
    accounts = "".join(f"  a{n}: {{settings: {settings}}}\n" for n in range(3))
    project.write("reconciler.yaml", f"version: 1\n\n\naccounts:\n{accounts}")
    ended = project.run("validate", "--format", "json")
    assert ended.code == 1
    document = ended.json
    assert document["valid"] is False
    found = [
        (error["line"], error["path"])
        for error in document["diagnostics"]
        if error["severity"] == "error"
    ]
    fields = ["settings.langauge", "settings.timezone", "settings.realm", "settings.org"]
    expected = [(line, field) for line in (5, 6, 7) for field in fields]
    assert [each for each in found if each[1] != "settings.name"] == expected
    assert [each for each in found if each[1] == "settings.name"] == [
        (6, "settings.name"),
        (7, "settings.name"),
    ]


@pytest.mark.parametrize("include", ["../outside", "/etc", "accounts/../../outside", "link"])
def test_nothing_outside_of_the_project_is_read(project: Project, include: str) -> None:
    outside = project.directory.parent / "outside"
    outside.mkdir()
    (outside / "a.yaml").write_text("accounts: {a: {settings: {name: A}}}")
    project.write("reconciler.yaml", f"version: 1\ninclude: [{include}]\n")
    (project.directory / "link").symlink_to(outside)
    ended = project.run("validate")
    assert ended.code == 1
    assert "reconciler.yaml:2:" in ended.err
    assert "leads out of the project" in ended.err


def test_values_are_what_they_look_like_and_never_converted(
    release: World, project: Project
) -> None:
    project.write(
        "reconciler.yaml",
        "version: 1\n"
        "templates: {base: {settings: {caller_id: {internal: {name: T, number: 1e3}}}}}\n"
        "defaults: {settings: {language: no, org: 0755}}\n"
        "accounts:\n"
        "  a:\n"
        "    extends: [base]\n"
        "    settings:\n"
        "      name: ${account.key}-$${x}\n"
        "      realm: ${account.key}.example.com\n"
        "      caller_id: {external: {number: +15551234567}, internal: {number: 12:30:00}}\n"
        "      flags: [yes, 2026-01-01, 0x1F]\n",
    )
    project.settle()
    document = release.account("a-${x}").document
    assert document["realm"] == "a.example.com"
    assert (document["language"], document["org"]) == ("no", "0755")
    assert document["caller_id"] == {
        "external": {"number": "+15551234567"},
        "internal": {"name": "T", "number": "12:30:00"},
    }
    assert document["flags"] == ["yes", "2026-01-01", "0x1F"]
