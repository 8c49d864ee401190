"""Atlantis, the CronJob and the systemd unit: their very commands, with what their hosts give them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reconciler.sandbox.options import ROOT_API_KEY

from .conftest import Repository, declared
from .jobs import INTEGRATIONS, document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.acceptance.conftest import World

PROGRAMS = Path(sys.executable).parent
ONE: dict[str, Any] = {"acme": {"timezone": "America/New_York"}}


def run(
    command: list[str], directory: Path, world: World, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command as the host does, with the credentials that every host gives."""
    path = os.pathsep.join([str(INTEGRATIONS / "atlantis"), str(PROGRAMS), "/usr/bin", "/bin"])
    given = {"PATH": path, "VINIX_API_URL": world.url, "VINIX_API_KEY": ROOT_API_KEY, **environment}
    return subprocess.run(
        command, cwd=directory, env=given, capture_output=True, text=True, check=False, timeout=120
    )


def atlantis(step: str) -> list[str]:
    """The command of a step of our workflow."""
    (found,) = document("atlantis/repos.yaml")["workflows"]["reconciler"][step]["steps"]
    return ["sh", "-c", found["run"]]


def test_atlantis_applies_the_plan_that_it_made(
    repository: Repository, scratch: Path, world: World
) -> None:
    repository.commit(declared(str(scratch / "state.json"), ONE))
    environment = {"PLANFILE": str(scratch / "default.tfplan"), "ATLANTIS_GH_TOKEN": "secret"}
    assert run(atlantis("plan"), repository.path, world, environment).returncode == 0
    planned = run(atlantis("plan"), repository.path, world, environment)  # in place of the first
    assert planned.returncode == 0, planned.stderr
    assert "1 to create" in planned.stdout
    assert world.writes == []
    applied = run(atlantis("apply"), repository.path, world, environment)
    assert applied.returncode == 0, applied.stderr
    assert world.names() == ["acme"]
    assert run(atlantis("apply"), repository.path, world, environment).returncode == 3


def test_the_tokens_of_atlantis_can_not_be_read_by_a_pull_request(
    repository: Repository, scratch: Path, world: World
) -> None:
    variables = {"stolen": {"env": "ATLANTIS_GH_TOKEN", "sensitive": False}}
    accounts: dict[str, Any] = {"acme": {"name": "${var.stolen}"}}
    repository.commit(declared(str(scratch / "state.json"), accounts, variables=variables))
    environment = {"PLANFILE": str(scratch / "default.tfplan"), "ATLANTIS_GH_TOKEN": "secret"}
    planned = run(atlantis("plan"), repository.path, world, environment)
    assert planned.returncode == 1
    assert "ATLANTIS_GH_TOKEN" in planned.stderr


def test_the_cronjob_finds_drift_in_files_as_a_cluster_mounts_them(
    scratch: Path, world: World
) -> None:
    """A projected volume has links to a directory that is exchanged as a whole."""
    volume = scratch / "project"
    data = volume / "..2026_01_01_00_00_00.1"
    (data / "accounts").mkdir(parents=True)
    project = declared(str(scratch / "state.json"), {}, include=["accounts"])
    del project["accounts"]
    (data / "reconciler.yaml").write_text(yaml.safe_dump(project))
    accounts = {"accounts": declared("", ONE)["accounts"]}
    (data / "accounts/acme.yaml").write_text(yaml.safe_dump(accounts))
    (volume / "..data").symlink_to(data.name)
    for name in ("reconciler.yaml", "accounts"):
        (volume / name).symlink_to(f"..data/{name}")
    settled = run(["reconciler", "apply", "--auto-approve"], volume, world, {})
    assert settled.returncode == 0, settled.stderr

    pod = document("kubernetes/drift.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = ["reconciler", *container["args"]]
    command[command.index("/project")] = str(volume)
    before = sorted(volume.rglob("*"))
    assert run(command, scratch, world, {}).returncode == 0
    world.patch("acme", timezone="Asia/Tokyo")
    assert run(command, scratch, world, {}).returncode == 2
    assert sorted(volume.rglob("*")) == before, "the volume is read-only"


def test_the_pod_is_restricted() -> None:
    """As the Pod Security Standard `restricted` asks for."""
    job = document("kubernetes/drift.yaml")["spec"]
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_unit_reads_its_credential_and_finds_drift(
    repository: Repository, scratch: Path, world: World
) -> None:
    repository.commit(declared(str(scratch / "state.json"), ONE))
    settled = run(["reconciler", "apply", "--auto-approve"], repository.path, world, {})
    assert settled.returncode == 0, settled.stderr
    unit = (INTEGRATIONS / "systemd/reconciler-drift.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    line = line.removeprefix("ExecStart=").replace("$$", "$")
    command = shlex.split(line.replace("/opt/reconciler/bin", str(PROGRAMS)))
    (scratch / "vinix-api-key").write_text(ROOT_API_KEY + "\n")
    environment = {
        "CREDENTIALS_DIRECTORY": str(scratch), "STATE_DIRECTORY": str(scratch), "VINIX_API_KEY": "",
    }  # fmt: skip
    before = sorted(repository.path.iterdir())
    assert run(command, repository.path, world, environment).returncode == 0
    world.patch("acme", timezone="Asia/Tokyo")
    found = run(command, repository.path, world, environment)
    assert found.returncode == 2, found.stderr
    assert "Asia/Tokyo" in (scratch / "drift.html").read_text()
    assert sorted(repository.path.iterdir()) == before, "it may write to its own directory alone"
