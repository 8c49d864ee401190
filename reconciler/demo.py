"""The examples at work: `init` copies one, `demo` runs the main job on one.

The examples stand beside the package in a checkout and inside it when it is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.config.project import FILE, SCHEMA_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HEAD: Final = 30
_TAIL: Final = 6
_KEY: Final = "acme-east"
"""The account that the demonstration changes behind Git's back."""


class Occupied(OSError):
    """There is a project already."""


def examples() -> Path:
    """The directory that holds the examples."""
    inside = Path(__file__).parent / "examples"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "examples"


def copy_example(name: str, directory: Path) -> list[Path]:
    """Copy an example to `directory`; returns what was written. Raises: Occupied, OSError."""
    if (directory / FILE).exists():
        raise Occupied(f"{directory / FILE} is there already")
    source = examples() / name
    written = []
    for path in sorted(source.rglob("*")):
        target = directory / path.relative_to(source)
        left_by_a_run = {"state", ".reconciler"} & {*path.relative_to(source).parts}
        if path.is_dir() or target.exists() or left_by_a_run:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        written.append(target)
    return written


def new_project(directory: Path) -> list[Path]:
    """Make a small project, with the JSON Schema that the first lines of its files name.

    Returns what was written. Raises: Occupied, OSError.
    """
    from reconciler.config.schema import file_schema
    from reconciler.render.jsondoc import dumps

    written = copy_example("quickstart", directory)
    schema = directory / SCHEMA_FILE
    if not schema.exists():
        schema.write_text(dumps(file_schema()), encoding="utf-8")
        written.append(schema)
    return sorted(written)


def demo(run: Callable[[Sequence[str]], int], keep: Path | None) -> int:
    """Run the main job with `run`, the tool's own `main`; 0 if each step ended as it should."""
    foreign = [name for name in os.environ if name.startswith(("VINIX_", "RECONCILER_"))]
    for name in foreign:  # a demonstration must not reach a real platform
        del os.environ[name]
    with tempfile.TemporaryDirectory() as scratch:
        project = keep or Path(scratch) / "wholesale"
        copy_example("wholesale", project)
        steps: list[tuple[str, list[str], int]] = [
            ("What would be made of the declarations?", ["plan"], 0),
            ("Make it so.", ["apply", "--auto-approve"], 0),
            ("Nothing is left to do:", ["plan", "--detailed-exitcode"], 0),
            ("", [], 0),
            ("What was changed since the last apply?", ["drift"], 2),
            ("Mend it.", ["apply", "--auto-approve"], 0),
            ("And all is as it is declared again:", ["plan", "--detailed-exitcode"], 0),
        ]
        for text, arguments, expected in steps:
            if not arguments:
                print("\n# Somebody changes an account behind Git's back ...", flush=True)
                asyncio.run(_meddle(project))
                continue
            print(f"\n# {text}\n$ reconciler {shlex.join(arguments)}", flush=True)
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                status = run([*arguments, "-C", str(project)])
            print(_shortened(shown.getvalue()), end="", flush=True)
            if status != expected:
                print(f"The demonstration ended with {status}; expected {expected}.")
                return 1
    return 0


def _shortened(text: str) -> str:
    """The beginning and the end of a long output."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= _HEAD + _TAIL:
        return text
    hidden = f"    ... {len(lines) - _HEAD - _TAIL} lines more ...\n"
    return "".join([*lines[:_HEAD], hidden, *lines[-_TAIL:]])


async def _meddle(project: Path) -> None:
    """Change an account without the tool: what a hand on the platform's own console would do."""
    from reconciler.config.project import open_project
    from reconciler.workflow import backend, connected

    opened = open_project(project, {})
    state = backend(opened).read()
    if state is None:
        raise Occupied("the demonstration lost its state")
    async with connected(opened) as client:
        path = f"/accounts/{state.accounts[_KEY].id}"
        await client.send("PATCH", path, {"data": {"timezone": "Asia/Tokyo", "enabled": True}})
