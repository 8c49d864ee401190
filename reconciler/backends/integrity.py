"""What tells a state that was lost, swapped or rolled back from one that is as it was left.

A checksum finds damage inside a state, not an older one that is whole. So every place remembers,
beside its lock, what was saved last: its `Witness`. It is written after the state, and read before
it, so that a state may be newer than its witness and never older.

Source: docs/state.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler.backends.backend import Unwritable
from reconciler.core.state import Unusable

if TYPE_CHECKING:
    from reconciler.core.state import State


@dataclass(frozen=True, slots=True)
class Witness:
    """What was saved last. Without a lineage: what was there has been discarded."""

    lineage: str
    serial: int
    encrypted: bool = False

    def check_gone(self) -> None:
        """Raises: Unusable if there must be a state."""
        if self.lineage:
            raise Unusable(
                f"it is gone: serial {self.serial} of lineage {self.lineage} was saved here. Restore a"
                " generation (`reconciler state restore`), or begin anew by `reconciler init --new-state`"
            )

    def check(self, state: State, *, encrypted: bool) -> None:
        """Raises: Unusable if `state` can't be what was saved last, or came after it."""
        if not self.lineage:
            return
        if state.lineage != self.lineage:
            raise Unusable(
                f"it is another state: its lineage is {state.lineage}, but {self.lineage} was saved"
                " here. Put the right one back, or begin anew by `reconciler init --new-state`"
            )
        if state.serial < self.serial:
            raise Unusable(
                f"it was rolled back: its serial is {state.serial}, but {self.serial} was saved here"
                " last. Put that one back, or take this one on purpose by `reconciler state restore`"
            )
        if self.encrypted and not encrypted:
            raise Unusable(
                "it is not encrypted, but what was saved here last was: somebody else wrote it. Put"
                " the right one back"
            )


DISCARDED: Final = Witness("", 0)
"""What a place remembers when it was begun anew."""


def check_next(known: State | None, new: State) -> None:
    """Make sure that `new` may be saved where `known` is. Raises: Unwritable."""
    if known is None or new == known:
        return
    if new.lineage != known.lineage:
        raise Unwritable(
            f"The state here has the lineage {known.lineage}, the new one {new.lineage}: they are not"
            " versions of one another."
        )
    if new.serial <= known.serial:
        raise Unwritable(
            f"The state here has the serial {known.serial}, the new one {new.serial}, and it is another:"
            " serials only rise."
        )
