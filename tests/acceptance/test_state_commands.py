"""The commands that look after state: what an operator reaches for when something is wrong with it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.backend import Lost, open_backend
from reconciler.core.state import Entry, dump, fold, parse

from .conftest import Ended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.backends.backend import Backend, StateWriter

    from .conftest import Project, World

pytestmark = pytest.mark.usefixtures("release")

CHANGING = (
    ["state", "mv", "accounts.acme", "accounts.other"],
    ["state", "rm", "accounts.acme"],
    ["state", "restore", "1", "--auto-approve"],
    ["state", "migrate", "elsewhere.json"],
    ["init", "--new-state", "--auto-approve"],
)


@pytest.fixture
def project(project: Project, release: World) -> Project:  # noqa: ARG001 - it must be served first
    """A project whose state has serial 3 and two generations, with acme and beta in it."""
    for keys in (("acme",), ("acme", "beta")):
        project.declare({key: {} for key in keys})
        assert project.apply().code == 0
    assert project.state()["serial"] == 3
    return project


def place(project: Project) -> Backend:
    return open_backend("state/reconciler.state.json", project.directory, {})


@contextmanager
def locked(project: Project) -> Iterator[StateWriter]:
    """Another run has the lock."""
    with place(project).lock("other-run", "reconciler apply", 0) as writer:
        yield writer


def answered(project: Project, answer: str, *arguments: str) -> Ended:
    """Run a command on a terminal, where somebody types `answer`."""
    terminal, stdin = pty.openpty()
    try:
        os.write(terminal, f"{answer}\n".encode())
        ran = subprocess.run(
            [sys.executable, "-m", "reconciler", *arguments, "-C", str(project.directory)],
            stdin=stdin, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(stdin)
    return Ended(ran.returncode, ran.stdout, ran.stderr)


# --- list, mv, rm ---


def test_list_shows_all_addresses_or_those_that_are_named(project: Project) -> None:
    assert project.run("state", "list").out == "accounts.acme\naccounts.beta\n"
    assert project.run("state", "list", "accounts.beta").out == "accounts.beta\n"
    unknown = project.run("state", "list", "accounts.beta", "accounts.nobody")
    assert (unknown.code, unknown.out) == (1, "")
    assert "accounts.nobody: not in state" in unknown.err
    named = project.run("state", "list", "accounts.acme", "--format", "json")
    assert named.json["addresses"] == ["accounts.acme"]


def test_mv_gives_an_account_another_address_and_nothing_else(
    project: Project, release: World
) -> None:
    before = project.state()
    moved = project.run("state", "mv", "accounts.acme", "accounts.first", "--format", "json")
    assert moved.code == 0, moved.err
    assert moved.json["from"] == "accounts.acme"
    assert moved.json["to"] == "accounts.first"
    assert moved.json["serial"] == before["serial"] + 1
    after = project.state()
    assert after["accounts"]["first"] == before["accounts"]["acme"]
    assert sorted(after["accounts"]) == ["beta", "first"]
    release.log.clear()
    project.declare({"first": {"name": "acme", "realm": "acme.sip.example.com"}, "beta": {}})
    assert project.plan().code == 0


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("acme", "beta", "accounts.beta is in state already"),
        ("acme", "acme", "accounts.acme is in state already"),
        ("nobody", "somebody", "accounts.nobody: not in state"),
        ("acme", "no key", "is no key of an account"),
    ],
)
def test_mv_refuses_what_would_lose_or_confuse_an_account(
    project: Project, old: str, new: str, why: str
) -> None:
    before = project.state()
    moved = project.run("state", "mv", f"accounts.{old}", f"accounts.{new}")
    assert moved.code == 1
    assert why in moved.err
    assert project.state() == before


def test_rm_forgets_accounts_and_leaves_them_as_they_are(project: Project, release: World) -> None:
    before = project.state()
    release.log.clear()
    removed = project.run("state", "rm", "accounts.acme", "accounts.beta")
    assert removed.code == 0, removed.err
    for key in ("acme", "beta"):
        account = before["accounts"][key]["id"]
        assert f"accounts.{key} is forgotten; on the platform it stays" in removed.out
        assert account in removed.out
    assert project.state()["accounts"] == {}
    assert project.state()["serial"] == before["serial"] + 1
    assert release.log == []
    assert release.names() == ["acme", "beta"]


def test_rm_names_all_that_it_does_not_know_and_does_nothing_then(project: Project) -> None:
    before = project.state()
    removed = project.run("state", "rm", "accounts.acme", "accounts.x", "accounts.y")
    assert removed.code == 1
    assert "accounts.x, accounts.y: not in state" in removed.err
    assert project.state() == before


@pytest.mark.parametrize("arguments", CHANGING, ids=lambda found: " ".join(found[:2]))
def test_whatever_changes_state_waits_for_the_lock(project: Project, arguments: list[str]) -> None:
    before = project.state()
    with locked(project):
        refused = project.run(*arguments, "--lock-timeout", "100ms")
    assert refused.code == 4
    assert "reconciler apply" in refused.err
    assert project.state() == before


@pytest.mark.parametrize("arguments", [["state", "mv", "acme", "x"], ["state", "rm", "acme"]])
def test_without_a_state_there_is_nothing_to_change(project: Project, arguments: list[str]) -> None:
    assert project.run("init", "--new-state", "--auto-approve").code == 0
    ended = project.run(*arguments)
    assert ended.code == 1
    assert "no state yet" in ended.err


# --- pull, push ---


def test_what_is_pulled_is_the_state_and_pushing_it_changes_nothing(project: Project) -> None:
    pulled = project.run("state", "pull")
    assert pulled.out.encode() == project.state_file.read_bytes()
    project.write("copy.json", pulled.out)
    pushed = project.run("state", "push", str(project.directory / "copy.json"), "--format", "json")
    assert (pushed.code, pushed.json["changed"]) == (0, False)
    assert project.state_file.read_text() == pulled.out


def test_a_later_version_is_pushed_as_it_is(project: Project) -> None:
    later = _later(project)
    assert project.run("state", "push", later).code == 0
    assert project.state()["serial"] == 4
    assert sorted(project.state()["accounts"]) == ["beta"]


def test_push_waits_for_the_lock(project: Project) -> None:
    later = _later(project)
    with locked(project):
        assert project.run("state", "push", later).code == 4
    assert project.state()["serial"] == 3


def test_push_reads_stdin(project: Project) -> None:
    with open(_later(project), "rb") as file:  # noqa: PTH123 - a name, as a shell has it
        ran = subprocess.run(
            [sys.executable, "-m", "reconciler", "state", "push", "-", "-C", str(project.directory)],
            stdin=file, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert project.state()["serial"] == 4


def test_an_older_version_is_pushed_by_force_only(project: Project) -> None:
    older = project.run("state", "pull").out
    project.write("older.json", older)
    project.declare({"acme": {"language": "fr-fr"}, "beta": {}})
    project.settle()
    before = project.state()
    name = str(project.directory / "older.json")
    refused = project.run("state", "push", name)
    assert refused.code == 3
    assert "serial 3" in refused.err
    assert "there 4" in refused.err
    assert "--force" in refused.err
    assert project.state() == before
    forced = project.run("state", "push", name, "--force", "--format", "json")
    assert (forced.code, forced.json["serial"]) == (0, 5)
    assert project.state()["accounts"] == json.loads(older)["accounts"]


def test_another_version_with_the_same_serial_is_pushed_by_force_only(project: Project) -> None:
    later = _later(project)
    assert project.run("state", "mv", "accounts.acme", "accounts.first").code == 0
    assert project.run("state", "push", later).code == 3
    assert project.run("state", "push", later, "--force").code == 0
    assert project.run("state", "list").out == "accounts.beta\n"
    assert project.state()["serial"] == 5


def test_a_state_of_another_lineage_is_pushed_by_force_only(project: Project) -> None:
    pulled = project.run("state", "pull").out
    project.write("before.json", pulled)
    assert project.run("init", "--new-state", "--auto-approve").code == 0
    project.declare({"gamma": {}})
    project.settle()
    name = str(project.directory / "before.json")
    refused = project.run("state", "push", name)
    assert refused.code == 3
    assert "lineage" in refused.err
    forced = project.run("state", "push", name, "--force")
    assert forced.code == 0, forced.err
    assert project.state()["lineage"] == json.loads(pulled)["lineage"]
    assert project.run("state", "list").out == "accounts.acme\naccounts.beta\n"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_state_is_not_pushed_even_by_force(project: Project, damage: str) -> None:
    text = project.run("state", "pull").out
    damaged = {"cut": text[:-30], "flipped": text.replace("acme", "acne", 1), "empty": ""}[damage]
    project.write("damaged.json", damaged)
    refused = project.run("state", "push", str(project.directory / "damaged.json"), "--force")
    assert refused.code == 1
    assert "the pushed state: " in refused.err
    assert project.state_file.read_text() == text


def test_the_state_of_another_platform_is_not_pushed_even_by_force(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("copy.json", project.run("state", "pull").out)
    monkeypatch.setenv("VINIX_API_URL", "https://api.example.net/v2")
    refused = project.run("state", "push", str(project.directory / "copy.json"), "--force")
    assert refused.code == 1
    assert "https://api.example.net/v2" in refused.err


def test_with_a_key_what_is_pulled_is_encrypted_and_push_reads_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = project.state()["digest_key"]
    monkeypatch.setenv("RECONCILER_STATE_KEY", "0f" * 32)
    assert project.run("state", "mv", "accounts.acme", "accounts.first").code == 0
    pulled = project.run("state", "pull").out
    assert secret not in pulled
    assert "accounts" not in json.loads(pulled)
    project.write("copy.json", pulled)
    assert project.run("state", "rm", "accounts.beta").code == 0
    pushed = project.run("state", "push", str(project.directory / "copy.json"), "--force")
    assert pushed.code == 0, pushed.err
    assert project.run("state", "list").out == "accounts.beta\naccounts.first\n"


def _later(project: Project) -> str:
    """A file with the version that comes after the present one, without acme."""
    state = fold(parse(project.state_file.read_bytes()), [Entry("forget", "acme")])
    path = project.directory / "later.json"
    path.write_bytes(dump(state))
    return str(path)


# --- history, restore ---


def test_history_lists_the_generations_the_latest_first(project: Project) -> None:
    listed = project.run("state", "history", "--format", "json").json["generations"]
    assert [generation["serial"] for generation in listed] == [2, 1]
    assert all(generation["saved_at"] for generation in listed)
    assert project.run("state", "history").out.startswith("serial 2 ")


def test_restore_puts_a_generation_back_under_a_serial_of_its_own(project: Project) -> None:
    restored = project.run("state", "restore", "2", "--auto-approve", "--format", "json")
    assert restored.code == 0, restored.err
    assert restored.json["serial"] == 4
    assert project.run("state", "list").out == "accounts.acme\n"
    assert project.state()["serial"] == 4
    assert [g.serial for g in place(project).history()] == [3, 2, 1]
    assert project.run("state", "restore", "3", "--auto-approve").code == 0
    assert project.state()["serial"] == 5
    assert project.run("state", "list").out == "accounts.acme\naccounts.beta\n"


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_restore_works_where_the_state_is_lost(project: Project, damage: str) -> None:
    text = project.state_file.read_text()
    if damage == "gone":
        project.state_file.unlink()
    else:
        project.state_file.write_text(text[:-30])
    assert project.plan().code == 1
    restored = project.run("state", "restore", "2", "--auto-approve", "--format", "json")
    assert restored.code == 0, restored.err
    assert restored.json["serial"] > json.loads(text)["serial"]
    assert project.run("state", "list").out == "accounts.acme\n"


def test_restore_names_what_is_kept(project: Project) -> None:
    refused = project.run("state", "restore", "7", "--auto-approve")
    assert refused.code == 1
    assert "no generation 7 is kept. There are: 2, 1" in refused.err


def test_restore_asks(project: Project) -> None:
    before = project.state()
    unattended = project.run("state", "restore", "2")
    assert unattended.code == 1
    assert "--auto-approve" in unattended.err
    declined = answered(project, "no", "state", "restore", "2")
    assert declined.code == 1
    assert "nothing was done" in declined.out
    assert project.state() == before
    approved = answered(project, "yes", "state", "restore", "2")
    assert approved.code == 0
    assert "There now: serial 3 " in approved.err
    assert "Restored: serial 2 " in approved.err
    assert project.state()["serial"] == 4


# --- migrate ---


def test_migrate_copies_the_state_to_another_place_as_it_is(project: Project) -> None:
    before = project.state()
    moved = project.run("state", "migrate", "new/s.json")
    assert moved.code == 0, moved.err
    assert "`state` in reconciler.yaml" in moved.out
    assert json.loads((project.directory / "new/s.json").read_bytes()) == before
    project.declare({"acme": {}, "beta": {}}, state="new/s.json")
    assert project.plan().code == 0


def test_migrate_goes_over_a_state_by_force_only(project: Project) -> None:
    assert project.run("state", "migrate", "new/s.json").code == 0
    assert project.run("state", "rm", "accounts.acme").code == 0
    refused = project.run("state", "migrate", "new/s.json")
    assert refused.code == 3
    assert "--force" in refused.err
    assert project.run("state", "migrate", "new/s.json", "--force").code == 0
    forced = json.loads((project.directory / "new/s.json").read_bytes())
    assert forced["accounts"] == project.state()["accounts"]


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("./state/reconciler.state.json", "where the state is already"),
        ("ftp://example.com/s", "ftp:// is not supported"),
    ],
)
def test_migrate_refuses_what_is_no_other_place(project: Project, to: str, why: str) -> None:
    refused = project.run("state", "migrate", to)
    assert refused.code == 1
    assert why in refused.err


# --- unlock ---


def test_nothing_is_locked(project: Project) -> None:
    ended = project.run("unlock")
    assert (ended.code, ended.out) == (0, "Nothing is locked.\n")


def test_unlock_shows_the_holder_and_asks(project: Project) -> None:
    with locked(project) as writer:
        unattended = project.run("unlock")
        assert unattended.code == 1
        assert "--force" in unattended.err
        declined = answered(project, "no", "unlock")
        assert declined.code == 1
        assert "`reconciler apply`" in declined.err
        assert "last sign of life" in declined.err
        assert "seconds ago" in declined.err
        writer.check()
        assert answered(project, "yes", "unlock").code == 0
        with pytest.raises(Lost):
            writer.save(parse(project.state_file.read_bytes()))
    assert project.run("state", "rm", "accounts.acme").code == 0


def test_unlock_frees_the_lock_of_the_run_that_is_named_only(project: Project) -> None:
    with locked(project) as writer:
        refused = project.run("unlock", "another-run", "--force")
        assert refused.code == 1
        assert "other-run" in refused.err
        writer.check()
        freed = project.run("unlock", "other-run", "--force", "--format", "json")
        assert freed.code == 0
        assert freed.json["unlocked"] is True
        assert freed.json["holder"]["run"] == "other-run"
    assert project.run("unlock", "--format", "json").json["holder"] is None


# --- init --new-state ---


def test_a_new_state_is_begun_where_one_was_lost(project: Project, release: World) -> None:
    project.state_file.unlink()
    assert project.plan().code == 1
    unattended = project.run("init", "--new-state")
    assert unattended.code == 1
    assert "--auto-approve" in unattended.err
    declined = answered(project, "no", "init", "--new-state")
    assert declined.code == 1
    assert project.plan().code == 1
    begun = project.run("init", "--new-state", "--auto-approve")
    assert begun.code == 0, begun.err
    planned = project.plan()
    assert planned.code == 3
    assert "exists" in planned.out  # and nothing is made twice
    assert release.names() == ["acme", "beta"]


def test_what_was_there_before_a_new_state_can_be_restored(project: Project) -> None:
    before = project.state()
    begun = project.run("init", "--new-state", "--auto-approve", "--format", "json")
    assert (begun.code, begun.json["discarded"], begun.json["serial"]) == (0, True, 3)
    assert project.run("state", "list").out == ""
    again = project.run("init", "--new-state", "--format", "json")
    assert (again.code, again.json["discarded"]) == (0, False)
    assert project.run("state", "restore", "3", "--auto-approve").code == 0
    assert project.state()["accounts"] == before["accounts"]
    assert project.state()["lineage"] == before["lineage"]
    assert project.plan().code == 0


def test_the_directory_of_a_new_state_is_named_as_for_a_new_project(project: Project) -> None:
    inside = project.directory.name
    project.directory = project.directory.parent
    assert project.run("init", inside, "--new-state", "--auto-approve").code == 0
    project.directory /= inside
    assert project.run("state", "list").out == ""
