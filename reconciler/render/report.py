"""What a report tells, whatever its format: the outcome of a plan, an apply or a search for drift.

A report is a page for people who were not there, so it also says when it was made, and sets each
account into the tree of resellers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from reconciler.core.danger import dangers, dangers_outside
from reconciler.core.graph import Action
from reconciler.core.groups import folded, groups, large
from reconciler.core.values import ROOT, Diagnostic, Key, address, value_at
from reconciler.render.safe import terminal
from reconciler.render.text import (
    DONE,
    NOT_REFRESHED,
    danger,
    diagnostic,
    drift_sums,
    effects,
    failure,
    group,
    harm,
    known_line,
    leaf,
    outcome_sums,
    stranger,
    sums,
    traces,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from reconciler.core.danger import Danger
    from reconciler.core.drift import Drift
    from reconciler.core.groups import Group
    from reconciler.core.outcome import Outcome, Result, Status
    from reconciler.core.plan import Change, Plan
    from reconciler.core.safety import Refusal
    from reconciler.core.state import State
    from reconciler.render.text import Tense

Verdict = Literal["unchanged", "known", "changed", "done", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Node:
    """An account in the tree. `parent`: its key, `root`, or an id where it has no key."""

    key: Key
    name: str
    parent: str
    reseller: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One thing about an account.

    `op`: what happens to a field; `error`: what kept that from it; `note`: what else is to be known.
    """

    op: Literal["add", "change", "remove", "error", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """One dangerous change. `kind`: what it is, in words that many share: `delete`, `delete (failed)`.

    `leaf`: the field that changes, "" if it is about none; `text`: all of it. Both are safe.
    """

    key: Key
    kind: str
    leaf: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An account that was looked at. `kinds`: the words that it can be found by; all texts are safe.

    `folded`: all that is to be told of it, the report's groups tell.
    """

    node: Node
    verdict: Verdict
    words: str
    kinds: tuple[str, ...]
    lines: tuple[Line, ...]
    folded: bool = False

    @property
    def label(self) -> str:
        """Address and name."""
        return f"{address(self.node.key)} ({terminal(self.node.name)})"


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells.

    `headline`: the whole in one sentence. `digest`: of the plan, "" if there is nothing to apply.
    `unmanaged` and `known`: accounts that nobody manages, and drift that is known, a line each.
    `dangers`, the gravest first, and `errors`: to be read first. `effects`: whom it reaches, in one
    sentence. `groups`: what many accounts have in common, a line each. `entries`: in order of key.
    `nodes`: all accounts that are known of, those that were not looked at too.
    """

    command: str
    made: datetime
    headline: str
    effects: str = ""
    notes: tuple[str, ...] = ()
    digest: str = ""
    dangers: tuple[Alarm, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    errors: tuple[str, ...] = ()
    unmanaged: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    groups: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    nodes: Mapping[Key, Node] = field(default_factory=dict)

    @property
    def changed(self) -> tuple[Entry, ...]:
        """The accounts that something is done to, or was."""
        quiet = ("unchanged", "known")
        return tuple(entry for entry in self.entries if entry.verdict not in quiet)


def of_plan(
    plan: Plan, made: datetime, *, command: str = "plan", outcome: Outcome | None = None
) -> Report:
    """What would change; with `outcome`, what became of it."""
    remembered = _remembered(plan.state)
    changed = {change.key: _node_of(change, remembered) for change in plan.changes}
    quiet = {
        declared.key: Node(declared.key, live.name, declared.parent, live.reseller)
        for declared, live in plan.untouched
    }
    if outcome is None:
        entries = [_planned(change, changed[change.key]) for change in plan.changes]
    else:
        entries = _outcomes(plan, outcome, changed)
    told, found = large(groups(plan.changes)), dangers(plan)
    entries = _folded(entries, plan.changes, told, found)
    tenses = _became(found, outcome)
    return Report(
        command=command,
        made=made,
        headline=_headline(plan, command, outcome),
        effects=effects(plan),
        notes=tuple(_notes(plan)),
        digest=plan.digest if plan.changes and not plan.refusals else "",
        dangers=_alarms(found, plan.changes, tenses),
        refusals=plan.refusals,
        known=_known_lines(plan.known),
        errors=_errors(outcome.results) if outcome else (),
        diagnostics=plan.diagnostics,
        groups=tuple(map(group, told)),
        entries=_sorted([*map(_unchanged, quiet.values()), *entries]),
        nodes=remembered | quiet | changed,
    )


def of_drift(found: Drift, made: datetime) -> Report:
    """What was changed outside since the last apply."""
    nodes = _remembered(found.state)
    changed = {change.key for change in found.changes}
    entries = [_unchanged(nodes[key]) for key in found.unchanged]
    told, dangerous = large(groups(found.changes)), dangers_outside(found.changes)
    drifted = [_drifted(change, nodes[change.key]) for change in found.changes]
    entries += _folded(drifted, found.changes, told, dangerous)
    entries += [_known(c, nodes[c.key]) for c in found.known if c.key not in changed]
    return Report(
        command="drift",
        made=made,
        headline=drift_sums(found),
        dangers=_alarms(dangerous, found.changes, ["outside"] * len(dangerous)),
        unmanaged=tuple(map(stranger, found.unmanaged)),
        known=_known_lines(found.known),
        diagnostics=found.diagnostics,
        groups=tuple(group(one, note=False) for one in told),
        entries=_sorted(entries),
        nodes=nodes,
    )


def _folded(
    entries: Iterable[Entry],
    changes: Sequence[Change],
    told: Sequence[Group],
    dangerous: Sequence[Danger],
) -> list[Entry]:
    """The entries, those marked of which the groups tell all. What could not be done is never one."""
    left_out = folded(changes, told, dangerous)
    return [
        replace(entry, folded=entry.node.key in left_out and entry.verdict in ("changed", "done"))
        for entry in entries
    ]


def _alarms(
    found: Sequence[Danger], changes: Iterable[Change], tenses: Iterable[Tense]
) -> tuple[Alarm, ...]:
    names = {change.key: change.name for change in changes}
    return tuple(
        Alarm(
            one.key,
            _kind(one, tense),
            harm(one, tense) if one.field else "",
            danger(one, names, tense),
        )
        for one, tense in zip(found, tenses, strict=True)
    )


def _kind(danger: Danger, tense: Tense) -> str:
    what = danger.what.replace("_", " ")
    notes = ["temporary"] if danger.temporary else []
    notes += [] if tense in ("planned", "outside", "done") else [tense]
    return f"{what} ({', '.join(notes)})" if notes else what


def _became(found: Sequence[Danger], outcome: Outcome | None) -> list[Tense]:
    """What became of each dangerous change. Where nothing is told of it, it was not begun."""
    if outcome is None:
        return ["planned"] * len(found)
    statuses: dict[tuple[Key, Action, bool], list[Status]] = defaultdict(list)
    for result in outcome.results:
        statuses[result.key, result.action, result.temporary].append(result.status)
    actions = {"delete": Action.DELETE, "demote": Action.DEMOTE, "move": Action.MOVE}
    tenses: list[Tense] = []
    for one in found:
        action = actions.get(one.what, Action.UPDATE)
        told = statuses[one.key, action, one.temporary]
        if one.field is not None:
            told = [*told, *statuses[one.key, Action.CREATE, False]]
        tenses.append(
            next((status for status in told if status != "done"), "done") if told else "skipped"
        )
    return tenses


def _known_lines(changes: Iterable[Change]) -> tuple[str, ...]:
    return tuple(known_line(c, field) for c in changes for field in (c.known or c.fields))


def _known(change: Change, node: Node) -> Entry:
    """An account with nothing but known drift."""
    lines = tuple(Line(field.op, known_line(change, field)) for field in change.fields)
    return Entry(node, "known", "has known drift", (), lines)


def of_failure(command: str, diagnostics: Sequence[Diagnostic], made: datetime) -> Report:
    """A command that ended before it had anything to show."""
    errors = [diagnostic(found) for found in diagnostics if found.severity == "error"]
    many = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    return Report(
        command=command,
        made=made,
        headline=f"Failed with {many}.",
        errors=tuple(errors),
        diagnostics=tuple(found for found in diagnostics if found.severity != "error"),
    )


def _outcomes(plan: Plan, outcome: Outcome, nodes: Mapping[Key, Node]) -> list[Entry]:
    results: dict[Key, list[Result]] = defaultdict(list)
    for result in outcome.results:
        results[result.key].append(result)
    return [_applied(change, nodes[change.key], results[change.key]) for change in plan.changes]


def _errors(results: Sequence[Result]) -> tuple[str, ...]:
    failed = (result for result in results if result.status != "done")
    return tuple(f"{address(result.key)}: {failure(result)}" for result in failed)


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.node.key))


def _headline(plan: Plan, command: str, outcome: Outcome | None) -> str:
    if outcome is not None:
        return outcome_sums(plan, outcome)
    if plan.refusals:
        return f"Refused. {sums(plan)}" if plan.changes else "Refused."
    return sums(plan) if command == "plan" else f"Not approved, nothing was done. {sums(plan)}"


def _notes(plan: Plan) -> Iterator[str]:
    if not plan.complete:
        yield "Only some addresses were looked at (--target)."
    if not plan.refreshed:
        yield NOT_REFRESHED


def _remembered(state: State) -> dict[Key, Node]:
    """The accounts as state has them."""
    keys = {record.id: key for key, record in state.accounts.items()} | {state.root: ROOT}
    return {
        key: Node(
            key,
            str(value_at(record.applied, ("settings", "name"))),  # never a sensitive one
            keys.get(record.parent_id, record.parent_id),
            record.reseller,
        )
        for key, record in state.accounts.items()
    }


def _node_of(change: Change, known: Mapping[Key, Node]) -> Node:
    """The account of a change; a reseller if it is one before or after, or was when state saw it."""
    declared = change.declared is not None and change.declared.block.get("reseller") is True
    live = change.live is not None and change.live.reseller
    remembered = change.key in known and known[change.key].reseller
    return Node(change.key, change.name, change.parent, declared or live or remembered)


def _unchanged(node: Node) -> Entry:
    return Entry(node, "unchanged", "unchanged", (), ())


def _planned(change: Change, node: Node) -> Entry:
    words = ", ".join(DONE[action] for action in change.actions)
    kinds = tuple(DONE[action] for action in change.actions)
    return Entry(node, "changed", f"will be {words}", kinds, tuple(_lines(change)))


def _applied(change: Change, node: Node, results: Sequence[Result]) -> Entry:
    """What became of a change. Where nothing is told of it, it was not begun."""
    kinds = [DONE[action] for action in change.actions]
    statuses = {result.status for result in results}
    verdict: Verdict = "done"
    if statuses & {"failed", "stale"}:
        verdict = "failed"
    elif "skipped" in statuses or not results:
        verdict = "skipped"
    errors = [Line("error", failure(result)) for result in results if result.status != "done"]
    words = ", ".join(kinds) if verdict == "done" else f"{verdict}: to be {', '.join(kinds)}"
    if verdict != "done":
        kinds.append(verdict)
    return Entry(node, verdict, words, tuple(kinds), (*errors, *_lines(change)))


def _drifted(change: Change, node: Node) -> Entry:
    kind = "changed" if change.live is not None else "deleted"
    words = change.reason.removeprefix("it ")
    told = (Line("note", line) for line in traces(change))
    return Entry(node, "changed", words, (kind,), (*_lines(change, note=False), *told))


def _lines(change: Change, *, note: bool = True) -> Iterator[Line]:
    for changed in change.fields:
        outside = "  (changed outside)" if note and changed.drift else ""
        yield Line(changed.op, leaf(changed) + outside)


def tree(report: Report, keys: Iterable[Key]) -> list[tuple[int, Node]]:
    """The accounts `keys` and those above them, parents first, with their depth.

    An account whose parent nobody knows stands at the top; so does one of a ring of parents.
    """
    wanted = _with_those_above(report, keys)
    below: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(wanted, reverse=True):
        below[report.nodes[key].parent].append(key)
    tops = [key for key in sorted(wanted) if report.nodes[key].parent not in wanted]
    found: dict[Key, int] = {}
    for top in (*tops, *sorted(wanted)):
        waiting = [(0, top)]
        while waiting:
            depth, key = waiting.pop()
            if key not in found:
                found[key] = depth
                waiting += [(depth + 1, child) for child in below[key]]
    return [(depth, report.nodes[key]) for key, depth in found.items()]


def _with_those_above(report: Report, keys: Iterable[Key]) -> set[Key]:
    wanted: set[Key] = set()
    for start in keys:
        key: str = start
        while key in report.nodes and key not in wanted:
            wanted.add(key)
            key = report.nodes[key].parent
    return wanted


def resellers(report: Report) -> dict[Key, str]:
    """For each account that was looked at, in the order of the tree: the nearest reseller's key.

    That of a reseller is its own; where none stands above, it is `root`.
    """
    nearest: dict[Key, str] = {}
    for _, node in tree(report, [entry.node.key for entry in report.entries]):
        nearest[node.key] = node.key if node.reseller else nearest.get(node.parent, ROOT)
    return nearest


def by_reseller(report: Report) -> list[tuple[str, list[Entry]]]:
    """The accounts that something is done to, under the key of the nearest reseller."""
    entries = {entry.node.key: entry for entry in report.changed}
    groups: dict[str, list[Entry]] = defaultdict(list)
    for key, reseller in resellers(report).items():
        if key in entries:
            groups[reseller].append(entries[key])
    return list(groups.items())
