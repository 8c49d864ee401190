"""The commands that look after state itself, told as steps. None of them asks the platform.

What loses something is only done if `approve` says so, or by force. Where a state can't be read
any more, it can still be replaced: by a generation, by one that is pushed, or by none.

Source: docs/state.md, "By hand".
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from reconciler import workflow
from reconciler.backends.backend import open_backend
from reconciler.backends.codec import codec_from
from reconciler.core.configuration import Invalid
from reconciler.core.state import Unusable, rekeyed, without
from reconciler.core.values import AccountId, address, is_key
from reconciler.workflow import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reconciler.backends.backend import Backend, Generation, Holder, StateReader, StateWriter
    from reconciler.config.project import Project
    from reconciler.core.state import State
    from reconciler.core.values import Key
    from reconciler.workflow import Options


class NeedsForce(Exception):
    """Something would be lost."""

    def __str__(self) -> str:
        return f"{self.args[0]} `--force` does it all the same."


@dataclass(frozen=True, slots=True)
class Present:
    """What a place has now: a state, none, or one that can't be used, and why."""

    state: State | None = None
    problem: str = ""


def read(project: Project) -> State | None:
    """The state; None if there never was one. Raises: Invalid, Unusable."""
    return _place(project).read()


def pull(project: Project) -> bytes:
    """The whole state as text, encrypted if there is a key. Raises: Invalid, Unusable, Unknown."""
    return codec_from(project.environment).encode(_there(read(project)))


def push(project: Project, text: bytes, options: Options, *, force: bool) -> tuple[State, bool]:
    """Put what `pull` answered in the place of the state; and whether that changed anything.

    Without `force` it must be a later version of what is there. With it, it becomes one.
    Raises: Invalid, HostMismatch, Unusable, Unwritable, Locked, NeedsForce.
    """
    try:
        pushed = codec_from(project.environment).decode(text)
    except Unusable as error:
        raise Unusable(f"the pushed state: {error}") from error
    place = _place(project)
    workflow.check_identity(project, pushed, AccountId(project.root or pushed.root))
    with _locked(place, options) as writer:
        present = _present(writer)
        if pushed == present.state:
            return pushed, False
        if not force:
            _check_successor(present, pushed)
        serial = max(pushed.serial, _next_serial(place, present))
        return _put(writer, replace(pushed, serial=serial)), True


def move(project: Project, old: Key, new: Key, options: Options) -> State:
    """Give an account another address. Returns the new state.

    Raises: Invalid, Unusable, Unwritable, Locked, Unknown.
    """
    if not is_key(new):
        raise Unknown(f"{new!r} is no key of an account: [A-Za-z0-9][A-Za-z0-9_-]{{0,63}}.")
    with _locked(_place(project), options) as writer:
        state = _there(writer.read())
        _check_known(state, [old])
        if _knows(state, new):
            raise Unknown(f"{address(new)} is in state already.")
        state = rekeyed(state, old, new)
        writer.save(state)
        return state


def remove(project: Project, keys: Sequence[Key], options: Options) -> tuple[State, State]:
    """Forget accounts; on the platform they stay as they are. The state before, and after.

    Raises: Invalid, Unusable, Unwritable, Locked, Unknown.
    """
    with _locked(_place(project), options) as writer:
        before = _there(writer.read())
        _check_known(before, keys)
        after = without(before, keys)
        writer.save(after)
        return before, after


def history(project: Project) -> Sequence[Generation]:
    """The generations that are kept, the latest first. Raises: Invalid."""
    return _place(project).history()


def restore(
    project: Project, serial: int, options: Options, approve: Callable[[State, Present], bool]
) -> State | None:
    """Put a generation in the place of the state, with a serial of its own. None if declined.

    Raises: Invalid, Unusable, Unwritable, Locked.
    """
    place = _place(project)
    chosen = place.generation(serial)
    with _locked(place, options) as writer:
        present = _present(writer)
        if not approve(chosen, present):
            return None
        return _put(writer, replace(chosen, serial=_next_serial(place, present)))


def migrate(project: Project, to: str, options: Options, *, force: bool) -> State:
    """Copy the state to the place that `to` names as the key `state` would. Returns the copy.

    Raises: Invalid, Unusable, Unwritable, Locked, Unknown, NeedsForce.
    """
    if project.directory / to == project.directory / project.state:
        raise Unknown("That is where the state is already.")
    try:
        target = open_backend(to, project.directory, project.environment)
    except ValueError as error:
        raise Unknown(f"{error}.") from error
    with _locked(_place(project), options) as writer, _locked(target, options) as new_writer:
        state = _there(writer.read())
        present = _present(new_writer)
        if present != Present():
            if not force:
                raise NeedsForce(f"There is a state already: {_told(present)}.")
            state = replace(state, serial=max(state.serial, _next_serial(target, present)))
        return _put(new_writer, state)


def unlock(
    project: Project, run: str | None, approve: Callable[[Holder], bool]
) -> tuple[Holder | None, bool]:
    """Take the lock away from its holder, or from `run` alone: who had it, and whether it is gone.

    Raises: Invalid, Unusable, Unwritable, Unknown.
    """
    place = _place(project)
    holder = place.holder()
    if holder is None:
        return None, False
    if run not in (None, holder.run):
        raise Unknown(f"The lock is not that of the run {run}, but of {holder.run}: {holder}.")
    if not approve(holder):
        return holder, False
    place.unlock(holder.run)
    return holder, True


def begin_anew(
    project: Project, options: Options, approve: Callable[[Present], bool]
) -> tuple[Present, bool]:
    """From now on there never was a state: what there was, and whether it is discarded.

    Raises: Invalid, Unwritable, Locked.
    """
    with _locked(_place(project), options) as writer:
        present = _present(writer)
        if present == Present() or not approve(present):
            return present, False
        writer.discard()
        return present, True


# --- steps -----------------------------------------------------------------------------------


def _place(project: Project) -> Backend:
    """Where the state is kept, if `reconciler.yaml` is right. Raises: Invalid."""
    if project.problems:
        raise Invalid(project.problems)
    return workflow.backend(project)


@contextmanager
def _locked(place: Backend, options: Options) -> Iterator[StateWriter]:
    with place.lock(uuid4().hex, options.command, options.lock_timeout) as writer:
        yield writer


def _present(reader: StateReader) -> Present:
    try:
        return Present(reader.read())
    except Unusable as error:
        return Present(problem=str(error))


def _told(present: Present) -> str:
    state = present.state
    return f"lineage {state.lineage}, serial {state.serial}" if state else present.problem


def _there(state: State | None) -> State:
    """The state. Raises: Unknown if there is none."""
    if state is None:
        raise Unknown("There is no state yet; `reconciler apply` makes it.")
    return state


def _knows(state: State, key: Key) -> bool:
    return key in state.accounts or key in state.intents


def _check_known(state: State, keys: Sequence[Key]) -> None:
    """Raises: Unknown, naming all that are not in state."""
    unknown = [address(key) for key in keys if not _knows(state, key)]
    if unknown:
        raise Unknown(
            f"{', '.join(unknown)}: not in state. Nothing was done; `reconciler state list` tells what is."
        )


def _check_successor(present: Present, pushed: State) -> None:
    """Raises: Unusable, NeedsForce if the pushed state is no later version of what is there."""
    if present.problem:
        raise Unusable(f"{present.problem}. `state push --force` replaces it")
    there = present.state
    if there is None:
        return
    if pushed.lineage != there.lineage:
        raise NeedsForce(
            f"The pushed state has the lineage {pushed.lineage}, the one that is there {there.lineage}: they"
            " are not versions of one another."
        )
    if pushed.serial <= there.serial:
        raise NeedsForce(
            f"The pushed state has serial {pushed.serial}, the one that is there {there.serial}: what was done"
            " since would be lost. Look at `reconciler state pull`."
        )


def _next_serial(place: Backend, present: Present) -> int:
    """Above every serial that is known.

    A state that can't be read came after the generations, so its serial is left out, too.
    """
    if present.state is not None:
        return present.state.serial + 1
    highest = max((generation.serial for generation in place.history()), default=0)
    return highest + (2 if present.problem else 1)


def _put(writer: StateWriter, state: State) -> State:
    """Put the state there, whatever is there now; and how it is there then."""
    writer.replace(state)
    return writer.read() or state
