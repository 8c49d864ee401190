"""The style sheet of HTML reports: light and dark, phones, print, and the filter."""

from __future__ import annotations

from typing import Final

from reconciler.render.text import DONE

KINDS: Final = (*DONE.values(), "changed", "failed", "skipped")
"""What accounts can be filtered by. One that was deleted outside is `deleted`, too."""

_STYLE: Final = """
:root {
  --back: #ffffff; --front: #1f2328; --dim: #59636e; --line: #d1d9e0; --card: #f6f8fa;
  --add: #116329; --change: #7d4e00; --remove: #a40e26; --link: #0550ae;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --back: #0d1117; --front: #e6edf3; --dim: #9da7b3; --line: #3d444d; --card: #161b22;
    --add: #56d364; --change: #e3b341; --remove: #ff8f87; --link: #79c0ff;
  }
}
* { box-sizing: border-box; }
html { background: var(--back); color: var(--front); font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 1.5rem 0 .5rem; }
.headline { font-size: 1.1rem; font-weight: 600; margin: .25rem 0; }
footer { color: var(--dim); font-size: .875rem; border-top: 1px solid var(--line); margin-top: 2rem; }
nav a { color: var(--link); display: inline-block; padding: .25rem 1rem .25rem 0; }
code, .lines { font: .8125rem/1.5 ui-monospace, monospace; }
ul { list-style: none; margin: 0; padding: 0; }
.lines { background: var(--card); border-radius: .375rem; padding: .5rem .75rem; margin: .25rem 0; }
.lines li { white-space: pre-wrap; padding-left: 1.5rem; text-indent: -1.5rem; }
section > .lines { max-height: 24rem; overflow: auto; border-left: .25rem solid var(--line); }
.dangerous .lines, .refused .lines, .not-done .lines { border-left-color: var(--remove); }
.add { color: var(--add); } .change { color: var(--change); }
.remove, .error, .dangerous h2, .refused h2, .not-done h2 { color: var(--remove); }
fieldset { border: 1px solid var(--line); border-radius: .375rem; margin: 0 0 .75rem; padding: .25rem .75rem .5rem; }
legend, .rank, .note { color: var(--dim); font-size: .875rem; }
label { display: inline-block; padding: .25rem 1rem .25rem 0; cursor: pointer; }
input { accent-color: var(--link); }
summary, .account > p { margin: 0; padding: .25rem 0; cursor: pointer; }
.account > p { padding-left: 1rem; cursor: auto; }
.tree ul:not(.lines) { border-left: 1px solid var(--line); margin-left: .4rem; padding-left: .75rem; }
.account > details > .lines { margin-left: 1rem; }
@media (max-width: 40rem) {
  body { padding: .5rem; }
  .tree ul:not(.lines) { margin-left: .2rem; padding-left: .4rem; }
  .account > details > .lines { margin-left: 0; }
}
@media print {
  :root { --front: #000000; --card: #ffffff; color-scheme: light; }
  html { font-size: .75rem; }
  form, nav { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; }
  h2, summary { break-after: avoid; }
  section > .lines { max-height: none; }
}
"""


def _filters() -> str:
    """Hides what is not of the chosen kind, and shows of accounts above it only their line."""
    rules = ""
    for kind in KINDS:
        chosen = f"form:has(#kind-{kind}:checked) + .tree .account:not(.{kind}"
        rules += (
            f"{chosen}, .above-{kind}) {{ display: none; }}\n"
            f"{chosen}) > details > .lines {{ display: none; }}\n"
        )
    return rules


STYLE: Final = _STYLE + _filters()
