"""A project whose state is in PostgreSQL: plan, apply, and a run that is killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.backend import open_backend

from .conftest import wait_for
from .test_bad_days import a_small_tree, struck

if TYPE_CHECKING:
    from reconciler.core.state import State
    from tests.conftest import PostgresServer

    from .conftest import Project, World


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url(postgres.new_database(), "state=prod")


def state_at(url: str, project: Project) -> State:
    state = open_backend(url, project.directory, {}).read()
    assert state is not None
    return state


def test_plan_and_apply_as_with_a_file(release: World, project: Project, url: str) -> None:
    project.declare(a_small_tree(), state=url)
    planned = project.plan()
    assert planned.code == 2, planned.err
    assert open_backend(url, project.directory, {}).read() is None
    project.settle()
    assert state_at(url, project).accounts.keys() == a_small_tree().keys()
    assert release.names() == sorted(a_small_tree())
    project.declare({**a_small_tree(), "one-more": {}}, state=url)
    project.settle()
    assert state_at(url, project).accounts.keys() == {*a_small_tree(), "one-more"}
    assert not project.state_file.exists()


@pytest.mark.parametrize("writes", [1, 4])
def test_after_kill_9_one_plain_apply_converges(
    release: World, project: Project, url: str, writes: int
) -> None:
    """The process dies while the platform holds back the answer of the Nth write."""
    project.declare(a_small_tree(), state=url)
    release.fault(
        path="^/accounts/.*", method="PUT", nth=writes, times=None, phase="after", delay_ms=400
    )
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(lambda: len(release.writes) >= writes and struck(release, writes))
        process.kill()
        process.communicate()
    release.platform.faults.clear()
    time.sleep(0.4)  # the platform carries out what it was asked, whoever listens
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert release.names() == sorted(a_small_tree())
    assert project.plan().code == 0
    assert state_at(url, project).intents == {}


def test_a_run_that_holds_the_lock_is_named(release: World, project: Project, url: str) -> None:
    project.declare(a_small_tree(), state=url)
    release.fault(path="^/accounts/.*", method="PUT", nth=2, delay_ms=1500)
    with project.start("apply", "--auto-approve", "--parallelism", "1") as process:
        wait_for(lambda: struck(release, 2))
        refused = project.apply()
        assert refused.code == 4
        assert f"pid {process.pid}" in refused.err
        process.communicate()
    assert process.returncode == 0


def test_no_secret_of_the_url_is_shown(release: World, project: Project) -> None:
    for url in (
        "postgresql://bob:hunter2@127.0.0.1:1/tel",
        "postgresql://bob@127.0.0.1:1/tel?application_name=hunter2",
    ):
        project.declare(a_small_tree(), state=url)
        for ended in (project.plan(), project.apply(), project.run("validate")):
            assert "bob" not in ended.out + ended.err
            assert "hunter2" not in ended.out + ended.err
        assert project.plan().code == 1
    assert release.writes == []
