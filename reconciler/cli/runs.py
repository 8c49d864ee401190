"""Commands that look at the platform, and those that change it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.exits import INTERRUPTED, Exit, Problem
from reconciler.cli.options import key_of, options_of, project_of
from reconciler.cli.output import (
    confirmed,
    output,
    paint_for,
    print_json,
    reporting,
    reports,
    show_plan,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine, Sequence

    from reconciler.core.graph import Operation
    from reconciler.core.outcome import Event
    from reconciler.core.plan import Plan
    from reconciler.workflow import Applied

    Flow = Callable[..., Coroutine[None, None, Applied]]


def plan(arguments: argparse.Namespace) -> int:
    """Show what apply would change."""
    from reconciler import workflow
    from reconciler.render import jsondoc, report

    project, options = project_of(arguments)
    with reporting() as reporter:
        if arguments.out is None:
            plan = asyncio.run(workflow.plan(project, options, reporter.reading))
        else:
            path, force = Path(arguments.out), arguments.force
            flow = workflow.plan_to_file(project, options, reporter.reading, path, force=force)
            plan = asyncio.run(flow)
    arguments.teller.planned(plan)

    def show() -> None:
        show_plan(plan, arguments)
        if plan.changes and not plan.refusals:
            print(f"Plan digest: {plan.digest}")

    others = reports(arguments, lambda made: report.of_plan(plan, made))
    output(arguments, lambda: jsondoc.plan(plan), show, others)
    if plan.refusals:
        return Exit.REFUSED
    if arguments.out is not None:
        print(f"Saved. To do just this: reconciler apply {arguments.out}", file=sys.stderr)
    return Exit.CHANGES if arguments.detailed_exitcode and not plan.empty else Exit.DONE


def apply(arguments: argparse.Namespace) -> int:
    """Plan, ask, and change what differs."""
    from reconciler import workflow

    if arguments.planfile is None:
        return _change(arguments, workflow.apply)
    if arguments.target or arguments.allow or arguments.plan_digest:
        raise Problem("--target, --allow and --plan-digest go with a plan that is made anew")
    path = Path(arguments.planfile)
    return _change(arguments, lambda p, o, hooks: workflow.apply_file(p, path, o, hooks))


def destroy(arguments: argparse.Namespace) -> int:
    """Delete all accounts under management, or the targets."""
    from reconciler import workflow

    return _change(arguments, workflow.destroy)


def _change(arguments: argparse.Namespace, flow: Flow) -> int:
    """Apply and destroy: plan, show, ask, do."""
    from reconciler.render.progress import opened
    from reconciler.workflow import Hooks

    project, options = project_of(arguments)
    with opened(arguments.events) as events, reporting(events) as reporter:

        def approve(plan: Plan) -> bool:
            reporter.pause()
            return _approved(plan, arguments)

        def emit(event: Event) -> None:
            arguments.teller.event(event)
            reporter.event(event)

        hooks = Hooks(approve, reporter.reading, emit)
        applied = asyncio.run(flow(project, options, hooks))
    return _finish(applied, arguments)


def _approved(plan: Plan, arguments: argparse.Namespace) -> bool:
    """Show the plan, and ask unless that was waived."""
    from reconciler.render.safe import terminal

    if arguments.format != "json":
        show_plan(plan, arguments)
    if plan.empty or getattr(arguments, "plan_digest", None):
        return True
    wanted, question = "yes", "Apply this plan? Only `yes` is taken: "
    if arguments.command == "destroy":
        wanted = plan.root_name
        question = f"Delete all this for good? Type the root account's name, {terminal(wanted)}: "
    return confirmed(question, waived=arguments.auto_approve, wanted=wanted)


def _finish(applied: Applied, arguments: argparse.Namespace) -> int:
    from reconciler.render import jsondoc, report, text

    plan, outcome = applied.plan, applied.outcome
    arguments.teller.planned(plan, outcome)
    results = outcome.results if outcome else ()

    def show() -> None:
        if plan.refusals:
            show_plan(plan, arguments)
        elif outcome is None:
            print("Not approved; nothing was done.")
        else:
            print(text.outcome(plan, outcome, paint_for(arguments)), end="")

    command = arguments.command
    output(
        arguments,
        lambda: jsondoc.plan(plan, command=command, results=results),
        show,
        reports(
            arguments, lambda made: report.of_plan(plan, made, command=command, outcome=outcome)
        ),
    )
    if plan.refusals:
        return Exit.REFUSED
    if outcome is None:
        return Exit.FAILED
    if outcome.signal is not None:
        return INTERRUPTED + outcome.signal
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


def drift(arguments: argparse.Namespace) -> int:
    """Show what was changed outside, or take it as it is."""
    if arguments.snooze or arguments.until or arguments.reason:
        return _snooze(arguments)
    if arguments.accept:
        return _accept(arguments)
    from reconciler import workflow
    from reconciler.render import jsondoc, report, text

    project, options = project_of(arguments)
    with reporting() as reporter:
        found = asyncio.run(workflow.drift(project, options, reporter.reading))
    arguments.teller.drifted(found.state, found.changes)

    def show() -> None:
        for diagnostic in found.diagnostics:
            print(text.diagnostic(diagnostic), file=sys.stderr)
        print(text.drift(found, paint_for(arguments)), end="")

    others = reports(arguments, lambda made: report.of_drift(found, made))
    output(arguments, lambda: jsondoc.drift(found), show, others)
    return Exit.CHANGES if found.found else Exit.DONE


def _accept(arguments: argparse.Namespace) -> int:
    """Write what is live into the YAML."""
    from reconciler.accept import accept
    from reconciler.render import jsondoc, text

    project, options = project_of(arguments)
    with reporting() as reporter:
        accepted = asyncio.run(accept(project, options, arguments.accept, reporter.reading))
    output(
        arguments,
        lambda: jsondoc.accepted(accepted),
        lambda: print(text.accepted(accepted), end=""),
    )
    return Exit.DONE


def _snooze(arguments: argparse.Namespace) -> int:
    """Write into reconciler.yaml which drift is known."""
    from reconciler.accept import Snooze, snooze
    from reconciler.render import jsondoc

    if not (arguments.snooze and arguments.until and arguments.reason):
        raise Problem("--snooze, --until and --reason go together")
    project, options = project_of(arguments)
    places = snooze(project, options, Snooze(arguments.snooze, arguments.until, arguments.reason))
    told = [f"{place}" for place in places]
    output(
        arguments,
        lambda: jsondoc.answer("drift", {"known": [*told]}),
        lambda: print(f"Known until {arguments.until}: {', '.join(told)}."),
    )
    return Exit.DONE


def graph(arguments: argparse.Namespace) -> int:
    """Draw the tree of accounts, or with --operations what a plan does in which order."""
    from reconciler import workflow
    from reconciler.render import graphs

    if arguments.operations is None:
        drawn = graphs.of_accounts(workflow.check(*project_of(arguments)).accounts)
    else:
        drawn = graphs.of_operations(_operations(arguments))
    others = {"mermaid": lambda: graphs.mermaid(drawn), "dot": lambda: graphs.dot(drawn)}
    output(
        arguments,
        lambda: graphs.document(drawn),
        lambda: print(graphs.mermaid(drawn), end=""),
        others,
    )
    return Exit.DONE


def _operations(arguments: argparse.Namespace) -> Sequence[Operation]:
    """Those of the saved plan that is named, or of one that is made now."""
    from reconciler import workflow
    from reconciler.core.saved import shown

    if arguments.operations:
        return shown(workflow.read_plan(Path(arguments.operations), os.environ)).operations
    project, options = project_of(arguments)
    with reporting() as reporter:
        return asyncio.run(workflow.plan(project, options, reporter.reading)).operations


def import_(arguments: argparse.Namespace) -> int:
    """Take an existing account under management."""
    from reconciler import workflow

    project, options = project_of(arguments)
    key = key_of(arguments.key)
    state = asyncio.run(workflow.import_account(project, key, arguments.id, options))
    if arguments.format == "json":
        print_json(
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


def adopt(arguments: argparse.Namespace) -> int:
    """Write an existing tree into YAML files and state."""
    from dataclasses import replace

    from reconciler import adoption
    from reconciler.config.newfiles import site
    from reconciler.config.project import with_concurrency
    from reconciler.render import adopted, text

    options = options_of(arguments)
    place = site(Path(arguments.chdir), arguments.out, dict(os.environ))
    if arguments.parallelism:
        place = replace(place, project=with_concurrency(place.project, arguments.parallelism))
    wish = adoption.Wish(
        arguments.account_id, tuple(arguments.only), arguments.layout, arguments.factor
    )
    with reporting() as reporter:
        found = asyncio.run(adoption.adopt(place, options, wish, reporter.reading))
    for diagnostic in found.diagnostics():
        print(text.diagnostic(diagnostic), file=sys.stderr)
    output(
        arguments,
        lambda: adopted.document(found),
        lambda: print(adopted.text(found, os.path.relpath(place.project.directory)), end=""),
    )
    return Exit.DONE
