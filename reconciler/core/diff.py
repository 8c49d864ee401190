"""Declared, applied and live, compared leaf by leaf.

The tool owns the leaves that the YAML declares and no others. Almost every account of almost
every run is equal; `settled` finds that out by plain comparison, and only what is left is given
to DeepDiff, which is called here and nowhere else.

Source: docs/behaviours.md, "Fields"; docs/platform.md 3.5, 3.7, 3.11.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from reconciler.core import account
from reconciler.core.known import covering
from reconciler.core.state import SENSITIVE, applied_leaves, is_masked, masked
from reconciler.core.values import (
    ABSENT,
    FieldPath,
    JsonObject,
    JsonValue,
    MaybeJson,
    Sensitive,
    leaves,
    value_at,
)
from reconciler.core.variables import has_credentials

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from reconciler.core.configuration import Declared
    from reconciler.core.known import Known
    from reconciler.core.live import LiveAccount
    from reconciler.core.state import AccountRecord, State
    from reconciler.core.values import Source

RESELLER: Final[FieldPath] = ("reseller",)
PARENT: Final[FieldPath] = ("parent",)
ENABLED: Final[FieldPath] = ("settings", "enabled")

Side = MaybeJson | Sensitive
"""One side of a change: a value, none, or one that no output may show."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One leaf that would change, or did. `drift`: the live value is not the applied one.

    `known`: the entry by which that drift is left alone.
    """

    path: FieldPath
    op: Literal["add", "change", "remove"]
    before: Side
    after: Side
    drift: bool = False
    source: Source | None = None
    origin: str = ""
    known: Known | None = None

    @property
    def sensitive(self) -> bool:
        """Whether the values may not be shown."""
        return isinstance(self.before, Sensitive) or isinstance(self.after, Sensitive)


def settled(declared: Declared, record: AccountRecord, live: LiveAccount, state: State) -> bool:
    """Whether nothing is to do: state says just this was applied, and it is still so."""
    if masked(declared.block, declared.sensitive, state) != record.applied:
        return False
    if declared.block.get("reseller", live.reseller) != live.reseller:
        return False
    return _covers(declared.settings, live.document, ())


def _covers(declared: JsonObject, live: JsonObject, top: FieldPath) -> bool:
    """Whether every declared leaf is live. `top`: the field of the document that this is in."""
    for name, value in declared.items():
        found = live.get(name, ABSENT)
        path = top or (name,)
        if isinstance(value, dict) and value:
            if not isinstance(found, dict) or not _covers(value, found, path):
                return False
        elif value is None:
            if present(found):
                return False
        elif found is ABSENT or not account.equal(path, value, found):
            return False
    return True


def present(value: MaybeJson) -> bool:
    """Whether there is anything: what is left behind of an emptied object counts as nothing."""
    if isinstance(value, dict):
        return any(present(inner) for inner in value.values())
    return value is not ABSENT and value is not None


def compare(
    declared: Declared, record: AccountRecord | None, live: LiveAccount, state: State
) -> tuple[FieldChange, ...]:
    """What must change for the account to be as it is declared, in order of path.

    `record` is None for an account that is not under management yet.
    """
    applied = applied_leaves(record) if record else {}
    wanted = {
        path: value for path, value in leaves(declared.block) if not _left_alone(declared, path)
    }
    wanted.pop(("settings",), None)
    before: dict[FieldPath, JsonValue] = {}
    after: dict[FieldPath, JsonValue] = {}
    for path, value in wanted.items():
        found = value_at(live.block, path)
        if found is not ABSENT and (value is not None or present(found)):
            before[path] = found
        if value is not None:
            after[path] = value
    for path in _owed(declared, applied, wanted, live):
        found = value_at(live.block, path)
        if found is not ABSENT:
            before[path] = found
    if _to_be_demoted(applied, wanted, live):
        before[RESELLER], after[RESELLER] = True, False

    def field_change(path: FieldPath) -> FieldChange:
        old, new = before.get(path, ABSENT), after.get(path, ABSENT)
        secret = declared.sensitive.get(path) or (
            "applied" if is_masked(applied.get(path, ABSENT)) else None
        )
        drift = path in applied and not _as_applied(path, applied[path], old, state)
        place = declared.origin(path) if path in wanted else (declared.source, "state")
        known = covering(declared.known, path) if drift else None
        return replace(_change(path, old, new, secret, drift, place), known=known)

    return tuple(field_change(path) for path in _differing(before, after))


def creation(declared: Declared) -> tuple[FieldChange, ...]:
    """The fields of an account that does not exist yet, in order of path."""
    return tuple(field for field in resolved(declared) if field.after is not None)


def resolved(declared: Declared) -> tuple[FieldChange, ...]:
    """Every declared leaf with its value and where that comes from, in order of path; null, too."""
    return tuple(
        _change(path, ABSENT, value, declared.sensitive.get(path), False, declared.origin(path))
        for path, value in sorted(leaves(declared.block))
        if path != ("settings",)
    )


def rank(declared: Declared, record: AccountRecord | None, live: LiveAccount) -> bool:
    """Whether the account is to be a reseller; as it is, if nobody ever declared that."""
    said = declared.block.get("reseller")
    if isinstance(said, bool):
        return said
    left = record is not None and record.applied.get("reseller") is True
    return live.reseller and not left


def drifted(
    record: AccountRecord, declared: Declared | None, live: LiveAccount, state: State
) -> tuple[FieldChange, ...]:
    """What was changed behind the tool's back since the last apply: before = applied, after = live.

    Where the YAML has come to say what is live, nothing is behind its back any more. The rank that
    the account had counts also where nobody declares one.
    """
    changes = []
    for path, value in sorted({RESELLER: record.reseller, **applied_leaves(record)}.items()):
        if declared is not None and _left_alone(declared, path):
            continue
        if declared is None and path[1:] in account.SERVER_WRITTEN:
            continue
        found = value_at(live.block, path)
        if not present(found) and not (isinstance(found, dict) and value == {}):
            found = ABSENT
        if _as_applied(path, value, found, state) or _as_declared(declared, path, found):
            continue
        if path == RESELLER and _left_reseller(declared, record) and found is False:
            continue  # it left the YAML, which means demote
        secret = "applied" if is_masked(value) else None
        place: tuple[Source | None, str] = (None, "")
        known = None
        if declared is not None:
            secret = declared.sensitive.get(path, secret)
            known = covering(declared.known, path)
            if value_at(declared.block, path) is not ABSENT:
                place = declared.origin(path)
        before = ABSENT if value is None else value
        change = _change(path, before, found, secret, True, place)
        changes.append(replace(change, known=known))
    return tuple(changes)


def _as_declared(declared: Declared | None, path: FieldPath, live: MaybeJson) -> bool:
    """Whether the live value is the one that the YAML asks for by now."""
    wanted = value_at(declared.block, path) if declared else ABSENT
    if wanted is ABSENT or wanted is None:
        return live is ABSENT
    return live is not ABSENT and same(path, wanted, live)


def _left_reseller(declared: Declared | None, record: AccountRecord) -> bool:
    """Whether `reseller: true` was ours, and left the YAML."""
    said = declared is not None and "reseller" in declared.block
    return record.applied.get("reseller") is True and not said


def observed(record: AccountRecord, path: FieldPath, live: LiveAccount, state: State) -> bool:
    """Whether the field is live as it was when state last heard of the account."""
    seen = value_at({"reseller": record.reseller, **record.observed}, path)
    found = value_at(live.block, path)
    if seen is ABSENT or not present(found):
        return not present(seen) and not present(found)
    return _as_applied(path, seen, found, state)


def confirmed(
    declared: Declared,
    record: AccountRecord | None,
    live: LiveAccount,
    state: State,
    held: Collection[FieldPath] = (),
) -> tuple[JsonObject, JsonObject, tuple[FieldPath, ...]]:
    """What state may claim after the account was read back: applied, observed, and what is not so.

    `held`: known drift that is left alone. What was claimed of it before stays claimed.

    A declared leaf is claimed if it is live. One that is not keeps what was claimed before, so
    that what is owed (a removal, a value) stays known. Returned last: declared leaves that the
    platform did not keep, and leaves that it did not remove.
    """
    applied: JsonObject = {"settings": {}}
    observed: JsonObject = {"settings": {}}
    earlier = applied_leaves(record) if record else {}
    shown = masked(declared.block, declared.sensitive, state)
    wanted = dict(leaves(declared.block))
    missed: list[FieldPath] = []
    for path, value in wanted.items():
        if path == ("settings",):
            continue
        found = value_at(live.block, path)
        ignored = _left_alone(declared, path)
        left = ignored or path in held
        holds = (
            not present(found)
            if value is None
            else found is not ABSENT and same(path, value, found)
        )
        if holds or ignored:
            _put(applied, path, value_at(shown, path))
        elif path in earlier:
            _put(applied, path, earlier[path])
        if not holds and not left:
            missed.append(path)
        if found is not ABSENT:
            hidden = path in declared.sensitive or is_secret(found)
            _put(observed, path, {SENSITIVE: state.digest(found)} if hidden else found)
    owed = list(_owed(declared, earlier, wanted, live))
    if _to_be_demoted(earlier, wanted, live):
        owed.append(RESELLER)
    for path in owed:
        _put(applied, path, earlier[path])
        if path not in held:
            missed.append(path)
    return applied, observed, tuple(missed)


def _put(document: JsonObject, path: FieldPath, value: MaybeJson) -> None:
    """Put a leaf; one inside or around it that is there already gives way to what is declared."""
    for segment in path[:-1]:
        inner = document.get(segment)
        if not isinstance(inner, dict) or is_masked(inner):
            inner = document[segment] = {}
        document = inner
    if value is not ABSENT:
        document[path[-1]] = value


def declares(declared: Declared, path: FieldPath) -> bool:
    """Whether the YAML says what is to be at `path`, itself or by a value that encloses it.

    What is set at creation and never after is not said.
    """
    node: JsonValue = declared.block
    for segment in path:
        if not isinstance(node, dict) or not node:
            break  # a leaf that encloses it
        if segment not in node:
            return False
        node = node[segment]
    return not _left_alone(declared, path)


def holds(change: FieldChange, live: LiveAccount) -> bool:
    """Whether what was to change has changed."""
    found = value_at(live.block, change.path)
    after = change.after.value if isinstance(change.after, Sensitive) else change.after
    if after is ABSENT or found is ABSENT:
        return after is ABSENT and not present(found)
    return same(change.path, after, found)


def _left_alone(declared: Declared, path: FieldPath) -> bool:
    """Whether the field is set at creation and never after."""
    return path[1:] in account.SERVER_WRITTEN or declared.lifecycle.ignores(path)


def _owed(
    declared: Declared,
    applied: Mapping[FieldPath, JsonValue],
    wanted: Mapping[FieldPath, JsonValue],
    live: LiveAccount,
) -> Iterator[FieldPath]:
    """The leaves that were ours, left the YAML, and are live still: they are to be removed.

    A leaf that now stands inside or around a declared one goes with it. `name`, `realm`,
    `timezone` and `enabled` can't be absent on the platform: they are let go.
    """
    inner = {path[:length] for path in wanted for length in range(1, len(path) + 1)}
    for path, value in sorted(applied.items()):
        if value is None or path[0] != "settings" or path in inner or _left_alone(declared, path):
            continue
        if len(path) == 2 and path[1] in account.NEVER_ABSENT:  # noqa: PLR2004 - settings.FIELD
            continue
        if any(path[:length] in wanted for length in range(1, len(path))):
            continue
        found = value_at(live.block, path)
        if present(found) and not isinstance(found, dict):
            yield path


def _to_be_demoted(
    applied: Mapping[FieldPath, JsonValue], wanted: Mapping[FieldPath, JsonValue], live: LiveAccount
) -> bool:
    """Whether `reseller: true` was ours and left the YAML: that means demote."""
    return applied.get(RESELLER) is True and RESELLER not in wanted and live.reseller


def _differing(
    before: Mapping[FieldPath, JsonValue], after: Mapping[FieldPath, JsonValue]
) -> list[FieldPath]:
    """The paths whose values are not equal, in order. DeepDiff sees only the fields that differ."""
    unequal = {path for path in {*before, *after} if not _equal_sides(path, before, after)}
    if not unequal:
        return []
    fields = {path[:2] for path in unequal}
    from deepdiff import DeepDiff  # costs an eighth of a second; most runs never need it

    old = {path: _normal(path, value) for path, value in before.items() if path[:2] in fields}
    new = {path: _normal(path, value) for path, value in after.items() if path[:2] in fields}
    # Without a threshold of 0, documents with little in common are one change of the whole.
    difference = DeepDiff(old, new, view="tree", threshold_to_diff_deeper=0)
    changed = {
        level.path(output_format="list")[0] for levels in difference.values() for level in levels
    }
    return sorted(changed | unequal)  # DeepDiff takes [false] for [0]; the platform does not


def _equal_sides(
    path: FieldPath, before: Mapping[FieldPath, JsonValue], after: Mapping[FieldPath, JsonValue]
) -> bool:
    return path in before and path in after and same(path, after[path], before[path])


def same(path: FieldPath, left: JsonValue, right: JsonValue) -> bool:
    """Whether two values of the field at `path` of a block are one to the platform."""
    return account.equal(path[1:], left, right)


def _normal(path: FieldPath, value: JsonValue) -> JsonValue:
    """The value in a form in which what is equal on the platform is equal to DeepDiff."""
    if path == ("settings", "flags") and isinstance(value, list):
        return sorted({str(flag): flag for flag in value}, key=str)  # a set of labels
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_normal((), inner) for inner in value]
    if isinstance(value, dict):
        return {name: _normal((), inner) for name, inner in value.items()}
    return value


def _as_applied(path: FieldPath, applied: JsonValue, live: MaybeJson, state: State) -> bool:
    """Whether the live value is the one that was applied."""
    if applied is None:
        return not present(live)
    if live is ABSENT:
        return False
    if isinstance(applied, dict) and is_masked(applied):
        return applied[SENSITIVE] == state.digest(live)
    return same(path, applied, live)


def _change(
    path: FieldPath,
    before: MaybeJson,
    after: MaybeJson,
    secret: str | None,
    drift: bool,
    place: tuple[Source | None, str] = (None, ""),
) -> FieldChange:
    """One change. `secret`: where a sensitive value comes from; `place`: what declares the field."""
    op: Literal["add", "change", "remove"] = "change"
    if before is ABSENT:
        op = "add"
    elif after is ABSENT:
        op = "remove"
    return FieldChange(path, op, _hidden(before, secret), _hidden(after, secret), drift, *place)


def shield(value: JsonValue) -> Side:
    """A live value, hidden if it holds the credentials of a URL."""
    return Sensitive(value, "live") if is_secret(value) else value


def _hidden(value: MaybeJson, secret: str | None) -> Side:
    if value is ABSENT:
        return value
    return Sensitive(value, secret) if secret else shield(value)


def is_secret(value: MaybeJson) -> bool:
    """Whether a value from anywhere holds the credentials of a URL."""
    if isinstance(value, str):
        return has_credentials(value)
    if isinstance(value, list):
        return any(is_secret(inner) for inner in value)
    if isinstance(value, dict):
        return any(is_secret(inner) for inner in value.values())
    return False
