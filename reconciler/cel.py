"""A process of its own in which rules in CEL are evaluated: untrusted text, in bounded time and memory.

Started by `policy` as `python -m reconciler.cel`. On stdin one JSON object: `rules` (expressions),
`plan` (a plan's JSON, or null to only compile), `seconds` that it may take. On stdout a
JSON object per rule, in order, as soon as it is known:

- `holds`: whether it is true of the plan, or of at least one change;
- `changes`: the places in the list of changes where it is, or where it failed;
- `error`: why it can't be compiled or evaluated, else missing.

Source: docs/policy.md; docs/decisions/018-rules-in-cel.md.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Json: TypeAlias = dict[str, Any]

_BYTES: Final = 2 * 2**30
_BYTES_PER_BYTE: Final = 40
"""Memory: so much, and so much more per byte of the request."""

NO_ENGINE: Final = 3
"""The exit status if the package that evaluates CEL is not installed."""

_PLACE: Final = re.compile(r"ERROR: <input>:(-?\d+:-?\d+): (.*)")
_STATUS: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_LONGEST: Final = 300
"""Characters of the engine's message that are told: a parser lists all that it would have taken."""

_TOO_MUCH: Final = "Iteration budget exceeded"
_NO_KEY: Final = "Key not found"
_ADVICE: Final = {
    _TOO_MUCH: (
        "It looks at more than 10,000 elements. Write it about `change`, which is judged one by one,"
        " or about `plan.summary`"
    ),
    _NO_KEY: "Ask has() before a key that may be missing",
}


class Wrong(Exception):
    """A rule that can't be compiled or evaluated, in words for people."""


class Engine:
    """Compiles and evaluates. Raises: ImportError if the package is missing."""

    def __init__(self) -> None:
        # Without types of its own for mypy.
        from cel_expr_python import cel  # type: ignore[import-untyped]

        document = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
        self._error, self._answers = cel.Type.ERROR, (cel.Type.BOOL, cel.Type.DYN)
        self._whole = cel.NewEnv(variables={"plan": document})
        self._each = cel.NewEnv(variables={"plan": document, "change": document})

    def compiled(self, expression: str) -> tuple[Any, bool]:
        """The rule, and whether it is about a change. Raises: Wrong."""
        try:
            return self._compiled(self._whole, expression), False
        except Wrong:
            return self._compiled(self._each, expression), True

    def _compiled(self, environment: Any, expression: str) -> Any:
        try:
            compiled = environment.compile(expression)
        except (RuntimeError, ValueError) as error:
            raise Wrong(told(str(error))) from error
        if compiled.return_type() not in self._answers:
            kind = compiled.return_type().name()
            raise Wrong(f"It answers {kind}, and must answer true or false")
        return compiled

    def holds(self, compiled: Any, seen: Json) -> bool:
        """Whether it is true of what it sees. Raises: Wrong."""
        try:
            found = compiled.eval(data=seen)
            value = found.value()
        except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
            raise Wrong(told(str(error) or "Too little memory")) from error
        if found.type() == self._error:
            raise Wrong(told(str(value)))
        if not isinstance(value, bool):
            raise Wrong(f"It answers {found.type().name()}, and must answer true or false")
        return value


def told(message: str) -> str:
    """The engine's message on one line, with places as `line:column`, and what to do."""
    found = _PLACE.findall(message.replace(" (in container '')", ""))
    places = [f"{place}: {text}" for place, text in found]
    line = "; ".join(places) or " ".join(_STATUS.sub("", message.strip()).split())
    for sign, advice in _ADVICE.items():
        if sign in line:
            line = advice if sign == _TOO_MUCH else f"{line}. {advice}"
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def answer(engine: Engine, expression: str, plan: Json | None) -> Json:
    """What is to be said of one rule."""
    at: list[int] = []
    try:
        compiled, each = engine.compiled(expression)
        if plan is None:
            return {"holds": False, "changes": []}
        if not each:
            return {"holds": engine.holds(compiled, {"plan": plan}), "changes": []}
        # The engine converts all that it is given, for each change again: not the lists.
        head = {name: value for name, value in plan.items() if not isinstance(value, list)}
        found = []
        for index, change in enumerate(plan["changes"]):
            at = [index]
            if engine.holds(compiled, {"plan": head, "change": change}):
                found.append(index)
    except Wrong as error:
        return {"holds": False, "changes": at, "error": str(error)}
    return {"holds": bool(found), "changes": found}


def answers(request: Json) -> Iterator[Json]:
    """What is to be said of each rule. Raises: ImportError."""
    engine = Engine()
    for expression in request["rules"]:
        yield answer(engine, expression, request["plan"])


def _limit(seconds: int, size: int) -> None:
    """End by itself if nobody is there any more to end it, and don't take the machine's memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if (
        sys.platform == "linux"
    ):  # elsewhere a process has more address space than this from the start
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> int:
    """Answer one request."""
    text = sys.stdin.buffer.read()
    request = json.loads(text)
    _limit(request["seconds"], _BYTES + _BYTES_PER_BYTE * len(text))
    try:
        for found in answers(request):
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
    except ImportError:
        return NO_ENGINE
    return 0


if __name__ == "__main__":
    sys.exit(main())
