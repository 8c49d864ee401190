"""Projects made of a few lines."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import pytest

from reconciler.config.project import load, open_project
from reconciler.core.configuration import Configuration, Invalid
from reconciler.core.shapes import folded
from reconciler.core.validate import validate
from reconciler.core.values import Diagnostic, JsonValue

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 'version: 1\napi: {url: "sandbox:"}\n'
Loaded = tuple[Configuration | None, list[Diagnostic]]
Load: TypeAlias = Callable[..., Loaded]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load a project of files by name; `reconciler.yaml` without its first two lines."""

    def run(
        files: Mapping[str, str],
        given: Mapping[str, JsonValue] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Loaded:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HEAD + text if name == "reconciler.yaml" else text)
        try:
            project = open_project(tmp_path, environment or {})
            configuration, diagnostics = load(project, given or {})
        except Invalid as error:
            return None, list(error.diagnostics)
        zones = frozenset(zoneinfo.available_timezones())
        return configuration, folded([*diagnostics, *validate(configuration, zones)])

    return run
