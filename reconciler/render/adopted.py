"""What an adoption did, for people and for machines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from reconciler.core.values import accounts, address, dotted
from reconciler.render import jsondoc
from reconciler.render.safe import terminal

if TYPE_CHECKING:
    from reconciler.core.adoption import Adoption
    from reconciler.core.values import JsonObject

_SHOWN: Final = 20
"""Files that the text names; of more, it tells the number."""


def document(adoption: Adoption) -> JsonObject:
    """The outcome as JSON. Source: docs/formats.md, "Adopt"."""
    keys: JsonObject = {
        "lineage": adoption.state.lineage,
        "serial": adoption.state.serial,
        "summary": {
            "adopted": len(adoption.adopted),
            "known": adoption.known,
            "skipped": len(adoption.skipped),
            "left_out": sum(map(len, adoption.left_out.values())),
        },
        "files": [*adoption.files],
        "adopted": [
            {"address": address(one.key), "id": one.id, "name": one.name, "file": one.file or None}
            for one in adoption.adopted
        ],
        "skipped": [
            {"id": one.id, "name": one.name, "reason": one.reason} for one in adoption.skipped
        ],
        "left_out": [
            {
                "address": address(key),
                "path": dotted(("settings", *found.path)),
                "reason": found.reason,
            }
            for key, fields in sorted(adoption.left_out.items())
            for found in fields
        ],
        "diagnostics": [jsondoc.diagnostic(found) for found in adoption.diagnostics()],
    }
    return jsondoc.answer("adopt", keys)


def text(adoption: Adoption, directory: str) -> str:
    """The outcome for people. `directory`: of the project, as seen from here."""
    within = "" if directory == "." else f"{directory}/"
    held = Counter(one.file for one in adoption.adopted)
    lines = [
        f"wrote {terminal(within + name)}" + (f" ({accounts(held[name])})" if held[name] else "")
        for name in sorted(adoption.files)[:_SHOWN]
    ]
    if len(adoption.files) > _SHOWN:
        lines.append(f"wrote {len(adoption.files) - _SHOWN} more files")
    if not adoption.adopted:
        lines.append(f"Nothing to adopt. {accounts(adoption.known)} under management already.")
    else:
        known = f" {adoption.known} were under management already." if adoption.known else ""
        where = "" if directory == "." else f" -C {terminal(directory)}"
        lines.append(f"Adopted {accounts(len(adoption.adopted))}.{known}")
        lines.append(f"Next: reconciler plan{where}")
    return "\n".join(lines) + "\n"
