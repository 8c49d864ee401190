"""The published JSON Schema and the tool accept and refuse the same files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.cli import main
from reconciler.config.nodes import parse
from reconciler.config.project import open_project
from reconciler.config.schema import file_schema
from reconciler.core.account import MODULES, json_schema, violations
from reconciler.core.configuration import Invalid
from reconciler.core.values import Source
from reconciler.core.variables import Filler, Row, Variable
from reconciler.demo import examples
from reconciler.workflow import Options, check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reconciler.core.values import Diagnostic

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]
Document: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[str | int, ...]

SCHEMA: Final = file_schema()
VALIDATOR: Final = Draft202012Validator(SCHEMA)

PLAIN: Final = "version: 1\nvariables: {text: {default: x}}\ninclude: [included.yaml]\n"


def refusals(document: Any) -> list[str]:
    """What the schema finds wrong."""
    return [
        f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(document)
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without its first file."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "rows.csv").write_text("code,n,flag\nc1,5,true\nc2,6,false\n")
    (directory / "more.yaml").write_text("{}\n")
    return directory


def errors(directory: Path, document: Any) -> list[Diagnostic]:
    """What the tool finds wrong with a project of this file, or with one that includes it."""
    text = json.dumps(document, ensure_ascii=False)
    included = "version" not in document
    (directory / "included.yaml").write_text(text)
    (directory / "reconciler.yaml").write_text(PLAIN if included else text)
    try:
        project = open_project(directory, {})
        project.check_url()
        check(project, Options())
    except Invalid as error:
        return [found for found in error.diagnostics if found.severity == "error"]
    return []


# --- documents that are right, by the models --------------------------------------------------

ACCOUNT: Final[Document] = {**json_schema(["Etc/UTC", "Europe/Paris", "America/New_York"])}
PARTS: Final[Document] = ACCOUNT["$defs"]
OPTIONAL: Final = sorted(ACCOUNT["properties"].keys() - {"name", "realm"})

TEXT: Final = st.text("aB1 é_-.$`{}#:\n", max_size=8).filter(lambda text: "${" not in text)
TEXTS: Final[dict[str, st.SearchStrategy[str]]] = {
    "uri": st.sampled_from(["https://u:p@h.example:8080/a%20b?k=v#f", "HTTP://[2001:db8::1]/"]),
    "regex": st.sampled_from([r"^\+?1?(\d{10})$", "[[:alnum:]]+", "a|b", ""]),
}


def a_value(draw: Draw, schema: Document) -> Any:
    """Some value that a schema of the models' allows."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return a_node(draw) if name == "MetaflowNode" else a_value(draw, PARTS[name])
    if forms := schema.get("anyOf") or schema.get("oneOf"):
        value = a_value(draw, draw(st.sampled_from(forms)))
        digits = "pattern" in schema.get("propertyNames", {})
        return {str(n): v for n, v in enumerate(value.values())} if digits and value else value
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    return (
        draw(SCALARS[schema["type"]](schema))
        if schema["type"] in SCALARS
        else (a_list(draw, schema) if schema["type"] == "array" else an_object(draw, schema))
    )


def a_text(schema: Document) -> st.SearchStrategy[str]:
    if "format" in schema:
        return TEXTS[schema["format"]]
    least, most = schema.get("minLength", 0), schema.get("maxLength", 8)
    return st.just("x" * most) | TEXT.filter(lambda text: least <= len(text) <= most)


SCALARS: Final[dict[str, Callable[[Document], st.SearchStrategy[Any]]]] = {
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
    "integer": lambda schema: st.integers(schema.get("minimum", -5), schema.get("maximum", 9999)),
    "number": lambda _: st.integers(-5, 9999) | st.sampled_from([0.5, -1.25, 250.75]),
    "string": a_text,
}


def a_list(draw: Draw, schema: Document) -> list[Any]:
    """In a list nothing is null, however deep."""
    items = [a_value(draw, schema["items"]) for _ in range(draw(st.integers(0, 2)))]
    return [
        {name: value for name, value in item.items() if value is not None}
        if isinstance(item, dict)
        else item
        for item in items
    ]


def an_object(draw: Draw, schema: Document) -> Document:
    """Some of the fields; of a map, a few odd keys."""
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    names = draw(st.sets(st.sampled_from(sorted(fields)), max_size=3)) if fields else set()
    found = {name: a_value(draw, fields[name]) for name in {*names, *schema.get("required", [])}}
    if others is True:
        found |= draw(st.dictionaries(TEXT, st.none() | st.booleans() | TEXT, max_size=2))
    elif isinstance(others, dict):
        keys = draw(st.sets(st.sampled_from(["^1", "a b", "x"]), max_size=2))
        found |= {key: a_value(draw, others) for key in keys}
    return found


def a_node(draw: Draw) -> Document:
    module = draw(st.sampled_from([*MODULES, "of_the_vendor"]))
    node: Document = {"module": module}
    data = PARTS[MODULES[module].__name__] if module in MODULES else {}
    if data.get("required") or (data and draw(st.booleans())):
        node["data"] = a_value(draw, data)
    if draw(st.integers(0, 4)) == 0:
        node["children"] = {"2": None if draw(st.booleans()) else a_node(draw)}
    return node


def limits(draw: Draw) -> Document:
    """A `safety:` block."""
    named = {"reason": "because", "until": "2999-12-31"}
    exceptions = [
        {"rule": "protect", "class": "emergency", "account": "acme", **named},
        {"rule": "max_delete", "value": draw(st.integers(1, 9)), **named},
    ]
    block = {
        "max_delete": 3,
        "max_demote": 0,
        "max_update_percent": draw(st.integers(0, 100)),
        "protect": draw(st.sampled_from([[], ["service"], ["money", "privacy"]])),
        "exceptions": exceptions[: draw(st.integers(0, 2))],
    }
    some = draw(st.sets(st.sampled_from(sorted(block))))
    return {name: block[name] for name in sorted(some)}


def a_block(draw: Draw, **identity: str) -> Document:
    names = draw(st.sets(st.sampled_from(OPTIONAL), max_size=4))
    block = {
        "parent": "root",
        "reseller": draw(st.booleans()),
        "lifecycle": {
            "ignore_changes": ["music_on_hold", 'settings.dial_plan["^1"]'],
            "prevent_destroy": draw(st.booleans()),
        },
        "safety": limits(draw),
    }
    some = draw(st.sets(st.sampled_from(sorted(block))))
    document = {name: a_value(draw, ACCOUNT["properties"][name]) for name in sorted(names)}
    return {**{name: block[name] for name in sorted(some)}, "settings": {**document, **identity}}


def an_account(draw: Draw, key: str) -> Document:
    return a_block(draw, name=f"Account {key}", realm=f"{key}.example.com")


def rows(draw: Draw) -> Document:
    block = a_block(draw, name="Row ${row.code}", realm="${account.key}.r", enabled="${row.flag}")
    types = {"n": "integer", "flag": "boolean"}
    return {**block, "file": "rows.csv", "key": "${row.code}", "types": types}


def included(draw: Draw) -> Document:
    """A file named by `include`."""
    document: Document = {"accounts": {key: an_account(draw, key) for key in ("acme", "b-2")}}
    document["accounts"]["b-2"]["parent"] = "acme"
    some = draw(st.sets(st.sampled_from(["templates", "accounts_from", "leaving"])))
    if "templates" in some:
        document["templates"] = {"t": a_block(draw), "root": {"extends": ["t"]}}
        document["accounts"]["acme"]["extends"] = draw(st.sampled_from([["t"], ["root"], []]))
    if "accounts_from" in some:
        block = rows(draw)
        if "templates" in some:
            block["template"] = draw(st.sampled_from(["t", ["t"], []]))
        document["accounts_from"] = block if draw(st.booleans()) else [block]
    if "leaving" in some:
        document["moved"] = [{"from": "old", "to": "acme"}]
        document["removed"] = [{"account": "gone", "destroy": draw(st.booleans())}]
    return document


def project(draw: Draw) -> Document:
    """A `reconciler.yaml`."""
    settings = {
        "api": {
            "url": draw(st.sampled_from(["sandbox:", "https://a.example/v2", "http://[::1]:80"])),
            "account_id": "5bbc699c-2e",
            "concurrency": draw(st.integers(1, 256)),
            "timeout": draw(st.sampled_from(["500ms", "30s", "2m"])),
            "extra_fields": "refuse",
            "welcome_email": draw(st.booleans()),
        },
        "safety": limits(draw),
        "state": "state/x.json",
        "include": ["more.yaml"],
        "defaults": a_block(draw),
    }
    some = draw(st.sets(st.sampled_from(sorted(settings))))
    variables = {
        "text": {"default": "x", "description": "d"},
        "more": {"env": "MORE", "default": [1], "sensitive": False},
    }
    chosen = {name: settings[name] for name in sorted(some)}
    return {"version": 1, "variables": variables, **chosen, **included(draw)}


# --- and what is made of them -----------------------------------------------------------------

ODD_KEYS: Final = [
    "x", "a b", "root", "", "x" * 65, "id", "verb", "_x", "9x", "version", "api", "name", "settings",
    "system", "(a)",
]  # fmt: skip
ODD_VALUES: Final[list[Any]] = [
    None, True, 0, -1, 4, 1.5, 101, 257, 10801, [], {}, ["x"], [None], [1], {"x": 1}, {"x": None},
    {"name": 1}, {"enabled": True}, "", "x", "a b", "x" * 40, "x" * 300, "x" * 2050, "root", "acme",
    "a\n", "UTC", "Europe/Pari", "Etc/UTC", "mp3", "both", "1", "deny", "30s", "30 s", "../x",
    "sandbox:", "https://h.example", "http://h.example/a?b#c", "http://localhost/", "ftp://h.example",
    "https://u@h.example/", "${var.text}", "a ${ var.text } b", "${account.key}", "${", "${}", "$",
    "${env.HOME}", "${var.}", "${var.text", "$${var.text}", "$$${x", "a$${b}${account.key}",
]  # fmt: skip
CELLS: Final = ["${row.code}", "${row.flag}", "x${ row.n }"]
"""Not for templates: whether they are used for rows alone, a schema can't tell."""


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Each place in a document but its root."""
    parts = value.items() if isinstance(value, dict) else []
    for part, inner in enumerate(value) if isinstance(value, list) else parts:
        yield (*above, part)
        yield from places(inner, (*above, part))


def at(document: Any, place: Place) -> Any:
    for part in place:
        document = document[part]
    return document


def change(draw: Draw, document: Document) -> None:
    """Make something of the document probably wrong."""
    everywhere = [place for place in places(document) if place[0] != "variables"]
    if not everywhere:
        return
    place = draw(st.sampled_from(everywhere))
    around, last = at(document, place[:-1]), place[-1]
    kind = draw(st.sampled_from(["value", "value", "value", "new", "gone", "key"]))
    odd = [*ODD_VALUES, *(CELLS if place[0] in ("accounts", "accounts_from") else [])]
    if kind == "gone":
        del around[last]
    elif kind == "key" and isinstance(around, dict):
        around[draw(st.sampled_from(ODD_KEYS))] = around.pop(last)
    elif kind == "new" and isinstance(around[last], dict):
        around[last][draw(st.sampled_from(ODD_KEYS))] = draw(st.sampled_from(odd))
    else:
        around[last] = draw(st.sampled_from(odd))


def extract(draw: Draw, document: Document) -> None:
    """Let a variable stand for something."""
    place = draw(st.sampled_from([
        place for place in places(document)
        if place[0] != "variables" and "${" not in json.dumps(at(document, place))
    ]))  # fmt: skip
    around, last = at(document, place[:-1]), place[-1]
    name = f"v{len(document['variables'])}"
    document["variables"][name] = {"default": around[last]}
    around[last] = f"${{var.{name}}}"


@st.composite
def files(draw: Draw) -> Document:
    """A file that is right, or nearly."""
    document = project(draw) if draw(st.integers(0, 3)) else included(draw)
    if "version" in document:
        for _ in range(draw(st.integers(0, 2))):
            extract(draw, document)
    for _ in range(draw(st.integers(0, 2))):
        change(draw, document)
    return document


# --- what no schema of one file can see: docs/configuration.md, "Editors" -----------------------

UNSEEN: Final = (
    "An unknown parent", "Parents in a circle", "A realm declared twice", "A name declared twice",
    "An unknown template", "Templates in a circle", "A move to an unknown key",
    "A move from a declared key", "A removed account that is declared", "An account removed twice",
    "A wrong include", "A wrong data file", "An unknown column", "A sensitive name",
    "An exception that can't be", "An exception for an unknown account",
)  # fmt: skip


def unseen(document: Document, found: Diagnostic) -> bool:
    text = json.dumps(document, ensure_ascii=False)
    if found.summary == "A missing field":
        return "version" not in document or bool(re.search('"(extends|template|defaults)": ', text))
    if found.summary in UNSEEN or found.source is None or found.source.file == "rows.csv":
        return True
    if found.summary == "A broken interpolation":
        return "is no variable." in found.detail
    try:  # what an interpolation became: the column is where it begins
        value = json.JSONDecoder().raw_decode(text, found.source.column - 1)[0]
    except ValueError:
        return False
    return isinstance(value, str) and "${" in value


# --- they agree -------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(document=files())
def test_what_the_schema_refuses_the_tool_refuses_and_the_reverse(
    directory: Path, document: Document
) -> None:
    found = errors(directory, document)
    if not found or not all(unseen(document, error) for error in found):
        told = refusals(document)
        assert bool(found) == bool(told), (json.dumps(document), found, told)


def a_file(**keys: Any) -> Document:
    variables = {name: {"default": value} for name, value in VALUES.items()}
    return {"version": 1, "variables": variables, **keys}


def an_account_of(settings: Document | None = None, **block: Any) -> Document:
    return a_file(accounts={"a": {"settings": {"name": "A", **(settings or {})}, **block}})


def a_recording(**values: Any) -> Document:
    return an_account_of({"call_recording": {"account": {"any": {"any": values}}}})


def a_node_of(**node: Any) -> Document:
    return an_account_of({"metaflows": {"numbers": {"1": node}}})


VALUES: Final[Document] = {
    "on": True, "many": 60, "some": 1.5, "word": "mp3", "list": ["a"], "map": {"x": {}}, "nil": None,
    "zone": "Etc/UTC", "data": {"voice_url": "https://h.example"},
}  # fmt: skip

ACCEPTED: Final[dict[str, Document]] = {
    "nothing": {"version": 1},
    "an included file without anything": {},
    "an interpolation for a boolean": an_account_of({"enabled": "${var.on}"}),
    "for an integer": a_recording(time_limit="${var.many}"),
    "for a number": an_account_of({"topup": {"threshold": "${ var.some }"}}),
    "for one of a few words": a_recording(format="${var.word}"),
    "in a word": a_recording(format="mp${var.three}") | {"variables": {"three": {"default": 3}}},
    "for a time zone": an_account_of({"timezone": "${var.zone}"}),
    "for a list": an_account_of({"flags": "${var.list}"}),
    "for an item": an_account_of({"flags": ["${var.word}"]}),
    "for a mapping": an_account_of({"call_restriction": "${var.map}"}),
    "for a node's data": a_node_of(module="pivot", data="${var.data}"),
    "for null": an_account_of({"org": "${var.nil}"}),
    "in a text that has a pattern": an_account_of({"realm": "${account.key}.example.com"}),
    "in a URL": a_recording(url="https://h.example/${account.key}"),
    "in a longer text than is allowed": an_account_of({"caller_id": {"external": {"name": "${var.word}" + "x" * 30}}}),
    "for a parent": an_account_of(parent="${var.root}") | {"variables": {"root": {"default": "root"}}},
    "for a flag of a block": an_account_of(reseller="${var.on}", lifecycle={"prevent_destroy": "${var.on}"}),
    "for an id": an_account_of(id="${var.word}"),
    "for a path": an_account_of(lifecycle={"ignore_changes": ["${var.word}"]}),
    "a name from the defaults": a_file(accounts={"a": {}}, defaults={"settings": {"name": "${account.key}"}}),
    "a name from a template": a_file(accounts={"a": {"extends": ["t"]}}, templates={"t": {"settings": {"name": "A"}}}),
    "a name from a template below the defaults": a_file(accounts={"a": {}}, defaults={"extends": ["t"]}, templates={"t": {"settings": {"name": "A"}}}),
    "a template with less than a whole node": a_file(templates={"t": {"settings": {"metaflows": {"numbers": {"1": {"data": {}}}}}}}),
    "a template for rows that nothing uses": a_file(templates={"t": {"settings": {"enabled": "${row.flag}"}}}),
    "a variable that says nothing": a_file(variables={"v": {"default": None}}),
    "integers where numbers are": an_account_of({"topup": {"threshold": 5}}),
}  # fmt: skip

REFUSED: Final[dict[str, Document]] = {
    "another version": {"version": 2},
    "an interpolation for the version": a_file(version="${var.many}"),
    "in api": a_file(api={"url": "sandbox:", "concurrency": "${var.many}"}),
    "in safety": a_file(safety={"max_delete": "${var.many}"}),
    "for a template's name": an_account_of(extends=["${var.word}"]),
    "for all settings": a_file(accounts={"a": {"settings": "${var.map}"}}),
    "for a block's lifecycle": an_account_of(lifecycle="${var.map}"),
    "for a list of paths": an_account_of(lifecycle={"ignore_changes": "${var.list}"}),
    "text around one for a boolean": an_account_of({"enabled": "${var.on}!"}),
    "an account's key for a boolean": an_account_of(reseller="${account.key}"),
    "a row in an account": an_account_of({"org": "${row.x}"}),
    "a row deep in an account": an_account_of({"zones": {"x": [{"y": "${row.x}"}]}}),
    "what means nothing": an_account_of({"org": "${env.HOME}"}),
    "what is not closed": an_account_of({"org": "${var.word"}),
    "what means nothing, in a template": a_file(templates={"t": {"settings": {"org": "${x}"}}}),
    "an account's key in its key": a_file(accounts_from={"file": "rows.csv", "key": "${account.key}-${row.code}", "settings": {"name": "${row.code}"}}),
    "no name": a_file(accounts={"a": {"settings": {}}}),
    "no settings": a_file(accounts={"a": {}}),
    "no name in rows": a_file(accounts_from=[{"file": "rows.csv", "key": "${row.code}"}]),
    "no module": a_node_of(data={}),
    "no module in a child": a_node_of(module="hangup", children={"2": {}}),
    "no data for a module that needs them": a_node_of(module="pivot"),
    "data without what it needs": a_node_of(module="pivot", data={"debug": True}),
    "null for such data": a_node_of(module="pivot", data=None),
    "null in a list": an_account_of({"formatters": {"From": [{"regex": None}]}}),
    "null for what is never absent": an_account_of({"realm": None}),
    "null for a template": a_file(templates={"t": None}),
    "a reserved name": an_account_of({"verb": "delete"}),
    "a field of the platform's": an_account_of({"id": "x"}),
    "a line break behind a realm": an_account_of({"realm": "a.example.com\n"}),
    "a line break behind an interpolation": an_account_of({"enabled": "${var.on}\n"}),
    "an unknown time zone": an_account_of({"timezone": "Europe/Pari"}),
    "a time zone that is too short": an_account_of({"timezone": "UTC"}),
    "the platform's own address": a_recording(url="http://LOCALHOST:80/x"),
    "a port that is none": a_recording(url="https://h.example:65536"),
    "another scheme": a_recording(url="ftp://h.example"),
    "letters for digits": an_account_of({"metaflows": {"numbers": {"a": {"module": "hangup"}}}}),
    "a key that is none": a_file(accounts={"a b": {"settings": {"name": "A"}}}),
    "the root's key": a_file(accounts={"root": {"settings": {"name": "A"}}}),
    "a malformed template's key": a_file(templates={"a b": {}}),
    "a malformed parent in a template": a_file(templates={"t": {"parent": "a b"}}),
    "a malformed id": an_account_of(id="a/b"),
    "a malformed path": an_account_of(lifecycle={"ignore_changes": ["a..b"]}),
    "a malformed root": a_file(api={"account_id": "a b"}),
    "a malformed duration": a_file(api={"timeout": "30"}),
    "a duration beyond all": a_file(api={"timeout": "9" * 400 + "s"}),
    "a variable with a malformed name": a_file(variables={"a-b": {"default": 1}}),
    "a variable from the tool's own": a_file(variables={"a": {"default": 1, "env": "VINIX_API_KEY"}}),
    "an include that leads out": a_file(include=["../x"]),
    "an include that is no pattern": a_file(include=["a**"]),
    "data that lead out": a_file(accounts_from={"file": "/etc/passwd", "key": "${row.code}", "settings": {"name": "A"}}),
    "something wrong that every account covers": a_file(
        accounts={"a": {"extends": ["t"], "settings": {"name": "A", "timezone": "Etc/UTC"}}},
        templates={"t": {"settings": {"timezone": 5}}},
    ),
    "something wrong in the defaults that every account covers": a_file(
        accounts={"a": {"settings": {"name": "A", "enabled": False}}}, defaults={"settings": {"enabled": 1}}
    ),
    **{
        f"api.url: {url}": a_file(api={"url": url})
        for url in ("", "/", "x", "http://h.example", "https://u@h.example", "https://h.example?x", "https://h .example", "ftp://h.example", "https://")
    },
}  # fmt: skip

ONLY_THE_TOOL: Final[dict[str, Document]] = {
    "5.0 where an integer is expected": a_recording(time_limit=60.0),
    "no name in an included file": {"accounts": {"a": {}}},
    "a parent that is not there": an_account_of(parent="b"),
    "a template that is not there": an_account_of(extends=["t"]),
    "realms that are the same": a_file(accounts={k: {"settings": {"name": k, "realm": "aaaa"}} for k in "ab"}),
    "a file that is not there": a_file(include=["nowhere"]),
    "a variable that is not declared": an_account_of({"org": "${var.x}"}),
    "a variable without a value": a_file(variables={"v": {}}),
    "a word where a number is expected": a_recording(time_limit="${var.word}"),
    "a text that is filled in too long": an_account_of({"name": "${account.key}" + "x" * 200}),
    "a row in a template of an account": a_file(
        accounts={"a": {"extends": ["t"], "settings": {"name": "A"}}}, templates={"t": {"settings": {"org": "${row.x}"}}}
    ),
    "no name where a template could have it": a_file(accounts={"a": {"extends": ["t"]}}, templates={"t": {}}),
    "what two layers are together": a_file(
        accounts={"a": {"extends": ["t"], "settings": {"name": "A", "metaflows": {"numbers": {"1": {"module": "hangup"}}}}}},
        templates={"t": {"settings": {"metaflows": {"numbers": {"1": {"module": "play", "data": {"leg": "self"}}}}}}},
    ),
    "a pattern that does not compile": an_account_of({"formatters": {"From": {"regex": "("}}}),
    "an address that is none": a_recording(url="https://[::::]/"),
    "a name that is a secret": an_account_of({"name": "https://u:p@h.example"}),
}  # fmt: skip
"""One of each kind in docs/configuration.md, "Editors"."""


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_both_accept(directory: Path, document: Document) -> None:
    assert errors(directory, document) == []
    assert refusals(document) == []


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
def test_both_refuse(directory: Path, document: Document) -> None:
    assert errors(directory, document)
    assert refusals(document)


@pytest.mark.parametrize("document", ONLY_THE_TOOL.values(), ids=ONLY_THE_TOOL)
def test_only_the_tool_can_see(directory: Path, document: Document) -> None:
    assert errors(directory, document)
    assert refusals(document) == []


# --- texts ------------------------------------------------------------------------------------


class Anything(dict[str, Any]):
    """Has a value for each key that looks like `pattern`."""

    def __init__(self, pattern: str, value: object) -> None:
        super().__init__()
        self.pattern = pattern
        self.value = value

    def __contains__(self, key: object) -> bool:
        return re.fullmatch(self.pattern, str(key), re.DOTALL) is not None

    def __missing__(self, key: str) -> object:
        return self.value


FILLER: Final = Filler(Anything("[A-Za-z_][A-Za-z0-9_]*", Variable("x", sensitive=False)))
ROW: Final = Row(Anything(".+", "x"), Source("rows.csv", 2, 1))
PIECES: Final = st.sampled_from([
    "$", "$$", "{", "${", "}", ".", "x", " ", "\n", "var.", "row.", "account.key",
    "${var.x}", "${row.x}", "${account.key}",
])  # fmt: skip


def part(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=7).map("".join))
def test_a_text_is_well_formed_where_it_can_be_filled_in(text: str) -> None:
    for name, row in (("Texts", ROW), ("AccountTexts", None)):
        try:
            FILLER.text(text, "acme", row)
        except ValueError:
            assert not part(name).is_valid(text)
        else:
            assert part(name).is_valid(text)


URL_PIECES: Final = st.sampled_from([
    ":", "//", "/", "@", "u", "localhost", "LocalHost", "127.0.0.1", "h.example", "[::1]",
    "80", "65535", "65536", "?", "#", "%20", "%zz", " ", "é", "&", "\n", ".",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["http://", "HTTPS://", "ftp://", ""]), st.lists(URL_PIECES, max_size=6))
def test_the_url_of_a_recording_is_judged_alike(scheme: str, pieces: list[str]) -> None:
    url = "".join([scheme, *pieces])
    found = violations({"name": "A", "call_recording": {"account": {"any": {"any": {"url": url}}}}})
    assert part("Recording").is_valid({"url": url}) is not bool(found)


# --- the schema itself ------------------------------------------------------------------------


def objects_in(schema: Any) -> Iterator[Document]:
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            yield from objects_in(inner)


def test_the_schema_is_a_schema_that_refers_to_all_that_it_defines() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    referred = {found["$ref"] for found in objects_in(SCHEMA) if "$ref" in found}
    assert referred == {f"#/$defs/{name}" for name in SCHEMA["$defs"]}


def test_each_key_is_explained_to_who_points_at_it() -> None:
    closed = [found for found in objects_in(SCHEMA) if found.get("additionalProperties") is False]
    assert len(closed) > len(MODULES)
    for definition in closed:
        for name, field in definition["properties"].items():
            target = SCHEMA["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or target.get("description"), (definition, name)


def test_patterns_are_of_the_kind_that_every_reader_of_schemas_knows() -> None:
    patterns = [f["pattern"] for f in objects_in(SCHEMA) if isinstance(f.get("pattern"), str)]
    assert len(patterns) > 20
    for pattern in patterns:
        assert not re.search(r"\(\?[^:]|\\[AZzbBdwpu]", pattern), pattern


def test_the_first_line_of_what_init_writes_leads_to_what_schema_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["schema"]) == 0
    written = tmp_path / "reconciler.schema.json"
    assert written.read_text(encoding="utf-8") == capsys.readouterr().out
    found = [*tmp_path.rglob("*.yaml")]
    assert len(found) == 2
    for path in found:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert match
        assert (path.parent / match[1]).resolve() == written.resolve()


@pytest.mark.parametrize("name", ["quickstart", "wholesale"])
def test_the_examples_are_valid(name: str) -> None:
    for path in sorted((examples() / name).rglob("*.yaml")):
        (document,), _ = parse(path.name, path.read_bytes())
        assert refusals(document) == [], path
