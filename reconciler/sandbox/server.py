"""The sandbox on a port: HTTP/1.1 with keep-alive, one handler for everything.

A client that goes away doesn't stop what it has set going: like the platform, the server carries
a request out to its end whether or not anybody still listens.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from reconciler.sandbox.app import Platform
from reconciler.sandbox.options import BASE_PATH, ROOT_API_KEY, SandboxOptions
from reconciler.sandbox.wire import BODY_LIMIT, Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

_SHUTDOWN_SECONDS: Final = 2.0
"""How long requests in flight may go on after the sandbox was told to stop."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a user needs to know of a sandbox that has begun to listen."""

    url: str
    root_id: str
    api_key: str


@asynccontextmanager
async def listening(
    platform: Platform, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve a platform while the context is open; gives the base URL. Port 0: any free one.

    Raises: OSError if the port can't be had. The platform stays open.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await _answer(platform, request)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}{BASE_PATH}"
    finally:
        await runner.cleanup()


async def serve(
    options: SandboxOptions,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[Announcement], None] = lambda _: None,
) -> None:
    """Run a sandbox until SIGINT or SIGTERM, or until cancelled; `ready` is told once it listens.

    Raises: StoreError, OSError.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    platform = Platform(options)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with listening(platform, host, port) as url:
            root = platform.store.get(platform.store.root_id)
            api_key = root.api_key if root is not None else ROOT_API_KEY
            ready(Announcement(url, platform.store.root_id, api_key))
            await stopped.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        platform.close()


def run(options: SandboxOptions, port: int, announce: Callable[[Announcement], None]) -> None:
    """Run a sandbox on loopback and block until a signal ends it. Raises: StoreError, OSError."""
    asyncio.run(serve(options, port=port, ready=announce))


async def _answer(platform: Platform, request: web.BaseRequest) -> web.StreamResponse:
    response = await platform.handle(
        Request(
            method=request.method,
            path=request.rel_url.raw_path,
            query=dict(request.query),
            headers={name.lower(): text for name, text in request.headers.items()},
            body=await _body(request),
            client=request.remote or "",
        )
    )
    if response.dropped or response.truncated == 0:
        _hang_up(request)
        return web.Response()
    if response.truncated is not None and response.truncated < len(response.body):
        return await _broken_off(request, response.headers, response.body[: response.truncated])
    if response.drip_ms:
        return await _dripping(request, response)
    return web.Response(status=response.status, headers=response.headers, body=response.body)


async def _body(request: web.BaseRequest) -> bytes:
    """Read the body, and just beyond the limit, so that the platform sees that it is too long."""
    if not request.can_read_body:
        return b""
    chunks: list[bytes] = []
    size = 0
    while size <= BODY_LIMIT and (chunk := await request.content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


async def _broken_off(
    request: web.BaseRequest, headers: Mapping[str, str], part: bytes
) -> web.StreamResponse:
    """Promise one byte more than comes, and hang up."""
    promised = {**headers, "Content-Length": str(len(part) + 1)}
    answer = web.StreamResponse(headers=promised)
    await answer.prepare(request)
    await answer.write(part)
    _hang_up(request)
    return answer


async def _dripping(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    """Send a body byte by byte."""
    answer = web.StreamResponse(status=response.status, headers=response.headers)
    answer.content_length = len(response.body)
    await answer.prepare(request)
    for byte in response.body:
        await answer.write(bytes([byte]))
        await asyncio.sleep(response.drip_ms / 1000)
    return answer


def _hang_up(request: web.BaseRequest) -> None:
    """Close the connection once what was written is on its way."""
    if request.transport is not None:
        request.transport.close()
