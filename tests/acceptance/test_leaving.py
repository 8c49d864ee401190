"""Accounts that leave the YAML, change their key, or are taken in: nothing goes by silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import ROOT_ID

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Project, World


def two_applied(project: Project, **globex: JsonValue) -> None:
    project.declare({"acme": {}, "globex": globex})
    project.settle()


def leaving(destroy: bool) -> list[JsonValue]:
    return [{"account": "globex", "destroy": destroy}]


def assert_refused(project: Project, world: World, *words: str) -> None:
    """Neither plan nor apply goes on; both say why; nothing was sent."""
    world.log.clear()
    for ended in (project.plan(), project.apply()):
        assert ended.code == 3
        for word in words:
            assert word in ended.out
    assert world.writes == []


def test_absence_alone_deletes_nothing_and_names_both_ways_on(
    world: World, project: Project
) -> None:
    two_applied(project)
    project.declare({"acme": {}})
    assert_refused(
        project,
        world,
        "accounts.globex (globex) left the YAML",
        "removed: [{account: globex, destroy: false}]",
        "destroy: true",
    )
    assert world.names() == ["acme", "globex"]


def test_an_empty_yaml_deletes_nothing(world: World, project: Project) -> None:
    two_applied(project)
    project.declare({})
    assert_refused(project, world, "accounts.acme", "accounts.globex")


def test_forgetting_writes_nothing(world: World, project: Project) -> None:
    two_applied(project)
    world.log.clear()
    project.declare({"acme": {}}, removed=leaving(destroy=False))
    applied = project.apply()
    assert applied.code == 0
    assert "accounts.globex" in applied.out
    assert world.writes == []
    assert world.names() == ["acme", "globex"]
    assert list(project.state()["accounts"]) == ["acme"]
    assert project.plan().code == 0


def test_deleting_stays_within_the_limit(world: World, project: Project) -> None:
    two_applied(project)
    project.declare({"acme": {}}, removed=leaving(destroy=True))
    assert_refused(project, world, "max_delete", "--allow delete=1")
    deleted = world.account("globex").id
    applied = project.apply("--allow", "delete=1")
    assert applied.code == 0
    assert "1 deleted" in applied.out
    (entry,) = world.writes
    assert (entry.method, entry.path, entry.body) == ("DELETE", f"/accounts/{deleted}", {})
    assert world.names() == ["acme"]
    assert project.plan().code == 0


def test_a_limit_in_the_project_counts_too(release: World, project: Project) -> None:
    two_applied(project)
    safety: JsonObject = {"max_delete": 1}
    project.declare({"acme": {}}, removed=leaving(destroy=True), safety=safety)
    assert project.apply().code == 0
    assert release.names() == ["acme"]


def test_children_are_deleted_before_their_parents(world: World, project: Project) -> None:
    project.declare({"a": {}, "b": {"parent": "a"}, "c": {"parent": "b"}, "d": {"parent": "b"}})
    project.settle()
    world.log.clear()
    going: list[JsonValue] = [{"account": key, "destroy": True} for key in "abcd"]
    project.declare({}, removed=going)
    order = [world.account(name).id for name in "ba"]
    assert project.apply("--allow", "delete=4").code == 0
    assert [entry.status for entry in world.writes] == [200] * 4
    assert [entry.path.rpartition("/")[2] for entry in world.writes][2:] == order
    assert world.names() == []


def test_an_account_that_left_the_root_is_not_deleted(world: World, project: Project) -> None:
    api: JsonObject = {"account_id": world.create("mine")}
    project.declare({"acme": {}, "globex": {}}, api=api)
    project.settle()
    globex = world.account("globex").id
    world.call("POST", f"/accounts/{globex}/move", {"to": ROOT_ID})
    may: JsonObject = {"max_delete": 5}
    project.declare({"acme": {}}, removed=leaving(destroy=True), safety=may, api=api)
    assert_refused(project, world, "outside", globex)
    world.log.clear()
    assert project.run("destroy", "--auto-approve").code == 3
    assert world.writes == []
    project.declare({"acme": {}}, removed=leaving(destroy=False), safety=may, api=api)
    project.settle()


def test_what_has_something_below_it_is_not_deleted(world: World, project: Project) -> None:
    two_applied(project)
    world.create("stranger", world.account("globex").id)
    project.declare({"acme": {}}, removed=leaving(destroy=True), safety={"max_delete": 5})
    assert_refused(project, world, "has_descendants", "stranger")


@pytest.mark.parametrize("lifted", [False, True])
def test_prevent_destroy_holds_even_when_its_block_is_gone(
    world: World, project: Project, *, lifted: bool
) -> None:
    two_applied(project, lifecycle={"prevent_destroy": True})
    if lifted:
        project.declare({"acme": {}, "globex": {}})
        project.settle()
    project.declare({"acme": {}}, removed=leaving(destroy=True), safety={"max_delete": 5})
    if lifted:
        assert project.apply().code == 0
        assert world.names() == ["acme"]
    else:
        assert_refused(project, world, "prevent_destroy", "accounts.globex")


def test_destroy_obeys_prevent_destroy_and_the_limit(world: World, project: Project) -> None:
    two_applied(project, lifecycle={"prevent_destroy": True})
    world.log.clear()
    refused = project.run("destroy", "--auto-approve", "--allow", "delete=2")
    assert refused.code == 3
    assert "prevent_destroy" in refused.out
    assert project.run("destroy", "--auto-approve", "--target", "accounts.acme").code == 3
    assert world.writes == []
    one = project.run(
        "destroy", "--auto-approve", "--target", "accounts.acme", "--allow", "delete=1"
    )
    assert one.code == 0, one.out + one.err
    assert world.names() == ["globex"]


def test_destroy_obeys_prevent_destroy_that_was_never_applied(
    world: World, project: Project
) -> None:
    two_applied(project)
    project.declare({"acme": {}, "globex": {"lifecycle": {"prevent_destroy": True}}})
    world.log.clear()
    refused = project.run("destroy", "--auto-approve", "--allow", "delete=2")
    assert refused.code == 3
    assert "accounts.globex has lifecycle.prevent_destroy" in refused.out
    assert world.writes == []


@pytest.mark.parametrize("how", ["moved", "id"])
def test_destroy_obeys_a_block_under_a_new_key(world: World, project: Project, how: str) -> None:
    two_applied(project)
    block: JsonObject = {
        "name": "globex", "realm": "globex.sip.example.com",
        "lifecycle": {"prevent_destroy": True},
    }  # fmt: skip
    moved: list[JsonValue] = [{"from": "globex", "to": "renamed"}] if how == "moved" else []
    if how == "id":
        block["id"] = world.account("globex").id
    project.declare({"acme": {}, "renamed": block}, moved=moved)
    world.log.clear()
    refused = project.run("destroy", "--auto-approve", "--allow", "delete=2")
    assert refused.code == 3
    assert "accounts.globex has lifecycle.prevent_destroy" in refused.out
    assert world.writes == []


def test_destroy_obeys_limits_of_an_account_that_were_never_applied(
    world: World, project: Project
) -> None:
    two_applied(project)
    project.declare({"acme": {}, "globex": {"safety": {"max_delete": 0}}}, safety={"max_delete": 9})
    world.log.clear()
    refused = project.run("destroy", "--auto-approve")
    assert refused.code == 3
    assert "max_delete" in refused.out
    assert world.writes == []


def test_a_new_key_for_the_same_account_is_proposed_as_a_move(
    world: World, project: Project
) -> None:
    two_applied(project)
    renamed: JsonObject = {"name": "globex", "realm": "globex.sip.example.com"}
    project.declare({"acme": {}, "initech": renamed})
    assert_refused(project, world, "moved: [{from: globex, to: initech}]")
    moved: list[JsonValue] = [{"from": "globex", "to": "initech"}]
    project.declare({"acme": {}, "initech": renamed}, moved=moved)
    assert project.apply().code == 0
    assert world.writes == []
    assert list(project.state()["accounts"]) == ["acme", "initech"]
    assert project.plan().code == 0


@pytest.mark.parametrize("saved", [False, True])
def test_an_account_that_was_deleted_outside_is_made_again_under_its_new_key_alone(
    world: World, project: Project, saved: bool
) -> None:
    two_applied(project)
    world.call("DELETE", f"/accounts/{world.account('globex').id}")
    renamed: JsonObject = {"name": "globex", "realm": "globex.sip.example.com"}
    moved: list[JsonValue] = [{"from": "globex", "to": "initech"}]
    project.declare({"acme": {}, "initech": renamed}, moved=moved)
    if saved:
        assert project.run("plan", "--out", str(project.directory / "plan.json")).code == 0
        assert project.run("apply", str(project.directory / "plan.json")).code == 0
    else:
        assert project.apply().code == 0
    assert list(project.state()["accounts"]) == ["acme", "initech"]
    assert project.plan().code == 0
    assert world.names() == ["acme", "globex"]


def test_an_account_that_is_there_already_is_never_taken_silently(
    world: World, project: Project
) -> None:
    there = world.create("acme", language="en-us")
    project.declare({"acme": {"language": "de-de"}})
    assert_refused(project, world, there, f"id: {there}", f"reconciler import acme {there}")
    project.declare({"acme": {"language": "de-de", "id": there}})
    assert project.apply().code == 0
    (patch,) = world.writes
    assert patch.body == {"enabled": True, "language": "de-de"}
    project.declare({"acme": {"language": "de-de"}})
    assert project.plan().code == 0


def test_import_takes_an_account_in(world: World, project: Project) -> None:
    there = world.create("acme", language="en-us")
    project.declare({"acme": {"language": "en-us"}})
    world.log.clear()
    assert project.run("import", "acme", there).code == 0
    assert world.writes == []
    assert project.apply().code == 0
    assert world.writes == []
    assert project.plan().code == 0


@pytest.mark.parametrize("wrong", ["0" * 32, "a/../b", "a b", "é", "x" * 65])
def test_an_id_that_is_not_there_or_no_id_is_refused(
    world: World, project: Project, wrong: str
) -> None:
    project.declare({"acme": {"id": wrong}})
    ended = project.apply()
    assert ended.code in {1, 3}
    assert world.writes == []
    assert not any(wrong in entry.path for entry in world.log if len(wrong) != 32)


def test_a_destroy_that_was_interrupted_is_finished_and_not_undone(
    world: World, project: Project
) -> None:
    blocks: dict[str, JsonObject] = {"a": {}, "b": {"parent": "a"}, "c": {"parent": "b"}}
    project.declare(blocks, safety={"max_delete": 5})
    project.settle()
    world.fault(method="DELETE", path="/accounts/*", nth=2, times=None, status=403)
    assert project.run("destroy", "--auto-approve").code == 5
    assert world.names() == ["a", "b"]
    world.platform.faults.clear()
    ended = project.run("destroy", "--auto-approve")
    assert ended.code == 0, ended.out + ended.err
    assert world.names() == []
    assert project.state()["accounts"] == {}


def test_a_target_of_destroy_takes_along_what_stands_below_it(
    world: World, project: Project
) -> None:
    blocks: dict[str, JsonObject] = {"a": {}, "b": {"parent": "a"}, "c": {"parent": "b"}, "d": {}}
    project.declare(blocks, safety={"max_delete": 5})
    project.settle()
    ended = project.run("destroy", "--auto-approve", "--target", "accounts.b")
    assert ended.code == 0, ended.out + ended.err
    assert world.names() == ["a", "d"]
