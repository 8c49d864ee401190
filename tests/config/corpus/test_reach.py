"""What an `include` reaches: files of the project, each once; never a way out, never nothing."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from reconciler.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Validated = tuple[int, list[str]]


def account(key: str) -> str:
    return f"accounts: {{{key}: {{settings: {{name: {key}, realm: {key}.example.com}}}}}}\n"


@pytest.fixture
def validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Validated]:
    """Number of accounts and errors (`place summary: detail`) of a project that includes these."""

    def run(*include: str) -> Validated:
        first = f"version: 1\napi: {{url: 'sandbox:'}}\ninclude: {json.dumps(include)}\n"
        (tmp_path / "reconciler.yaml").write_text(first)
        code = main(["validate", "-C", str(tmp_path), "--format", "json"])
        told = json.loads(capsys.readouterr().out)["diagnostics"]
        found = [f"{d['file']}:{d['line']} {d['summary']}: {d['detail']}" for d in told]
        assert code == bool(found)
        main(["validate", "-C", str(tmp_path)])
        said = capsys.readouterr().out
        return (int(said.split()[1]) if said else 0), found

    return run


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., None]:
    """Write files of the project, by path."""

    def write(**texts: str) -> None:
        for name, text in texts.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_a_directory_gives_its_yaml_files_at_any_depth_whatever_their_case(
    tmp_path: Path, validated: Callable[..., Validated]
) -> None:
    for name in ("a/one.yaml", "a/b/two.yml", "a/b/c/THREE.YAML", "a/four.yaml/five.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(account(name[2:3] + name[-6:-5]))
    assert validated("a") == (4, [])


def test_hidden_files_backups_and_what_is_no_yaml_are_not_looked_at(
    tmp_path: Path, validated: Callable[..., Validated]
) -> None:
    names = [
        ".x.yaml",
        ".git/y.yaml",
        ".x.yaml.swp",
        "x.yaml~",
        "#x.yaml#",
        "x.yaml.bak",
        "x.txt",
        "README",
    ]
    for name in names:
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text("{")
    (tmp_path / "a/.#x.yaml").symlink_to("user@host.123")  # an editor's lock
    (tmp_path / "a/loop").symlink_to("loop")
    os.mkfifo(tmp_path / "a/pipe")
    (tmp_path / "a/x.yaml").write_text(account("x"))
    assert validated("a") == (1, [])
    assert validated("a/*.yaml") == (1, [])
    assert validated("**/*.yaml") == (1, [])


def test_what_is_hidden_can_be_named(tmp_path: Path, validated: Callable[..., Validated]) -> None:
    (tmp_path / ".a").mkdir()
    (tmp_path / ".a/x.yaml").write_text(account("x"))
    assert validated(".a") == (1, [])
    assert validated(".a/*.yaml") == (1, [])
    assert validated("*/x.yaml")[0] == 0


def test_a_file_counts_once_however_often_it_is_named(
    tmp_path: Path, validated: Callable[..., Validated]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.yaml").write_text(account("x"))
    (tmp_path / "a/y.yaml").symlink_to("x.yaml")
    (tmp_path / "b").symlink_to("a")
    assert validated(
        "a", "b", "a/x.yaml", "./a//x.yaml", "a/*.yaml", "**/*.yaml", "reconciler.yaml"
    ) == (1, [])


def test_links_in_circles_and_by_many_ways_are_followed_once(
    tmp_path: Path, validated: Callable[..., Validated]
) -> None:
    above = tmp_path / "a"
    above.mkdir()
    (above / "x.yaml").write_text(account("x"))
    (above / "self").symlink_to(".")
    (above / "up").symlink_to("..")
    for n in range(40):  # two ways down each time: a million million to the last
        below = tmp_path / f"n{n}"
        below.mkdir()
        (above / "left").symlink_to(below)
        (above / "right").symlink_to(below)
        above = below
    (above / "y.yaml").write_text(account("y"))
    assert validated("a") == (2, [])


def test_a_thousand_directories_deep_is_not_too_deep(
    tmp_path: Path, validated: Callable[..., Validated], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        os.mkdir("a")  # noqa: PTH102 - the whole path would be too long
        os.chdir("a")
    with open("x.yaml", "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        file.write(account("x"))
    monkeypatch.chdir(tmp_path)
    assert validated("a") == (1, [])
    for _ in range(1100):  # bring it up, so that it can be cleared away
        os.rename("a/a", "b") if os.path.isdir("a/a") else None  # noqa: PTH104, PTH112
        os.rename("a", f"c{_}")  # noqa: PTH104
        if not os.path.isdir("b"):  # noqa: PTH112
            break
        os.rename("b", "a")  # noqa: PTH104


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("nowhere", '"nowhere" is no file and no directory of the project.'),
        ("*.yml", '"*.yml" matches no file.'),
        ("[", '"[" matches no file.'),
        ("**x", '"**x"'),
        ("a/**b/*", '"a/**b/*"'),
        ("", '"" names no file.'),
        (" ", '"" names no file.'),
        ("/etc", '"/etc" leads out of the project'),
        ("../x", '"../x" leads out of the project'),
        ("a/../../x", '"a/../../x" leads out of the project'),
        ("a/..", '"a/.." leads out of the project'),
        ("~", '"~" is no file'),
        ("${var.x}", '"${var.x}" is no file'),
        ("x" * 5000, '"xxx'),
        ("*/" * 300, '"*/*/'),
        ("empty", '"empty" has no file that ends in .yaml or .yml.'),
        ("texts", '"texts" has no file that ends in .yaml or .yml.'),
        ("hidden", '"hidden" has no file that ends in .yaml or .yml.'),
        ("fifo.yaml", '"fifo.yaml" is no regular file'),
        ("fifos", '"fifos/x.yaml" is no regular file'),
        ("sockets", '"sockets/x.yaml" is no regular file'),
        ("out.yaml", '"out.yaml" is a link that leads out of the project.'),
        ("out", '"out" is a link that leads out of the project.'),
        ("out/*", '"out" is a link that leads out of the project.'),
        ("out/secret.yaml", '"out" is a link that leads out of the project.'),
        ("outs", '"outs/link" is a link that leads out of the project.'),
        ("zero.yaml", '"zero.yaml" is a link that leads out of the project.'),
        ("gone.yaml", '"gone.yaml" is a link that leads nowhere.'),
        ("gones", '"gones/x.yaml" is a link that leads nowhere.'),
        ("round.yaml", '"round.yaml" is a link that leads nowhere.'),
    ],
)  # fmt: skip
def test_what_leads_out_or_to_nothing_is_one_error_at_the_entry(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    validated: Callable[..., Validated],
    pattern: str,
    error: str,
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.yaml").write_text(account("secret"))
    for name in ("empty", "texts", "hidden", "fifos", "sockets", "outs", "gones"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts/x.txt").write_text("x")
    (tmp_path / "hidden/.x.yaml").write_text("x")
    os.mkfifo(tmp_path / "fifo.yaml")
    os.mkfifo(tmp_path / "fifos/x.yaml")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "sockets/x.yaml"))
    for link, target in (
        ("out.yaml", outside / "secret.yaml"), ("out", outside), ("outs/link", outside), ("zero.yaml", "/dev/zero"),
        ("gone.yaml", "nowhere"), ("gones/x.yaml", "nowhere"), ("round.yaml", "round.yaml"),
    ):  # fmt: skip
        (tmp_path / link).symlink_to(target)
    (tmp_path / "good.yaml").write_text(account("good"))
    _, (found,) = validated("good.yaml", pattern)
    assert found.startswith("reconciler.yaml:3 A wrong include: ")
    assert error in found
    assert "secret" not in found.replace(pattern, "")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "x.yaml:1 A file without content"), ("# x\n", "x.yaml:1 A file without content"), ("- a\n", "x.yaml:1 A file without content"),
        ("a: 1\n---\n", "x.yaml:1 An unknown key"), ("accounts: {}\n---\n# x\n", "x.yaml:2 A document without content"), ("\n\nx\n", "x.yaml:3 A document without content"),
        ("accounts:\n", "x.yaml:1 A key without a value"), ("accounts:\n  a:\n", "x.yaml:2 A key without a value"), ("accounts:\n  a:\n    settings:\n", "x.yaml:3 A key without a value"),
        ("moved: []\naccounts: []\n", "x.yaml:2 A wrong value"), ("version: 1\n", "x.yaml:1 An unknown key"), ("include: [y.yaml]\n", "x.yaml:1 An unknown key"),
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_is_an_error_in_it(
    tmp_path: Path, validated: Callable[..., Validated], text: str, error: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    _, found = validated("x.yaml")
    assert found[0].startswith(error)
    assert len([line for line in found if line.startswith("x.yaml")]) == len(found)


def test_the_name_of_a_file_can_be_any_bytes(
    tmp_path: Path, validated: Callable[..., Validated], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    name = os.fsdecode(b"\xff\x1b[31m\n.yaml")
    (tmp_path / "a" / name).write_text("x: 1\n")
    _, (found,) = validated("a")
    assert found.startswith(f"a/{name}:1 An unknown key")
    assert main(["validate", "-C", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("a/\\udcff\\u001b[31m\\u000a.yaml:1:1: x: ")
    assert main(["validate", "-C", str(tmp_path), "--report", str(tmp_path / "x.sarif")]) == 1
    assert "a/%FF%1B%5B31m%0A.yaml" in (tmp_path / "x.sarif").read_text()
