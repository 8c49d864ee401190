"""A user's project: finds its files, stays inside it, gathers variables and credentials.

Everything that is read from the environment is read here, by name. Nothing that a file says can
make the tool read another variable or a file outside the project, but for a variable's own `env:`
(docs/configuration.md, "What a file can't reach").
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from reconciler.config import nodes
from reconciler.core import configuration
from reconciler.core.configuration import Configuration, Invalid, Settings
from reconciler.core.shapes import IncludedShape, ProjectShape, check_shape
from reconciler.core.values import Diagnostic, JsonValue, MappingNode, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "reconciler.yaml"
SANDBOX: Final = "sandbox:"
SANDBOX_FILE: Final = ".reconciler/sandbox.db"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class HostMismatch(Exception):
    """A file names another platform than the environment does: the credential stays here."""


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

    `problems`: what is wrong with that file's shape; the settings are what is right of it.
    """

    directory: Path
    settings: Settings
    node: MappingNode
    more: tuple[MappingNode, ...]
    problems: tuple[Diagnostic, ...]
    environment: Mapping[str, str] = field(repr=False)

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


def open_project(directory: Path, environment: Mapping[str, str]) -> Project:
    """Read `reconciler.yaml`. Raises: Invalid if there is nothing in it to go on with."""
    path = directory / FILE
    if not path.is_file():
        detail = f"There is none in {directory}. `reconciler init` makes a project; -C names its directory."
        raise Invalid([Diagnostic("error", f"No {FILE}", detail)])
    documents, problems = _documents(path, FILE, ProjectShape)
    if not documents or "version" not in documents[0]:
        raise Invalid(problems)
    settings, wrong = configuration.read_settings(documents[0])
    return Project(
        directory, settings, documents[0], tuple(documents[1:]), (*problems, *wrong), environment
    )


def load(
    project: Project, given: Mapping[str, JsonValue]
) -> tuple[Configuration, list[Diagnostic]]:
    """All that the files say, merged and filled in, and what is wrong with it.

    `given` are the variables from the command line. Unreadable files and missing variables end
    it, since what else would be found could be false. Raises: Invalid.
    """
    documents, diagnostics, whole = _included(project)
    diagnostics += project.problems
    variables, wrong = configuration.read_variables(project.node, given, project.environment)
    if wrong or not whole:
        raise Invalid([*diagnostics, *wrong])
    assembled, wrong = configuration.assemble(
        project.node, [*project.more, *documents], project.settings, variables
    )
    return assembled, [*diagnostics, *wrong]


def variable_file(path: Path) -> dict[str, JsonValue]:
    """The values in a `--var-file`. Raises: Invalid."""
    documents, diagnostics = nodes.parse(str(path), _read(path, str(path)))
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


def _included(project: Project) -> tuple[list[MappingNode], list[Diagnostic], bool]:
    """The included documents, what is wrong with them, and whether every file could be read."""
    documents: list[MappingNode] = []
    diagnostics: list[Diagnostic] = []
    files: dict[Path, None] = {}
    whole = not any(
        (problem.path or "").startswith(("include", "variables")) for problem in project.problems
    )
    for pattern, source in project.settings.include:
        try:
            found = _files(project.directory, pattern)
        except ValueError as error:
            diagnostics.append(
                Diagnostic("error", "A wrong include", f"{error}", path="include", source=source)
            )
            whole = False
            continue
        files.update(dict.fromkeys(found))
    for path in sorted(files):
        name = path.relative_to(project.directory).as_posix()
        read, wrong = _documents(path, name, IncludedShape)
        documents += read
        diagnostics += wrong
        whole = whole and bool(read)
    return documents, diagnostics, whole


def _files(directory: Path, pattern: str) -> list[Path]:
    """The files that `pattern` names. Raises: ValueError with the reason if it is no good."""
    root = directory.resolve()
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ValueError(
            f'"{pattern}" leads out of the project; only files inside it can be included.'
        )
    if any(character in pattern for character in "*?["):
        found = [path for path in sorted(directory.glob(pattern)) if path.is_file()]
    elif (directory / pattern).is_dir():
        found = sorted(
            path
            for path in (directory / pattern).rglob("*")
            if fnmatch(path.name, "*.y*ml") and path.is_file()
        )
    else:
        found = [directory / pattern]
        if not found[0].is_file():
            raise ValueError(f'"{pattern}" is no file and no directory of the project.')
    if not found:
        raise ValueError(f'"{pattern}" matches no file. Remove it, or correct it.')
    for path in found:
        if root not in path.resolve().parents:
            raise ValueError(
                f'"{path.relative_to(directory)}" leads out of the project through a link.'
            )
    return [path for path in found if path != directory / FILE]


def _documents(
    path: Path, name: str, shape: type[ProjectShape | IncludedShape]
) -> tuple[list[MappingNode], list[Diagnostic]]:
    """The documents of a file whose shape is right. The first of reconciler.yaml is the project's."""
    try:
        data = _read(path, name)
    except Invalid as error:
        return [], list(error.diagnostics)
    documents, diagnostics = nodes.parse(name, data)
    if not documents and not diagnostics:
        documents = [None]
    for number, document in enumerate(documents):
        expected = shape if number == 0 else IncludedShape
        diagnostics += check_shape(document, expected, name)
    return [document for document in documents if isinstance(document, MappingNode)], diagnostics


def _read(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > nodes.MAX_BYTES:
            return b" " * (nodes.MAX_BYTES + 1)
        return path.read_bytes()
    except OSError as error:
        detail = f"{error.strerror}."
        raise Invalid(
            [Diagnostic("error", "An unreadable file", detail, source=Source(name, 1, 1))]
        ) from error


def _check_url(url: str, source: Source | None) -> None:
    if url.startswith(SANDBOX):
        return
    detail = None
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if not url:
        detail = "Name the platform by api.url in reconciler.yaml, or by VINIX_API_URL."
    elif parts.scheme not in ("http", "https") or not host:
        detail = "Expected https://HOST/VERSION, or sandbox:."
    elif parts.username or parts.password or parts.query or parts.fragment:
        detail = "A user part, a query and a fragment have no place in it; credentials come from the environment."
    elif parts.scheme == "http" and host not in _LOOPBACK:
        detail = "http:// would send the credential in clear; it is allowed to this machine alone. Use https://."
    if detail:
        raise Invalid(
            [Diagnostic("error", "A wrong api.url", detail, path="api.url", source=source)]
        )


def _without_user(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].split('?')[0]}"


def sandbox_file(project: Project) -> Path:
    """Where the embedded sandbox of this project keeps its accounts."""
    return project.directory / (project.url.removeprefix(SANDBOX) or SANDBOX_FILE)


def with_concurrency(project: Project, concurrency: int) -> Project:
    """The project with the command line's number of requests in flight."""
    return replace(project, settings=replace(project.settings, concurrency=concurrency))
