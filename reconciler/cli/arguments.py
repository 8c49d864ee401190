"""The command line: which commands there are, and what each takes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NoReturn

from reconciler import __version__
from reconciler.cli import files, rehearsal, runs, state

if TYPE_CHECKING:
    from collections.abc import Callable

    _Add = Callable[..., "_Parser"]

_PROJECT: Final = "the project's directory"


_LAST_PORT: Final = 65535


class Misused(Exception):
    """Arguments that make no sense. `command`: as far as it was understood; `usage`: how it is used."""

    def __init__(self, program: str, usage: str, message: str) -> None:
        super().__init__(f"{program}: {message}")
        self.command = program.partition(" ")[2]
        self.usage = usage
        self.message = message


class _Parser(argparse.ArgumentParser):
    """argparse, but wrong arguments are an exception: 2, its exit status, means that there are changes."""

    def error(self, message: str) -> NoReturn:
        raise Misused(self.prog, self.format_usage(), message)


def parser() -> _Parser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="reconciler",
        description="Terraform for telephony reseller accounts: declare, plan, apply, detect drift.",
        epilog="Exit: 0 done, 1 failed, 2 changes or drift, 3 refused, 4 locked, 5 partly applied.",
    )
    parser.add_argument("--version", action="version", version=f"reconciler {__version__}")
    parser.add_argument("-C", "--chdir", default=".", metavar="DIR", help=_PROJECT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _common()

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        *parents: _Parser,
        common: _Parser = common,
    ) -> _Parser:
        command = commands.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(run=run)
        return command

    _add_about_files(add)
    _add_about_platform(add)
    _add_state(commands, common)
    unlock = ("unlock", state.unlock, "take the lock away from a run that can't give it back")
    _add_unlock(add(*unlock))
    _add_sandbox(add("sandbox", rehearsal.sandbox, "serve the platform in small, to try things on"))
    demo = add("demo", rehearsal.demo, "run the main job on the embedded sandbox")
    demo.add_argument("--keep", metavar="DIR", help="leave the project in DIR")
    add("version", files.version, "print the version")
    return parser


def _add_about_files(add: _Add) -> None:
    making = ("init", files.init, "make a project that plans against the embedded sandbox")
    _add_init(add(*making, _locking(), _asking()))
    checking = _common(("text", "json", "github"), (".json", ".sarif"))
    add("validate", files.validate, "check the files, offline and completely", common=checking)
    fmt = add("fmt", files.fmt, "put the files in canonical order and layout; comments stay")
    fmt.add_argument("--check", action="store_true", help="change nothing; exit 1 if it would")
    showing = ("show", files.show, "show the state, a saved plan, or an account as declared")
    show = add(*showing, _shown())
    show.add_argument("planfile", nargs="?", metavar="PLANFILE")
    show.add_argument(
        "--resolved", metavar="KEY", help="the account as declared, and where each value is from"
    )
    schema = add("schema", files.schema, "print the JSON Schema of the files, for editors")
    schema.add_argument(
        "--plan", action="store_true", help="of what plan, apply, drift and validate write as JSON"
    )


def _add_about_platform(add: _Add) -> None:
    reported = _common(reports=(".json", ".md", ".html", ".xml"))
    targeted, changing, told, shown = _targeted(), _changing(), _told(), _shown()
    plan = ("plan", runs.plan, "show what apply would change", targeted, shown, told)
    _add_plan(add(*plan, common=reported))
    apply = ("apply", runs.apply, "plan, ask, and change what differs")
    _add_apply(add(*apply, targeted, shown, changing, told, common=reported))
    destroy = ("destroy", runs.destroy, "delete all accounts under management")
    add(*destroy, targeted, changing, told, common=reported)
    drift = ("drift", runs.drift, "show what was changed behind Git's back; exit 2 if anything was")
    _add_drift(add(*drift, targeted, told, common=reported))
    imports = add("import", runs.import_, "take an existing account under management", _locking())
    imports.add_argument("key", metavar="KEY")
    imports.add_argument("id", metavar="ID")
    drawn = _common(("text", "mermaid", "dot", "json"), (".json", ".mermaid", ".dot"))
    drawing = ("graph", runs.graph, "draw the tree of accounts, or what a plan does in which order")
    _add_graph(add(*drawing, common=drawn))
    adopt = ("adopt", runs.adopt, "write an existing tree into YAML files and state")
    _add_adopt(add(*adopt, _locking()))


def _add_adopt(adopt: _Parser) -> None:
    adopt.add_argument(
        "account_id", nargs="?", metavar="ACCOUNT_ID", help="only what is at and below it"
    )
    adopt.add_argument(
        "--out",
        metavar="DIR",
        help="where the files go: accounts; without a reconciler.yaml DIR becomes a project",
    )
    adopt.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help="accounts whose name, realm or id matches (*, ?), and those that they stand below",
    )
    adopt.add_argument(
        "--layout",
        choices=("flat", "tree", "one-file"),
        default="flat",
        help="a file per reseller, the same in directories, or one file",
    )
    adopt.add_argument(
        "--factor", action="store_true", help="lift what most accounts share into templates"
    )


def _add_graph(graph: _Parser) -> None:
    graph.add_argument(
        "--operations",
        nargs="?",
        const="",
        metavar="PLANFILE",
        help="the operations of PLANFILE, or of a plan made now",
    )


def _add_plan(plan: _Parser) -> None:
    plan.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if there are changes"
    )
    plan.add_argument(
        "--show-unmanaged", action="store_true", help="show live fields that nobody declared, too"
    )
    plan.add_argument("--out", metavar="FILE", help="save the plan there, to be applied as it is")
    plan.add_argument("--force", action="store_true", help="with --out: replace the file")
    plan.add_argument(
        "--refresh",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read all accounts; --no-refresh: only those that something is done to",
    )


def _add_drift(drift: _Parser) -> None:
    drift.add_argument(
        "--unmanaged", action="store_true", help="also accounts that nobody declared or manages"
    )
    drift.add_argument(
        "--since-state",
        action="store_true",
        help="only what was changed since state last heard of the account",
    )
    ways = drift.add_mutually_exclusive_group()
    ways.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="ADDR",
        help="write what is live of an account, or of accounts.KEY.settings.FIELD, into the YAML",
    )
    ways.add_argument(
        "--snooze",
        action="append",
        default=[],
        metavar="ADDR.PATH",
        help="write into reconciler.yaml that drift of this field is known; with --until, --reason",
    )
    drift.add_argument("--until", metavar="DATE", help="the last day of it, in UTC: 2026-12-31")
    drift.add_argument("--reason", metavar="TEXT", help="why it may stay so")


def _add_apply(apply: _Parser) -> None:
    apply.add_argument(
        "--fail-fast", action="store_true", help="begin nothing more after a failure"
    )
    apply.add_argument("planfile", nargs="?", metavar="PLANFILE", help="a plan of plan --out")
    apply.add_argument("--plan-digest", metavar="DIGEST", help="apply only the plan that has it")
    apply.add_argument(
        "--max-age", default="24h", metavar="TIME", help="refuse an older PLANFILE: 24h"
    )


def _add_init(init: _Parser) -> None:
    init.add_argument("directory", nargs="?", default=".", metavar="DIR")
    init.add_argument(
        "--new-state",
        action="store_true",
        help="of a project that is there: begin anew where its state was lost",
    )


def _add_unlock(unlock: _Parser) -> None:
    unlock.add_argument("holder", nargs="?", metavar="RUN", help="only if that run has it")
    unlock.add_argument("--force", action="store_true", help="don't ask")


def _add_state(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser(
        "state", help="look at the state, and look after it"
    ).add_subparsers(dest="state_command", required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str, *parents: _Parser
    ) -> _Parser:
        command = group.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(run=run, command=f"state {name}")
        return command

    listing = add("list", state.state_list, "the addresses in state")
    listing.add_argument("addresses", nargs="*", metavar="ADDR", help="these alone")
    add("show", state.state_show, "one account in state").add_argument("address", metavar="ADDR")
    move = add("mv", state.state_mv, "give an account another address", _locking())
    move.add_argument("old", metavar="FROM")
    move.add_argument("new", metavar="TO")
    remove = add("rm", state.state_rm, "forget accounts, and leave them as they are", _locking())
    remove.add_argument("addresses", nargs="+", metavar="ADDR")
    add("pull", state.state_pull, "print the whole state; it holds a key, so keep it close")
    push = add("push", state.state_push, "put a state that was pulled in its place", _locking())
    push.add_argument("file", metavar="FILE", help="- for stdin")
    push.add_argument("--force", action="store_true", help="even if it is no later version")
    add("history", state.state_history, "the generations that are kept")
    restore = add(
        "restore", state.state_restore, "put a generation in its place", _locking(), _asking()
    )
    restore.add_argument("serial", type=_positive, metavar="SERIAL")
    migrate = add("migrate", state.state_migrate, "copy the state to another place", _locking())
    migrate.add_argument("to", metavar="TO", help="as the key `state` of reconciler.yaml names it")
    migrate.add_argument("--force", action="store_true", help="even if there is a state")


def _common(
    formats: tuple[str, ...] = ("text", "json"), reports: tuple[str, ...] = (".json",)
) -> _Parser:
    common = _Parser(add_help=False)
    common.set_defaults(reports=reports)
    group = common.add_argument_group("common options")
    # Left out behind the command, what stands before it counts.
    group.add_argument("-C", "--chdir", default=argparse.SUPPRESS, metavar="DIR", help=_PROJECT)
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
    group.add_argument("--format", choices=formats, default="text", help="what stdout is")
    group.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="FILE",
        help=f"write the outcome there, too; by its ending: {', '.join(reports)}",
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
        help="delete=2,demote=1,update=100%%,protect=service,reparent",
    )
    return targeted


def _shown() -> _Parser:
    shown = _Parser(add_help=False)
    shown.add_argument(
        "--show-all", action="store_true", help="list each account, also where many change alike"
    )
    return shown


def _told() -> _Parser:
    told = _Parser(add_help=False)
    told.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="URL",
        help="tell people how it ended, unless there was nothing to do; better in RECONCILER_NOTIFY: "
        "a URL holds a secret",
    )
    told.add_argument(
        "--metrics",
        metavar="FILE",
        help="write figures of the run for Prometheus there, or to the Pushgateway at a URL",
    )
    return told


def _locking() -> _Parser:
    locking = _Parser(add_help=False)
    locking.add_argument(
        "--lock-timeout", default="0s", metavar="TIME", help="wait so long for another run: 30s"
    )
    return locking


def _asking() -> _Parser:
    asking = _Parser(add_help=False)
    asking.add_argument("--auto-approve", action="store_true", help="don't ask")
    return asking


def _changing() -> _Parser:
    changing = _Parser(add_help=False, parents=[_locking(), _asking()])
    changing.add_argument("--events", metavar="FILE", help="append a JSON line per step")
    return changing


def _add_sandbox(sandbox: _Parser) -> None:
    sandbox.add_argument("--port", type=_port, default=0, help="default: any free one")
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


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"a number from 0 to {_LAST_PORT} is needed")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("a positive number is needed")
    return int(text)
