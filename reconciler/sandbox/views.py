"""The platform's database views: what lists and checks for uniqueness read, maybe a moment late.

A view keeps names in order per ancestor, so that one page, one change and one look-up cost the
same among 10 and 100,000 accounts. Changes come in at once and become visible after the lag.
Source: docs/platform.md 3.2, 5.4.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from reconciler.sandbox.rules import comparable_name, comparable_realm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from reconciler.sandbox.records import Record

Entry = tuple[str, str]
"""Name and id of an account: lists are in the order of these, which is that of the names."""


class Views:
    """All accounts by ancestor, by parent, by realm and by name, as they were `lag` seconds ago."""

    def __init__(self, clock: Callable[[], float], lag: float) -> None:
        self._clock = clock
        self._lag = lag
        self._pending: deque[tuple[float, str, Record | None]] = deque()
        self._records: dict[str, Record] = {}
        self._descendants: defaultdict[str, list[Entry]] = defaultdict(list)
        self._children: defaultdict[str, list[Entry]] = defaultdict(list)
        self._realms: defaultdict[str, set[str]] = defaultdict(set)
        self._names: defaultdict[str, set[str]] = defaultdict(set)

    def load(self, records: Iterable[Record]) -> None:
        """Add many accounts that the views don't know yet, visible at once."""
        for record in records:
            self._records[record.id] = record
            entry = (record.name, record.id)
            for ancestor in record.tree:
                self._descendants[ancestor].append(entry)
            if record.tree:
                self._children[record.tree[-1]].append(entry)
            self._realms[comparable_realm(record.realm)].add(record.id)
            self._names[comparable_name(record.name)].add(record.id)
        for entries in (*self._descendants.values(), *self._children.values()):
            entries.sort()

    def changed(self, account_id: str, record: Record | None) -> None:
        """Take note of a new state of an account; None: it is gone."""
        if self._lag:
            self._pending.append((self._clock() + self._lag, account_id, record))
        else:
            self._apply(account_id, record)

    def record(self, account_id: str) -> Record | None:
        """Look an account up as the lists show it."""
        self._catch_up()
        return self._records.get(account_id)

    def descendants(self, account_id: str) -> Sequence[Entry]:
        """All below an account, ascending by name. Not a copy: read it before the next change."""
        self._catch_up()
        return self._descendants.get(account_id, ())

    def children(self, account_id: str) -> Sequence[Entry]:
        """Those directly below an account, ascending by name. Not a copy."""
        self._catch_up()
        return self._children.get(account_id, ())

    def with_realm(self, realm: str) -> Collection[str]:
        """Ids of the accounts whose realm the platform takes for the same."""
        self._catch_up()
        return self._realms.get(comparable_realm(realm), ())

    def with_name(self, name: str) -> Collection[str]:
        """Ids of the accounts whose name the platform takes for the same."""
        self._catch_up()
        return self._names.get(comparable_name(name), ())

    def _catch_up(self) -> None:
        while self._pending and self._pending[0][0] <= self._clock():
            _, account_id, record = self._pending.popleft()
            self._apply(account_id, record)

    def _apply(self, account_id: str, record: Record | None) -> None:
        known = self._records.get(account_id)
        if record is not None:
            self._records[account_id] = record
        else:
            self._records.pop(account_id, None)
        if known is None or record is None or _keys(known) != _keys(record):
            if known is not None:
                self._remove(known)
            if record is not None:
                self._insert(record)

    def _insert(self, record: Record) -> None:
        entry = (record.name, record.id)
        for ancestor in record.tree:
            insort(self._descendants[ancestor], entry)
        if record.tree:
            insort(self._children[record.tree[-1]], entry)
        self._realms[comparable_realm(record.realm)].add(record.id)
        self._names[comparable_name(record.name)].add(record.id)

    def _remove(self, record: Record) -> None:
        entry = (record.name, record.id)
        for ancestor in record.tree:
            _take_out(self._descendants[ancestor], entry)
        if record.tree:
            _take_out(self._children[record.tree[-1]], entry)
        self._realms[comparable_realm(record.realm)].discard(record.id)
        self._names[comparable_name(record.name)].discard(record.id)


def page(
    entries: Sequence[Entry], start: str | None, size: int | None, *, ascending: bool
) -> tuple[list[str], str | None]:
    """Cut one page: the ids on it in order, and the name that the next page starts at.

    The key is the name alone, as on the platform: among equal names pages may repeat or skip
    rows. size None: all of it. Source: docs/platform.md 3.2.
    """
    first, last = 0, len(entries)
    if start is not None and ascending:
        first = bisect_left(entries, (start, ""))
    elif start is not None:
        last = bisect_right(entries, (start, "\U0010ffff"))
    count = last - first if size is None else min(size, last - first)
    if ascending:
        taken = entries[first : first + count]
        following = first + count
    else:
        taken = entries[last - count : last][::-1]
        following = last - count - 1
    more = count < last - first
    return [entry[1] for entry in taken], entries[following][0] if more else None


def _keys(record: Record) -> tuple[str, str, tuple[str, ...]]:
    return (record.name, record.realm, record.tree)


def _take_out(entries: list[Entry], entry: Entry) -> None:
    index = bisect_left(entries, entry)
    if index < len(entries) and entries[index] == entry:
        del entries[index]
