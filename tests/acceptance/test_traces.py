"""Traces of a run, as a collector gets them: decoded from what came in over OTLP/HTTP."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from .conftest import wait_for
from .receiver import receiving
from .test_secrets import CANARIES, VARIABLE, a_secretive_account, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Project, World
    from .receiver import Receiver


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.host}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=h3ader-canary")
        yield receiver


def spans(collector: Receiver) -> list[Span]:
    """All that came in, in the order in which it began."""
    found = []
    for arrived in collector.arrived:
        assert arrived.path == "/v1/traces"
        assert arrived.headers["x-key"] == "h3ader-canary"
        for resource in ExportTraceServiceRequest.FromString(arrived.body).resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert names["service.name"] == "reconciler"
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return sorted(found, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def drawn(found: list[Span]) -> list[str]:
    """The tree of spans, each below what it belongs to, those of the same name once."""
    names = {span.span_id: span.name for span in found}
    lines = [f"{names.get(span.parent_span_id, '')} > {span.name}" for span in found]
    return list(Counter(lines))


def test_an_apply_is_a_tree_of_what_it_did(
    release: World, project: Project, collector: Receiver
) -> None:
    project.declare({"acme": {"reseller": True}})
    assert project.apply().code == 0
    found = spans(collector)
    assert drawn(found) == [
        " > reconciler apply",
        "reconciler apply > refresh",
        "refresh > PUT /api_auth",
        "refresh > GET /accounts/{account_id}",
        "refresh > GET /accounts/{account_id}/descendants",
        "reconciler apply > create",
        "create > PUT /accounts/{account_id}",
        "create > GET /accounts/{account_id}",
        "reconciler apply > promote",
        "promote > GET /accounts/{account_id}",
        "promote > PUT /accounts/{account_id}/reseller",
        "reconciler apply > GET /accounts/{account_id}/descendants",
    ]
    requests = [span for span in found if span.kind == Span.SPAN_KIND_CLIENT]
    assert len(requests) == len(release.log)
    assert all(attributes(span)["http.response.status_code"] for span in requests)
    assert all(len(attributes(span)["reconciler.request_id"]) == 32 for span in requests)
    run = found[0]
    assert attributes(run)["reconciler.command"] == "apply"
    for span in found:
        assert span.trace_id == run.trace_id
        assert run.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= run.end_time_unix_nano
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    (create,) = (span for span in found if span.name == "create")
    assert attributes(create) == {
        "reconciler.address": "accounts.acme",
        "reconciler.action": "create",
        "reconciler.operation": 1,
        "reconciler.status": "done",
        "http.request.method": "PUT",
    }


@pytest.mark.usefixtures("low_dice")
def test_what_went_wrong_is_marked(release: World, project: Project, collector: Receiver) -> None:
    project.declare({"acme": {}})
    project.settle()
    collector.arrived.clear()
    release.fault(method="PATCH", status=400, times=99)
    release.fault(method="GET", nth=2, drop=True)
    project.declare({"acme": {"org": "x"}})
    assert project.apply().code == 5
    found = spans(collector)
    failed = {span.name for span in found if span.status.code == Status.STATUS_CODE_ERROR}
    assert failed >= {"reconciler apply", "update", "PATCH /accounts/{account_id}"}
    (update,) = (span for span in found if span.name == "update")
    assert attributes(update)["reconciler.status"] == "failed"
    assert len(attributes(update)["reconciler.request_id"]) == 32
    patch = next(span for span in found if span.name.startswith("PATCH"))
    assert attributes(patch)["http.response.status_code"] == 400
    resent = [span for span in found if "http.request.resend_count" in attributes(span)]
    assert len(resent) == 1
    (lost,) = (span for span in found if attributes(span).get("error.type") == "Unclear")
    assert "http.response.status_code" not in attributes(lost)


def test_plan_and_drift_are_traced_and_other_commands_not(
    release: World, project: Project, collector: Receiver
) -> None:
    project.declare({"acme": {}})
    assert project.run("validate").code == 0
    assert project.plan().code == 2
    assert project.run("drift").code == 0
    assert {line.split(" > ")[1] for line in drawn(spans(collector)) if line[0] == " "} == {
        "reconciler plan",
        "reconciler drift",
    }
    assert release.log


def test_no_secret_is_in_a_trace(
    release: World, project: Project, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", VARIABLE)
    project.declare({"acme": a_secretive_account()}, variables={"secret": {"env": "SECRET"}})
    assert project.apply().code == 0
    sent = b"".join(arrived.body for arrived in collector.arrived)
    assert sent
    for secret in (*CANARIES, *release.platform.tokens._known):
        for form in encoded(secret):
            assert form.encode() not in sent


@pytest.mark.parametrize("status", [400, 404])
def test_a_collector_that_refuses_is_a_warning(
    release: World, project: Project, collector: Receiver, status: int
) -> None:
    collector.status = status
    project.declare({"acme": {}})
    applied = project.apply()
    assert applied.code == 0
    assert "not told: traces: the collector did not take them" in applied.err
    assert "canary" not in applied.err
    assert release.names() == ["acme"]


@pytest.mark.usefixtures("release")
def test_a_redirect_is_not_followed(project: Project, collector: Receiver) -> None:
    collector.status, collector.location = 307, "/elsewhere"
    project.declare({"acme": {}})
    assert project.plan().code == 2
    assert {arrived.path for arrived in collector.arrived} == {"/v1/traces"}


@pytest.mark.usefixtures("release")
def test_a_collector_that_hangs_does_not_hang_the_run(
    project: Project, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.telling.deliver.LIMIT", 0.5)
    collector.hanging.set()
    project.declare({"acme": {}})
    began = time.monotonic()
    planned = project.plan()
    assert time.monotonic() - began < 8
    assert planned.code == 2
    assert "traces: it took more than 0.5 seconds" in planned.err


def test_a_run_that_is_interrupted_is_told_of(
    release: World, project: Project, collector: Receiver
) -> None:
    project.declare({key: {} for key in ("a", "b", "c")}, api={"concurrency": 1})
    release.fault(method="PUT", path="^/accounts/.*", nth=2, delay_ms=1500)
    process = project.start("apply", "--auto-approve")
    wait_for(lambda: release.platform.faults.matches() >= 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    found = spans(collector)
    run = found[0]
    assert run.name == "reconciler apply"
    assert attributes(run)["process.exit.code"] == 130
    assert [span.name for span in found].count("create") == 2


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000"),
    ],
)
def test_what_is_off_or_not_there_sends_nothing(
    project: Project, collector: Receiver, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    planned = project.run("plan")
    assert planned.code == 0
    assert ("not told: traces: " in planned.err) == (value not in ("true", "none"))
    assert collector.arrived == []


@pytest.mark.usefixtures("release")
def test_a_missing_package_is_named_where_somebody_asked_for_it(
    project: Project, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing: as Python tells of it, since the tests have all packages."""
    for missing in ("apprise", "prometheus_client", "opentelemetry.sdk.trace"):
        monkeypatch.setitem(sys.modules, missing, None)
    assert "not told" not in project.run("plan").err
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    assert "pip install 'reconciler[otel]'" in project.run("plan").err
    for option, extra in (("--notify", "notify"), ("--metrics", "metrics")):
        refused = project.run("plan", option, "json://127.0.0.1/")
        assert refused.code == 1
        assert f"pip install 'reconciler[{extra}]'" in refused.err
    assert collector.arrived == []
