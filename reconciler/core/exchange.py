"""One request to the platform and what came of it, as a value: what traces and metrics are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ID: Final = re.compile(r"(?<=/accounts/)[^/?]+")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was sent, and how it ended.

    `path`: without ids, `/accounts/{account_id}/reseller`, and without a query. `status`: None if no
    answer came, and then `error` says of which kind that was. `began`: nanoseconds since 1970.
    `seconds`: until all of the answer was there; waiting for a turn is not in it. `resent`: how
    often the client had sent the same before. `operation`: the number of the operation that it
    was for, None if it was for none.
    """

    method: str
    path: str
    status: int | None
    error: str
    request_id: str
    began: int
    seconds: float
    resent: int
    operation: int | None


def template(path: str) -> str:
    """A path without what differs from account to account."""
    return _ID.sub("{account_id}", path.partition("?")[0])
