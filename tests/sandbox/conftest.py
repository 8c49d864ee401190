"""A sandbox to ask, in the process or on a port, with plain calls and a clock that tests turn."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Literal, Protocol, cast

import httpx
import pytest

from reconciler.sandbox.app import Platform
from reconciler.sandbox.options import IN_PROCESS_URL, ROOT_ID, SandboxOptions
from reconciler.sandbox.server import listening
from reconciler.sandbox.transport import SandboxTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.core.values import JsonObject, JsonValue

Way = Literal["in the process", "on a port"]


class Clock:
    """Stands still until a test turns it. Seconds since 1970."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Sandbox:
    """A platform and a client of it, called without `await`. `root` is the master's token."""

    def __init__(self, options: SandboxOptions, way: Way) -> None:
        self.clock = Clock()
        self.platform = Platform(options, self.clock)
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._client = self._runner.run(self._connected(way))
        self.root = self.token(ROOT_ID)

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()
        self.platform.close()

    def send(
        self, method: str, path: str, token: str | None, content: bytes = b"", **headers: str
    ) -> httpx.Response:
        """Send a body as it is. Names of headers with `_` for `-`."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if token is not None:
            sent["X-Auth-Token"] = token
        return self._runner.run(
            self._client.request(method, path, content=content, headers=sent),
        )

    def call(
        self, method: str, path: str, data: JsonValue = None, token: str | None = None
    ) -> httpx.Response:
        """Send data in its envelope, or no body; as the master if no token is given."""
        return self._runner.run(
            self._client.request(
                method,
                path,
                json=None if data is None else {"data": data},
                headers={"X-Auth-Token": token or self.root},
            )
        )

    def token(self, account_id: str) -> str:
        """Log in as an account."""
        record = self.platform.store.get(account_id)
        assert record is not None
        body = {"data": {"api_key": record.api_key}}
        answer = self._runner.run(self._client.put("/api_auth", json=body))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["auth_token"])

    def create(self, name: str, parent: str = ROOT_ID, **fields: JsonValue) -> str:
        """Make an account; answers its id."""
        answer = self.call("PUT", f"/accounts/{parent}", {"name": name, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    def get(self, account_id: str, token: str | None = None) -> JsonObject:
        """Read the document of an account."""
        answer = self.call("GET", f"/accounts/{account_id}", token=token)
        assert answer.status_code == 200, answer.text
        return cast("JsonObject", answer.json()["data"])

    def patch(self, account_id: str, **fields: JsonValue) -> httpx.Response:
        """Change an account, as the master."""
        return self.call("PATCH", f"/accounts/{account_id}", dict(fields))

    def revision(self, account_id: str) -> int:
        """Read the number in front of the revision's dash."""
        answer = self.call("GET", f"/accounts/{account_id}")
        return int(answer.json()["revision"].partition("-")[0])

    def names(self, path: str) -> list[str]:
        """Read a list, and give the names in its order."""
        return [row["name"] for row in self.call("GET", path).json()["data"]]

    async def _connected(self, way: Way) -> httpx.AsyncClient:
        transport: httpx.AsyncBaseTransport = SandboxTransport(self.platform)
        url = IN_PROCESS_URL
        if way == "on a port":
            url = await self._stack.enter_async_context(listening(self.platform))
            transport = httpx.AsyncHTTPTransport(verify=False)
        client = httpx.AsyncClient(transport=transport, base_url=url, timeout=5)
        return await self._stack.enter_async_context(client)


class OpenSandbox(Protocol):
    """Opens a sandbox that the test need not close. Without a rate limit if not told otherwise."""

    def __call__(self, options: SandboxOptions | None = None) -> Sandbox: ...


@pytest.fixture(params=["in the process", "on a port"])
def way(request: pytest.FixtureRequest) -> Way:
    return cast("Way", request.param)


@pytest.fixture
def open_sandbox(way: Way) -> Iterator[OpenSandbox]:
    with ExitStack() as stack:

        def opened(options: SandboxOptions | None = None) -> Sandbox:
            sandbox = Sandbox(options or SandboxOptions(rate_limit=False), way)
            stack.callback(sandbox.close)
            return sandbox

        yield opened


@pytest.fixture
def release(open_sandbox: OpenSandbox) -> Sandbox:
    return open_sandbox(SandboxOptions(dialect="release", rate_limit=False))


@pytest.fixture
def head(open_sandbox: OpenSandbox) -> Sandbox:
    return open_sandbox(SandboxOptions(dialect="head", rate_limit=False))


@pytest.fixture(params=["release", "head"])
def sandbox(request: pytest.FixtureRequest, open_sandbox: OpenSandbox) -> Sandbox:
    """Both dialects, one after the other."""
    return open_sandbox(SandboxOptions(dialect=request.param, rate_limit=False))
