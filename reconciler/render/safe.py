"""Text from outside, made harmless for where it goes.

Names, values and messages come from the API and from files; whoever wrote them must not be able
to move the cursor, hide a line, or turn text around. What could is written as its code point.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING

from reconciler.core.masking import HIDDEN, open_side
from reconciler.core.values import ABSENT, Sensitive

if TYPE_CHECKING:
    from reconciler.core.diff import Side

# Control characters, line and paragraph separators, invisible and bidirectional formatting,
# interlinear and tag characters, lone surrogates, what XML can't hold; and the first character of
# `##[error]` and its like, which CI hosts obey wherever it stands in a line of a log.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff]|#(?=#\\w*\\[)"
)

_MARKUP = re.compile(r"[@<&\[\]`*~|\\]|:(?=//)")
_TO_FULL_WIDTH = 0xFEE0


def terminal(text: str) -> str:
    """`text` on one line of a terminal, with nothing in it that a terminal obeys."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def json_text(text: str) -> str:
    """JSON `text` that is the same document, with nothing in it that a terminal obeys but line ends."""

    def escaped(match: re.Match[str]) -> str:
        return match[0] if match[0] == "\n" else _json_escape(match[0])

    return _HARMFUL.sub(escaped, text)


def _json_escape(character: str) -> str:
    """How JSON writes a character; beyond U+FFFF as a pair."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def html(text: str) -> str:
    """`text` in HTML, as the content of an element or a quoted attribute."""
    return escape(terminal(text))


def markdown(text: str) -> str:
    """`text` as a code span: in it nothing is markup, a link, a mention or a reference.

    The span's fence is longer than any row of backticks in it (CommonMark, "Code spans").
    """
    text = terminal(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    if not text.strip(" "):
        return f"{fence}{text or ' '}{fence}"
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def chat(text: str) -> str:
    """`text` in a message of plain text, which some services take for markup all the same.

    What begins a mention, a tag, a link or markup is put as its full-width twin, and looks alike.
    """
    return _MARKUP.sub(lambda match: chr(ord(match[0]) + _TO_FULL_WIDTH), terminal(text))


def mermaid(text: str) -> str:
    """`text` in a quoted label of Mermaid: all but letters, digits and a few harmless signs as codes."""
    return re.sub(r"[!-~](?<![\w .,()-])", lambda match: f"#{ord(match[0])};", terminal(text))


def dot(text: str) -> str:
    """`text` in a quoted label of DOT, where backslashes and HTML's entities have a meaning."""
    escaped = terminal(text).replace("\\", "\\\\").replace('"', '\\"')
    return escaped.replace("&", "&amp;")


def value(side: Side) -> str:
    """A value as people see it: JSON, in which nothing harmful is left; `(sensitive)` if it is."""
    plain = open_side(side)
    if plain is ABSENT:
        return "(absent)"
    if isinstance(side, Sensitive) and plain == HIDDEN:
        return HIDDEN
    return terminal(json.dumps(plain, ensure_ascii=False))
