"""What the exit status means, and what is wrong with a command line."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """What the exit status means."""

    DONE = 0
    FAILED = 1
    CHANGES = 2
    REFUSED = 3
    LOCKED = 4
    PARTLY = 5


INTERRUPTED: Final = 128
"""Plus the number of the signal, as shells do it."""


class Problem(Exception):
    """Something about the arguments that argparse can't tell."""
