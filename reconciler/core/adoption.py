"""Accounts that exist to declarations that say what is so: keys, parents, and which leaves to declare.

What is written must validate, and a plan from it must be empty. So whatever can't be declared (a
value that validation refuses, a secret, a number that YAML can't hold) is left out, and told.

Source: docs/adopting.md; docs/platform.md 3.3, 3.5 and 3.11 (what nobody need declare).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from reconciler.core import account
from reconciler.core.diff import is_secret, present, same
from reconciler.core.state import SENSITIVE
from reconciler.core.values import (
    ABSENT,
    ROOT,
    Diagnostic,
    FieldPath,
    JsonObject,
    address,
    dotted,
    leaves,
    place,
    value_at,
)
from reconciler.core.variables import has_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from reconciler.core.account import DocumentPath, Violation
    from reconciler.core.configuration import Declared
    from reconciler.core.live import Live, LiveAccount, Row
    from reconciler.core.state import State
    from reconciler.core.values import AccountId, JsonValue, Key

_KEY_LENGTH: Final = 48
"""Characters of a name that become its key: of the 64 that one may have, some are for a number."""

_DEPTH: Final = 56
"""Levels of a value in `settings`: a file may have 64, and some stand above `settings`."""

_LONG_NAME: Final = 1000
"""Characters of a mapping's key as it is written: YAML's parsers give up beyond 1024."""

_SHOWN: Final = 3
"""Accounts that a warning names of those it is about."""

_NODES: Final = ("numbers", "patterns")

SECRET: Final = (
    "It is a URL with a user part or a query, which may be secret and must not go into Git."
)
_SECRET_ADVICE: Final = (
    "To manage it, declare a variable, `variables: {NAME: {env: NAME, sensitive: true}}`, and write"
    " ${var.NAME} for the value."
)
_DEEP: Final = "It is nested too deeply for a file."
_UNHELD: Final = "No file can hold it."
_NAMELESS: Final = (
    "The account's name can't be declared. Another stands in for it, and lifecycle.ignore_changes"
    " leaves the real one alone."
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field of an account's document that is not declared, and why. Never its value."""

    path: FieldPath
    reason: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is to be declared of an account.

    `settings`: its leaves, as they are live, but for those in `ignored`, which are left alone.
    """

    settings: JsonObject
    ignored: tuple[FieldPath, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be declared. `zones`: the names of time zones; `extra_fields`: unknown ones, too."""

    zones: Container[str]
    extra_fields: bool = False


# --- which accounts ---------------------------------------------------------------------------


def chosen(live: Live, top: AccountId, patterns: Sequence[str]) -> list[AccountId]:
    """The accounts to adopt, parents before children.

    Those at and below `top`; of these, if there are `patterns`, the ones whose name, realm or id
    matches one; and all that these stand below, since a parent must be declared, too.
    """
    everything = live.below(live.root)
    inside = everything if top == live.root else [top, *live.below(top)]
    lowered = [pattern.lower() for pattern in patterns]
    wanted = [i for i in inside if not lowered or _matches(live.rows[i], lowered)]
    kept = set(wanted)
    for current in wanted:
        parent = live.rows[current].parent_id
        while parent in live.rows and parent not in kept:
            kept.add(parent)
            parent = live.rows[parent].parent_id
    return [i for i in everything if i in kept]


def _matches(row: Row, patterns: Sequence[str]) -> bool:
    texts = [text.lower() for text in (row.name, row.realm, row.id)]
    return any(fnmatchcase(text, pattern) for text in texts for pattern in patterns)


def unreachable(live: Live) -> list[Row]:
    """Accounts in the list that no way leads to from the root: in a circle, or moved to nowhere."""
    below = set(live.below(live.root))
    return [row for row in live.rows.values() if row.id not in below]


# --- keys -------------------------------------------------------------------------------------


def keys_for(accounts: Iterable[LiveAccount], taken: Iterable[Key]) -> dict[AccountId, Key]:
    """A key for each account, made of its name, unlike all others and those `taken`.

    Where names are alike, the oldest account has the plain key, so that younger ones change nothing.
    """
    used = {key.lower() for key in taken} | {ROOT}
    last: defaultdict[str, int] = defaultdict(lambda: 1)
    keys: dict[AccountId, Key] = {}
    for current in sorted(accounts, key=lambda a: (a.created, a.id)):
        plain = key = key_of(current)
        while key in used:
            last[plain] += 1
            key = f"{plain}-{last[plain]}"
        used.add(key)
        keys[current.id] = key
    return keys


def key_of(current: LiveAccount) -> Key:
    """The key that an account would have if it were alone: of its name, realm or id."""
    realm = current.document.get("realm")
    label = realm.partition(".")[0] if isinstance(realm, str) else ""
    name = "" if has_credentials(current.name) else current.name
    return _slug(name) or _slug(label) or f"account-{_slug(current.id)}"[:_KEY_LENGTH].rstrip("-")


def _slug(text: str) -> str:
    """`text` in lower-case ASCII letters and digits, with dashes between: `Café Zoë` is `cafe-zoe`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:_KEY_LENGTH].rstrip("-")


# --- which leaves -----------------------------------------------------------------------------


def declaration(current: LiveAccount, rules: Rules) -> Declaration:
    """What is to be declared of an account so that nothing is to do."""
    settings: JsonObject = {}
    left_out: list[LeftOut] = []
    ignored: tuple[FieldPath, ...] = ()
    for path, value in _leaves(current.document):
        reason = _unwritable(path, value)
        if reason and path != ("name",):
            left_out.append(LeftOut(path, reason))
        elif not _goes_without_saying(current.document, path, value):
            place(settings, path, value)
    if not _is_declarable_name(settings.get("name")):
        settings["name"] = f"account {current.id}"
        ignored = (("settings", "name"),)
        left_out.append(LeftOut(("name",), _NAMELESS))
    left_out += _without_violations(settings, rules)
    return Declaration(settings, ignored, tuple(left_out))


def _is_declarable_name(name: JsonValue) -> bool:
    return not (_unwritable(("name",), name) or account.violations({"name": name}))


def _leaves(document: JsonObject) -> Iterator[tuple[FieldPath, JsonValue]]:
    """Each leaf with its path, as `leaves` does; without recursion, and what is too deep is a leaf."""
    waiting: list[tuple[FieldPath, JsonValue]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and (value or not path) and len(path) < _DEPTH:
            waiting += [((*path, name), inner) for name, inner in reversed(value.items())]
        else:
            yield path, value


def _unwritable(path: FieldPath, value: JsonValue) -> str:
    """Why no file can or may hold this leaf; "" if one can."""
    if len(path) + _depth_of(value) > _DEPTH:
        return _DEEP
    if is_secret(value):
        return f"{SECRET} {_SECRET_ADVICE}"
    if SENSITIVE in path or not all(map(_is_writable_key, path)) or not _is_writable(value):
        return _UNHELD
    return ""


def _depth_of(value: JsonValue) -> int:
    """How many collections stand inside one another."""
    depth, level = 0, [value]
    while level and depth <= _DEPTH:
        collections = [v for v in level if isinstance(v, dict | list)]
        level = [inner for v in collections for inner in (v.values() if isinstance(v, dict) else v)]
        depth += bool(collections)
    return depth


def _is_writable(value: JsonValue) -> bool:
    """Whether YAML as we read it has this value: no NUL, no half characters, 64-bit integers."""
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_writable, value))
    if isinstance(value, dict):
        return all(_is_writable_key(k) and _is_writable(v) for k, v in value.items())
    return True


def _is_writable_key(key: str) -> bool:
    return _is_text(key) and len(key.encode("unicode_escape")) + key.count('"') <= _LONG_NAME


def _is_text(text: str) -> bool:
    return re.search("[\0\ud800-\udfff]", text) is None


def _goes_without_saying(document: JsonObject, path: FieldPath, value: JsonValue) -> bool:
    """Whether nobody need declare a leaf: nothing, the platform's default, or written by it.

    But `enabled` is always declared: that an account was switched off must be found.
    """
    if path == ("enabled",):
        return False
    if value is None or path in account.SERVER_WRITTEN:
        return True
    default = account.default_of(path)
    if default is not ABSENT and account.equal(path, default, value):
        return True
    return _is_default_of_module(document, path, value)


def _is_default_of_module(document: JsonObject, path: FieldPath, value: JsonValue) -> bool:
    """Whether a leaf in the `data` of a metaflow is what its module has of itself."""
    if path[:1] != ("metaflows",) or path[1:2] == () or path[1] not in _NODES:
        return False
    # metaflows.numbers.KEY, then children.KEY as often as may be, then data.FIELD
    at = next((n for n in range(3, len(path), 2) if path[n] != "children"), len(path))
    if path[at : at + 1] != ("data",) or len(path) != at + 2:
        return False
    module = value_at(document, (*path[:at], "module"))
    model = account.MODULES.get(module) if isinstance(module, str) else None
    field = model.model_fields.get(path[-1]) if model else None
    if field is None or field.is_required():
        return False
    default = field.get_default(call_default_factory=True)
    return default is not None and account.equal(path, default, value)


def _without_violations(settings: JsonObject, rules: Rules) -> Iterator[LeftOut]:
    """Take out of `settings` what validation would refuse; and what that is."""
    zone = settings.get("timezone")
    if isinstance(zone, str) and zone not in rules.zones:
        del settings["timezone"]
        yield LeftOut(("timezone",), "There is no such time zone.")
    while found := account.violations(settings, extra_fields=rules.extra_fields):
        way, violation = max(
            ((_way_to(settings, violation.path), violation) for violation in found),
            key=lambda pair: len(pair[0]),
        )
        if not way:
            return  # whoever loads what is written will say it
        _take_out(settings, way)
        yield LeftOut(way, _why_refused(violation))


def _why_refused(violation: Violation) -> str:
    """Why validation would refuse it; of a field from a newer platform, what would keep it."""
    if violation.rule == "required":
        return f"Validation would refuse it: {dotted(violation.path)} is missing."
    if account.may_be_extra(violation):
        return "This version does not know the field. `api.extra_fields: allow` would keep it."
    return f"Validation would refuse it. {violation.message}"


def _way_to(settings: JsonObject, path: DocumentPath) -> FieldPath:
    """The leaf that a violation is about. A list is one; what lacks something goes as a whole."""
    way: list[str] = []
    node: JsonValue = settings
    for segment in path:
        if not isinstance(node, dict) or segment not in node:
            break
        way.append(str(segment))
        node = node[str(segment)]
    return tuple(way)


def _take_out(settings: JsonObject, path: FieldPath) -> None:
    """Remove what stands at `path`, and the mappings that are empty then."""
    inner = value_at(settings, path[:-1])
    if not isinstance(inner, dict):
        return
    inner.pop(path[-1], None)
    if not inner and len(path) > 1:
        _take_out(settings, path[:-1])


# --- conflicts --------------------------------------------------------------------------------


def normal_forms(settings: Mapping[str, JsonValue]) -> Iterator[str]:
    """By what the platform knows an account from others, as far as it is told."""
    forms: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("realm", account.normal_realm),
        ("name", account.normal_name),
    )
    for name, normal in forms:
        value = settings.get(name)
        if isinstance(value, str):
            yield f"{name} {normal(value)}"


def literal(block: JsonObject) -> JsonObject:
    """What to write for `block`, so that interpolation leaves it as it is."""
    return {name: _literal(value) for name, value in block.items()}


def _literal(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return literal(value) if isinstance(value, dict) else value


# --- blocks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """An account about to be declared. `parent`: the key of what it stands below."""

    key: Key
    parent: Key
    account: LiveAccount
    declaration: Declaration

    @property
    def wanted(self) -> JsonObject:
        """The block as it should be when all layers are merged."""
        return {"reseller": self.account.reseller, "settings": self.declaration.settings}


def own_block(draft: Draft, base: Declared | None) -> tuple[JsonObject, JsonObject]:
    """What the account's own block says over `base`, which lies below it: leaves, and all the rest.

    What `base` says of fields that the account does not have can't be unsaid: it is left alone.
    """
    below = dict(leaves(base.block)) if base else {}
    below.pop(("settings",), None)
    own: JsonObject = {}
    wanted = dict(leaves(draft.wanted))
    for path, value in wanted.items():
        if path not in below or not identical(below[path], value):
            place(own, path, value)
    unsaid = [p for p, v in below.items() if p not in wanted and not _holds(draft, own, p, v)]
    ignored = {*draft.declaration.ignored, *unsaid}
    rest: JsonObject = {"id": draft.account.id}
    if draft.parent != (base.parent if base else ROOT):
        rest["parent"] = draft.parent
    if ignored:
        ignored.update(base.lifecycle.ignore_changes if base else ())
        rest["lifecycle"] = {
            "ignore_changes": [_literal(dotted(path[1:])) for path in sorted(ignored)]
        }
    return own, rest


def _holds(draft: Draft, own: JsonObject, path: FieldPath, value: JsonValue) -> bool:
    """Whether a leaf from below is as it is live, or is replaced by what stands above it."""
    for length in range(1, len(path)):
        covering = value_at(own, path[:length])
        if covering is not ABSENT and not isinstance(covering, dict):
            return True
    if isinstance(value_at(own, path), dict):
        return True
    found = value_at(draft.account.block, path)
    if value is None:
        return not present(found)
    return found is not ABSENT and same(path, value, found)


def identical(left: JsonValue, right: JsonValue) -> bool:
    """Whether two values are written alike: 1, 1.0 and true are three."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(identical(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(identical, left, right))
    return type(left) is type(right) and left == right


def altered(draft: Draft, declared: Declared, base: Declared | None) -> bool:
    """Whether an account as it was loaded says anything else than what was meant, or more."""
    wanted = dict(leaves(draft.wanted))
    below = dict(leaves(base.block)) if base else {}
    loaded = dict(leaves(declared.block))
    return (
        any(
            not identical(loaded[path], wanted[path])
            if path in wanted
            else path not in below and path != ("settings",)
            for path in loaded
        )
        or not wanted.keys() <= loaded.keys() | below.keys()
    )


# --- outcome ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Adopted:
    """An account that is under management now. `file`: "" if it was declared already, by its id."""

    key: Key
    id: AccountId
    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An account that was not adopted, and why."""

    id: AccountId
    name: str
    reason: str


@dataclass(frozen=True, slots=True, repr=False)  # large: asyncio.run takes the repr of results
class Adoption:
    """What came of an adoption. `known`: accounts that were under management before.

    `files`: what was written, in order; `left_out`: fields that are not declared, by key.
    """

    state: State
    adopted: tuple[Adopted, ...]
    known: int
    skipped: tuple[Skipped, ...]
    left_out: Mapping[Key, tuple[LeftOut, ...]]
    files: tuple[str, ...]

    def diagnostics(self) -> list[Diagnostic]:
        """Warnings: each field that was left out once, with the accounts; each account not adopted."""
        groups: defaultdict[LeftOut, list[Key]] = defaultdict(list)
        for key, fields in sorted(self.left_out.items()):
            for found in fields:
                groups[found].append(key)
        return [
            *(_told(found, keys) for found, keys in sorted(groups.items(), key=_place_of)),
            *(
                Diagnostic(
                    "warning", "An account that is not adopted", f"{s.id} ({s.name}): {s.reason}"
                )
                for s in self.skipped
            ),
        ]


def _place_of(group: tuple[LeftOut, list[Key]]) -> tuple[FieldPath, str]:
    return group[0].path, group[0].reason


def _told(found: LeftOut, keys: Sequence[Key]) -> Diagnostic:
    path = dotted(("settings", *found.path))
    if len(keys) == 1:
        return Diagnostic("warning", "A field left out", found.reason, address(keys[0]), path)
    shown = ", ".join(map(address, keys[:_SHOWN]))
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    detail = f"{found.reason} In {len(keys)} accounts: {shown}{more}."
    return Diagnostic("warning", "A field left out", detail, None, path)
