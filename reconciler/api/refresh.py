"""The tree below the root, as a value.

One list gives every account's name, realm and parent; settings and rank need a GET each, which
is done for the accounts under management. A list is a hint, a GET by id is proof: an account
counts as gone only if its own GET says so.

Source: docs/platform.md 3.2, 3.3, 3.7.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from reconciler.api.client import NotFound, Refused, Unclear
from reconciler.core.account import READ_ONLY
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.values import AccountId, JsonObject, JsonValue, account_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from reconciler.api.client import Answer, Client

_PAGE: Final = 500
_TOO_LARGE: Final = 416


async def refresh(
    client: Client,
    root: AccountId,
    ids: Iterable[AccountId],
    concurrency: int,
    progress: Callable[[int, int], None],
) -> Live:
    """Everything below `root`, and the accounts `ids` in full. Raises: ApiError.

    `progress` is told how many accounts of how many are read.
    """
    top = account(root, await client.get(f"/accounts/{root}"), None)
    rows = await _descendants(client, root)
    children: dict[AccountId, list[AccountId]] = defaultdict(list)
    for row in rows.values():
        children[row.parent_id].append(row.id)
    live = Live(
        root=root,
        rows=rows,
        accounts={root: top},
        children={parent: tuple(below) for parent, below in children.items()},
    )
    return await read_more(client, live, ids, concurrency, progress)


async def read_more(
    client: Client,
    live: Live,
    ids: Iterable[AccountId],
    concurrency: int,
    progress: Callable[[int, int], None],
) -> Live:
    """The same, with the accounts `ids` read as well. Raises: ApiError."""
    wanted = [i for i in ids if i not in live.accounts]
    found: dict[AccountId, LiveAccount] = {}
    missing: set[AccountId] = set()
    waiting = iter(wanted)
    done = 0

    async def worker() -> None:
        nonlocal done
        for current in waiting:
            read = await read_account(client, current, live.rows)
            if read is None:
                missing.add(current)
            else:
                found[current] = read
            done += 1
            progress(done, len(wanted))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(wanted))):
                group.create_task(worker())
    except ExceptionGroup as errors:  # the first one stopped the others
        raise errors.exceptions[0] from None
    return replace(live, accounts={**live.accounts, **found}, missing=live.missing | missing)


async def read_account(
    client: Client, current: AccountId, rows: Mapping[AccountId, Row]
) -> LiveAccount | None:
    """One account by its id, None if it does not exist. Raises: ApiError."""
    try:
        answer = await client.get(f"/accounts/{current}")
    except NotFound:
        return None
    row = rows.get(current)
    parent = row.parent_id if row else await parent_of(client, current)
    return account(current, answer, parent)


async def parent_of(client: Client, current: AccountId) -> AccountId | None:
    """The parent of an account that the list does not have, if the platform tells."""
    try:
        answer = await client.get(f"/accounts/{current}/parents")
    except Refused:
        return None
    ancestors = answer.data if isinstance(answer.data, list) else []
    last = ancestors[-1] if ancestors else None
    return account_id(last.get("id")) if isinstance(last, dict) else None


def account(current: AccountId, answer: Answer, parent: AccountId | None) -> LiveAccount:
    """What an answer says of the account `current`. Raises: Unclear if it is about another."""
    document = answer.document
    if document.get("id", current) != current or not isinstance(document.get("name", ""), str):
        message = "an answer that is not about the account that was asked for"
        raise Unclear("GET", f"/accounts/{current}", message, request_id=answer.request_id)
    return LiveAccount(
        id=current,
        parent_id=parent,
        document=configured(document),
        reseller=document.get("is_reseller") is True,
        revision=answer.revision,
        created=created if isinstance(created := document.get("created"), int) else 0,
    )


def configured(document: JsonObject) -> JsonObject:
    """What of an account's document is configuration."""
    return {
        name: value
        for name, value in document.items()
        if name not in READ_ONLY and not name.startswith(("_", "pvt_"))
    }


async def _descendants(client: Client, root: AccountId) -> dict[AccountId, Row]:
    """Every account below the root. Raises: ApiError."""
    path = f"/accounts/{root}/descendants"
    try:
        answer = await client.get(f"{path}?paginate=false")
    except Refused as error:
        if error.status != _TOO_LARGE:
            raise
        return await _paged(client, root, path)
    if answer.next_start_key is not None:  # it came in pages all the same
        return await _paged(client, root, path)
    return _rows(answer, root, path)


async def _paged(client: Client, root: AccountId, path: str) -> dict[AccountId, Row]:
    """The same page by page. A page that brings nothing new and does not end is an error."""
    rows: dict[AccountId, Row] = {}
    start: str | None = None
    while True:
        query = f"?page_size={_PAGE}" + (f"&start_key={quote(start, safe='')}" if start else "")
        answer = await client.get(path + query)
        page = _rows(answer, root, path)
        following = answer.next_start_key
        if following is None:
            return rows | page
        if following == start or not page.keys() - rows.keys():
            message = "a list that does not end"
            raise Unclear("GET", path, message, request_id=answer.request_id)
        rows |= page
        start = following


def _rows(answer: Answer, root: AccountId, path: str) -> dict[AccountId, Row]:
    if not isinstance(answer.data, list):
        raise Unclear("GET", path, "a list was expected", request_id=answer.request_id)
    try:
        rows = [_row(row) for row in answer.data]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        message = f"a row of the list that is malformed ({error})"
        raise Unclear("GET", path, message, request_id=answer.request_id) from error
    return {row.id: row for row in rows if row.id != root}


def _row(row: JsonValue) -> Row:
    if not isinstance(row, dict) or not isinstance(row["tree"], list):
        raise TypeError("no account")
    name, realm = row.get("name"), row.get("realm")
    return Row(
        id=account_id(row["id"]),
        name=name if isinstance(name, str) else "",
        realm=realm if isinstance(realm, str) else "",
        parent_id=account_id(row["tree"][-1]),
    )
