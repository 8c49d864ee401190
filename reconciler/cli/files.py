"""Commands about the files of a project."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.cli.exits import Exit, Problem
from reconciler.cli.options import key_of, project_of
from reconciler.cli.output import output, print_json, show_plan
from reconciler.cli.state import new_state

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from reconciler.core.values import Diagnostic, JsonValue


def validate(arguments: argparse.Namespace) -> int:
    """Check the files, offline and completely."""
    from reconciler import workflow
    from reconciler.core.configuration import Invalid
    from reconciler.render import annotations, jsondoc, text

    try:
        configuration = workflow.check(*project_of(arguments))
        diagnostics: Sequence[Diagnostic] = configuration.warnings
    except Invalid as error:
        configuration, diagnostics = None, error.diagnostics
    seen_from_here = _from_here(diagnostics, Path(arguments.chdir))

    def show() -> None:
        for diagnostic in diagnostics:
            print(text.diagnostic(diagnostic), file=sys.stderr)
        if configuration is not None:
            print(f"Valid. {len(configuration.accounts)} accounts.")

    others = {
        "github": lambda: annotations.github(seen_from_here),
        "sarif": lambda: annotations.sarif(seen_from_here),
    }
    output(arguments, lambda: jsondoc.validation(diagnostics), show, others)
    return Exit.DONE if configuration is not None else Exit.FAILED


def _from_here(diagnostics: Sequence[Diagnostic], directory: Path) -> Sequence[Diagnostic]:
    """The same with files as the working directory sees them: a project may stand below the root of a checkout."""
    return [
        replace(found, source=replace(source, file=os.path.relpath(directory / source.file)))
        if (source := found.source) is not None and (directory / source.file).exists()
        else found
        for found in diagnostics
    ]


def fmt(arguments: argparse.Namespace) -> int:
    """Put the files in canonical order and layout, or with --check tell which are not."""
    from reconciler import workflow
    from reconciler.config.write import rewrite
    from reconciler.render.safe import terminal

    project, _ = project_of(arguments)
    found = workflow.unformatted(project)
    if not arguments.check:
        rewrite(project.directory, found)
    if arguments.format == "json":
        names: JsonValue = [file.name for file in found]
        print_json({"format_version": "1", "command": "fmt", "files": names})
    else:
        print("".join(f"{terminal(file.name)}\n" for file in found), end="")
    return Exit.FAILED if arguments.check and found else Exit.DONE


def show(arguments: argparse.Namespace) -> int:
    """Show the state, a saved plan, or an account as it will be applied."""
    if arguments.planfile is not None:
        return _show_plan(arguments)
    return _show_account(arguments) if arguments.resolved else _show_state(arguments)


def _show_account(arguments: argparse.Namespace) -> int:
    from reconciler import workflow
    from reconciler.render import jsondoc, text

    project, options = project_of(arguments)
    configuration, declared = workflow.resolve(project, options, key_of(arguments.resolved))
    output(
        arguments,
        lambda: jsondoc.resolved(declared, configuration.variables),
        lambda: print(text.resolved(declared, configuration.variables), end=""),
    )
    return Exit.DONE


def _show_state(arguments: argparse.Namespace) -> int:
    from reconciler import states
    from reconciler.core.state import dump
    from reconciler.render import text

    project, _ = project_of(arguments)
    state = states.read(project)
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
    """Make a project, or a new state for one."""
    from reconciler.demo import new_project

    if arguments.new_state:
        return new_state(arguments)
    directory = Path(arguments.chdir) / arguments.directory
    for path in new_project(directory):
        print(f"wrote {path}")
    where = "" if directory == Path() else f"cd {directory} && "
    print(f"\nA project on the embedded sandbox. Next: {where}reconciler plan")
    return Exit.DONE


def schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of the files, or of the JSON about plans."""
    from reconciler.config.schema import file_schema
    from reconciler.render.schema import plan_schema

    document = plan_schema() if arguments.plan else file_schema()
    output(arguments, lambda: document, lambda: print_json(document))
    return Exit.DONE


def version(arguments: argparse.Namespace) -> int:
    """Print the version."""
    if arguments.format == "json":
        print_json({"version": __version__, "python": sys.version.split()[0]})
    else:
        print(f"reconciler {__version__}")
    return Exit.DONE
