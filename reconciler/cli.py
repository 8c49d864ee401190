"""Arguments -> one call of the workflow -> a renderer -> the exit code.

What a command needs is imported inside it: `--help` must not wait for what it does not use.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

from reconciler import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from reconciler.config.project import Project
    from reconciler.core.plan import Plan
    from reconciler.core.state import State
    from reconciler.core.values import Diagnostic, JsonObject, JsonValue
    from reconciler.render.progress import Reporter
    from reconciler.workflow import Applied, Options

    Flow = Callable[..., Coroutine[None, None, Applied]]


class Exit(IntEnum):
    """What the exit status means."""

    DONE = 0
    FAILED = 1
    CHANGES = 2
    REFUSED = 3
    LOCKED = 4
    PARTLY = 5


_INTERRUPTED: Final = 128
"""Plus the number of the signal, as shells do it."""


class _Parser(argparse.ArgumentParser):
    """argparse, but wrong arguments are exit 1: 2 means that there are changes."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.FAILED, f"{self.prog}: {message}\n")


class _Problem(Exception):
    """Something about the arguments that argparse can't tell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is returned. The only place that catches everything."""
    arguments = _parser().parse_args(argv)
    try:
        _set_up_logging(arguments)
        return int(arguments.run(arguments))
    except BrokenPipeError:
        # Nobody reads on. Keep the interpreter from complaining about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED + 2
    except Exception as error:  # noqa: BLE001 - the top: no traceback for users
        return _failed(error, arguments)
    finally:
        _close_logging()


def run() -> NoReturn:
    """The program: `main`, and out.

    What a run loads it keeps until it ends. So the cyclic collector is off: it would walk all of
    it again and again, a third of the time of a plan of 10,000 accounts. And the interpreter's own
    end is left out, which would take all of it apart, piece by piece.
    """
    gc.disable()
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _failed(error: Exception, arguments: argparse.Namespace) -> int:
    """Tell what went wrong; the exit status that goes with it."""
    from reconciler.api.client import ApiError
    from reconciler.backends.backend import Locked, Unwritable
    from reconciler.config.project import HostMismatch
    from reconciler.core.configuration import Invalid
    from reconciler.core.state import Unusable
    from reconciler.core.values import Diagnostic
    from reconciler.render.safe import terminal
    from reconciler.workflow import Unknown

    match error:
        case Invalid():
            _tell(arguments, error.diagnostics)
            return Exit.FAILED
        case HostMismatch():
            code, summary = Exit.REFUSED, "Two platforms"
        case Locked():
            code, summary = Exit.LOCKED, "A locked state"
        case Unusable() | Unwritable():
            code, summary = Exit.FAILED, "Unusable state"
        case ApiError():
            code, summary = Exit.FAILED, "A request that failed"
        case Unknown() | _Problem() | OSError():
            code, summary = (
                Exit.FAILED,
                "A wrong argument" if not isinstance(error, OSError) else "A file",
            )
        case _:
            logging.getLogger("reconciler").debug("internal error", exc_info=error)
            text = f"{type(error).__name__}: {error}. This is a defect of reconciler; --log-level debug shows where."
            code, summary = Exit.FAILED, "An internal error"
            error = RuntimeError(text)
    _tell(arguments, [Diagnostic("error", summary, terminal(str(error)))])
    return code


def _tell(arguments: argparse.Namespace, diagnostics: Sequence[Diagnostic]) -> None:
    """Diagnostics to stderr; with --format json, as the one document on stdout too."""
    from reconciler.render import jsondoc, text

    for diagnostic in diagnostics:
        print(text.diagnostic(diagnostic), file=sys.stderr)
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    if errors > 1:
        print(f"{errors} errors.", file=sys.stderr)
    if getattr(arguments, "format", "text") == "json":
        _print_json(jsondoc.failure(arguments.command, diagnostics))


# --- the commands ----------------------------------------------------------------------------


def _validate(arguments: argparse.Namespace) -> int:
    from reconciler import workflow
    from reconciler.core.configuration import Invalid
    from reconciler.render import jsondoc, text

    project, options = _project(arguments)
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

    _output(arguments, lambda: jsondoc.validation(diagnostics), show)
    return Exit.DONE if configuration is not None else Exit.FAILED


def _plan(arguments: argparse.Namespace) -> int:
    from reconciler import workflow
    from reconciler.render import jsondoc

    if arguments.out is not None:
        raise _Problem("plan --out: saved plans are not there yet")
    if not arguments.refresh:
        raise _Problem("plan --no-refresh: not there yet")
    project, options = _project(arguments)
    with _reporter() as reporter:
        plan = asyncio.run(workflow.plan(project, options, reporter.reading))
    _output(arguments, lambda: jsondoc.plan(plan), lambda: _show_plan(plan, arguments))
    if plan.refusals:
        return Exit.REFUSED
    return Exit.CHANGES if arguments.detailed_exitcode and not plan.empty else Exit.DONE


def _apply(arguments: argparse.Namespace) -> int:
    from reconciler import workflow

    if arguments.planfile is not None or arguments.plan_digest is not None:
        raise _Problem("apply PLANFILE and --plan-digest: saved plans are not there yet")
    return _change(arguments, workflow.apply)


def _destroy(arguments: argparse.Namespace) -> int:
    from reconciler import workflow

    return _change(arguments, workflow.destroy)


def _change(arguments: argparse.Namespace, flow: Flow) -> int:
    """Apply and destroy: plan, show, ask, do."""
    from reconciler.render.progress import opened
    from reconciler.workflow import Hooks

    project, options = _project(arguments)
    with opened(arguments.events) as events, _reporter(events) as reporter:

        def approve(plan: Plan) -> bool:
            reporter.pause()
            return _approved(plan, arguments)

        hooks = Hooks(approve, reporter.reading, reporter.event)
        applied = asyncio.run(flow(project, options, hooks))
    return _finish(applied, arguments)


def _approved(plan: Plan, arguments: argparse.Namespace) -> bool:
    """Show the plan, and ask unless that was waived."""
    from reconciler.render.safe import terminal

    if arguments.format != "json":
        _show_plan(plan, arguments)
    if plan.empty or arguments.auto_approve:
        return True
    if not sys.stdin.isatty():
        raise _Problem("there is no terminal to ask on, and no --auto-approve")
    wanted, question = "yes", "Apply this plan? Only `yes` is taken: "
    if arguments.command == "destroy":
        wanted = plan.root_name
        question = f"Delete all this for good? Type the root account's name, {terminal(wanted)}: "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == wanted


def _finish(applied: Applied, arguments: argparse.Namespace) -> int:
    from reconciler.render import jsondoc, text

    plan, outcome = applied.plan, applied.outcome
    results = outcome.results if outcome else ()

    def show() -> None:
        if plan.refusals:
            _show_plan(plan, arguments)
        elif outcome is None:
            print("Not approved; nothing was done.")
        else:
            print(text.outcome(plan, outcome, _paint(arguments)), end="")

    _output(arguments, lambda: jsondoc.plan(plan, command=arguments.command, results=results), show)
    if plan.refusals:
        return Exit.REFUSED
    if outcome is None:
        return Exit.FAILED
    if outcome.signal is not None:
        return _INTERRUPTED + outcome.signal
    if outcome.succeeded:
        return Exit.DONE
    if outcome.sent:
        return Exit.PARTLY
    stale = all(
        result.status in ("stale", "skipped")
        for result in outcome.results
        if result.status != "done"
    )
    return Exit.REFUSED if stale else Exit.FAILED


def _drift(arguments: argparse.Namespace) -> int:
    from reconciler import workflow
    from reconciler.render import jsondoc, text

    project, options = _project(arguments)
    with _reporter() as reporter:
        drift = asyncio.run(workflow.drift(project, options, reporter.reading))
    _output(
        arguments,
        lambda: jsondoc.drift(drift.state, drift.changes, drift.unchanged),
        lambda: print(text.drift(drift.changes, drift.unchanged, _paint(arguments)), end=""),
    )
    return Exit.CHANGES if drift.changes else Exit.DONE


def _import(arguments: argparse.Namespace) -> int:
    from reconciler import workflow

    project, options = _project(arguments)
    key = arguments.key.removeprefix("accounts.")
    state = asyncio.run(workflow.import_account(project, key, arguments.id, options))
    if arguments.format == "json":
        _print_json(
            {
                "format_version": "1",
                "command": "import",
                "address": f"accounts.{key}",
                "id": arguments.id,
                "serial": state.serial,
            }
        )
    else:
        print(
            f"accounts.{key} is {arguments.id} now. Plan shows what differs from its declaration."
        )
    return Exit.DONE


def _state_list(arguments: argparse.Namespace) -> int:
    state = _read_state(arguments)
    keys = sorted(state.accounts) if state else []
    if arguments.format == "json":
        _print_json(
            {
                "format_version": "1",
                "command": "state list",
                "addresses": [f"accounts.{key}" for key in keys],
            }
        )
    else:
        print("".join(f"accounts.{key}\n" for key in keys), end="")
    return Exit.DONE


def _state_show(arguments: argparse.Namespace) -> int:
    from reconciler.core.state import record_json

    state = _read_state(arguments)
    key = arguments.address.removeprefix("accounts.")
    if state is None or key not in state.accounts:
        raise _Problem(f"accounts.{key} is not in state; `reconciler state list` tells what is")
    _print_json(record_json(state.accounts[key]))
    return Exit.DONE


def _show(arguments: argparse.Namespace) -> int:
    from reconciler.core.state import dump
    from reconciler.render import text

    if arguments.planfile is not None:
        raise _Problem("saved plans are not there yet")
    state = _read_state(arguments)
    if state is None:
        raise _Problem("there is no state yet; `reconciler apply` makes it")
    if arguments.format == "json":
        document = json.loads(dump(state))
        del document["digest_key"]
        _print_json(document)
    else:
        print(text.state(state), end="")
    return Exit.DONE


def _init(arguments: argparse.Namespace) -> int:
    from reconciler.demo import copy_example

    directory = Path(arguments.directory)
    written = copy_example("quickstart", directory)
    for path in written:
        print(f"wrote {path}")
    where = "" if directory == Path() else f"cd {directory} && "
    print(f"\nA project on the embedded sandbox. Next: {where}reconciler plan")
    return Exit.DONE


def _sandbox(arguments: argparse.Namespace) -> int:
    from reconciler.sandbox.faults import parse_faults
    from reconciler.sandbox.options import SandboxOptions
    from reconciler.sandbox.server import Announcement, run

    def announce(found: Announcement) -> None:
        lines = {
            "VINIX_API_URL": found.url,
            "VINIX_ACCOUNT_ID": found.root_id,
            "VINIX_API_KEY": found.api_key,
        }
        if arguments.format == "json":
            _print_json({"url": found.url, "account_id": found.root_id, "api_key": found.api_key})
        else:
            print("The sandbox listens. Ctrl-C ends it.")
            print("".join(f"export {name}={value}\n" for name, value in lines.items()), end="")
        sys.stdout.flush()

    gc.enable()  # unlike a run, a server goes on
    options = SandboxOptions(
        dialect=arguments.dialect,
        error_format=arguments.error_format,
        latency_ms=arguments.latency,
        view_lag_ms=arguments.view_lag,
        superduper=arguments.superduper,
        rate_limit=arguments.rate_limit,
        seed_accounts=arguments.seed_accounts,
        data=Path(arguments.data) if arguments.data else None,
        faults=parse_faults(_document(Path(arguments.faults))) if arguments.faults else (),
    )
    run(options, arguments.port, announce)
    return Exit.DONE


def _document(path: Path) -> JsonValue:
    """The one document of a YAML file. Raises: Invalid."""
    from reconciler.config.nodes import parse
    from reconciler.core.configuration import Invalid

    documents, diagnostics = parse(str(path), path.read_bytes())
    if diagnostics:
        raise Invalid(diagnostics)
    return documents[0] if documents else None


def _demo(arguments: argparse.Namespace) -> int:
    from reconciler.demo import demo

    return demo(main, keep=Path(arguments.keep) if arguments.keep else None)


def _version(arguments: argparse.Namespace) -> int:
    if arguments.format == "json":
        _print_json({"version": __version__, "python": sys.version.split()[0]})
    else:
        print(f"reconciler {__version__}")
    return Exit.DONE


def _not_yet(arguments: argparse.Namespace) -> int:
    print(f"reconciler {arguments.command}: not there yet.", file=sys.stderr)
    return Exit.FAILED


# --- what they share -------------------------------------------------------------------------


def _project(arguments: argparse.Namespace) -> tuple[Project, Options]:
    from reconciler.config.project import open_project, variable_file, with_concurrency
    from reconciler.workflow import Options

    variables = {}
    for path in arguments.var_file:
        variables.update(variable_file(Path(path)))
    for assignment in arguments.var:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise _Problem(f"--var takes NAME=VALUE, not {assignment!r}")
        variables[name] = value
    options = Options(
        variables=variables,
        targets=frozenset(_target(target) for target in getattr(arguments, "target", [])),
        allow=_allowed(getattr(arguments, "allow", [])),
        fail_fast=getattr(arguments, "fail_fast", False),
        lock_timeout=_seconds(getattr(arguments, "lock_timeout", "0s")),
        command=f"reconciler {arguments.command}",
    )
    project = open_project(Path(arguments.chdir), dict(os.environ))
    if arguments.parallelism:
        project = with_concurrency(project, arguments.parallelism)
    return project, options


def _target(text: str) -> str:
    key = text.removeprefix("accounts.")
    if key == text:
        raise _Problem(f"--target takes an address, accounts.KEY, not {text!r}")
    return key


def _allowed(texts: Sequence[str]) -> Mapping[str, int]:
    """`delete=2,demote=1,update=100%` and `reparent`."""
    allowed: dict[str, int] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, _, number = part.partition("=")
        if part == "reparent":
            allowed[part] = 1
        elif name in ("delete", "demote", "update") and number.removesuffix("%").isdigit():
            allowed[name] = int(number.removesuffix("%"))
        else:
            raise _Problem(
                f"--allow takes delete=N, demote=N, update=N% and reparent, not {part!r}"
            )
    return allowed


def _seconds(text: str) -> float:
    from reconciler.core.configuration import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise _Problem(f"{text!r}: {error}") from error


def _read_state(arguments: argparse.Namespace) -> State | None:
    from reconciler import workflow
    from reconciler.core.configuration import Invalid

    project, _ = _project(arguments)
    if project.problems:
        raise Invalid(project.problems)
    return workflow.backend(project).read()


def _reporter(events: TextIO | None = None) -> Reporter:
    from reconciler.render.progress import Reporter

    bar = sys.stderr.isatty() and not os.environ.get("CI")
    return Reporter(sys.stderr, bar=bar, events=events)


def _paint(arguments: argparse.Namespace) -> Callable[[str, str], str]:
    from reconciler.render.text import coloured, plain

    wanted = sys.stdout.isatty() and not arguments.no_color and not os.environ.get("NO_COLOR")
    return coloured if wanted else plain


def _show_plan(plan: Plan, arguments: argparse.Namespace) -> None:
    from reconciler.render import text

    for diagnostic in plan.diagnostics:
        print(text.diagnostic(diagnostic), file=sys.stderr)
    paint = _paint(arguments)
    if sys.stdout.isatty():
        print(text.tree(plan, paint))
    print(text.plan(plan, paint, unmanaged=getattr(arguments, "show_unmanaged", False)), end="")
    sys.stdout.flush()


def _print_json(document: JsonObject) -> None:
    from reconciler.render.jsondoc import dumps

    sys.stdout.write(dumps(document))
    sys.stdout.flush()


def _output(
    arguments: argparse.Namespace, build: Callable[[], JsonObject], show: Callable[[], None]
) -> None:
    """The outcome of a command as it was asked for; the document is built only if it was."""
    from reconciler.render.jsondoc import dumps

    if arguments.format != "json":
        show()
    if arguments.format == "json" or arguments.report:
        text = dumps(build())
        if arguments.format == "json":
            sys.stdout.write(text)
            sys.stdout.flush()
        for name in arguments.report:
            Path(name).write_text(text, encoding="utf-8")


def _set_up_logging(arguments: argparse.Namespace) -> None:
    for name in getattr(arguments, "report", []):
        if not name.endswith(".json"):
            raise _Problem(f"--report {name}: only .json is there yet")
    level = getattr(arguments, "log_level", "warning").upper()
    file = getattr(arguments, "log_file", None)
    handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("reconciler")
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def _close_logging() -> None:
    logger = logging.getLogger("reconciler")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


# --- the arguments ---------------------------------------------------------------------------


def _parser() -> _Parser:
    parser = _Parser(
        prog="reconciler",
        description="Terraform for telephony reseller accounts: declare, plan, apply, detect drift.",
        epilog="Exit: 0 done, 1 failed, 2 changes or drift, 3 refused, 4 locked, 5 partly applied.",
    )
    parser.add_argument("--version", action="version", version=f"reconciler {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _common()
    targeted = _targeted()
    changing = _changing()

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        *parents: _Parser,
    ) -> _Parser:
        command = commands.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(run=run)
        return command

    init = add("init", _init, "make a project that plans against the embedded sandbox")
    init.add_argument("directory", nargs="?", default=".", metavar="DIR")
    add("validate", _validate, "check the files, offline and completely")
    _add_plan(add("plan", _plan, "show what apply would change", targeted))
    _add_apply(add("apply", _apply, "plan, ask, and change what differs", targeted, changing))
    add("destroy", _destroy, "delete all accounts under management", targeted, changing)
    add(
        "drift", _drift, "show what was changed behind Git's back; exit 2 if anything was", targeted
    )
    imports = add("import", _import, "take an existing account under management", _locking())
    imports.add_argument("key", metavar="KEY")
    imports.add_argument("id", metavar="ID")
    _add_state(commands, common)
    show = add("show", _show, "show the state")
    show.add_argument("planfile", nargs="?", metavar="PLANFILE")
    _add_sandbox(add("sandbox", _sandbox, "serve the platform in small, to try things on"))
    demo = add("demo", _demo, "run the main job on the embedded sandbox")
    demo.add_argument("--keep", metavar="DIR", help="leave the project in DIR")
    add("version", _version, "print the version")
    for name in ("adopt", "unlock", "graph", "schema"):
        add(name, _not_yet, "not there yet").add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    return parser


def _add_plan(plan: _Parser) -> None:
    plan.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if there are changes"
    )
    plan.add_argument(
        "--show-unmanaged", action="store_true", help="show live fields that nobody declared, too"
    )
    plan.add_argument("--out", metavar="FILE", help="not there yet")
    plan.add_argument(
        "--refresh",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read the platform; --no-refresh is not there yet",
    )


def _add_apply(apply: _Parser) -> None:
    apply.add_argument(
        "--fail-fast", action="store_true", help="begin nothing more after a failure"
    )
    apply.add_argument("planfile", nargs="?", metavar="PLANFILE", help="not there yet")
    apply.add_argument("--plan-digest", metavar="DIGEST", help="not there yet")


def _add_state(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    state = commands.add_parser("state", help="look at the state").add_subparsers(
        dest="state_command", required=True, metavar="COMMAND"
    )
    listing = state.add_parser("list", help="the addresses in state", parents=[common])
    listing.set_defaults(run=_state_list, command="state list")
    show = state.add_parser("show", help="one account in state", parents=[common])
    show.add_argument("address", metavar="ADDR")
    show.set_defaults(run=_state_show, command="state show")
    for name in ("mv", "rm", "pull", "push"):
        later = state.add_parser(name, help="not there yet", parents=[common])
        later.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
        later.set_defaults(run=_not_yet, command=f"state {name}")


def _common() -> _Parser:
    common = _Parser(add_help=False)
    group = common.add_argument_group("common options")
    group.add_argument("-C", "--chdir", default=".", metavar="DIR", help="the project's directory")
    group.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE", help="the value of a variable"
    )
    group.add_argument(
        "--var-file",
        action="append",
        default=[],
        metavar="FILE",
        help="values of variables, as YAML",
    )
    group.add_argument("--format", choices=("text", "json"), default="text", help="what stdout is")
    group.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="FILE.json",
        help="write the document there, too",
    )
    group.add_argument("--no-color", action="store_true", help="no colour (NO_COLOR does the same)")
    group.add_argument(
        "--parallelism", type=_positive, metavar="N", help="requests in flight at most"
    )
    group.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="warning"
    )
    group.add_argument("--log-file", metavar="FILE", help="log there instead of to stderr")
    return common


def _targeted() -> _Parser:
    targeted = _Parser(add_help=False)
    targeted.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="ADDR",
        help="this account and what it depends on, alone",
    )
    targeted.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="LIMITS",
        help="delete=2,demote=1,update=100%%,reparent",
    )
    return targeted


def _locking() -> _Parser:
    locking = _Parser(add_help=False)
    locking.add_argument(
        "--lock-timeout", default="0s", metavar="TIME", help="wait so long for another run: 30s"
    )
    return locking


def _changing() -> _Parser:
    changing = _Parser(add_help=False, parents=[_locking()])
    changing.add_argument("--auto-approve", action="store_true", help="don't ask")
    changing.add_argument("--events", metavar="FILE", help="append a JSON line per step")
    return changing


def _add_sandbox(sandbox: _Parser) -> None:
    sandbox.add_argument("--port", type=int, default=0, help="default: any free one")
    sandbox.add_argument(
        "--seed-accounts", type=int, default=0, metavar="N", help="begin with a tree of N accounts"
    )
    sandbox.add_argument("--latency", type=int, default=0, metavar="MS", help="every answer waits")
    sandbox.add_argument(
        "--view-lag", type=int, default=0, metavar="MS", help="lists show changes later"
    )
    sandbox.add_argument("--faults", metavar="FILE", help="rules for a bad day")
    sandbox.add_argument("--data", metavar="FILE", help="keep everything there; default: in memory")
    sandbox.add_argument("--dialect", choices=("release", "head"), default="release")
    sandbox.add_argument("--error-format", choices=("kazoo", "vinix"), default="kazoo")
    sandbox.add_argument(
        "--superduper",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the root may promote",
    )
    sandbox.add_argument(
        "--rate-limit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether 429 happens",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("a positive number is needed")
    return int(text)
