"""An existing tree becomes a project, and the plan right after is empty: always."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.cli import main
from reconciler.core.values import leaves
from reconciler.sandbox.options import ROOT_ID, SandboxOptions

from .conftest import Ended, at_most
from .odd_trees import changed, odd_tree, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reconciler.sandbox.options import Dialect

    from .conftest import Serve, World

    Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the directory `new`, which is no project at first."""

    def command(*arguments: str) -> Ended:
        capsys.readouterr()
        try:
            with at_most(120):
                code = main([*arguments, "-C", str(tmp_path / "new")])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        return Ended(int(code), out, err)

    return command


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - drawn anew by the same seed


def odd(serve: Serve, dialect: Dialect, count: int) -> World:
    world = serve(SandboxOptions(dialect=dialect, log_requests=True, rate_limit=False))
    root = world.platform.store.get(ROOT_ID)
    assert root is not None
    world.platform.store.put_new(odd_tree(root, count, dice(count)))
    return world


def assert_settled(run: Run, count: int) -> None:
    """Nothing is to do, nothing has drifted, and the files are canonical."""
    planned = run("plan", "--detailed-exitcode", "--format", "json")
    assert planned.code == 0, planned.err
    assert planned.json["summary"]["no_op"] == count
    assert planned.json["refusals"] == []
    assert run("drift").code == 0
    assert run("fmt", "--check").out == ""


@pytest.mark.parametrize(
    ("dialect", "count", "more"),
    [
        ("release", 2000, []),
        ("head", 2001, ["--factor"]),
        ("release", 150, ["--layout", "tree", "--factor"]),
        ("head", 151, ["--layout", "one-file"]),
        ("release", 152, ["--layout", "tree"]),
        ("release", 153, ["--layout", "one-file", "--factor"]),
    ],
)
def test_whatever_is_adopted_the_plan_is_empty_and_drift_finds_what_changes_later(
    serve: Serve, run: Run, tmp_path: Path, dialect: Dialect, count: int, more: list[str]
) -> None:
    world = odd(serve, dialect, count)
    adopted = run("adopt", "--format", "json", *more)
    assert adopted.code == 0, adopted.err
    assert "s3cret" not in adopted.out + adopted.err
    assert len(adopted.json["adopted"]) == count
    assert [one["name"] for one in adopted.json["skipped"]] == sorted_names(world, count)
    assert world.writes == []
    assert_settled(run, count)
    files = {path: path.read_bytes() for path in (tmp_path / "new").rglob("*.yaml")}
    assert not any(b"s3cret" in data for data in files.values())

    again = run("adopt", "--format", "json", *more)
    assert (again.code, again.json["files"], again.json["summary"]["known"]) == (0, [], count)
    assert {path: path.read_bytes() for path in files} == files

    state = json.loads((tmp_path / "new/state/reconciler.state.json").read_bytes())
    expected = change_outside(world, state["accounts"], dice(count))
    drifted = run("drift", "--format", "json")
    assert {change["address"] for change in drifted.json["changes"]} == expected


def sorted_names(world: World, count: int) -> list[str]:
    """The names of the two accounts that nothing leads to, as the list has them."""
    lost = [r for r in world.records() if int(r.id, 16) > count]
    return [r.name for r in sorted(lost, key=lambda r: (r.name, r.id))]


def change_outside(world: World, accounts: dict[str, Any], random: Random) -> set[str]:
    """Change every tenth account in the platform's own store; the addresses of those."""
    store = world.platform.store
    found = set()
    for key in random.sample(sorted(accounts), k=len(accounts) // 10):
        record = store.get(str(accounts[key]["id"]))
        assert record is not None
        settings = accounts[key]["applied"]["settings"]
        paths = [
            (path, value)
            for path, value in leaves(settings)
            if path != ("name",) or value == record.name
        ]
        path, value = random.choice([*paths, (("rank",), None), (("gone",), None), (("to",), None)])
        below = store.count_descendants(record.id)
        if path == ("enabled",):
            store.put(replace(record, enabled=not record.enabled))
        elif path == ("rank",):
            store.put(replace(record, is_reseller=not record.is_reseller))
        elif path == ("gone",) and not below:
            store.delete(record.id)
        elif path == ("to",) and not below and record.tree != (ROOT_ID,):
            store.put(replace(record, tree=(ROOT_ID,)))
        elif path in {("gone",), ("to",)}:
            continue
        else:
            gone = random.random() < 0.2 and path[0] not in {"name", "realm", "timezone"}
            document = put(record.document, path, ... if gone else changed(value))
            store.put(replace(record, document=document))
        found.add(f"accounts.{key}")
    return found
