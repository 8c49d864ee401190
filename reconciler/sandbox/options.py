"""How a sandbox is set up, and the fixed credentials of every new one.

The constants are public on purpose: they let documents and demonstrations show commands that
work as printed. They open nothing but a sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.sandbox.faults import Fault

Dialect = Literal["release", "head"]
ErrorFormat = Literal["kazoo", "vinix"]

ROOT_ID: Final = "5a4db0c0000000000000000000000001"
"""The master account of every new sandbox."""

ROOT_API_KEY: Final = "5a4db0c0" + "0123456789abcdef" * 3 + "0000feed"
"""The API key of the master account of every new sandbox: 64 hex characters."""

ROOT_NAME: Final = "Sandbox"
ROOT_REALM: Final = "sandbox.sip.example.com"

ADMIN_USERNAME: Final = "admin"
ADMIN_PASSWORD: Final = "sandbox-only"
"""With the name above: the one user, an administrator of the master account."""

ADMIN_ID: Final = "5a4db0c0000000000000000000000a01"
"""The `owner_id` that a login with name and password answers."""

BASE_PATH: Final = "/v2"
IN_PROCESS_URL: Final = "http://sandbox.invalid" + BASE_PATH
"""The base URL to use with `SandboxTransport`; the name can't resolve, should it ever get out."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """What a user chooses when the sandbox starts; it holds until it stops.

    dialect: which of the platform's two readings of POST, PATCH and validation is played.
    latency_ms: every answer waits this long. view_lag_ms: so much later do lists, and the checks
    for uniqueness that rest on the same views, see a change. token_life: seconds.
    data: the file that everything is kept in; None: memory. seed: makes ids and random realms
    repeatable. log_requests: `Platform.log` and `Platform.mails` are kept (they grow for ever).
    """

    dialect: Dialect = "release"
    error_format: ErrorFormat = "kazoo"
    latency_ms: int = 0
    view_lag_ms: int = 0
    superduper: bool = True
    rate_limit: bool = True
    token_life: int = 3600
    seed_accounts: int = 0
    data: Path | None = None
    unique_names: bool = True
    allow_move: Literal["superduper_admin", "tree"] = "superduper_admin"
    faults: tuple[Fault, ...] = ()
    seed: str | None = None
    log_requests: bool = False
