"""An existing tree becomes a project, and the plan right after is empty: always."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.cli import main
from reconciler.core.values import leaves
from reconciler.sandbox.options import ROOT_ID, SandboxOptions

from .conftest import Ended, at_most, wait_for
from .odd_trees import changed, odd_tree, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from reconciler.core.values import JsonObject
    from reconciler.sandbox.options import Dialect

    from .conftest import Project, Serve, World

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
    assert "accounts/" not in run("fmt", "--check").out


@pytest.mark.parametrize(
    ("dialect", "count", "more"),
    [
        ("release", 2000, []),
        ("head", 701, ["--factor"]),
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
    assert sorted(one["name"] for one in adopted.json["skipped"]) == lost_names(world, count)
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


def lost_names(world: World, count: int) -> list[str]:
    """The names of the two accounts that nothing leads to."""
    lost = [r for r in world.records() if int(r.id, 16) > count]
    assert len(lost) == 2
    return sorted(record.name for record in lost)


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


# --- what is adopted ---------------------------------------------------------------------------


def a_tree(world: World) -> dict[str, str]:
    """Two resellers, one below the other, with a customer each, and one customer below the root."""
    ids = {"acme": world.create("acme")}
    world.promote("acme")
    ids["east"] = world.create("east", ids["acme"])
    world.promote("east")
    ids["shop"] = world.create("shop", ids["east"], language="en-us")
    ids["bakery"] = world.create("bakery", ids["acme"])
    ids["lone"] = world.create("lone")
    world.log.clear()
    return ids


def adopted(ended: Ended) -> list[str]:
    assert ended.code == 0, ended.err
    return [one["address"].removeprefix("accounts.") for one in ended.json["adopted"]]


def files(directory: Path) -> dict[str, str]:
    """The project's files but for state, by name."""
    found = sorted(directory.rglob("*.yaml"))
    return {path.relative_to(directory).as_posix(): path.read_text() for path in found}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("flat", {"accounts/acme.yaml", "accounts/east.yaml", "accounts/root.yaml"}),
        ("tree", {"accounts/acme.yaml", "accounts/acme/east.yaml", "accounts/root.yaml"}),
        ("one-file", {"accounts/accounts.yaml"}),
    ],
)
def test_a_layout_says_which_files_there_are(
    world: World, run: Run, tmp_path: Path, layout: str, expected: set[str]
) -> None:
    a_tree(world)
    assert len(adopted(run("adopt", "--layout", layout, "--format", "json"))) == 5
    assert files(tmp_path / "new").keys() == {"reconciler.yaml", *expected}
    assert_settled(run, 5)
    assert world.writes == []


def test_defaults_of_the_platform_and_what_it_writes_itself_are_left_out(
    world: World, run: Run, tmp_path: Path
) -> None:
    flows: JsonObject = {"numbers": {"1": {"module": "tts", "data": {"text": "hi"}}}}
    world.create("acme", metaflows=flows, notifications={"first_occurrence": {}})
    adopted(run("adopt", "--format", "json"))
    text = files(tmp_path / "new")["accounts/root.yaml"]
    for word in (
        "ringtones",
        "preflow",
        "created",
        "binding_digit",
        "notifications",
        "engine",
        "enabled",
    ):
        assert word not in text
    assert_settled(run, 1)


@pytest.mark.parametrize(
    "odd", [{"name": None}, {"name": 5}, {"name": ["x"]}, {"realm": 7}, {"realm": None}]
)
def test_what_somebody_stored_as_name_or_realm_hides_no_account(
    world: World, run: Run, odd: JsonObject
) -> None:
    world.create("fine")
    record = world.account(world.create("odd") and "odd")
    record.document.update(odd)
    world.platform.store.put(record)
    assert run("adopt").code == 0
    assert run("plan", "--detailed-exitcode").code == 0
    assert run("drift").code == 0
    world.patch("fine", language="de-de")
    assert run("drift").code == 0  # nobody declared a language


def test_an_account_alone_brings_what_it_stands_below(world: World, run: Run) -> None:
    ids = a_tree(world)
    assert adopted(run("adopt", ids["east"], "--format", "json")) == ["acme", "east", "shop"]
    assert_settled(run, 3)
    assert adopted(run("adopt", "--only", "B*", "lone*", "--format", "json")) == ["bakery", "lone"]
    assert_settled(run, 5)
    assert run("adopt", "0" * 32).code == 1
    assert run("adopt", ROOT_ID).code == 0


def test_a_further_run_adds_what_is_new_and_touches_nothing_else(
    world: World, run: Run, tmp_path: Path
) -> None:
    ids = a_tree(world)
    adopted(run("adopt", "--format", "json"))
    before = files(tmp_path / "new")
    world.create("new", ids["shop"])
    world.create("shop!", ids["shop"], realm="other.example.com", name="Shop?x")
    ended = run("adopt", "--format", "json")
    assert adopted(ended) == ["new", "shop-x"]
    assert ended.json["files"] == ["accounts/east-2.yaml"]
    after = files(tmp_path / "new")
    assert {name: after[name] for name in before} == before
    assert_settled(run, 7)


def test_younger_accounts_of_the_same_name_change_no_key(serve: Serve, run: Run) -> None:
    world = odd(serve, "release", 60)
    first = set(adopted(run("adopt", "--format", "json")))
    root = world.platform.store.get(ROOT_ID)
    assert root is not None
    more = [
        replace(r, id=f"{n:032x}", api_key=f"{n:064x}", created=r.created + 10**8, tree=(ROOT_ID,))
        for n, r in enumerate(odd_tree(root, 60, dice(60))[:60], start=1000)
    ]
    world.platform.store.put_new(more)
    second = set(adopted(run("adopt", "--format", "json")))
    assert len(second) == 60
    assert not first & second
    assert_settled(run, 120)


def test_a_field_of_a_newer_platform_is_left_out_with_one_warning_or_kept_where_that_is_allowed(
    world: World, project: Project
) -> None:
    for name in ("a", "b", "c", "d"):
        world.create(name, blacklists=[], call_forward={"enabled": False})
    project.declare({}, include=["accounts"])
    ended = project.run("adopt", "--only", "a", "b", "c")
    assert ended.err.count("blacklists") == 1
    assert "In 3 accounts: accounts.a, accounts.b, accounts.c." in ended.err
    assert "extra_fields: allow" in ended.err
    project.declare({}, include=["accounts"], api={"extra_fields": "allow"})
    ended = project.run("adopt", "--format", "json")
    assert ended.json["left_out"] == []
    assert "blacklists" in files(project.directory)["accounts/root-2.yaml"]
    assert_settled(project.run, 4)


def test_a_secret_is_left_out_and_the_way_to_declare_it_is_told(
    world: World, run: Run, tmp_path: Path
) -> None:
    url = "https://user:s3cret@rec.example.com/up"
    world.create("acme", call_recording={"account": {"any": {"any": {"url": url}}}})
    ended = run("adopt")
    assert "settings.call_recording.account.any.any.url" in ended.err
    assert "${var.NAME}" in ended.err
    written = b"".join(p.read_bytes() for p in (tmp_path / "new").rglob("*") if p.is_file())
    assert b"s3cret" not in written + ended.out.encode() + ended.err.encode()
    assert_settled(run, 1)


# --- into a project that is there --------------------------------------------------------------


def test_defaults_that_an_account_does_not_have_are_left_alone_in_it(
    world: World, project: Project
) -> None:
    ids = a_tree(world)
    world.patch("lone", timezone="Europe/Paris", flags=["x"], org="https://x.example.com/?k=v")
    defaults: JsonObject = {
        "reseller": True,
        "parent": "mine",
        "lifecycle": {"ignore_changes": ["zones"]},
        "settings": {"language": "de-de", "zones": {"home": "x"},
                     "timezone": "Europe/Berlin", "org": "Mine", "call_waiting": None,
                     "caller_id": {"external": {"name": "${account.key}"}}},
    }  # fmt: skip
    mine: JsonObject = {
        "id": ids["acme"],
        "name": "acme",
        "realm": "acme.sip.example.com",
        "parent": "root",
    }
    project.declare({"mine": mine}, include=["accounts"], defaults=defaults)
    assert adopted(project.run("adopt", "--format", "json")) == ["bakery", "east", "lone", "shop"]
    planned = project.plan("--format", "json")
    assert [change["address"] for change in planned.json["changes"]] == ["accounts.mine"]


def test_what_is_declared_by_its_id_and_is_so_gets_into_state(
    world: World, project: Project
) -> None:
    ids = a_tree(world)
    mine: JsonObject = {"id": ids["acme"], "reseller": True}
    project.declare(
        {"acme": mine, "shop": {"id": ids["shop"], "language": "de-de"}}, include=["accounts"]
    )
    ended = project.run("adopt", "--format", "json")
    assert adopted(ended) == ["acme", "bakery", "east", "lone"]
    assert ended.json["adopted"][0]["file"] is None
    assert "declared otherwise" in ended.json["skipped"][0]["reason"]


def test_an_account_that_may_be_a_declared_one_is_not_declared_twice(
    world: World, project: Project
) -> None:
    ids = a_tree(world)
    project.declare({"mine": {"realm": "ACME.sip.example.com"}}, include=["accounts"])
    ended = project.run("adopt", "--format", "json")
    assert adopted(ended) == ["lone"]
    reasons = {one["name"]: one["reason"] for one in ended.json["skipped"]}
    assert f"id: {ids['acme']}" in reasons["acme"]
    assert reasons.keys() == {"acme", "bakery", "east", "shop"}
    assert project.run("validate").code == 0


def test_accounts_of_one_name_need_ids_and_then_they_are_as_good_as_any(
    serve: Serve, project: Project
) -> None:
    world = serve()
    first = world.create("acme")
    project.declare({"acme": {}}, include=["accounts"])
    assert project.run("import", "acme", first).code == 1  # `accounts` has no file yet
    project.write("accounts/none.yaml", "accounts: {}\n")
    assert project.run("import", "acme", first).code == 0
    record = world.account("acme")
    twin = replace(record, id="7" * 32, api_key="7" * 64)
    document = {**twin.document, "name": "A.C.M.E.", "realm": "twin.example.com"}
    world.platform.store.put_new([replace(twin, document=document)])
    (skipped,) = project.run("adopt", "--format", "json").json["skipped"]
    assert f"id: {first}" in skipped["reason"]
    project.declare({"acme": {"id": first}}, include=["accounts"])
    assert adopted(project.run("adopt", "--format", "json")) == ["a-c-m-e"]
    assert_settled(project.run, 2)
    project.declare({"acme": {}}, include=["accounts"])
    assert "declared twice" in project.run("validate", "--format", "json").out


def test_a_directory_that_is_not_included_is_refused_before_anything_is_asked(
    world: World, project: Project
) -> None:
    a_tree(world)
    project.declare({}, include=["shared/*.yaml"])
    for arguments, advice in [([], "accounts"), (["--out", "x/y"], "x/y")]:
        ended = project.run("adopt", *arguments)
        assert ended.code == 1
        assert f"include: [shared/*.yaml, {advice}]" in ended.err
    assert project.run("adopt", "--out", "../x").code == 1
    assert world.log == []
    assert project.run("adopt", "--out", "shared").code == 0
    assert_settled(project.run, 5)


def test_no_file_is_ever_overwritten(world: World, project: Project) -> None:
    a_tree(world)
    project.declare({}, include=["accounts"])
    for name in ("acme", "east", "templates"):
        project.write(f"accounts/{name}.yaml", "accounts: {}\n")
    ended = project.run("adopt", "--factor", "--format", "json")
    assert {"accounts/acme-2.yaml", "accounts/east-2.yaml"} < {*ended.json["files"]}
    assert files(project.directory)["accounts/acme.yaml"] == "accounts: {}\n"
    assert_settled(project.run, 5)


# --- interrupted -------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--factor"]])
def test_wherever_it_was_killed_the_next_run_finishes_it(
    serve: Serve, run: Run, tmp_path: Path, more: list[str]
) -> None:
    """Files are written one by one, each whole, and state last: a killed run has left the first few."""
    odd(serve, "release", 120)
    whole = run("adopt", "--format", "json", *more).json["files"]
    new, kept = tmp_path / "new", tmp_path / "kept"
    new.rename(kept)
    for count in range(len(whole) + 1):
        shutil.rmtree(new, ignore_errors=True)
        for name in whole[:count]:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / name, new / name)
        if count == len(whole):
            planned = run("plan", "--format", "json").json
            assert planned["summary"]["adopt"] == 120
            assert planned["operations"] == []
        assert len(adopted(run("adopt", "--format", "json", *more))) == 120
        assert_settled(run, 120)
        assert_same_keys(kept, new)


_KILLED = """
import os, pathlib, signal, sys
from reconciler.cli import main

def or_killed(function):
    def put(path, *others, **options):
        if "/.reconciler/" in str(path):  # and not what belongs to state
            os.kill(os.getpid(), signal.SIGKILL)
        return function(path, *others, **options)
    return put

os.link, pathlib.Path.replace = map(or_killed, (os.link, pathlib.Path.replace))
main(sys.argv[1:])
"""


def killed_in_place(directory: Path, *arguments: str) -> None:
    """Run a command that is killed when the first of its files is whole, and not in its place yet."""
    command = [sys.executable, "-c", _KILLED, *arguments, "-C", str(directory)]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def begun(directory: Path) -> list[Path]:
    """What killed runs have left."""
    return [*(directory / ".reconciler").glob("*.new")]


def seen_by_git(directory: Path) -> str:
    """What `git status` shows of all that is not committed."""
    command = ["git", "-C", str(directory), "status", "--porcelain", "--untracked-files=all"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def committed(directory: Path) -> None:
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "All"],
    ):
        subprocess.run(["git", "-C", str(directory), *command], check=True)


@pytest.mark.parametrize("command", ["adopt", "fmt"])
def test_what_a_killed_run_had_begun_is_seen_by_no_git_and_harms_no_later_run(
    world: World, run: Run, tmp_path: Path, command: str
) -> None:
    new = tmp_path / "new"
    a_tree(world)
    assert run("adopt").code == 0
    odd = new / "accounts/acme.yaml"
    odd.write_text(f"{odd.read_text()}\n\n")
    odd.chmod(0o640)
    committed(new)
    before = files(new)
    world.create("more")
    killed_in_place(new, command)
    (left,) = begun(new)
    assert files(new) == before
    assert seen_by_git(new) == ""
    assert run("fmt").code == 0
    assert odd.stat().st_mode & 0o777 == 0o640
    assert run("adopt").code == 0
    assert begun(new) == [left]


def test_a_run_that_is_killed_at_its_first_file_leaves_no_file_but_that(
    world: World, tmp_path: Path, run: Run
) -> None:
    a_tree(world)
    new = tmp_path / "new"
    new.mkdir()
    killed_in_place(new, "adopt")
    assert len(begun(new)) == 1
    assert run("adopt").code == 0
    committed(new)
    assert seen_by_git(new) == ""
    assert_settled(run, 5)


def test_editors_know_a_new_project_and_a_schema_that_is_there_stays(
    world: World, run: Run, tmp_path: Path
) -> None:
    a_tree(world)
    schema = tmp_path / "new" / "reconciler.schema.json"
    written = run("adopt", "--format", "json").json["files"]
    assert written[:3] == [".gitignore", "reconciler.schema.json", "reconciler.yaml"]
    assert schema.read_text() == run("schema").out
    first = (schema.parent / "reconciler.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=reconciler.schema.json"
    assert run("fmt", "--check").code == 0
    shutil.rmtree(schema.parent)
    schema.parent.mkdir()
    schema.write_text("{}")
    assert "reconciler.schema.json" not in run("adopt", "--format", "json").json["files"]
    assert schema.read_text() == "{}"


def assert_same_keys(one: Path, other: Path) -> None:
    states = [json.loads((d / "state/reconciler.state.json").read_bytes()) for d in (one, other)]
    first, second = ({k: r["id"] for k, r in s["accounts"].items()} for s in states)
    assert first == second


@contextmanager
def creating(world: World, project: Project) -> Iterator[None]:
    """An apply that is kept waiting for the answer to its create, and killed in the end."""
    project.declare({"other": {}})
    world.fault(method="PUT", path="/accounts/*", phase="after", delay_ms=60_000)
    with project.start("apply", "--auto-approve") as process:
        wait_for(lambda: "other" in world.names())
        project.declare({"other": {}}, include=["accounts"])
        yield
        process.kill()


def test_a_run_that_was_interrupted_is_finished_first(world: World, project: Project) -> None:
    with creating(world, project):
        pass
    project.write("accounts/none.yaml", "accounts: {}\n")
    refused = project.run("adopt")
    assert (refused.code, "reconciler apply" in refused.err) == (3, True)
    project.settle()
    assert "1 account under management already" in project.run("adopt").out


def test_while_another_run_is_under_way_nothing_is_written(world: World, project: Project) -> None:
    a_tree(world)
    with creating(world, project):
        ended = project.run("adopt")
    assert ended.code in {3, 4}, ended.err
    assert files(project.directory).keys() == {"reconciler.yaml"}


# --- one account -------------------------------------------------------------------------------


def test_an_import_claims_what_is_so_and_plan_shows_what_is_not(
    world: World, project: Project
) -> None:
    there = world.create("acme", language="en-us", timezone="Europe/Paris")
    project.declare({"acme": {"language": "de-de", "timezone": "Europe/Paris"}})
    assert project.run("import", "acme", there).code == 0
    planned = project.plan("--format", "json").json
    assert [field["path"] for field in planned["changes"][0]["fields"]] == ["settings.language"]
    world.patch("acme", timezone="Europe/Berlin")
    assert "settings.timezone" in project.run("drift").out


def test_an_import_that_would_be_wrong_says_what_to_do(world: World, project: Project) -> None:
    there, other = world.create("acme"), world.create("other")
    project.declare({"acme": {}, "twin": {"id": other}, "fixed": {"id": "0" * 32}})
    for key, account, advice in [
        ("nobody", there, "reconciler adopt"),
        ("acme", other, "accounts.twin has"),
        ("fixed", there, "accounts.fixed has"),
        ("acme", ROOT_ID, "no account"),
        ("acme", "1" * 32, "no account"),
        ("acme", "../x", "an account id is"),
    ]:
        ended = project.run("import", key, account)
        assert (ended.code, advice in ended.err) == (1, True), ended.err
    assert not project.state_file.exists()
    assert project.run("import", "acme", there).code == 0
    assert "in state already" in project.run("import", "acme", there).err
