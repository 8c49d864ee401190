"""The two hosts: comments, issues, and what a reviewed plan is known by.

What was written before is found again by a mark in its text *and* by its author: anybody can write a
mark, and what others wrote is not ours to change. Standard library alone, so that nothing but Python
is needed where a pipeline runs.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TIMEOUT: Final = 30
"""Seconds for one request."""

_PAGE: Final = 100
"""Entries a page; the most that both hosts give."""

_READS: Final = 3
"""How often a read is tried. Writes are sent once: a comment twice is worse than none."""

_BOT: Final = "github-actions[bot]"
"""Who writes with the token of a workflow."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\.[A-Za-z0-9_-]{64}")


class HostError(Exception):
    """The host was not reached, refused, or has not what is needed."""


class Unreviewed(HostError):
    """There is no reviewed plan of what is to be applied."""


class Host(Protocol):
    """Where people review plans and read of drift."""

    def comment(self, mark: str, text: str) -> bool:
        """Write the comment of that mark, in place of the last. False: there is nothing to comment on."""

    def open_issue(self, mark: str, title: str, text: str) -> str:
        """Open the issue of that mark, or write its text anew; answers its name."""

    def close_issue(self, mark: str) -> str | None:
        """Close the issue of that mark, if it is open; answers its name."""

    def publish(self, digest: str, directory: str, *, fine: bool) -> None:
        """Note at the reviewed commit which plan was shown for it."""

    def reviewed(self, directory: str) -> str:
        """The digest of the plan that was shown for what is merged now. Raises: Unreviewed, HostError."""


class GitHub:
    """GitHub's REST API, as the token of a workflow may use it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        token = environment.get("GITHUB_TOKEN", "")
        self._api = Api(environment["GITHUB_API_URL"], {"Authorization": f"Bearer {token}"})
        self._repository = f"/repos/{environment['GITHUB_REPOSITORY']}"
        self._author = environment.get("RECONCILER_AUTHOR") or _BOT
        self._sha = environment["GITHUB_SHA"]
        self._run = (
            f"{environment['GITHUB_SERVER_URL']}/{environment['GITHUB_REPOSITORY']}"
            f"/actions/runs/{environment['GITHUB_RUN_ID']}"
        )
        self._event = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text("utf-8"))

    def comment(self, mark: str, text: str) -> bool:
        """Comment on the pull request of the event, or on the one that was merged by the push."""
        number = self._pull().get("number")
        if number is None:
            return False
        comments = f"{self._repository}/issues/{number}/comments"
        for found in self._api.pages(comments):
            if self._ours(found, mark):
                self._api.write(
                    "PATCH", f"{self._repository}/issues/comments/{found['id']}", body=text
                )
                return True
        self._api.write("POST", comments, body=text)
        return True

    def open_issue(self, mark: str, title: str, text: str) -> str:
        """An issue is found among the open ones alone: what was closed by hand is opened as a new one."""
        issues = f"{self._repository}/issues"
        found = self._issue(mark)
        if found is None:
            return _named(self._api.write("POST", issues, title=title, body=text), "number")
        self._api.write("PATCH", f"{issues}/{found['number']}", title=title, body=text)
        return _named(found, "number")

    def close_issue(self, mark: str) -> str | None:
        """Close it as completed."""
        found = self._issue(mark)
        if found is None:
            return None
        path = f"{self._repository}/issues/{found['number']}"
        self._api.write("PATCH", path, state="closed", state_reason="completed")
        return _named(found, "number")

    def publish(self, digest: str, directory: str, *, fine: bool) -> None:
        """As a commit status: it belongs to one commit, and nobody can edit it."""
        sha = self._event.get("pull_request", {}).get("head", {}).get("sha")
        if sha is None:
            return
        self._api.write(
            "POST", f"{self._repository}/statuses/{sha}", context=_context(directory),
            state="success" if fine else "failure", description=digest, target_url=self._run,
        )  # fmt: skip

    def reviewed(self, directory: str) -> str:
        """The digest in the status of the merged pull request's last commit. Raises: Unreviewed, HostError."""
        pull = self._pull()
        if not pull:
            raise Unreviewed(
                f"{self._sha} was merged by no pull request, so no plan of it was reviewed"
            )
        sha = pull["head"]["sha"]
        statuses = f"{self._repository}/commits/{sha}/statuses"  # the latest first
        for found in self._api.pages(statuses):
            author = (found.get("creator") or {}).get("login")
            if found["context"] == _context(directory) and author == self._author:
                digest = found.get("description") or ""
                if found["state"] == "success" and _DIGEST.fullmatch(digest):
                    return str(digest)
                break
        raise Unreviewed(f"pull request #{pull['number']} has no plan for {sha} that went well")

    def _pull(self) -> dict[str, Any]:
        """The pull request of the event, else the one whose merge made the pushed commit, else {}."""
        if "pull_request" in self._event:
            return dict(self._event["pull_request"])
        for pull in self._api.pages(f"{self._repository}/commits/{self._sha}/pulls"):
            if pull.get("merged_at") and pull.get("merge_commit_sha") == self._sha:
                return dict(pull)
        return {}

    def _issue(self, mark: str) -> dict[str, Any] | None:
        issues = self._api.pages(f"{self._repository}/issues?state=open")
        return next((i for i in issues if "pull_request" not in i and self._ours(i, mark)), None)

    def _ours(self, found: Mapping[str, Any], mark: str) -> bool:
        author = (found.get("user") or {}).get("login")
        return author == self._author and (found.get("body") or "").startswith(mark)


class GitLab:
    """GitLab's REST API under a project access token; a job's own token may not write notes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        headers = {"PRIVATE-TOKEN": environment["GITLAB_TOKEN"]}
        self._api = Api(environment["CI_API_V4_URL"], headers)
        self._project = f"/projects/{quote(environment['CI_PROJECT_ID'], safe='')}"
        self._request = environment.get("CI_MERGE_REQUEST_IID")

    def comment(self, mark: str, text: str) -> bool:
        """A note on the merge request of the pipeline."""
        if not self._request:
            return False
        notes = f"{self._project}/merge_requests/{quote(self._request, safe='')}/notes"
        author = self._api.get("/user")["id"]
        for found in self._api.pages(notes):
            if found["author"]["id"] == author and found["body"].startswith(mark):
                self._api.write("PUT", f"{notes}/{found['id']}", body=text)
                return True
        self._api.write("POST", notes, body=text)
        return True

    def open_issue(self, mark: str, title: str, text: str) -> str:
        """As at GitHub: found among the open ones alone."""
        issues = f"{self._project}/issues"
        found = self._issue(mark)
        if found is None:
            return _named(self._api.write("POST", issues, title=title, description=text), "iid")
        self._api.write("PUT", f"{issues}/{found['iid']}", title=title, description=text)
        return _named(found, "iid")

    def close_issue(self, mark: str) -> str | None:
        """Close it."""
        found = self._issue(mark)
        if found is None:
            return None
        self._api.write("PUT", f"{self._project}/issues/{found['iid']}", state_event="close")
        return _named(found, "iid")

    def publish(self, digest: str, directory: str, *, fine: bool) -> None:
        """Nothing: there, the plan travels as an artefact of the pipeline that applies it."""

    def reviewed(self, directory: str) -> str:
        """Raises Unreviewed, always: see `publish`."""
        raise Unreviewed(f"for {directory}, name the plan's file, an artefact of the same pipeline")

    def _issue(self, mark: str) -> dict[str, Any] | None:
        author = self._api.get("/user")["id"]
        issues = self._api.pages(f"{self._project}/issues?state=opened&author_id={author}")
        return next((i for i in issues if (i["description"] or "").startswith(mark)), None)


class _NoRedirect(HTTPRedirectHandler):
    """urllib would send the token along to wherever a redirect leads."""

    def redirect_request(self, *_: object) -> None:
        """Not followed: the redirect is an error then."""


class Api:
    """JSON over HTTP."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._headers = {
            **headers,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "reconciler-ci",
        }
        self._open = build_opener(_NoRedirect).open

    def get(self, path: str) -> Any:
        """What is there. Raises: HostError."""
        for left in reversed(range(_READS)):
            try:
                return self._send("GET", path, None)
            except HostError:
                if not left:
                    raise
        raise AssertionError

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """All entries of a list, however many pages it has. Raises: HostError."""
        path += "&" if "?" in path else "?"
        for number in count(1):
            found = self.get(f"{path}per_page={_PAGE}&page={number}")
            yield from found
            if len(found) < _PAGE:
                return

    def write(self, method: str, path: str, **fields: str) -> dict[str, Any]:
        """Send once. Raises: HostError."""
        return dict(self._send(method, path, json.dumps(fields).encode()))

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        request = Request(self._url + path, body, self._headers, method=method)  # noqa: S310 - the host's own URL
        what = f"{method} {path.partition('?')[0]}"
        try:
            with self._open(request, timeout=_TIMEOUT) as answer:
                return json.load(answer)
        except HTTPError as error:
            hint = _HINTS.get(error.code, "")
            raise HostError(f"{what}: the host answered {error.code}{hint}") from error
        except (URLError, OSError, ValueError) as error:
            raise HostError(f"{what}: {error}") from error


_HINTS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: ": the token is wrong or has expired",
    HTTPStatus.FORBIDDEN: ": the token lacks a permission (docs/pipelines.md)",
    HTTPStatus.NOT_FOUND: ": it is not there, or the token may not see it (docs/pipelines.md)",
}


def _context(directory: str) -> str:
    """The name of a commit status. GitHub shows it among the checks of a pull request."""
    return f"reconciler plan ({directory})"


def _named(issue: Mapping[str, Any], number: str) -> str:
    return f"issue #{issue[number]}"
