"""The project's own rules: each example of docs/policy.md, and the doors that they stand at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator

from reconciler.render.schema import plan_schema

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Project, World

PAGE: Final = Path(__file__).parents[2] / "docs" / "policy.md"
_BLOCK: Final = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
EXAMPLES: Final[dict[str, Any]] = {rule["name"]: rule for rule in yaml.safe_load(_BLOCK)["policy"]}

NO_TOKYO: Final[JsonObject] = {
    "name": "no-tokyo",
    "when": 'change.fields.exists(f, f.path == "settings.timezone" && f.after == "Asia/Tokyo")',
    "deny": "Nobody is in Tokyo.",
}


def recording(url: str) -> JsonObject:
    return {"call_recording": {"account": {"inbound": {"onnet": {"enabled": True, "url": url}}}}}


def emergency(number: str) -> JsonObject:
    return {"caller_id": {"emergency": {"number": number}}}


def many(count: int, **fields: JsonValue) -> dict[str, JsonObject]:
    return {f"a{n}": {**fields} for n in range(count)}


HITS: Final[dict[str, dict[str, JsonObject]]] = {
    "recording-stays-here": {"a": recording("https://rec.example.com.evil.example/in")},
    "few-promotions": many(6, reseller=True),
    "our-realms": {"a": {"realm": "a.example.org"}},
    "emergency-caller-id": {"a": emergency("+12125550100")},
    "frozen": {"initech": {}, "below": {"parent": "initech"}},
    "large": many(201),
}
"""What is declared where the rule is true. `changed-outside` has a test of its own."""

PASSES: Final[dict[str, dict[str, JsonObject]]] = {
    "recording-stays-here": {"a": recording("https://eu.rec.example.com/in"), "b": {}},
    "few-promotions": many(5, reseller=True),
    "our-realms": {"a": {"realm": "a.sip.example.com"}},
    "emergency-caller-id": {"acme": emergency("+12125550100"), "b": {}},
    "frozen": {"other": {}},
    "large": many(9),
}


def test_each_example_is_tried() -> None:
    assert HITS.keys() == PASSES.keys() == EXAMPLES.keys() - {"changed-outside"}
    assert len(EXAMPLES) >= 5


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("name", HITS)
def test_an_example_speaks_where_it_should(name: str, project: Project) -> None:
    rule = EXAMPLES[name]
    project.declare(HITS[name], policy=[*EXAMPLES.values()])
    planned = project.run("plan", "--format", "json")
    found = planned.json["refusals"] if "deny" in rule else planned.json["diagnostics"]
    texts = [
        entry["detail"] for entry in found if rule.get("deny", rule.get("warn")) in entry["detail"]
    ]
    assert len(texts) == 1
    assert planned.code == (3 if "deny" in rule else 0)
    if "deny" in rule:
        assert [entry["rule"] for entry in found] == [name]
    if "change" in rule["when"].replace("plan.changes", ""):
        assert texts[0].startswith("accounts.")


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("name", PASSES)
def test_an_example_is_silent_where_it_should_be(name: str, project: Project) -> None:
    project.declare(PASSES[name], policy=[*EXAMPLES.values()])
    planned = project.run("plan", "--format", "json")
    assert planned.code == 0
    assert planned.json["refusals"] == planned.json["diagnostics"] == []


def test_what_was_changed_outside_is_warned_of(release: World, project: Project) -> None:
    rules = [EXAMPLES["changed-outside"]]
    project.declare({"a": {"timezone": "Europe/Paris"}}, policy=rules)
    project.settle()
    release.patch("a", timezone="Asia/Tokyo")
    planned = project.run("plan", "--format", "json")
    assert planned.code == 0
    [warning] = planned.json["diagnostics"]
    assert warning["severity"] == "warning"
    assert warning["summary"] == "Policy changed-outside"
    assert warning["address"] == "accounts.a"


@pytest.mark.parametrize(
    "arguments",
    [("plan",), ("apply", "--auto-approve"), ("destroy", "--auto-approve", "--allow", "delete=9")],
    ids=lambda arguments: arguments[0],
)
def test_no_command_passes_a_rule(
    arguments: tuple[str, ...], release: World, project: Project, tmp_path: Path
) -> None:
    project.declare({"a": {}})
    project.settle()
    rule: JsonObject = {
        "name": "stop",
        "when": "change.address == 'accounts.a'",
        "deny": "Hands off.",
    }
    project.declare({"a": {"timezone": "Asia/Tokyo"}}, policy=[rule])
    release.log.clear()
    reports = [tmp_path / f"report.{ending}" for ending in ("md", "html", "xml", "json")]
    named = [part for path in reports for part in ("--report", str(path))]
    ended = project.run(*arguments, *named)
    assert ended.code == 3
    assert "stop: accounts.a: Hands off." in ended.out
    assert release.writes == []
    for path in reports:
        assert "Hands off." in path.read_text(encoding="utf-8"), path


def test_what_is_refused_is_not_saved(release: World, project: Project, tmp_path: Path) -> None:
    project.declare({"a": {"timezone": "Asia/Tokyo"}}, policy=[NO_TOKYO])
    assert project.run("plan", "--out", str(tmp_path / "plan")).code == 3
    assert not (tmp_path / "plan").exists()
    assert release.writes == []


def test_a_saved_plan_is_judged_by_the_rules_of_today(
    release: World, project: Project, tmp_path: Path
) -> None:
    accounts: dict[str, JsonObject] = {"a": {"timezone": "Asia/Tokyo"}}
    project.declare(accounts)
    assert project.run("plan", "--out", str(tmp_path / "plan")).code == 0
    project.declare(accounts, policy=[NO_TOKYO])
    ended = project.run("apply", str(tmp_path / "plan"))
    assert ended.code == 3
    assert "no-tokyo: accounts.a: Nobody is in Tokyo." in ended.out
    assert release.writes == []
    assert not project.state_file.exists()

    project.declare(accounts, policy=[NO_TOKYO | {"when": "false"}])
    assert project.run("apply", str(tmp_path / "plan")).code == 0
    assert release.names() == ["a"]


def test_a_reviewed_plan_is_judged_too(release: World, project: Project) -> None:
    accounts: dict[str, JsonObject] = {"a": {"timezone": "Asia/Tokyo"}}
    project.declare(accounts)
    digest = project.run("plan", "--format", "json").json["digest"]
    project.declare(accounts, policy=[NO_TOKYO])
    ended = project.run("apply", "--plan-digest", digest, "--format", "json")
    assert ended.code == 3
    assert [refusal["rule"] for refusal in ended.json["refusals"]] == ["no-tokyo"]
    assert release.writes == []


@pytest.mark.usefixtures("release")
def test_a_rule_sees_no_secret_and_tells_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret-canary")
    rules: list[JsonValue] = [
        {
            "name": "plain",
            "when": "change.fields.exists(f, f.after == 's3cret-canary')",
            "deny": "x",
        },
        {"name": "told", "when": "{'a': 1}[change.fields[0].after + plan.tool] == 1", "deny": "x"},
        {"name": "body", "when": "plan.operations[0].body.data.language.size() == 13", "deny": "x"},
        {
            "name": "masked",
            "when": "change.fields.exists(f, f.after == '(sensitive)')",
            "deny": "y",
        },
    ]
    project.declare(
        {"a": {"language": "${var.secret}"}},
        variables={"secret": {"env": "SECRET", "sensitive": True}},
        policy=rules,
    )
    ended = project.run("plan", "--format", "json")
    assert [refusal["rule"] for refusal in ended.json["refusals"]] == ["told", "masked"]
    assert "s3cret-canary" not in ended.out + ended.err


def test_a_text_of_several_lines_is_told_on_one(release: World, project: Project) -> None:
    project.declare({"a": {}}, policy=[{"name": "r", "when": "true", "deny": "One.\n  Two.\n"}])
    assert "  r: One. Two.\n" in project.run("plan").out
    assert release.writes == []


def test_what_commands_write_is_as_the_schema_says(release: World, project: Project) -> None:
    schema = Draft202012Validator(plan_schema())
    warns: JsonObject = {"name": "seen", "when": "true", "warn": "x"}
    project.declare({"a": {"reseller": True}, "b": {"parent": "a"}}, policy=[warns])
    documents = [
        project.run(*command, "--format", "json").json
        for command in (("validate",), ("plan",), ("apply", "--auto-approve"), ("drift",))
    ]
    release.patch("b", timezone="Asia/Tokyo")
    documents.append(project.run("drift", "--format", "json").json)
    project.declare({}, policy=[NO_TOKYO | {"when": "plan.nope"}])
    documents.append(project.run("plan", "--format", "json").json)
    project.declare({"a": {"nope": 1}})
    documents += [project.run(name, "--format", "json").json for name in ("validate", "plan")]
    for document in documents:
        assert [error.message for error in schema.iter_errors(document)] == [], document


def test_broken_rules_are_told_all_at_once_with_their_places(project: Project) -> None:
    project.write(
        "reconciler.yaml",
        """version: 1
policy:
  - {name: syntax, when: "plan.summary.create >", deny: x}
  - {name: unknown, when: plam.complete, deny: x}
  - name: types
    when: 'size(plan.changes) + "x" == 1'
    warn: x
  - {name: number, when: 1 + 1, deny: x}
  - {name: number, when: "true", deny: x, warn: y}
  - {name: "a b", when: "true", deny: x}
accounts: {a: {settings: {name: A, realm: a.example.com, timezone: Europe/Pari}}}
""",
    )
    ended = project.run("validate", "--format", "json")
    assert ended.code == 1
    assert [(d["line"], d["column"], d["summary"]) for d in ended.json["diagnostics"]] == [
        (3, 26, "A broken rule"),
        (4, 27, "A broken rule"),
        (6, 11, "A broken rule"),
        (8, 26, "A broken rule"),
        (9, 26, "A rule without effect"),
        (9, 26, "Two rules of one name"),
        (10, 25, "A malformed name"),
        (11, 68, "An unknown time zone"),
    ]
    details = [d["detail"] for d in ended.json["diagnostics"]]
    assert details[0].startswith("1:22: Syntax error")
    assert details[1] == "1:5: undeclared reference to 'plam.complete'."
    assert "no matching overload" in details[2]
    assert details[3] == "It answers INT, and must answer true or false."


def test_a_rule_that_fails_refuses_the_plan(release: World, project: Project) -> None:
    rules: list[JsonValue] = [
        {"name": "key", "when": "plan.nope", "deny": "x"},
        {"name": "type", "when": "change.id.startsWith('x')", "deny": "x"},
        {"name": "answer", "when": "change.name", "deny": "x"},
        {"name": "only-warns", "when": "change.nope == 1", "warn": "x"},
        {"name": "asks-first", "when": "has(change.nope) && change.nope == 1", "deny": "x"},
    ]
    project.declare({"a": {}, "b": {}}, policy=rules)
    ended = project.run("plan", "--format", "json")
    assert ended.code == 3
    told = {refusal["rule"]: refusal["detail"] for refusal in ended.json["refusals"]}
    assert told.keys() == {"key", "type", "answer"}
    assert "could not be evaluated" in told["key"]
    assert "has()" in told["key"]
    assert told["type"].startswith("accounts.a: ")
    assert "must answer true or false" in told["answer"]
    assert [d["summary"] for d in ended.json["diagnostics"]] == ["Policy only-warns"]
    assert project.run("apply", "--auto-approve").code == 3
    assert release.writes == []


def test_without_the_package_nothing_is_planned(release: World, project: Project) -> None:
    """The package is hidden from a process of its own, as it would be from a plain installation."""
    project.declare({"a": {}}, policy=[NO_TOKYO])
    for command in ("validate", "plan", "apply"):
        script = (
            "import sys; from reconciler import policy; from reconciler.cli import main;"
            f"policy.COMMAND = (*policy.COMMAND[:1], '-c', {_WITHOUT!r});"
            f"sys.exit(main([{command!r}, '-C', {str(project.directory)!r}, '--format', 'json']))"
        )
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert ended.returncode == 1, ended.stderr
        [found] = json.loads(ended.stdout)["diagnostics"]
        assert "pip install 'reconciler[policy]'" in found["detail"]
        assert (found["file"], found["line"]) == ("reconciler.yaml", 6)
    assert release.writes == []


_WITHOUT: Final = (
    "import sys; sys.modules['cel_expr_python'] = None; from reconciler.cel import main;"
    " sys.exit(main())"
)
