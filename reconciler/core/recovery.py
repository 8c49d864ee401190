"""What interrupted runs left open, and how the next one goes on: a function of state and live.

A create whose end is not known made the account that fits, if exactly one does; none means that
it never happened; anything else is for people to decide. What was taken from an account for the
time being is given back, unless somebody declared otherwise or gave it back meanwhile.

Source: docs/behaviours.md, "Interrupted runs".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.core.account import normal_realm
from reconciler.core.diff import RESELLER, FieldChange, declares, present
from reconciler.core.graph import Action
from reconciler.core.state import AccountRecord, Entry, fold
from reconciler.core.values import address, leaves, value_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.live import Live, LiveAccount
    from reconciler.core.state import Intent, State, Taken
    from reconciler.core.values import AccountId, FieldPath, Key

_SLACK: Final = 2
"""Seconds by which the clocks of two of the platform's nodes may differ."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One thing that was left open. `found`: the accounts it is about; `doubtful`: none is surely it."""

    key: Key
    action: Action
    found: tuple[AccountId, ...]
    detail: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Recovery:
    """State with what is clear by now, the rest of it per account, and all of it in words."""

    state: State
    owed: Mapping[AccountId, tuple[FieldChange, ...]]
    unfinished: tuple[Unfinished, ...]


def candidates(state: State, live: Live) -> dict[Key, list[AccountId]]:
    """Per create whose end is not known, the accounts that it may have made, as the list has them.

    By realm; without one, by name and parent; among those that nobody manages.
    """
    managed = {record.id for record in state.accounts.values()}
    strangers = (
        [row for row in live.rows.values() if row.id not in managed] if state.intents else []
    )
    return {
        key: sorted(
            row.id
            for row in strangers
            if (
                normal_realm(row.realm) == normal_realm(intent.realm)
                if intent.realm is not None
                else (row.parent_id, row.name) == (intent.parent_id, intent.name)
            )
        )
        for key, intent in sorted(state.intents.items())
    }


def recover(configuration: Configuration, state: State, live: Live) -> Recovery:
    """How to go on from where an earlier run ended. The candidates have been read."""
    entries: list[Entry] = []
    unfinished: list[Unfinished] = []
    for key, ids in candidates(state, live).items():
        declared = configuration.accounts.get(key)
        if declared is not None and declared.id is not None:
            continue  # which one it is was decided by hand; taking it in settles this
        accounts = [live.accounts[i] for i in ids if i in live.accounts]
        found = _made(state.intents[key], accounts)
        unfinished.append(found)
        if not found.doubtful:
            entries.append(_settled(state.intents[key], accounts))
    owed: dict[AccountId, tuple[FieldChange, ...]] = {}
    for taken in sorted(state.taken.values(), key=lambda each: each.id):
        fields = tuple(_owed(taken, configuration, state, live))
        if fields:
            owed[taken.id] = fields
            unfinished.append(_in_words(taken, fields))
        else:
            entries.append(Entry("give_back", taken.key, taken=taken))
    return Recovery(fold(state, entries), owed, tuple(unfinished))


# --- creates ---------------------------------------------------------------------------------


def _made(intent: Intent, accounts: Sequence[LiveAccount]) -> Unfinished:
    """What became of a create."""
    what = f"a create of {address(intent.key)} ({intent.name}, below {intent.parent_id}) was interrupted"
    found = tuple(account.id for account in accounts)
    if not accounts:
        detail = f"{what}; no such account is there."
        return Unfinished(intent.key, Action.CREATE, found, detail)
    if len(accounts) == 1 and fits(intent, accounts[0]):
        detail = f"{what}; it made {accounts[0].id}, which is taken into state."
        return Unfinished(intent.key, Action.CREATE, found, detail)
    shown = ", ".join(f"{a.id} ({a.name}, below {a.parent_id})" for a in accounts)
    detail = (
        f"{what}, and what is there is not surely it: {shown}. Look at it by hand; then say which it"
        f" is by `id:` in {address(intent.key)}, or delete what is not wanted."
    )
    return Unfinished(intent.key, Action.CREATE, found, detail, doubtful=True)


def fits(intent: Intent, account: LiveAccount) -> bool:
    """Whether this is the account that the create would have made, and no older."""
    placed = (account.name, account.parent_id) == (intent.name, intent.parent_id)
    return placed and (not account.created or account.created >= intent.since - _SLACK)


def _settled(intent: Intent, accounts: Sequence[LiveAccount]) -> Entry:
    if not accounts:
        return Entry("settle", intent.key)
    return Entry("record", intent.key, first_record(accounts[0], intent.parent_id))


def first_record(live: LiveAccount, parent: AccountId) -> AccountRecord:
    """The record of an account that nothing was applied to yet: an imported one, or a lost create."""
    return AccountRecord(
        id=live.id,
        parent_id=parent,
        reseller=live.reseller,
        applied={"settings": {}},
        observed={"settings": {}},
        etag=live.revision,
        updated_at="",
    )


# --- what was taken --------------------------------------------------------------------------


def _owed(
    taken: Taken, configuration: Configuration, state: State, live: Live
) -> Iterator[FieldChange]:
    """The fields, rank included, that the account is still to get back."""
    account = live.accounts.get(taken.id)
    if account is None:
        return
    key = next((key for key, r in state.accounts.items() if r.id == taken.id), None)
    declared = next(
        (d for d in configuration.accounts.values() if d.key == key or d.id == taken.id), None
    )
    # A rank that left the YAML after `true` is not to come back.
    left = declared is not None and key is not None and state.accounts[key].applied.get("reseller")
    if taken.reseller and not account.reseller and not left and not _says(declared, RESELLER):
        yield FieldChange(RESELLER, "change", before=False, after=True)
    for path, value in leaves({"settings": taken.settings}):
        found = value_at(account.block, path)
        if path != ("settings",) and not present(found) and not _says(declared, path):
            yield FieldChange(path, "add", found, value)


def _says(declared: Declared | None, path: FieldPath) -> bool:
    return declared is not None and declares(declared, path)


def _in_words(taken: Taken, fields: Sequence[FieldChange]) -> Unfinished:
    rank = any(field.path == RESELLER for field in fields)
    what = "its rank as a reseller" if rank else "fields"
    detail = (
        f"an interrupted run took {what} from {taken.id} for the time being; it gets that back."
    )
    action = Action.DEMOTE if rank else Action.UPDATE
    return Unfinished(taken.key, action, (taken.id,), detail)
