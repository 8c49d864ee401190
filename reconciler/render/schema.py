"""The JSON Schema (2020-12) of what `jsondoc` writes about plans, so that other tools can rely on it.

Objects are open: a reader must pass over keys that it does not know, since later versions add some.

Source: docs/formats.md, "JSON".
"""

from __future__ import annotations

from typing import Any, Final, get_args

from reconciler.core.danger import What
from reconciler.core.graph import Action
from reconciler.core.outcome import Status
from reconciler.render.jsondoc import ORDER

Schema = dict[str, Any]

_DESCRIPTION: Final = (
    "What `plan`, `apply`, `destroy`, `drift`, `validate` and `show PLANFILE` write with"
    " --format json, and any command that fails before it has anything to show."
)


def plan_schema() -> Schema:
    """What the documents about plans, drift and failures may hold."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reconciler, JSON",
        "description": _DESCRIPTION,
        "type": "object",
        "if": {"required": ["valid"]},
        "then": _ref("Validation"),
        "else": {
            "if": {"properties": {"command": {"const": "drift"}}},
            "then": {
                "if": {"required": ["changes"]},
                "then": _ref("Drift"),
                "else": _ref("Edit"),
            },
            "else": _ref("Plan"),
        },
        "$defs": dict(sorted({**_documents(), **_parts()}.items())),
    }


# --- words ------------------------------------------------------------------------------------

_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 1}
_NUMBER_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 1}
_DATE: Final[Schema] = {"type": "string", "format": "date"}
_ACTION: Final[Schema] = {"enum": [action.value for action in Action]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _told(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _object(properties: Schema, *optional: str, description: str) -> Schema:
    """An object that has all these keys but for the `optional` ones, and may have more."""
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


_LEAF: Final[Schema] = {
    "path": _told(_TEXT, 'settings.timezone; odd names as ["…"].'),
    "op": {"enum": ["add", "change", "remove"]},
    "before": {"description": "The value now; null if absent; (sensitive) if masked."},
    "after": {"description": "The value then; null if absent; (sensitive) if masked."},
    "sensitive": _FLAG,
}
_TRACES: Final[Schema] = dict.fromkeys(
    ("applied_at", "applied_revision", "revision", "created", "request_id"), _TEXT_OR_NULL
)

# --- documents --------------------------------------------------------------------------------


_HEAD: Final[Schema] = {
    "format_version": _told({"const": "1"}, "Rises when a key is removed or changes its meaning."),
    "command": _told(_TEXT, "Which command wrote it."),
    "tool": _told(_TEXT, "Name and version."),
}
_COMPARED: Final[Schema] = {
    **_HEAD,
    "lineage": _told(_TEXT_OR_NULL, "Of the state; null if there is none yet."),
    "serial": _told(_COUNT, "Of the state; 0 if there is none yet."),
    "summary": _ref("Summary"),
    "changes": _told(_list(_ref("Change")), "In order of key."),
    "known": _told(_list(_ref("Known")), "Known drift, which is left alone."),
    "diagnostics": _list(_ref("Diagnostic")),
}
_PLANNED: Final[Schema] = {
    **_COMPARED,
    "command": {"enum": ["plan", "apply", "destroy", "show"]},
    "digest": _told(_TEXT, "What `apply --plan-digest` takes."),
    "complete": _told(_FLAG, "false with --target: other addresses were not looked at."),
    "refreshed": _told(_FLAG, "false with --no-refresh."),
    "effects": _told(_map(_ref("Reach")), "Whom it affects, by effect class."),
    "groups": _told(_list(_ref("Group")), "Changes that several accounts have alike."),
    "dangerous": _told(_list(_ref("Danger")), "What can do harm that is hard to undo."),
    "intents": _told(_list(_ref("Intent")), "What an interrupted run left open."),
    "operations": _told(_list(_ref("Operation")), "The calls, in an order that would do."),
    "refusals": _told(_list(_ref("Refusal")), "Why it must not be applied."),
    "results": _told(_list(_ref("Result")), "What came of it; with apply and destroy."),
}


def _documents() -> Schema:
    drift = {"command": {"const": "drift"}}
    unmanaged = _told(_list(_ref("Unmanaged")), "With --unmanaged: all of them.")
    edited = {
        **_HEAD,
        **drift,
        "accepted": _list(_ref("Accepted")),
        "known": _told(_list(_TEXT), "Where the entries stand."),
    }
    return {
        "Plan": _object(_PLANNED, "results", description="A plan, and what came of it."),
        "Drift": _object(
            {**_COMPARED, **drift, "unmanaged": unmanaged},
            description="What was changed outside since the last apply.",
        ),
        "Edit": _object(
            edited,
            "tool",
            "accepted",
            "known",
            description="What `drift --accept` or `drift --snooze` wrote into the files.",
        ),
        "Validation": _object(
            {**_HEAD, "valid": _FLAG, "diagnostics": _list(_ref("Diagnostic"))},
            description="What is wrong with the files, or why a command could show nothing.",
        ),
    }


# --- what they are made of --------------------------------------------------------------------


def _parts() -> Schema:
    counted = {action.value: _COUNT for action in ORDER}
    return {
        "Summary": _object(
            {**counted, "no_op": _COUNT, "drift": _COUNT, "unmanaged": _COUNT, "known": _COUNT},
            "unmanaged",
            "known",
            description="How many addresses have each action, none, and were changed outside.",
        ),
        "Change": _object(
            {
                "address": _told(_TEXT, "accounts.KEY"),
                "id": _told(_TEXT_OR_NULL, "null for an account that is to be created."),
                "name": _TEXT,
                "parent": _told(_TEXT, "Key of the parent, `root`, or an id that has no key."),
                "actions": _list(_ACTION),
                "drift": _told(_FLAG, "Whether it was changed outside since the last apply."),
                "reason": _TEXT,
                "fields": _told(_list(_ref("Field")), "The leaves that differ."),
                **_TRACES,
            },
            *_TRACES,
            description="What happens to one address, or in drift what happened to it.",
        ),
        "Field": _object(
            {**_LEAF, "source": _ref("Source")},
            "source",
            description="A leaf that differs. In drift: `before` was applied, `after` is live.",
        ),
        "Source": _object(
            {
                "file": _TEXT,
                "line": _NUMBER,
                "from": _told(_TEXT, "account, default, template NAME, variable NAME, row, state."),
            },
            description="Where a declared value comes from.",
        ),
        **_calls(),
        **_findings(),
        **_many(),
        **_outside(),
    }


def _many() -> Schema:
    return {
        "Reach": _object(
            {"accounts": _COUNT, "resellers": _COUNT},
            description="So many accounts, below so many resellers.",
        ),
        "Group": _object(
            {
                **_LEAF,
                "drift": _FLAG,
                "count": _NUMBER,
                "resellers": _told(_map(_NUMBER), "How many below each topmost reseller, by key."),
                "addresses": _list(_TEXT),
            },
            description="The same change of the same leaf on several accounts.",
        ),
    }


def _outside() -> Schema:
    account = {"address": _TEXT, "id": _TEXT_OR_NULL, "name": _TEXT}
    source = {"source": _ref("Source")}
    return {
        "Known": _object(
            {**account, **_LEAF, **source, "reason": _TEXT, "until": _DATE},
            "source",
            description="A leaf that was changed outside, and may stay so until a date.",
        ),
        "Unmanaged": _object(
            {
                "id": _TEXT,
                "name": _TEXT,
                "realm": _TEXT_OR_NULL,
                "parent": _told(_TEXT, "A key, `root`, or an id that has no key."),
                "reseller": _FLAG,
                "created": _TEXT_OR_NULL,
                "revision": _TEXT_OR_NULL,
                "request_id": _TEXT_OR_NULL,
            },
            description="An account that nobody declared or manages.",
        ),
        "Accepted": _object(
            {"address": _TEXT, **_LEAF, **source, "file": _TEXT, "line": _NUMBER},
            "source",
            description="A leaf that is declared now as it is live, and where.",
        ),
    }


def _calls() -> Schema:
    return {
        "Operation": _object(
            {
                "n": _NUMBER,
                "address": _TEXT,
                "action": _ACTION,
                "method": {"enum": ["PUT", "PATCH", "POST", "DELETE"]},
                "path": _told(_TEXT, "Below api.url; an id to come is {accounts.KEY.id}."),
                "body": _told(
                    {"type": ["object", "null"]}, 'Sensitive values are {"$sensitive": …}.'
                ),
                "after": _told(_list(_NUMBER), "The operations that it waits for."),
                "temporary": _told({"const": True}, "A rank that is taken or given for a while."),
            },
            "temporary",
            description="One call.",
        ),
        "Result": _object(
            {
                "n": _NUMBER,
                "address": _TEXT,
                "action": _ACTION,
                "status": {"enum": [*get_args(Status)]},
                "id": _TEXT_OR_NULL,
                "error": _TEXT_OR_NULL,
                "request_id": _TEXT_OR_NULL,
            },
            "n",
            description="What came of one operation, or of what needs no call.",
        ),
        "Intent": _object(
            {"address": _TEXT, "action": _ACTION, "found": _list(_TEXT), "detail": _TEXT},
            description="What an interrupted run left open.",
        ),
    }


def _findings() -> Schema:
    return {
        "Danger": _object(
            {
                "address": _TEXT,
                "what": {"enum": [*get_args(What)]},
                "path": _TEXT,
                "temporary": {"const": True},
            },
            "path",
            "temporary",
            description="What can do harm that is hard to undo.",
        ),
        "Refusal": _object(
            {"rule": _told(_TEXT, "Of the tool, or a `name` of `policy`."), "detail": _TEXT},
            description="Why a plan must not be applied.",
        ),
        "Diagnostic": _object(
            {
                "severity": {"enum": ["error", "warning"]},
                "summary": _TEXT,
                "detail": _TEXT,
                "address": _TEXT_OR_NULL,
                "path": _TEXT_OR_NULL,
                "file": _TEXT_OR_NULL,
                "line": _NUMBER_OR_NULL,
                "column": _NUMBER_OR_NULL,
            },
            description="What is wrong or odd, and where.",
        ),
    }
