"""What outputs and files have in place of sensitive values.

A mask is `{"$sensitive": {"from": "var.secret", "digest": "…"}}`: where the value is from, and a keyed
digest: enough to tell whether a value that is at hand is the same one, and no more.

Source: docs/formats.md, "JSON".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core.state import SENSITIVE
from reconciler.core.values import ABSENT, Sensitive, concealed, dotted
from reconciler.core.variables import masked_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.core.diff import Side
    from reconciler.core.state import State
    from reconciler.core.values import FieldPath, JsonObject, JsonValue, MaybeJson


HIDDEN: Final = "(sensitive)"


def open_side(side: Side) -> MaybeJson:
    """A value as any output may show it: of a sensitive one, a URL's harmless part at most."""
    if not isinstance(side, Sensitive):
        return side
    if (
        side.origin.startswith("var.")
        or side.origin == "applied"
        or not isinstance(side.value, str)
    ):
        return HIDDEN
    return masked_url(side.value, HIDDEN)


def mask(secret: Sensitive, state: State) -> JsonObject:
    """What a mask tells of a value; the digest is None while there is no key for one."""
    digest = state.digest(secret.value) if state.digest_key else None
    return {"from": secret.origin, "digest": digest}


def masked(value: JsonValue | Sensitive, state: State) -> JsonValue:
    """The document with a mask for each sensitive value."""
    if isinstance(value, Sensitive):
        return {SENSITIVE: mask(value, state)}
    if isinstance(value, dict):
        return {name: masked(concealed(inner) or inner, state) for name, inner in value.items()}
    return value


def rests_json(rests_on: Mapping[FieldPath, Side], state: State) -> dict[str, JsonObject]:
    """What an operation rests on, by path: `{"value": …}`, or `{}` for what was absent."""
    return {
        dotted(path): {} if side is ABSENT else {"value": masked(side, state)}
        for path, side in rests_on.items()
    }


def as_mask(value: JsonValue) -> JsonObject | None:
    """What a mask tells: `from` and `digest`; None if `value` is no mask."""
    if isinstance(value, dict) and value.keys() == {SENSITIVE}:
        inner = value[SENSITIVE]
        if isinstance(inner, dict) and {"from", "digest"} <= inner.keys():
            return inner
    return None


def masks(document: JsonValue, prefix: FieldPath = ()) -> Iterator[tuple[FieldPath, JsonObject]]:
    """Each mask in `document`: its path, and what it tells."""
    found = as_mask(document)
    if found is not None:
        yield prefix, found
    elif isinstance(document, dict):
        for name, inner in document.items():
            yield from masks(inner, (*prefix, name))
