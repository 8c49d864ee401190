"""Documents whose commands are run: what a ```console block shows is what a shell prints."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OURS: Final = ("VINIX_", "RECONCILER_", "OTEL_", "GIT_")
_BLOCK: Final = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_STEP: Final = """\
{{
{command}
}} >"$RECORD/{number}.out" 2>"$RECORD/{number}.err"
status=$?; echo $status >"$RECORD/{number}.status"; (exit $status)
"""
"""A command in the script of a page: `$?` is what the command left, for the one that comes next."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command as a page shows it, with the lines that it prints; `...` stands for any lines."""

    command: str
    shown: tuple[str, ...]

    def is_shown_by(self, printed: str) -> bool:
        """Whether what was printed is what the page shows."""
        pattern = "\n".join(
            r"(?:.*\n)*?.*" if line == "..." else re.escape(line) for line in self.shown
        )
        return re.fullmatch(pattern, "\n".join(printed.splitlines())) is not None


def steps(page: str) -> list[Step]:
    """The commands of a page, in order: `$ ` begins one, `> ` goes on with it."""
    found: list[tuple[list[str], list[str]]] = []
    for block in _BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(([line[2:]], []))
            elif line.startswith("> ") and not found[-1][1]:
                found[-1][0].append(line[2:])
            else:
                found[-1][1].append(line)
    return [Step("\n".join(command), tuple(shown)) for command, shown in found]


def run(page: str, directory: Path, seconds: float) -> None:
    """Run a page's commands in one shell, as somebody does who follows it, and compare.

    What goes to stderr is shown only where a command fails. Nothing that the page leaves running
    outlives it. Raises: AssertionError at the first command that prints something else.
    """
    commands = steps(page)
    record = directory / ".printed"
    record.mkdir()
    script = record / "script"
    parts = (_STEP.format(command=step.command, number=n) for n, step in enumerate(commands))
    script.write_text("".join(parts))
    _in_one_shell(script, directory, seconds)
    for number, step in enumerate(commands):
        status = record / f"{number}.status"
        assert status.exists(), (
            f"$ {step.command}\ndid not end within {seconds} seconds of the page"
        )
        out, err = ((record / f"{number}.{kind}").read_text() for kind in ("out", "err"))
        printed = out if status.read_text() == "0\n" else out + err
        assert step.is_shown_by(printed), f"$ {step.command}\n{out}{err}"


def _in_one_shell(script: Path, directory: Path, seconds: float) -> None:
    """Run the script until its end, or as long as it may; nothing that it began runs on."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    someone = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Somebody"), ("EMAIL", "somebody@example.com"))
    }
    shell = subprocess.Popen(
        ["sh", str(script)], cwd=directory, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**given, **someone, "GIT_CONFIG_GLOBAL": os.devnull, "PATH": path, "RECORD": str(script.parent)},
    )  # fmt: skip
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
