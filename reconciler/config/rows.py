"""Data files to rows: CSV with a header, or a YAML list of mappings.

Source: docs/configuration.md, "Accounts from data".
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from reconciler.config import nodes
from reconciler.core.shapes import MAX_PROBLEMS, listed, nearest, problem, shown
from reconciler.core.values import JsonValue, MappingNode, SequenceNode, Source, unpack
from reconciler.core.variables import Row, typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.core.values import Diagnostic


def read_rows(
    name: str, data: bytes, types: Mapping[str, str]
) -> tuple[list[Row], list[Diagnostic]]:
    """The rows of a file, and what is wrong with it. `types`: CSV columns that are not text."""
    if name.lower().endswith(".csv"):
        reader = _Csv(name, types)
        try:
            return list(reader.rows(nodes.text_of(name, data))), reader.diagnostics
        except nodes.Malformed as error:
            return [], [*reader.diagnostics, error.diagnostic]
    documents, diagnostics = nodes.parse(name, data)
    if diagnostics:
        return [], diagnostics
    found = [item for document in documents for item in _items(document)]
    rows = [Row(row, place) for row, place in found if isinstance(row, MappingNode)]
    wrong = [_no_row(shown(row), place) for row, place in found if not isinstance(row, MappingNode)]
    if not found:
        wrong = [_no_row("nothing", Source(name, 1, 1))]
    return rows if not wrong else [], wrong[:MAX_PROBLEMS]


def _items(document: JsonValue) -> Iterator[tuple[JsonValue, Source]]:
    """The items of a list, or what is there instead of one, with their places."""
    if isinstance(document, SequenceNode):
        places = (unpack(document.file, mark) for mark in document.marks)
        yield from zip(document, places, strict=True)
    elif isinstance(document, MappingNode):
        yield document, unpack(document.file, document.mark)


def _no_row(found: str, place: Source) -> Diagnostic:
    detail = f"Found {found}; expected a list of mappings, one or more."
    return problem("A malformed data file", detail, place)


class _Csv:
    """Reads one CSV file. Every cell is text as it stands, but for the columns in `types`."""

    def __init__(self, name: str, types: Mapping[str, str]) -> None:
        self.name = name
        self.types = types
        self.diagnostics: list[Diagnostic] = []

    def rows(self, text: str) -> Iterator[Row]:
        columns: list[str] = []
        any_row = False
        count = 0
        for line, cells in self._records(text):
            count += len(cells)
            if count > nodes.MAX_NODES:
                detail = f"More than {nodes.MAX_NODES:,} cells. Split the file."
                raise nodes.Malformed(self._problem("Too many values", detail, line))
            if not columns:
                columns = cells
                self._check_columns(columns)
            elif len(cells) != len(columns):
                detail = (
                    f"Found {len(cells)} cells; the header has {len(columns)}: {listed(columns)}."
                )
                self._report("A row that does not fit the header", detail, line)
            else:
                any_row = True
                values = {
                    column: self._cell(column, cell, line)
                    for column, cell in zip(columns, cells, strict=True)
                }
                yield Row(values, Source(self.name, line, 1))
        if not any_row and not self.diagnostics:
            detail = "Expected a header, and a row per account. Remove the file, or fill it."
            self._report("A data file without rows", detail, 1)

    def _records(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Each record that is not blank, with the line on which it begins."""
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        line = 1
        try:
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            self._report("Broken CSV", f"{error}.", line)

    def _check_columns(self, columns: list[str]) -> None:
        first: dict[str, int] = {}
        for number, column in enumerate(columns, 1):
            if not column.strip():
                self._report("A column without a name", f"Column {number} of the header.", 1)
            elif first.setdefault(column, number) != number:
                detail = f"{shown(column)} is column {first[column]} and column {number}."
                self._report("A column declared twice", detail, 1)
        for column in self.types:
            if column not in first:
                near = nearest(column, columns)
                detail = f"`types` has {shown(column)}; the file has {listed(columns)}.{near}"
                self._report("An unknown column", detail, 1)

    def _cell(self, column: str, cell: str, line: int) -> JsonValue:
        try:
            return typed(cell, self.types[column]) if column in self.types else cell
        except ValueError as error:
            self._report("A wrong cell", f"{column}: found {shown(cell)}; it {error}.", line)
            return None

    def _report(self, summary: str, detail: str, line: int) -> None:
        if len(self.diagnostics) == MAX_PROBLEMS:
            detail = f"More than {MAX_PROBLEMS:,} in this file; the rest was not looked at."
            raise nodes.Malformed(self._problem("Too many mistakes", detail, line))
        self.diagnostics.append(self._problem(summary, detail, line))

    def _problem(self, summary: str, detail: str, line: int) -> Diagnostic:
        return problem(summary, detail, Source(self.name, line, 1))
