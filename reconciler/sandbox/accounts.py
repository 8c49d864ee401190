"""What can be done to accounts, once it is clear that the caller may.

Each operation takes the stored record and the body's `data`, and answers; what the platform does
in the background waits in `settle`. Source: docs/platform.md 3, 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from reconciler.sandbox import rules
from reconciler.sandbox.records import Ids, Record
from reconciler.sandbox.wire import Answer, Errors, system_error, validation_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.options import SandboxOptions
    from reconciler.sandbox.store import Store

ID_LENGTH: Final = 32
TRIAL_SECONDS: Final = 14 * 24 * 3600
"""Source: docs/platform.md 3.3, the last sentence."""

_NEVER_KEPT: Final = (*rules.EMPTY_BY_DEFAULT, "enabled", "name", "realm", "timezone")
"""Fields in which a PATCH's `null` works in both dialects. Source: docs/platform.md 3.7."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is. owner_id: the user, if one logged in and not a mere API key."""

    account_id: str
    owner_id: str | None
    superduper: bool

    def may_touch(self, record: Record) -> bool:
        """Whether an account is the caller's own or below it. Source: docs/platform.md 2.5."""
        return self.superduper or self.account_id in (record.id, *record.tree)


class Accounts:
    """The operations on the accounts of one store."""

    def __init__(
        self, store: Store, options: SandboxOptions, clock: Callable[[], float], ids: Ids
    ) -> None:
        self.mails: list[str] = []
        self._store = store
        self._options = options
        self._clock = clock
        self._ids = ids
        self._recount: list[str] = []

    # --- the document in answers: 3.3 ---

    def reseller_of(self, record: Record) -> str:
        """Name the nearest reseller above an account, the master if there is none."""
        for ancestor in reversed(record.tree):
            above = self._store.get(ancestor)
            if above is not None and above.is_reseller:
                return ancestor
        return self._store.root_id

    def shown(self, record: Record, caller: Caller) -> JsonObject:
        """Put the document together as this caller sees it."""
        reseller = self.reseller_of(record)
        document: JsonObject = {
            **record.document,
            "id": record.id,
            "created": record.created,
            "enabled": record.enabled,
            "is_reseller": record.is_reseller,
            "reseller_id": reseller,
            "superduper_admin": record.superduper,
            "wnm_allow_additions": False,
            "billing_mode": self._billing_mode(reseller, caller),
            "notification_preference": record.notification_preference,
            "trial_time_left": None,
        }
        if record.trial_until is not None:
            document["trial_time_left"] = max(0, record.trial_until - int(self._clock()))
        for key in ("notification_preference", "trial_time_left"):
            if document[key] is None:
                del document[key]
        return document

    def _billing_mode(self, reseller: str, caller: Caller) -> str:
        if reseller == caller.account_id:
            return "limits_only"
        return "normal" if reseller == self._store.root_id else "manual"

    def read(self, record: Record, caller: Caller, *, with_key: bool) -> Answer:
        """Show an account."""
        document = self.shown(record, caller)
        if with_key:
            document["api_key"] = record.api_key
        return _document_answer(record, document)

    # --- create: 3.4 ---

    def create(self, parent: Record, caller: Caller, data: JsonObject, *, mail: bool) -> Answer:
        """Make an account below `parent`; or, with the id of another account, destroy that one."""
        sent = rules.public(data)
        document = self._completed(sent, rules.DEFAULT_TIMEZONE)
        result = rules.checked(document)
        errors = rules.both(rules.null_errors(sent), self._taken(document, None))
        errors = rules.both(errors, result.errors)
        if errors:
            raise validation_error(errors)
        account_id = self._chosen_id(sent)
        existing = self._store.get(account_id)
        if existing is not None:
            shown = self.shown(existing, caller)
            self._remove(existing)
            return Answer(shown, status=201)
        record = self._new_record(account_id, parent, caller, result.document)
        self._store.put(record)
        self._recount.append(parent.id)
        if mail and self._options.log_requests:
            self.mails.append(record.id)
        return Answer(self.shown(record, caller), status=201)

    def _chosen_id(self, sent: JsonObject) -> str:
        """Take the id from the body if there is one, however unwise that is."""
        if "id" not in sent:
            account_id = self._ids.hex(ID_LENGTH)
            while account_id in self._store:
                account_id = self._ids.hex(ID_LENGTH)
            return account_id
        chosen = sent["id"]
        if not isinstance(chosen, str) or len(chosen) != ID_LENGTH:
            raise system_error(500, "unspecified_fault")
        return chosen

    def _new_record(
        self, account_id: str, parent: Record, caller: Caller, document: JsonObject
    ) -> Record:
        stored = {key: value for key, value in document.items() if key != "enabled"}
        trial = stored.get("is_trial_account") is True
        if trial:
            del stored["is_trial_account"]
        now = int(self._clock())
        record = Record(
            id=account_id,
            document=stored,
            tree=(*parent.tree, parent.id),
            created=now + rules.GREGORIAN_EPOCH,
            revision=self._revision(1),
            api_key=self._ids.hex(64),
            enabled=self._enabled_at_birth(parent, caller, document),
            trial_until=now + TRIAL_SECONDS if trial else None,
        )
        reseller = self._store.get(self.reseller_of(record))
        return replace(
            record,
            stored_reseller=reseller.id if reseller else self._store.root_id,
            notification_preference=reseller.notification_preference if reseller else None,
        )

    def _enabled_at_birth(self, parent: Record, caller: Caller, document: JsonObject) -> bool:
        """Decide `enabled` of a new account: hardly ever what was sent. Source: 3.4."""
        if self._options.dialect == "head" and parent.id != caller.account_id:
            return document.get("enabled", True) is True
        return parent.enabled

    # --- update: 3.5 to 3.7 ---

    def patch(self, record: Record, caller: Caller, data: JsonObject) -> Answer:
        """Merge into the stored document, and save the result if it is valid as a whole."""
        change = rules.public(data)
        release = self._options.dialect == "release"
        document = rules.merged(record.document, change, null_removes=release)
        for key in _NEVER_KEPT:
            if key in change and change[key] is None:
                document.pop(key, None)
        return self._update(record, caller, self._completed(document, self._zone_above(record)), {})

    def post(self, record: Record, caller: Caller, data: JsonObject) -> Answer:
        """Replace the document (`release`), or merge into it in a way of its own (`head`)."""
        sent = rules.public(data)
        document = sent
        if self._options.dialect == "head":
            remade = (*rules.EMPTY_BY_DEFAULT, "realm", "timezone")
            kept = {k: v for k, v in record.document.items() if k in sent or k not in remade}
            document = rules.merged(kept, sent, null_removes=False)
        completed = self._completed(document, rules.DEFAULT_TIMEZONE)
        return self._update(record, caller, completed, rules.null_errors(sent))

    def _update(
        self, record: Record, caller: Caller, document: JsonObject, nulls: Errors
    ) -> Answer:
        """Save a completed document if nothing is wrong with it; in `head`, now and then if it is.

        `head` writes as soon as the schema passes, whatever realm and name say (5.2), and a
        second time at the end.
        """
        result = rules.checked(document)
        schema_errors = rules.both(nulls, result.errors)
        errors = rules.both(schema_errors, self._taken(document, record.id))
        if self._options.dialect == "head" and not schema_errors:
            record = self._save(record, caller, result.document)
        if errors:
            raise validation_error(errors)
        record = self._save(record, caller, result.document)
        return _document_answer(record, self.shown(record, caller))

    def _save(self, record: Record, caller: Caller, document: JsonObject) -> Record:
        """Write an existing account. `enabled` counts only from above, and is true if not sent."""
        stored = {key: value for key, value in document.items() if key != "enabled"}
        enabled = record.enabled
        if caller.account_id in record.tree:
            enabled = document.get("enabled", True) is True
        return self._written(replace(record, document=stored, enabled=enabled))

    def _completed(self, document: JsonObject, timezone: str) -> JsonObject:
        """Fill in realm, time zone and defaults. `timezone`: what stands in for an absent one."""
        result = rules.with_defaults(document)
        realm = result.get("realm")
        if "realm" not in result:
            result["realm"] = f"{self._ids.hex(6)}.{rules.RANDOM_REALM_SUFFIX}"
        elif isinstance(realm, str):
            result["realm"] = rules.stored_realm(realm)
        if result.get("timezone", "inherit") == "inherit":
            result["timezone"] = timezone
        return result

    def _zone_above(self, record: Record) -> str:
        parent = self._store.get(record.tree[-1]) if record.tree else None
        zone = parent.document.get("timezone") if parent is not None else None
        return zone if isinstance(zone, str) else rules.DEFAULT_TIMEZONE

    def _taken(self, document: JsonObject, own_id: str | None) -> Errors:
        """Look for another account with this realm or name: on the views, so with their lag."""
        errors: Errors = {}
        realm, name = document.get("realm"), document.get("name")
        if isinstance(realm, str) and any(
            other != own_id for other in self._store.views.with_realm(realm)
        ):
            errors.update(rules.uniqueness_error("realm", realm))
        if (
            self._options.unique_names
            and isinstance(name, str)
            and any(other != own_id for other in self._store.views.with_name(name))
        ):
            errors.update(rules.uniqueness_error("name", name))
        return errors

    # --- delete: 3.10 ---

    def delete(self, record: Record, caller: Caller) -> Answer:
        """Delete an account that has nothing below it."""
        if self._store.count_descendants(record.id):
            raise system_error(500, "account_has_descendants")
        shown = self.shown(record, caller)
        self._remove(record)
        return _document_answer(record, {**shown, "_read_only": {"deleted": True}})

    def _remove(self, record: Record) -> None:
        self._store.delete(record.id)
        if record.tree:
            self._recount.append(record.tree[-1])

    # --- resellers: 3.8 ---

    def promote(self, record: Record, caller: Caller) -> Answer:
        """Make an account a reseller, and with it the reseller of all below."""
        if self._changes_reseller(record, caller, wanted=True):
            record = self._written(replace(record, is_reseller=True))
            self._hand_down(record, record.id)
        return replace(_document_answer(record, self.shown(record, caller)), status=201)

    def demote(self, record: Record, caller: Caller) -> Answer:
        """Make a reseller an ordinary account again; those below get the reseller above."""
        if self._changes_reseller(record, caller, wanted=False):
            record = self._written(replace(record, is_reseller=False))
            self._hand_down(record, self.reseller_of(record))
        shown = self.shown(record, caller)
        return _document_answer(record, {**shown, "_read_only": {"deleted": True}})

    def _changes_reseller(self, record: Record, caller: Caller, *, wanted: bool) -> bool:
        """Whether there is anything to do. Raises: RefusedError if it must not be done."""
        if not caller.superduper or record.id == self._store.root_id:
            raise system_error(403, "forbidden")
        if any(below.is_reseller for below in self._store.descendants(record.id)):
            raise system_error(500, "account_has_descendants")
        return record.is_reseller is not wanted

    def _hand_down(self, record: Record, reseller: str) -> None:
        """Note a reseller in the services records of all below; equal ones are not written."""
        for below in self._store.descendants(record.id):
            if below.stored_reseller != reseller:
                self._written(replace(below, stored_reseller=reseller))

    # --- move: 3.9 ---

    def move(self, record: Record, caller: Caller, data: JsonObject) -> Answer:
        """Hang an account, with all below it, under another parent, be it there or not."""
        target_id = data.get("to")
        target = self._store.get(target_id) if isinstance(target_id, str) else None
        if not self._may_move(record, caller, target):
            raise system_error(403, "forbidden")
        if target_id is None:
            message = "Field 'to' is required"
            raise validation_error({"to": {"required": {"message": message}}})
        if not isinstance(target_id, str):
            message = "Value did not match type(s): string"
            raise validation_error({"to": {"type": {"message": message, "target": "string"}}})
        if target is not None and record.id in (target.id, *target.tree):
            raise system_error(403, "forbidden")
        if record.id in {target_id, self._store.root_id}:
            raise system_error(403, "forbidden")
        tree = (*(target.tree if target is not None else ()), target_id)
        reseller = self.reseller_of(target) if target is not None else self._store.root_id
        below = list(self._store.descendants(record.id))
        old_depth = len(record.tree)
        record = self._written(replace(record, tree=tree, stored_reseller=reseller))
        for moved in below:
            new_tree = (*tree, *moved.tree[old_depth:])
            self._written(replace(moved, tree=new_tree, stored_reseller=reseller))
        return _document_answer(record, self.shown(record, caller))

    def _may_move(self, record: Record, caller: Caller, target: Record | None) -> bool:
        if self._options.allow_move == "superduper_admin":
            return caller.superduper
        return caller.account_id in record.tree and (target is None or caller.may_touch(target))

    # --- the rest ---

    def renew_api_key(self, record: Record, caller: Caller) -> Answer:
        """Make a new API key. The next write to the account brings the old one back (3.1)."""
        if caller.owner_id is None:
            raise system_error(403, "forbidden")
        old = record.old_api_key if record.old_api_key is not None else record.api_key
        renewed = replace(record, api_key=self._ids.hex(64), old_api_key=old)
        self._store.put(renewed)
        return Answer({"api_key": renewed.api_key}, status=201)

    def above(self, record: Record, caller: Caller) -> list[Record]:
        """List the ancestors from the caller's account down, outermost first."""
        tree = record.tree
        if caller.account_id == record.id:
            return []
        if caller.account_id in tree:
            tree = tree[tree.index(caller.account_id) :]
        return [above for account_id in tree if (above := self._store.get(account_id))]

    def occur(self, record: Record) -> None:
        """Let happen to an account what happens to it by itself (3.11)."""
        known = record.document.get("notifications")
        low = known.get("low_balance") if isinstance(known, dict) else None
        sent = low.get("sent_low_balance") is True if isinstance(low, dict) else False
        moment: JsonValue = None if sent else int(self._clock()) + rules.GREGORIAN_EPOCH
        change: JsonObject = {
            "notifications": {
                "low_balance": {"sent_low_balance": not sent, "last_notification": moment},
                "first_occurrence": {"sent_initial_call": True, "sent_initial_registration": True},
            }
        }
        document = rules.merged(record.document, change, null_removes=True)
        self._written(replace(record, document=document))

    def settle(self) -> None:
        """Do what the platform does in the background: count again what is below parents."""
        while self._recount:
            parent = self._store.get(self._recount.pop())
            if parent is not None:
                count = self._store.count_descendants(parent.id)
                document = {**parent.document, "descendants_count": count}
                self._written(replace(parent, document=document))

    def _written(self, record: Record) -> Record:
        """Keep a changed record under a new revision."""
        old = record.old_api_key
        record = replace(
            record,
            revision=self._revision(int(record.revision.partition("-")[0]) + 1),
            api_key=record.api_key if old is None else old,
            old_api_key=None,
        )
        self._store.put(record)
        return record

    def _revision(self, number: int) -> str:
        return f"{number}-{self._ids.hex(32)}"


def _document_answer(record: Record, document: JsonObject) -> Answer:
    return Answer(document, revision=record.revision, headers={"ETag": f'"{record.revision}"'})
