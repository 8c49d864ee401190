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
    from reconciler.core.state import Intent, Owed, State
    from reconciler.core.values import AccountId, Key

SLACK: Final = 300
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
    """State with what is clear by now, and the rest of it.

    `unfinished`: all of it in words. `owed`: what accounts are still to get back. `moot`: what they
    are not to get back any more, since the YAML says otherwise.
    """

    state: State
    unfinished: tuple[Unfinished, ...]
    owed: Mapping[AccountId, tuple[FieldChange, ...]]
    moot: tuple[Owed, ...]


def candidates(state: State, live: Live) -> dict[Key, list[AccountId]]:
    """Per create whose end is not known, the accounts that it may have made, as the list has them.

    By realm; without one, by name and parent; among those that nobody manages. None that does not
    exist by its own GET: after a delete the list lags.
    """
    others = {record.id for record in state.accounts.values()} | live.missing
    strangers = [row for row in live.rows.values() if row.id not in others] if state.intents else []
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


def settle(state: State, live: Live) -> State:
    """State with what is clear by what is live alone. The candidates have been read."""
    entries: list[Entry] = []
    for intent, accounts in _creates(state, live):
        if not accounts:
            entries.append(Entry("settle", intent.key))
        elif _clear(intent, accounts):
            record = first_record(accounts[0], intent)
            entries.append(Entry("record", intent.key, record))
    back = (owed for owed in _debts(state) if not any(_missing(owed, live)))
    entries += [Entry("repay", "", owed=owed) for owed in back]
    return fold(state, entries)


def recover(configuration: Configuration, state: State, live: Live) -> Recovery:
    """How to go on from where an earlier run ended."""
    settled = settle(state, live)
    decided = {declared.key for declared in configuration.accounts.values() if declared.id}
    unfinished = [
        _made(intent, accounts)
        for intent, accounts in _creates(state, live)
        if _clear(intent, accounts) or not accounts or intent.key not in decided
    ]
    owed: dict[AccountId, tuple[FieldChange, ...]] = {}
    moot = []
    for debt in _debts(settled):
        key, declared = _owner(debt, configuration, settled)
        fields = tuple(_still_owed(debt, declared, settled.accounts.get(key), live))
        if fields:
            owed[debt.id] = fields
            unfinished.append(_in_words(debt, key, fields))
        else:
            moot.append(debt)
            said = [f for f in _missing(debt, live) if declared and _says(declared, f)]
            unfinished += [_in_words(debt, key, said)] if said else []
    return Recovery(settled, tuple(unfinished), owed, tuple(moot))


def _creates(state: State, live: Live) -> Iterator[tuple[Intent, list[LiveAccount]]]:
    """Each create whose end is not known, with the accounts that it may have made."""
    for key, ids in candidates(state, live).items():
        yield state.intents[key], [live.accounts[i] for i in ids if i in live.accounts]


def _debts(state: State) -> list[Owed]:
    return sorted(state.owed.values(), key=lambda owed: owed.id)


# --- creates ---------------------------------------------------------------------------------


def _made(intent: Intent, accounts: Sequence[LiveAccount]) -> Unfinished:
    """What became of a create."""
    what = f"a create of {address(intent.key)} ({intent.name}, below {intent.parent_id}) was interrupted"
    found = tuple(account.id for account in accounts)
    if not accounts:
        detail = f"{what}; no such account is there."
        return Unfinished(intent.key, Action.CREATE, found, detail)
    if _clear(intent, accounts):
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
    return placed and is_new(intent, account)


def is_new(intent: Intent, account: LiveAccount) -> bool:
    """Whether the account is no older than the create; also if the platform does not tell its age."""
    return not account.created or account.created >= intent.since - SLACK


def is_meant(intent: Intent, account: LiveAccount) -> bool:
    """Whether the account is what the create would have made, wherever it stands: by what marks it."""
    marked = account.name == intent.name
    if intent.realm is not None:
        marked = normal_realm(str(account.document.get("realm"))) == normal_realm(intent.realm)
    return marked and is_new(intent, account)


def _clear(intent: Intent, accounts: Sequence[LiveAccount]) -> bool:
    """Whether exactly one account is there, and is surely the one that the create made."""
    return len(accounts) == 1 and fits(intent, accounts[0])


def first_record(live: LiveAccount, intent: Intent) -> AccountRecord:
    """The record of an account that a create made, and nothing is known to have been applied to."""
    return AccountRecord(
        id=live.id,
        parent_id=intent.parent_id,
        reseller=live.reseller,
        applied={"settings": {}},
        observed={"settings": {}},
        etag=live.revision,
        updated_at="",
        prevent_destroy=intent.prevent_destroy,
        safety=intent.safety,
    )


# --- what was taken --------------------------------------------------------------------------


def _missing(owed: Owed, live: Live) -> Iterator[FieldChange]:
    """The fields, rank included, that the account does not have again. A gone account misses nothing."""
    account = live.accounts.get(owed.id)
    if account is None:
        return
    if owed.reseller and not account.reseller:
        yield FieldChange(RESELLER, "change", before=False, after=True)
    for path, value in leaves({"settings": owed.settings}):
        found = value_at(account.block, path)
        if path != ("settings",) and not present(found):
            yield FieldChange(path, "add", found, value)


def _owner(owed: Owed, configuration: Configuration, state: State) -> tuple[Key, Declared | None]:
    """What the account is called, and its declaration. One that nobody manages goes by its id."""
    key = next((key for key, record in state.accounts.items() if record.id == owed.id), None)
    now = key
    for moved in configuration.moved:
        now = moved.new if moved.old == now else now
    declared = next(
        (d for d in configuration.accounts.values() if d.key == now or d.id == owed.id), None
    )
    return key or (declared.key if declared else owed.id), declared


def _still_owed(
    owed: Owed, declared: Declared | None, record: AccountRecord | None, live: Live
) -> Iterator[FieldChange]:
    """What the account is to get back: all that it misses, but for what the YAML says."""
    # A rank that left the YAML after `true` is not to come back.
    left = declared is not None and record is not None and record.applied.get("reseller") is True
    for field in _missing(owed, live):
        said = declared is not None and declares(declared, field.path)
        if not said and not (left and field.path == RESELLER):
            yield field


def _says(declared: Declared, field: FieldChange) -> bool:
    """Whether the YAML says by itself that the account is to have what was taken."""
    return value_at(declared.block, field.path) == field.after


def _in_words(owed: Owed, key: Key, fields: Sequence[FieldChange]) -> Unfinished:
    rank = any(field.path == RESELLER for field in fields)
    what = "its rank as a reseller" if rank else "fields"
    detail = f"an interrupted run took {what} from {owed.id} for the time being; it gets that back."
    action = Action.DEMOTE if rank else Action.UPDATE
    return Unfinished(key, action, (owed.id,), detail)
