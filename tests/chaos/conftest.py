"""The tripwire, compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.__main__ import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tripwire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tripwire"))
