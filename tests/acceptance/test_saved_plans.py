"""What was reviewed is what happens: plans in files, plans by their digest, plans without a refresh."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from reconciler.sandbox.options import ROOT_ID, SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Ended, Project, Serve, World

SECRET = "s3cret-canary"
URL = f"https://user:{SECRET}@rec.example.com/in?sig={SECRET}"
VARIABLES: JsonObject = {"secret": {"env": "SECRET"}}


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


def saved(project: Project, path: Path, *arguments: str) -> Any:
    """Save a plan; answers what is in the file."""
    planned = project.run("plan", "--out", str(path), "--force", *arguments)
    assert planned.code == 0, planned.out + planned.err
    return json.loads(path.read_bytes())


def apply_file(project: Project, path: Path, *arguments: str) -> Ended:
    return project.run("apply", str(path), *arguments)


def assert_refused(project: Project, world: World, path: Path, *words: str) -> None:
    """The plan is refused with these words, and nothing is written."""
    world.log.clear()
    ended = apply_file(project, path)
    assert ended.code == 3, ended.err
    for word in words:
        assert word in ended.err
    assert world.writes == []


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def a_recording(url: str) -> JsonObject:
    return {"account": {"any": {"any": {"enabled": True, "url": url}}}}


# --- exactly these operations ---


def test_what_is_sent_is_what_the_file_has_byte_for_byte(
    world: World, project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    project.declare(
        {"acme": {"org": "${var.secret}"}, "off": {}, "far": {"parent": "acme"}, "gone": {}},
        variables=VARIABLES,
    )
    project.settle()
    project.declare(
        {
            "acme": {"org": "a ${var.secret}", "reseller": True, "flags": ["b", "a"]},
            "far": {"language": "de-de"},
            "new": {"parent": "acme", "call_recording": a_recording(URL), "reseller": True},
            "newer": {"parent": "new", "enabled": False, "topup": {"threshold": 5.0}},
            "off": {"enabled": False},
        },
        variables=VARIABLES,
        removed=[{"account": "gone", "destroy": True}],
        safety={"max_delete": 1},
    )
    operations = saved(project, plan_file)["operations"]
    world.log.clear()
    applied = apply_file(project, plan_file, "--parallelism", "1")
    assert applied.code == 0, applied.err
    ids = {f"{{accounts.{r.name}.id}}": r.id for r in world.records()}
    sensitive = {"org": f"a {SECRET}", "url": URL}
    expected = {one_request(operation, ids, sensitive) for operation in operations}
    assert {o["action"] for o in operations} == {"create", "promote", "update", "move", "delete"}
    sent = {
        (e.method, with_query(e.path, e.query), orjson.dumps(e.body) if e.body else b"{}")
        for e in world.writes
    }
    assert sent == expected
    assert len(world.writes) == len(operations)
    assert project.plan().code == 0


def one_request(
    operation: Any, ids: dict[str, str], sensitive: dict[str, str]
) -> tuple[str, str, bytes]:
    """The request that an operation of a file is, once ids and sensitive values are known."""

    def known(text: str) -> str:
        return re.sub(r"\{accounts\.[^}]*\}", lambda match: ids[match[0]], text)

    def filled(value: Any, name: str = "") -> Any:
        if isinstance(value, dict) and "$sensitive" in value:
            return sensitive[name]
        if isinstance(value, dict):
            return {n: filled(inner, n) for n, inner in value.items()}
        return known(value) if isinstance(value, str) else value

    data = filled(operation["body"] or {"data": {}})["data"]
    return operation["method"], known(operation["path"]), orjson.dumps(data)


def with_query(path: str, query: Any) -> str:
    return "?".join([path, *(f"{name}={value}" for name, value in query.items())])


def test_a_change_of_the_yaml_changes_nothing_of_what_is_sent(
    release: World, project: Project, plan_file: Path
) -> None:
    project.declare({}, include=["more"])
    project.write("more/a.yaml", "accounts: {a: {settings: {name: A, realm: a.example.com}}}")
    saved(project, plan_file)
    project.write("more/a.yaml", "accounts: {a: [broken}")
    applied = apply_file(project, plan_file)
    assert applied.code == 0, applied.err
    assert release.account("A").document["realm"] == "a.example.com"
    assert project.state()["accounts"]["a"]["applied"] == {
        "settings": {"name": "A", "realm": "a.example.com"}
    }


def test_what_needs_no_call_is_done_too(release: World, project: Project, plan_file: Path) -> None:
    release.create("taken-in")
    adopted = release.account("taken-in").id
    project.declare({"old": {"name": "n"}, "gone": {}})
    project.settle()
    project.declare(
        {
            "new": {"name": "n", "realm": "old.sip.example.com"},
            "taken-in": {"id": adopted, "lifecycle": {"prevent_destroy": True}},
        },
        moved=[{"from": "old", "to": "new"}],
        removed=[{"account": "gone", "destroy": False}],
    )
    saved(project, plan_file)
    release.log.clear()
    applied = apply_file(project, plan_file, "--format", "json")
    assert applied.code == 0, applied.err
    assert release.writes == []
    assert {r["action"] for r in applied.json["results"]} == {"adopt", "forget"}
    accounts = project.state()["accounts"]
    assert accounts.keys() == {"new", "taken-in"}
    assert accounts["taken-in"]["prevent_destroy"] is True
    assert project.plan().code == 0


def test_a_plan_without_changes_is_no_change_of_state(
    release: World, project: Project, plan_file: Path
) -> None:
    project.declare({"acme": {}})
    project.settle()
    saved(project, plan_file)
    before = project.state_file.read_bytes()
    for _ in range(2):
        assert apply_file(project, plan_file).code == 0
    assert project.state_file.read_bytes() == before
    assert release.names() == ["acme"]


def test_targets_and_raised_limits_are_sealed_in(
    release: World, project: Project, plan_file: Path
) -> None:
    project.declare({"acme": {}, "gone": {}})
    project.settle()
    project.declare({"acme": {"language": "de-de"}}, removed=[{"account": "gone", "destroy": True}])
    arguments = ["--target", "accounts.gone", "--allow", "delete=1"]
    document = saved(project, plan_file, *arguments)
    assert (document["targets"], document["allow"]) == (["accounts.gone"], {"delete": 1})
    shown = project.run("show", str(plan_file)).out
    assert "Only accounts.gone." in shown
    assert "Allowed: delete=1." in shown
    assert apply_file(project, plan_file, *arguments).code == 1
    assert apply_file(project, plan_file).code == 0
    assert release.names() == ["acme"]
    assert "language" not in release.account("acme").document


# --- refused as a whole ---


def test_a_plan_is_applied_once(release: World, project: Project, plan_file: Path) -> None:
    project.declare({"acme": {}})
    saved(project, plan_file)
    assert apply_file(project, plan_file).code == 0
    assert_refused(project, release, plan_file, "It was applied already.")
    project.declare({"acme": {"language": "de-de"}})
    saved(project, plan_file)
    serial = project.state()["serial"]
    assert apply_file(project, plan_file).code == 0
    assert project.state()["serial"] > serial
    assert_refused(project, release, plan_file, "It was applied already.")


def test_a_plan_of_which_nothing_succeeded_was_applied_all_the_same(
    release: World, project: Project, plan_file: Path
) -> None:
    project.declare({"acme": {}})
    saved(project, plan_file)
    release.fault(method="PUT", path="^/accounts/.*", status=400, body={"data": {}}, times=1)
    assert apply_file(project, plan_file).code == 5
    assert release.names() == []
    assert_refused(project, release, plan_file, "It was applied already.")


def test_the_state_must_not_have_moved_on(
    release: World, project: Project, plan_file: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first.json"
    project.declare({"acme": {}})
    saved(project, first)
    saved(project, plan_file)
    assert apply_file(project, first).code == 0
    assert_refused(project, release, plan_file, "It was made from no state yet")
    project.declare({"acme": {"language": "de-de"}})
    saved(project, plan_file)
    project.declare({"acme": {}, "other": {}})
    assert project.apply().code == 0
    assert_refused(project, release, plan_file, "The state moved on since, from serial")
    shutil.rmtree(project.state_file.parent)
    assert_refused(project, release, plan_file, "It was made from a state, and there is none.")


def test_a_plan_that_was_made_while_another_run_was_under_way_is_refused(
    release: World, project: Project, plan_file: Path
) -> None:
    """The half of that run and the whole of it have the same serial."""
    project.declare({"gone": {}, "other": {}})
    project.settle()
    project.declare(
        {"other": {"language": "de-de"}},
        removed=[{"account": "gone", "destroy": True}],
        safety={"max_delete": 1},
    )
    other = release.account("other").id
    release.fault(method="PATCH", path=f"/accounts/{other}", phase="before", delay_ms=1000)
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(lambda: release.names() == ["other"])
        wait_for(lambda: saved(project, plan_file)["changes"][0]["address"] == "accounts.other")
        process.communicate()
    assert process.returncode == 0
    assert json.loads(plan_file.read_bytes())["serial"] == project.state()["serial"]
    assert_refused(project, release, plan_file, "a run was under way")


def test_another_platform_and_another_root_are_refused(
    serve: Serve, project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SandboxOptions(log_requests=True, rate_limit=False)
    here = serve(options)
    branch = here.create("branch")
    project.declare({"acme": {}})
    saved(project, plan_file)
    monkeypatch.setenv("VINIX_ACCOUNT_ID", branch)
    assert_refused(project, here, plan_file, "this run's is " + branch)
    monkeypatch.delenv("VINIX_ACCOUNT_ID")
    there = serve(options)
    assert_refused(project, there, plan_file, here.url, there.url)
    assert there.log == []


@pytest.mark.usefixtures("release")
def test_an_old_plan_is_refused(project: Project, plan_file: Path) -> None:
    project.declare({"acme": {}})
    saved(project, plan_file)
    refused = apply_file(project, plan_file, "--max-age", "0s")
    assert refused.code == 3
    assert "--max-age" in refused.err
    assert apply_file(project, plan_file, "--max-age", "soon").code == 1
    assert apply_file(project, plan_file, "--max-age", "1h").code == 0


def test_an_edited_plan_is_refused(release: World, project: Project, plan_file: Path) -> None:
    project.declare({"acme": {}})
    saved(project, plan_file)
    text = plan_file.read_bytes()
    for edited in (
        text.replace(b"acme.sip", b"evil.sip"),
        text.replace(b'"temporary":false', b'"temporary":true'),
        text[:-1],
        text + b" ",
        b"",
        b"{}",
        b"\xff\xfe",
    ):
        plan_file.write_bytes(edited)
        assert_refused(project, release, plan_file, str(plan_file))
        assert project.run("show", str(plan_file)).code == 3


@pytest.mark.usefixtures("release")
def test_a_key_keeps_others_from_making_plans(
    project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare({"acme": {}})
    saved(project, plan_file)
    monkeypatch.setenv("RECONCILER_PLAN_KEY", "a key")
    refused = apply_file(project, plan_file)
    assert (refused.code, "sealed without a key" in refused.err) == (3, True)
    saved(project, plan_file)
    assert b"a key" not in plan_file.read_bytes()
    for key, word in (("another", "its key is not"), ("", "set RECONCILER_PLAN_KEY")):
        monkeypatch.setenv("RECONCILER_PLAN_KEY", key)
        refused = apply_file(project, plan_file)
        assert (refused.code, word in refused.err) == (3, True)
    monkeypatch.setenv("RECONCILER_PLAN_KEY", "a key")
    assert project.run("show", str(plan_file)).code == 0
    assert apply_file(project, plan_file).code == 0


# --- one by one ---


def test_what_was_changed_since_is_left_alone_and_the_rest_is_done(
    world: World, project: Project, plan_file: Path
) -> None:
    project.declare({"acme": {"language": "en-us"}, "other": {"language": "en-us"}})
    project.settle()
    project.declare({"acme": {"language": "de-de"}, "other": {"language": "de-de"}})
    saved(project, plan_file)
    world.patch("acme", language="fr-fr")
    applied = apply_file(project, plan_file)
    assert applied.code == 5
    assert "accounts.acme: update: stale: settings.language was changed" in applied.out
    assert world.account("acme").document["language"] == "fr-fr"
    assert world.account("other").document["language"] == "de-de"


@pytest.mark.parametrize("change", ["enabled", "moved", "deleted", "renamed"])
def test_nothing_is_sent_if_all_is_stale(
    release: World, project: Project, plan_file: Path, change: str
) -> None:
    """A PATCH carries `enabled`, a move leaves a parent, a delete means one account and no other."""
    project.declare({"acme": {}, "other": {}})
    project.settle()
    acme, other = release.account("acme").id, release.account("other").id
    declared: JsonObject = {"acme": {"language": "de-de"}, "other": {}}
    if change == "moved":
        declared = {"acme": {"parent": "other"}, "other": {}}
    if change == "renamed":
        project.declare({"other": {}}, removed=[{"account": "acme", "destroy": True}])
        saved(project, plan_file, "--allow", "delete=1")
    else:
        project.declare(declared)  # type: ignore[arg-type]
        saved(project, plan_file)
    match change:
        case "enabled":
            release.call("PATCH", f"/accounts/{acme}", {"enabled": False})
        case "moved":
            elsewhere = release.create("elsewhere")
            release.call("POST", f"/accounts/{acme}/move", {"to": elsewhere})
        case "deleted":
            release.call("DELETE", f"/accounts/{acme}")
        case _:
            release.patch("acme", name="somebody else")
    release.log.clear()
    applied = apply_file(project, plan_file)
    assert applied.code == 3, applied.out
    assert "accounts.acme: " in applied.out
    assert "stale" in applied.out
    assert release.writes == []
    assert release.platform.store.get(other) is not None


PLACED: dict[str, tuple[JsonObject, JsonObject]] = {
    "update": ({"parent": "top"}, {"parent": "top", "language": "de-de"}),
    "promote": ({"parent": "top"}, {"parent": "top", "reseller": True}),
    "demote": ({"parent": "top", "reseller": True}, {"parent": "top", "reseller": False}),
    "move": ({"parent": "top"}, {"parent": "other"}),
    "delete": ({"parent": "top"}, {}),
}


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("action", PLACED)
def test_an_account_that_stands_elsewhere_by_now_is_left_alone(
    release: World, project: Project, plan_file: Path, action: str, *, out: bool
) -> None:
    """Below another reseller, or outside of the root, where it is nobody's business any more."""
    api: JsonObject = {"account_id": release.create("mine")}
    before, after = PLACED[action]
    others: dict[str, JsonObject] = {"top": {}, "other": {}, "third": {}}
    project.declare({**others, "acme": before}, api=api)
    assert project.apply().code == 0
    if action == "delete":
        project.declare(others, api=api, removed=[{"account": "acme", "destroy": True}])
    else:
        project.declare({**others, "acme": after}, api=api)
    saved(project, plan_file, "--allow", "delete=1,demote=1")
    acme = release.account("acme").id
    to = ROOT_ID if out else release.account("third").id
    release.call("POST", f"/accounts/{acme}/move", {"to": to})
    release.log.clear()
    applied = apply_file(project, plan_file)
    assert applied.code == 3, applied.out
    told = "no longer below the root" if out else f"it stands below {to} now"
    assert f"accounts.acme: {action}: stale: " in applied.out
    assert told in applied.out
    assert release.writes == []


@pytest.mark.parametrize("action", ["create", "move"])
def test_nothing_goes_below_an_account_that_left_the_root(
    release: World, project: Project, plan_file: Path, action: str
) -> None:
    api: JsonObject = {"account_id": release.create("mine")}
    others: dict[str, JsonObject] = {"top": {}, "old": {}}
    project.declare(others, api=api)
    assert project.apply().code == 0
    key = "old" if action == "move" else "new"
    project.declare({**others, key: {"parent": "top"}}, api=api)
    saved(project, plan_file)
    top = release.account("top").id
    release.call("POST", f"/accounts/{top}/move", {"to": ROOT_ID})
    release.log.clear()
    applied = apply_file(project, plan_file)
    assert applied.code == 3, applied.out
    assert f"accounts.{key}: {action}: stale: {top} is no longer below the root" in applied.out
    assert release.writes == []


def test_a_reseller_that_its_owner_demoted_meanwhile_is_not_promoted_again(
    release: World, project: Project, plan_file: Path
) -> None:
    top = release.create("top")
    stranger = release.create("stranger", top)
    for name in ("top", "stranger"):
        release.promote(name)
    project.declare({"top": {"id": top, "reseller": True}})
    assert project.apply().code == 0
    project.declare({"top": {"id": top, "reseller": False}})
    saved(project, plan_file, "--allow", "demote=2,reparent")
    release.call("DELETE", f"/accounts/{stranger}/reseller")
    applied = apply_file(project, plan_file)
    assert applied.code == 5
    assert "promote: stale: it was demoted since the plan was made, by others" in applied.out
    assert release.resellers() == []


def test_a_saved_plan_can_be_applied_while_lists_lag(
    serve: Serve, project: Project, plan_file: Path
) -> None:
    world = serve(SandboxOptions(rate_limit=False, view_lag_ms=3000))
    project.declare({"top": {}})
    assert project.apply().code == 0
    project.declare({"top": {"language": "de-de"}, "below": {"parent": "top"}})
    saved(project, plan_file)
    applied = apply_file(project, plan_file)
    assert applied.code == 0, applied.out
    assert world.tree() == {"top": "root", "below": "top"}


def a_delete_is_saved(project: Project, plan_file: Path) -> None:
    project.declare({"acme": {}})
    assert project.apply().code == 0
    project.declare({}, removed=[{"account": "acme", "destroy": True}])
    saved(project, plan_file, "--allow", "delete=1")


def test_what_is_to_be_deleted_and_is_gone_by_now_is_done(
    release: World, project: Project, plan_file: Path
) -> None:
    a_delete_is_saved(project, plan_file)
    release.call("DELETE", f"/accounts/{release.account('acme').id}")
    release.log.clear()
    applied = apply_file(project, plan_file)
    assert applied.code == 0, applied.out
    assert (release.writes, project.state()["accounts"]) == ([], {})


def test_an_account_that_became_a_reseller_is_not_deleted(
    release: World, project: Project, plan_file: Path
) -> None:
    a_delete_is_saved(project, plan_file)
    release.promote("acme")
    applied = apply_file(project, plan_file)
    assert applied.code == 3, applied.out
    assert release.names() == ["acme"]


@pytest.mark.parametrize("named", ["realm", "name and parent"])
def test_a_create_is_stale_if_an_account_took_its_place(
    release: World, project: Project, plan_file: Path, named: str
) -> None:
    project.declare({"acme": {} if named == "realm" else {"realm": "(left out)"}, "other": {}})
    saved(project, plan_file)
    if named == "realm":
        taken = release.create("somebody", realm="ACME.sip.example.com")
    else:
        taken = release.create("acme", realm="elsewhere.example.com")
    release.log.clear()
    applied = apply_file(project, plan_file)
    assert applied.code == 5
    assert f"the account {taken}" in applied.out
    assert f"has its {named} by now" in applied.out
    assert [entry.body["name"] for entry in release.writes] == ["other"]


def test_an_adoption_is_stale_if_the_account_is_gone(
    release: World, project: Project, plan_file: Path
) -> None:
    taken_in = release.create("taken-in")
    project.declare({"taken-in": {"id": taken_in, "language": "de-de"}, "other": {}})
    saved(project, plan_file)
    release.call("DELETE", f"/accounts/{taken_in}")
    applied = apply_file(project, plan_file, "--format", "json")
    assert applied.code == 5
    statuses = {(r["action"], r["status"]) for r in applied.json["results"]}
    assert statuses == {("adopt", "stale"), ("update", "stale"), ("create", "done")}
    assert project.state()["accounts"].keys() == {"other"}


# --- sensitive values ---


def test_a_sensitive_value_is_found_again_or_the_plan_refused(
    world: World, project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First without a state, which has the key of all digests; then with one."""
    for number, language in enumerate(("de-de", "fr-fr")):
        secret = f"{SECRET}-{number}"
        monkeypatch.setenv("SECRET", secret)
        fields: JsonObject = {"org": "x ${var.secret}", "language": language}
        project.declare({"acme": fields, "other": {}}, variables=VARIABLES)
        saved(project, plan_file)
        assert SECRET.encode() not in plan_file.read_bytes()
        monkeypatch.setenv("SECRET", "another")
        assert_refused(project, world, plan_file, "accounts.acme: settings.org (var.secret)")
        monkeypatch.delenv("SECRET")
        world.log.clear()
        missing = apply_file(project, plan_file)
        assert (missing.code, "SECRET" in missing.err) == (1, True)
        project.declare({"other": {}})
        assert_refused(project, world, plan_file, "accounts.acme: settings.org (var.secret)")
        project.declare({"acme": {**fields, "timezone": "UTC"}}, variables=VARIABLES)
        monkeypatch.setenv("SECRET", secret)
        applied = apply_file(project, plan_file)
        assert applied.code == 0, applied.err
        document = world.account("acme").document
        assert (document["org"], document["language"]) == (f"x {secret}", language)
        assert document.get("timezone") != "UTC"
        project.declare({"acme": fields, "other": {}}, variables=VARIABLES)
        assert project.plan().code == 0


def test_a_sensitive_value_that_was_changed_outside_is_left_alone(
    release: World, project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    project.declare({"acme": {"org": "${var.secret}"}, "b": {}}, variables=VARIABLES)
    project.settle()
    monkeypatch.setenv("SECRET", "new")
    saved(project, plan_file)
    release.patch("acme", org="changed")
    release.log.clear()
    applied = apply_file(project, plan_file)
    assert applied.code == 3
    assert "settings.org was changed since" in applied.out
    assert release.writes == []


# --- files ---


def test_a_file_is_never_replaced_unless_that_is_asked_for(
    release: World, project: Project, plan_file: Path, tmp_path: Path
) -> None:
    project.declare({"acme": {}})
    plan_file.write_text("precious")
    release.log.clear()
    planned = project.run("plan", "--out", str(plan_file))
    assert planned.code == 1
    assert release.log == []
    assert plan_file.read_text() == "precious"
    assert project.run("plan", "--out", str(plan_file), "--force").code == 0
    assert plan_file.stat().st_mode & 0o777 == 0o600
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "victim")
    assert project.run("plan", "--out", str(link)).code == 1
    assert project.run("plan", "--out", str(tmp_path / "no" / "plan")).code == 1
    assert not (tmp_path / "victim").exists()


def test_what_is_no_plan_is_an_error_without_a_traceback(project: Project, tmp_path: Path) -> None:
    fifo, huge = tmp_path / "fifo", tmp_path / "huge"
    os.mkfifo(fifo)
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    for path in (fifo, huge, tmp_path, tmp_path / "missing"):
        ended = project.run("show", str(path))
        assert ended.code == 1
        assert str(path) in ended.err
        assert "internal" not in ended.err


@pytest.mark.usefixtures("release")
def test_a_refused_plan_is_not_saved(project: Project, plan_file: Path) -> None:
    project.declare({"acme": {}, "gone": {}})
    project.settle()
    project.declare({"acme": {}})
    assert project.run("plan", "--out", str(plan_file)).code == 3
    assert not plan_file.exists()


@pytest.mark.usefixtures("release")
def test_show_shows_what_plan_showed(
    project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    project.declare(
        {"acme": {"org": "${var.secret}", "call_recording": a_recording(URL)}},
        variables=VARIABLES,
    )
    project.settle()
    monkeypatch.setenv("SECRET", "new")
    project.declare({"acme": {"org": "${var.secret}", "call_recording": None}}, variables=VARIABLES)
    as_text = project.run("plan")
    as_json = project.run("plan", "--format", "json", "--out", str(plan_file))
    assert SECRET not in plan_file.read_text()
    head, _, shown = project.run("show", str(plan_file)).out.partition("\n\n")
    assert as_text.out.startswith(shown)
    assert "Saved plan, made" in head
    document = project.run("show", str(plan_file), "--format", "json").json
    assert document == {**as_json.json, "command": "show"}


# --- killed ---


def test_after_kill_9_a_saved_plan_is_used_up_and_the_next_one_finishes_it(
    release: World, project: Project, plan_file: Path
) -> None:
    project.declare({"top": {"reseller": True}, "a": {"parent": "top"}, "b": {"parent": "top"}})
    saved(project, plan_file)
    release.fault(method="PUT", path="^/accounts/.*", nth=3, phase="after", delay_ms=1000)
    with project.start("apply", str(plan_file), "--parallelism", "1") as process:
        wait_for(lambda: len(release.names()) == 2)
        process.kill()
        process.communicate()
    assert_refused(project, release, plan_file, "It was applied already.")
    release.platform.faults.clear()
    assert project.state()["accounts"].keys() < {"top", "a", "b"}
    saved(project, plan_file)
    applied = apply_file(project, plan_file)
    assert applied.code == 0, applied.err
    assert release.names() == ["a", "b", "top"]
    assert project.plan().code == 0


# --- by its digest ---


def digest_of(project: Project) -> str:
    planned = project.run("plan")
    (digest,) = re.findall(r"^Plan digest: (.*)$", planned.out, re.MULTILINE)
    assert digest == project.run("plan", "--format", "json").json["digest"]
    return str(digest)


def test_a_reviewed_plan_is_applied_by_its_digest_alone(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a first state too, whose lineage nobody knew at review; and nobody is asked again."""
    monkeypatch.setenv("SECRET", SECRET)
    project.declare({"acme": {"org": "${var.secret}"}}, variables=VARIABLES)
    assert project.run("apply", "--plan-digest", digest_of(project)).code == 0
    project.declare({"acme": {"language": "de-de", "org": "${var.secret}"}}, variables=VARIABLES)
    digest = digest_of(project)
    assert project.run("apply", "--plan-digest", digest.partition(".")[0]).code == 0
    assert release.account("acme").document["language"] == "de-de"
    assert project.run("apply", "--plan-digest", digest).code == 3


def test_where_a_plan_differs_from_the_reviewed_one_is_told(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    names = [f"a{number}" for number in range(20)]
    project.declare({name: {"org": "${var.secret}"} for name in names}, variables=VARIABLES)
    project.settle()
    accounts: dict[str, JsonObject] = {
        name: {"org": "${var.secret}", "language": "de-de"} for name in names[:5]
    }
    project.declare(
        {**{n: {"org": "${var.secret}"} for n in names}, **accounts}, variables=VARIABLES
    )
    digest = digest_of(project)
    release.patch("a1", language="fr-fr")  # a before-value
    release.patch("a2", language="de-de")  # nothing is left to do
    release.patch("a17", org="changed")  # something more to do
    release.log.clear()
    refused = project.run("apply", "--plan-digest", digest)
    assert refused.code == 3
    (told,) = re.findall(r"plan_digest: .* Different: (.*)\.", refused.out)
    assert told == "accounts.a1, accounts.a17, accounts.a2"
    bare = project.run("apply", "--plan-digest", digest.partition(".")[0], "--format", "json")
    assert bare.code == 3
    (refusal,) = bare.json["refusals"]
    assert refusal["rule"] == "plan_digest"
    assert "accounts.a17" in refusal["detail"]
    monkeypatch.setenv("SECRET", "new")
    assert "differs in too much" in project.run("apply", "--plan-digest", digest).out
    assert release.writes == []


@pytest.mark.usefixtures("release")
def test_what_is_no_digest_is_a_wrong_argument(project: Project, plan_file: Path) -> None:
    project.declare({"acme": {}})
    for digest in ("", "sha256:", "sha256:" + "0" * 63, "0" * 64, "sha256:" + "0" * 64 + ".x"):
        assert project.run("apply", "--plan-digest", digest).code == 1
    saved(project, plan_file)
    assert apply_file(project, plan_file, "--plan-digest", "sha256:" + "0" * 64).code == 1


# --- without a refresh ---


def test_a_plan_from_state_reads_only_what_it_would_change(
    release: World, project: Project, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    accounts: dict[str, JsonObject] = {
        f"a{n}": {"org": "${var.secret}", "language": "en-us"} for n in range(10)
    }
    project.declare(accounts, variables=VARIABLES)
    project.settle()
    release.patch("a1", language="fr-fr")
    release.patch("a2", enabled=False)
    release.log.clear()
    planned = project.plan("--no-refresh")
    assert planned.code == 0
    assert "Not refreshed" in planned.out
    assert len(release.log) <= 5
    accounts["a2"]["flags"] = ["x"]
    project.declare({**accounts, "new": {}}, variables=VARIABLES)
    document = saved(project, plan_file, "--no-refresh", "--format", "json")
    assert document["refreshed"] is False
    assert [change["address"] for change in document["changes"]] == ["accounts.a2", "accounts.new"]
    assert apply_file(project, plan_file).code == 0
    assert release.account("a2").enabled is False
    assert release.account("a2").document["flags"] == ["x"]
    assert "settings.language" in project.plan().out


def test_even_from_state_nothing_is_made_twice_and_what_is_gone_is_noticed(
    release: World, project: Project
) -> None:
    project.declare({"acme": {}, "gone": {}})
    project.settle()
    release.call("DELETE", f"/accounts/{release.account('gone').id}")
    release.create("taken")
    project.declare({"acme": {}, "gone": {}, "taken": {}})
    planned = project.plan("--no-refresh", "--format", "json")
    assert planned.code == 3
    assert [refusal["rule"] for refusal in planned.json["refusals"]] == ["exists"]
    assert [c["address"] for c in planned.json["changes"]] == ["accounts.gone"]


# --- what is dangerous ---


def test_what_is_dangerous_is_repeated_at_the_end(
    release: World, project: Project, plan_file: Path
) -> None:
    declared: dict[str, JsonObject] = {
        "a": {"reseller": True},
        "b": {"call_recording": a_recording("https://rec.example.com/a")},
        "c": {},
        "d": {"caller_id": {"emergency": {"number": "+12125550100"}}},
        **{f"gone-{n}": {} for n in range(30)},
    }
    project.declare(declared)
    project.settle()
    changed: dict[str, JsonValue] = {
        "a": {"reseller": False},
        "b": {"call_recording": a_recording(URL)},
        "c": {"parent": "d", "enabled": False},
        "d": {"caller_id": {"emergency": {"number": "+12125550199"}}},
    }
    project.declare(
        changed,  # type: ignore[arg-type]
        removed=[{"account": f"gone-{n}", "destroy": True} for n in range(30)],
    )
    arguments = ["--allow", "delete=30,demote=1,update=100%"]
    planned = project.run("plan", *arguments)
    end = planned.out.partition("\nDangerous:\n")[2].splitlines()
    assert [line for line in end[:35] if "gone" not in line] == [
        "  accounts.a (a): will be demoted",
        '  accounts.c (c): ~ parent: "root" -> "d"',
        "  accounts.c (c): ~ settings.enabled: true -> false",
        '  accounts.d (d): ~ settings.caller_id.emergency.number: "+12125550100" -> "+12125550199"',
        '  accounts.b (b): ~ settings.call_recording.account.any.any.url: "https://rec.example.com/a" -> "https://(sensitive)@rec.example.com/in?(sensitive)"',
    ]
    assert sum(line.endswith("will be deleted") for line in end) == 30
    document = saved(project, plan_file, *arguments)
    assert document["unchanged"] == 0
    dangerous = project.run("plan", "--format", "json", *arguments).json["dangerous"]
    assert [found["what"] for found in dangerous[30:]] == [
        "demote",
        "move",
        "disable",
        "emergency_caller_id",
        "recording_url",
    ]
    assert dangerous[34]["path"] == "settings.call_recording.account.any.any.url"
    assert project.run("show", str(plan_file)).out.count("will be deleted") == 60
    assert release.names() == sorted(declared)
