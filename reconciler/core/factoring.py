"""What many accounts have in common, lifted into templates; what each of them says is left the same.

An account extends a template only if it declares every leaf of it, with whatever value: then the
leaves that are equal need not be repeated, and the others replace the template's. So no account
ever gets a leaf that it did not have.

Source: docs/adopting.md, "What accounts have in common".
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.core.values import FieldPath, JsonObject, leaves, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.values import JsonValue, Key

_MOST: Final = 8
"""Templates that are made: more would be harder to read than what they save."""

_OWN: Final = frozenset({("settings", "name"), ("settings", "realm")})
"""Leaves that no two accounts have in common."""

_Leaves = dict[FieldPath, "JsonValue"]


@dataclass(frozen=True, slots=True)
class Factored:
    """`templates`: blocks, in order of use. `extends`: which of them lies below an account, if one does.

    `blocks`: what is left to declare of each account.
    """

    templates: tuple[JsonObject, ...]
    extends: Mapping[Key, int]
    blocks: Mapping[Key, JsonObject]


@dataclass(frozen=True, slots=True)
class _Frequent:
    """The value that most accounts have at a path; who has the path, and who that value."""

    value: JsonValue
    holders: frozenset[Key]
    equal: frozenset[Key]


def factored(blocks: Mapping[Key, JsonObject]) -> Factored:
    """The blocks with what most of them share in templates. Each means what it meant."""
    accounts = {key: dict(leaves(block)) for key, block in blocks.items()}
    templates: list[JsonObject] = []
    extends: dict[Key, int] = {}
    rest = dict(accounts)
    while len(templates) < _MOST and len(rest) > 1:
        template, members = _template(rest)
        if not template:
            break
        for key in members:
            extends[key] = len(templates)
            accounts[key] = {
                path: value
                for path, value in rest.pop(key).items()
                if path not in template or key not in template[path].equal
            }
        templates.append(_nested({path: found.value for path, found in template.items()}))
    return Factored(
        tuple(templates), extends, {key: _nested(found) for key, found in accounts.items()}
    )


def shared(blocks: Sequence[JsonObject]) -> JsonObject:
    """The leaves that all accounts have, with the value that most of them have: what defaults can say."""
    accounts = {str(number): dict(leaves(block)) for number, block in enumerate(blocks)}
    frequent = _frequent(accounts) if len(accounts) > 1 else {}
    return _nested(
        {
            path: found.value
            for path, found in frequent.items()
            if len(found.holders) == len(accounts)
        }
    )


def _template(accounts: Mapping[Key, _Leaves]) -> tuple[dict[FieldPath, _Frequent], list[Key]]:
    """The leaves that save most if the accounts that have all their paths share them; nothing if none do.

    Paths are tried from the most frequent on, and taken if that saves more than it loses: each path
    excludes the accounts that don't have it.
    """
    frequent = _frequent(accounts)
    members = frozenset(accounts)
    template: dict[FieldPath, _Frequent] = {}
    saved = 0
    for path in sorted(frequent, key=lambda path: (-len(frequent[path].holders), path)):
        fewer = members & frequent[path].holders
        more = {**template, path: frequent[path]}
        gain = _saved(more, fewer)
        if gain > saved:
            template, members, saved = more, fewer, gain
    if saved <= len(members):  # each member has a line to name the template by
        return {}, []
    return template, sorted(members)


def _frequent(accounts: Mapping[Key, _Leaves]) -> dict[FieldPath, _Frequent]:
    """The paths that have one value in more than half of the accounts."""
    found_at: defaultdict[FieldPath, defaultdict[str, set[Key]]] = defaultdict(
        lambda: defaultdict(set)
    )
    for key, found in accounts.items():
        for path, value in found.items():
            if path not in _OWN:
                found_at[path][_text(value)].add(key)
    frequent = {}
    for path, by_text in found_at.items():
        text, equal = max(by_text.items(), key=lambda pair: (len(pair[1]), pair[0]))
        if len(equal) * 2 > len(accounts):
            holders = frozenset(key for keys in by_text.values() for key in keys)
            frequent[path] = _Frequent(json.loads(text), holders, frozenset(equal))
    return frequent


def _saved(template: Mapping[FieldPath, _Frequent], members: frozenset[Key]) -> int:
    """Leaves that need not be written: those of members, less those of the template."""
    return sum(len(members & found.equal) for found in template.values()) - len(template)


def _text(value: JsonValue) -> str:
    """What tells values apart: 1 and 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


def _nested(found: _Leaves) -> JsonObject:
    block: JsonObject = {}
    for path, value in found.items():
        place(block, path, value)
    return block
