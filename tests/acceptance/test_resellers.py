"""Promotions, demotions and moves: the platform refuses most orders, and takes those sent here."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reconciler.sandbox.app import Platform
from reconciler.sandbox.options import BASE_PATH, ROOT_API_KEY, ROOT_ID, SandboxOptions
from reconciler.sandbox.wire import Request

from .conftest import served

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.records import Record

    from .conftest import Project, Serve, World

EVERYTHING = ("--allow", "delete=99,demote=99,update=100%,reparent")


def redeclared(project: Project, world: World, accounts: dict[str, JsonObject]) -> None:
    project.declare(accounts)
    world.log.clear()


def test_reseller_true_on_an_account_that_is_there_is_one_put(
    world: World, project: Project
) -> None:
    project.declare({"acme": {}, "customer": {"parent": "acme"}})
    project.settle()
    redeclared(project, world, {"acme": {"reseller": True}, "customer": {"parent": "acme"}})
    assert project.apply().code == 0
    (put,) = world.writes
    acme = world.account("acme")
    assert (put.method, put.path, put.status) == ("PUT", f"/accounts/{acme.id}/reseller", 201)
    assert (put.body, put.query) == ({"name": "acme"}, {})
    assert acme.is_reseller
    shown = world.call("GET", f"/accounts/{world.account('customer').id}")
    assert shown["reseller_id"] == acme.id
    assert project.plan().code == 0


def test_reseller_false_is_one_delete_without_a_body_if_that_is_allowed(
    world: World, project: Project
) -> None:
    project.declare({"acme": {"reseller": True}})
    project.settle()
    redeclared(project, world, {"acme": {"reseller": False}})
    for ended in (project.plan(), project.apply()):
        assert ended.code == 3
        assert "--allow demote=1" in ended.out
    assert world.writes == []
    assert project.apply("--allow", "demote=1").code == 0
    (entry,) = world.writes
    path = f"/accounts/{world.account('acme').id}/reseller"
    assert (entry.method, entry.path, entry.body) == ("DELETE", path, {})
    assert world.resellers() == []
    assert project.plan().code == 0


def test_reseller_that_leaves_the_yaml_after_true_is_a_demotion(
    world: World, project: Project
) -> None:
    project.declare({"acme": {"reseller": True}})
    project.settle()
    project.declare({"acme": {}})
    assert project.apply().code == 3
    assert project.apply("--allow", "demote=1").code == 0
    assert world.resellers() == []
    assert project.plan().code == 0


def test_a_rank_that_nobody_declared_is_left_alone(world: World, project: Project) -> None:
    project.declare({"acme": {}})
    project.settle()
    world.call("PUT", f"/accounts/{world.account('acme').id}/reseller", {}, expect=201)
    redeclared(project, world, {"acme": {"language": "de-de"}})
    project.settle()
    assert [entry.method for entry in world.writes] == ["PATCH"]
    assert world.resellers() == ["acme"]


def test_promoting_above_a_declared_reseller_demotes_it_for_the_time_being(
    world: World, project: Project
) -> None:
    accounts: dict[str, JsonObject] = {
        "top": {},
        "middle": {"parent": "top"},
        "low": {"parent": "middle", "reseller": True},
    }
    project.declare(accounts)
    project.settle()
    redeclared(project, world, {**accounts, "top": {"reseller": True}})
    refused = project.plan()
    assert refused.code == 3
    assert "max_demote" in refused.out
    assert "accounts.low will be demoted and promoted again (temporary)" in refused.out
    assert project.apply("--allow", "reparent").code == 0
    assert world.calls() == [
        ("DELETE", "low/reseller"),
        ("PUT", "top/reseller"),
        ("PUT", "low/reseller"),
    ]
    assert all(entry.status in {200, 201} for entry in world.writes)
    assert world.resellers() == ["low", "top"]
    assert project.plan().code == 0


def test_a_reseller_that_nobody_declared_is_demoted_for_a_moment_if_that_is_allowed(
    world: World, project: Project
) -> None:
    project.declare({"top": {}})
    project.settle()
    stranger = world.create("stranger", world.account("top").id)
    world.call("PUT", f"/accounts/{stranger}/reseller", {}, expect=201)
    redeclared(project, world, {"top": {"reseller": True}})
    refused = project.apply()
    assert refused.code == 3
    assert "--allow reparent" in refused.out
    assert f"accounts.{stranger} will be demoted and promoted again (temporary)" in refused.out
    assert world.writes == []
    assert project.apply("--allow", "reparent").code == 0
    assert world.calls() == [
        ("DELETE", "stranger/reseller"),
        ("PUT", "top/reseller"),
        ("PUT", "stranger/reseller"),
    ]
    assert world.resellers() == ["stranger", "top"]
    assert "owed" not in project.state()
    assert project.plan().code == 0


def test_a_token_that_may_not_promote_is_found_out_before_anything_is_sent(
    serve: Serve, project: Project
) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, superduper=False))
    project.declare({"acme": {"reseller": True}, "plain": {}})
    refused = project.apply()
    assert refused.code == 3
    assert "superduper" in refused.out
    assert world.writes == []


def test_a_move_is_one_post(world: World, project: Project) -> None:
    project.declare({"a": {}, "b": {}, "c": {"parent": "a"}, "d": {"parent": "c"}})
    project.settle()
    redeclared(project, world, {"a": {}, "b": {}, "c": {"parent": "b"}, "d": {"parent": "c"}})
    assert project.apply().code == 0
    assert world.calls() == [("POST", "c/move")]
    assert world.writes[0].body == {"to": world.account("b").id}
    assert world.tree() == {"a": "root", "b": "root", "c": "b", "d": "c"}
    assert project.plan().code == 0


def test_parent_and_child_can_change_places(world: World, project: Project) -> None:
    project.declare({"a": {"reseller": True}, "b": {"parent": "a", "reseller": True}})
    project.settle()
    redeclared(project, world, {"b": {"reseller": True}, "a": {"parent": "b", "reseller": True}})
    applied = project.apply(*EVERYTHING)
    assert applied.code == 0, applied.err
    assert all(entry.status in {200, 201} for entry in world.writes)
    assert world.tree() == {"a": "b", "b": "root"}
    assert world.resellers() == ["a", "b"]
    assert project.plan().code == 0


# --- any tree to any other ---

KEYS = [f"k{number}" for number in range(8)]


@st.composite
def trees(draw: st.DrawFn) -> dict[str, JsonObject]:
    """Some of the keys, each below one that was drawn before or the root, with any rank."""
    accounts: dict[str, JsonObject] = {}
    for key in draw(st.permutations(KEYS))[: draw(st.integers(1, len(KEYS)))]:
        block: JsonObject = {"parent": draw(st.sampled_from(["root", *accounts]))}
        rank = draw(st.sampled_from([True, True, False, None]))
        if rank is not None:
            block["reseller"] = rank
        if draw(st.booleans()):
            block["language"] = draw(st.sampled_from(["de-de", "fr-fr"]))
        accounts[key] = block
    return accounts


def the_applied(project: Project, accounts: dict[str, JsonObject], gone: list[str]) -> None:
    """Apply; every write is answered 2xx, the plan after it is empty, and all is as declared."""
    removed: list[JsonValue] = [{"account": key, "destroy": True} for key in gone]
    top: JsonObject = {"api": {"url": "sandbox:"}, "removed": removed}
    project.declare(accounts, **top)
    log = project.directory / "log"
    log.unlink(missing_ok=True)
    observed = ("--format", "json", "--log-level", "debug", "--log-file", str(log))
    applied = project.apply(*EVERYTHING, *observed)
    assert applied.code == 0, applied.out + applied.err
    sent = re.findall(r"(PUT|PATCH|POST|DELETE) (/accounts\S*) (\d+)", log.read_text())
    assert len(sent) >= len(applied.json["operations"])
    assert all(status in {"200", "201"} for _, _, status in sent)
    assert {result["status"] for result in applied.json["results"]} <= {"done"}
    assert project.plan().code == 0


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.generate],  # an example takes a third of a second: too slow to be made smaller
)
@given(before=trees(), after=trees())
def test_any_tree_becomes_any_other(
    project: Project,
    before: dict[str, JsonObject],
    after: dict[str, JsonObject],
) -> None:
    shutil.rmtree(project.directory)
    the_applied(project, before, [])
    the_applied(project, after, sorted(before.keys() - after.keys()))
    state = project.state()["accounts"]
    assert sorted(state) == sorted(after)
    ids = {record["id"]: key for key, record in state.items()}
    for key, block in after.items():
        assert ids.get(state[key]["parent_id"], "root") == block["parent"]
        assert state[key]["reseller"] is (block.get("reseller") is True)


class Outside:
    """Somebody else at the embedded sandbox of a project, between two commands."""

    def __init__(self, project: Project) -> None:
        file = project.directory / ".reconciler" / "sandbox.db"
        self.platform = Platform(SandboxOptions(data=file, rate_limit=False))
        self.ids = {record.name: record.id for record in self.records()}

    def records(self) -> list[Record]:
        return list(self.platform.store.descendants(ROOT_ID))

    def call(self, method: str, path: str, data: JsonObject) -> int:
        headers = {"x-auth-token": self.platform.tokens.issue(ROOT_ID, None)}
        body = json.dumps({"data": data}).encode()
        request = Request(method, BASE_PATH + path, {}, headers, body)
        return asyncio.run(self.platform.handle(request)).status

    def create(self, name: str, parent: str) -> None:
        path = f"/accounts/{self.ids.get(parent, ROOT_ID)}"
        assert self.call("PUT", path, {"name": name, "realm": f"{name}.example.com"}) == 201
        self.ids = {record.name: record.id for record in self.records()}

    def promote(self, name: str) -> None:
        """Make an account a reseller, if the platform lets it."""
        self.call("PUT", f"/accounts/{self.ids[name]}/reseller", {})

    def resellers(self) -> set[str]:
        return {record.name for record in self.records() if record.is_reseller}


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.generate],
)
@given(before=trees(), after=trees(), data=st.data())
def test_ranks_that_nobody_declared_are_the_same_after_whatever_was_done_above_them(
    project: Project,
    before: dict[str, JsonObject],
    after: dict[str, JsonObject],
    data: st.DataObject,
) -> None:
    shutil.rmtree(project.directory)
    the_applied(project, before, [])
    outside = Outside(project)
    staying = sorted(before.keys() & after.keys())
    for number in range(data.draw(st.integers(1, 4))):
        outside.create(f"stranger-{number}", data.draw(st.sampled_from(["root", *staying])))
    silent = {key for key in staying if "reseller" not in before[key] | after[key]}
    for name in data.draw(st.permutations(sorted(outside.ids))):
        if name in silent or name.startswith("stranger"):
            outside.promote(name)
    ranks = {name for name in outside.resellers() if name in silent or name not in before}
    outside.platform.close()
    the_applied(project, after, sorted(before.keys() - after.keys()))
    outside = Outside(project)
    declared = {key for key, block in after.items() if block.get("reseller") is True}
    assert outside.resellers() == ranks | declared
    outside.platform.close()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.generate],
)
@given(before=trees(), after=trees(), strangers=st.integers(0, 3), data=st.data())
@pytest.mark.usefixtures("low_dice")
def test_a_platform_that_goes_away_anywhere_is_taken_up_by_one_plain_apply(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, JsonObject],
    after: dict[str, JsonObject],
    strangers: int,
    data: st.DataObject,
) -> None:
    """From some write on nothing gets through; whoever lost a rank by that has it in the end."""
    gone = sorted(before.keys() - after.keys())
    removed: list[JsonValue] = [{"account": key, "destroy": True} for key in gone]
    shutil.rmtree(project.directory)
    with served(SandboxOptions(log_requests=True, rate_limit=False)) as world:
        monkeypatch.setenv("VINIX_API_URL", world.url)
        monkeypatch.setenv("VINIX_API_KEY", ROOT_API_KEY)
        project.declare(before)
        project.settle()
        for number in range(strangers):
            key = data.draw(st.sampled_from(sorted({"root", *before} - {*gone})))
            parent = ROOT_ID if key == "root" else world.account(key).id
            world.create(f"stranger-{number}", parent)
            world.promote(f"stranger-{number}")
        project.declare(after, removed=removed)
        world.fault(
            path="^/accounts/.*",
            method="WRITES",
            nth=data.draw(st.integers(1, 12)),
            times=None,
            phase=data.draw(st.sampled_from(["before", "after"])),
            drop=True,
        )
        assert project.apply(*EVERYTHING).code in {0, 5}
        world.platform.faults.clear()
        applied = project.apply(*EVERYTHING)
        assert applied.code == 0, applied.err
        assert project.plan().code == 0
        ranks = {f"stranger-{number}" for number in range(strangers)}
        ranks |= {key for key, block in after.items() if block.get("reseller") is True}
        assert world.resellers() == sorted(ranks)
        assert world.names() == sorted({*after} | {f"stranger-{n}" for n in range(strangers)})


@pytest.mark.parametrize("dialect", ["release", "head"])
def test_a_long_chain_of_resellers_turns_over(serve: Serve, project: Project, dialect: str) -> None:
    world = serve(
        SandboxOptions(
            dialect="head" if dialect == "head" else "release", log_requests=True, rate_limit=False
        )
    )

    def chain(keys: list[str]) -> dict[str, JsonObject]:
        return {
            key: {"parent": above, "reseller": True}
            for above, key in zip(["root", *keys], keys, strict=False)
        }

    project.declare(chain(KEYS))
    project.settle()
    redeclared(project, world, chain(KEYS[::-1]))
    applied = project.apply(*EVERYTHING)
    assert applied.code == 0, applied.err
    assert all(entry.status in {200, 201} for entry in world.writes)
    assert world.resellers() == KEYS
    assert world.tree() == {k: str(b["parent"]) for k, b in chain(KEYS[::-1]).items()}
    assert project.plan().code == 0


def test_an_account_below_new_ones_below_a_disabled_one_is_enabled_all_the_same(
    world: World, project: Project
) -> None:
    """A new account starts as disabled as its parent is (docs/platform.md 3.4)."""
    project.declare(
        {
            "a": {"enabled": False},
            "b": {"parent": "a"},
            "c": {"parent": "b", "enabled": True, "reseller": True},
            "d": {"parent": "b", "enabled": True},
        }
    )
    project.settle()
    assert world.account("c").enabled
    assert world.account("d").enabled
