"""Who is calling, and how often: signed tokens and the buckets of the rate limit.

A token is a JWT signed with a secret that lives in the store, so a restart takes none away; it
can't be revoked or renewed, as on the platform. Source: docs/platform.md 2.4, 6.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()

BUCKET_SIZE: Final = 100
REFILL: Final = 10
"""Tokens a second. Both from docs/platform.md 6.1."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. Times are Unix seconds; `owner_id` only after a user's login."""

    account_id: str
    owner_id: str | None
    expires: float
    generation: int


class Tokens:
    """Issues and checks tokens. Tokens of an older generation count as expired."""

    def __init__(self, secret: str, life: int, clock: Callable[[], float]) -> None:
        self._secret = secret.encode()
        self._life = life
        self._clock = clock
        self._known: dict[str, Claims] = {}
        self.generation = 0

    def issue(self, account_id: str, owner_id: str | None) -> str:
        """Make a token that is good from now on for the configured life."""
        claims = {
            "account_id": account_id,
            "owner_id": owner_id,
            "exp": self._clock() + self._life,
            "generation": self.generation,
        }
        unsigned = f"{_HEADER}.{_encode(orjson.dumps(claims))}"
        return f"{unsigned}.{self._signature(unsigned)}"

    def claims(self, token: str) -> Claims | None:
        """Take what the token says; None if it is expired, revoked or not ours."""
        known = self._known.get(token)
        if known is None:
            known = self._verified(token)
            if known is None:
                return None
            # A client that logs in for ever must not fill the memory.
            if len(self._known) >= 1000:  # noqa: PLR2004 - any bound does
                self._known.clear()
            self._known[token] = known
        fresh = known.expires > self._clock() and known.generation == self.generation
        return known if fresh else None

    def _verified(self, token: str) -> Claims | None:
        unsigned, _, signature = token.rpartition(".")
        expected = self._signature(unsigned).encode()
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), expected):
            return None
        try:
            parts = orjson.loads(_decode(unsigned.partition(".")[2]))
        except (binascii.Error, ValueError):
            return None
        return Claims(parts["account_id"], parts["owner_id"], parts["exp"], parts["generation"])

    def _signature(self, unsigned: str) -> str:
        digest = hmac.new(self._secret, unsigned.encode("utf-8", "replace"), hashlib.sha256)
        return _encode(digest.digest())


class Buckets:
    """The rate limit: a bucket for each pair of client address and account in the path."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[int, float]] = {}

    def draw(self, client: str, account_id: str) -> int | None:
        """Take one token; answer how many remain, or None if there was none to take.

        The platform fills up once a second, not continuously; so does this.
        """
        now = self._clock()
        tokens, filled = self._buckets.get((client, account_id), (BUCKET_SIZE, now))
        seconds = int(now - filled)
        tokens = min(BUCKET_SIZE, tokens + REFILL * seconds)
        if tokens == 0:
            return None
        self._buckets[client, account_id] = (tokens - 1, filled + seconds)
        return tokens - 1


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
