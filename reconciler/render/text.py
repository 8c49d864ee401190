"""Plans, drift, results and diagnostics as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, Final, Literal

from reconciler.core.danger import dangers, dangers_outside
from reconciler.core.diff import present, shield
from reconciler.core.diff import resolved as fields_of
from reconciler.core.graph import Action
from reconciler.core.groups import folded, groups, large
from reconciler.core.outcome import Status
from reconciler.core.values import ROOT, accounts, address, dotted, leaves
from reconciler.render.jsondoc import ORDER, variables_in
from reconciler.render.safe import terminal, value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reconciler.core.configuration import Declared
    from reconciler.core.danger import Danger
    from reconciler.core.diff import FieldChange
    from reconciler.core.drift import Accepted, Drift, Unmanaged
    from reconciler.core.effects import Effect
    from reconciler.core.groups import Group
    from reconciler.core.live import LiveAccount
    from reconciler.core.outcome import Outcome, Result
    from reconciler.core.plan import Change, Plan
    from reconciler.core.saved import SavedPlan
    from reconciler.core.state import State
    from reconciler.core.values import Diagnostic, Key
    from reconciler.core.variables import Variable

Paint = Callable[[str, str], str]
"""(style, text) -> text; the styles are those of `_ANSI`."""

Tense = Literal["planned", "outside"] | Status
"""What a dangerous change is: planned, made outside, or what became of it."""

_ANSI: Final = {
    "add": "\x1b[32m",
    "change": "\x1b[33m",
    "remove": "\x1b[31m",
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
}
_SIGNS: Final = {"add": "+", "change": "~", "remove": "-"}
DONE: Final = {
    Action.CREATE: "created",
    Action.ADOPT: "adopted",
    Action.MOVE: "moved",
    Action.PROMOTE: "promoted",
    Action.DEMOTE: "demoted",
    Action.UPDATE: "updated",
    Action.FORGET: "forgotten",
    Action.DELETE: "deleted",
}
_STYLE: Final = {Action.CREATE: "add", Action.DELETE: "remove", Action.DEMOTE: "remove"}
_COUNTED: Final = (
    Action.CREATE,
    Action.PROMOTE,
    Action.UPDATE,
    Action.DEMOTE,
    Action.MOVE,
    Action.DELETE,
)
NOT_REFRESHED: Final = "Not refreshed: what was changed outside since the last apply is not known."
_AFTER_DRIFT: Final = (
    "`reconciler plan` shows what an apply would set back; `reconciler drift --accept` takes it into the"
    " YAML instead."
)
_AFFECTED: Final[Mapping[Effect, str]] = {
    "service": "service",
    "emergency": "emergency calls",
    "privacy": "privacy",
    "money": "money",
    "cosmetic": "cosmetic details",
}
_RESELLERS: Final = 10
"""Resellers that the line of a group names."""

_WIDTH: Final = 50
_WIDE: Final = 80


def plain(_style: str, text: str) -> str:
    """No colour."""
    return text


def coloured(style: str, text: str) -> str:
    """Colour as terminals know it."""
    return f"{_ANSI[style]}{text}\x1b[0m"


def plan(plan: Plan, paint: Paint, *, unmanaged: bool = False, fold: bool = True) -> str:
    """A plan: what was left open, each change with its fields, what is refused or dangerous, the sum.

    `fold`: tell what many accounts have in common once.
    """
    lines = [f"  {address(u.key)}: {terminal(u.detail)}" for u in plan.unfinished if not u.doubtful]
    if lines:
        lines = [
            paint("bold", "Left open by a run that was interrupted, or is still at it:"),
            *lines,
            "",
        ]
    told = large(groups(plan.changes)) if fold else ()
    left_out = folded(plan.changes, told, dangers(plan))
    lines += _folded(told, len(left_out), paint) if left_out else ()
    for change in plan.changes:
        if change.key in left_out:
            continue
        lines += _change(change, paint)
        if unmanaged and change.declared is not None and change.live is not None:
            lines += _unmanaged(change.declared, change.live, paint)
    for declared, live in plan.untouched if unmanaged else ():
        if found := list(_unmanaged(declared, live, paint)):
            lines += [
                f"  {f'{address(declared.key)} ({terminal(live.name)})':<{_WIDTH}} is as declared",
                *found,
            ]
    temporary = sorted(
        {o.key for o in plan.operations if o.temporary and o.action is Action.DEMOTE}
    )
    for key in temporary:
        lines.append(f"  {address(key)} will be demoted and promoted again (temporary)")
    lines += known_drift(plan.known, paint)
    lines += _summary(plan, paint)
    return "\n".join(lines) + "\n"


def _folded(told: Sequence[Group], left_out: int, paint: Paint) -> Iterator[str]:
    """What many accounts have in common, and of how many of them nothing else is to be told."""
    yield from (paint(found.field.op, f"  {group(found)}") for found in told)
    yield paint("dim", f"  {accounts(left_out)} with no other change: --show-all lists each.")


def group(group: Group, *, note: bool = True) -> str:
    """`~ settings.language: "en-us" -> "fr-fr" on 412 accounts (acme 300, globex 112)`."""
    shown = list(group.resellers.items())[:_RESELLERS]
    names = [f"{terminal(key)} {count}" for key, count in shown]
    more = len(group.resellers) - len(shown)
    names += [f"{more} more"] if more else []
    outside = "  (changed outside)" if note and group.field.drift else ""
    return f"{leaf(group.field)} on {accounts(len(group.keys))} ({', '.join(names)}){outside}"


def effects(plan: Plan) -> str:
    """Whom a plan reaches, in one sentence: `Affects service of 418 accounts under 3 resellers.`; or ""."""
    parts = []
    for effect, found in plan.effects.items():
        under = "1 reseller" if found.resellers == 1 else f"{found.resellers} resellers"
        where = f" under {under}" if found.resellers else ""
        parts.append(f"{_AFFECTED[effect]} of {accounts(found.accounts)}{where}")
    return f"Affects {', '.join(parts)}." if parts else ""


def _summary(plan: Plan, paint: Paint) -> Iterator[str]:
    """The end of a plan: whatever its length, what matters most stands there."""
    if plan.refusals:
        yield from ("", paint("bold", "Refused:"))
        for refusal in plan.refusals:
            yield paint("remove", f"  {refusal.rule}: {terminal(refusal.detail)}")
    yield from _dangers(dangers(plan), plan.changes, "planned", paint)
    if plan.changes:
        yield paint("bold", sums(plan))
        if affected := effects(plan):
            yield affected
    elif not plan.refusals:
        yield sums(plan)
    if not plan.refreshed:
        yield NOT_REFRESHED


def sums(plan: Plan) -> str:
    """A plan in one sentence."""
    if not plan.changes:
        known = f", {len(plan.known)} of them but for known drift" if plan.known else ""
        match = "matches its declaration" if plan.unchanged == 1 else "match their declarations"
        return f"No changes. {accounts(plan.unchanged)} {match}{known}."
    return f"Plan: {', '.join(f'{plan.count(action)} to {action}' for action in ORDER)}."


def _dangers(
    found: Sequence[Danger], changes: Iterable[Change], tense: Tense, paint: Paint
) -> Iterator[str]:
    names = {change.key: change.name for change in changes}
    if found:
        yield from ("", paint("bold", "Dangerous:"))
    for one in found:
        yield paint("remove", f"  {danger(one, names, tense)}")


def danger(danger: Danger, names: Mapping[Key, str], tense: Tense) -> str:
    """One dangerous change, in a line of its own."""
    label = address(danger.key)
    if danger.key in names:
        label += f" ({terminal(names[danger.key])})"
    return f"{label}: {harm(danger, tense)}"


def harm(danger: Danger, tense: Tense) -> str:
    """What a dangerous change does, without the account."""
    if danger.field is not None:
        noted = {"planned": "", "outside": "  (changed outside)"}.get(tense, f"  ({tense})")
        return leaf(danger.field) + noted
    done = DONE[Action(danger.what)]
    if tense == "planned":
        return f"will be {done}{' and promoted again (temporary)' if danger.temporary else ''}"
    if danger.temporary:
        done += " (temporary)"
    words = {"outside": f"was {done} outside", "done": f"was {done}"}
    return words.get(tense, f"was to be {done}: {tense}")


def made(saved: SavedPlan) -> str:
    """Where a saved plan comes from."""
    state = f"state {saved.lineage}, serial {saved.serial}" if saved.lineage else "no state yet"
    lines = [
        f"Saved plan, made {saved.created.isoformat()} by {saved.tool}.",
        f"For {saved.endpoint}, root account {saved.root}, {state}.",
        f"Configuration {saved.configuration}.",
    ]
    if saved.targets:
        lines.append(f"Only {', '.join(saved.targets)}.")
    if saved.allow:
        allowed = (
            k.replace(".", "=") if k.startswith("protect.") else f"{k}={v}"
            for k, v in sorted(saved.allow.items())
        )
        lines.append(f"Allowed: {', '.join(allowed)}.")
    return "".join(f"{terminal(line)}\n" for line in lines)


def drift(found: Drift, paint: Paint) -> str:
    """What was changed outside: applied -> live."""
    lines: list[str] = []
    for change in found.changes:
        lines += _outside(change, paint)
        lines += [paint("dim", f"      {line}") for line in traces(change)]
    if found.unmanaged:
        lines += [paint("bold", "Nobody manages:")]
        lines += [paint("add", f"  + {stranger(one)}") for one in found.unmanaged]
    lines += known_drift(found.known, paint)
    lines += _dangers(dangers_outside(found.changes), found.changes, "outside", paint)
    total = drift_sums(found)
    lines.append(paint("bold", total) if found.found else total)
    lines += [_AFTER_DRIFT] if found.changes else []
    return "\n".join(lines) + "\n"


def _outside(change: Change, paint: Paint) -> Iterator[str]:
    label = f"{change.address} ({terminal(change.name)})"
    yield f"  {paint('bold', f'{label:<{_WIDTH}}')} {change.reason.removeprefix('it ')}"
    yield from (_field(field, paint, note=False) for field in change.fields)


def traces(change: Change) -> Iterator[str]:
    """When it was changed, as far as the platform tells; it never tells by whom."""
    record, live = change.record, change.live
    if record is None:
        return
    applied = f"applied {record.updated_at}" if record.updated_at else "never applied"
    if live is None:
        yield terminal(f"revision {_short(record.etag)}, {applied}")
    else:
        request = f"; read by request {live.request_id}" if live.request_id else ""
        now = f"now {_short(live.revision)}{request}"
        yield terminal(f"revision {_short(record.etag)}, {applied}; {now}")


def _short(revision: str) -> str:
    """A revision as far as people need it: the number, and a bit of what tells it from others."""
    number, dash, rest = revision.partition("-")
    return f"{number}{dash}{rest[:6]}"


def stranger(found: Unmanaged) -> str:
    """An account that nobody manages, in a line."""
    account = found.account
    realm = account.document.get("realm", "")
    made = f", created {account.created_at}" if account.created else ""
    rank = ", reseller" if account.reseller else ""
    return terminal(
        f"{account.id} ({account.name}) below {found.parent}: realm {realm}{rank}{made}"
    )


def known_drift(changes: Sequence[Change], paint: Paint) -> Iterator[str]:
    """What is known to have been changed outside, and is left alone."""
    if changes:
        yield paint("bold", "Known drift, left alone:")
    for change in changes:
        for field in change.known or change.fields:
            yield paint("dim", f"  {known_line(change, field)}")


def known_line(change: Change, field: FieldChange) -> str:
    """One leaf of known drift, with the reason and the end of it."""
    until = f"  (until {field.known.until}: {field.known.reason})" if field.known else ""
    return f"{change.address} ({terminal(change.name)}): {leaf(field)}{terminal(until)}"


def accepted(found: Sequence[Accepted]) -> str:
    """What the YAML says by now, a line each."""
    return "".join(
        f"{address(one.key)}: {leaf(one.field)}  ({terminal(str(one.source))})\n" for one in found
    )


def drift_sums(found: Drift) -> str:
    """What was changed outside, in one sentence."""
    changed, unchanged = len(found.changes), len(found.unchanged)
    only = {change.key for change in found.known} - {change.key for change in found.changes}
    known = f", {len(only)} with known drift alone" if only else ""
    if not found.found:
        same = "is as it was applied" if unchanged == 1 else "are as they were applied"
        return f"No drift. {accounts(unchanged)} {same}{known}."
    more = f", {len(found.unmanaged)} that nobody manages" if found.unmanaged else ""
    return f"Drift: {accounts(changed)} changed outside, {unchanged} unchanged{known}{more}."


def outcome(plan: Plan, outcome: Outcome, paint: Paint) -> str:
    """What came of an apply: what went wrong, and the sum."""
    lines = [
        paint("remove", f"  {address(result.key)}: {failure(result)}")
        for result in outcome.results
        if result.status != "done"
    ]
    lines.append(paint("bold", outcome_sums(plan, outcome)))
    lines += _what_next(outcome)
    return "\n".join(lines) + "\n"


def _what_next(outcome: Outcome) -> Iterator[str]:
    """What to do after an apply that did not do everything."""
    statuses = {result.status for result in outcome.results}
    if outcome.signal is not None:
        yield f"Interrupted by {Signals(outcome.signal).name}: nothing more was begun."
    if outcome.unsaved:
        yield f"Not all of this could be recorded in state: {terminal(outcome.unsaved)}"
        yield "Apply again when that is mended: it finds out what was done, and goes on from there."
        return
    if statuses & {"failed", "stale"}:
        yield "What went wrong is said above, with what to do about it."
    if not outcome.succeeded:
        done = "State says what was done" if outcome.sent else "Nothing was sent"
        yield f"{done}: a new plan and apply go on from here."


def outcome_sums(plan: Plan, outcome: Outcome) -> str:
    """What came of an apply, in one sentence.

    Counted is what the plan counts: not the calls that a create or another promotion needs.
    """
    planned = {change.key: change.actions for change in plan.changes}
    done = [r for r in outcome.results if r.status == "done" and r.action in planned.get(r.key, ())]
    counts = [f"{sum(r.action is action for r in done)} {DONE[action]}" for action in _COUNTED]
    failed = sum(result.status in ("failed", "stale") for result in outcome.results)
    skipped = sum(result.status == "skipped" for result in outcome.results)
    word = "complete" if outcome.succeeded else "incomplete"
    tail = f", {skipped} skipped" if skipped else ""
    return f"Apply {word}: {', '.join(counts)}, {failed} failed{tail}."


def failure(result: Result) -> str:
    """What went wrong with an operation, and how its request is called in the platform's logs."""
    request = (
        f" (request {terminal(result.request_id)})"
        if result.request_id and result.request_id not in result.error
        else ""
    )
    return f"{result.action}: {result.status}: {terminal(result.error)}{request}"


def step(result: Result) -> str:
    """One line for an operation that ended."""
    if result.status != "done":
        return f"{address(result.key)}: {failure(result)}"
    word = f"{DONE[result.action]}{' (temporary)' if result.temporary else ''}"
    return f"{address(result.key)}: {word}{f' ({result.id})' if result.id else ''}"


def resolved(declared: Declared, variables: Mapping[str, Variable]) -> str:
    """An account as it is declared, all layers merged: a line a leaf, and where its value comes from."""
    fields = fields_of(declared)
    texts = [f"  {terminal(dotted(field.path))}: {value(field.after)}" for field in fields]
    width = min(max(map(len, texts), default=0), _WIDE)
    lines = [
        f"{text:<{width}}  # {_from(field, variables)}"
        for text, field in zip(texts, fields, strict=True)
    ]
    known = f", id {declared.id}" if declared.id else ""
    return "\n".join([f"{declared.address}, below {declared.parent}{known}", *lines]) + "\n"


def _from(field: FieldChange, variables: Mapping[str, Variable]) -> str:
    """`accounts/acme.yaml:9: template retail`; of a variable also where it is declared, and what gave it."""
    place = f"{field.source.file}:{field.source.line}: " if field.source else ""
    given = "".join(
        f"; {name} of {variable.source.file}:{variable.source.line}, given by {variable.given_by}"
        for name in variables_in(field.origin)
        if (variable := variables[name]).source is not None
    )
    return terminal(f"{place}{field.origin}{given}")


def diagnostic(found: Diagnostic) -> str:
    """`file:line:column: address: field: what was found, what is allowed, what to do`."""
    place = [str(found.source)] if found.source else []
    if found.severity == "warning":
        place.append("warning")
    place += [part for part in (found.address, found.path) if part]
    if not found.path:
        place.append(found.summary)
    return terminal(": ".join([*place, found.detail]))


def tree(plan: Plan, paint: Paint, *, fold: bool = True) -> str:
    """The changes on the tree of their parents, for a terminal. Empty if nothing changes.

    `fold`: of accounts that groups tell all of, only their number stands below their parent, unless
    something else stands below them.
    """
    parents = {change.key: change.parent for change in plan.changes}
    told = large(groups(plan.changes)) if fold else ()
    left_out = folded(plan.changes, told, dangers(plan))
    shown = _with_those_above((parents.keys() - left_out) | {*parents.values()}, parents)
    below: dict[str, list[str]] = {}
    for key in sorted(shown):
        below.setdefault(parents[key], []).append(key)
    alike = Counter(parent for key, parent in parents.items() if key not in shown)
    tops = sorted({parent for parent in parents.values() if parent not in parents})
    branches = _Branches(below, {change.key: change for change in plan.changes}, alike, paint)
    lines: list[str] = []
    for top in tops:
        lines.append(paint("dim", ROOT if top == ROOT else terminal(address(top))))
        lines += branches.under(top, "", frozenset())
    return "\n".join(lines) + "\n" if lines else ""


def _with_those_above(keys: AbstractSet[Key], parents: Mapping[Key, Key]) -> set[Key]:
    """The keys, and those above them as far as something happens to them."""
    found: set[Key] = set()
    for key in keys:
        above = key
        while above in parents and above not in found:
            found.add(above)
            above = parents[above]
    return found


@dataclass(frozen=True, slots=True)
class _Branches:
    """The lines of a tree. `alike`: how many accounts below each are told elsewhere."""

    below: Mapping[Key, list[Key]]
    changes: Mapping[Key, Change]
    alike: Mapping[Key, int]
    paint: Paint

    def under(self, top: Key, indent: str, above: frozenset[Key]) -> Iterator[str]:
        keys = [key for key in self.below.get(top, []) if key not in above]
        more = self.alike.get(top, 0)
        for index, key in enumerate(keys):
            last = index == len(keys) - 1 and not more
            change = self.changes[key]
            words = ", ".join(DONE[action] for action in change.actions)
            words = self.paint(_STYLE.get(change.actions[0], "change"), words)
            yield f"{indent}{'└── ' if last else '├── '}{key} ({terminal(change.name)})  {words}"
            yield from self.under(key, indent + ("    " if last else "│   "), above | {top})
        if more:
            yield f"{indent}└── {self.paint('dim', f'{accounts(more)} as told below')}"


def state(state: State) -> str:
    """The accounts in state, a line each."""
    lines = [
        f"  {address(key):<{_WIDTH}} {record.id}" for key, record in sorted(state.accounts.items())
    ]
    lines.append(
        f"{accounts(len(lines))}. Lineage {state.lineage or '(none yet)'}, serial {state.serial}."
    )
    return "\n".join(lines) + "\n"


def _change(change: Change, paint: Paint) -> Iterator[str]:
    words = ", ".join(DONE[action] for action in change.actions)
    label = f"{change.address} ({terminal(change.name)})"
    style = _STYLE.get(change.actions[0], "change")
    again = change.drift and Action.CREATE in change.actions
    why = f"  ({change.reason})" if again else ""
    yield f"  {paint('bold', f'{label:<{_WIDTH}}')} will be {paint(style, words)}{why}"
    for field in change.fields:
        yield _field(field, paint, note=True)


def _field(field: FieldChange, paint: Paint, *, note: bool) -> str:
    outside = "  (changed outside)" if note and field.drift else ""
    return paint(field.op, f"    {leaf(field)}") + outside


def leaf(field: FieldChange) -> str:
    """One leaf that changes: `~ settings.timezone: "Europe/Rome" -> "Europe/Paris"`."""
    before, after = value(field.before), value(field.after)
    text = {"add": after, "change": f"{before} -> {after}", "remove": before}[field.op]
    return f"{_SIGNS[field.op]} {terminal(dotted(field.path))}: {text}"


def _unmanaged(declared: Declared, live: LiveAccount, paint: Paint) -> Iterator[str]:
    """The live leaves that nobody declared."""
    managed = {path for path, _ in leaves(declared.block)}
    for path, found in sorted(leaves(live.block)):
        if path not in managed and present(found):
            shown = value(shield(found))
            yield paint("dim", f"      {terminal(dotted(path))}: {shown}  (not managed)")
