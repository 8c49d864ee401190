"""The sandbox without a port: an httpx transport that calls the platform in the same process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from reconciler.sandbox.wire import Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reconciler.sandbox.app import Platform


class SandboxTransport(httpx.AsyncBaseTransport):
    """Gives requests to a platform, whatever their host; base URL: `options.IN_PROCESS_URL`.

    Lost and broken answers raise `httpx.ReadError`, answers slower than the read timeout
    `httpx.ReadTimeout`; what the client no longer waits for is carried out all the same. The
    platform belongs to whoever made it: closing the transport leaves it open.
    """

    def __init__(self, platform: Platform, client: str = "127.0.0.1") -> None:
        self._platform = platform
        self._client = client
        self._running: set[asyncio.Task[Response]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request. Raises: httpx.ReadError, httpx.ReadTimeout."""
        task = asyncio.create_task(self._platform.handle(await self._translated(request)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        timeout = request.extensions.get("timeout", {}).get("read")
        try:
            response = await asyncio.wait_for(asyncio.shield(task), timeout)
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time", request=request) from error
        if response.dropped or response.truncated == 0:
            raise httpx.ReadError("connection closed without an answer", request=request)
        headers = dict(response.headers)
        if response.truncated is not None and response.truncated < len(response.body):
            part = _BrokenOff(response.body[: response.truncated], request)
            return httpx.Response(response.status, headers=headers, stream=part)
        if response.drip_ms:
            drops = _Dripping(response.body, response.drip_ms / 1000)
            return httpx.Response(response.status, headers=headers, stream=drops)
        return httpx.Response(response.status, headers=headers, content=response.body)

    async def _translated(self, request: httpx.Request) -> Request:
        return Request(
            method=request.method,
            path=request.url.raw_path.decode("ascii").partition("?")[0],
            query=dict(request.url.params),
            headers={name.lower(): text for name, text in request.headers.items()},
            body=await request.aread(),
            client=self._client,
        )


class _BrokenOff(httpx.AsyncByteStream):
    """A body of which only the first part comes."""

    def __init__(self, part: bytes, request: httpx.Request) -> None:
        self._part = part
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._part
        raise httpx.ReadError("connection closed in the middle of an answer", request=self._request)


class _Dripping(httpx.AsyncByteStream):
    """A body that comes byte by byte. `pause`: seconds between two."""

    def __init__(self, body: bytes, pause: float) -> None:
        self._body = body
        self._pause = pause

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for byte in self._body:
            yield bytes([byte])
            await asyncio.sleep(self._pause)
