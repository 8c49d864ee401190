"""Killed in the middle of what takes something away for a moment: one plain apply gives it back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import ROOT_ID, SandboxOptions

from .conftest import LEFT_OUT, NO_SUCH, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Project, Serve, World

ALLOWED = ("--allow", "reparent,demote=9,update=100%")

pytestmark = pytest.mark.usefixtures("low_dice")


def killed_at(world: World, project: Project, write: int, phase: str, *arguments: str) -> None:
    """Apply, and kill -9 at the Nth write: before the platform does it, or before it answers."""
    world.platform.faults.clear()
    world.log.clear()
    world.fault(path="^/accounts/.*", method="WRITES", nth=write, phase=phase, delay_ms=300)
    apply = ("apply", "--auto-approve", "--parallelism", "1")
    with project.start(*apply, *arguments) as process:
        wait_for(lambda: world.platform.faults.matches() >= write or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        if phase == "after":
            wait_for(lambda: len(world.writes) >= write)
        process.kill()
        process.communicate()
    world.platform.faults.clear()
    wait_for(lambda: len(world.writes) >= write)  # it is carried out, whoever listens


def assert_converges(project: Project, *arguments: str) -> None:
    """One plain apply finishes the job, and nothing is left open."""
    applied = project.apply(*arguments)
    assert applied.code == 0, applied.out + applied.err
    planned = project.plan()
    assert planned.code == 0, planned.out
    assert planned.out.startswith("No changes.")
    state = project.state()
    assert state["intents"] == {}
    assert "owed" not in state


# --- ranks ---


def a_tree_with_a_strangers_reseller(world: World, project: Project) -> None:
    """`top` above a declared reseller, one whose rank nobody declares, and one that is not managed."""
    project.declare(
        {
            "top": {},
            "declared": {"parent": "top", "reseller": True},
            "silent": {"parent": "top"},
        }
    )
    project.settle()
    world.create("stranger", world.account("silent").id)
    for name in ("silent", "stranger"):
        world.promote(name)
    project.declare(
        {
            "top": {"reseller": True},
            "declared": {"parent": "top", "reseller": True},
            "silent": {"parent": "top", "language": "de-de"},
        }
    )


WRITES = 8  # three demotions, top's promotion, three promotions again, one update


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_every_reseller_gets_its_rank_back(
    release: World, project: Project, write: int, phase: str
) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    killed_at(release, project, write, phase, *ALLOWED)
    assert_converges(project, *ALLOWED)
    assert release.resellers() == ["declared", "silent", "stranger", "top"]


def test_no_limit_keeps_a_reseller_from_its_rank(release: World, project: Project) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    killed_at(release, project, 4, "before", *ALLOWED)  # all are demoted, and top is promoted
    assert release.resellers() == ["top"]
    project.declare(
        {
            "top": {"reseller": True},
            "declared": {"parent": "top", "reseller": True, "safety": {"protect": ["money"]}},
            "silent": {"parent": "top"},
        },
        safety={"protect": ["money", "service"]},
    )
    assert_converges(project)
    assert release.resellers() == ["declared", "silent", "stranger", "top"]


@pytest.mark.parametrize("write", [1, 2, 3])
def test_what_was_allowed_need_not_be_allowed_again_to_finish_it(
    release: World, project: Project, write: int
) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    killed_at(release, project, write, "after", "--allow", "reparent")
    assert len(release.resellers()) < 3
    assert_converges(project)
    assert release.resellers() == ["declared", "silent", "stranger", "top"]


def test_what_a_run_took_and_the_yaml_gives_back_was_not_changed_outside(
    release: World, project: Project
) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    killed_at(release, project, 4, "before", *ALLOWED)
    declared = release.account("declared").id
    planned = project.plan(*ALLOWED)
    assert f"took its rank as a reseller from {declared} for the time being" in planned.out
    change = planned.out.split("accounts.declared (declared)")[1].split("accounts.")[0]
    assert "~ reseller: false -> true" in change
    assert "changed outside" not in change


def test_what_is_owed_is_shown_before_it_is_given_back(release: World, project: Project) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    stranger = release.account("stranger").id
    killed_at(release, project, 4, "before", *ALLOWED)
    assert release.resellers() == ["top"]
    planned = project.plan()
    assert "Left open by a run that was interrupted, or is still at it:" in planned.out
    assert f"accounts.{stranger}: an interrupted run took its rank as a reseller" in planned.out
    assert f"accounts.{stranger} (stranger)" in planned.out
    document = project.plan("--format", "json").json
    assert {intent["address"] for intent in document["intents"]} == {
        f"accounts.{stranger}",
        "accounts.declared",
        "accounts.silent",
    }
    assert {intent["action"] for intent in document["intents"]} == {"demote"}
    assert document["summary"]["promote"] == 3


def test_a_saved_plan_gives_back_too(release: World, project: Project) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    killed_at(release, project, 4, "before", *ALLOWED)
    saved = str(project.directory / "saved.json")
    assert project.run("plan", "--out", saved, *ALLOWED).code == 0
    applied = project.run("apply", saved)
    assert applied.code == 0, applied.err
    assert release.resellers() == ["declared", "silent", "stranger", "top"]
    assert project.plan().out.startswith("No changes.")
    assert "owed" not in project.state()


def test_a_rank_that_was_given_back_or_decided_otherwise_is_not_owed(
    release: World, project: Project
) -> None:
    a_tree_with_a_strangers_reseller(release, project)
    killed_at(release, project, 4, "before", *ALLOWED)
    release.promote("stranger")
    project.declare(
        {"top": {}, "declared": {"parent": "top"}, "silent": {"parent": "top", "reseller": False}}
    )
    assert "Left open" not in project.plan().out
    assert_converges(project, *ALLOWED)
    assert release.resellers() == ["stranger", "top"]


@pytest.mark.parametrize("gone", ["deleted outside", "destroyed"])
def test_an_account_that_is_gone_is_owed_nothing(
    release: World, project: Project, gone: str
) -> None:
    project.declare({"top": {}, "low": {"parent": "top"}})
    project.settle()
    release.promote("low")
    accounts: dict[str, JsonObject] = {"top": {"reseller": True}, "low": {"parent": "top"}}
    project.declare(accounts)
    killed_at(release, project, 2, "before", *ALLOWED)
    if gone == "deleted outside":
        release.call("DELETE", f"/accounts/{release.account('low').id}")
        assert_converges(project)
    else:
        del accounts["low"]
        project.declare(accounts, removed=[{"account": "low", "destroy": True}])
        assert_converges(project, "--allow", "delete=1")
        assert release.names() == ["top"]


# --- fields that are gone for a moment ---

RECORDING: JsonObject = {"enabled": True, "format": "mp3", "time_limit": 60}


def an_account_with_strange_fields(world: World, project: Project, **declared: JsonValue) -> None:
    """`time_limit` leaves the YAML; beside it stands what nobody declared."""
    fields: JsonObject = {"account": {"any": {"any": {"time_limit": 60, **declared}}}}
    project.declare({"acme": {"call_recording": fields, "language": "en-us"}})
    project.settle()
    world.patch("acme", call_recording={"account": {"any": {"any": RECORDING}}})
    kept: JsonObject = (
        {"call_recording": {"account": {"any": {"any": declared}}}} if declared else {}
    )
    project.declare({"acme": {**kept, "language": "de-de"}})


def recording(world: World) -> object:
    document = world.account("acme").document["call_recording"]
    for name in ("account", "any", "any"):
        assert isinstance(document, dict)
        document = document.get(name, {})
    return document


@pytest.mark.parametrize("declared", [{}, {"format": "mp3"}], ids=["none declared", "one declared"])
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_fields_beside_a_removed_one_come_back(
    head: World, project: Project, write: int, phase: str, declared: JsonObject
) -> None:
    """Where null removes nothing, the object is emptied and its other keys are put back."""
    an_account_with_strange_fields(head, project, **declared)
    killed_at(head, project, write, phase)
    assert (recording(head) == {}) is (write == 2)
    if write == 2:
        planned = project.plan()
        assert "accounts.acme: an interrupted run took fields" in planned.out
        assert "+ settings.call_recording.account.any.any.enabled: true" in planned.out
    assert_converges(project)
    assert recording(head) == {"enabled": True, "format": "mp3"}
    assert head.account("acme").document["language"] == "de-de"


@pytest.mark.parametrize("settled", ["left the YAML", "declared anew"])
def test_fields_are_owed_whatever_became_of_the_declaration(
    head: World, project: Project, settled: str
) -> None:
    an_account_with_strange_fields(head, project)
    killed_at(head, project, 2, "after")
    assert recording(head) == {}
    if settled == "left the YAML":
        project.declare({}, removed=[{"account": "acme", "destroy": False}])
        assert_converges(project)
        assert recording(head) == {"enabled": True, "format": "mp3"}
    else:
        wav: JsonObject = {"account": {"any": {"any": {"format": "wav"}}}}
        project.declare({"acme": {"call_recording": wav, "language": "de-de"}})
        assert_converges(project)
        assert recording(head) == {"enabled": True, "format": "wav"}


def test_a_credential_beside_a_removed_field_is_not_put_at_risk(
    head: World, project: Project
) -> None:
    an_account_with_strange_fields(head, project)
    secret = "https://user:canary@rec.example.com/"
    head.patch("acme", call_recording={"account": {"any": {"any": {"url": secret}}}})
    applied = project.apply()
    assert applied.code == 5
    assert "settings.call_recording.account.any.any.url" in applied.err
    assert "holds a credential" in applied.err
    assert "canary" not in applied.out + applied.err + project.state_file.read_text()
    assert recording(head) == {**RECORDING, "url": secret}


def lost_at(world: World, *rules: JsonObject) -> None:
    for rule in rules:
        world.fault(method="PATCH", path="/accounts/*", **rule)


@pytest.mark.parametrize(
    "rules",
    [
        [{"nth": 2, "phase": "after", "drop": True}],
        [{"nth": 2, "status": 503}],
        [{"nth": 3, "phase": "after", "drop": True}],
        [{"nth": 3, "status": 503, "times": 3}],
    ],
)
def test_lost_answers_while_fields_are_gone_are_sent_again(
    head: World, project: Project, rules: Sequence[JsonObject]
) -> None:
    an_account_with_strange_fields(head, project)
    lost_at(head, *rules)
    assert_converges(project)
    assert recording(head) == {"enabled": True, "format": "mp3"}


# --- creates ---


@pytest.mark.parametrize("lists", [1, 2, 3])
def test_a_list_that_still_has_the_deleted_account_of_that_realm_does_not_hide_the_new_one(
    release: World, project: Project, lists: int
) -> None:
    project.declare({"old": {"realm": "mine.example.com"}})
    project.settle()
    old = release.account("old").id
    row: JsonObject = {"id": old, "name": "old", "realm": "mine.example.com", "tree": [ROOT_ID]}
    project.declare(
        {"new": {"realm": "mine.example.com"}}, removed=[{"account": "old", "destroy": True}]
    )
    killed_at(release, project, 2, "after", "--allow", "delete=1")
    assert release.names() == ["new"]
    behind: JsonObject = {"data": [row], "status": "success"}
    release.fault(path="/accounts/*/descendants", times=lists, status=200, body=behind)
    project.declare({"new": {"realm": "mine.example.com"}})
    assert_converges(project)
    assert release.names() == ["new"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_node_that_does_not_know_the_new_account_yet_does_not_hide_it_from_recovery(
    serve: Serve, project: Project, times: int
) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, unique_names=False))
    project.declare({"acme": {"realm": LEFT_OUT}})
    killed_at(world, project, 1, "after")
    path = f"/accounts/{world.account('acme').id}"
    world.fault(method="GET", path=path, status=404, body=NO_SUCH, times=times)
    assert_converges(project)
    assert world.names() == ["acme"]


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        ({"lifecycle": {"prevent_destroy": True}}, "prevent_destroy"),
        ({"safety": {"max_delete": 0}}, "max_delete"),
    ],
)
def test_an_open_create_remembers_what_guards_its_account(
    release: World, project: Project, guard: JsonObject, told: str
) -> None:
    project.declare({"acme": guard, "other": {}})
    killed_at(release, project, 1, "after")
    removed: list[JsonValue] = [{"account": "acme", "destroy": True}]
    project.declare({"other": {}}, removed=removed, safety={"max_delete": 9})
    refused = project.apply()
    assert refused.code == 3
    assert told in refused.out
    assert "acme" in release.names()


def test_an_open_create_is_shown_with_what_it_made(release: World, project: Project) -> None:
    project.declare({"acme": {}, "other": {}})
    killed_at(release, project, 1, "after")
    made = release.account("acme").id
    planned = project.plan()
    assert "Left open by a run that was interrupted, or is still at it:" in planned.out
    assert f"it made {made}, which is taken into state" in planned.out
    (intent,) = project.plan("--format", "json").json["intents"]
    assert (intent["address"], intent["action"], intent["found"]) == (
        "accounts.acme",
        "create",
        [made],
    )
    assert_converges(project)
    assert release.names() == ["acme", "other"]


@pytest.mark.parametrize("way", ["id", "import", "delete"])
def test_two_accounts_that_could_be_it_are_shown_and_left_alone(
    release: World, project: Project, way: str
) -> None:
    project.declare({"fine": {}})
    project.settle()
    project.declare({"fine": {}, "acme": {"realm": "(left out)"}})
    killed_at(release, project, 1, "after")
    made = release.account("acme").id
    # As after an operator switched the uniqueness of names off.
    twin = release.create("twin")
    record = release.account("twin")
    release.platform.store.put(replace(record, document={**record.document, "name": "acme"}))
    release.log.clear()
    for refused in (project.plan(), project.apply()):
        assert refused.code == 3
        assert "open_intent" in refused.out
        assert made in refused.out
        assert twin in refused.out
    assert release.writes == []
    if way == "id":
        project.declare({"fine": {}, "acme": {"realm": "(left out)", "id": made}})
    elif way == "import":
        assert project.run("import", "acme", made).code == 0
    else:
        release.call("DELETE", f"/accounts/{twin}")
    assert_converges(project)
    assert project.state()["accounts"]["acme"]["id"] == made


def test_an_account_that_is_older_than_the_create_is_not_taken_for_it(
    release: World, project: Project
) -> None:
    """It came after the plan looked, so that the create was refused; the run was killed then."""
    project.declare({"fine": {}})
    project.settle()
    project.declare({"fine": {}, "acme": {}})
    killed_at(release, project, 1, "before")
    made = release.account("acme")
    release.platform.store.put(replace(made, created=made.created - 600))
    refused = project.apply()
    assert refused.code == 3
    assert made.id in refused.out
