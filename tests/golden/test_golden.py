"""Golden plans: each directory here holds a project, what is live, what is in state, and the plan.

A new case needs no code. `make golden` rewrites what must come out; the reviewer reads the diff.
"""

from __future__ import annotations

import json
import zoneinfo
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.config.project import load, open_project
from reconciler.core import diff, revive
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.plan import Change, Plan, compute
from reconciler.core.safety import Terms
from reconciler.core.saved import Making, save, shown, unsealed
from reconciler.core.state import AccountRecord, Intent, State
from reconciler.core.validate import validate
from reconciler.core.values import AccountId, address
from reconciler.render import jsondoc, text

if TYPE_CHECKING:
    from reconciler.core.configuration import Configuration
    from reconciler.core.graph import Operation
    from reconciler.core.values import JsonObject

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/live.json"))
ROOT = AccountId("root0")
TODAY = date(2026, 6, 30)


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
            safety=found.get("safety", {}),
        )
        for key, found in document.get("accounts", {}).items()
    }
    intents = {key: Intent(**found) for key, found in document.get("intents", {}).items()}
    lineage = "5f6b0c9e-6d7a-4c55-8a59-0d3b2f0f9c11" if document else ""
    digest_key = "00" * 32 if document else ""
    return State(lineage, len(accounts), "t", "sandbox:", ROOT, digest_key, accounts, intents)


def configuration_of(case: Path) -> Configuration:
    configuration, diagnostics = load(open_project(case, {}), {})
    diagnostics += validate(configuration, frozenset(zoneinfo.available_timezones()))
    assert not [found for found in diagnostics if found.severity == "error"]
    return configuration


def plan_of(case: Path) -> Plan:
    configuration = configuration_of(case)
    return compute(configuration, state_of(case), live_of(case), Terms(TODAY))


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


@pytest.mark.parametrize("name", CASES)
def test_a_saved_plan_is_shown_and_done_as_it_was_planned(name: str) -> None:
    case, key = HERE / name, "11" * 32
    plan, state = plan_of(case), state_of(case)
    making = Making("t", datetime(2026, 1, 1, tzinfo=UTC), "sha256:0", (), {}, key)
    saved = unsealed(save(plan, making, None), None)

    again = replace(shown(saved), refusals=plan.refusals)  # with refusals nothing would be saved
    assert text.plan(again, text.plain) == text.plan(plan, text.plain)
    if state.digest_key:  # else the file has digests where the plan had no key for them
        assert jsondoc.plan(again) == jsondoc.plan(plan)

    live = live_of(case)
    revived = revive.revived(saved, state, live, configuration_of(case))
    assert revived.operations == plan.operations
    assert not revived.stale
    for before, after in ((plan.changes, revived.changes), (plan.silent, revived.silent)):
        assert [replace(change, declared=None) for change in after] == [
            replace(change, declared=None) for change in before
        ]
        assert [told(change) for change in after] == [told(change) for change in before]


def told(change: Change) -> JsonObject | None:
    """What state is told of a declared account that is read back."""
    if change.declared is None:
        return None
    read = change.live or LiveAccount(ROOT, ROOT, change.declared.settings, False, "1-a")
    keyed = State("l", 1, "t", "sandbox:", ROOT, "00" * 32, {})
    return diff.confirmed(change.declared, change.record, read, keyed)[0]


def test_there_are_cases() -> None:
    assert len(CASES) >= 10
