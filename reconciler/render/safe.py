"""Text from outside, made harmless for where it goes.

Names, values and messages come from the API and from files; whoever wrote them must not be able
to move the cursor, hide a line, or turn text around. What could is written as its code point.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from reconciler.core.masking import HIDDEN, open_side
from reconciler.core.values import ABSENT, Sensitive

if TYPE_CHECKING:
    from reconciler.core.diff import Side

# Control characters, line and paragraph separators, invisible and bidirectional formatting,
# interlinear and tag characters, lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def terminal(text: str) -> str:
    """`text` on one line of a terminal, with nothing in it that a terminal obeys."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def value(side: Side) -> str:
    """A value as people see it: JSON, in which nothing harmful is left; `(sensitive)` if it is."""
    plain = open_side(side)
    if plain is ABSENT:
        return "(absent)"
    if isinstance(side, Sensitive) and plain == HIDDEN:
        return HIDDEN
    return terminal(json.dumps(plain, ensure_ascii=False))
