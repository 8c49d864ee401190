"""A report as one HTML file: it loads nothing, runs nothing, and can be read on a phone and in print.

There is no script in it: hosts that show the artefacts of a job often forbid them. The filter is
radio buttons and CSS. A tree of elements is written, so no text from outside can become a tag or an
attribute; and a policy in its head forbids whatever is not this file's own style sheet.

Source: docs/formats.md, "HTML".
"""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from reconciler import __version__
from reconciler.core.values import address
from reconciler.render.report import tree
from reconciler.render.safe import terminal
from reconciler.render.stylesheet import KINDS, STYLE
from reconciler.render.text import diagnostic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.values import Key
    from reconciler.render.report import Entry, Node, Report

_FEW: Final = 25
"""Up to so many accounts are shown with their details unfolded."""

_LINE: Final = 2_000
"""Characters that one line may have."""

_DEEP: Final = 64
"""Levels that are set in; what stands deeper is put beside them. Browsers and the writer have limits."""

_HASH: Final = b64encode(sha256(STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
)


def html(report: Report) -> str:
    """The report as a page."""
    page = Element("html", lang="en")
    _head(page, f"reconciler {report.command}: {report.headline}")
    body = SubElement(page, "body")
    header = SubElement(body, "header")
    _text(header, "h1", f"reconciler {report.command}")
    _text(header, "p", report.headline, **{"class": "headline"})
    for note in filter(None, (report.effects, *report.notes)):
        _text(header, "p", note)
    nav = SubElement(body, "nav", {"aria-label": "Sections"})
    main = SubElement(body, "main")
    _lists(main, report)
    _accounts(main, report)
    for title in main.iter("h2"):
        _text(nav, "a", title.text or "", href=f"#{title.get('id')}")
    footer = SubElement(body, "footer")
    if report.digest:
        _text(footer, "p", f"Plan digest: {report.digest}")
    made = f"{report.made:%Y-%m-%d %H:%M:%S} UTC"
    _text(footer, "p", f"Made by reconciler {__version__}, {made}.")
    return f"<!doctype html>\n{tostring(page, encoding='unicode', method='html')}\n"


def _text(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    """A new element with text in it, made harmless."""
    element = SubElement(parent, tag, attributes)
    text = terminal(text)
    element.text = text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."
    return element


def _head(page: Element, title: str) -> None:
    head = SubElement(page, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "meta", name="color-scheme", content="light dark")
    _text(head, "title", title)
    SubElement(head, "style").text = STYLE


def _lists(main: Element, report: Report) -> None:
    """What is to be read first."""
    refused = [f"{refusal.rule}: {refusal.detail}" for refusal in report.refusals]
    _list(main, "Dangerous", [alarm.text for alarm in report.dangers])
    _list(main, "Refused", refused)
    _list(main, "Not done", report.errors)
    _list(main, "Nobody manages", report.unmanaged)
    _list(main, "Known drift", report.known)
    _list(main, "Noticed", [diagnostic(found) for found in report.diagnostics])
    _list(main, "The same on many accounts", report.groups)


def _list(main: Element, title: str, items: Sequence[str]) -> None:
    if not items:
        return
    name = title.lower().replace(" ", "-")
    section = SubElement(main, "section", {"class": name, "aria-labelledby": name})
    _text(section, "h2", f"{title} ({len(items)})", id=name)
    scrolled = {"class": "lines", "tabindex": "0", "aria-labelledby": name}
    listed = SubElement(section, "ul", scrolled)
    for item in items:
        _text(listed, "li", item)


def _accounts(main: Element, report: Report) -> None:
    section = SubElement(main, "section", {"aria-labelledby": "accounts"})
    _text(section, "h2", f"Accounts ({len(report.changed)})", id="accounts")
    entries = {entry.node.key: entry for entry in report.changed}
    if not entries:
        _text(section, "p", "None is to be shown.")
        return
    _filter(section, report)
    lists = [SubElement(section, "ul", {"class": "tree"})]
    nodes = tree(report, entries)
    classes = _classes([node for _, node in nodes], entries)
    for depth, node in nodes:
        level = min(depth, _DEEP)
        del lists[level + 1 :]
        if level == len(lists):
            lists.append(SubElement(lists[-1][-1], "ul"))
        item = SubElement(lists[level], "li", {"class": classes[node.key]})
        _account(item, node, entries.get(node.key), unfolded=len(entries) <= _FEW)


def _classes(nodes: Sequence[Node], entries: Mapping[Key, Entry]) -> dict[Key, str]:
    """For each account what the filter looks for: its own kinds, and those of the accounts below."""
    own = {node.key: entries[node.key].kinds if node.key in entries else () for node in nodes}
    below: dict[str, set[str]] = defaultdict(set)
    for node in reversed(nodes):
        below[node.parent] |= below[node.key].union(own[node.key])
    return {
        key: " ".join(("account", *kinds, *(f"above-{kind}" for kind in sorted(below[key]))))
        for key, kinds in own.items()
    }


def _filter(section: Element, report: Report) -> None:
    """A radio button per kind that there is."""
    form = SubElement(section, "form")
    field = SubElement(form, "fieldset")
    _text(field, "legend", "Show")
    shown = {kind: sum(kind in e.kinds for e in report.changed) for kind in KINDS}
    for kind, count in {"all": len(report.changed), **shown}.items():
        if count:
            label = SubElement(field, "label")
            checked = {"checked": ""} if kind == "all" else {}
            radio = {"type": "radio", "name": "kind", "id": f"kind-{kind}", **checked}
            SubElement(label, "input", radio).tail = f" {kind} ({count})"


def _account(item: Element, node: Node, entry: Entry | None, *, unfolded: bool) -> None:
    """An account in the tree; without an entry it is there for those below it."""
    if entry is None or not entry.lines:
        _label(SubElement(item, "p"), node, entry)
        return
    details = SubElement(item, "details", {"open": ""} if unfolded else {})
    _label(SubElement(details, "summary"), node, entry)
    fields = SubElement(details, "ul", {"class": "lines"})
    for line in entry.lines:
        _text(fields, "li", line.text, **{"class": line.op})


def _label(place: Element, node: Node, entry: Entry | None) -> None:
    _text(place, "code", address(node.key)).tail = " "
    _text(place, "bdi", node.name).tail = " "
    if node.reseller:
        _text(place, "span", "reseller", **{"class": "rank"}).tail = " "
    if entry is not None:
        _text(place, "strong", entry.words, **{"class": _tone(entry)})


def _tone(entry: Entry) -> str:
    """The colour of what happens: that of the worst of it."""
    if {"deleted", "demoted", "failed"} & {*entry.kinds}:
        return "remove"
    return "add" if "created" in entry.kinds else "change"
