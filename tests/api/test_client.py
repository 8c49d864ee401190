"""The client against servers that break the rules of HTTP itself, which the sandbox can't."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.api.client import by_token, connect, retry_after
from reconciler.api.errors import ApiError, NotSent, Unclear

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

OK = b"HTTP/1.1 200 OK\r\n"


def forever(*parts: bytes) -> Iterator[bytes]:
    """The parts, of which the last one never ends."""
    yield from parts[:-1]
    while True:
        yield parts[-1]


def numbered(line: bytes) -> Iterator[bytes]:
    yield OK
    number = 0
    while True:
        yield b"".join(line % (number + more) for more in range(50))
        number += 50


RULE_BREAKERS: dict[str, Iterator[bytes]] = {
    "headers without end": numbered(b"X-%d: " + b"y" * 4000 + b"\r\n"),
    "a header without end": forever(OK + b"X: ", b"y" * 100_000),
    "a body without end": forever(OK + b"\r\n", b" " * 1_000_000),
    "interim answers without end": forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a chunk's extension without end": forever(
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"e" * 100_000
    ),
    "noise": iter([b"\x00\xff\xfe\r\n\r\n"]),
    "half a status": iter([b"HTTP/1.1 2"]),
    "a bad chunk": iter([OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"]),
    "a negative length": iter([OK + b"Content-Length: -5\r\n\r\n"]),
    "two lengths": iter([OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n12345"]),
    "a length and chunks": iter(
        [OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
    ),
    "no content": iter([b"HTTP/1.1 204 No Content\r\n\r\n"]),
    "nothing": iter([b""]),
}


@contextlib.asynccontextmanager
async def answering(parts: Iterator[bytes]) -> AsyncIterator[str]:
    """A server that answers the first request with these bytes; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"


@pytest.mark.parametrize("rule", RULE_BREAKERS)
def test_an_answer_that_breaks_the_rules_is_unclear_in_bounded_time_and_memory(rule: str) -> None:
    async def ask() -> None:
        async with (
            answering(RULE_BREAKERS[rule]) as url,
            connect(url, by_token("token"), timeout=0.5) as client,
        ):
            with pytest.raises(Unclear) as caught:
                await client.send("PUT", "/accounts/a", {"data": {}})
            assert "PUT /accounts/a: " in str(caught.value)
            assert "(request " in str(caught.value)
            assert "It may have been done" in str(caught.value)

    began = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - began < 10


def test_nobody_at_home_is_surely_not_sent() -> None:
    async def ask() -> None:
        async with answering(iter([])) as url:
            pass
        async with connect(url, by_token("token"), timeout=0.5) as client:
            with pytest.raises(NotSent, match=r"no connection \(ClientConnectorError\)") as caught:
                await client.send("PUT", "/accounts/a", {"data": {}})
            assert "Nothing was sent." in str(caught.value)

    asyncio.run(ask())


# --- what a refusal asks for ---


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("99999999999999999999", 1e20),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("٣", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_a_pause_is_asked_for_in_seconds_or_as_a_date(
    asked: str | None, seconds: float | None
) -> None:
    assert retry_after(asked) == seconds


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000"])
def test_a_date_is_of_greenwich(zone: str) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=100)).replace("+0000", zone)
    seconds = retry_after(moment)
    assert seconds is not None
    assert 95 < seconds <= 100


@given(st.text(max_size=80))
def test_no_text_in_its_place_breaks_anything(text: str) -> None:
    seconds = retry_after(text)
    assert seconds is None or seconds >= 0


# --- words ---


def test_every_error_says_what_was_sent_what_came_back_and_what_to_do() -> None:
    kinds = list(_all(ApiError))
    assert {NotSent, Unclear} < set(kinds)
    for kind in kinds:
        for method in ("GET", "PUT"):
            error = kind(method, "/accounts/a?key=secret", "why", status=418, request_id="id")
            text = str(error)
            assert text.startswith(f"{method} /accounts/a: 418 why (request id). ")
            assert text.endswith((".", "writes."))
            assert len(text.partition("). ")[2]) > 10
            assert "secret" not in text


def _all(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _all(inner)
