"""What a change does to people: service, emergency calls, privacy, money, or looks alone.

One table for the fields, by path, one for what can happen to an account as a whole. The entry of the
longest beginning of a path counts. What the table does not know counts as service: it may be a field
of a newer platform, and must not slip by as harmless.

Source: docs/reviewing.md, "Effects"; docs/platform.md 7.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.core.values import FieldPath

Effect = Literal["service", "emergency", "privacy", "money", "cosmetic"]
"""service: whether and how calls get through. emergency: calls for help. privacy: who hears or
sees what. money: what is charged, and who is told of it. cosmetic: how it looks and sounds."""

EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)
"""In the order in which they are told."""

Effects = tuple[Effect, ...]

UNKNOWN: Final[Effects] = ("service",)

_FIELDS: Final[dict[str, Effects]] = {
    "name": ("cosmetic",),
    "realm": ("service",),
    "enabled": ("service",),
    "timezone": ("service",),
    "language": ("cosmetic",),
    "org": ("cosmetic",),
    "flags": ("service",),
    "call_recording": ("privacy",),
    "call_restriction": ("service",),
    "call_restriction.emergency": ("emergency",),
    "call_waiting": ("service",),
    "caller_id": ("service",),
    "caller_id.internal": ("cosmetic",),
    "caller_id.emergency": ("emergency",),
    "caller_id_options": ("privacy",),
    "caller_id_options.show_rate": ("money",),
    "dial_plan": ("service",),
    "do_not_disturb": ("service",),
    "formatters": ("service",),
    "metaflows": ("service",),
    "metaflows.numbers": ("service", "privacy"),
    "metaflows.patterns": ("service", "privacy"),
    "music_on_hold": ("cosmetic",),
    "notifications": ("money",),
    "notifications.first_occurrence": ("cosmetic",),
    "preflow": ("service",),
    "ringtones": ("cosmetic",),
    "topup": ("money",),
    "voicemail": ("service",),
    "zones": ("service",),
}

FIELDS: Final[Mapping[FieldPath, Effects]] = MappingProxyType(
    {tuple(path.split(".")): effects for path, effects in _FIELDS.items()}
)
"""Path in `settings` -> what a change there affects."""

ACTIONS: Final[Mapping[str, Effects]] = MappingProxyType(
    {
        "create": ("service",),
        "delete": ("service", "emergency", "money"),
        "disable": ("service", "emergency"),
        "move": ("service", "money"),
        "promote": ("money",),
        "demote": ("service", "money"),
        "adopt": (),
        "forget": (),
        "update": (),
    }
)
"""What happens to an account as a whole -> what that affects. An update is what its fields are.

`disable` is no action of its own, but the update that makes `enabled` false.
"""

PASSED_ON: Final = frozenset({"move", "promote", "demote"})
"""What reaches the accounts below, too: they come along, and follow another reseller from then on.

Disabling does not touch those below; a delete is only sent once nothing is below any more.
Source: docs/platform.md 3.6, 3.8, 3.9, 3.10.
"""

INHERITED: Final[frozenset[FieldPath]] = frozenset({("language",)})
"""Fields that accounts below have from above when a call is made (docs/platform.md 3.5)."""


def of_path(path: FieldPath) -> Effects:
    """What a change at `path` of `settings` affects."""
    for length in range(len(path), 0, -1):
        if path[:length] in FIELDS:
            return FIELDS[path[:length]]
    return UNKNOWN
