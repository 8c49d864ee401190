"""Ten bugs, each of which some tool of this kind has had: a harness that misses one is no proof.

A plant changes this process for good, so it is put into a fork. Each is the smallest change that
makes the bug; where a name it needs is gone, it fails, and so does the test that counts on it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def blind_retry() -> None:
    """A create whose answer was lost is sent again, without a look whether it was done."""
    from reconciler import perform

    async def nothing_there(*_: Any) -> None:
        return None

    _replace(perform, "look_for", nothing_there)


def state_before_answer() -> None:
    """State says what was asked for, not what was read back."""
    from reconciler.core import diff

    def believed(declared: Any, record: Any, live: Any, state: Any) -> Any:
        applied, observed, _ = original(declared, record, live, state)
        return {**applied, "settings": declared.settings}, observed, ()

    original = _replace(diff, "confirmed", believed)


def no_fsync() -> None:
    """Nothing is asked to reach the disk."""
    _replace(os, "fsync", lambda _: None)


def page_two_ignored() -> None:
    """Of a list that comes in pages, the first is taken for all."""
    from reconciler.api import refresh

    def first_page(answer: Any) -> Any:
        answer.envelope.pop("next_start_key", None)
        return original(answer)

    original = _replace(refresh, "_rows", first_page)


def html_trusted() -> None:
    """A page of a proxy with status 200 counts as an answer without anything in it."""
    from reconciler.api import client

    def anything(text: bytes) -> Any:
        return original(text) or {"data": [], "status": "success"}

    original = _replace(client, "_envelope", anything)
    _replace(client, "_kind", lambda _: "application/json")


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

    def following(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "follow_redirects": True})

    original = _replace(httpx.AsyncClient, "__init__", following)


def lock_without_fence() -> None:
    """Who once had the lock writes on, whoever has it now."""
    from reconciler.backends.local import _Lock

    _replace(_Lock, "_is_mine", lambda _: True)


def stale_plan_accepted() -> None:
    """A saved plan is applied whatever became of the state since."""
    from reconciler.core import saved

    _replace(saved, "check_fresh", lambda *_, **__: None)


def substring_redaction() -> None:
    """Secrets are searched for in what is printed, instead of never getting there."""
    from reconciler.core.values import Sensitive
    from reconciler.render import jsondoc, safe, text

    def searched(side: Any) -> str:
        import json

        plain = side.value if isinstance(side, Sensitive) else side
        return json.dumps(plain).replace(os.environ["CHAOS_SECRET"], "(sensitive)")

    for module in (safe, text):
        _replace(module, "value", searched)
    del jsondoc


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
