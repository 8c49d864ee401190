"""A run in Prometheus' text format: in a file for node_exporter's textfile collector, or to a Pushgateway.

All are gauges, since each run begins anew. No label has more values than there are commands,
actions, statuses and methods: none names an account.

Source: docs/monitoring.md, "Metrics".
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from reconciler.core.values import stays_here
from reconciler.telling.deliver import LIMIT, Undelivered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from reconciler.telling.run import Run

METRICS: Final = {
    "run_success": ("1 if the run did what it was to do (exit status 0 or 2), else 0", ()),
    "run_exit_code": ("The exit status of the run", ()),
    "run_start_timestamp_seconds": ("When the run began, in seconds since 1970", ()),
    "run_end_timestamp_seconds": ("When the run ended, in seconds since 1970", ()),
    "run_duration_seconds": ("How long the run took", ()),
    "accounts_managed": ("Accounts under management, after the run", ()),
    "state_serial": ("The serial of the state, after the run", ()),
    "drifted_accounts": ("Accounts that were changed outside", ()),
    "changes": ("Accounts that the plan changes, by action", ("action",)),
    "refusals": ("Rules that the plan is refused by", ()),
    "operations": ("Operations of an apply, by what became of them", ("status",)),
    "api_requests": (
        "Requests to the platform, by method and status; none if no answer came",
        ("method", "status"),
    ),
    "api_requests_resent": (
        "Requests sent again: after a 429, a login that ran out, or a read that came to nothing",
        (),
    ),
    "api_requests_limited": ("Requests that the rate limit refused (429)", ()),
}
"""Name without `reconciler_`: its help, and its labels beside `project` and `command`."""

_ALWAYS: Final = ("project", "command")
_SUCCESS: Final = (0, 2)
_LIMITED: Final = "429"


class Unfit(Exception):
    """A place that metrics can't go to. The text holds no secret."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where metrics go: to a file, or to a Pushgateway at `url`."""

    file: Path | None = None
    url: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def send(self, run: Run) -> None:
        """Write or push them. Raises: Undelivered."""
        if self.file is not None:
            _write(self.file, run)
        else:
            self._push(run)

    def _push(self, run: Run) -> None:
        from prometheus_client import push_to_gateway
        from prometheus_client.exposition import basic_auth_handler, default_handler

        def handler(url, method, timeout, headers, data):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - the package has no types
            if not self.user:
                return default_handler(url, method, timeout, headers, data)
            return basic_auth_handler(url, method, timeout, headers, data, self.user, self.password)

        key = {"project": run.project, "command": run.command}
        try:
            push_to_gateway(
                self.url, "reconciler", registry(run), key, timeout=LIMIT, handler=handler
            )
        except OSError as error:  # its text may tell the address
            raise Undelivered("the gateway did not take them, or can't be reached") from error


def place(text: str) -> Place:
    """Where `text` says that metrics go. Nothing is sent or written. Raises: Unfit."""
    try:
        import prometheus_client  # noqa: F401 - an extra; better said now than at the end
    except ImportError as error:
        raise Unfit("it needs more packages: pip install 'reconciler[metrics]'") from error
    if not text.startswith(("http://", "https://")):
        file = Path(text)
        if not file.parent.is_dir() or (file.exists() and not file.is_file()):
            raise Unfit(f"{text}: no file in a directory that is there")
        return Place(file)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Unfit("it is no URL of a Pushgateway") from error
    if not host or parts.query or parts.fragment:
        raise Unfit("it is no URL of a Pushgateway: https://HOST[:PORT][/PATH]")
    if parts.scheme == "http" and not stays_here(host):
        raise Unfit("http:// goes to this machine alone: take https://")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    url = f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"
    return Place(None, url, unquote(parts.username or ""), unquote(parts.password or ""))


def _write(file: Path, run: Run) -> None:
    """Whole or not at all; anybody may read it, since node_exporter is another user."""
    from prometheus_client import write_to_textfile

    new = file.with_name(f".{file.name}.new")  # the collector reads *.prom
    try:
        write_to_textfile(str(new), registry(run))
        new.chmod(0o644)
        new.replace(file)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise Undelivered(f"{file} can't be written ({error.strerror})") from error


def registry(run: Run) -> CollectorRegistry:
    """The metrics of a run: those that are known of it."""
    from prometheus_client import CollectorRegistry, Gauge

    collected = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for name, labels, value in _samples(run):
        if name not in gauges:
            text, more = METRICS[name]
            gauges[name] = Gauge(f"reconciler_{name}", text, (*_ALWAYS, *more), registry=collected)
        gauges[name].labels(run.project, run.command, *labels).set(value)
    return collected


def _samples(run: Run) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Name, labels beside those that all have, value."""
    yield "run_success", (), run.code in _SUCCESS
    yield "run_exit_code", (), run.code
    yield "run_start_timestamp_seconds", (), run.began
    yield "run_end_timestamp_seconds", (), run.ended
    yield "run_duration_seconds", (), run.ended - run.began
    if run.found is not None:
        yield "accounts_managed", (), run.found.accounts
        yield "state_serial", (), run.found.serial
        yield "drifted_accounts", (), run.found.drifted
        if run.found.changes is not None:
            yield "refusals", (), run.found.refusals
        for action, count in (run.found.changes or {}).items():
            yield "changes", (action,), count
        for status, count in (run.found.results or {}).items():
            yield "operations", (status,), count
    answers = run.traffic.answers
    for method_and_status, count in sorted(answers.items()):
        yield "api_requests", method_and_status, count
    yield "api_requests_resent", (), run.traffic.resent
    limited = sum(count for (_, status), count in answers.items() if status == _LIMITED)
    yield "api_requests_limited", (), limited
