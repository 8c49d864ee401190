"""Where the outcome of a command goes: stdout, stderr, reports."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from reconciler.cli.exits import Problem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from reconciler.core.plan import Plan
    from reconciler.core.values import Diagnostic, JsonObject
    from reconciler.render.progress import Reporter
    from reconciler.render.report import Report


def tell(arguments: argparse.Namespace, diagnostics: Sequence[Diagnostic]) -> None:
    """Diagnostics to stderr, and as the outcome of the command to wherever that was wanted."""
    from reconciler.render import jsondoc, report, text

    for diagnostic in diagnostics:
        print(text.diagnostic(diagnostic), file=sys.stderr)
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    if errors > 1:
        print(f"{errors} errors.", file=sys.stderr)
    if arguments.format == "json":
        print_json(jsondoc.failure(arguments.command, diagnostics))
    others = reports(
        arguments, lambda made: report.of_failure(arguments.command, diagnostics, made)
    )
    document = {"json": lambda: jsondoc.dumps(jsondoc.failure(arguments.command, diagnostics))}
    _write(arguments, {**document, **others})


def output(
    arguments: argparse.Namespace,
    build: Callable[[], JsonObject],
    show: Callable[[], None],
    others: Mapping[str, Callable[[], str]] | None = None,
) -> None:
    """The outcome of a command as it was asked for; nothing is built that was not.

    `build` makes the JSON document, `show` prints for people; `others`: what else the command can
    be asked for, by `--format NAME` or by `--report FILE.NAME`.
    """
    from reconciler.render.jsondoc import dumps

    renderings = {"json": lambda: dumps(build()), **(others or {})}
    if arguments.format == "text":
        show()
    else:
        sys.stdout.write(renderings[arguments.format]())
        sys.stdout.flush()
    _write(arguments, renderings)


def _write(arguments: argparse.Namespace, renderings: Mapping[str, Callable[[], str]]) -> None:
    """The reports that were asked for, as far as the command has such."""
    from reconciler.render.safe import terminal

    for name in arguments.report:
        ending = Path(name).suffix
        if ending in arguments.reports and ending[1:] in renderings:
            try:
                Path(name).write_text(renderings[ending[1:]](), encoding="utf-8")
            except (
                OSError
            ) as error:  # what was done is done: neither it nor other reports fail by this
                print(f"warning: --report: {terminal(str(error))}", file=sys.stderr)


def confirmed(
    question: str, *, waived: bool, waiver: str = "--auto-approve", wanted: str = "yes"
) -> bool:
    """Ask, unless that was waived. Raises: Problem if there is nobody to ask."""
    if waived:
        return True
    if not sys.stdin.isatty():
        raise Problem(f"there is no terminal to ask on, and no {waiver}")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == wanted


def reports(
    arguments: argparse.Namespace, build: Callable[[datetime], Report]
) -> Mapping[str, Callable[[], str]]:
    """The reports for people and for CI hosts, as `others` of `output`, if there are to be any."""
    arguments.teller.report = build
    if not arguments.report:
        return {}
    from reconciler.render.html import html
    from reconciler.render.junit import junit
    from reconciler.render.markdown import markdown

    made = datetime.now(UTC)
    return {
        "md": lambda: markdown(build(made)),
        "html": lambda: html(build(made)),
        "xml": lambda: junit(build(made)),
    }


def print_json(document: JsonObject) -> None:
    """One JSON document on stdout."""
    from reconciler.render.jsondoc import dumps

    sys.stdout.write(dumps(document))
    sys.stdout.flush()


def paint_for(arguments: argparse.Namespace) -> Callable[[str, str], str]:
    """Colour if stdout is a terminal and nobody minds."""
    from reconciler.render.text import coloured, plain

    wanted = sys.stdout.isatty() and not arguments.no_color and not os.environ.get("NO_COLOR")
    return coloured if wanted else plain


def show_plan(plan: Plan, arguments: argparse.Namespace) -> None:
    """A plan on stdout, what is odd about it on stderr."""
    from reconciler.render import text

    for diagnostic in plan.diagnostics:
        print(text.diagnostic(diagnostic), file=sys.stderr)
    paint = paint_for(arguments)
    unmanaged = getattr(arguments, "show_unmanaged", False)
    fold = not (unmanaged or getattr(arguments, "show_all", False))
    if sys.stdout.isatty():
        print(text.tree(plan, paint, fold=fold))
    print(text.plan(plan, paint, unmanaged=unmanaged, fold=fold), end="")
    sys.stdout.flush()


def reporting(events: TextIO | None = None) -> Reporter:
    """What tells on stderr how far a run is."""
    from reconciler.render.progress import Reporter

    bar = sys.stderr.isatty() and not os.environ.get("CI")
    return Reporter(sys.stderr, bar=bar, events=events)
