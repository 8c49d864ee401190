"""Golden plans: each directory here holds a project, what is live, what is in state, and the plan.

A new case needs no code. `make golden` rewrites what must come out; the reviewer reads the diff.
"""

from __future__ import annotations

import json
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.config.project import load, open_project
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.plan import Plan, compute
from reconciler.core.state import AccountRecord, Intent, State
from reconciler.core.validate import validate
from reconciler.core.values import AccountId, address
from reconciler.render import jsondoc, text

if TYPE_CHECKING:
    from reconciler.core.graph import Operation

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/live.json"))
ROOT = AccountId("root0")


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def live_of(case: Path) -> Live:
    """`accounts`: id -> {parent, reseller, settings}; `promoting_allowed`; `missing`."""
    document = read_json(case / "live.json")
    accounts = {ROOT: LiveAccount(ROOT, None, {"name": "Root", "enabled": True}, True, "1-a")}
    rows: dict[AccountId, Row] = {}
    children: dict[AccountId, tuple[AccountId, ...]] = {}
    for name, found in document["accounts"].items():
        current, parent = AccountId(name), AccountId(found.get("parent", ROOT))
        settings = {"enabled": True, **found["settings"]}
        accounts[current] = LiveAccount(
            current, parent, settings, found.get("reseller", False), "1-a"
        )
        rows[current] = Row(current, settings["name"], settings.get("realm", ""), parent)
        children[parent] = (*children.get(parent, ()), current)
    missing = frozenset(map(AccountId, document.get("missing", [])))
    return Live(ROOT, rows, accounts, missing, document.get("promoting_allowed", True), children)


def state_of(case: Path) -> State:
    """`accounts`: key -> {id, parent_id, applied, …}; `intents`."""
    document = read_json(case / "state.json")
    accounts = {
        key: AccountRecord(
            id=AccountId(found["id"]),
            parent_id=AccountId(found.get("parent_id", ROOT)),
            reseller=found["applied"].get("reseller", False),
            applied=found["applied"],
            observed={},
            etag="1-a",
            updated_at="",
            prevent_destroy=found.get("prevent_destroy", False),
        )
        for key, found in document.get("accounts", {}).items()
    }
    intents = {key: Intent(**found) for key, found in document.get("intents", {}).items()}
    lineage = "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11" if document else ""
    digest_key = "00" * 32 if document else ""
    return State(lineage, len(accounts), "t", "sandbox:", ROOT, digest_key, accounts, intents)


def plan_of(case: Path) -> Plan:
    configuration, diagnostics = load(open_project(case, {}), {})
    diagnostics += validate(configuration, frozenset(zoneinfo.available_timezones()))
    assert not [found for found in diagnostics if found.severity == "error"]
    return compute(configuration, state_of(case), live_of(case), configuration.settings.limits)


def waiting(operations: tuple[Operation, ...]) -> str:
    """The graph: each operation with what it waits for below it."""
    lines = []
    for operation in operations:
        temporary = " (temporary)" if operation.temporary else ""
        lines.append(
            f"{operation.n} {operation.action} {address(operation.key)}{temporary}: {operation.method} {operation.path}"
        )
        lines += [
            f"    after {n} {operations[n - 1].action} {address(operations[n - 1].key)}"
            for n in operation.after
        ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, pytestconfig: pytest.Config) -> None:
    case = HERE / name
    plan = plan_of(case)
    made = {
        "plan.txt": text.plan(plan, text.plain),
        "plan.json": jsondoc.dumps(jsondoc.plan(plan)).replace(
            f'"{json.loads(jsondoc.dumps(jsondoc.plan(plan)))["tool"]}"', '"TOOL"'
        ),
        "operations.txt": waiting(plan.operations),
    }
    for file, content in made.items():
        if pytestconfig.getoption("--rewrite-golden"):
            (case / file).write_text(content)
        assert content == (case / file).read_text(), f"{name}/{file}: `make golden` rewrites it"


def test_there_are_cases() -> None:
    assert len(CASES) >= 10
