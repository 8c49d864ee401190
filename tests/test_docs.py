"""The documents say what the code says: fields, rules and sections that one names, the other has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel

from reconciler.config.project import open_project
from reconciler.core import account
from reconciler.core.account import Account
from reconciler.core.shapes import (
    AccountSafetyShape,
    AccountsFromShape,
    AccountShape,
    ApiShape,
    DriftShape,
    ExceptionShape,
    IncludedShape,
    KnownShape,
    LifecycleShape,
    MovedShape,
    PolicyShape,
    ProjectShape,
    RemovedShape,
    SafetyShape,
    VariableShape,
)
from reconciler.workflow import Options, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
CONFIGURATION: Final = DOCS / "configuration.md"
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


# --- configuration.md and the models -----------------------------------------------------------

SHAPES: Final[dict[str, type[BaseModel]]] = {
    "key of `reconciler.yaml`": ProjectShape,
    "key of `api`": ApiShape,
    "key of `safety`": SafetyShape,
    "key of an account's `safety`": AccountSafetyShape,
    "key of `exceptions`": ExceptionShape,
    "key of `drift`": DriftShape,
    "key of `accept`": KnownShape,
    "key of a variable": VariableShape,
    "key of a block": AccountShape,
    "key of `lifecycle`": LifecycleShape,
    "key of `accounts_from`": AccountsFromShape,
    "key of `moved`": MovedShape,
    "key of `policy`": PolicyShape,
    "key of `removed`": RemovedShape,
}
"""What the first cell of a table's head in configuration.md is, and the shape that it explains."""

_TABLE = re.compile(r"^\| (?P<head>.+?) \|.*\n\|[-|]+\n(?P<rows>(?:\|.*\n)+)", re.MULTILINE)
_CELL = re.compile(r"(?<!\\) ?\| ?")


def tables() -> dict[str, list[tuple[list[str], str, str | None]]]:
    """Of configuration.md, by the first cell of the head: keys, what, default if that is told."""
    found = {}
    for table in _TABLE.finditer(CONFIGURATION.read_text(encoding="utf-8")):
        cells = [_CELL.split(row.strip("|")) for row in table["rows"].splitlines()]
        found[table["head"]] = [
            (re.findall(r"`(\w+)`", names), what, default[0].strip() if default else None)
            for names, what, *default in cells
        ]
    return found


def test_the_table_of_a_shape_has_its_keys_and_no_others() -> None:
    found = tables()
    for head, shape in SHAPES.items():
        keys = [info.alias or name for name, info in shape.model_fields.items()]
        explained = [key for names, _, _ in found[head] for key in names]
        assert sorted(explained) == sorted(keys), head


def test_each_shape_of_the_files_has_a_table() -> None:
    below = {shape for shape, _ in (*fields(ProjectShape), *fields(IncludedShape))}
    covered = {shape.__name__ for shape in SHAPES.values()}
    assert below - covered == {"BlockShape", "IncludedShape"}  # an account's, the project's: less


def test_tables_tell_the_defaults_and_limits_of_the_shapes() -> None:
    found = tables()
    for head, shape in SHAPES.items():
        rows = {key: (what, default) for keys, what, default in found[head] for key in keys}
        for name, info in shape.model_fields.items():
            what, told = rows[info.alias or name]
            if told is not None:
                assert default_of(info) in (told, None), (head, name)
            for limit in limits(info):
                assert limit in what, (head, name)


def default_of(info: FieldInfo) -> str | None:
    """What stands in the column of defaults; None if no constant does."""
    if isinstance(info.default, bool | int | str) and info.default != "":
        return f"`{str(info.default).lower() if isinstance(info.default, bool) else info.default}`"
    return None


def limits(info: FieldInfo) -> Iterator[str]:
    """What the text about a key must say of its values."""
    bounds = {type(limit): limit for limit in info.metadata}
    least, most = bounds.get(Ge), bounds.get(Le)
    if least and most:
        yield f"{least.ge} to {most.le}" if least.ge != most.le else f"`{least.ge}`"
    if get_origin(info.annotation) is Literal:
        yield from (f"`{value}`" for value in get_args(info.annotation))


def test_the_overview_of_settings_has_each_field_and_no_others() -> None:
    explained = [field for names, _, _ in tables()["field of `settings`"] for field in names]
    assert sorted(explained) == sorted(Account.model_fields)


@pytest.mark.parametrize("name", Account.model_fields)
def test_each_field_of_an_account_is_explained(name: str) -> None:
    assert f"`{name}`" in (DOCS / "platform.md").read_text(encoding="utf-8")


def test_the_list_of_all_fields_is_what_the_models_say(pytestconfig: pytest.Config) -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    head, begin, rest = text.partition("<!-- fields -->\n")
    _, end, tail = rest.partition("<!-- end of fields -->\n")
    assert begin
    assert end
    expected = head + begin + all_fields() + end + tail
    if pytestconfig.getoption("--rewrite-golden"):
        CONFIGURATION.write_text(expected, encoding="utf-8")
        text = expected
    assert text == expected, "`make golden` rewrites it"


# --- the list of all fields -------------------------------------------------------------------

Schema: TypeAlias = dict[str, Any]
SETTINGS: Final[Schema] = {**account.json_schema([])}


def all_fields() -> str:
    """Each field of `settings` that holds no others, then those of the data of metaflow modules."""
    lines = ["| field of an account | value | what |", "|---|---|---|"]
    lines += [f"| `{path}` | {kind} | {what} |" for path, kind, what in leaves(SETTINGS, "")]
    lines += ["", "| field of a module's `data` | value | what |", "|---|---|---|"]
    for module, model in account.MODULES.items():
        rows = [*leaves(SETTINGS["$defs"][model.__name__], f"{module}.")]
        lines += [f"| `{path}` | {kind} | {what} |" for path, kind, what in rows]
        lines += [] if rows else [f"| `{module}` | no data | |"]
    return "\n".join(lines) + "\n"


def leaves(schema: Schema, path: str) -> Iterator[tuple[str, str, str]]:
    """(path, value, what) of each field below; objects that are alike stand side by side."""
    for names, inner in side_by_side(schema):
        name = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
        must = "; required" if names[0] in schema.get("required", []) else ""
        yield from below(inner, path + name, must)
    if schema.get("properties") and isinstance(others := schema["additionalProperties"], dict):
        yield from below(others, f"{path}*", "")


def below(schema: Schema, path: str, must: str) -> Iterator[tuple[str, str, str]]:
    found = target(schema)
    others = found.get("additionalProperties")
    if "properties" in found:
        yield from leaves(found, f"{path}.")
    elif isinstance(others, dict) and not path.endswith(".children"):
        yield from below(others, f"{path}.*", must)
    else:
        yield path, kind_of(found) + must, schema["description"].replace("|", "\\|")


def side_by_side(schema: Schema) -> Iterator[tuple[list[str], Schema]]:
    """The fields of an object; those that hold the same object together."""
    groups: dict[str, list[str]] = {}
    for name, inner in schema.get("properties", {}).items():
        found = target(inner)
        alike = json.dumps(found) if found.get("type") == "object" else name
        groups.setdefault(alike, []).append(name)
    for names in groups.values():
        yield names, schema["properties"][names[0]]


def target(schema: Schema) -> Schema:
    """The first form of a value that is not null, without references."""
    if "$ref" in schema:
        return target(SETTINGS["$defs"][schema["$ref"].rpartition("/")[2]])
    forms = schema.get("anyOf") or schema.get("oneOf")
    return target(forms[0]) if forms else schema


def kind_of(schema: Schema) -> str:
    """A value in words, with its limits."""
    if schema.get("enum"):
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "format" in schema:
        return {"uri": "http or https URL", "regex": "regular expression"}[schema["format"]]
    if schema["type"] == "array":
        return f"list: {kind_of(schema['items'])}"
    kind = str(schema["type"]).replace("string", "text").replace("object", "mapping")
    low, high, unit = (
        (schema.get("minLength"), schema.get("maxLength"), " characters")
        if kind == "text"
        else (schema.get("minimum"), schema.get("maximum"), "")
    )
    if high is None:
        return kind if low is None else f"{kind}, {low} or more{unit}"
    return f"{kind}, {f'{low} to' if low else 'at most'} {high}{unit}"


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
