"""Objects of a store, and writes on a condition whose outcome is certain.

All that the state needs of a store is this: to write an object only if none has its name, or only
if it still is the version that was read (`If-None-Match: *`, `If-Match`). The answer to such a
write can get lost, or be the answer to its repetition, which fails on what the first one wrote. So
whatever went wrong, the object is read back, and what it says decides.

Source: docs/state.md, "Object stores".
"""

from __future__ import annotations

import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from reconciler.core.values import stays_here

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from urllib.parse import SplitResult

    from obstore import ObjectMeta, PutMode, PutResult, UpdateVersion
    from obstore.store import AzureConfig, ClientConfig, ObjectStore, RetryConfig, S3Config

_LIMITS: Final[ClientConfig] = {
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(seconds=60),
}
"""One request, all of it: time for a state of 100 MB on a slow line."""

_RETRIES: Final[RetryConfig] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    },
}
"""What the library repeats by itself: 5xx, 429, and what did not get through."""

_PAUSES: Final = (0.1, 0.5, 2.0)
"""Seconds before a write is tried again that is known not to have happened."""

_AT_ONCE: Final = 16
"""Objects that are read at the same time."""

_FINAL: Final = (
    PermissionDeniedError,
    UnauthenticatedError,
    NotSupportedError,
    NotImplementedError,
)
"""What no repetition makes better. The last is what the library says for a store that can't."""

_QUERY: Final = {"s3": {"region", "endpoint"}, "gs": set[str](), "az": {"account"}}

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Unavailable(Exception):
    """The store can't be used. The text says why, and names no credential."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object as it was read. `version`: what a write on the condition that it still is so names."""

    body: bytes
    version: UpdateVersion


class Objects:
    """The objects of a bucket. `name`: its URL."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self.name = name

    def get(self, path: str) -> Object | None:
        """An object; None if there is none. Raises: Unavailable."""
        try:
            found = obstore.get(self._store, path)
            return Object(bytes(found.bytes()), _version(found.meta))
        except FileNotFoundError as error:
            if re.search("NoSuchBucket|ContainerNotFound", str(error)):
                raise self._unavailable(error) from None
            return None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None

    def get_all(self, paths: Sequence[str]) -> list[Object | None]:
        """Many small objects, in the order asked for. Raises: Unavailable."""
        if not paths:
            return []
        with ThreadPoolExecutor(min(_AT_ONCE, len(paths))) as pool:
            return list(pool.map(self.get, paths))

    def put(self, path: str, body: bytes, replaces: UpdateVersion | None) -> UpdateVersion | None:
        """Write an object if it still is the version `replaces`; if None, if there is none.

        Returns its new version, or None if the condition does not hold. Nobody else may write the
        same `body` but to the same end. Raises: Unavailable; then it may have been written, or be
        written yet.
        """
        pauses = iter(_PAUSES)
        while True:
            try:
                return self._write(path, body, replaces or "create")
            except _FINAL as error:
                raise self._unavailable(error) from None
            except (BaseError, OSError) as error:
                failed = error
            there = self.get(path)
            if there is not None and there.body == body:
                return there.version
            if (there.version["e_tag"] if there else None) != (replaces and replaces["e_tag"]):
                return None
            pause = next(pauses, None)
            if pause is None:
                raise self._unavailable(failed)
            time.sleep(pause)  # AWS answers 409 to one of two at the same time; the other may fail

    def _write(self, path: str, body: bytes, mode: PutMode) -> UpdateVersion:
        return _version(obstore.put(self._store, path, body, mode=mode, use_multipart=False))

    def names(self, directory: str, after: str) -> list[str]:
        """The names of the objects in `directory` that sort behind `after`. Raises: Unavailable."""
        try:
            listed = obstore.list(self._store, directory, offset=f"{directory}/{after}").collect()
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None
        return sorted(found["path"].removeprefix(f"{directory}/") for found in listed)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove what nobody reads any more. What fails stays, and does no harm."""
        with suppress(BaseError, OSError):
            if paths:
                obstore.delete(self._store, paths)

    def probe(self, path: str) -> None:
        """Find out by an object of its own that the store does as it is told.

        Raises: Unavailable if it can't be written, or ignores conditions.
        """
        path = f"{path}.{secrets.token_hex(8)}"
        try:
            first = self.put(path, b"1", None)
            second = self.put(path, b"2", first) if first else None
            again = self.put(path, b"3", None)
            stale = self.put(path, b"4", first)
        finally:
            self.remove([path])
        if second is None or again or stale:
            header = "If-None-Match" if again else "If-Match"
            raise Unavailable(
                f"the store does not obey {header}, so nothing could keep two runs from writing at the same"
                " time. Nothing was written. Take a store with conditional writes, or keep state elsewhere"
            )

    def _unavailable(self, error: Exception) -> Unavailable:
        text = str(error)
        if re.search("latest/api/token|token request", text):  # it asked the cloud for some
            named = _CREDENTIALS[self.name.partition(":")[0]]
            return Unavailable(f"there are no credentials. Set {named} in the environment")
        return Unavailable(_why(error, text))


def _version(found: ObjectMeta | PutResult) -> UpdateVersion:
    """What names a version to the store, without what this store does not have."""
    version: UpdateVersion = {"e_tag": found["e_tag"]}
    if found["version"] is not None:
        version["version"] = found["version"]
    return version


def _why(error: Exception, text: str) -> str:
    """What a person can make use of in the library's text, which holds requests and their headers."""
    if isinstance(error, NotImplementedError | NotSupportedError):
        return "the store does not support conditional writes"
    if code := re.search("<Code>([^<]*)</Code>", text):
        message = re.search("<Message>([^<]*)</Message>", text)
        return f"{code[1]}: {message[1]}" if message else code[1]
    if status := re.search("status code: ([0-9]+ [A-Za-z ]*)", text):
        return f"it answered {status[1].strip()}"
    if cause := re.search('(?:message|error): "([^"]*)"', text):
        return cause[1]
    if "TimedOut" in text:
        return "no answer in time"
    return text.partition("\n")[0].rpartition(" - ")[2].partition("?")[0]


# --- from a URL ---


def open_objects(named: str, environment: Mapping[str, str]) -> tuple[Objects, str]:
    """The store that a URL names, and the name of the object.

    Credentials come from the environment of the process, which the library reads by itself.
    Raises: ValueError with the reason.
    """
    url = urlsplit(named)
    key = unquote(url.path.removeprefix("/"))
    query = _query(url)
    if not url.hostname or url.netloc != url.hostname:
        raise ValueError(
            f"{url.scheme}://BUCKET/KEY has a bucket in lower case, and neither user, password nor port;"
            " credentials come from the environment"
        )
    if any(part in ("", ".", "..") for part in key.split("/")) or url.fragment:
        raise ValueError(f"{url.scheme}://{url.hostname}/KEY has no KEY that can name an object")
    try:
        return Objects(_store(url, query, environment), f"{url.scheme}://{url.netloc}"), key
    except BaseError as error:
        raise ValueError(_why(error, str(error))) from None


def _query(url: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(url.query, keep_blank_values=True)
    allowed = _QUERY[url.scheme]
    for name, value in pairs:
        if name not in allowed or not value:
            raise ValueError(
                f"after {url.scheme}://BUCKET/KEY? stands {name!r}. Allowed, with a value:"
                f" {', '.join(sorted(allowed)) or 'nothing'}. Credentials come from the environment"
            )
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"in {url.scheme}://BUCKET/KEY?… something stands twice")
    return dict(pairs)


def _store(
    url: SplitResult, query: Mapping[str, str], environment: Mapping[str, str]
) -> ObjectStore:
    bucket = url.netloc
    if url.scheme == "gs":
        return GCSStore(bucket, client_options=_LIMITS, retry_config=_RETRIES)
    if url.scheme == "az":
        account: AzureConfig = {"account_name": query["account"]} if "account" in query else {}
        return AzureStore(bucket, config=account, client_options=_LIMITS, retry_config=_RETRIES)
    endpoint = _endpoint(query.get("endpoint", ""), environment)
    config: S3Config = {"region": query["region"]} if "region" in query else {}
    if endpoint:
        config["endpoint"] = endpoint
    limits: ClientConfig = {**_LIMITS, "allow_http": endpoint.startswith("http:")}
    return S3Store(bucket, config=config, client_options=limits, retry_config=_RETRIES)


def _endpoint(named: str, environment: Mapping[str, str]) -> str:
    """Where the store answers, "" for the cloud's own place. Raises: ValueError."""
    given = next((environment[name] for name in _ENDPOINTS if environment.get(name)), "")
    if named and given and named.rstrip("/") != given.rstrip("/"):
        raise ValueError(
            f"it names the endpoint {named}, the environment {given}: a file must not be able to send"
            " credentials elsewhere"
        )
    endpoint = named or given
    url = urlsplit(endpoint)
    if endpoint and (url.scheme not in ("http", "https") or "@" in url.netloc):
        raise ValueError(f"the endpoint {url.scheme}://… is no https:// address")
    if url.scheme == "http" and not stays_here(url.hostname or ""):
        raise ValueError(
            f"the endpoint {endpoint} is not encrypted; http:// is for this host alone"
        )
    return endpoint
