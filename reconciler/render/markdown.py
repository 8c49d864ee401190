"""A report as Markdown, for a comment on a pull request.

Text from outside stands in code spans and code blocks alone, and in `<code>` where a fold has its
title: there it is no markup, link, mention or reference to the host, and it can't end what it is in.

Source: docs/formats.md, "Markdown".
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from reconciler.core.values import ROOT, accounts, address
from reconciler.render.report import by_reseller
from reconciler.render.safe import html, terminal
from reconciler.render.safe import markdown as code
from reconciler.render.text import diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from reconciler.render.report import Alarm, Entry, Line, Report

LIMIT: Final = 65_000
"""Bytes. GitHub takes 65,536 characters in a comment; the rest is for a mark to find it again by."""

_OTHERS: Final = 5_000
"""Bytes that each list but the dangerous part may take at most."""

_ENTRY: Final = 4_000
_LINE: Final = 600
"""Bytes that one account's details may take at most, and characters that one line may."""

_NAME: Final = 80
"""Characters that a name in a title may have."""

_FRAME: Final = 1_000
"""Bytes that a fold takes besides its blocks, at most."""

_SIGNS: Final = {"add": "", "change": "! ", "remove": "", "error": "- ", "note": "  "}
"""What makes a line coloured in a block of `diff`; the others have their sign already."""


def markdown(report: Report) -> str:
    """The report, the most important first, cut to fit `LIMIT`.

    First what is dangerous and what went wrong, then what many accounts have in common, details last.
    What is dangerous has all the room that the sums, refusals and errors leave.
    """
    head = "".join(_summary(report))
    wrong = _list("Refused", [f"{r.rule}: {r.detail}" for r in report.refusals], _OTHERS)
    wrong += _list("Not done", report.errors, _OTHERS)
    lists = (
        ("Nobody manages", report.unmanaged),
        ("Known drift, left alone", report.known),
        ("Noticed", [diagnostic(found) for found in report.diagnostics]),
        ("The same on many accounts", report.groups),
    )
    least = sum(_size(_list(title, items, 0)) for title, items in lists)
    least += _size(_left_out(len(report.changed)))
    page = head + _dangers(report.dangers, LIMIT - _size(head + wrong) - least) + wrong
    for title, items in lists:
        room = min(_OTHERS, LIMIT - _size(page) - least)
        least -= _size(_list(title, items, 0))
        page += _list(title, items, room)
    return page + _details(report, LIMIT - _size(page))


def _summary(report: Report) -> Iterator[str]:
    """What is there of any report, whatever its size."""
    yield f"### reconciler {report.command}\n\n**{report.headline}**\n\n"
    if report.dangers:
        counted = Counter(alarm.kind for alarm in report.dangers)
        kinds = ", ".join(f"{number} {kind}" for kind, number in counted.items())
        yield f"**Dangerous: {kinds}.**\n\n"
    yield from (f"{note}\n\n" for note in (report.effects, *report.notes) if note)
    if report.digest:
        yield f"Plan digest: {code(report.digest)}\n\n"
    yield f"<sub>{report.made:%Y-%m-%d %H:%M:%S} UTC</sub>\n\n"


def _list(title: str, items: Sequence[str], room: int) -> str:
    if not items:
        return ""
    shown = _fitting((f"- {code(_short(item))}\n" for item in items), room)
    return f"#### {title}\n\n{''.join(shown)}{_more(len(items) - len(shown))}\n"


def _dangers(alarms: Sequence[Alarm], room: int) -> str:
    """A line each; of the kinds that there is no room for like that, one with all their accounts.

    The gravest kinds are told the most of, and are the last to be cut.
    """
    if not alarms:
        return ""
    title = "#### Dangerous\n\n"
    kinds: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in alarms:
        kinds[alarm.kind].append(alarm)
    room -= _size(title) + 1
    texts = {kind: min(_forms(kind, found), key=_size) for kind, found in kinds.items()}
    spare = room - sum(map(_size, texts.values()))
    if spare < 0:
        texts = _cut(kinds, room)
    for kind, found in kinds.items() if spare >= 0 else ():
        limit = spare + _size(texts[kind])
        texts[kind] = next(form for form in _forms(kind, found) if _size(form) <= limit)
        spare = limit - _size(texts[kind])
    return f"{title}{''.join(texts.values())}\n"


def _forms(kind: str, found: Sequence[Alarm]) -> Iterator[str]:
    """How the dangers of a kind can be told, what tells most first."""
    yield "".join(f"- {code(_short(alarm.text))}\n" for alarm in found)
    leaves = {alarm.leaf for alarm in found}
    if len(leaves) == 1 and (leaf := leaves.pop()):
        yield _joined(kind, found, len(found), f", each {code(_short(leaf))}")
    yield _joined(kind, found, len(found))


def _joined(kind: str, found: Sequence[Alarm], shown: int, change: str = "") -> str:
    """The dangers of a kind in one line, with the keys of so many of the accounts at most."""
    keys = [_short(terminal(key)) for key in dict.fromkeys(alarm.key for alarm in found)]
    parts = [code(", ".join(keys[:shown]))] if shown else []
    parts += [f"{len(keys) - shown} more"] if shown < len(keys) else []
    return f"- {len(found)} {kind} on {accounts(len(keys))}{change}: {' and '.join(parts)}\n"


def _cut(kinds: Mapping[str, Sequence[Alarm]], room: int) -> dict[str, str]:
    """A line per kind, with as many accounts as there is room for: the gravest kinds have theirs first."""
    texts = {kind: _joined(kind, found, 0) for kind, found in kinds.items()}
    room -= sum(map(_size, texts.values()))
    for kind, found in kinds.items():
        room += _size(texts[kind])
        texts[kind] = _most(kind, found, room)
        room -= _size(texts[kind])
    return texts


def _most(kind: str, found: Sequence[Alarm], room: int) -> str:
    """The line of a kind with the most accounts that fit."""

    def size(shown: int) -> int:
        return _size(_joined(kind, found, shown))

    fits = bisect_right(range(len(found) + 1), room, key=size)
    return _joined(kind, found, max(fits - 1, 0))


def _details(report: Report, room: int) -> str:
    """A fold per reseller, dangerous ones first, as many as there is room for, and how many accounts are not in them.

    Of accounts that are told by the groups there is no more than their number.
    """
    left = sum(not entry.folded for entry in report.changed)
    room -= len(_left_out(left))
    folds = []
    dangerous = {alarm.key for alarm in report.dangers}

    def calm(entry: Entry) -> bool:
        return entry.node.key not in dangerous

    for reseller, entries in sorted(by_reseller(report), key=lambda fold: all(map(calm, fold[1]))):
        own = sorted((entry for entry in entries if not entry.folded), key=calm)
        shown = _fitting(map(_entry, own), room - _FRAME)
        if not shown and (own or room < _FRAME):
            break
        alike = len(entries) - len(own)
        fold = _fold(_title(report, reseller, entries), shown, len(own) - len(shown), alike)
        folds.append(fold)
        room -= _size(folds[-1])
        left -= len(shown)
    return "".join(folds) + (_left_out(left) if left else "")


def _fold(title: str, blocks: Sequence[str], left: int, alike: int) -> str:
    """Blocks whose lines all begin with an indent or a sign, so that none of them ends the code.

    `left`: how many there is no room for; `alike`: how many accounts the groups tell all of.
    """
    head = f"<details><summary>{title}</summary>\n\n"
    code_block = f"```diff\n{''.join(blocks)}```\n{_more(left)}" if blocks else ""
    others = f"\n{accounts(alike)} as told above.\n" if alike else ""
    return f"{head}{code_block}{others}\n</details>\n\n"


def _title(report: Report, reseller: str, entries: Sequence[Entry]) -> str:
    """`accounts.acme (Acme Telecom): 3 accounts: 1 created, 2 updated`."""
    node = report.nodes.get(reseller)
    name = "" if node is None else f" ({_short(node.name, _NAME)})"
    label = ROOT if node is None else address(node.key)
    kinds = Counter(kind for entry in entries for kind in entry.kinds)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    return f"<code>{html(label + name)}</code>: {accounts(len(entries))}: {counts}"


def _entry(entry: Entry) -> str:
    """What a fold has of one account."""
    lines = _fitting(map(_line, entry.lines), _ENTRY)
    left = len(entry.lines) - len(lines)
    more = f"  ... and {left} more\n" if left else ""
    return f"  {_short(entry.label)} {_short(entry.words)}\n{''.join(lines)}{more}"


def _line(line: Line) -> str:
    return f"{_SIGNS[line.op]}{_short(line.text)}\n"


def _fitting(texts: Iterable[str], room: int) -> list[str]:
    """The first of `texts`, as many as have no more than `room` bytes."""
    found = []
    for text in texts:
        room -= _size(text)
        if room < 0:
            break
        found.append(text)
    return found


def _more(left: int) -> str:
    return f"\n... and {left} more.\n" if left else ""


def _left_out(left: int) -> str:
    return f"The details of {accounts(left)} did not fit in here; other reports have them.\n"


def _short(text: str, length: int = _LINE) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _size(text: str) -> int:
    return len(text.encode())
