"""How a PostgreSQL database is reached: its URL, its transactions, its errors.

Passwords come from where libpq looks for them (PGPASSWORD, a password file, a service), never from
the URL, which stands in a file of the project. What a database says of an error is shown without
what it quotes: names of users and databases, and values.

Source: docs/state.md, "PostgreSQL"; PostgreSQL's documentation, "libpq - C Library" and "Error Codes".
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from reconciler.core.state import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import LiteralString

    from reconciler.backends.backend import Unwritable

    Connection = psycopg.Connection[tuple[Any, ...]]

READ: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""Begins a transaction that sees one moment."""
WRITE: Final = (
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;"
    # Whatever the server's default is: what was confirmed must outlive a power cut.
    " SELECT set_config('synchronous_commit', 'on', true)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
"""Begins a transaction that writes; each of its statements sees what others have committed."""

_STATEMENT: Final = 120
"""Seconds that a statement may take. The longest, all of 100,000 accounts, takes 2 on a near server."""
_PARAMETERS: Final = {
    "connect_timeout": "10",
    "fallback_application_name": "reconciler",
    # An end that went away without a word is noticed after some 20 seconds.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
}
_SECRETS: Final = frozenset(
    ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STATE: Final = "state="
_QUOTED: Final = re.compile(r"[\"“„«»].*?[\"“”«»]")
_ADVICE: Final = {
    "0A000": "If it is a standby, name the primary.",
    "42501": "The rights that a role needs stand in docs/state.md, PostgreSQL.",
}


@dataclass(frozen=True, slots=True, repr=False)  # the parameters are nobody's business
class Database:
    """A database. `shown`: what people see of its URL; `lease`: seconds that a client may idle."""

    shown: str
    parameters: Mapping[str, Any]
    lease: float

    def connect(self) -> Connection:
        """A new connection, of which nothing outlives a transaction: a pooler may share it."""
        return psycopg.connect(**self.parameters, autocommit=True, prepare_threshold=None)

    @contextmanager
    def transaction(self, connection: Connection, mode: LiteralString) -> Iterator[Connection]:
        """A transaction. The server ends it for a client that idles in it, or went away."""
        lease = round(1000 * self.lease)
        limits = sql.SQL(
            "; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}"
            "; SET LOCAL idle_in_transaction_session_timeout = {idle}"
            "; SET LOCAL tcp_keepalives_idle = 10; SET LOCAL tcp_keepalives_interval = 5"
            "; SET LOCAL tcp_keepalives_count = 2"
        ).format(statement=1000 * _STATEMENT, lock=2 * lease, idle=lease)
        with connection.transaction():
            connection.execute(sql.SQL(mode) + limits)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction of its own that sees one moment and can't write. Raises: Unusable."""
        with (
            self.telling(Unusable),
            closing(self.connect()) as connection,
            self.transaction(connection, READ),
        ):
            yield connection

    @contextmanager
    def telling(self, kind: type[Unusable | Unwritable], advice: str = "") -> Iterator[None]:
        """Say where something is wrong, what, and what to do. Raises: `kind`."""
        try:
            yield
        except psycopg.Error as error:
            raise kind(f"{self.shown}: {_reason(error)} {advice}".rstrip()) from error
        except Unusable as error:
            raise kind(f"{self.shown}: {error}") from error

    def lacks(self, rights: str) -> str:
        """What to say where the role lacks these rights."""
        return f"{self.shown}: the role lacks {rights}. {_ADVICE['42501']}"


def is_lost(error: psycopg.Error) -> bool:
    """Whether it is the connection that was lost, or ended by the server: a new one may do better."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P")) or error.sqlstate == "25P03"


def _reason(error: psycopg.Error) -> str:
    """What is wrong, without what is quoted."""
    text = error.diag.message_primary or str(error).strip().partition("\n")[0]
    advice = _ADVICE.get(error.sqlstate or "", "")
    return f"{_QUOTED.sub('…', text).rstrip('.')}. {advice}".rstrip()


# --- the URL ---------------------------------------------------------------------------------


def parsed(url: str, environment: Mapping[str, str], lease: float) -> tuple[Database, str]:
    """The database and the name of the state in it. Raises: ValueError with the reason."""
    base, _, query = url.partition("?")
    options = [option for option in query.split("&") if option]
    names = [option.removeprefix(_STATE) for option in options if option.startswith(_STATE)]
    rest = "&".join(option for option in options if not option.startswith(_STATE))
    try:
        parameters = conninfo_to_dict(f"{base}?{rest}")
    except psycopg.Error as error:
        raise ValueError(f"it is no URL of a database ({_reason(error).rstrip('.')})") from error
    name = unquote(names[-1]) if names else "default"
    if not _NAME.fullmatch(name):
        raise ValueError(
            "its parameter `state` takes letters, digits, `.`, `_` and `-`, at most 128, and a letter or"
            " digit first"
        )
    _check_secret(parameters)
    _check_server(parameters, environment)
    return Database(_shown(parameters, name), _PARAMETERS | parameters, lease), name


def _check_secret(parameters: Mapping[str, Any]) -> None:
    """Raises: ValueError if there is a password in the URL, or a part of one where it is shown."""
    if not parameters.keys().isdisjoint(_SECRETS):
        raise ValueError(
            "its URL holds a password, and stands where all can read it who see the project. Give the"
            " password by PGPASSWORD, a password file (PGPASSFILE) or a service (PGSERVICE)"
        )
    port, name = str(parameters.get("port", "0")), str(parameters.get("dbname", ""))
    if not port.replace(",", "0").isdigit() or "@" in name:
        raise ValueError(
            "its URL can't be read: in a user's or a database's name `/`, `?`, `@` and `:` are written"
            " %2F, %3F, %40 and %3A"
        )


def _check_server(parameters: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Raises: ValueError if the password would go to a server that the environment does not name."""
    for parameter, variable in (("host", "PGHOST"), ("hostaddr", "PGHOSTADDR")):
        named, meant = parameters.get(parameter), environment.get(variable)
        if environment.get("PGPASSWORD") and named and meant and named != meant:
            raise ValueError(
                f"its URL names another server than {variable}, and a file of the project must not send"
                f" PGPASSWORD elsewhere. Take the server out of the URL, or name it in {variable}"
            )


def _shown(parameters: Mapping[str, Any], name: str) -> str:
    host, port = parameters.get("host", ""), parameters.get("port")
    where = f"{host}:{port}" if port else host
    return f"postgresql://{where}/{parameters.get('dbname', '')}?state={name}"
