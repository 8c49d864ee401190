"""Requests to the platform: login, envelopes, one gate for all workers, retries, time limits.

Errors are told apart by what the caller may do next:

    ApiError
    ├── NotSent        nothing was done: may be sent again as it is
    │   └── Limited    refused by the rate limit, again and again: not now
    ├── Unclear        it may have been done: look before sending again
    └── Refused        the platform said no, and will again
        ├── NotFound   there is no such account
        └── Unauthorized  the credentials are no good

`Client.get` repeats by itself what may be repeated. `Client.send` is for writes: it sends once,
and again only where the platform is sure to have done nothing (429, 401, no connection).

Source: docs/platform.md 1, 2, 6.
"""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import logging
import random
import re
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import aiohttp
import certifi
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from reconciler.core.values import AccountId, JsonObject, JsonValue, account_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger("reconciler.api")

SLOW: Final = 120.0
"""Seconds that a create gets at least: it makes databases (docs/platform.md 3.4)."""

_TRIES: Final = 6
_TRIES_WHEN_LIMITED: Final = 20
"""Answers 429 in a row, of all requests together, after which a run gives up: some four minutes."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LONGEST_OBEYED: Final = 600.0
"""Seconds of a `Retry-After` that are waited; beyond, the request fails instead."""
_MAX_BODY: Final = 256 * 1024 * 1024
_SAFE_PATH = re.compile(r"/[A-Za-z0-9_/-]*(?:\?[A-Za-z0-9_=&.%~-]*)?")
_PERMANENT = frozenset({"account_has_descendants", "account_has_active_port"})
_TRANSIENT = frozenset({500, 502, 503, 504, 409})
_WORD = re.compile(r"[a-z0-9_ -]{1,40}")
_FIXED: Final = frozenset(
    {
        "bad_identifier",
        "invalid_credentials",
        "forbidden",
        "not_found",
        "faulty_request",
        "invalid_method",
        "datastore_conflict",
        "too_many_requests",
        "account_has_descendants",
        "account_has_active_port",
        "unspecified_fault",
        "datastore_fault",
        "datastore_missing",
        "datastore_missing_view",
        "datastore_unreachable",
    }
)
"""System errors, whose sentences are the platform's own (docs/platform.md 1.5)."""
_TOO_MANY: Final = 429
_EXCERPT: Final = 300
_GREGORIAN: Final = 62167219200
"""Seconds from the year 0 to the Unix epoch (docs/platform.md 3.3)."""


class ApiError(Exception):
    """A request that did not succeed. Holds no body and no secret."""

    def __init__(
        self,
        method: str,
        path: str,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.method = method
        self.path = path.partition("?")[0]
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id

    def __str__(self) -> str:
        status = f" {self.status}" if self.status else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.method} {self.path}:{status} {self.message}{request}"


class NotSent(ApiError):
    """Nothing was done."""


class Limited(NotSent):
    """The rate limit refused it for so long that it was given up."""


class Unclear(ApiError):
    """It may have been done, or not."""


class Refused(ApiError):
    """The platform said no."""


class NotFound(Refused):
    """There is no such account."""


class Unauthorized(Refused):
    """The credentials are no good."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `data` is the result; `revision` is "" where the platform gives none.

    `computed` has what newer platforms put beside `data` (docs/platform.md 1.5).
    """

    status: int
    data: JsonValue
    revision: str
    computed: JsonObject
    next_start_key: str | None
    request_id: str

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


class Gate:
    """One gate for all requests: after a 429 nobody sends until the pause is over.

    Then a single request goes ahead; the others follow when it got through.
    """

    def __init__(self) -> None:
        self._closed = False
        self._probing = False
        self._changed = asyncio.Event()
        self._resume_at = 0.0
        self._refusals = 0
        self._asked = 0.0

    @property
    def hopeless(self) -> bool:
        """Whether to go on is pointless: refused too often in a row, or asked to wait too long."""
        return self._refusals >= _TRIES_WHEN_LIMITED or self._asked > _LONGEST_OBEYED

    async def enter(self) -> None:
        """Wait until a request may be sent; not any more when that is hopeless."""
        while self._closed and not self.hopeless:
            if self._probing:
                await self._changed.wait()
                continue
            self._probing = True
            try:
                await asyncio.sleep(max(0.0, self._resume_at - time.monotonic()))
            except asyncio.CancelledError:
                self._change(closed=True)
                raise
            return

    def passed(self) -> None:
        """A request was answered otherwise than by 429, or not at all."""
        self._refusals = 0
        self._asked = 0.0
        self._change(closed=False)

    def close(self, retry_after: float | None) -> None:
        """A request was answered 429. `retry_after`: seconds, if the platform said so."""
        if self._closed and not self._probing:
            return  # sent before the gate was closed
        self._refusals += 1
        self._asked = retry_after or 0.0
        pause = (
            _backoff(self._refusals) if retry_after is None else min(retry_after, _LONGEST_OBEYED)
        )
        self._resume_at = max(self._resume_at, time.monotonic() + pause)
        self._change(closed=True)

    def _change(self, *, closed: bool) -> None:
        """Let all who wait look again: one of them may go ahead now."""
        self._closed = closed
        self._probing = False
        self._changed.set()
        self._changed = asyncio.Event()


def _backoff(attempt: int) -> float:
    """Seconds to wait before attempt + 1: exponential, full jitter (docs/platform.md 6.1)."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1)))  # noqa: S311 - jitter, no secret


class Client:
    """The platform's API for one set of credentials. Made by `connect`."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, base_url: str, login: Login, timeout: float
    ) -> None:
        self._transport = transport
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
        return await self._patiently("GET", path)

    async def _patiently(self, method: str, path: str, body: JsonObject | None = None) -> Answer:
        """Send what is safe to repeat, and repeat it where that may help. Raises: ApiError."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self.send(method, path, body, secretive=path == self._login_with.path)
            except (NotSent, Unclear) as error:
                if attempt >= _TRIES or isinstance(error, Limited):
                    raise
                log.info("trying again: %s", error)
                await asyncio.sleep(_backoff(attempt))

    async def send(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        timeout: float | None = None,
        secretive: bool = False,
    ) -> Answer:
        """Send one request. `timeout`: seconds for all of it, the client's own if None.

        `secretive`: the body holds what no error may show, so of what the platform says, errors
        pass on its own sentences alone, and the fields and rules.

        Raises: NotSent, Unclear, Refused (with their kinds).
        """
        request = _Request(method, path, body, timeout or self.timeout, secretive)
        logged_in_again = False
        while True:
            token = self._token
            try:
                return await self._once(request)
            except Limited:
                if self._gate.hopeless:
                    raise
            except Unauthorized:
                if (
                    logged_in_again
                    or self._login_with.path is None
                    or path == self._login_with.path
                ):
                    raise
                logged_in_again = True
                await self._renew(token)

    async def _renew(self, used: str | None) -> None:
        """Log in, unless somebody did so since `used` was refused."""
        async with self._logging_in:
            path = self._login_with.path
            if path is None or (used is not None and used != self._token):
                return
            answer = await self._patiently("PUT", path, self._login_with.body)
            if isinstance(answer.data, dict) and "account_id" in answer.data:
                self.caller = account_id(answer.data["account_id"])

    async def _once(self, what: _Request) -> Answer:
        """One request and its answer. Raises: ApiError."""
        method, path, timeout = what.method, what.path, what.timeout
        if not _SAFE_PATH.fullmatch(path):
            raise ValueError("a path that may not be sent")
        request_id = uuid4().hex
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Request-ID": request_id,
        }
        if self._token and path != self._login_with.path:
            headers["X-Auth-Token"] = self._token
        content = None
        if what.body is not None:
            content = orjson.dumps(what.body)
            headers["Content-Type"] = "application/json"
        request = httpx.Request(method, self._base + path, headers=headers, content=content)
        await self._gate.enter()
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                response = await self._transport.handle_async_request(request)
                try:
                    text = await _read(response)
                finally:
                    await response.aclose()
        except httpx.ConnectError as error:
            self._gate.passed()
            raise NotSent(
                method, path, f"no connection ({error})", request_id=request_id
            ) from error
        except TimeoutError as error:
            self._gate.passed()
            message = f"no answer within {timeout:g} seconds"
            raise Unclear(method, path, message, request_id=request_id) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            self._gate.passed()
            message = f"the answer was lost ({type(error).__name__})"
            raise Unclear(method, path, message, request_id=request_id) from error
        elapsed = (time.monotonic() - started) * 1000
        log.debug(
            "%s %s %d %.0f ms request=%s", method, path, response.status_code, elapsed, request_id
        )
        if response.status_code == _TOO_MANY:
            retry_after = _retry_after(response.headers.get("Retry-After"))
            self._gate.close(retry_after)
            message = "the platform refuses more requests for now"
            raise Limited(method, path, message, status=_TOO_MANY, request_id=request_id)
        self._gate.passed()
        return self._answer(what, response, text, request_id)

    def _answer(
        self, what: _Request, response: httpx.Response, text: bytes, request_id: str
    ) -> Answer:
        method, path, status = what.method, what.path, response.status_code
        envelope = _envelope(text)
        request_id = response.headers.get("X-Request-ID", request_id)[:64]
        if not 200 <= status < 300:  # noqa: PLR2004 - the successes
            free = not what.secretive and (self._token or "\n").encode() not in text
            raise _error(what, response, envelope, request_id, free=free)
        if envelope is None or "data" not in envelope or envelope.get("status") == "error":
            raise Unclear(method, path, _no_json(response), status=status, request_id=request_id)
        token = envelope.pop("auth_token", None)
        if path == self._login_with.path and isinstance(token, str):
            self._token = token
        self._timestamp = envelope.get("timestamp", self._timestamp)
        metadata = envelope.get("metadata")
        revision, following = envelope.get("revision"), envelope.get("next_start_key")
        return Answer(
            status=status,
            data=envelope["data"],
            revision=revision if isinstance(revision, str) else "",
            computed=metadata if isinstance(metadata, dict) else {},
            next_start_key=following if isinstance(following, str) else None,
            request_id=request_id,
        )


async def _read(response: httpx.Response) -> bytes:
    """The body, up to a bound. Raises: httpx.HTTPError."""
    parts: list[bytes] = []
    size = 0
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise httpx.ReadError("an answer that can't be read")
    async for part in response.stream:
        size += len(part)
        if size > _MAX_BODY:
            raise httpx.ReadError("an answer that is too large")
        parts.append(part)
    return b"".join(parts)


def _envelope(text: bytes) -> JsonObject | None:
    try:
        envelope = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return envelope if isinstance(envelope, dict) else None


def _error(
    what: _Request,
    response: httpx.Response,
    envelope: JsonObject | None,
    request_id: str,
    *,
    free: bool,
) -> ApiError:
    """The error for a status that is no success (docs/platform.md 1.5, 6.3).

    `free`: nothing that the platform says can be a secret.
    """
    status = response.status_code
    symbol = _symbol(envelope)
    message = _no_json(response) if envelope is None else _message(envelope, symbol, free=free)
    kind: type[ApiError] = Refused
    if status == HTTPStatus.UNAUTHORIZED:
        kind = Unauthorized
    elif status == HTTPStatus.NOT_FOUND:
        kind = NotFound if envelope is not None else Unclear
    elif status in _TRANSIENT and symbol not in _PERMANENT:
        kind = Unclear
    elif response.has_redirect_location:
        message = "a redirect, which is never followed; correct api.url"
    return kind(what.method, what.path, message, status=status, code=symbol, request_id=request_id)


def _symbol(envelope: JsonObject | None) -> str:
    """The platform's word for what is wrong, in either of its forms; "" if it is none."""
    for name in ("code", "message"):
        word = (envelope or {}).get(name)
        if isinstance(word, str) and _WORD.fullmatch(word):
            return word
    return ""


def _message(envelope: JsonObject, symbol: str, *, free: bool) -> str:
    """What the platform says; unless `free`, without anything that may repeat what was sent.

    That is: its sentences where they are known to be fixed, and of a validation error the fields
    and the rules they break.
    """
    data = envelope.get("data")
    inner = data.get("message") if isinstance(data, dict) else None
    said = next((text for text in (inner, envelope.get("message")) if isinstance(text, str)), "")
    rules = [
        f"{name}: {rule}{_target(details)}"
        for name, found in (data.items() if isinstance(data, dict) else ())
        if isinstance(found, dict)
        for rule, details in found.items()
    ]
    parts = [symbol or "refused"]
    if said and said != symbol and (free or symbol in _FIXED):
        parts.append(said[:_EXCERPT])
    return ": ".join(parts) + (f" ({'; '.join(rules)[: 4 * _EXCERPT]})" if rules else "")


def _no_json(response: httpx.Response) -> str:
    """Of an answer that is none of the platform's, its kind: a proxy's page may quote the request."""
    kind = response.headers.get("Content-Type", "no content type")
    return f"an answer that is none of the platform's ({kind[:64]})"


def _target(details: JsonValue) -> str:
    if not isinstance(details, dict) or not isinstance(
        details.get("target"), str | int | float | list
    ):
        return ""
    return f" {details['target']}"[:_EXCERPT]


def _retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After` in seconds or as a date; None if there is none to obey."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


@asynccontextmanager
async def connect(
    base_url: str,
    login: Login,
    *,
    timeout: float,
    transport: httpx.AsyncBaseTransport | None = None,
    proxy: str | None = None,
) -> AsyncIterator[Client]:
    """A client that is logged in. `transport`: instead of the network. Raises: ApiError."""
    transport = transport or _network(proxy, secure=base_url.startswith("https:"))
    client = Client(transport, base_url, login, timeout)
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
