"""What went wrong with a request, by what the caller may do next, and in words for people.

    ApiError
    ├── NotSent        nothing was done: may be sent again as it is
    │   └── Limited    refused by the rate limit, again and again: not now
    ├── Unclear        it may have been done: look before sending again
    └── Refused        the platform said no, and will again
        ├── NotFound   there is no such account
        └── Unauthorized  the credentials are no good

Source: docs/platform.md 1.5, 5.1, 6.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.core.values import JsonObject, JsonValue

PERMANENT: Final = frozenset({"account_has_descendants", "account_has_active_port"})
"""Symbols of rules, though they come with 500."""

_MAY_PASS: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT})
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
_EXCERPT: Final = 300


class ApiError(Exception):
    """A request that did not succeed. Holds no body and no secret.

    `address`: the account that it was about, if whoever sent it knew. `resent`: how often it had been
    sent before, and was answered by a 429 or a 401.
    """

    advice = ""

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
        self.address: str | None = None
        self.resent = 0

    def __str__(self) -> str:
        """What was sent, what came back, and what to do now."""
        status = f" {self.status}" if self.status else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.method} {self.path}:{status} {self.message}{request}. {self._what_next()}"

    def _what_next(self) -> str:
        return self.advice


class NotSent(ApiError):
    """Nothing was done."""

    advice = "Nothing was sent. Look at api.url and at the network, then run it again."


class Limited(NotSent):
    """The rate limit refused it for so long that it was given up."""

    advice = "Nothing was done. Run it again later, or with a lower --parallelism."


class Unclear(ApiError):
    """It may have been done, or not."""

    advice = "Run it again."

    @property
    def going_on(self) -> bool:
        """Whether the platform may still be at it: what answered was not the platform itself."""
        return self.code not in _FIXED

    def _what_next(self) -> str:
        if self.method == "GET":
            return self.advice
        return "It may have been done: apply again, which looks before it writes."


class Refused(ApiError):
    """The platform said no. `done`: and did it all the same, as a read showed.

    `taken`: a realm or a name belongs to another account.
    """

    advice = "Ask the operator of the platform, with the id of the request."
    done = False
    taken = False

    def _what_next(self) -> str:
        return f"{self._usual()}{_DONE if self.done else ''}"

    def _usual(self) -> str:
        if self.path in _LOGINS:
            return Unauthorized.advice
        if self.status == HTTPStatus.FORBIDDEN and self.path.endswith("/reseller"):
            return "To promote and demote takes the credentials of a superduper admin."
        return _BY_SYMBOL.get(self.code) or _BY_STATUS.get(self.status or 0) or self.advice


class NotFound(Refused):
    """There is no such account."""

    advice = "Look whether it was deleted, and at api.url and the root account; then plan again."


class Unauthorized(Refused):
    """The credentials are no good."""

    advice = "Look at the credentials in the environment, and at api.url."


_DONE: Final = (
    " It was done all the same, as a read shows, so that no later plan tells of it: look at what the"
    " platform names here, such as a realm that may belong to two accounts now."
)
_LOGINS: Final = frozenset({"/api_auth", "/user_auth"})
_BY_SYMBOL: Final[Mapping[str, str]] = {
    "account_has_descendants": "Something stands below it that the plan did not know of: plan again.",
    "account_has_active_port": "Numbers are being ported: wait for the end of that, then apply again.",
}
_BY_STATUS: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "Correct what it names, then apply again.",
    HTTPStatus.PAYMENT_REQUIRED: "It would cost money, which is never agreed to here: settle it with the"
    " operator of the platform, then apply again.",
    HTTPStatus.FORBIDDEN: "The account of the credentials may not do this: use others, or have it allowed.",
}


@dataclass(frozen=True, slots=True, repr=False)  # the envelope has the token
class Reply:
    """An answer whose status is no success. `envelope`: None if it has none; `kind`: what it is then.

    `free`: nothing that the platform says can be a secret.
    """

    method: str
    path: str
    status: int
    envelope: JsonObject | None
    kind: str
    request_id: str
    free: bool


def refusal(reply: Reply) -> ApiError:
    """The error that a reply is."""
    status, envelope = reply.status, reply.envelope
    symbol = _symbol(envelope)
    message = reply.kind if envelope is None else _message(envelope, symbol, free=reply.free)
    found: type[ApiError] = Refused
    if status == HTTPStatus.UNAUTHORIZED:
        found = Unauthorized
    elif status == HTTPStatus.NOT_FOUND:
        found = NotFound if _is_the_platforms(envelope) else Unclear
    elif _is_transient(status) and symbol not in PERMANENT:
        found = Unclear
    elif status == HTTPStatus.PAYMENT_REQUIRED and envelope is not None and reply.free:
        message += f" {orjson.dumps(envelope.get('data')).decode()[:_EXCERPT]}"  # the quote
    elif 300 <= status < 400:  # noqa: PLR2004 - redirects
        message = "a redirect, which is never followed; correct api.url"
    error = found(
        reply.method, reply.path, message, status=status, code=symbol, request_id=reply.request_id
    )
    if isinstance(error, Refused) and envelope is not None:
        error.taken = any(rule == "unique" for _, rule, _ in _broken(envelope.get("data")))
    return error


def _is_transient(status: int) -> bool:
    """Whether it may pass, and may have been done: breakdowns, also those that gateways have numbers for."""
    breakdown = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return (breakdown and status != HTTPStatus.NOT_IMPLEMENTED) or status in _MAY_PASS


def _is_the_platforms(envelope: JsonObject | None) -> bool:
    """Whether an error has one of the platform's forms: a gateway says 404 of what it has no route for."""
    return envelope is not None and (
        envelope.get("status") in ("error", "fatal") or isinstance(envelope.get("code"), str)
    )


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
    rules = "; ".join(_rules(data, free=free))[: 4 * _EXCERPT]
    parts = [symbol or "refused"]
    if said and said != symbol and (free or symbol in _FIXED):
        parts.append(said[:_EXCERPT])
    return ": ".join(parts) + (f" ({rules})" if rules else "")


def _rules(data: JsonValue, *, free: bool) -> Iterator[str]:
    """Of a validation error, each field with the rules that it breaks; text of theirs only if `free`."""
    told: tuple[type, ...] = (str, int, float, list) if free else (int, float)
    for name, rule, details in _broken(data):
        target = details.get("target") if isinstance(details, dict) else None
        allowed = f" {target}"[:_EXCERPT] if isinstance(target, told) else ""
        yield f"{name}: {rule}{allowed}"


def _broken(data: JsonValue) -> Iterator[tuple[str, str, JsonValue]]:
    """Of a validation error, each field with a rule that it breaks, and the details of that."""
    for name, found in data.items() if isinstance(data, dict) else ():
        for rule, details in found.items() if isinstance(found, dict) else ():
            yield name, rule, details
