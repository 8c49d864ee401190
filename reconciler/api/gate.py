"""One gate that all requests go through: how many at a time, how fast, and when none.

It begins with few requests in flight, and lets in one more with every ten successes, so that a
small limit is met by few. After a 429 nobody sends until the pause is over; then a single request
goes ahead, and the others follow when it got through. What is known of the limit by then bounds
them: so many in flight (a quarter of it after a refusal, one more for as many successes), never
more than the platform says that it will take, and no faster than it has been seen to allow.
Between two refusals the platform allowed just what got through, so the second tells the pace; it
grows by a fiftieth with each success, so that a limit which was raised is found out.

Source: docs/platform.md 6.1.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

log = logging.getLogger("reconciler.api")

HOPELESS: Final = 20
"""Refusals without a success between them, after which a run gives up: some four minutes."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LONGEST_OBEYED: Final = 600.0
"""Seconds of a `Retry-After` that are waited; beyond, requests fail instead."""
_OPENING: Final = 3.0
"""Requests in flight at first, of a limit that nobody knows yet."""
_RAMP: Final = 0.1
"""What a success adds to that before the first refusal."""
_DIVISOR: Final = 4
"""What a refusal divides the number in flight by: all of those are refused again, while the pace is
not known yet."""
_CAUTION: Final = 0.8
"""Of the pace that was seen to be allowed, the share that is taken after a refusal."""
_GROWTH: Final = 0.98
"""What a success makes of the seconds between two requests."""
_REST: Final = 1.0
"""Seconds without any request."""


def backoff(attempt: int) -> float:
    """Seconds to wait before attempt + 1: exponential, full jitter (docs/platform.md 6.1)."""
    return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1)))  # noqa: S311 - jitter, no secret


class Gate:
    """Who enters gets a ticket, and leaves with it by `passed`, `refused` or `lost`. Times: seconds."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._epoch = 0  # how often the gate was closed
        self._closed = False
        self._refusals = 0
        self._asked = 0.0
        self._in_flight = 0
        self._window = _OPENING
        self._ramping = True
        self._interval = 0.0
        self._next = 0.0
        self._idle_since = 0.0
        self._refused_at: float | None = None
        self._passed = 0

    @property
    def hopeless(self) -> bool:
        """Whether to go on is pointless: refused too often in a row, or asked to wait too long."""
        return self._refusals >= HOPELESS or self._asked > _LONGEST_OBEYED

    async def enter(self) -> int | None:
        """Wait until a request may be sent. Returns the ticket; None if that is hopeless."""
        while not self.hopeless:
            if self._in_flight >= (1 if self._closed else self._window):
                await self._changed.wait()
                continue
            ticket = self._take()
            try:
                await self._turn()
            except asyncio.CancelledError:
                self._leave()
                raise
            if ticket == self._epoch:
                return ticket
            self._leave()  # it was closed meanwhile
        return None

    def passed(self, ticket: int, remaining: int | None) -> None:
        """It was answered otherwise than by 429. `remaining`: how many more will be, if told."""
        if ticket == self._epoch:  # else it was sent before the gate was closed
            self._refusals = 0
            self._asked = 0.0
            self._closed = False
            self._passed += 1
            self._interval *= _GROWTH
            self._window += _RAMP if self._ramping else 1 / self._window
        if remaining is not None:
            self._window = min(self._window, max(1.0, remaining))
        self._leave()

    def refused(self, ticket: int, retry_after: float | None) -> None:
        """It was answered 429. `retry_after`: seconds, if the platform said so."""
        if ticket == self._epoch:
            self._close(retry_after)
        self._leave()

    def lost(self) -> None:
        """It was not answered."""
        self._leave()

    def _take(self) -> int:
        """Count one more in flight. What was seen before a time of rest tells nothing of the pace."""
        now = asyncio.get_running_loop().time()
        if not self._in_flight and now - self._idle_since > _REST:
            self._refused_at = None
        self._in_flight += 1
        return self._epoch

    async def _turn(self) -> None:
        """Wait until the pause is over, and for as long as the pace demands."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._interval
        if at > now:
            await asyncio.sleep(at - now)

    def _close(self, retry_after: float | None) -> None:
        now = asyncio.get_running_loop().time()
        if self._refused_at is not None and self._passed:
            allowed = (now - self._refused_at) / self._passed
            self._interval = max(self._interval, allowed) / _CAUTION
        self._window = max(1.0, min(self._window, self._in_flight) / _DIVISOR)
        self._ramping = False
        self._refused_at, self._passed = now, 0
        self._closed = True
        self._epoch += 1
        self._refusals += 1
        self._asked = retry_after or 0.0
        pause = min(self._asked, _LONGEST_OBEYED) or backoff(self._refusals)
        self._next = now + pause
        log.info("refused by the rate limit: nothing is sent for %.1f seconds", pause)

    def _leave(self) -> None:
        """Let all who wait look again: one more may go ahead now."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle_since = asyncio.get_running_loop().time()
        self._changed.set()
        self._changed = asyncio.Event()
