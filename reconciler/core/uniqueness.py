"""What one account of the platform at a time may have: its realm and, as a rule, its name.

Compared in the platform's normal forms. That two accounts get the same is refused for realms alone: an
operator may allow equal names. Who frees what comes first in either case (`graph`); where each waits
for the other, people must say which is to have another one for the time being.

Source: docs/platform.md 5.4; docs/behaviours.md, "Order" and "Safety".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core.account import normal_name, normal_realm
from reconciler.core.graph import Action
from reconciler.core.safety import Refusal
from reconciler.core.values import Diagnostic, address

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from reconciler.core.graph import Ident, Mark, Node, Ring, Taking
    from reconciler.core.live import Live, Row
    from reconciler.core.plan import Change
    from reconciler.core.values import AccountId, JsonObject, JsonValue, Key

_DRAWN: Final = 10
"""Takings of a ring that are told."""

_PATHS: Final = (("settings", "name"), ("settings", "realm"))


def marks(change: Change) -> tuple[frozenset[Mark], frozenset[Mark]]:
    """What becomes the account's alone by the change, and what is no more."""
    renamed = {f.path[1]: f.after for f in change.fields if f.path in _PATHS}
    before: frozenset[Mark] = frozenset()
    after: frozenset[Mark] = frozenset()
    if change.live is not None and (renamed or Action.DELETE in change.actions):
        before = _marks(change.live.document)
    if Action.CREATE in change.actions:
        after = _marks(renamed)
    elif change.live is not None and renamed:
        after = _marks({**change.live.document, **renamed})
    return after - before, before - after


def _marks(document: Mapping[str, object]) -> frozenset[Mark]:
    name, realm = document.get("name"), document.get("realm")
    found: list[Mark] = [("name", normal_name(name))] if isinstance(name, str) else []
    if isinstance(realm, str):
        found.append(("realm", normal_realm(realm)))
    return frozenset(found)


def kept(
    nodes: Mapping[Ident, Node], live: Live, keys: Mapping[Ident, Key], told: Container[AccountId]
) -> Iterator[Refusal]:
    """Refusals of changes by which an account would get a realm that another one keeps, or gets.

    `keys`: of the managed accounts. `told`: accounts that something is refused of already; whether
    they keep their realms depends on what people make of that.
    """
    takers: dict[Mark, Node] = {}
    for node in sorted((n for n in nodes.values() if n.gets), key=lambda n: n.key):
        for mark in node.gets:
            first = takers.setdefault(mark, node) if mark[0] == "realm" else node
            if first is not node:
                yield _taken(node, mark, f"{address(first.key)} is to have it")
    for current in sorted(live.rows.keys() | live.accounts.keys()) if takers else ():
        mark = ("realm", normal_realm(_realm(live, current)))
        holder = nodes.get(current)
        if mark not in takers or current in told or (holder and mark in holder.loses):
            continue
        who = f"the account {current} ({_name(live, current)})"
        if current in keys:
            who = f"{address(keys[current])} ({current})"
        yield _taken(takers[mark], mark, f"{who} has it and keeps it")


def names_kept(
    nodes: Mapping[Ident, Node], live: Live, keys: Mapping[Ident, Key]
) -> Iterator[Diagnostic]:
    """Warnings of names that another account keeps: as a rule the platform refuses them.

    None where it evidently allows equal names, since two accounts have the same.
    """
    takers = {mark: node for node in nodes.values() for mark in node.gets if mark[0] == "name"}
    held: dict[Mark, Row] = {}
    for row in live.rows.values() if takers else ():
        if held.setdefault(("name", normal_name(row.name)), row) is not row:
            return
    for mark, taker in sorted(takers.items(), key=lambda item: item[1].key):
        holder = held.get(mark)
        if holder is None or mark in nodes[holder.id].loses:
            continue
        who = f"the account {holder.id} ({holder.name})"
        if holder.id in keys:
            who = f"{address(keys[holder.id])} ({holder.id})"
        detail = (
            f"{who} has it, and keeps it. Unless the operator of the platform allows equal"
            " names, it will be refused: only ASCII letters and digits count, in either case."
        )
        yield Diagnostic(
            "warning", "A name that is taken", detail, address(taker.key), "settings.name"
        )


def _realm(live: Live, current: AccountId) -> str:
    """The account's realm; by its own GET if that told it, since a list may be behind."""
    found: JsonValue = None
    if current in live.accounts:
        found = live.accounts[current].document.get("realm")
    if isinstance(found, str):
        return found
    return live.rows[current].realm if current in live.rows else ""


def _name(live: Live, current: AccountId) -> str:
    return live.accounts[current].name if current in live.accounts else live.rows[current].name


def _taken(taker: Node, mark: Mark, why: str) -> Refusal:
    verb = "be created with" if taker.parent_before is None else "get"
    detail = (
        f"{address(taker.key)} would {verb} the realm {mark[1]}, but {why}. Only one account may have a"
        " realm at a time. Declare another one; or have that one freed, before or in the same run: by"
        " another realm there, or by a delete."
    )
    return Refusal("exists", detail, taker.key)


def swaps(rings: Sequence[Ring], nodes: Mapping[Ident, Node]) -> Iterator[Refusal]:
    """Refusals of what has no order, since each waits for the other to let go."""
    for ring in rings:
        first = nodes[ring[0].taker]
        what = " and ".join(sorted({t.mark[0] for t in ring if t.taker == first.ident}))
        told = [_told(taking, nodes) for taking in ring[:_DRAWN]]
        told += [f"… ({len(ring) - _DRAWN} more)"] if len(ring) > _DRAWN else []
        why = "none of it can come first, since each waits for the other"
        if len(ring) == 1:
            why = "that one is to let go of it only after what must come after this"
        detail = (
            f"{', '.join(told)}: {why}, and only one account may have a realm or a name at a time. Declare"
            f" another {what} for {address(first.key)}, apply, then declare this one again."
        )
        yield Refusal("swap", detail, first.key)


def _told(taking: Taking, nodes: Mapping[Ident, Node]) -> str:
    taker, holder = (address(nodes[ident].key) for ident in (taking.taker, taking.holder))
    return f"{taker} is to have the {taking.mark[0]} of {holder}"


def taken_places(live: Live, managed: Container[AccountId]) -> dict[str, Row]:
    """The accounts that nobody manages, by what no other account may have: realm, name and parent."""
    taken: dict[str, Row] = {}
    for row in live.rows.values():
        if row.id not in managed:
            taken[f"realm {normal_realm(row.realm)}"] = row
            taken[f"name {row.parent_id} {row.name}"] = row
    return taken


def place_of(settings: JsonObject, parent: Ident) -> str:
    """By what an account of `taken_places` would be the same as this one."""
    realm = settings.get("realm")
    if isinstance(realm, str):
        return f"realm {normal_realm(realm)}"
    return f"name {parent} {settings.get('name')}"
