"""Exit codes, locks, JSON, targets, endpoints: what a pipeline builds on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import (
    ADMIN_PASSWORD,
    ADMIN_USERNAME,
    ROOT_API_KEY,
    ROOT_ID,
    ROOT_NAME,
    ROOT_REALM,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.values import JsonObject

    from .conftest import Project, World


# --- exit codes ---


@pytest.mark.usefixtures("release")
def test_exit_0_and_2_tell_whether_there_are_changes(project: Project) -> None:
    project.declare({"acme": {}})
    assert project.run("plan").code == 0
    assert project.plan().code == 2
    assert project.apply().code == 0
    assert project.plan().code == 0
    assert project.apply().code == 0
    assert project.run("validate").code == 0


def test_exit_1_is_for_whatever_keeps_it_from_beginning(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["plan", "--colour"], ["plan", "--target", "acme"], ["plann"], ["--help!"]):
        assert project.run(*arguments).code == 1
    assert project.run("plan", "--target", "accounts.nobody").code == 1
    assert project.run("plan", "--var", "x=1").code == 1
    assert project.run("plan", "--allow", "delete").code == 1
    project.declare({"acme": {"realm": 5}})
    assert project.plan().code == 1
    project.declare({"acme": {}})
    unattended = project.run("apply")
    assert unattended.code == 1
    assert "--auto-approve" in unattended.err
    assert release.writes == []
    monkeypatch.delenv("VINIX_API_KEY")
    assert "VINIX_API_KEY" in project.plan().err


@pytest.mark.usefixtures("low_dice")
def test_exit_1_if_nobody_listens(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VINIX_API_URL", "http://127.0.0.1:9/v2")
    monkeypatch.setenv("VINIX_API_KEY", ROOT_API_KEY)
    project.declare({"acme": {}})
    ended = project.plan()
    assert ended.code == 1
    assert "no connection" in ended.err


@pytest.mark.parametrize("damage", ["", "{}", "cut", "flip"])
def test_a_damaged_state_is_never_taken_for_none(
    release: World, project: Project, damage: str
) -> None:
    project.declare({"acme": {}})
    project.settle()
    text = project.state_file.read_text()
    damaged = {"cut": text[:-40], "flip": text.replace("acme", "acne", 1)}.get(damage, damage)
    project.state_file.write_text(damaged)
    release.log.clear()
    for ended in (project.plan(), project.apply(), project.run("drift")):
        assert ended.code == 1
        assert "reconciler.state.json" in ended.err
    assert release.writes == []


@pytest.mark.usefixtures("release")
def test_a_state_of_another_platform_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare({"acme": {}})
    project.settle()
    project.declare({"acme": {}}, api={"url": "sandbox:"})
    monkeypatch.delenv("VINIX_API_URL")
    ended = project.run("plan")
    assert ended.code == 1
    assert "the state is about http://127.0.0.1" in ended.err


def test_exit_4_while_another_process_holds_the_lock(
    release: World, project: Project, tmp_path: Path
) -> None:
    project.declare({"acme": {}})
    lock = tmp_path / "project" / "state" / "reconciler.state.json"
    holder = (
        "import sys; from pathlib import Path; from reconciler.backends.local import LocalBackend\n"
        "with LocalBackend(Path(sys.argv[1])).lock('run', 'reconciler apply', 0):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        ended = project.apply()
        assert ended.code == 4
        assert f"pid {process.pid}" in ended.err
        assert "reconciler apply" in ended.err
        assert project.apply("--lock-timeout", "250ms").code == 4
        assert release.writes == []
        assert project.plan().code == 2
        process.kill()
    assert project.apply().code == 0


@pytest.mark.usefixtures("release")
def test_the_tool_runs_as_a_module_and_says_nothing_on_stdout_but_the_result(
    project: Project,
) -> None:
    project.declare({"acme": {}})
    with project.start("apply", "--auto-approve", "--format", "json") as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert json.loads(out)["results"][0]["status"] == "done"
    assert b"accounts.acme: created" in err


# --- JSON ---


def test_the_plan_as_json_is_the_same_byte_for_byte(world: World, project: Project) -> None:
    project.declare(
        {
            "acme": {"flags": ["a"]},
            "below": {"parent": "acme", "reseller": True},
            "gone": {},
            "other": {"language": "en-us"},
        }
    )
    project.settle()
    world.patch("other", language="fr-fr")
    project.declare(
        {
            "acme": {"flags": ["b"], "reseller": True, "caller_id": {"external": {"name": "A"}}},
            "below": {"parent": "acme", "reseller": True},
            "new": {"parent": "below"},
            "other": {"language": "en-us"},
        },
        removed=[{"account": "gone", "destroy": False}],
    )
    first, second = (project.plan("--format", "json") for _ in range(2))
    assert first.code == 3
    assert first.out == second.out
    document = first.json
    assert {
        "format_version",
        "command",
        "tool",
        "lineage",
        "serial",
        "complete",
        "summary",
        "changes",
        "operations",
        "refusals",
        "diagnostics",
    } <= document.keys()
    assert (document["format_version"], document["command"]) == ("1", "plan")
    assert document["serial"] == project.state()["serial"]
    assert document["summary"] == {
        "create": 1,
        "promote": 1,
        "update": 2,
        "demote": 0,
        "move": 0,
        "adopt": 0,
        "forget": 1,
        "delete": 0,
        "no_op": 1,
        "drift": 1,
    }
    changes = {change["address"]: change for change in document["changes"]}
    assert list(changes) == ["accounts.acme", "accounts.gone", "accounts.new", "accounts.other"]
    acme = changes["accounts.acme"]
    assert acme["id"] == world.account("acme").id
    assert (acme["name"], acme["parent"]) == ("acme", "root")
    assert sorted(acme["actions"]) == ["promote", "update"]
    fields = {field["path"]: field for field in acme["fields"]}
    number = fields["settings.caller_id.external.name"]
    assert (number["op"], number["before"], number["after"]) == ("add", None, "A")
    assert number["source"]["file"] == "reconciler.yaml"
    assert changes["accounts.other"]["drift"] is True
    for n, operation in enumerate(document["operations"], 1):
        assert operation["n"] == n
        assert all(before < n for before in operation["after"])
        assert operation.keys() >= {"address", "action", "method", "path", "body"}
    create = next(o for o in document["operations"] if o["action"] == "create")
    assert create["path"].startswith(f"/accounts/{world.account('below').id}?")
    assert [refusal["rule"] for refusal in document["refusals"]] == ["max_demote"]


@pytest.mark.usefixtures("release")
def test_an_id_that_only_apply_will_know_has_a_place_holder(project: Project) -> None:
    project.declare({"a": {}, "b": {"parent": "a"}})
    operations = project.run("plan", "--format", "json").json["operations"]
    assert operations[1]["path"] == "/accounts/{accounts.a.id}?send_email_on_creation=false"
    assert operations[1]["after"] == [1]


def test_apply_as_json_has_results(release: World, project: Project) -> None:
    release.create("taken", realm="b.sip.example.com")
    project.declare({"a": {}, "c": {"name": "taken"}, "d": {"parent": "c"}})
    applied = project.apply("--format", "json")
    assert applied.code == 5
    document = applied.json
    results = {result["address"]: result for result in document["results"]}
    assert results["accounts.a"]["status"] == "done"
    assert results["accounts.a"]["id"] == release.account("a").id
    assert results["accounts.c"]["status"] == "failed"
    assert "name: unique" in results["accounts.c"]["error"]
    assert results["accounts.c"]["request_id"]
    assert results["accounts.d"]["status"] == "skipped"


@pytest.mark.usefixtures("release")
def test_errors_are_json_too(project: Project) -> None:
    project.declare({"acme": {"realm": 5}})
    ended = project.plan("--format", "json")
    assert ended.code == 1
    (found,) = ended.json["diagnostics"]
    assert found["severity"] == "error"
    assert found["address"] == "accounts.acme"
    assert found["path"] == "settings.realm"
    assert (found["file"], found["line"] > 1, found["column"] > 1) == (
        "reconciler.yaml",
        True,
        True,
    )


@pytest.mark.usefixtures("release")
def test_a_report_is_the_same_document(project: Project, tmp_path: Path) -> None:
    project.declare({"acme": {}})
    report = tmp_path / "report.json"
    planned = project.plan("--format", "json", "--report", str(report))
    assert report.read_text() == planned.out


@pytest.mark.usefixtures("release")
def test_events_have_a_line_per_step(project: Project, tmp_path: Path) -> None:
    project.declare({"acme": {"reseller": True}})
    events = tmp_path / "events"
    assert project.apply("--events", str(events)).code == 0
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert [(line["event"], line["action"]) for line in lines] == [
        ("started", "create"),
        ("ended", "create"),
        ("started", "promote"),
        ("ended", "promote"),
    ]


# --- targets ---


def test_a_target_takes_what_it_depends_on_and_nothing_else(
    release: World, project: Project
) -> None:
    project.declare({"a": {}, "b": {"parent": "a"}, "c": {}, "d": {"parent": "b"}})
    planned = project.plan("--target", "accounts.b", "--format", "json")
    assert [change["address"] for change in planned.json["changes"]] == ["accounts.a", "accounts.b"]
    assert planned.json["complete"] is False
    assert project.apply("--target", "accounts.b").code == 0
    assert release.names() == ["a", "b"]
    project.settle()
    assert release.names() == ["a", "b", "c", "d"]


def test_most_accounts_at_once_are_not_updated_unless_that_is_allowed(
    release: World, project: Project
) -> None:
    accounts: dict[str, JsonObject] = {f"a{number}": {} for number in range(10)}
    project.declare(accounts)
    project.settle()
    project.declare({key: {"language": "de-de"} for key in accounts})
    release.log.clear()
    refused = project.apply()
    assert refused.code == 3
    assert "max_update_percent" in refused.out
    assert "10 to update" in refused.out
    assert release.writes == []
    assert project.apply("--allow", "update=100%").code == 0


# --- the endpoint and the credentials ---


def test_a_file_that_names_another_host_is_refused(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare({"acme": {}}, api={"url": "https://elsewhere.example.com/v2"})
    for command in (["plan"], ["apply", "--auto-approve"], ["drift"], ["import", "acme", ROOT_ID]):
        ended = project.run(*command)
        assert ended.code == 3
        assert "elsewhere.example.com" in ended.err
    assert release.log == []
    monkeypatch.delenv("VINIX_API_URL")
    monkeypatch.setenv("VINIX_BASE", release.url)
    assert project.plan().code == 3


def test_the_vendors_own_name_for_the_url_is_taken(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VINIX_API_URL")
    monkeypatch.setenv("VINIX_BASE", release.url + "/")
    project.declare({"acme": {}}, api={"url": release.url})
    project.settle()
    assert release.names() == ["acme"]


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v2",
        "http://127.0.0.1.example.com/v2",
        "http://127.0.0.1@api.example.com/v2",
        "https://user:secret@api.example.com/v2",
        "https://api.example.com/v2?key=secret",
        "ftp://api.example.com/v2",
        "api.example.com",
        "",
    ],
)
def test_a_url_that_would_expose_the_credential_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("VINIX_API_URL", url)
    monkeypatch.setenv("VINIX_API_KEY", ROOT_API_KEY)
    project.declare({"acme": {}})
    ended = project.plan()
    assert ended.code == 1
    assert "secret" not in ended.err + ended.out


def test_a_redirect_is_never_followed(release: World, project: Project) -> None:
    elsewhere: JsonObject = {"Location": "http://127.0.0.1:9/v2/api_auth"}
    release.fault(path="/api_auth", status=302, headers=elsewhere, body="")
    ended = project.plan()
    assert ended.code == 1
    assert "redirect" in ended.err
    assert len(release.log) == 0


@pytest.mark.parametrize(
    "account", [("VINIX_ACCOUNT_NAME", ROOT_NAME), ("VINIX_ACCOUNT_REALM", ROOT_REALM)]
)
def test_a_user_can_log_in_with_a_password(
    release: World,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    account: tuple[str, str],
) -> None:
    monkeypatch.delenv("VINIX_API_KEY")
    monkeypatch.setenv("VINIX_USERNAME", ADMIN_USERNAME)
    monkeypatch.setenv("VINIX_PASSWORD", ADMIN_PASSWORD)
    monkeypatch.setenv(*account)
    project.declare({"acme": {}})
    project.settle()
    assert release.names() == ["acme"]


def test_a_token_is_taken_as_it_is(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VINIX_API_KEY")
    monkeypatch.setenv("VINIX_AUTH_TOKEN", release.platform.tokens.issue(ROOT_ID, None))
    project.declare({"acme": {"reseller": True}})
    assert "VINIX_ACCOUNT_ID" in project.plan().err
    monkeypatch.setenv("VINIX_ACCOUNT_ID", ROOT_ID)
    project.settle()
    assert not any("auth" in entry.path for entry in release.log)


def test_a_root_further_down_keeps_all_else_out_of_sight(
    world: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = world.create("branch")
    world.create("elsewhere")
    monkeypatch.setenv("VINIX_ACCOUNT_ID", branch)
    project.declare({"acme": {}})
    project.settle()
    assert world.tree()["acme"] == "branch"
    assert project.plan("--show-unmanaged").out.count("elsewhere") == 0


@pytest.mark.parametrize("format_", [("--format", "json"), ("--format=json",)])
def test_wrong_arguments_are_told_in_json_where_that_is_wanted(
    release: World, project: Project, format_: tuple[str, ...]
) -> None:
    project.declare({})
    ended = project.run("plan", "--parallelism", "0", *format_)
    assert (ended.code, release.log) == (1, [])
    (found,) = ended.json["diagnostics"]
    assert (ended.json["command"], found["summary"]) == ("plan", "A wrong argument")
    assert "usage: reconciler plan" in ended.err
    assert project.run("plan", "--nonsense").out == ""


@pytest.mark.parametrize(
    "command", [("plan",), ("validate",), ("state", "list"), ("unlock", "a-run"), ("graph",)]
)
def test_no_command_takes_a_file_that_names_another_platform(
    release: World, project: Project, command: tuple[str, ...]
) -> None:
    project.declare({"acme": {}}, api={"url": "https://elsewhere.example.com/v2"})
    ended = project.run(*command)
    assert (ended.code, release.log) == (3, [])
    assert "Credentials are for one platform" in ended.err
