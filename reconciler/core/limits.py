"""How much one run may change of an account and what stands below it, and the exceptions from that.

What the user's `safety:` blocks say, as values; `safety` judges a plan by them. The block of the
project holds for everything.

Source: docs/configuration.md, "`safety`"; docs/reviewing.md, "Limits".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final, Literal, get_args

from reconciler.core.effects import EFFECTS
from reconciler.core.values import Diagnostic, address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from reconciler.core.effects import Effect
    from reconciler.core.values import JsonObject, JsonValue, Key, Source

Rule = Literal["max_delete", "max_demote", "max_update_percent", "protect"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Exemption:
    """What a rule does not count until the end of a day (UTC).

    `account`: only there and below it; None: wherever the block holds. `effect`: of `protect`, the
    class. `value`: of the other rules, how many changes are not counted.
    """

    rule: Rule
    reason: str
    until: date
    source: Source
    account: Key | None = None
    effect: Effect | None = None
    value: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may change, here and below. None: not limited here.

    `max_update_percent` is of the accounts under management. `protect`: classes of effect that no
    change may have.
    """

    max_delete: int | None = None
    max_demote: int | None = None
    max_update_percent: int | None = None
    protect: tuple[Effect, ...] = ()
    exceptions: tuple[Exemption, ...] = ()


UNLIMITED: Final = Limits()


def read_limits(
    block: JsonObject, place: Callable[[int], Source]
) -> tuple[Limits, list[tuple[str, Source]]]:
    """A block whose shape was checked, and what is wrong with its exceptions, each with its place.

    `place`: where the exception of that number stands.
    """
    exceptions: list[Exemption] = []
    problems: list[tuple[str, Source]] = []
    listed = block.get("exceptions")
    for index, entry in enumerate(listed if isinstance(listed, list) else []):
        source = place(index)
        try:
            exceptions.append(_exemption(entry if isinstance(entry, dict) else {}, source))
        except ValueError as error:
            problems.append((f"{error}", source))
    return _limits(block, tuple(exceptions)), problems


def _limits(block: JsonObject, exceptions: tuple[Exemption, ...] = ()) -> Limits:
    protect = block.get("protect")
    return Limits(
        max_delete=_number(block.get("max_delete")),
        max_demote=_number(block.get("max_demote")),
        max_update_percent=_number(block.get("max_update_percent")),
        protect=tuple(e for e in EFFECTS if isinstance(protect, list) and e in protect),
        exceptions=exceptions,
    )


def _number(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _exemption(entry: JsonObject, source: Source) -> Exemption:
    """Raises: ValueError, if it says too little or too much, or names a day that there is not."""
    rule = next(rule for rule in RULES if rule == entry.get("rule"))
    effect = next((effect for effect in EFFECTS if effect == entry.get("class")), None)
    value = _number(entry.get("value")) or 0
    if rule == "protect" and (effect is None or value):
        raise ValueError("An exception from `protect` names one `class`, and has no `value`.")
    if rule != "protect" and (effect is not None or not value):
        raise ValueError(
            f"An exception from `{rule}` says in `value` how many changes are not counted, and has"
            " no `class`."
        )
    try:
        until = date.fromisoformat(str(entry.get("until")))
    except ValueError as error:
        raise ValueError(f"There is no day {entry.get('until')}: {error}.") from error
    account = str(entry.get("account") or "") or None
    return Exemption(rule, str(entry.get("reason")), until, source, account, effect, value)


def limits_json(limits: Limits) -> JsonObject:
    """What state and saved plans keep of limits: all but the exceptions, and nothing that is not said."""
    said: JsonObject = {
        "max_delete": limits.max_delete,
        "max_demote": limits.max_demote,
        "max_update_percent": limits.max_update_percent,
        "protect": [*limits.protect] or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def limits_from(document: JsonObject) -> Limits:
    """Read what `limits_json` wrote."""
    return _limits(document)


def ended(blocks: Iterable[tuple[Key | None, Limits]], today: date) -> Iterator[Diagnostic]:
    """A warning for each exception whose last day is over. `blocks`: with their account, if any."""
    for key, limits in blocks:
        for found in limits.exceptions:
            if found.until < today:
                detail = (
                    f"It was for {what(found)}, until {found.until} ({found.reason}), and counts no"
                    " more. Take it out, or give it a new day."
                )
                owner = None if key is None else address(key)
                yield Diagnostic(
                    "warning",
                    "An exception that has ended",
                    detail,
                    owner,
                    "safety.exceptions",
                    found.source,
                )


def what(exemption: Exemption) -> str:
    """`protect: emergency of accounts.acme`, `max_delete: 2`."""
    named = f"{exemption.rule}: {exemption.effect or exemption.value}"
    return f"{named} of {address(exemption.account)}" if exemption.account else named
