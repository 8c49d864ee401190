"""State in PostgreSQL: what every place promises, and what only a database can do."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from .contract import Contract, Harm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer

_numbers = count(1)
_COLUMNS = {
    "states": "number, current, serial, saved_at, content, seal",
    "accounts": "key, since, until, content",
    "journal": "number, content",
}


@dataclass(frozen=True)
class PostgresPlace:
    server: PostgresServer
    database: str
    directory: Path
    name: str = field(default_factory=lambda: f"s{next(_numbers)}")
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def named(self) -> str:
        return self.server.url(self.database, f"&state={self.name}")

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What somebody else does there. %s stands for this state's name first."""
        with closing(psycopg.connect(self.server.url(self.database), autocommit=True)) as connection:
            cursor = connection.execute(statement, (self.name, *values))  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def copy(self) -> object:
        return {
            table: self.sql(f"SELECT {columns} FROM reconciler.{table} WHERE name = %s")
            for table, columns in _COLUMNS.items()
        }

    def put(self, copy: object) -> None:
        assert isinstance(copy, dict)
        for table, rows in copy.items():
            self.sql(f"DELETE FROM reconciler.{table} WHERE name = %s")
            columns = _COLUMNS[table]
            holes = ", ".join(["%s"] * len(columns.split(",")))
            for row in rows:
                self.sql(
                    f"INSERT INTO reconciler.{table} (name, {columns}) OVERRIDING SYSTEM VALUE VALUES (%s, {holes})",
                    *row,
                )

    def harm(self, how: Harm) -> None:
        match how:
            case "gone":
                self.sql("DELETE FROM reconciler.states WHERE name = %s AND current")
            case "empty":
                self.sql("UPDATE reconciler.states SET content = '' WHERE name = %s AND current")
            case "cut":
                self.sql("DELETE FROM reconciler.accounts WHERE name = %s AND until IS NULL")
            case "flipped":
                self.sql(
                    "UPDATE reconciler.accounts SET content = set_bit(content, 40, 1 - get_bit(content, 40))"
                    " WHERE name = %s AND until IS NULL"
                )

    def empty_twin(self) -> PostgresPlace:
        return PostgresPlace(self.server, self.database, self.directory)


@pytest.fixture(scope="session")
def database(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def place(postgres: PostgresServer, database: str, tmp_path: Path) -> PostgresPlace:
    return PostgresPlace(postgres, database, tmp_path)


class TestContract(Contract):
    """What every place promises, in a database."""
