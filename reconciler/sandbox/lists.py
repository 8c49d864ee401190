"""Lists of accounts: rows, paging, filters. Source: docs/platform.md 1.4, 3.2."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from reconciler.sandbox.views import page
from reconciler.sandbox.wire import Answer, validation_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.records import Record
    from reconciler.sandbox.store import Store
    from reconciler.sandbox.views import Entry

DEFAULT_PAGE_SIZE: Final = 50


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What the query asks of a list. page_size None: all of it. filters: name -> text."""

    page_size: int | None
    start_key: str | None
    ascending: bool
    filters: Mapping[str, str]


def list_options(query: Mapping[str, str]) -> ListOptions:
    """Read the options of a list; what makes no sense counts as not given."""
    size = query.get("page_size", "")
    number = int(size) if size.isascii() and size.isdigit() else 0
    filters = {key: text for key, text in query.items() if _filter_of(key) is not None}
    return ListOptions(
        page_size=None if query.get("paginate") == "false" else number or DEFAULT_PAGE_SIZE,
        start_key=query.get("start_key"),
        ascending=query.get("ascending") == "true" or query.get("descending") == "false",
        filters=filters,
    )


def list_answer(
    store: Store,
    below: str,
    entries: Sequence[Entry],
    row: Callable[[Record], JsonObject],
    options: ListOptions,
) -> Answer:
    """Cut a page out of a view, then filter it: a filtered page may be short, or empty."""
    start = _name_in(options.start_key) if options.start_key is not None else None
    ids, following = page(entries, start, options.page_size, ascending=options.ascending)
    seen = [record for account_id in ids if (record := store.views.record(account_id))]
    rows: list[JsonValue] = [row(record) for record in seen if _passes(store, record, options)]
    extra: JsonObject = {}
    if options.page_size is not None:
        extra["page_size"] = len(rows)
        if options.start_key is not None:
            extra["start_key"] = options.start_key
        if following is not None:
            extra["next_start_key"] = _key_of(below, following)
    return Answer(rows, extra=extra)


def child_row(record: Record) -> JsonObject:
    """Show an account as `children` and `siblings` do."""
    return {
        "id": record.id,
        "name": record.name,
        "realm": record.realm,
        "descendants_count": record.document.get("descendants_count", 0),
        "flags": record.document.get("flags", []),
    }


def descendant_row(record: Record) -> JsonObject:
    """Show an account as `descendants` does."""
    return {
        "id": record.id,
        "name": record.name,
        "realm": record.realm,
        "tree": list(record.tree),
        "flags": record.document.get("flags", []),
    }


def ancestor_row(record: Record) -> JsonObject:
    """Show an account as `tree` and `parents` do."""
    return {"id": record.id, "name": record.name}


# --- the paging key: opaque to clients ---


def _key_of(below: str, name: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([below, name])).rstrip(b"=").decode()


def _name_in(key: str) -> str:
    """Take the name out of a paging key. Raises: RefusedError if it is none of ours."""
    try:
        decoded = orjson.loads(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))
    except (binascii.Error, ValueError):
        decoded = None
    if isinstance(decoded, list) and decoded and isinstance(decoded[-1], str):
        return decoded[-1]
    raise validation_error({"start_key": {"invalid": {"message": "no key of this list"}}})


# --- filters: exact comparison with the stored document ---

_ABSENT: Final = object()
_BY_KEY: Final[Mapping[str, Callable[[object], bool]]] = {
    "has_key": lambda value: value is not _ABSENT,
    "key_missing": lambda value: value is _ABSENT,
    "has_value": lambda value: value is not _ABSENT and value not in ("", {}, []),
    "value_missing": lambda value: value is _ABSENT or value in ("", {}, []),
}
_BY_TIME: Final = ("created_from", "created_to", "modified_from", "modified_to")


def _filter_of(name: str) -> str | None:
    """Tell which kind of filter an option is, if it is one."""
    if name in _BY_KEY or name in _BY_TIME:
        return name
    return next((kind for kind in ("filter_not_", "filter_") if name.startswith(kind)), None)


def _passes(store: Store, row: Record, options: ListOptions) -> bool:
    """Whether a row stays. Filters look at the document of now, views may be older."""
    if not options.filters:
        return True
    record = store.get(row.id)
    return record is not None and all(
        _holds(record, name, text) for name, text in options.filters.items()
    )


def _holds(record: Record, name: str, text: str) -> bool:
    kind = _filter_of(name)
    if kind in _BY_TIME:
        # Account writes don't touch the modified time, so it is the time of the creation.
        seconds = int(text) if text.isascii() and text.isdigit() else 0
        return record.created >= seconds if name.endswith("_from") else record.created <= seconds
    if kind in _BY_KEY:
        return _BY_KEY[name](_value_at(record, text))
    if kind == "filter_not_":
        return _text(_value_at(record, name.removeprefix(kind))) != text
    return _text(_value_at(record, name.removeprefix("filter_"))) == text


def _value_at(record: Record, dotted: str) -> object:
    own: JsonObject = {"id": record.id, "enabled": record.enabled, "created": record.created}
    value: object = {**record.document, **own}
    for part in dotted.split("."):
        value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _text(value: object) -> str | None:
    """Write a scalar as it would stand in a query; None for all else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
