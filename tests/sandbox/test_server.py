"""The sandbox as a process: what it announces, and that signals end it cleanly."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from reconciler.sandbox.options import ROOT_API_KEY, ROOT_ID, SandboxOptions
from reconciler.sandbox.server import Announcement, run
from reconciler.sandbox.store import Store
from reconciler.sandbox.views import Views

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_file_is_free(tmp_path: Path, number: signal.Signals) -> None:
    announced: list[Announcement] = []

    def announce(announcement: Announcement) -> None:
        announced.append(announcement)
        os.kill(os.getpid(), number)

    path = tmp_path / "sandbox.db"
    run(SandboxOptions(data=path), port=0, announce=announce)
    assert [(each.root_id, each.api_key) for each in announced] == [(ROOT_ID, ROOT_API_KEY)]
    with pytest.raises(httpx.ConnectError):
        httpx.get(announced[0].url, trust_env=False)
    store = Store(path, Views(lambda: 0.0, 0))
    assert store.root_id == ROOT_ID
    store.close()
    store.close()


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            run(SandboxOptions(data=path), port=port, announce=lambda _: None)
    Store(path, Views(lambda: 0.0, 0)).close()
