"""What the platform does to an account document before it keeps it: pure functions of values.

Merging, filling in, repairing and refusing, each as its own step; `accounts.py` puts them in the
platform's order. Documents that come in are never changed, only answered anew.
Source: docs/platform.md 3.5 to 3.7, 5.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.core.account import (
    MODULES,
    OPTION_NAMES,
    READ_ONLY,
    Account,
    Violation,
    unknown_modules,
    violations,
)
from reconciler.core.values import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.wire import Errors

DEFAULT_TIMEZONE: Final = "America/Los_Angeles"
RANDOM_REALM_SUFFIX: Final = "sip.2600hz.com"
GREGORIAN_EPOCH: Final = 62_167_219_200
"""Seconds from the year 0 to 1970: what the platform adds to Unix time. All: 3.3 to 3.5."""

EMPTY_BY_DEFAULT: Final = ("call_restriction", "music_on_hold", "preflow", "ringtones")
_STRIPPED: Final = frozenset({"superduper_admin", "wnm_allow_additions", "billing_mode"})
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_BOOLEANS: Final = {"true": True, "false": False}

_MESSAGES: Final = {
    "realm": "Account realm already in use",
    "name": "Account name already in use",
}

Path = tuple["str | int", ...]


# --- normal forms: 3.5, 5.4 ---


def stored_realm(realm: str) -> str:
    """Take the blanks out, as the platform does when it saves; the case stays."""
    return "".join(realm.split(" "))


def comparable_realm(realm: str) -> str:
    """Bring a realm into the form in which it must be unique."""
    return stored_realm(realm).lower()


def comparable_name(name: str) -> str:
    """Bring a name into the form in which it must be unique: only `a-z0-9` is left of it."""
    return re.sub("[^a-z0-9]+", "", re.sub("[A-Z]+", lambda found: found[0].lower(), name))


# --- what is sent: 3.3, 3.7 ---


def public(data: JsonObject) -> JsonObject:
    """Leave out what a client can't write: private keys, and those the platform strips."""
    return {
        key: value
        for key, value in data.items()
        if not key.startswith(("_", "pvt_")) and key not in _STRIPPED
    }


def merged(stored: JsonObject, change: JsonObject, *, null_removes: bool) -> JsonObject:
    """Merge a change into a document, key by key and all the way down.

    An empty object replaces what is there. `null` removes the key, or else leaves it as it is.
    """
    result = dict(stored)
    for key, value in change.items():
        known = result.get(key)
        if value is None:
            if null_removes:
                result.pop(key, None)
        elif isinstance(value, dict) and value:
            below = known if isinstance(known, dict) else {}
            result[key] = merged(below, value, null_removes=null_removes)
        else:
            result[key] = value
    return result


def null_errors(document: JsonObject) -> Errors:
    """Refuse `null` in the fields that have a type. Source: docs/platform.md 3.5."""
    typed = {key: value for key, value in document.items() if key in Account.model_fields}
    return {
        _dotted(path): {"type": {"message": "Value did not match type(s)", "value": None}}
        for path in _nulls((), typed)
    }


def _nulls(path: Path, value: JsonValue) -> Iterator[Path]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _nulls((*path, key), below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _nulls((*path, index), below)


# --- what is filled in: 3.5, 7.4 ---


def with_defaults(document: JsonObject) -> JsonObject:
    """Add what the platform writes by itself wherever the object around it is there.

    Not `realm`, `timezone` and `enabled`: those depend on more than the document.
    """
    result = {**{key: {} for key in EMPTY_BY_DEFAULT}, **document}
    metaflows = result.get("metaflows")
    if isinstance(metaflows, dict):
        result["metaflows"] = _metaflows_with_defaults(metaflows)
    notifications = result.get("notifications")
    first = notifications.get("first_occurrence") if isinstance(notifications, dict) else None
    if isinstance(notifications, dict) and isinstance(first, dict):
        unsent: JsonObject = {"sent_initial_call": False, "sent_initial_registration": False}
        result["notifications"] = {**notifications, "first_occurrence": {**unsent, **first}}
    return result


def _metaflows_with_defaults(metaflows: JsonObject) -> JsonObject:
    result: JsonObject = {"binding_digit": "*", **metaflows}
    for key in ("numbers", "patterns"):
        nodes = result.get(key)
        if isinstance(nodes, dict):
            result[key] = _nodes_with_defaults(nodes)
    return result


def _nodes_with_defaults(nodes: JsonObject) -> JsonObject:
    return {
        key: _node_with_defaults(node) if isinstance(node, dict) else node
        for key, node in nodes.items()
    }


def _node_with_defaults(node: JsonObject) -> JsonObject:
    result: JsonObject = {"data": {}, **node}
    module, data, children = node.get("module"), result["data"], node.get("children")
    if isinstance(module, str) and module in MODULES and isinstance(data, dict):
        result["data"] = {**_data_defaults(MODULES[module]), **data}
    if isinstance(children, dict):
        result["children"] = _nodes_with_defaults(children)
    return result


def _data_defaults(model: type[BaseModel]) -> JsonObject:
    defaults: JsonObject = {}
    for name, field in model.model_fields.items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            if default is not None:
                defaults[name] = default
    return defaults


# --- what is repaired or refused: 3.5, 5 ---


@dataclass(frozen=True, slots=True)
class Checked:
    """A document after the schema: repaired where that was possible, and what is wrong with it."""

    document: JsonObject
    errors: Errors


def checked(document: JsonObject) -> Checked:
    """Hold a whole document against the schema; text that means a number becomes one."""
    found = _violations(document)
    repairs = [
        (violation.path, repaired)
        for violation in found
        if violation.rule == "type"
        and (repaired := _repaired(violation.value, violation.target)) is not None
    ]
    for path, value in repairs:
        document = _replaced(document, path, value)
    if repairs:
        found = _violations(document)
    errors = _as_errors(found)
    for path in unknown_modules(document):
        errors[_dotted(path)] = {"error": {"message": "unknown metaflow module"}}
    return Checked(document, errors)


def uniqueness_error(field: str, value: str) -> Errors:
    """Say that another account has this `realm` or `name`."""
    return {field: {"unique": {"message": _MESSAGES[field], "cause": value}}}


def both(first: Errors, second: Errors) -> Errors:
    """Join two sets of errors; a field may have several rules against it."""
    joined = dict(first)
    for path, rules in second.items():
        joined[path] = {**joined.get(path, {}), **rules}
    return joined


def _violations(document: JsonObject) -> list[Violation]:
    """Ask the models, without the keys that a client must never send but the platform keeps."""
    seen = {
        key: value
        for key, value in document.items()
        if key not in READ_ONLY and key not in OPTION_NAMES
    }
    return violations(seen, extra_fields=True)


def _repaired(value: object, target: object) -> bool | int | float | None:
    """Read a value as the type that is wanted; None if it can't be."""
    if target == "boolean":
        return _BOOLEANS.get(value) if isinstance(value, str) else None
    if target not in {"integer", "number"} or isinstance(value, bool):
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value) if "." in value else int(value)
    if not isinstance(value, int | float):
        return None
    return _rounded(value) if target == "integer" else value


def _rounded(number: float) -> int:
    """Round half away from zero, as Erlang does and Python does not."""
    return math.floor(abs(number) + 0.5) * (1 if number >= 0 else -1)


def _replaced(value: JsonObject, path: Path, new: JsonValue) -> JsonObject:
    """Copy a document along a path that exists in it, with another value at its end."""
    result = _replaced_below(value, path, new)
    if not isinstance(result, dict):
        raise TypeError("a document is an object")
    return result


def _replaced_below(value: JsonValue, path: Path, new: JsonValue) -> JsonValue:
    if not path:
        return new
    if isinstance(value, list) and isinstance(path[0], int):
        copied = list(value)
        copied[path[0]] = _replaced_below(value[path[0]], path[1:], new)
        return copied
    if isinstance(value, dict) and isinstance(path[0], str):
        return {**value, path[0]: _replaced_below(value[path[0]], path[1:], new)}
    return value


def _as_errors(found: list[Violation]) -> Errors:
    errors: Errors = {}
    for violation in found:
        details: JsonObject = {"message": violation.message}
        if violation.target is not ABSENT:
            details["target"] = violation.target
        if violation.value is not ABSENT:
            details["value"] = violation.value
            if violation.rule in {"minLength", "maxLength"}:
                details["cause"] = violation.value
        errors.setdefault(_dotted(violation.path), {})[violation.rule] = details
    return errors


def _dotted(path: Path) -> str:
    """Write a path as the platform does: a dot inside a key becomes `%2E`."""
    return ".".join(str(part).replace(".", "%2E") for part in path)
