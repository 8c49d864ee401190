"""Others are told how a run ended, over real HTTP; and whatever comes of that, the run ended as it did."""

from __future__ import annotations

import json
import signal
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import wait_for
from .receiver import receiving
from .test_secrets import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Ended, Project, World
    from .receiver import Receiver

SECRET = "s3cret-canary"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hooked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """A receiver that the environment names, with a secret in the URL."""
    url = f"json://user:{SECRET}@{receiver.host}/{SECRET}"
    monkeypatch.setenv("RECONCILER_NOTIFY", url)
    return receiver


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_RUN_ID", "CI_JOB_URL"):
        monkeypatch.delenv(name, raising=False)


def message(receiver: Receiver) -> dict[str, Any]:
    """The last message that came in."""
    found: dict[str, Any] = json.loads(receiver.arrived[-1].body)
    return found


def figures(text: str) -> dict[str, float]:
    """The metrics in a text, by name and the labels that not all have."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("project", "command")}
            assert sample.labels.keys() >= {"project", "command"}
            found[" ".join([sample.name.removeprefix("reconciler_"), *labels.values()])] = (
                sample.value
            )
    return found


@pytest.mark.usefixtures("release")
def test_what_was_done_is_told(
    project: Project, hooked: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/voice")
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    project.declare({"acme": {}})
    assert project.plan().code == 2
    assert message(hooked)["title"] == "reconciler plan: there are changes"
    assert project.apply().code == 0
    told = message(hooked)
    assert told["title"] == "reconciler apply: done"
    assert told["type"] == "success"
    lines = told["message"].splitlines()
    assert lines[0].startswith("Apply complete: 1 created")
    assert lines[1].startswith("Project project, root account ")
    assert lines[2] == "https://git.example.com/acme/voice/actions/runs/42"
    assert lines[3:] == ["Accounts:", "- accounts.acme (acme): created"]
    assert len(hooked.arrived) == 2


@pytest.mark.usefixtures("release")
def test_where_there_was_nothing_to_do_nobody_is_told(project: Project, hooked: Receiver) -> None:
    project.declare({"acme": {}})
    project.settle()
    hooked.arrived.clear()
    assert project.plan().code == 0
    assert project.apply().code == 0
    assert project.run("drift").code == 0
    assert hooked.arrived == []


def test_drift_is_told(release: World, project: Project, hooked: Receiver) -> None:
    project.declare({"acme": {"org": "one"}})
    project.settle()
    release.patch("acme", org="two")
    assert project.run("drift").code == 2
    told = message(hooked)
    assert told["title"] == "reconciler drift: there is drift"
    assert told["type"] == "warning"
    assert "accounts.acme (acme): was changed outside" in told["message"]


@pytest.mark.usefixtures("release")
def test_a_refusal_and_a_failure_are_told(project: Project, hooked: Receiver) -> None:
    project.declare({"acme": {}})
    project.settle()
    project.declare({})
    assert project.plan().code == 3
    told = message(hooked)
    assert told["title"] == "reconciler plan: refused"
    assert "Refused:" in told["message"]
    assert told["type"] == "failure"
    project.declare({"acme": {"nam": "x"}})
    assert project.run("drift").code == 1
    told = message(hooked)
    assert told["title"] == "reconciler drift: failed"
    assert "nam" in told["message"]


@pytest.mark.usefixtures("release")
def test_what_others_wrote_is_no_mention_and_no_markup(project: Project, hooked: Receiver) -> None:
    name = "@everyone <!here> [x](https://evil.example) <b>*a*"
    project.declare({"acme": {"name": name}})
    assert project.apply().code == 0
    text = message(hooked)["message"]
    assert "acme" in text
    for harmful in ("@", "<", "](", "https://evil", "*"):
        assert harmful not in text


@pytest.mark.parametrize(
    "url",
    ["json://{}", "xml://{}", "form://{}", "mmost://{}/token0123456789012345678", "ntfy://{}/voice",
     "gotify://{}/token0123456789", "matrix://user:token@{}/#voice?mode=slack"],
)  # fmt: skip
@pytest.mark.usefixtures("release")
def test_services_of_many_kinds_get_the_sum_and_no_markup(
    project: Project, receiver: Receiver, url: str
) -> None:
    project.declare({"acme": {"name": "@everyone <b>[x](y)"}})
    ended = project.plan("--notify", url.format(receiver.host))
    assert ended.code == 2
    assert "not told" not in ended.err
    (one,) = receiver.arrived
    text = unquote_plus(one.text)
    assert "Plan: 1 to create" in text
    assert "everyone" in text
    for harmful in ("@everyone", "<b>", "[x]", "Apprise"):
        assert harmful not in text


@pytest.mark.usefixtures("release")
def test_the_secret_of_a_url_is_nowhere(project: Project, hooked: Receiver, tmp_path: Path) -> None:
    hooked.status = 500
    project.declare({"acme": {}})
    log = ("--log-level", "debug", "--log-file", str(tmp_path / "log"))
    report = ("--report", str(tmp_path / "report.json"))
    runs = [
        project.plan("--out", str(tmp_path / "saved.json"), *log, *report),
        project.apply(*log),
        project.run("plan", "--notify", f"nosuch{SECRET}://{SECRET}"),
        project.run("plan", "--notify", f"slack://{SECRET}"),
        project.run("plan", "--notify", f"json://{SECRET}.example.com/{SECRET}"),
        project.run("plan", "--metrics", f"https://user:{SECRET}@127.0.0.1:1/"),
    ]
    assert [run.code for run in runs] == [2, 0, 1, 1, 1, 0]
    assert "a message by json (URL 1): the service did not take it" in runs[1].err
    texts = [run.out + run.err for run in runs]
    texts += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for form in encoded(SECRET):
        assert not any(form in text for text in texts)
    # And it is what the receiver was told by.
    basic = b64encode(f"user:{SECRET}".encode()).decode()
    assert hooked.arrived[0].headers["Authorization"] == f"Basic {basic}"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "syslog://",
        "dbus://",
        "nonsense",
        "json://example.com/",
        "mailto://user:pass@example.com",
        "mailto://user:pass@localhost?smtp=mail.example.com",
        "mailtos://user:pass@example.com?mode=insecure",
        "slack://x",
        "jsons://127.0.0.1/?verify=no",
        "jsons://127.0.0.1/?redirect=yes",
        "https://example.com/hook",
    ],
)
def test_a_url_that_is_not_taken_is_found_out_before_anything_is_sent(
    release: World, project: Project, url: str
) -> None:
    ended = project.run("plan", "--notify", url)
    assert ended.code == 1
    assert "--notify: URL 1" in ended.err
    assert release.log == []


def ended(project: Project, *more: str) -> list[Ended]:
    """A few runs that end in different ways."""
    project.declare({"acme": {}})
    runs = [project.plan(*more), project.apply(*more), project.plan(*more)]
    project.declare({})
    runs += [project.plan(*more), project.run("drift", *more)]
    project.declare({"acme": {"nam": "x"}})
    return [*runs, project.run("drift", *more)]


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("status", [200, 302, 401, 500])
def test_whatever_comes_of_the_telling_the_exit_status_is_the_same(
    project: Project, receiver: Receiver, status: int
) -> None:
    receiver.status = status
    receiver.location = f"http://{receiver.host}/elsewhere" if status == 302 else ""
    url = f"json://{receiver.host}/hook"
    runs = ended(project, "--notify", url, "--metrics", f"http://{receiver.host}/gw/")
    assert [run.code for run in runs] == [2, 0, 0, 3, 0, 1]
    warned = ["not told" in run.err for run in runs]
    assert warned == [status != 200] * 6
    assert not any("elsewhere" in one.path for one in receiver.arrived)


@pytest.mark.usefixtures("release")
def test_a_receiver_that_hangs_does_not_hang_the_run(
    project: Project, hooked: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.telling.deliver.LIMIT", 0.5)
    hooked.hanging.set()
    project.declare({"acme": {}})
    began = time.monotonic()
    planned = project.plan("--metrics", f"http://{hooked.host}/")
    assert time.monotonic() - began < 8
    assert planned.code == 2
    assert "metrics: it took more than 0.5 seconds" in planned.err
    assert "a message by json (URL 1): it took more than 0.5 seconds" in planned.err


@pytest.mark.usefixtures("release")
def test_a_signal_ends_the_telling_and_not_what_came_of_the_run(
    project: Project, hooked: Receiver
) -> None:
    hooked.hanging.set()
    project.declare({"acme": {}})
    process = project.start("plan", "--detailed-exitcode")
    wait_for(lambda: bool(hooked.arrived))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 2
    assert b"not told" in err


def test_the_figures_of_a_run_are_in_a_file_that_anybody_may_read(
    release: World, project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "reconciler.prom"
    project.declare({"acme": {"reseller": True}, "sub": {"parent": "acme"}})
    assert project.apply("--metrics", str(file)).code == 0
    found = figures(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o644
    assert found["run_success"] == 1
    assert found["run_exit_code"] == 0
    assert found["accounts_managed"] == 2
    assert found["state_serial"] == project.state()["serial"]
    assert found["changes create"] == 2
    assert found["changes promote"] == 1
    assert found["operations done"] == 3
    assert found["operations failed"] == 0
    requests = sum(value for name, value in found.items() if name.startswith("api_requests "))
    assert requests == len(release.log)
    assert found["run_start_timestamp_seconds"] + found["run_duration_seconds"] == pytest.approx(
        found["run_end_timestamp_seconds"]
    )
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [file.name]
    release.patch("sub", org="x", enabled=False)
    project.declare({"acme": {"reseller": True}, "sub": {"parent": "acme", "enabled": True}})
    assert project.apply("--metrics", str(file)).code == 0
    release.patch("sub", enabled=False)
    assert project.run("drift", "--metrics", str(file)).code == 2
    found = figures(file.read_text())
    assert found["drifted_accounts"] == 1
    assert found["run_success"] == 1
    assert "changes create" not in found


@pytest.mark.usefixtures("release")
def test_a_run_that_failed_leaves_figures_too(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "reconciler.prom"
    file.write_text("old")
    project.declare({"acme": {"nam": "x"}})
    assert project.run("drift", "--metrics", str(file)).code == 1
    found = figures(file.read_text())
    assert found["run_success"] == 0
    assert found["run_exit_code"] == 1
    assert "accounts_managed" not in found


@pytest.mark.usefixtures("low_dice")
def test_what_was_refused_and_sent_again_is_counted(
    release: World, project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "reconciler.prom"
    project.declare({"acme": {}})
    release.fault(method="GET", nth=1, status=429)
    release.fault(method="GET", nth=3, status=500)
    release.fault(method="GET", nth=4, drop=True)
    seen = release.count_answers()
    assert project.plan("--metrics", str(file)).code == 2
    found = figures(file.read_text())
    assert found["api_requests_limited"] == 1
    assert found["api_requests GET 429"] == seen.count(429) == 1
    assert found["api_requests GET 500"] == seen.count(500) == 1
    assert found["api_requests GET none"] == 1
    assert found["api_requests_resent"] == 3


@pytest.mark.usefixtures("release")
def test_a_gateway_gets_them_in_place_of_the_last(project: Project, receiver: Receiver) -> None:
    url = f"http://user:pass%3Aword@{receiver.host}/gw/"
    assert project.run("drift", "--metrics", url).code == 0
    (one,) = receiver.arrived
    assert one.method == "PUT"
    assert one.path == "/gw/metrics/job/reconciler/command/drift/project/project"
    assert one.headers["Authorization"] == "Basic " + b64encode(b"user:pass:word").decode()
    assert figures(one.text)["run_success"] == 1


@pytest.mark.parametrize(
    "place",
    [
        *("nowhere/x.prom", "/dev/full", "http://example.com/"),
        *("https://", "https://x/?y", "https://x:y/"),
    ],
)
def test_a_place_that_metrics_cant_go_to_is_found_out_first(
    release: World, project: Project, place: str
) -> None:
    refused = project.run("plan", "--metrics", place)
    assert refused.code == 1
    assert "--metrics: " in refused.err
    assert release.log == []
