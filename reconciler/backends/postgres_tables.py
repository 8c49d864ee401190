"""What stands in PostgreSQL: the tables of the schema `reconciler`, and every statement on them.

`locks` has a row per state's name: who writes, the fence, the last sign of life by the server's
clock, and what was saved last. `states` has a row per state that is kept: the whole of it but its
accounts, and a seal over those. `accounts` has a row per version of an account, which is part of
the states numbered from `since` on and before `until`: so a save writes what changed, and the
generations before cost no more. `journal` has a row per record.

Nothing here begins or ends a transaction.

Source: docs/state.md, "PostgreSQL".
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from reconciler.backends.backend import Generation, Holder
from reconciler.backends.integrity import DISCARDED, Witness
from reconciler.core.state import AccountRecord, Entry, State, Unusable, fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import LiteralString

    from reconciler.backends.codec import Codec
    from reconciler.backends.postgres_connection import Connection
    from reconciler.core.values import Key

GENERATIONS: Final = 10
_AT_ONCE: Final = 2000
"""Rows that are fetched at once, so that a large state is not in memory as text, too."""
_TABLES: Final = ["locks", "states", "accounts", "journal"]
_CREATE: Final = """
CREATE TABLE reconciler.locks (
  name text COLLATE "C" PRIMARY KEY,
  fence bigint NOT NULL DEFAULT 0,
  run text,
  holder text,
  beat timestamptz,
  lease interval,
  written text,
  lineage text NOT NULL,
  serial bigint NOT NULL DEFAULT 0,
  encrypted boolean NOT NULL DEFAULT false,
  records bigint NOT NULL DEFAULT 0
);
CREATE TABLE reconciler.states (
  name text COLLATE "C" NOT NULL,
  number bigint GENERATED ALWAYS AS IDENTITY,
  current boolean NOT NULL DEFAULT true,
  serial bigint NOT NULL,
  saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  content bytea NOT NULL,
  seal text NOT NULL,
  PRIMARY KEY (name, number)
);
CREATE UNIQUE INDEX ON reconciler.states (name) WHERE current;
CREATE TABLE reconciler.accounts (
  name text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  since bigint NOT NULL,
  until bigint,
  content bytea NOT NULL,
  PRIMARY KEY (name, key, since)
);
CREATE INDEX ON reconciler.accounts (name, until);
CREATE TABLE reconciler.journal (
  name text COLLATE "C" NOT NULL,
  number bigint NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (name, number)
);
"""


@dataclass(frozen=True, slots=True, repr=False)  # large
class Saved:
    """A state as it was saved. `digests`: of what is kept of each account, by key.

    `encrypted`: whether all of it is.
    """

    state: State
    digests: Mapping[Key, bytes]
    encrypted: bool


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """What was saved, and the state with what was recorded since. None: there is nothing."""

    saved: Saved | None = None
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What the row of the lock says of the state: what was saved last, and how many records since."""

    last: Witness
    records: int = 0

    def is_of(self, state: State) -> bool:
        """Whether it was `state` that was saved last."""
        return (self.last.lineage, self.last.serial) == (state.lineage, state.serial)


@dataclass(frozen=True, slots=True, repr=False)
class Changes:
    """What makes the state `after` of what was saved.

    `contents`: what is to be kept of accounts, by key, where it is another. `gone`: the keys of
    accounts that are no more; None for all that are not in `contents`.
    """

    contents: Mapping[Key, bytes]
    gone: list[Key] | None
    after: Saved


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows of the state called `name`."""

    name: str
    codec: Codec

    # --- the tables ---

    def are_made(self, connection: Connection) -> bool:
        """Whether they are there. Raises: Unusable if only some are."""
        query = """
            SELECT relname FROM pg_catalog.pg_class
            WHERE relnamespace = to_regnamespace('reconciler') AND relkind IN ('r', 'p')
              AND relname = ANY(%(tables)s)
        """
        found = {table for (table,) in connection.execute(query, {"tables": _TABLES})}
        if found and len(found) < len(_TABLES):
            gone = ", ".join(f"reconciler.{table}" for table in _TABLES if table not in found)
            raise Unusable(f"{gone} is gone. Restore a backup of the database")
        return bool(found)

    def make(self, connection: Connection) -> None:
        """Make them, if no other run did in the meantime."""
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('reconciler', 0))")
        if self.are_made(connection):
            return
        # Not IF NOT EXISTS, which asks for the right to make one even where it is there.
        if _one(connection, "SELECT to_regnamespace('reconciler') IS NULL", {})[0]:
            connection.execute("CREATE SCHEMA reconciler")
        connection.execute(_CREATE)

    def missing_rights(self, connection: Connection) -> list[str]:
        """The rights on them that a writer needs and the role has not."""
        query = """
            SELECT verb || ' on reconciler.' || name
            FROM unnest(%(tables)s::text[]) name,
              unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) verb
            WHERE NOT has_table_privilege('reconciler.' || name, verb)
        """
        return sorted(right for (right,) in connection.execute(query, {"tables": _TABLES}))

    # --- the lock ---

    def enter(self, connection: Connection) -> None:
        """Make the row of the lock. One that was removed does not come back knowing of nothing."""
        query = """
            INSERT INTO reconciler.locks (name, lineage)
            SELECT %(name)s, CASE WHEN EXISTS (
              SELECT FROM reconciler.states WHERE name = %(name)s
            ) THEN 'unknown' ELSE '' END
            ON CONFLICT DO NOTHING
        """
        connection.execute(query, {"name": self.name})

    def take(
        self, connection: Connection, me: Holder, lease: float, dead: int, write: str
    ) -> int | None:
        """Become the holder where nobody is, or one who is silent, or has the fence `dead`.

        Answers the fence; None if somebody else has the lock. Whoever waited for another
        transaction judges by what that left: so one of two who ask at the same time gets it.
        """
        query = """
            UPDATE reconciler.locks
            SET run = %(run)s, holder = %(holder)s, fence = fence + 1, written = %(write)s,
                beat = clock_timestamp(), lease = make_interval(secs => %(lease)s)
            WHERE name = %(name)s AND (run IS NULL OR beat + lease < clock_timestamp()
              OR fence = %(dead)s OR written = %(write)s)
            RETURNING fence
        """
        values = {"lease": lease, "dead": dead, "write": write, "name": self.name}
        holder = orjson.dumps(asdict(me)).decode()
        row = connection.execute(query, values | {"run": me.run, "holder": holder}).fetchone()
        return row[0] if row else None

    def holder(self, connection: Connection) -> Holder | None:
        """Who holds the lock. Raises: Unusable."""
        query = """
            SELECT holder, fence, beat AT TIME ZONE 'UTC' FROM reconciler.locks
            WHERE name = %(name)s AND run IS NOT NULL
        """
        row = connection.execute(query, {"name": self.name}).fetchone()
        if row is None:
            return None
        text, fence, beat = row
        try:
            return Holder(**(orjson.loads(text) | {"fence": fence, "heartbeat": _iso(beat)}))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise Unusable(f"who holds the lock can't be read ({error})") from error

    def free(self, connection: Connection, run: str, fence: int | None = None) -> None:
        """Take the lock from that run, if it has it; with a fence, from that one alone."""
        query = """
            UPDATE reconciler.locks SET run = NULL, holder = NULL
            WHERE name = %(name)s AND run = %(run)s AND fence = coalesce(%(fence)s, fence)
        """
        connection.execute(query, {"name": self.name, "run": run, "fence": fence})

    def hold(self, connection: Connection, run: str, fence: int) -> tuple[str, Noted] | None:
        """What was written last and what is noted; None if that run has not the lock any more.

        It keeps the lock until the transaction ends, whatever others do.
        """
        query = """
            SELECT written, lineage, serial, encrypted, records FROM reconciler.locks
            WHERE name = %(name)s AND run = %(run)s AND fence = %(fence)s FOR UPDATE
        """
        values = {"name": self.name, "run": run, "fence": fence}
        row = connection.execute(query, values).fetchone()
        return (row[0], _noted(*row[1:])) if row else None

    def note(self, connection: Connection, write: str, noted: Noted) -> None:
        """Give a sign of life, and note what was written."""
        query = """
            UPDATE reconciler.locks SET beat = clock_timestamp(), written = %(write)s,
              lineage = %(lineage)s, serial = %(serial)s, encrypted = %(encrypted)s,
              records = %(records)s
            WHERE name = %(name)s
        """
        values = {"name": self.name, "write": write, "records": noted.records}
        connection.execute(query, values | asdict(noted.last))

    # --- reading ---

    def find(self, connection: Connection) -> Found:
        """What is there. Raises: Unusable."""
        if not self.are_made(connection):
            return Found()
        noted = self._noted(connection)
        query = """
            SELECT number, content, seal FROM reconciler.states WHERE name = %(name)s AND current
        """
        row = connection.execute(query, {"name": self.name}).fetchone()
        if row is None:
            noted.last.check_gone()
            return Found()
        saved = self._saved(connection, row, noted.last)
        if not noted.is_of(saved.state):
            raise Unusable("it is not what was saved here last. Restore a backup of the database")
        return Found(saved, fold(saved.state, self._journalled(connection, saved, noted)))

    def _noted(self, connection: Connection) -> Noted:
        query = """
            SELECT coalesce(lineage, (
                SELECT 'unknown' FROM reconciler.states WHERE name = %(name)s LIMIT 1
              ), ''), coalesce(serial, 0), coalesce(encrypted, false), coalesce(records, 0)
            FROM (SELECT) nothing LEFT JOIN reconciler.locks ON name = %(name)s
        """
        return _noted(*_one(connection, query, {"name": self.name}))

    def _saved(
        self, connection: Connection, row: tuple[Any, ...], last: Witness | None = None
    ) -> Saved:
        """The state of which `row` is all but the accounts. Raises: Unusable."""
        number, content, seal = row
        header = self.codec.decode(content, last)
        query = """
            SELECT key, content FROM reconciler.accounts
            WHERE name = %(name)s AND since <= %(number)s AND (until IS NULL OR until > %(number)s)
        """
        digests: dict[Key, bytes] = {}
        accounts: dict[Key, AccountRecord] = {}
        twice = False
        with connection.cursor("accounts", binary=True) as rows:
            rows.itersize = _AT_ONCE
            for key, kept in rows.execute(query, {"name": self.name, "number": number}):
                twice = twice or key in digests
                digests[key] = _digest(kept)
                accounts[key] = self.codec.decode_account(header.lineage, key, kept)
        if twice or _seal(header, digests) != seal:
            raise Unusable(
                "rows of reconciler.accounts were changed, removed or added since it was saved. Restore a"
                " generation (`reconciler state restore`), or a backup of the database"
            )
        state = replace(header, accounts=dict(sorted(accounts.items())))
        return Saved(state, digests, encrypted=last is not None and last.encrypted)

    def _journalled(self, connection: Connection, saved: Saved, noted: Noted) -> list[Entry]:
        """What was recorded since. Raises: Unusable."""
        query = """
            SELECT number, content FROM reconciler.journal WHERE name = %(name)s ORDER BY number
        """
        rows = connection.execute(query, {"name": self.name}).fetchall()
        if [number for number, _ in rows] != list(range(1, noted.records + 1)):
            raise Unusable(f"its journal has {len(rows)} records, and {noted.records} were written")
        entries: list[Entry] = []
        for number, content in rows:
            found = self.codec.decode_record(saved.state, number, content, noted.last)
            if found is None:
                raise Unusable(f"record {number} of its journal goes with another state")
            entries += found
        return entries

    def history(self, connection: Connection) -> list[Generation]:
        """The generations that are kept, the latest first. Raises: Unusable."""
        if not self.are_made(connection):
            return []
        query = """
            SELECT serial, saved_at AT TIME ZONE 'UTC' FROM reconciler.states
            WHERE name = %(name)s AND NOT current ORDER BY number DESC
        """
        rows = connection.execute(query, {"name": self.name})
        return [Generation(serial, _iso(saved_at)) for serial, saved_at in rows]

    def generation(self, connection: Connection, serial: int) -> State:
        """A generation that is kept. Raises: Unusable."""
        kept = [generation.serial for generation in self.history(connection)]
        if serial not in kept:
            listed = ", ".join(map(str, kept)) or "none"
            raise Unusable(f"no generation {serial} is kept. There are: {listed}")
        query = """
            SELECT number, content, seal FROM reconciler.states
            WHERE name = %(name)s AND NOT current AND serial = %(serial)s
            ORDER BY number DESC LIMIT 1
        """
        row = _one(connection, query, {"name": self.name, "serial": serial})
        return self._saved(connection, row).state

    # --- writing ---

    def changes(self, saved: Saved | None, state: State) -> Changes:
        """What makes `state` of what was saved, if that is known. Under a new key, all changes."""
        old = saved.state.accounts if saved else {}
        same_key = saved and saved.encrypted == self.codec.encrypts and not self.codec.rotates
        contents = {
            key: self.codec.encode_account(state.lineage, key, record)
            for key, record in state.accounts.items()
            if not same_key or old.get(key) != record
        }
        gone = [key for key in old if key not in state.accounts] if saved else None
        kept = saved.digests if saved else {}
        digests = {
            key: _digest(contents[key]) if key in contents else kept[key] for key in state.accounts
        }
        return Changes(contents, gone, Saved(state, digests, self.codec.encrypts))

    def send(self, connection: Connection, changes: Changes) -> int:
        """Write what is new, as part of no state yet. Answers the number that the state will have."""
        state = changes.after.state
        query = """
            INSERT INTO reconciler.states (name, current, serial, content, seal)
            VALUES (%(name)s, false, %(serial)s, %(content)s, %(seal)s) RETURNING number
        """
        values = {
            "name": self.name,
            "serial": state.serial,
            "content": self.codec.encode(replace(state, accounts={})),
            "seal": _seal(state, changes.after.digests),
        }
        (number,) = _one(connection, query, values)
        rows = "COPY reconciler.accounts (name, key, since, content) FROM STDIN (FORMAT BINARY)"
        with connection.cursor().copy(rows) as copy:
            copy.set_types(["text", "text", "int8", "bytea"])
            for key, content in changes.contents.items():
                copy.write_row((self.name, key, number, content))
        return int(number)

    def put(self, connection: Connection, changes: Changes, number: int) -> Noted:
        """Put what was sent in the place of what was saved. Answers what is to be noted."""
        self._supersede(connection)
        values = {"name": self.name, "number": number, "gone": changes.gone}
        accounts = """
            UPDATE reconciler.accounts SET until = %(number)s
            WHERE name = %(name)s AND until IS NULL AND since < %(number)s AND (
              %(gone)s::text[] IS NULL OR key = ANY(%(gone)s::text[]) OR key IN (
                SELECT key FROM reconciler.accounts WHERE name = %(name)s AND since = %(number)s
              )
            )
        """
        connection.execute(accounts, values)
        state = """
            UPDATE reconciler.states SET current = true
            WHERE name = %(name)s AND number = %(number)s
        """
        connection.execute(state, values)
        self._prune(connection)
        return self.drop_journal(connection, Noted(self.codec.witness(changes.after.state)))

    def _supersede(self, connection: Connection) -> None:
        """Make a generation of what was saved."""
        query = "UPDATE reconciler.states SET current = false WHERE name = %(name)s AND current"
        connection.execute(query, {"name": self.name})

    def _prune(self, connection: Connection) -> None:
        """Drop the oldest generations, and the rows of accounts that are part of none."""
        states = """
            DELETE FROM reconciler.states WHERE name = %(name)s AND number <= (
              SELECT number FROM reconciler.states WHERE name = %(name)s AND NOT current
              ORDER BY number DESC OFFSET %(generations)s LIMIT 1
            )
        """
        connection.execute(states, {"name": self.name, "generations": GENERATIONS})
        accounts = """
            DELETE FROM reconciler.accounts WHERE name = %(name)s AND until <= (
              SELECT min(number) FROM reconciler.states WHERE name = %(name)s
            )
        """
        connection.execute(accounts, {"name": self.name})

    def add_record(
        self, connection: Connection, noted: Noted, base: State, entries: Sequence[Entry]
    ) -> Noted:
        """Write a record of the journal. Answers what is to be noted."""
        query = """
            INSERT INTO reconciler.journal (name, number, content)
            VALUES (%(name)s, %(number)s, %(content)s)
        """
        number = noted.records + 1
        content = self.codec.encode_record(base, number, entries)
        connection.execute(query, {"name": self.name, "number": number, "content": content})
        return replace(noted, records=number)

    def drop_journal(self, connection: Connection, noted: Noted) -> Noted:
        """Be done with the journal. Answers what is to be noted."""
        query = "DELETE FROM reconciler.journal WHERE name = %(name)s"
        connection.execute(query, {"name": self.name})
        return replace(noted, records=0)

    def put_away(self, connection: Connection) -> Noted:
        """Make a generation of what is there, whatever that is. Answers what is to be noted."""
        self._supersede(connection)
        query = """
            UPDATE reconciler.accounts SET until = (
              SELECT coalesce(max(number) + 1, 0) FROM reconciler.states WHERE name = %(name)s
            ) WHERE name = %(name)s AND until IS NULL
        """
        connection.execute(query, {"name": self.name})
        return self.drop_journal(connection, Noted(DISCARDED))


def _noted(lineage: str, serial: int, encrypted: bool, records: int) -> Noted:
    return Noted(Witness(lineage, serial, encrypted=encrypted), records)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _seal(state: State, digests: Mapping[Key, bytes]) -> str:
    """What holds a state and its accounts together; made with a key that the state has.

    So nobody can make one for other accounts who can't read the state.
    """
    whole = hashlib.sha256()
    for key in sorted(digests):
        whole.update(key.encode() + b"\0" + digests[key])
    return state.digest([state.serial, whole.hexdigest()])


def _one(
    connection: Connection, query: LiteralString, values: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The row that a query always answers."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise AssertionError(query)
    return row


def _iso(moment: datetime) -> str:
    """A time in UTC, ISO 8601."""
    return moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds")
