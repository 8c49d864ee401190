"""What every place for state promises (docs/state.md), as tests.

A backend's test module has a subclass whose fixture `place` says where, and how to do harm there:

    class TestLocal(Contract):
        @pytest.fixture
        def place(self, tmp_path: Path) -> LocalPlace: ...

Runs in other processes open the place by `open_backend` alone, so that must know the backend. What
a place can't do by its nature, its class attributes say; then its refusal is tested instead.
RACE_ROUNDS says how often runs race for the lock.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import pytest

from reconciler.backends.backend import Locked, Unwritable
from reconciler.core.state import Entry, Intent, Owed, Unusable, fold
from reconciler.core.values import AccountId

from . import other_run
from .other_run import OTHER_LINEAGE, Opening, a_state, an_entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reconciler.backends.backend import Backend, StateWriter
    from reconciler.core.state import State

RACE_ROUNDS = int(os.environ.get("RACE_ROUNDS", "10"))
RACERS = 3
HEARTBEAT, LEASE, POLL = 0.1, 1.0, 0.02
LONG = 60.0

Harm = Literal["gone", "empty", "cut", "flipped"]


class Place(Protocol):
    """Where the tests of a backend keep state, and what can happen to it behind the tool's back."""

    @property
    def named(self) -> str:
        """The key `state` of a project."""

    @property
    def directory(self) -> Path:
        """Of that project."""

    @property
    def environment(self) -> dict[str, str]:
        """Credentials and the key."""

    def copy(self) -> object:
        """The state as it lies there, without the lock and what it remembers."""

    def put(self, copy: object) -> None:
        """Put a copy of a state there, perhaps of another place, in place of the state."""

    def harm(self, how: Harm) -> None:
        """Damage the state. `pytest.skip` what can't happen."""

    def empty_twin(self) -> Place:
        """Another place of the same kind, where no state ever was."""


def opening(place: Place, lease: float = LEASE) -> Opening:
    return Opening(place.named, str(place.directory), place.environment, HEARTBEAT, lease, POLL)


def open_again(place: Place, lease: float = LEASE) -> Backend:
    """The place, as another run would open it."""
    return opening(place, lease).open()


@contextmanager
def locked(place: Place, run: str = "run-1", timeout: float = 0.0) -> Iterator[StateWriter]:
    with open_again(place).lock(run, "reconciler apply", timeout) as writer:
        yield writer


def save(place: Place, *serials: int) -> None:
    """Save states with these serials and one account each, one after the other."""
    with locked(place) as writer:
        for serial in serials:
            writer.save(a_state(serial, f"a{serial}"))


class Run:
    """Another run, in a process of its own (`other_run.py`)."""

    def __init__(self, place: Place, name: str, witness: Path, lease: float) -> None:
        argument = json.dumps([asdict(opening(place, lease)), name, str(witness)])
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, other_run.__file__, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, *words: object) -> str:
        self.tell(*words)
        return self.answer()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Runs:
    """Starts other runs, and ends them."""

    def __init__(self, place: Place, witness: Path) -> None:
        self._place = place
        self._witness = witness
        self._stack = ExitStack()

    def start(self, *names: str, lease: float = LEASE) -> list[Run]:
        started = [Run(self._place, name, self._witness, lease) for name in names]
        for run in started:
            self._stack.enter_context(run.process)
            self._stack.callback(run.kill)
        for run in started:
            assert run.answer() == "ready"
        return started

    def forget_witness(self) -> None:
        """After a holder was killed, which could not remove it."""
        self._witness.unlink()

    def end(self) -> None:
        self._stack.close()


class Contract:
    keeps_generations: ClassVar = True
    remembers: ClassVar = True
    """What was saved last: so a state that is gone, swapped or rolled back is noticed."""
    takes_over: ClassVar = True
    """Dead and silent holders. False for a protocol without leases: there `unlock` is the way."""
    has_leases: ClassVar = True
    """Signs of life, so that a silent holder can be told from one that is alive."""
    raises_serials: ClassVar = False
    """With every write, not only with those that change the state that `read` answers."""

    @pytest.fixture
    def runs(self, place: Place, tmp_path: Path) -> Iterator[Runs]:
        runs = Runs(place, tmp_path / "held")
        yield runs
        runs.end()

    def _has(self, place: Place, expected: State) -> None:
        found = open_again(place).read()
        if found is not None and self.raises_serials:
            expected = replace(expected, serial=max(expected.serial, found.serial))
        assert found == expected

    # --- state is what was saved ---

    def test_where_nothing_was_saved_there_is_no_state(self, place: Place) -> None:
        assert open_again(place).read() is None

    def test_what_was_saved_is_read(self, place: Place) -> None:
        with locked(place) as writer:
            assert writer.read() is None
            writer.save(a_state(1, "a", "b"))
            assert writer.read() == a_state(1, "a", "b")
            assert open_again(place).read() == a_state(1, "a", "b")
        with locked(place) as writer:
            writer.save(a_state(2, "b"))
        assert open_again(place).read() == a_state(2, "b")

    def test_what_is_open_and_sensitive_digests_are_kept(self, place: Place) -> None:
        intent = Intent("a", AccountId("root"), "A", "a.example.com", 5, "d", "run")
        owed = Owed(AccountId("7-x"), reseller=True, settings={"org": "B"}, run="run")
        begun = [Entry("intend", "a", intent=intent), Entry("owe", "", owed=owed)]
        with locked(place) as writer:
            writer.save(a_state(1))
            writer.journal(a_state(1), begun)
        for _ in ("from the journal", "from the state"):
            state = open_again(place).read()
            assert state is not None
            assert (state.intents, state.owed) == ({"a": intent}, {"7-x": owed})
            assert state.digest_key == a_state().digest_key
            with locked(place) as writer:
                writer.save(state)

    def test_saving_the_same_again_changes_nothing(self, place: Place) -> None:
        save(place, 1)
        with locked(place) as writer:
            writer.save(a_state(1, "a1"))
        assert open_again(place).read() == a_state(1, "a1")
        assert list(open_again(place).history()) == []

    @pytest.mark.parametrize(
        "wrong", [a_state(2, "z"), a_state(1, "z"), a_state(5, "z", lineage=OTHER_LINEAGE)]
    )
    def test_a_serial_that_does_not_rise_and_another_lineage_are_refused(
        self, place: Place, wrong: object
    ) -> None:
        save(place, 1, 2)
        with locked(place) as writer, pytest.raises(Unwritable, match=r"serial|lineage"):
            writer.save(wrong)  # type: ignore[arg-type]
        assert open_again(place).read() == a_state(2, "a2")

    # --- the journal ---

    def test_the_journal_is_read_with_the_state(self, place: Place) -> None:
        with locked(place) as writer:
            writer.save(a_state(1))
            writer.journal(a_state(1), [])
            assert open_again(place).read() == a_state(1)
            writer.journal(a_state(1), [an_entry("a"), an_entry("b")])
            writer.journal(a_state(1), [an_entry("c"), Entry("forget", "a")])
            self._has(place, a_state(2, "b", "c"))
            writer.save(a_state(2, "b", "c"))
        self._has(place, a_state(2, "b", "c"))

    def test_a_journal_that_came_to_nothing_leaves_the_state_as_it_was(self, place: Place) -> None:
        save(place, 1)
        with locked(place) as writer:
            state = writer.read()
            assert state is not None
            writer.journal(state, [])
            writer.journal(state, [an_entry("b"), Entry("forget", "b")])
            writer.save(state)
        with locked(place) as writer:
            assert writer.read() == a_state(1, "a1")
            writer.journal(a_state(1, "a1"), [an_entry("c")])
        assert open_again(place).read() == a_state(2, "a1", "c")

    def test_the_journal_of_a_killed_run_is_folded_in_by_the_next(
        self, place: Place, runs: Runs
    ) -> None:
        (dead,) = runs.start("dead")
        assert dead.ask("lock", 0) == "held"
        assert dead.ask("save", 1) == "saved"
        assert dead.ask("journal", "a", "b") == "written"
        self._end(place, dead)
        after = fold(a_state(1), [an_entry("a"), an_entry("b")])
        assert open_again(place).read() == after
        with locked(place, timeout=LONG) as writer:
            assert writer.read() == after
            writer.journal(after, [an_entry("c")])  # and again it is killed, or might be
        with locked(place) as writer:
            last = writer.read()
            assert last == fold(after, [an_entry("c")])
            writer.save(last)
        assert open_again(place).read() == a_state(3, "a", "b", "c")

    def test_saving_past_a_dead_run_s_journal_is_refused(self, place: Place) -> None:
        with locked(place) as writer:
            writer.save(a_state(1))
            writer.journal(a_state(1), [an_entry("a")])
        with locked(place) as writer, pytest.raises(Unwritable, match="serial"):
            writer.save(a_state(2, "z"))
        assert open_again(place).read() == a_state(2, "a")

    # --- the lock ---

    def test_a_lock_that_is_held_names_its_holder(self, place: Place, runs: Runs) -> None:
        (other,) = runs.start("other")
        assert open_again(place).holder() is None
        assert other.ask("lock", 0) == "held"
        with pytest.raises(Locked) as caught, locked(place):
            raise AssertionError
        for holder in (caught.value.holder, open_again(place).holder()):
            assert holder is not None
            assert (holder.run, holder.pid) == ("other", other.process.pid)
            assert holder.command == "reconciler apply"
            assert holder.since
            assert bool(holder.heartbeat) is self.has_leases
        assert other.ask("release") == "released"
        assert open_again(place).holder() is None
        with locked(place):
            pass

    def test_one_waits_for_a_lock_that_is_let_go(self, runs: Runs) -> None:
        holder, waiter = runs.start("holder", "waiter")
        assert holder.ask("lock", 0) == "held"
        waiter.tell("lock", LONG)
        assert holder.ask("save", 1) == "saved"
        assert holder.ask("release") == "released"
        assert waiter.answer() == "held"

    def test_a_holder_that_gives_signs_of_life_is_not_taken_over(
        self, place: Place, runs: Runs
    ) -> None:
        (holder,) = runs.start("holder")
        assert holder.ask("lock", 0) == "held"
        with pytest.raises(Locked), locked(place, timeout=LEASE * 2):
            raise AssertionError
        assert holder.ask("check") == "mine"
        assert holder.ask("save", 1) == "saved"

    def test_a_killed_holder_on_this_host_is_taken_over_at_once(
        self, place: Place, runs: Runs
    ) -> None:
        if not self.takes_over:
            pytest.skip("nobody is taken over here")
        (dead,) = runs.start("dead", lease=LONG)
        assert dead.ask("lock", 0) == "held"
        dead.kill()
        with open_again(place, lease=LONG).lock("run-2", "reconciler apply", 0) as writer:
            writer.save(a_state(1))
        assert open_again(place).read() == a_state(1)

    def test_a_silent_holder_is_taken_over_after_its_lease_and_never_writes_again(
        self, place: Place, runs: Runs
    ) -> None:
        if not (self.takes_over and self.has_leases):
            pytest.skip("a silent holder is waited for here")
        (silent,) = runs.start("silent")
        assert silent.ask("lock", 0) == "held"
        assert silent.ask("save", 1) == "saved"
        assert silent.ask("journal", "a") == "written"
        silent.stop()
        with pytest.raises(Locked), locked(place):  # its last sign of life is fresh
            raise AssertionError
        time.sleep(LEASE)
        with locked(place, "run-2") as writer:  # no longer, so it is watched although timeout is 0
            assert writer.read() == a_state(2, "a")
            self._wakes_to_nothing(silent)
            writer.journal(a_state(2, "a"), [an_entry("b")])
            assert silent.ask("journal", "z") == "Lost"
            writer.save(a_state(3, "a", "b"))
            assert silent.ask("save", 4, "z") == "Lost"
        assert silent.ask("save", 5, "z") == "Lost"
        assert silent.ask("release") == "released"
        assert open_again(place).holder() is None
        assert open_again(place).read() == a_state(3, "a", "b")

    def test_unlock_takes_the_lock_from_that_run_only(self, place: Place, runs: Runs) -> None:
        (holder,) = runs.start("holder")
        assert holder.ask("lock", 0) == "held"
        assert holder.ask("save", 1) == "saved"
        open_again(place).unlock("another")
        assert holder.ask("save", 2) == "saved"
        open_again(place).unlock("holder")
        assert open_again(place).holder() is None
        self._wakes_to_nothing(holder)
        with locked(place) as writer:
            assert holder.ask("release") == "released"
            writer.save(a_state(3, "a"))
        assert open_again(place).read() == a_state(3, "a")

    def _wakes_to_nothing(self, run: Run) -> None:
        """Wake a run that has lost its lock: it can do nothing more."""
        run.wake()
        assert run.ask("journal", "z") == "Lost"
        assert run.ask("save", 9, "z") == "Lost"
        until = time.monotonic() + LONG
        while run.ask("check") != "Lost":  # found out by the next sign of life at the latest
            assert time.monotonic() < until

    def _end(self, place: Place, run: Run) -> None:
        run.kill()
        if not self.takes_over:
            open_again(place).unlock(run.name)

    def test_two_never_hold_the_lock_at_once(self, runs: Runs) -> None:
        racers = runs.start(*(f"racer-{n}" for n in range(RACERS)))
        for _ in range(RACE_ROUNDS):
            self._race(racers).ask("release")

    def test_one_of_many_takes_over_from_the_dead(self, runs: Runs) -> None:
        if not self.takes_over:
            pytest.skip("nobody is taken over here")
        racers = runs.start(*(f"racer-{n}" for n in range(RACERS + 1)))
        while len(racers) > 1:
            winner = self._race(racers)
            winner.kill()
            runs.forget_witness()
            racers.remove(winner)

    def _race(self, racers: list[Run]) -> Run:
        """All ask for the lock at the same time. Returns the one that got it."""
        for racer in racers:
            racer.tell("lock", 0)
        answers = {racer: racer.answer() for racer in racers}
        (winner,) = [racer for racer, answer in answers.items() if answer == "held"]
        del answers[winner]
        assert set(answers.values()) <= {f"locked by {winner.name}"}
        return winner

    # --- what can't be trusted is never no state ---

    @pytest.mark.parametrize("how", ["empty", "cut", "flipped", "gone"])
    def test_a_damaged_state_is_refused(self, place: Place, how: Harm) -> None:
        if how == "gone" and not self.remembers:
            pytest.skip("nothing tells it from a place where nothing was saved")
        save(place, 1, 2)
        place.harm(how)
        with pytest.raises(Unusable):
            open_again(place).read()
        with locked(place) as writer:
            with pytest.raises(Unusable):
                writer.read()
            with pytest.raises(Unusable):
                writer.save(a_state(3))

    def test_the_state_of_another_environment_is_refused(self, place: Place) -> None:
        twin = place.empty_twin()
        with locked(twin) as writer:
            writer.save(a_state(7, lineage=OTHER_LINEAGE))
        save(place, 1)
        place.put(twin.copy())
        self._is_refused(place, "lineage")

    def test_a_state_that_was_rolled_back_is_refused(self, place: Place) -> None:
        save(place, 1)
        old = place.copy()
        save(place, 2)
        place.put(old)
        self._is_refused(place, "rolled back")

    def _is_refused(self, place: Place, why: str) -> None:
        if not self.remembers:
            pytest.skip("nothing remembers what was saved here")
        with pytest.raises(Unusable, match=why):
            open_again(place).read()
        with locked(place) as writer, pytest.raises(Unusable, match=why):
            writer.save(a_state(3))

    @pytest.mark.parametrize("how", ["gone", "empty", "flipped", None])
    def test_discarding_begins_anew_whatever_is_there(self, place: Place, how: Harm | None) -> None:
        save(place, 7, 8)
        if how is not None:
            place.harm(how)
        with locked(place) as writer:
            writer.discard()
            assert writer.read() is None
            assert open_again(place).read() is None
            writer.save(a_state(1, "new", lineage=OTHER_LINEAGE))
        self._has(place, a_state(1, "new", lineage=OTHER_LINEAGE))

    def test_discarding_is_remembered(self, place: Place) -> None:
        save(place, 1, 2)
        with locked(place) as writer:
            writer.discard()
        assert open_again(place).read() is None
        with locked(place) as writer:
            assert writer.read() is None

    @pytest.mark.parametrize("how", ["gone", "empty", "flipped", None])
    def test_whatever_is_there_can_be_replaced(self, place: Place, how: Harm | None) -> None:
        save(place, 7, 8)
        if how is not None:
            place.harm(how)
        with locked(place) as writer:
            writer.replace(a_state(9, "restored"))
            assert writer.read() == a_state(9, "restored")
            writer.journal(a_state(9, "restored"), [an_entry("b")])
            writer.save(a_state(10, "restored", "b"))
        with locked(place) as writer:
            writer.replace(a_state(3, "pushed", lineage=OTHER_LINEAGE))
        self._has(place, a_state(3, "pushed", lineage=OTHER_LINEAGE))

    # --- generations ---

    def test_what_was_replaced_is_kept(self, place: Place) -> None:
        save(place, *range(1, 14))
        kept = open_again(place).history()
        if not self.keeps_generations:
            assert list(kept) == []
            with pytest.raises(Unusable, match="generation"):
                open_again(place).generation(12)
            return
        assert [generation.serial for generation in kept] == list(range(12, 2, -1))
        assert all(generation.saved_at for generation in kept)
        assert open_again(place).generation(5) == a_state(5, "a5")
        with pytest.raises(Unusable, match="generation"):
            open_again(place).generation(99)

    @pytest.mark.parametrize("how", ["discarded", "replaced"])
    def test_what_was_discarded_or_replaced_is_a_generation(self, place: Place, how: str) -> None:
        if not self.keeps_generations:
            pytest.skip("none are kept")
        with locked(place) as writer:
            writer.save(a_state(1))
            writer.journal(a_state(1), [an_entry("a")])
        with locked(place) as writer:
            if how == "discarded":
                writer.discard()
            else:
                writer.replace(a_state(1, lineage=OTHER_LINEAGE))
        assert open_again(place).history()[0].serial == 2
        assert open_again(place).generation(2) == a_state(2, "a")
