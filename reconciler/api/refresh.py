"""The tree below the root, as a value.

One list gives every account's name, realm and parent; settings and rank need a GET each, which
is done for the accounts under management. A list is a hint, a GET by id is proof: an account
counts as gone only if its own GET says so, and no list contradicts.

Source: docs/platform.md 3.2, 3.3, 3.7.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from reconciler.api.client import Parsed, malformed
from reconciler.api.errors import NotFound, Refused, Unclear
from reconciler.core.account import READ_ONLY
from reconciler.core.live import Live, LiveAccount, Row
from reconciler.core.values import AccountId, JsonObject, JsonValue, account_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from reconciler.api.client import Answer, Client

_PAGE: Final = 500
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 416
LAGS: Final = (1.0, 3.0)
"""Seconds until something is asked again that the platform's lists and views may not show yet."""
_CONTRADICTION: Final = (
    "does not exist by its own GET, yet the list of accounts has it (if that stays so, ask the operator"
    " of the platform, and take it out of state by `reconciler state rm`)"
)
_MOST: Final = 1_000_000
"""Accounts that a list in pages may have: ten times what anybody has."""


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
    top = await client.read(f"/accounts/{root}", lambda answer: account(root, answer, None))
    live = await list_again(client, Live(root=root, rows={}, accounts={root: top}))
    return await read_more(client, live, ids, concurrency, progress)


async def list_again(client: Client, live: Live) -> Live:
    """The same, with the list as it is now. Raises: ApiError."""
    return _with_rows(live, await descendants(client, live.root))


def _with_rows(live: Live, rows: Mapping[AccountId, Row]) -> Live:
    children: dict[AccountId, list[AccountId]] = defaultdict(list)
    for row in rows.values():
        children[row.parent_id].append(row.id)
    below = {parent: tuple(ids) for parent, ids in children.items()}
    return replace(live, rows=rows, children=below)


async def placed(
    client: Client, live: Live, expected: Mapping[AccountId, AccountId], concurrency: int
) -> Live:
    """The same, with accounts where they say that they stand, if the list has them elsewhere.

    After a move the list lags. `expected`: the parents that they had last. Raises: ApiError.
    """
    elsewhere = [
        current
        for current, parent in expected.items()
        if (row := live.rows.get(current)) is not None and row.parent_id != parent
    ]
    if not elsewhere:
        return live
    rows, accounts = dict(live.rows), dict(live.accounts)

    async def one(current: AccountId) -> None:
        parent = await parent_of(client, current) or rows[current].parent_id
        rows[current] = replace(rows[current], parent_id=parent)
        if current in accounts:
            accounts[current] = replace(accounts[current], parent_id=parent)

    await _each(elsewhere, concurrency, one)
    return _with_rows(replace(live, accounts=accounts), rows)


async def read_more(
    client: Client,
    live: Live,
    ids: Iterable[AccountId],
    concurrency: int,
    progress: Callable[[int, int], None],
    *,
    strict: bool = True,
) -> Live:
    """The same, with the accounts `ids` read as well.

    Where an account that is listed does not exist by its own GET, both are asked again. Raises:
    ApiError, also if the two don't come to agree; unless `strict`, the list is behind then, and has
    it no more.
    """
    live, doubtful = await _read_once(client, live, ids, concurrency, progress)
    for pause in LAGS:
        if not doubtful:
            return live
        await asyncio.sleep(pause)
        live = await list_again(client, replace(live, missing=live.missing - doubtful))
        live, doubtful = await _read_once(client, live, doubtful, concurrency, unseen)
    if doubtful and strict:
        raise Unclear("GET", f"/accounts/{min(doubtful)}", _CONTRADICTION, status=_NOT_FOUND)
    return _with_rows(live, {i: row for i, row in live.rows.items() if i not in doubtful})


def unseen(_done: int, _all: int) -> None:
    """Progress that nobody needs to see."""


async def _read_once(
    client: Client,
    live: Live,
    ids: Iterable[AccountId],
    concurrency: int,
    progress: Callable[[int, int], None],
) -> tuple[Live, frozenset[AccountId]]:
    """With the accounts `ids`, and those of them that are listed and yet don't exist."""
    wanted = [i for i in ids if i not in live.accounts]
    found: dict[AccountId, LiveAccount] = {}
    missing: set[AccountId] = set()

    async def one(current: AccountId) -> None:
        read = await read_account(client, current, live.rows)
        if read is None:
            missing.add(current)
        else:
            found[current] = read
        progress(len(found) + len(missing), len(wanted))

    await _each(wanted, concurrency, one)
    live = replace(live, accounts={**live.accounts, **found}, missing=live.missing | missing)
    return live, frozenset(missing & live.rows.keys())


async def _each(
    ids: Collection[AccountId], concurrency: int, do: Callable[[AccountId], Awaitable[None]]
) -> None:
    """Do something for each account, so many at a time. The first error stops all."""
    waiting = iter(ids)

    async def worker() -> None:
        for current in waiting:
            await do(current)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(ids))):
                group.create_task(worker())
    except ExceptionGroup as errors:  # of one: the first stopped the others
        raise errors.exceptions[0] from None


async def read_account(
    client: Client, current: AccountId, rows: Mapping[AccountId, Row]
) -> LiveAccount | None:
    """One account by its id, None if it does not exist. Raises: ApiError."""
    row = rows.get(current)
    known = row.parent_id if row else None
    try:
        read = await client.read(f"/accounts/{current}", lambda a: account(current, a, known))
    except NotFound:
        return None
    return read if row else replace(read, parent_id=await parent_of(client, current))


async def parent_of(client: Client, current: AccountId) -> AccountId | None:
    """The parent of an account that the list does not have, if the platform tells. Raises: ApiError."""
    try:
        return await client.read(f"/accounts/{current}/parents", _last)
    except Refused:
        return None


def _last(answer: Answer) -> AccountId | None:
    """The innermost of the accounts above one. Raises: Unclear if the answer is no list of accounts."""
    if not isinstance(answer.data, list):
        raise malformed(answer, "no list, where one was asked for")
    last = answer.data[-1] if answer.data else None
    if last is None:
        return None
    try:
        return account_id(last.get("id") if isinstance(last, dict) else last)
    except ValueError as error:
        raise malformed(answer, f"a row that is no account ({error})") from error


def account(current: AccountId, answer: Answer, parent: AccountId | None) -> LiveAccount:
    """What an answer says of the account `current`. Raises: Unclear if it is not about that."""
    document = answer.document
    created = document.get("created", 0)
    right = (
        document.get("id") == current
        and isinstance(document.get("enabled", True), bool)
        and isinstance(document.get("is_reseller", False), bool)
        and isinstance(created, int)
    )
    if not right or not isinstance(created, int):
        raise malformed(answer, "an answer that is not about the account that was asked for")
    return LiveAccount(
        id=current,
        parent_id=parent,
        document=configured(document),
        reseller=document.get("is_reseller") is True,
        revision=answer.revision,
        created=created,
        request_id=answer.request_id,
    )


def configured(document: JsonObject) -> JsonObject:
    """What of an account's document is configuration."""
    return {
        name: value
        for name, value in document.items()
        if name not in READ_ONLY and not name.startswith(("_", "pvt_"))
    }


async def descendants(client: Client, root: AccountId) -> dict[AccountId, Row]:
    """Every account below the root, by the list. Raises: ApiError."""
    path = f"/accounts/{root}/descendants"
    rows = await at_once(client, path, _rows)
    if rows is None:
        rows = await _paged(client, path)
    rows.pop(root, None)
    return rows


async def at_once(
    client: Client, path: str, parse: Callable[[Answer], Parsed], query: str = ""
) -> Parsed | None:
    """A whole list; None if the platform gives it in pages only. Raises: ApiError."""
    try:
        found, following = await client.read(
            f"{path}?{query}paginate=false", lambda answer: (parse(answer), answer.next_start_key)
        )
    except Refused as error:
        if error.status != _TOO_LARGE:
            raise
        return None
    return found if following is None else None


async def _paged(client: Client, path: str) -> dict[AccountId, Row]:
    """The same page by page. A page that brings nothing new and does not end is an error."""
    rows: dict[AccountId, Row] = {}
    start: str | None = None
    while True:
        query = f"?page_size={_PAGE}" + (f"&start_key={quote(start, safe='')}" if start else "")
        known = len(rows)
        page, following = await client.read(
            path + query, lambda answer: (_rows(answer), answer.next_start_key)
        )
        if any(rows.get(row.id, row).parent_id != row.parent_id for row in page.values()):
            raise Unclear("GET", path, "a list that changed while it was read")
        rows |= page
        if following is None:
            return rows
        if following == start or not known < len(rows) <= _MOST:
            raise Unclear("GET", path, "a list that does not end")
        start = following


def _rows(answer: Answer) -> dict[AccountId, Row]:
    """The rows of a list or of a page of it. Raises: Unclear if one is malformed."""
    if not isinstance(answer.data, list):
        raise malformed(answer, "no list, where one was asked for")
    rows: dict[AccountId, Row] = {}
    try:
        for row in map(_row, answer.data):
            if rows.setdefault(row.id, row).parent_id != row.parent_id:
                raise malformed(answer, f"a list that has {row.id} in two places")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise malformed(answer, f"a row that is no account ({type(error).__name__})") from error
    return rows


def _row(row: JsonValue) -> Row:
    if not isinstance(row, dict) or not isinstance(row["tree"], list):
        raise TypeError("no account")
    # What is no text is what somebody once stored; it must not hide all other accounts.
    name, realm = (v if isinstance(v := row.get(f), str) else "" for f in ("name", "realm"))
    return Row(account_id(row["id"]), name, realm, account_id(row["tree"][-1]))
