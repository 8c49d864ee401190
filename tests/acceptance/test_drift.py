"""What somebody changed behind Git's back is shown, and mended by an apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    world.create("below", world.account("acme").id)
    assert project.run("drift").code == 0
    assert project.plan().code == 0


def test_drift_and_declaration_in_one_field_are_told_apart(world: World, project: Project) -> None:
    two_applied(project)
    world.patch("acme", language="fr-fr")
    project.declare({"acme": {"language": "fr-fr", "reseller": False}, "other": {}})
    assert project.run("drift").code == 2
    world.log.clear()
    assert project.apply().code == 0
    assert world.writes == []
    assert project.run("drift").code == 0
