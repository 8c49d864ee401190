"""The platform: one request in, one answer out, by whatever way it came.

`Platform.handle` is the whole of it: faults around `_answered`, which makes the platform's checks
in the platform's order and then calls one operation. Source: docs/platform.md 1.5, 2, 3.1.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from reconciler.sandbox import lists, rules
from reconciler.sandbox.accounts import ID_LENGTH, Accounts, Caller
from reconciler.sandbox.faults import Fault, Faults, spoilt_answer
from reconciler.sandbox.login import Logins
from reconciler.sandbox.options import BASE_PATH, ROOT_API_KEY, ROOT_ID, ROOT_NAME, ROOT_REALM
from reconciler.sandbox.records import Ids, Record
from reconciler.sandbox.seed import seeded
from reconciler.sandbox.store import Store
from reconciler.sandbox.tokens import Buckets, Tokens
from reconciler.sandbox.views import Views
from reconciler.sandbox.wire import (
    Answer,
    Body,
    RefusedError,
    Request,
    Response,
    Trace,
    failure,
    read_body,
    success,
    system_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.options import SandboxOptions

_LOGINS: Final = ("api_auth", "user_auth")
_SECRETS: Final = ("api_key", "credentials", "auth_token")
_BODY_METHODS: Final = ("PUT", "POST", "PATCH")

_FAULT_SYMBOLS: Final[Mapping[int, str]] = {
    401: "invalid_credentials",
    403: "forbidden",
    404: "not_found",
    409: "datastore_conflict",
    429: "too_many_requests",
    503: "datastore_fault",
}
"""Status of a fault -> the symbol that the platform would send with it; else a plain 500's."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One request as it was answered. `body`: its data, without credentials."""

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    body: JsonObject


@dataclass(slots=True)
class Call:
    """A request on its way through the checks, which fill in what they find out.

    stale: a node answers that has not heard yet of the account's last write.
    """

    request: Request
    body: Body
    request_id: str
    method: str
    stale: bool = False
    token: str | None = None
    remaining: int | None = None
    caller: Caller | None = None

    def option(self, name: str) -> JsonValue:
        """Look an option up where the platform does: data, query, envelope (1.3)."""
        for place in (self.body.data, self.request.query, self.body.envelope):
            if name in place:
                return place[name]
        return None

    def known_caller(self) -> Caller:
        """Whose call it is. Raises: RefusedError if nobody said."""
        if self.caller is None:
            raise system_error(401, "invalid_credentials")
        return self.caller


class Platform:
    """A whole platform in memory, and in a file if the options name one.

    clock: Unix seconds, for tokens, rate limits, view lag and dates. log, mails: what happened,
    if the options ask for it. Whoever makes a platform closes it.
    """

    def __init__(self, options: SandboxOptions, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.clock = clock
        self.log: list[LogEntry] = []
        self.faults = Faults(options.faults)
        self.store = Store(options.data, Views(clock, options.view_lag_ms / 1000))
        ids = _set_up(self.store, options, clock)
        self.accounts = Accounts(self.store, options, clock, ids)
        self.tokens = Tokens(self.store.setting("secret") or "", options.token_life, clock)
        self.tokens.generation = int(self.store.setting("generation") or "0")
        self._logins = Logins(self.store, self.tokens, self.accounts)
        self._buckets = Buckets(clock)
        self._operations = self._table()

    @property
    def mails(self) -> list[str]:
        """Ids of the accounts that a welcome mail was sent for."""
        return self.accounts.mails

    def expire_tokens(self) -> None:
        """Make every token of so far count as expired."""
        self.tokens.generation += 1
        self.store.set_setting("generation", str(self.tokens.generation))

    def close(self) -> None:
        """Let go of the data file."""
        self.store.close()

    async def handle(self, request: Request) -> Response:
        """Answer one request, in good or bad weather."""
        if self.options.latency_ms:
            await asyncio.sleep(self.options.latency_ms / 1000)
        path = request.path.removeprefix(BASE_PATH)
        struck = self.faults.struck(request.method, path, self.clock())
        for fault in struck:
            if fault.phase == "before":
                spoilt = await self._struck(fault, request, None)
                if spoilt is not None:
                    return spoilt
        stale = any(fault.stale for fault in struck)
        response = self._respond(_mistaken(request, struck), stale=stale)
        for fault in struck:
            if fault.phase != "before":
                response = await self._struck(fault, request, response) or response
            response = spoilt_answer(fault, response)
        return response

    # --- faults ---

    async def _struck(
        self, fault: Fault, request: Request, response: Response | None
    ) -> Response | None:
        """Let a fault happen; answer what it makes of the response, None if that stays."""
        if fault.delay_ms:
            await asyncio.sleep(fault.delay_ms / 1000)
        if fault.expire_tokens:
            self.expire_tokens()
        if fault.occur:
            self._occur(request)
        status = 429 if fault.bucket is not None else fault.status
        if status is not None:
            response = spoilt_answer(fault, self._replaced(fault, status, request))
        elif response is None and (fault.drop or fault.truncate is not None):
            response = Response(200, {}, b"")
        if response is None:
            return None
        if fault.drop:
            return replace(response, dropped=True)
        if fault.phase == "mid" or fault.truncate is not None:
            half = len(response.body) // 2
            cut = half if fault.truncate is None else fault.truncate
            return replace(response, truncated=cut)
        return response

    def _replaced(self, fault: Fault, status: int, request: Request) -> Response:
        """Make the answer that a fault puts in place of the platform's."""
        if status in {502, 504} and fault.body is None:
            page = f"<html><body><h1>{status} Bad Gateway</h1></body></html>".encode()
            return Response(status, {"Content-Type": "text/html"}, page)
        refused = system_error(status, _FAULT_SYMBOLS.get(status, "unspecified_fault"))
        trace = Trace(_request_id(request), self.clock())
        response = failure(refused, trace, self.options.error_format)
        headers = dict(response.headers)
        if fault.content_type is not None:
            headers["Content-Type"] = fault.content_type
        body = fault.answer_body()
        return Response(status, headers, response.body if body is None else body)

    def _occur(self, request: Request) -> None:
        for segment in _segments(request.path):
            record = self.store.get(segment)
            if record is not None:
                self.accounts.occur(record)

    # --- one answer ---

    def _respond(self, request: Request, *, stale: bool) -> Response:
        """Carry a request out and wrap what comes of it."""
        body = read_body(request)
        call = Call(request, body, _request_id(request), request.method, stale=stale)
        verb = call.option("verb")
        if isinstance(verb, str):
            call.method = verb.upper()
        try:
            answer = self._answered(call)
        except RefusedError as refused:
            response = failure(refused, self._trace(call), self.options.error_format)
        except RecursionError:  # JSON may be nested deeper than Python's own stack reaches
            fault = system_error(500, "unspecified_fault")
            response = failure(fault, self._trace(call), self.options.error_format)
        else:
            response = success(answer, self._trace(call))
        self.accounts.settle()
        if self.options.log_requests:
            self._log(request, body, response.status)
        return response

    def _answered(self, call: Call) -> Answer:
        """Make the checks in the platform's order, then do what was asked.

        Raises: RefusedError.
        """
        first, account_id, last = _route(call.request.path)
        self._draw(call, account_id or "")
        if first in _LOGINS:
            return self._log_in(call, first)
        self._identify(call)
        operation = self._operation(call, account_id, last)
        record = self._target(call, account_id)
        caller = call.known_caller()
        if not caller.may_touch(record):
            raise system_error(403, "forbidden")
        if call.body.error is not None and call.request.method in _BODY_METHODS:
            raise call.body.error
        return operation(call, record, caller)

    def _draw(self, call: Call, account_id: str) -> None:
        if not self.options.rate_limit:
            return
        call.remaining = self._buckets.draw(call.request.client, account_id)
        if call.remaining is None:
            raise system_error(429, "too_many_requests")

    def _log_in(self, call: Call, kind: str) -> Answer:
        if call.method != "PUT":
            raise _wrong_method(("PUT",))
        if call.body.error is not None:
            raise call.body.error
        login = self._logins.api_auth if kind == "api_auth" else self._logins.user_auth
        call.token, answer = login(call.body.data)
        return answer

    def _identify(self, call: Call) -> None:
        """Find out who calls. Raises: RefusedError if a token was given that is no good."""
        token = _token(call)
        if token is None:
            return
        claims = self.tokens.claims(token)
        own = self.store.get(claims.account_id) if claims is not None else None
        if claims is None or own is None:
            raise RefusedError(401, "invalid credentials", {})
        call.token = token
        call.caller = Caller(own.id, claims.owner_id, own.superduper)

    def _operation(
        self, call: Call, account_id: str | None, last: str
    ) -> Callable[[Call, Record, Caller], Answer]:
        """Choose by path and method; the master account doesn't know DELETE."""
        offered = self._operations["" if account_id is None else last or "{id}"]
        found = offered.get(call.method)
        on_master = account_id == self.store.root_id and not last
        if found is None or (on_master and call.method == "DELETE"):
            raise _wrong_method(tuple(offered))
        return found

    def _target(self, call: Call, account_id: str | None) -> Record:
        """Find the account in the path; without one, the caller's own."""
        if account_id is None:
            account_id = call.known_caller().account_id
        if len(account_id) != ID_LENGTH:
            message = f"invalid account_id '{account_id}'"
            raise RefusedError(404, "bad identifier", {"message": message})
        record = self.store.get(account_id)
        if record is None:
            raise system_error(404, "bad_identifier", cause=account_id)
        return record

    def _trace(self, call: Call) -> Trace:
        return Trace(
            request_id=call.request_id,
            now=self.clock(),
            token=call.token,
            remaining=call.remaining,
            pretty=_is_true(call.option("pretty_print")),
        )

    def _log(self, request: Request, body: Body, status: int) -> None:
        data = {key: value for key, value in body.data.items() if key not in _SECRETS}
        query = {key: value for key, value in request.query.items() if key not in _SECRETS}
        path = request.path.removeprefix(BASE_PATH)
        self.log.append(LogEntry(request.method, path, query, status, data))

    # --- operations ---

    def _table(self) -> Mapping[str, Mapping[str, Callable[[Call, Record, Caller], Answer]]]:
        """List what is offered: last part of the path -> method -> operation. Source: 3.1."""
        accounts = self.accounts
        return {
            "": {"PUT": self._create},
            "{id}": {
                "GET": self._read,
                "PUT": self._create,
                "POST": lambda call, record, caller: accounts.post(record, caller, _data(call)),
                "PATCH": lambda call, record, caller: accounts.patch(record, caller, _data(call)),
                "DELETE": lambda _, record, caller: accounts.delete(record, caller),
            },
            "reseller": {
                "PUT": lambda _, record, caller: accounts.promote(record, caller),
                "DELETE": lambda _, record, caller: accounts.demote(record, caller),
            },
            "move": {
                "POST": lambda call, record, caller: accounts.move(record, caller, _data(call))
            },
            "children": {"GET": self._children},
            "descendants": {"GET": self._descendants},
            "siblings": {"GET": self._siblings},
            "tree": {"GET": self._tree},
            "parents": {"GET": self._parents},
            "api_key": {
                "GET": lambda _, record, __: Answer({"api_key": record.api_key}),
                "PUT": lambda _, record, caller: accounts.renew_api_key(record, caller),
            },
        }

    def _create(self, call: Call, record: Record, caller: Caller) -> Answer:
        """Create below the account in the path, or below the caller's own."""
        mail = not _is_false(call.option("send_email_on_creation"))
        answer = self.accounts.create(record, caller, _data(call), mail=mail)
        below_own = len(_segments(call.request.path)) == 1
        if below_own and isinstance(answer.data, dict):
            shown = {key: value for key, value in answer.data.items() if key != "reseller_id"}
            return replace(answer, data=shown)
        return answer

    def _read(self, call: Call, record: Record, caller: Caller) -> Answer:
        """Show an account; 304 if the client has this revision already."""
        if call.stale:
            record = self.store.before(record.id) or record
        asked = call.request.headers.get("if-none-match", "")
        tags = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
        if f'"{record.revision}"' in tags:
            return Answer(None, status=304, headers={"ETag": f'"{record.revision}"'})
        with_key = _is_true(call.option("include_api_key"))
        return self.accounts.read(record, caller, with_key=with_key)

    def _children(self, call: Call, record: Record, _: Caller) -> Answer:
        entries = self.store.views.children(record.id)
        options = lists.list_options(call.request.query)
        return lists.list_answer(self.store, record.id, entries, lists.child_row, options)

    def _descendants(self, call: Call, record: Record, _: Caller) -> Answer:
        entries = self.store.views.descendants(record.id)
        options = lists.list_options(call.request.query)
        return lists.list_answer(self.store, record.id, entries, lists.descendant_row, options)

    def _siblings(self, call: Call, record: Record, caller: Caller) -> Answer:
        """List all that have the same parent; those of the caller's own only for superduper."""
        if record.id == caller.account_id and not caller.superduper:
            raise system_error(403, "forbidden")
        entries = self.store.views.children(record.tree[-1]) if record.tree else ()
        options = lists.list_options(call.request.query)
        return lists.list_answer(self.store, record.id, entries, lists.child_row, options)

    def _tree(self, _: Call, record: Record, caller: Caller) -> Answer:
        """List the ancestors in no order that could be relied on: here by id."""
        above = sorted(self.accounts.above(record, caller), key=lambda each: each.id)
        return Answer([lists.ancestor_row(each) for each in above])

    def _parents(self, _: Call, record: Record, caller: Caller) -> Answer:
        return Answer([lists.ancestor_row(each) for each in self.accounts.above(record, caller)])


# --- setting up ---


def _set_up(store: Store, options: SandboxOptions, clock: Callable[[], float]) -> Ids:
    """Make the master account and the secrets of a new store; open an old one again.

    Answers the row of ids for this opening, which no opening before has used.
    """
    opened = int(store.setting("opened") or "0") + 1
    store.set_setting("opened", str(opened))
    seed = options.seed if options.seed is not None else secrets.token_hex(16)
    ids = Ids(f"{seed}:{opened}")
    if store.root_id:
        root = store.get(store.root_id)
        if root is not None and root.superduper is not options.superduper:
            store.put(replace(root, superduper=options.superduper))
        return ids
    store.set_setting("root_id", ROOT_ID)
    store.set_setting("secret", secrets.token_hex(32))
    document: JsonObject = {
        **rules.with_defaults({}),
        "name": ROOT_NAME,
        "realm": ROOT_REALM,
        "timezone": rules.DEFAULT_TIMEZONE,
    }
    root = Record(
        id=ROOT_ID,
        document=document,
        tree=(),
        created=int(clock()) + rules.GREGORIAN_EPOCH,
        revision=f"1-{ids.hex(32)}",
        api_key=ROOT_API_KEY,
        is_reseller=True,
        stored_reseller=ROOT_ID,
        superduper=options.superduper,
        notification_preference="teletype",
    )
    store.put_new(seeded(root, options.seed_accounts, ids))
    return ids


# --- faults ---


def _mistaken(request: Request, struck: list[Fault]) -> Request:
    """The request that the platform takes this one for."""
    for fault in struck:
        path = request.path if fault.as_path is None else BASE_PATH + fault.as_path
        request = replace(request, path=path, query={**request.query, **fault.as_query})
    return request


# --- reading requests ---


def _route(path: str) -> tuple[str, str | None, str]:
    """Take a path apart: what it begins with, the account's id, what is asked of that account.

    Raises: RefusedError if there is nothing at this path.
    """
    if path == "/v1" or path.startswith("/v1/"):
        raise system_error(410, "gone")
    segments = _segments(path)
    match segments:
        case ["api_auth" | "user_auth" as login]:
            return login, None, ""
        case ["accounts"]:
            return "accounts", None, ""
        case ["accounts", account_id]:
            return "accounts", account_id, ""
        case ["accounts", account_id, last] if last in _BELOW_ACCOUNT:
            return "accounts", account_id, last
        case ["accounts", *_]:
            raise system_error(404, "not_found")
        case _:
            raise RefusedError(404, "", None)


_BELOW_ACCOUNT: Final = frozenset(
    {"api_key", "children", "descendants", "move", "parents", "reseller", "siblings", "tree"}
)


def _segments(path: str) -> list[str]:
    """Split the part of a path below the base; a slash at its end counts for nothing."""
    if not path.startswith(BASE_PATH + "/"):
        return []
    return [unquote(part) for part in path.removeprefix(BASE_PATH + "/").rstrip("/").split("/")]


def _token(call: Call) -> str | None:
    """Find the token in any of the places where the platform takes one (1.2)."""
    headers = call.request.headers
    if "x-auth-token" in headers:
        return headers["x-auth-token"]
    if "authorization" in headers:
        return headers["authorization"].removeprefix("Bearer ")
    token = call.option("auth_token")
    return token if isinstance(token, str) else None


def _data(call: Call) -> JsonObject:
    """Take the body's data; `start_key` is the one option that the platform takes out of it."""
    return {key: value for key, value in call.body.data.items() if key != "start_key"}


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id") or secrets.token_hex(16)


def _wrong_method(offered: tuple[str, ...]) -> RefusedError:
    refused = system_error(405, "invalid_method")
    refused.headers["Allow"] = ", ".join(offered)
    return refused


def _is_true(value: JsonValue) -> bool:
    return value in (True, "true")


def _is_false(value: JsonValue) -> bool:
    return value in (False, "false")
