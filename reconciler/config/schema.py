"""The JSON Schema (2020-12) of a project's files, for editors and for checks without the tool.

Written from the models: the shape of the files, and in it the account document. What is added is
what the models can't say, which judge an account when its layers are merged and filled in: where an
interpolation may stand for a value, and that a key that must be there may come from another layer.

Source: docs/configuration.md, "Editors".
"""

from __future__ import annotations

import zoneinfo
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from reconciler.core.account import MODULES, SchemaWriter, is_module, json_schema, required_data
from reconciler.core.shapes import IncludedShape, ProjectShape
from reconciler.core.variables import INTERPOLATED, WHOLE, well_formed

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

_DESCRIPTION: Final = (
    "A file of a project: reconciler.yaml, which has `version`, or one that it includes. Where the"
    " project says `extra_fields: allow`, the tool takes fields that this schema does not know."
)
_FILLED: Final = ("parent", "reseller", "id", "key", "prevent_destroy")
"""The keys of blocks, beside `settings`, in whose values interpolations are replaced."""

_NOTES: Final[tuple[str, ...]] = ("default", "description", "propertyNames")
_LINE_BREAK: Final = {"pattern": r"\n$"}


class _ShapeWriter(SchemaWriter):
    """Name the shapes as people do."""

    def normalize_name(self, name: str) -> str:
        """Leave out what only tells the classes apart."""
        return super().normalize_name(name).removesuffix("Shape")


def file_schema() -> Schema:
    """What a file of a project may hold. The time zones are those that this machine knows."""
    settings: Schema = {**json_schema(sorted(zoneinfo.available_timezones()))}
    parts: Schema = {**settings.pop("$defs"), "Settings": settings}
    definitions = {
        **_shapes(),
        **{name: _layer(part) for name, part in parts.items()},
        "Interpolation": {"type": "string", "pattern": WHOLE},
        "InterpolatedText": {"type": "string", "pattern": INTERPOLATED},
    }
    definitions = {**_exact(definitions), **_texts(), **_complete()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reconciler",
        "description": _DESCRIPTION,
        "type": "object",
        "if": {"required": ["version"]},
        "then": _ref("Project"),
        "else": _ref("Included"),
        "$defs": dict(sorted(definitions.items())),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


# --- where interpolations may stand -----------------------------------------------------------


def _shapes() -> Schema:
    """The shapes of the files, with the account document and interpolations in their blocks."""
    shapes: Schema = models_json_schema(
        [(ProjectShape, "validation"), (IncludedShape, "validation")],
        schema_generator=_ShapeWriter,
    )[1]["$defs"]
    for name in ("Block", "Account", "AccountsFrom", "Lifecycle"):
        properties = shapes[name]["properties"]
        properties.update({key: _fillable(properties[key]) for key in _FILLED if key in properties})
    for name in ("Block", "Account", "AccountsFrom"):
        document = shapes[name]["properties"]["settings"]
        document |= {**_ref("Settings"), "description": document["description"]}
        shapes[name]["allOf"] = [_ref("AccountTexts" if name == "Account" else "Texts")]
    paths = shapes["Lifecycle"]["properties"]["ignore_changes"]
    paths["items"] = _fillable(paths["items"])
    # The key is made before there is an account: it can't be made of itself.
    shapes["AccountsFrom"]["properties"]["key"]["not"] = {"pattern": r"\$\{\s*account\.key"}
    shapes["Project"]["allOf"] = [
        _where_nothing_is_below("name", "Named"),
        _where_nothing_is_below("metaflows", "CompleteMetaflows"),
    ]
    return shapes


def _layer(schema: Schema) -> Schema:
    """A part of the account document, as one layer may have it: nothing must be there."""
    layer = {name: said for name, said in schema.items() if name not in ("$schema", "required")}
    if "properties" in layer:
        layer["properties"] = {k: _fillable(inner) for k, inner in layer["properties"].items()}
    for name in ("additionalProperties", "items"):
        if isinstance(layer.get(name), dict):
            layer[name] = _fillable(layer[name])
    if "allOf" in layer:
        layer["allOf"] = [{**case, "then": _layer(case["then"])} for case in layer["allOf"]]
    return layer


def _fillable(schema: Schema) -> Schema:
    """A value for which an interpolation may stand: alone, or in a text that has limits."""
    notes = {name: schema[name] for name in _NOTES if name in schema}
    bare = {name: said for name, said in schema.items() if name not in _NOTES}
    forms = [_layer(form) for form in _forms(bare)]
    kinds = {"object" if "$ref" in form else form.get("type", "null") for form in forms}
    if any(form.get("type") == "string" and len(form) > 1 for form in forms):
        forms.append(_ref("InterpolatedText"))
    elif kinds - {"string", "null"}:
        forms.append(_ref("Interpolation"))
    return {**(forms[0] if len(forms) == 1 else {"anyOf": forms}), **notes}


def _forms(schema: Schema) -> Iterator[Schema]:
    """The alternatives that a schema has, however deep; itself if it has none."""
    nested = schema.get("anyOf") or schema.get("oneOf")
    if nested is None:
        yield schema
    for form in nested or ():
        yield from _forms(form)


def _texts() -> Schema:
    """That each text in a block, however deep, is free of interpolations that mean nothing."""
    return {
        name: {
            "description": f"In its texts, {known} mean something; $${{ is a literal ${{.",
            "pattern": well_formed(rows=rows),
            "items": _ref(name),
            "additionalProperties": _ref(name),
        }
        for name, rows, known in (
            ("Texts", True, "${var.NAME}, ${account.key} and, where rows are, ${row.COLUMN}"),
            ("AccountTexts", False, "${var.NAME} and ${account.key}"),
        )
    }


def _exact(schema: Any) -> Any:
    """The same, but where a pattern ends the text ends: to some `$` is before a line break, too."""
    if isinstance(schema, list):
        return [_exact(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    exact = {name: said if name == "not" else _exact(said) for name, said in schema.items()}
    if str(exact.get("pattern", "")).endswith("$"):
        exact["not"] = {"anyOf": [exact["not"], _LINE_BREAK]} if "not" in exact else _LINE_BREAK
    return exact


# --- what must be there -----------------------------------------------------------------------


def _where_nothing_is_below(field: str, need: str) -> Schema:
    """What accounts need that no template and no default can give: where all layers can be seen."""
    nothing: Schema = {"const": []}
    alone = {
        "if": {"properties": {"extends": nothing, "template": nothing}},
        "then": _ref(need),
    }
    defaults = {"extends": nothing, "settings": {"not": {"required": [field]}}}
    return {
        "if": {"properties": {"defaults": {"properties": defaults}}},
        "then": {
            "properties": {
                "accounts": {"additionalProperties": alone},
                "accounts_from": {**alone, "items": alone},  # one block, or a list of them
            }
        },
    }


def _complete() -> Schema:
    """What a whole account must have."""
    nodes = {"additionalProperties": _ref("CompleteNode")}
    metaflows = {"properties": {"numbers": nodes, "patterns": nodes}}
    return {
        "Named": {"required": ["settings"], "properties": {"settings": {"required": ["name"]}}},
        "CompleteMetaflows": {"properties": {"settings": {"properties": {"metaflows": metaflows}}}},
        "CompleteNode": {
            "required": ["module"],
            "properties": {"children": nodes},
            "allOf": [
                {
                    "if": is_module(module),
                    "then": {
                        "required": ["data"],
                        "properties": {"data": {"required": required_data(model)}},
                    },
                }
                for module, model in MODULES.items()
                if required_data(model)
            ],
        },
    }
