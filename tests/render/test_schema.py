"""The schema of the JSON about plans holds for each such document, and describes each key of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.core.diff import PARENT, FieldChange
from reconciler.core.drift import Accepted, Drift, Unmanaged
from reconciler.core.graph import Action, Operation
from reconciler.core.live import LiveAccount
from reconciler.core.outcome import Result, Status
from reconciler.core.recovery import Unfinished
from reconciler.core.values import ABSENT, AccountId, Diagnostic, Sensitive, Source
from reconciler.render import jsondoc
from reconciler.render.schema import Schema, plan_schema

from .plans import Texts, a_plan, three

ROOT: Final = Path(__file__).parents[2]
SCHEMA: Final = plan_schema()
GOLDEN: Final = sorted((ROOT / "tests" / "golden").glob("*/plan.json"))


def closed(schema: Any) -> Any:
    """The same schema, by which a key that it does not describe is an error."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: closed(inner) for name, inner in schema.items()}
    return (
        strict | {"additionalProperties": False}
        if "required" in strict and "properties" in strict
        else strict
    )


OPEN: Final = Draft202012Validator(SCHEMA)
CLOSED: Final = Draft202012Validator(cast("Schema", closed(SCHEMA)))


def wrong(document: Any, validator: Draft202012Validator = CLOSED) -> list[str]:
    read = json.loads(json.dumps(document))
    return [f"{'/'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(read)]


# --- documents of all kinds -------------------------------------------------------------------

texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)
sides = values | st.just(ABSENT) | st.builds(Sensitive, values, st.just("var.x"))
places = st.none() | st.builds(Source, texts, st.integers(1, 9), st.integers(1, 9))
keys = st.sampled_from(["a", "b", "c"])
actions = st.sampled_from(Action)
ids = st.none() | texts.map(AccountId)
paths = st.sampled_from(
    [PARENT, ("settings", "enabled"), ("settings", "call_recording", "url"), ("reseller",), ("settings", "a.b")]
)  # fmt: skip
fields = st.builds(
    FieldChange, paths, st.sampled_from(["add", "change", "remove"]), sides, sides, drift=st.booleans(), source=places
)  # fmt: skip
operations = st.builds(
    Operation,
    n=st.integers(1, 9),
    key=keys,
    ident=texts,
    action=actions,
    method=st.sampled_from(["PUT", "PATCH", "POST", "DELETE"]),
    path=texts,
    body=st.none() | st.dictionaries(texts, values, max_size=2),
    after=st.lists(st.integers(1, 9), max_size=2).map(tuple),
    temporary=st.booleans(),
)
unfinished = st.builds(
    Unfinished, key=keys, action=actions, found=st.lists(texts.map(AccountId), max_size=2).map(tuple), detail=texts
)  # fmt: skip
diagnostics = st.builds(
    Diagnostic, st.sampled_from(["error", "warning"]), texts, texts, st.none() | texts, st.none() | texts, places
)  # fmt: skip
results = st.lists(
    st.builds(Result, st.none() | st.integers(1, 9), keys, actions, st.sampled_from(get_args(Status)), ids, texts, texts),
    max_size=3,
)  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Any:
    """A plan whose parts need not fit each other: the schema is about each by itself."""
    changes = [
        replace(
            change,
            id=draw(ids),
            actions=tuple(draw(st.lists(actions, max_size=3, unique=True))),
            fields=tuple(draw(st.lists(fields, max_size=3))),
            drift=draw(st.booleans()),
        )
        for change in three(Texts(draw(texts)))[: draw(st.integers(0, 3))]
    ]
    plan = (
        a_plan(*changes, texts=Texts(draw(texts)), refused=draw(st.integers(0, 2)))
        if changes
        else None
    )
    plan = plan or replace(a_plan(*three(Texts()), texts=Texts()), changes=())
    lineage = draw(st.sampled_from(["", "l"]))
    return replace(
        plan,
        state=replace(plan.state, lineage=lineage, serial=draw(st.integers(0, 9))),
        operations=tuple(draw(st.lists(operations, max_size=3))),
        unfinished=tuple(draw(st.lists(unfinished, max_size=2))),
        diagnostics=tuple(draw(st.lists(diagnostics, max_size=2))),
        complete=draw(st.booleans()),
        refreshed=draw(st.booleans()),
    )


# --- the tests --------------------------------------------------------------------------------


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_file_in_the_documents_is_what_is_printed(pytestconfig: pytest.Config) -> None:
    file = ROOT / "docs" / "plan.schema.json"
    if pytestconfig.getoption("--rewrite-golden"):
        file.write_text(jsondoc.dumps(SCHEMA), encoding="utf-8")
    assert file.read_text(encoding="utf-8") == jsondoc.dumps(SCHEMA), "`make golden` rewrites it"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_golden_plans_are_as_it_says(path: Path) -> None:
    assert wrong(json.loads(path.read_text(encoding="utf-8"))) == []


@settings(max_examples=150, deadline=None)
@given(plans(), results, st.sampled_from(["plan", "apply", "destroy", "show"]))
def test_any_plan_is_as_it_says(plan: Any, results: list[Result], command: str) -> None:
    found = None if command in ("plan", "show") else results
    assert wrong(jsondoc.plan(plan, command=command, results=found)) == []


@settings(max_examples=50, deadline=None)
@given(plans(), st.lists(diagnostics, max_size=3))
def test_drift_and_failures_are_as_it_says(plan: Any, found: list[Diagnostic]) -> None:
    account = LiveAccount(AccountId("i"), None, {"realm": "x"}, reseller=False, revision="1-a")
    drift = Drift(plan.state, plan.changes, ("a",), plan.changes, (Unmanaged(account, "root"),))
    assert wrong(jsondoc.drift(drift)) == []
    edited = [Accepted("a", field, Source("f", 1, 1)) for c in plan.changes for field in c.fields]
    assert wrong(jsondoc.accepted(edited)) == []
    assert wrong(jsondoc.validation(found)) == []
    assert wrong(jsondoc.failure("plan", found)) == []


def test_keys_that_later_versions_add_are_allowed_everywhere() -> None:
    document = json.loads(GOLDEN[0].read_text(encoding="utf-8"))
    document["new"] = document["changes"][0]["new"] = document["summary"]["new"] = {"x": 1}
    assert wrong(document, OPEN) == []
    assert len(wrong(document)) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format_version", "2"), ("command", "import"), ("changes", {}), ("serial", "7"), ("serial", -1),
        ("operations", [{}]), ("refusals", ["x"]), ("summary", {}), ("digest", None), ("complete", "yes"),
    ],
)  # fmt: skip
def test_what_no_plan_can_be_is_refused(key: str, value: Any) -> None:
    document = json.loads(GOLDEN[0].read_text(encoding="utf-8"))
    assert wrong({**document, key: value}, OPEN)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    from reconciler.cli import main

    assert main(["schema", "--plan"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
