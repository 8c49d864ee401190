"""Runs jobs as their host would: the YAML is read, its expressions are filled in, its shell is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parent.parent.parent
INTEGRATIONS: Final = ROOT / "integrations"
_EXPRESSION: Final = re.compile(r"\$\{\{ ([\w.-]+) \}\}")
_INPUT: Final = re.compile(r"\$\[\[ inputs\.(\w+) \]\]")


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that has ended."""

    code: int
    log: str


def document(path: str) -> Any:
    """A file of integrations/, as YAML 1.2 has it: `on` is a string there."""
    text = (INTEGRATIONS / path).read_text(encoding="utf-8")
    return yaml.load(re.sub(r"^on:", '"on":', text, flags=re.MULTILINE), yaml.SafeLoader)


def filled(text: str, contexts: Mapping[str, str]) -> str:
    """The text with the value of each expression in its place; a name that is not there is a KeyError."""
    return _EXPRESSION.sub(lambda match: contexts[match[1]], str(text))


@dataclass(frozen=True, slots=True)
class Shell:
    """Where jobs run: a checkout, a directory for what is no part of it, and what they have in common."""

    checkout: Path
    scratch: Path
    environment: Mapping[str, str]

    def start(self, script: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Begin as both hosts do: a file for bash that ends at the first failure."""
        file = self.scratch / "step.sh"
        file.write_text(script, encoding="utf-8")
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(file)],
            cwd=self.checkout, env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def a_shell(scratch: Path, checkout: Path, **environment: str) -> Shell:
    """A runner on which reconciler is installed, and nothing else of ours."""
    programs = scratch / "bin"
    programs.mkdir()
    for name in ("reconciler", "python3"):
        (programs / name).symlink_to(Path(sys.executable).parent / name)
    shim = programs / "reconciler-ci"  # as the Containerfile makes it
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -I {INTEGRATIONS / "ci"} "$@"\n')
    shim.chmod(0o755)
    path = f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return Shell(checkout, scratch, {"PATH": path, "HOME": str(scratch), **environment})


def ended(process: subprocess.Popen[bytes]) -> Ran:
    """Wait until a job has ended."""
    log, _ = process.communicate(timeout=120)
    return Ran(process.returncode, log.decode())


def start_workflow(
    shell: Shell,
    name: str,
    job: str,
    contexts: Mapping[str, str],
    event: Mapping[str, Any],
    more: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Begin the step of a workflow's job that uses our action, with `more` inputs of the user's.

    The checkout is there already.
    """
    steps = document(f"github/workflows/{name}.yaml")["jobs"][job]["steps"]
    (step,) = [step for step in steps if "integrations/github@" in step["uses"]]
    given = {key: filled(value, contexts) for key, value in {**step["with"], **more}.items()}
    secrets = {key: filled(value, contexts) for key, value in step.get("env", {}).items()}
    script, environment = _action(given, contexts)
    return shell.start(script, {**_runner(shell, contexts, event), **secrets, **environment})


def _action(given: Mapping[str, str], contexts: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The step of our action that runs reconciler: its shell and its environment."""
    action = document("github/action.yml")
    defaults = {k: filled(v.get("default", ""), contexts) for k, v in action["inputs"].items()}
    assert given.keys() <= defaults.keys()
    inputs = {f"inputs.{key}": value for key, value in {**defaults, **given}.items()}
    step = next(step for step in action["runs"]["steps"] if step.get("id") == "run")
    return step["run"], {key: filled(value, inputs) for key, value in step["env"].items()}


def _runner(shell: Shell, contexts: Mapping[str, str], event: Mapping[str, Any]) -> dict[str, str]:
    """What the runner sets of itself; its files are new for every step."""
    payload = shell.scratch / "event.json"
    payload.write_text(json.dumps(event))
    for name in ("output", "summary"):
        (shell.scratch / name).write_text("")
    return {
        **{key: value for key, value in contexts.items() if key.isupper()},
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(INTEGRATIONS / "github"),
        "GITHUB_EVENT_PATH": str(payload),
        "GITHUB_OUTPUT": str(shell.scratch / "output"),
        "GITHUB_STEP_SUMMARY": str(shell.scratch / "summary"),
        "RUNNER_TEMP": str(shell.scratch),
    }


def gitlab_jobs(inputs: Mapping[str, str]) -> dict[str, Any]:
    """The jobs of our component with its inputs filled in and `extends` resolved."""
    text = (INTEGRATIONS / "gitlab/templates/reconciler.yml").read_text(encoding="utf-8")
    head, body = text.split("\n---\n")
    declared = yaml.safe_load(head)["spec"]["inputs"]
    values = {n: inputs.get(n, (d or {}).get("default")) for n, d in declared.items()}
    assert inputs.keys() <= declared.keys()
    assert None not in values.values(), "an input without a default is not given"
    jobs = yaml.safe_load(_INPUT.sub(lambda match: str(values[match[1]]), body))
    return {
        name: {**jobs.get(job.get("extends"), {}), **job}
        for name, job in jobs.items()
        if not name.startswith(".")
    }


def run_gitlab(shell: Shell, job: Mapping[str, Any], variables: Mapping[str, str]) -> Ran:
    """Run a job of the component; variables of the project come before those of the job."""
    script = "\n".join([*job["before_script"], *job["script"]])
    return ended(shell.start(script, {**job["variables"], "GITLAB_CI": "true", **variables}))
