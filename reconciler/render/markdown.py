"""A report as Markdown, for a comment on a pull request.

Text from outside stands in code spans and code blocks alone, and in `<code>` where a fold has its
title: there it is no markup, link, mention or reference to the host, and it can't end what it is in.

Source: docs/formats.md, "Markdown".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from reconciler.core.values import ROOT, address
from reconciler.render.report import by_reseller
from reconciler.render.safe import html
from reconciler.render.safe import markdown as code
from reconciler.render.text import accounts, diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from reconciler.render.report import Entry, Line, Report

LIMIT: Final = 65_000
"""Bytes. GitHub takes 65,536 characters in a comment; the rest is for a mark to find it again by."""

_DANGERS: Final = 40_000
_OTHERS: Final = 5_000
"""Bytes that the dangerous part, and each further list, may take at most."""

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
    """
    page = "".join(_summary(report))
    lists = (
        ("Dangerous", report.dangers, _DANGERS),
        ("Refused", [f"{r.rule}: {r.detail}" for r in report.refusals], _OTHERS),
        ("Not done", report.errors, _OTHERS),
        ("Nobody manages", report.unmanaged, _OTHERS),
        ("Known drift, left alone", report.known, _OTHERS),
        ("Noticed", [diagnostic(found) for found in report.diagnostics], _OTHERS),
        ("The same on many accounts", report.groups, _OTHERS),
    )
    for title, items, room in lists:
        page += _list(title, items, room)
    return page + _details(report, LIMIT - _size(page))


def _summary(report: Report) -> Iterator[str]:
    """What is there of any report, whatever its size."""
    yield f"### reconciler {report.command}\n\n**{report.headline}**\n\n"
    if report.dangerous:
        kinds = ", ".join(f"{number} {what}" for what, number in report.dangerous.items())
        yield f"**Dangerous: {kinds.replace('_', ' ')}.**\n\n"
    yield from (f"{note}\n\n" for note in (report.effects, *report.notes) if note)
    if report.digest:
        yield f"Plan digest: {code(report.digest)}\n\n"
    yield f"<sub>{report.made:%Y-%m-%d %H:%M:%S} UTC</sub>\n\n"


def _list(title: str, items: Sequence[str], room: int) -> str:
    if not items:
        return ""
    shown = _fitting((f"- {code(_short(item))}\n" for item in items), room)
    return f"#### {title}\n\n{''.join(shown)}{_more(len(items) - len(shown))}\n"


def _details(report: Report, room: int) -> str:
    """A fold per reseller, as many as there is room for, and how many accounts are not in them.

    Of accounts that are told by the groups there is no more than their number.
    """
    left = sum(not entry.folded for entry in report.changed)
    room -= len(_left_out(left))
    folds = []
    for reseller, entries in by_reseller(report):
        own = [entry for entry in entries if not entry.folded]
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
