"""What somebody changed behind Git's back is shown, and mended by an apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler.sandbox.options import ROOT_ID

if TYPE_CHECKING:
    from .conftest import Project, World


def two_applied(project: Project) -> None:
    project.declare({"acme": {"language": "en-us", "reseller": False}, "other": {}})
    project.settle()
    quiet = project.run("drift")
    assert (quiet.code, quiet.out) == (0, "No drift. 2 accounts are as they were applied.\n")


def assert_mended(project: Project, *arguments: str) -> None:
    applied = project.apply(*arguments)
    assert applied.code == 0, applied.err
    assert project.plan().code == 0
    assert project.run("drift").code == 0


def test_a_changed_field_is_drift(world: World, project: Project) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr", org="nobody declared that")
    world.log.clear()
    drift = project.run("drift")
    assert drift.code == 2
    assert '~ settings.language: "en-us" -> "fr-fr"' in drift.out
    assert "org" not in drift.out
    assert world.writes == []
    (change,) = project.run("drift", "--format", "json").json["changes"]
    assert change["address"] == "accounts.acme"
    (field,) = change["fields"]
    assert (field["path"], field["before"], field["after"]) == (
        "settings.language",
        "en-us",
        "fr-fr",
    )
    planned = project.plan()
    assert planned.code == 2
    assert '~ settings.language: "fr-fr" -> "en-us"  (changed outside)' in planned.out
    assert_mended(project)
    assert world.account("acme").document["language"] == "en-us"


def test_a_removed_field_is_drift(release: World, project: Project) -> None:
    two_applied(project)
    release.patch("acme", language=None)
    assert '- settings.language: "en-us"' in project.run("drift").out
    assert_mended(project)


def test_a_deleted_account_is_drift_and_made_again(world: World, project: Project) -> None:
    two_applied(project)
    gone = world.account("acme").id
    world.call("DELETE", f"/accounts/{gone}")
    drift = project.run("drift")
    assert drift.code == 2
    assert "accounts.acme" in drift.out
    assert "was deleted outside" in drift.out
    planned = project.plan()
    assert "accounts.acme" in planned.out
    assert "1 to create" in planned.out
    assert_mended(project)
    assert world.account("acme").id != gone


def test_what_is_dangerous_of_drift_stands_at_its_end_and_first_in_reports(
    world: World, project: Project
) -> None:
    accounts: dict[str, Any] = {"top": {"reseller": True}, "gone": {}}
    accounts |= {f"s{n:02}": {"parent": "top", "language": "en-us"} for n in range(12)}
    project.declare(accounts)
    project.settle()
    for n in range(12):
        world.patch(f"s{n:02}", language="fr-fr")
    world.call("DELETE", f"/accounts/{world.account('gone').id}")
    report = project.directory / "drift.md"
    drift = project.run("drift", "--report", str(report))
    assert drift.code == 2
    _, _, end = drift.out.partition("\nDangerous:\n")
    assert end.startswith("  accounts.gone (gone): was deleted outside\n")
    comment = report.read_text()
    assert "- `accounts.gone (gone): was deleted outside`\n" in comment
    assert '`~ settings.language: "en-us" -> "fr-fr" on 12 accounts (top 12)`' in comment
    assert "accounts as told above." in comment
    assert "accounts.s05" not in comment


def test_a_deleted_tree_is_made_again(world: World, project: Project) -> None:
    project.declare({"top": {"reseller": True}, "below": {"parent": "top"}})
    project.settle()
    for name in ("below", "top"):
        world.call("DELETE", f"/accounts/{world.account(name).id}")
    assert_mended(project)
    assert world.tree() == {"top": "root", "below": "top"}
    assert world.resellers() == ["top"]


def test_a_moved_account_is_drift_and_moved_back(world: World, project: Project) -> None:
    two_applied(project)
    acme, other = world.account("acme").id, world.account("other").id
    world.call("POST", f"/accounts/{acme}/move", {"to": other})
    drift = project.run("drift")
    assert drift.code == 2
    assert '~ parent: "root" -> "other"' in drift.out
    assert_mended(project)
    assert world.tree() == {"acme": "root", "other": "root"}


def test_an_account_moved_to_nowhere_comes_back(world: World, project: Project) -> None:
    """The platform takes a move to an id that nothing has, and loses sight of the account."""
    two_applied(project)
    acme = world.account("acme").id
    world.call("POST", f"/accounts/{acme}/move", {"to": "f" * 32})
    assert project.run("drift").code == 2
    assert_mended(project)
    assert world.tree() == {"acme": "root", "other": "root"}


def test_a_promoted_account_is_drift_and_demoted_if_that_is_allowed(
    world: World, project: Project
) -> None:
    two_applied(project)
    world.call("PUT", f"/accounts/{world.account('acme').id}/reseller", {}, expect=201)
    drift = project.run("drift")
    assert drift.code == 2
    assert "~ reseller: false -> true" in drift.out
    assert project.apply().code == 3
    assert_mended(project, "--allow", "demote=1")
    assert world.resellers() == []


def test_a_disabled_account_that_is_declared_enabled_is_enabled(
    world: World, project: Project
) -> None:
    project.declare({"acme": {"enabled": True}})
    project.settle()
    world.call("PATCH", f"/accounts/{world.account('acme').id}", {"enabled": False})
    assert "~ settings.enabled: true -> false" in project.run("drift").out
    assert_mended(project)
    assert world.account("acme").enabled is True


def test_an_account_that_nobody_manages_is_no_drift(world: World, project: Project) -> None:
    two_applied(project)
    world.create("stranger", ROOT_ID)
    below = world.create("below", world.account("acme").id)
    assert project.run("drift").code == 0
    assert project.plan().code == 0
    told = project.run("drift", "--unmanaged")
    assert told.code == 2
    assert f"+ {below} (below) below acme: realm below.sip.example.com, created 20" in told.out
    assert "Drift: 0 accounts changed outside, 2 unchanged, 2 that nobody manages." in told.out
    document = project.run("drift", "--unmanaged", "--format", "json").json
    assert [(one["name"], one["parent"]) for one in document["unmanaged"]] in (
        [("stranger", "root"), ("below", "acme")],
        [("below", "acme"), ("stranger", "root")],
    )
    assert all(one["revision"] and one["request_id"] for one in document["unmanaged"])
    only = project.run("drift", "--unmanaged", "--target", "accounts.acme", "--format", "json")
    assert [one["name"] for one in only.json["unmanaged"]] == ["below"]


def test_a_rank_that_nobody_declares_is_drift_until_an_apply_takes_note(
    world: World, project: Project
) -> None:
    two_applied(project)
    world.promote("other")
    drift = project.run("drift")
    assert drift.code == 2
    assert "~ reseller: false -> true" in drift.out
    assert_mended(project)
    assert world.resellers() == ["other"]


def test_drift_tells_when_as_far_as_the_platform_does(world: World, project: Project) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr")
    (change,) = project.run("drift", "--format", "json").json["changes"]
    record = project.state()["accounts"]["acme"]
    assert change["applied_at"] == record["updated_at"]
    assert change["applied_revision"] == record["etag"]
    assert change["revision"] not in (record["etag"], None)
    assert change["created"].startswith("20")
    assert change["request_id"]
    assert change["fields"][0]["source"]["file"] == "reconciler.yaml"
    told = project.run("drift").out
    assert f"revision {record['etag'][:8]}, applied {record['updated_at']}; now" in told


def test_a_rank_that_left_the_yaml_and_was_taken_outside_is_no_drift(
    world: World, project: Project
) -> None:
    project.declare({"acme": {"reseller": True}})
    project.settle()
    world.call("DELETE", f"/accounts/{world.account('acme').id}/reseller")
    assert project.run("drift").code == 2
    project.declare({"acme": {}})
    assert project.run("drift").code == 0
    project.settle()


def test_an_account_that_left_the_yaml_and_the_platform_is_no_drift(
    world: World, project: Project
) -> None:
    two_applied(project)
    world.call("DELETE", f"/accounts/{world.account('acme').id}")
    project.declare({"other": {}})
    assert project.run("drift").code == 0
    project.settle()


# --- known drift -------------------------------------------------------------------------------


def knowing(project: Project, accounts: dict[str, Any], **entry: str) -> None:
    """Declare accounts, and one entry of known drift."""
    entry = {"account": "acme", "reason": "a test of theirs", "until": "2999-12-31", **entry}
    project.declare(accounts, drift={"accept": [{**entry}]})


def test_known_drift_is_shown_apart_and_left_alone(world: World, project: Project) -> None:
    accounts: dict[str, Any] = {"acme": {"language": "en-us", "reseller": False}, "other": {}}
    two_applied(project)
    world.patch("acme", language="fr-fr")
    knowing(project, accounts, path="settings.language")
    drift = project.run("drift")
    assert drift.code == 0
    assert 'language: "en-us" -> "fr-fr"  (until 2999-12-31: a test of theirs)' in drift.out
    assert "No drift. 1 account is as it was applied, 1 with known drift alone." in drift.out
    planned = project.plan()
    assert planned.code == 0
    assert "Known drift, left alone:" in planned.out
    (told,) = project.plan("--format", "json").json["known"]
    assert (told["path"], told["before"], told["after"]) == ("settings.language", "fr-fr", "en-us")
    serial = project.state()["serial"]
    for _ in range(2):
        world.log.clear()
        assert project.apply().code == 0
        assert world.writes == []
        assert project.run("drift").code == 0
    assert project.state()["serial"] == serial + 1  # what was seen live, once
    (known,) = project.run("drift", "--format", "json").json["known"]
    assert (known["path"], known["before"], known["after"], known["reason"], known["until"]) == (
        "settings.language", "en-us", "fr-fr", "a test of theirs", "2999-12-31",
    )  # fmt: skip


def test_known_drift_stays_alone_while_the_rest_of_the_account_is_changed(
    world: World, project: Project
) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr")
    accounts: dict[str, Any] = {
        "acme": {"language": "en-us", "org": "Acme", "reseller": False},
        "other": {},
    }
    knowing(project, accounts, path="language")
    saved = project.directory / "plan.json"
    assert project.plan("--out", str(saved)).code == 2
    assert "Known drift, left alone:" in project.run("show", str(saved)).out
    assert project.run("apply", str(saved)).code == 0
    document = world.account("acme").document
    assert (document["language"], document["org"]) == ("fr-fr", "Acme")
    assert project.plan().code == 0
    assert project.run("drift").code == 0
    project.declare(accounts)
    assert project.run("drift").code == 2
    assert_mended(project)
    assert world.account("acme").document["language"] == "en-us"


def test_known_drift_comes_back_when_it_is_over(world: World, project: Project) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr")
    accounts: dict[str, Any] = {"acme": {"language": "en-us", "reseller": False}, "other": {}}
    knowing(project, accounts, path="settings.language", until="2020-02-29")
    drift = project.run("drift")
    assert drift.code == 2
    assert "reconciler.yaml:" in drift.err
    assert "was known drift until 2020-02-29" in drift.err
    assert_mended(project)


def test_a_move_and_a_promotion_can_be_known(world: World, project: Project) -> None:
    accounts: dict[str, Any] = {"acme": {"reseller": False}, "other": {}}
    two_applied(project)
    acme = world.account("acme").id
    world.call("POST", f"/accounts/{acme}/move", {"to": world.account("other").id})
    world.promote("acme")
    entries: list[Any] = [
        {"account": "accounts.ac*", "path": path, "reason": "r", "until": "2999-12-31"}
        for path in ("parent", "reseller")
    ]
    accounts["acme"]["language"] = "en-us"
    project.declare(accounts, drift={"accept": entries})
    assert project.run("drift").code == 0
    project.settle()
    assert project.apply().code == 0
    assert world.tree() == {"acme": "other", "other": "root"}
    assert world.resellers() == ["acme"]
    project.declare(accounts)
    assert project.run("drift").code == 2
    assert_mended(project, "--allow", "demote=1")
    assert world.tree() == {"acme": "root", "other": "root"}


def test_what_is_declared_anew_is_applied_where_nobody_drifted(
    world: World, project: Project
) -> None:
    two_applied(project)
    accounts: dict[str, Any] = {"acme": {"language": "de-de", "reseller": False}, "other": {}}
    knowing(project, accounts, path="settings.language")
    project.settle()
    assert world.account("acme").document["language"] == "de-de"


def test_since_state_leaves_out_what_state_has_seen(world: World, project: Project) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr")
    assert project.run("drift", "--since-state").code == 2
    accounts: dict[str, Any] = {
        "acme": {"language": "en-us", "reseller": False, "org": "x"},
        "other": {},
    }
    knowing(project, accounts, path="settings.language")
    project.settle()
    project.declare(accounts)
    assert project.run("drift").code == 2
    assert project.run("drift", "--since-state").code == 0
    world.patch("acme", language="de-de")
    assert project.run("drift", "--since-state").code == 2


def test_malformed_entries_of_known_drift_are_told_where_they_stand(project: Project) -> None:
    project.write(
        "reconciler.yaml",
        """version: 1
api: {url: "sandbox:"}
drift:
  accept:
    - {account: acme, path: "a..b", reason: r, until: 2026-12-31}
    - {account: acme, path: language, reason: r, until: 2026-02-30}
    - {account: acme, path: language, reason: r, until: "2026-1-5"}
    - {account: "a b", path: language, reason: r, until: 2026-12-31}
""",
    )
    told = project.run("validate")
    assert told.code == 1
    for place in ("5:29", "6:57", "7:57", "8:17"):
        assert f"reconciler.yaml:{place}:" in told.err, (place, told.err)


def test_what_the_yaml_has_come_to_say_is_no_drift(world: World, project: Project) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr")
    assert project.run("drift").code == 2
    project.declare({"acme": {"language": "fr-fr", "reseller": False}, "other": {}})
    assert project.run("drift").code == 0
    assert project.plan().code == 0
    world.log.clear()
    assert project.apply().code == 0
    assert world.writes == []
    assert project.run("drift").code == 0
