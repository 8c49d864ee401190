"""Reports of what a run has done or would do, in every format at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Project, World

ENDINGS = ("json", "md", "html", "xml")


def reports(directory: Path) -> tuple[str, ...]:
    return tuple(f"--report={directory / f'report.{ending}'}" for ending in ENDINGS)


def written(directory: Path) -> dict[str, str]:
    return {e: (directory / f"report.{e}").read_text("utf-8") for e in ENDINGS}


def test_each_command_writes_all_its_reports(
    world: World, project: Project, tmp_path: Path
) -> None:
    project.declare({"acme": {"reseller": True}, "below": {"parent": "acme"}})
    project.run("plan", *reports(tmp_path))
    found = written(tmp_path)
    assert all(
        "accounts.below" in text and "will be created" in text
        for text in found.values()
        if text != found["json"]
    )
    project.apply(*reports(tmp_path))
    found = written(tmp_path)
    assert "Apply complete: 2 created, 1 promoted" in found["md"]
    assert 'failures="0"' in found["xml"]
    world.patch("below", name="[/x]<b>|`")
    assert project.run("drift", *reports(tmp_path)).code == 2
    found = written(tmp_path)
    assert "<code>accounts.acme (acme)</code>: 1 account: 1 changed" in found["md"]
    assert "<b>" not in found["html"] + found["xml"]
    assert 'tests="2" failures="1"' in found["xml"]
    assert json.loads(found["json"])["command"] == "drift"
    project.run("destroy", "--auto-approve", "--allow", "delete=2", *reports(tmp_path))
    assert "**Dangerous: 2 delete.**" in written(tmp_path)["md"]


def test_a_refused_plan_is_reported_with_what_refuses_it(
    release: World, project: Project, tmp_path: Path
) -> None:
    project.declare({"acme": {}})
    project.settle()
    project.declare({})
    assert project.run("plan", *reports(tmp_path)).code == 3
    found = written(tmp_path)
    assert all("accounts.acme" in text for text in found.values())
    assert 'classname="refused"' in found["xml"]
    assert "#### Refused" in found["md"]
    assert release.writes


def test_a_failed_apply_is_reported_with_what_failed(
    release: World, project: Project, tmp_path: Path
) -> None:
    release.fault(path="/accounts/*", method="PUT", status=400, body="{}", times=None)
    project.declare({"acme": {}, "below": {"parent": "acme"}})
    assert project.apply(*reports(tmp_path)).code == 5
    found = written(tmp_path)
    assert "#### Not done" in found["md"]
    assert 'failures="1" errors="0" skipped="1"' in found["xml"]
    assert 'id="kind-failed"' in found["html"]


def test_a_command_that_fails_reports_why(project: Project, tmp_path: Path) -> None:
    """A comment on a pull request must not go on showing what is not so any more."""
    project.declare({"acme": {"timezone": "Europe/`Pari`"}, "below": {"parent": "nobody"}})
    assert project.run("plan", *reports(tmp_path)).code == 1
    found = written(tmp_path)
    assert json.loads(found["json"])["valid"] is False
    assert "**Failed with 2 errors.**\n" in found["md"]
    assert "``reconciler.yaml:" in found["md"]
    assert 'failures="0" errors="1"' in found["xml"]
    assert "Europe/`Pari`" in found["html"]


@pytest.mark.parametrize("command", [["validate"], ["show"], ["state", "list"]])
def test_commands_without_reports_for_people_say_so(
    project: Project, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "x.html"
    ended = project.run(*command, "--report", str(file))
    assert ended.code == 1
    assert f"--report {file}" in ended.err
    assert not file.exists()


def test_the_tree_and_the_operations_can_be_drawn(
    release: World, project: Project, tmp_path: Path
) -> None:
    project.declare({"acme": {"reseller": True}, "below": {"parent": "acme", "name": 'x"]<b>'}})
    tree = project.run("graph", "--report", str(tmp_path / "tree.dot"))
    assert tree.code == 0
    assert tree.out == (
        'flowchart LR\n  n0[["root"]]\n  n1[["accounts.acme (acme)"]]\n'
        '  n2["accounts.below (x#34;#93;#60;b#62;)"]\n  n0 --> n1\n  n1 --> n2\n'
    )
    assert '"accounts.acme" -> "accounts.below";' in (tmp_path / "tree.dot").read_text()
    drawn = project.run("graph", "--operations", "--format", "dot").out
    assert '"1" [label="1 create accounts.acme"]' in drawn
    saved = tmp_path / "saved.json"
    project.plan("--out", str(saved))
    assert project.run("graph", "--operations", str(saved), "--format", "dot").out == drawn
    edges = project.run("graph", "--operations", str(saved), "--format", "json").json["edges"]
    assert edges == [{"from": "1", "to": "2"}, {"from": "1", "to": "3"}, {"from": "2", "to": "3"}]
    assert release.writes == []


def test_a_report_that_can_not_be_written_is_found_out_before_anything_is_sent(
    release: World, project: Project, tmp_path: Path
) -> None:
    project.declare({"acme": {}})
    for place in (tmp_path / "none" / "x.md", tmp_path):
        named = place if place.suffix else place / "dir.md"
        if not place.suffix:
            named.mkdir()
        refused = project.apply("--report", str(tmp_path / "ok.json"), "--report", str(named))
        assert refused.code == 1
        assert refused.err.count("no file can be written there") == 1
        assert "Traceback" not in refused.err
    assert release.log == []


@pytest.mark.usefixtures("release")
def test_a_report_that_fails_all_the_same_is_told_and_changes_nothing_else(
    project: Project, tmp_path: Path
) -> None:
    project.declare({"acme": {}})
    full = tmp_path / "full.md"
    full.symlink_to("/dev/full")
    applied = project.apply("--report", str(full), "--report", str(tmp_path / "ok.json"))
    assert applied.code == 0
    assert applied.err.count("No space left on device") == 1
    assert json.loads((tmp_path / "ok.json").read_text())["command"] == "apply"
