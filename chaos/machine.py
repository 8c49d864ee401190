"""A year of an operator's life, drawn by Hypothesis: edits, changes outside, crashes, bad days, applies.

The model is what is declared. Whenever an apply succeeds, the platform is as the model says, and
the accounts of strangers are as they were.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chaos import invariants
from chaos.crash import KILLED, Runner
from chaos.places import LOCAL
from chaos.scenarios import Scenario, account
from chaos.schedules import faults_of
from chaos.world import served
from reconciler.sandbox.faults import parse_faults
from reconciler.sandbox.options import ROOT_ID, SandboxOptions

if TYPE_CHECKING:
    import random

    from reconciler.core.values import JsonObject, JsonValue

KEYS: Final = tuple("abcdef")
_ROOT: Final = "root"
_POINTS: Final = 160


class Year(RuleBasedStateMachine):
    """One project on one platform. `tripwire` is set by whoever runs it."""

    tripwire: Path

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        options = SandboxOptions(rate_limit=False, log_requests=True, seed="chaos")
        self.world = self.stack.enter_context(served(options))
        scratch = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.runner = Runner(self.tripwire, scratch, self.world, LOCAL)
        self.stack.callback(self.runner.close)
        self.declared: dict[str, dict[str, JsonValue]] = {}
        self.removed: dict[str, bool] = {}
        self.strangers: dict[str, JsonObject] = {}
        self.serial = 0
        self.deletes = 0

    def teardown(self) -> None:
        """End all that was begun."""
        self.stack.close()

    @initialize()
    def begin(self) -> None:
        """Nothing is declared yet, and strangers have accounts already."""
        self.runner.begin()
        for name in ("Stranger", "Other"):
            made = self.world.call(
                "PUT",
                f"/accounts/{ROOT_ID}",
                {"name": name, "realm": f"{name.lower()}.example.com"},
            )
            self.strangers[made["id"]] = made
        self._write()

    # --- edits ---

    @rule(
        key=st.sampled_from(KEYS),
        parent=st.sampled_from([_ROOT, *KEYS]),
        reseller=st.sampled_from([None, True, False]),
    )
    def declare(self, key: str, parent: str, reseller: bool | None) -> None:
        """An account comes, or gets another place or rank."""
        if parent != _ROOT and (parent not in self.declared or key in self._way(parent)):
            parent = _ROOT
        block = {"org": self.declared.get(key, {}).get("org", "Org"), "parent": parent}
        self.declared[key] = block | ({} if reseller is None else {"reseller": reseller})
        self.removed.pop(key, None)
        self._write()

    @precondition(lambda self: self.declared)
    @rule(
        data=st.data(),
        field=st.sampled_from(["org", "language", "timezone"]),
        value=st.sampled_from(["Europe/Paris", "Asia/Tokyo", "Etc/UTC"]),
    )
    def edit(self, data: st.DataObject, field: str, value: str) -> None:
        """A setting is declared, or changed."""
        self.declared[data.draw(st.sampled_from(sorted(self.declared)))][field] = value
        self._write()

    @precondition(lambda self: self.declared)
    @rule(data=st.data(), destroy=st.booleans())
    def withdraw(self, data: st.DataObject, destroy: bool) -> None:
        """An account without others below it leaves the files: to be deleted, or forgotten."""
        parents = {block["parent"] for block in self.declared.values()}
        leaves = sorted(self.declared.keys() - parents)
        key = data.draw(st.sampled_from(leaves))
        del self.declared[key]
        self.removed[key] = destroy
        self._write()

    # --- others ---

    @rule(lot=st.randoms(use_true_random=False), value=st.sampled_from(["Elsewhere", "Nowhere"]))
    def meddle(self, lot: random.Random, value: str) -> None:
        """Somebody changes an account behind Git's back."""
        records = [r for r in self.world.records() if r.id not in self.strangers]
        if records:
            record = lot.choice(records)
            self.world.call(
                "PATCH", f"/accounts/{record.id}", {"org": value, "enabled": record.enabled}
            )

    # --- runs ---

    @rule()
    def apply(self) -> None:
        """A plain apply succeeds, and then all is as it is declared."""
        self._apply()

    @rule(point=st.integers(1, _POINTS))
    def crash(self, point: int) -> None:
        """An apply is killed; the next one mends it."""
        status, _ = self.runner.run("apply", "--auto-approve", point=point)
        assert status in (0, KILLED), self._told(status)
        self._look()
        self._apply()

    @rule(lot=st.randoms(use_true_random=False))
    def bad_day(self, lot: random.Random) -> None:
        """The platform fails here and there; the next apply mends what is left."""
        self.world.platform.faults.add(*parse_faults([*faults_of(lot)]))
        status, _ = self.runner.run("apply", "--auto-approve")
        assert status in (0, 1, 3, 5), self._told(status)
        self.world.platform.faults.clear()
        self._look()
        self._apply()

    @rule(command=st.sampled_from(["plan", "drift", "validate", "show"]))
    def look(self, command: str) -> None:
        """What only looks sends no write."""
        before = len(self.world.writes())
        self.runner.run(command)
        assert len(self.world.writes()) == before

    @invariant()
    def strangers_are_left_alone(self) -> None:
        """Nobody asked to touch them."""
        for stranger, made in self.strangers.items():
            assert self.world.call("GET", f"/accounts/{stranger}") == made

    # --- steps ---

    def _way(self, key: str) -> set[str]:
        """The key, and those above it."""
        way = set()
        while key != _ROOT:
            way.add(key)
            key = str(self.declared[key]["parent"])
        return way

    @property
    def scenario(self) -> Scenario:
        """The project as it is declared now."""
        removed: list[JsonValue] = [
            {"account": k, "destroy": d} for k, d in sorted(self.removed.items())
        ]
        blocks = {key: account(key, **fields) for key, fields in self.declared.items()}
        return Scenario("year", {}, blocks, extra={"removed": removed}, deletes=self.deletes)

    def _write(self) -> None:
        self.runner.declare(self.scenario.project(after=True))

    def _look(self) -> None:
        """What must hold even in the moment of a crash."""
        state = self.runner.backend().read()
        self.deletes = sum(self.removed.values())
        found = list(invariants.after_crash(self.world, state, self.scenario))
        assert not found, self._told(found)

    def _apply(self) -> None:
        status, _ = self.runner.run("apply", "--auto-approve", "--allow", "reparent")
        assert status == 0, self._told(status)
        status, _ = self.runner.run("plan", "--detailed-exitcode")
        assert status == 0, self._told(status)
        state = self.runner.backend().read()
        if state is not None:
            assert state.serial >= self.serial
            self.serial = state.serial
            assert set(state.accounts) == set(self.declared)
            found = [
                *invariants.false_claims(self.world, state, frozenset()),
                *invariants.twins(self.world),
            ]
            assert not found, self._told(found)
        self.removed = {key: destroy for key, destroy in self.removed.items() if not destroy}
        self.world.platform.log.clear()
        self.deletes = 0
        self._write()

    def _told(self, what: object) -> str:
        return f"{what}\n{self.runner.output.read_text()[-4000:]}"
