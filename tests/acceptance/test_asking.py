"""What is asked on a terminal before anything is changed, and how much goes on at a time."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.local import LocalBackend
from reconciler.sandbox.options import ROOT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.wire import Request, Response

    from .conftest import Project, World


class Terminal:
    """A command that believes that a person sits there. What it asks comes out of `process.stderr`."""

    def __init__(self, process: subprocess.Popen[bytes], keyboard: int) -> None:
        self.process = process
        self._keyboard = keyboard

    def asked(self, end: bytes) -> bytes:
        """Wait for a question that ends so."""
        assert self.process.stderr is not None
        seen = b""
        while not seen.endswith(end):
            seen += self.process.stderr.read(1) or pytest.fail(f"it ended: {seen!r}")
        return seen

    def types(self, line: str) -> tuple[int, str]:
        """Answer, and wait for the end: the exit status and stdout."""
        os.write(self._keyboard, line.encode() + b"\n")
        out, _ = self.process.communicate(timeout=20)
        return self.process.returncode, out.decode()


@contextmanager
def at_a_terminal(project: Project, *arguments: str) -> Iterator[Terminal]:
    keyboard, stdin = pty.openpty()
    command = [sys.executable, "-m", "reconciler", *arguments, "-C", str(project.directory)]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe) as process:
            yield Terminal(process, keyboard)
    finally:
        os.close(keyboard)
        os.close(stdin)


def two(project: Project) -> None:
    project.declare({"acme": {}, "below": {"parent": "acme"}})


@pytest.mark.parametrize("answer", ["yes", "y", "YES", "", "no"])
def test_apply_takes_yes_alone(release: World, project: Project, answer: str) -> None:
    two(project)
    with at_a_terminal(project, "apply") as terminal:
        terminal.asked(b"Only `yes` is taken: ")
        code, out = terminal.types(answer)
    if answer == "yes":
        assert (code, release.names()) == (0, ["acme", "below"])
    else:
        assert (code, release.names()) == (1, [])
        assert "Not approved; nothing was done." in out
        assert not project.state_file.exists()


@pytest.mark.parametrize("answer", [ROOT_NAME, "yes", ROOT_NAME.lower(), f"{ROOT_NAME} x", ""])
def test_destroy_takes_the_root_accounts_name_alone(
    release: World, project: Project, answer: str
) -> None:
    two(project)
    project.settle()
    with at_a_terminal(project, "destroy", "--allow", "delete=2") as terminal:
        terminal.asked(f"Type the root account's name, {ROOT_NAME}: ".encode())
        code, _ = terminal.types(answer)
    if answer == ROOT_NAME:
        assert (code, release.names()) == (0, [])
    else:
        assert (code, release.names()) == (1, ["acme", "below"])


def test_what_is_refused_is_not_asked_about(release: World, project: Project) -> None:
    two(project)
    project.settle()
    with at_a_terminal(project, "destroy") as terminal:
        out, err = terminal.process.communicate(timeout=20)
    assert terminal.process.returncode == 3
    assert b"max_delete" in out
    assert b"Type the root" not in err
    assert release.names() == ["acme", "below"]


def test_a_signal_is_an_answer_too(release: World, project: Project) -> None:
    two(project)
    with at_a_terminal(project, "apply") as terminal:
        terminal.asked(b"Only `yes` is taken: ")
        terminal.process.send_signal(signal.SIGINT)
        _, err = terminal.process.communicate(timeout=20)
    assert terminal.process.returncode == 130
    assert b"Interrupted: by SIGINT" in err
    assert release.writes == []
    assert LocalBackend(project.state_file).holder() is None


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_requests_are_in_flight_than_was_said(
    release: World, project: Project, most: int
) -> None:
    release.fault(path="/accounts/*", times=None, delay_ms=10)
    flying: list[int] = [0]
    peaks: list[int] = []
    handle = release.platform.handle

    async def counted(request: Request) -> Response:
        flying[0] += 1
        peaks.append(flying[0])
        try:
            return await handle(request)
        finally:
            flying[0] -= 1

    release.platform.handle = counted  # type: ignore[method-assign]
    accounts: dict[str, JsonObject] = {f"a{number}": {"reseller": True} for number in range(6)}
    project.declare(accounts)
    assert project.apply("--parallelism", str(most)).code == 0
    assert project.plan("--parallelism", str(most)).code == 0
    assert max(peaks) == most


def test_a_target_brings_along_what_must_be_there_before_it_and_what_must_be_gone(
    release: World, project: Project
) -> None:
    accounts: dict[str, JsonObject] = {
        "top": {"reseller": True},
        "middle": {"parent": "top", "reseller": True},
        "low": {"parent": "middle"},
        "other": {},
    }
    project.declare(accounts)
    assert project.apply("--target", "accounts.low").code == 0
    assert release.tree() == {"top": "root", "middle": "top", "low": "middle"}
    assert release.resellers() == ["middle", "top"]
    project.settle()
    removed: list[JsonValue] = [
        {"account": key, "destroy": True} for key in ("middle", "low", "other")
    ]
    project.declare({"top": {"reseller": True}}, removed=removed, safety={"max_delete": 3})
    planned = project.plan("--target", "accounts.middle", "--format", "json").json
    assert planned["complete"] is False
    assert [c["address"] for c in planned["changes"]] == ["accounts.low", "accounts.middle"]
    assert project.apply("--target", "accounts.middle").code == 0
    assert release.names() == ["other", "top"]
    project.settle()
    assert release.names() == ["top"]
