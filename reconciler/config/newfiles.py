"""Files that are new to a project: which project that is, where they belong, how they get there.

A directory without a `reconciler.yaml` becomes a project. No file that is there is ever changed:
new ones get names that are free, and appear whole or not at all.

Source: docs/adopting.md, "Where the files go".
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from reconciler.config import files
from reconciler.config.project import FILE, SCHEMA_FILE, Project, future_project, open_project
from reconciler.config.scratch import unfinished
from reconciler.config.write import composed
from reconciler.core.configuration import Invalid
from reconciler.core.values import Diagnostic, JsonObject, place

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACCOUNTS: Final = "accounts"
_PROBE: Final = "zz-adopted-9f3c.yaml"
"""A name that no pattern of `include` matches by chance."""

_IGNORED: Final = (
    "# What the tool writes here. State holds account settings: it belongs in a backend, not in Git.\n"
    "state/\n.reconciler/\n"
)


@dataclass(frozen=True, slots=True)
class Site:
    """Where new files go: `out`, a directory of the project; "" is the project's own.

    `project`: the project, but for the parts of `include` that the new files are the first of.
    `first`: the text of its `reconciler.yaml`, if it has none yet; else "".
    """

    project: Project
    out: str
    first: str = ""


def site(directory: Path, out: str | None, environment: Mapping[str, str]) -> Site:
    """The place that a command line names. Raises: Invalid if files there would not be read."""
    if not (directory / FILE).is_file():
        directory, out = directory / (out or "."), None
        if not (directory / FILE).is_file():
            _check_named(directory, environment)
            return new_site(directory, environment, environment.get("VINIX_ACCOUNT_ID"), {})
    project = open_project(directory, environment)
    inside = _inside(directory, out)
    return Site(_with_room(project, inside), inside)


def _check_named(directory: Path, environment: Mapping[str, str]) -> None:
    """Raises: Invalid if nothing says which platform a new project is for."""
    if not (environment.get("VINIX_API_URL") or environment.get("VINIX_BASE")):
        detail = (
            f"There is no {FILE} in {directory}. To make a project there, name the platform by"
            " VINIX_API_URL; -C names the directory of a project that is there."
        )
        raise Invalid([_problem(f"No {FILE}", detail)])


def new_site(
    directory: Path, environment: Mapping[str, str], root: str | None, shared: JsonObject
) -> Site:
    """The place in a project that is not there yet. `root`: its root account; `shared`: its defaults.

    Whatever is shared, the defaults say what every account has unless it says otherwise, so that
    drift finds who was switched off or promoted.
    """
    text = _first_file(environment, root, shared)
    project = future_project(directory, text.encode(), environment)
    return Site(_with_room(project, _ACCOUNTS), _ACCOUNTS, text)


def _first_file(environment: Mapping[str, str], root: str | None, shared: JsonObject) -> str:
    api: JsonObject = {}
    if url := environment.get("VINIX_API_URL") or environment.get("VINIX_BASE"):
        api["url"] = url.rstrip("/")
    if root:
        api["account_id"] = root
    defaults: JsonObject = {**shared, "reseller": False}
    place(defaults, ("settings", "enabled"), value=True)
    document: JsonObject = {"version": 1, "api": api, "include": [_ACCOUNTS], "defaults": defaults}
    return f"# yaml-language-server: $schema={SCHEMA_FILE}\n\n{composed(document)}"


def _inside(directory: Path, out: str | None) -> str:
    """`--out` as a path of the project. Raises: Invalid if it leads out of it."""
    path = PurePosixPath(out if out is not None else _ACCOUNTS)
    resolved = (directory / path).resolve()
    root = directory.resolve()
    if not resolved.is_relative_to(root):
        raise Invalid([_problem("A directory outside the project", f"--out {out}: {_STAY}")])
    return "" if resolved == root else resolved.relative_to(root).as_posix()


_STAY: Final = "Name one inside the project that -C names; a project reads no files from elsewhere."


def _with_room(project: Project, out: str) -> Project:
    """The project without what `include` names in vain until there are files in `out`.

    Raises: Invalid if it would not include them.
    """
    probe = f"{out}/{_PROBE}" if out else _PROBE
    covering = [entry for entry in project.settings.include if _matches(entry[0], probe)]
    if not covering:
        wanted = out or "."
        detail = (
            f"Files in {wanted} would not be read. Add it: include: [{_listed(project, wanted)}]."
        )
        raise Invalid([_problem("A directory that is not included", detail)])
    vain = [entry for entry in covering if not _is_filled(project.directory, entry[0])]
    include = tuple(entry for entry in project.settings.include if entry not in vain)
    return replace(project, settings=replace(project.settings, include=include))


def _listed(project: Project, more: str) -> str:
    return ", ".join([*(pattern for pattern, _ in project.settings.include), more])


def _is_filled(directory: Path, pattern: str) -> bool:
    try:
        return bool(files.named(directory, pattern))
    except files.Unreadable:
        return False


def _matches(pattern: str, name: str) -> bool:
    """Whether an entry of `include` would find a file of that name: tried, in an empty directory."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        try:
            return path.resolve() in files.named(Path(directory), pattern)
        except files.Unreadable:
            return False


def _problem(summary: str, detail: str) -> Diagnostic:
    return Diagnostic("error", summary, detail)


def free_name(directory: Path, stem: str, taken: Mapping[str, object]) -> str:
    """`STEM.yaml`, or with a number the first such name that no file has and that is not `taken`."""
    number, name = 1, f"{stem}.yaml"
    while name in taken or os.path.lexists(directory / name):
        number += 1
        name = f"{stem}-{number}.yaml"
    return name


def write_new(directory: Path, texts: Mapping[str, str]) -> None:
    """Write new files, by name, in order; each durable and whole. Raises: OSError."""
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(directory) as new:
            with new.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(new, path)  # unlike a rename, never over a file that is there
    for parent in sorted({(directory / name).parent for name in texts}):
        _sync(parent)


def first_files(site: Site, schema: str) -> dict[str, str]:
    """What a new project begins with, in the order in which to write it, but for what is there.

    What keeps other files out of Git comes before them. `schema`: the text of the JSON Schema.
    """
    wanted = {".gitignore": _IGNORED, SCHEMA_FILE: schema, FILE: site.first}
    directory = site.project.directory
    return {name: text for name, text in wanted.items() if not os.path.lexists(directory / name)}


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
