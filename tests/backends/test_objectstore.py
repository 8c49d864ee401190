"""State in an object store: what every place promises, and what only objects can do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import httpx
import obstore
import pytest
from obstore.store import S3Store

from . import s3_server
from .contract import Contract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

    from .contract import Harm

KEY: Final = "state/s.json"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Where an S3 server answers."""
    with subprocess.Popen(
        [sys.executable, s3_server.__file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")


def a_store(endpoint: str, bucket: str) -> S3Store:
    return S3Store(bucket, region="us-east-1", endpoint=endpoint, client_options={"allow_http": True})


@dataclass(frozen=True)
class S3Place:
    endpoint: str
    directory: Path
    bucket: str = field(default_factory=lambda: f"bucket-{uuid4()}")
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        httpx.put(f"{self.endpoint}/{self.bucket}").raise_for_status()

    @property
    def named(self) -> str:
        return f"s3://{self.bucket}/{KEY}?region=us-east-1&endpoint={self.endpoint}"

    @property
    def store(self) -> ObjectStore:
        return a_store(self.endpoint, self.bucket)

    def copy(self) -> bytes:
        return bytes(obstore.get(self.store, KEY).bytes())

    def put(self, copy: object) -> None:
        assert isinstance(copy, bytes)
        obstore.put(self.store, KEY, copy)

    def harm(self, how: Harm) -> None:
        text = self.copy()
        match how:
            case "gone":
                obstore.delete(self.store, KEY)
            case "empty":
                self.put(b"")
            case "cut":
                self.put(text[: len(text) // 2])
            case "flipped":
                self.put(text.replace(b"a2", b"a3") if b"a2" in text else text[:-1])

    def empty_twin(self) -> S3Place:
        return S3Place(self.endpoint, self.directory)


class TestContract(Contract):
    """What every place promises, on a server that speaks S3."""

    @pytest.fixture
    def place(self, endpoint: str, tmp_path: Path) -> S3Place:
        return S3Place(endpoint, tmp_path)
