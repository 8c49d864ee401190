"""The workflows of integrations/github, from a pull request to drift that is gone."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

from tests.acceptance.conftest import wait_for

from .hosts import BOT, LIMIT
from .jobs import ended

if TYPE_CHECKING:
    from .conftest import AtGitHub

ONE: dict[str, Any] = {"acme": {"timezone": "America/New_York"}}
TWO: dict[str, Any] = {**ONE, "globex": {}}
NONE: dict[str, Any] = {"removed": [{"account": key, "destroy": True} for key in TWO]}
"""What deletes both: more than a plan may without `--allow`."""


def test_from_a_pull_request_to_drift_that_is_gone(hub: AtGitHub) -> None:
    planned = hub.propose(ONE)
    assert planned.code == 0, planned.log
    assert hub.outputs["exitcode"] == "2"
    (comment,) = hub.host.comments
    assert "1 to create" in comment["body"]
    assert hub.world.writes == []

    assert hub.propose(TWO).code == 0
    assert [c["id"] for c in hub.host.comments] == [comment["id"]], "updated in place"
    assert "2 to create" in comment["body"]

    applied = hub.merge()
    assert applied.code == 0, applied.log
    assert hub.world.names() == ["acme", "globex"]
    assert "2 created" in hub.host.comments[1]["body"]

    assert hub.drift().code == 0
    assert hub.host.issues == []

    hub.world.patch("acme", timezone="Asia/Tokyo")
    assert hub.drift().code == 0
    (issue,) = hub.host.opened
    assert "Asia/Tokyo" in issue["body"]

    hub.world.patch("acme", timezone="Europe/Paris")
    assert hub.drift().code == 0
    assert hub.host.opened == [issue], "updated, not opened twice"
    assert "Europe/Paris" in issue["body"]

    hub.world.patch("acme", timezone="America/New_York")
    assert hub.drift().code == 0
    assert hub.host.opened == []


def test_a_plan_that_needs_an_exception_is_applied_with_the_same_one(hub: AtGitHub) -> None:
    hub.propose(TWO)
    assert hub.merge().code == 0
    assert hub.propose({}, **NONE).code == 3

    hub.arguments["plan"] = "--allow delete=100%"
    planned = hub.propose({}, **NONE)
    assert planned.code == 0, planned.log
    assert hub.merge().code == 3, "its own plan is refused"
    hub.arguments["apply"] = "--allow delete=100%"
    applied = hub.apply()
    assert applied.code == 0, applied.log
    assert hub.world.names() == []


def test_a_reviewed_plan_outlives_the_apply_of_another(hub: AtGitHub) -> None:
    """A saved plan would be stale: it rests on the serial of state."""
    hub.propose(TWO)
    hub.merge()
    assert hub.propose({**TWO, "globex": {"timezone": "Europe/Paris"}}).code == 0
    first = hub.head
    assert hub.propose({**TWO, "acme": {"timezone": "Asia/Tokyo"}}).code == 0
    assert hub.merge().code == 0
    hub.head = first
    applied = hub.merge()
    assert applied.code == 0, applied.log
    assert hub.world.account("globex").document["timezone"] == "Europe/Paris"
    assert hub.world.account("acme").document["timezone"] == "Asia/Tokyo"


def test_an_old_apply_that_is_run_again_takes_nothing_back(hub: AtGitHub) -> None:
    hub.propose(TWO)
    hub.merge()
    old, merged = hub.repository.git("rev-parse", "HEAD"), hub.host.pulls
    hub.propose({**TWO, "acme": {"timezone": "Asia/Tokyo"}})
    assert hub.merge().code == 0
    hub.repository.git("switch", "--quiet", "--detach", old)
    hub.host.pulls = merged
    again = hub.apply()
    assert again.code == 3, again.log
    assert hub.world.account("acme").document["timezone"] == "Asia/Tokyo"


def test_what_was_not_reviewed_is_not_applied(hub: AtGitHub) -> None:
    """The live account was changed after the plan was shown."""
    hub.propose(ONE)
    assert hub.merge().code == 0
    hub.propose({"acme": {"timezone": "Europe/Paris"}})
    hub.world.patch("acme", timezone="Asia/Tokyo")
    hub.world.log.clear()
    applied = hub.merge()
    assert applied.code == 3, applied.log
    assert hub.world.writes == []
    assert "plan again" in hub.host.comments[1]["body"]


def test_a_plan_by_hand_shows_the_digest_that_an_apply_by_hand_takes(hub: AtGitHub) -> None:
    hub.propose(ONE)
    hub.world.create("outsider")
    hub.land()
    planned = hub.run("plan", "plan", {})
    assert planned.code == 0, planned.log
    assert hub.host.comments[1:] == []
    digest = hub.outputs["digest"]
    assert digest in hub.summary
    assert hub.apply(digest=digest).code == 0
    assert hub.world.names() == ["acme", "outsider"]


def test_a_push_without_a_pull_request_is_refused(hub: AtGitHub) -> None:
    hub.propose(ONE)
    applied = hub.apply()
    assert applied.code == 3
    assert "no plan of it was reviewed" in applied.log
    assert hub.world.writes == []


def test_the_digest_of_somebody_else_counts_for_nothing(hub: AtGitHub) -> None:
    hub.propose(ONE)
    hub.host.statuses[0]["creator"] = {"login": "mallory"}
    assert hub.merge().code == 3
    assert hub.world.writes == []


def test_a_commit_whose_last_plan_failed_is_not_applied(hub: AtGitHub) -> None:
    hub.propose(ONE)
    hub.world.fault(status=400, times=None)
    failed = hub.run("plan", "plan", {"pull_request": {"number": 3, "head": {"sha": hub.head}}})
    assert failed.code == 1, failed.log
    hub.world.platform.faults.clear()
    assert hub.merge().code == 3
    assert hub.world.writes == []


def test_a_fork_is_validated_without_credentials(hub: AtGitHub) -> None:
    hub.propose({"acme": {"timezone": "Europe/Pari"}})
    hub.world.log.clear()
    validated = hub.run("plan", "validate", {"pull_request": {"number": 4}})
    assert validated.code == 1
    assert "::error file=reconciler.yaml,line=" in validated.log
    assert hub.world.log == []


def test_a_comment_of_somebody_else_with_our_mark_is_left_alone(hub: AtGitHub) -> None:
    hub.propose(ONE)
    (ours,) = hub.host.comments
    ours["user"] = {"login": "mallory"}
    hub.propose(TWO)
    assert [c["user"]["login"] for c in hub.host.comments] == ["mallory", BOT]


def test_the_comment_is_found_among_hundreds(hub: AtGitHub) -> None:
    hub.host.comments = [{"id": n, "user": {"login": "a"}, "body": "!"} for n in range(250)]
    hub.propose(ONE)
    hub.propose(TWO)
    assert len(hub.host.comments) == 251


def test_a_plan_that_is_refused_fails_and_says_why(hub: AtGitHub) -> None:
    hub.propose(TWO)
    hub.merge()
    planned = hub.propose({"acme": {}})  # globex left the YAML
    assert planned.code == 3, planned.log
    assert "removed:" in hub.host.comments[0]["body"]
    assert hub.host.statuses[-1]["state"] == "failure"
    assert hub.merge().code == 3


def test_a_file_with_an_error_fails_and_is_told_in_the_comment(hub: AtGitHub) -> None:
    planned = hub.propose({"acme": {"timezone": "Europe/Pari"}})
    assert planned.code == 1
    assert "Europe/Paris" in hub.host.comments[0]["body"]


def test_what_was_applied_in_part_is_an_issue_until_it_is_done(hub: AtGitHub) -> None:
    hub.propose(TWO)
    hub.world.fault(method="PUT", path="/accounts/*", nth=2, times=1, status=400)
    applied = hub.merge()
    assert applied.code == 5, applied.log
    (issue,) = hub.host.opened
    assert issue["title"] == "Applied in part"
    hub.world.platform.faults.clear()
    hub.run("plan", "plan", {})
    assert hub.apply(digest=hub.outputs["digest"]).code == 0
    assert hub.host.opened == []


def test_that_the_host_can_not_be_told_fails_a_plan_and_not_an_apply(hub: AtGitHub) -> None:
    hub.host.broken.add("POST .*/comments")
    planned = hub.propose(ONE)
    assert planned.code == 1
    assert "the token lacks a permission" in planned.log
    hub.host.broken.clear()
    hub.propose(ONE)
    hub.host.broken.add("(POST|PATCH) .*/comments")
    applied = hub.merge()
    assert applied.code == 0, applied.log
    assert "the token lacks a permission" in applied.log


def test_an_apply_that_is_cancelled_ends_in_good_order(hub: AtGitHub) -> None:
    hub.propose(ONE)
    hub.land()
    hub.world.fault(method="PUT", path="/accounts/*", delay_ms=1000)
    running = hub.start("apply", "apply", {})
    wait_for(lambda: hub.world.platform.faults.matches() >= 1)
    running.send_signal(signal.SIGINT)
    applied = ended(running)
    assert applied.code == 130, applied.log
    assert "apply: interrupted: run the job again" in applied.log


def test_hostile_names_give_the_host_no_command_and_no_markup(hub: AtGitHub) -> None:
    name = "\n::error::gotcha\n::set-output name=digest::x\n<script>`</details>@team"
    planned = hub.propose({"acme": {"name": name}})
    assert planned.code == 0, planned.log
    fence = re.findall(r"^::stop-commands::(\w{32})$", planned.log, re.MULTILINE)
    assert len(fence) == 1
    before, after = planned.log.split(f"::stop-commands::{fence[0]}\n")
    inside, after = after.split(f"\n::{fence[0]}::\n")
    assert "gotcha" in inside
    for text in (before, after):
        assert "gotcha" not in text
    assert len(hub.outputs["digest"]) == 136
    body = hub.host.comments[0]["body"]
    assert not re.search(r"^\s*(::|<script|@)", body, re.MULTILINE)


def test_a_comment_of_5_000_changes_fits(hub: AtGitHub) -> None:
    planned = hub.propose({f"customer-{n}": {} for n in range(5_000)})
    assert planned.code == 0, planned.log
    assert "5000 to create" in hub.host.comments[0]["body"]
    assert 30_000 < len(hub.host.comments[0]["body"]) <= LIMIT


def test_what_a_pull_request_adds_can_not_read_the_token(hub: AtGitHub) -> None:
    variables = {"stolen": {"env": "GITHUB_TOKEN", "sensitive": False}}
    planned = hub.propose({"acme": {"name": "${var.stolen}"}}, variables=variables)
    assert planned.code == 1, planned.log
    assert "GITHUB_TOKEN" in planned.log
