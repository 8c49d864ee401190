"""Known drift: what was changed outside and may stay so for a while, with the reason.

An entry holds for a leaf only while live is not what was applied: whoever changes the YAML of a leaf
that nobody touched outside gets what he declares.

Source: docs/drift.md, "Known drift".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final

from reconciler.core.shapes import ACCOUNT_PATTERN, shown
from reconciler.core.values import (
    ABSENT,
    Diagnostic,
    FieldPath,
    Key,
    MappingNode,
    Source,
    address,
    dotted,
    locate,
    parse_path,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.shapes import DriftShape, KnownShape

_TOP: Final = ("settings", "reseller", "parent")
"""The fields of a block that can drift."""

PLACE: Final = "drift.accept"
"""Where entries stand in reconciler.yaml."""


@dataclass(frozen=True, slots=True)
class Known:
    """One entry. `account`: a key, or a pattern with `*`; `until`: the last day that it holds, UTC."""

    account: str
    path: FieldPath
    reason: str
    until: date
    source: Source

    def is_about(self, key: Key) -> bool:
        """Whether the account is one of those named."""
        if "*" not in self.account:
            return key == self.account
        parts = map(re.escape, self.account.split("*"))
        return re.fullmatch(".*".join(parts), key) is not None

    def covers(self, path: FieldPath) -> bool:
        """Whether the field is the one named, or below it."""
        return path[: len(self.path)] == self.path


def covering(entries: Iterable[Known], path: FieldPath) -> Known | None:
    """The first entry that names the field, or what it stands in."""
    return next((entry for entry in entries if entry.covers(path)), None)


def read_known(shape: DriftShape, node: MappingNode) -> tuple[tuple[Known, ...], list[Diagnostic]]:
    """The entries of `drift.accept`, and what is wrong with them. `node`: reconciler.yaml."""
    found: list[Known] = []
    wrong: list[Diagnostic] = []
    for index, entry in enumerate(shape.accept):
        try:
            found.append(_known(entry, locate(node, ("drift", "accept", index))))
        except _Malformed as error:
            at = locate(node, ("drift", "accept", index, error.key))
            wrong.append(Diagnostic("error", "A wrong value", f"{error}.", path=PLACE, source=at))
    return tuple(found), wrong


class _Malformed(Exception):
    """A value that can't be taken, and the key that it stands under."""

    def __init__(self, key: str, detail: object) -> None:
        super().__init__(f"{detail}")
        self.key = key


def _known(entry: KnownShape, source: Source | None) -> Known:
    """Raises: _Malformed."""
    if not re.fullmatch(ACCOUNT_PATTERN, entry.account):
        detail = f"Found {shown(entry.account)}. It is a key or an address, in which * may stand"
        raise _Malformed("account", detail)
    try:
        path = field_path(entry.path)
    except ValueError as error:
        raise _Malformed("path", f"Found {shown(entry.path)}: {error}") from error
    try:
        until = day(entry.until)
    except ValueError as error:
        raise _Malformed("until", error) from error
    account = entry.account.removeprefix(address(""))
    return Known(account, path, entry.reason, until, source or Source("", 1, 1))


def field_path(text: str) -> FieldPath:
    """The path of a field that can drift; `settings.` may be left out. Raises: ValueError."""
    path = parse_path(text)
    return path if path[0] in _TOP else ("settings", *path)


def day(text: str) -> date:
    """A date as `2026-12-31`. Raises: ValueError."""
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{shown(text)} is no date: write 2026-12-31") from error
    if text != f"{found}":
        raise ValueError(f"{shown(text)} is no date: write {found}")
    return found


def managed(declared: Declared, path: FieldPath) -> bool:
    """Whether anything at the path can drift: it is declared, or is what every account has."""
    return path[0] != "settings" or value_at(declared.block, path) is not ABSENT


def in_force(configuration: Configuration, today: date) -> Configuration:
    """The configuration with each account knowing which entries hold for it; and what is odd of them.

    `today`: in UTC.
    """
    entries = configuration.settings.known
    if not entries:
        return configuration
    warnings = [*configuration.warnings, *_odd(entries, configuration.accounts, today)]
    holding = [entry for entry in entries if today <= entry.until]
    exact = {entry.account for entry in holding if "*" not in entry.account}
    patterns = [entry for entry in holding if "*" in entry.account]

    def knowing(key: Key, declared: Declared) -> Declared:
        if key not in exact and not any(entry.is_about(key) for entry in patterns):
            return declared
        return replace(declared, known=tuple(e for e in holding if e.is_about(key)))

    accounts = {key: knowing(key, declared) for key, declared in configuration.accounts.items()}
    return replace(configuration, accounts=accounts, warnings=tuple(warnings))


def _odd(
    entries: Iterable[Known], accounts: Mapping[Key, Declared], today: date
) -> Iterator[Diagnostic]:
    for entry in entries:
        what = f"{address(entry.account)} {dotted(entry.path)}"
        if today > entry.until:
            detail = (
                f"{what} was known drift until {entry.until}: it is drift again, and an apply mends it."
                " Take the entry out, or give it another date."
            )
            yield _warning("Known drift that is over", detail, entry)
        elif not any(map(entry.is_about, accounts)):
            detail = f"{address(entry.account)} names no account that is declared."
            yield _warning("Known drift of nothing", detail, entry)
        elif not any(
            entry.is_about(key) and managed(declared, entry.path)
            for key, declared in accounts.items()
        ):
            detail = f"{what}: nothing is declared there, so nothing there is drift."
            yield _warning("Known drift of nothing", detail, entry)


def _warning(summary: str, detail: str, entry: Known) -> Diagnostic:
    return Diagnostic("warning", summary, detail, path=PLACE, source=entry.source)
