"""Small texts that want to become large, and large ones: bounded time and memory, one error each.

They are read in a process of their own, which the system ends at a gigabyte or a minute of work.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from reconciler.cli import main
from reconciler.core.assembly import MAX_TEMPLATES

if TYPE_CHECKING:
    from pathlib import Path

MEMORY: Final = 1024 * 1024 * 1024
SECONDS: Final = 60

READER = """
import json, sys
from reconciler.config.nodes import parse
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        documents, diagnostics = parse("f.yaml", file.read())
    found = [f"{d.source.line}:{d.source.column} {d.summary}" for d in diagnostics]
    print(json.dumps(found[:1] or [len(documents)]), flush=True)
"""

MANY = 256 * 1024


def laughs(opening: str, closing: str, item: str) -> str:
    """Each line has the one before ten times."""
    lines = [f"a0: &a0 {opening}{item.format(0)}1{closing}"]
    for n in range(1, 12):
        items = ", ".join(f"{item.format(i)}*a{n - 1}" for i in range(10))
        lines.append(f"a{n}: &a{n} {opening}{items}{closing}")
    return "\n".join(lines)


VALUES, TEXT, DEEP = "Too many values", "Too much text", "Too deep a nesting"
LONG, BROKEN, KEY = "A key that is too long", "Broken YAML", "A key that is no string"

BOMBS: list[tuple[str, str | int]] = [
    (laughs("[", "]", ""), f"7:25 {VALUES}"),
    (laughs("{", "}", "k{}: "), f"7:41 {VALUES}"),
    ("a0: &a0 {k0: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}\n" for n in range(1, 3000)), f"1000:18 {VALUES}"),
    ("a: &a {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}\n" + "b: {<<: *a}\n" * 2000, f"999:9 {VALUES}"),
    ("a: &a {" + ", ".join(f"k{n}: 1" for n in range(99)) + "}\nb: {<<: [" + "*a, " * 20_000 + "]}\n", f"2:40002 {VALUES}"),
    ("a: &a [" + "x, " * 999 + "]\nb: [" + "*a, " * 999 + "]\n", f"2:3997 {VALUES}"),
    ("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 100_000 + "]\n", f"2:673 {TEXT}"),
    ("a: &a {k: &b [" + "x" * 100_000 + "]}\nb: &c [" + "*b, " * 99 + "]\nc: [*c, *c, *c]\n", f"3:5 {TEXT}"),
    ("a: " + "[" * 10_000 + "]" * 10_000, f"1:67 {DEEP}"),
    ("a: " + "[" * MANY, f"1:67 {DEEP}"),
    ("{a: " * 10_000 + "1" + "}" * 10_000, f"1:257 {DEEP}"),
    ("{" * 10_000, f"1:2 {KEY}"),
    ("? " * 10_000 + "x", f"1:3 {KEY}"),
    ("".join(" " * n + "a:\n" for n in range(3000)), f"65:65 {DEEP}"),
    ("- " * 10_000 + "x", f"1:129 {DEEP}"),
    ("".join(f"a{n}: &a{n} [*a{n - 1}]\n" if n else "a0: &a0 []\n" for n in range(100)), f"64:12 {DEEP}"),
    ("a: " + "x" * (4 * MANY), 1),
    ("a: '" + "''" * MANY + "'", 1),
    ('a: "' + "\n" * MANY + '"', 1),
    ("a: |\n" + "  x\n" * MANY, 1),
    ("#\n" * MANY, 0),
    ("\n" * MANY, 0),
    ("a: " + "1" * MANY, "1:4 A number that can't be kept"),
    ("a: " + "1" * MANY + "." + "1" * MANY, "1:4 A number that can't be kept"),
    ("? " + "x" * MANY, f"1:3 {LONG}"),
    ("a: &" + "x" * MANY + " 1", 1),
    ("a: *" + "x" * MANY, "1:4 An unknown alias"),
    ("a: !" + "x" * MANY + " 1", "1:4 A YAML tag"),
    ('a: "' + "x\n" * MANY, f"1:4 {BROKEN}"),
    ("a: [" + "x,\n" * 100_000, f"1:4 {BROKEN}"),
    ("a: " + ":" * MANY, f"1:{MANY + 3} {BROKEN}"),
    ("".join(f"%TAG !a{n}! x:\n" for n in range(50_000)) + "---\na: 1\n", "65:1 Too many directives"),
    ("".join(f"%TAG !a{n}! x:\r" for n in range(50_000)) + "---\ra: 1\r", "65:1 Too many directives"),
    ("".join(f"k{n}: {n}\n" for n in range(30_000)), 1),
    ("".join(f"k{n}: {n}\n" for n in range(30_000)) * 2, "30001:1 A key declared twice"),
    ("a: [" + ", ".join(f"&a{n} 1" for n in range(30_000)) + "]", 1),
]  # fmt: skip


def test_bombs_end_in_bounded_time_and_memory(tmp_path: Path) -> None:
    names = []
    for number, (text, _) in enumerate(BOMBS):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, newline="")
        names.append(str(path))
    ended = subprocess.run(
        [sys.executable, "-c", READER, *names],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    assert ended.stderr == ""
    told = [json.loads(line)[0] for line in ended.stdout.splitlines()]
    assert told == [verdict for _, verdict in BOMBS]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


ACCOUNT = "settings: {name: N%d, realm: r%d.example.com}"


def accounts(count: int, more: str = "") -> str:
    """A file of accounts, each with `more` in its block; %d is its number."""
    line = f"  k%d: {{{more}{ACCOUNT}}}\n"
    return "accounts:\n" + "".join(line.replace("%d", str(n)) for n in range(count))


SOME: Final = -1

PROJECTS: list[tuple[str, str, str, int]] = [
    # templates that double each time, that hang one below the other, that go in a circle
    ("templates:\n  t0: {}\n" + "".join(f"  t{n}: {{extends: [t{n - 1}, t{n - 1}]}}\n" for n in range(1, 60)) + accounts(1, "extends: [t59], "), "", "", 0),
    ("templates:\n  t0: {}\n" + "".join(f"  t{n}: {{extends: [t{n - 1}]}}\n" for n in range(1, 1200)) + accounts(1, "extends: [t1199], "), f"More than {MAX_TEMPLATES}, one below the other", "x.yaml:39:19", SOME),
    ("templates:\n" + "".join(f"  t{n}: {{}}\n" for n in range(65)) + accounts(1, f"extends: [{', '.join(f't{n}' for n in range(65))}], "), "65 templates lie below it", "x.yaml:68:17", 1),
    ("templates:\n" + "".join(f"  t{n}: {{extends: [t{(n + 1) % 50}]}}\n" for n in range(50)) + accounts(1, "extends: [t0], "), "t0 -> t1 -> ", "x.yaml:51:19", 1),
    # parents that go in a circle, that are unknown, that hang one below the other
    ("accounts:\n" + "".join(f"  k{n:05}: {{parent: k{(n + 1) % 5000:05}, {ACCOUNT}}}\n" % (n, n) for n in range(5000)), "-> … (4981 more) ->", "x.yaml:2:20", 1),
    (accounts(3000, "parent: kx%d, "), '"kx0" is no account, nor `root`. Nearest: "k0".', "x.yaml:2:16", 3000),
    ("accounts:\n" + "".join(f"  k{n:05}: {{parent: {f'k{n + 1:05}' if n < 4999 else 'root'}, {ACCOUNT}}}\n" % (n, n) for n in range(5000)), "", "", 0),
    # what many accounts have from one place is told once
    ("templates: {t: {settings: {org: '${var.x}'}}}\n" + accounts(2000, "extends: [t], "), "(The same from here: 2000 more.)", "x.yaml:1:33", 1),
    ("templates: {t: {extends: [u]}}\n" + accounts(2000, "extends: [t], "), '"u" is no template', "x.yaml:1:27", 1),
    # a mistake in each account, in each field
    (accounts(3000, "reseler: true, "), "3,000 in this document; 1,000 of them", "x.yaml:1:1", 1001),
    (accounts(3000, "extends: t, "), "3,000 in this document; 1,000 of them", "x.yaml:1:1", 1001),
    ("accounts: {a: {settings: {name: A, realm: aaaa, " + ", ".join(f"f{n}: 1" for n in range(3000)) + "}}}\n", '"f0": There is no such field.', "x.yaml:1:49", 3000),
    ("".join(f"k{n}: 1\n" for n in range(20_000)), "20,000 in this document; 1,000 of them", "x.yaml:1:1", 1001),
    ("accounts:\n" + f"  k%d: {{{ACCOUNT}}}\n".replace("%d", "0") + "".join(f"  k{n}: {{settings: {{name: N0, realm: r{n}.example.com}}}}\n" for n in range(1, 3000)), '"N0" is taken by accounts.k0', "x.yaml:3:25", 2999),
    # text that interpolations repeat
    (accounts(400).replace("realm:", "org: 'x${var.big}', realm:"), "The interpolations make more than", "x.yaml:6:34", 132),
    (accounts(1).replace("realm:", f"org: '{'${var.big}' * 5000}', realm:"), "The interpolations make more than", "x.yaml:2:34", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "detail", "place", "count"), PROJECTS, ids=range(len(PROJECTS)))
def test_projects_that_want_to_become_large_are_judged_like_others(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    detail: str,
    place: str,
    count: int,
) -> None:
    big = "x" * 500_000
    (tmp_path / "reconciler.yaml").write_text(
        f"version: 1\ninclude: [x.yaml]\nvariables: {{big: {{default: {big}}}}}\n"
    )
    (tmp_path / "x.yaml").write_text(text)
    assert main(["validate", "-C", str(tmp_path), "--format", "json"]) == (1 if count else 0)
    told = json.loads(capsys.readouterr().out)["diagnostics"]
    found = [d for d in told if d["severity"] == "error"]
    assert len(found) == count or (count == SOME and found)
    if found:
        assert detail in found[0]["detail"]
        assert f"{found[0]['file']}:{found[0]['line']}:{found[0]['column']}" == place
