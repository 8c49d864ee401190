"""Whatever the platform, or something in front of it, answers: nothing is made of it that is not so.

A row of a table is a bad day: rules for the sandbox, and what has to be said about it.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import ROOT_ID

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Ended, Project, World

pytestmark = pytest.mark.usefixtures("low_dice")

LIST = "/accounts/*/descendants"
ACCOUNT = "^/accounts/[0-9a-f]{32}"
LOGIN = "/api_auth"
FIRST = "WyJ4IiwgInoiXQ"  # ["x", "z"]: the key of a page that begins at the top
BRIEFLY: JsonObject = {"timeout": "250ms"}

UNREADABLE: dict[str, tuple[JsonObject, str]] = {
    "dropped before": ({"drop": True}, "the answer was lost (ServerDisconnectedError) (request "),
    "dropped after": ({"phase": "after", "drop": True}, "the answer was lost"),
    "broken off": ({"phase": "mid"}, "the answer was lost"),
    "late": ({"delay_ms": 1_000}, "no answer within 0.25 seconds"),
    "byte by byte": ({"drip_ms": 200}, "no answer within 0.25 seconds"),
    "500": ({"status": 500}, "500 unspecified_fault: unspecified fault (request "),
    "503": ({"status": 503}, "503 datastore_fault: datastore fault (request "),
    "502 from a proxy": (
        {"status": 502},
        "502 an answer that is none of the platform's (text/html)",
    ),
    "504 from a proxy": (
        {"status": 504},
        "504 an answer that is none of the platform's (text/html)",
    ),
    "404 from a proxy": (
        {"status": 404, "body": "<html>gone</html>", "content_type": "text/html"},
        "404 an answer that is none of the platform's (text/html)",
    ),
    "409": ({"status": 409}, "409 datastore_conflict: conflicting documents"),
    "a login page": (
        {"status": 200, "body": "<html>log in</html>", "content_type": "text/html"},
        "200 an answer that is none of the platform's (text/html)",
    ),
    "another content type": (
        {"status": 200, "body": "{", "content_type": "image/png"},
        "200 an answer that is none of the platform's (image/png)",
    ),
    "no body": ({"status": 200, "body": ""}, "200 an answer that is none of the platform's"),
    "a list for an envelope": ({"status": 200, "body": []}, "none of the platform's"),
    "no data": ({"status": 200, "body": {"status": "success"}}, "none of the platform's"),
    "an error with 200": (
        {"status": 200, "body": {"status": "error", "data": []}},
        "none of the platform's",
    ),
    "not a number": ({"status": 200, "body": '{"data": [NaN]}'}, "none of the platform's"),
    "an infinite number": ({"status": 200, "body": '{"data": [1e999]}'}, "none of the platform's"),
    "no end of nesting": (
        {"status": 200, "body": '{"data": ' + "[" * 500 + "]" * 500 + "}"},
        "none of the platform's",
    ),
    "no text": ({"status": 200, "body": '{"data": "\\ud800"}'}, "none of the platform's"),
    "a gzip bomb": ({"bomb_mib": 100}, "packed, which was not asked for (gzip)"),
    "a header without end": ({"headers": {"X-Long": "y" * 100_000}}, "the answer was lost"),
}
"""What says nothing, wherever it comes."""

FINAL: dict[str, tuple[JsonObject, str]] = {
    "401": ({"status": 401}, "401 invalid_credentials: invalid credentials"),
    "402": (
        {"status": 402, "body": {"message": "accept charges", "data": {"quote": 5}}},
        '402 accept charges {"quote":5}',
    ),
    "403": ({"status": 403}, "403 forbidden (request "),
    "410": ({"status": 410}, "410 unspecified_fault"),
    "a redirect": (
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/v2"}, "body": ""},
        "302 a redirect, which is never followed",
    ),
    "a redirect to nowhere": ({"status": 301, "body": ""}, "301 a redirect"),
    "a pause of an hour": (
        {"status": 429, "headers": {"Retry-After": "3600"}},
        "429 the platform refuses more requests for now",
    ),
}
"""What will be said again."""


def no_list(data: JsonValue, **more: JsonValue) -> JsonObject:
    return {"phase": "after", "assign": {"data": data, **more}}


WRONG_LISTS: dict[str, tuple[JsonObject, str]] = {
    "an object": (no_list({}), "no list, where one was asked for"),
    "nothing": (no_list(None), "no list, where one was asked for"),
    "numbers": (no_list([1, 2]), "a row that is no account"),
    "a row without an id": (no_list([{"tree": [ROOT_ID]}]), "a row that is no account"),
    "ids that are no ids": (
        no_list([{"id": "../x", "tree": [ROOT_ID]}]),
        "a row that is no account",
    ),
    "an id of another type": (no_list([{"id": 5, "tree": [ROOT_ID]}]), "a row that is no account"),
    "a row without parents": (no_list([{"id": "a", "tree": []}]), "a row that is no account"),
    "a parent that is no id": (no_list([{"id": "a", "tree": ["/"]}]), "a row that is no account"),
    "one id in two places": (
        no_list([{"id": "a", "tree": [ROOT_ID]}, {"id": "a", "tree": ["b"]}]),
        "a list that has a in two places",
    ),
    "a next page of another type": (
        {"assign": {"next_start_key": 7}},
        "none of the platform's",
    ),
    "a next page for ever": (
        {"assign": {"next_start_key": "bmFtZQ"}, "as_query": {"start_key": FIRST}},
        "a list that does not end",
    ),
    "416, also for pages": ({"status": 416}, "416 "),
}

WRONG_ACCOUNTS: dict[str, JsonObject] = {
    "a list": {"data": []},
    "nothing": {"data": None},
    "an empty object": {"data": {}},
    "another account": {"data.id": "f" * 32},
    "an id of another type": {"data.id": 5},
    "enabled of another type": {"data.enabled": "no"},
    "a rank of another type": {"data.is_reseller": "yes"},
    "a time of another type": {"data.created": "yesterday"},
}

ODD_BUT_FINE: dict[str, JsonObject] = {
    "a revision of another type": {"revision": {"a": 1}},
    "no revision": {"revision": None},
    "tokens of another type": {"tokens": [1]},
    "tokens that make no sense": {"tokens": {"remaining": -3, "consumed": "x"}},
    "a time that is none": {"timestamp": "yesterday"},
    "a time of another type": {"timestamp": 5},
    "computed fields of another type": {"metadata": [1]},
    "a number without end": {"data.created": 10**30},
    "no next page": {"next_start_key": ""},
    "a request id of another type": {"request_id": {"a": 1}},
    "a version of another type": {"version": []},
}


def three(project: Project, world: World) -> None:
    """Three accounts under management, and nothing to do."""
    project.declare({"a": {}, "b": {"parent": "a", "reseller": True}, "c": {}}, api=BRIEFLY)
    project.settle()
    world.log.clear()


def assert_says_nothing(project: Project, world: World, *words: str) -> Ended:
    """Plan and apply end with an error that says it all, and nothing was sent."""
    for ended in (project.plan(), project.apply()):
        assert ended.code == 1, ended.out
        assert ended.out == ""
        for word in words:
            assert word in ended.err
        assert "Traceback" not in ended.err
    assert world.writes == []
    return ended


@pytest.mark.parametrize("path", [LIST, ACCOUNT])
@pytest.mark.parametrize("day", UNREADABLE)
def test_what_can_t_be_read_is_an_error_and_nothing_else(
    release: World, project: Project, day: str, path: str
) -> None:
    three(project, release)
    rule, said = UNREADABLE[day]
    if path == ACCOUNT:
        path += "$"
    release.fault(method="GET", path=path, times=None, **rule)
    ended = assert_says_nothing(project, release, "GET /accounts/", said)
    assert "Run it again." in ended.err
    release.platform.faults.clear()
    assert project.plan().code == 0


@pytest.mark.parametrize("day", [day for day in UNREADABLE if day not in {"late", "byte by byte"}])
def test_once_is_no_error(release: World, project: Project, day: str) -> None:
    three(project, release)
    release.fault(method="GET", path="/accounts/*", nth=2, times=3, **UNREADABLE[day][0])
    planned = project.plan()
    assert planned.code == 0, planned.err


@pytest.mark.parametrize("path", [LIST, ACCOUNT + "$", LOGIN])
@pytest.mark.parametrize("day", FINAL)
def test_what_will_be_said_again_is_asked_for_once(
    release: World, project: Project, day: str, path: str
) -> None:
    three(project, release)
    rule, said = FINAL[day]
    release.fault(path=path, times=None, **rule)
    if path == LOGIN and "402" in day:
        said = "402 accept charges"  # and no more: a login's answer may repeat the key
    ended = assert_says_nothing(project, release, said)
    assert "/accounts/" in ended.err or "/api_auth" in ended.err
    assert release.platform.faults.matches() <= 4  # two runs, and twice with a new token


@pytest.mark.parametrize("day", WRONG_LISTS)
def test_a_list_that_makes_no_sense_is_an_error(release: World, project: Project, day: str) -> None:
    three(project, release)
    rule, said = WRONG_LISTS[day]
    release.fault(path=LIST, times=None, **rule)
    assert_says_nothing(project, release, f"GET /accounts/{ROOT_ID}/descendants: ", said)


@pytest.mark.parametrize("day", WRONG_ACCOUNTS)
def test_an_account_that_makes_no_sense_is_an_error_that_names_its_address(
    release: World, project: Project, day: str
) -> None:
    three(project, release)
    path = f"/accounts/{release.account('b').id}"
    release.fault(path=path, times=None, phase="after", assign=WRONG_ACCOUNTS[day])
    said = f"accounts.b: A request that failed: GET {path}: "
    assert_says_nothing(
        project, release, said, "not about the account that was asked for (request "
    )


@pytest.mark.parametrize("day", ODD_BUT_FINE)
def test_what_is_odd_about_an_envelope_does_no_harm(
    release: World, project: Project, day: str
) -> None:
    three(project, release)
    if day == "a number without end":
        release.fault(
            path=f"/accounts/{release.account('b').id}", body=_endless(release), status=200
        )
    else:
        release.fault(path="*", times=None, phase="after", assign=ODD_BUT_FINE[day])
    assert project.plan().code == 0
    project.declare({"a": {}, "b": {"parent": "a", "reseller": True}, "c": {"org": "C"}, "d": {}})
    assert project.apply().code == 0
    release.platform.faults.clear()
    assert project.plan().code == 0


def _endless(world: World) -> str:
    b = world.account("b")
    return (
        f'{{"data": {{"id": "{b.id}", "name": "b", "realm": "b.sip.example.com", "id": "{b.id}",'
        f' "is_reseller": true, "enabled": true, "big": {10**30}}}}}'
    )


# --- lists in pages, short lists ---


@pytest.mark.parametrize(
    "rules",
    [
        [{"status": 416}, {"nth": 2, "times": None, "as_query": {"page_size": "2"}}],
        [{"times": None, "as_query": {"paginate": "true", "page_size": "2"}}],
    ],
    ids=["416 at first", "pages though not asked for"],
)
def test_a_list_in_pages_is_read_to_its_end(
    release: World, project: Project, rules: list[JsonObject]
) -> None:
    release.create("stranger")
    three(project, release)
    for rule in rules:
        release.fault(path=LIST, **rule)
    project.declare({"a": {}, "b": {"parent": "a", "reseller": True}, "c": {}, "stranger": {}})
    refused = project.plan()
    assert refused.code == 3
    assert "exists" in refused.out  # it stands on the last page


@pytest.mark.parametrize("broken", ["a page is lost", "a page comes twice"])
def test_a_page_that_is_lost_or_comes_twice(release: World, project: Project, broken: str) -> None:
    """By each account's own GET nothing is missing; and a list that turns in a circle is an error."""
    three(project, release)
    release.fault(path=LIST, times=None, as_query={"paginate": "true", "page_size": "2"})
    if broken == "a page is lost":
        release.fault(path=LIST, nth=2, times=None, keep=0)
        assert project.plan().code == 1
    else:
        release.fault(path=LIST, nth=2, times=None, as_query={"start_key": FIRST})
        assert "a list that does not end" in assert_says_nothing(project, release).err


@pytest.mark.parametrize("keep", [0, 1])
def test_a_list_that_lacks_most_of_what_is_there_makes_and_deletes_nothing(
    release: World, project: Project, keep: int
) -> None:
    three(project, release)
    release.fault(path=LIST, times=None, keep=keep)
    assert project.plan().code == 0  # each account's own GET says that it is there
    accounts: dict[str, JsonObject] = {"a": {}, "b": {"parent": "a", "reseller": True}, "c": {}}
    project.declare({**accounts, "d": {}})
    for refused in (project.plan(), project.apply()):
        assert refused.code == 3
        assert f"outage: The platform's list lacks {3 - keep} of 3 accounts" in refused.out
    del accounts["c"]
    project.declare(accounts, removed=[{"account": "c", "destroy": True}])
    refused = project.apply("--allow", "delete=1")
    assert refused.code == 3
    assert "outage" in refused.out
    assert release.writes == []
    release.platform.faults.clear()
    assert project.apply("--allow", "delete=1").code == 0
    assert release.names() == ["a", "b"]


def test_an_apply_waits_for_a_list_that_lags(release: World, project: Project) -> None:
    three(project, release)
    release.fault(path=LIST, times=2, keep=0)
    project.declare({"a": {}, "b": {"parent": "a", "reseller": True}, "c": {}, "d": {}})
    assert project.apply().code == 0
    assert release.names() == ["a", "b", "c", "d"]


def test_answers_that_are_too_large_are_not_kept(release: World, project: Project) -> None:
    three(project, release)
    path = f"/accounts/{release.account('b').id}"
    release.fault(path=path, times=None, status=200, body=" " * (20 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "an answer of more than 16 MiB" in assert_says_nothing(project, release).err
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024  # KiB; the sandbox runs in this process, too


# --- writes ---

EDITS: dict[str, tuple[dict[str, JsonObject], str, str]] = {
    "create": ({"a": {}, "b": {}, "new": {}}, "PUT", "/accounts/*"),
    "update": ({"a": {"org": "A"}, "b": {}}, "PATCH", "/accounts/*"),
    "promote": ({"a": {"reseller": True}, "b": {}}, "PUT", "/accounts/*/reseller"),
    "move": ({"a": {"parent": "b"}, "b": {}}, "POST", "/accounts/*/move"),
    "delete": ({"b": {}}, "DELETE", "/accounts/*"),
}

REFUSALS: dict[int, str] = {
    400: "Correct what it names, then apply again.",
    402: "It would cost money, which is never agreed to here",
    403: "The account of the credentials may not do this",
    405: "Ask the operator of the platform, with the id of the request.",
    413: "Ask the operator of the platform, with the id of the request.",
}


def edited(project: Project, world: World, kind: str) -> None:
    """Two accounts that are as declared, and then an edit."""
    project.declare({"a": {}, "b": {}})
    project.settle()
    accounts = EDITS[kind][0]
    gone: list[JsonValue] = [{"account": "a", "destroy": True}] if kind == "delete" else []
    project.declare(accounts, removed=gone, safety={"max_delete": 1}, api=BRIEFLY)
    world.log.clear()


def assert_finished(project: Project, world: World, kind: str) -> None:
    """A plain apply finishes it; nothing is there twice or lost; nothing is left open."""
    world.platform.faults.clear()
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert project.plan().code == 0
    assert world.names() == sorted(EDITS[kind][0])
    assert project.state()["intents"] == {}
    assert sorted(project.state()["accounts"]) == sorted(EDITS[kind][0])


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("kind", EDITS)
def test_a_refused_write_says_what_to_do_and_is_read_back(
    release: World, project: Project, kind: str, status: int, phase: str
) -> None:
    edited(project, release, kind)
    _, method, path = EDITS[kind]
    release.fault(method=method, path=path, phase=phase, status=status)
    applied = project.apply()
    assert applied.code == 5, applied.err
    key = "new" if kind == "create" else "a"
    line = next(line for line in applied.err.splitlines() if f"accounts.{key}: {kind}: " in line)
    assert f": failed: {method} /accounts/" in line
    assert f": {status} " in line
    assert "(request " in line
    advice = REFUSALS[status]
    if (kind, status) == ("promote", 403):
        advice = "To promote and demote takes the credentials of a superduper admin."
    assert advice in line
    if (kind, phase) == ("create", "after"):
        assert f"Yet it was created, as {release.account('new').id}" in applied.err
    assert_finished(project, release, kind)


LOST: dict[str, JsonObject] = {
    "500 before": {"status": 500},
    "503 after": {"phase": "after", "status": 503},
    "504 after": {"phase": "after", "status": 504},
    "409": {"status": 409},
    "dropped after": {"phase": "after", "drop": True},
    "broken off": {"phase": "mid"},
    "a login page after": {"phase": "after", "status": 200, "body": "<html>"},
    "a redirect after": {"phase": "after", "status": 307, "body": ""},
    "401 after": {"phase": "after", "status": 401},
    "429": {"status": 429, "times": 2},
    "429 with a date": {"status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}},
    "429 with nonsense": {"status": 429, "headers": {"Retry-After": "-5 ²"}},
    "503 with a pause": {"status": 503, "headers": {"Retry-After": "1"}},
    "the wrong account": {"phase": "after", "assign": {"data.id": "f" * 32, "revision": "99-f"}},
    "an id that is none": {"phase": "after", "assign": {"data.id": "../../x"}},
    "expired tokens": {"expire_tokens": True},
}


FAILING = {(kind, "a redirect after") for kind in EDITS}


@pytest.mark.parametrize("day", LOST)
@pytest.mark.parametrize("kind", EDITS)
def test_a_write_whose_answer_says_nothing_is_done_once(
    release: World, project: Project, kind: str, day: str
) -> None:
    edited(project, release, kind)
    _, method, path = EDITS[kind]
    release.fault(method=method, path=path, **LOST[day])
    applied = project.apply()
    assert applied.code == (5 if (kind, day) in FAILING else 0), applied.err
    assert_finished(project, release, kind)


# --- reads that lag, and places that are not so ---


@pytest.mark.parametrize("times", [1, 2])
def test_a_plan_takes_no_account_that_is_older_than_state_knows_it(
    release: World, project: Project, times: int
) -> None:
    project.declare({"a": {"org": "Old"}})
    project.settle()
    project.declare({"a": {"org": "New"}})
    project.settle()
    path = f"/accounts/{release.account('a').id}"
    release.fault(method="GET", path=path, stale=True, times=times)
    planned = project.plan()
    assert planned.code == 0, planned.out


@pytest.mark.parametrize("kind", EDITS)
def test_a_node_that_has_not_heard_of_a_write_is_given_time(
    release: World, project: Project, kind: str
) -> None:
    """Every second GET of an account answers what it was before its last write."""
    edited(project, release, kind)
    for nth in range(2, 40, 2):
        release.fault(method="GET", path=ACCOUNT + "$", nth=nth, stale=True)
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert_finished(project, release, kind)


def test_a_node_that_never_hears_of_it_is_an_error(release: World, project: Project) -> None:
    edited(project, release, "promote")
    a = release.account("a").id
    project.declare({"a": {"reseller": True, "org": "A"}, "b": {}})
    release.fault(method="GET", path=f"/accounts/{a}", nth=3, times=None, stale=True)
    applied = project.apply()
    assert applied.code == 5
    assert f"keeps answering what {a} was before its last write" in applied.err
    release.platform.faults.clear()
    assert project.apply().code == 0
    assert project.plan().code == 0


def test_an_account_that_was_put_elsewhere_is_told_of_and_moved_by_the_next_plan(
    release: World, project: Project
) -> None:
    project.declare({"a": {}, "b": {"parent": "a"}, "c": {"parent": "b"}, "d": {"parent": "a"}})
    release.fault(method="PUT", path="/accounts/*", nth=2, as_path="/accounts")
    applied = project.apply()
    assert applied.code == 5
    b, a = release.account("b").id, release.account("a").id
    said = f"accounts.b: create: failed: it was created as {b}, but stands below {ROOT_ID}, not below {a}."
    assert said in applied.err
    assert "3 created" in applied.out
    assert "Nothing was deleted" in applied.out
    assert not any(entry.method == "DELETE" for entry in release.writes)
    assert release.tree() == {"a": "root", "b": "root", "c": "b", "d": "a"}
    planned = project.plan("--format", "json").json
    assert [(c["address"], c["actions"]) for c in planned["changes"]] == [("accounts.b", ["move"])]
    assert project.apply().code == 0
    assert release.tree()["b"] == "a"
    assert project.plan().code == 0
