"""Commands about the files alone: annotations, canonical layout, where a value comes from, hooks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from reconciler.cli import main
from reconciler.core.values import Diagnostic, Source
from reconciler.render.annotations import github, rule

if TYPE_CHECKING:
    from .conftest import Project

ROOT: Final = Path(__file__).parents[2]

BROKEN: Final = """\
version: 1
accounts:
  a:
    settings: {name: A, realm: aaaa, timezone: Europe/Pari}
  b:
    reseler: true
    settings: {name: B, realm: bbbb}
"""


@pytest.fixture
def broken(project: Project) -> Project:
    project.write("reconciler.yaml", BROKEN)
    return project


# --- annotations -----------------------------------------------------------------------------


def test_each_mistake_is_an_annotation_beside_its_line(
    broken: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(broken.directory)
    ran = broken.run("validate", "--format", "github")
    assert ran.code == 1
    first, second = ran.out.splitlines()
    assert first.startswith(
        "::error file=reconciler.yaml,line=4,col=48,title=accounts.a%3A settings.timezone%3A An unknown time zone::"
    )
    assert second.startswith("::error file=reconciler.yaml,line=6,col=5,")


def test_annotations_name_files_as_the_checkout_has_them(
    broken: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(broken.directory.parent)
    ran = broken.run("validate", "--format", "github")
    assert f"file={broken.directory.name}/reconciler.yaml,line=4," in ran.out


def test_a_file_that_is_no_yaml_is_annotated_too(project: Project) -> None:
    project.write("reconciler.yaml", "version: 1\naccounts: {a: [\n")
    ran = project.run("validate", "--format", "github")
    assert ran.code == 1
    assert re.match(
        r"::error file=[^:]*reconciler\.yaml,line=2,col=15,title=Broken YAML::", ran.out
    )


def test_no_text_ends_a_workflow_command_or_begins_another() -> None:
    nasty = "x%0A::set-output name=a::b\r\n::error::c, d: e\x1b[31m"
    found = Diagnostic("error", nasty, nasty, nasty, nasty, Source(nasty, 1, 1))
    (line,) = github([found]).splitlines()
    assert line.startswith(
        "::error file=x%250A%3A%3Aset-output name=a%3A%3Ab\\u000d\\u000a%3A%3Aerror"
    )
    assert line.count("::", 2) == line.partition("title=")[2].count("::")
    assert "\x1b" not in line


def test_a_report_for_code_scanning(broken: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(broken.directory)
    assert broken.run("validate", "--report", "found.sarif", "--report", "found.json").code == 1
    log = json.loads((broken.directory / "found.sarif").read_text())
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["an-unknown-key", "an-unknown-time-zone"]
    result = run["results"][0]
    assert result["level"] == "error"
    assert rules[result["ruleIndex"]] == result["ruleId"] == "an-unknown-time-zone"
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "reconciler.yaml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 4, "startColumn": 48},
    }
    assert '"Europe/Paris"' in result["message"]["text"]
    assert not json.loads((broken.directory / "found.json").read_text())["valid"]


def test_a_valid_project_has_no_annotations(project: Project) -> None:
    project.declare({"a": {}})
    ran = project.run("validate", "--format", "github")
    assert (ran.code, ran.out) == (0, "")


@pytest.mark.parametrize(
    ("summary", "name"),
    [
        ('An unknown key "x:y"', "an-unknown-key"),
        ("No value for the variable: region", "no-value-for-the-variable"),
        ("A value of the wrong type", "a-value-of-the-wrong-type"),
    ],
)
def test_a_rule_is_called_the_same_whatever_it_was_about(summary: str, name: str) -> None:
    assert rule(Diagnostic("error", summary, "")) == name


def test_other_endings_of_reports_are_refused_before_anything_is_done(project: Project) -> None:
    ran = project.run("validate", "--report", "found.txt")
    assert ran.code == 1
    assert ".json, .sarif" in ran.err


# --- fmt -------------------------------------------------------------------------------------


def test_fmt_puts_all_files_of_the_project_in_canonical_layout(project: Project) -> None:
    project.write("reconciler.yaml", "include: [more]\nversion:   1   # format\n")
    project.write("more/a.yaml", "accounts:\n    a: {settings: {realm: aaaa, name: A}}\n")
    project.write("else.yaml", "not:   ours\n")
    checked = project.run("fmt", "--check")
    assert (checked.code, checked.out) == (1, "reconciler.yaml\nmore/a.yaml\n")
    assert project.run("fmt").code == 0
    text = (project.directory / "reconciler.yaml").read_text()
    assert text == "version: 1   # format\ninclude: [more]\n"
    again = project.run("fmt", "--check")
    assert (again.code, again.out) == (0, "")
    assert (project.directory / "else.yaml").read_text() == "not:   ours\n"
    assert not list(project.directory.rglob(".*.yaml*"))


def test_fmt_writes_nothing_if_a_file_is_broken(project: Project) -> None:
    project.write("reconciler.yaml", "include: [more]\nversion: 1\n")
    project.write("more/a.yaml", "accounts: {a: [\n")
    project.write("more/b.yaml", "accounts: {b: {a: 1, a: 2}}\n")
    before = (project.directory / "reconciler.yaml").read_text()
    ran = project.run("fmt")
    assert ran.code == 1
    assert "more/a.yaml:1:15" in ran.err
    assert "more/b.yaml:1:22" in ran.err
    assert (project.directory / "reconciler.yaml").read_text() == before


def test_fmt_keeps_the_mode_of_a_file(project: Project) -> None:
    project.write("reconciler.yaml", "version:   1\naccounts: {}\n")
    path = project.directory / "reconciler.yaml"
    path.chmod(0o640)
    assert project.run("fmt").code == 0
    assert path.stat().st_mode & 0o777 == 0o640


def test_fmt_says_as_json_which_files_it_is_about(project: Project) -> None:
    project.write("reconciler.yaml", "version:   1\n")
    assert project.run("fmt", "--format", "json").json["files"] == ["reconciler.yaml"]


@pytest.mark.parametrize("name", ["quickstart", "wholesale"])
def test_the_examples_are_in_canonical_layout(name: str, project: Project) -> None:
    del project
    ran = subprocess.run(
        [sys.executable, "-m", "reconciler", "fmt", "--check", "-C", str(ROOT / "examples" / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "")


# --- show --resolved -------------------------------------------------------------------------

LAYERED: Final = """\
version: 1
variables:
  zone: {default: Europe/Paris}
  secret: {env: SECRET, sensitive: true}
defaults:
  settings: {enabled: true, realm: "${account.key}.example.com"}
templates:
  base: {settings: {language: fr-fr, org: Base}}
  retail:
    extends: [base]
    settings: {timezone: "${var.zone}"}
accounts:
  a:
    extends: [retail]
    settings:
      name: A
      org: null
      call_recording: {account: {any: {any: {url: "https://u:${var.secret}@rec.example.com/"}}}}
"""


@pytest.fixture
def layered(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("reconciler.yaml", LAYERED)
    monkeypatch.setenv("SECRET", "canary-5f2")
    return project


def test_an_account_is_shown_as_it_will_be_applied_with_the_place_of_every_leaf(
    layered: Project,
) -> None:
    ran = layered.run("show", "--resolved", "a")
    assert ran.code == 0
    head, *lines = ran.out.splitlines()
    assert head == "accounts.a, below root"
    shown = {text.strip(): where for text, _, where in (line.partition("  # ") for line in lines)}
    assert shown == {
        "settings.call_recording.account.any.any.url: (sensitive)":
            "reconciler.yaml:18: variable secret; secret of reconciler.yaml:4, given by SECRET",
        "settings.enabled: true": "reconciler.yaml:6: default",
        'settings.language: "fr-fr"': "reconciler.yaml:8: template base",
        'settings.name: "A"': "reconciler.yaml:16: account",
        "settings.org: null": "reconciler.yaml:17: account",
        'settings.realm: "a.example.com"': "reconciler.yaml:6: default",
        'settings.timezone: "Europe/Paris"':
            "reconciler.yaml:11: variable zone; zone of reconciler.yaml:3, given by default",
    }  # fmt: skip


def test_what_is_shown_as_json_has_no_secret_either(layered: Project) -> None:
    ran = layered.run("show", "--resolved", "accounts.a", "--format", "json")
    fields = {field["path"]: field for field in ran.json["fields"]}
    assert fields["settings.timezone"]["value"] == "Europe/Paris"
    assert fields["settings.timezone"]["source"] == {
        "file": "reconciler.yaml", "line": 11, "column": 26, "from": "variable zone", "given_by": {"zone": "default"},
    }  # fmt: skip
    assert fields["settings.call_recording.account.any.any.url"]["sensitive"]
    assert "canary" not in ran.out + ran.err


def test_a_variable_from_the_command_line_is_told_as_such(layered: Project) -> None:
    ran = layered.run("show", "--resolved", "a", "--var", "zone=Asia/Tokyo")
    assert 'settings.timezone: "Asia/Tokyo"' in ran.out
    assert "given by --var" in ran.out


def test_an_unknown_key_is_told_with_the_nearest(layered: Project) -> None:
    ran = layered.run("show", "--resolved", "aa")
    assert ran.code == 1
    assert 'Nearest: "a"' in ran.err


# --- hooks -----------------------------------------------------------------------------------

MANIFEST: Final = ROOT / ".pre-commit-hooks.yaml"
ENVIRONMENT: Final = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def test_the_hooks_are_what_pre_commit_takes() -> None:
    subprocess.run(["pre-commit", "validate-manifest", str(MANIFEST)], env=ENVIRONMENT, check=True)


@pytest.mark.parametrize("hook", yaml.safe_load(MANIFEST.read_text()), ids=lambda hook: hook["id"])
def test_a_hook_fails_on_a_commit_that_it_should_stop(
    hook: dict[str, str], project: Project
) -> None:
    """Run as pre-commit would, but with the tool that is installed already."""
    project.write("reconciler.yaml", BROKEN)
    config = {"repos": [{"repo": "local", "hooks": [{**hook, "language": "system"}]}]}
    project.write(".pre-commit-config.yaml", json.dumps(config))
    environment = {**ENVIRONMENT, "PRE_COMMIT_HOME": str(project.directory / ".cache")}
    for command in (["git", "init", "-q"], ["git", "add", "reconciler.yaml"]):
        subprocess.run(command, cwd=project.directory, check=True)
    ran = subprocess.run(
        ["pre-commit", "run"], cwd=project.directory, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert hook["name"] in ran.stdout
    assert "Failed" in ran.stdout


# --- where the project is ----------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
def test_the_project_is_named_before_the_command_or_behind_it(
    project: Project, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    project.declare({"acme": {}})
    where = ["-C", str(project.directory)]
    argv = [*where, "validate"] if before else ["validate", *where]
    assert main(argv) == 0
    assert "1 account" in capsys.readouterr().out
