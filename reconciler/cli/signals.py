"""Ends in good order: at a signal, and when nobody reads the output any more."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

from reconciler.cli.exits import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from _typeshed import ReadableBuffer

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal came before anything was written, or after all of it: there is nothing to finish."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Let each signal that ends a program do so as an exception: locks are let go on the way.

    While operations run, `execute` takes the signals itself. A second one ends it on the spot, which
    is safe: nothing is being written. One that was to be ignored, as under nohup, stays so.
    """
    ending = False

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ending
        if ending:
            os._exit(INTERRUPTED + number)
        ending = True
        raise Interrupted(number)

    caught = []
    try:
        for number in _ENDING:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                signal.signal(number, end)
                caught.append((number, before))
    except ValueError:  # not in the main thread
        caught.clear()
    try:
        yield
    finally:
        for number, before in caught:
            signal.signal(number, before)


class _Forgiving(io.FileIO):
    """Takes what it can't pass on: nobody reads at the other end, or the disk is full.

    `lost`: what kept it from being written; None if all was, or nobody wanted it.
    """

    lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or let it be."""
        written = None
        try:
            while (written := super().write(data)) is None:  # whoever reads is not ready
                select.select([], [self], [])
        except BrokenPipeError:
            pass
        except OSError as error:
            self.lost = error
        return memoryview(data).nbytes if written is None else written


def forgiving(stream: TextIO | None) -> TextIO:
    """The same stream, but neither `| head` nor a full disk breaks it: a run goes on as it would."""
    if stream is None:  # it was closed before the program began
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - as long as the program
    raw = _Forgiving(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream is sys.stderr or stream.isatty(),
    )


def unwritten(stream: TextIO) -> OSError | None:
    """What kept text from being written to a stream that `forgiving` made; None if nothing did."""
    stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Forgiving) else None
