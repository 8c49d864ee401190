"""Plans, outcomes and drift of any size, with any texts in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, Literal

from reconciler.core.diff import FieldChange
from reconciler.core.drift import Drift, Unmanaged
from reconciler.core.graph import Action
from reconciler.core.known import Known
from reconciler.core.live import LiveAccount
from reconciler.core.outcome import Outcome, Result
from reconciler.core.plan import Change, Plan
from reconciler.core.reach import Reached
from reconciler.core.safety import Refusal
from reconciler.core.state import AccountRecord, State
from reconciler.core.values import ABSENT, AccountId, Diagnostic, Source
from reconciler.render import report

if TYPE_CHECKING:
    from reconciler.core.diff import Side
    from reconciler.core.effects import Effect
    from reconciler.render.report import Report

ROOT: Final = AccountId("r")
MADE: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

HOSTILE: Final = (
    "[/x]", "<script>alert(1)</script>", "</details></summary>", "a|b", "`", "``` \n```\n# x", "~~~",
    "@team", "#123", "https://evil.example/", "www.evil.example", "a@evil.example", "x\n\n# Title\n",
    "::error::x", "\n::error file=a::x", "##[error]x", "##vso[x]y", "<!-- ", "-->", "]]>", "&lt;&#60;",
    "\x1b[31m", "\u202egnp.exe", "\u2066", "\ufffe\uffff\x00\x0b", "\ud800", "\\", "\\`", "*x* _y_ [a](b)",
    "![i](https://evil.example/i.png)", "<img src=x onerror=x>", "' onload='x", '" onload="x', " ", "",
    "$x^2$", ":tada:", "<style>*{}", "</style>", "<![CDATA[", "<?x?>", "\t", "- x", "1. x", "> x",
)  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """What comes from outside."""

    name: str = "x"
    value: Side = "x"
    path: str = "x"
    detail: str = "x"


Kind = Literal["create", "update", "delete"]


def a_change(key: str, texts: Texts, kind: Kind = "update", parent: str = "root") -> Change:
    fields = {
        "create": (FieldChange(("settings", texts.path), "add", ABSENT, texts.value),),
        "update": (
            FieldChange(("settings", texts.path), "change", texts.value, texts.value),
            FieldChange(("settings", "enabled"), "change", True, False, drift=True),
            FieldChange(("settings", "caller_id", "emergency"), "change", ABSENT, texts.value),
        ),
        "delete": (),
    }[kind]
    known = None if kind == "create" else AccountId(key)
    actions = (Action(kind),)
    return Change(key, known, texts.name, parent, actions, fields, texts.detail, None, None, None)


def a_state(keys: list[str], texts: Texts) -> State:
    """All accounts stand below the first, which is a reseller."""
    accounts = {
        key: AccountRecord(
            AccountId(key),
            AccountId(keys[0]) if number else ROOT,
            number == 0,
            {"settings": {"name": texts.name}},
            {},
            "",
            "",
        )
        for number, key in enumerate(keys)
    }
    return State("l", 7, "t", "sandbox:", ROOT, "00" * 32, accounts)


def a_plan(*changes: Change, texts: Texts, refused: int = 0) -> Plan:
    state = a_state([change.key for change in changes], texts)
    refusals = tuple(Refusal("max_delete", texts.detail) for _ in range(refused))
    found = Diagnostic(
        "warning", "A warning", texts.detail, "accounts.a", texts.path, Source("f", 1, 1)
    )
    return Plan(
        state, ROOT, "Root", changes, (), (), refusals, 3, diagnostics=(found,), digest="sha256:a_b"
    )  # fmt: skip


def three(texts: Texts) -> tuple[Change, ...]:
    return (
        a_change("a", texts),
        a_change("b", texts, "create", "a"),
        a_change("c", texts, "delete", "a"),
    )


def planned(texts: Texts, *, refused: int = 1) -> Report:
    return report.of_plan(a_plan(*three(texts), texts=texts, refused=refused), MADE)


def applied(texts: Texts) -> Report:
    results = (
        Result(1, "a", Action.UPDATE, "failed", None, texts.detail, texts.name),
        Result(2, "b", Action.CREATE, "skipped", None, texts.detail),
        Result(3, "c", Action.DELETE, "done"),
    )
    plan = a_plan(*three(texts), texts=texts)
    return report.of_plan(plan, MADE, command="apply", outcome=Outcome(results, sent=True))


def alike(texts: Texts, count: int = 12) -> Report:
    """So many accounts under three resellers of which the same changes, and three with more to tell."""
    changes = [
        Change(
            f"s{n:05}", AccountId(f"s{n:05}"), texts.name, "a", (Action.UPDATE,),
            (FieldChange(("settings", "org", texts.path), "change", texts.value, texts.value),),
            texts.detail, None, None, None, top=f"r{n % 3}",
        )
        for n in range(count)
    ]  # fmt: skip
    effects: dict[Effect, Reached] = {"service": Reached(418, 3), "cosmetic": Reached(count, 3)}
    plan = replace(a_plan(*three(texts), *changes, texts=texts, refused=1), effects=effects)
    return report.of_plan(plan, MADE)


def drifted(texts: Texts) -> Report:
    changes = [replace(change, reason="it was deleted outside") for change in three(texts)]
    entry = Known("e", ("settings",), texts.detail, date(2026, 12, 31), Source("f", 1, 1))
    held = a_change("e", texts)
    known = replace(held, fields=tuple(replace(f, known=entry) for f in held.fields[:1]))
    stranger = LiveAccount(
        AccountId("f" * 32),
        ROOT,
        {"name": texts.name, "realm": texts.value if isinstance(texts.value, str) else "x"},
        True,
        texts.detail,
    )
    found = Drift(
        a_state(["a", "b", "c", "d", "e"], texts),
        tuple(changes),
        ("d",),
        (known,),
        (Unmanaged(stranger, texts.name),),
    )
    return report.of_drift(found, MADE)


def large(count: int, texts: Texts, *, per_reseller: int = 10, odd: int = 3) -> Report:
    """So many changes under resellers, a danger or two in most; `odd`: refusals and warnings."""
    kinds: tuple[Kind, ...] = ("update", "create", "delete")
    changes = [
        a_change(f"a{n:06}", texts, kinds[n % 3], f"a{n - n % per_reseller:06}" if n % per_reseller else "root")
        for n in range(count)
    ]  # fmt: skip
    plan = a_plan(*changes, texts=texts, refused=odd)
    ranks = {
        key: replace(record, reseller=int(key[1:]) % per_reseller == 0)
        for key, record in plan.state.accounts.items()
    }
    plan = replace(
        plan, state=replace(plan.state, accounts=ranks), diagnostics=plan.diagnostics * odd
    )
    return report.of_plan(plan, MADE)
