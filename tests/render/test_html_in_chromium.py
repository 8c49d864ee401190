"""HTML reports in a real browser: at 1,000 changes, on a phone, in the dark, on paper, by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reconciler.render.html import html
from reconciler.render.report import tree
from reconciler.render.stylesheet import KINDS

from .browser import browser
from .plans import HOSTILE, Texts, alike, applied, drifted, large, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from reconciler.render.report import Report

    from .browser import Browser

REPORT = large(1000, Texts("Société <b>&</b>", "https://example.com/" + "x" * 60))
VISIBLE = """[...document.querySelectorAll(".account")].filter(
  a => a.checkVisibility()).map(a => a.querySelector("code").textContent)"""
SHOWN_LINES = """[...document.querySelectorAll(".account .lines li")].filter(
  a => a.checkVisibility({contentVisibilityAuto: true})).length"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Browser:
    """The report of 1,000 changes, on a screen."""
    file = tmp_path / "report.html"
    file.write_text(html(REPORT), encoding="utf-8")
    chromium.media()
    chromium.width(1200, mobile=False)
    chromium.show(file)
    return chromium


def addresses(kind: str) -> list[str]:
    """What is to be seen under a filter: those of that kind, and all above them."""
    keys = [e.node.key for e in REPORT.changed if kind == "all" or kind in e.kinds]
    return [f"accounts.{node.key}" for _, node in tree(REPORT, keys)]


def test_it_loads_nothing_and_nothing_is_wrong_with_it(page: Browser) -> None:
    assert page.evaluate("document.readyState") == "complete"
    asked = [e for e in page.events if e["method"] == "Network.requestWillBeSent"]
    assert [e["params"]["type"] for e in asked] == ["Document"]
    assert not [e for e in page.events if e["method"].startswith("Log.")]
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert page.evaluate("document.compatMode") == "CSS1Compat"
    assert page.evaluate(VISIBLE) == addresses("all")


def test_its_policy_keeps_out_what_is_not_its_own(page: Browser) -> None:
    page.evaluate(
        """window.ran = 0;
        for (const [tag, text] of [["script", "window.ran = 1"], ["style", "h1 {display: none}"]]) {
          const added = document.createElement(tag);
          added.textContent = text;
          document.body.append(added);
        }"""
    )
    assert page.evaluate("window.ran") == 0
    assert page.evaluate("document.querySelector('h1').checkVisibility()") is True


def test_the_filter_works_by_keyboard(page: Browser) -> None:
    there = [kind for kind in KINDS if any(kind in entry.kinds for entry in REPORT.changed)]
    assert there == ["created", "updated", "deleted"]
    page.evaluate("document.querySelector('#kind-all').focus()")
    for kind in there:
        page.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"kind-{kind}"
        found = page.evaluate(VISIBLE)
        assert found == addresses(kind)
        assert 0 < len(found) < 1000
    page.press("ArrowRight")
    assert page.evaluate(VISIBLE) == addresses("all")


def test_sections_can_be_reached_and_scrolled_by_keyboard(page: Browser) -> None:
    reached = []
    for _ in range(9):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.outerHTML.slice(0, 30)"))
    assert reached[0].startswith('<a href="#dangerous">')
    assert sum(element.startswith('<ul class="lines" tabindex="0"') for element in reached) == 4


def test_it_has_landmarks_and_each_control_a_name(page: Browser) -> None:
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes}
    roles = {role for role, _ in named}
    assert {"banner", "navigation", "main", "contentinfo", "list"} <= roles
    assert ("heading", "reconciler plan") in named
    assert ("radio", "created (333)") in named
    assert ("group", "Show") in named
    assert ("region", "Accounts (1000)") in named


@pytest.mark.parametrize("unfolded", [False, True])
def test_on_a_phone_nothing_must_be_scrolled_sideways(page: Browser, *, unfolded: bool) -> None:
    page.width(360, mobile=True)
    if unfolded:
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("innerWidth") == 360


def test_it_is_dark_to_those_who_like_it_dark(page: Browser) -> None:
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    page.media(scheme="dark")
    assert page.evaluate(colour) == "rgb(13, 17, 23)"


@pytest.mark.parametrize(
    ("kind", "scheme"), [("screen", "light"), ("screen", "dark"), ("print", "dark")]
)
def test_all_text_has_contrast_enough_to_be_read(page: Browser, kind: str, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    page.media(kind, scheme)
    worst = page.evaluate(CONTRAST)
    assert worst >= 4.5


def test_on_paper_everything_is_unfolded_and_no_control_is_left(page: Browser) -> None:
    lines = sum(len(entry.lines) for entry in REPORT.changed)
    assert page.evaluate(SHOWN_LINES) == 0
    page.media("print")
    assert page.evaluate(SHOWN_LINES) == lines
    assert page.evaluate("document.querySelector('form').checkVisibility()") is False
    cut = "[...document.querySelectorAll('.lines')].filter(l => l.scrollHeight > l.clientHeight + 1).length"
    assert page.evaluate(cut) == 0


@pytest.mark.parametrize("made", [planned, applied, drifted, alike])
@pytest.mark.parametrize("text", ["".join(HOSTILE), "</style><script>document.title='x'</script>"])
def test_hostile_texts_make_no_elements(
    chromium: Browser, tmp_path: Path, made: Callable[[Texts], Report], text: str
) -> None:
    def elements(texts: Texts) -> Any:
        file = tmp_path / "report.html"
        file.write_text(html(made(texts)), encoding="utf-8")
        chromium.show(file)
        assert not [e for e in chromium.events if e["method"].startswith("Log.")]
        return chromium.evaluate(
            "[...document.querySelectorAll('*')].map(e => e.tagName + e.getAttributeNames())"
        )

    assert elements(Texts(*[text] * 4)) == elements(Texts())


def test_a_report_of_5_000_changes_can_be_filtered(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(html(large(5000, Texts())), encoding="utf-8")
    chromium.show(file)
    chromium.evaluate("document.querySelector('#kind-deleted').click()")
    assert 1666 <= len(chromium.evaluate(VISIBLE)) < 5000


def test_a_report_of_5_000_changes_that_are_the_same_can_be_read_on_a_phone(
    chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(html(alike(Texts("".join(HOSTILE), "x" * 300), 5000)), encoding="utf-8")
    chromium.media()
    chromium.width(360, mobile=True)
    chromium.show(file)
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 360
    assert chromium.evaluate("document.querySelectorAll('.account').length") == 5003
    title = "document.querySelector('#the-same-on-many-accounts').textContent"
    assert chromium.evaluate(title) == "The same on many accounts (1)"


CONTRAST = """(() => {
  const part = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = c => c.match(/[0-9]+/g).map(Number).reduce(
    (sum, c, i) => sum + [.2126, .7152, .0722][i] * part(c), 0);
  const behind = e => {
    const c = getComputedStyle(e).backgroundColor;
    return c === "rgba(0, 0, 0, 0)" ? behind(e.parentElement) : c;
  };
  let worst = 21;
  for (const e of document.querySelectorAll("h1, h2, p, a, li, code, bdi, strong, span, legend, label")) {
    const [a, b] = [getComputedStyle(e).color, behind(e)].map(light);
    worst = Math.min(worst, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
  }
  return worst;
})()"""
"""The least contrast of any text with what is behind it."""
