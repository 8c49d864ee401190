"""What was changed outside: a function of configuration, state and live accounts.

Source: docs/drift.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.core import diff
from reconciler.core.diff import PARENT, FieldChange
from reconciler.core.known import PLACE, covering
from reconciler.core.plan import Change
from reconciler.core.recovery import candidates
from reconciler.core.values import ROOT, value_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.live import Live, LiveAccount
    from reconciler.core.state import AccountRecord, State
    from reconciler.core.values import AccountId, Diagnostic, Key, Source


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """An account that nobody declared or manages. `parent`: a key, `root`, or an id without key."""

    account: LiveAccount
    parent: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A leaf that is declared as it is live by now, and where."""

    key: Key
    field: FieldChange
    source: Source


@dataclass(frozen=True, slots=True, repr=False)  # large: asyncio.run takes the repr of results
class Drift:
    """What was changed outside, accounts in order of key, `fields` in each.

    `known`: accounts with known drift, with just that. `unchanged`: the accounts that were looked at
    and have neither.
    """

    state: State
    changes: tuple[Change, ...]
    unchanged: tuple[Key, ...]
    known: tuple[Change, ...] = ()
    unmanaged: tuple[Unmanaged, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is anything that nobody knows of."""
        return bool(self.changes or self.unmanaged)


def find(
    configuration: Configuration,
    state: State,
    live: Live,
    keys: Iterable[Key],
    *,
    since_state: bool = False,
) -> Drift:
    """What was changed outside of the accounts `keys`, which are in state.

    `since_state`: only what state has not seen live yet.
    """
    changes, known, unchanged = [], [], []
    names = names_of(state, live)
    for key in sorted(keys):
        change = _drifted(key, configuration, state, live)
        if change is not None and since_state:
            change = _unseen(change, state)
        if change is None:
            unchanged.append(key)
            continue
        fields = tuple(field for field in change.fields if field.known is None)
        if fields or change.live is None:
            changes.append(replace(change, fields=fields, top=_top(key, state, names)))
        if fields != change.fields:
            held = tuple(field for field in change.fields if field.known is not None)
            known.append(replace(change, fields=held, drift=False))
    warnings = tuple(w for w in configuration.warnings if w.path == PLACE)
    return Drift(state, tuple(changes), tuple(unchanged), tuple(known), (), warnings)


def _drifted(key: Key, configuration: Configuration, state: State, live: Live) -> Change | None:
    """How an account differs from what was applied; None if it does not."""
    record = state.accounts[key]
    declared = configuration.accounts.get(key)
    now = live.accounts.get(record.id)
    if now is None:
        if declared is None:
            return None  # it left the YAML as well
        name = str(value_at(record.applied, ("settings", "name")))
        return _change(key, name, declared, record, None, ())
    fields = diff.drifted(record, declared, now, state)
    if now.parent_id != record.parent_id:
        moved = _moved(declared, record, now, state, live)
        fields = (moved, *fields) if moved else fields
    return _change(key, now.name, declared, record, now, fields) if fields else None


def _change(
    key: Key,
    name: str,
    declared: Declared | None,
    record: AccountRecord,
    live: LiveAccount | None,
    fields: tuple[FieldChange, ...],
) -> Change:
    return Change(
        key=key,
        id=record.id,
        name=name,
        parent=declared.parent if declared else record.parent_id,
        actions=(),
        fields=fields,
        reason="it was changed outside" if live else "it was deleted outside",
        declared=declared,
        record=record,
        live=live,
        drift=True,
    )


def _top(key: Key, state: State, names: Mapping[AccountId, Key]) -> Key:
    """The topmost reseller that an account stood below, or was, when state saw it; else `root`."""
    top, seen = ROOT, set[str]()
    while key in state.accounts and key not in seen:
        seen.add(key)
        record = state.accounts[key]
        top = key if record.reseller else top
        key = names.get(record.parent_id, ROOT)
    return top


def _moved(
    declared: Declared | None, record: AccountRecord, now: LiveAccount, state: State, live: Live
) -> FieldChange | None:
    """The change of an account's place; None if the YAML has it there by now."""
    names = names_of(state, live)
    before, after = (names.get(i or record.id, i or "") for i in (record.parent_id, now.parent_id))
    if declared is not None and declared.parent == after:
        return None
    if declared is None:
        return FieldChange(PARENT, "change", before, after, drift=True)
    source, origin = declared.origin(PARENT)
    known = covering(declared.known, PARENT)
    return FieldChange(PARENT, "change", before, after, True, source, origin, known)


def names_of(state: State, live: Live) -> dict[AccountId, Key]:
    """What accounts are called: their keys, and `root`."""
    return {record.id: key for key, record in state.accounts.items()} | {live.root: ROOT}


def _unseen(change: Change, state: State) -> Change | None:
    """The change without what state has seen live already; None if nothing is left."""
    record, live = change.record, change.live
    if record is None or live is None:
        return change
    fields = tuple(
        field
        for field in change.fields
        if field.path == PARENT or not diff.observed(record, field.path, live, state)
    )
    return replace(change, fields=fields) if fields else None


# --- accounts that nobody manages ------------------------------------------------------------


def strangers(
    configuration: Configuration, state: State, live: Live, targets: Iterable[Key]
) -> list[AccountId]:
    """The accounts below the root, or below `targets`, that nobody declared or manages.

    What an interrupted run may have made is none: the next apply sees to it.
    """
    ours = {record.id for record in state.accounts.values()} | {live.root}
    ours |= {declared.id for declared in configuration.accounts.values() if declared.id}
    ours |= {made for found in candidates(state, live).values() for made in found}
    tops = [state.accounts[key].id for key in targets if key in state.accounts] or [live.root]
    below = {found for top in tops for found in live.below(top)}
    return sorted(below - ours)


def with_unmanaged(drift: Drift, ids: Iterable[AccountId], live: Live) -> Drift:
    """The same, with the accounts `ids`, which have been read, as far as they are there."""
    return replace(drift, unmanaged=tuple(_unmanaged(ids, drift.state, live)))


def _unmanaged(ids: Iterable[AccountId], state: State, live: Live) -> Iterator[Unmanaged]:
    names = names_of(state, live)
    for found in ids:
        account = live.accounts.get(found)
        if account is not None:
            parent = account.parent_id or live.root
            yield Unmanaged(account, names.get(parent, parent))
