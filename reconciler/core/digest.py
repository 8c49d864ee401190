"""The digest of a plan: so that what was reviewed is applied, and no file must travel for it.

A digest is `sha256:HASH.SKETCH`. The hash decides whether two plans are one. The sketch, 48 bytes
whatever the size of the plan, tells where two plans differ, if that is in few places: it has the
sums of w, w·a, w·a², … over all addresses, modulo a prime, where a is a number made of the address
and w one made of what happens to it. In the difference of two sketches everything that is equal
cancels out, and the sums that are left determine the polynomial whose roots are the numbers of the
differing addresses. That is how Reed-Solomon codes find errors (Berlekamp and Massey), and how
sets are reconciled over a thin line (Minsky, Trachtenberg and Zippel).

Source: docs/formats.md, "Digest".
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import orjson

from reconciler.core.masking import masked, rests_json
from reconciler.core.values import address, concealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from reconciler.core.graph import Operation
    from reconciler.core.plan import Plan
    from reconciler.core.state import State
    from reconciler.core.values import JsonValue, Key

NAMED: Final = 6
"""So many differing addresses can be named. Two sums each; a plan with more is to be read anew."""

_PRIME: Final = 2**31 - 1
_WIDTH: Final = 4
"""Bytes of a number below the prime."""

_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})(?:\.([A-Za-z0-9_-]{64}))?")


def digest(plan: Plan) -> str:
    """Endpoint, root, lineage, operations and before-values of a plan as a short text."""
    parts = _parts(plan)
    order = [[o.n, address(o.key), o.action.value, o.after] for o in plan.operations]
    hashed = hashlib.sha256(orjson.dumps([parts, order])).hexdigest()
    sketch = b"".join(number.to_bytes(_WIDTH, "big") for number in _sketch(parts))
    return f"sha256:{hashed}.{urlsafe_b64encode(sketch).decode()}"


def is_digest(text: str) -> bool:
    """Whether `text` is the digest of some plan. The sketch may be missing."""
    return _DIGEST.fullmatch(text) is not None


def difference(reviewed: str, plan: Plan, known: Iterable[Key]) -> str | None:
    """Where `plan` differs from the one whose digest is `reviewed`; None if it does not.

    `known`: all keys that a plan may be about.
    """
    hashed, _, sketch = reviewed.partition(".")
    if hashed == plan.digest.partition(".")[0]:
        return None
    parts = _parts(plan)
    names = sorted({*parts, *map(address, known)})
    differing = _differing(_numbers(sketch), parts, names) if sketch else None
    if differing is None:
        touched = ", ".join(change.address for change in plan.changes) or "nothing"
        return f"It differs in too much to tell what. As it is made now, it touches {touched}."
    return f"Different: {', '.join(differing) or 'the order of the operations'}."


def _parts(plan: Plan) -> dict[str, str]:
    """What makes a plan, each part with its hash: where it happens, and what happens to each address.

    Without the numbers of operations, which depend on what else is in the plan.
    """
    happens: dict[str, list[JsonValue]] = {
        change.address: [*(action.value for action in change.actions), change.moved_from]
        for change in plan.changes
    }
    for operation in plan.operations:
        happens.setdefault(address(operation.key), []).append(_call(operation, plan.state))
    parts: dict[str, JsonValue] = {
        "the endpoint": plan.state.api_url,
        "the root account": plan.root,
        "the lineage of the state": plan.state.lineage,
        **_unkeyed(plan),
        **happens,
    }
    return {name: hashlib.sha256(orjson.dumps(part)).hexdigest() for name, part in parts.items()}


def _unkeyed(plan: Plan) -> dict[str, JsonValue]:
    """The sensitive values of a plan that has no state yet, and so no key for their digests.

    By a function that makes guessing dear, since a digest may stand where anybody can read it.
    """
    if plan.state.digest_key:
        return {}
    held = [(o.key, list(_secrets(o.body))) for o in plan.operations]
    secrets = [secret for _, found in held for secret in found]
    if not secrets:
        return {}
    names = sorted({address(key) for key, found in held if found})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    # Of RFC 7914 the costs that it names for interactive use: 16 MiB, some 50 ms.
    made = hashlib.scrypt(orjson.dumps(secrets), salt=b"reconciler", n=2**14, r=8, p=1, dklen=32)
    return {f"sensitive values of {', '.join(names[:NAMED])}{more}": made.hex()}


def _secrets(value: JsonValue) -> Iterator[JsonValue]:
    """The sensitive values in the body of a call, in order of path."""
    for _, inner in sorted(value.items()) if isinstance(value, dict) else ():
        secret = concealed(inner)
        if secret is not None:
            yield secret.value
        else:
            yield from _secrets(inner)


def _call(operation: Operation, state: State) -> JsonValue:
    return {
        "action": operation.action.value,
        "method": operation.method,
        "path": operation.path,
        "body": masked(operation.body, state),
        "rests_on": {**rests_json(operation.rests_on, state)},
        "temporary": operation.temporary,
    }


# --- the sketch ------------------------------------------------------------------------------


def _number(text: str) -> int:
    """A number from 1 to below the prime that is as good as random."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % (_PRIME - 1) + 1


def _sketch(parts: Mapping[str, str]) -> list[int]:
    """The sums of w, w·a, w·a², …: a for the name of each part, w for its hash."""
    sums = [0] * (2 * NAMED)
    for name, hashed in parts.items():
        term, place = _number(hashed), _number(name)
        for power in range(len(sums)):
            sums[power] = (sums[power] + term) % _PRIME
            term = term * place % _PRIME
    return sums


def _numbers(sketch: str) -> list[int]:
    text = urlsafe_b64decode(sketch)
    return [int.from_bytes(text[n : n + _WIDTH], "big") for n in range(0, len(text), _WIDTH)]


def _differing(
    reviewed: Sequence[int], parts: Mapping[str, str], names: Iterable[str]
) -> list[str] | None:
    """Which of `names` differ between a sketch and `parts`; None if they are too many to tell."""
    sums = [(then - now) % _PRIME for then, now in zip(reviewed, _sketch(parts), strict=True)]
    locator = _locator(sums)
    found = [name for name in names if _value(locator, _number(name)) == 0]
    return found if len(found) == len(locator) - 1 <= NAMED else None


def _locator(sums: Sequence[int]) -> list[int]:
    """The shortest c, c[0] = 1, such that each sum cancels with those before it, weighted by c.

    Berlekamp and Massey's algorithm. Read as a polynomial, highest power first, its roots are the
    numbers whose powers the sums are made of.
    """
    found, earlier = [1], [1]
    length, since, last = 0, 1, 1
    for n in range(len(sums)):
        weighted = zip(found, reversed(sums[n - length : n + 1]), strict=False)
        wrong = sum(c * s for c, s in weighted) % _PRIME
        if wrong == 0:
            since += 1
            continue
        factor = wrong * pow(last, -1, _PRIME)
        mended = [0] * since + [factor * c for c in earlier]
        new = [(c - m) % _PRIME for c, m in zip_longest(found, mended, fillvalue=0)]
        if 2 * length <= n:
            earlier, last, length, since = found, wrong, n + 1 - length, 1
        else:
            since += 1
        found = new
    return [*found, *[0] * (length + 1 - len(found))]


def _value(polynomial: Sequence[int], at: int) -> int:
    value = 0
    for coefficient in polynomial:
        value = (value * at + coefficient) % _PRIME
    return value
