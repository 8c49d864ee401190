"""Project files in canonical order and layout: before and after."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.config.nodes import parse
from reconciler.config.write import formatted
from reconciler.core.configuration import Invalid

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))


def after(text: str) -> str:
    return formatted("f.yaml", text.encode())


def check(before: str, expected: str) -> None:
    """`before` becomes `expected`, which stays as it is."""
    assert after(dedent(before)) == dedent(expected)
    assert after(dedent(expected)) == dedent(expected)


def values(text: str) -> list[str]:
    """Each document as JSON: keys sorted, and 1, 1.0 and true differ."""
    documents, diagnostics = parse("f.yaml", text.encode())
    assert not diagnostics
    return [json.dumps(document, sort_keys=True) for document in documents]


def refusal(text: str) -> tuple[str, str]:
    with pytest.raises(Invalid) as caught:
        after(text)
    (found,) = caught.value.diagnostics
    return f"{found.source}: {found.summary}", found.detail


# --- order -----------------------------------------------------------------------------------


def test_keys_come_in_the_order_of_the_models_and_names_as_written() -> None:
    check(
        """\
        accounts:
          zeta:
            settings:
              dial_plan:
                '^2': {suffix: "2", prefix: "1"}
                '^1': {}
                system: [us]
              caller_id: {external: {number: "+1", name: Zeta}}
              realm: zeta.example.com
              name: Zeta
            id: 5bbc
            extends: [retail]
          alpha: {settings: {enabled: true, name: Alpha}}
        version: 1
        variables:
          b: {env: B, default: 1}
          a:
        accounts_from: {key: "${row.k}", file: a.csv}
        """,
        """\
        version: 1
        variables:
          b: {default: 1, env: B}
          a:
        accounts:
          zeta:
            extends: [retail]
            settings:
              name: Zeta
              realm: zeta.example.com
              caller_id: {external: {name: Zeta, number: "+1"}}
              dial_plan:
                system: [us]
                '^2': {prefix: "1", suffix: "2"}
                '^1': {}
            id: 5bbc

          alpha: {settings: {name: Alpha, enabled: true}}
        accounts_from: {file: a.csv, key: "${row.k}"}
        """,
    )


def test_unknown_keys_come_last_as_written_and_merge_keys_first() -> None:
    check(
        """\
        templates: {base: &base {reseller: true}}
        accounts:
          acme: {zz: 1, settings: {name: A}, aa: 2, <<: *base, parent: root}
        """,
        """\
        templates: {base: &base {reseller: true}}
        accounts:
          acme: {<<: *base, parent: root, settings: {name: A}, zz: 1, aa: 2}
        """,
    )


def test_lists_of_blocks_keep_their_order_and_their_blocks_are_sorted() -> None:
    check(
        """\
        removed:
        - destroy: false   # forget it
          account: b
        - {destroy: true, account: a}
        moved:
        -   to: y

            # It was called x.
            from: x
        """,
        """\
        moved:
          # It was called x.
          - from: x
            to: y
        removed:
          - account: b
            destroy: false   # forget it
          - {account: a, destroy: true}
        """,
    )


@pytest.mark.parametrize(
    "text",
    [
        "state: &x s\nversion: 1\napi: {url: *x}\n",  # would stand before it
        "api: {url: &x a}\ntemplates: {a: &x {}}\nvariables: {b: *x}\n",  # would mean the other one
    ],
)
def test_a_mapping_stays_in_order_if_an_alias_would_lose_its_anchor(text: str) -> None:
    check(text, text)


def test_anchors_that_stay_before_their_aliases_hinder_nothing() -> None:
    check(
        """\
        accounts: {a: {settings: {realm: &r a.b.c, name: A}}, b: {settings: {realm: *r, name: B}}}
        version: &v 1
        """,
        """\
        version: &v 1
        accounts: {a: {settings: {name: A, realm: &r a.b.c}}, b: {settings: {name: B, realm: *r}}}
        """,
    )


# --- comments --------------------------------------------------------------------------------


def test_comments_go_where_goes_what_they_stand_at() -> None:
    check(
        """\
        # All of Acme.
        accounts:
          # The first one.
          acme:    # our best
            settings:
              # Where phones register.
              realm: acme.example.com    # never change it

              name: Acme
              # timezone: Etc/UTC
            # Directly below the root.
            parent: root
              # or acme-holding
            # lifecycle: {}
          # umbrella: {}
        # The end.
        """,
        """\
        # All of Acme.
        accounts:
          # The first one.
          acme:    # our best
            # Directly below the root.
            parent: root
              # or acme-holding
            settings:
              name: Acme
              # Where phones register.
              realm: acme.example.com    # never change it
              # timezone: Etc/UTC
            # lifecycle: {}
          # umbrella: {}
        # The end.
        """,
    )


def test_the_head_of_a_file_stays_and_what_is_close_above_the_first_key_moves_with_it() -> None:
    check(
        """\

        # The project.
        # yaml-language-server: $schema=schema.json
        # Where state is.
        state: s.json
        # The version.
        version: 1
        """,
        """\
        # The project.
        # yaml-language-server: $schema=schema.json

        # The version.
        version: 1
        # Where state is.
        state: s.json
        """,
    )


def test_a_comment_directly_above_the_first_key_is_the_head() -> None:
    check(
        "# The project.\nstate: s\nversion: 1\n",
        "# The project.\nversion: 1\nstate: s\n",
    )


def test_comments_in_odd_places_find_a_line() -> None:
    check(
        """\
        a: &x   # one
          # two
          plain   # three
        b:   # four
          # five
          - # six
            x: 1
          -
            # seven
            x: 2
        ? c   # eight
        # nine
        : # ten
          d
        e: |   # eleven
            text
          # twelve
        f: # thirteen
          >-
          folded
        """,
        """\
        # one
        # two
        a: &x plain   # three
        b:   # four
          # five
          - # six
            x: 1
          # seven
          - x: 2
        # ten
        # nine
        c: d   # eight
        e: |   # eleven
          text
        # twelve
        # thirteen
        f: >-
          folded
        """,
    )


# --- layout ----------------------------------------------------------------------------------


def test_blocks_are_indented_by_two_and_lists_below_their_key() -> None:
    check(
        """\
        include:
        - a
        -   b
        x:
            y:
                  z:   1
            l:
            - - 1
              -    2
            -
                k: v
                m:
                - w
            - [a,   b]
        """,
        """\
        include:
          - a
          - b
        x:
          y:
            z: 1
          l:
            - - 1
              - 2
            - k: v
              m:
                - w
            - [a, b]
        """,
    )


def test_blank_lines_stay_one_at_a_time_and_stand_between_accounts() -> None:
    check(
        "\n\nversion: 1\n\n\n\nstate: s   \naccounts:\n\n  a:\n    parent: b\n  # The second.\n"
        "  b: {}\n\n\n  c: {}\n\n\n",
        "version: 1\n\nstate: s\naccounts:\n  a:\n    parent: b\n\n  # The second.\n"
        "  b: {}\n\n  c: {}\n",
    )  # fmt: skip


def test_accounts_of_one_line_each_stand_close() -> None:
    check("accounts:\n  a: {}\n  b: {}\n\n  c: {}\n", "accounts:\n  a: {}\n  b: {}\n\n  c: {}\n")


def test_what_is_in_brackets_stays_so() -> None:
    check(
        """\
        a: { x: 1,y: [ ], "z":2 , w }
        b: [x: 1, {}]
        c: [1,   # one
            2, {p: q,
          # three
          r: s}   # four
           # five
           ]   # six
        d:
        -   [x,
             y]
        e: [
        ]
        f: {x,
          y:
          # seven
          }
        """,
        """\
        a: {x: 1, y: [], "z": 2, w: }
        b: [{x: 1}, {}]
        c: [
          1,   # one
          2,
          {
            p: q,
            # three
            r: s
          }   # four
          # five
        ]   # six
        d:
          - [
              x,
              y
            ]
        e: []
        f: {
          x: ,
          y:
          # seven
        }
        """,
    )


def test_scalars_stay_as_written() -> None:
    text = (
        "a: [08, 0112, 1_000, 0x1F, 1e3, 22:30, yes, True, 2026-01-01, +155, 1.50, ~, '1', \"\\u00e9\"]\n"
        f"b: '{'long ' * 60}'\n"
        f"c: {'long ' * 60}end\n"
        "d: caf\u00e9 \U0001f600\n"
    )
    check(text, text)


def test_scalars_of_several_lines_are_indented_and_nothing_else() -> None:
    check(
        """\
        a:
            literal: |   # a text
                  one
                    two

            folded: >-
             three

             four
            fixed: |2-
                  five
                six
            kept: |+
              seven


            quoted: "eight
              nine \\
                  ten

              eleven"
            plain: twelve
                  thirteen
        """,
        """\
        a:
          literal: |   # a text
            one
              two

          folded: >-
            three

            four
          fixed: |2-
                five
              six
          kept: |+
            seven


          quoted: "eight
            nine \\
            ten

            eleven"
          plain: twelve
            thirteen
        """,
    )


def test_a_text_that_ends_with_the_file_gets_no_line_end_by_it() -> None:
    check("a: |\n    x\n    y", "a: |-\n  x\n  y\n")


def test_lines_added_between_accounts_become_no_part_of_a_text() -> None:
    text = "accounts:\n  a:\n    x: |+\n      y\n  b: {}\n"
    check(text, text)


def test_line_ends_byte_order_mark_and_trailing_blanks_go() -> None:
    check("\ufeffa: 1  \r\nb: |\r\n  x\r\n\r\n# c \t\r\nc: 2", "a: 1\nb: |\n  x\n\n# c\nc: 2\n")


def test_documents_stay_apart() -> None:
    check(
        """\
        # head
        %YAML 1.2
        ---   # first
        b:   1
        # foot
        ...   # end
        # between
        ---

        # second
        state: s
        version: 1
        ---
        - 1
        --- {c: 3}
        """,
        """\
        # head
        %YAML 1.2
        ---   # first
        b: 1
        # foot
        ...   # end
        # between
        ---
        # second
        version: 1
        state: s
        ---
        - 1
        ---
        {c: 3}
        """,
    )


@pytest.mark.parametrize("text", ["", "# nothing but this\n"])
def test_a_file_without_a_document_is_no_problem(text: str) -> None:
    check(text, text)


# --- safety ----------------------------------------------------------------------------------


def test_a_file_that_can_not_be_parsed_is_refused_with_what_is_wrong() -> None:
    with pytest.raises(Invalid) as caught:
        after("a: 1\na: 2\nb: !!str 3\n")
    found = [f"{d.source}: {d.summary}" for d in caught.value.diagnostics]
    assert found == ["f.yaml:2:1: A key declared twice", "f.yaml:3:4: A YAML tag"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("? |\n  a\n: 1\n", "it could not be read any more"),  # a key of several lines
        ("? ---\n - a\n", "its values would not be the same"),  # `---` would begin a document
        ("a: 1\n... # one\n... # two\n", "a comment would be lost"),
    ],
)
def test_what_would_change_is_refused(text: str, why: str) -> None:
    summary, detail = refusal(text)
    assert summary == "f.yaml:1:1: A file that can't be formatted"
    assert why in detail


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_keep_their_values(path: Path) -> None:
    text = path.read_text()
    result = after(text)
    assert values(result) == values(text)
    assert after(result) == result
    assert sorted(re.findall("# .*", result)) == sorted(re.findall("# .*", text))


# --- properties ------------------------------------------------------------------------------

KEYS = [
    "version", "state", "api", "url", "accounts", "templates", "settings", "parent", "extends",
    "lifecycle", "name", "realm", "caller_id", "dial_plan", "enabled", "zz", "x y", "'^1'", '"1"', "é",
]  # fmt: skip
SCALARS = [
    "a", "08", "0112", "1_000", "0x1F", "1e3", "22:30", "yes", "True", "+155", "2026-01-01", "1.50", "0",
    "-7", "true", "~", "null", "${var.x}", "caf\u00e9 \U0001f600", "a#b", "'it''s'", '"# no"', "''",
    r'"\u00e9\n"', "x:y", "word " * 40 + "end",
]  # fmt: skip
LITERALS = [
    ["|", "  one", "", "    # two"], [">-", " one", " two"], ["|+", "   one", "", ""], ["|2-", "    one", "  two"],
    ['"one', "    two", "", '  three"'], ["one", "      two"], ["'one", "  two'"],
]  # fmt: skip


@st.composite
def yaml_files(draw: st.DrawFn) -> str:
    """Files as people write them on bad days: valid, but laid out anyhow. Comments are numbered."""
    return _Author(draw).file()


class _Author:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.comments = 0
        self.anchors: list[str] = []
        self.mappings: list[str] = []

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in

    def number(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def one(self, of: list[str]) -> str:
        return self.draw(st.sampled_from(of))

    def file(self) -> str:
        documents = [self.document() for _ in range(self.number(1, 2))]
        text = "\n---\n".join("\n".join(lines) for lines in documents)
        return text.replace("\n", "\r\n") if self.chance(8) else text + "\n" * self.number(0, 2)

    def document(self) -> list[str]:
        self.anchors, self.mappings = [], []
        return self.mapping(0)

    def comment(self) -> str:
        self.comments += 1
        return f"#{self.one([' ', '', ' é: - '])}c{self.comments}"

    def tail(self) -> str:
        return self.one(["", " ", "    "]) if self.chance(2) else f"  {self.comment()}"

    def above(self) -> list[str]:
        lines = [" " * self.number(0, 4) + self.comment()] if self.chance(4) else []
        return ["", *lines] if self.chance(6) else lines

    def mapping(self, depth: int) -> list[str]:
        lines: list[str] = []
        for key in self.draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True)):
            lines += self.above() if lines else []
            lines += self.entry(f"{key}:", depth)
        if self.mappings and self.chance(4):
            lines.append(f"<<: *{self.one(self.mappings)}")
        return lines

    def entry(self, prefix: str, depth: int) -> list[str]:
        """`prefix`, a key or a dash, and a value behind or below it."""
        kind = self.number(0, 7)
        if kind < 2 and depth < 3:
            return self.block(prefix, depth)
        if kind == 2:
            first, *others = self.draw(st.sampled_from(LITERALS))
            margin = " " * self.number(1, 2) if first != "|2-" else ""
            return [f"{prefix} {first}", *(margin + line if line else "" for line in others)]
        if kind == 3 and self.anchors:
            return [f"{prefix} *{self.one(self.anchors)}{self.tail()}"]
        value = self.flow(0) if kind == 4 else self.spread() if kind == 5 else self.one(SCALARS)
        return [f"{prefix}{self.one([' ', '  '])}{self.anchor(self.anchors)}{value}{self.tail()}"]

    def block(self, prefix: str, depth: int) -> list[str]:
        anchor = self.one(["", "a", "b", "m"]) if self.chance(3) else ""
        head = f"{prefix} &{anchor}{depth}" if anchor else prefix
        listed = self.chance(3)
        inner = self.items(depth + 1) if listed else self.mapping(depth + 1)
        if anchor and f"*{anchor}{depth}" in "".join(inner):
            head = prefix
        elif anchor:
            self.anchors.append(f"{anchor}{depth}")
            self.mappings += [] if listed else [f"{anchor}{depth}"]
        margin = " " * self.number(1, 4)
        if prefix == "-" and head == prefix and not listed and self.chance(2) and inner[0]:
            return [f"- {inner[0]}", *(f"  {line}" if line else "" for line in inner[1:])]
        return [head + self.tail(), *(margin + line if line else "" for line in inner)]

    def items(self, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self.number(1, 3)):
            lines += [*(self.above() if lines else []), *self.entry("-", depth)]
        return lines

    def flow(self, depth: int) -> str:
        if depth == 2 or self.chance(3):
            return self.one([text for text in SCALARS if not text.startswith("$")])
        inner = [self.flow(depth + 1) for _ in range(self.number(0, 3))]
        if self.chance(2):
            return "[" + self.one([",", ", ", " , "]).join(inner) + " ]"
        keys = self.draw(st.permutations(KEYS))
        return "{ " + ", ".join(f"{k}: {v}" for k, v in zip(keys, inner, strict=False)) + "}"

    def spread(self) -> str:
        inner = [
            f" {self.flow(1)}{self.one([',', ' ,'])}{self.tail()}\n"
            for _ in range(self.number(1, 3))
        ]
        return "[" + "".join(f"      {line}" for line in inner) + "      ]"

    def anchor(self, known: list[str]) -> str:
        if not self.chance(5):
            return ""
        known.append(self.one(["s", "t"]))
        return f"&{known[-1]} "


def is_valid(text: str) -> bool:
    """Nearly always: an anchor may have got another meaning before it is used to merge."""
    return not parse("f.yaml", text.encode())[1]


def numbered(text: str) -> list[str]:
    """The comments that the author wrote."""
    return sorted(re.findall(r"#(?: | é: - )?c[0-9]+", text))


@given(yaml_files())
@settings(max_examples=150, deadline=None)
def test_formatting_keeps_values_and_comments_and_is_done_once(text: str) -> None:
    assume(is_valid(text))
    result = after(text)
    assert values(result) == values(text)
    assert numbered(result) == numbered(text)
    assert after(result) == result


@given(yaml_files())
@settings(max_examples=50, deadline=None)
def test_no_line_ends_in_blanks_but_for_those_that_mean_something(text: str) -> None:
    assume(is_valid(text))
    result = after(text)
    assert result.endswith("\n")
    assert not re.search(r"[ \t\r]$", result, re.MULTILINE)
    assert "|+" in result or "\n\n\n" not in result


PIECES = [
    "a", "b: ", "version: 1", "settings: ", "realm: r", "name: ", "- ", "- ", "? ", ": ", "\n", "\n", "\n  ",
    "\n  ", "\n    ", "\n\n", "# c\n", " # d\n  ", "{", "}", "[", "]", ", ", "&x ", "*x", "<<: *x", "'q'",
    '"m\n n"', "|\n  ", ">-\n   ", "|+\n ", "|2\n   ", "|  # h\n  ", "---\n", "--- ", "...\n", "é", "\t", "08",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=300, deadline=None)
def test_whatever_the_text_it_is_refused_or_formatted_once_for_all(text: str) -> None:
    try:
        result = after(text)
    except Invalid:
        return
    assert after(result) == result
    assert values(result) == values(text)
