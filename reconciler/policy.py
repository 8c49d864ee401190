"""The project's own rules about plans: what must not be done, and what somebody should look at.

A rule sees the plan as machines see it: the JSON of section "Plan" in docs/formats.md, in which
sensitive values are masked. It is evaluated in a process of its own (`cel`), which has neither the
credentials nor more time and memory than a rule needs: a pull request may have brought it.

What can't be evaluated counts as if the rule held: an unanswered question is no permission.

Source: docs/policy.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from reconciler.cel import NO_ENGINE
from reconciler.core.configuration import Invalid
from reconciler.core.safety import Refusal
from reconciler.core.shapes import listed, problem
from reconciler.core.values import Diagnostic
from reconciler.render import jsondoc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.core.configuration import Rule
    from reconciler.core.plan import Change, Plan
    from reconciler.core.values import JsonObject

COMMAND: Final = (sys.executable, "-P", "-m", "reconciler.cel")
"""Starts the other process, never from what lies in the working directory."""

_NEEDED: Final = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What of the environment a Python that was not installed by the system may need to start."""

_SECONDS: Final = 30.0
"""All rules together, beside what a large plan takes."""

_EACH: Final = 0.001
"""Seconds more per rule and change: twenty times what a realistic rule takes (docs/policy.md)."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of a rule. `changes`: where it holds, or where it failed. `error`: why it did."""

    holds: bool = False
    changes: tuple[int, ...] = ()
    error: str = ""


def problems(rules: Sequence[Rule]) -> list[Diagnostic]:
    """What keeps rules from being evaluated at all: text that is no CEL, or a package that is missing."""
    try:
        answers = _answers(rules, None)
    except Invalid as error:
        return error.diagnostics
    return [
        problem("A broken rule", f"{found.error}.", rule.source, path=f"policy.{rule.name}")
        for rule, found in zip(rules, answers, strict=True)
        if found.error
    ]


def check(plan: Plan, rules: Sequence[Rule]) -> Plan:
    """The plan, refused or with warnings where rules say so. Raises: Invalid without the package."""
    if not rules:
        return plan
    answers = _answers(rules, jsondoc.plan(plan))
    told = [
        (rule, _detail(rule, found, plan.changes), _only(found, plan.changes))
        for rule, found in zip(rules, answers, strict=True)
        if found.holds or found.error
    ]
    refusals = (
        Refusal(rule.name, detail, change.key if change else None)
        for rule, detail, change in told
        if rule.denies
    )
    warnings = (
        Diagnostic("warning", f"Policy {rule.name}", detail, change.address if change else None)
        for rule, detail, change in told
        if not rule.denies
    )
    return replace(
        plan,
        refusals=(*plan.refusals, *refusals),
        diagnostics=(*plan.diagnostics, *warnings),
    )


def _detail(rule: Rule, found: _Answer, changes: Sequence[Change]) -> str:
    """The rule's text with the addresses that it is about, or why it could not be asked."""
    addresses = listed(changes[index].address for index in found.changes)
    where = f"{addresses}: " if addresses else ""
    if found.error:
        return f"{where}this rule of reconciler.yaml could not be evaluated. {found.error}."
    return f"{where}{rule.text}"


def _only(found: _Answer, changes: Sequence[Change]) -> Change | None:
    """The change that a rule's answer is about, if that is one."""
    return changes[found.changes[0]] if len(found.changes) == 1 else None


# --- the other process -----------------------------------------------------------------------


def _answers(rules: Sequence[Rule], document: JsonObject | None) -> list[_Answer]:
    """An answer for each rule. Raises: Invalid without the package that evaluates."""
    if not rules:
        return []
    changes = document["changes"] if document else None
    count = len(changes) if isinstance(changes, list) else 0
    seconds = _SECONDS + _EACH * len(rules) * count
    request: JsonObject = {
        "rules": [rule.when for rule in rules],
        "plan": document,
        "seconds": int(seconds) + 1,
    }
    status, answers = _run(request, seconds)
    if status == NO_ENGINE:
        raise Invalid([_no_engine(rules[0])])
    if len(answers) < len(rules):
        answers.append(_Answer(error=_why(status, seconds)))
    missing = len(rules) - len(answers)
    return answers + [_Answer(error="The rule before it did not end")] * missing


def _run(request: JsonObject, seconds: float) -> tuple[int | None, list[_Answer]]:
    """What the other process says until it ends, and its exit status; None if it had to be ended.

    It sees the packages that this one sees, and nothing else of the environment.
    """
    # A text that is no Unicode, such as half a surrogate pair, is something that the engine can't take.
    text = json.dumps(request, ensure_ascii=False).encode(errors="replace")
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            COMMAND,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for this process: it decides what is done
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return None, _read(error.stdout or b"")
    return done.returncode, _read(done.stdout)


def _environment() -> dict[str, str]:
    """The packages that this process has, and what Python needs."""
    needed = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    return {**needed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _read(output: bytes) -> list[_Answer]:
    """The answers; one that was cut off is none."""
    lines = [line for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
    return [
        _Answer(found["holds"], tuple(found["changes"]), found.get("error", ""))
        for found in map(json.loads, lines)
    ]


def _why(status: int | None, seconds: float) -> str:
    """Why a rule has no answer."""
    if status is None or status == -signal.SIGXCPU:
        return f"It takes longer than {seconds:.0f} seconds"
    return f"It takes too much memory, or breaks the engine (exit status {status})"


def _no_engine(rule: Rule) -> Diagnostic:
    detail = "Rules need one more package: pip install 'reconciler[policy]'. Without it nothing is planned."
    return problem("Rules that can't be evaluated", detail, rule.source, path="policy")
