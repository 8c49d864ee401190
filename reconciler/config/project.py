"""A user's project: finds its files, stays inside it, gathers variables and credentials.

Everything that is read from the environment is read here, by name. Nothing that a file says can
make the tool read another variable or a file outside the project, but for a variable's own `env:`
(docs/configuration.md, "What a file can't reach").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from reconciler.config import files, nodes
from reconciler.config.rows import read_rows
from reconciler.core import configuration
from reconciler.core.assembly import Table, assemble
from reconciler.core.configuration import Configuration, Invalid, Settings
from reconciler.core.shapes import API_URL, IncludedShape, ProjectShape, check_shape
from reconciler.core.values import Diagnostic, JsonValue, MappingNode, Source, locate
from reconciler.core.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.variables import Row

FILE: Final = "reconciler.yaml"
SANDBOX: Final = "sandbox:"
SCHEMA_FILE: Final = "reconciler.schema.json"
"""What new files name in their first line, for editors."""
SANDBOX_FILE: Final = ".reconciler/sandbox.db"
_AS_THEY_ARE: Final[Mapping[Path, bytes]] = MappingProxyType({})
_NEEDED: Final = ("include", "variables", "accounts_from")
"""Keys without which what else would be found could be false."""


class HostMismatch(Exception):
    """A file names another platform, or place of state, than the environment does: nothing is sent."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the tool logs in with; exactly one kind is set. Never printed."""

    api_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    account_name: str | None = None
    account_realm: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with a `reconciler.yaml`, as far as it can be told without the accounts.

    `problems`: what is wrong with that file's shape; the settings are what is right of it. `edited`:
    texts that stand for those of files, by resolved path, also of files that are not there yet.
    """

    directory: Path
    settings: Settings
    node: MappingNode
    more: tuple[MappingNode, ...]
    problems: tuple[Diagnostic, ...]
    environment: Mapping[str, str] = field(repr=False)
    edited: Mapping[Path, bytes] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        """The platform's base URL, or `sandbox:…`.

        Raises: HostMismatch if file and environment disagree; Invalid if there is none or it
        would carry the credential in clear over a network.
        """
        named = self.settings.url
        environment = self.environment.get("VINIX_API_URL") or self.environment.get("VINIX_BASE")
        if environment and named and environment.rstrip("/") != named.rstrip("/"):
            place = self.settings.url_source or FILE
            raise HostMismatch(
                f"{place}: api.url is {_without_user(named)}, but VINIX_API_URL is"
                f" {_without_user(environment)}. Credentials are for one platform: make the two agree."
            )
        url = (environment or named or "").rstrip("/")
        _check_url(url, self.settings.url_source)
        return url

    def check_url(self) -> None:
        """Refuse what the file names, if it must not be reached. Raises: HostMismatch, Invalid."""
        if self.settings.url:
            _ = self.url

    @property
    def state(self) -> str:
        """Where state is kept: a path or a URL. Raises: HostMismatch if file and environment disagree."""
        named, pinned = self.settings.state, self.environment.get("RECONCILER_STATE")
        if pinned and "state" in self.node and named != pinned:
            place = locate(self.node, ("state",)) or FILE
            raise HostMismatch(
                f"{place}: state is {_without_user(named)}, but RECONCILER_STATE is"
                f" {_without_user(pinned)}. State and its credentials are for one place: make the two agree."
            )
        return pinned or named

    def credentials(self) -> Credentials:
        """What the environment gives to log in with. Raises: Invalid if that is nothing."""
        get = self.environment.get
        if key := get("VINIX_API_KEY"):
            return Credentials(api_key=key)
        if token := get("VINIX_AUTH_TOKEN"):
            return Credentials(token=token)
        name, realm = get("VINIX_ACCOUNT_NAME"), get("VINIX_ACCOUNT_REALM")
        user, password = get("VINIX_USERNAME"), get("VINIX_PASSWORD")
        if user and password and (name or realm):
            return Credentials(
                username=user, password=password, account_name=name, account_realm=realm
            )
        detail = (
            "Set VINIX_API_KEY, or VINIX_AUTH_TOKEN, or VINIX_USERNAME and VINIX_PASSWORD with"
            " VINIX_ACCOUNT_NAME or VINIX_ACCOUNT_REALM, in the environment."
        )
        raise Invalid([Diagnostic("error", "No credentials", detail)])

    @property
    def proxy(self) -> str | None:
        """The proxy of the environment, if the project asks for it."""
        if not self.settings.proxy_from_environment:
            return None
        parts = urlsplit(self.url)
        if proxy_bypass(parts.hostname or ""):
            return None
        return getproxies().get(parts.scheme)

    @property
    def root(self) -> str | None:
        """The id of the root account, if one is named."""
        return self.settings.account_id or self.environment.get("VINIX_ACCOUNT_ID")


def open_project(
    directory: Path, environment: Mapping[str, str], edited: Mapping[Path, bytes] = _AS_THEY_ARE
) -> Project:
    """Read `reconciler.yaml`. `edited`: texts that stand for those of files, by resolved path.

    Raises: Invalid if there is nothing in it to go on with.
    """
    if not (directory / FILE).is_file():
        where = "this directory" if directory == Path() else str(directory)
        detail = (
            f"There is none in {where}. -C names the directory of a project that is there. `reconciler"
            " adopt` makes one of a platform's accounts, `reconciler init` one to try things on."
        )
        raise Invalid([Diagnostic("error", f"No {FILE}", detail)])
    try:
        path = files.inside(directory, FILE)
    except files.Unreadable as error:
        raise Invalid([_unreadable(FILE, error)]) from error
    parsed = _documents(path, FILE, ProjectShape, edited)
    return _project(directory, parsed, environment, edited)


def future_project(directory: Path, text: bytes, environment: Mapping[str, str]) -> Project:
    """The project that a directory will be with `text` as its `reconciler.yaml`. Raises: Invalid."""
    return _project(directory, _parsed(FILE, text, ProjectShape), environment, _AS_THEY_ARE)


def _project(
    directory: Path,
    parsed: tuple[list[MappingNode], list[Diagnostic]],
    environment: Mapping[str, str],
    edited: Mapping[Path, bytes],
) -> Project:
    documents, problems = parsed
    if not documents or "version" not in documents[0]:
        raise Invalid(problems)
    settings, wrong = configuration.read_settings(documents[0])
    return Project(
        directory,
        settings,
        documents[0],
        tuple(documents[1:]),
        (*problems, *wrong),
        environment,
        edited,
    )


def load(
    project: Project, given: Mapping[str, JsonValue]
) -> tuple[Configuration, list[Diagnostic]]:
    """All that the files say, merged and filled in, and what is wrong with it.

    `given` are the variables from the command line. Unreadable files and missing variables end it,
    since what else would be found could be false. Raises: Invalid.
    """
    included, diagnostics, whole = _included(project)
    diagnostics += project.problems
    documents = [*project.more, *included]
    tables, unread = _tables(project, [project.node, *documents])
    variables, wrong = read_variables(project.node, given, project.environment)
    diagnostics += [*unread, *wrong]
    if unread or not whole or any(found.severity == "error" for found in wrong):
        raise Invalid(diagnostics)
    assembled, wrong = assemble(project.node, documents, project.settings, variables, tables)
    return assembled, [*diagnostics, *wrong]


def variable_file(path: Path) -> dict[str, JsonValue]:
    """The values in a `--var-file`. Raises: Invalid."""
    try:
        data = files.read(path)
    except files.Unreadable as error:
        raise Invalid([_unreadable(str(path), error)]) from error
    documents, diagnostics = nodes.parse(str(path), data)
    if not diagnostics and (len(documents) != 1 or not isinstance(documents[0], MappingNode)):
        detail = "A variable file is one mapping of names to values."
        diagnostics = [
            Diagnostic("error", "A malformed variable file", detail, source=Source(str(path), 1, 1))
        ]
    if diagnostics:
        raise Invalid(diagnostics)
    return {
        name: value
        for document in documents
        if isinstance(document, dict)
        for name, value in document.items()
    }


def project_files(project: Project) -> tuple[list[Path], list[Diagnostic]]:
    """The YAML files of the project, `reconciler.yaml` first; and what is wrong with `include`."""
    diagnostics: list[Diagnostic] = []
    found = {path for path in project.edited if not path.exists()}
    for pattern, source in project.settings.include:
        try:
            found.update(files.named(project.directory, pattern))
        except files.Unreadable as error:
            detail = f"{error}"
            diagnostics.append(
                Diagnostic("error", "A wrong include", detail, path="include", source=source)
            )
    first = project.directory.resolve() / FILE
    return [first, *sorted(found - {first})], diagnostics


def name_of(project: Project, path: Path) -> str:
    """What diagnostics call a file of the project."""
    return path.relative_to(project.directory.resolve()).as_posix()


def _included(project: Project) -> tuple[list[MappingNode], list[Diagnostic], bool]:
    """The included documents, what is wrong with them, and whether every file could be read."""
    documents: list[MappingNode] = []
    whole = not any((problem.path or "").startswith(_NEEDED) for problem in project.problems)
    (_, *paths), diagnostics = project_files(project)
    whole = whole and not diagnostics
    for path in paths:
        read, wrong = _documents(path, name_of(project, path), IncludedShape, project.edited)
        documents += read
        diagnostics += wrong
        whole = whole and bool(read)
    whole = whole and not any((found.path or "").startswith(_NEEDED) for found in diagnostics)
    return documents, diagnostics, whole


def _tables(
    project: Project, documents: Sequence[MappingNode]
) -> tuple[list[Table], list[Diagnostic]]:
    """The rows that `accounts_from` names, and what is wrong with their files."""
    tables: list[Table] = []
    diagnostics: list[Diagnostic] = []
    for document in documents:
        blocks = document.get("accounts_from", [])
        for block in blocks if isinstance(blocks, list) else [blocks]:
            if isinstance(block, MappingNode):
                rows, wrong = _rows(project.directory, block)
                tables.append(Table(block, rows))
                diagnostics += wrong
    return tables, diagnostics


def _rows(directory: Path, block: MappingNode) -> tuple[list[Row], list[Diagnostic]]:
    name, types = str(block["file"]), block.get("types")
    try:
        data = files.read(files.inside(directory, name))
    except files.Unreadable as error:
        source = locate(block, ("file",))
        path = "accounts_from.file"
        return [], [Diagnostic("error", "A wrong data file", f"{error}", path=path, source=source)]
    columns = (
        {column: str(kind) for column, kind in types.items()} if isinstance(types, dict) else {}
    )
    return read_rows(name, data, columns)


def _documents(
    path: Path,
    name: str,
    shape: type[ProjectShape | IncludedShape],
    edited: Mapping[Path, bytes],
) -> tuple[list[MappingNode], list[Diagnostic]]:
    """The documents of a file whose shape is right. The first of reconciler.yaml is the project's."""
    try:
        data = edited[path] if path in edited else files.read(path)
    except files.Unreadable as error:
        return [], [_unreadable(name, error)]
    return _parsed(name, data, shape)


def _parsed(
    name: str, data: bytes, shape: type[ProjectShape | IncludedShape]
) -> tuple[list[MappingNode], list[Diagnostic]]:
    documents, diagnostics = nodes.parse(name, data)
    if not documents and not diagnostics:
        documents = [None]
    for number, document in enumerate(documents):
        expected = shape if number == 0 else IncludedShape
        diagnostics += check_shape(document, expected, name)
    return [document for document in documents if isinstance(document, MappingNode)], diagnostics


def _unreadable(name: str, error: files.Unreadable) -> Diagnostic:
    return Diagnostic("error", "An unreadable file", f"{error}", source=Source(name, 1, 1))


def _check_url(url: str, source: Source | None) -> None:
    if not re.fullmatch(API_URL, url):
        detail = _why_wrong(url)
        raise Invalid(
            [Diagnostic("error", "A wrong api.url", detail, path="api.url", source=source)]
        )


def _why_wrong(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    if not url:
        return "Name the platform by api.url in reconciler.yaml, or by VINIX_API_URL."
    if "@" in host or "?" in rest or "#" in rest:
        return "A user part, a query and a fragment have no place in it; credentials come from the environment."
    if scheme == "http" and host:
        return "http:// would send the credential in clear; it is allowed to this machine alone. Use https://."
    return "Expected https://HOST/VERSION, or sandbox:."


def _without_user(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].split('?')[0]}"


def sandbox_file(project: Project) -> Path:
    """Where the embedded sandbox of this project keeps its accounts."""
    return project.directory / (project.url.removeprefix(SANDBOX) or SANDBOX_FILE)


def with_concurrency(project: Project, concurrency: int) -> Project:
    """The project with the command line's number of requests in flight."""
    return replace(project, settings=replace(project.settings, concurrency=concurrency))
