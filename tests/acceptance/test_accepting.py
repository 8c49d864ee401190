"""Drift that is to stay: the live value is written into the YAML, or known until a date."""

from __future__ import annotations

import difflib
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Project, World

PROJECT = """\
# The shop's own project.
version: 1
include: [accounts]
variables:
  region: {default: en-us}
  secret: {default: "first-secret", sensitive: true}
defaults: {settings: {enabled: true}}
templates:
  retail:
    settings: {timezone: America/New_York, caller_id: {external: {name: Shop, number: "+1"}}}
"""
ACCOUNTS = """\
# All accounts.   <- two blanks behind this
accounts:

  acme:   # the first
    extends: [retail]
    settings:
      name: 'acme'
      realm: "${account.key}.sip.example.com"
      # what they speak
      language: ${var.region}   # as the region does
      org: ${var.secret}
      flags:
        - a  # one
        # about b
        - b

      music_on_hold: {media_id: first}
      preflow: {always: "p"}

  other: {settings: {name: other, realm: other.sip.example.com, music_on_hold: {media_id: x}}}
"""


@pytest.fixture
def shop(release: World, project: Project) -> World:
    project.write("reconciler.yaml", PROJECT)
    project.write("accounts/all.yaml", ACCOUNTS)
    project.settle()
    return release


def text(project: Project) -> str:
    return (project.directory / "accounts" / "all.yaml").read_text()


def changed(before: str, after: str) -> list[str]:
    """The lines that went and came."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def accept(project: Project, *addresses: str) -> list[str]:
    """Accept drift; what became of the file."""
    before = text(project)
    told = project.run("drift", *(part for one in addresses for part in ("--accept", one)))
    assert told.code == 0, told.err
    after = text(project)
    assert project.plan().code == 0, project.plan().out
    assert project.run("drift").code == 0
    return changed(before, after)


def refused(project: Project, *addresses: str) -> str:
    before = text(project)
    told = project.run("drift", *(part for one in addresses for part in ("--accept", one)))
    assert told.code == 1
    assert text(project) == before
    assert "Traceback" not in told.err
    return told.err


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"language": "fr-fr"}, ["-      language: ${var.region}   # as the region does",
                                 "+      language: fr-fr   # as the region does"]),
        ({"timezone": "Europe/Paris"}, ["+      timezone: Europe/Paris"]),
        ({"flags": ["b", "yes"]}, ["-        - a  # one", "+        # one", '+        - "yes"']),
        ({"music_on_hold": {"media_id": "a${b}: #\n\u202e"}},
         ["-      music_on_hold: {media_id: first}",
          '+      music_on_hold: {media_id: "a$${b}: #\\n\\u202e"}']),
        ({"music_on_hold": {"media_id": "911"}},
         ["-      music_on_hold: {media_id: first}", '+      music_on_hold: {media_id: "911"}']),
        ({"preflow": {"always": None}}, ['-      preflow: {always: "p"}']),
        ({"caller_id": {"external": {"name": None}}},
         ["+      caller_id:", "+        external:", "+          name: null"]),
        ({"enabled": False}, ["+      enabled: false"]),
        ({"name": "Acme"}, ["-      name: 'acme'", '+      name: "Acme"']),
    ],
)  # fmt: skip
def test_the_live_value_is_written_and_nothing_else(
    shop: World, project: Project, fields: dict[str, Any], lines: list[str]
) -> None:
    shop.patch("acme", **fields)
    assert accept(project, "accounts.acme") == lines
    project.settle()


def test_a_leaf_alone_can_be_accepted(shop: World, project: Project) -> None:
    shop.patch("acme", language="fr-fr", timezone="Europe/Paris")
    told = project.run("drift", "--accept", "accounts.acme.settings.timezone", "--format", "json")
    (one,) = told.json["accepted"]
    assert (one["path"], one["after"], one["file"], one["line"]) == (
        "settings.timezone", "Europe/Paris", "accounts/all.yaml", 9,
    )  # fmt: skip
    drift = project.run("drift")
    assert drift.code == 2
    assert "timezone" not in drift.out
    assert accept(project, "accounts.acme.language")[1].endswith("fr-fr   # as the region does")


def test_places_and_ranks_can_be_accepted(shop: World, project: Project) -> None:
    acme, other = shop.account("acme").id, shop.account("other").id
    shop.call("POST", f"/accounts/{acme}/move", {"to": other})
    shop.promote("other")
    lines = accept(project, "accounts.acme", "accounts.other")
    assert lines[0] == "+    parent: other"
    assert "reseller: true" in lines[2]


def test_a_secret_is_never_written(shop: World, project: Project) -> None:
    shop.patch("acme", org="second-secret", language="fr-fr")
    told = refused(project, "accounts.acme")
    assert "accounts/all.yaml:11:12: accounts.acme: settings.org: It is sensitive" in told
    assert "second-secret" not in told
    shop.patch("acme", org="first-secret", music_on_hold={"media_id": "https://u:p@h.example/x"})
    assert "It is sensitive" in refused(project, "accounts.acme.settings.music_on_hold")


def test_what_has_not_drifted_or_is_gone_can_t_be_accepted(shop: World, project: Project) -> None:
    shop.patch("acme", language="fr-fr")
    for wrong in ("accounts.acme.settings.timezone", "accounts.none", "accounts.other"):
        assert "has not drifted" in refused(project, "accounts.acme", wrong)
    assert "is no address" in refused(project, "acme")
    shop.call("DELETE", f"/accounts/{shop.account('other').id}")
    assert "take its block out of the YAML" in refused(project, "accounts.acme", "accounts.other")


def test_what_several_accounts_share_is_left_alone(release: World, project: Project) -> None:
    shared = """\
        version: 1
        accounts:
          a: {settings: &base {name: a, language: en-us, caller_id: {external: &x {name: X}}}}
          b: {settings: {<<: *base, name: b, realm: b.example.com, music_on_hold: &m {media_id: z}}}
          c: {settings: {name: c, caller_id: {external: *x}}}
    """
    project.write("reconciler.yaml", dedent(shared))
    project.settle()
    release.patch("a", language="fr-fr")
    release.patch(
        "b",
        caller_id={"external": {"name": "Y"}},
        language="de-de",
        music_on_hold={"media_id": "q"},
    )
    release.patch("c", caller_id={"external": {"name": "Z"}})
    before = (project.directory / "reconciler.yaml").read_text()

    def told(address: str) -> str:
        ended = project.run("drift", "--accept", address)
        assert ended.code == 1
        assert (project.directory / "reconciler.yaml").read_text() == before
        return ended.err

    assert "accounts.b.settings.language would change, too" in told("accounts.a.language")
    assert "as a whole from *x" in told("accounts.c")
    ended = project.run("drift", "--accept", "accounts.b")
    assert ended.code == 0, ended.err
    after = (project.directory / "reconciler.yaml").read_text()
    assert (
        'music_on_hold: &m {media_id: q}, caller_id: {external: {name: "Y"}}, language: de-de'
        in after
    )


def test_an_account_of_a_row_is_changed_in_its_row(release: World, project: Project) -> None:
    project.write(
        "reconciler.yaml",
        "version: 1\naccounts_from:\n  file: all.csv\n  key: ${row.key}\n"
        "  settings: {name: '${row.key}', language: '${row.language}'}\n",
    )
    project.write("all.csv", "key,language\na,en-us\nb,en-us\n")
    project.settle()
    release.patch("b", language="fr-fr")
    told = project.run("drift", "--accept", "accounts.b")
    assert told.code == 1
    assert "row at all.csv:3:1" in told.err


def test_what_a_variable_holds_as_a_whole_is_left_alone(release: World, project: Project) -> None:
    project.write(
        "reconciler.yaml",
        "version: 1\nvariables: {cid: {default: {external: {name: A, number: '1'}}}}\n"
        "accounts:\n  a: {settings: {name: a, caller_id: '${var.cid}'}}\n",
    )
    project.settle()
    release.patch("a", caller_id={"external": {"name": "B"}})
    told = project.run("drift", "--accept", "accounts.a")
    assert told.code == 1
    assert "accounts.a: settings.caller_id.external.name: " in told.err
    assert "as one value there. Its value comes from variable cid." in told.err


def test_a_value_that_could_not_be_declared_is_not_written(shop: World, project: Project) -> None:
    record = shop.account("acme")
    record.document["language"] = 911  # as an older platform may have stored it
    shop.platform.store.put(record)
    assert "settings.language" in refused(project, "accounts.acme")


@pytest.mark.usefixtures("shop")
def test_what_is_not_declared_can_not_be_snoozed(project: Project) -> None:
    until = ("--until", "2999-12-31", "--reason", "r")
    told = project.run("drift", "--snooze", "accounts.acme.settings.langage", *until)
    assert told.code == 1
    assert "accounts.acme declares no settings.langage" in told.err
    assert 'Nearest: "settings.language".' in told.err


def test_a_snooze_is_written_into_the_project(shop: World, project: Project) -> None:
    shop.patch("acme", language="fr-fr")
    until = ("--until", "2999-12-31", "--reason", "ticket 47: they move")
    told = project.run("drift", "--snooze", "accounts.acme.settings.language", *until)
    assert (told.code, told.out) == (0, "Known until 2999-12-31: reconciler.yaml:6:7.\n")
    after = (project.directory / "reconciler.yaml").read_text()
    assert changed(PROJECT, after) == [
        "+drift:",
        "+  accept:",
        "+    - path: settings.language",
        "+      account: acme",
        '+      reason: "ticket 47: they move"',
        '+      until: "2999-12-31"',
    ]
    assert project.run("drift").code == 0
    assert project.run("fmt", "--check").out == "accounts/all.yaml\n"
    project.settle()
    assert shop.account("acme").document["language"] == "fr-fr"
    assert project.run("drift", "--snooze", "accounts.other.reseller", *until).code == 0
    assert project.run("validate").code == 0
    assert accept(project, "accounts.acme")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--snooze", "accounts.acme.language", "--until", "2020-01-01", "--reason", "r"],
            "is over",
        ),
        (["--snooze", "accounts.acme.language", "--until", "soon", "--reason", "r"], "is no date"),
        (["--snooze", "accounts.acme", "--until", "2999-01-01", "--reason", "r"], "takes a field"),
        (["--snooze", "accounts.acm.language", "--until", "2999-01-01", "--reason", "r"], "acme"),
        (["--snooze", "accounts.acme.language", "--reason", "r"], "go together"),
        (["--until", "2999-01-01"], "go together"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_a_wrong_snooze_is_refused(project: Project, arguments: list[str], told: str) -> None:
    ended = project.run("drift", *arguments)
    assert ended.code == 1
    assert told in ended.err
    assert (project.directory / "reconciler.yaml").read_text() == PROJECT


@pytest.mark.usefixtures("shop")
def test_a_file_that_is_a_link_stays_one(project: Project) -> None:
    path = project.directory / "reconciler.yaml"
    path.rename(project.directory / "real.yaml")
    path.symlink_to("real.yaml")
    arguments = ("--until", "2999-01-01", "--reason", "r")
    assert project.run("drift", "--snooze", "accounts.acme.language", *arguments).code == 0
    assert path.is_symlink()
    assert "accept:" in (project.directory / "real.yaml").read_text()


def test_drift_itself_writes_nothing_and_takes_no_lock(shop: World, project: Project) -> None:
    shop.patch("acme", language="fr-fr")
    before = {p: p.read_bytes() for p in project.directory.rglob("*") if p.is_file()}
    shop.log.clear()
    for options in ((), ("--unmanaged",), ("--since-state",), ("--target", "accounts.acme")):
        assert project.run("drift", *options).code == 2
    assert shop.writes == []
    assert {p: p.read_bytes() for p in project.directory.rglob("*") if p.is_file()} == before
    assert project.run("drift", "--accept", "accounts.acme").code == 0
    assert shop.writes == []
