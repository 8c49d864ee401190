"""One test for each numbered behaviour of docs/platform.md 9, by both ways of access.

`sandbox` is both dialects one after the other, `release` and `head` are the one.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import (
    ADMIN_PASSWORD,
    ADMIN_USERNAME,
    ROOT_API_KEY,
    ROOT_ID,
    SandboxOptions,
)

if TYPE_CHECKING:
    import httpx

    from reconciler.core.values import JsonObject

    from .conftest import OpenSandbox, Sandbox

UNKNOWN = "f" * 32
RANDOM_REALM = re.compile(r"[0-9a-f]{6}\.sip\.2600hz\.com")


def rules_of(answer: httpx.Response) -> dict[str, set[str]]:
    """Read a validation error: field -> rules that it breaks."""
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert (body["status"], body["error"]) == ("error", "400")
    assert body["message"] == "validation error"
    return {path: set(rules) for path, rules in body["data"].items()}


def symbol(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["message"]


def credentials(password: str) -> str:
    return hashlib.md5(f"{ADMIN_USERNAME}:{password}".encode(), usedforsecurity=False).hexdigest()


def test_01_an_api_key_opens_a_session(sandbox: Sandbox) -> None:
    right = sandbox.call("PUT", "/api_auth", {"api_key": ROOT_API_KEY})
    assert right.status_code == 201
    assert right.json()["auth_token"]
    assert right.json()["data"]["account_id"] == ROOT_ID
    assert "owner_id" not in right.json()["data"]

    unknown = sandbox.call("PUT", "/api_auth", {"api_key": "0" * 64})
    assert symbol(unknown) == (404, "bad identifier")
    assert unknown.json()["data"] == ["0" * 64]

    short = sandbox.call("PUT", "/api_auth", {"api_key": "0" * 63})
    assert rules_of(short) == {"api_key": {"minLength"}}
    more = sandbox.call("PUT", "/api_auth", {"api_key": ROOT_API_KEY, "method": "md5"})
    assert rules_of(more) == {"method": {"additionalProperties"}}


@pytest.mark.parametrize(
    "account", [{"account_name": "SAND box!"}, {"realm": "sandbox.sip.example.com"}]
)
def test_02_a_user_logs_in(sandbox: Sandbox, account: dict[str, str]) -> None:
    right = {"credentials": credentials(ADMIN_PASSWORD), **account}
    answer = sandbox.call("PUT", "/user_auth", {**right})
    assert answer.status_code == 201
    assert answer.json()["data"]["owner_id"]

    for wrong in (
        {**right, "credentials": credentials("no")},
        {**right, "method": "sha"},
        {**right, "method": "rot13"},
        {"credentials": right["credentials"], "account_name": "nobody"},
        {"credentials": right["credentials"]},
    ):
        answer = sandbox.call("PUT", "/user_auth", {**wrong})
        assert symbol(answer) == (401, "invalid_credentials")


def test_03_a_token_is_checked_before_the_account_and_its_absence_after(sandbox: Sandbox) -> None:
    sandbox.clock.now += 3601
    expired = sandbox.call("GET", f"/accounts/{UNKNOWN}")
    assert symbol(expired) == (401, "invalid credentials")
    assert expired.json()["data"] == {}

    nobody = sandbox.send("GET", f"/accounts/{ROOT_ID}", token=None)
    assert symbol(nobody) == (401, "invalid_credentials")
    assert symbol(sandbox.send("GET", f"/accounts/{UNKNOWN}", token=None)) == (
        404,
        "bad_identifier",
    )


def test_04_an_id_of_the_wrong_length_is_not_an_unknown_one(sandbox: Sandbox) -> None:
    assert symbol(sandbox.call("GET", f"/accounts/{'f' * 31}")) == (404, "bad identifier")
    unknown = sandbox.call("GET", f"/accounts/{UNKNOWN}")
    assert symbol(unknown) == (404, "bad_identifier")
    assert unknown.json()["data"] == {"message": "bad identifier", "cause": UNKNOWN}


def test_05_another_branch_is_forbidden(sandbox: Sandbox) -> None:
    mine, other = sandbox.create("Mine"), sandbox.create("Other")
    below = sandbox.create("Below", parent=mine)
    token = sandbox.token(mine)
    assert sandbox.get(below, token)["name"] == "Below"
    for account_id in (other, ROOT_ID):
        answer = sandbox.call("GET", f"/accounts/{account_id}", token=token)
        assert symbol(answer) == (403, "forbidden")


def test_06_a_new_account_has_the_platforms_defaults(sandbox: Sandbox) -> None:
    parent = sandbox.create("Parent", timezone="Europe/Paris")
    answer = sandbox.call("PUT", f"/accounts/{parent}", {"name": "A"})
    assert answer.status_code == 201
    document = answer.json()["data"]
    assert RANDOM_REALM.fullmatch(document["realm"])
    assert document["timezone"] == "America/Los_Angeles"
    for field in ("call_restriction", "music_on_hold", "preflow", "ringtones"):
        assert document[field] == {}
    assert document["enabled"] is True
    assert document["is_reseller"] is False
    assert document["created"] == int(sandbox.clock.now) + 62_167_219_200
    assert "revision" not in answer.json()
    assert "location" not in answer.headers
    assert "etag" not in answer.headers
    below_own = sandbox.call("PUT", "/accounts", {"name": "B"})
    assert "reseller_id" not in below_own.json()["data"]


def test_07_a_name_is_required(sandbox: Sandbox) -> None:
    assert "required" in rules_of(sandbox.call("PUT", "/accounts", {}))["name"]
    account_id = sandbox.create("A")
    assert "required" in rules_of(sandbox.patch(account_id, name=None))["name"]
    assert sandbox.names(f"/accounts/{ROOT_ID}/descendants") == ["A"]


def test_08_a_realm_is_unique_whatever_its_case(sandbox: Sandbox) -> None:
    parent = sandbox.create("First", realm="acme.example.com")
    second = {"name": "Second", "realm": "Acme.Exam ple.com"}
    answer = sandbox.call("PUT", f"/accounts/{parent}", {**second})
    assert rules_of(answer) == {"realm": {"unique"}}
    assert answer.json()["data"]["realm"]["unique"]["cause"] == "Acme.Example.com"
    blanks = sandbox.create("Blanks", realm="A b.example.com")
    assert sandbox.get(blanks)["realm"] == "Ab.example.com"
    assert sandbox.patch(parent, realm="ACME.example.com").status_code == 200


def test_09_a_name_is_unique_by_its_letters_and_digits(sandbox: Sandbox) -> None:
    sandbox.create("ACME INC")
    answer = sandbox.call("PUT", "/accounts", {"name": "Acme, Inc."})
    assert rules_of(answer) == {"name": {"unique"}}
    sandbox.create("Société")
    assert rules_of(sandbox.call("PUT", "/accounts", {"name": "Socit"})) == {"name": {"unique"}}
    sandbox.create("株式会社")
    assert rules_of(sandbox.call("PUT", "/accounts", {"name": "…"})) == {"name": {"unique"}}


def test_10_all_errors_come_at_once(sandbox: Sandbox) -> None:
    answer = sandbox.call("PUT", "/accounts", {"name": "", "language": 5, "realm": "a/b.com"})
    assert rules_of(answer) == {"name": {"minLength"}, "language": {"type"}, "realm": {"pattern"}}


def test_11_the_schema_holds_and_unknown_keys_are_kept(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    assert rules_of(sandbox.patch(account_id, timezone="UTC")) == {"timezone": {"minLength"}}
    path = "call_recording.account.any.any"
    for limit, rule in ((4, "minimum"), (10801, "maximum")):
        recording: JsonObject = {"account": {"any": {"any": {"time_limit": limit}}}}
        answer = sandbox.patch(account_id, call_recording=recording)
        assert rules_of(answer) == {f"{path}.time_limit": {rule}}
    answer = sandbox.patch(account_id, call_recording={"account": {"sometimes": {}}})
    assert rules_of(answer) == {"call_recording.account.sometimes": {"additionalProperties"}}
    assert sandbox.patch(account_id, colour="red").status_code == 200
    assert sandbox.get(account_id)["colour"] == "red"
    flow = {"module": "dance"}
    answer = sandbox.patch(account_id, metaflows={"patterns": {"^1.2$": {**flow}}})
    assert rules_of(answer) == {"metaflows.patterns.^1%2E2$.module": {"error"}}


def test_12_an_id_in_a_create_destroys_the_account_that_has_it(sandbox: Sandbox) -> None:
    victim = sandbox.create("Victim")
    below = sandbox.create("Below", parent=victim)
    answer = sandbox.call("PUT", "/accounts", {"name": "New", "id": victim})
    assert answer.status_code == 201
    assert answer.json()["data"]["id"] == victim
    assert sandbox.call("GET", f"/accounts/{victim}").status_code == 404
    assert sandbox.call("GET", f"/accounts/{below}").status_code == 200
    assert sandbox.create("Chosen", id="c" * 32) == "c" * 32
    assert sandbox.call("PUT", "/accounts", {"name": "Odd", "id": "x"}).status_code == 500


def test_13_text_that_means_a_number_or_a_boolean_becomes_one(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    assert sandbox.patch(account_id, enabled="false").status_code == 200
    assert sandbox.get(account_id)["enabled"] is False
    for sent, kept in (("60", 60), (60.4, 60), ("60.5", 61)):
        recording: JsonObject = {"account": {"any": {"any": {"time_limit": sent}}}}
        assert sandbox.patch(account_id, call_recording=recording).status_code == 200
        assert sandbox.get(account_id)["call_recording"] == {
            "account": {"any": {"any": {"time_limit": kept}}}
        }
    assert rules_of(sandbox.patch(account_id, enabled="yes")) == {"enabled": {"type"}}


def test_14_a_patch_without_enabled_enables(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    sandbox.patch(account_id, enabled=False)
    assert sandbox.get(account_id)["enabled"] is False
    sandbox.patch(account_id, language="de-de")
    assert sandbox.get(account_id)["enabled"] is True
    token = sandbox.token(account_id)
    own = sandbox.call("PATCH", f"/accounts/{account_id}", {"enabled": False}, token)
    assert own.status_code == 200
    assert own.json()["data"]["enabled"] is True


def test_15_an_account_is_born_enabled_below_the_callers_own(sandbox: Sandbox) -> None:
    born = sandbox.call("PUT", f"/accounts/{ROOT_ID}", {"name": "A", "enabled": False})
    assert born.status_code == 201
    assert born.json()["data"]["enabled"] is True


def test_15_head_listens_to_enabled_further_below(head: Sandbox, release: Sandbox) -> None:
    for sandbox, enabled in ((head, False), (release, True)):
        parent = sandbox.create("Parent")
        assert sandbox.get(sandbox.create("A", parent, enabled=False))["enabled"] is enabled
        sandbox.patch(parent, enabled=False)
        born_of_disabled = sandbox.get(sandbox.create("B", parent))["enabled"]
        assert born_of_disabled is (sandbox is head)


def test_16_objects_merge_and_empty_ones_and_lists_replace(sandbox: Sandbox) -> None:
    caller = {"name": "N", "number": "+1"}
    account_id = sandbox.create("A", caller_id={"external": {**caller}}, flags=["a", "b"])
    sandbox.patch(account_id, caller_id={"external": {"name": "X"}}, flags=["c"])
    assert sandbox.get(account_id)["caller_id"] == {"external": {"name": "X", "number": "+1"}}
    assert sandbox.get(account_id)["flags"] == ["c"]
    sandbox.patch(account_id, caller_id={"external": {}})
    assert sandbox.get(account_id)["caller_id"] == {"external": {}}


def test_17_null_removes_a_leaf_in_release_only(release: Sandbox, head: Sandbox) -> None:
    for sandbox, left in ((release, {"number": "+1"}), (head, {"name": "N", "number": "+1"})):
        account_id = sandbox.create("A", caller_id={"external": {"name": "N", "number": "+1"}})
        answer = sandbox.patch(account_id, caller_id={"external": {"name": None}})
        assert answer.status_code == 200
        assert sandbox.get(account_id)["caller_id"] == {"external": left}


def test_18_null_gives_defaults_back(sandbox: Sandbox) -> None:
    parent = sandbox.create("Parent", timezone="Europe/Paris")
    hold = {"media_id": "m"}
    account_id = sandbox.create("A", parent, realm="a.example.com", music_on_hold={**hold})
    sandbox.patch(account_id, realm=None, timezone=None, music_on_hold=None)
    document = sandbox.get(account_id)
    assert RANDOM_REALM.fullmatch(str(document["realm"]))
    assert document["timezone"] == "Europe/Paris"
    assert document["music_on_hold"] == {}


def test_19_post_remakes_what_is_absent(release: Sandbox, head: Sandbox) -> None:
    for sandbox in (release, head):
        account_id = sandbox.create(
            "A",
            realm="a.example.com",
            timezone="Europe/Paris",
            language="de-de",
            preflow={"always": "x"},
        )
        sandbox.patch(account_id, enabled=False)
        answer = sandbox.call("POST", f"/accounts/{account_id}", {"name": "A"})
        assert answer.status_code == 200
        document = sandbox.get(account_id)
        assert RANDOM_REALM.fullmatch(str(document["realm"]))
        assert document["timezone"] == "America/Los_Angeles"
        assert document["preflow"] == {}
        assert document["enabled"] is True
        assert document.get("language") == ("de-de" if sandbox is head else None)
        answer = sandbox.call("POST", f"/accounts/{account_id}", {"name": "A", "org": None})
        assert rules_of(answer) == {"org": {"type"}}


def test_20_head_writes_what_it_refuses(head: Sandbox, release: Sandbox) -> None:
    for sandbox in (head, release):
        sandbox.create("First", realm="taken.example.com")
        account_id = sandbox.create("Second", realm="mine.example.com", language="en-us")
        answer = sandbox.patch(account_id, realm="taken.example.com", language="de-de")
        assert rules_of(answer) == {"realm": {"unique"}}
        document = sandbox.get(account_id)
        written = document["realm"] == "taken.example.com" and document["language"] == "de-de"
        assert written is (sandbox is head)


def test_21_an_old_error_elsewhere_refuses_every_patch(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    record = sandbox.platform.store.get(account_id)
    assert record is not None
    sandbox.platform.store.put(replace(record, document={**record.document, "org": 5}))
    assert rules_of(sandbox.patch(account_id, language="de-de")) == {"org": {"type"}}
    assert sandbox.patch(account_id, language="de-de", org="Five").status_code == 200


def test_22_private_fields_can_not_be_written(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    before = sandbox.get(account_id)
    answer = sandbox.patch(
        account_id,
        wnm_allow_additions=True,
        superduper_admin=True,
        billing_mode="x",
        pvt_x=1,
        _x=1,
    )
    assert answer.status_code == 200
    assert sandbox.get(account_id) == before


def test_23_is_reseller_can_not_be_patched(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    assert sandbox.patch(account_id, is_reseller=True).status_code == 200
    assert sandbox.get(account_id)["is_reseller"] is False


def test_24_promoting_twice_writes_once(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    first = sandbox.call("PUT", f"/accounts/{account_id}/reseller", {"name": "ignored"})
    second = sandbox.call("PUT", f"/accounts/{account_id}/reseller")
    for answer in (first, second):
        assert answer.status_code == 201
        assert answer.json()["data"]["is_reseller"] is True
        assert answer.json()["data"]["name"] == "A"
    assert first.json()["revision"] == second.json()["revision"]
    third = sandbox.call("DELETE", f"/accounts/{account_id}/reseller")
    assert third.status_code == 200
    assert third.json()["data"]["_read_only"] == {"deleted": True}
    assert sandbox.get(account_id)["is_reseller"] is False


def test_25_only_superduper_promotes_and_never_the_master(sandbox: Sandbox) -> None:
    reseller = sandbox.create("A")
    below = sandbox.create("B", reseller)
    sandbox.call("PUT", f"/accounts/{reseller}/reseller")
    token = sandbox.token(reseller)
    own_customer = sandbox.call("PUT", f"/accounts/{below}/reseller", {}, token)
    assert symbol(own_customer) == (403, "forbidden")
    assert symbol(sandbox.call("PUT", f"/accounts/{ROOT_ID}/reseller")) == (403, "forbidden")
    assert symbol(sandbox.call("PUT", f"/accounts/{UNKNOWN}/reseller", {}, token))[0] == 404


def test_25_the_master_may_lack_the_flag(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(superduper=False))
    account_id = sandbox.create("A")
    assert sandbox.get(ROOT_ID)["superduper_admin"] is False
    assert symbol(sandbox.call("PUT", f"/accounts/{account_id}/reseller")) == (403, "forbidden")


def test_26_resellers_below_stop_promotion_and_demotion(sandbox: Sandbox) -> None:
    above = sandbox.create("Above")
    below = sandbox.create("Below", sandbox.create("Between", above))
    sandbox.call("PUT", f"/accounts/{below}/reseller")
    before = sandbox.revision(above)
    for method in ("PUT", "DELETE"):
        answer = sandbox.call(method, f"/accounts/{above}/reseller")
        assert symbol(answer) == (500, "account_has_descendants")
    assert sandbox.revision(above) == before
    assert sandbox.get(above)["is_reseller"] is False


def test_27_descendants_follow_their_reseller(sandbox: Sandbox) -> None:
    above = sandbox.create("Above")
    account = sandbox.create("Account", above)
    below = [sandbox.create("Child", account)]
    below.append(sandbox.create("Grandchild", below[0]))
    sandbox.call("PUT", f"/accounts/{above}/reseller")
    revisions = [sandbox.revision(each) for each in below]

    sandbox.call("PUT", f"/accounts/{account}/reseller")
    assert [sandbox.get(each)["reseller_id"] for each in below] == [account, account]
    assert sandbox.get(account)["reseller_id"] == above
    assert [sandbox.revision(each) for each in below] == [number + 1 for number in revisions]

    sandbox.call("DELETE", f"/accounts/{account}/reseller")
    assert [sandbox.get(each)["reseller_id"] for each in below] == [above, above]
    sandbox.call("DELETE", f"/accounts/{above}/reseller")
    assert [sandbox.get(each)["reseller_id"] for each in below] == [ROOT_ID, ROOT_ID]


def test_28_only_a_leaf_is_deleted_and_only_once(sandbox: Sandbox) -> None:
    parent = sandbox.create("Parent")
    child = sandbox.create("Child", parent)
    refused = sandbox.call("DELETE", f"/accounts/{parent}")
    assert symbol(refused) == (500, "account_has_descendants")
    assert symbol(sandbox.call("DELETE", f"/accounts/{ROOT_ID}")) == (405, "invalid_method")
    for account_id in (child, parent):
        done = sandbox.call("DELETE", f"/accounts/{account_id}")
        assert done.status_code == 200
        assert done.json()["data"]["_read_only"] == {"deleted": True}
        assert sandbox.call("DELETE", f"/accounts/{account_id}").status_code == 404


def test_29_a_move_takes_all_below_along_and_trusts_the_target(sandbox: Sandbox) -> None:
    old, new = sandbox.create("Old"), sandbox.create("New")
    account = sandbox.create("Account", old)
    below = sandbox.create("Below", account)
    for target in (account, below):
        refused = sandbox.call("POST", f"/accounts/{account}/move", {"to": target})
        assert symbol(refused) == (403, "forbidden")
    assert rules_of(sandbox.call("POST", f"/accounts/{account}/move", {})) == {"to": {"required"}}

    moved = sandbox.call("POST", f"/accounts/{account}/move", {"to": new})
    assert moved.status_code == 200
    rows = sandbox.call("GET", f"/accounts/{ROOT_ID}/descendants").json()["data"]
    trees = {row["name"]: row["tree"] for row in rows}
    assert trees["Account"] == [ROOT_ID, new]
    assert trees["Below"] == [ROOT_ID, new, account]
    assert sandbox.names(f"/accounts/{old}/descendants") == []

    lost = sandbox.call("POST", f"/accounts/{account}/move", {"to": UNKNOWN})
    assert lost.status_code == 200
    assert sandbox.names(f"/accounts/{ROOT_ID}/descendants") == ["Old", "New"]
    assert sandbox.get(below)["name"] == "Below"


def test_29_who_may_move_is_the_operators_choice(open_sandbox: OpenSandbox) -> None:
    for allow_move, status in (("superduper_admin", 403), ("tree", 200)):
        options = SandboxOptions(rate_limit=False)
        if allow_move == "tree":
            options = replace(options, allow_move="tree")
        sandbox = open_sandbox(options)
        above = sandbox.create("Above")
        account, target = sandbox.create("Account", above), sandbox.create("Target", above)
        outside = sandbox.create("Outside")
        token = sandbox.token(above)
        for to, expected in ((outside, 403), (target, status)):
            answer = sandbox.call("POST", f"/accounts/{account}/move", {"to": to}, token)
            assert answer.status_code == expected


def test_30_lists_come_in_pages(sandbox: Sandbox) -> None:
    names = [f"Account {number:03d}" for number in range(120)]
    for name in names:
        sandbox.create(name)
    path = f"/accounts/{ROOT_ID}/descendants"
    seen: list[str] = []
    sizes: list[int] = []
    key: str | None = None
    while not sizes or key is not None:
        page = sandbox.call("GET", path + (f"?start_key={key}" if key else "")).json()
        seen += [row["name"] for row in page["data"]]
        sizes.append(page["page_size"])
        key = page.get("next_start_key")
    assert seen == names[::-1]
    assert sizes == [50, 50, 20]

    whole = sandbox.call("GET", f"{path}?paginate=false&ascending=true").json()
    assert [row["name"] for row in whole["data"]] == names
    assert not {"page_size", "start_key", "next_start_key"} & whole.keys()
    for size, expected in (("7", 7), ("0", 50), ("-1", 50), ("many", 50)):
        assert len(sandbox.names(f"{path}?page_size={size}")) == expected

    row = whole["data"][0]
    assert row.keys() == {"id", "name", "realm", "tree", "flags"}
    child = sandbox.call("GET", f"/accounts/{ROOT_ID}/children?page_size=1").json()["data"][0]
    assert child.keys() == {"id", "name", "realm", "descendants_count", "flags"}
    found = sandbox.names(f"{path}?paginate=false&filter_realm={row['realm']}")
    assert found == [row["name"]]
    filtered = sandbox.call("GET", f"{path}?filter_realm={row['realm']}").json()
    assert filtered["data"] == []
    assert filtered["next_start_key"]
    assert sandbox.names(f"/accounts/{row['id']}/children") == []


def test_31_billing_mode_depends_on_who_asks(sandbox: Sandbox) -> None:
    reseller = sandbox.create("Reseller")
    customer = sandbox.create("Customer", reseller)
    sandbox.call("PUT", f"/accounts/{reseller}/reseller")
    own = sandbox.token(customer)
    assert sandbox.get(customer, sandbox.token(reseller))["billing_mode"] == "limits_only"
    assert sandbox.get(customer, own)["billing_mode"] == "manual"
    assert sandbox.get(reseller, sandbox.token(reseller))["billing_mode"] == "normal"


def test_32_a_tag_saves_the_document(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    path = f"/accounts/{account_id}"
    answer = sandbox.call("GET", path)
    tag = answer.headers["etag"]
    assert tag == f'"{answer.json()["revision"]}"'
    same = sandbox.send("GET", path, sandbox.root, if_none_match=tag)
    assert (same.status_code, same.content) == (304, b"")
    sandbox.patch(account_id)
    changed = sandbox.send("GET", path, sandbox.root, if_none_match=tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_33_the_request_id_and_the_token_come_back(sandbox: Sandbox) -> None:
    for path in (f"/accounts/{ROOT_ID}", f"/accounts/{UNKNOWN}"):
        answer = sandbox.send("GET", path, sandbox.root, x_request_id="mine-1")
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.json()["request_id"] == "mine-1"
        assert answer.json()["auth_token"] == sandbox.root
    assert sandbox.call("GET", f"/accounts/{ROOT_ID}").json()["request_id"] != "mine-1"


def test_34_a_bucket_runs_dry_per_account(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(rate_limit=True))
    busy, idle = sandbox.create("Busy"), sandbox.create("Idle")
    answers = [sandbox.call("GET", f"/accounts/{busy}") for _ in range(101)]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429]
    assert symbol(answers[-1]) == (429, "too_many_requests")
    assert "retry-after" not in answers[-1].headers
    assert answers[0].json()["tokens"] == {"consumed": 1, "remaining": 99}
    assert sandbox.call("GET", f"/accounts/{idle}").status_code == 200
    sandbox.clock.now += 1
    statuses = [sandbox.call("GET", f"/accounts/{busy}").status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]


def test_35_a_body_needs_data_or_nothing_at_all(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    path = f"/accounts/{account_id}"
    bare = sandbox.send("PATCH", path, sandbox.root, json.dumps({"name": "B"}).encode())
    assert rules_of(bare) == {"data": {"required"}}
    broken = sandbox.send("PATCH", path, sandbox.root, b'{"data": ')
    assert rules_of(broken) == {"json": {"invalid"}}
    assert sandbox.send("PUT", f"{path}/reseller", sandbox.root).status_code == 201
    upper = sandbox.send("PATCH", path, sandbox.root, b'{"DATA": {"org": "O"}}')
    assert upper.json()["data"]["org"] == "O"
    wrong = sandbox.send("PATCH", path, sandbox.root, b"<a/>", content_type="text/xml")
    assert (wrong.status_code, wrong.content) == (415, b"")


def test_36_a_method_that_is_not_offered(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    for method, path in (
        ("GET", "/accounts"),
        ("POST", f"/accounts/{account_id}/reseller"),
        ("PATCH", f"/accounts/{UNKNOWN}/move"),
        ("DELETE", f"/accounts/{account_id}/children"),
    ):
        assert symbol(sandbox.call(method, path)) == (405, "invalid_method")


def test_37_a_parent_counts_its_descendants(sandbox: Sandbox) -> None:
    parent = sandbox.create("Parent")
    assert "descendants_count" not in sandbox.get(parent)
    before = sandbox.revision(parent)
    child = sandbox.create("Child", parent)
    assert sandbox.get(parent)["descendants_count"] == 1
    assert sandbox.revision(parent) == before + 1
    sandbox.call("DELETE", f"/accounts/{child}")
    assert sandbox.get(parent)["descendants_count"] == 0


def test_38_a_verb_in_the_data_is_obeyed(sandbox: Sandbox) -> None:
    account_id = sandbox.create("A")
    assert sandbox.patch(account_id, verb="delete").status_code == 200
    assert sandbox.call("GET", f"/accounts/{account_id}").status_code == 404


def test_39_lists_lag_behind_and_single_reads_do_not(open_sandbox: OpenSandbox) -> None:
    sandbox = open_sandbox(SandboxOptions(rate_limit=False, view_lag_ms=500))
    path = f"/accounts/{ROOT_ID}/descendants"
    account_id = sandbox.create("A")
    assert sandbox.get(account_id)["name"] == "A"
    assert sandbox.names(path) == []
    sandbox.clock.now += 0.5
    assert sandbox.names(path) == ["A"]
    sandbox.patch(account_id, name="B")
    assert sandbox.get(account_id)["name"] == "B"
    assert sandbox.names(path) == ["A"]
    sandbox.clock.now += 0.5
    assert sandbox.names(path) == ["B"]
    sandbox.call("DELETE", f"/accounts/{account_id}")
    assert sandbox.names(path) == ["B"]
    sandbox.clock.now += 0.5
    assert sandbox.names(path) == []
