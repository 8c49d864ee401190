"""Commands about the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.exits import Exit, Problem
from reconciler.cli.options import key_of, read_state
from reconciler.cli.output import print_json

if TYPE_CHECKING:
    import argparse


def state_list(arguments: argparse.Namespace) -> int:
    """List the addresses in state."""
    state = read_state(arguments)
    keys = sorted(state.accounts) if state else []
    if arguments.format == "json":
        print_json(
            {
                "format_version": "1",
                "command": "state list",
                "addresses": [f"accounts.{key}" for key in keys],
            }
        )
    else:
        print("".join(f"accounts.{key}\n" for key in keys), end="")
    return Exit.DONE


def state_show(arguments: argparse.Namespace) -> int:
    """Show one account in state."""
    from reconciler.core.state import record_json

    state = read_state(arguments)
    key = key_of(arguments.address)
    if state is None or key not in state.accounts:
        raise Problem(f"accounts.{key} is not in state; `reconciler state list` tells what is")
    print_json(record_json(state.accounts[key]))
    return Exit.DONE
