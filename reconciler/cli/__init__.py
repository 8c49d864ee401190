"""Arguments -> one call of the workflow -> a renderer -> the exit code.

What a command needs is imported inside it: `--help` must not wait for what it does not use.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler.cli.arguments import Misused, parser
from reconciler.cli.exits import INTERRUPTED, Exit, Problem
from reconciler.cli.output import tell
from reconciler.cli.signals import Interrupted, forgiving, interruptible, unwritten
from reconciler.cli.telling import Teller

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


_TELLING: Final = frozenset(
    {"plan", "drift", "validate", "show", "graph", "schema", "version"}
    | {"state list", "state show", "state pull"}
)
"""Commands that change nothing: without their output they have done nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and tell how it ended; the exit status is returned."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parser().parse_args(argv)
    except Misused as error:
        return _misused(error, argv)
    arguments.teller = Teller(arguments)
    with interruptible():
        try:
            code = _run(arguments)
            lost = unwritten(sys.stdout)
            if lost is not None:
                code = _not_told(lost, arguments, code)
            arguments.teller.end(code)
        except Interrupted as end:  # it was all but over
            code = INTERRUPTED + end.number
        finally:
            _close_logging()
    return code


def _misused(error: Misused, argv: Sequence[str]) -> int:
    """Tell how the command is used; the exit status that goes with it."""
    print(f"{error.usage}{error}", file=sys.stderr)
    if "--format=json" in argv or ("--format", "json") in pairwise(argv):
        from reconciler.core.values import Diagnostic
        from reconciler.render import jsondoc

        wrong = Diagnostic("error", "A wrong argument", error.message)
        command = error.command or next((word for word in argv if not word.startswith("-")), "")
        print(jsondoc.dumps(jsondoc.failure(command, [wrong])), end="")
    return Exit.FAILED


def _run(arguments: argparse.Namespace) -> int:
    """Run one command; the exit status is returned. The only place that catches everything."""
    try:
        _check_reports(arguments)
        _set_up_logging(arguments)
        arguments.teller.open()
        return int(arguments.run(arguments))
    except Interrupted as end:
        return _interrupted(end, arguments)
    except Exception as error:  # noqa: BLE001 - the top: no traceback for users
        return _failed(error, arguments)


def run() -> NoReturn:
    """The program: `main`, and out.

    What a run loads it keeps until it ends. So the cyclic collector is off: it would walk all of
    it again and again, a third of the time of a plan of 10,000 accounts. And the interpreter's own
    end is left out, which would take all of it apart, piece by piece.
    """
    gc.disable()
    sys.stdout, sys.stderr = forgiving(sys.stdout), forgiving(sys.stderr)
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _not_told(lost: OSError, arguments: argparse.Namespace, code: int) -> int:
    """Tell that standard output could not be written; the exit status that goes with it."""
    from reconciler.core.values import Diagnostic
    from reconciler.render.text import diagnostic

    detail = f"{lost.strerror}. What it should say is incomplete."
    print(diagnostic(Diagnostic("error", "Output that can't be written", detail)), file=sys.stderr)
    # What was done is done: a pipeline must not take it for undone.
    succeeded = code in (Exit.DONE, Exit.CHANGES)
    return Exit.FAILED if succeeded and arguments.command in _TELLING else code


def _interrupted(end: Interrupted, arguments: argparse.Namespace) -> int:
    """Tell that a signal ended it; the exit status that goes with it."""
    from reconciler.core.values import Diagnostic

    detail = f"by {end}. Nothing more is sent, and no lock is held. Run it again."
    tell(arguments, [Diagnostic("error", "Interrupted", detail)])
    return INTERRUPTED + end.number


def _failed(error: Exception, arguments: argparse.Namespace) -> int:
    """Tell what went wrong; the exit status that goes with it."""
    from reconciler.api.errors import ApiError
    from reconciler.core.configuration import Invalid
    from reconciler.core.values import Diagnostic
    from reconciler.render.safe import terminal

    if isinstance(error, Invalid):
        tell(arguments, error.diagnostics)
        return Exit.FAILED
    code, summary = next(
        ((code, summary) for kind, code, summary in _outcomes() if isinstance(error, kind)),
        (Exit.FAILED, ""),
    )
    if not summary:
        logging.getLogger("reconciler").debug("internal error", exc_info=error)
        text = f"{type(error).__name__}: {error}. This is a defect of reconciler; --log-level debug shows where."
        summary, error = "An internal error", RuntimeError(text)
    about = error.address if isinstance(error, ApiError) else None
    tell(arguments, [Diagnostic("error", summary, terminal(str(error)), about)])
    return code


def _outcomes() -> list[tuple[type[Exception] | tuple[type[Exception], ...], Exit, str]]:
    """What an error is to a user: exit status and summary. The first that fits counts."""
    from reconciler.adoption import Unready
    from reconciler.api.errors import ApiError
    from reconciler.backends.backend import Locked, Lost, Unwritable
    from reconciler.config.planfile import Unsaved
    from reconciler.config.project import HostMismatch
    from reconciler.core.saved import Unfit
    from reconciler.core.state import Unusable
    from reconciler.states import NeedsForce
    from reconciler.workflow import Unknown

    return [
        (HostMismatch, Exit.REFUSED, "Two places named"),
        (Unfit, Exit.REFUSED, "A saved plan that is refused"),
        (Unready, Exit.REFUSED, "An adoption that can't be done yet"),
        (NeedsForce, Exit.REFUSED, "State that would be lost"),
        (Locked, Exit.LOCKED, "A locked state"),
        (Lost, Exit.FAILED, "A lost lock"),
        ((Unusable, Unwritable), Exit.FAILED, "Unusable state"),
        (ApiError, Exit.FAILED, "A request that failed"),
        ((Unknown, Problem), Exit.FAILED, "A wrong argument"),
        ((Unsaved, OSError), Exit.FAILED, "A file"),
    ]


def _check_reports(arguments: argparse.Namespace) -> None:
    """Find out before all else what could not be written after it. Raises: Problem."""
    for name in arguments.report:
        if not name.endswith(arguments.reports):
            raise Problem(
                f"--report {name}: {arguments.command} writes {', '.join(arguments.reports)}"
            )
        if Path(name).is_dir() or not os.access(Path(name).parent, os.W_OK):
            arguments.report.remove(name)  # or telling of it would try again
            raise Problem(f"--report {name}: no file can be written there")


def _set_up_logging(arguments: argparse.Namespace) -> None:
    level = arguments.log_level.upper()
    file = arguments.log_file
    handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Harmless("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("reconciler")
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


class _Harmless(logging.Formatter):
    """Lines of a log, in which the platform's own words stand too."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line of text."""
        from reconciler.render.safe import terminal

        return terminal(super().formatMessage(record))


def _close_logging() -> None:
    logger = logging.getLogger("reconciler")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
