"""The flow of each command, told as steps. Returns values; prints nothing.

files ─► Configuration ─┐
backend ────► State ────┼─► compute ─► Plan ─► execute ─► Outcome, State ─► backend
platform ───► Live ─────┘
"""

from __future__ import annotations

import asyncio
import secrets
import zoneinfo
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from reconciler import __version__, policy
from reconciler.api.client import Client, Login, by_api_key, by_password, by_token, connect
from reconciler.api.errors import ApiError
from reconciler.api.refresh import list_again, placed, read_more, refresh, unseen
from reconciler.backends.backend import open_backend
from reconciler.config import planfile
from reconciler.config.project import SANDBOX, Project, load, name_of, project_files, sandbox_file
from reconciler.config.write import rewritten
from reconciler.core import revive
from reconciler.core.configuration import Configuration, Declared, Invalid, Removed
from reconciler.core.digest import difference
from reconciler.core.drift import Drift, find, strangers, with_unmanaged
from reconciler.core.known import in_force
from reconciler.core.limits import ended
from reconciler.core.live import generation, remembered
from reconciler.core.plan import Plan, compute, touched, unread
from reconciler.core.recovery import candidates, settle
from reconciler.core.safety import Refusal, Terms, lacking
from reconciler.core.saved import Making, SavedPlan, Unfit, configuration_digest, save, unsealed
from reconciler.core.shapes import folded, nearest
from reconciler.core.state import Entry, State, Unusable, fold
from reconciler.core.validate import validate
from reconciler.core.values import (
    AccountId,
    Diagnostic,
    JsonValue,
    Key,
    Source,
    account_id,
    address,
)
from reconciler.record import claimed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from reconciler.backends.backend import Backend, StateReader
    from reconciler.config.write import Rewrite
    from reconciler.core.exchange import Exchange
    from reconciler.core.live import Live
    from reconciler.core.outcome import Event, Outcome

_LIST_AGAIN: Final = (0.5, 1.5)
"""Seconds before each further list, where the first lacks what may or must be there."""

_STILL_AT_IT: Final = (4.0,)
"""And if the platform may still be at a create, which takes seconds (docs/platform.md 3.4)."""

_FEW: Final = 20
"""Accounts that a node of the platform may be behind with."""

_YOUNG: Final = 30
"""Seconds since a create was sent, in which it may not be over."""

Progress = Callable[[int, int], None]
"""Told how many accounts of how many have been read."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `allow`: limits raised for this run, by name.

    `refresh`: read the accounts, not only state. `reviewed`: the digest of the one plan that may be
    applied, if any other must not. `max_age`: seconds that a saved plan may be old. Of a search for
    drift: `unmanaged` accounts, too; `since_state`: only what state has not seen live. `observe` is
    told of each request to the platform.
    """

    variables: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    targets: frozenset[Key] = frozenset()
    allow: Mapping[str, int] = field(default_factory=dict)
    fail_fast: bool = False
    lock_timeout: float = 0.0
    command: str = ""
    refresh: bool = True
    reviewed: str = ""
    max_age: float = 86400.0
    unmanaged: bool = False
    since_state: bool = False
    observe: Callable[[Exchange], None] | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a run that changes something asks and tells.

    `approve` is shown the plan, and asks if there is something to do. `emit` is told of each
    operation that begins and ends.
    """

    approve: Callable[[Plan], bool]
    progress: Progress
    emit: Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of `apply`. Without an outcome nothing was done: refused or declined."""

    plan: Plan
    outcome: Outcome | None


class Unknown(Exception):
    """Something was asked for by a name or id that nothing has."""


def check(project: Project, options: Options) -> Configuration:
    """What the files say; offline. Raises: Invalid with all errors; Unknown."""
    configuration, diagnostics = load(project, options.variables)
    zones = frozenset(zoneinfo.available_timezones())
    over = ended(configuration.limits(), datetime.now(UTC).date())
    rules = policy.problems(configuration.settings.policy)
    diagnostics = folded([*diagnostics, *rules, *validate(configuration, zones), *over])
    if any(diagnostic.severity == "error" for diagnostic in diagnostics):
        raise Invalid(diagnostics)
    unknown = options.targets - configuration.accounts.keys() - configuration.removed.keys()
    if unknown:
        named = ", ".join(address(key) for key in sorted(unknown))
        raise Unknown(f"{named}: not declared. --target takes accounts.KEY.")
    configuration = replace(configuration, warnings=tuple(diagnostics))
    return in_force(configuration, datetime.now(UTC).date())


def resolve(project: Project, options: Options, key: Key) -> tuple[Configuration, Declared]:
    """What the files say, and of it one account. Raises: Invalid, Unknown."""
    configuration = check(project, options)
    declared = configuration.accounts.get(key)
    if declared is None:
        raise Unknown(f"{address(key)} is not declared.{nearest(key, configuration.accounts)}")
    return configuration, declared


def unformatted(project: Project) -> tuple[Rewrite, ...]:
    """The project's files that are not in canonical layout. Raises: Invalid with all that can't be."""
    paths, diagnostics = project_files(project)
    found = []
    for path in paths:
        try:
            rewrite = rewritten(path, name_of(project, path))
        except Invalid as error:
            diagnostics += error.diagnostics
        else:
            found += [rewrite] if rewrite else []
    if diagnostics:
        raise Invalid(diagnostics)
    return tuple(found)


async def plan(project: Project, options: Options, progress: Progress) -> Plan:
    """What `apply` would do now. Sends GETs only, writes nothing.

    Raises: Invalid, Unknown, HostMismatch, Unusable, ApiError.
    """
    return await _plan(project, check(project, options), options, progress)


async def plan_to_file(
    project: Project, options: Options, progress: Progress, path: Path, *, force: bool
) -> Plan:
    """The same, and saved in a file to be applied as it is, unless it is refused.

    `force`: over a file that is there. Raises: Unsaved, and what `plan` does.
    """
    planfile.check_free(path, force=force)
    configuration = check(project, options)
    made = await _plan(project, configuration, options, progress)
    if not made.refusals:
        making = Making(
            tool=f"reconciler {__version__}",
            created=datetime.now(UTC),
            configuration=configuration_digest(configuration),
            targets=tuple(sorted(map(address, options.targets))),
            allow=options.allow,
            digest_key=secrets.token_hex(32),
        )
        text = save(made, making, planfile.seal_key(project.environment))
        planfile.write(path, text, force=force)
    return made


async def _plan(
    project: Project, configuration: Configuration, options: Options, progress: Progress
) -> Plan:
    state = _read(project)
    async with connected(project, options.observe) as client:
        look = _look if options.refresh else _recall
        live = await look(project, configuration, state, client, progress)
    return _compute(configuration, state, live, options)


async def apply(project: Project, options: Options, hooks: Hooks) -> Applied:
    """Plan, ask, and do it.

    Raises: Invalid, Unknown, HostMismatch, Unusable, Unwritable, Locked, ApiError.
    """
    return await _apply(project, check(project, options), options, hooks)


async def destroy(project: Project, options: Options, hooks: Hooks) -> Applied:
    """Delete all accounts under management, or the targets and what stands below them.

    An apply with nothing else declared. What is declared and not in state stays away: an
    interrupted destroy must not be undone.
    """
    configuration = check(project, options)
    state = _read(project)
    known = state.accounts.keys() | state.intents.keys()
    going = frozenset(known)
    if options.targets:
        going = _with_those_below(options.targets, state)
        options = replace(options, targets=going)
    command = Source(project.node.file, 1, 1)
    staying = {k: d for k, d in configuration.accounts.items() if k in known and k not in going}
    blocks = _blocks(configuration, state)
    removed = {key: Removed(key, True, command, blocks.get(key)) for key in sorted(going)}
    nothing = replace(configuration, accounts=staying, removed=removed, moved=())
    return await _apply(
        project, nothing, replace(options, targets=options.targets and going), hooks
    )


def _blocks(configuration: Configuration, state: State) -> dict[Key, Declared]:
    """What the YAML says of the accounts in state, by their keys there: they may be to get others."""
    keys = {record.id: key for key, record in state.accounts.items()}
    found = {keys[d.id]: d for d in configuration.accounts.values() if d.id in keys}
    now = {key: key for key in state.accounts.keys() | state.intents.keys()}
    for moved in configuration.moved:
        if moved.old in now:
            now[moved.new] = now.pop(moved.old)
    return found | {
        key: configuration.accounts[new]
        for new, key in now.items()
        if new in configuration.accounts
    }


def _with_those_below(keys: frozenset[Key], state: State) -> frozenset[Key]:
    """The keys, and those of all accounts in state that stand below them."""
    ids = {state.accounts[key].id for key in keys & state.accounts.keys()}
    below = frozenset(key for key, record in state.accounts.items() if record.parent_id in ids)
    return keys if below <= keys else _with_those_below(keys | below, state)


async def _apply(
    project: Project, configuration: Configuration, options: Options, hooks: Hooks
) -> Applied:
    from reconciler.execute import Pace, execute

    place = backend(project)
    run = uuid4().hex
    with place.lock(run, options.command, options.lock_timeout) as writer:
        stored = writer.read()
        async with connected(project, options.observe) as client:
            state = stored or _no_state(project)
            live = await _look(project, configuration, state, client, hooks.progress, patient=True)
            made = _compute(configuration, state, live, options)
            if options.reviewed:
                made = _as_reviewed(made, options.reviewed, configuration)
            if made.refusals or not hooks.approve(made):
                return Applied(made, None)
            if stored is None:
                made = replace(made, state=first_state(project, made.root))
            if made.state is not stored:
                writer.save(made.state)
            writer.journal(made.state, [])  # find out that it can be written, before all is sent
            pace = Pace(project.settings.concurrency, options.fail_fast)
            outcome = await execute(made, client, writer, run=run, pace=pace, emit=hooks.emit)
    return _applied(made, outcome)


def _applied(plan: Plan, outcome: Outcome) -> Applied:
    """What came of it; that state was not written is a diagnostic of the whole."""
    if outcome.unsaved:
        unsaved = Diagnostic("error", "Not all was recorded in state", outcome.unsaved)
        plan = replace(plan, diagnostics=(*plan.diagnostics, unsaved))
    return Applied(plan, outcome)


def _as_reviewed(made: Plan, reviewed: str, configuration: Configuration) -> Plan:
    """The plan, refused if it is another than the one with the digest `reviewed`."""
    known = {*configuration.accounts, *made.state.accounts}
    different = difference(reviewed, made, known)
    if different is None:
        return made
    detail = f"This is not the plan that was reviewed. {different}"
    return replace(made, refusals=(*made.refusals, Refusal("plan_digest", detail)))


async def apply_file(project: Project, path: Path, options: Options, hooks: Hooks) -> Applied:
    """Do what a saved plan says, and nothing else. Nobody is asked: it was looked at when it was made.

    Raises: Unfit, Unsaved, Invalid, HostMismatch, Unusable, Unwritable, Locked, ApiError.
    """
    from reconciler.execute import Pace, execute

    if project.problems:
        raise Invalid(project.problems)
    saved = read_plan(path, project.environment)
    revive.check(saved, project.url, datetime.now(UTC), timedelta(seconds=options.max_age))
    configuration = load(project, options.variables)[0] if revive.has_secrets(saved) else None
    run = uuid4().hex
    with backend(project).lock(run, options.command, options.lock_timeout) as writer:
        stored = writer.read()
        async with connected(project, options.observe) as client:
            state = stored or _no_state(project)
            ids = revive.ids(saved)
            live = await _found(project, ids, state, client, hooks.progress, patient=True)
            state = settle(state, live)
            revive.check_state(saved, state if stored else None, live.root)
            if stored is None:
                state = first_state(project, live.root)
            made = revive.revived(saved, state, live, configuration)
            made = policy.check(made, project.settings.policy)
            if made.refusals:
                return Applied(made, None)
            if state is not stored:
                writer.save(state)
            pace = Pace(project.settings.concurrency, options.fail_fast)
            outcome = await execute(made, client, writer, run=run, pace=pace, emit=hooks.emit)
    return _applied(made, outcome)


def read_plan(path: Path, environment: Mapping[str, str]) -> SavedPlan:
    """A saved plan whose seal is right. Raises: Unfit, Unsaved."""
    try:
        return unsealed(planfile.read(path), planfile.seal_key(environment))
    except Unfit as error:
        raise Unfit(f"{path}: {error}") from error


async def drift(project: Project, options: Options, progress: Progress) -> Drift:
    """What was changed outside since the last apply. Sends GETs only, writes nothing.

    Raises: Invalid, Unknown, HostMismatch, Unusable, ApiError.
    """
    configuration = check(project, options)
    state = _read(project)
    targets = options.targets
    others: list[AccountId] = []
    async with connected(project, options.observe) as client:
        live = await _look(project, configuration, state, client, progress)
        if options.unmanaged:
            others = strangers(configuration, state, live, targets)
            live = await read_more(client, live, others, project.settings.concurrency, progress)
    keys = targets & state.accounts.keys() if targets else state.accounts.keys()
    found = find(configuration, state, live, keys, since_state=options.since_state)
    return with_unmanaged(found, others, live)


async def import_account(project: Project, key: Key, text: str, options: Options) -> State:
    """Take an existing account under management. Returns the new state.

    Raises: Invalid, HostMismatch, Unusable, Unwritable, Locked, Unknown, ApiError.
    """
    declared = _importable(check(project, options), key, text)
    wanted = AccountId(text)
    place = backend(project)
    with place.lock(uuid4().hex, options.command, options.lock_timeout) as writer:
        async with connected(project, options.observe) as client:
            root = await root_of(project, client)
            state = writer.read() or first_state(project, root)
            check_identity(project, state, root)
            live = await refresh(client, root, [wanted], 1, unseen)
        taken = next((k for k, r in state.accounts.items() if r.id == wanted or k == key), None)
        if taken is not None:
            raise Unknown(f"{address(taken)} is in state already, as {state.accounts[taken].id}.")
        account = live.accounts.get(wanted)
        if account is None or wanted not in live.rows:
            raise Unknown(f"There is no account {wanted} below the root {root}.")
        record, _ = claimed(declared, None, account, state)
        state = fold(state, [Entry("record", key, record)])
        writer.save(state)
        return state


def _importable(configuration: Configuration, key: Key, text: str) -> Declared:
    """The account that is declared under `key`, if it may be `text`. Raises: Unknown."""
    try:
        wanted = account_id(text)
    except ValueError as error:
        raise Unknown(f"{error}.") from error
    declared = configuration.accounts.get(key)
    if declared is None:
        raise Unknown(
            f"{address(key)} is not declared. Declare it first, with at least its name; or have `reconciler"
            f" adopt {wanted}` write what the account is, under a key made of its name."
        )
    if declared.id not in (None, wanted):
        raise Unknown(f"{address(key)} has `id: {declared.id}`. Correct that, or take it out.")
    owners = (k for k, d in configuration.accounts.items() if d.id == wanted and k != key)
    if (owner := next(owners, None)) is not None:
        raise Unknown(f"{address(owner)} has `id: {wanted}`. An account has one address.")
    return declared


# --- steps -----------------------------------------------------------------------------------


def backend(project: Project) -> Backend:
    """Where the project's state is kept. Raises: Invalid."""
    try:
        return open_backend(project.state, project.directory, project.environment)
    except ValueError as error:
        found = Diagnostic("error", "A wrong place for state", f"{error}.", path="state")
        raise Invalid([found]) from error


def _read(project: Project) -> State:
    """The state, an empty one if there is none yet. Raises: Unusable."""
    reader: StateReader = backend(project)
    return reader.read() or _no_state(project)


def _no_state(project: Project) -> State:
    """What a plan is made from before there is a state."""
    return State("", 0, f"reconciler {__version__}", project.url, AccountId(""), "", {})


def check_identity(project: Project, state: State, root: AccountId) -> None:
    """Raises: Unusable if the state is about another platform or another root account."""
    if state.api_url != project.url:
        raise Unusable(f"the state is about {state.api_url}, but the project names {project.url}")
    if state.root and state.root != root:
        raise Unusable(
            f"the state is about the root account {state.root}, but this run's is {root}"
        )


def first_state(project: Project, root: AccountId) -> State:
    """The state of a project that manages nothing yet."""
    return State(
        lineage=str(uuid4()),
        serial=1,
        tool=f"reconciler {__version__}",
        api_url=project.url,
        root=root,
        digest_key=secrets.token_hex(32),
        accounts={},
    )


async def root_of(project: Project, client: Client) -> AccountId:
    """The account below which everything is. Raises: Invalid."""
    named = project.root or client.caller
    try:
        return account_id(named)
    except ValueError as error:
        detail = (
            "Name it by api.account_id in reconciler.yaml, or by VINIX_ACCOUNT_ID."
            if named is None
            else f"{error}."
        )
        raise Invalid(
            [Diagnostic("error", "No root account", detail, path="api.account_id")]
        ) from error


async def _look(
    project: Project,
    configuration: Configuration,
    state: State,
    client: Client,
    progress: Progress,
    *,
    patient: bool = False,
) -> Live:
    """The live accounts that matter. Raises: Unusable, Invalid, ApiError."""
    ids = _named(configuration, state)
    live = await _found(project, ids, state, client, progress, patient=patient)
    return await _with_ranks(project, configuration, state, live, client)


async def _recall(
    project: Project,
    configuration: Configuration,
    state: State,
    client: Client,
    progress: Progress,
) -> Live:
    """The same, with accounts as state remembers them.

    Read are those that the list does not have, and those that something would be done to.
    """
    concurrency = project.settings.concurrency
    live = await _found(project, set(), state, client, progress)
    ids = _named(configuration, state)
    known = {record.id for record in state.accounts.values()} & live.rows.keys()
    live = await read_more(client, live, sorted(ids - known), concurrency, unseen)
    live = remembered(configuration, state, live)
    again = touched(configuration, state, live)
    kept = {i: account for i, account in live.accounts.items() if i not in again}
    live = await read_more(client, replace(live, accounts=kept), again, concurrency, unseen)
    return await _with_ranks(project, configuration, state, live, client)


def _named(configuration: Configuration, state: State) -> set[AccountId]:
    """The accounts in state, and those that are declared by their id."""
    ids = {record.id for record in state.accounts.values()} | state.owed.keys()
    return ids | {declared.id for declared in configuration.accounts.values() if declared.id}


async def _with_ranks(
    project: Project, configuration: Configuration, state: State, live: Live, client: Client
) -> Live:
    """With what must be known before anything is promoted or demoted."""
    with _addressed(state):
        live = replace(live, promoting_allowed=await _may_promote(client))
        more = unread(configuration, state, live)
        concurrency = project.settings.concurrency
        return await read_more(client, live, more, concurrency, unseen, strict=False)


async def _found(
    project: Project,
    ids: AbstractSet[AccountId],
    state: State,
    client: Client,
    progress: Progress,
    *,
    patient: bool = False,
) -> Live:
    """The live accounts `ids`, and those that interrupted creates may have made.

    `patient`: list again what may or must be there, and is not listed: lists lag.
    """
    concurrency = project.settings.concurrency
    root = await root_of(project, client)
    check_identity(project, state, root)
    with _addressed(state):
        live = await refresh(client, root, sorted(ids), concurrency, progress)
        live = await _caught_up(client, state, live, concurrency)
        live = await _with_candidates(client, state, live, concurrency)
        young = any(client.server_time - i.since < _YOUNG for i in state.intents.values())
        pauses = _LIST_AGAIN + (_STILL_AT_IT if young else ())
        for pause in pauses if patient else ():
            found = candidates(state, live).values()
            if all(found) and not lacking(state.accounts.values(), live):
                break
            await asyncio.sleep(pause)
            live = await list_again(client, live)
            live = await _with_candidates(client, state, live, concurrency)
        parents = {record.id: record.parent_id for record in state.accounts.values()}
        return await placed(client, live, parents, concurrency)


async def _caught_up(client: Client, state: State, live: Live, concurrency: int) -> Live:
    """The same, with accounts read again that are older than state knows them: by another node's cache.

    What stays older is taken as it is. Raises: ApiError.
    """
    for pause in _LIST_AGAIN:
        behind = {
            record.id
            for record in state.accounts.values()
            if (found := live.accounts.get(record.id)) is not None
            and 0 < generation(found.revision) < generation(record.etag)
        }
        if not 0 < len(behind) <= _FEW:  # so many are the platform's, that was set back
            break
        await asyncio.sleep(pause)
        kept = {i: account for i, account in live.accounts.items() if i not in behind}
        live = await read_more(client, replace(live, accounts=kept), behind, concurrency, unseen)
    return live


async def _with_candidates(client: Client, state: State, live: Live, concurrency: int) -> Live:
    """The same, with each account read that an interrupted create may have made. Raises: ApiError."""
    while True:
        made = {i for found in candidates(state, live).values() for i in found}
        unread = sorted(made - live.accounts.keys())
        if not unread:
            return live
        # One that was deleted a moment ago may be listed still, and is nobody's.
        live = await read_more(client, live, unread, concurrency, unseen, strict=False)


@contextmanager
def _addressed(state: State) -> Iterator[None]:
    """Give errors of the platform the address of the account that they are about, if it has one."""
    try:
        yield
    except ApiError as error:
        parts = error.path.split("/")
        keys = (key for key, record in state.accounts.items() if record.id in parts)
        error.address = next(map(address, keys), None)
        raise


async def _may_promote(client: Client) -> bool | None:
    """Whether the caller may promote and demote, as far as the platform tells (docs/platform.md 2.5)."""
    if client.caller is None:
        return None
    found = (await client.get(f"/accounts/{client.caller}")).document.get("superduper_admin")
    return found if isinstance(found, bool) else None


def _compute(configuration: Configuration, state: State, live: Live, options: Options) -> Plan:
    """The plan, under the limits of the YAML as far as this run does not raise them, and its rules."""
    terms = Terms(datetime.now(UTC).date(), options.allow)
    made = compute(configuration, state, live, terms, options.targets)
    return policy.check(made, configuration.settings.policy)


@asynccontextmanager
async def connected(
    project: Project, observe: Callable[[Exchange], None] | None = None
) -> AsyncIterator[Client]:
    """A client for the project's platform, which may be the embedded sandbox. Raises: ApiError."""
    url = project.url
    timeout = project.settings.timeout
    if not url.startswith(SANDBOX):
        network = connect(
            url, _login(project), timeout=timeout, proxy=project.proxy, observe=observe
        )
        async with network as client:
            yield client
        return
    from reconciler.sandbox.app import Platform
    from reconciler.sandbox.options import IN_PROCESS_URL, ROOT_API_KEY, SandboxOptions
    from reconciler.sandbox.store import StoreError
    from reconciler.sandbox.transport import SandboxTransport

    file = sandbox_file(project)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        platform = Platform(SandboxOptions(data=file, rate_limit=False))
    except StoreError as error:
        raise Unusable(f"the sandbox's file {file} can't be used ({error})") from error
    try:
        root = platform.store.get(platform.store.root_id)
        login = by_api_key(root.api_key if root else ROOT_API_KEY)
        transport = SandboxTransport(platform)
        inside = connect(
            IN_PROCESS_URL, login, timeout=timeout, transport=transport, observe=observe
        )
        async with inside as client:
            yield client
    finally:
        platform.close()


def _login(project: Project) -> Login:
    credentials = project.credentials()
    if credentials.api_key:
        return by_api_key(credentials.api_key)
    if credentials.token:
        return by_token(credentials.token)
    return by_password(
        credentials.username or "",
        credentials.password or "",
        name=credentials.account_name,
        realm=credentials.account_realm,
    )
