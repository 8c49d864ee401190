"""The README is true: its commands are run, and what they print is what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import consoles

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_quickstart_prints_what_it_shows(tmp_path: Path) -> None:
    assert len(consoles.steps(README)) >= 12
    consoles.run(README, tmp_path, seconds=120)


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
