"""What survives a restart, and that nothing costs more because there are many accounts."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest

from reconciler.sandbox import store as store_module
from reconciler.sandbox.app import Platform
from reconciler.sandbox.options import ROOT_API_KEY, ROOT_ID, SandboxOptions
from reconciler.sandbox.store import StoreError
from reconciler.sandbox.wire import Request

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.values import JsonObject


def ask(
    platform: Platform, method: str, path: str, data: JsonObject | None = None
) -> tuple[int, JsonObject]:
    """Call a platform as its master; answers status and envelope."""
    token = platform.tokens.issue(ROOT_ID, None)
    body = b"" if data is None else orjson.dumps({"data": data})
    path, _, query = path.partition("?")
    options = dict(pair.split("=") for pair in query.split("&") if pair)
    request = Request(method, f"/v2{path}", options, {"x-auth-token": token}, body)
    response = asyncio.run(platform.handle(request))
    return response.status, orjson.loads(response.body)


def create(platform: Platform, name: str, parent: str = ROOT_ID) -> str:
    status, answer = ask(platform, "PUT", f"/accounts/{parent}", {"name": name})
    assert status == 201
    assert isinstance(answer["data"], dict)
    return str(answer["data"]["id"])


def everything(platform: Platform) -> list[JsonObject]:
    """All accounts, in full."""
    ids = [ROOT_ID, *(record.id for record in platform.store.descendants(ROOT_ID))]
    answers = [ask(platform, "GET", f"/accounts/{account_id}")[1] for account_id in ids]
    return [{key: answer[key] for key in ("data", "revision")} for answer in answers]


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    options = SandboxOptions(data=tmp_path / "sandbox.db", rate_limit=False)
    with closing(Platform(options)) as platform:
        parent = create(platform, "Parent")
        child = create(platform, "Child", parent)
        gone = create(platform, "Gone")
        ask(platform, "PATCH", f"/accounts/{child}", {"enabled": False, "language": "de-de"})
        ask(platform, "PUT", f"/accounts/{parent}/reseller")
        ask(platform, "DELETE", f"/accounts/{gone}")
        before = everything(platform)
        token = platform.tokens.issue(parent, None)

    with closing(Platform(options)) as platform:
        assert everything(platform) == before
        assert platform.tokens.claims(token) is not None
        assert platform.store.by_api_key(ROOT_API_KEY) is not None
        status, _ = ask(platform, "PUT", "/accounts", {"name": "CHILD"})
        assert status == 400
        assert ask(platform, "DELETE", f"/accounts/{parent}")[0] == 500
        assert create(platform, "New") not in {parent, child, gone}
    assert [each.name for each in tmp_path.iterdir()] == ["sandbox.db"]


def test_the_same_seed_never_gives_an_id_twice(tmp_path: Path) -> None:
    options = SandboxOptions(data=tmp_path / "sandbox.db", seed="s", rate_limit=False)
    ids = []
    for name in ("A", "B"):
        with closing(Platform(options)) as platform:
            ids.append(create(platform, name))
    assert len(set(ids)) == 2
    with closing(Platform(SandboxOptions(seed="s"))) as platform:
        assert create(platform, "A") == ids[0]


def test_a_killed_process_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    code = (
        "import os, sys; from pathlib import Path;"
        "from reconciler.sandbox.app import Platform;"
        "from reconciler.sandbox.options import SandboxOptions;"
        "Platform(SandboxOptions(data=Path(sys.argv[1]), seed_accounts=30)); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    with closing(Platform(SandboxOptions(data=path))) as platform:
        assert len(platform.store) == 31


def test_a_file_belongs_to_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.05)
    options = SandboxOptions(data=tmp_path / "sandbox.db")
    with closing(Platform(options)), pytest.raises(StoreError, match="locked"):
        Platform(options)


def test_a_file_that_is_no_sandbox_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database" * 100)
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE account (rowid INTEGER, id TEXT, record BLOB)")
        connection.execute("INSERT INTO account VALUES (1, 'x', '{\"tree\": []}')")
        connection.commit()
    for path in (text, foreign, tmp_path, tmp_path / "missing" / "sandbox.db"):
        with pytest.raises(StoreError):
            Platform(SandboxOptions(data=path))


def test_the_flag_of_the_master_is_as_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    for superduper in (True, False, True):
        with closing(Platform(SandboxOptions(data=path, superduper=superduper))) as platform:
            _, answer = ask(platform, "GET", f"/accounts/{ROOT_ID}")
            assert isinstance(answer["data"], dict)
            assert answer["data"]["superduper_admin"] is superduper


def test_a_seeded_tree_is_whole_and_always_the_same() -> None:
    with closing(Platform(SandboxOptions(seed_accounts=300, seed="s"))) as platform:
        documents = everything(platform)
        depths = {len(record.tree) for record in platform.store.descendants(ROOT_ID)}
        for record in platform.store.descendants(ROOT_ID):
            if record.tree[1:]:
                parent = platform.store.get(record.tree[-1])
                assert parent is not None
                assert parent.is_reseller
                count = platform.store.count_descendants(parent.id)
                assert parent.document["descendants_count"] == count
        changed = [ask(platform, "PATCH", f"/accounts/{ROOT_ID}", {})[0] for _ in range(2)]
    assert changed == [200, 200]
    assert depths == {1, 2, 3}
    assert len(documents) == 301
    with closing(Platform(SandboxOptions(seed_accounts=300, seed="s"))) as platform:
        names = {record.name for record in platform.store.descendants(ROOT_ID)}
    assert names == {
        record["data"]["name"] for record in documents[1:] if isinstance(record["data"], dict)
    }


def test_many_accounts_make_no_call_slow() -> None:
    """Among 20,000 accounts a page, a rename and a create stay far below a scan of them all."""
    with closing(Platform(SandboxOptions(seed_accounts=20_000, rate_limit=False))) as platform:
        some = [record.id for record in platform.store.descendants(ROOT_ID)][:50]
        path = f"/accounts/{ROOT_ID}/descendants?paginate=false"
        started = time.perf_counter()
        _, answer = ask(platform, "GET", path)
        scan = time.perf_counter() - started
        assert isinstance(answer["data"], list)
        assert len(answer["data"]) == 20_000
        started = time.perf_counter()
        for number, account_id in enumerate(some):
            ask(platform, "PATCH", f"/accounts/{account_id}", {"name": f"Renamed {number}"})
            ask(platform, "PUT", "/accounts", {"name": f"Created {number}"})
            ask(platform, "GET", f"/accounts/{ROOT_ID}/descendants")
        assert (time.perf_counter() - started) / 150 < scan / 2
