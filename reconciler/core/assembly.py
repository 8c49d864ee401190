"""The user's files to a `Configuration`: gathered, merged, and filled in.

The way: accounts, templates and the rest are gathered from all documents; rows of data files become
accounts; then every account is made of its layers (defaults, templates in order, the account
itself), and its interpolations are replaced.

Source: docs/configuration.md, "Merging", "Interpolation".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from reconciler.core.configuration import (
    SHOWN,
    WRONG_EXCEPTION,
    Configuration,
    Declared,
    Layer,
    Lifecycle,
    Moved,
    Removed,
    Section,
    Settings,
)
from reconciler.core.limits import UNLIMITED, Limits, read_limits
from reconciler.core.shapes import Known, folded, problem, shown
from reconciler.core.values import (
    ROOT,
    AccountId,
    Diagnostic,
    FieldPath,
    JsonObject,
    JsonValue,
    Key,
    MappingNode,
    Source,
    account_id,
    address,
    dotted,
    is_key,
    locate,
    parse_path,
    unpack,
)
from reconciler.core.variables import Filler, Row, Variable, interpolated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MAX_TEMPLATES: Final = 64
"""Templates that may lie below a block, as deep as values may be nested."""

_NOTHING: Final[Mapping[FieldPath, str]] = MappingProxyType({})
_PLAIN_LIFECYCLE: Final = Lifecycle()


@dataclass(frozen=True, slots=True)
class Table:
    """A block of `accounts_from`, and the rows of the file that it names."""

    block: MappingNode
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of accounts or templates, and where its key stands. Aliases share one `node`."""

    node: MappingNode
    source: Source
    row: Row | None = None

    @property
    def extends(self) -> tuple[str, JsonValue]:
        """The templates below it, and the key they stand under."""
        name = "template" if "file" in self.node else "extends"
        value = self.node.get(name, [])
        return name, [value] if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class _Blocks:
    """What all files hold together, each thing once."""

    accounts: dict[str, _Block]
    templates: dict[str, _Block]
    moved: list[Moved]
    removed: dict[str, Removed]
    diagnostics: list[Diagnostic]


def assemble(
    project: MappingNode,
    files: Sequence[MappingNode],
    settings: Settings,
    variables: Mapping[str, Variable],
    tables: Sequence[Table],
) -> tuple[Configuration, list[Diagnostic]]:
    """Everything the files say, and what is wrong with it. Shapes were checked."""
    blocks = _gather([project, *files])
    filler = Filler(variables)
    _gather_rows(tables, filler, blocks)
    assembly = _Assembly(project.get("defaults"), blocks, filler)
    accounts = {key: assembly.account(key) for key in sorted(blocks.accounts)}
    spare = assembly.spare()
    unused = (_unused(project, name) for name in variables if name not in filler.used)
    configuration = Configuration(
        settings, accounts, tuple(blocks.moved), blocks.removed, variables, spare
    )
    return configuration, folded([*blocks.diagnostics, *unused])


def _unused(project: MappingNode, name: str) -> Diagnostic:
    detail = f"${{var.{name}}} stands in no account and in no template. Take the variable out."
    source = locate(project, ("variables", name), key=True)
    return Diagnostic("warning", f"A variable that nothing uses: {name}", detail, source=source)


def _gather(documents: Sequence[MappingNode]) -> _Blocks:
    blocks = _Blocks({}, {}, [], {}, [])
    for document in documents:
        for section, into in (("accounts", blocks.accounts), ("templates", blocks.templates)):
            named = document.get(section)
            for key, block, at, _ in named.entries() if isinstance(named, MappingNode) else ():
                if isinstance(block, MappingNode):
                    found = _Block(block, unpack(document.file, at))
                    _gather_block(section, key, found, into, blocks.diagnostics)
        _gather_lists(document, blocks)
    return blocks


def _gather_block(
    section: str,
    key: str,
    block: _Block,
    into: dict[str, _Block],
    diagnostics: list[Diagnostic],
) -> None:
    if not is_key(key) or (section == "accounts" and key == ROOT):
        detail = (
            f"Found {shown(key)}; allowed are letters, digits, _ and -, beginning with a letter or"
            " digit, 64 at most; not `root`."
        )
        diagnostics.append(problem("A malformed key", detail, block.source))
    elif key in into:
        first = into[key].source
        detail = f"It stands at {first} already. Remove one of the two."
        what = "An account" if section == "accounts" else "A template"
        name = f"{section}.{key}"
        diagnostics.append(problem(f"{what} declared twice", detail, block.source, address=name))
    else:
        into[key] = block


def _gather_rows(tables: Sequence[Table], filler: Filler, blocks: _Blocks) -> None:
    """Make an account block of each row of each table."""
    for table in tables:
        expression = str(table.block["key"])
        if "account.key" in interpolated(expression):
            detail = "${account.key} is what `key` makes: name it by ${row.COLUMN}."
            source = locate(table.block, ("key",))
            path = "accounts_from.key"
            blocks.diagnostics.append(problem("A malformed key", detail, source, path=path))
            continue
        for row in table.rows:
            try:
                key, secret = filler.text(expression, "", row)
            except ValueError as error:
                place = locate(table.block, ("key",))
                blocks.diagnostics.append(problem("A row without a key", f"{error}", place))
                continue
            if secret is not None:
                detail = f"{secret} is sensitive, and a key is shown everywhere. Use another value."
                blocks.diagnostics.append(problem("A sensitive key", detail, row.source))
                continue
            if not isinstance(key, str):
                detail = f"{expression} is {shown(key)} here. A key is a string: quote it."
                blocks.diagnostics.append(problem("A malformed key", detail, row.source))
                continue
            block = _Block(table.block, row.source, row)
            _gather_block("accounts", key, block, blocks.accounts, blocks.diagnostics)


def _gather_lists(document: MappingNode, blocks: _Blocks) -> None:
    for index, entry in enumerate(_list(document.get("moved"))):
        source = locate(document, ("moved", index)) or Source(document.file, 1, 1)
        blocks.moved.append(Moved(str(entry["from"]), str(entry["to"]), source))
    for index, entry in enumerate(_list(document.get("removed"))):
        source = locate(document, ("removed", index)) or Source(document.file, 1, 1)
        key = str(entry["account"])
        if key in blocks.removed:
            detail = f"It stands at {blocks.removed[key].source} already. Remove one of the two."
            blocks.diagnostics.append(
                problem("An account removed twice", detail, source, address=address(key))
            )
        blocks.removed[key] = Removed(key, entry["destroy"] is True, source)


def _list(value: JsonValue) -> list[JsonObject]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


class _Assembly:
    """Makes accounts of their layers. What blocks have in common is merged once, and shared."""

    def __init__(self, defaults: JsonValue, blocks: _Blocks, filler: Filler) -> None:
        self.blocks = blocks
        self.filler = filler
        self.bases: dict[tuple[str, ...], JsonObject] = {}
        self.extended: set[str] = set()
        self.known = Known(blocks.templates)
        self.stacks: dict[str, tuple[Layer, ...]] = {}
        self.defaults = _block(defaults)
        self.bottom = self._bottom()

    def _bottom(self) -> tuple[Layer, ...]:
        if self.defaults is None:
            return ()
        below = self._below(_draft("", self.defaults, "defaults"), self.defaults, ())
        return (*below, Layer("default", self.defaults.node))

    def account(self, key: Key) -> Declared:
        """The account of that key."""
        block = self.blocks.accounts[key]
        draft = _draft(key, block, "accounts")
        below = (*self.bottom, *self._below(draft, block, ()))
        layers = (*below, Layer("account", block.node))
        return self._filled(replace(draft, layers=layers), _laid(self._base(below), block.node))

    def spare(self) -> tuple[Declared, ...]:
        """The templates and the defaults by themselves: wrong is wrong, whatever covers it."""
        found = []
        for key, block in sorted(self.blocks.templates.items()):
            draft = _draft(key, block, "templates")
            if key not in self.extended:
                self._below(draft, block, (key,))  # tells what it extends in vain
            layers = (Layer(f"template {key}", block.node),)
            found.append(self._filled(replace(draft, layers=layers), block.node))
        if self.defaults is not None:
            draft = replace(_draft("", self.defaults, "defaults"), layers=self.bottom[-1:])
            found.append(self._filled(draft, self.defaults.node))
        return tuple(found)

    def _below(self, draft: Declared, block: _Block, above: tuple[str, ...]) -> Sequence[Layer]:
        """The layers below a block, lowest first, each once: where it was laid last."""
        found: dict[str, Layer] = {}
        path, extends = block.extends
        for index, name in enumerate(map(str, extends) if isinstance(extends, list) else []):
            if name in self.blocks.templates and name not in above and len(above) < MAX_TEMPLATES:
                for layer in self._stack(name, above):
                    found.pop(layer.origin, None)
                    found[layer.origin] = layer
                continue
            source = locate(block.node, (path, index)) or locate(block.node, (path,))
            self._no_template(draft, name, above, source, path)
        if len(found) > MAX_TEMPLATES:
            detail = f"{len(found)} templates lie below it; {MAX_TEMPLATES} are allowed."
            self._problem(draft, "Too many templates", detail, locate(block.node, (path,)), path)
        return list(found.values())[-MAX_TEMPLATES:]

    def _stack(self, name: str, above: tuple[str, ...]) -> tuple[Layer, ...]:
        """A template on top of those that it extends itself."""
        self.extended.add(name)
        if name not in self.stacks:
            block = self.blocks.templates[name]
            below = self._below(_draft(name, block, "templates"), block, (*above, name))
            self.stacks[name] = (*below, Layer(f"template {name}", block.node))
        return self.stacks[name]

    def _no_template(
        self, draft: Declared, name: str, above: tuple[str, ...], source: Source | None, path: str
    ) -> None:
        """Tell why a block can't extend `name`."""
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            self._problem(draft, "Templates in a circle", f"{circle}.", source, path)
        elif name in self.blocks.templates:
            detail = f"More than {MAX_TEMPLATES}, one below the other."
            self._problem(draft, "Too many templates", detail, source, path)
        else:
            detail = f"{shown(name)} is no template.{self.known.nearest(name)}"
            self._problem(draft, "An unknown template", detail, source, path)

    def _filled(self, draft: Declared, merged: JsonObject) -> Declared:
        key = draft.key if draft.section == "accounts" else None
        merged, notes = self.filler.fill(merged, key, draft.row)
        broken = tuple(path for path, _ in notes.problems)
        draft = replace(draft, sensitive=notes.sensitive or _NOTHING, broken=broken)
        for path, reason in notes.problems:
            summary = "A broken interpolation"
            self._problem(draft, summary, reason, draft.written(path), dotted(path))
        for path in notes.keys:
            self.blocks.diagnostics.append(_not_filled(draft, path))
        for path in SHOWN:
            if self.filler.assumed(notes.sensitive.get(path, "")):
                del notes.sensitive[path]
                self.blocks.diagnostics.append(_shown_all_the_same(draft, path))
        block: JsonObject = {"settings": merged.get("settings", {})}
        if "reseller" in merged:
            block["reseller"] = self._flag(draft, merged["reseller"], ("reseller",))
        return replace(
            draft,
            parent=self._parent(draft, merged.get("parent", ROOT)),
            block=block,
            lifecycle=self._lifecycle(draft, merged.get("lifecycle")),
            limits=self._limits(draft, merged.get("safety")),
            id=self._id(draft, merged.get("id")),
        )

    def _base(self, layers: tuple[Layer, ...]) -> JsonObject:
        """What the layers are together."""
        if not layers:
            return {}
        names = tuple(layer.origin for layer in layers)
        if names not in self.bases:
            self.bases[names] = _laid(self._base(layers[:-1]), layers[-1].block)
        return self.bases[names]

    def _parent(self, draft: Declared, value: JsonValue) -> Key:
        if isinstance(value, str):
            return value
        detail = f"Found {shown(value)}. It should be a string: a key, or root."
        self._problem(draft, "A wrong value", detail, draft.place(("parent",)), "parent")
        return ROOT

    def _flag(self, draft: Declared, value: JsonValue, path: FieldPath) -> bool:
        if not isinstance(value, bool):
            quoted = "(sensitive)" if path in draft.sensitive else shown(value)
            detail = f"Found {quoted}. It should be true or false."
            self._problem(draft, "A wrong value", detail, draft.place(path), dotted(path))
        return value is True

    def _lifecycle(self, draft: Declared, block: JsonValue) -> Lifecycle:
        if not isinstance(block, dict):
            return _PLAIN_LIFECYCLE
        paths: list[FieldPath] = []
        listed = block.get("ignore_changes")
        for index, text in enumerate(listed if isinstance(listed, list) else []):
            try:
                paths.append(("settings", *parse_path(str(text).removeprefix("settings."))))
            except ValueError as error:
                source = draft.place(("lifecycle", "ignore_changes", index))
                hidden = ("lifecycle", "ignore_changes") in draft.sensitive
                detail = f"{'(sensitive)' if hidden else shown(text)}: {error}."
                path = "lifecycle.ignore_changes"
                self._problem(draft, "A malformed path", detail, source, path)
        kept = block.get("prevent_destroy", False)
        return Lifecycle(tuple(paths), self._flag(draft, kept, ("lifecycle", "prevent_destroy")))

    def _limits(self, draft: Declared, block: JsonValue) -> Limits:
        if not isinstance(block, dict):
            return UNLIMITED
        if any(hidden[0] == "safety" for hidden in draft.sensitive):
            detail = (
                "What it says is shown in plans, so it can't be sensitive. Use another variable."
            )
            self._problem(draft, "A sensitive limit", detail, draft.place(("safety",)), "safety")
            return UNLIMITED
        limits, wrong = read_limits(block, lambda i: draft.place(("safety", "exceptions", i)))
        for detail, source in wrong:
            self._problem(draft, WRONG_EXCEPTION, detail, source, "safety.exceptions")
        return limits

    def _id(self, draft: Declared, text: JsonValue) -> AccountId | None:
        if text is None:
            return None
        try:
            return account_id(text)
        except ValueError as error:
            self._problem(draft, "A malformed account id", f"{error}.", draft.place(("id",)), "id")
            return None

    def _problem(
        self, draft: Declared, summary: str, detail: str, source: Source | None, path: str
    ) -> None:
        found = problem(summary, detail, source, address=draft.address, path=path)
        self.blocks.diagnostics.append(found)


def _draft(key: Key, block: _Block, section: Section) -> Declared:
    return Declared(
        key, ROOT, {}, _NOTHING, _PLAIN_LIFECYCLE, (), block.source, row=block.row, section=section
    )


def _block(defaults: JsonValue) -> _Block | None:
    if not isinstance(defaults, MappingNode):
        return None
    return _Block(defaults, locate(defaults, ()) or Source(defaults.file, 1, 1))


def _laid(below: JsonObject, above: JsonObject) -> JsonObject:
    """`above` laid over `below`: mappings merge deeply, all else replaces.

    What only one of the two has is shared, so that neither may be changed afterwards.
    """
    if not below:
        return above
    merged = dict(below)
    for name, value in above.items():
        inner = below.get(name)
        both = isinstance(value, dict) and isinstance(inner, dict)
        merged[name] = _laid(inner, value) if both else value  # type: ignore[arg-type] # `both` does not narrow
    return merged


def _not_filled(draft: Declared, path: FieldPath) -> Diagnostic:
    detail = "Interpolations are replaced in values alone: this key is sent as it stands."
    summary, source = "An interpolation in a key", draft.place(path, key=True)
    return Diagnostic("warning", summary, detail, draft.address, dotted(path), source)


def _shown_all_the_same(draft: Declared, path: FieldPath) -> Diagnostic:
    detail = (
        "Its variable comes from the environment, so it counts as sensitive; but accounts are shown by"
        " their name and parent and found by their realm and id. Declare the variable"
        " `sensitive: false`."
    )
    source = draft.place(path)
    return Diagnostic(
        "warning", "A value that is shown", detail, draft.address, dotted(path), source
    )
