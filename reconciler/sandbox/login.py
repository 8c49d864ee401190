"""The two ways to a token. Source: docs/platform.md 2.1 to 2.3."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from reconciler.sandbox import rules
from reconciler.sandbox.options import ADMIN_ID, ADMIN_PASSWORD, ADMIN_USERNAME
from reconciler.sandbox.wire import Answer, Errors, RefusedError, system_error, validation_error

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.accounts import Accounts
    from reconciler.sandbox.records import Record
    from reconciler.sandbox.store import Store
    from reconciler.sandbox.tokens import Tokens

_KEY_LENGTH: Final = 64
_REALM: Final = re.compile(r"[.\w-]+", re.ASCII)
_LIMITS: Final = {
    "credentials": (1, 64),
    "account_name": (1, 128),
    "account_realm": (4, 253),
    "phone_number": (1, 64),
}
"""Field of a user's login -> least and greatest length."""


class Logins:
    """Checks credentials and hands out tokens; each login answers the token and the answer."""

    def __init__(self, store: Store, tokens: Tokens, accounts: Accounts) -> None:
        self._store = store
        self._tokens = tokens
        self._accounts = accounts

    def api_auth(self, data: JsonObject) -> tuple[str, Answer]:
        """Log an account in by its API key. Raises: RefusedError."""
        errors = _key_errors(data)
        if errors:
            raise validation_error(errors)
        key = str(data["api_key"])
        record = self._store.by_api_key(key)
        if record is None:
            raise RefusedError(404, "bad identifier", [key])
        return self._logged_in(record, None)

    def user_auth(self, data: JsonObject) -> tuple[str, Answer]:
        """Log a user in by name and password. Raises: RefusedError.

        There is one user: the administrator of the master account.
        """
        data = dict(data)
        if "realm" in data:
            data.setdefault("account_realm", data.pop("realm"))
        errors = _user_errors(data)
        if errors:
            raise validation_error(errors)
        record = self._account_of(data)
        digest = _credentials(data.get("method", "md5"))
        known = digest is not None and hmac.compare_digest(
            digest, str(data["credentials"]).encode()
        )
        if record is None or record.id != self._store.root_id or not known:
            raise system_error(401, "invalid_credentials")
        return self._logged_in(record, ADMIN_ID)

    def _account_of(self, data: JsonObject) -> Record | None:
        """Find the account by realm, else by name; the sandbox has no phone numbers."""
        views = self._store.views
        found = [
            *views.with_realm(str(data.get("account_realm", ""))),
            *(views.with_name(str(data["account_name"])) if "account_name" in data else ()),
        ]
        return self._store.get(found[0]) if found else None

    def _logged_in(self, record: Record, owner_id: str | None) -> tuple[str, Answer]:
        if not record.enabled:
            message = {"message": "account disabled", "cause": record.id}
            raise validation_error({"account": {"disabled": dict(message)}})
        data: JsonObject = {
            "account_id": record.id,
            "account_name": record.name,
            "reseller_id": self._accounts.reseller_of(record),
            "is_reseller": record.is_reseller,
            "is_master_account": record.id == self._store.root_id,
            "language": record.document.get("language", "en-us"),
            "apps": [],
            "cluster_id": "sandbox",
            "capabilities": {},
            "ui_config": {},
        }
        if owner_id is not None:
            data["owner_id"] = owner_id
        return self._tokens.issue(record.id, owner_id), Answer(data, status=201)


def _credentials(method: JsonValue) -> bytes | None:
    """Hash name and password of the one user; None if the method is unknown."""
    pair = f"{ADMIN_USERNAME}:{ADMIN_PASSWORD}".encode()
    if method == "md5":
        return hashlib.md5(pair, usedforsecurity=False).hexdigest().encode()
    if method == "sha":
        return hashlib.sha1(pair, usedforsecurity=False).hexdigest().encode()
    return None


def _key_errors(data: JsonObject) -> Errors:
    errors: Errors = {
        key: {"additionalProperties": {"message": "Strict checking of data failed"}}
        for key in data
        if key != "api_key"
    }
    return rules.both(errors, _text_errors(data, "api_key", _KEY_LENGTH, _KEY_LENGTH))


def _user_errors(data: JsonObject) -> Errors:
    errors: Errors = {}
    for key, (least, greatest) in _LIMITS.items():
        if key == "credentials" or key in data:
            errors.update(_text_errors(data, key, least, greatest))
    realm = data.get("account_realm")
    if isinstance(realm, str) and not _REALM.fullmatch(realm):
        details: JsonObject = {"message": "Failed to match pattern", "target": "^[.\\w_-]+$"}
        errors = rules.both(errors, {"account_realm": {"pattern": details}})
    return errors


def _text_errors(data: JsonObject, key: str, least: int, greatest: int) -> Errors:
    """Check that there is text of the right length. The text is a secret: it isn't repeated."""
    value = data.get(key)
    details: JsonObject
    if key not in data:
        return {key: {"required": {"message": "Field is required but missing"}}}
    if not isinstance(value, str):
        details = {"message": "Value did not match type(s): string", "target": "string"}
        return {key: {"type": details}}
    if len(value) < least:
        details = {"message": f"String must be at least {least} characters", "target": least}
        return {key: {"minLength": details}}
    if len(value) > greatest:
        details = {"message": f"String must not be more than {greatest} characters"}
        return {key: {"maxLength": {**details, "target": greatest}}}
    return {}
