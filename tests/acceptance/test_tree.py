"""A tree from nothing: what is sent, in which order, and that nothing is left to do then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.core.account import OPTION_NAMES, READ_ONLY
from reconciler.sandbox.options import ROOT_ID, SandboxOptions

from .conftest import LEFT_OUT

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject

    from .conftest import Project, Serve, World


def a_tree(resellers: int, customers: int) -> dict[str, JsonObject]:
    """Resellers on four levels, each the parent of up to two more, and customers below them all."""
    accounts: dict[str, JsonObject] = {}
    for number in range(resellers):
        above = "root" if number < 2 else f"reseller-{number // 2 - 1}"
        accounts[f"reseller-{number}"] = {
            "parent": above,
            "reseller": True,
            "timezone": "America/New_York",
            "call_recording": {"account": {"any": {"any": {"enabled": True, "time_limit": 60}}}},
        }
    for number in range(customers):
        accounts[f"customer-{number}"] = {
            "parent": f"reseller-{number % resellers}",
            "caller_id": {"external": {"name": "C", "number": f"+1555{number:07}"}},
            "flags": ["gold", "eu"],
            "dial_plan": {"^(\\d{7})$": {"prefix": "+1555"}},
        }
    return accounts


def depth(accounts: dict[str, JsonObject], key: str) -> int:
    return 0 if key == "root" else 1 + depth(accounts, str(accounts[key]["parent"]))


def test_a_tree_is_made_by_the_fewest_requests_in_the_order_that_the_platform_takes(
    world: World, project: Project
) -> None:
    accounts = a_tree(resellers=20, customers=180)
    assert max(depth(accounts, key) for key in accounts if "reseller" in accounts[key]) == 4
    project.declare(accounts)
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert "Apply complete: 200 created, 20 promoted, 0 updated" in applied.out

    creates = [entry for entry in world.writes if not entry.path.endswith("/reseller")]
    promotions = [entry for entry in world.writes if entry.path.endswith("/reseller")]
    assert (len(creates), len(promotions)) == (200, 20)
    assert all((entry.method, entry.status) == ("PUT", 201) for entry in world.writes)
    assert all(entry.query == {"send_email_on_creation": "false"} for entry in creates)
    assert world.platform.mails == []

    forbidden = {*READ_ONLY, *OPTION_NAMES, "id"}
    assert not any(forbidden & entry.body.keys() for entry in creates)
    assert not any(name.startswith(("pvt_", "_")) for entry in creates for name in entry.body)

    assert world.tree() == {key: block["parent"] for key, block in accounts.items()}
    assert world.resellers() == sorted(key for key in accounts if "reseller" in accounts[key])
    made = [str(entry.body["name"]) for entry in creates]
    for place, name in enumerate(made):
        assert accounts[name]["parent"] in {"root", *made[:place]}
    ranked = [str(entry.body["name"]) for entry in promotions]
    for place, name in enumerate(ranked):
        assert accounts[name]["parent"] in {"root", *ranked[:place]}

    world.log.clear()
    again = project.plan()
    assert (again.code, again.err) == (0, "")
    assert again.out == "No changes. 200 accounts match their declarations.\n"
    assert world.writes == []
    assert {entry.method for entry in world.log if entry.path != "/api_auth"} == {"GET"}
    assert [entry.path for entry in world.log].count("/api_auth") == 1


def test_everything_that_was_declared_is_live(world: World, project: Project) -> None:
    accounts = a_tree(resellers=2, customers=4)
    project.declare(accounts)
    project.settle()
    for key, block in accounts.items():
        document = world.call("GET", f"/accounts/{world.account(key).id}")
        for name in block.keys() - {"parent", "reseller"}:
            assert document[name] == block[name]


@pytest.mark.usefixtures("low_dice")
@pytest.mark.parametrize("realm", ["a.sip.example.com", LEFT_OUT])
def test_a_platform_that_limits_requests_is_not_pressed(
    serve: Serve, project: Project, realm: str
) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=True))
    world.fault(method="PUT", path=f"/accounts/{ROOT_ID}", nth=3, times=2, status=429)
    world.fault(
        method="PUT", path=f"/accounts/{ROOT_ID}", nth=9, status=429, headers={"Retry-After": "1"}
    )
    realms = [realm if realm == LEFT_OUT else f"{n}{realm}" for n in range(105)]
    accounts: dict[str, JsonObject] = {f"a{n}": {"realm": r} for n, r in enumerate(realms)}
    project.declare(accounts)
    applied = project.apply("--parallelism", "4")
    assert applied.code == 0, applied.err
    assert world.names() == sorted(accounts)
    statuses = [entry.status for entry in world.writes]
    assert statuses.count(201) == 105
    needed = 1 + 2 * 105 + 5  # a login, a create and a read each, and what is read before and after
    assert len(world.log) <= 1.2 * needed


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}])
def test_in_a_storm_of_429_a_needed_request_takes_at_most_1_2(
    serve: Serve, project: Project, headers: JsonObject
) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, seed_accounts=400))
    project.declare({})
    managed = [record.id for record in world.records()]
    project.declare({f"a{n}": {"id": i, "realm": LEFT_OUT} for n, i in enumerate(managed)})
    world.fault(path="/accounts/*", times=None, bucket=50, refill=200, headers=headers)
    seen = world.count_answers()
    planned = project.plan()
    assert planned.code == 2, planned.err
    needed = seen.count(200)
    assert needed > 400
    assert seen.count(429) > 0
    assert len(seen) <= 1.2 * needed


@pytest.mark.usefixtures("low_dice")
def test_a_platform_that_refuses_for_good_is_given_up(release: World, project: Project) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", nth=2, times=None, status=429)
    project.declare({f"a{number}": {} for number in range(5)})
    applied = project.apply()
    assert applied.code == 5
    assert applied.err.count("create: failed: PUT") == 4
    assert applied.err.count(": 429 ") >= 4
    assert len(release.records()) == 1
