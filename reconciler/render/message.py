"""A run in a few lines of plain text: for a chat, a pager, a mail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.render.safe import chat
from reconciler.render.text import diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.render.report import Report

LIMIT: Final = 1800
"""Characters: Discord takes 2,000, the fewest of the usual chats."""

_LINE: Final = 300
_URL = re.compile(r"https?://[\w.:-]+(?:/[\w.~%+=-]*)*")


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told. Nothing in it is markup, a mention or somebody else's link."""

    title: str
    body: str


def message(report: Report, verdict: str, where: str, link: str) -> Message:
    """What came of a run: the sum first, then what to read next, cut to what a chat takes.

    `verdict`: in a word or two. `where`: project and root account. `link`: to the CI job, or "".
    """
    lines = [_short(chat(report.headline)), _short(chat(where))]
    lines += [link] if link else []
    size = sum(len(line) + 1 for line in lines)
    details = [_short(line) for line in _details(report)]
    kept = []
    for line in details:
        size += len(line) + 1
        if size > LIMIT - len(_MORE.format(len(details))):
            break
        kept.append(line)
    left = len(details) - len(kept)
    lines += [*kept, _MORE.format(left)] if left else kept
    return Message(_short(chat(f"reconciler {report.command}: {verdict}")), "\n".join(lines))


_MORE: Final = "… and {} more lines in the log of the run."


def _details(report: Report) -> Iterator[str]:
    """What comes below the sum, the most urgent first."""
    errors = [diagnostic(found) for found in report.diagnostics if found.severity == "error"]
    parts = {
        "Refused": [f"{refusal.rule}: {refusal.detail}" for refusal in report.refusals],
        "Errors": [*errors, *report.errors],
        "Dangerous": [alarm.text for alarm in report.dangers],
        "Accounts": [f"{entry.label}: {entry.words}" for entry in report.changed],
    }
    for name, texts in parts.items():
        if texts:
            yield f"{name}:"
            yield from (f"- {chat(text)}" for text in texts)


def _short(line: str) -> str:
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def ci_link(environment: Mapping[str, str]) -> str:
    """The URL of the CI job that the run is in, as GitHub and GitLab tell; "" if there is none."""
    get = environment.get
    server, repository, run = (
        get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    url = get("CI_JOB_URL", "")
    if server and repository and run:
        url = f"{server}/{repository}/actions/runs/{run}"
    return url if _URL.fullmatch(url) else ""
