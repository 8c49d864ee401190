"""The documents say what the code says: fields, rules and sections that one names, the other has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
from pydantic import BaseModel

from reconciler.config.project import open_project
from reconciler.core.account import Account
from reconciler.core.shapes import AccountShape, ProjectShape
from reconciler.workflow import Options, check

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
MODULES: Final = sorted((ROOT / "reconciler").rglob("*.py"))
PAGES: Final = sorted([*DOCS.glob("*.md"), *(ROOT / "examples").glob("*/README.md")])

_HEADING = re.compile(
    r"^#{2,}\s+(?:(?P<number>\d+(?:\.\d+)?)\.?\s+)?(?P<title>.+?)\s*$", re.MULTILINE
)
_CITED = re.compile(
    r'(?:section "(?P<before>[^"]+)" in )?docs/(?P<page>\w+)\.md(?=(?P<after>.{0,200}))'
)
_TITLE = re.compile(r', "([^"]+)"')
_NUMBERS = re.compile(r"(?:(?:,? |, and | to | and )\d+(?:\.\d+)?(?: \([^)]*\))?)+")
_RANGE = re.compile(r"(\d+)\.(\d+) to \1\.(\d+)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LINK = re.compile(
    r'\[[^\]]*\]\((?P<page>[^)#:]+)\)(?:, "(?P<title>[^"]+)"| (?P<number>\d+(?:\.\d+)?))?'
)
_RULE = re.compile(r'(?:Refusal|\.refuse|_over)\(\s*"(\w+)"')


def sections(page: Path) -> set[str]:
    """The numbers and the titles of a page's sections."""
    found = _HEADING.finditer(page.read_text(encoding="utf-8"))
    return {part for match in found for part in (match["number"], match["title"]) if part}


def citations(module: Path) -> Iterator[tuple[str, str]]:
    """What a module names of the documents: the page, and a section of it, or ""."""
    lines = module.read_text(encoding="utf-8").splitlines()
    text = " ".join(line.strip().removeprefix("# ") for line in lines)
    for match in _CITED.finditer(text):
        yield match["page"], match["before"] or ""
        if title := _TITLE.match(match["after"]):
            yield match["page"], title[1]
        if numbers := _NUMBERS.match(match["after"]):
            plain = re.sub(r"\([^)]*\)", "", numbers[0])
            for first, low, high in _RANGE.findall(plain):
                yield from ((match["page"], f"{first}.{n}") for n in range(int(low), int(high) + 1))
            yield from ((match["page"], number) for number in _NUMBER.findall(plain))


def fields(shape: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Each field of a shape and of those that it holds, with the name of the shape."""
    for name, info in shape.model_fields.items():
        yield shape.__name__, info.alias or name
        for held in _held(info.annotation):
            yield from fields(held)


def _held(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _held(argument)


CITED: Final = sorted({(page, part) for module in MODULES for page, part in citations(module)})
SHAPED: Final = sorted({*fields(ProjectShape), *fields(AccountShape)})
RULES: Final = sorted(
    {rule for module in MODULES for rule in _RULE.findall(module.read_text(encoding="utf-8"))}
)


def test_the_search_for_citations_finds_all_kinds_of_them() -> None:
    assert {
        ("platform", "3.9"),  # inside of a range
        ("platform", "9"),
        ("behaviours", "Apply"),
        ("formats", "JSON"),
        ("state", ""),
    } <= {*CITED}


@pytest.mark.parametrize(("page", "part"), CITED)
def test_what_the_code_cites_is_there(page: str, part: str) -> None:
    path = DOCS / f"{page}.md"
    assert path.is_file()
    assert not part or part in sections(path)


@pytest.mark.parametrize(("shape", "name"), SHAPED)
def test_each_key_of_the_files_is_explained(shape: str, name: str) -> None:
    assert f"`{name}`" in (DOCS / "configuration.md").read_text(encoding="utf-8"), shape


@pytest.mark.parametrize("page", ["configuration", "platform"])
@pytest.mark.parametrize("name", Account.model_fields)
def test_each_field_of_an_account_is_explained(page: str, name: str) -> None:
    assert f"`{name}`" in (DOCS / f"{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES)
def test_each_refusal_is_explained(rule: str) -> None:
    assert f"\n| `{rule}` |" in (DOCS / "behaviours.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for match in _LINK.finditer(page.read_text(encoding="utf-8")):
        target = page.parent / match["page"]
        assert target.exists(), match[0]
        part = match["title"] or match["number"]
        assert not part or part in sections(target), match[0]


@pytest.mark.parametrize("name", ["quickstart", "wholesale"])
def test_examples_are_valid_without_a_warning(name: str) -> None:
    project = open_project(ROOT / "examples" / name, {})
    assert check(project, Options()).warnings == ()


def test_what_state_promises_is_tested_as_it_says() -> None:
    named = set(re.findall(r"\btest_\w+(?!\w|\.py)", (DOCS / "state.md").read_text("utf-8")))
    files = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")]
    there = {name for text in files for name in re.findall(r"def (test_\w+)", text)}
    assert len(named) > 20
    assert named - there == set()
