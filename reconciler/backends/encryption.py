"""State under a key that only the environment knows: AES-256-GCM, from the package `cryptography`.

`RECONCILER_STATE_KEY` is a secret text. The cipher's key is made of it by scrypt, salted with the
state's lineage: so that a text somebody could guess is costly to try, and no two states share a key.
`RECONCILER_STATE_KEY_PREVIOUS` opens what an earlier key sealed, and seals nothing.

Source: docs/state.md, "Encryption"; docs/decisions/012-encrypted-state.md.
"""

from __future__ import annotations

import binascii
import os
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from reconciler.core.state import Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY: Final = "RECONCILER_STATE_KEY"
PREVIOUS: Final = "RECONCILER_STATE_KEY_PREVIOUS"
_SHORTEST: Final = 16
_NONCE: Final = 12
_COST: Final = 2**15
"""scrypt's N, with r=8 and p=1: 32 MiB and about a tenth of a second, once per run and key."""


class Cipher:
    """Seals and opens texts of one state at a time. Its keys are never shown."""

    __slots__ = ("_key", "_previous")

    def __init__(self, key: str | None, previous: str | None) -> None:
        self._key = key
        self._previous = previous

    @property
    def seals(self) -> bool:
        """Whether there is a key to seal with, not only one to open what was sealed before."""
        return self._key is not None

    @property
    def rotates(self) -> bool:
        """Whether there is an earlier key, too."""
        return self._previous is not None

    def seal(self, lineage: str, text: bytes, bound: bytes) -> str:
        """`text`, readable with the key alone; it can be opened only beside the same `bound`."""
        if self._key is None:
            raise AssertionError("there is no key to seal with")
        nonce = os.urandom(_NONCE)
        sealed = _derived(self._key, lineage).encrypt(nonce, text, bound)
        return binascii.b2a_base64(nonce + sealed, newline=False).decode()

    def open(self, lineage: str, sealed: str, bound: bytes) -> bytes:
        """What was sealed. Raises: Unusable if no key opens it."""
        from cryptography.exceptions import InvalidTag

        for key in (self._key, self._previous):
            # ValueError: what is there is no base64, or too short to be anything.
            with suppress(InvalidTag, ValueError):
                if key is not None:
                    raw = memoryview(binascii.a2b_base64(sealed, strict_mode=True))
                    return _derived(key, lineage).decrypt(raw[:_NONCE], raw[_NONCE:], bound)
        raise Unusable(
            f"{KEY} does not open it: it was encrypted with another key, or changed since. Set the key"
            f" that it was saved with, as {PREVIOUS} if there is a new one"
        )


def cipher_from(environment: Mapping[str, str]) -> Cipher | None:
    """The cipher that the environment has keys for; None without any. Raises: Unusable."""
    key, previous = environment.get(KEY) or None, environment.get(PREVIOUS) or None
    if key is None and previous is None:
        return None
    for name, text in ((KEY, key), (PREVIOUS, previous)):
        if text is not None and len(text) < _SHORTEST:
            raise Unusable(
                f"{name} has fewer than {_SHORTEST} characters. Make one by: openssl rand -base64 32"
            )
    try:
        import cryptography  # noqa: F401 - an extra; better said now than in the middle
    except ImportError as error:
        raise Unusable(
            f"{KEY} is set, but the package that encrypts is missing: install reconciler[encryption]"
        ) from error
    return Cipher(key, previous)


@lru_cache(maxsize=8)
def _derived(key: str, lineage: str) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    salt = f"reconciler state {lineage}".encode()
    return AESGCM(Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(key.encode()))
