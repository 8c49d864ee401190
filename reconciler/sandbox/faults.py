"""A bad day, on order: rules that say which answers are lost, late, broken or wrong.

A rule counts the requests that it matches and strikes from the `nth` on, `times` times. Before
the platform does anything, after it has done it, or in the middle of the answer.
Source: docs/platform.md 9, the faults to offer.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, Literal

import orjson
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from reconciler.core.values import JsonValue
    from reconciler.sandbox.wire import Response

Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _compiled(path: str) -> re.Pattern[str]:
    return re.compile(path if path.startswith("^") else translate(path))


def _check_path(path: str) -> str:
    try:
        _compiled(path)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return path


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule.

    method: None: any; WRITES: any but GET. path: a glob over the path below the base (`/accounts/*`), or a regular
    expression for all of it if it begins with `^`. nth: the first match that is struck, from 1.
    times: how many are; None: all from there on. phase: `before` the request is looked at, `after`
    it was carried out, or `mid`: carried out, and the answer breaks off.

    What happens: `delay_ms` first, then `drop` (the connection closes), `truncate` (after so many
    bytes of body; `mid` alone means half of it), or an answer of `status`, with `body` and
    `content_type` in place of the usual ones. headers: further ones, whatever the answer is.
    expire_tokens: all tokens so far are expired. occur: to the account in the path happens what
    happens by itself (docs/platform.md 3.11).

    as_path, as_query: the platform takes the request for another one. stale: a GET of an account
    answers what it was before its last write. bucket, refill: the request draws from a bucket of
    the rule's own, of that size, filled by so many a second; 429 if it is empty.

    What else becomes of an answer, in this order. keep: only so many rows of a list. assign: dotted
    path in the envelope -> value. bomb_mib: so much, packed with gzip, in place of the body.
    drip_ms: between two bytes of the body.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", hide_input_in_errors=True)

    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE", "WRITES"] | None = None
    path: Annotated[str, AfterValidator(_check_path)] = "*"
    nth: Count = 1
    times: Count | None = 1
    phase: Literal["before", "after", "mid"] = "before"
    delay_ms: Natural = 0
    drop: bool = False
    truncate: Natural | None = None
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: str | dict[str, object] | list[object] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    expire_tokens: bool = False
    occur: bool = False
    as_path: str | None = None
    as_query: dict[str, str] = field(default_factory=dict)
    stale: bool = False
    bucket: Count | None = None
    refill: Natural = 0
    keep: Natural | None = None
    assign: dict[str, object] = field(default_factory=dict)
    bomb_mib: Natural = 0
    drip_ms: Natural = 0

    def answer_body(self) -> bytes | None:
        """Give the body that the rule wants: text as it is, all else as JSON; None: no wish."""
        if self.body is None:
            return None
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)


@dataclass(slots=True)
class _Rule:
    """A rule with its pattern, and what it remembers. `filled`: Unix seconds, if it has a bucket."""

    fault: Fault
    pattern: re.Pattern[str]
    matches: int = 0
    tokens: float = 0.0
    filled: float | None = None

    def strikes(self, now: float) -> bool:
        """Count a match; whether it is struck."""
        self.matches += 1
        late = self.matches - self.fault.nth
        due = late >= 0 and (self.fault.times is None or late < self.fault.times)
        return due and (self.fault.bucket is None or not self._drawn(self.fault.bucket, now))

    def _drawn(self, size: int, now: float) -> bool:
        """Take a token from the rule's bucket, if there is one."""
        passed = 0.0 if self.filled is None else now - self.filled
        held = float(size) if self.filled is None else self.tokens + passed * self.fault.refill
        self.filled, self.tokens = now, min(size, held)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Faults:
    """Counts matches of each rule. New rules may be added while the platform runs."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._rules: list[_Rule] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        """Put rules behind those that are there; they count from now."""
        self._rules += [_Rule(fault, _compiled(fault.path)) for fault in faults]

    def clear(self) -> None:
        """Let the bad day be over."""
        self._rules.clear()

    def matches(self, number: int = 0) -> int:
        """How many requests a rule has matched; rules count from 0."""
        return self._rules[number].matches

    def struck(self, method: str, path: str, now: float) -> list[Fault]:
        """Count a request, and list the rules that strike it, in their order. `now`: Unix seconds."""
        return [
            rule.fault
            for rule in self._rules
            if rule.fault.method in {None, method, "WRITES" if method != "GET" else None}
            and rule.pattern.fullmatch(path)
            and rule.strikes(now)
        ]


# --- what becomes of an answer ---


def spoilt_answer(fault: Fault, response: Response) -> Response:
    """The answer with the rows, values, headers and pace that the rule wants."""
    headers = {**response.headers, **fault.headers}
    body = _edited(fault, response.body)
    if fault.bomb_mib:
        headers["Content-Encoding"] = "gzip"
        body = _bomb(fault.bomb_mib)
    return replace(response, headers=headers, body=body, drip_ms=fault.drip_ms or response.drip_ms)


@cache
def _bomb(mebibytes: int) -> bytes:
    return gzip.compress(b" " * (mebibytes << 20))


def _edited(fault: Fault, body: bytes) -> bytes:
    """The envelope with fewer rows and other values; what is no envelope stays as it is."""
    if fault.keep is None and not fault.assign:
        return body
    envelope = orjson.loads(body)
    if fault.keep is not None and isinstance(envelope["data"], list):
        envelope["data"] = envelope["data"][: fault.keep]
    for path, value in fault.assign.items():
        *above, last = path.split(".")
        inner = envelope
        for segment in above:
            inner = inner[int(segment)] if isinstance(inner, list) else inner[segment]
        inner[int(last) if isinstance(inner, list) else last] = value
    return orjson.dumps(envelope)


_RULES: Final = TypeAdapter(list[Fault])


def parse_faults(rules: JsonValue) -> tuple[Fault, ...]:
    """Read rules from a list of objects whose keys are the fields of `Fault`.

    Raises: ValueError, naming everything that is wrong.
    """
    try:
        # By way of JSON: only there does strict checking let an object become a dataclass.
        faults = _RULES.validate_json(orjson.dumps(rules), strict=True)
    except ValidationError as failure:
        errors = (f"{_place(error['loc'])}: {error['msg']}" for error in failure.errors())
        raise ValueError("; ".join(errors)) from failure
    return tuple(faults)


def _place(path: tuple[int | str, ...]) -> str:
    """Name a place in the list: rules count from 1."""
    if not path:
        return "faults"
    return ".".join((f"rule {int(path[0]) + 1}", *map(str, path[1:])))
