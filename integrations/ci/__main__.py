"""A job of a pipeline: runs reconciler, and tells the host what came of it.

    python3 -I integrations/ci plan|apply|drift|validate [--directory DIR] [--reports DIR]
        [--out FILE | --plan FILE | --digest DIGEST] [--arguments ARGUMENTS]

The exit status is that of reconciler, but that 2 (there are changes, there is drift) is no failure once
somebody was told. Which host it is on, what there is to comment on, and the token come from the
environment, as the hosts set it. See docs/pipelines.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hosts import GitHub, GitLab, HostError, Unreviewed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hosts import Host

DONE, FAILED, CHANGES, REFUSED, LOCKED, PARTLY = range(6)

MEANING: Final = {
    ("plan", DONE): "nothing to do",
    ("plan", CHANGES): "there are changes",
    ("drift", DONE): "no drift",
    ("drift", CHANGES): "something was changed outside",
    ("apply", DONE): "applied",
    ("apply", REFUSED): "refused, and nothing was sent: plan again, and have that reviewed",
    ("apply", PARTLY): "applied in part: look at what failed, then run the job again",
    ("apply", 130): "interrupted: run the job again",
    ("apply", 143): "interrupted: run the job again",
}
ALWAYS: Final = {
    FAILED: "failed",
    REFUSED: "refused",
    LOCKED: "another run has the lock, and nothing was sent: run the job again later",
}

_HOSTS_OWN: Final = ("ACTIONS_", "CI_", "GITHUB_", "GITLAB_", "GH_")
"""Variables that hosts set, tokens among them: `env:` of a variable in a pull request could read them."""

_HARMLESS: Final = ("CI_JOB_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SERVER_URL")
"""Those of them that reconciler tells who waits for a lock."""

_LOCK_TIMEOUT: Final = "10m"
"""How long an apply waits for another: longer than most take, shorter than a job may."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do, and where. `reports`: the directory that all reports are written to."""

    command: str
    directory: str
    reports: Path
    more: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def mark(self) -> str:
        """What comments and issues of this command and directory are found by, and never shown."""
        place = hashlib.sha256(self.directory.encode()).hexdigest()[:16]
        return f"<!-- reconciler {self.command} {place} -->"

    @property
    def where(self) -> str:
        """The directory in a title; nothing if it is the whole repository."""
        return "" if self.directory == "." else f" in {self.directory[:80]}"

    def run(self, *arguments: str) -> int:
        """Run the tool with its reports; answers its exit status."""
        for name in self.written:  # none of an earlier run is taken for this one's
            (self.reports / name).unlink(missing_ok=True)
        named = [f"--report={self.reports / name}" for name in self.written]
        return self.reconciler(self.command, *arguments, *named, *self.more)

    def reconciler(self, *arguments: str) -> int:
        """Run the tool as it is. What it prints is not obeyed by GitHub as commands.

        It gets no empty variables: secrets that are not set come as such.
        """
        command = ["reconciler", *arguments, "-C", self.directory]
        kept = {
            name: value
            for name, value in self.environment.items()
            if value and (name in _HARMLESS or not name.startswith(_HOSTS_OWN))
        }
        fence = secrets.token_hex(16)
        on_github = "GITHUB_ACTIONS" in self.environment and self.command != "validate"
        if on_github:
            say(f"::stop-commands::{fence}")
        try:
            with subprocess.Popen(command, env=kept, stdin=subprocess.DEVNULL) as child:  # noqa: S603 - the tool itself
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, lambda number, _: child.send_signal(number))
                return child.wait()
        finally:
            if on_github:
                say(f"::{fence}::")

    @property
    def written(self) -> tuple[str, ...]:
        """The names of the reports."""
        return tuple(f"{self.command}.{ending}" for ending in ("md", "html", "json", "xml"))

    def report(self) -> str:
        """The Markdown of the run that has ended."""
        path = self.reports / f"{self.command}.md"
        return path.read_text(encoding="utf-8") if path.exists() else "There is no report.\n"

    def document(self) -> dict[str, Any]:
        """The JSON of the run that has ended."""
        path = self.reports / f"{self.command}.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def text(self, code: int) -> str:
        """What a comment or an issue says."""
        where = self.where.replace("`", "").removeprefix(" in ")
        head = f"`{where}`: " if where else ""
        head += f"{meaning(self.command, code)} (exit status {code})."
        if link := link_to_run(self.environment):
            head += f" [The run and its other reports]({link})"
        return f"{self.mark}\n{head}\n\n{self.report()}"


def plan(job: Job, host: Host | None, out: str | None) -> int:
    """Plan, and show the plan where it is reviewed."""
    saved = [f"--out={Path(out).resolve()}", "--force"] if out else []
    code = job.run("--detailed-exitcode", *saved)
    digest = str(job.document().get("digest") or "")
    fine = code in {DONE, CHANGES}
    output(job, code, digest)
    if host:
        host.comment(job.mark, job.text(code))
        host.publish(digest if fine else meaning("plan", code), job.directory, fine=fine)
    return DONE if fine else code


def apply(job: Job, host: Host | None, reviewed: Sequence[str]) -> int:
    """Apply the reviewed plan and nothing else; what was done in part becomes an issue."""
    code = job.run("--auto-approve", "--lock-timeout", _LOCK_TIMEOUT, *reviewed)
    output(job, code)
    if host:
        try:
            tell_of_apply(job, host, code)
        except HostError as error:  # what was done is done, and its exit status counts for more
            problem(str(error))
    return code


def reviewed(job: Job, host: Host | None, given: argparse.Namespace) -> list[str]:
    """By what apply knows the reviewed plan. Raises: Unreviewed, HostError."""
    if given.plan:
        return [str(Path(given.plan).resolve())]
    if given.digest:
        return [f"--plan-digest={given.digest}"]
    if host is None:
        raise Unreviewed("No plan is named, and there is no host that knows of one")
    return [f"--plan-digest={host.reviewed(job.directory)}"]


def tell_of_apply(job: Job, host: Host, code: int) -> None:
    """Comment on what was merged. Raises: HostError."""
    if code == PARTLY:
        host.open_issue(job.mark, f"Applied in part{job.where}", job.text(code))
    if code == DONE:
        host.close_issue(job.mark)
    host.comment(job.mark, job.text(code))


def drift(job: Job, host: Host | None) -> int:
    """Look for drift: an issue is opened, kept up to date, and closed when there is no more."""
    code = job.run()
    output(job, code)
    if host and code == CHANGES:
        say(host.open_issue(job.mark, f"Drift{job.where}", job.text(code)))
        return DONE
    if host and code == DONE and (closed := host.close_issue(job.mark)):
        say(f"closed {closed}")
    return code


def meaning(command: str, code: int) -> str:
    """What an exit status says, in words for people."""
    return MEANING.get((command, code)) or ALWAYS.get(code) or f"ended with exit status {code}"


def output(job: Job, code: int, digest: str = "") -> None:
    """Say what came of it: in the log, on the page of the run, and to later steps."""
    (say if code in {DONE, CHANGES} else problem)(f"{job.command}: {meaning(job.command, code)}")
    told = {
        "GITHUB_STEP_SUMMARY": job.text(code),
        "GITHUB_OUTPUT": f"exitcode={code}\ndigest={digest}\n",
    }
    for name, text in told.items():
        if path := job.environment.get(name):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(text)


def link_to_run(environment: Mapping[str, str]) -> str:
    """The page of this run at the host, or nothing."""
    if "GITHUB_RUN_ID" in environment:
        server, repository = environment["GITHUB_SERVER_URL"], environment["GITHUB_REPOSITORY"]
        return f"{server}/{repository}/actions/runs/{environment['GITHUB_RUN_ID']}"
    return environment.get("CI_JOB_URL", "")


def say(text: str) -> None:
    """Print a line at once, in order with what children print."""
    print(text, flush=True)  # noqa: T201 - it talks to people


def problem(text: str) -> None:
    """Print what went wrong, so that GitHub shows it on the page of the run."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    say(f"::error::{escaped}" if "GITHUB_ACTIONS" in os.environ else text)


def host_of(environment: Mapping[str, str]) -> Host | None:
    """The host that this runs on, if it can be told anything."""
    if environment.get("GITHUB_ACTIONS") and environment.get("GITHUB_TOKEN"):
        return GitHub(environment)
    if environment.get("GITLAB_CI") and environment.get("GITLAB_TOKEN"):
        return GitLab(environment)
    return None


class _Parser(argparse.ArgumentParser):
    """argparse, but wrong arguments are exit 1: 2 means that there are changes, or drift."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"{self.prog}: {message}\n")


def arguments() -> argparse.Namespace:
    """The command line; inputs of jobs come as empty strings if they were not given."""
    parser = _Parser(prog="integrations/ci")
    parser.add_argument("command", choices=["plan", "apply", "drift", "validate"])
    parser.add_argument("--directory", default=".")
    parser.add_argument("--reports", default="reconciler-reports")
    parser.add_argument("--out", help="plan: save it there")
    parser.add_argument("--plan", help="apply: that saved plan")
    parser.add_argument("--digest", help="apply: the plan of that digest; else the reviewed one")
    parser.add_argument(
        "--arguments", default="", type=shlex.split, help="of reconciler, as a shell splits them"
    )
    return parser.parse_args()


def main() -> int:
    """Do the job that the command line names. Raises: HostError."""
    given = arguments()
    reports = Path(given.reports).resolve()
    reports.mkdir(parents=True, exist_ok=True)
    more = tuple(given.arguments)
    job = Job(given.command, given.directory, reports, more, dict(os.environ))
    host = host_of(job.environment)
    match job.command:
        case "plan":
            return plan(job, host, given.out)
        case "drift":
            return drift(job, host)
        case "validate":
            on_github = ["--format=github"] if "GITHUB_ACTIONS" in job.environment else []
            return job.reconciler("validate", *on_github, *more)
    try:
        return apply(job, host, reviewed(job, host, given))
    except Unreviewed as error:
        problem(
            f"{error}. Nothing was sent. Plan by hand, read that plan, and apply it by its digest"
        )
        return REFUSED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HostError as error:
        problem(str(error))
        sys.exit(FAILED)
