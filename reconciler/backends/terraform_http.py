"""State on a server that speaks Terraform's HTTP protocol, as GitLab does.

`GET` answers the state, `POST` with the lock's ID replaces it, `LOCK` and `UNLOCK` (at GitLab `POST`
and `DELETE` of `/lock`) do what they say. There is no more to the protocol: no lease, no small
writes, no generations, no way to see who holds the lock but to ask for it. So the lock's ID names
the process that holds it, which its own machine can know to be dead; the journal is the state,
written again; and what was saved last, each machine remembers for itself.

Source: docs/state.md, "Terraform's HTTP protocol".
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote
from uuid import UUID, uuid4

import orjson

from reconciler import __version__
from reconciler.backends import files
from reconciler.backends.backend import Generation, Holder, Locked, Lost, Unwritable
from reconciler.backends.codec import checked_line, read_checked_line
from reconciler.backends.integrity import DISCARDED, Witness, check_next
from reconciler.backends.lease import known_dead, this_run
from reconciler.backends.state_server import connect
from reconciler.core.state import Entry, State, Unusable, fold
from reconciler.core.values import AccountId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from reconciler.backends.codec import Codec
    from reconciler.backends.lease import Timing
    from reconciler.backends.state_server import Address, Session
    from reconciler.core.values import JsonObject

log = logging.getLogger("reconciler.backends")

_LONGEST_POLL: Final = 2.0
"""Seconds between two looks at a lock that somebody else holds, at most."""
_UNREAD: Final = -1
_UNKNOWN: Final = ("", "", "", "", "")
_NOWHERE: Final = ""
"""The platform of a document that says: the state was discarded."""


class TerraformHttpBackend:
    """Keeps state on a server, and in `directory` what this machine knows of it."""

    def __init__(self, address: Address, directory: Path, codec: Codec, timing: Timing) -> None:
        self._address = address
        self._memory = _Memory(str(address), directory, codec)
        self._poll = timing.poll

    def read(self) -> State | None:
        """The state; None if there never was one. Raises: Unusable."""
        last = self._memory.last()
        with connect(self._address) as session:
            return _kept(self._memory.decode(session.get(), last))

    @contextmanager
    def lock(self, run: str, command: str, timeout: float) -> Iterator[TerraformHttpWriter]:
        """Be the only writer. Raises: Locked, Unwritable."""
        info = _lock_info(this_run(run, command))
        with connect(self._address) as session:
            self._acquire(session, info, timeout)
            try:
                yield TerraformHttpWriter(session, self._memory, run, str(info["ID"]))
            finally:
                _release(session, info)

    def _acquire(self, session: Session, info: JsonObject, timeout: float) -> None:
        until = time.monotonic() + timeout
        pause = self._poll
        freed = set()
        while (found := session.lock(info)) is not None:
            holder = self._holder(found)
            if known_dead(holder) and holder.run not in freed:
                freed.add(holder.run)
                session.unlock(found)  # the server compares the ID: of two who come, one frees it
            elif time.monotonic() >= until:
                raise Locked(holder)
            else:
                time.sleep(min(pause, max(0.0, until - time.monotonic())))
                pause = min(2 * pause, _LONGEST_POLL)

    def holder(self) -> Holder | None:
        """Who holds the lock now, dead or alive; None if nobody does. Raises: Unwritable."""
        with connect(self._address) as session:
            found = _ask(session)
            return None if found is None else self._holder(found)

    def unlock(self, run: str) -> None:
        """Take the lock away from that run, if it still has it. Raises: Unwritable."""
        with connect(self._address) as session:
            found = _ask(session)
            if found is not None and self._holder(found).run == run:
                session.unlock(found)

    def _holder(self, found: JsonObject) -> Holder:
        """Who it is, by what the server tells.

        GitLab tells the ID, who and since when of the holder, and the rest of whoever asks.
        """
        named = [unquote(part) for part in _text(found, "ID").split("/")]
        run, host, pid, process, machine, command = (*named, *_UNKNOWN)[:6]
        who, _, at = _text(found, "Who").partition("@")
        return Holder(
            run=run,
            who=who,
            host=host or at,
            pid=int(pid) if pid.isdecimal() else 0,
            command=command or ("" if self._address.gitlab else _text(found, "Operation")),
            since=_text(found, "Created"),
            heartbeat="",
            job="" if self._address.gitlab else _text(found, "Info"),
            machine=machine,
            process=process,
        )

    def history(self) -> Sequence[Generation]:
        """What was discarded from here, the latest first: the protocol keeps no generations."""
        return self._memory.history()

    def generation(self, serial: int) -> State:
        """What was discarded. Raises: Unusable."""
        return self._memory.generation(serial)


class TerraformHttpWriter:
    """The holder of the lock on a state on a server."""

    def __init__(self, session: Session, memory: _Memory, run: str, lock_id: str) -> None:
        self._session = session
        self._memory = memory
        self._run = run
        self._lock_id = lock_id
        self._lost: Lost | None = None
        self._known: State | None = None
        self._entries: list[Entry] = []
        self._stored: State | None = None
        self._serial = _UNREAD

    def check(self) -> None:
        """Make sure that the lock is not known to be lost. Raises: Lost."""
        if self._lost is not None:
            raise self._lost

    def read(self) -> State | None:
        """The state; None if there never was one. Raises: Unusable."""
        last = self._memory.last()
        self._stored = self._memory.decode(self._session.get(), last)
        if self._stored is not None:
            self._memory.remember(self._stored)
        self._serial = self._stored.serial if self._stored else 0
        self._known, self._entries = _kept(self._stored), []
        return self._known

    def journal(self, base: State, entries: Sequence[Entry]) -> None:
        """Save the state with all entries so far. Raises: Unwritable, Lost, Unusable."""
        self._look()
        self._entries += entries
        self._put(fold(base, self._entries))

    def save(self, state: State) -> None:
        """Replace the state. Raises: Unwritable, Lost, Unusable."""
        self._look()
        check_next(self._known, state)
        stored = self._put(state)
        self._known, self._entries = state, []
        self._memory.remember(stored)

    def replace(self, state: State) -> None:
        """Save a state whatever is there. Raises: Unwritable, Lost."""
        self._put_away()
        stored = self._put(state)
        self._known, self._entries = state, []
        self._memory.remember(stored)

    def discard(self) -> None:
        """Begin anew: say so on the server. Raises: Unwritable, Lost."""
        lineage = self._put_away()
        if lineage:
            self._memory.remember(self._put(_nothing(lineage, self._serial + 1)))
        self._known, self._entries = None, []

    def _put_away(self) -> str:
        """Keep here what is there, whether it can be read or not.

        Answers its lineage, as far as it or this machine says one; "" if there is no state.
        Raises: Unwritable.
        """
        last = self._memory.last() or DISCARDED
        text = self._session.get()
        with suppress(Unusable):
            self._stored = self._memory.decode(text, last)
            if _kept(self._stored) is None:
                self._serial = self._stored.serial if self._stored else 0
                return ""
        lineage, serial = _identity(text or b"")
        if text is not None:
            self._memory.keep(_discarded(f"{serial:09d}"), text)
        self._stored, self._serial = None, max(serial, last.serial)
        return lineage or last.lineage or str(uuid4())

    def _look(self) -> None:
        """Know what is there, before it is followed by something else."""
        if self._serial == _UNREAD:
            self.read()

    def _put(self, state: State) -> State:
        """Make it what the server has, if that has another; and how it is there."""
        new = self._numbered(state)
        if new == self._stored:
            return new
        text = self._memory.codec.encode(new)
        try:
            self.check()
            self._session.post(text, self._lock_id)
        except Lost as error:
            self._lost = error
            raise Lost(f"{error} {self._rescue(text)}") from error
        except Unwritable as error:
            raise Unwritable(f"{error} {self._rescue(text)}") from error
        self._stored, self._serial = new, new.serial
        return new

    def _numbered(self, state: State) -> State:
        """The state under the serial that it is saved with: GitLab takes none twice, and shows the highest."""
        stored = self._stored
        if not self._session.takes_serials_once:
            return state
        if stored is not None and state.serial <= stored.serial and _alike(state, stored):
            return stored
        return replace(state, serial=max(state.serial, self._serial + 1))

    def _rescue(self, text: bytes) -> str:
        """Keep on this machine what the server did not take; where."""
        try:
            path = self._memory.keep(f"state.unsaved.{self._run[:8]}.json", text)
        except Unwritable as error:
            return f"What was not saved could not be kept on this machine either: {error}."
        return (
            f"What was not saved stands in {path}: `reconciler state push` saves it, as long as nothing was"
            " saved since."
        )


class _Memory:
    """What this machine knows of the state on a server: what was there last, and what is there no more."""

    def __init__(self, name: str, directory: Path, codec: Codec) -> None:
        self.codec = codec
        self._name = name
        self._directory = directory
        self._path = directory / "state.last"

    def decode(self, text: bytes | None, last: Witness | None) -> State | None:
        """A document of the server as a state. `last`: from before it was asked.

        Raises: Unusable if it is damaged, or can't be what was there last.
        """
        try:
            if text is not None:
                return self.codec.decode(text, last)
            if last is not None:
                last.check_gone()
        except Unusable as error:
            hint = f". That is by what this machine remembers in {self._path}" if last else ""
            raise Unusable(f"{self._name}: {error}{hint}") from error
        return None

    def last(self) -> Witness | None:
        """What was there last, as far as this machine knows. Raises: Unusable."""
        try:
            text = files.read(self._path)
            document = read_checked_line(text.rstrip(b"\n")) if text else {}
        except OSError as error:
            raise Unusable(f"{self._path}: {files.why(error)}") from error
        except Unusable as error:
            raise Unusable(f"{self._path}: {error}. Remove it") from error
        if document.get("address") != self._name:
            return None
        return Witness(document["lineage"], document["serial"], encrypted=document["encrypted"])

    def remember(self, state: State) -> None:
        """Know from now on that this was there. Raises: Unwritable."""
        witness = DISCARDED if _kept(state) is None else self.codec.witness(state)
        if witness != self.last():
            line = checked_line({"address": self._name, **asdict(witness)})
            self.keep(self._path.name, line + b"\n")

    def keep(self, name: str, text: bytes) -> Path:
        """Put a file there; its path. Raises: Unwritable."""
        path = self._directory / name
        new = path.with_name(f"{name}.new")
        try:
            files.make_directory(path.parent)
            files.write_new(new, text)
            new.replace(path)
        except OSError as error:
            raise Unwritable(f"{path}: {files.why(error)}") from error
        return path

    def history(self) -> list[Generation]:
        """What was discarded, the latest first."""
        found = [(path.stat().st_mtime, path) for path in self._directory.glob(_discarded("*"))]
        return [
            Generation(int(path.suffix[1:]), _iso(at)) for at, path in sorted(found, reverse=True)
        ]

    def generation(self, serial: int) -> State:
        """What was discarded. Raises: Unusable."""
        path = self._directory / _discarded(f"{serial:09d}")
        try:
            text = files.read(path)
        except OSError as error:
            raise Unusable(f"{path}: {files.why(error)}") from error
        if text is None:
            raise Unusable(f"no generation {serial} is kept here")
        try:
            return self.codec.decode(text)
        except Unusable as error:
            raise Unusable(f"{path}: {error}") from error


# --- documents ---


def _nothing(lineage: str, serial: int) -> State:
    """A state that says: there is none, on purpose. So no other machine misses what was there."""
    return State(lineage, serial, f"reconciler {__version__}", _NOWHERE, AccountId("none"), "", {})


def _kept(stored: State | None) -> State | None:
    """The state that a document is."""
    return None if stored is None or stored.api_url == _NOWHERE else stored


def _alike(one: State, other: State) -> bool:
    return replace(one, serial=other.serial) == other


def _identity(text: bytes) -> tuple[str, int]:
    """Lineage and serial of a document that may be damaged, as far as it says them."""
    with suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        document = orjson.loads(text)
        return str(UUID(document["lineage"])), int(document["serial"])
    return "", 0


def _discarded(serial: str) -> str:
    return f"state.discarded.{serial}"


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")


# --- locks ---


def _lock_info(me: Holder) -> JsonObject:
    """The holder as Terraform writes one down. Of ours GitLab keeps the ID alone, so that says most."""
    named = (me.run, me.host, str(me.pid), me.process, me.machine, me.command)
    return {
        "ID": "/".join(quote(part, safe=":[]") for part in named),
        "Operation": me.command,
        "Info": me.job,
        "Who": f"{me.who}@{me.host}",
        "Version": __version__,
        "Created": me.since,
        "Path": "",
    }


def _text(found: JsonObject, name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _ask(session: Session) -> JsonObject | None:
    """What is told of the holder. The only way to see a lock is to try to take it."""
    info = _lock_info(this_run(uuid4().hex, "reconciler unlock"))
    found = session.lock(info)
    if found is None:
        session.unlock(info)
    return found


def _release(session: Session, info: JsonObject) -> None:
    """Let go. What was done is done, so that it can't be said is no reason to fail."""
    try:
        session.unlock(info)
    except Unwritable as error:
        log.warning("The lock could not be given back; `reconciler unlock` does it. %s", error)
