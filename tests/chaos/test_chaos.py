"""A sample of what `make chaos` does in full; and that it would find what it looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from chaos.crash import crash_all
from chaos.hunts import HUNTS, hunt
from chaos.invariants import unsynced
from chaos.machine import Year
from chaos.places import OPENED
from chaos.plants import PLANTS
from chaos.scenarios import SCENARIOS, Scenario
from chaos.schedules import run_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_one_plain_run_mends_what_a_kill_left(scenario: Scenario, tripwire: Path) -> None:
    with OPENED["local"]() as place:
        tally = crash_all(scenario, tripwire, place, every=29)
    assert tally.points > 0
    assert tally.violations == []


@pytest.mark.parametrize("kind", ["postgresql", "s3", "http"])
def test_a_kill_is_mended_wherever_state_is_kept(kind: str, tripwire: Path) -> None:
    mixture = next(scenario for scenario in SCENARIOS if scenario.name == "mixture")
    with OPENED[kind]() as place:
        tally = crash_all(mixture, tripwire, place, every=97)
    assert tally.points > 0
    assert tally.violations == []


def test_one_plain_run_mends_what_a_bad_day_left() -> None:
    found = run_all(range(240))
    assert found.schedules == 240
    assert len(found.ends) > 1  # some of the days were bad
    assert found.violations == []


def test_a_year_of_edits_crashes_and_applies(tripwire: Path) -> None:
    Year.tripwire = tripwire
    quick = settings(
        max_examples=4, stateful_step_count=12, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Year, settings=quick)


def test_each_planted_bug_has_its_hunt() -> None:
    assert PLANTS.keys() == HUNTS.keys()
    assert len(PLANTS) == 10


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str, tripwire: Path) -> None:
    assert hunt(name, None, tripwire) == []
    assert hunt(name, name, tripwire) != []


def test_what_is_not_on_the_disk_when_something_rests_on_it_is_told() -> None:
    assert not [*unsynced(["write /a", "fsync /a", "rename /b", "sendto socket"])]
    assert [*unsynced(["write /a", "sendto socket"])]
    assert [*unsynced(["write /a", "fsync /b", "rename /b"])]
