"""Requests to the platform: login, envelopes, retries, time limits.

`Client.get` and `Client.read` repeat by themselves what may be repeated. `Client.send` is for
writes: it sends once, and again only where the platform is sure to have done nothing (429, 401,
no connection). What can go wrong stands in `errors.py`, how fast requests go in `gate.py`.

Source: docs/platform.md 1, 2, 6.
"""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import logging
import re
import ssl
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import uuid4

import aiohttp
import certifi
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from reconciler.api.errors import ApiError, Limited, NotSent, Reply, Unauthorized, Unclear, refusal
from reconciler.api.gate import Gate, backoff
from reconciler.core.exchange import Exchange, template
from reconciler.core.values import AccountId, JsonObject, JsonValue, account_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


log = logging.getLogger("reconciler.api")
Parsed = TypeVar("Parsed")

performing: ContextVar[int | None] = ContextVar("performing", default=None)
"""The number of the operation that requests are sent for, set by who performs it in a task of its own."""

SLOW: Final = 120.0
"""Seconds that a create gets at least: it makes databases (docs/platform.md 3.4)."""

_TRIES: Final = 6
_MAX_BODY: Final = 16 * 1024 * 1024
_MAX_LIST: Final = 256 * 1024 * 1024
"""Bytes. The platform itself takes 8,000,000 for a document; a list has some 300 per account."""
_LISTS = re.compile(r"/(?:descendants|children)(?:\?|$)")
_MAX_DEPTH: Final = 100
"""Levels of objects and lists in an answer; an account's document has ten or so."""
_SAFE_PATH = re.compile(r"/[A-Za-z0-9_/-]*(?:\?[A-Za-z0-9_=&.%~-]*)?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_GREGORIAN: Final = 62167219200
"""Seconds from the year 0 to the Unix epoch (docs/platform.md 3.3)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `data` is the result; `revision` and `token` are "" where the platform gives none.

    `computed` has what newer platforms put beside `data` (docs/platform.md 1.5).
    """

    path: str
    data: JsonValue
    revision: str
    computed: JsonObject
    next_start_key: str | None
    request_id: str
    token: str = field(default="", repr=False)

    @property
    def document(self) -> JsonObject:
        """`data` as one account, computed fields included. Empty if it is none."""
        if not isinstance(self.data, dict):
            return {}
        return {**self.computed, **self.data} if self.computed else self.data


@dataclass(frozen=True, slots=True)
class Login:
    """How to get a token. Without a `path` the token is given and can't be renewed."""

    path: str | None
    body: JsonObject = field(repr=False)
    token: str | None = field(default=None, repr=False)


def by_api_key(key: str) -> Login:
    """Log in as an account."""
    return Login("/api_auth", {"data": {"api_key": key}})


def by_token(token: str) -> Login:
    """Use a token as it is."""
    return Login(None, {}, token)


def by_password(username: str, password: str, *, name: str | None, realm: str | None) -> Login:
    """Log in as a user of the account with that name or realm (docs/platform.md 2.1)."""
    # The platform's own protocol asks for MD5; the channel is TLS.
    digest = hashlib.md5(
        f"{username.lower()}:{password}".encode(), usedforsecurity=False
    ).hexdigest()
    data: JsonObject = {"credentials": digest, "method": "md5"}
    if name:
        data["account_name"] = name
    if realm:
        data["account_realm"] = realm
    return Login("/user_auth", {"data": data})


@dataclass(frozen=True, slots=True)
class _Request:
    """One request. `timeout`: seconds. `secretive`: see `Client.send`."""

    method: str
    path: str
    body: JsonObject | None = field(repr=False)
    timeout: float
    secretive: bool


class Client:
    """The platform's API for one set of credentials. Made by `connect`."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        base_url: str,
        login: Login,
        timeout: float,
        observe: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._transport = transport
        self._observe = observe
        self._base = base_url.rstrip("/")
        self._login_with = login
        self.timeout = timeout
        self._token = login.token
        self._logging_in = asyncio.Lock()
        self._gate = Gate()
        self.caller: AccountId | None = None
        self._timestamp: JsonValue = None

    @property
    def server_time(self) -> int:
        """The platform's clock at its last answer, in Gregorian seconds; 0 if it did not tell."""
        if not isinstance(self._timestamp, str):
            return 0
        try:
            moment = time.strptime(self._timestamp[:19], "%Y-%m-%dT%H:%M:%S")
        except ValueError:
            return 0
        return calendar.timegm(moment) + _GREGORIAN

    async def log_in(self) -> None:
        """Get a token. Raises: ApiError."""
        await self._renew(None)

    async def get(self, path: str) -> Answer:
        """GET `path`, again and again where that may help. Raises: ApiError."""
        return await self.read(path, lambda answer: answer)

    async def read(self, path: str, parse: Callable[[Answer], Parsed]) -> Parsed:
        """GET `path` and understand it: what `parse` finds Unclear is asked for again. Raises: ApiError."""
        return await self._patiently("GET", path, None, parse)

    async def _patiently(
        self, method: str, path: str, body: JsonObject | None, parse: Callable[[Answer], Parsed]
    ) -> Parsed:
        """Send what is safe to repeat, and repeat it where that may help. Raises: ApiError."""
        login = path == self._login_with.path
        request = _Request(method, path, body, self.timeout, login)
        attempt = 0
        while True:
            attempt += 1
            try:
                return parse(await self._send(request, resent=attempt - 1))
            except (NotSent, Unclear) as error:
                if attempt >= _TRIES or isinstance(error, Limited):
                    raise
                log.info("trying again: %s", error)
                await asyncio.sleep(backoff(attempt))

    async def send(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        timeout: float | None = None,
        secretive: bool = False,
        insist: bool = True,
    ) -> Answer:
        """Send one request. `timeout`: seconds for all of it, the client's own if None.

        `secretive`: the body holds what no error may show, so of what the platform says, errors
        pass on its own sentences alone, and the fields and rules. `insist`: send it again after a
        429, and after a 401 with a new token; else those are raised as Limited and Unauthorized.

        Raises: NotSent, Unclear, Refused (with their kinds).
        """
        request = _Request(method, path, body, timeout or self.timeout, secretive)
        return await self._send(request, resent=0, insist=insist)

    async def _send(self, request: _Request, *, resent: int, insist: bool = True) -> Answer:
        """Send one request, `resent` times sent before. Raises: ApiError."""
        logged_in_again = False
        while True:
            token = self._token
            try:
                return await self._once(request, resent)
            except Limited:
                if not insist or self._gate.hopeless:
                    raise
            except Unauthorized:
                if (
                    logged_in_again
                    or not insist
                    or self._login_with.path is None
                    or request.path == self._login_with.path
                ):
                    raise
                logged_in_again = True
                await self._renew(token)
            except ApiError as error:
                error.resent = resent
                raise
            resent += 1

    async def _renew(self, used: str | None) -> None:
        """Log in, unless somebody did so since `used` was refused."""
        async with self._logging_in:
            path = self._login_with.path
            if path is None or (used is not None and used != self._token):
                return
            self._token, self.caller = await self._patiently(
                "PUT", path, self._login_with.body, _logged_in
            )

    async def _once(self, what: _Request, resent: int) -> Answer:
        """One request and its answer. Raises: ApiError."""
        request = self._request(what)
        ticket = await self._gate.enter()
        if ticket is None:
            message = "not sent: the rate limit refused all before it"
            raise Limited(what.method, what.path, message, status=HTTPStatus.TOO_MANY_REQUESTS)
        began = time.time_ns(), time.monotonic()
        try:
            response, text = await self._exchange(what, request)
        except BaseException as error:
            self._gate.lost()
            self._tell(what, error, request.headers["X-Request-ID"], began, resent)
            raise
        request_id = response.headers.get("X-Request-ID", request.headers["X-Request-ID"])[:64]
        self._tell(what, response, request_id, began, resent)
        status, asked = response.status_code, retry_after(response.headers.get("Retry-After"))
        envelope = _envelope(text)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._gate.refused(ticket, asked)
            message = "the platform refuses more requests for now"
            message += f", and asks for a pause of {asked:.0f} seconds" if asked else ""
            raise Limited(what.method, what.path, message, status=status, request_id=request_id)
        if status == HTTPStatus.SERVICE_UNAVAILABLE and asked is not None:
            self._gate.refused(ticket, asked)
        else:
            self._gate.passed(ticket, _remaining(envelope))
        if not 200 <= status < 300:  # noqa: PLR2004 - the successes
            raise refusal(
                Reply(
                    what.method,
                    what.path,
                    status,
                    envelope,
                    _kind(response),
                    request_id,
                    free=not what.secretive and (self._token or "\n").encode() not in text,
                )
            )
        return self._answer(what, response, envelope, request_id)

    def _tell(
        self,
        what: _Request,
        end: httpx.Response | BaseException,
        request_id: str,
        began: tuple[int, float],
        resent: int,
    ) -> None:
        """Tell who observes of a request that has ended. `began`: by the clock, and monotonic."""
        if self._observe is None:
            return
        status = end.status_code if isinstance(end, httpx.Response) else None
        self._observe(
            Exchange(
                method=what.method,
                path=template(what.path),
                status=status,
                error="" if status else type(end).__name__,
                request_id=request_id,
                began=began[0],
                seconds=time.monotonic() - began[1],
                resent=resent,
                operation=performing.get(),
            )
        )

    def _request(self, what: _Request) -> httpx.Request:
        """The request as it goes out, under an id of its own."""
        if not _SAFE_PATH.fullmatch(what.path):
            raise ValueError("a path that may not be sent")
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Request-ID": uuid4().hex,
        }
        if self._token and what.path != self._login_with.path:
            headers["X-Auth-Token"] = self._token
        content = None
        if what.body is not None:
            content = orjson.dumps(what.body)
            headers["Content-Type"] = "application/json"
        return httpx.Request(what.method, self._base + what.path, headers=headers, content=content)

    async def _exchange(
        self, what: _Request, request: httpx.Request
    ) -> tuple[httpx.Response, bytes]:
        """Send it and read all of the answer. Raises: NotSent, Unclear."""
        method, path, request_id = what.method, what.path, request.headers["X-Request-ID"]
        started = time.monotonic()
        try:
            async with asyncio.timeout(what.timeout):
                response = await self._transport.handle_async_request(request)
                try:
                    text = await _body(response, _MAX_LIST if _LISTS.search(path) else _MAX_BODY)
                finally:
                    await response.aclose()
        except httpx.ConnectError as error:
            message = f"no connection ({error})"
            raise NotSent(method, path, message, request_id=request_id) from error
        except TimeoutError as error:
            message = f"no answer within {what.timeout:g} seconds"
            raise Unclear(method, path, message, request_id=request_id) from error
        except _TooLarge as error:
            message = f"an answer of more than {error.limit >> 20} MiB"
            raise Unclear(method, path, message, request_id=request_id) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            message = f"the answer was lost ({type(error.__cause__ or error).__name__})"
            raise Unclear(method, path, message, request_id=request_id) from error
        elapsed = (time.monotonic() - started) * 1000
        status = response.status_code
        log.debug("%s %s %d %.0f ms request=%s", method, path, status, elapsed, request_id)
        return response, text

    def _answer(
        self,
        what: _Request,
        response: httpx.Response,
        envelope: JsonObject | None,
        request_id: str,
    ) -> Answer:
        """What an envelope of a success says. Raises: Unclear if it is none."""
        following = (envelope or {}).get("next_start_key") or None
        failed = envelope is not None and envelope.get("status") in ("error", "fatal")
        whole = envelope is not None and "data" in envelope and not failed
        if not whole or envelope is None or not isinstance(following, str | None):
            raise Unclear(
                what.method,
                what.path,
                _kind(response),
                status=response.status_code,
                request_id=request_id,
            )
        self._timestamp = envelope.get("timestamp", self._timestamp)
        metadata, revision = envelope.get("metadata"), envelope.get("revision")
        token = envelope.get("auth_token")
        return Answer(
            path=what.path.partition("?")[0],
            data=envelope["data"],
            revision=revision if isinstance(revision, str) else "",
            computed=metadata if isinstance(metadata, dict) else {},
            next_start_key=following,
            request_id=request_id,
            token=token if isinstance(token, str) else "",
        )


class _TooLarge(Exception):
    """An answer of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit


async def _body(response: httpx.Response, limit: int) -> bytes:
    """The body as it came: none is asked for in a packed form, so none is unpacked. Raises: _TooLarge."""
    parts: list[bytes] = []
    size = 0
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise httpx.ReadError("an answer that can't be read")
    async for part in response.stream:
        size += len(part)
        if size > limit:
            raise _TooLarge(limit)
        parts.append(part)
    return b"".join(parts)


def _envelope(text: bytes) -> JsonObject | None:
    """The JSON object that an answer is; None if it is none, or none that can be walked through."""
    try:
        envelope = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return envelope if isinstance(envelope, dict) and _shallow(text, envelope) else None


def _shallow(text: bytes, envelope: JsonObject) -> bool:
    """Whether nothing in the envelope is nested too deeply."""
    if text.count(b"{") + text.count(b"[") <= _MAX_DEPTH:
        return True
    level: list[JsonValue] = [envelope]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return not level


def _logged_in(answer: Answer) -> tuple[str, AccountId | None]:
    """The token, and the account that it speaks for. Raises: Unclear if there is no token."""
    if not _TOKEN.fullmatch(answer.token):
        raise malformed(answer, "a login that gave no token", method="PUT")
    try:
        named = answer.document.get("account_id")
        return answer.token, None if named is None else account_id(named)
    except ValueError as error:
        raise malformed(answer, f"a login for no account ({error})", method="PUT") from error


def malformed(answer: Answer, what: str, *, method: str = "GET") -> Unclear:
    """An answer that came whole and makes no sense. `what`: a noun phrase, without text from it."""
    return Unclear(method, answer.path, what, request_id=answer.request_id)


def _remaining(envelope: JsonObject | None) -> int | None:
    """How many requests the platform will take before it refuses, if it says so."""
    tokens = (envelope or {}).get("tokens")
    remaining = tokens.get("remaining") if isinstance(tokens, dict) else None
    return remaining if isinstance(remaining, int) else None


def _kind(response: httpx.Response) -> str:
    """Of an answer that is none of the platform's, its kind: a proxy's page may quote the request."""
    packed = response.headers.get("Content-Encoding")
    if packed:
        return f"an answer that is packed, which was not asked for ({packed[:64]})"
    kind = response.headers.get("Content-Type", "no content type")
    return f"an answer that is none of the platform's ({kind[:64]})"


def retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After` in seconds or as a date; None if there is none to obey."""
    if value is None:
        return None
    text = value.strip()[:64]
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


@asynccontextmanager
async def connect(
    base_url: str,
    login: Login,
    *,
    timeout: float,
    transport: httpx.AsyncBaseTransport | None = None,
    proxy: str | None = None,
    observe: Callable[[Exchange], None] | None = None,
) -> AsyncIterator[Client]:
    """A client that is logged in. Raises: ApiError.

    `transport`: instead of the network. `observe` is told of each request that has ended.
    """
    transport = transport or _network(proxy, secure=base_url.startswith("https:"))
    client = Client(transport, base_url, login, timeout, observe)
    try:
        await client.log_in()
        yield client
    finally:
        await transport.aclose()


def _network(proxy: str | None, *, secure: bool) -> httpx.AsyncBaseTransport:
    """The interface of httpx over aiohttp's connections, whose cost doesn't grow with their number."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if secure:  # costs a twentieth of a second, and plain HTTP stays on this machine
        tls.load_default_certs()
        tls.load_verify_locations(certifi.where())
    return AiohttpTransport(
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_never_repeat,),
            skip_auto_headers={"User-Agent", "Content-Type"},
        ),
        verify=tls,
        trust_env=False,
        proxy=httpx.Proxy(proxy) if proxy else None,
    )


async def _never_repeat(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a PUT whose connection broke: here it creates accounts.

    aiohttp repeats every method that HTTP calls idempotent once when a kept-alive connection was
    lost. It does so for its own error types only, so the error becomes one of httpx's here; which
    also tells apart what httpx-aiohttp reports alike: no connection, and no answer.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise httpx.ConnectError(type(error).__name__) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError(type(error).__name__) from error
