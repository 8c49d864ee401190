"""Lost answers, killed runs, refusals: one plain apply converges, and no account is made twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from reconciler.api.client import by_api_key, connect
from reconciler.api.errors import Unclear
from reconciler.sandbox.options import ROOT_API_KEY, ROOT_ID, SandboxOptions

from .conftest import NO_SUCH, wait_for

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Project, Serve, World

LOST: dict[str, JsonObject] = {
    "dropped before the commit": {"phase": "before", "drop": True},
    "dropped after the commit": {"phase": "after", "drop": True},
    "503 before the commit": {"phase": "before", "status": 503},
    "503 after the commit": {"phase": "after", "status": 503},
    "a proxy's 502 after the commit": {"phase": "after", "status": 502},
    "broken off": {"phase": "mid"},
    "broken off early": {"phase": "after", "truncate": 12},
    "a success without a body": {"phase": "after", "status": 200, "body": ""},
    "a success without an id": {"phase": "after", "status": 201, "body": {"data": {}}},
    "another page": {"phase": "after", "status": 200, "body": "<html>log in</html>"},
}

pytestmark = pytest.mark.usefixtures("low_dice")


@pytest.mark.parametrize("realm", ["acme.example.com", "(left out)"])
@pytest.mark.parametrize("lost", LOST)
def test_a_create_whose_answer_is_lost_is_made_once(
    release: World, project: Project, lost: str, realm: str
) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", **LOST[lost])
    project.declare({"acme": {"realm": realm}, "below": {"parent": "acme", "reseller": True}})
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert release.names() == ["acme", "below"]
    assert project.plan().code == 0


@pytest.mark.parametrize("times", [2, 4])
def test_several_answers_of_one_create_may_be_lost(
    release: World, project: Project, times: int
) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", status=503, times=times)
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", nth=times + 1, phase="mid")
    project.declare({"acme": {"realm": "(left out)"}})
    project.settle()
    assert release.names() == ["acme"]


def test_accounts_without_a_realm_are_told_apart_after_lost_answers(
    release: World, project: Project
) -> None:
    release.create("elsewhere")
    release.create("b", release.account("elsewhere").id, realm="b.example.com")
    release.fault(method="PUT", path="/accounts/*", phase="after", drop=True, times=3)
    accounts: dict[str, JsonObject] = {key: {"realm": "(left out)"} for key in ("a", "c", "d")}
    project.declare(accounts)
    project.settle()
    assert release.names() == ["a", "b", "c", "d", "elsewhere"]


@pytest.mark.parametrize("realm", ["acme.example.com", "(left out)"])
def test_lists_that_lag_make_no_second_account(serve: Serve, project: Project, realm: str) -> None:
    """Lists, and the checks for uniqueness that rest on them, show a create a moment later."""
    lagging = SandboxOptions(log_requests=True, rate_limit=False, view_lag_ms=500)
    world = serve(lagging)
    world.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase="after", drop=True)
    project.declare({"acme": {"realm": realm}})
    project.settle()
    assert world.names() == ["acme"]


def test_a_plan_right_after_a_move_is_empty_though_lists_lag(
    serve: Serve, project: Project
) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, view_lag_ms=3000))
    project.declare({"acme": {}, "other": {}})
    assert project.apply().code == 0
    project.declare({"acme": {"parent": "other"}, "other": {}})
    project.settle()
    assert [entry.path.rsplit("/", 1)[1] for entry in world.writes][2:] == ["move"]


def test_a_realm_that_two_accounts_have_is_told_of_in_every_plan(
    serve: Serve, project: Project
) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, view_lag_ms=1000))
    mine, twin = (world.create(name, realm="acme.example.com") for name in ("acme", "twin"))
    project.declare({"acme": {"realm": "acme.example.com", "id": mine}})
    wait_for(lambda: project.apply().code == 0)  # as soon as it is listed
    for _ in range(2):
        wait_for(lambda: f"{twin} (twin) has it, too. Look at both" in project.plan().err)


WRITES: dict[str, tuple[dict[str, JsonObject], str, str]] = {
    "update": ({"acme": {"language": "de-de"}, "other": {}}, "PATCH", "/accounts/*"),
    "promote": ({"acme": {"reseller": True}, "other": {}}, "PUT", "/accounts/*/reseller"),
    "move": ({"acme": {"parent": "other"}, "other": {}}, "POST", "/accounts/*/move"),
}


@pytest.mark.parametrize(
    "lost", ["dropped after the commit", "503 before the commit", "broken off"]
)
@pytest.mark.parametrize("kind", WRITES)
def test_a_change_whose_answer_is_lost_converges(
    world: World, project: Project, kind: str, lost: str
) -> None:
    project.declare({"acme": {}, "other": {}})
    project.settle()
    accounts, method, path = WRITES[kind]
    world.fault(method=method, path=path, **LOST[lost])
    project.declare(accounts)
    project.settle()


@pytest.mark.parametrize(
    "lost", ["dropped after the commit", "503 before the commit", "broken off"]
)
def test_a_delete_whose_answer_is_lost_converges(world: World, project: Project, lost: str) -> None:
    project.declare({"acme": {}})
    project.settle()
    world.fault(method="DELETE", path="/accounts/*", **LOST[lost])
    gone: list[JsonValue] = [{"account": "acme", "destroy": True}]
    project.declare({}, removed=gone, safety={"max_delete": 1})
    project.settle()
    assert world.names() == []


def test_a_conflict_with_another_writer_is_resolved(world: World, project: Project) -> None:
    world.fault(path="/accounts/*", method="PUT", status=409, nth=1)
    world.fault(path="/accounts/*", method="PATCH", status=409, nth=1)
    project.declare({"acme": {}})
    project.settle()
    project.declare({"acme": {"language": "de-de"}})
    project.settle()
    assert world.names() == ["acme"]


def test_tokens_that_expire_in_mid_run_are_renewed_once(world: World, project: Project) -> None:
    world.fault(path="/accounts/*", method="PUT", nth=3, expire_tokens=True)
    project.declare({f"a{number}": {} for number in range(8)})
    project.settle()
    assert len(world.names()) == 8
    logins = [entry for entry in world.log if entry.path == "/api_auth"]
    assert len(logins) == 3  # of apply, of its renewal, of plan


def test_credentials_that_are_no_good_end_it_at_once(
    world: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VINIX_API_KEY", "0" * 64)
    project.declare({"acme": {}})
    ended = project.plan()
    assert ended.code == 1
    assert [entry.path for entry in world.log] == ["/api_auth"]
    assert "/api_auth" in ended.err


def test_a_lost_list_is_no_empty_list(world: World, project: Project) -> None:
    project.declare({"acme": {}})
    project.settle()
    for rule in ({"status": 503}, {"status": 200, "body": {"data": {}}}, {"phase": "mid"}):
        world.platform.faults.clear()
        world.fault(path="/accounts/*/descendants", times=None, **rule)
        assert project.plan().code == 1
    world.platform.faults.clear()
    world.fault(path="/accounts/*/descendants", status=200, body={"data": []})
    assert project.plan().code == 0
    world.fault(path="/accounts/*/descendants", status=503)
    assert project.plan().code == 0


# --- refusals of the platform ---


def test_a_taken_name_is_a_clear_error_and_all_else_is_done(world: World, project: Project) -> None:
    world.create("Acme, Inc.", realm="other.example.com")
    project.declare(
        {
            "acme": {"name": "ACME INC", "reseller": True},
            "below": {"parent": "acme"},
            "fine": {"reseller": True},
        }
    )
    applied = project.apply()
    assert applied.code == 5
    assert "accounts.acme: create: failed:" in applied.err
    assert "name: unique" in applied.err
    assert "accounts.below: create: skipped:" in applied.err
    assert "1 created, 1 promoted" in applied.out
    assert "1 failed, 2 skipped" in applied.out
    assert world.names() == ["Acme, Inc.", "fine"]
    state = project.state()
    assert (list(state["accounts"]), state["intents"]) == (["fine"], {})
    assert project.plan().code == 2


def test_a_realm_that_is_taken_in_an_update_is_a_clear_error(
    world: World, project: Project
) -> None:
    mine: JsonObject = {"account_id": world.create("mine")}
    project.declare({"acme": {}, "other": {}}, api=mine)
    project.settle()
    world.create("stranger", realm="taken.example.com")  # not below the root: no plan sees it
    project.declare(
        {
            "acme": {"realm": "Taken.example.com", "language": "de-de"},
            "other": {"language": "de-de"},
        },
        api=mine,
    )
    applied = project.apply()
    assert applied.code == 5
    assert "realm: unique" in applied.err
    assert world.account("other").document["language"] == "de-de"
    # `head` may have written it all the same (docs/platform.md 9, 20); state must not say so blindly
    live = world.account("acme").document
    applied_settings = project.state()["accounts"]["acme"]["applied"]["settings"]
    assert applied_settings["realm"] == live["realm"]


def test_fail_fast_begins_nothing_after_a_failure(release: World, project: Project) -> None:
    release.create("a0", realm="other.example.com")
    project.declare({f"a{number}": {} for number in range(6)})
    applied = project.apply("--fail-fast", "--parallelism", "1")
    assert applied.code == 5
    assert release.names() == ["a0"]
    assert applied.out.count("the run was stopped before") == 5


def test_402_is_never_accepted(release: World, project: Project) -> None:
    release.fault(method="PUT", path="/accounts/*", status=402, body={"data": {"quote": 5}})
    project.declare({"acme": {}})
    assert project.apply().code == 5
    assert struck(release, 1)
    assert not struck(release, 2)
    assert release.names() == []


def test_a_change_between_plan_and_write_is_not_overwritten(
    release: World, project: Project
) -> None:
    project.declare({"acme": {"language": "en-us"}, "other": {"language": "en-us"}})
    project.settle()
    acme = release.account("acme")
    # The second read of the account is the one before its write.
    release.fault(
        method="GET",
        path=f"/accounts/{acme.id}",
        nth=2,
        status=200,
        body={"data": {**acme.document, "id": acme.id, "enabled": True, "language": "fr-fr"}},
    )
    project.declare({"acme": {"language": "de-de"}, "other": {"language": "de-de"}})
    release.log.clear()
    applied = project.apply()
    assert applied.code == 5
    assert "accounts.acme: update: stale: settings.language was changed" in applied.err
    assert [entry.path for entry in release.writes] == [f"/accounts/{release.account('other').id}"]


# --- killed and interrupted runs ---


def a_small_tree() -> dict[str, JsonObject]:
    accounts: dict[str, JsonObject] = {"top": {"reseller": True, "language": "de-de"}}
    for number in range(6):
        accounts[f"customer-{number}"] = {"parent": "top", "enabled": number != 3}
    accounts["nameless"] = {"parent": "top", "realm": "(left out)"}
    return accounts


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("writes", [1, 2, 5, 9])
def test_after_kill_9_one_plain_apply_converges(
    release: World, project: Project, writes: int, phase: str
) -> None:
    """The process dies while the platform holds back the answer of the Nth write."""
    project.declare(a_small_tree())
    release.fault(
        path="^/accounts/.*", method="PUT", nth=writes, times=None, phase=phase, delay_ms=400
    )
    logged = {"before": writes - 1, "after": writes}[phase]
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(lambda: len(release.writes) >= logged and struck(release, writes))
        process.kill()
        process.communicate()
    release.platform.faults.clear()
    time.sleep(0.4)  # the platform carries out what it was asked, whoever listens
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert release.names() == sorted(a_small_tree())
    assert release.resellers() == ["top"]
    assert project.plan().code == 0
    assert project.state()["intents"] == {}


def struck(world: World, number: int) -> bool:
    return world.platform.faults.matches() >= number


# --- a connection that the server closed ---


class Closing:
    """A server that answers logins and GETs, keeps the connection, and closes it at a PUT."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.creates = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = 0
                for line in head.splitlines():
                    name, _, value = line.partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                await reader.readexactly(length)
                method, path, _ = head.split(" ", 2)
                self.seen.append(f"{method} {path}")
                if method == "PUT" and "/accounts" in path:
                    self.creates += 1
                    break
                writer.write(self.answer(path))
        writer.close()

    def answer(self, path: str) -> bytes:
        body = b'{"data":{"id":"%s","account_id":"%s","name":"root","superduper_admin":true},"auth_token":"t"}'
        text = b'{"data":[]}'
        if "?" not in path:
            text = body % (ROOT_ID.encode(), ROOT_ID.encode())
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def test_a_put_on_a_connection_that_breaks_is_not_repeated_by_the_transport() -> None:
    closing = Closing()

    async def ask() -> None:
        server = await asyncio.start_server(closing.serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/v2"
            async with connect(url, by_api_key(ROOT_API_KEY), timeout=5) as client:
                await client.get(f"/accounts/{ROOT_ID}")
                with pytest.raises(Unclear):
                    await client.send("PUT", f"/accounts/{ROOT_ID}", {"data": {"name": "A"}})

    asyncio.run(ask())
    assert closing.creates == 1
    assert closing.seen[0] == "PUT /v2/api_auth"


def test_a_refused_create_leaves_nothing_open(release: World, project: Project) -> None:
    """What somebody else makes later is not taken for what that create made."""
    project.declare({"fine": {}})
    project.settle()
    in_the_way = release.create("Acme Inc", realm="other.example.com")
    project.declare({"fine": {}, "acme": {"name": "ACME INC"}})
    assert project.apply().code == 5

    release.call("DELETE", f"/accounts/{in_the_way}")
    release.create("ACME INC", realm="acme.sip.example.com", language="xx")
    release.log.clear()
    refused = project.apply()
    assert refused.code == 3, refused.out
    assert "reconciler import acme" in refused.out
    assert release.writes == []


@pytest.mark.parametrize("path", ["/api_auth", "/accounts/*"])
def test_a_pause_that_is_asked_for_too_long_is_an_error_instead(
    release: World, project: Project, path: str
) -> None:
    release.fault(path=path, status=429, headers={"Retry-After": "3600"}, times=None)
    project.declare({"acme": {}})
    ended = project.plan()
    assert ended.code == 1
    assert "429" in ended.err


# --- creates that take their time ---


def test_a_create_that_goes_on_behind_a_gateway_that_gave_up_is_waited_for(
    release: World, project: Project
) -> None:
    release.fault(
        method="PUT", path=f"/accounts/{ROOT_ID}", status=504, body="<html>too slow</html>"
    )
    project.declare({"acme": {}})
    with project.start("apply", "--auto-approve") as process:
        wait_for(lambda: release.platform.faults.matches() >= 1)
        time.sleep(4)
        release.create("acme")  # what the platform was still at
        _, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert release.writes == []  # the gateway's own answer is in no log, and nothing was sent again
    assert release.names() == ["acme"]
    assert project.plan().code == 0


def test_a_second_account_like_the_new_one_is_told_of(serve: Serve, project: Project) -> None:
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, unique_names=False))
    world.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase="after", delay_ms=1000)
    project.declare({"acme": {"realm": "(left out)"}})
    with project.start("apply", "--auto-approve") as process:
        wait_for(lambda: world.platform.faults.matches() >= 1)
        other = world.create("acme", realm="twin.example.com")
        out, err = process.communicate(timeout=40)
    assert process.returncode == 5, err
    assert f"there is another like it: {other}." in out.decode()
    assert world.names() == ["acme", "acme"]


@pytest.mark.parametrize(("times", "code"), [(1, 0), (2, 5), (5, 5)])
def test_a_create_that_was_made_and_refused_is_not_lost_to_a_list_that_comes_back_empty(
    release: World, project: Project, times: int, code: int
) -> None:
    """It was carried out and answered with 429, so sent again, and refused as a double."""
    release.create("stranger")
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase="after", status=429)
    nothing: JsonObject = {"data": [], "status": "success"}
    lists = "/accounts/*/descendants"
    release.fault(path=lists, phase="after", status=200, body=nothing, nth=2, times=times)
    project.declare({"acme": {}})
    applied = project.apply()
    assert applied.code == code, applied.err
    assert ("realm: unique" in applied.out) == (code == 5)
    project.settle()
    assert release.names() == ["acme", "stranger"]


@pytest.mark.parametrize("times", [1, 3])
def test_a_create_that_was_made_and_limited_is_not_made_again(
    serve: Serve, project: Project, times: int
) -> None:
    """No realm is declared, and names may be equal: nothing of the platform's keeps a second out."""
    world = serve(SandboxOptions(log_requests=True, rate_limit=False, unique_names=False))
    world.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase="after", status=429, times=times)
    accounts: dict[str, JsonObject] = {f"a{n}": {"realm": "(left out)"} for n in range(3)}
    project.declare(accounts)
    project.settle()
    assert world.names() == sorted(accounts)


def test_creates_without_a_realm_give_up_where_they_are_limited_for_good(
    release: World, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.creates.HOPELESS", 3)
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", times=None, status=429)
    project.declare({"acme": {"realm": "(left out)"}})
    applied = project.apply()
    assert applied.code == 5
    assert ": 429 the platform refuses more requests" in applied.err
    release.platform.faults.clear()
    project.settle()
    assert release.names() == ["acme"]


@pytest.mark.parametrize("realm", ["acme.example.com", "(left out)"])
@pytest.mark.parametrize("whose", ["the root's", "another's", "nobody's"])
def test_an_answer_with_the_id_of_another_account_is_not_believed(
    release: World, project: Project, whose: str, realm: str
) -> None:
    mine = release.create("mine")
    other = release.create("another", org="Another")
    ids = {"the root's": mine, "another's": other, "nobody's": "0" * 31 + "1"}
    release.fault(
        method="PUT", path=f"/accounts/{mine}", phase="after", assign={"data.id": ids[whose]}
    )
    project.declare({"acme": {"realm": realm}}, api={"account_id": mine})
    project.settle()
    made = project.state()["accounts"]["acme"]["id"]
    assert made not in ids.values()
    assert release.names() == ["acme", "another", "mine"]
    assert len([entry for entry in release.writes if entry.method != "PUT"]) == 0


@pytest.mark.parametrize("realm", ["acme.example.com", "(left out)"])
def test_a_name_that_the_platform_does_not_keep_is_told_once_and_the_account_is_in_state(
    release: World, project: Project, realm: str
) -> None:
    other: JsonObject = {"data.name": "Acme 2"}
    release.fault(method="GET", path="^/accounts/[0-9a-f]{32}$", nth=2, times=None, assign=other)
    project.declare({"acme": {"realm": realm}})
    applied = project.apply()
    assert applied.code == 5
    assert "did not keep settings.name" in applied.out
    assert project.state()["accounts"]["acme"]["id"] == release.account("acme").id


def test_a_create_that_is_said_to_come_from_nobody_is_sent_twice(
    release: World, project: Project
) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", times=None, status=401)
    project.declare({"acme": {"realm": "(left out)"}})
    seen = release.count_answers()
    assert project.apply().code == 5
    assert seen.count(401) == 2


@pytest.mark.parametrize("status", [408, 500, 507, 520, 524, 599])
@pytest.mark.parametrize("phase", ["before", "after"])
def test_any_breakdown_of_a_create_is_unclear(
    release: World, project: Project, status: int, phase: str
) -> None:
    body = "<html>a gateway's page</html>"
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase=phase, status=status, body=body)
    project.declare({"acme": {}})
    project.settle()
    assert release.names() == ["acme"]


@pytest.mark.parametrize("status", [408, 520, 524])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_breakdowns_that_gateways_have_numbers_for_pass(
    release: World, project: Project, method: str, status: int
) -> None:
    project.declare({"acme": {}})
    project.settle()
    release.fault(method=method, path="/accounts/*", status=status, body="")
    project.declare({"acme": {"org": "New"}})
    project.settle()


def test_what_somebody_else_made_meanwhile_is_not_taken(release: World, project: Project) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase="before", delay_ms=1000)
    project.declare({"acme": {"realm": "acme.example.com", "org": "Ours"}})
    with project.start("apply", "--auto-approve") as process:
        wait_for(lambda: release.platform.faults.matches() >= 1)
        release.create("acme", realm="acme.example.com", org="Theirs")
        _, err = process.communicate(timeout=40)
    assert process.returncode == 5, err
    assert b"realm: unique" in err
    assert project.state()["accounts"] == {}
    planned = project.plan()
    assert planned.code == 3
    assert "reconciler import acme" in planned.out


def test_a_create_that_was_refused_for_its_realm_and_carried_out_is_in_state(
    release: World, project: Project
) -> None:
    """`head` may do that (docs/platform.md 5.2), or a gateway that sends twice."""
    refusal: JsonObject = {
        "status": "error",
        "error": "400",
        "message": "validation error",
        "data": {"realm": {"unique": {"message": "Account realm already in use"}}},
    }
    release.fault(
        method="PUT", path=f"/accounts/{ROOT_ID}", phase="after", status=400, body=refusal
    )
    project.declare({"acme": {"realm": "Acme.example.com", "flags": ["b", "a"]}})
    applied = project.apply()
    assert applied.code == 5
    made = release.account("acme").id
    assert f"Yet it was created, as {made}, and is in state now" in applied.out
    project.settle()
    assert release.names() == ["acme"]


@pytest.mark.parametrize("status", [400, 402, 403])
def test_nothing_is_left_open_of_a_create_that_was_refused(
    release: World, project: Project, status: int
) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", status=status)
    project.declare({"acme": {}})
    assert project.apply().code == 5
    assert project.state()["intents"] == {}


def test_a_create_that_was_limited_and_is_in_its_own_way_is_found(
    release: World, project: Project
) -> None:
    release.fault(method="PUT", path=f"/accounts/{ROOT_ID}", phase="after", status=429)
    project.declare({"acme": {}})
    project.settle()
    assert release.names() == ["acme"]


# --- a platform that contradicts itself ---


@pytest.mark.parametrize("times", [1, 2, 4])
def test_an_account_that_is_listed_is_not_gone_though_its_own_get_says_so(
    release: World, project: Project, times: int
) -> None:
    project.declare({"acme": {"realm": "(left out)"}})
    project.settle()
    path = f"/accounts/{project.state()['accounts']['acme']['id']}"
    release.fault(method="GET", path=path, status=404, body=NO_SUCH, times=times)
    planned = project.plan()
    if times < 4:
        assert planned.code == 0, planned.err
        return
    assert planned.code == 1
    assert f"GET {path}: 404 does not exist by its own GET" in planned.err
    assert project.apply().code == 0
    assert release.names() == ["acme"]


@pytest.mark.parametrize("times", [1, 2])
def test_an_account_that_is_to_be_deleted_is_not_taken_for_gone(
    release: World, project: Project, times: int
) -> None:
    project.declare({"acme": {}})
    project.settle()
    project.declare({}, removed=[{"account": "acme", "destroy": True}])
    path = f"/accounts/{project.state()['accounts']['acme']['id']}"
    release.fault(method="GET", path=path, status=404, body=NO_SUCH, nth=2, times=times)
    deleted = project.apply("--allow", "delete=1")
    assert deleted.code == 3, deleted.out
    assert "yet the list of accounts has it" in deleted.out
    assert "acme" in project.state()["accounts"]
    assert project.apply("--allow", "delete=1").code == 0
    assert release.names() == []


def test_a_gateway_that_knows_no_such_route_does_not_say_that_an_account_is_gone(
    release: World, project: Project
) -> None:
    project.declare({"acme": {"realm": "(left out)"}})
    project.settle()
    body: JsonObject = {"message": "no Route matched with those values"}
    release.fault(method="GET", path="/accounts/*", status=404, body=body, nth=2, times=2)
    assert project.plan().code == 0


# --- what is refused, and done ---


def test_what_was_refused_and_written_is_said_to_be(head: World, project: Project) -> None:
    """`head` writes while it validates (docs/platform.md 3.6): a realm may belong to two then."""
    head.create("elsewhere", realm="taken.example.com")
    mine: JsonObject = {"account_id": head.create("mine")}
    project.declare({"acme": {}}, api=mine)
    project.settle()
    project.declare({"acme": {"realm": "taken.example.com"}}, api=mine)
    applied = project.apply()
    assert applied.code == 5
    assert "realm: unique" in applied.out
    assert "It was done all the same, as a read shows" in applied.out
