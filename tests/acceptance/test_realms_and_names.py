"""A realm, and as a rule a name, belongs to one account of the platform at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from reconciler.render.schema import plan_schema
from reconciler.sandbox.options import ROOT_ID, SandboxOptions

from .conftest import LEFT_OUT, NO_SUCH

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Ended, Project, Serve, World

MAY_DELETE: JsonObject = {"max_delete": 9, "max_update_percent": 100}


def realm(name: str) -> str:
    return f"{name}.sip.example.com"


def leaving(key: str, *, destroy: bool) -> list[JsonValue]:
    return [{"account": key, "destroy": destroy}]


def assert_applied(project: Project) -> None:
    """All of it is done at once, and nothing is left to do."""
    applied = project.apply()
    assert applied.code == 0, applied.out + applied.err
    planned = project.plan()
    assert planned.code == 0, planned.out


def assert_refused(project: Project, world: World, *words: str, target: str = "") -> None:
    """Plan and apply refuse with these words, and nothing was sent."""
    world.log.clear()
    chosen = ("--target", target) if target else ()
    for ended in (project.plan(*chosen), project.apply(*chosen)):
        assert ended.code == 3, ended.out + ended.err
        for word in words:
            assert word in ended.out
    assert world.writes == []
    assert valid(project.plan("--format", "json", *chosen))["operations"] is not None


def valid(ended: Ended) -> JsonObject:
    document: JsonObject = ended.json
    Draft202012Validator(plan_schema()).validate(document)
    return document


# --- a realm that another account keeps ---


def test_a_forgotten_account_keeps_its_realm(world: World, project: Project) -> None:
    project.declare({"c": {}})
    project.settle()
    new: dict[str, JsonObject] = {"n": {"realm": realm("C")}}
    project.declare(new, removed=leaving("c", destroy=False))
    moved = "moved: [{from: c, to: n}]"
    assert_refused(project, world, "exists: accounts.n", "accounts.c", "its realm", moved)
    project.declare(new, moved=[{"from": "c", "to": "n"}])
    assert_applied(project)
    assert world.names() == ["n"]


def test_a_forgotten_account_keeps_its_place_where_no_realm_is_declared(
    world: World, project: Project
) -> None:
    project.declare({"c": {}})
    project.settle()
    project.declare({"n": {"name": "c", "realm": LEFT_OUT}}, removed=leaving("c", destroy=False))
    assert_refused(project, world, "exists: accounts.n", "accounts.c", "its name and parent")


@pytest.mark.parametrize("new", [True, False])
def test_an_account_whose_realm_is_not_declared_keeps_it(
    world: World, project: Project, *, new: bool
) -> None:
    accounts: dict[str, JsonObject] = {"c": {}} if new else {"a": {}, "c": {}}
    project.declare(accounts)
    project.settle()
    project.declare({"a": {"realm": realm("c")}, "c": {"realm": LEFT_OUT}})
    verb = "be created with" if new else "get"
    words = (
        f"accounts.a would {verb} the realm {realm('c')}",
        f"accounts.c ({world.account('c').id})",
    )
    assert_refused(project, world, "exists: ", *words)
    project.declare({"a": {"realm": realm("c")}, "c": {"realm": realm("d")}})
    assert_applied(project)


@pytest.mark.parametrize("nobody", ["stranger", "the root"])
def test_a_realm_of_an_account_that_nobody_manages_is_not_taken(
    world: World, project: Project, nobody: str
) -> None:
    project.declare({"a": {}})
    project.settle()
    stranger = world.create("stranger") if nobody == "stranger" else ROOT_ID
    taken = str(world.call("GET", f"/accounts/{stranger}")["realm"])
    project.declare({"a": {"realm": taken.upper()}})
    assert_refused(project, world, "exists: accounts.a would get the realm", stranger)


def test_a_forgotten_account_keeps_its_realm_from_an_update_too(
    world: World, project: Project
) -> None:
    project.declare({"a": {}, "c": {}})
    project.settle()
    project.declare({"a": {"realm": realm("c")}}, removed=leaving("c", destroy=False))
    assert_refused(project, world, "exists: accounts.a would get the realm", "accounts.c (")


def test_what_is_not_a_target_keeps_its_realm(world: World, project: Project) -> None:
    project.declare({"a": {}, "c": {}})
    project.settle()
    project.declare({"a": {"realm": realm("c")}, "c": {"realm": realm("d")}})
    assert_refused(project, world, "exists: accounts.a", "accounts.c (", target="accounts.a")
    assert_applied(project)


def test_two_accounts_that_exist_do_not_both_get_one_realm(world: World, project: Project) -> None:
    """What has an `id:` may be declared with one realm, since the platform may have let it be so."""
    shared: dict[str, JsonObject] = {
        name: {"id": world.create(name), "realm": realm("new")} for name in "ab"
    }
    project.declare(shared)
    assert_refused(project, world, "exists: accounts.b would get", "accounts.a is to have it")


def test_what_left_the_yaml_is_told_once(world: World, project: Project) -> None:
    """Where its key changed, the way on is `moved`, not another realm."""
    project.declare({"c": {}})
    project.settle()
    project.declare({"n": {"realm": realm("c")}})
    assert_refused(project, world, "left_the_yaml: ")
    assert "exists: " not in project.plan().out


# --- who frees it comes first ---


def test_a_chain_of_realms_goes_from_its_end(world: World, project: Project) -> None:
    project.declare({"a": {}, "b": {}, "c": {}})
    project.settle()
    project.declare(
        {"a": {"realm": realm("b")}, "b": {"realm": realm("C")}, "c": {"realm": realm("d")}}
    )
    world.log.clear()
    assert_applied(project)
    assert world.calls() == [("PATCH", "c"), ("PATCH", "b"), ("PATCH", "a")]
    assert world.account("a").document["realm"] == realm("b")


def test_a_chain_of_names_goes_from_its_end(world: World, project: Project) -> None:
    project.declare({"a": {}, "b": {}})
    project.settle()
    first, second = world.account("a").id, world.account("b").id
    project.declare({"a": {"name": "B."}, "b": {"name": "new"}})
    world.log.clear()
    assert_applied(project)
    assert [entry.path.split("/")[2] for entry in world.writes] == [second, first]


@pytest.mark.parametrize("what", [{"name": "C!"}, {"realm": realm("C")}])
def test_a_new_account_waits_for_the_delete_of_the_one_whose_name_or_realm_it_gets(
    world: World, project: Project, what: JsonObject
) -> None:
    project.declare({"c": {}})
    project.settle()
    project.declare({"a": what}, removed=leaving("c", destroy=True), safety=MAY_DELETE)
    world.log.clear()
    assert_applied(project)
    assert [entry.method for entry in world.writes] == ["DELETE", "PUT"]


@pytest.mark.parametrize("what", [{"name": "C!"}, {"realm": realm("C")}])
def test_an_update_waits_for_the_delete_of_the_one_whose_name_or_realm_it_gets(
    world: World, project: Project, what: JsonObject
) -> None:
    project.declare({"a": {}, "c": {}})
    project.settle()
    project.declare({"a": what}, removed=leaving("c", destroy=True), safety=MAY_DELETE)
    world.log.clear()
    assert_applied(project)
    assert [entry.method for entry in world.writes] == ["DELETE", "PATCH"]


def test_a_new_account_waits_for_the_update_that_frees_its_realm(
    world: World, project: Project
) -> None:
    project.declare({"z": {}})
    project.settle()
    project.declare({"a": {"realm": realm("z")}, "z": {"realm": realm("y")}})
    world.log.clear()
    assert_applied(project)
    assert [entry.method for entry in world.writes] == ["PATCH", "PUT"]


def test_what_waits_for_a_realm_that_stays_taken_is_not_sent(
    world: World, project: Project
) -> None:
    project.declare({"a": {}, "b": {}, "c": {}, "d": {}})
    project.settle()
    project.declare(
        {
            "a": {"realm": realm("b")},
            "b": {"realm": realm("c")},
            "c": {"realm": realm("e")},
            "d": {"language": "de-de"},
        }
    )
    world.fault(method="PATCH", path=f"/accounts/{world.account('c').id}", status=400)
    world.log.clear()
    applied = project.apply()
    assert applied.code == 5
    assert applied.err.count("skipped: accounts.c could not be updated before") == 2
    assert world.calls() == [("PATCH", "d")]
    assert_applied(project)


# --- rings ---


@pytest.mark.parametrize("what", ["name", "realm"])
def test_a_swap_is_refused_and_its_way_out_works(world: World, project: Project, what: str) -> None:
    def named(of: str) -> JsonObject:
        return {what: of if what == "name" else realm(of)}

    project.declare({"a": {}, "b": {}})
    project.settle()
    swapped: dict[str, JsonObject] = {"a": named("b"), "b": named("a")}
    project.declare(swapped)
    assert_refused(
        project,
        world,
        f"swap: accounts.a is to have the {what} of accounts.b, accounts.b is to have the {what} of"
        " accounts.a",
        f"Declare another {what} for accounts.a, apply, then declare this one again.",
    )
    project.declare({**swapped, "a": named("meanwhile")})
    assert_applied(project)
    project.declare(swapped)
    assert_applied(project)


def test_all_that_is_refused_is_told_at_once(world: World, project: Project) -> None:
    project.declare({key: {} for key in "abcdef"})
    project.settle()
    ring = {"a": "b", "b": "c", "c": "a", "d": "e", "e": "d"}
    accounts: dict[str, JsonObject] = {
        key: {"realm": realm(of), "name": of} for key, of in ring.items()
    }
    project.declare(accounts)
    words = "accounts.c is to have the realm of accounts.a", "another name and realm for accounts.d"
    assert_refused(
        project, world, "left_the_yaml: accounts.f", "another name and realm for accounts.a", *words
    )


def test_a_ring_through_a_move_is_refused(world: World, project: Project) -> None:
    project.declare({"c": {}, "x": {"parent": "c"}})
    project.settle()
    project.declare(
        {"n": {"name": "C"}, "x": {"parent": "n"}},
        removed=leaving("c", destroy=True),
        safety=MAY_DELETE,
    )
    assert_refused(project, world, "swap: accounts.n is to have the name of accounts.c")


# --- saved plans ---


def test_an_account_can_go_below_a_new_one_that_gets_its_name_and_realm(
    world: World, project: Project
) -> None:
    project.declare({"acme": {}, "other": {}})
    project.settle()
    project.declare(
        {
            "new": {"name": "acme", "realm": realm("acme"), "reseller": True},
            "acme": {"name": "acme east", "realm": realm("east"), "parent": "new"},
            "other": {},
        }
    )
    assert_applied(project)
    assert world.tree() == {"acme": "root", "acme east": "acme", "other": "root"}


@pytest.mark.usefixtures("world")
def test_a_name_that_a_forgotten_account_keeps_is_warned_of(project: Project) -> None:
    project.declare({"c": {"name": "Acme, Inc."}})
    project.settle()
    new: dict[str, JsonObject] = {"n": {"name": "ACME INC", "realm": realm("n")}}
    project.declare(new, removed=leaving("c", destroy=False))
    planned = project.plan()
    assert planned.code == 2
    assert "accounts.n: settings.name: accounts.c (" in planned.err


def test_an_account_that_is_listed_keeps_its_place_though_its_own_get_fails_once(
    serve: Serve, project: Project
) -> None:
    world = serve(SandboxOptions(rate_limit=False, log_requests=True, unique_names=False))
    path = f"/accounts/{world.create('acme')}"
    world.fault(method="GET", path=path, status=404, body=NO_SUCH)
    project.declare({"n": {"name": "acme", "realm": LEFT_OUT}})
    assert_refused(project, world, "exists: accounts.n")


def test_where_names_are_equal_none_is_warned_of(serve: Serve, project: Project) -> None:
    world = serve(SandboxOptions(rate_limit=False, unique_names=False))
    for number in range(2):
        world.create("Acme", realm=f"{number}.example.com")
    project.declare({"n": {"name": "ACME", "realm": realm("n")}})
    planned = project.plan()
    assert (planned.code, planned.err) == (2, "")
    assert_applied(project)


# --- views that lag ---


@pytest.mark.parametrize("how", ["deleted", "changed"])
@pytest.mark.parametrize("by", ["a new account", "another"])
def test_what_is_let_go_of_is_waited_for_where_the_platform_looks_into_views_that_lag(
    serve: Serve, project: Project, how: str, by: str
) -> None:
    world = serve(SandboxOptions(rate_limit=False, view_lag_ms=700))
    project.declare({"x": {}, "y": {}})
    assert project.apply().code == 0
    key = "n" if by == "a new account" else "y"
    accounts: dict[str, JsonObject] = {"y": {}, key: {"realm": realm("x")}}
    if how == "changed":
        project.declare({**accounts, "x": {"realm": realm("else")}})
    else:
        project.declare(accounts, removed=leaving("x", destroy=True), safety=MAY_DELETE)
    assert_applied(project)
    assert world.account(key).document["realm"] == realm("x")


def test_a_deleted_account_that_is_listed_still_keeps_nothing(
    serve: Serve, project: Project
) -> None:
    serve(SandboxOptions(rate_limit=False, view_lag_ms=1500))
    project.declare({"x": {}})
    assert project.apply().code == 0
    project.declare({}, removed=leaving("x", destroy=True), safety=MAY_DELETE)
    assert project.apply().code == 0
    project.declare({"n": {"realm": realm("x")}})
    planned = project.plan()
    assert planned.code == 2, planned.out


def test_a_saved_plan_keeps_the_order(world: World, project: Project, tmp_path: Path) -> None:
    project.declare({"a": {}, "b": {}, "c": {}})
    project.settle()
    project.declare(
        {"a": {"realm": realm("b")}, "b": {"realm": realm("c")}, "n": {"name": "C"}},
        removed=leaving("c", destroy=True),
        safety=MAY_DELETE,
    )
    file = str(tmp_path / "plan.json")
    planned = valid(project.run("plan", "--out", file, "--format", "json"))
    operations = planned["operations"]
    assert isinstance(operations, list)
    edges = project.run("graph", "--operations", file, "--format", "json").json["edges"]
    assert edges == [{"from": "1", "to": "2"}, {"from": "2", "to": "3"}, {"from": "1", "to": "4"}]
    world.log.clear()
    applied = project.run("apply", file)
    assert applied.code == 0, applied.err
    assert world.calls()[0][0] == "DELETE"
    assert [path for method, path in world.calls() if method == "PATCH"] == ["b", "a"]
    assert project.plan().code == 0
