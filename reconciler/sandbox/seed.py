"""A believable tree of accounts to begin with: resellers, their customers, and one level more.

The same number gives the same names, realms and shape; ids come from the sandbox's own row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.sandbox import rules
from reconciler.sandbox.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.core.values import JsonObject
    from reconciler.sandbox.records import Ids

_FIRST: Final = (
    "Aurora", "Beacon", "Cascade", "Delta", "Ember", "Fjord", "Granite", "Harbor", "Iris",
    "Juniper", "Keystone", "Lumen", "Meridian", "Northwind", "Orchard", "Pioneer", "Quarry",
    "Ridge", "Summit", "Tidewater", "Union", "Vista", "Willow", "Zephyr",
)  # fmt: skip
_TRADE: Final = (
    "Dental", "Logistics", "Legal", "Motors", "Bakery", "Clinic", "Hotels", "Realty", "Freight",
    "Insurance", "Foods", "Studios", "Energy",
)  # fmt: skip
_ZONES: Final = ("America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/Paris")

_CUSTOMERS: Final = 20
"""Accounts in the share of one reseller, itself included: a small one's business."""
_SUBRESELLER: Final = 5
"""One in so many resellers hangs below the one before it: a second level of them."""


def seeded(root: Record, count: int, ids: Ids) -> list[Record]:
    """Make `count` accounts below `root`; answers all of them behind it, parents first.

    Those with something below them have their `descendants_count`, as if grown one by one.
    """
    records = [root, *_below(root, count, ids)]
    counts = Counter(ancestor for record in records for ancestor in record.tree)
    return [
        replace(record, document={**record.document, "descendants_count": counts[record.id]})
        if record.id in counts
        else record
        for record in records
    ]


def _below(root: Record, count: int, ids: Ids) -> Iterator[Record]:
    reseller = root
    top = root
    for number in range(count):
        share, place = divmod(number, _CUSTOMERS)
        if place == 0:
            parent = root if (share + 1) % _SUBRESELLER else top
            reseller = _record(parent, number, ids, trade="Telecom")
            top = reseller if parent is root else top
            yield reseller
        else:
            yield _record(reseller, number, ids, trade=_TRADE[number % len(_TRADE)])


def _record(parent: Record, number: int, ids: Ids, *, trade: str) -> Record:
    name = f"{_FIRST[number % len(_FIRST)]} {trade} {number + 1}"
    is_reseller = trade == "Telecom"
    document: JsonObject = {
        **rules.with_defaults({}),
        "name": name,
        "realm": f"{rules.comparable_name(name)}.sip.example.com",
        "timezone": _ZONES[number % len(_ZONES)],
        "language": "en-us",
        "caller_id": {"external": {"name": name[:35], "number": f"+1555{number:07d}"}},
    }
    return Record(
        id=ids.hex(32),
        document=document,
        tree=(*parent.tree, parent.id),
        created=parent.created,
        revision=f"1-{ids.hex(32)}",
        api_key=ids.hex(64),
        is_reseller=is_reseller,
        stored_reseller=parent.id if parent.is_reseller else parent.stored_reseller,
        notification_preference=parent.notification_preference,
    )
