"""Traces of a run by OpenTelemetry: the run, its refresh, each operation, each request below what it was for.

The standard variables say where to and how (`OTEL_*`); spans go out by OTLP over HTTP. Nothing of
a body, a token or a value is in them.

Source: docs/monitoring.md, "Traces".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler import __version__
from reconciler.core.outcome import Started
from reconciler.core.values import address
from reconciler.telling.deliver import Undelivered, silence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

    from reconciler.core.exchange import Exchange
    from reconciler.core.outcome import Event, Result

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_ERROR: Final = 400
_NANO: Final = 1_000_000_000


class Unfit(Exception):
    """Traces are asked for in a way that is not there. The run goes on without."""


def tracer(command: str, project: str, environment: Mapping[str, str]) -> Tracer | None:
    """What makes spans of a run from now on; None if nobody wants them. Raises: Unfit."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    wanted = exporter or any(environment.get(name) for name in _ENDPOINTS)
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not wanted or off or exporter == "none":
        return None
    if exporter not in ("", "otlp"):
        raise Unfit("OTEL_TRACES_EXPORTER: only otlp and none are there")
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise Unfit(f"OTEL_EXPORTER_OTLP_PROTOCOL: only {_PROTOCOL} is there")
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401 - both come by one extra
    except ImportError as error:
        if not exporter:  # the endpoint may be there for other programs
            return None
        raise Unfit("more packages are needed: pip install 'reconciler[otel]'") from error
    silence("opentelemetry", "requests", "urllib3")
    attributes = {"reconciler.command": command, "reconciler.project": project}
    try:
        return _opened(attributes)
    except (ValueError, OSError) as error:
        raise Unfit("OpenTelemetry does not take what a variable OTEL_* says") from error


def _opened(attributes: Mapping[str, str]) -> Tracer:
    """A tracer as the environment configures it. Raises: ValueError, OSError."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider

    watched = _Watched(OTLPSpanExporter())
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    return Tracer(provider, watched, attributes)


def _resource() -> Resource:
    """What the spans come from; the environment's own words for it come first."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = Resource({"service.name": "reconciler", "service.version": __version__})
    return ours.merge(OTELResourceDetector().detect())


class _Watched:
    """An exporter of which is known whether something was lost."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.lost = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        result = self._exporter.export(spans)
        self.lost = self.lost or result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()


class Tracer:
    """Makes spans of what it is told. The refresh is what is asked for before the first operation."""

    def __init__(
        self, provider: TracerProvider, watched: _Watched, attributes: Mapping[str, str]
    ) -> None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(watched))  # type: ignore[arg-type]
        self._provider = provider
        self._watched = watched
        self._tracer = provider.get_tracer("reconciler", __version__)
        self._run = self._tracer.start_span(
            f"reconciler {attributes['reconciler.command']}", attributes=attributes
        )
        self._refresh: Span | None = None
        self._refreshed = 0  # when the last request of the refresh ended
        self._operating = False
        self._operations: dict[int | None, Span] = {}

    def exchanged(self, exchange: Exchange) -> None:
        """A request has ended."""
        from opentelemetry.trace import SpanKind

        attributes: dict[str, str | int] = {
            "http.request.method": exchange.method,
            "url.template": exchange.path,
            "reconciler.request_id": exchange.request_id,
        }
        if exchange.status is not None:
            attributes["http.response.status_code"] = exchange.status
        if exchange.resent:
            attributes["http.request.resend_count"] = exchange.resent
        if exchange.status is None or exchange.status >= _ERROR:
            attributes["error.type"] = exchange.error or str(exchange.status)
        ended = exchange.began + int(exchange.seconds * _NANO)
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.path}",
            context=_below(self._parent(exchange, ended)),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=exchange.began,
        )
        _end(span, failed="error.type" in attributes, at=ended)

    def _parent(self, exchange: Exchange, ended: int) -> Span:
        """The span of what a request was for."""
        if exchange.operation in self._operations:
            return self._operations[exchange.operation]
        if self._operating:  # looks after all operations
            return self._run
        if self._refresh is None:
            self._refresh = self._tracer.start_span(
                "refresh", context=_below(self._run), start_time=exchange.began
            )
        self._refreshed = max(self._refreshed, ended)
        return self._refresh

    def event(self, event: Event) -> None:
        """An operation began or ended."""
        self._end_refresh()
        self._operating = True
        if not isinstance(event, Started):
            self._ended(event)
            return
        operation = event.operation
        self._operations[operation.n] = self._tracer.start_span(
            operation.action.value,
            context=_below(self._run),
            attributes={
                "reconciler.address": address(operation.key),
                "reconciler.action": operation.action.value,
                "reconciler.operation": operation.n,
                "http.request.method": operation.method,
            },
        )

    def _ended(self, result: Result) -> None:
        span = self._operations.pop(result.n, None)
        if span is None:  # it never began, or its end was told before
            return
        span.set_attribute("reconciler.status", result.status)
        if result.request_id:
            span.set_attribute("reconciler.request_id", result.request_id)
        _end(span, failed=result.status != "done")

    def _end_refresh(self) -> None:
        if self._refresh is not None:
            self._refresh.end(self._refreshed)
            self._refresh = None

    def end(self, code: int, *, failed: bool) -> None:
        """The run has ended with exit status `code`."""
        self._end_refresh()
        for span in self._operations.values():
            _end(span, failed=True)
        self._run.set_attribute("process.exit.code", code)
        _end(self._run, failed=failed)

    def send(self) -> None:
        """Send what was not sent yet. Raises: Undelivered."""
        self._provider.shutdown()
        if self._watched.lost:
            raise Undelivered("the collector did not take them, or can't be reached")


def _below(span: Span) -> Context:
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span)


def _end(span: Span, *, failed: bool, at: int | None = None) -> None:
    """End a span now, or `at` nanoseconds since 1970."""
    from opentelemetry.trace import StatusCode

    if failed:
        span.set_status(StatusCode.ERROR)
    span.end(at)
