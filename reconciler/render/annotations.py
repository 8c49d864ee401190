"""Diagnostics for the places that show them beside the code: GitHub's checks, and SARIF readers.

Source: docs/formats.md, "Annotations".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from reconciler import __version__
from reconciler.render.jsondoc import dumps
from reconciler.render.safe import terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.core.values import Diagnostic, JsonObject

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_BREAKS: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_SEPARATORS: Final = {**_BREAKS, ":": "%3A", ",": "%2C"}


def github(diagnostics: Sequence[Diagnostic]) -> str:
    """Workflow commands: GitHub puts each beside its line in a pull request."""
    return "".join(f"{_command(found)}\n" for found in diagnostics)


def _command(found: Diagnostic) -> str:
    place = {}
    if found.source is not None:
        place = {"file": found.source.file, "line": found.source.line, "col": found.source.column}
    properties = {**place, "title": _title(found)}
    listed = ",".join(
        f"{name}={_escaped(value, _SEPARATORS)}" for name, value in properties.items()
    )
    return f"::{found.severity} {listed}::{_escaped(found.detail, _BREAKS)}"


def _title(found: Diagnostic) -> str:
    where = ": ".join(part for part in (found.address, found.path) if part)
    return f"{where}: {found.summary}" if where else found.summary


def _escaped(value: object, table: dict[str, str]) -> str:
    """Text that can't end the command it stands in, nor begin another."""
    return "".join(table.get(character, character) for character in terminal(str(value)))


def sarif(diagnostics: Sequence[Diagnostic]) -> str:
    """A SARIF 2.1.0 log with one run. Places are relative to the root of the sources."""
    rules = sorted({rule(found) for found in diagnostics})
    described: list[JsonObject] = [
        {"id": name, "shortDescription": {"text": name.replace("-", " ").capitalize()}}
        for name in rules
    ]
    driver: JsonObject = {
        "name": "reconciler",
        "semanticVersion": __version__,
        "rules": [*described],
    }
    run: JsonObject = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(found, rules) for found in diagnostics],
    }
    return dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def rule(found: Diagnostic) -> str:
    """The name of what is wrong, the same wherever it is: `an-unknown-time-zone`."""
    words = _QUOTED.sub("", found.summary).partition(":")[0]
    return "-".join(re.findall("[a-z0-9]+", words.lower()))


def _result(found: Diagnostic, rules: Sequence[str]) -> JsonObject:
    name = rule(found)
    where = ".".join(part for part in (found.address, found.path) if part)
    location: JsonObject = {"physicalLocation": _physical(found)}
    if where:
        location["logicalLocations"] = [{"fullyQualifiedName": where}]
    text = f"{where}: {found.detail}" if where else f"{found.summary}: {found.detail}"
    return {
        "ruleId": name,
        "ruleIndex": rules.index(name),
        "level": found.severity,
        "message": {"text": terminal(text)},
        "locations": [location],
    }


def _physical(found: Diagnostic) -> JsonObject:
    """The place in a file; of what stands in none, the project's first line: readers want one."""
    source = found.source
    file = source.file if source else "reconciler.yaml"
    region: JsonObject = {"startLine": 1, "startColumn": 1}
    if source is not None:
        region = {"startLine": source.line, "startColumn": source.column}
    return {
        "artifactLocation": {
            "uri": quote(file, errors="surrogateescape"),
            "uriBaseId": "%SRCROOT%",
        },
        "region": region,
    }
