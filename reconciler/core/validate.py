"""Configuration to Diagnostics, all at once: what the platform would refuse, or do differently.

Complete and offline. An error is sure to fail; a warning is legal and probably not meant.

Source: docs/platform.md 1.3, 3.3, 3.5, 3.11, 5.4 and 7; docs/configuration.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from reconciler.core import account
from reconciler.core.configuration import SHOWN
from reconciler.core.shapes import Known, nearest, shown, walk
from reconciler.core.values import ABSENT, ROOT, Diagnostic, address, dotted, value_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reconciler.core.account import Violation
    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.values import MaybeJson, Source

WITHOUT_REALM: Final = "An account without a realm"
"""The summary of a warning that matters only until the account is there."""

_DRAWN: Final = 20
"""Keys of a circle that are told."""

_SUMMARIES: Final = {
    "required": "A missing field",
    "additionalProperties": "An unknown field",
    "type": "A value of the wrong type",
    "enum": "A value that is not allowed",
    "pattern": "A malformed value",
    "wrong_format": "A malformed value",
    "minLength": "A value that is too short",
    "maxLength": "A value that is too long",
    "minimum": "A number that is too small",
    "maximum": "A number that is too large",
}


def validate(configuration: Configuration, zones: frozenset[str]) -> list[Diagnostic]:
    """Everything that is wrong with the accounts, account by account; `folded` puts it in order.

    `zones` are the names of the time zones there are.
    """
    diagnostics: list[Diagnostic] = []
    extra_fields = configuration.settings.extra_fields
    known = Known(sorted(zones))
    for declared in (*configuration.accounts.values(), *configuration.spare):
        if not isinstance(declared.block["settings"], dict):
            continue  # told already
        diagnostics += _settings(declared, zones, known, extra_fields=extra_fields)
        diagnostics += _open(declared)
        diagnostics += _warnings(declared)
    diagnostics += _parents(configuration)
    diagnostics += _collisions(configuration)
    diagnostics += _leaving(configuration)
    diagnostics += _exceptions(configuration)
    return diagnostics


def _exceptions(configuration: Configuration) -> Iterator[Diagnostic]:
    """Exceptions for accounts that there are not."""
    known = configuration.accounts.keys() | configuration.removed.keys()
    names = Known(sorted(known))
    for key, limits in configuration.limits():
        for exemption in limits.exceptions:
            named = exemption.account
            if named is not None and named not in known:
                detail = f"{shown(named)} is neither declared nor `removed`.{names.nearest(named)}"
                owner = None if key is None else address(key)
                yield Diagnostic(
                    "error",
                    "An exception for an unknown account",
                    detail,
                    owner,
                    "safety.exceptions",
                    exemption.source,
                )


def _settings(
    declared: Declared, zones: frozenset[str], known: Known, *, extra_fields: bool
) -> Iterator[Diagnostic]:
    """What is wrong with the document. `known`: the zones, to name the nearest."""
    refused = set()
    for violation in account.violations(declared.settings, extra_fields=extra_fields):
        refused.add(violation.path[:1])
        if violation.rule == "required" and declared.section != "accounts":
            continue  # an account that extends it can say so
        if declared.is_broken(("settings", *violation.path)):
            continue
        yield _violation(declared, violation)
    zone, path = declared.settings.get("timezone"), ("settings", "timezone")
    judged = ("timezone",) not in refused and not declared.is_broken(path)
    if isinstance(zone, str) and judged and zone not in zones:
        near = "" if path in declared.sensitive else known.nearest(zone)
        detail = f"{_quoted(declared, path, zone)} is no time zone.{near}"
        yield _problem(declared, path, "An unknown time zone", detail)


def _violation(declared: Declared, violation: Violation) -> Diagnostic:
    path = ("settings", *violation.path)
    summary = _SUMMARIES.get(violation.rule, "A wrong value")
    name = str(violation.path[-1]) if violation.path else ""
    if violation.rule == "required":
        detail = f"{dotted(path)} must be given."
    elif violation.rule == "additionalProperties":
        known = account.known_keys(tuple(str(part) for part in violation.path[:-1]))
        detail = f"{shown(name)}: {violation.message}{nearest(name, known)}"
    else:
        hint = ""
        if (
            violation.rule == "type"
            and violation.target == "string"
            and not isinstance(violation.value, str)
        ):
            hint = " Quote it." if isinstance(violation.value, bool | int | float) else ""
        found = ABSENT if violation.value is ABSENT else violation.value
        detail = f"Found {_quoted(declared, path, found)}. {violation.message}{hint}"
    if violation.rule == "required":
        found = walk(declared.layers[-1].block, path[:-1]) is not ABSENT
        source = declared.place(path[:-1], key=True) if found else declared.source
    else:
        source = declared.place(path, key=violation.rule == "additionalProperties")
    return Diagnostic("error", summary, detail, declared.address, dotted(path), source)


def _quoted(declared: Declared, path: Sequence[str | int], value: MaybeJson) -> str:
    """The value for an error text, unless it, or what encloses it, is sensitive."""
    texts = tuple(str(part) for part in path)
    if any(
        texts[: len(hidden)] == hidden or hidden[: len(texts)] == texts
        for hidden in declared.sensitive
    ):
        return "(sensitive)"
    return shown(value)


def _open(declared: Declared) -> Iterator[Diagnostic]:
    """Errors for sensitive values where they can't be kept: plans, messages and look-ups show them."""
    for path in SHOWN:
        if path in declared.sensitive:
            detail = (
                f"The {path[-1]} of an account is shown everywhere, or it is found again by it."
                " Use a variable that is not sensitive."
            )
            yield _problem(declared, path, f"A sensitive {path[-1]}", detail)


def _warnings(declared: Declared) -> Iterator[Diagnostic]:
    for path in account.unknown_modules(declared.settings):
        detail = "The platform may know it all the same; its data is passed on unchecked."
        yield _problem(
            declared, ("settings", *path), "An unknown metaflow module", detail, warning=True
        )
    for path in account.broken_patterns(declared.settings):
        detail = f"{shown(path[-1])} does not compile: the platform keeps it, and nothing matches."
        yield _problem(
            declared,
            ("settings", *path),
            "A pattern that does not compile",
            detail,
            warning=True,
            key=True,
        )
    if declared.section != "accounts":
        return
    for path in sorted(account.SERVER_WRITTEN):
        full = ("settings", *path)
        if value_at(declared.block, full) is not ABSENT and not declared.lifecycle.ignores(full):
            detail = (
                "The platform writes this field by itself, so it is set at creation and then left alone."
                f" Say so: lifecycle: {{ignore_changes: [{dotted(path)}]}}."
            )
            yield _problem(declared, full, "A field that the platform writes", detail, warning=True)
    if "realm" not in declared.settings and declared.id is None:
        detail = "After a lost answer the new account could be found again by its name alone. Declare a realm."
        where = (declared.address, "settings.realm", declared.source)
        yield Diagnostic("warning", WITHOUT_REALM, detail, *where)


def _parents(configuration: Configuration) -> Iterator[Diagnostic]:
    """Unknown parents and circles. Each circle is told once, at its first key."""
    known = Known(configuration.accounts)
    for declared in (*configuration.accounts.values(), *configuration.spare):
        known_parent = declared.parent == ROOT or declared.parent in configuration.accounts
        if not known_parent and not declared.is_broken(("parent",)):
            quoted = _quoted(declared, ("parent",), declared.parent)
            near = "" if ("parent",) in declared.sensitive else known.nearest(declared.parent)
            detail = f"{quoted} is no account, nor `root`.{near}"
            yield _problem(declared, ("parent",), "An unknown parent", detail)
    settled: set[str] = {ROOT}
    for key, declared in configuration.accounts.items():
        path: dict[str, None] = {}
        current = key
        while current not in settled and current in configuration.accounts and current not in path:
            path[current] = None
            current = configuration.accounts[current].parent
        if current in path:
            keys = list(path)
            circle = _circle([*keys[keys.index(current) :], current])
            yield _problem(declared, ("parent",), "Parents in a circle", circle)
        settled.update(path)


def _circle(keys: list[str]) -> str:
    """A circle as a path; of a long one, how it begins and ends."""
    ends = [*keys[: _DRAWN // 2], f"… ({len(keys) - _DRAWN} more)", *keys[-_DRAWN // 2 :]]
    return f"{' -> '.join(keys if len(keys) <= _DRAWN else ends)}."


def _collisions(configuration: Configuration) -> Iterator[Diagnostic]:
    yield from _collide(
        configuration, "realm", account.normal_realm, "compared in lower case, without blanks"
    )
    yield from _collide(
        configuration, "name", account.normal_name, "compared by the letters a-z and digits alone"
    )


def _collide(
    configuration: Configuration, name: str, normal: Callable[[str], str], how: str
) -> Iterator[Diagnostic]:
    first: dict[str, Declared] = {}
    for declared in configuration.accounts.values():
        value = declared.settings.get(name)
        if not isinstance(value, str) or declared.is_broken(("settings", name)):
            continue
        other = first.setdefault(normal(value), declared)
        if other is not declared and not (other.id and declared.id):  # else the platform let them
            other, later = sorted((other, declared), key=lambda d: d.place(("settings", name)))
            theirs = f"{address(other.key)} ({other.place(('settings', name))})"
            quoted = _quoted(later, ("settings", name), value)
            detail = f"{quoted} is taken by {theirs}; {name}s are unique on the platform, {how}."
            yield _problem(later, ("settings", name), f"A {name} declared twice", detail)


def _leaving(configuration: Configuration) -> Iterator[Diagnostic]:
    for key, removed in configuration.removed.items():
        if key in configuration.accounts:
            place = configuration.accounts[key].source
            detail = f"It is declared at {place}. Remove one of the two."
            yield Diagnostic(
                "error",
                "A removed account that is declared",
                detail,
                address(key),
                None,
                removed.source,
            )
    for moved in configuration.moved:
        if moved.new not in configuration.accounts:
            detail = f"{shown(moved.new)} is no account."
            yield Diagnostic(
                "error", "A move to an unknown key", detail, address(moved.new), None, moved.source
            )
        if moved.old in configuration.accounts:
            detail = f"{address(moved.old)} is declared still."
            yield Diagnostic(
                "error",
                "A move from a declared key",
                detail,
                address(moved.old),
                None,
                moved.source,
            )


def _problem(
    declared: Declared,
    path: Sequence[str | int],
    summary: str,
    detail: str,
    *,
    warning: bool = False,
    key: bool = False,
) -> Diagnostic:
    """What is wrong with the value at `path`, or with its key."""
    severity: Literal["error", "warning"] = "warning" if warning else "error"
    source: Source = declared.place(path, key=key)
    return Diagnostic(severity, summary, detail, declared.address, dotted(tuple(path)), source)
