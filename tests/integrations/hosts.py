"""GitHub's and GitLab's REST APIs, as far as pipelines use them: on a port, with a log.

Written from the hosts' documentation, not recorded from them: lists have pages of at most 100, comments
and issues at GitHub at most 65,536 characters, and each answer has what its real one has of what is read.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN: Final = "the-token-of-the-job"
BOT: Final = "github-actions[bot]"
LIMIT: Final = 65_536


@dataclass(frozen=True)
class Asked:
    """A request that changes something."""

    method: str
    path: str
    body: Any


@dataclass
class Kept:
    """What a host keeps."""

    comments: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    pulls: list[dict[str, Any]] = field(default_factory=list)
    writes: list[Asked] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    url: str = ""

    @property
    def opened(self) -> list[dict[str, Any]]:
        """The issues that are open."""
        return [issue for issue in self.issues if issue["state"] in {"open", "opened"}]

    def add(self, entries: list[dict[str, Any]], **fields: Any) -> tuple[int, dict[str, Any]]:
        """Keep one more, as the bot wrote it."""
        number = len(entries) + 1
        entry = {"id": 1000 + number, "number": number, "iid": number, **_BY_BOT, **fields}
        entries.append(entry)
        return 201, entry

    def edit(
        self, entries: list[dict[str, Any]], key: str, number: str, **fields: Any
    ) -> tuple[int, Any]:
        """Change the one that is called so."""
        found = next(entry for entry in entries if entry[key] == int(number))
        found.update(fields)
        return 200, found


_BY_BOT: Final = {
    "user": {"login": BOT}, "creator": {"login": BOT}, "author": {"id": 7}, "state": "open",
}  # fmt: skip


def github(  # noqa: C901, PLR0911 - a table of routes
    kept: Kept, method: str, path: str, body: Any
) -> tuple[int, Any]:
    """An answer of GitHub's."""
    if len((body or {}).get("body", "")) > LIMIT or len((body or {}).get("description", "")) > 140:
        return 422, {"message": "Validation Failed"}
    base = "/repos/acme/accounts"
    match (method, *path.removeprefix(base).strip("/").split("/")):
        case ("GET", "issues", _, "comments"):
            return 200, kept.comments
        case ("POST", "issues", _, "comments"):
            return kept.add(kept.comments, **body)
        case ("PATCH", "issues", "comments", number):
            return kept.edit(kept.comments, "id", number, **body)
        case ("GET", "issues"):
            return 200, kept.opened
        case ("POST", "issues"):
            return kept.add(kept.issues, **body)
        case ("PATCH", "issues", number):
            return kept.edit(kept.issues, "number", number, **body)
        case ("POST", "statuses", sha):
            return kept.add(kept.statuses, sha=sha, **body)
        case ("GET", "commits", sha, "statuses"):
            return 200, [status for status in reversed(kept.statuses) if status["sha"] == sha]
        case ("GET", "commits", _, "pulls"):
            return 200, kept.pulls
    return 404, {"message": "Not Found"}


def gitlab(  # noqa: PLR0911 - a table of routes
    kept: Kept, method: str, path: str, body: Any
) -> tuple[int, Any]:
    """An answer of GitLab's."""
    match (method, *path.removeprefix("/projects/1234").strip("/").split("/")):
        case ("GET", "user"):
            return 200, {"id": 7}
        case ("GET", "merge_requests", "3", "notes"):
            return 200, kept.comments
        case ("POST", "merge_requests", "3", "notes"):
            return kept.add(kept.comments, **body)
        case ("PUT", "merge_requests", "3", "notes", number):
            return kept.edit(kept.comments, "id", number, **body)
        case ("GET", "issues"):
            return 200, kept.opened
        case ("POST", "issues"):
            return kept.add(kept.issues, **body)
        case ("PUT", "issues", number):
            closed = {"state": "closed"} if (body or {}).get("state_event") == "close" else {}
            return kept.edit(kept.issues, "iid", number, **body, **closed)
    return 404, {"message": "404 Not Found"}


@contextmanager
def serving(answer: Callable[[Kept, str, str, Any], tuple[int, Any]]) -> Iterator[Kept]:
    """Serve a host until the end."""
    kept = Kept()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            address = urlsplit(self.path)
            if self.command != "GET":
                kept.writes.append(Asked(self.command, address.path, body))
            self._send(*self._answer(address.path, body), parse_qs(address.query))

        def _answer(self, path: str, body: Any) -> tuple[int, Any]:
            given = {self.headers.get("Authorization"), self.headers.get("PRIVATE-TOKEN")}
            if not given & {f"Bearer {TOKEN}", TOKEN}:
                return 401, {"message": "Bad credentials"}
            if any(re.search(pattern, f"{self.command} {path}") for pattern in kept.broken):
                return 403, {"message": "Resource not accessible by integration"}
            return answer(kept, self.command, path, body)

        def _send(self, status: int, found: Any, query: dict[str, list[str]]) -> None:
            if isinstance(found, list):
                size, page = (int(query.get(name, ["1"])[0]) for name in ("per_page", "page"))
                found = found[(page - 1) * size : page * size]
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_PUT = _any  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
