"""What must hold whatever happened, asked of the platform's own records and log.

Source: docs/reliability.md, "Invariants".
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import quote

from chaos.scenarios import CANARY
from reconciler.core.account import normal_realm
from reconciler.core.diff import same
from reconciler.core.state import applied_leaves, is_masked
from reconciler.core.values import ABSENT, dotted, value_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from chaos.scenarios import Scenario
    from chaos.world import World
    from reconciler.core.state import State
    from reconciler.core.values import JsonObject


def after_crash(world: World, state: State | None, scenario: Scenario) -> Iterator[str]:
    """What may not be even in the moment of a crash: twins, accounts that nobody knows of, false claims."""
    yield from twins(world)
    yield from unknown_accounts(world, state)
    passed_over = frozenset(r.id for r in world.records()) if scenario.outside else touched(world)
    yield from false_claims(world, state, passed_over)
    yield from unwanted_writes(world, scenario)


def after_recovery(
    world: World, crashed: State | None, state: State | None, scenario: Scenario
) -> Iterator[str]:
    """What must hold once one plain run has mended things."""
    yield from twins(world)
    yield from unknown_accounts(world, state)
    yield from false_claims(world, state, frozenset())
    yield from unwanted_writes(world, scenario)
    if state is None:
        yield "there is no state"
        return
    if state.intents:
        yield f"intents are open: {', '.join(state.intents)}"
    if crashed is not None and state.lineage != crashed.lineage:
        yield "the lineage changed"
    if crashed is not None and state.serial < crashed.serial:
        yield f"the serial fell from {crashed.serial} to {state.serial}"


def twins(world: World) -> Iterator[str]:
    """No realm, and no name below one parent, belongs to two accounts."""
    records = world.records()
    realms = Counter(normal_realm(record.realm) for record in records)
    places = Counter((record.tree[-1], record.name) for record in records)
    yield from (f"{n} accounts have the realm {realm}" for realm, n in realms.items() if n > 1)
    yield from (f"{n} accounts are called {name}" for (_, name), n in places.items() if n > 1)


def unknown_accounts(world: World, state: State | None) -> Iterator[str]:
    """Every account that the tool made is in state, or an open intent tells of it.

    Also those that were forgotten on purpose, which is why accounts that were there before count
    by the log: only what this run created.
    """
    known = {record.id for record in state.accounts.values()} if state else set()
    open_names = {intent.name for intent in state.intents.values()} if state else set()
    made = {
        str(entry.body.get("name"))
        for entry in world.writes()
        if entry.method == "PUT" and not entry.path.endswith("/reseller")
    }
    for record in world.records():
        if record.name in made and record.id not in known and record.name not in open_names:
            yield f"nobody knows of {record.name} ({record.id})"


def touched(world: World) -> frozenset[str]:
    """The ids of the accounts that writes were about: what state says of them may be from before."""
    return frozenset(part for entry in world.writes() for part in entry.path.split("/"))


def false_claims(world: World, state: State | None, passed_over: frozenset[str]) -> Iterator[str]:
    """State says of no account what the platform does not."""
    records = {record.id: record for record in world.records()}
    for key, claimed in sorted(state.accounts.items()) if state else ():
        if claimed.id in passed_over:
            continue
        record = records.get(claimed.id)
        if record is None:
            yield f"{key} is said to be {claimed.id}, which does not exist"
            continue
        if claimed.parent_id != record.tree[-1]:
            yield f"{key} is said to stand below {claimed.parent_id}, not {record.tree[-1]}"
        live: JsonObject = {
            "settings": {**record.document, "enabled": record.enabled},
            "reseller": record.is_reseller,
        }
        for path, value in applied_leaves(claimed).items():
            found = value_at(live, path)
            if is_masked(value) or value is None:
                continue
            if found is ABSENT or not same(path, value, found):
                yield f"{key} is said to have {dotted(path)} = {value!r}; it has {found!r}"


def unwanted_writes(world: World, scenario: Scenario) -> Iterator[str]:
    """No delete that was not asked for, and never an id or a private field in a create."""
    deletes = [
        entry for entry in world.writes()
        if entry.method == "DELETE" and not entry.path.endswith("/reseller") and entry.status < 300  # noqa: PLR2004 - the successes
    ]  # fmt: skip
    if len(deletes) > scenario.deletes:
        yield f"{len(deletes)} deletes were sent; {scenario.deletes} were planned"
    for entry in world.writes():
        if entry.method == "PUT" and any(
            name == "id" or name.startswith(("pvt_", "_")) for name in entry.body
        ):
            yield f"a create had {sorted(entry.body)}"


def of_output(output: str, directory: Path) -> Iterator[str]:
    """No traceback, and no secret in what was printed or kept, raw or encoded."""
    if "Traceback" in output or "internal error" in output.lower():
        yield "a traceback was printed"
    kept = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in directory.rglob("*")
        if path.is_file() and path.name != "reconciler.yaml"
    )
    raw = CANARY.encode()
    forms = (CANARY, base64.b64encode(raw).decode().rstrip("="), raw.hex(), quote(CANARY))
    yield from ("a secret was printed" for form in forms if form in output)
    yield from ("a secret was kept" for form in forms if form in kept)


def unsynced(trace: Iterable[str]) -> Iterator[str]:
    """What is written is on the disk before anything rests on it: another name, or a request.

    `trace`: the calls in order, each with the path that it was about, as the tripwire tells them.
    """
    dirty: set[str] = set()
    for line in trace:
        call, _, path = line.partition(" ")
        if call in ("write", "pwrite", "pwrite64", "writev"):
            dirty.add(path)
        elif call in ("fsync", "fdatasync"):
            dirty.discard(path)
        elif (
            call in ("rename", "renameat", "link", "linkat", "send", "sendto", "sendmsg") and dirty
        ):
            yield f"{call} while {sorted(dirty)} is not on the disk"
            return
