"""The files of integrations/ are what their hosts take, as far as schemas and linters can tell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .jobs import INTEGRATIONS, document, gitlab_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKFLOWS = sorted((INTEGRATIONS / "github/workflows").glob("*.yaml"))
ALL = sorted(path for path in INTEGRATIONS.rglob("*") if path.suffix in {".yml", ".yaml"})


def program(name: str) -> str:
    """A program of the virtual environment."""
    return str(Path(sys.executable).parent / name)


def passes(*command: str) -> None:
    """Hold what a linter says against nothing."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def steps(path: Path) -> Iterator[dict[str, Any]]:
    """All steps of a workflow or an action."""
    found = document(str(path.relative_to(INTEGRATIONS)))
    jobs = found["jobs"].values() if "jobs" in found else [found["runs"]]
    for job in jobs:
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_what_github_s_schema_says(path: Path) -> None:
    passes(program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(path))
    passes(program("zizmor"), "--offline", "--no-progress", str(path))


def test_the_action_is_what_github_s_schema_says() -> None:
    path = str(INTEGRATIONS / "github/action.yml")
    passes(program("check-jsonschema"), "--builtin-schema", "vendor.github-actions", path)
    passes(program("zizmor"), "--offline", "--no-progress", path)


def test_the_component_is_what_gitlab_s_schema_says(tmp_path: Path) -> None:
    """The schema knows no inputs, so they are filled in first."""
    jobs = gitlab_jobs({"image": "image", "state": "https://gitlab.example.com/state"})
    file = tmp_path / "component.yml"
    file.write_text(yaml.safe_dump(jobs))
    example = str(INTEGRATIONS / "gitlab/.gitlab-ci.yml")
    passes(program("check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", str(file), example)


def test_the_example_gives_the_component_the_inputs_that_it_has() -> None:
    (include,) = document("gitlab/.gitlab-ci.yml")["include"]
    assert gitlab_jobs(include["inputs"])


@pytest.mark.parametrize("path", sorted((INTEGRATIONS / "kubernetes").glob("*.yaml")), ids=str)
def test_manifests_are_what_the_cluster_s_schemas_say(path: Path) -> None:
    passes(program("kubernetes-validate"), "--strict", str(path))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_units_are_what_systemd_takes() -> None:
    units = [str(path) for path in sorted((INTEGRATIONS / "systemd").iterdir())]
    passes("systemd-analyze", "verify", "--man=no", *units)


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, INTEGRATIONS / "github/action.yml"], ids=lambda p: p.stem
)
def test_actions_are_pinned_and_no_script_has_an_expression(path: Path) -> None:
    for step in steps(path):
        assert re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40))
        assert "${{" not in step.get("run", "")


def test_no_python_of_ours_imports_from_the_checkout() -> None:
    """A pull request could bring a json.py."""
    texts = [document("github/action.yml")["runs"]["steps"][1]["run"]]
    texts += [(INTEGRATIONS / n).read_text() for n in ("github/install.sh", "reconciler-ci")]
    calls = [call for text in texts for call in re.findall(r"python3? (?:exec )?(-\S+)", text)]
    assert calls == ["-I"] * 4


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_the_least_rights_and_queue(path: Path) -> None:
    found = document(str(path.relative_to(INTEGRATIONS)))
    assert found["permissions"] == {}
    assert "pull_request_target" not in found["on"]
    assert found["concurrency"]["cancel-in-progress"] is (path.stem == "plan")
    for name, job in found["jobs"].items():
        assert job["permissions"]["contents"] == "read"
        assert ("environment" in job) == (name != "validate"), "credentials come from environments"
        assert job["timeout-minutes"]


def test_forks_get_no_credentials() -> None:
    plan = document("github/workflows/plan.yaml")["jobs"]["plan"]
    assert "head.repo.full_name == github.repository" in plan["if"]
    validate = document("github/workflows/plan.yaml")["jobs"]["validate"]
    assert "secrets." not in str(validate)
    review = gitlab_jobs({"image": "image", "state": "x"})["reconciler review"]
    assert "SOURCE_PROJECT_ID == $CI_PROJECT_ID" in str(review["rules"])


@pytest.mark.parametrize("path", ALL, ids=str)
def test_no_file_has_a_secret_or_a_machine_of_ours(path: Path) -> None:
    text = path.read_text()
    hosts = re.findall(r"https?://([\w.-]+)", text)
    assert all(host.endswith("example.com") for host in hosts), hosts
