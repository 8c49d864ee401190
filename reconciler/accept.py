"""Drift that is to stay: the live value into the YAML, or an entry of known drift into reconciler.yaml.

Nothing is written before it is proven, by loading the project with the edited texts in memory, that
what was asked for changes and nothing else. Values from the platform are written as nothing but data.

Source: docs/drift.md, "Accepting", "Known drift".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.config import edit, files
from reconciler.config.project import FILE, open_project
from reconciler.config.write import Rewrite, rewrite, same
from reconciler.core.configuration import Invalid
from reconciler.core.diff import PARENT
from reconciler.core.drift import Accepted
from reconciler.core.known import day, field_path, managed
from reconciler.core.shapes import nearest
from reconciler.core.values import (
    ABSENT,
    ROOT,
    Diagnostic,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    MaybeJson,
    Sensitive,
    Source,
    address,
    dotted,
    is_key,
    leaves,
    parse_path,
    value_at,
)
from reconciler.workflow import Options, Progress, Unknown, check, drift

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from reconciler.config.project import Project
    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.diff import FieldChange
    from reconciler.core.drift import Drift
    from reconciler.core.plan import Change


@dataclass(frozen=True, slots=True)
class Snooze:
    """Known drift that is to be written down. `until`: a date in words."""

    addresses: Sequence[str]
    until: str
    reason: str


async def accept(
    project: Project, options: Options, addresses: Sequence[str], progress: Progress
) -> tuple[Accepted, ...]:
    """Write what is live into the YAML: of whole accounts, or of single leaves.

    `addresses`: `accounts.KEY` or `accounts.KEY.settings.timezone`. Raises: Unknown for what has not
    drifted; Invalid with all that can't be accepted, and then nothing was written; what `drift` does.
    """
    configuration = check(project, options)
    found = await drift(project, options, progress)
    chosen = _chosen(found, addresses)
    problems = [p for key, field in chosen if (p := _refusal(configuration, key, field))]
    texts: dict[str, bytes] = {}
    for key, field in chosen if not problems else ():
        declared = configuration.accounts[key]
        name = declared.layers[-1].block.file
        try:
            text = texts.get(name) or _read(project, name)
            texts[name] = edit.with_leaf(name, text, _place(key, field), _written(field))
        except edit.NotEditable as error:
            problems.append(_stands(declared, field, f"{error}."))
    if problems:
        raise Invalid(problems)
    after = _proven(project, options, configuration, texts, chosen)
    _write(project, texts)
    return tuple(Accepted(k, f, after.accounts[k].origin(f.path)[0]) for k, f in chosen)


def snooze(project: Project, options: Options, wanted: Snooze) -> tuple[Source, ...]:
    """Write entries of known drift into reconciler.yaml. Returns where they stand. Offline.

    Raises: Unknown for an argument that is none; Invalid if it can't be written.
    """
    configuration = check(project, options)
    entries = [_entry(configuration, text, wanted) for text in wanted.addresses]
    text = _read(project, FILE)
    try:
        for entry in entries:
            text = edit.with_entry(FILE, text, ("drift", "accept"), entry)
    except edit.NotEditable as error:
        detail = f"{error}. Write it by hand: {edit.literal([*entries])}"
        place = Source(FILE, 1, 1)
        raise Invalid(
            [Diagnostic("error", "A file that can't be edited", detail, source=place)]
        ) from error
    after = _proven(project, options, configuration, {FILE: text}, ())
    _write(project, {FILE: text})
    return tuple(known.source for known in after.settings.known[-len(entries) :])


# --- what is to be accepted ------------------------------------------------------------------


def _chosen(found: Drift, addresses: Sequence[str]) -> list[tuple[Key, FieldChange]]:
    """The leaves that are meant, each once. Raises: Unknown."""
    changes: dict[Key, list[Change]] = {}
    for change in (*found.changes, *found.known):
        changes.setdefault(change.key, []).append(change)
    chosen: dict[tuple[Key, FieldPath], FieldChange] = {}
    for text in addresses:
        key, path = _parsed(text)
        of = changes.get(key, [])
        if any(change.live is None for change in of):
            raise Unknown(
                f"{address(key)} was deleted outside. To accept that, take its block out of the YAML"
                " by hand; the next apply forgets it."
            )
        fields = [f for change in of for f in change.fields if f.path[: len(path)] == path]
        if not fields:
            raise Unknown(f"{text} has not drifted. `reconciler drift` shows what has.")
        chosen |= {(key, field.path): field for field in fields}
    return [(key, field) for (key, _), field in chosen.items()]


def _parsed(text: str) -> tuple[Key, FieldPath]:
    """The key and the path in an address. Raises: Unknown."""
    try:
        section, key, *path = parse_path(text)
    except ValueError:
        section, key, path = "", "", []
    if section != "accounts" or not is_key(key):
        raise Unknown(f"{text} is no address: accounts.KEY, or accounts.KEY.settings.FIELD.")
    return key, field_path(dotted(tuple(path))) if path else ()


def _refusal(configuration: Configuration, key: Key, field: FieldChange) -> Diagnostic | None:
    """Why a leaf can't be accepted, whatever the file looks like."""
    declared = configuration.accounts.get(key)
    if declared is None:
        detail = "It is not declared any more. Declare the account first."
        return Diagnostic("error", "Not accepted", detail, address(key), dotted(field.path))
    if field.sensitive:
        source, kind = declared.origin(field.path)
        where = f"give {kind} the new value" if kind.startswith("variable") else "use a variable"
        detail = f"It is sensitive, and no secret is written into a file: {where} ({source})."
        return _stands(declared, field, detail)
    if declared.row is not None:
        return _stands(
            declared,
            field,
            f"The account is made from the row at {declared.row.source}. Change that.",
        )
    below = field.after
    if field.path == PARENT and below != ROOT and below not in configuration.accounts:
        detail = f"It stands below {below}, which is not declared. Declare that account first."
        return _stands(declared, field, detail)
    return None


def _stands(declared: Declared, field: FieldChange, detail: str) -> Diagnostic:
    """That a leaf can't be accepted, told where it stands."""
    source, kind = declared.origin(field.path)
    if kind != "account":
        detail = f"{detail} Its value comes from {kind}."
    path = dotted(field.path)
    return Diagnostic("error", "Not accepted", detail, declared.address, path, source)


def _place(key: Key, field: FieldChange) -> FieldPath:
    return ("accounts", key, *field.path)


def _written(field: FieldChange) -> MaybeJson:
    """What the YAML has to say for the live value to be declared."""
    live = field.after
    if live is ABSENT or isinstance(live, Sensitive):
        return ABSENT
    return _data(live)


def _data(value: JsonValue) -> JsonValue:
    """The value with text that is nothing but text: `$${` stands for `${`."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_data(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _data(inner) for name, inner in value.items()}
    return value


def _entry(configuration: Configuration, text: str, wanted: Snooze) -> dict[str, JsonValue]:
    """One entry of known drift. Raises: Unknown."""
    key, path = _parsed(text)
    if not path:
        raise Unknown(f"--snooze takes a field, too: {text}.settings.timezone")
    if key not in configuration.accounts:
        raise Unknown(f"{address(key)} is not declared.{nearest(key, configuration.accounts)}")
    if not managed(configuration.accounts[key], path):
        declared = [dotted(one) for one, _ in leaves(configuration.accounts[key].block)]
        near = nearest(dotted(path), declared)
        raise Unknown(f"{address(key)} declares no {dotted(path)}, so it can't drift.{near}")
    if not wanted.reason.strip():
        raise Unknown("--reason must say why it may stay so.")
    try:
        until = day(wanted.until)
    except ValueError as error:
        raise Unknown(f"--until: {error}.") from error
    if until < datetime.now(UTC).date():
        raise Unknown(f"--until: {until} is over.")
    return {"path": dotted(path), "account": key, "reason": wanted.reason, "until": f"{until}"}


# --- files -----------------------------------------------------------------------------------


def _path(project: Project, name: str) -> Path:
    """Where a file of the project really is: what is written must not take the place of a link."""
    return (project.directory / name).resolve()


def _read(project: Project, name: str) -> bytes:
    """Raises: Invalid."""
    try:
        return files.read(_path(project, name))
    except files.Unreadable as error:
        found = Diagnostic("error", "An unreadable file", f"{error}", source=Source(name, 1, 1))
        raise Invalid([found]) from error


def _write(project: Project, texts: Mapping[str, bytes]) -> None:
    """Each file as a whole or not at all. Raises: OSError."""
    found = [Rewrite(_path(project, name), name, text.decode()) for name, text in texts.items()]
    rewrite(project.directory, found)


def _proven(
    project: Project,
    options: Options,
    before: Configuration,
    texts: Mapping[str, bytes],
    chosen: Iterable[tuple[Key, FieldChange]],
) -> Configuration:
    """What the project says with the edited texts. Raises: Invalid if that is not what it should be."""
    edited = {_path(project, name): text for name, text in texts.items()}
    try:
        after = check(open_project(project.directory, project.environment, edited), options)
    except Invalid as error:
        raise Invalid(list(map(_wrong_there, error.diagnostics))) from error
    wrong = [_elsewhere(key) for key in _wrong(before, after, chosen)]
    if wrong:
        raise Invalid(wrong)
    return after


def _wrong_there(found: Diagnostic) -> Diagnostic:
    """What would be wrong with a file as it would be; it is not so, so its places are none."""
    detail = f"In the YAML it would be wrong as it is live: {found.detail}"
    return replace(found, summary="Not accepted", detail=detail, source=None)


def _elsewhere(key: Key) -> Diagnostic:
    detail = "More would change than what is to be accepted. Change it by hand."
    return Diagnostic("error", "Not accepted", detail, address(key))


def _wrong(
    before: Configuration, after: Configuration, chosen: Iterable[tuple[Key, FieldChange]]
) -> Iterator[Key]:
    """The accounts that say something else than they should."""
    fields: dict[Key, list[FieldChange]] = {}
    for key, field in chosen:
        fields.setdefault(key, []).append(field)
    for key in sorted({*before.accounts, *after.accounts}):
        old, new = before.accounts.get(key), after.accounts.get(key)
        if old is None or new is None or not _as_expected(old, new, fields.get(key, [])):
            yield key


def _as_expected(old: Declared, new: Declared, fields: Sequence[FieldChange]) -> bool:
    wanted = {field.path: field.after for field in fields}
    parent = wanted.pop(PARENT, old.parent)
    if (new.parent, new.id, new.lifecycle) != (parent, old.id, old.lifecycle):
        return False
    if old.sensitive != new.sensitive:
        return False
    if not wanted and old.block == new.block:
        return True  # most accounts
    return same(_leaves(old.block, wanted), _leaves(new.block, wanted)) and all(
        _says(new.block, path, value) for path, value in wanted.items()
    )


def _leaves(block: JsonObject, but: Iterable[FieldPath]) -> JsonObject:
    """All leaves outside of some paths, by path."""
    paths = {*but}
    return {
        dotted(path): value
        for path, value in leaves(block)
        if path != ("settings",) and not any(path[: len(one)] == one for one in paths)
    }


def _says(block: JsonObject, path: FieldPath, live: MaybeJson | Sensitive) -> bool:
    """Whether the leaf is declared as it is live."""
    said = value_at(block, path)
    if live is ABSENT:
        return said is ABSENT or said is None
    return not isinstance(live, Sensitive) and said is not ABSENT and same(said, live)
