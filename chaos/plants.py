"""Ten bugs, each of which some tool of this kind has had: a harness that misses one is no proof.

A plant changes this process for good, so it is put into a fork. Each is the smallest change that
makes the bug; where a name it needs is gone, it fails, and so does the test that counts on it.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def blind_retry() -> None:
    """A create whose answer was lost is sent again, without a look whether it was done."""
    from reconciler import creates

    async def nothing_there(*_: Any) -> None:
        return None

    _replace(creates, "look_for", nothing_there)


def state_before_answer() -> None:
    """State says what was asked for, not what was read back."""
    from reconciler.core import diff

    def believed(declared: Any, *rest: Any) -> Any:
        applied, observed, _ = original(declared, *rest)
        return {**applied, "settings": declared.settings}, observed, ()

    original = _replace(diff, "confirmed", believed)


def no_fsync() -> None:
    """Nothing is asked to reach the disk."""
    _replace(os, "fsync", lambda _: None)


def page_two_ignored() -> None:
    """Of a list that comes in pages, the first is taken for all."""
    from reconciler.api.client import Client

    def last_page(self: Any, *rest: Any) -> Any:
        return replace(original(self, *rest), next_start_key=None)

    original = _replace(Client, "_answer", last_page)


def html_trusted() -> None:
    """A page of a proxy with status 200 counts as an answer without anything in it."""
    from reconciler.api import client

    def anything(text: bytes) -> Any:
        return original(text) or {"data": [], "status": "success"}

    original = _replace(client, "_envelope", anything)


def body_logged() -> None:
    """Requests are logged with what they carry."""
    from reconciler.api.client import Client

    async def told(self: Any, what: Any) -> Any:
        logging.getLogger("reconciler.api").debug("sending %r", what.body)
        return await original(self, what)

    original = _replace(Client, "_once", told)


def redirect_followed() -> None:
    """An answer may send the tool, and its token, to another host."""
    import httpx

    from reconciler.api.client import Client

    async def following(self: Any, what: Any, request: Any) -> Any:
        response, text = await original(self, what, request)
        if not response.has_redirect_location:
            return response, text
        to = httpx.Request(request.method, response.headers["Location"], headers=request.headers)
        return await original(self, what, to)

    original = _replace(Client, "_exchange", following)


def lock_without_fence() -> None:
    """Who once had the lock writes on, whoever has it now."""
    from reconciler.backends.local import _Lock

    @contextmanager
    def unasked(self: Any) -> Iterator[None]:
        with self.place.mutex():
            yield

    _replace(_Lock, "held", unasked)


def stale_plan_accepted() -> None:
    """A saved plan is applied whatever became of the state since."""
    from reconciler.core import revive

    _replace(revive, "_moved_on", lambda *_: None)


def substring_redaction() -> None:
    """Secrets are searched for in what is printed, instead of never getting there."""
    from reconciler.core.values import ABSENT, Sensitive
    from reconciler.render import safe, text

    def searched(side: Any) -> str:
        import json

        plain = side.value if isinstance(side, Sensitive) else side
        if plain is ABSENT:
            return "(absent)"
        return json.dumps(plain).replace(os.environ["CHAOS_SECRET"], "(sensitive)")

    for module in (safe, text):
        _replace(module, "value", searched)


def _replace(owner: Any, name: str, new: Any) -> Any:
    """Put `new` in the place of what is there. Raises: AttributeError if nothing is."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "blind-retry": blind_retry,
    "state-before-answer": state_before_answer,
    "no-fsync": no_fsync,
    "page-two-ignored": page_two_ignored,
    "html-trusted": html_trusted,
    "body-logged": body_logged,
    "redirect-followed": redirect_followed,
    "lock-without-fence": lock_without_fence,
    "stale-plan-accepted": stale_plan_accepted,
    "substring-redaction": substring_redaction,
}
