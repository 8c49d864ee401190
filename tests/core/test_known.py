"""Known drift: for whom, for which fields, and until when it holds."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.configuration import Configuration, Declared, Lifecycle, Settings
from reconciler.core.known import Known, covering, day, field_path, in_force
from reconciler.core.values import Source

PLACE = Source("reconciler.yaml", 5, 7)


def an_entry(
    account: str = "acme", path: str = "settings.timezone", until: str = "2026-03-01"
) -> Known:
    return Known(account, field_path(path), "why", day(until), PLACE)


def declaring(*keys: str, entries: tuple[Known, ...]) -> Configuration:
    accounts = {
        key: Declared(
            key, "root", {"settings": {"timezone": "Asia/Tokyo"}}, {}, Lifecycle(), (), PLACE
        )
        for key in keys
    }
    return Configuration(Settings(known=entries), accounts)


@settings(deadline=None)
@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(-5, 5))
def test_it_holds_until_the_end_of_its_day_and_then_tells_so(until: date, days: int) -> None:
    entry = an_entry(until=f"{until}")
    found = in_force(declaring("acme", entries=(entry,)), until + timedelta(days=days))
    over = days > 0
    assert found.accounts["acme"].known == (() if over else (entry,))
    assert [w.summary for w in found.warnings] == ["Known drift that is over"] * over
    assert all(w.source == PLACE and f"{until}" in w.detail for w in found.warnings)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("acme", ["acme"]),
        ("acme-*", ["acme-east", "acme-west"]),
        ("*", ["acme", "acme-east", "acme-west", "globex"]),
        ("*e*t", ["acme-east", "acme-west"]),
        ("nobody*", []),
    ],
)
def test_a_star_stands_for_any_part_of_a_key(pattern: str, matches: list[str]) -> None:
    keys = ("acme", "acme-east", "acme-west", "globex")
    found = in_force(declaring(*keys, entries=(an_entry(pattern),)), date(2026, 1, 1))
    assert [key for key, declared in found.accounts.items() if declared.known] == matches
    assert [w.summary for w in found.warnings] == ["Known drift of nothing"] * (not matches)


def test_an_entry_of_what_nobody_declares_is_told_of() -> None:
    found = in_force(declaring("acme", entries=(an_entry(path="timezon"),)), date(2026, 1, 1))
    assert [w.summary for w in found.warnings] == ["Known drift of nothing"]


def test_a_field_stands_for_all_below_it() -> None:
    entries = (an_entry(path="caller_id.external"), an_entry(path="parent"))
    assert covering(entries, ("settings", "caller_id", "external", "name")) is entries[0]
    assert covering(entries, ("settings", "caller_id")) is None
    assert covering(entries, ("parent",)) is entries[1]
    assert covering(entries, ("reseller",)) is None


@pytest.mark.parametrize("text", ["2026-02-30", "20260301", "2026-W10-1", "soon", "", "2026-3-1"])
def test_only_a_date_is_a_date(text: str) -> None:
    with pytest.raises(ValueError, match="is no date"):
        day(text)
