"""All accounts, in memory for reading and in one file for surviving a restart.

The file is SQLite: every change is one small write in a transaction of its own, so a killed
process loses nothing that was answered. `synchronous` is off because only a crash of the whole
machine could lose more, and this is a sandbox. The file belongs to one process at a time: a
second would read its memory and overwrite the first one's changes.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from reconciler.sandbox.records import Record, from_bytes, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from reconciler.sandbox.views import Views

_PUT: Final = (
    "INSERT INTO account (id, record) VALUES (?, ?)"
    " ON CONFLICT (id) DO UPDATE SET record = excluded.record"
)
_BUSY_SECONDS: Final = 5.0
"""How long to wait for another process to let go of the file: one short command."""


class StoreError(Exception):
    """The file can't be used: no sandbox's, damaged, or held by another process."""


class Store:
    """The accounts, an index of what is below each, and a few words of settings.

    `path` None: nothing is written anywhere. Raises: StoreError.
    """

    def __init__(self, path: Path | None, views: Views) -> None:
        self.views = views
        self._records: dict[str, Record] = {}
        self._before: dict[str, Record] = {}
        self._below: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._by_key: dict[str, str] = {}
        self._settings: dict[str, str] = {}
        self._file = _opened(path) if path is not None else None
        if self._file is not None:
            try:
                self._read(self._file)
            except (sqlite3.Error, ValueError, TypeError) as error:
                self.close()
                raise StoreError(f"{path} is no file of this sandbox: {error}") from error

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, account_id: str) -> bool:
        return account_id in self._records

    def get(self, account_id: str) -> Record | None:
        """Look an account up by its id."""
        return self._records.get(account_id)

    def before(self, account_id: str) -> Record | None:
        """What an account was before its last write, as long as the store is open."""
        return self._before.get(account_id)

    def by_api_key(self, api_key: str) -> Record | None:
        """Look an account up by the API key that works at this moment."""
        account_id = self._by_key.get(api_key)
        return self._records.get(account_id) if account_id is not None else None

    def descendants(self, account_id: str) -> Iterator[Record]:
        """All that have an account among their ancestors, oldest first, without any lag."""
        return (self._records[below] for below in tuple(self._below.get(account_id, ())))

    def count_descendants(self, account_id: str) -> int:
        """How many `descendants` would answer."""
        return len(self._below.get(account_id, ()))

    def put(self, record: Record) -> None:
        """Add an account, or replace what was known of it."""
        self._index(record)
        self.views.changed(record.id, record)
        if self._file is not None:
            self._file.execute(_PUT, (record.id, to_bytes(record)))

    def put_new(self, records: Iterable[Record]) -> None:
        """Add many new accounts in one transaction; lists show them at once."""
        added = list(records)
        self._load(added)
        if self._file is not None:
            self._file.execute("BEGIN")
            self._file.executemany(_PUT, ((record.id, to_bytes(record)) for record in added))
            self._file.execute("COMMIT")

    def delete(self, account_id: str) -> None:
        """Forget an account. Those below it stay, with its id in their trees."""
        record = self._records.pop(account_id)
        self._by_key.pop(record.api_key, None)
        for ancestor in record.tree:
            self._below[ancestor].pop(account_id, None)
        self.views.changed(account_id, None)
        if self._file is not None:
            self._file.execute("DELETE FROM account WHERE id = ?", (account_id,))

    @property
    def root_id(self) -> str:
        """The master account's id; the empty string in a store that was never set up."""
        return self._settings.get("root_id", "")

    def setting(self, name: str) -> str | None:
        """Read one of the few words that are no accounts."""
        return self._settings.get(name)

    def set_setting(self, name: str, value: str) -> None:
        """Keep a word under a name."""
        self._settings[name] = value
        if self._file is not None:
            self._file.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Let go of the file. May be called again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, file: sqlite3.Connection) -> None:
        self._settings.update(file.execute("SELECT name, value FROM setting"))
        rows = file.execute("SELECT record FROM account ORDER BY rowid")
        self._load([from_bytes(row[0]) for row in rows])

    def _load(self, records: list[Record]) -> None:
        for record in records:
            self._index(record)
        self.views.load(records)

    def _index(self, record: Record) -> None:
        known = self._records.get(record.id)
        if known is not None:
            self._before[record.id] = known
        self._records[record.id] = record
        if known is None or known.api_key != record.api_key:
            if known is not None:
                self._by_key.pop(known.api_key, None)
            self._by_key[record.api_key] = record.id
        if known is None or known.tree != record.tree:
            for ancestor in known.tree if known is not None else ():
                self._below[ancestor].pop(record.id, None)
            for ancestor in record.tree:
                self._below[ancestor][record.id] = None


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file for this process alone, and make the tables if it is new.

    The thread that serves need not be the one that opened, so SQLite's own check is off; there
    is never more than one at a time, since all of it runs in one event loop.
    """
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StoreError(f"the sandbox can't open its data file {path}: {error}") from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS account"
            " (rowid INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, record BLOB NOT NULL)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
        )
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"the sandbox can't use its data file {path}: {error}") from error
    return connection
