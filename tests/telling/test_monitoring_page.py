"""docs/monitoring.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

from reconciler.render.message import LIMIT as CHARACTERS
from reconciler.render.safe import chat
from reconciler.telling import tracing
from reconciler.telling.deliver import LIMIT as SECONDS
from reconciler.telling.metrics import METRICS
from reconciler.telling.notify import CLEAR, SECURE

PAGE: Final = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")


def test_the_table_has_each_metric_with_its_labels_and_what_it_is() -> None:
    rows = re.findall(r"^\| `reconciler_(\w+)` \|([^|]*)\| ([^|]*) \|$", PAGE, re.MULTILINE)
    found = {name: (text, tuple(re.findall(r"\w+", labels))) for name, labels, text in rows}
    assert found == METRICS


def test_the_table_has_each_scheme() -> None:
    rows = re.findall(r"^\| (chats|pagers|mail|servers|in clear).*?\|(.*)\|$", PAGE, re.MULTILINE)
    schemes = {kind: set(re.findall(r"`(\w+)`", text)) for kind, text in rows}
    assert schemes.pop("in clear") == CLEAR
    assert set().union(*schemes.values()) == SECURE


def test_limits_are_as_they_are_told() -> None:
    assert f"{CHARACTERS:,} characters" in PAGE
    assert SECONDS == 10
    assert "after ten seconds" in PAGE


def test_each_sign_that_is_told_to_be_inert_is_so() -> None:
    for sign in r"@<&[]*~|\`":
        assert chat(sign) != sign
    assert chat("@everyone") == "\uff20everyone"


def test_alerts_are_about_metrics_that_there_are() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for rule in yaml.safe_load(text)["groups"][0]["rules"]:
        named = re.findall(r"reconciler_(\w+)", rule["expr"])
        assert named
        assert METRICS.keys() >= set(named)


def test_the_table_of_spans_has_the_attributes_that_the_code_gives() -> None:
    rows = re.findall(r"^\| .*? \| (?:the run|what it was for|) ?\| (.*) \|$", PAGE, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([\w.]+\.\w+)`", row)}
    code = Path(tracing.__file__).read_text(encoding="utf-8")
    assert told == set(re.findall(r'"((?:reconciler|http|url|error|process)\.[\w.]+)"', code))
