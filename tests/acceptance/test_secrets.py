"""No secret in any output, file or log, not even encoded, not even when something fails."""

from __future__ import annotations

import base64
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import ROOT_API_KEY, ROOT_ID

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.values import JsonObject

    from .conftest import Ended, Project, World

VARIABLE = "v4riable-canary/é?&"
USER, QUERY = "us3r-canary", "qu3ry-canary"
PASSWORD = "p4ssword-canary"
URL = f"https://{USER}:{PASSWORD}@rec.example.com/put?sig={QUERY}"
CANARIES = (VARIABLE, USER, QUERY, PASSWORD, ROOT_API_KEY)


def encoded(secret: str) -> set[str]:
    """The forms in which a secret could slip out."""
    raw = secret.encode()
    found = {secret, urllib.parse.quote(secret), urllib.parse.quote(secret, safe="")}
    found |= {secret.encode("unicode_escape").decode(), raw.hex()}
    for offset in range(3):  # wherever it stands in what was encoded
        text = base64.b64encode(b"x" * offset + raw).decode()
        found.add(text[4 if offset else 0 : len(text) - len(text) % 4 - 4])
    return found


class Leaks:
    """Collects all that commands leave behind."""

    def __init__(self, project: Project, directory: Path) -> None:
        self.project = project
        self.directory = directory
        self.seen: list[str] = []

    def run(self, *arguments: str) -> Ended:
        """Run a command as talkative as it can be, as text and once more as JSON."""
        runs = []
        for form in ("text", "json"):
            log = str(self.directory / f"log-{len(self.seen)}")
            more = ["--format", form, "--log-level", "debug", "--log-file", log]
            more += ["--report", str(self.directory / f"report-{len(self.seen)}.json")]
            if arguments[0] == "apply":
                more += ["--events", str(self.directory / f"events-{len(self.seen)}")]
            runs.append(self.project.run(*arguments, *more))
            self.seen.append(runs[-1].out + runs[-1].err)
        return runs[0]

    def assert_none(self, *secrets: str) -> None:
        """Nothing of the secrets is in what was printed, nor in any file but the YAML."""
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        texts = {str(path): path.read_bytes().decode() for path in files if path.suffix != ".yaml"}
        texts |= {f"output {number}": text for number, text in enumerate(self.seen)}
        assert len(texts) > 3
        for place, text in texts.items():
            for secret in secrets:
                for form in encoded(secret):
                    assert form not in text, f"{secret} is in {place}"


@pytest.fixture
def leaks(project: Project, tmp_path: Path) -> Leaks:
    return Leaks(project, tmp_path)


def tokens(world: World) -> list[str]:
    found = list(world.platform.tokens._known)
    assert found
    return found


def a_secretive_account(**fields: object) -> JsonObject:
    recording: JsonObject = {"account": {"any": {"any": {"enabled": True, "url": URL}}}}
    account: JsonObject = {"call_recording": recording, "org": "${var.secret}"}
    account["caller_id"] = {"external": {"name": "a ${var.secret}"}}
    account["flags"] = ["plain", "${var.secret}"]
    account.update(fields)  # type: ignore[arg-type]
    return account


def test_the_whole_life_of_an_account_shows_no_secret(
    world: World, project: Project, leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", VARIABLE)
    variables: JsonObject = {"secret": {"env": "SECRET"}}
    project.declare({"acme": a_secretive_account()}, variables=variables)
    plan_file = str(leaks.directory / "saved.json")
    planned = leaks.run("plan", "--out", plan_file, "--force")
    leaks.run("show", plan_file)
    assert "(sensitive)" in planned.out
    assert "https://(sensitive)@rec.example.com/put?(sensitive)" in planned.out
    assert leaks.run("apply", "--auto-approve").code == 0
    assert world.account("acme").document["org"] == VARIABLE
    assert world.account("acme").document["flags"] == ["plain", VARIABLE]
    assert project.plan().code == 0
    leaks.run("drift")
    leaks.run("show")
    leaks.run("state", "show", "accounts.acme")
    leaks.run("validate")

    monkeypatch.setenv("SECRET", "an" + VARIABLE)
    assert "(sensitive)" in leaks.run("plan", "--out", plan_file, "--force").out
    world.patch("acme", org="0" + VARIABLE, flags=[])
    assert leaks.run("apply", plan_file).code == 3
    assert leaks.run("drift").code == 2
    leaks.run("plan", "--show-unmanaged")
    assert leaks.run("apply", "--auto-approve").code == 0
    assert world.account("acme").document["org"] == "an" + VARIABLE
    assert project.plan().code == 0

    project.declare({"acme": {}}, variables=variables)
    leaks.run("plan")
    leaks.assert_none(*CANARIES, *tokens(world))


def test_a_secret_url_that_others_set_is_not_shown_either(
    world: World, project: Project, leaks: Leaks
) -> None:
    plain: JsonObject = {"account": {"any": {"any": {"url": "https://rec.example.com/"}}}}
    project.declare({"acme": {"call_recording": plain, "language": "a"}})
    project.settle()
    shown: JsonObject = {"account": {"any": {"any": {"url": URL}}}}
    hidden: JsonObject = {"endpoint": {"any": {"any": {"url": URL}}}}
    world.patch("acme", call_recording={**shown, **hidden}, ringtones={"internal": URL})
    project.declare({"acme": {"call_recording": plain, "language": "b"}})
    leaks.run("drift")
    leaks.run("plan", "--show-unmanaged")
    leaks.run("apply", "--auto-approve")
    leaks.assert_none(*CANARIES)


def test_a_refusal_that_repeats_the_value_shows_no_secret(
    world: World,
    project: Project,
    leaks: Leaks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = "realm-canary.example.com"
    world.create("stranger", world.create("elsewhere"), realm=taken)
    monkeypatch.setenv("VINIX_ACCOUNT_ID", world.create("branch"))
    monkeypatch.setenv("RECONCILER_VAR_secret", taken)
    variables: JsonObject = {"secret": {"default": "", "sensitive": True}}
    project.declare({"acme": {"realm": "${var.secret}"}}, variables=variables)
    refused = leaks.run("apply", "--auto-approve")
    assert refused.code == 1  # what identifies an account can't be a secret
    assert "settings.realm: The realm of an account is shown everywhere" in refused.err
    leaks.assert_none(taken)


def test_a_wrong_value_that_is_secret_is_not_quoted(
    project: Project, leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILER_VAR_secret", VARIABLE)
    project.declare(
        {
            "acme": a_secretive_account(timezone="${var.secret}", realm="${var.secret}"),
            "other": {"name": "acme", "caller_id": {"external": {"number": "${var.secret}" * 4}}},
            "third": {"realm": "${var.secret}"},
        },
        variables={"secret": {"sensitive": True}},
    )
    wrong = leaks.run("plan")
    assert wrong.code == 1
    assert "timezone" in wrong.err
    leaks.run("validate")
    leaks.run("apply", "--auto-approve")
    leaks.assert_none(*CANARIES)


def test_wrong_credentials_are_not_repeated(
    release: World, leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "cafe" * 16
    for name, value in {"VINIX_API_KEY": key, "VINIX_AUTH_TOKEN": "t0ken-canary"}.items():
        monkeypatch.delenv("VINIX_API_KEY", raising=False)
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("VINIX_ACCOUNT_ID", ROOT_ID)
        assert leaks.run("plan").code == 1
        assert leaks.run("apply", "--auto-approve").code == 1
        monkeypatch.delenv(name)
    monkeypatch.setenv("VINIX_USERNAME", "admin")
    monkeypatch.setenv("VINIX_PASSWORD", PASSWORD)
    monkeypatch.setenv("VINIX_ACCOUNT_NAME", "Sandbox")
    assert leaks.run("plan").code == 1
    assert len(release.log) >= 8
    leaks.assert_none(key, "t0ken-canary", PASSWORD)


def test_an_answer_that_repeats_what_was_sent_is_not_shown(
    release: World, project: Project, leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy's page may quote the request, an odd error the token."""
    monkeypatch.setenv("RECONCILER_VAR_secret", VARIABLE)
    variables: JsonObject = {"secret": None}
    project.declare({"acme": {"org": "${var.secret}"}}, variables=variables)
    page = f"<html><p>X-Auth-Token: t0ken-canary</p><p>{VARIABLE}</p></html>"
    for status in (400, 413):
        release.fault(
            method="PUT", path="/accounts/*", status=status, body=page, content_type="text/html"
        )
        leaks.run("apply", "--auto-approve")
    leaks.assert_none(VARIABLE, "t0ken-canary")


def test_a_file_can_not_reach_the_credentials(
    release: World, project: Project, leaks: Leaks
) -> None:
    project.declare({"acme": {"org": "${var.key}"}}, variables={"key": {"env": "VINIX_API_KEY"}})
    assert leaks.run("plan").code == 1
    project.declare({"acme": {"org": "${env.VINIX_API_KEY}"}})
    assert leaks.run("plan").code == 1
    assert release.log == []
    leaks.assert_none(ROOT_API_KEY)


def test_what_is_kept_on_disk_is_for_its_owner_alone(release: World, project: Project) -> None:
    project.declare({"acme": {}})
    project.settle()
    assert release.names() == ["acme"]
    for path in project.state_file.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


# --- what was sensitive, and is not declared so any more ---


@pytest.mark.parametrize("way", ["left alone", "refused", "gone, and refused"])
def test_what_was_sensitive_stays_out_of_state_as_long_as_it_is_live(
    world: World, project: Project, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Also while another value, or none, is declared already."""
    monkeypatch.setenv("RECONCILER_VAR_org", VARIABLE)
    variables: JsonObject = {"org": {}}
    project.declare({"acme": {"org": "${var.org}", "language": "en-us"}}, variables=variables)
    project.settle()
    org = None if way.startswith("gone") else "plain"
    ignored: JsonObject = {"ignore_changes": ["org"]} if way == "left alone" else {}
    for language in ("de-de", "fr-fr"):
        if way != "left alone":
            world.fault(method="PATCH", path="/accounts/*", status=403)
        project.declare(
            {"acme": {"org": org, "language": language, "lifecycle": ignored}}, variables=variables
        )
        assert project.apply().code == (0 if way == "left alone" else 5)
        for path in project.directory.rglob("*"):
            assert not path.is_file() or VARIABLE.encode() not in path.read_bytes(), path


def test_the_digest_of_a_first_plan_covers_what_is_sensitive(
    world: World, project: Project
) -> None:
    def recorded_at(url: str) -> dict[str, JsonObject]:
        return {"acme": {"call_recording": {"account": {"any": {"any": {"url": url}}}}}}

    project.declare(recorded_at("https://u:p@good.example.com/x"))
    reviewed = project.plan("--format", "json").json["digest"]
    for url in ("https://u:p@evil.example.com/x", "https://u:q@good.example.com/x"):
        project.declare(recorded_at(url))
        assert project.apply("--plan-digest", reviewed).code == 3
    assert world.writes == []
    project.declare(recorded_at("https://u:p@good.example.com/x"))
    assert project.apply("--plan-digest", reviewed).code == 0
