"""What goes over the wire: requests, bodies, and the two envelopes of answers.

Nothing here knows a socket: the server and the in-process transport translate to and from the
values here. Source: docs/platform.md 1.2 to 1.6, 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.options import ErrorFormat

BODY_LIMIT: Final = 8_000_000
"""Bytes of a request's body. Source: docs/platform.md 1.2."""

NODE: Final = "sandbox@localhost"
VERSION: Final = "4.3.0-sandbox"

_JSON_TYPES: Final = ("application/json", "application/x-json", "")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` is percent-encoded; the names in `headers` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. dropped: the connection closes instead; truncated: after so many body bytes.

    drip_ms: so long is the pause between two bytes of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    dropped: bool = False
    truncated: int | None = None
    drip_ms: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation has to say when it went well. `extra`: further keys of the envelope."""

    data: JsonValue
    status: int = 200
    revision: str | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """The platform says no. `symbol` is the envelope's `message`, `data` its `data`."""

    def __init__(self, status: int, symbol: str, data: JsonValue) -> None:
        super().__init__(f"{status} {symbol}")
        self.status = status
        self.symbol = symbol
        self.data = data
        self.headers: dict[str, str] = {}


Errors = dict[str, dict[str, "JsonObject"]]
"""Validation errors: dotted path -> rule -> details. Source: docs/platform.md 5.1."""

SENTENCES: Final[Mapping[str, str]] = {
    "account_has_descendants": "account has descendants",
    "bad_identifier": "bad identifier",
    "datastore_conflict": "conflicting documents",
    "datastore_fault": "datastore fault",
    "faulty_request": "faulty request",
    "forbidden": "forbidden",
    "gone": "gone",
    "invalid_credentials": "invalid credentials",
    "invalid_method": "method not allowed",
    "not_found": "not found",
    "too_many_requests": "too many requests",
    "unspecified_fault": "unspecified fault",
}
"""Symbol of a system error -> what people read. Source: docs/platform.md 1.5, the table."""


def system_error(status: int, symbol: str, cause: str | None = None) -> RefusedError:
    """Make a refusal that is about the request as a whole."""
    data: JsonObject = {"message": SENTENCES[symbol]}
    if cause is not None:
        data["cause"] = cause
    return RefusedError(status, symbol, data)


def validation_error(errors: Errors, status: int = 400) -> RefusedError:
    """Make a refusal that names fields."""
    data: JsonObject = {path: dict(rules) for path, rules in errors.items()}
    return RefusedError(status, "validation error", data)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, read: envelope keys in lower case, `data`, and what was wrong with it.

    The error is kept and not raised, because other checks come before it (docs/platform.md 1.5)
    while a `verb` inside `data` has to be known before all of them (1.3).
    """

    envelope: JsonObject
    data: JsonObject
    error: RefusedError | None = None


def read_body(request: Request) -> Body:
    """Read the JSON envelope. An empty body counts as an empty object with empty data."""
    if len(request.body) > BODY_LIMIT:
        detail: JsonObject = {"message": "file exceeds max size", "target": BODY_LIMIT}
        return Body({}, {}, validation_error({"file": {"maxSize": detail}}, status=413))
    if not request.body:
        return Body({}, {})
    if request.headers.get("content-type", "").split(";")[0].strip().lower() not in _JSON_TYPES:
        return Body({}, {}, RefusedError(415, "", None))
    try:
        parsed = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        detail = {"message": str(error), "target": "body"}
        return Body({}, {}, validation_error({"json": {"invalid": detail}}))
    return _opened(parsed)


def _opened(parsed: JsonValue) -> Body:
    """Take the parsed body apart into envelope and data."""
    envelope = (
        {key.lower(): value for key, value in parsed.items()} if isinstance(parsed, dict) else {}
    )
    data = envelope.get("data")
    if isinstance(data, dict):
        return Body(envelope, data)
    if data is None:
        detail: JsonObject = {"message": "Field is required but missing"}
        return Body(envelope, {}, validation_error({"data": {"required": detail}}))
    detail = {"message": "Value did not match type(s): object", "target": "object", "value": data}
    return Body(envelope, {}, validation_error({"data": {"type": detail}}))


@dataclass(frozen=True, slots=True)
class Trace:
    """What every envelope repeats of the request it answers. `now`: Unix seconds."""

    request_id: str
    now: float
    token: str | None = None
    remaining: int | None = None
    pretty: bool = False


def success(answer: Answer, trace: Trace) -> Response:
    """Wrap an answer as the platform does; 304 has no body."""
    if answer.status == HTTPStatus.NOT_MODIFIED:
        return Response(answer.status, _headers(trace, answer.headers), b"")
    envelope: JsonObject = {"data": answer.data, "status": "success", **_common(trace)}
    if answer.revision is not None:
        envelope["revision"] = answer.revision
    envelope.update(answer.extra)
    return Response(answer.status, _headers(trace, answer.headers), _bytes(envelope, trace))


def failure(refused: RefusedError, trace: Trace, error_format: ErrorFormat) -> Response:
    """Wrap a refusal in the chosen form; one without a symbol has no body at all."""
    headers = _headers(trace, refused.headers)
    if not refused.symbol:
        return Response(refused.status, {**headers, "Content-Type": "text/plain"}, b"")
    envelope: JsonObject
    if error_format == "vinix":
        envelope = {
            "code": refused.symbol,
            "message": _sentence(refused),
            "request_id": trace.request_id,
        }
    else:
        envelope = {
            "data": refused.data,
            "error": str(refused.status),
            "message": refused.symbol,
            "status": "error",
            **_common(trace),
        }
    return Response(refused.status, headers, _bytes(envelope, trace))


def _sentence(refused: RefusedError) -> str:
    """Say a refusal in one line; of validation errors, each field with its rules."""
    if refused.symbol == "validation error" and isinstance(refused.data, dict):
        fields = (
            f"{path}: {', '.join(rules)}"
            for path, rules in refused.data.items()
            if isinstance(rules, dict)
        )
        return "validation error: " + "; ".join(fields)
    message = refused.data.get("message") if isinstance(refused.data, dict) else None
    return message if isinstance(message, str) else refused.symbol


def _common(trace: Trace) -> JsonObject:
    moment = datetime.fromtimestamp(trace.now, tz=UTC)
    common: JsonObject = {
        "node": NODE,
        "request_id": trace.request_id,
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if trace.token is not None:
        common["auth_token"] = trace.token
        common["version"] = VERSION
    if trace.remaining is not None:
        common["tokens"] = {"consumed": 1, "remaining": trace.remaining}
    return common


def _headers(trace: Trace, more: Mapping[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json", "X-Request-ID": trace.request_id, **more}


def _bytes(envelope: JsonObject, trace: Trace) -> bytes:
    return orjson.dumps(envelope, option=orjson.OPT_INDENT_2 if trace.pretty else None)
