"""Takes an existing tree under management, told as steps: read it, declare it, prove it, write it.

Nothing is sent but GETs and the login. Files come first and state last, and each account is declared
with its `id:`. So wherever a run ends, what it wrote is a project whose plan creates nothing, and
the next run takes over from there: what is declared is not declared again, and gets into state.

Source: docs/adopting.md.
"""

from __future__ import annotations

import json
import zoneinfo
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from reconciler.api.refresh import read_more, refresh
from reconciler.config import newfiles
from reconciler.config.project import load
from reconciler.config.schema import file_schema
from reconciler.config.write import composed
from reconciler.core import adoption as core
from reconciler.core import diff
from reconciler.core.adoption import Adopted, Adoption, Draft, Rules, Skipped
from reconciler.core.factoring import factored, shared
from reconciler.core.state import Entry, fold
from reconciler.core.values import ROOT, AccountId, JsonObject, address
from reconciler.record import claimed
from reconciler.render.jsondoc import dumps
from reconciler.workflow import (
    Unknown,
    backend,
    check,
    check_identity,
    connected,
    first_state,
    root_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reconciler.config.newfiles import Site
    from reconciler.config.project import Project
    from reconciler.core.configuration import Configuration, Declared
    from reconciler.core.live import Live
    from reconciler.core.state import State
    from reconciler.core.values import Key
    from reconciler.workflow import Options, Progress

Layout = Literal["flat", "tree", "one-file"]

_NOTHING_YET: Final = "(accounts to adopt)"
_FILE_SIZE: Final = 4 * 1024 * 1024
"""Characters of JSON that go into one file: as YAML it stays below the 16 MiB that one may have."""

_LEVELS: Final = 16
"""Directories below one another in the layout `tree`: a path has an end somewhere."""


class Unready(Exception):
    """Something must be finished before accounts can be adopted: nothing was written."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to adopt, and how to write it. `top`: only what is at and below it; `patterns`: only these."""

    top: str | None = None
    patterns: tuple[str, ...] = ()
    layout: Layout = "flat"
    factor: bool = False


@dataclass(frozen=True, slots=True, repr=False)  # large: asyncio.run takes the repr of results
class _Ground:
    """What an adoption starts from.

    `stored`: the state, if there is one yet; `wanted`: the accounts that are to be under management
    in the end, parents before children.
    """

    configuration: Configuration
    stored: State | None
    state: State
    live: Live
    wanted: Sequence[AccountId]

    @property
    def keys(self) -> Mapping[AccountId, Key]:
        """The accounts that are in state, or declared by their id."""
        keys = {record.id: key for key, record in self.state.accounts.items()}
        declared = self.configuration.accounts.values()
        return keys | {one.id: one.key for one in declared if one.id and one.id not in keys}


@dataclass(frozen=True, slots=True)
class _Text:
    """A file to write: its text, and the accounts in it."""

    text: str
    keys: Sequence[Key]


async def adopt(site: Site, options: Options, wish: Wish, progress: Progress) -> Adoption:
    """Declare what exists and is not known yet, and take it into state.

    Raises: Invalid, Unknown, Unready, HostMismatch, Unusable, Unwritable, Locked, ApiError, OSError.
    """
    ground = await _survey(site, options, wish, progress)
    drafts, skipped = _drafts(site, ground)
    site = _settled(site, wish, ground, drafts)
    bases = _bases(site, options, drafts)
    texts = _texts(site, wish, ground, drafts, bases)
    entries, differing = _prove(site, options, ground, texts, (drafts, bases))
    files, state = _write(site, options, ground, texts, entries)
    return Adoption(
        state=state,
        adopted=tuple(_adopted(entries, ground.live, texts)),
        known=len({*ground.wanted} & {record.id for record in ground.state.accounts.values()}),
        skipped=(*skipped, *differing, *_lost(ground.live, wish)),
        left_out={draft.key: draft.declaration.left_out for draft in drafts},
        files=tuple(files),
    )


async def _survey(site: Site, options: Options, wish: Wish, progress: Progress) -> _Ground:
    """Read what is declared, what is in state, and of the platform what is in neither."""
    project = site.project
    configuration = check(project, options)
    stored = backend(project).read()
    async with connected(project) as client:
        root = await root_of(project, client)
        state = stored or first_state(project, root)
        check_identity(project, state, root)
        if state.intents or state.owed:
            raise Unready("An interrupted run left something open: `reconciler apply` finishes it.")
        live = await refresh(client, root, [], 1, progress)
        wanted = core.chosen(live, _top(wish, live), wish.patterns)
        managed = {record.id for record in state.accounts.values()}
        new = [current for current in wanted if current not in managed]
        live = await read_more(client, live, new, project.settings.concurrency, progress)
    return _Ground(configuration, stored, state, live, wanted)


def _top(wish: Wish, live: Live) -> AccountId:
    """The account that is named, or the root. Raises: Unknown if it is not below the root."""
    if wish.top is None or wish.top == live.root:
        return live.root
    if wish.top not in live.rows:
        raise Unknown(f"There is no account {wish.top[:64]} below the root {live.root}.")
    return AccountId(wish.top)


def _lost(live: Live, wish: Wish) -> Iterator[Skipped]:
    """What is in the list and can't be reached from the root, if all was asked for."""
    if wish.top is None and not wish.patterns:
        reason = "no way leads to it from the root: it was moved to nowhere, or stands in a circle."
        for row in core.unreachable(live):
            yield Skipped(row.id, row.name, reason)


# --- what to declare ---------------------------------------------------------------------------


def _drafts(site: Site, ground: _Ground) -> tuple[list[Draft], list[Skipped]]:
    """The accounts to declare, parents before children, and those that can't be, with the reason."""
    configuration, live, known = ground.configuration, ground.live, ground.keys
    rules = Rules(frozenset(zoneinfo.available_timezones()), site.project.settings.extra_fields)
    places = {i for i, key in known.items() if key in configuration.accounts} | {live.root}
    claims = _claims(configuration)
    accepted: dict[AccountId, core.Declaration] = {}
    skipped: list[Skipped] = []
    for current in ground.wanted:
        if current in known:
            continue
        account, row = live.accounts.get(current), live.rows[current]
        found = core.declaration(account, rules) if account else None
        reason = "the account above it is not declared, so its place could not be."
        if row.parent_id in places:
            reason = _why_not(current, found, claims, ground.state)
        if reason or found is None:
            skipped.append(Skipped(current, row.name, reason))
        else:
            accepted[current] = found
            places.add(current)
    taken = {*configuration.accounts, *ground.state.accounts, *configuration.removed}
    taken.update(moved.old for moved in configuration.moved)
    keys = core.keys_for((live.accounts[current] for current in accepted), taken)
    parents = {**known, **keys, live.root: ROOT}
    return [
        Draft(keys[current], parents[live.rows[current].parent_id], live.accounts[current], found)
        for current, found in accepted.items()
    ], skipped


def _why_not(
    current: AccountId, found: core.Declaration | None, claims: Mapping[str, Key], state: State
) -> str:
    """Why an account below a declared one can't be declared; "" if it can."""
    if found is None:
        return "the list has it, but its own GET says that it does not exist. Run it again later."
    form = next((form for form in core.normal_forms(found.settings) if form in claims), None)
    if form is None:
        return ""
    key, what = claims[form], form.partition(" ")[0]
    same = f"{address(key)} declares the same {what} and has no `id:`."
    if key in state.accounts:
        return f"{same} Only accounts that have one may share it: `id: {state.accounts[key].id}`."
    return f"{same} If that is this account, say so there, `id: {current}`; if not, give it another {what}."


def _claims(configuration: Configuration) -> dict[str, Key]:
    """By realm and name, the declared accounts that may be ones which exist."""
    return {
        form: declared.key
        for declared in configuration.accounts.values()
        if declared.id is None
        for form in core.normal_forms(declared.settings)
    }


def _settled(site: Site, wish: Wish, ground: _Ground, drafts: Sequence[Draft]) -> Site:
    """The site with all that a new project's `reconciler.yaml` is to say."""
    if not site.first:
        return site
    mine = wish.factor and not ground.configuration.accounts
    common = core.literal(shared([draft.wanted for draft in drafts])) if mine else {}
    project = site.project
    return newfiles.new_site(project.directory, project.environment, ground.live.root, common)


def _bases(site: Site, options: Options, drafts: Sequence[Draft]) -> Mapping[Key, Declared]:
    """What the project's defaults make of each account that says nothing; none without defaults."""
    if "defaults" not in site.project.node or not drafts:
        return {}
    accounts: JsonObject = {draft.key: {"id": draft.account.id} for draft in drafts}
    future = _with_files(site, {_NOTHING_YET: composed({"accounts": accounts})})
    return load(future, options.variables)[0].accounts


def _with_files(site: Site, texts: Mapping[str, str]) -> Project:
    """The project as it is with files that are not there yet: text by name."""
    directory = site.project.directory.resolve()
    edited = {directory / name: text.encode() for name, text in texts.items()}
    return replace(site.project, edited=edited)


# --- files -------------------------------------------------------------------------------------


def _texts(
    site: Site,
    wish: Wish,
    ground: _Ground,
    drafts: Sequence[Draft],
    bases: Mapping[Key, Declared],
) -> dict[str, _Text]:
    """The files to write, by name."""
    own = {draft.key: core.own_block(draft, bases.get(draft.key)) for draft in drafts}
    texts: dict[str, _Text] = {}
    leaves: Mapping[Key, JsonObject] = {key: block for key, (block, _) in own.items()}
    extends: Mapping[Key, str] = {}
    if wish.factor:
        found = factored(leaves)
        names = _template_names(ground.configuration, len(found.templates))
        leaves = found.blocks
        extends = {key: names[number] for key, number in found.extends.items()}
        templates = dict(zip(names, map(core.literal, found.templates), strict=True))
        if templates:
            _add(site, texts, "templates", _Text(composed({"templates": {**templates}}), ()))
    blocks: dict[Key, JsonObject] = {}
    for key, (_, rest) in own.items():
        more: JsonObject = {"extends": [extends[key]]} if key in extends else {}
        blocks[key] = {**more, **rest, **core.literal(leaves[key])}
    for stem, keys in _stems(wish.layout, ground, drafts).items():
        for part in _parts(keys, blocks):
            accounts: JsonObject = {key: blocks[key] for key in sorted(part)}
            _add(site, texts, stem, _Text(composed({"accounts": accounts}), part))
    return texts


def _add(site: Site, texts: dict[str, _Text], stem: str, text: _Text) -> None:
    stem = f"{site.out}/{stem}" if site.out else stem
    texts[newfiles.free_name(site.project.directory, stem, texts)] = text


def _template_names(configuration: Configuration, count: int) -> list[str]:
    """Names that no template has."""
    taken = {found.key for found in configuration.spare}
    candidates = ("common" if n == 1 else f"common-{n}" for n in range(1, len(taken) + count + 1))
    return [name for name in candidates if name not in taken][:count]


def _parts(keys: Sequence[Key], blocks: Mapping[Key, JsonObject]) -> Iterator[Sequence[Key]]:
    """The keys that go into one file; into several if they are too many for one."""
    begun, size = 0, 0
    for number, key in enumerate(keys):
        length = len(json.dumps(blocks[key]))
        if begun < number and size + length > _FILE_SIZE:
            yield keys[begun:number]
            begun, size = number, 0
        size += length
    yield keys[begun:]


def _stems(layout: Layout, ground: _Ground, drafts: Sequence[Draft]) -> Mapping[str, list[Key]]:
    """The names of the files, without an ending, and what stands in each.

    In an order in which no account stands before its parent: files are written one by one, and those
    that are there must be a project.
    """
    stems: defaultdict[str, list[Key]] = defaultdict(list)
    above = _resellers(ground, drafts)
    for draft in drafts:
        way = above[draft.account.id]
        if layout == "one-file":
            stem = "accounts"
        elif layout == "flat" or not way:
            stem = way[-1] if way else ROOT
        else:
            stem = "/".join([*way[: _LEVELS - 1], way[-1]] if len(way) > _LEVELS else way)
        stems[stem].append(draft.key)
    return stems


def _resellers(ground: _Ground, drafts: Sequence[Draft]) -> Mapping[AccountId, tuple[Key, ...]]:
    """For each account the keys of the resellers that it stands below, from the top; itself, if it is one."""
    ranks = {draft.account.id: draft.account.reseller for draft in drafts}
    ranks |= {record.id: record.reseller for record in ground.state.accounts.values()}
    keys = {**ground.keys, **{draft.account.id: draft.key for draft in drafts}}
    above: dict[AccountId, tuple[Key, ...]] = {ground.live.root: ()}
    for current in ground.live.below(ground.live.root):
        way = above[ground.live.rows[current].parent_id]
        above[current] = (*way, keys[current]) if ranks.get(current) and current in keys else way
    return above


# --- proof, and writing ------------------------------------------------------------------------


def _prove(
    site: Site,
    options: Options,
    ground: _Ground,
    texts: Mapping[str, _Text],
    meant: tuple[Sequence[Draft], Mapping[Key, Declared]],
) -> tuple[list[Entry], list[Skipped]]:
    """What state may claim once the files are there: they are loaded as they will be, and compared.

    Also of accounts that were declared by their id before; those that differ are left to `apply`.
    """
    drafts, bases = meant
    future = _with_files(site, {name: file.text for name, file in texts.items()})
    after = check(future, options) if texts else ground.configuration
    for draft in drafts:
        if core.altered(draft, after.accounts[draft.key], bases.get(draft.key)):
            raise RuntimeError(f"{address(draft.key)} would not be declared as it is")
    new = {draft.key for draft in drafts}
    entries: list[Entry] = []
    differing: list[Skipped] = []
    ids = {key: current for current, key in ground.keys.items()} | {
        draft.key: draft.account.id for draft in drafts
    }
    for declared in _unrecorded(after, ground):
        account = ground.live.accounts[ids[declared.key]]
        parent = ground.live.root if declared.parent == ROOT else ids.get(declared.parent)
        fields = diff.compare(declared, None, account, ground.state)
        if not fields and parent == account.parent_id:
            record, _ = claimed(declared, None, account, ground.state)
            entries.append(Entry("record", declared.key, record))
        elif declared.key in new:
            raise RuntimeError(f"{address(declared.key)} would not be in the state of the platform")
        else:
            reason = (
                f"{address(declared.key)} is declared otherwise; plan shows it, apply adopts it."
            )
            differing.append(Skipped(account.id, account.name, reason))
    return entries, differing


def _unrecorded(after: Configuration, ground: _Ground) -> Iterator[Declared]:
    """The accounts that are declared by their id alone, of those that were read."""
    owners = Counter(declared.id for declared in after.accounts.values())
    managed = {record.id for record in ground.state.accounts.values()} | {ground.live.root}
    for declared in after.accounts.values():
        current = declared.id
        read = current in ground.live.accounts and current not in managed
        if read and declared.key not in ground.state.accounts and owners[current] == 1:
            yield declared


def _write(
    site: Site,
    options: Options,
    ground: _Ground,
    texts: Mapping[str, _Text],
    entries: Sequence[Entry],
) -> tuple[list[str], State]:
    """Files first, state last: what is written, and the state."""
    if not entries:
        return [], ground.state
    first = newfiles.first_files(site, dumps(file_schema())) if site.first else {}
    new = {**first, **{name: file.text for name, file in texts.items()}}
    site.project.directory.mkdir(
        parents=True, exist_ok=True
    )  # else the lock makes it, for us alone
    with backend(site.project).lock(uuid4().hex, options.command, options.lock_timeout) as writer:
        if writer.read() != ground.stored:
            raise Unready("The state was changed while accounts were read. Run it again.")
        newfiles.write_new(site.project.directory, new)
        state = fold(ground.state, entries)
        writer.save(state)
    return [*new], state


def _adopted(entries: Sequence[Entry], live: Live, texts: Mapping[str, _Text]) -> Iterator[Adopted]:
    """The accounts that came into state, in order of key."""
    files = {key: name for name, file in texts.items() for key in file.keys}
    for entry in sorted(entries, key=lambda entry: entry.key):
        if entry.record is not None:
            name = live.accounts[entry.record.id].name
            yield Adopted(entry.key, entry.record.id, name, files.get(entry.key, ""))
