"""Delivers, and never hangs: each in a thread of its own, all within one limit of time."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LIMIT: Final = 10.0
"""Seconds, for all that is told of a run together."""


class Undelivered(Exception):
    """Something could not be told. The text is fit for everybody: no address, no secret."""


def silence(*libraries: str) -> None:
    """Keep what libraries log of their requests from everybody: it may hold a URL's secret."""
    for name in libraries:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def deliver(tasks: Mapping[str, Callable[[], None]]) -> list[str]:
    """Run `tasks` side by side. Answers for each that failed its name and why; no secret in it.

    Whatever a task raises is a failure like others. One that does not end in time is left behind:
    its thread ends with the program.
    """
    ended: dict[str, str] = {}

    def run(name: str, task: Callable[[], None]) -> None:
        try:
            task()
        except Undelivered as error:
            ended[name] = str(error)
        except Exception as error:  # noqa: BLE001 - what a library raises may have a URL in its text
            ended[name] = type(error).__name__
        else:
            ended[name] = ""

    threads = [threading.Thread(target=run, args=task, daemon=True) for task in tasks.items()]
    until = time.monotonic() + LIMIT
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"it took more than {LIMIT:g} seconds"
    return [f"{name}: {ended.get(name, late)}" for name in tasks if ended.get(name, late)]
