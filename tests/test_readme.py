"""The README is true: its commands are run, and what they print is what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def consoles(text: str) -> list[tuple[str, list[str]]]:
    """(command, lines of output) of each ```console block, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether `printed` is what is shown; `...` stands for any lines."""
    pattern = "\n".join(r"(?:.*\n)*?.*" if line == "..." else re.escape(line) for line in expected)
    return re.fullmatch(pattern, "\n".join(printed)) is not None


def test_the_quickstart_prints_what_it_shows(tmp_path: Path) -> None:
    commands = consoles(README)
    assert len(commands) >= 12
    directory = tmp_path
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VINIX_")
    }
    for command, expected in commands:
        if command.startswith("cd "):
            directory /= command[3:]
            continue
        ran = subprocess.run(  # noqa: S602 - the README's own commands, as a shell reads them
            command, shell=True, cwd=directory, capture_output=True, text=True, check=False,
            env={**environment, "PATH": path},
        )  # fmt: skip
        printed = (ran.stdout + (ran.stderr if ran.returncode else "")).splitlines()
        assert matches(expected, printed), f"$ {command}\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("command", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_each_make_target_that_it_names_exists(command: str) -> None:
    assert f"\n{command}: " in (ROOT / "Makefile").read_text()


def test_the_demonstration_ends_as_it_should(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "reconciler", "demo", "--keep", str(tmp_path / "kept")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    steps = [line for line in ran.stdout.splitlines() if line.startswith("$ reconciler")]
    assert [step.split()[2] for step in steps] == [
        "plan",
        "apply",
        "plan",
        "drift",
        "apply",
        "plan",
    ]
    assert ran.stdout.rstrip().endswith("No changes. 33 accounts match their declarations.")
    assert 'settings.timezone: "America/New_York" -> "Asia/Tokyo"' in ran.stdout


def test_installed_elsewhere_it_still_finds_its_examples(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "reconciler", "init", "shop"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "wrote shop/reconciler.yaml" in ran.stdout
