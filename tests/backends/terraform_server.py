"""A server that speaks Terraform's HTTP state protocol, on a port, with faults.

Two dialects: `plain`, as Terraform's own documentation has it, and `gitlab`, as GitLab's does: it
locks by POST and DELETE of `/lock`, keeps a version per serial of which the highest is the state,
takes no serial twice, and tells of a lock's holder little but the ID.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

Dialect = Literal["plain", "gitlab"]
What = Literal["drop", "lost", "html", "cut", "redirect", "no project"] | int
"""`drop`: no answer, nothing done; `lost`: no answer, but done; a number: that status, nothing done."""

CREDENTIALS: Final = ("someone", "open sesame")
_BASE: Final = {"plain": "/state/", "gitlab": "/api/v4/projects/group%2Fshop/terraform/state/"}


@dataclass
class Stored:
    """What a server keeps of one state."""

    versions: dict[int, bytes] = field(default_factory=dict)
    lock: dict[str, str] | None = None
    touched: bool = False

    @property
    def document(self) -> bytes | None:
        return self.versions[max(self.versions)] if self.versions else None

    @document.setter
    def document(self, text: bytes | None) -> None:
        self.versions = {} if text is None else {_serial(text): text}


@dataclass(frozen=True)
class Exchange:
    """A request, and the status of its answer: 0 if there was none."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class TerraformServer:
    """The server; what it keeps; what it was asked; and what will go wrong."""

    def __init__(self, dialect: Dialect, root: str) -> None:
        self.dialect = dialect
        self.base = root + _BASE[dialect]
        self.states: dict[str, Stored] = {}
        self.log: list[Exchange] = []
        self.faults: list[tuple[str, What]] = []
        self.retry_after = 0
        self.mutex = threading.Lock()

    def stored(self, name: str) -> Stored:
        return self.states.setdefault(name, Stored())

    def fault(self, method: str, what: What, times: int = 1) -> None:
        """Let the next requests of that method go wrong."""
        self.faults += [(method, what)] * times

    def calls(self) -> list[tuple[str, int]]:
        """Methods and statuses, in order."""
        return [(exchange.method, exchange.status) for exchange in self.log]

    def next_fault(self, method: str) -> What | None:
        found = next((fault for fault in self.faults if fault[0] == method), None)
        if found is None:
            return None
        self.faults.remove(found)
        return found[1]

    # --- what a request does; answers status and body ---

    def act(self, method: str, path: str, lock_id: str | None, body: bytes) -> tuple[int, bytes]:
        name, _, rest = path.removeprefix(_BASE[self.dialect]).partition("/")
        stored = self.stored(name)
        locking = {"POST": "LOCK", "DELETE": "UNLOCK"}.get(method) if rest == "lock" else None
        match locking if self.dialect == "gitlab" and rest else method:
            case "GET":
                return self._get(stored)
            case "POST":
                return self._post(stored, lock_id, body)
            case "LOCK" if self.dialect == "plain" or locking:
                return self._lock(stored, json.loads(body))
            case "UNLOCK" if self.dialect == "plain" or locking:
                return self._unlock(stored, json.loads(body) if body else {})
        return 405, b""

    def _get(self, stored: Stored) -> tuple[int, bytes]:
        if stored.document is not None:
            return 200, stored.document
        return (204 if stored.touched and self.dialect == "gitlab" else 404), b""

    def _post(self, stored: Stored, lock_id: str | None, body: bytes) -> tuple[int, bytes]:
        if lock_id != (stored.lock or {}).get("ID"):
            return 409, b""
        if self.dialect == "plain":
            stored.document = body
            return 200, b""
        serial = json.loads(body)["serial"]
        if serial in stored.versions:
            return 422, b'{"message":"PG::UniqueViolation"}'
        stored.versions[serial] = body
        return 200, b""

    def _lock(self, stored: Stored, info: dict[str, str]) -> tuple[int, bytes]:
        stored.touched = True
        if stored.lock is None:
            stored.lock = info
            return 200, b""
        if self.dialect == "plain":
            return 423, json.dumps(stored.lock).encode()
        told = {**info, "ID": stored.lock["ID"], "Who": "root", "Created": stored.lock["Created"]}
        return 409, json.dumps(told).encode()

    def _unlock(self, stored: Stored, info: dict[str, str]) -> tuple[int, bytes]:
        if "ID" in info and info["ID"] != (stored.lock or {}).get("ID"):
            return 409, b""
        stored.lock = None
        return 200, b""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state_server: TerraformServer

    def handle_one_request(self) -> None:
        self.close_connection = True  # if nothing comes; else parse_request knows
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        length = int(self.headers.get("Content-Length", 0))
        sent = self.rfile.read(length)
        if len(sent) == length:  # who was killed in mid-sentence has said nothing
            self._answer(sent)
        else:
            self.close_connection = True

    def _answer(self, sent: bytes) -> None:
        server = self.state_server
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        with server.mutex:
            what = server.next_fault(self.command)
            status, body = self._refusal(sent) or (0, b"")
            if not status and not isinstance(what, int) and what not in ("drop", "redirect"):
                lock_id = query.get("ID", [None])[0]
                status, body = server.act(self.command, parts.path, lock_id, sent)
            if isinstance(what, int):
                status, body = what, b""
            shown = 0 if what in ("drop", "lost") else status
            headers = dict(self.headers.items())
            server.log.append(Exchange(self.command, parts.path, query, headers, sent, shown))
        self.close_connection |= what in ("drop", "lost", "cut")
        if what not in ("drop", "lost"):
            self._send(status, body, what)

    def _refusal(self, sent: bytes) -> tuple[int, bytes] | None:
        expected = base64.b64encode(":".join(CREDENTIALS).encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            return 401, b""
        digest = base64.b64encode(hashlib.md5(sent, usedforsecurity=False).digest()).decode()
        if sent and self.headers.get("Content-MD5") != digest:
            return 400, b"Content-MD5"
        return None

    def _send(self, status: int, body: bytes, what: What | None) -> None:
        kind = "application/json"
        if what == "html":
            status, kind, body = 200, "text/html; charset=utf-8", b"<html>Sign in</html>"
        if what == "redirect":
            status, body = 302, b""
        if what == "no project":
            status, body = 404, b'{"message":"404 Project Not Found"}'
        self.send_response(status)
        if what == "redirect":
            self.send_header("Location", self.path + "/elsewhere")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(self.state_server.retry_after))
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if what == "cut" else body)

    def log_message(self, *_: object) -> None:
        """Quietly."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """That who asked is gone is no news; all else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(dialect: Dialect, tls: ssl.SSLContext | None = None) -> Iterator[TerraformServer]:
    """Serve on a free port of this machine, each connection in a thread of its own."""

    class Handler(_Handler):
        pass

    with _Server(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        root = f"{'https' if tls else 'http'}://127.0.0.1:{listening.server_address[1]}"
        if tls is not None:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True)
        Handler.state_server = TerraformServer(dialect, root)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Handler.state_server
        finally:
            listening.shutdown()
            thread.join()


def _serial(text: bytes) -> int:
    """The serial of a document; 0 if it has none."""
    try:
        return int(json.loads(text)["serial"])
    except (ValueError, KeyError, TypeError):
        return 0
