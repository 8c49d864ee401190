"""What would change, and in which order: a function of configuration, state and live accounts.

What must not happen is a `Refusal` in the plan, not an exception, so that the whole of it can be
shown. Everything is in order of key, so that the same inputs make the same plan, byte for byte.

Source: docs/behaviours.md.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reconciler.core import account, diff
from reconciler.core.diff import ENABLED, PARENT, RESELLER, FieldChange
from reconciler.core.digest import digest
from reconciler.core.graph import Action, Ident, Node, Operation, order
from reconciler.core.known import covering
from reconciler.core.limits import UNLIMITED, limits_from, limits_json
from reconciler.core.reach import Tree, impacts, reached
from reconciler.core.recovery import recover
from reconciler.core.safety import Proposal, Refusal, Scope, Terms, check
from reconciler.core.uniqueness import (
    kept,
    marks,
    names_kept,
    place_of,
    swaps,
    taken_places,
)
from reconciler.core.validate import WITHOUT_REALM
from reconciler.core.values import (
    ABSENT,
    ROOT,
    AccountId,
    Diagnostic,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    Sensitive,
    address,
    conceal,
    leaves,
    place,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from reconciler.core.configuration import Configuration, Declared, Removed
    from reconciler.core.diff import Side
    from reconciler.core.effects import Effect
    from reconciler.core.graph import Ring
    from reconciler.core.live import Live, LiveAccount, Row
    from reconciler.core.reach import Reached
    from reconciler.core.recovery import Recovery, Unfinished
    from reconciler.core.state import AccountRecord, Owed, State

_NOWHERE: Final = "(nowhere)"
"""The parent of an account that was moved to one that does not exist (docs/platform.md 3.9)."""

GIVEN_BACK: Final = "an interrupted run took it away for the time being"

_IDENTITY: Final = (("settings", "name"), ("settings", "realm"))
"""What must be so still for an account to be deleted."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one address. Without actions: nothing, but state has something to learn.

    `declared` is None when the account left the YAML, `record` when it is not in state, `live`
    when it does not exist. `moved_from`: the key it had. `top`: the topmost reseller above it, or
    itself; `root` if there is none. `known`: known drift that is left alone.
    """

    key: Key
    id: AccountId | None
    name: str
    parent: Key
    actions: tuple[Action, ...]
    fields: tuple[FieldChange, ...]
    reason: str
    declared: Declared | None
    record: AccountRecord | None
    live: LiveAccount | None
    drift: bool = False
    moved_from: Key | None = None
    top: Key = ROOT
    known: tuple[FieldChange, ...] = ()

    @property
    def address(self) -> str:
        """The account's address: `accounts.KEY`."""
        return address(self.key)


@dataclass(frozen=True, slots=True, repr=False)  # large: asyncio.run takes the repr of results
class Plan:
    """All that `apply` would do. `changes` and `silent` in order of key.

    `silent`: accounts that nothing is done to, of which state must learn something. `untouched`:
    what is declared and live of all that nothing is done to. `before`: the ids of all accounts
    below the root. `unfinished`: what an interrupted run left open; `moot`: what of that is not to be
    finished any more. `effects`: whom it reaches, in order of `EFFECTS`. `until`: the
    last day (UTC) of the exceptions without which it would be refused. `complete` is false if only some
    addresses were looked at, `refreshed` if what nothing is done to was taken from state. `stale`:
    addresses that must be left alone, since something about them is not as it was when the plan was
    saved, with the reason. `seal`: of the file that the plan comes from, if it does and is not empty.
    """

    state: State
    root: AccountId
    root_name: str
    changes: tuple[Change, ...]
    silent: tuple[Change, ...]
    operations: tuple[Operation, ...]
    refusals: tuple[Refusal, ...]
    unchanged: int
    untouched: tuple[tuple[Declared, LiveAccount], ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    before: frozenset[AccountId] = frozenset()
    unfinished: tuple[Unfinished, ...] = ()
    moot: tuple[Owed, ...] = ()
    effects: Mapping[Effect, Reached] = field(default_factory=dict)
    until: date | None = None
    complete: bool = True
    refreshed: bool = True
    digest: str = ""
    stale: Mapping[Key, str] = field(default_factory=dict)
    seal: str = ""

    def count(self, action: Action) -> int:
        """How many addresses have this action."""
        return sum(action in change.actions for change in self.changes)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes

    @property
    def known(self) -> tuple[Change, ...]:
        """The accounts with known drift, which is left alone, in order of key."""
        found = (change for change in (*self.changes, *self.silent) if change.known)
        return tuple(sorted(found, key=lambda change: change.key))


def compute(
    configuration: Configuration,
    state: State,
    live: Live,
    terms: Terms,
    targets: frozenset[Key] = frozenset(),
) -> Plan:
    """Decide what would change, and in which order.

    `state` is an empty one where there is none yet. `terms`: of this run. `targets`: look at these keys alone, and at
    what they depend on; empty: at all.
    """
    recovery = recover(configuration, state, live)
    decider = _Decider(configuration, recovery, live)
    keys = sorted({*configuration.accounts, *decider.records})
    if targets:
        keys = [key for key in keys if key in _closure(targets, configuration, decider)]
    changes: list[Change] = []
    silent: list[Change] = []
    untouched: list[tuple[Declared, LiveAccount]] = []
    for key in keys:
        change = decider.decide(key)
        if change is not None:
            (changes if change.actions else silent).append(change)
        if change is None or not change.actions:
            untouched += decider.both(key)
    if not targets:
        changes = sorted([*changes, *decider.given_back()], key=lambda change: change.key)
    tree = Tree(_nodes(decider, changes) if changes else {})
    ordered = order(tree.nodes, welcome_email=configuration.settings.welcome_email)
    operations = _operations(ordered.operations, changes)
    decider.judge_marks(tree.nodes, ordered.rings)
    changes = [replace(change, top=tree.top(_ident(decider, change))) for change in changes]
    new = tuple(impacts(map(decider.without_owed, changes), operations, tree))
    proposal = Proposal(changes, operations, decider.records, live, tree, new)
    verdict = check(proposal, tuple(decider.scopes()), _still_allowed(terms, recovery.state))
    plan = Plan(
        state=recovery.state,
        root=live.root,
        root_name=live.accounts[live.root].name,
        changes=tuple(changes),
        silent=tuple(silent),
        operations=operations,
        refusals=(*decider.refusals, *verdict.refusals),
        unchanged=len(keys) - len(changes),
        untouched=tuple(untouched),
        diagnostics=(
            *_still_odd(configuration.warnings, decider),
            *decider.warnings,
            *verdict.excepted,
        ),
        before=frozenset(live.rows),
        unfinished=recovery.unfinished,
        moot=recovery.moot,
        effects=reached(impacts(changes, operations, tree), tree),
        until=verdict.until,
        complete=not targets,
        refreshed=live.refreshed,
    )
    return replace(plan, digest=digest(plan))


def _still_odd(warnings: Iterable[Diagnostic], decider: _Decider) -> Iterator[Diagnostic]:
    """The warnings that matter for the accounts as they are."""
    present = {address(key) for key in decider.records}
    return (w for w in warnings if w.summary != WITHOUT_REALM or w.address not in present)


def unread(configuration: Configuration, state: State, live: Live) -> list[AccountId]:
    """Accounts that must be read as well before a plan can be made.

    To promote or demote an account it must be known which accounts below it are resellers, and
    the list does not say (docs/platform.md 3.2). And one that has what another is to get may have
    been deleted: lists lag.
    """
    recovery = recover(configuration, state, live)
    decider = _Decider(configuration, recovery, live)
    ranked = {i for i, fields in recovery.owed.items() if any(f.path == RESELLER for f in fields)}
    moved: set[AccountId] = set()
    others: set[AccountId] = set()
    for declared in configuration.accounts.values():
        record = decider.records.get(declared.key)
        found = live.accounts.get(record.id if record else declared.id or AccountId(""))
        if found is None or found.document.get("realm") != declared.settings.get("realm"):
            stranger = decider.stranger(declared)
            others |= {stranger.id} if stranger else set()
        if found is None:
            continue
        if diff.rank(declared, record, found) != found.reseller:
            ranked.add(found.id)
        if found.parent_id != decider.parent(declared):
            moved.add(found.id)
    tops = ranked | moved if ranked else ranked
    below = {account_id for top in tops for account_id in live.below(top)}
    return sorted((below | others) - live.accounts.keys() - live.missing)


def touched(configuration: Configuration, state: State, live: Live) -> list[AccountId]:
    """The accounts in state that something would be done to, or learnt of."""
    decider = _Decider(configuration, recover(configuration, state, live), live)
    changes = map(decider.decide, {*configuration.accounts, *decider.records})
    return sorted(change.id for change in changes if change is not None and change.id is not None)


class _Decider:
    """Joins the three versions by key, and remembers what must be refused."""

    def __init__(self, configuration: Configuration, recovery: Recovery, live: Live) -> None:
        self.configuration = configuration
        self.state = recovery.state
        self.owed = recovery.owed
        self.live = live
        self.refusals = [
            Refusal("open_intent", found.detail, found.key)
            for found in recovery.unfinished
            if found.doubtful
        ]
        self.warnings: list[Diagnostic] = []
        self.moved_from: dict[Key, Key] = {}
        self.records = self._moved()
        self.idents: dict[Key, Ident] = {
            key: self._ident(key, declared) for key, declared in configuration.accounts.items()
        }
        self.keys: dict[Ident, Key] = {r.id: key for key, r in self.records.items()}
        self.keys |= {ident: key for key, ident in self.idents.items()}
        self.owners = self._owners()
        self._strangers: dict[str, Row] | None = None

    def _moved(self) -> dict[Key, AccountRecord]:
        """The records under the keys that they have now."""
        records = dict(self.state.accounts)
        for moved in self.configuration.moved:
            if moved.old not in records:
                continue  # done in an earlier run
            if moved.new in records:
                detail = (
                    f"{address(moved.old)} can't become {address(moved.new)}: both are in state."
                )
                self.refusals.append(Refusal("moved", detail, moved.new))
                continue
            records[moved.new] = records.pop(moved.old)
            self.moved_from[moved.new] = self.moved_from.pop(moved.old, moved.old)
        return records

    def _owners(self) -> Mapping[str, list[Key]]:
        """The keys that have an account, those in state first."""
        owners: defaultdict[str, list[Key]] = defaultdict(list)
        for key, record in self.records.items():
            owners[record.id].append(key)
        for key, declared in self.configuration.accounts.items():
            if declared.id:
                owners[declared.id].append(key)
        return owners

    def _ident(self, key: Key, declared: Declared) -> Ident:
        record = self.records.get(key)
        if record is None and declared.id:
            return declared.id
        gone = record is None or record.id in self.live.missing
        return f"{{{address(key)}.id}}" if record is None or gone else record.id

    def both(self, key: Key) -> Iterator[tuple[Declared, LiveAccount]]:
        """What is declared and what is live of one address, if both are."""
        declared, record = self.configuration.accounts.get(key), self.records.get(key)
        live = self.live.accounts.get(record.id) if record else None
        if declared is not None and live is not None:
            yield declared, live

    def scopes(self) -> Iterator[Scope]:
        """The limits of the project, then those of accounts in order of key.

        Of an account that left the YAML those count that it had at its last apply: what leaves with
        its block must not lift them.
        """
        yield Scope(self.configuration.settings.limits)
        for key in sorted({*self.configuration.accounts, *self.records}):
            declared, record = self.configuration.accounts.get(key), self.records.get(key)
            removed = self.configuration.removed.get(key)
            block = declared or (removed.block if removed else None)
            limits = block.limits if block else limits_from(record.safety if record else {})
            ident = self.idents[key] if declared or record is None else record.id
            if limits != UNLIMITED:
                yield Scope(limits, key, ident)

    def parent(self, declared: Declared) -> Ident:
        """The account that the declared one belongs below."""
        return self.live.root if declared.parent == ROOT else self.idents[declared.parent]

    def refuse(self, rule: str, detail: str, key: Key | None = None) -> None:
        """Note that the plan must not be applied."""
        self.refusals.append(Refusal(rule, detail, key))

    def told(self) -> frozenset[AccountId]:
        """The accounts in state of which something is refused."""
        found = (self.records.get(refusal.key or "") for refusal in self.refusals)
        return frozenset(record.id for record in found if record is not None)

    def judge_marks(self, nodes: Mapping[Ident, Node], rings: Sequence[Ring]) -> None:
        """Note what of realms and names can't be had, or perhaps not."""
        self.refusals += kept(nodes, self.live, self.keys, self.told())
        self.refusals += swaps(rings, nodes)
        self.warnings += names_kept(nodes, self.live, self.keys)

    def decide(self, key: Key) -> Change | None:
        """What happens to one address; None if nothing at all does."""
        declared = self.configuration.accounts.get(key)
        record = self.records.get(key)
        if declared is None:
            return self._left(key, record) if record is not None else None
        if record is None:
            return self._adoption(declared) if declared.id else self._creation(declared)
        live = self.live.accounts.get(record.id)
        if declared.id and (declared.id != record.id or live is None):
            detail = f"{address(key)} is {record.id} in state, but its `id:` says {declared.id}."
            if declared.id == record.id:
                detail = f"{address(key)} was deleted outside, and its `id:` names an account that is gone."
            self.refuse("id", f"{detail} Remove the `id:`, or correct it.", key)
            return None
        if live is None:
            return self._creation(declared, record)
        return self._present(declared, record, live)

    def _present(
        self, declared: Declared, record: AccountRecord, live: LiveAccount
    ) -> Change | None:
        self.warnings += self._twins(declared, live)
        parent = self.parent(declared)
        renamed = self.moved_from.get(declared.key)
        recorded = (
            record.prevent_destroy == declared.lifecycle.prevent_destroy
            and record.safety == limits_json(declared.limits)
            and record.parent_id == live.parent_id
            and record.reseller == live.reseller
            and renamed is None
        )
        in_place = live.parent_id == parent
        whole = live.id not in self.owed
        if in_place and recorded and whole and diff.settled(declared, record, live, self.state):
            return None
        fields = self._with_owed(live.id, diff.compare(declared, record, live, self.state))
        self.warnings += _let_go(declared, record)
        if not in_place:
            was = record.parent_id != live.parent_id
            fields = (self._parent_change(declared, live, drift=was), *fields)
        reason = "live differs from what is declared" if whole else GIVEN_BACK
        if renamed:
            reason = f"moved from {address(renamed)}"
        return self._change(declared, record, live, fields, reason)

    def _with_owed(
        self, current: AccountId, fields: tuple[FieldChange, ...]
    ) -> tuple[FieldChange, ...]:
        """The fields that change, with those that the account is to get back.

        What an earlier run took was not changed outside.
        """
        debt = self.state.owed.get(current)
        if debt is not None:
            taken = {path for path, _ in leaves({"settings": debt.settings})}
            taken |= {RESELLER} if debt.reseller else set()
            fields = tuple(replace(f, drift=f.drift and f.path not in taken) for f in fields)
        paths = {field.path for field in fields}
        more = [field for field in self.owed.get(current, ()) if field.path not in paths]
        return tuple(sorted([*fields, *more], key=lambda field: field.path)) if more else fields

    def without_owed(self, change: Change) -> Change:
        """What of a change is not only given back: no limit may keep an account from getting that."""
        debt = self.state.owed.get(change.id or AccountId(""))
        if debt is None:
            return change
        owed = {field.path for field in self.owed.get(debt.id, ())}
        owed |= {RESELLER} if debt.reseller else set()  # declared or not
        fields = tuple(field for field in change.fields if field.path not in owed)
        gone = {Action.PROMOTE} if RESELLER in owed else set()
        gone |= set() if any(field.path[0] == "settings" for field in fields) else {Action.UPDATE}
        actions = tuple(action for action in change.actions if action not in gone)
        return replace(change, fields=fields, actions=actions)

    def given_back(self) -> Iterator[Change]:
        """What happens to accounts that nobody declares, but that something was taken from."""
        declared = {self.idents[key] for key in self.configuration.accounts}
        deleted = {
            self.records[key].id
            for key, removed in self.configuration.removed.items()
            if removed.destroy and key in self.records
        }
        for current, fields in self.owed.items():
            if current in declared or current in deleted:
                continue
            ranked = any(field.path == RESELLER for field in fields)
            rest = any(field.path != RESELLER for field in fields)
            live = self.live.accounts[current]
            yield Change(
                key=current,
                id=current,
                name=live.name,
                parent=self.name_of(live.parent_id or _NOWHERE),
                actions=(Action.PROMOTE,) * ranked + (Action.UPDATE,) * rest,
                fields=fields,
                reason=GIVEN_BACK,
                declared=None,
                record=None,
                live=live,
            )

    def _parent_change(self, declared: Declared, live: LiveAccount, *, drift: bool) -> FieldChange:
        before = self.name_of(live.parent_id or _NOWHERE)
        source, origin = declared.origin(PARENT)
        known = covering(declared.known, PARENT) if drift else None
        return FieldChange(PARENT, "change", before, declared.parent, drift, source, origin, known)

    def name_of(self, ident: Ident) -> str:
        """The key of an account, or its id where it has none."""
        return ROOT if ident == self.live.root else self.keys.get(ident, ident)

    def _change(
        self,
        declared: Declared,
        record: AccountRecord | None,
        live: LiveAccount,
        fields: tuple[FieldChange, ...],
        reason: str,
    ) -> Change:
        actions = [Action.ADOPT] if record is None else []
        known = tuple(field for field in fields if field.known)
        fields = tuple(field for field in fields if not field.known)
        paths = {field.path: field for field in fields}
        if PARENT in paths:
            actions.append(Action.MOVE)
        if RESELLER in paths:
            actions.append(Action.PROMOTE if paths[RESELLER].after is True else Action.DEMOTE)
        if paths.keys() - {PARENT, RESELLER}:
            actions.append(Action.UPDATE)
        return Change(
            key=declared.key,
            id=live.id,
            name=live.name,
            parent=declared.parent,
            actions=tuple(actions),
            fields=fields,
            reason=reason,
            declared=declared,
            record=record,
            live=live,
            drift=any(field.drift for field in fields),
            moved_from=self.moved_from.get(declared.key),
            known=known,
        )

    def _adoption(self, declared: Declared) -> Change | None:
        live = self.live.accounts.get(declared.id or AccountId(""))
        owner = next((k for k in self.owners.get(declared.id or "", ()) if k != declared.key), None)
        if owner:
            self.refuse("id", f"{declared.id} is {address(owner)} already.", declared.key)
        elif live is None or live.id not in self.live.rows:
            detail = f"There is no account {declared.id} below the root."
            self.refuse(
                "id",
                f"{detail} Correct the `id:` of {address(declared.key)}, or remove it.",
                declared.key,
            )
        else:
            fields = self._with_owed(live.id, diff.compare(declared, None, live, self.state))
            if live.parent_id != self.parent(declared):
                fields = (self._parent_change(declared, live, drift=False), *fields)
            return self._change(declared, None, live, fields, f"id: {declared.id} is declared")
        return None

    def _creation(self, declared: Declared, record: AccountRecord | None = None) -> Change | None:
        stranger = self.stranger(declared)
        if stranger is not None:
            self.refuse("exists", self._exists(declared, stranger), declared.key)
            return None
        actions = [Action.CREATE]
        if declared.block.get("reseller") is True:
            actions.append(Action.PROMOTE)
        gone = record is not None
        return Change(
            key=declared.key,
            id=None,
            name=str(declared.settings["name"]),
            parent=declared.parent,
            actions=tuple(actions),
            fields=diff.creation(declared),
            reason="it was deleted outside" if gone else "it is not in state",
            declared=declared,
            record=None,
            live=None,
            drift=gone,
            moved_from=self.moved_from.get(declared.key),
        )

    def _twins(self, declared: Declared, live: LiveAccount) -> Iterator[Diagnostic]:
        """A warning if the realm belongs to another account, too: creates at the same moment can do that."""
        realm = live.document.get("realm")
        twin = self.stranger(declared) if declared.settings.get("realm") == realm else None
        if twin is not None and account.normal_realm(twin.realm) == account.normal_realm(
            str(realm)
        ):
            yield Diagnostic(
                "warning",
                "A realm of two accounts",
                f"{twin.id} ({twin.name}) has it, too. Look at both, and delete by hand what is not wanted.",
                declared.address,
                "settings.realm",
                declared.source,
            )

    def _exists(self, declared: Declared, stranger: Row) -> str:
        """What of an account that is there speaks against a create, and the ways on."""
        new, old = declared.key, self.keys.get(stranger.id)
        what = "realm" if isinstance(declared.settings.get("realm"), str) else "name and parent"
        if old is None:
            return (
                f"{address(new)} would be created, but the account {stranger.id} ({stranger.name}) has"
                f" its {what}. If it is the same, say so: `id: {stranger.id}` in the YAML, or"
                f" `reconciler import {new} {stranger.id}`."
            )
        return (
            f"{address(new)} would be created, but {address(old)} ({stranger.id}) has its {what}, and is"
            " forgotten, not deleted. If it is the same, say so in place of `removed:`:"
            f" `moved: [{{from: {old}, to: {new}}}]`. Else declare another {what}, or delete that"
            " one: `destroy: true`."
        )

    def stranger(self, declared: Declared) -> Row | None:
        """An account that nobody will manage and that could be the declared one."""
        if self._strangers is None:
            removed = self.configuration.removed
            managed = {
                record.id
                for key, record in self.records.items()
                if key not in removed or removed[key].destroy
            }
            managed |= {d.id for d in self.configuration.accounts.values() if d.id}
            self._strangers = taken_places(self.live, managed)
        return self._strangers.get(place_of(declared.settings, self.parent(declared)))

    def _left(self, key: Key, record: AccountRecord) -> Change | None:
        """An account that is in state and no more in the YAML."""
        removed = self.configuration.removed.get(key)
        live = self.live.accounts.get(record.id)
        if removed is None and live is not None:
            self.refuse("left_the_yaml", self._ways_on(key, record, live), key)
            return None
        action = Action.FORGET
        reason = (
            "removed: destroy: false" if removed else "it left the YAML and was deleted outside"
        )
        if removed is not None and removed.destroy and live is not None:
            guard = self._guard(removed, record, live)
            if guard is not None:
                self.refuse(guard[0], f"{address(key)} {guard[1]}", key)
                return None
            action, reason = Action.DELETE, "removed: destroy: true"
        name = live.name if live else str(key)
        parent = self.name_of(live.parent_id or "" if live else record.parent_id)
        return Change(key, record.id, name, parent, (action,), (), reason, None, record, live)

    def _guard(
        self, removed: Removed, record: AccountRecord, live: LiveAccount
    ) -> tuple[str, str] | None:
        """What keeps the account from being deleted: a rule, and what there is to say of it."""
        block = removed.block
        if record.prevent_destroy or (block and block.lifecycle.prevent_destroy):
            return (
                "prevent_destroy",
                "has lifecycle.prevent_destroy; apply once with it lifted, while the account is declared.",
            )
        if self.live.is_inside(live.id):
            return None
        where = (
            f"({live.id}) does not stand below the root any more, but below {live.parent_id}: whoever it"
            " belongs to now, it is not deleted. Forget it: `destroy: false`, or `reconciler state rm`."
        )
        if live.parent_id is None:
            where = (
                f"({live.id}) is not in the list of accounts, nor does it tell below which it stands. It is"
                " not deleted unless that is known: try again later."
            )
        return "outside", where

    def _ways_on(self, key: Key, record: AccountRecord, live: LiveAccount) -> str:
        realm = live.document.get("realm")
        for other in self.configuration.accounts.values():
            same = other.id == record.id or (
                isinstance(realm, str)
                and isinstance(other.settings.get("realm"), str)
                and account.normal_realm(str(other.settings["realm"]))
                == account.normal_realm(realm)
            )
            same = same or other.settings.get("name") == live.name
            if same and other.key not in self.records:
                return (
                    f"{address(key)} left the YAML, and {address(other.key)} looks like the same"
                    f" account. If its key changed, say so: `moved: [{{from: {key}, to: {other.key}}}]`."
                )
        return (
            f"{address(key)} ({live.name}) left the YAML. That alone deletes nothing. To forget it and leave"
            f" it alone: `removed: [{{account: {key}, destroy: false}}]`. To delete it: `destroy: true`."
        )


def _let_go(declared: Declared, record: AccountRecord) -> list[Diagnostic]:
    """Warnings for fields that left the YAML and can't be absent on the platform."""
    applied = value_at(record.applied, ("settings",))
    names = frozenset(applied) if isinstance(applied, dict) else frozenset()
    return [
        Diagnostic(
            "warning",
            "A field that can't be removed",
            "It left the YAML, but no account can be without it: it is no longer managed, and stays as it is.",
            address(declared.key),
            f"settings.{name}",
            declared.source,
        )
        for name in sorted(account.NEVER_ABSENT & names)
        if name not in declared.settings
    ]


def _closure(targets: frozenset[Key], configuration: Configuration, decider: _Decider) -> set[Key]:
    """The targets, the accounts that they stand below, and what must be deleted before them."""
    keys = set(targets)
    for key in targets:
        declared = configuration.accounts.get(key)
        while declared is not None and declared.parent != ROOT and declared.parent not in keys:
            keys.add(declared.parent)
            declared = configuration.accounts.get(declared.parent)
        if key in configuration.removed and key in decider.records:
            below = decider.live.below(decider.records[key].id)
            keys |= {decider.name_of(i) for i in below} & configuration.removed.keys()
    return keys & {*configuration.accounts, *decider.records}


# --- operations ------------------------------------------------------------------------------


def _ident(decider: _Decider, change: Change) -> Ident:
    return change.id or decider.idents[change.key]


def _operations(ordered: Iterable[Operation], changes: Iterable[Change]) -> tuple[Operation, ...]:
    """The operations, each with what it takes for granted."""
    by_key = {change.key: change for change in changes}
    return tuple(replace(o, rests_on=_rests_on(by_key.get(o.key), o.action)) for o in ordered)


def _rests_on(change: Change | None, action: Action) -> Mapping[FieldPath, Side]:
    """What the operation takes for granted of an account that exists."""
    if change is None or change.live is None:
        return {}
    match action:
        case Action.UPDATE:  # a PATCH always carries `enabled`
            before: dict[FieldPath, Side] = {ENABLED: value_at(change.live.block, ENABLED)}
            before |= {f.path: f.before for f in change.fields if f.path[0] == "settings"}
            return before
        case Action.MOVE:
            return {PARENT: change.live.parent_id}
        case Action.DELETE:
            # A reseller may be demoted before it is deleted; nothing makes one of another account.
            told = _IDENTITY if change.live.reseller else (*_IDENTITY, RESELLER)
            return {path: value_at(change.live.block, path) for path in told}
        case _:  # a rank that is right already is not sent again
            return {}


def _nodes(decider: _Decider, changes: Sequence[Change]) -> dict[Ident, Node]:
    """Every account below the root with its place and rank, before and after."""
    nodes: dict[Ident, Node] = {}
    for row in decider.live.rows.values():
        found = decider.live.accounts.get(row.id)
        rank = found is not None and found.reseller
        key = decider.keys.get(row.id, row.id)
        nodes[row.id] = Node(row.id, key, row.name, row.parent_id, row.parent_id, rank, rank)
    for change in changes:
        if Action.FORGET in change.actions:
            continue
        ident = _ident(decider, change)
        gets, loses = marks(change)
        nodes[ident] = replace(_node(decider, ident, change), gets=gets, loses=loses)
    return nodes


def _node(decider: _Decider, ident: Ident, change: Change) -> Node:
    if change.declared is None and change.live is not None:
        return _undeclared(ident, change, change.live)
    if change.declared is None:
        raise AssertionError("what is neither declared nor live is forgotten, and no more")
    parent = decider.parent(change.declared)
    if change.live is None:
        reseller = Action.PROMOTE in change.actions
        create, extra = _creation_bodies(decider, change.declared)
        return Node(ident, change.key, change.name, None, parent, False, reseller, create, extra)
    before = change.live.reseller
    after = (before or Action.PROMOTE in change.actions) and Action.DEMOTE not in change.actions
    update = _update_body(change) if Action.UPDATE in change.actions else None
    return Node(
        ident,
        change.key,
        change.live.name,
        change.live.parent_id or _NOWHERE,
        parent,
        before,
        after,
        None,
        update,
    )


def _undeclared(ident: Ident, change: Change, live: LiveAccount) -> Node:
    """An account that is to be deleted, or to get something back."""
    parent = live.parent_id or _NOWHERE
    return Node(
        ident=ident,
        key=change.key,
        name=live.name,
        parent_before=parent,
        parent_after=None if Action.DELETE in change.actions else parent,
        reseller_before=live.reseller,
        reseller_after=live.reseller or Action.PROMOTE in change.actions,
        update=_update_body(change) if Action.UPDATE in change.actions else None,
    )


def _creation_bodies(decider: _Decider, declared: Declared) -> tuple[JsonObject, JsonObject | None]:
    """The document to create, and what must be patched after it (docs/platform.md 3.4).

    A create can't make a disabled account, nor an enabled one below a disabled one.
    """
    body: JsonObject = {}
    for path, value in leaves(declared.settings):
        if value is not None and (path, value) != (("enabled",), False):
            origin = declared.sensitive.get(("settings", *path))
            place(body, path, conceal(value, origin) if origin else value)
    enabled = declared.settings.get("enabled")
    if enabled is False:
        return body, {"enabled": False}
    if enabled is True and _disabled(decider, declared.parent):
        return body, {"enabled": True}
    return body, None


def _still_allowed(terms: Terms, state: State) -> Terms:
    """The terms, and what an interrupted run was allowed: to take ranks for the time being.

    Whatever finishes its work must be able to.
    """
    if any(owed.reseller for owed in state.owed.values()):
        return replace(terms, allow={**terms.allow, "reparent": 1})
    return terms


def _disabled(decider: _Decider, key: Key) -> bool:
    """Whether the account is, or may be by then, disabled. A new one is if its parent is."""
    declared = decider.configuration.accounts.get(key)
    if declared is not None and declared.settings.get("enabled") is False:
        return True
    live = decider.live.accounts.get(AccountId(decider.idents.get(key, decider.live.root)))
    if live is None:
        return declared is not None and _disabled(decider, declared.parent)
    return live.document.get("enabled") is False


def _update_body(change: Change) -> JsonObject:
    """The changed leaves, null for those to remove, and always `enabled` (docs/platform.md 3.6)."""
    body: JsonObject = {}
    for leaf in change.fields:
        if leaf.path[0] == "settings":
            place(body, leaf.path[1:], _as_body(leaf.after))
    if "enabled" not in body and change.live is not None:
        body["enabled"] = change.live.document.get("enabled", True)
    return body


def _as_body(side: Side) -> JsonValue:
    """One side of a change as a body has it: null for none."""
    if isinstance(side, Sensitive):
        return conceal(side.value, side.origin)
    return None if side is ABSENT else side
