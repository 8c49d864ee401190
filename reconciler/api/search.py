"""Looks for the account that a create made whose answer was lost.

Source: docs/platform.md 3.4.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from reconciler.api.client import malformed
from reconciler.api.refresh import at_once, descendants, read_account
from reconciler.core.account import normal_realm
from reconciler.core.recovery import SLACK, fits
from reconciler.core.values import AccountId, account_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from reconciler.api.client import Answer, Client
    from reconciler.core.live import LiveAccount
    from reconciler.core.state import Intent

LOOKS: Final = (0.1, 2.5)
"""Seconds before each look: lists lag (docs/platform.md 3.2)."""

GOING_ON: Final = (*LOOKS, 6.0)
"""And if the platform may still be at it: a create takes seconds (docs/platform.md 3.4)."""


class Doubtful(Exception):
    """What is there is not surely the account that was made."""


async def look_for(
    client: Client,
    root: AccountId,
    intent: Intent,
    known: AbstractSet[AccountId],
    pauses: Sequence[float],
) -> LiveAccount | None:
    """The account that the create made; None if there is none after the last look.

    `known`: accounts that it can't be. `pauses`: seconds before each look. Raises: Doubtful, ApiError.
    """
    for pause in pauses:
        await asyncio.sleep(pause)
        fresh = [i for i in await _candidates(client, root, intent) if i not in known]
        read = [await read_account(client, candidate, {}) for candidate in fresh]
        found = [account for account in read if account is not None]
        if len(found) == 1 and fits(intent, found[0]):
            return found[0]
        if found:
            shown = ", ".join(f"{a.id} ({a.name}, below {a.parent_id})" for a in found)
            raise Doubtful(
                f"after a lost answer it is not sure which account is the new one ({intent.name}, below"
                f" {intent.parent_id}): {shown}. Look at it by hand; then say which by `id:`, or delete"
                " what is not wanted."
            )
    return None


async def _candidates(client: Client, root: AccountId, intent: Intent) -> list[AccountId]:
    """The accounts with the realm; where none was declared, the parent's new ones of that name."""
    path, query = f"/accounts/{intent.parent_id}/children", f"created_from={intent.since - SLACK}&"
    if intent.realm is not None:
        path, query = (
            f"/accounts/{root}/descendants",
            f"filter_realm={quote(intent.realm, safe='')}&",
        )
    found = await at_once(client, path, lambda answer: _fitting(answer, intent), query)
    if found is not None:
        return found
    rows = await descendants(client, root)
    return [
        row.id
        for row in rows.values()
        if _named(intent, row.name, row.realm)
        and (intent.realm is not None or row.parent_id == intent.parent_id)
    ]


def _fitting(answer: Answer, intent: Intent) -> list[AccountId]:
    if not isinstance(answer.data, list):
        raise malformed(answer, "no list, where one was asked for")
    try:
        return [
            account_id(row.get("id"))
            for row in answer.data
            if isinstance(row, dict) and _named(intent, row.get("name"), row.get("realm"))
        ]
    except ValueError as error:
        raise malformed(answer, f"a row that is no account ({error})") from error


def _named(intent: Intent, name: object, realm: object) -> bool:
    if intent.realm is not None:
        return normal_realm(str(realm)) == normal_realm(intent.realm)
    return name == intent.name
