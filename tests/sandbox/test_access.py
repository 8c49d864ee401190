"""Who gets in and how often, and what stands around the data, by both ways of access."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.app import LogEntry
from reconciler.sandbox.options import (
    ADMIN_ID,
    ROOT_API_KEY,
    ROOT_ID,
    SandboxOptions,
)

if TYPE_CHECKING:
    from .conftest import OpenSandbox, Sandbox


def test_a_token_is_taken_from_several_places(sandbox: Sandbox) -> None:
    path, token = f"/accounts/{ROOT_ID}", sandbox.root
    assert sandbox.send("GET", path, None, authorization=f"Bearer {token}").status_code == 200
    assert sandbox.send("GET", f"{path}?auth_token={token}", None).status_code == 200
    envelope = json.dumps({"data": {}, "auth_token": token}).encode()
    assert sandbox.send("PATCH", path, None, envelope).status_code == 200


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é".encode().decode("latin-1")])
def test_a_token_that_is_none_of_ours_is_refused(sandbox: Sandbox, token: str) -> None:
    forged = sandbox.root.rpartition(".")[0] + "." + token
    for wrong in (token, forged):
        answer = sandbox.call("GET", f"/accounts/{ROOT_ID}?auth_token={wrong}", token="x")
        assert (answer.status_code, answer.json()["data"]) == (401, {})


def test_the_token_of_a_deleted_account_is_worth_nothing(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    token = sandbox.token(account_id)
    assert sandbox.call("DELETE", f"/accounts/{account_id}", token=token).status_code == 200
    assert sandbox.call("GET", f"/accounts/{account_id}", token=token).status_code == 401


def test_a_token_lives_as_long_as_the_options_say(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(token_life=10, rate_limit=False))
    sandbox.clock.now += 9
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 200
    sandbox.clock.now += 1
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 401


def test_logins_are_limited_too_and_buckets_fill_to_the_brim_only(
    open_sandbox: OpenSandbox,
) -> None:
    sandbox = open_sandbox(SandboxOptions())
    sandbox.clock.now += 100
    body = {"api_key": ROOT_API_KEY}
    statuses = [sandbox.call("PUT", "/api_auth", {**body}).status_code for _ in range(101)]
    assert statuses == [201] * 100 + [429]
    sandbox.clock.now += 0.9
    assert sandbox.call("PUT", "/api_auth", {**body}).status_code == 429
    sandbox.clock.now += 0.2
    assert sandbox.call("PUT", "/api_auth", {**body}).status_code == 201


def test_a_disabled_account_can_not_log_in(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    record = sandbox.platform.store.get(account_id)
    assert record is not None
    sandbox.patch(account_id, enabled=False)
    answer = sandbox.call("PUT", "/api_auth", {"api_key": record.api_key})
    assert answer.status_code == 400
    assert set(answer.json()["data"]["account"]) == {"disabled"}


def test_a_login_is_checked_field_by_field(sandbox: Sandbox) -> None:
    for kind, data, rules in (
        ("api_auth", {}, {"api_key": {"required"}}),
        ("api_auth", {"api_key": 5}, {"api_key": {"type"}}),
        ("api_auth", {"api_key": "0" * 65}, {"api_key": {"maxLength"}}),
        ("user_auth", {"account_name": "A"}, {"credentials": {"required"}}),
        (
            "user_auth",
            {"credentials": "x", "realm": "a/b.c"},
            {"account_realm": {"pattern"}},
        ),
    ):
        answer = sandbox.call("PUT", f"/{kind}", dict(data.items()))
        assert answer.status_code == 400
        assert {path: set(found) for path, found in answer.json()["data"].items()} == rules


def test_a_new_api_key_lasts_until_the_next_write(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    path = f"/accounts/{account_id}/api_key"
    old = sandbox.call("GET", path).json()["data"]["api_key"]
    assert sandbox.call("PUT", path).status_code == 403
    user = sandbox.platform.tokens.issue(ROOT_ID, ADMIN_ID)
    renewed = sandbox.call("PUT", path, {}, user)
    assert renewed.status_code == 201
    new = renewed.json()["data"]["api_key"]

    def works(key: str) -> bool:
        return sandbox.call("PUT", "/api_auth", {"api_key": key}).status_code == 201

    assert (works(old), works(new)) == (False, True)
    shown = sandbox.call("GET", f"/accounts/{account_id}?include_api_key=true").json()["data"]
    assert shown["api_key"] == new
    sandbox.patch(account_id, language="de-de")
    assert (works(old), works(new)) == (True, False)


def test_family_is_seen_from_the_callers_account_down(sandbox: Sandbox) -> None:
    above = sandbox.create("Above")
    account = sandbox.create("Account", above)
    sandbox.create("Brother", above)
    below = sandbox.create("Below", account)
    names = ["Sandbox", "Above", "Account"]
    assert sandbox.names(f"/accounts/{below}/parents") == names
    assert sorted(sandbox.names(f"/accounts/{below}/tree")) == sorted(names)
    token = sandbox.token(above)
    seen = sandbox.call("GET", f"/accounts/{below}/parents", token=token).json()["data"]
    assert [row["name"] for row in seen] == ["Above", "Account"]
    own = sandbox.call("GET", f"/accounts/{above}/tree", token=token)
    assert own.json()["data"] == []
    assert sandbox.names(f"/accounts/{account}/siblings") == ["Brother", "Account"]
    assert sandbox.call("GET", f"/accounts/{above}/siblings", token=token).status_code == 403


def test_lists_are_filtered_by_the_full_document(sandbox: Sandbox) -> None:
    sandbox.create("A", language="de-de", topup={"threshold": 5})
    sandbox.clock.now += 10
    sandbox.create("B", language="", flags=["x"])
    later = int(sandbox.clock.now) + 62_167_219_200
    for query, names in (
        ("filter_language=de-de", ["A"]),
        ("filter_not_language=de-de", ["B"]),
        ("filter_topup.threshold=5", ["A"]),
        ("filter_enabled=true", ["B", "A"]),
        ("has_key=language", ["B", "A"]),
        ("key_missing=flags", ["A"]),
        ("has_value=language", ["A"]),
        ("value_missing=language", ["B"]),
        (f"created_from={later}", ["B"]),
        (f"created_to={later - 1}", ["A"]),
        ("descending=false", ["A", "B"]),
    ):
        assert sandbox.names(f"/accounts/{ROOT_ID}/children?{query}") == names, query


def test_a_list_does_not_take_a_foreign_key(sandbox: Sandbox) -> None:
    for key in ("!", "Zm9v", "W10"):
        answer = sandbox.call("GET", f"/accounts/{ROOT_ID}/children?start_key={key}")
        assert answer.status_code == 400


def test_equal_names_repeat_at_the_edge_of_a_page(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(unique_names=False, rate_limit=False))
    for _ in range(3):
        sandbox.create("Twin")
    path = f"/accounts/{ROOT_ID}/children?page_size=2"
    first = sandbox.call("GET", path).json()
    again = sandbox.call("GET", f"{path}&start_key={first['next_start_key']}").json()
    assert again["data"] == first["data"]
    assert again["next_start_key"] == first["next_start_key"]


def test_paths_that_lead_nowhere(sandbox: Sandbox) -> None:
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}/").status_code == 200
    assert sandbox.call("GET", "/nothing").content == b""
    for path in ("/nothing", f"/accounts/{ROOT_ID}/limits", f"/accounts/{ROOT_ID}/a/b"):
        assert sandbox.call("GET", path).status_code == 404
    gone = sandbox.send("GET", str(sandbox._client.base_url).replace("v2", "v1"), sandbox.root)
    assert gone.status_code == 410


def test_bodies_that_are_too_much(sandbox: Sandbox) -> None:
    path = f"/accounts/{ROOT_ID}"
    long = sandbox.send("PATCH", path, sandbox.root, b" " * 8_000_001)
    assert long.status_code == 413
    assert long.json()["data"]["file"].keys() == {"maxSize"}
    deep = b'{"data": {"caller_id": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}}"
    assert sandbox.send("PATCH", path, sandbox.root, deep).status_code in {400, 500}
    for wrong in (b"[]", b'{"data": null}', b'{"data": []}', b'{"data": 5}'):
        assert sandbox.send("PATCH", path, sandbox.root, wrong).status_code == 400


def test_a_trial_is_consumed_at_creation(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A", is_trial_account=True)
    sandbox.clock.now += 60
    document = sandbox.get(account_id)
    assert document["trial_time_left"] == 14 * 24 * 3600 - 60
    assert "is_trial_account" not in document


def test_pretty_printing_is_an_option(sandbox: Sandbox) -> None:
    answer = sandbox.call("GET", f"/accounts/{ROOT_ID}?pretty_print=true")
    assert "\n" in answer.text


def test_the_log_tells_what_came_but_no_secrets(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(log_requests=True))
    account_id = sandbox.create("A", org="O")
    sandbox.call("PUT", "/accounts?send_email_on_creation=false", {"name": "B"})
    sandbox.call("GET", f"/accounts/{ROOT_ID}?auth_token=secret&page_size=1")
    assert sandbox.platform.log == [
        LogEntry("PUT", "/api_auth", {}, 201, {}),
        LogEntry("PUT", f"/accounts/{ROOT_ID}", {}, 201, {"name": "A", "org": "O"}),
        LogEntry("PUT", "/accounts", {"send_email_on_creation": "false"}, 201, {"name": "B"}),
        LogEntry("GET", f"/accounts/{ROOT_ID}", {"page_size": "1"}, 200, {}),
    ]
    assert sandbox.platform.mails == [account_id]


def test_uniqueness_rests_on_views_and_lags_like_them(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(rate_limit=False, view_lag_ms=1000))
    sandbox.create("A", realm="a.example.com")
    sandbox.create("A", realm="a.example.com")
    sandbox.clock.now += 1
    assert sandbox.call("PUT", "/accounts", {"name": "A"}).status_code == 400
