"""An operator's repository: accounts on a platform, reviewed at a host, with state that outlives runners."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.sandbox.options import ROOT_API_KEY, SandboxOptions
from tests.acceptance.conftest import a_block, served
from tests.backends.terraform_server import CREDENTIALS
from tests.backends.terraform_server import serving as state_server

from .hosts import TOKEN, github, gitlab, serving
from .jobs import Ran, Shell, a_shell, ended, gitlab_jobs, run_gitlab, start_workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from reconciler.core.values import JsonObject
    from tests.acceptance.conftest import World
    from tests.backends.terraform_server import TerraformServer

    from .hosts import Kept


class Repository:
    """A Git repository with a project in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Begin")

    def git(self, *arguments: str) -> str:
        """Run git as nobody in particular; answers what it prints."""
        who = ("-c", "user.name=someone", "-c", "user.email=someone@example.com")
        command = ["git", *who, "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, document: Mapping[str, Any]) -> str:
        """Commit a project of one file; answers the commit."""
        (self.path / "reconciler.yaml").write_text(json.dumps(document, indent=1), encoding="utf-8")
        self.git("add", "reconciler.yaml")
        self.git("commit", "--quiet", "--allow-empty", "-m", "Change accounts")
        return self.git("rev-parse", "HEAD")


def declared(state: str, accounts: Mapping[str, JsonObject], **top: Any) -> dict[str, Any]:
    """A project of these accounts whose state is there."""
    blocks = {key: a_block(key, fields) for key, fields in accounts.items()}
    return {"version": 1, "state": state, **top, "accounts": blocks}


@dataclass
class AtGitHub:
    """The repository at GitHub, with our three workflows. One pull request at a time: number 3."""

    repository: Repository
    host: Kept
    world: World
    shell: Shell
    state: str
    head: str = ""
    arguments: dict[str, str] = field(default_factory=dict)

    def propose(self, accounts: Mapping[str, JsonObject], **top: Any) -> Ran:
        """Push to a pull request, and let it be planned."""
        self.repository.git("switch", "--quiet", "-C", "change", "main")
        self.head = self.repository.commit(declared(self.state, accounts, **top))
        return self.run("plan", "plan", {"pull_request": self._pull()})

    def merge(self) -> Ran:
        """Merge it, and let it be applied."""
        self.land()
        return self.apply()

    def land(self) -> None:
        """Merge it, and nothing more."""
        self.repository.git("switch", "--quiet", "main")
        self.repository.git("merge", "--quiet", "--no-ff", "-m", "Merge it", self.head)
        merged = self.repository.git("rev-parse", "HEAD")
        self.host.pulls = [
            {**self._pull(), "merged_at": "2026-01-01T00:00:00Z", "merge_commit_sha": merged}
        ]

    def apply(self, *, digest: str = "") -> Ran:
        """Run the workflow `apply` at what is checked out."""
        return ended(self.start("apply", "apply", {}, digest))

    def drift(self) -> Ran:
        """Run the workflow `drift`, as its schedule does."""
        return self.run("drift", "drift", {"schedule": "17 5 * * *"})

    def run(self, workflow: str, job: str, event: Mapping[str, Any]) -> Ran:
        """Run a job of a workflow."""
        return ended(self.start(workflow, job, event))

    def start(
        self, workflow: str, job: str, event: Mapping[str, Any], digest: str = ""
    ) -> subprocess.Popen[bytes]:
        """Begin a job of a workflow."""
        contexts = {
            "GITHUB_API_URL": self.host.url,
            "GITHUB_SERVER_URL": "https://github.example.com",
            "GITHUB_REPOSITORY": "acme/accounts",
            "GITHUB_RUN_ID": "77",
            "GITHUB_SHA": self.repository.git("rev-parse", "HEAD"),
            "github.token": TOKEN,
            "inputs.digest": digest,
            "vars.VINIX_API_URL": self.world.url,
            "vars.RECONCILER_STATE": self.state,
            "secrets.VINIX_API_KEY": ROOT_API_KEY,
            "secrets.RECONCILER_STATE_USERNAME": "",
            "secrets.RECONCILER_STATE_PASSWORD": "",
            "secrets.RECONCILER_STATE_KEY": "",
        }
        more = {"arguments": self.arguments[job]} if job in self.arguments else {}
        return start_workflow(self.shell, workflow, job, contexts, event, more)

    @property
    def outputs(self) -> dict[str, str]:
        """What the last step left for later ones."""
        lines = (self.shell.scratch / "output").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def summary(self) -> str:
        """What the last step showed on the page of its run."""
        return (self.shell.scratch / "summary").read_text()

    def _pull(self) -> dict[str, Any]:
        return {"number": 3, "head": {"sha": self.head}}


@pytest.fixture
def world() -> Iterator[World]:
    with served(SandboxOptions(log_requests=True, rate_limit=False)) as world:
        yield world


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "checkout")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "runner"
    path.mkdir()
    return path


@pytest.fixture
def hub(repository: Repository, scratch: Path, world: World) -> Iterator[AtGitHub]:
    with serving(github) as kept:
        shell = a_shell(scratch, repository.path)
        state = str(scratch.parent / "state" / "reconciler.state.json")
        yield AtGitHub(repository, kept, world, shell, state)


@dataclass
class AtGitLab:
    """The repository at GitLab, with our component; state is at GitLab, too."""

    repository: Repository
    host: Kept
    world: World
    shell: Shell
    state: TerraformServer
    key: str = "0123456789abcdef0123456789abcdef"
    inputs: dict[str, str] = field(default_factory=dict)

    def commit(self, accounts: Mapping[str, JsonObject], **top: Any) -> None:
        """Change what is declared."""
        self.repository.commit(declared(self.state.base + "shop", accounts, **top))

    def run(self, job: str, **variables: str) -> Ran:
        """Run a job of the component in a pipeline, with the variables that its project has."""
        inputs = {"image": "image", "state": self.state.base + "shop", **self.inputs}
        given = {
            "CI_API_V4_URL": self.host.url,
            "CI_PROJECT_ID": "1234",
            "CI_JOB_URL": "https://gitlab.example.com/acme/accounts/-/jobs/1",
            "CI_JOB_TOKEN": CREDENTIALS[1],
            "RECONCILER_STATE_USERNAME": CREDENTIALS[0],
            "RECONCILER_PLAN_KEY": self.key,
            "GITLAB_TOKEN": TOKEN,
            "VINIX_API_URL": self.world.url,
            "VINIX_API_KEY": ROOT_API_KEY,
        }
        return run_gitlab(
            self.shell, gitlab_jobs(inputs)[f"reconciler {job}"], {**given, **variables}
        )

    def review(self) -> Ran:
        """Run the pipeline of merge request 3."""
        return self.run("review", CI_MERGE_REQUEST_IID="3")


@pytest.fixture
def lab(repository: Repository, scratch: Path, world: World) -> Iterator[AtGitLab]:
    with serving(gitlab) as kept, state_server("gitlab") as server:
        yield AtGitLab(repository, kept, world, a_shell(scratch, repository.path), server)
