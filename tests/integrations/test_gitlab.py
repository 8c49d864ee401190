"""The component of integrations/gitlab, with state at GitLab, from a merge request to drift that is gone."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from .jobs import ended

if TYPE_CHECKING:
    from .conftest import AtGitLab

ONE: dict[str, Any] = {"acme": {"timezone": "America/New_York"}}
TWO: dict[str, Any] = {**ONE, "globex": {}}
NONE: dict[str, Any] = {"removed": [{"account": key, "destroy": True} for key in TWO]}
"""What deletes both: more than a plan may without `--allow`."""


def test_from_a_merge_request_to_drift_that_is_gone(lab: AtGitLab) -> None:
    lab.commit(ONE)
    assert lab.run("validate").code == 0
    reviewed = lab.review()
    assert reviewed.code == 0, reviewed.log
    lab.commit(TWO)
    assert lab.review().code == 0
    (note,) = lab.host.comments
    assert "2 to create" in note["body"]
    assert lab.world.writes == []

    planned = lab.run("plan")
    assert planned.code == 0, planned.log
    applied = lab.run("apply")
    assert applied.code == 0, applied.log
    assert lab.world.names() == ["acme", "globex"]
    assert (lab.repository.path / "reconciler-reports/apply.xml").exists()

    assert lab.run("drift").code == 0
    lab.world.patch("acme", timezone="Asia/Tokyo")
    assert lab.run("drift").code == 0
    lab.world.patch("acme", timezone="Europe/Paris")
    assert lab.run("drift").code == 0
    (issue,) = lab.host.opened
    assert "Europe/Paris" in issue["description"]
    lab.world.patch("acme", timezone="America/New_York")
    assert lab.run("drift").code == 0
    assert lab.host.opened == []


def test_a_plan_that_needs_an_exception_is_saved_with_it_and_applied(lab: AtGitLab) -> None:
    lab.commit(TWO)
    lab.run("plan")
    assert lab.run("apply").code == 0
    lab.commit({}, **NONE)
    refused = lab.run("plan")
    assert refused.code == 3, refused.log

    lab.inputs["arguments_plan"] = "--allow delete=100%"
    validated = lab.run("validate")
    assert validated.code == 0, validated.log
    assert lab.review().code == 0
    planned = lab.run("plan")
    assert planned.code == 0, planned.log
    applied = lab.run("apply")
    assert applied.code == 0, applied.log
    assert lab.world.names() == []
    drifted = lab.run("drift")
    assert drifted.code == 0, drifted.log


def test_each_command_takes_arguments_of_its_own(lab: AtGitLab) -> None:
    lab.inputs |= {
        "arguments_validate": "--format json",
        "arguments_plan": "--no-refresh",
        "arguments_apply": "--fail-fast",
        "arguments_drift": "--unmanaged",
    }
    lab.commit(ONE)
    for job in ("validate", "plan", "apply", "drift"):
        ran = lab.run(job)
        assert ran.code == 0, ran.log


@pytest.mark.parametrize("wrong", [["polish"], ["plan", "--nope"], ["plan", "--arguments='"]])
def test_wrong_arguments_are_a_failure_and_no_changes(lab: AtGitLab, wrong: list[str]) -> None:
    ran = ended(lab.shell.start(shlex.join(["reconciler-ci", *wrong]), {}))
    assert ran.code == 1, ran.log
    assert "usage:" in ran.log
    assert "Traceback" not in ran.log


def test_an_artefact_that_was_changed_or_sealed_by_somebody_else_is_refused(lab: AtGitLab) -> None:
    lab.commit(ONE)
    lab.run("plan", RECONCILER_PLAN_KEY="another key, as good as any other is")
    applied = lab.run("apply")
    assert applied.code == 3, applied.log
    lab.run("plan")
    saved = lab.repository.path / "reconciler-reports/saved.plan"
    saved.write_bytes(saved.read_bytes().replace(b"New_York", b"Anchorage"))
    applied = lab.run("apply")
    assert applied.code == 3, applied.log
    assert lab.world.writes == []


def test_a_plan_without_changes_can_be_applied_too(lab: AtGitLab) -> None:
    lab.commit({})
    planned = lab.run("plan")
    assert planned.code == 0, planned.log
    saved = lab.repository.path / "reconciler-reports/saved.plan"
    assert saved.stat().st_mode & 0o004, "the next job may run as another user"
    applied = lab.run("apply")
    assert applied.code == 0, applied.log


def test_a_job_that_finds_the_state_locked_says_when_to_run_it_again(lab: AtGitLab) -> None:
    lab.commit(ONE)
    lab.run("plan")
    lab.state.stored("shop").lock = {"ID": "5be1c0de", "Created": "2026-01-01T00:00:00Z"}
    lab.inputs["arguments_apply"] = "--lock-timeout 1s"
    applied = lab.run("apply")
    assert applied.code == 4, applied.log
    assert "run the job again later" in applied.log
    assert lab.world.writes == []


def test_without_a_token_drift_fails_with_2_and_a_plan_is_in_the_log_alone(lab: AtGitLab) -> None:
    lab.commit(ONE)
    reviewed = lab.run("review", CI_MERGE_REQUEST_IID="3", GITLAB_TOKEN="")
    assert reviewed.code == 0, reviewed.log
    lab.run("plan")
    lab.run("apply")
    lab.world.patch("acme", timezone="Asia/Tokyo")
    drifted = lab.run("drift", GITLAB_TOKEN="")
    assert drifted.code == 2, drifted.log
    assert lab.host.writes == []


def test_a_note_of_somebody_else_with_our_mark_is_left_alone(lab: AtGitLab) -> None:
    lab.commit(ONE)
    lab.review()
    lab.host.comments[0]["author"] = {"id": 8}
    lab.review()
    assert [note["author"]["id"] for note in lab.host.comments] == [8, 7]


def test_what_a_merge_request_adds_can_not_read_the_tokens(lab: AtGitLab) -> None:
    """Not even under the name that the job's token has for state."""
    for name in ("GITLAB_TOKEN", "CI_JOB_TOKEN", "RECONCILER_STATE_PASSWORD"):
        document = {
            "version": 1, "state": lab.state.base + "shop",
            "variables": {"stolen": {"env": name, "sensitive": False}},
            "accounts": {"acme": {"settings": {"name": "${var.stolen}"}}},
        }  # fmt: skip
        lab.repository.commit(document)
        reviewed = lab.review()
        assert reviewed.code == 1, reviewed.log
