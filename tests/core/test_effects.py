"""What a change affects: the table of fields and actions, and the page that explains it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from reconciler.core import account
from reconciler.core.account import Account
from reconciler.core.effects import (
    ACTIONS,
    EFFECTS,
    FIELDS,
    INHERITED,
    PASSED_ON,
    UNKNOWN,
    of_path,
)
from reconciler.core.graph import Action
from reconciler.core.values import dotted, parse_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.core.values import FieldPath

PAGE: Final = Path(__file__).parents[2] / "docs" / "reviewing.md"
_ROW = re.compile(r"^\| (?P<names>`[^|]+) \| (?P<what>[^|]+) \|(?P<rest>.*)\|$", re.MULTILINE)


def rows(title: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """Of a section's table: name -> the classes in its second cell, and the third cell."""
    section = PAGE.read_text("utf-8").partition(f"### {title}\n")[2].partition("\n#")[0]
    return {
        name: (tuple(re.findall(r"`(\w+)`", row["what"])), row["rest"].strip())
        for row in _ROW.finditer(section)
        for name in re.findall(r"`([\w.]+)`", row["names"].partition("(")[0])
    }


def known_leaves() -> Iterator[FieldPath]:
    """Each field that the models know and that holds no others; `*` for a key of the user's."""
    schema: dict[str, Any] = {**account.json_schema([])}
    waiting: list[tuple[FieldPath, Any]] = [((), schema)]
    while waiting:
        path, inner = waiting.pop()
        if "$ref" in inner:
            inner = schema["$defs"][inner["$ref"].rpartition("/")[2]]
        forms = inner.get("anyOf") or inner.get("oneOf")
        if forms:
            waiting.append((path, forms[0]))
            continue
        below = list(inner.get("properties", {}).items())
        if isinstance(inner.get("additionalProperties"), dict):
            below.append(("*", inner["additionalProperties"]))
        waiting += [((*path, name), found) for name, found in below if name != "children"]
        if not below:
            yield path


LEAVES: Final = sorted(known_leaves())


def test_the_leaves_are_found_however_deep() -> None:
    assert {
        ("call_recording", "account", "any", "any", "url"),
        ("dial_plan", "*", "prefix"),
        ("metaflows", "numbers", "*", "module"),
        ("notifications", "low_balance", "threshold"),
    } <= {*LEAVES}


@pytest.mark.parametrize("path", LEAVES, ids=dotted)
def test_each_known_leaf_has_a_class_of_its_own_or_of_what_it_is_in(path: FieldPath) -> None:
    assert path[:1] in FIELDS
    assert {*of_path(path)} <= {*EFFECTS}


def test_each_field_of_an_account_is_in_the_table_and_each_entry_is_a_known_field() -> None:
    assert {path[0] for path in FIELDS} == {*Account.model_fields}
    known = {path[:length] for path in LEAVES for length in range(1, len(path) + 1)}
    free = {("call_restriction", "emergency")}  # a class of numbers, which operators name
    assert FIELDS.keys() - known == free
    assert known >= INHERITED


@pytest.mark.parametrize(
    ("path", "effects"),
    [
        ("caller_id.emergency.number", ("emergency",)),
        ("caller_id.external.number", ("service",)),
        ("call_restriction.emergency.action", ("emergency",)),
        ("call_restriction.international.action", ("service",)),
        ("call_recording.endpoint.any.onnet.enabled", ("privacy",)),
        ("notifications.low_balance.threshold", ("money",)),
        ('dial_plan["^911$"].prefix', ("service",)),
        ("of_a_newer_platform.emergency", UNKNOWN),
    ],
)
def test_the_longest_beginning_of_a_path_counts(path: str, effects: tuple[str, ...]) -> None:
    assert of_path(parse_path(path)) == effects


def test_each_action_has_classes_and_disabling_too() -> None:
    assert ACTIONS.keys() == {*map(str, Action), "disable"}
    assert ACTIONS.keys() >= PASSED_ON


def test_the_page_has_the_table_of_fields() -> None:
    explained = {name: effects for name, (effects, _) in rows("Fields").items()}
    assert explained == {dotted(path): effects for path, effects in FIELDS.items()}


def test_the_page_has_the_table_of_actions() -> None:
    explained = rows("Actions")
    assert explained.keys() == ACTIONS.keys()
    for name, (effects, reaches) in explained.items():
        assert tuple(e for e in effects if e in EFFECTS and e != "cosmetic") == ACTIONS[name]
        assert reaches.startswith("yes") == (name in PASSED_ON), name


def test_the_page_explains_each_class() -> None:
    text = PAGE.read_text("utf-8")
    assert [effect for effect in EFFECTS if f"\n| `{effect}` |" not in text] == []
