"""Requests to a server that speaks Terraform's HTTP state protocol, and what its answers mean.

Every request may be sent again: the lock's ID, or the document, tells whether it was done before.
Redirects are not followed and proxies of the environment not used: the password is for the named
host alone.

Source: docs/state.md, "Terraform's HTTP protocol".
"""

from __future__ import annotations

import base64
import hashlib
import random
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import certifi
import httpx
import orjson

from reconciler.backends.backend import Lost, Unwritable
from reconciler.core.state import Unusable
from reconciler.core.values import stays_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.core.values import JsonObject

_TIMEOUT: Final = httpx.Timeout(120.0, connect=15.0)
"""Seconds between two bytes at most; a server may take long to store a large state."""
_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.5
_LONGEST_OBEYED: Final = 60.0
"""Seconds of a `Retry-After` that are waited at most."""
_HELD: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.LOCKED})
_NOTHING: Final = frozenset({HTTPStatus.OK, HTTPStatus.NO_CONTENT})
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
_UNSURE: Final = _TRANSIENT | {422}
"""After these a document may have been saved: GitLab answers 422 to a serial that it has already."""
_ADVICE: Final = {
    401: "set RECONCILER_STATE_USERNAME and RECONCILER_STATE_PASSWORD, or correct them",
    403: "these credentials may not do that; GitLab wants the role Developer to read, Maintainer to write",
    404: "there is nothing at this address, or these credentials may not see it",
    405: "the server has no locks, and nothing is written without one",
    413: "the state is larger than the server takes; raise its limit",
    501: "the server has no locks, and nothing is written without one",
}


class Unreachable(Unusable, Unwritable):
    """The server did not do what it was asked: nothing can be read there, and nothing written."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a state is, and how to log in."""

    url: httpx.URL
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def gitlab(self) -> bool:
        """Whether it is an address of GitLab's API."""
        return "/terraform/state/" in self.url.path

    @property
    def lock_url(self) -> httpx.URL:
        """Where GitLab locks. Text is added to text, so that a `%2F` in the path stays one."""
        return httpx.URL(f"{self}/lock").copy_with(query=self.url.query or None)

    def __str__(self) -> str:
        """The address without its query, which may hold a secret."""
        return str(self.url.copy_with(query=None))


def address_of(named: str, environment: Mapping[str, str]) -> Address:
    """The address that the key `state` names. Raises: ValueError with the reason."""
    try:
        url = httpx.URL(named)
    except httpx.InvalidURL as error:
        raise ValueError(f"it is no address ({error})") from error
    if not url.host or url.userinfo or url.fragment:
        raise ValueError(
            "it must be an address with a host, without a user and without #; credentials come from"
            " RECONCILER_STATE_USERNAME and RECONCILER_STATE_PASSWORD"
        )
    if url.scheme != "https" and not stays_here(url.host):
        raise ValueError("http:// is for this machine alone; use https://")
    user, password = (
        environment.get(f"RECONCILER_STATE_{name}", "") for name in ("USERNAME", "PASSWORD")
    )
    if bool(user) != bool(password):
        raise ValueError(
            "RECONCILER_STATE_USERNAME and RECONCILER_STATE_PASSWORD go together, and one is missing"
        )
    return Address(url, (user, password) if user else None)


@contextmanager
def connect(address: Address) -> Iterator[Session]:
    """Talk to the server."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if address.url.scheme == "https":  # costs a twentieth of a second
        tls.load_default_certs()
        tls.load_verify_locations(certifi.where())
    with httpx.Client(
        auth=address.credentials,
        verify=tls,
        trust_env=False,
        follow_redirects=False,
        timeout=_TIMEOUT,
    ) as client:
        yield Session(client, address)


class Session:
    """What can be asked of the server."""

    def __init__(self, client: httpx.Client, address: Address) -> None:
        self._client = client
        self._address = address
        self._lock, self._unlock = ("LOCK", address.url), ("UNLOCK", address.url)
        if address.gitlab:
            self._lock, self._unlock = ("POST", address.lock_url), ("DELETE", address.lock_url)

    @property
    def takes_serials_once(self) -> bool:
        """Whether a version is kept per serial, of which the highest is the document."""
        return self._address.gitlab

    def get(self) -> bytes | None:
        """The document; None if there is none. Raises: Unreachable."""
        answer = self._patiently("GET", self._address.url)
        if answer.status_code in _NOTHING and not answer.content:
            return None
        if answer.status_code == HTTPStatus.NOT_FOUND and not self._hides(answer):
            return None
        if answer.status_code != HTTPStatus.OK:
            raise self._refused(answer)
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise Unreachable(
                f"{self._address}: it answered with a web page, not with a state: a proxy or a login page"
                " stands before it, or the address is wrong."
            )
        return answer.content

    def post(self, text: bytes, lock_id: str) -> None:
        """Replace the document, as the holder of the lock. Raises: Lost, Unreachable."""
        url = self._address.url.copy_merge_params({"ID": lock_id})
        attempt = 0
        while True:
            answer = self._once("POST", url, text)
            if isinstance(answer, httpx.Response):
                if answer.is_success:
                    return
                if answer.status_code in _HELD:
                    raise Lost("The lock was lost: somebody took it away or took it over.")
                if answer.status_code not in _UNSURE:
                    raise self._refused(answer)
            if self._has(text):
                return
            attempt += 1
            self._wait(attempt, answer)

    def lock(self, info: JsonObject) -> JsonObject | None:
        """Take the lock. Else what is told of the one who has it; {} if nothing is.

        Raises: Unreachable.
        """
        answer = self._patiently(*self._lock, orjson.dumps(info))
        if answer.is_success:
            return None
        if answer.status_code not in _HELD:
            raise self._refused(answer)
        try:
            found = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            return {}
        return None if found.get("ID") == info["ID"] else found  # the answer before was lost

    def unlock(self, info: JsonObject) -> bool:
        """Free the lock; whether it was that of `info`. {}: whoever has it. Raises: Unreachable."""
        answer = self._patiently(*self._unlock, orjson.dumps(info) if info else b"")
        if answer.is_success:
            return True
        if answer.status_code in _HELD:
            return False
        raise self._refused(answer)

    def _has(self, text: bytes) -> bool:
        answer = self._once("GET", self._address.url)
        return isinstance(answer, httpx.Response) and answer.is_success and answer.content == text

    def _hides(self, answer: httpx.Response) -> bool:
        """Whether "not found" is about the project: GitLab says so to who may not see it, too."""
        return self._address.gitlab and b"project not found" in answer.content.lower()

    def _patiently(self, method: str, url: httpx.URL, body: bytes | None = None) -> httpx.Response:
        """Ask until there is an answer that counts. Raises: Unreachable."""
        attempt = 0
        while True:
            answer = self._once(method, url, body)
            if isinstance(answer, httpx.Response) and answer.status_code not in _TRANSIENT:
                return answer
            attempt += 1
            self._wait(attempt, answer)

    def _wait(self, attempt: int, answer: httpx.Response | httpx.TransportError) -> None:
        """Pause before the next attempt, longer each time, and not when all others come back.

        Raises: Unreachable if there have been enough.
        """
        if attempt == _TRIES:
            raise self._failed(answer)
        asked = answer.headers.get("Retry-After", "") if isinstance(answer, httpx.Response) else ""
        obeyed = min(float(asked), _LONGEST_OBEYED) if asked.isdigit() else 0.0
        time.sleep(obeyed + random.uniform(0, _FIRST_PAUSE * 2**attempt))  # noqa: S311 - no secret

    def _once(
        self, method: str, url: httpx.URL, body: bytes | None = None
    ) -> httpx.Response | httpx.TransportError:
        """The answer, or why there is none."""
        headers = {}
        if body is not None:  # as Terraform sends it
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            headers["Content-MD5"] = base64.b64encode(digest).decode()
            headers["Content-Type"] = "application/json"
        try:
            return self._client.request(method, url, content=body, headers=headers)
        except httpx.TransportError as error:
            return error

    def _failed(self, answer: httpx.Response | httpx.TransportError) -> Unreachable:
        if isinstance(answer, httpx.Response):
            return self._refused(answer)
        reason = str(answer) or type(answer).__name__
        return Unreachable(f"{self._address}: no whole answer ({reason}), {_TRIES} times.")

    def _refused(self, answer: httpx.Response) -> Unreachable:
        status = answer.status_code
        advice = _ADVICE.get(status, "look at the server's log")
        if answer.is_redirect:
            advice = "redirects are not followed; name the address that it leads to"
        method = answer.request.method
        return Unreachable(f"{self._address}: {method} was answered with {status}: {advice}.")
