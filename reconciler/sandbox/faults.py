"""A bad day, on order: rules that say which answers are lost, late, broken or wrong.

A rule counts the requests that it matches and strikes from the `nth` on, `times` times. Before
the platform does anything, after it has done it, or in the middle of the answer.
Source: docs/platform.md 9, the faults to offer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate
from typing import TYPE_CHECKING, Annotated, Final, Literal

import orjson
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from reconciler.core.values import JsonValue

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

    method: None: any. path: a glob over the path below the base (`/accounts/*`), or a regular
    expression for all of it if it begins with `^`. nth: the first match that is struck, from 1.
    times: how many are; None: all from there on. phase: `before` the request is looked at, `after`
    it was carried out, or `mid`: carried out, and the answer breaks off.

    What happens: `delay_ms` first, then `drop` (the connection closes), `truncate` (after so many
    bytes of body; `mid` alone means half of it), or an answer of `status`, with `body`, `headers`,
    `content_type` in place of the usual ones. expire_tokens: all tokens so far are expired.
    occur: to the account in the path happens what happens by itself (docs/platform.md 3.11).
    """

    __pydantic_config__ = ConfigDict(extra="forbid", hide_input_in_errors=True)

    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE"] | None = None
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

    def answer_body(self) -> bytes | None:
        """Give the body that the rule wants: text as it is, all else as JSON; None: no wish."""
        if self.body is None:
            return None
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)


class Faults:
    """Counts matches of each rule. New rules may be added while the platform runs."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._rules: list[tuple[Fault, re.Pattern[str]]] = []
        self._counts: list[int] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        """Put rules behind those that are there; they count from now."""
        for fault in faults:
            self._rules.append((fault, _compiled(fault.path)))
            self._counts.append(0)

    def clear(self) -> None:
        """Let the bad day be over."""
        self._rules.clear()
        self._counts.clear()

    def struck(self, method: str, path: str) -> list[Fault]:
        """Count a request, and list the rules that strike it, in their order."""
        found: list[Fault] = []
        for index, (fault, pattern) in enumerate(self._rules):
            if fault.method not in {None, method} or not pattern.fullmatch(path):
                continue
            self._counts[index] += 1
            late = self._counts[index] - fault.nth
            if late >= 0 and (fault.times is None or late < fault.times):
                found.append(fault)
        return found


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
