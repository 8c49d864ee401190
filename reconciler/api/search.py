"""Looks for the account that a create made whose answer was lost.

Source: docs/platform.md 3.4.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from reconciler.api.refresh import account, parent_of
from reconciler.core.account import normal_realm
from reconciler.core.values import AccountId, JsonObject, account_id

if TYPE_CHECKING:
    from reconciler.api.client import Client
    from reconciler.core.state import Intent

_LOOKS: Final = (0.1, 2.5)
"""Seconds before each look: lists lag (docs/platform.md 3.2)."""


class Doubtful(Exception):
    """What is there is not surely the account that was made."""


async def look_for(
    client: Client, root: AccountId, intent: Intent, known: frozenset[AccountId]
) -> AccountId | None:
    """The account that a create made whose answer was lost; None if there is none after two looks.

    Raises: Doubtful if what is there is not surely that account; ApiError.
    """
    for pause in _LOOKS:
        await asyncio.sleep(pause)
        if intent.realm is not None:
            path = f"/accounts/{root}/descendants?filter_realm={quote(intent.realm, safe='')}&paginate=false"
        else:
            path = (
                f"/accounts/{intent.parent_id}/children?created_from={intent.since}&paginate=false"
            )
        answer = await client.get(path)
        rows = (
            [row for row in answer.data if isinstance(row, dict)]
            if isinstance(answer.data, list)
            else []
        )
        found = [account_id(row.get("id")) for row in rows if _fits(row, intent)]
        fresh = [candidate for candidate in found if candidate not in known]
        if len(fresh) == 1 and len(found) == 1:
            read = account(fresh[0], await client.get(f"/accounts/{fresh[0]}"), None)
            parent = await parent_of(client, fresh[0])
            if read.name == intent.name and parent == intent.parent_id:
                return fresh[0]
            raise Doubtful(
                f"after a lost answer the account {fresh[0]} has the realm, but its name is {read.name!r} and"
                f" its parent {parent}; expected {intent.name!r} below {intent.parent_id}. Look at it by hand."
            )
        if found:
            listed = ", ".join(found)
            raise Doubtful(
                f"after a lost answer more than one account could be the new one: {listed}. Look at them by hand."
            )
    return None


def _fits(row: JsonObject, intent: Intent) -> bool:
    if intent.realm is not None:
        return normal_realm(str(row.get("realm"))) == normal_realm(intent.realm)
    return row.get("name") == intent.name
