"""Commands about the state."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.exits import Exit, Problem
from reconciler.cli.options import key_of, project_of
from reconciler.cli.output import confirmed, output, print_json

if TYPE_CHECKING:
    import argparse

    from reconciler.backends.backend import Holder
    from reconciler.core.state import State
    from reconciler.core.values import JsonObject
    from reconciler.states import Present


def state_list(arguments: argparse.Namespace) -> int:
    """List the addresses in state, or those of them that are named."""
    from reconciler import states

    project, _ = project_of(arguments)
    state = states.read(project)
    known = set(state.accounts) if state else set()
    wanted = {key_of(name) for name in arguments.addresses}
    if unknown := sorted(wanted - known):
        raise Problem(f"{_addresses(unknown)}: not in state")
    listed = [f"accounts.{key}" for key in sorted(wanted or known)]
    _show(arguments, {"addresses": [*listed]}, "".join(f"{name}\n" for name in listed))
    return Exit.DONE


def state_show(arguments: argparse.Namespace) -> int:
    """Show one account in state."""
    from reconciler import states
    from reconciler.core.state import record_json

    project, _ = project_of(arguments)
    state = states.read(project)
    key = key_of(arguments.address)
    if state is None or key not in state.accounts:
        raise Problem(f"accounts.{key} is not in state; `reconciler state list` tells what is")
    print_json(record_json(state.accounts[key]))
    return Exit.DONE


def state_mv(arguments: argparse.Namespace) -> int:
    """Give an account another address."""
    from reconciler import states

    project, options = project_of(arguments)
    old, new = key_of(arguments.old), key_of(arguments.new)
    state = states.move(project, old, new, options)
    text = f"accounts.{old} is accounts.{new} now. Rename it in the files, too.\n"
    keys: JsonObject = {"from": f"accounts.{old}", "to": f"accounts.{new}"}
    _show(arguments, {**keys, "serial": state.serial}, text)
    return Exit.DONE


def state_rm(arguments: argparse.Namespace) -> int:
    """Forget accounts."""
    from reconciler import states

    project, options = project_of(arguments)
    keys = sorted({key_of(name) for name in arguments.addresses})
    before, after = states.remove(project, keys, options)
    ids = {key: before.accounts[key].id if key in before.accounts else None for key in keys}
    text = "".join(
        f"accounts.{key} is forgotten; on the platform it stays as it is{f' ({of})' if of else ''}.\n"
        for key, of in ids.items()
    )
    forgotten: JsonObject = {
        "forgotten": [{"address": f"accounts.{key}", "id": of} for key, of in ids.items()]
    }
    _show(arguments, {**forgotten, "serial": after.serial}, text)
    return Exit.DONE


def state_pull(arguments: argparse.Namespace) -> int:
    """Print the whole state, as `push` takes it."""
    from reconciler import states

    project, _ = project_of(arguments)
    sys.stdout.buffer.write(states.pull(project))
    sys.stdout.buffer.flush()
    return Exit.DONE


def state_push(arguments: argparse.Namespace) -> int:
    """Put a state that was pulled in the place of the present one."""
    from reconciler import states

    project, options = project_of(arguments)
    name = arguments.file
    text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    state, changed = states.push(project, text, options, force=arguments.force)
    _show(
        arguments,
        {"changed": changed, "lineage": state.lineage, "serial": state.serial},
        f"Pushed: {_summary(state)}.\n" if changed else "That is the state already.\n",
    )
    return Exit.DONE


def state_history(arguments: argparse.Namespace) -> int:
    """List the generations that are kept."""
    from reconciler import states

    project, _ = project_of(arguments)
    kept = states.history(project)
    lines = [f"serial {generation.serial:<8} {generation.saved_at}\n" for generation in kept]
    _show(
        arguments,
        {"generations": [asdict(generation) for generation in kept]},
        "".join(lines) or "No generations are kept.\n",
    )
    return Exit.DONE


def state_restore(arguments: argparse.Namespace) -> int:
    """Put a generation in the place of the state."""
    from reconciler import states

    def approve(chosen: State, present: Present) -> bool:
        print(f"There now: {_described(present)}.\nRestored: {_summary(chosen)}.", file=sys.stderr)
        question = "Restore it? Only `yes` is taken: "
        return confirmed(question, waived=arguments.auto_approve)

    project, options = project_of(arguments)
    state = states.restore(project, arguments.serial, options, approve)
    _show(
        arguments,
        {
            "restored": arguments.serial if state else None,
            "serial": state.serial if state else None,
        },
        f"Restored as serial {state.serial}. `reconciler plan` shows what differs.\n"
        if state
        else _DECLINED,
    )
    return Exit.DONE if state else Exit.FAILED


def state_migrate(arguments: argparse.Namespace) -> int:
    """Copy the state to another place."""
    from reconciler import states

    project, options = project_of(arguments)
    state = states.migrate(project, arguments.to, options, force=arguments.force)
    _show(
        arguments,
        {"lineage": state.lineage, "serial": state.serial},
        f"Copied: {_summary(state)}.\nNow let `state` in reconciler.yaml, or RECONCILER_STATE, name the new"
        " place; until then the old one is used. It keeps its copy.\n",
    )
    return Exit.DONE


def unlock(arguments: argparse.Namespace) -> int:
    """Take the lock away from its holder."""
    from reconciler import states

    def approve(holder: Holder) -> bool:
        print(f"The state is locked by {_safe(holder)}{_silence(holder)}.", file=sys.stderr)
        question = "If that run goes on, it can't save any more. Unlock? Only `yes` is taken: "
        return confirmed(question, waived=arguments.force, waiver="--force")

    project, _ = project_of(arguments)
    holder, unlocked = states.unlock(project, arguments.holder, approve)
    text = "Nothing is locked.\n" if holder is None else _DECLINED
    _show(
        arguments,
        {"unlocked": unlocked, "holder": asdict(holder) if holder else None},
        "Unlocked.\n" if unlocked else text,
    )
    return Exit.DONE if unlocked or holder is None else Exit.FAILED


def new_state(arguments: argparse.Namespace) -> int:
    """Begin anew where a state was lost."""
    from reconciler import states

    def approve(present: Present) -> bool:
        print(f"There now: {_described(present)}.", file=sys.stderr)
        question = "Begin anew, as if no account were managed yet? Only `yes` is taken: "
        return confirmed(question, waived=arguments.auto_approve)

    arguments.chdir = str(Path(arguments.chdir) / arguments.directory)
    project, options = project_of(arguments)
    present, discarded = states.begin_anew(project, options, approve)
    there = present.state is not None or present.problem != ""
    text = _DECLINED if there else "There is no state, and there never was one.\n"
    _show(
        arguments,
        {"discarded": discarded, "serial": present.state.serial if present.state else None},
        _BEGUN if discarded else text,
    )
    return Exit.DONE if discarded or not there else Exit.FAILED


_DECLINED = "Not approved; nothing was done.\n"
_BEGUN = (
    "The next apply begins a new state. Take the accounts that exist under management again: declare"
    " `id:`, or `reconciler import KEY ID`. What was there is kept: `reconciler state history`.\n"
)


def _show(arguments: argparse.Namespace, keys: JsonObject, text: str) -> None:
    from reconciler.render.jsondoc import answer

    output(arguments, lambda: answer(arguments.command, keys), lambda: print(text, end=""))


def _addresses(keys: list[str]) -> str:
    return ", ".join(f"accounts.{key}" for key in keys)


def _summary(state: State) -> str:
    return f"serial {state.serial} of lineage {state.lineage}, {len(state.accounts)} accounts"


def _described(present: Present) -> str:
    from reconciler.render.safe import terminal

    if present.state is not None:
        return _summary(present.state)
    return terminal(present.problem) or "no state"


def _safe(holder: Holder) -> str:
    from reconciler.render.safe import terminal

    return terminal(str(holder))


def _silence(holder: Holder) -> str:
    """How long ago the last sign of life was, as far as this machine's clock can tell."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(holder.heartbeat)
    except (ValueError, TypeError):
        return ""
    return f" ({age.total_seconds():.0f} seconds ago by this machine's clock)"
