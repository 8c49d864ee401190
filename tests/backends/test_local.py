"""State in a file: what every place promises, and what only files can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from .contract import Contract

if TYPE_CHECKING:
    from pathlib import Path

    from .contract import Harm


@dataclass(frozen=True)
class LocalPlace:
    directory: Path
    named: str = "state/s.json"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.directory / self.named

    @property
    def journal(self) -> Path:
        return self.path.with_name("s.json.journal")

    def copy(self) -> bytes:
        return self.path.read_bytes()

    def put(self, copy: object) -> None:
        assert isinstance(copy, bytes)
        self.path.write_bytes(copy)

    def harm(self, how: Harm) -> None:
        text = self.path.read_bytes()
        match how:
            case "gone":
                self.path.unlink()
            case "empty":
                self.path.write_bytes(b"")
            case "cut":
                self.path.write_bytes(text[: len(text) // 2])
            case "flipped":
                self.path.write_bytes(text.replace(b"a2", b"a3") if b"a2" in text else text[:-1])

    def empty_twin(self) -> LocalPlace:
        return LocalPlace(self.directory, "twin/s.json", self.environment)


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path)


class TestContract(Contract):
    """What every place promises, on files."""
