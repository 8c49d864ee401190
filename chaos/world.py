"""A platform on a port of this process, and what can be read off it when a run is over."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from reconciler.sandbox.app import LogEntry, Platform
from reconciler.sandbox.options import BASE_PATH, ROOT_API_KEY, ROOT_ID, SandboxOptions
from reconciler.sandbox.server import listening
from reconciler.sandbox.wire import Request

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from reconciler.core.values import JsonValue
    from reconciler.sandbox.records import Record

_LOGINS: Final = ("/api_auth", "/user_auth")


class World:
    """A platform, served over HTTP by a thread of its own. It outlives whoever is killed."""

    def __init__(self, platform: Platform, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.platform = platform
        self.url = url
        self._loop = loop

    @property
    def environment(self) -> Mapping[str, str]:
        """What the tool needs to know of it."""
        return {
            "VINIX_API_URL": self.url,
            "VINIX_ACCOUNT_ID": ROOT_ID,
            "VINIX_API_KEY": ROOT_API_KEY,
        }

    def clear(self) -> None:
        """Begin anew: no account but the root, no fault, an empty log."""
        store = self.platform.store
        for record in tuple(store.descendants(ROOT_ID)):
            store.delete(record.id)
        self.platform.faults.clear()
        self.platform.log.clear()

    def records(self) -> list[Record]:
        """All accounts below the root, oldest first."""
        store = self.platform.store
        return list(store.descendants(ROOT_ID))

    def writes(self) -> list[LogEntry]:
        """The requests that can change anything, in order."""
        return [
            entry
            for entry in self.platform.log
            if entry.method != "GET" and not entry.path.endswith(_LOGINS)
        ]

    def call(self, method: str, path: str, data: JsonValue = None) -> Any:
        """Do something as somebody else would, from another machine; not logged."""
        import orjson

        token = self.platform.tokens.issue(ROOT_ID, None)
        body = b"" if data is None else orjson.dumps({"data": data})
        request = Request(
            method, BASE_PATH + path, {}, {"x-auth-token": token}, body, client="203.0.113.9"
        )
        logged = list(self.platform.log)
        response = self._wait(self.platform.handle(request))
        self.platform.log[:] = logged
        if response.status >= 300:  # noqa: PLR2004 - whatever is no success
            raise RuntimeError(f"{method} {path}: {response.status}")
        return orjson.loads(response.body)["data"]

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@contextmanager
def served(options: SandboxOptions) -> Iterator[World]:
    """Serve a platform as long as the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    platform = Platform(options)
    stack = AsyncExitStack()

    def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    try:
        yield World(platform, wait(stack.enter_async_context(listening(platform))), loop)
    finally:
        wait(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        platform.close()
