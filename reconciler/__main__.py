"""`reconciler`, and `python -m reconciler`."""

from __future__ import annotations

import signal
from typing import NoReturn


def run() -> NoReturn:
    """The program. An interrupt while it loads ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from reconciler.cli import run

    run()


if __name__ == "__main__":
    run()
