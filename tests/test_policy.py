"""Rules are untrusted text: what they may take is bounded, and what fails refuses."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reconciler import policy
from reconciler.cel import Engine, answer, told
from reconciler.core.configuration import Rule
from reconciler.core.values import Source

from .render.plans import Texts, a_change, a_plan, three

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.plan import Plan

ENDLESS = "[plan]" + ".map(x, [x, x])" * 25 + " == [plan]" + ".map(x, [x, x])" * 25
"""Two values of 2²⁵ parts, which take no room and long to compare."""


def a_rule(when: str, name: str = "r", *, denies: bool = True) -> Rule:
    return Rule(name, when, "the text", denies, Source("reconciler.yaml", 3, 5))


def refusals(plan: Plan, *rules: Rule) -> dict[str, str]:
    return {r.rule: r.detail for r in policy.check(plan, rules).refusals}


@pytest.fixture
def plan() -> Plan:
    return a_plan(*three(Texts()), texts=Texts())


def test_without_rules_no_process_is_started(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "COMMAND", ("/nowhere",))
    assert policy.check(plan, ()) is plan
    assert policy.problems(()) == []


def test_a_rule_that_would_never_end_refuses_and_so_do_those_after_it(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_SECONDS", 3.0)
    began = time.monotonic()
    found = refusals(
        plan, a_rule("false", "before"), a_rule(ENDLESS, "endless"), a_rule("false", "after")
    )
    assert time.monotonic() - began < 15
    assert found.keys() == {"endless", "after"}
    assert "longer than 3 seconds" in found["endless"]
    assert "did not end" in found["after"]


def test_a_rule_that_takes_all_memory_refuses(plan: Plan) -> None:
    text = '["0123456789"]' + ".map(x, x + x)" * 29
    assert "could not be evaluated" in refusals(plan, a_rule(f"size({text}[0]) > 1"))["r"]


def test_a_rule_over_too_many_elements_says_how_to_write_it() -> None:
    changes = [a_change(f"a{n:05}", Texts()) for n in range(10_001)]
    plan = a_plan(*changes, texts=Texts())
    found = refusals(
        plan, a_rule("plan.changes.exists(c, c.name == 'y')"), a_rule("change.name == 'x'", "each")
    )
    assert "about `change`" in found["r"]
    assert found["each"].startswith("accounts.a00000, accounts.a00001, ")
    assert found["each"].endswith("(10001 in all): the text")


def test_a_refusal_about_one_account_knows_it(plan: Plan) -> None:
    [about] = policy.check(plan, [a_rule("change.address == 'accounts.b'")]).refusals
    assert (about.key, about.detail) == ("b", "accounts.b: the text")
    [whole] = policy.check(plan, [a_rule("size(plan.changes) == 3")]).refusals
    assert (whole.key, whole.detail) == (None, "the text")


def test_a_variable_of_a_macro_may_be_called_change(plan: Plan) -> None:
    assert refusals(plan, a_rule("plan.changes.all(change, change.name == 'x')")) == {
        "r": "the text"
    }


def test_a_rule_about_a_change_sees_the_head_of_the_plan_and_no_lists(plan: Plan) -> None:
    head = a_rule("plan.summary.create == 1 && plan.serial == 7 && change.address == 'accounts.a'")
    assert refusals(plan, head) == {"r": "accounts.a: the text"}
    assert "could not be evaluated" in refusals(plan, a_rule("change.name in plan.changes"))["r"]


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("plan.summary.create == 1.0", True), ("plan.summary.create > 0.5", True), ("plan.serial / 2 == 3", True),
        ("size('é😀') == 2", True), ("plan.changes.exists_one(c, c.id == null)", True),
        ("has(plan.changes[0].id) && !has(plan.changes[0].nope)", True), ("plan.nope == 1 || true", True),
        ("false && plan.nope == 1", False), ("[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]", True),
        ("'a.b'.matches('^a[.]b$')", True), ("'update' in plan.changes[0].actions", True),
    ],
)  # fmt: skip
def test_expressions_mean_what_the_language_says(plan: Plan, when: str, holds: bool) -> None:
    assert bool(refusals(plan, a_rule(when))) == holds


def test_half_a_surrogate_pair_in_a_name_breaks_no_rule() -> None:
    plan = a_plan(a_change("a", Texts(name="\ud800")), texts=Texts())
    assert refusals(plan, a_rule("change.name == '?'")) == {"r": "accounts.a: the text"}


def test_the_other_process_has_no_credentials_and_takes_nothing_from_the_working_directory(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("cel_expr_python", "json", "reconciler"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert refusals(plan, a_rule("true")) == {"r": "the text"}

    monkeypatch.setenv("VINIX_API_KEY", "s3cret-canary")
    script = "import os, sys; sys.exit(len([n for n in os.environ if n.startswith('VINIX')]))"
    monkeypatch.setattr(policy, "COMMAND", (sys.executable, "-c", script))
    assert "exit status 0" in refusals(plan, a_rule("true"))["r"]


def test_a_crash_of_the_engine_refuses(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    assert policy.check(plan, [a_rule("false")]).refusals[0].detail.endswith("(exit status -6).")
    monkeypatch.setattr(policy, "COMMAND", (sys.executable, "-c", "print('{\"hol', end='')"))
    assert "could not be evaluated" in refusals(plan, a_rule("false"))["r"]


def test_a_plan_that_is_refused_already_keeps_its_refusals(plan: Plan) -> None:
    refused = a_plan(*plan.changes, texts=Texts(), refused=1)
    assert [r.rule for r in policy.check(refused, [a_rule("true")]).refusals] == ["max_delete", "r"]


def test_deep_and_odd_expressions_are_told_and_break_nothing() -> None:
    engine = Engine()
    for when in (
        "(" * 2000 + "1" + ")" * 2000,
        "1" + " + 1" * 2000,
        "'\x00'",
        "a" * 9999,
    ):
        assert answer(engine, when, None)["error"]
    assert "\n" not in told("ERROR: <input>:1:5: a\n | x\nERROR: <input>:2:1: b")


def test_numbers_that_json_has_and_cel_has_not_refuse(plan: Plan) -> None:
    change = replace(plan.changes[0], name="x")
    fields = (replace(change.fields[0], after=2**70),)
    huge = a_plan(replace(change, fields=fields), texts=Texts())
    assert "could not be evaluated" in refusals(huge, a_rule("change.fields[0].after > 3"))["r"]
