"""The guide is true: who follows it from top to bottom sees what it shows."""

from __future__ import annotations

import socket
from pathlib import Path

from tests import consoles

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "guide.md").read_text()
PORT = "8461"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_who_follows_the_guide_sees_what_it_shows(tmp_path: Path) -> None:
    assert len(consoles.steps(GUIDE)) >= 30
    (tmp_path / "reconciler").symlink_to(ROOT)  # the checkout that step 11 copies from
    consoles.run(GUIDE.replace(PORT, free_port()), tmp_path, seconds=120)
