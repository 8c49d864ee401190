"""The least that the same work can cost: the same requests by a bare loop, and nothing else.

    python floor.py read CONCURRENCY            what a plan reads
    python floor.py create CONCURRENCY COUNT    what an apply of a new tree writes

The same libraries as the tool's, the same number of requests in flight; answers are decoded, and
not looked at. The platform is named by the environment, as it is for the tool.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport
from projects import members

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from projects import Member


class Floor:
    """Requests without anything around them."""

    def __init__(self, client: httpx.AsyncClient, concurrency: int) -> None:
        self.client = client
        self.concurrency = concurrency

    async def send(self, method: str, path: str, data: object = None) -> Any:
        """One request. Returns the answer's envelope."""
        headers = {} if data is None else {"Content-Type": "application/json"}
        content = None if data is None else orjson.dumps({"data": data})
        response = await self.client.request(method, path, content=content, headers=headers)
        return orjson.loads(response.raise_for_status().content)

    async def log_in(self) -> None:
        """Get a token."""
        answer = await self.send("PUT", "/api_auth", {"api_key": os.environ["VINIX_API_KEY"]})
        self.client.headers["X-Auth-Token"] = answer["auth_token"]

    async def read(self, root: str) -> None:
        """Root, list, every account, and the caller: what a plan reads."""
        await self.send("GET", f"/accounts/{root}")
        rows = await self.send("GET", f"/accounts/{root}/descendants?paginate=false")
        paths = [f"/accounts/{row['id']}" for row in rows["data"]]
        await self._each(lambda path: self.send("GET", path), paths)
        await self.send("GET", f"/accounts/{root}")

    async def create(self, root: str, count: int) -> None:
        """Every account of the tree, level by level, and the rank of the resellers among them."""
        ids: dict[str | None, str] = {None: root}

        async def make(member: Member) -> None:
            path = f"/accounts/{ids[member.parent]}?send_email_on_creation=false"
            made = await self.send("PUT", path, member.document)
            ids[member.key] = made["data"]["id"]
            if member.reseller:
                await self.send("PUT", f"/accounts/{ids[member.key]}/reseller", {})

        for level in (1, 2, 3):
            await self._each(make, (member for member in members(count) if member.level == level))

    async def _each(
        self, step: Callable[[Any], Coroutine[Any, Any, object]], items: Iterable[Any]
    ) -> None:
        """Do `step` for every item, so many at a time."""
        waiting = iter(items)

        async def worker() -> None:
            for item in waiting:
                await step(item)

        await asyncio.gather(*(worker() for _ in range(self.concurrency)))


async def main(what: str, concurrency: int, count: int) -> None:
    """Do what the command line says."""
    transport = AiohttpTransport(
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        ),
        trust_env=False,
    )
    base, root = os.environ["VINIX_API_URL"], os.environ["VINIX_ACCOUNT_ID"]
    async with httpx.AsyncClient(transport=transport, base_url=base, timeout=120) as client:
        floor = Floor(client, concurrency)
        await floor.log_in()
        await (floor.read(root) if what == "read" else floor.create(root, count))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0])))
