"""Bad days on order, by both ways of access."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from reconciler.sandbox.faults import Fault, Faults, parse_faults
from reconciler.sandbox.options import ROOT_ID, SandboxOptions

if TYPE_CHECKING:
    from reconciler.core.values import JsonValue

    from .conftest import OpenSandbox, Sandbox


def with_faults(open_sandbox: OpenSandbox, *rules: JsonValue) -> Sandbox:
    sandbox = open_sandbox()
    sandbox.platform.faults.add(*parse_faults(list(rules)))
    return sandbox


def names(sandbox: Sandbox) -> list[str]:
    return sandbox.names(f"/accounts/{ROOT_ID}/descendants")


@pytest.mark.parametrize(("phase", "made"), [("before", []), ("after", ["A"]), ("mid", ["A"])])
def test_an_answer_is_lost_before_or_after_the_commit(
    open_sandbox: OpenSandbox, phase: str, made: list[str]
) -> None:
    sandbox = with_faults(open_sandbox, {"method": "PUT", "phase": phase, "drop": True})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        sandbox.call("PUT", "/accounts", {"name": "A"})
    assert names(sandbox) == made


@pytest.mark.parametrize("rule", [{"phase": "mid"}, {"phase": "after", "truncate": 10}])
def test_an_answer_breaks_off(open_sandbox: OpenSandbox, rule: dict[str, JsonValue]) -> None:
    sandbox = with_faults(open_sandbox, {"method": "PUT", **rule})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        sandbox.call("PUT", "/accounts", {"name": "A"})
    assert names(sandbox) == ["A"]


@pytest.mark.parametrize(("phase", "made"), [("before", []), ("after", ["A"])])
def test_a_status_replaces_the_answer(
    open_sandbox: OpenSandbox, phase: str, made: list[str]
) -> None:
    sandbox = with_faults(open_sandbox, {"method": "PUT", "phase": phase, "status": 503})
    answer = sandbox.call("PUT", "/accounts", {"name": "A"})
    assert answer.status_code == 503
    assert answer.json()["message"] == "datastore_fault"
    assert names(sandbox) == made


def test_rules_count_what_they_match(open_sandbox: OpenSandbox) -> None:
    rule: JsonValue = {"path": "/accounts/*", "nth": 2, "times": 2, "status": 409}
    sandbox = with_faults(open_sandbox, rule)
    sandbox.token(ROOT_ID)
    statuses = [sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code for _ in range(5)]
    assert statuses == [200, 409, 409, 200, 200]


def test_paths_are_globs_or_regular_expressions() -> None:
    for path, hits in (
        ("*", 3),
        ("/accounts/*", 2),
        ("/accounts", 1),
        ("^/accounts/[a-z]", 1),
        ("^/accounts/.*", 2),
    ):
        faults = Faults((Fault(path=path, times=None),))
        paths = ("/accounts", "/accounts/a", "/accounts/a/reseller")
        assert sum(len(faults.struck("GET", each, 0)) for each in paths) == hits


def test_a_proxys_page_is_html(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"status": 502})
    answer = sandbox.call("GET", f"/accounts/{ROOT_ID}")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "text/html"
    assert answer.text.startswith("<html>")


def test_body_and_headers_can_be_chosen(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(
        open_sandbox,
        {"status": 429, "headers": {"Retry-After": "7"}},
        {"nth": 2, "status": 500, "body": "no", "content_type": "text/plain"},
        {"nth": 3, "status": 500, "body": {"odd": True}},
    )
    limited, plain, odd = (sandbox.call("GET", f"/accounts/{ROOT_ID}") for _ in range(3))
    assert (limited.headers["retry-after"], limited.json()["error"]) == ("7", "429")
    assert (plain.headers["content-type"], plain.text) == ("text/plain", "no")
    assert odd.json() == {"odd": True}


def test_a_slow_create_is_carried_out_though_nobody_waits(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"method": "PUT", "delay_ms": 150})
    sandbox._client.timeout = httpx.Timeout(0.05)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.call("PUT", "/accounts", {"name": "A"})
    sandbox._runner.run(asyncio.sleep(0.2))
    assert names(sandbox) == ["A"]


def test_tokens_expire_in_mid_run(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"nth": 2, "expire_tokens": True})
    statuses = [sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code for _ in range(3)]
    assert statuses == [200, 401, 401]
    sandbox.root = sandbox.token(ROOT_ID)
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 200


def test_fields_change_by_themselves(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"method": "GET", "nth": 2, "times": 2, "occur": True})
    account_id = sandbox.create("A", notifications={"low_balance": {"threshold": 5}})
    first, second, third = (sandbox.get(account_id)["notifications"] for _ in range(3))
    assert first == {"low_balance": {"threshold": 5}}
    happened = {"sent_initial_call": True, "sent_initial_registration": True}
    assert second == {
        "low_balance": {
            "threshold": 5,
            "sent_low_balance": True,
            "last_notification": int(sandbox.clock.now) + 62_167_219_200,
        },
        "first_occurrence": happened,
    }
    assert third == {
        "low_balance": {"threshold": 5, "sent_low_balance": False},
        "first_occurrence": happened,
    }


def test_any_write_can_be_meant(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"method": "WRITES", "path": "/accounts*", "status": 503})
    sandbox.token(ROOT_ID)
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 200
    assert sandbox.call("PUT", "/accounts", {"name": "A"}).status_code == 503
    assert sandbox.call("PUT", "/accounts", {"name": "A"}).status_code == 201


def test_a_request_is_taken_for_another(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox()
    a, b = (sandbox.create(name) for name in "AB")
    sandbox.platform.faults.add(Fault(as_path="/accounts"))
    sandbox.platform.faults.add(Fault(nth=2, as_query={"page_size": "1"}))
    assert sandbox.call("PUT", f"/accounts/{a}", {"name": "C"}).status_code == 201
    answer = sandbox.call("GET", f"/accounts/{ROOT_ID}/children").json()
    assert [row["name"] for row in answer["data"]] == ["C"]
    assert names(sandbox) == ["C", "B", "A"]
    assert sandbox.get(b)["name"] == "B"


def test_a_read_is_older_than_the_last_write(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox()
    account_id = sandbox.create("A", language="en-us")
    before = sandbox.call("GET", f"/accounts/{account_id}").json()
    sandbox.call("PATCH", f"/accounts/{account_id}", {"language": "de-de", "enabled": True})
    sandbox.platform.faults.add(Fault(stale=True))
    old, new = (sandbox.call("GET", f"/accounts/{account_id}").json() for _ in range(2))
    assert (old["data"]["language"], old["revision"]) == ("en-us", before["revision"])
    assert new["data"]["language"] == "de-de"


def test_a_rule_has_a_bucket_of_its_own(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(
        open_sandbox,
        {"path": "/accounts/*", "times": None, "bucket": 2, "refill": 1, "headers": {"X-R": "1"}},
    )
    sandbox.token(ROOT_ID)
    answers = [sandbox.call("GET", f"/accounts/{ROOT_ID}") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert "x-r" in answers[2].headers
    assert "x-r" not in answers[0].headers
    sandbox.clock.now += 1
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 200
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 429


def test_an_answer_is_edited(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox()
    for name in "AB":
        sandbox.create(name)
    path = f"/accounts/{ROOT_ID}/descendants"
    sandbox.platform.faults.add(
        Fault(path=path, keep=1, assign={"data.0.name": 5, "tokens": None}, headers={"X-Y": "z"})
    )
    answer = sandbox.call("GET", path)
    assert answer.headers["x-y"] == "z"
    assert [row["name"] for row in answer.json()["data"]] == [5]
    assert answer.json()["tokens"] is None
    assert names(sandbox) == ["B", "A"]


def test_a_body_is_a_bomb_or_comes_byte_by_byte(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"nth": 2, "bomb_mib": 3}, {"nth": 3, "drip_ms": 1})
    sandbox.token(ROOT_ID)
    bomb, slow = (sandbox.call("GET", f"/accounts/{ROOT_ID}") for _ in range(2))
    assert bomb.headers["content-encoding"] == "gzip"
    assert len(bomb.content) == 3 << 20
    assert int(bomb.headers["content-length"]) < 1 << 14
    assert slow.json()["data"]["id"] == ROOT_ID


def test_errors_come_in_the_vendors_form(open_sandbox: OpenSandbox) -> None:
    options = SandboxOptions(error_format="vinix", rate_limit=False)
    sandbox = open_sandbox(options)
    unknown = sandbox.call("GET", f"/accounts/{'f' * 32}")
    assert unknown.json() == {
        "code": "bad_identifier",
        "message": "bad identifier",
        "request_id": unknown.headers["x-request-id"],
    }
    invalid = sandbox.call("PUT", "/accounts", {"name": "", "language": 5}).json()
    assert invalid["message"] == "validation error: language: type; name: minLength"
    sandbox.platform.faults.add(Fault(status=409))
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").json()["code"] == "datastore_conflict"


def test_a_bad_day_can_end(open_sandbox: OpenSandbox) -> None:
    sandbox = with_faults(open_sandbox, {"status": 503, "times": None})
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 503
    sandbox.platform.faults.clear()
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").status_code == 200


def test_every_key_of_a_rule_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "platform.md"
    table = page.read_text(encoding="utf-8").partition("Faults on order besides")[2]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line[:40])}
    assert {field.name for field in fields(Fault)} <= named


def test_everything_wrong_with_rules_is_named() -> None:
    with pytest.raises(ValueError, match=r"rule 1\.nth: .*rule 2\.colour: .*rule 3\.path: "):
        parse_faults([{"nth": 0}, {"colour": "red"}, {"path": "^["}])
    with pytest.raises(ValueError, match="array"):
        parse_faults({"status": 500})
    with pytest.raises(ValueError, match=r"rule 1\.drop"):
        parse_faults([{"drop": "yes"}])
