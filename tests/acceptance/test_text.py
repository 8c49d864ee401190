"""Text from outside in what people read: it moves no cursor, hides no line, turns nothing round."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Ended, Project, World

HOSTILE = "[/x] [bold]\x1b[2J\x1b]0;t\x07\u202egnp.exe\u2066\x9b31m\rx\ny\u2028z\u200b\x7f"
HARMLESS = "[/x] [bold]"
FORBIDDEN = "\x1b\x07\u202e\u2066\x9b\r\u2028\u200b\x7f"


def assert_harmless(ended: Ended) -> None:
    text = ended.out + ended.err
    assert HARMLESS in text
    assert not any(character in text for character in FORBIDDEN)
    assert not any(line.startswith("y") for line in text.splitlines())


def test_names_and_values_from_files_are_harmless(world: World, project: Project) -> None:
    project.declare({"acme": {"name": HOSTILE, "org": HOSTILE, "dial_plan": {HOSTILE: {}}}})
    assert_harmless(project.plan())
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert_harmless(applied)
    assert world.account(HOSTILE).document["org"] == HOSTILE
    assert project.plan().code == 0
    project.declare({"acme": {"name": HOSTILE, "reseller": True}})
    assert_harmless(project.plan())


def test_names_and_values_from_the_platform_are_harmless(world: World, project: Project) -> None:
    project.declare({"acme": {"language": "de-de"}})
    project.settle()
    world.patch("acme", name=HOSTILE, org=HOSTILE, language=HOSTILE)
    for command in (["drift"], ["plan", "--show-unmanaged"], ["apply", "--auto-approve"]):
        assert_harmless(project.run(*command))
    world.patch("acme", name=HOSTILE)
    project.declare({})
    refused = project.plan()
    assert refused.code == 3
    assert_harmless(refused)
    world.create("x" + HOSTILE, realm="stranger.example.com")
    project.declare({"acme": {}, "new": {"realm": "stranger.example.com"}})
    assert_harmless(project.plan())


@pytest.mark.parametrize("status", [400, 403, 500])
def test_errors_from_the_platform_are_harmless(
    release: World, project: Project, status: int
) -> None:
    body = {"data": {"message": HOSTILE}, "message": HOSTILE, "status": "error", "error": "x"}
    release.fault(path="/accounts/*", status=status, body=json.dumps(body), times=None, nth=5)
    release.fault(path="/accounts/*", method="PUT", status=400, body=json.dumps(body), times=None)
    project.declare({"acme": {}})
    ended = project.apply()
    assert ended.code in {1, 5}
    assert_harmless(ended)


def test_wrong_documents_are_told_of_harmlessly(project: Project) -> None:
    project.declare({"acme": {"timezone": HOSTILE, "parent": HOSTILE, HOSTILE: 1}})
    ended = project.run("validate")
    assert ended.code == 1
    assert_harmless(ended)
