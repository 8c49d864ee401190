"""What of a plan is more than one run may do, and must not be done.

A plan is judged as a whole, after it was made: so that all of it can be shown with its refusals. Each
`safety:` block is judged by itself, so the strictest wins.

Source: docs/behaviours.md, "Safety"; docs/reviewing.md, "Limits".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reconciler.core.graph import Action
from reconciler.core.limits import what
from reconciler.core.values import Diagnostic, accounts, address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from reconciler.core.effects import Effect
    from reconciler.core.graph import Ident, Operation
    from reconciler.core.limits import Exemption, Limits, Rule
    from reconciler.core.live import Live
    from reconciler.core.plan import Change
    from reconciler.core.reach import Impact, Tree
    from reconciler.core.state import AccountRecord
    from reconciler.core.values import Key

_FEW: Final = 10
"""Below so many accounts under management, a share of them says nothing (design: safety)."""

_NAMED: Final = 3
"""Accounts that a refusal names."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that keeps a plan from being applied, by the name of its rule."""

    rule: str
    detail: str
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """When a plan is made, and what this one run may do beyond the limits of the YAML.

    `today`: in UTC. `allow`: `delete`, `demote`, `update` to the limit that holds instead, wherever one
    stands; `reparent` and `protect.CLASS`: lifted, whatever the number.
    """

    today: date
    allow: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scope:
    """Limits, and the account from which on they hold; None: everywhere."""

    limits: Limits
    key: Key | None = None
    ident: Ident = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a plan would do, and what there is: in state, by key, and on the platform."""

    changes: Sequence[Change]
    operations: Sequence[Operation]
    records: Mapping[Key, AccountRecord]
    live: Live
    tree: Tree
    impacts: Sequence[Impact]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What speaks against a plan; which exceptions were needed, and their earliest last day."""

    refusals: tuple[Refusal, ...]
    excepted: tuple[Diagnostic, ...]
    until: date | None


def check(proposal: Proposal, scopes: Sequence[Scope], terms: Terms) -> Verdict:
    """What of the plan is more than one run may do. `scopes`: the project's first."""
    judge = _Judge(proposal, terms)
    refusals = [refusal for scope in scopes for refusal in judge.refusals(scope)]
    counts = Counter(action for change in proposal.changes for action in change.actions)
    refusals += _undeletable(proposal)
    if counts[Action.CREATE] or counts[Action.DELETE]:
        refusals += _outage(proposal)
    ranks = counts[Action.PROMOTE] + counts[Action.DEMOTE]
    if ranks and proposal.live.promoting_allowed is False:
        detail = (
            f"{accounts(ranks)} would be promoted or demoted. That takes the token of a superduper"
            " admin, and the account that this one belongs to is none."
        )
        refusals.append(Refusal("superduper_admin", detail))
    used = tuple(judge.used)
    until = min((exemption.until for exemption in used), default=None)
    return Verdict(tuple(refusals), tuple(map(_in_use, used)), until)


class _Gathered:
    """Accounts, and which of them are with or below a scope: looked up once for all scopes."""

    def __init__(self, tree: Tree, idents: Iterable[Ident]) -> None:
        self._tree = tree
        self._all = list(dict.fromkeys(idents))
        self._below: dict[Ident, list[Ident]] | None = None

    def within(self, scope: Scope) -> list[Ident]:
        """Those that the limits of a scope hold for."""
        if scope.key is None:
            return self._all
        if self._below is None:
            self._below = defaultdict(list)
            for ident in self._all:
                for above in self._tree.above(ident):
                    self._below[above].append(ident)
        return self._below.get(scope.ident, [])


class _Judge:
    """Holds a plan against one scope after the other, and remembers which exceptions it needed."""

    def __init__(self, proposal: Proposal, terms: Terms) -> None:
        tree = proposal.tree
        self.used: dict[Exemption, None] = {}
        self._tree = tree
        self._terms = terms
        temporary = [
            o.ident for o in proposal.operations if o.temporary and o.action is Action.DEMOTE
        ]
        self._deleted = _Gathered(tree, _touched(proposal, Action.DELETE))
        self._temporary = _Gathered(tree, [] if "reparent" in terms.allow else temporary)
        self._demoted = _Gathered(tree, _touched(proposal, Action.DEMOTE))
        self._updated = _Gathered(tree, _touched(proposal, Action.UPDATE, Action.MOVE))
        self._managed = _Gathered(tree, (record.id for record in proposal.records.values()))
        self._impacts: dict[Ident, list[Impact]] = defaultdict(list)
        for impact in proposal.impacts:
            self._impacts[impact.ident].append(impact)
        self._affected = _Gathered(tree, self._impacts)

    def refusals(self, scope: Scope) -> Iterator[Refusal]:
        """What goes beyond the limits of one scope."""
        yield from self._deletes(scope)
        yield from self._demotions(scope)
        yield from self._updates(scope)
        for effect in scope.limits.protect:
            if f"protect.{effect}" not in self._terms.allow:
                yield from self._protected(scope, effect)

    def _deletes(self, scope: Scope) -> Iterator[Refusal]:
        limit = self._limit(scope.limits.max_delete, "delete")
        if limit is not None:
            count = len(self._counted(scope, "max_delete", self._deleted.within(scope), limit))
            if count > limit:
                yield _over("max_delete", "delete", count, limit, scope)

    def _demotions(self, scope: Scope) -> Iterator[Refusal]:
        limit = self._limit(scope.limits.max_demote, "demote")
        if limit is None:
            return
        temporary = self._temporary.within(scope)
        demoted = [*self._demoted.within(scope), *temporary]
        count = len(self._counted(scope, "max_demote", demoted, limit))
        if count > limit:
            refusal = _over("max_demote", "demote", count, limit, scope)
            hint = " Those for the time being are allowed by --allow reparent."
            yield replace(refusal, detail=refusal.detail + hint) if temporary else refusal

    def _updates(self, scope: Scope) -> Iterator[Refusal]:
        limit = self._limit(scope.limits.max_update_percent, "update")
        managed = 0 if limit is None else len(self._managed.within(scope))
        if limit is None or managed < _FEW:
            return
        most, touched = managed * limit // 100, self._updated.within(scope)
        count = len(self._counted(scope, "max_update_percent", touched, most))
        if count > most:
            detail = (
                f"{count} of {managed} accounts{_where(scope)} would be updated or moved; at most"
                f" {limit}% may be in one run. To allow it once: --allow update=100%."
            )
            yield Refusal("max_update_percent", detail, scope.key)

    def _protected(self, scope: Scope, effect: Effect) -> Iterator[Refusal]:
        """Changes that have an effect which nothing here may have, also those made above."""
        hits = {
            impact.ident: impact.key
            for ident in self._affected.within(scope)
            for impact in self._impacts[ident]
            if effect in impact.own
        }
        for ident in sorted(self._tree.above(scope.ident)) if scope.key else ():
            hits |= {i.ident: i.key for i in self._impacts.get(ident, ()) if effect in i.below}
        left = self._counted(scope, "protect", [*hits], 0, effect)
        if left:
            names = ", ".join(address(hits[ident]) for ident in left[:_NAMED])
            more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
            who = "The project" if scope.key is None else address(scope.key)
            detail = (
                f"{who} protects `{effect}`, and it would be affected by what happens to"
                f" {names}{more}. To allow it once: --allow protect={effect}."
            )
            yield Refusal("protect", detail, scope.key)

    def _limit(self, said: int | None, name: str) -> int | None:
        """The limit as far as this run does not raise it; None where there is none."""
        return None if said is None else max(said, self._terms.allow.get(name, 0))

    def _counted(
        self,
        scope: Scope,
        rule: Rule,
        left: list[Ident],
        limit: int,
        effect: Effect | None = None,
    ) -> list[Ident]:
        """Those of the accounts `left` that count, being in no exception.

        Exceptions are asked only if there are more than `limit`, the most particular first: what
        one of them names can't be used up by a wider one.
        """
        held = [
            exemption
            for exemption in scope.limits.exceptions
            if (exemption.rule, exemption.effect) == (rule, effect)
            and exemption.until >= self._terms.today
        ]
        for exemption in sorted(held, key=self._width) if len(left) > limit else ():
            top = self._tree.idents.get(exemption.account or "", "")
            named = [i for i in left if exemption.account is None or top in self._tree.above(i)]
            spared = {*(named if rule == "protect" else named[: exemption.value])}
            if spared:
                self.used[exemption] = None
            left = [ident for ident in left if ident not in spared]
        return left

    def _width(self, exemption: Exemption) -> int:
        """Less, the deeper the account is that an exception is for."""
        if exemption.account is None:
            return 0
        return -len(self._tree.above(self._tree.idents.get(exemption.account, "")))


def _in_use(exemption: Exemption) -> Diagnostic:
    detail = f"It rests on {what(exemption)}, until {exemption.until}: {exemption.reason}"
    return Diagnostic(
        "warning",
        "A plan that needs an exception",
        detail,
        path="safety.exceptions",
        source=exemption.source,
    )


def _touched(proposal: Proposal, *actions: Action) -> list[Ident]:
    """The accounts that one of these is done to."""
    return [
        change.id or proposal.tree.idents.get(change.key, "")
        for change in proposal.changes
        if not {*actions}.isdisjoint(change.actions)
    ]


def _where(scope: Scope) -> str:
    return "" if scope.key is None else f" with and below {address(scope.key)}"


def _over(rule: str, word: str, count: int, limit: int, scope: Scope) -> Refusal:
    detail = f"The plan would {word} {count}{_where(scope)}; at most {limit} may be in one run."
    detail += f" To allow it once: --allow {word}={count}."
    return Refusal(rule, detail, scope.key)


def _outage(proposal: Proposal) -> Iterator[Refusal]:
    """A list that lacks most of the accounts that are there says nothing of what else is."""
    missing = lacking(proposal.records.values(), proposal.live)
    if missing:
        detail = (
            f"The platform's list lacks {missing} of {len(proposal.records)} accounts that are there by"
            " their own GET, so what else is there can't be known: nothing is created or deleted."
            " Try again later."
        )
        yield Refusal("outage", detail)


def _undeletable(proposal: Proposal) -> list[Refusal]:
    """Deletes of accounts that something stays below."""
    going = {c.id for c in proposal.changes if Action.DELETE in c.actions}
    leaving = {c.id for c in proposal.changes if Action.MOVE in c.actions}
    refusals = []
    for change in proposal.changes:
        if Action.DELETE in change.actions and change.id is not None:
            staying = [
                i for i in proposal.live.children.get(change.id, ()) if i not in going | leaving
            ]
            if staying:
                names = ", ".join(proposal.live.rows[i].name for i in staying[:3])
                detail = (
                    f"{change.address} can't be deleted while {accounts(len(staying))} below it would"
                    f" stay ({names})."
                )
                refusals.append(Refusal("has_descendants", detail, change.key))
    return refusals


def lacking(records: Collection[AccountRecord], live: Live) -> int:
    """How many of the accounts in state the list lacks although they are there, if over half; else 0."""
    unlisted = live.unlisted
    missing = sum(record.id in unlisted for record in records)
    return missing if missing * 2 > len(records) else 0
