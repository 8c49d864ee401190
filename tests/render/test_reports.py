"""Reports tell everything, stay within their limits, and what comes from outside is harmless in them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.core.diff import FieldChange
from reconciler.core.drift import Drift
from reconciler.core.graph import Action
from reconciler.core.live import LiveAccount
from reconciler.core.outcome import Outcome, Result
from reconciler.core.values import AccountId, Sensitive
from reconciler.render.html import html
from reconciler.render.junit import junit
from reconciler.render.markdown import LIMIT, markdown
from reconciler.render.report import by_reseller, of_drift, of_plan, resellers, tree
from reconciler.render.safe import terminal

from .plans import (
    HOSTILE,
    MADE,
    ROOT,
    Texts,
    a_change,
    a_plan,
    a_state,
    alike,
    applied,
    drifted,
    large,
    planned,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.core.plan import Change
    from reconciler.render.report import Report

REPORTS = (planned, applied, drifted, alike)
hostile = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=4).map("".join)
texts = st.builds(Texts, hostile, hostile, hostile, hostile)
calm = settings(max_examples=60, deadline=None)
each = pytest.mark.parametrize("made", REPORTS)


class Page(HTMLParser):
    """The elements of a page with their attributes, its text, and that outside of code."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = self.outside = ""
        self._in_code = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, attrs))
        self._in_code |= tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self._in_code &= tag != "code"

    def handle_data(self, data: str) -> None:
        self.text += data
        self.outside += "" if self._in_code else data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        assert decl == "doctype html"

    unknown_decl = handle_pi = handle_comment


def shape(text: str) -> list[tuple[str, list[str]]]:
    """The elements of an XML document with the names of their attributes, in order."""
    return [(element.tag, sorted(element.attrib)) for element in parsed(text).iter()]


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - it is our own


def rendered(text: str) -> Page:
    """A Markdown document as a host shows it."""
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


@each
@calm
@given(texts)
def test_no_element_or_attribute_of_a_page_comes_from_outside(
    made: Callable[[Texts], Report], texts: Texts
) -> None:
    page, harmless = Page(html(made(texts))), Page(html(made(Texts())))
    assert page.elements == harmless.elements
    assert terminal(texts.name) in page.text


@each
@calm
@given(texts)
def test_no_element_or_attribute_of_a_test_page_comes_from_outside(
    made: Callable[[Texts], Report], texts: Texts
) -> None:
    assert shape(junit(made(texts))) == shape(junit(made(Texts())))
    assert terminal(texts.name) in "".join(
        case.get("name", "") for case in parsed(junit(made(texts))).iter("testcase")
    )


@each
@calm
@given(texts)
@example(Texts(*["`" * 900] * 4))
@example(Texts(*["``x`y```z"] * 4))
def test_outside_of_code_a_comment_is_the_same_whatever_it_is_about(
    made: Callable[[Texts], Report], texts: Texts
) -> None:
    page, harmless = rendered(markdown(made(texts))), rendered(markdown(made(Texts())))
    assert page.elements == harmless.elements
    assert page.outside == harmless.outside
    assert terminal(texts.name)[:500] in page.text


@each
@pytest.mark.parametrize("write", [html, junit, markdown])
def test_no_line_of_a_report_is_a_command_to_a_ci_host(
    made: Callable[[Texts], Report], write: Callable[[Report], str]
) -> None:
    text = write(made(Texts(*["\n::error::x\n##[error]x ##vso[x]y##teamcity[x]\r::x::"] * 4)))
    assert not any(line.lstrip().startswith("::") for line in re.split("[\r\n]", text))
    assert not re.search(r"##\w*\[", text)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 400), hostile, st.integers(0, 3000), st.integers(1, 60))
@example(5000, "", 3, 10)
@example(5000, "é\U0001f600", 100, 1)
@example(300, "`<'\U000e0041", 3000, 300)
def test_a_comment_fits_and_tells_what_matters_most(
    count: int, text: str, length: int, per_reseller: int
) -> None:
    texts = Texts(*[text + "é" * length] * 4)
    report = large(count, texts, per_reseller=per_reseller, odd=count)
    comment = markdown(report)
    assert len(comment.encode()) <= LIMIT < 65_536
    head, _, rest = comment.partition("#### Noticed") if count else (comment, "", "")
    assert head.startswith(f"### reconciler plan\n\n**{report.headline}**")
    kinds = Counter(alarm.kind for alarm in report.dangers)
    assert all(f"{number} {kind}" in head for kind, number in kinds.items())
    _, _, dangerous = head.partition("#### Dangerous")
    dangerous, _, refused = dangerous.partition("#### Refused")
    joined = sum(map(int, re.findall(r"(?m)^- (\d+) ", dangerous)))
    assert len(re.findall("(?m)^- `", dangerous)) + joined == len(report.dangers)
    more = sum(map(int, re.findall(r"\.\.\. and (\d+) more", refused)))
    assert len(re.findall("(?m)^- `", refused)) + more == len(report.refusals)
    page = rendered(comment)
    assert [tag for tag, _ in page.elements].count("details") == rest.count("</details>\n")


def emergency(count: int, value: str = "+{n}", name: str = "A name") -> list[Change]:
    """So many accounts that get another emergency number, and one that is deleted."""
    path = ("settings", "caller_id", "emergency", "number")
    texts = Texts(name)
    numbers = [
        replace(
            a_change(f"n{n:05}", texts),
            fields=(FieldChange(path, "change", "+1", value.format(n=n)),),
        )
        for n in range(count)
    ]
    return [*numbers, a_change("zzz", texts, "delete")]


@pytest.mark.parametrize("name", ["A name", "`" * 9 + "</details>\n# x" + "\U000e0041" * 30])
@pytest.mark.parametrize("count", [3, 900, 5000])
def test_a_comment_shows_the_address_of_each_dangerous_change(count: int, name: str) -> None:
    comment = markdown(of_plan(a_plan(*emergency(count, name=name), texts=Texts()), MADE))
    assert len(comment.encode()) <= LIMIT
    assert f"**Dangerous: 1 delete, {count} emergency caller id.**" in comment
    _, _, rest = comment.partition("#### Dangerous")
    dangerous, _, _ = rest.partition("####")
    assert dangerous.index("accounts.zzz (") < dangerous.index("n00000")
    assert "will be deleted" in dangerous
    assert all(f"n{n:05}" in dangerous for n in range(count))
    assert ("emergency caller id on" in dangerous) is (count > 3)
    page = rendered(comment)
    assert [tag for tag, _ in page.elements].count("h4") == 2


def test_dangers_that_are_the_same_are_told_with_what_they_do() -> None:
    comment = markdown(of_plan(a_plan(*emergency(900, "+9"), texts=Texts()), MADE))
    change = '`~ settings.caller_id.emergency.number: "+1" -> "+9"`'
    assert f"- 900 emergency caller id on 900 accounts, each {change}: `n00000, n00001, " in comment


def test_of_more_dangers_than_a_comment_can_hold_the_gravest_are_the_last_to_be_cut() -> None:
    deleted = [a_change(f"d{n:05}", Texts(), "delete") for n in range(5000)]
    comment = markdown(of_plan(a_plan(*deleted, *emergency(5000), texts=Texts()), MADE))
    assert len(comment.encode()) <= LIMIT
    assert all(f"d{n:05}" in comment for n in range(5000))
    (line,) = re.findall(
        "(?m)^- 5000 emergency caller id on 5000 accounts: `.*` and .* more$", comment
    )
    left = int(line.split()[-2])
    assert line.count("n0") + left == 5000
    assert 0 < left < 5000


def outside(count: int) -> Report:
    """So many accounts got another language outside, one a number too and is disabled, one is gone."""
    texts = Texts("A name")
    language = FieldChange(("settings", "language"), "change", "en-us", "fr-fr", drift=True)
    one, gone = emergency(1)
    number = replace(one.fields[0], drift=True)
    disabled = FieldChange(("settings", "enabled"), "change", True, False, drift=True)
    live = LiveAccount(AccountId("x"), ROOT, {}, False, "")
    changes = [
        replace(
            one,
            key=f"a{n:05}",
            actions=(),
            live=live,
            drift=True,
            reason="it was changed outside",
            fields=(language, number, disabled) if n == count // 2 else (language,),
            top="acme",
        )
        for n in range(count)
    ]
    changes.append(replace(gone, actions=(), drift=True, reason="it was deleted outside"))
    state = a_state([change.key for change in changes], texts)
    return of_drift(Drift(state, tuple(changes), ()), MADE)


@pytest.mark.parametrize("count", [1500, 5000])
def test_a_comment_on_drift_tells_first_what_is_dangerous_and_what_is_alike_once(
    count: int,
) -> None:
    comment = markdown(outside(count))
    assert len(comment.encode()) <= LIMIT
    odd = f"accounts.a{count // 2:05} (A name)"
    assert "**Dangerous: 1 delete, 1 disable, 1 emergency caller id.**" in comment
    assert (
        "#### Dangerous\n\n"
        "- `accounts.zzz (A name): was deleted outside`\n"
        f"- `{odd}: ~ settings.enabled: true -> false  (changed outside)`\n"
        f'- `{odd}: ~ settings.caller_id.emergency.number: "+1" -> "+0"  (changed outside)`\n'
    ) in comment
    assert (
        f'- `~ settings.language: "en-us" -> "fr-fr" on {count} accounts (acme {count})`' in comment
    )
    assert f"{count - 1} accounts as told above." in comment
    assert f"  {odd} was changed outside" in comment
    assert "accounts.a00001 " not in comment
    assert "did not fit" not in comment
    page = html(outside(count))
    assert "was deleted outside" in page.partition('id="accounts"')[0]
    assert "accounts.a00001" in page


def test_a_report_of_an_apply_tells_what_became_of_dangerous_changes() -> None:
    comment = markdown(applied(Texts()))
    assert "- `accounts.c (x): was deleted`\n" in comment
    assert "- `accounts.a (x): ~ settings.enabled: true -> false  (failed)`\n" in comment
    assert "**Dangerous: 1 delete, 1 disable (failed), 1 emergency caller id (failed).**" in comment
    plan = a_plan(a_change("c", Texts(), "delete"), texts=Texts())
    stopped = of_plan(plan, MADE, command="apply", outcome=Outcome((), sent=False))
    assert "- `accounts.c (x): was to be deleted: skipped`\n" in markdown(stopped)


def test_a_comment_says_how_many_accounts_are_not_in_it() -> None:
    report = large(5000, Texts("A name", "Europe/Paris", "timezone", "why"))
    comment = markdown(report)
    shown = len(re.findall("(?m)^  accounts", comment))
    (left,) = re.findall(r"The details of (\d+) accounts did not fit", comment)
    assert shown + int(left) == 5000
    assert shown > 50


@settings(max_examples=15, deadline=None)
@given(hostile, st.integers(0, 3000))
@example("", 0)
@example("`<'\U000e0041", 3000)
def test_a_comment_tells_five_thousand_changes_that_are_the_same_once(
    text: str, length: int
) -> None:
    report = alike(Texts(*[text + "é" * length] * 4), 5000)
    comment = markdown(report)
    assert len(comment.encode()) <= LIMIT < 65_536
    titles = re.findall("(?m)^#### (.+)", comment)
    assert titles == ["Dangerous", "Refused", "Noticed", "The same on many accounts"]
    assert report.effects in comment.partition("####")[0]
    assert "Affects service of 418 accounts under 3 resellers" in report.effects
    assert len(report.groups) == 1
    assert report.groups[0].endswith(" on 5000 accounts (r0 1667, r1 1667, r2 1666)")
    assert "5000 accounts as told above." in comment
    assert "accounts.s0" not in comment
    for key in "abc":
        assert f"  accounts.{key} " in comment
    assert "did not fit" not in comment


def test_a_page_of_five_thousand_changes_that_are_the_same_has_the_group_and_each_account() -> None:
    text = html(alike(Texts("A name"), 5000))
    assert "on 5000 accounts (r0 1667, r1 1667, r2 1666)" in text
    assert all(f"accounts.s{n:05}" in text for n in range(5000))
    assert len(text) < 5_000_000


def test_what_could_not_be_done_is_never_folded() -> None:
    texts = Texts()
    changes = [a_change("a", texts), *(replace(a_change(f"b{n:02}", texts), fields=a_change("x", texts).fields[:1]) for n in range(20))]  # fmt: skip
    results = tuple(
        Result(n, change.key, Action.UPDATE, "failed" if n == 3 else "done", None, "why")
        for n, change in enumerate(changes)
    )
    plan = a_plan(*changes, texts=texts)
    report = of_plan(plan, MADE, command="apply", outcome=Outcome(results, sent=True))
    comment = markdown(report)
    assert "accounts.b02 (x) failed" in comment
    assert "accounts.b03" not in comment
    assert "19 accounts as told above." in comment


@pytest.mark.parametrize("write", [html, junit])
def test_long_reports_leave_no_account_out(write: Callable[[Report], str]) -> None:
    text = write(large(5000, Texts("A name")))
    assert all(f"accounts.a{n:06}" in text for n in range(5000))


@each
@pytest.mark.parametrize("write", [html, junit, markdown])
def test_a_sensitive_value_is_in_no_report(
    made: Callable[[Texts], Report], write: Callable[[Report], str]
) -> None:
    secret = Sensitive("hush-hush", "var.x")
    text = write(made(Texts(value=secret)))
    assert "hush-hush" not in text
    assert "(sensitive)" in text


def test_the_tree_has_those_above_and_a_ring_of_parents_does_no_harm() -> None:
    texts = Texts()
    report = planned(texts)
    assert [(depth, node.key) for depth, node in tree(report, ["c"])] == [(0, "a"), (1, "c")]
    assert resellers(drifted(texts)) == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "a"}
    assert [(key, len(entries)) for key, entries in by_reseller(drifted(texts))] == [("a", 3)]
    ring = [a_change("a", texts, parent="b"), a_change("b", texts, parent="a")]
    found = of_plan(a_plan(*ring, texts=texts), MADE)
    assert [node.key for _, node in tree(found, ["b"])] == ["a", "b"]
    assert "accounts.b" in html(found)


def test_a_deep_tree_can_be_written_and_read() -> None:
    texts = Texts()
    changes = [
        a_change(f"a{n:04}", texts, parent=f"a{n - 1:04}" if n else "root") for n in range(2000)
    ]
    text = html(of_plan(a_plan(*changes, texts=texts), MADE))
    assert all(f"accounts.a{n:04}" in text for n in range(2000))


def test_a_test_page_tells_failed_from_skipped_and_passed() -> None:
    def outcomes(report: Report) -> dict[str, str]:
        suite = parsed(junit(report))
        return {
            case.get("name", "").split()[0]: case[0].tag if len(case) else "passed"
            for case in suite.iter("testcase")
        }

    assert outcomes(applied(Texts())) == {
        "accounts.a": "failure", "accounts.b": "skipped", "accounts.c": "passed",
    }  # fmt: skip
    assert outcomes(drifted(Texts())) == {
        "accounts.a": "failure", "accounts.b": "failure", "accounts.c": "failure", "accounts.d": "passed",
        "accounts.e": "skipped", "f" * 32: "failure",
    }  # fmt: skip
