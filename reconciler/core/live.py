"""What the platform answered, or state remembers: the accounts below the root, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from reconciler.core.state import SENSITIVE
from reconciler.core.values import ABSENT, AccountId, JsonObject, leaves, place, value_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.state import AccountRecord, State

_YEAR_0: Final = 62167219200
"""Seconds from the year 0, which the platform counts from, to 1970 (docs/platform.md 3.3)."""


def generation(revision: str) -> int:
    """The number in front of a revision, which only grows; 0 if there is none."""
    number = revision.partition("-")[0]
    return int(number) if number.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Row:
    """An account as the list of descendants has it. A hint, not a proof (docs/platform.md 3.2)."""

    id: AccountId
    name: str
    realm: str
    parent_id: AccountId


@dataclass(frozen=True, slots=True)
class LiveAccount:
    """An account as its own GET answered it. `document`: what of it is configuration.

    `parent_id` is None where neither the list nor the account's own parents told it. `created`:
    Gregorian seconds. `request_id`: how the platform's logs call that GET.
    """

    id: AccountId
    parent_id: AccountId | None
    document: JsonObject
    reseller: bool
    revision: str
    created: int = 0
    request_id: str = ""

    @property
    def name(self) -> str:
        """The display name; "" if it has none, or one that is no text."""
        name = self.document.get("name")
        return name if isinstance(name, str) else ""

    @property
    def created_at(self) -> str:
        """When it was made, in UTC, ISO 8601; "" if the platform tells none, or no time that there is."""
        try:
            found = datetime.fromtimestamp(self.created - _YEAR_0, UTC)
        except (OverflowError, ValueError, OSError):
            return ""
        return f"{found:%Y-%m-%dT%H:%M:%SZ}" if self.created else ""

    @property
    def block(self) -> JsonObject:
        """The account in the form of a declared block."""
        return {"settings": self.document, "reseller": self.reseller}


@dataclass(frozen=True, slots=True, repr=False)  # large: asyncio.run takes the repr of results
class Live:
    """All that was read. `rows` has every account below the root, the root itself not.

    `accounts`: those that were read one by one. `missing`: asked for by id, and proven not to
    exist. `promoting_allowed`: whether the caller may promote and demote; None if not known.
    `refreshed` is false if accounts are among them that were not read, but remembered by state.
    """

    root: AccountId
    rows: Mapping[AccountId, Row]
    accounts: Mapping[AccountId, LiveAccount]
    missing: frozenset[AccountId] = frozenset()
    promoting_allowed: bool | None = None
    children: Mapping[AccountId, tuple[AccountId, ...]] = field(default_factory=dict)
    refreshed: bool = True

    @property
    def unlisted(self) -> frozenset[AccountId]:
        """The accounts that are there by their own GET, but not in the list."""
        return frozenset(self.accounts.keys() - self.rows.keys() - {self.root})

    def parent(self, current: AccountId) -> AccountId | None:
        """The parent by the list or, since that lags, by what the account's own parents told."""
        row, account = self.rows.get(current), self.accounts.get(current)
        return row.parent_id if row else account.parent_id if account else None

    def is_inside(self, current: AccountId) -> bool:
        """Whether the account stands below the root, as far as is known, or is it."""
        way: set[AccountId] = set()
        at: AccountId | None = current
        while at is not None and at not in way:
            if at == self.root or at in self.rows:
                return True
            way.add(at)
            at = self.parent(at)
        return False

    def below(self, top: AccountId) -> list[AccountId]:
        """All accounts below `top`, parents before children."""
        found = list(self.children.get(top, ()))
        for current in found:
            found.extend(self.children.get(current, ()))
        return found


def remembered(configuration: Configuration, state: State, live: Live) -> Live:
    """The same, with accounts that were not read as state remembers them.

    Only those in the list: one that is not there is to be asked for, it may be gone.
    """
    accounts = {
        record.id: _remembered(record, row, configuration.accounts.get(key), state)
        for key, record in state.accounts.items()
        if (row := live.rows.get(record.id)) is not None
    }
    return replace(live, accounts={**accounts, **live.accounts}, refreshed=False)


def _remembered(
    record: AccountRecord, row: Row, declared: Declared | None, state: State
) -> LiveAccount:
    """An account as it was last read. What was masked is in clear again where it is declared."""
    observed = value_at(record.observed, ("settings",))
    document: JsonObject = {"name": row.name}
    for path, value in leaves(observed) if isinstance(observed, dict) else ():
        if path[-1] != SENSITIVE:
            place(document, path, value)
            continue
        wanted = value_at(declared.settings, path[:-1]) if declared else ABSENT
        if wanted is ABSENT or state.digest(wanted) != value:
            wanted = {SENSITIVE: value}
        place(document, path[:-1], wanted)
    return LiveAccount(record.id, row.parent_id, document, record.reseller, record.etag)
