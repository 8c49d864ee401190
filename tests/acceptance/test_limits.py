"""Limits of accounts, classes of effect that are protected, exceptions that end; and folding."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Project, World

PROTECTED: JsonObject = {"reseller": True, "safety": {"protect": ["emergency"], "max_delete": 0}}
HELP: JsonObject = {"caller_id": {"emergency": {"number": "+16175550100"}}}


def two(below: JsonObject, **acme: JsonValue) -> dict[str, JsonObject]:
    return {"acme": {**PROTECTED, **acme}, "east": {"parent": "acme", **below}}


def an_exception(until: str, **named: JsonValue) -> JsonObject:
    return {"rule": "protect", "class": "emergency", "reason": "moves", "until": until, **named}


def test_what_is_protected_below_an_account_is_refused_and_allowed_by_name(
    world: World, project: Project
) -> None:
    project.declare(two({}))
    project.settle()
    project.declare(two(HELP))
    world.log.clear()
    refused = project.apply()
    assert refused.code == 3
    assert "protect: accounts.acme protects `emergency`" in refused.out
    assert "accounts.east" in refused.out
    assert project.apply("--allow", "protect=service").code == 3
    assert world.writes == []
    assert project.apply("--allow", "protect=emergency").code == 0
    assert [entry.method for entry in world.writes] == ["PATCH"]


def test_what_protects_an_account_does_not_leave_together_with_it(
    world: World, project: Project
) -> None:
    project.declare(two({}))
    project.settle()
    assert project.state()["accounts"]["acme"]["safety"] == PROTECTED["safety"]
    gone: JsonValue = [{"account": key, "destroy": True} for key in ("acme", "east")]
    project.declare({}, removed=gone, safety={"max_delete": 9})
    world.log.clear()
    refused = project.apply()
    assert refused.code == 3
    assert "max_delete: The plan would delete 2 with and below accounts.acme" in refused.out
    assert world.writes == []
    assert project.run("destroy", "--auto-approve").code == 3
    assert world.writes == []
    ended = project.apply("--allow", "delete=2,protect=emergency")
    assert ended.code == 0, ended.out
    assert world.names() == []


def test_state_learns_of_a_new_block_though_nothing_else_changes(
    world: World, project: Project
) -> None:
    project.declare({"acme": {"reseller": True}})
    project.settle()
    project.declare({"acme": {"reseller": True, "safety": {"max_delete": 1}}})
    world.log.clear()
    project.settle()
    assert world.writes == []
    assert project.state()["accounts"]["acme"]["safety"] == {"max_delete": 1}
    project.declare({"acme": {"reseller": True}})
    project.settle()
    assert "safety" not in project.state()["accounts"]["acme"]


@pytest.mark.usefixtures("world")
def test_an_exception_lifts_what_it_names_and_the_plan_says_so(project: Project) -> None:
    project.declare(two({}))
    project.settle()
    safety: JsonObject = {"protect": ["emergency"], "exceptions": [an_exception("2999-12-31")]}
    project.declare(two(HELP, safety=safety))
    planned = project.plan("--out", str(project.directory / "plan"))
    assert planned.code == 2
    assert re.search(r"^reconciler\.yaml:\d+:\d+: warning: .*moves", planned.err, re.MULTILINE)
    saved = json.loads((project.directory / "plan").read_text())
    assert saved["until"] == "2999-12-31"
    applied = project.run("apply", str(project.directory / "plan"))
    assert applied.code == 0, applied.out + applied.err
    assert project.state()["accounts"]["acme"]["safety"] == {"protect": ["emergency"]}
    assert project.plan().err == ""


def test_an_exception_that_has_ended_warns_with_its_place_and_lifts_nothing(
    world: World, project: Project
) -> None:
    project.declare(two({}))
    project.settle()
    safety: JsonObject = {"protect": ["emergency"], "exceptions": [an_exception("2020-12-31")]}
    project.declare(two(HELP, safety=safety))
    text = (project.directory / "reconciler.yaml").read_text().splitlines()
    line = next(n for n, found in enumerate(text, 2) if '"exceptions": [' in found)
    checked = project.run("validate")
    assert checked.code == 0
    assert re.match(rf"reconciler\.yaml:{line}:\d+: warning: accounts\.acme: ", checked.err)
    assert "until 2020-12-31 (moves)" in checked.err
    world.log.clear()
    assert project.apply().code == 3
    assert world.writes == []


def test_what_is_wrong_with_a_block_is_told_at_once_with_its_place(project: Project) -> None:
    exceptions: JsonValue = [
        {"rule": "max_delete", "reason": "x", "until": "2999-01-01"},
        an_exception("2999-02-30"),
        an_exception("2999-01-01", account="ease"),
    ]
    project.declare(two({}, safety={"exceptions": exceptions}))
    ended = project.run("validate")
    assert ended.code == 1
    lines = [line for line in ended.err.splitlines() if "safety.exceptions" in line]
    assert len(lines) == 3
    assert "says in `value` how many" in lines[0]
    assert "no day 2999-02-30" in lines[1]
    assert '"ease" is neither declared nor `removed`. Nearest: "east".' in lines[2]


@pytest.mark.parametrize(
    "safety",
    [
        {"protect": ["services"]},
        {"exceptions": [{"rule": "max_create", "reason": "x", "until": "2999-01-01"}]},
        {"exceptions": [{"rule": "protect", "class": "money", "until": "2999-01-01"}]},
        {"exceptions": [an_exception("soon")]},
        {"exceptions": [an_exception("2999-01-01", reason="")]},
        {"max_delete": -1},
    ],
    ids=str,
)
@pytest.mark.parametrize("of_account", [True, False])
def test_a_block_of_another_shape_is_one_error(
    project: Project, safety: JsonObject, *, of_account: bool
) -> None:
    if of_account:
        project.declare({"acme": {"safety": safety}})
    else:
        project.declare({"acme": {}}, safety=safety)
    ended = project.run("validate")
    assert ended.code == 1
    assert len(re.findall(r"^reconciler\.yaml:\d+:\d+: ", ended.err, re.MULTILINE)) == 1, ended.err


@pytest.mark.usefixtures("world")
def test_a_template_gives_limits_and_an_account_can_take_them_back(project: Project) -> None:
    templates: JsonObject = {"vip": {"safety": {"max_delete": 0, "max_demote": 0}}}
    blocks: dict[str, JsonObject] = {
        "a": {"extends": ["vip"], "safety": {"max_delete": None}},
        "b": {"extends": ["vip"]},
    }
    project.declare(blocks, templates=templates)
    project.settle()
    accounts = project.state()["accounts"]
    assert accounts["a"]["safety"] == {"max_demote": 0}
    assert accounts["b"]["safety"] == {"max_delete": 0, "max_demote": 0}


def test_allow_takes_known_classes_alone(project: Project) -> None:
    ended = project.plan("--allow", "protect=everything")
    assert ended.code == 1
    assert "protect=service|emergency|privacy|money|cosmetic" in ended.err


def test_a_sensitive_reason_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHY", "hush-hush")
    safety: JsonObject = {"exceptions": [an_exception("2020-01-01", reason="${var.why}")]}
    variables: JsonObject = {"why": {"env": "WHY"}}
    project.declare({"acme": {"safety": safety}}, variables=variables)
    ended = project.run("validate")
    assert ended.code == 1
    assert "can't be sensitive" in ended.err
    assert "hush-hush" not in ended.err + ended.out


@pytest.mark.usefixtures("world")
def test_what_many_accounts_have_in_common_is_told_once(project: Project) -> None:
    def declared(language: str) -> dict[str, JsonObject]:
        below: dict[str, JsonObject] = {
            f"s{n:02}": {"parent": "acme" if n < 8 else "globex", "org": language}
            for n in range(12)
        }
        return {"acme": {"reseller": True}, "globex": {"reseller": True}, **below}

    project.declare(declared("one"))
    project.settle()
    project.declare({**declared("two"), "new": {"org": "two"}}, safety={"max_update_percent": 100})
    planned = project.plan()
    assert planned.out.splitlines()[:3] == [
        '  ~ settings.org: "one" -> "two" on 12 accounts (acme 8, globex 4)',
        "  12 accounts with no other change: --show-all lists each.",
        "  accounts.new (new)                                 will be created",
    ]
    assert "Affects service of 1 account, cosmetic details of 12 accounts under 2 resellers." in (
        planned.out
    )
    every = project.plan("--show-all")
    assert all(f"accounts.s{n:02} (s{n:02})" in every.out for n in range(12))
    document = project.plan("--format", "json").json
    (group,) = document["groups"]
    assert (group["count"], group["resellers"]) == (12, {"acme": 8, "globex": 4})
    assert len(document["changes"]) == 13
    assert project.plan().out == planned.out
