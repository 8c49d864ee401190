"""Progress on stderr: a bar on a terminal, plain lines elsewhere; and events for machines."""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self, TextIO

from reconciler.core.outcome import Result, Started
from reconciler.core.values import address
from reconciler.render.text import step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from reconciler.core.outcome import Event

log = logging.getLogger("reconciler")

HEARTBEAT: Final = 10.0
"""Seconds between two heartbeats in an events file."""


class Reporter:
    """Tells how far a run is. Use as a context manager; `events` gets one JSON line per step."""

    def __init__(self, stream: TextIO, *, bar: bool, events: TextIO | None = None) -> None:
        self._stream = stream
        self._bar: Progress | None = _bar() if bar else None
        self._reading: TaskID | None = None
        self._tenth = 0
        self._events = events
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        if self._events is not None:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.pause()

    def pause(self) -> None:
        """Take the bar away, so that something else can be printed."""
        if self._bar is not None:
            self._bar.stop()

    def reading(self, done: int, total: int) -> None:
        """So many accounts of so many have been read."""
        if self._bar is not None:
            if self._reading is None:
                self._bar.start()
                self._reading = self._bar.add_task("Reading accounts", total=total)
            self._bar.update(self._reading, completed=done, total=total)
        elif total >= _MANY and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            print(f"Reading accounts: {done} of {total}", file=self._stream)

    def event(self, event: Event) -> None:
        """An operation began or ended."""
        if isinstance(event, Result):
            print(step(event), file=self._stream)
        self._write(_document(event))

    def _write(self, document: dict[str, object]) -> None:
        events = self._events
        if events is None:
            return
        document = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **document}
        line = json.dumps(document, ensure_ascii=False) + "\n"
        try:
            with self._lock:
                events.write(line)
                events.flush()
        except OSError as error:  # a full disk must not end an apply half-way
            self._events = None
            log.warning("no more events are written: %s", error.strerror)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            self._write({"event": "heartbeat"})


_MANY: Final = 1000
"""From so many accounts on, plain output tells each tenth that was read."""


def _document(event: Event) -> dict[str, object]:
    if isinstance(event, Started):
        o = event.operation
        return {"event": "started", "n": o.n, "address": address(o.key), "action": o.action.value}
    return {
        "event": "ended",
        "n": event.n,
        "address": address(event.key),
        "action": event.action.value,
        "status": event.status,
        "id": event.id,
        "error": event.error or None,
        "request_id": event.request_id or None,
    }


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(file=sys.stderr), transient=True)


@contextmanager
def opened(path: str | None) -> Iterator[TextIO | None]:
    """The events file, if one is wanted. Raises: OSError."""
    if path is None:
        yield None
        return
    file = open(path, "a", encoding="utf-8")  # noqa: PTH123, SIM115 - pipes come by name too
    try:
        yield file
    finally:
        with suppress(OSError):  # each line was flushed, and what became of that told
            file.close()
