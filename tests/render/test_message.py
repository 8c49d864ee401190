"""A message tells the sum whatever its length, and nothing in it is markup or a mention."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.core.values import Diagnostic
from reconciler.render.message import LIMIT, ci_link, message
from reconciler.render.report import of_plan

from .plans import HOSTILE, MADE, Texts, a_change, a_plan, applied, drifted, large, planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.render.report import Report

hostile = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=4).map("".join)
texts = st.builds(Texts, hostile, hostile, hostile, hostile)
LINK = "https://git.example.com/acme/voice/-/jobs/42"


@pytest.mark.parametrize("made", [planned, applied, drifted])
@given(texts=texts, where=hostile)
@settings(max_examples=60, deadline=None)
def test_what_others_wrote_is_no_markup_and_no_mention(
    made: Callable[[Texts], Report], texts: Texts, where: str
) -> None:
    told = message(made(texts), "done", f"Project {where}", "")
    for text in (told.title, told.body):
        assert not set("@<&[]`*~|\\") & set(text)
        assert "://" not in text
        tokens = MarkdownIt("commonmark").parse(text)
        inline = {child.type for token in tokens for child in token.children or ()}
        assert inline <= {"text", "softbreak", "hardbreak", "em_open", "em_close", "strong_open", "strong_close"}  # fmt: skip
    assert "\n" not in told.title


@pytest.mark.parametrize("count", [1, 40, 5000])
def test_a_message_of_any_plan_fits_and_begins_with_the_sum(count: int) -> None:
    report = large(count, Texts(name="n" * 200, value="v" * 5000, detail="d" * 500))
    told = message(report, "refused", "Project voice", LINK)
    assert len(told.body) <= LIMIT
    lines = told.body.splitlines()
    assert lines[0].startswith("Refused. Plan: ")
    assert lines[1:4] == ["Project voice", LINK, "Refused:"]
    assert told.title == "reconciler plan: refused"
    assert max(map(len, lines)) <= 300


def test_what_is_cut_off_is_counted() -> None:
    told = message(large(100, Texts()), "refused", "Project voice", "")
    lines = told.body.splitlines()
    whole = message_lines(100)
    assert lines[-1] == f"… and {whole - len(lines) + 1} more lines in the log of the run."
    assert len(told.body) > LIMIT * 0.9


def message_lines(count: int) -> int:
    """How many lines a message had if nothing were cut off."""
    report = large(count, Texts())
    parts = (report.refusals, report.errors, report.dangers, report.changed)
    return 2 + sum(1 + len(part) for part in parts if part)


def test_what_is_dangerous_comes_before_the_accounts() -> None:
    plan = a_plan(a_change("a", Texts(), "delete"), texts=Texts())
    lines = message(of_plan(plan, MADE), "done", "Project voice", "").body.splitlines()
    assert lines[2:] == [
        "Dangerous:",
        "- accounts.a (x): will be deleted",
        "Accounts:",
        "- accounts.a (x): will be deleted",
    ]


def test_that_state_was_not_written_is_told_with_the_errors() -> None:
    unsaved = Diagnostic("error", "Not all was recorded in state", "the disk is full")
    report = replace(applied(Texts()), diagnostics=(unsaved,))
    lines = message(report, "partly applied", "Project voice", "").body.splitlines()
    assert lines[2:4] == ["Errors:", "- Not all was recorded in state: the disk is full"]


@pytest.mark.parametrize(
    ("environment", "link"),
    [
        ({}, ""),
        ({"CI_JOB_URL": LINK}, LINK),
        (
            {
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "acme/voice",
                "GITHUB_RUN_ID": "42",
            },
            "https://github.com/acme/voice/actions/runs/42",
        ),
        ({"GITHUB_REPOSITORY": "acme/voice", "GITHUB_RUN_ID": "42"}, ""),
        ({"CI_JOB_URL": "javascript:alert(1)"}, ""),
        ({"CI_JOB_URL": f"{LINK}|<b>"}, ""),
        ({"CI_JOB_URL": f"{LINK}\n@everyone"}, ""),
        ({"CI_JOB_URL": "https://user@evil.example/"}, ""),
    ],
)
def test_the_link_is_that_of_the_ci_job_or_none(environment: dict[str, str], link: str) -> None:
    assert ci_link(environment) == link
