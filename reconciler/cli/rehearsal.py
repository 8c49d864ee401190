"""Commands to try the tool with: the sandbox and the demonstration."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.exits import Exit
from reconciler.cli.output import print_json

if TYPE_CHECKING:
    import argparse

    from reconciler.core.values import JsonValue
    from reconciler.sandbox.server import Announcement


def sandbox(arguments: argparse.Namespace) -> int:
    """Serve the platform in small until a signal ends it."""
    from reconciler.sandbox.faults import parse_faults
    from reconciler.sandbox.options import SandboxOptions
    from reconciler.sandbox.server import run

    def announce(found: Announcement) -> None:
        lines = {
            "VINIX_API_URL": found.url,
            "VINIX_ACCOUNT_ID": found.root_id,
            "VINIX_API_KEY": found.api_key,
        }
        if arguments.format == "json":
            print_json({"url": found.url, "account_id": found.root_id, "api_key": found.api_key})
        else:
            print("The sandbox listens. Ctrl-C ends it.", file=sys.stderr)
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


def demo(arguments: argparse.Namespace) -> int:
    """Run the main job on the embedded sandbox."""
    from reconciler.cli import main
    from reconciler.demo import demo as demonstrate

    return demonstrate(main, keep=Path(arguments.keep) if arguments.keep else None)
