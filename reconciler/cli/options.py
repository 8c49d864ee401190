"""The words of a command line as the values that the workflow takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.exits import Problem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from reconciler.config.project import Project
    from reconciler.workflow import Options


def project_of(arguments: argparse.Namespace) -> tuple[Project, Options]:
    """The project and the options that a command line names. Raises: Problem, Invalid, HostMismatch."""
    from reconciler.config.project import open_project, with_concurrency

    options = options_of(arguments)
    project = open_project(Path(arguments.chdir), dict(os.environ))
    project.check_url()
    if arguments.parallelism:
        project = with_concurrency(project, arguments.parallelism)
    return project, options


def options_of(arguments: argparse.Namespace) -> Options:
    """The options alone. Raises: Problem, Invalid."""
    from reconciler.config.project import variable_file
    from reconciler.workflow import Options

    variables = {}
    for path in arguments.var_file:
        variables.update(variable_file(Path(path)))
    for assignment in arguments.var:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise Problem(f"--var takes NAME=VALUE, not {assignment!r}")
        variables[name] = value
    return Options(
        variables=variables,
        targets=frozenset(_target(target) for target in getattr(arguments, "target", [])),
        allow=_allowed(getattr(arguments, "allow", [])),
        fail_fast=getattr(arguments, "fail_fast", False),
        lock_timeout=seconds(getattr(arguments, "lock_timeout", "0s")),
        command=f"reconciler {arguments.command}",
        refresh=getattr(arguments, "refresh", True),
        reviewed=_reviewed(getattr(arguments, "plan_digest", None)),
        max_age=seconds(getattr(arguments, "max_age", "24h")),
        unmanaged=getattr(arguments, "unmanaged", False),
        since_state=getattr(arguments, "since_state", False),
        observe=arguments.teller.observe,
    )


def key_of(text: str) -> str:
    """The key in an address; a bare key is taken, too."""
    return text.removeprefix("accounts.")


def _target(text: str) -> str:
    key = text.removeprefix("accounts.")
    if key == text:
        raise Problem(f"--target takes an address, accounts.KEY, not {text!r}")
    return key


def _reviewed(text: str | None) -> str:
    """The digest that --plan-digest names; "" without one. Raises: Problem."""
    if text is None:
        return ""
    from reconciler.core.digest import is_digest

    if not is_digest(text):
        raise Problem("--plan-digest takes what `reconciler plan` prints: sha256:…")
    return text


def _allowed(texts: Sequence[str]) -> Mapping[str, int]:
    """`delete=2,demote=1,update=100%`, `protect=emergency` and `reparent`."""
    from reconciler.core.effects import EFFECTS

    allowed: dict[str, int] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, _, number = part.partition("=")
        if part == "reparent":
            allowed[part] = 1
        elif name == "protect" and number in EFFECTS:
            allowed[f"protect.{number}"] = 1
        elif name in ("delete", "demote", "update") and number.removesuffix("%").isdigit():
            allowed[name] = int(number.removesuffix("%"))
        else:
            classes = "|".join(EFFECTS)
            known = f"delete=N, demote=N, update=N%, protect={classes} and reparent"
            raise Problem(f"--allow takes {known}, not {part!r}")
    return allowed


def seconds(text: str) -> float:
    """A duration in seconds. Raises: Problem."""
    from reconciler.core.configuration import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise Problem(f"{text!r}: {error}") from error
