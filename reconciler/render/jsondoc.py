"""Values to the JSON of section "JSON" in docs/formats.md. Same inputs, same bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from reconciler import __version__
from reconciler.core import diff
from reconciler.core.danger import dangers
from reconciler.core.graph import Action
from reconciler.core.groups import groups
from reconciler.core.masking import masked, open_side
from reconciler.core.values import ABSENT, JsonObject, JsonValue, address, dotted
from reconciler.render import safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.configuration import Declared
    from reconciler.core.danger import Danger
    from reconciler.core.diff import FieldChange, Side
    from reconciler.core.drift import Accepted, Drift, Unmanaged
    from reconciler.core.graph import Operation
    from reconciler.core.groups import Group
    from reconciler.core.outcome import Result
    from reconciler.core.plan import Change, Plan
    from reconciler.core.recovery import Unfinished
    from reconciler.core.state import State
    from reconciler.core.values import Diagnostic
    from reconciler.core.variables import Variable

ORDER: Final = (
    Action.CREATE,
    Action.PROMOTE,
    Action.UPDATE,
    Action.DEMOTE,
    Action.MOVE,
    Action.ADOPT,
    Action.FORGET,
    Action.DELETE,
)
"""The order in which actions are counted."""


def dumps(document: JsonObject) -> str:
    """The document as text, indented, with a newline at its end.

    What a terminal or a CI host would obey stands as JSON's own escape: the values are the same.
    """
    return safe.json_text(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def plan(
    plan: Plan,
    *,
    command: str = "plan",
    results: Sequence[Result] | None = None,
) -> JsonObject:
    """A plan, and with `results` what came of it."""
    document = _head(command, plan.state)
    document["digest"] = plan.digest
    document["complete"] = plan.complete
    document["refreshed"] = plan.refreshed
    document["summary"] = {
        **{action.value: plan.count(action) for action in ORDER},
        "no_op": plan.unchanged,
        "drift": sum(change.drift for change in plan.changes),
    }
    document["effects"] = {
        effect: {"accounts": found.accounts, "resellers": found.resellers}
        for effect, found in plan.effects.items()
    }
    document["changes"] = [_change(change) for change in plan.changes]
    document["groups"] = [_group(group) for group in groups(plan.changes)]
    document["known"] = _known(plan.known)
    document["dangerous"] = [_danger(danger) for danger in dangers(plan)]
    document["intents"] = [_unfinished(unfinished) for unfinished in plan.unfinished]
    document["operations"] = [_operation(operation, plan.state) for operation in plan.operations]
    document["refusals"] = [
        {"rule": refusal.rule, "detail": refusal.detail} for refusal in plan.refusals
    ]
    document["diagnostics"] = [diagnostic(found) for found in plan.diagnostics]
    if results is not None:
        document["results"] = [_result(result) for result in results]
    return document


def drift(found: Drift) -> JsonObject:
    """What was changed outside: `before` is what was applied, `after` what is live."""
    document = _head("drift", found.state)
    document["summary"] = {
        **{action.value: 0 for action in ORDER},
        "no_op": len(found.unchanged),
        "drift": len(found.changes),
        "unmanaged": len(found.unmanaged),
        "known": len(found.known),
    }
    document["changes"] = [{**_change(change), **_traces(change)} for change in found.changes]
    document["unmanaged"] = [_stranger(one) for one in found.unmanaged]
    document["known"] = _known(found.known)
    document["diagnostics"] = [diagnostic(one) for one in found.diagnostics]
    return document


def accepted(found: Sequence[Accepted]) -> JsonObject:
    """What the YAML says by now."""
    leaves: list[JsonValue] = [
        {
            "address": address(one.key),
            **_field(one.field),
            "file": one.source.file,
            "line": one.source.line,
        }
        for one in found
    ]
    return answer("drift", {"accepted": leaves})


def _traces(change: Change) -> JsonObject:
    """When it was changed, as far as the platform tells."""
    record, live = change.record, change.live
    return {
        "applied_at": (record.updated_at or None) if record else None,
        "applied_revision": (record.etag or None) if record else None,
        "revision": (live.revision or None) if live else None,
        "created": (live.created_at or None) if live else None,
        "request_id": (live.request_id or None) if live else None,
    }


def _stranger(found: Unmanaged) -> JsonObject:
    account = found.account
    return {
        "id": account.id,
        "name": account.name,
        "realm": account.document.get("realm"),
        "parent": found.parent,
        "reseller": account.reseller,
        "created": account.created_at or None,
        "revision": account.revision or None,
        "request_id": account.request_id or None,
    }


def _known(changes: Sequence[Change]) -> list[JsonValue]:
    """Known drift, a leaf each."""
    return [
        {
            "address": change.address,
            "id": change.id,
            "name": change.name,
            **_field(field),
            "reason": field.known.reason,
            "until": f"{field.known.until}",
        }
        for change in changes
        for field in (change.known or change.fields)
        if field.known is not None
    ]


def resolved(declared: Declared, variables: Mapping[str, Variable]) -> JsonObject:
    """An account as it is declared, all layers merged, and where each value comes from."""
    fields: list[JsonObject] = [
        {
            "path": dotted(field.path),
            "value": _side(field.after),
            "sensitive": field.sensitive,
            "source": _origin(field, variables),
        }
        for field in diff.resolved(declared)
    ]
    return {
        "format_version": "1",
        "command": "show",
        "tool": f"reconciler {__version__}",
        "address": declared.address,
        "parent": declared.parent,
        "id": declared.id,
        "fields": [*fields],
    }


def _origin(field: FieldChange, variables: Mapping[str, Variable]) -> JsonValue:
    if field.source is None:
        return None
    place = field.source
    document: JsonObject = {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "from": field.origin,
    }
    if named := variables_in(field.origin):
        document["given_by"] = {name: variables[name].given_by for name in named}
    return document


def variables_in(origin: str) -> list[str]:
    """The variables that an origin names."""
    return origin.removeprefix("variable ").split(", ") if origin.startswith("variable ") else []


def validation(diagnostics: Sequence[Diagnostic]) -> JsonObject:
    """The outcome of `validate`."""
    return {
        "format_version": "1",
        "command": "validate",
        "tool": f"reconciler {__version__}",
        "valid": not any(found.severity == "error" for found in diagnostics),
        "diagnostics": [diagnostic(found) for found in diagnostics],
    }


def answer(command: str, keys: JsonObject) -> JsonObject:
    """The outcome of a small command: `keys`, and which command it is."""
    return {"format_version": "1", "command": command, **keys}


def failure(command: str, diagnostics: Sequence[Diagnostic]) -> JsonObject:
    """A command that ended before it had anything to show."""
    document = validation(diagnostics)
    document["command"] = command
    return document


def diagnostic(found: Diagnostic) -> JsonObject:
    """One diagnostic."""
    source = found.source
    return {
        "severity": found.severity,
        "summary": found.summary,
        "detail": found.detail,
        "address": found.address,
        "path": found.path,
        "file": source.file if source else None,
        "line": source.line if source else None,
        "column": source.column if source else None,
    }


def _head(command: str, state: State) -> JsonObject:
    return {
        "format_version": "1",
        "command": command,
        "tool": f"reconciler {__version__}",
        "lineage": state.lineage or None,
        "serial": state.serial,
    }


def _change(change: Change) -> JsonObject:
    return {
        "address": change.address,
        "id": change.id,
        "name": change.name,
        "parent": change.parent,
        "actions": [action.value for action in change.actions],
        "drift": change.drift,
        "reason": change.reason,
        "fields": [_field(field) for field in change.fields],
    }


def _group(group: Group) -> JsonObject:
    return {
        "path": dotted(group.field.path),
        "op": group.field.op,
        "before": _side(group.field.before),
        "after": _side(group.field.after),
        "sensitive": group.field.sensitive,
        "drift": group.field.drift,
        "count": len(group.keys),
        "resellers": {**group.resellers},
        "addresses": [address(key) for key in group.keys],
    }


def _unfinished(unfinished: Unfinished) -> JsonObject:
    return {
        "address": address(unfinished.key),
        "action": unfinished.action.value,
        "found": list(unfinished.found),
        "detail": unfinished.detail,
    }


def _danger(danger: Danger) -> JsonObject:
    document: JsonObject = {"address": address(danger.key), "what": danger.what}
    if danger.field is not None:
        document["path"] = dotted(danger.field.path)
    if danger.temporary:
        document["temporary"] = True
    return document


def _field(field: FieldChange) -> JsonObject:
    document: JsonObject = {
        "path": dotted(field.path),
        "op": field.op,
        "before": _side(field.before),
        "after": _side(field.after),
        "sensitive": field.sensitive,
    }
    if field.source is not None:
        document["source"] = {
            "file": field.source.file,
            "line": field.source.line,
            "from": field.origin,
        }
    return document


def _side(side: Side) -> JsonValue:
    shown = open_side(side)
    return None if shown is ABSENT else shown


def _operation(operation: Operation, state: State) -> JsonObject:
    document: JsonObject = {
        "n": operation.n,
        "address": address(operation.key),
        "action": operation.action.value,
        "method": operation.method,
        "path": operation.path,
        "body": masked(operation.body, state),
        "after": list(operation.after),
    }
    if operation.temporary:
        document["temporary"] = True
    return document


def _result(result: Result) -> JsonObject:
    document: JsonObject = {
        "address": address(result.key),
        "action": result.action.value,
        "status": result.status,
        "id": result.id,
        "error": result.error or None,
        "request_id": result.request_id or None,
    }
    if result.n is not None:
        document["n"] = result.n
    return document
