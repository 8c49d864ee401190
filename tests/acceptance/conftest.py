"""An operator's pipeline: a project on disk, the command line on it, and the platform on a port."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import pytest

from reconciler.cli import main
from reconciler.sandbox.app import LogEntry, Platform
from reconciler.sandbox.faults import parse_faults
from reconciler.sandbox.options import BASE_PATH, ROOT_API_KEY, ROOT_ID, SandboxOptions
from reconciler.sandbox.server import listening
from reconciler.sandbox.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.options import Dialect
    from reconciler.sandbox.records import Record
    from reconciler.sandbox.wire import Response

_BLOCK_KEYS: Final = ("extends", "id", "lifecycle", "parent", "reseller", "safety")
"""What of an account block is not settings."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


class World:
    """A platform on a port, run by a thread of its own, and all that others do to it."""

    def __init__(
        self, platform: Platform, url: str, wait: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self.platform = platform
        self.url = url
        self._wait = wait

    @property
    def log(self) -> list[LogEntry]:
        """What the tool has sent, in the order in which it came in."""
        return self.platform.log

    @property
    def writes(self) -> list[LogEntry]:
        """What of it can change anything."""
        return [e for e in self.log if e.method != "GET" and e.path != "/api_auth"]

    def calls(self) -> list[tuple[str, str]]:
        """The writes, each as method and path with keys of names for ids."""
        names = {record.id: record.name for record in self.records()}
        found = []
        for entry in self.writes:
            parts = [names.get(part, part) for part in entry.path.split("/")[2:]]
            found.append((entry.method, "/".join(parts)))
        return found

    def call(self, method: str, path: str, data: JsonValue = None, *, expect: int = 200) -> Any:
        """Do something as somebody else would: the master, from another machine. Not logged."""
        body = b"" if data is None else json.dumps({"data": data}).encode()
        token = self.platform.tokens.issue(ROOT_ID, None)
        path, _, query = path.partition("?")
        pairs = dict(part.split("=") for part in query.split("&") if part)
        headers = {"x-auth-token": token}
        request = Request(method, BASE_PATH + path, pairs, headers, body, client="203.0.113.9")
        logged = list(self.log)
        response = self._wait(self.platform.handle(request))
        self.log[:] = logged
        assert response.status == expect, response.body
        return json.loads(response.body)["data"]

    def create(self, name: str, parent: str = ROOT_ID, /, **fields: JsonValue) -> str:
        """Make an account behind the tool's back; answers its id."""
        settings = {"name": name, "realm": f"{name.lower()}.sip.example.com", **fields}
        return str(self.call("PUT", f"/accounts/{parent}", settings, expect=201)["id"])

    def patch(self, name: str, /, **fields: JsonValue) -> None:
        """Change an account behind the tool's back; it stays as enabled as it is."""
        record = self.account(name)
        self.call("PATCH", f"/accounts/{record.id}", {"enabled": record.enabled, **fields})

    def promote(self, name: str) -> None:
        """Make an account a reseller behind the tool's back."""
        self.call("PUT", f"/accounts/{self.account(name).id}/reseller", {}, expect=201)

    def records(self) -> list[Record]:
        """All accounts below the root."""
        return list(self.platform.store.descendants(ROOT_ID))

    def account(self, name: str) -> Record:
        """The one account of that name."""
        found = [record for record in self.records() if record.name == name]
        assert len(found) == 1, f"{name}: {len(found)} accounts"
        return found[0]

    def names(self) -> list[str]:
        """The names of all accounts below the root, sorted."""
        return sorted(record.name for record in self.records())

    def resellers(self) -> list[str]:
        """The names of the resellers below the root, sorted."""
        return sorted(record.name for record in self.records() if record.is_reseller)

    def tree(self) -> dict[str, str]:
        """Name -> name of the parent, `root` for the root."""
        names = {record.id: record.name for record in self.records()} | {ROOT_ID: "root"}
        return {record.name: names[record.tree[-1]] for record in self.records()}

    def count_answers(self) -> list[int]:
        """A list that from now on gets the status of every answer, those of faults too."""
        seen: list[int] = []
        handle = self.platform.handle

        async def counted(request: Request) -> Response:
            response = await handle(request)
            seen.append(response.status)
            return response

        self.platform.handle = counted  # type: ignore[method-assign]
        return seen

    def fault(self, **rule: JsonValue) -> None:
        """Put a rule for a bad day behind those that are there."""
        self.platform.faults.add(*parse_faults([rule]))


class Project:
    """A project on disk and the command line on it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        self.declare({})

    def declare(self, accounts: Mapping[str, JsonObject], **top: JsonValue) -> None:
        """Write what is declared: fields of accounts by key, and further keys of the project.

        An account is called as its key and has its realm by it, if nothing else is said.
        """
        document: JsonObject = {"version": 1, **top}
        document["accounts"] = {key: a_block(key, fields) for key, fields in accounts.items()}
        self.write("reconciler.yaml", json.dumps(document, indent=1))

    def write(self, name: str, text: str) -> None:
        """Write a file of the project as it is."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> Ended:
        """Run a command on the project, in this process."""
        self._capsys.readouterr()
        try:
            with at_most(30):
                code = main([*arguments, "-C", str(self.directory)])
        except SystemExit as end:  # argparse
            code = end.code if isinstance(end.code, int) else 1
        out, err = self._capsys.readouterr()
        return Ended(int(code), out, err)

    def plan(self, *arguments: str) -> Ended:
        """Run `plan`; its exit says whether there are changes."""
        return self.run("plan", "--detailed-exitcode", *arguments)

    def apply(self, *arguments: str) -> Ended:
        """Run `apply` and don't ask."""
        return self.run("apply", "--auto-approve", *arguments)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a command on the project, as a process of its own."""
        command = [sys.executable, "-m", "reconciler", *arguments, "-C", str(self.directory)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )

    @property
    def state_file(self) -> Path:
        """Where state is kept if the project does not say otherwise."""
        return self.directory / "state" / "reconciler.state.json"

    def state(self) -> Any:
        """The state as it stands on disk."""
        return json.loads(self.state_file.read_bytes())

    def settle(self) -> None:
        """Apply what is declared, and make sure that nothing is left to do."""
        applied = self.apply()
        assert applied.code == 0, applied.err + applied.out
        planned = self.plan()
        assert planned.code == 0, planned.out


def a_block(key: str, fields: JsonObject) -> JsonObject:
    """An account block of fields that stand side by side; `...` leaves a default field out."""
    fields = {"name": key, "realm": f"{key}.sip.example.com", **fields}
    block = {name: value for name, value in fields.items() if name in _BLOCK_KEYS}
    settings = {name: value for name, value in fields.items() if name not in _BLOCK_KEYS}
    return {**block, "settings": {n: v for n, v in settings.items() if v != LEFT_OUT}}


LEFT_OUT: Final = "(left out)"

NO_SUCH: Final[JsonObject] = {
    "data": {}, "status": "error", "error": "404", "message": "bad_identifier"
}  # fmt: skip
"""What the platform says of an account that does not exist."""
"""Stands for a field that `a_block` would give of itself and must not."""


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something has happened, and not for ever."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Break off what hangs, so that one hanging test doesn't keep the others from running."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"still not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


async def _ended(stack: AsyncExitStack) -> None:
    """Stop serving, and whatever a rule holds back still."""
    await stack.aclose()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def served(options: SandboxOptions) -> Iterator[World]:
    """Serve a platform over HTTP by a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    platform = Platform(options)
    stack = AsyncExitStack()
    try:
        yield World(platform, wait(stack.enter_async_context(listening(platform))), wait)
    finally:
        wait(_ended(stack))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        platform.close()


class Serve(Protocol):
    """Serves a platform until the test ends, and points the environment at it."""

    def __call__(self, options: SandboxOptions | None = None) -> World: ...


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    with ExitStack() as stack:

        def opened(options: SandboxOptions | None = None) -> World:
            options = options or SandboxOptions(log_requests=True, rate_limit=False)
            world = stack.enter_context(served(options))
            monkeypatch.setenv("VINIX_API_URL", world.url)
            monkeypatch.setenv("VINIX_API_KEY", ROOT_API_KEY)
            return world

        yield opened


@pytest.fixture
def release(serve: Serve) -> World:
    return serve(SandboxOptions(dialect="release", log_requests=True, rate_limit=False))


@pytest.fixture
def head(serve: Serve) -> World:
    return serve(SandboxOptions(dialect="head", log_requests=True, rate_limit=False))


@pytest.fixture(params=["release", "head"])
def world(request: pytest.FixtureRequest, serve: Serve) -> World:
    """Both dialects, one after the other."""
    dialect = cast("Dialect", request.param)
    return serve(SandboxOptions(dialect=dialect, log_requests=True, rate_limit=False))


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path / "project", capsys)


@pytest.fixture
def low_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause between attempts is thrown from 0 to ever more seconds: here always nearly 0.

    So are the pauses before further looks at lists, but for tests in which those lag.
    """
    monkeypatch.setattr("random.uniform", lambda _low, high: min(high, 0.05))
    monkeypatch.setattr("reconciler.creates.LOOKS", (0.05, 0.6))
    monkeypatch.setattr("reconciler.creates.GOING_ON", (0.05, 0.6, 1.0))
    for module in ("creates", "perform"):
        monkeypatch.setattr(f"reconciler.{module}.LAGS", (0.1, 0.2))
