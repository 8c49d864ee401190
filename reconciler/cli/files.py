"""Commands about the files of a project."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.cli.exits import Exit, Problem
from reconciler.cli.options import project_of, read_state
from reconciler.cli.output import output, print_json, show_plan

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from reconciler.core.values import Diagnostic


def validate(arguments: argparse.Namespace) -> int:
    """Check the files, offline and completely."""
    from reconciler import workflow
    from reconciler.core.configuration import Invalid
    from reconciler.render import jsondoc, text

    project, options = project_of(arguments)
    try:
        configuration = workflow.check(project, options)
        diagnostics: Sequence[Diagnostic] = configuration.warnings
    except Invalid as error:
        configuration, diagnostics = None, error.diagnostics

    def show() -> None:
        for diagnostic in diagnostics:
            print(text.diagnostic(diagnostic), file=sys.stderr)
        if configuration is not None:
            print(f"Valid. {len(configuration.accounts)} accounts.")

    output(arguments, lambda: jsondoc.validation(diagnostics), show)
    return Exit.DONE if configuration is not None else Exit.FAILED


def show(arguments: argparse.Namespace) -> int:
    """Show the state, or a saved plan."""
    from reconciler.core.state import dump
    from reconciler.render import text

    if arguments.planfile is not None:
        return _show_plan(arguments)
    state = read_state(arguments)
    if state is None:
        raise Problem("there is no state yet; `reconciler apply` makes it")
    if arguments.format == "json":
        document = json.loads(dump(state))
        del document["digest_key"]
        print_json(document)
    else:
        print(text.state(state), end="")
    return Exit.DONE


def _show_plan(arguments: argparse.Namespace) -> int:
    """Show a saved plan as `plan` showed it. Needs no project."""
    from reconciler.core.saved import shown
    from reconciler.render import jsondoc, text
    from reconciler.workflow import read_plan

    saved = read_plan(Path(arguments.planfile), os.environ)
    plan = shown(saved)

    def show() -> None:
        print(text.made(saved), flush=True)
        show_plan(plan, arguments)

    output(arguments, lambda: jsondoc.plan(plan, command="show"), show)
    return Exit.DONE


def init(arguments: argparse.Namespace) -> int:
    """Make a project."""
    from reconciler.demo import copy_example

    directory = Path(arguments.directory)
    written = copy_example("quickstart", directory)
    for path in written:
        print(f"wrote {path}")
    where = "" if directory == Path() else f"cd {directory} && "
    print(f"\nA project on the embedded sandbox. Next: {where}reconciler plan")
    return Exit.DONE


def version(arguments: argparse.Namespace) -> int:
    """Print the version."""
    if arguments.format == "json":
        print_json({"version": __version__, "python": sys.version.split()[0]})
    else:
        print(f"reconciler {__version__}")
    return Exit.DONE


def not_yet(arguments: argparse.Namespace) -> int:
    """Say that a command is not there yet."""
    print(f"reconciler {arguments.command}: not there yet.", file=sys.stderr)
    return Exit.FAILED
