"""A report as JUnit XML, so that the test page of a CI host shows each account.

An account that is as it should be passes. One that would change, was changed outside or could not be
changed fails; one that had to wait for such a one is skipped.

Source: docs/formats.md, "JUnit".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from reconciler.core.values import ROOT, address
from reconciler.render.report import resellers
from reconciler.render.safe import terminal
from reconciler.render.text import diagnostic

if TYPE_CHECKING:
    from reconciler.render.report import Entry, Report


def junit(report: Report) -> str:
    """The report: one test suite with a case per account that was looked at, and one per refusal.

    A tree of elements is written, so nothing but what is made here can become one.
    """
    suite = Element("testsuite", name=f"reconciler {report.command}")
    for refusal in report.refusals:
        case = SubElement(suite, "testcase", classname="refused", name=refusal.rule, time="0")
        SubElement(case, "failure", message=terminal(refusal.detail), type="refused")
    if report.errors and not report.entries:
        case = SubElement(suite, "testcase", classname="failed", name=report.command, time="0")
        SubElement(case, "error", message=report.headline).text = "\n".join(report.errors)
    for told in report.unmanaged:
        name = told.partition(" ")[0]  # its id
        case = SubElement(suite, "testcase", classname="unmanaged", name=name, time="0")
        SubElement(case, "failure", message=told, type="unmanaged")
    above = resellers(report)
    for entry in report.entries:
        _case(suite, entry, above[entry.node.key])
    if report.diagnostics:
        told = "\n".join(map(diagnostic, report.diagnostics))
        SubElement(suite, "system-out").text = told
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
        "time": 0,
        "timestamp": f"{report.made:%Y-%m-%dT%H:%M:%S}",
    }
    suite.attrib.update({name: str(count) for name, count in counts.items()})
    suites = Element("testsuites")
    suites.append(suite)
    indent(suites)
    text = tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: Element, entry: Entry, reseller: str) -> None:
    group = ROOT if reseller == ROOT else address(reseller)
    case = SubElement(suite, "testcase", classname=group, name=entry.label, time="0")
    if entry.verdict in ("changed", "failed"):
        failure = SubElement(case, "failure", message=entry.words, type=entry.verdict)
        failure.text = "\n".join(line.text for line in entry.lines)
    elif entry.verdict in ("skipped", "known"):
        skipped = SubElement(case, "skipped", message=entry.words)
        skipped.text = "\n".join(line.text for line in entry.lines) or None
