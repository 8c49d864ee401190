"""What stands below what, and what waits for what: as Mermaid, DOT and JSON.

Source: docs/formats.md, "Graphs".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reconciler import __version__
from reconciler.core.values import ROOT, address
from reconciler.render.safe import dot as dot_text
from reconciler.render.safe import mermaid as mermaid_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.configuration import Declared
    from reconciler.core.graph import Operation
    from reconciler.core.values import JsonObject, Key

_LABEL: Final = 120
"""Characters that a label may have."""


@dataclass(frozen=True, slots=True)
class Node:
    """An account or an operation. `kind`: account, reseller, or the action of an operation."""

    id: str
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, and edges from one's id to another's: a parent to its child, what is first to what waits."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


def of_accounts(accounts: Mapping[Key, Declared]) -> Graph:
    """The tree of the declared accounts, below the root."""
    nodes = [Node(ROOT, ROOT, "reseller"), *map(_account, accounts.values())]
    edges = [
        (ROOT if declared.parent == ROOT else address(declared.parent), declared.address)
        for declared in accounts.values()
    ]
    return Graph(tuple(nodes), tuple(edges))


def _account(declared: Declared) -> Node:
    kind = "reseller" if declared.block.get("reseller") is True else "account"
    return Node(declared.address, f"{declared.address} ({declared.settings['name']})", kind)


def of_operations(operations: Sequence[Operation]) -> Graph:
    """The operations of a plan: an edge leads from each to those that wait for it."""
    nodes = [
        Node(
            str(operation.n),
            f"{operation.n} {operation.action} {address(operation.key)}"
            + (" (temporary)" if operation.temporary else ""),
            operation.action.value,
        )
        for operation in operations
    ]
    edges = [
        (str(first), str(operation.n)) for operation in operations for first in operation.after
    ]
    return Graph(tuple(nodes), tuple(edges))


def mermaid(graph: Graph) -> str:
    """A Mermaid flowchart. Nodes have names of their own: an id could be a word of the language."""
    names = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for node in graph.nodes:
        label = mermaid_text(_short(node.label))
        shape = f'[["{label}"]]' if node.kind == "reseller" else f'["{label}"]'
        lines.append(f"  {names[node.id]}{shape}")
    lines += [f"  {names[start]} --> {names[end]}" for start, end in graph.edges]
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """A graph in Graphviz' language."""
    lines = ["digraph reconciler {", "  rankdir=LR;", "  node [shape=box];"]
    for node in graph.nodes:
        double = ", peripheries=2" if node.kind == "reseller" else ""
        lines.append(f'  "{node.id}" [label="{dot_text(_short(node.label))}"{double}];')
    lines += [f'  "{start}" -> "{end}";' for start, end in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def document(graph: Graph) -> JsonObject:
    """The graph as JSON."""
    return {
        "format_version": "1",
        "command": "graph",
        "tool": f"reconciler {__version__}",
        "nodes": [{"id": n.id, "label": n.label, "kind": n.kind} for n in graph.nodes],
        "edges": [{"from": start, "to": end} for start, end in graph.edges],
    }


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 3]}..."
