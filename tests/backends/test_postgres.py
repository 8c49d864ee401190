"""State in PostgreSQL: what every place promises, and what only a database can do."""

from __future__ import annotations

import re
import select
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from reconciler.backends.backend import Locked, Lost, Unwritable, open_backend
from reconciler.backends.lease import Timing
from reconciler.backends.postgres_tables import GENERATIONS
from reconciler.core.state import Entry, State, Unusable

from .contract import Contract, Harm
from .other_run import OTHER_LINEAGE, a_record, a_state, an_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import LiteralString

    from reconciler.backends.postgres import PostgresBackend, PostgresWriter
    from tests.conftest import PostgresServer

PATIENT = Timing(heartbeat=60, lease=60, poll=0.02)
"""No sign of life comes in between, and nobody is given up."""
QUICK = Timing(heartbeat=60, lease=0.5, poll=0.02)
KEY = {"RECONCILER_STATE_KEY": "the first key of all"}
_COLUMNS = {
    "states": ("number", "current", "serial", "saved_at", "content", "seal"),
    "accounts": ("key", "since", "until", "content"),
    "journal": ("number", "content"),
}
_names = (f"state-{number}" for number in count(1))


@dataclass(frozen=True)
class PostgresPlace:
    server: PostgresServer
    database: str
    directory: Path
    name: str = field(default_factory=lambda: next(_names))
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def named(self) -> str:
        return self.server.url(self.database, f"state={self.name}")

    def backend(self, timing: Timing = PATIENT, user: str = "postgres") -> PostgresBackend:
        url = self.server.url(self.database, f"state={self.name}", user=user)
        return opened(url, timing, self.environment)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.url(self.database), autocommit=True)

    def sql(
        self, statement: LiteralString | sql.Composed, *values: object
    ) -> list[tuple[Any, ...]]:
        """What somebody else does there; the first %s is the name of this state."""
        with closing(self.connect()) as connection:
            cursor = connection.execute(statement, (self.name, *values))
            return cursor.fetchall() if cursor.description else []

    def copy(self) -> object:
        query = sql.SQL("SELECT {} FROM reconciler.{} WHERE name = %s")
        return {
            table: self.sql(query.format(_listed(columns), sql.Identifier(table)))
            for table, columns in _COLUMNS.items()
        }

    def put(self, copy: object) -> None:
        assert isinstance(copy, dict)
        for table, rows in copy.items():
            name, columns = sql.Identifier(table), _COLUMNS[table]
            self.sql(sql.SQL("DELETE FROM reconciler.{} WHERE name = %s").format(name))
            holes = sql.SQL(", ").join([sql.Placeholder()] * (len(columns) + 1))
            query = sql.SQL(
                "INSERT INTO reconciler.{} (name, {}) OVERRIDING SYSTEM VALUE VALUES ({})"
            ).format(name, _listed(columns), holes)
            for row in rows:
                self.sql(query, *row)

    def harm(self, how: Harm) -> None:
        self.sql(
            {
                "gone": "DELETE FROM reconciler.states WHERE name = %s AND current",
                "empty": "UPDATE reconciler.states SET content = '' WHERE name = %s AND current",
                "cut": "DELETE FROM reconciler.accounts WHERE name = %s AND until IS NULL",
                "flipped": "UPDATE reconciler.accounts SET content = set_bit(content, 40, 1 - get_bit(content, 40)) WHERE name = %s AND until IS NULL",
            }[how]
        )

    def empty_twin(self) -> PostgresPlace:
        return PostgresPlace(self.server, self.database, self.directory)


def _listed(columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def opened(
    url: str, timing: Timing = PATIENT, environment: dict[str, str] | None = None
) -> PostgresBackend:
    from reconciler.backends.postgres import PostgresBackend

    backend = open_backend(url, Path(), environment or {}, timing)
    assert isinstance(backend, PostgresBackend)
    return backend


@contextmanager
def locked(
    backend: PostgresBackend, run: str = "run-1", timeout: float = 0.0
) -> Iterator[PostgresWriter]:
    with backend.lock(run, "reconciler apply", timeout) as writer:
        yield writer


@pytest.fixture(scope="session")
def database(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def place(postgres: PostgresServer, database: str, tmp_path: Path) -> PostgresPlace:
    return PostgresPlace(postgres, database, tmp_path)


@pytest.fixture
def alone(postgres: PostgresServer, tmp_path: Path) -> PostgresPlace:
    """A place in a database that nobody has used."""
    return PostgresPlace(postgres, postgres.new_database(), tmp_path)


class TestContract(Contract):
    """What every place promises, in a database."""


# --- what is there and what is written ---


def test_reading_makes_nothing(alone: PostgresPlace) -> None:
    assert alone.backend().read() is None
    assert alone.backend().holder() is None
    assert list(alone.backend().history()) == []
    alone.backend().unlock("run-1")
    assert (
        alone.sql("SELECT nspname FROM pg_namespace WHERE nspname = 'reconciler' AND '' <> %s")
        == []
    )


def test_many_may_be_the_first_to_use_a_database(alone: PostgresPlace) -> None:
    places = [alone, *(alone.empty_twin() for _ in range(5))]
    start = threading.Barrier(len(places))

    def use(place: PostgresPlace) -> State | None:
        start.wait()
        with locked(place.backend()) as writer:
            writer.save(a_state(1, place.name))
        return place.backend().read()

    with ThreadPoolExecutor(len(places)) as pool:
        for place, state in zip(places, pool.map(use, places), strict=True):
            assert state == a_state(1, place.name)


def test_the_schema_may_be_there_already(alone: PostgresPlace) -> None:
    with closing(alone.connect()) as connection:
        connection.execute("CREATE SCHEMA reconciler")
    with locked(alone.backend()) as writer:
        writer.save(a_state(1))
    assert alone.backend().read() == a_state(1)


def test_a_save_writes_only_what_changed(place: PostgresPlace) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a", "b", "c", "d"))
        writer.save(a_state_of(2, {"a": "1-a", "b": "2-b", "d": "1-a", "e": "1-a"}))
    versions = place.sql(
        "SELECT key, dense_rank() OVER (ORDER BY since) FROM reconciler.accounts WHERE name = %s ORDER BY 1, 2"
    )
    assert versions == [("a", 1), ("b", 1), ("b", 2), ("c", 1), ("d", 1), ("e", 2)]


KEYS = ("a", "b", "c", "d")


@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # to make an example smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from("xyz")),
        min_size=1,
        max_size=GENERATIONS + 6,
    )
)
def test_every_generation_is_what_it_was(
    place: PostgresPlace, contents: list[dict[str, str]]
) -> None:
    """Also where an account comes and goes; and no row is kept that is part of none."""
    place = place.empty_twin()
    states = [a_state_of(serial, content) for serial, content in enumerate(contents, 1)]
    with locked(place.backend()) as writer:
        for state in states:
            writer.save(state)
    backend = place.backend()
    assert backend.read() == states[-1]
    kept = states[-GENERATIONS - 1 :]
    serials = [generation.serial for generation in backend.history()]
    assert serials == [state.serial for state in reversed(kept[:-1])]
    assert [backend.generation(state.serial) for state in kept[:-1]] == kept[:-1]
    versions = [
        key
        for earlier, later in pairwise([a_state(), *kept])
        for key, record in later.accounts.items()
        if earlier.accounts.get(key) != record
    ]
    rows = place.sql("SELECT key FROM reconciler.accounts WHERE name = %s")
    assert sorted(key for (key,) in rows) == sorted(versions)


def a_state_of(serial: int, content: dict[str, str]) -> State:
    """A state with these accounts: etags by key."""
    accounts = {key: replace(a_record(key), etag=etag) for key, etag in content.items()}
    return replace(a_state(serial), accounts=accounts)


def test_under_a_key_no_row_can_be_read_and_old_rows_are_written_anew(place: PostgresPlace) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a", "b"))
    with locked(replace(place, environment=KEY).backend()) as writer:
        assert writer.read() == a_state(1, "a", "b")
        writer.save(a_state(2, "a", "b", "c"))
        writer.journal(a_state(2, "a", "b", "c"), [an_entry("d")])
    _now_under(place, KEY, 3)
    new = {
        "RECONCILER_STATE_KEY": "another key altogether",
        "RECONCILER_STATE_KEY_PREVIOUS": KEY["RECONCILER_STATE_KEY"],
    }
    with locked(replace(place, environment=new).backend()) as writer:
        writer.read()
        writer.save(a_state(4, "a", "b", "c", "d"))
    _now_under(place, {"RECONCILER_STATE_KEY": "another key altogether"}, 4)


def _now_under(place: PostgresPlace, key: dict[str, str], serial: int) -> None:
    assert replace(place, environment=key).backend().read() == a_state(serial, "a", "b", "c", "d")
    with pytest.raises(Unusable, match="encrypted"):
        place.backend().read()
    for (row,) in place.sql(
        "WITH this AS (SELECT %s AS name)"
        " SELECT content FROM reconciler.accounts JOIN this USING (name) WHERE until IS NULL"
        " UNION ALL SELECT content FROM reconciler.journal JOIN this USING (name)"
    ):
        assert b"applied" not in row


def test_a_write_outlives_a_power_cut_and_ends_whatever_the_server_s_defaults_are(
    place: PostgresPlace, database: str
) -> None:
    shown: dict[str, str] = {}

    def look(connection: Any, noted: Any) -> Any:
        for name in ("synchronous_commit", "statement_timeout", "lock_timeout"):
            shown[name] = connection.execute(f"SHOW {name}").fetchone()[0]
        return noted

    defaults = "-csynchronous_commit%3Doff%20-cdefault_transaction_read_only%3Don"
    url = place.server.url(database, f"state={place.name}", f"options={defaults}")
    with locked(opened(url)) as writer:
        writer._lock.write(look)
    assert shown == {
        "synchronous_commit": "on",
        "statement_timeout": "2min",
        "lock_timeout": "2min",
    }


# --- what somebody else did to the rows ---

TAMPERED: dict[str, tuple[LiteralString, ...]] = {
    "an account changed": (
        "UPDATE reconciler.accounts SET content = set_bit(content, 200, 1 - get_bit(content, 200)) WHERE name = %s AND key = 'a'",
    ),
    "an account removed": ("DELETE FROM reconciler.accounts WHERE name = %s AND key = 'a'",),
    "an account added": (
        "INSERT INTO reconciler.accounts SELECT name, 'z', since, until, content FROM reconciler.accounts WHERE name = %s AND key = 'a'",
    ),
    "an account there twice": (
        "INSERT INTO reconciler.accounts SELECT name, key, since - 1, until, content FROM reconciler.accounts WHERE name = %s AND key = 'a'",
    ),
    "two accounts swapped": (
        "UPDATE reconciler.accounts SET key = 'x' WHERE name = %s AND key = 'a'",
        "UPDATE reconciler.accounts SET key = 'a' WHERE name = %s AND key = 'b'",
        "UPDATE reconciler.accounts SET key = 'b' WHERE name = %s AND key = 'x'",
    ),
    "an account of an earlier state": (
        "UPDATE reconciler.accounts SET content = (SELECT content FROM reconciler.accounts WHERE name = %s AND key = 'b' AND until IS NOT NULL) WHERE key = 'b' AND until IS NULL",
    ),
    "the state of an earlier one": (
        "UPDATE reconciler.states s SET content = o.content, seal = o.seal FROM reconciler.states o WHERE s.name = %s AND o.name = s.name AND s.current AND NOT o.current",
    ),
    "an earlier state made the present one": (
        "DELETE FROM reconciler.states WHERE name = %s AND current",
        "UPDATE reconciler.states SET current = true WHERE name = %s",
    ),
    "all states removed": ("DELETE FROM reconciler.states WHERE name = %s",),
    "the lock's row removed": ("DELETE FROM reconciler.locks WHERE name = %s",),
    "the lock's row and the present state removed": (
        "DELETE FROM reconciler.locks WHERE name = %s",
        "DELETE FROM reconciler.states WHERE name = %s AND current",
    ),
    "the lock's row says that there was never anything": (
        "UPDATE reconciler.locks SET lineage = '', serial = 0 WHERE name = %s",
    ),
    "the last record removed": ("DELETE FROM reconciler.journal WHERE name = %s AND number = 2",),
    "the first record removed": ("DELETE FROM reconciler.journal WHERE name = %s AND number = 1",),
    "all records removed": ("DELETE FROM reconciler.journal WHERE name = %s",),
    "a record changed": (
        "UPDATE reconciler.journal SET content = set_bit(content, 200, 1 - get_bit(content, 200)) WHERE name = %s",
    ),
    "a record added": (
        "INSERT INTO reconciler.journal SELECT name, 3, content FROM reconciler.journal WHERE name = %s AND number = 1",
    ),
    "records swapped": (
        "UPDATE reconciler.journal SET number = number + 10 WHERE name = %s",
        "UPDATE reconciler.journal SET number = 13 - number WHERE name = %s",
    ),
}


@pytest.mark.parametrize("environment", [{}, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_done_to_the_rows_is_noticed_until_it_is_discarded(
    place: PostgresPlace, how: str, environment: dict[str, str]
) -> None:
    place = replace(place, environment=environment)
    with locked(place.backend()) as writer:
        writer.save(a_state_of(1, {"a": "1-a", "b": "0"}))
        writer.save(a_state(2, "a", "b"))
        for name in ("c", "d"):
            writer.journal(a_state(2, "a", "b"), [an_entry(name)])
    assert place.backend().read() == a_state(3, "a", "b", "c", "d")
    for statement in TAMPERED[how]:
        place.sql(statement)
    with pytest.raises(Unusable):
        place.backend().read()
    with locked(place.backend()) as writer:  # a lock that is made anew does not heal it
        with pytest.raises(Unusable):
            writer.read()
        with pytest.raises(Unusable):
            writer.journal(a_state(3), [an_entry("e")])
    with locked(place.backend()) as writer:
        writer.discard()
        writer.save(a_state(1, "new", lineage=OTHER_LINEAGE))
    assert place.backend().read() == a_state(1, "new", lineage=OTHER_LINEAGE)


def test_what_can_t_be_read_any_more_is_not_built_upon(place: PostgresPlace) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a"))
        place.harm("flipped")
        with pytest.raises(Unusable):
            writer.read()
        with pytest.raises(Unusable):
            writer.save(a_state(2, "b"))


@pytest.mark.parametrize("table", _COLUMNS | {"locks": ()})
def test_a_table_that_is_gone_is_not_no_state(alone: PostgresPlace, table: str) -> None:
    with locked(alone.backend()) as writer:
        writer.save(a_state(1, "a"))
    with closing(alone.connect()) as connection:
        connection.execute(sql.SQL("DROP TABLE reconciler.{}").format(sql.Identifier(table)))
    with pytest.raises(Unusable, match=f"reconciler.{table} is gone"):
        alone.backend().read()
    with pytest.raises(Unwritable, match=f"reconciler.{table} is gone"), locked(alone.backend()):
        raise AssertionError


def test_what_changed_during_a_run_is_not_replaced(place: PostgresPlace) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a"))
        place.sql("UPDATE reconciler.locks SET serial = 5 WHERE name = %s")
        with pytest.raises(Unwritable, match="somebody else"):
            writer.save(a_state(2, "a"))
    with pytest.raises(Unusable, match="rolled back"):
        place.backend().read()


# --- two writers, step by step ---


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """Do `work` in a thread while the block runs. Gives a function that waits for what came of it."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield lambda: future.result(20)


def waiting(place: PostgresPlace) -> int:
    """How many wait for a lock of the database."""
    ((found,),) = place.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND '' <> %s")
    return int(found)


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never happened")


def test_a_write_that_comes_after_the_lock_was_taken_over_is_lost(place: PostgresPlace) -> None:
    """The writer has begun, and waits for the row that the other is taking."""
    with locked(place.backend()) as writer, closing(place.connect()) as other:
        writer.save(a_state(1, "a"))
        with other.transaction():
            other.execute(
                "UPDATE reconciler.locks SET run = 'other', fence = fence + 1 WHERE name = %s",
                [place.name],
            )
            with in_thread(lambda: writer.save(a_state(2, "a", "z"))) as result:
                wait_until(lambda: waiting(place) == 1)
                other.execute("COMMIT")
                with pytest.raises(Lost):
                    result()
    assert place.backend().read() == a_state(1, "a")


def test_a_later_holder_of_the_same_name_is_another(place: PostgresPlace) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a"))
        place.sql("UPDATE reconciler.locks SET beat = beat - interval '1 day' WHERE name = %s")
        with locked(place.backend()) as later:
            later.save(a_state(2, "b"))
            with pytest.raises(Lost):
                writer.save(a_state(2, "z"))
    assert place.backend().read() == a_state(2, "b")


def test_who_would_take_over_waits_for_a_write_and_finds_its_holder_alive(
    place: PostgresPlace,
) -> None:
    with locked(place.backend()) as writer, closing(place.connect()) as other:
        writer.save(a_state(1, "a"))
        place.sql("UPDATE reconciler.locks SET beat = beat - interval '1 day' WHERE name = %s")
        with other.transaction():
            other.execute("LOCK TABLE reconciler.journal")
            with in_thread(lambda: writer.journal(a_state(1, "a"), [an_entry("b")])) as written:
                wait_until(lambda: waiting(place) == 1)
                with in_thread(lambda: locked(place.backend(), "run-2").__enter__()) as taken:
                    wait_until(lambda: waiting(place) == 2)
                    other.execute("COMMIT")
                    written()
                    with pytest.raises(Locked):
                        taken()
    assert place.backend().read() == a_state(2, "a", "b")


def test_a_holder_that_stands_still_in_the_middle_of_a_write_is_thrown_out(
    place: PostgresPlace,
) -> None:
    """It has the row; the server ends its transaction after a lease, so that another can go on."""
    woken = threading.Event()

    def stand_still(_: object, noted: Any) -> Any:
        assert woken.wait(20)
        return noted

    with locked(place.backend(QUICK)) as silent:
        silent.save(a_state(1, "a"))
        with in_thread(lambda: silent._lock.write(stand_still)) as result:
            try:
                with locked(place.backend(QUICK), "run-2", timeout=20) as writer:
                    writer.save(a_state(2, "a", "b"))
                    woken.set()
                    with pytest.raises(Lost, match="taken over by"):
                        result()
            finally:
                woken.set()
    assert place.backend().read() == a_state(2, "a", "b")


def test_a_write_that_takes_longer_than_a_lease_keeps_others_out(place: PostgresPlace) -> None:
    def take_long(connection: Any, noted: Any) -> Any:
        connection.execute("SELECT pg_sleep(3)")
        return noted

    with (
        locked(place.backend(QUICK)) as writer,
        in_thread(lambda: writer._lock.write(take_long)) as written,
    ):
        with pytest.raises(Locked) as caught, locked(place.backend(QUICK), "run-2", timeout=1):
            raise AssertionError
        assert caught.value.holder is not None
        assert caught.value.holder.run == "run-1"
        written()


# --- connections that are lost ---


def cut_off(place: PostgresPlace) -> None:
    """End all other connections to the database."""
    place.sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND '' <> %s"
    )


def test_a_connection_that_was_ended_between_two_writes_is_made_again(place: PostgresPlace) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a"))
        cut_off(place)
        writer.journal(a_state(1, "a"), [an_entry("b")])
        cut_off(place)
        assert writer.read() == a_state(2, "a", "b")
        cut_off(place)
        writer.save(a_state(3, "a", "b", "c"))
        cut_off(place)
        writer.check()
    assert place.backend().read() == a_state(3, "a", "b", "c")
    assert place.backend().holder() is None


def test_a_write_that_was_cut_off_in_the_middle_is_done_again_and_once(
    place: PostgresPlace,
) -> None:
    cuts = [cut_off, cut_off]

    def add(connection: Any, noted: Any) -> Any:
        noted = tables.add_record(connection, noted, a_state(1), [an_entry("a")])
        if cuts:
            cuts.pop()(place)
        return noted

    with locked(place.backend()) as writer:
        tables = writer._tables
        writer.save(a_state(1))
        writer._lock.write(add)
    assert not cuts
    assert place.sql("SELECT number FROM reconciler.journal WHERE name = %s") == [(1,)]
    assert place.backend().read() == a_state(2, "a")


Cut = Literal["the question", "the answer", "the middle"]
_CHUNK = 65536


class Wire:
    """A way to the server by TCP that can be cut."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server.socket / ".s.PGSQL.5432"
        self._cut: Cut | None = None
        self._skip = 0
        self.cuts = 0
        self.woken = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def cut_next(self, cut: Cut, skip: int = 0) -> None:
        """Cut at the next COMMIT, or so many later: before the server gets it, or its answer.

        Or fall silent in the middle of the next question that is large, until `woken`.
        """
        self._cut, self._skip = cut, skip

    def close(self) -> None:
        """Let nobody through any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """Carry questions and answers to and fro, until one end goes away or the line is cut."""
        cut: Cut | None = None
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._server))
            while True:
                if cut == "the middle":
                    self.woken.wait(20)
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(_CHUNK)
                    if end is client:
                        cut = self._cut_here(data)
                    if not data or cut == ("the question" if end is client else "the answer"):
                        return
                    (server if end is client else client).sendall(data)

    def _cut_here(self, question: bytes) -> Cut | None:
        large = self._cut == "the middle" and len(question) == _CHUNK
        if self._cut is None or not (large or b"COMMIT\0" in question):
            return None
        if self._skip:
            self._skip -= 1
            return None
        cut, self._cut = self._cut, None
        self.cuts += 1
        return cut


@pytest.fixture
def wire(postgres: PostgresServer) -> Iterator[Wire]:
    wire = Wire(postgres)
    yield wire
    wire.close()


def by_wire(place: PostgresPlace, wire: Wire, timing: Timing = PATIENT) -> PostgresBackend:
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/{place.database}?state={place.name}"
    return opened(url, timing)


@pytest.mark.parametrize("cut", ["the question", "the answer"])
def test_a_commit_that_is_cut_off_is_done_once(place: PostgresPlace, wire: Wire, cut: Cut) -> None:
    with locked(by_wire(place, wire)) as writer:
        wire.cut_next(cut)
        writer.save(a_state(1, "a"))
        wire.cut_next(cut)
        writer.journal(a_state(1, "a"), [an_entry("b")])
        wire.cut_next(cut)
        writer.journal(a_state(1, "a"), [Entry("forget", "a"), an_entry("c")])
        assert place.sql("SELECT number FROM reconciler.journal WHERE name = %s ORDER BY 1") == [
            (1,),
            (2,),
        ]
        assert place.backend().read() == a_state(2, "b", "c")
        wire.cut_next(cut)
        writer.save(a_state(2, "b", "c"))
        wire.cut_next(cut)
    assert wire.cuts == 5
    assert place.backend().read() == a_state(2, "b", "c")
    assert [generation.serial for generation in place.backend().history()] == [1]


@pytest.mark.parametrize("cut", ["the question", "the answer"])
def test_a_lock_is_got_although_the_answer_is_lost(
    place: PostgresPlace, wire: Wire, cut: Cut
) -> None:
    wire.cut_next(cut, skip=1)  # the first transaction makes the row
    with locked(by_wire(place, wire)) as writer:
        assert wire.cuts == 1
        writer.save(a_state(1))
    assert place.backend().read() == a_state(1)


def test_who_stands_still_while_he_sends_a_large_state_keeps_nobody_out(
    place: PostgresPlace, wire: Wire
) -> None:
    """The server hears half of a message, and would wait for the rest for ever."""
    large = a_state_of(2, {"a": "x" * 20 * _CHUNK})
    with locked(by_wire(place, wire, QUICK)) as silent:
        silent.save(a_state(1, "a"))
        wire.cut_next("the middle")
        with (
            in_thread(lambda: silent.save(large)) as result,
            locked(place.backend(QUICK), "run-2", timeout=20) as writer,
        ):
            assert wire.cuts == 1
            writer.save(a_state(2, "a", "b"))
            wire.woken.set()
            with pytest.raises(Lost, match="taken over by"):
                result()
            assert place.backend().read() == a_state(2, "a", "b")
            assert len(place.sql("SELECT number FROM reconciler.states WHERE name = %s")) == 2
            writer.save(a_state(3, "a"))
    assert place.backend().read() == a_state(3, "a")


def test_where_the_way_stays_cut_the_write_fails_and_says_what_is_kept(
    place: PostgresPlace, wire: Wire
) -> None:
    with locked(by_wire(place, wire, QUICK)) as writer:
        writer.save(a_state(1, "a"))
        wire.close()
        cut_off(place)
        with pytest.raises(Unwritable, match=r"^postgresql://127.0.0.1:\d+/.* kept there"):
            writer.journal(a_state(1, "a"), [an_entry("b")])
    assert place.backend().read() == a_state(1, "a")


# --- rights ---


@pytest.fixture
def role(place: PostgresPlace) -> Iterator[str]:
    """The name of a role that has no rights yet."""
    name = f"role_{place.name.replace('-', '_')}"
    with closing(place.connect()) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def grant(place: PostgresPlace, rights: LiteralString, role: str) -> None:
    with closing(place.connect()) as connection:
        connection.execute(sql.SQL("GRANT " + rights + " TO {}").format(sql.Identifier(role)))


def test_who_may_only_read_can_plan_and_not_lock(place: PostgresPlace, role: str) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1, "a"))
        writer.save(a_state(2, "b"))
        writer.journal(a_state(2, "b"), [an_entry("c")])
        grant(place, "USAGE ON SCHEMA reconciler", role)
        grant(place, "SELECT ON ALL TABLES IN SCHEMA reconciler", role)
        reader = place.backend(user=role)
        assert reader.read() == a_state(3, "b", "c")
        assert reader.generation(1) == a_state(1, "a")
        held = reader.holder()
        assert held is not None
        assert held.run == "run-1"
    with pytest.raises(Unwritable, match=r"denied for table locks\. .* docs/state\.md"):
        reader.unlock("run-1")
    with pytest.raises(Unwritable, match="permission denied for table locks"), locked(reader):
        raise AssertionError


def test_who_may_not_even_read_does_not_see_no_state(place: PostgresPlace, role: str) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1))
    with pytest.raises(Unusable, match="permission denied"):
        place.backend(user=role).read()


def test_who_may_not_make_the_tables_is_told(alone: PostgresPlace, role: str) -> None:
    with pytest.raises(Unwritable, match="permission denied"), locked(alone.backend(user=role)):
        raise AssertionError
    assert alone.backend(user=role).read() is None


def test_a_right_that_lacks_is_found_before_anything_is_sent(
    place: PostgresPlace, role: str
) -> None:
    with locked(place.backend()) as writer:
        writer.save(a_state(1))
    grant(place, "USAGE ON SCHEMA reconciler", role)
    grant(place, "SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA reconciler", role)
    grant(place, "DELETE ON reconciler.journal, reconciler.locks", role)
    lacking = r"lacks DELETE on reconciler.accounts, DELETE on reconciler.states\."
    with locked(place.backend(user=role)) as writer, pytest.raises(Unwritable, match=lacking):
        writer.journal(a_state(1), [])
    grant(place, "DELETE ON ALL TABLES IN SCHEMA reconciler", role)
    with locked(place.backend(user=role)) as writer:
        writer.journal(a_state(1), [])
        writer.save(a_state(2))


# --- the URL ---


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://bob:hunter2@db.example.com/tel", "password"),
        ("postgres://bob@db.example.com/tel?password=hunter2", "password"),
        ("postgresql://db.example.com/tel?sslpassword=hunter2", "password"),
        ("postgresql://bob:hunter2/x@db.example.com/tel", "can't be read"),
        ("postgresql://bob:12/hunter2@db.example.com/tel", "can't be read"),
        ("postgresql://bob:hunter2%zz@db.example.com/tel", "no URL"),
        ("postgresql://db.example.com/tel?nonsense=hunter2", "no URL"),
        ("postgresql://db.example.com/tel?state=../hunter2", "letters"),
        ("postgresql://db.example.com/tel?state=", "letters"),
    ],
)
def test_a_wrong_url_is_refused_and_not_repeated(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        opened(url)
    assert "hunter2" not in str(refused.value)
    assert "bob" not in str(refused.value)


def test_the_password_of_the_environment_goes_to_the_server_it_names_alone() -> None:
    environment = {"PGPASSWORD": "hunter2", "PGHOST": "db.example.com"}
    with pytest.raises(ValueError, match="PGHOST"):
        opened("postgresql://elsewhere.example.com/tel", environment=environment)
    opened("postgresql://db.example.com/tel", environment=environment)
    opened("postgresql:///tel", environment=environment)
    opened("postgresql://elsewhere.example.com/tel", environment={"PGHOST": "db.example.com"})


def test_what_can_t_be_reached_is_named_without_user_and_parameters(place: PostgresPlace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    backend = opened(f"postgresql://bob@127.0.0.1:{port}/tel?application_name=hunter2&state=prod")
    for attempt in (backend.read, lambda: locked(backend).__enter__(), lambda: backend.unlock("x")):
        with pytest.raises((Unusable, Unwritable)) as refused:
            attempt()
        text = str(refused.value)
        assert text.startswith(f"postgresql://127.0.0.1:{port}/tel?state=prod: ")
        assert "refused" in text
        assert "bob" not in text
        assert "hunter2" not in text
    with pytest.raises(Unusable, match="does not exist") as refused:
        place.backend(user="bob").read()
    assert "bob" not in str(refused.value)


def test_without_the_packages_it_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [
        name for name in sys.modules if re.match(r"psycopg\b|reconciler.backends.postgres", name)
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"pip install 'reconciler\[postgres\]'"):
        open_backend("postgresql:///tel", Path(), {})
