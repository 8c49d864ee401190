"""What is declared of an account that exists: as it is, and nothing that could not be loaded."""

from __future__ import annotations

import json
import zoneinfo
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.config.project import future_project, load
from reconciler.config.write import composed, formatted
from reconciler.core import diff
from reconciler.core.adoption import Draft, Rules, altered, declaration, key_of, keys_for, own_block
from reconciler.core.adoption import literal as written
from reconciler.core.factoring import factored, shared
from reconciler.core.live import LiveAccount
from reconciler.core.state import State
from reconciler.core.validate import validate
from reconciler.core.values import AccountId, JsonObject, is_key, leaves, value_at

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.core.configuration import Configuration

ZONES = frozenset(zoneinfo.available_timezones())
RULES = Rules(ZONES)
STATE = State("", 0, "", "", AccountId("root"), "00", {})
NO_DEFAULTS = "version: 1\napi: {url: 'sandbox:', extra_fields: EXTRA}\n"


def an_account(number: int = 0, /, **document: Any) -> LiveAccount:
    document = {"name": f"name {number}", "enabled": True, **document}
    return LiveAccount(AccountId(f"id{number}"), AccountId("root"), document, False, "1-a", number)


def loaded(directory: Path, text: str, head: str = NO_DEFAULTS) -> Configuration:
    """What a file with `text` declares; nothing may be wrong with it."""
    project = future_project(directory, head.encode(), {})
    project = replace(project, edited={directory.resolve() / "a.yaml": text.encode()})
    configuration, wrong = load(project, {})
    wrong += validate(configuration, ZONES)
    assert [found for found in wrong if found.severity == "error"] == []
    return configuration


# --- any document at all -----------------------------------------------------------------------

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=20),
    st.sampled_from(["yes", "null", "0755", "911", "${x}", "$${", "a: b", "- x", "#", "1e3", "", " ", "\\ud83d\\ude00"]),
    st.sampled_from(["https://u:p@x.example.com/", "https://x.example.com/?k=v", "https://x.example.com/"]),
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), TEXTS,
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FREE = st.dictionaries(TEXTS, VALUES, max_size=4)
FIELDS = st.fixed_dictionaries(
    {"name": TEXTS, "enabled": st.booleans()},
    optional={
        "realm": TEXTS, "zones": FREE, "flags": st.lists(TEXTS, max_size=3) | VALUES, "org": TEXTS,
        "dial_plan": st.dictionaries(TEXTS, st.dictionaries(st.sampled_from(["prefix", "suffix", "x"]), TEXTS)),
        "metaflows": st.fixed_dictionaries({}, optional={
            "binding_digit": st.sampled_from(["*", "#", "12"]),
            "patterns": st.dictionaries(TEXTS, st.fixed_dictionaries({}, optional={
                "module": st.sampled_from(["hold", "tts", "pivot", "own"]), "data": FREE, "children": FREE,
            }), max_size=2),
        }),
        "topup": VALUES, "caller_id": FREE, "notifications": FREE, "unknown": VALUES, "verb": VALUES,
    },
)  # fmt: skip
DEEP = st.integers(40, 70).map(lambda n: json.loads('{"x":' * n + "1" + "}" * n))
DOCUMENTS = st.one_of(
    FIELDS, st.tuples(FIELDS, DEEP).map(lambda both: {**both[0], "zones": both[1]})
)


@settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    documents=st.lists(DOCUMENTS, min_size=1, max_size=4), factor=st.booleans(), extra=st.booleans()
)
def test_what_is_written_of_any_document_loads_as_it_was_and_leaves_nothing_to_do(
    tmp_path: Path, documents: list[JsonObject], factor: bool, extra: bool
) -> None:
    accounts = [an_account(number, **document) for number, document in enumerate(documents)]
    rules = Rules(ZONES, extra)
    keys = keys_for(accounts, [])
    drafts = [Draft(keys[a.id], "root", a, declaration(a, rules)) for a in accounts]
    own = {draft.key: own_block(draft, None) for draft in drafts}
    found = factored({key: block for key, (block, _) in own.items()} if factor else {})
    file: JsonObject = {}
    for number, template in enumerate(found.templates):
        file.setdefault("templates", {})[f"t{number}"] = written(template)  # type: ignore[index, call-overload]
    blocks: JsonObject = {}
    for key, (block, rest) in own.items():
        blocks[key] = {**rest, **written(found.blocks.get(key, block))}
        if key in found.extends:
            blocks[key]["extends"] = [f"t{found.extends[key]}"]  # type: ignore[index, call-overload]
    text = composed({**file, "accounts": blocks})
    assert formatted("a.yaml", text.encode()) == text
    head = NO_DEFAULTS.replace("EXTRA", "allow" if extra else "refuse")
    configuration = loaded(tmp_path, text, head)
    for draft in drafts:
        declared = configuration.accounts[draft.key]
        assert not altered(draft, declared, None)
        assert diff.compare(declared, None, draft.account, STATE) == ()
        assert not any(path in declared.sensitive for path, _ in leaves(declared.block))


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    document=DOCUMENTS, other=DOCUMENTS, gone=st.lists(st.sampled_from(["org", "zones", "flags"]))
)
def test_whatever_defaults_lie_below_an_account_nothing_is_to_do(
    tmp_path: Path, document: JsonObject, other: JsonObject, gone: list[str]
) -> None:
    account = an_account(0, **document)
    defaults = declaration(an_account(1, **other), RULES).settings
    below = {**written(defaults), **dict.fromkeys(gone)}
    del below["name"]
    below.pop("metaflows", None)  # of two modules together they may be invalid: that is told
    head = NO_DEFAULTS.replace("EXTRA", "refuse") + composed({"defaults": {"settings": below}})
    base = loaded(tmp_path, "accounts: {a: {id: id0, settings: {name: x}}}", head).accounts["a"]
    base = replace(
        base, block={"settings": {k: v for k, v in base.settings.items() if k != "name"}}
    )
    draft = Draft("a", "root", account, declaration(account, RULES))
    own, rest = own_block(draft, base)
    text = composed({"accounts": {"a": {**rest, **written(own)}}})
    declared = loaded(tmp_path, text, head).accounts["a"]
    assert diff.compare(declared, None, account, STATE) == ()


@given(value=VALUES)
def test_what_yaml_can_hold_comes_back_as_it_was(value: Any) -> None:
    found = declaration(an_account(zones={"value": value}), RULES)
    again = value_at(found.settings, ("zones", "value"))
    if not found.left_out and not isinstance(value, dict) and value is not None:
        assert json.dumps(again) == json.dumps(value)


# --- keys --------------------------------------------------------------------------------------


def test_a_key_is_made_of_the_name_or_the_realm_or_the_id() -> None:
    for name, realm, key in [
        ("Société Générale", "x.example.com", "societe-generale"),
        ("Acme, Inc.", "x.example.com", "acme-inc"),
        ("株式会社", "kaisha.example.com", "kaisha"),
        ("😀", "", "account-id0"),
        ("https://user:s3cret@example.com", "safe.example.com", "safe"),
        ("x" * 128, "", "x" * 48),
        ("a" * 47 + " b", "", "a" * 47),
        ("ﬁne ①", "", "fine-1"),
    ]:
        assert key_of(an_account(name=name, realm=realm)) == key


@given(
    names=st.lists(TEXTS, max_size=8),
    taken=st.lists(st.sampled_from(["yes", "911", "a-b", "ROOT"])),
)
def test_keys_are_legal_unlike_each_other_and_the_same_in_any_order(
    names: list[str], taken: list[str]
) -> None:
    accounts = [an_account(number, name=name) for number, name in enumerate(names)]
    keys = keys_for(accounts, taken)
    assert keys_for(reversed(accounts), taken) == keys
    assert len({*keys.values()}) == len(accounts)
    assert all(map(is_key, keys.values()))
    assert not {*keys.values()} & {*taken, "root"}


def test_ten_thousand_accounts_of_one_name_have_keys_at_once() -> None:
    keys = keys_for((an_account(n, name="Same") for n in range(10_000)), ["same-7"])
    assert (keys[AccountId("id0")], keys[AccountId("id9999")]) == ("same", "same-10001")


# --- leaves ------------------------------------------------------------------------------------


def test_what_the_platform_writes_of_itself_is_not_declared() -> None:
    node = {"module": "tts", "data": {"text": "x", "engine": "flite", "voice": "male"}}
    document = {
        "call_restriction": {}, "ringtones": {}, "preflow": {}, "music_on_hold": {},
        "metaflows": {"binding_digit": "*", "numbers": {"1": node, "2": {"module": "hold", "data": {}}}},
        "notifications": {"first_occurrence": {"sent_initial_call": True}, "low_balance": {"enabled": True}},
        "caller_id": {"external": {"name": None}},
    }  # fmt: skip
    found = declaration(an_account(**document), RULES)
    assert found.left_out == ()
    assert found.settings == {
        "name": "name 0",
        "enabled": True,
        "metaflows": {
            "numbers": {
                "1": {"module": "tts", "data": {"text": "x", "voice": "male"}},
                "2": {"module": "hold"},
            }
        },
        "notifications": {"low_balance": {"enabled": True}},
    }


def test_empty_values_that_are_no_defaults_are_declared() -> None:
    document: JsonObject = {"zones": {}, "flags": [], "org": "", "caller_id": {"external": {}}}
    found = declaration(an_account(**document), RULES)
    assert found.settings == {"name": "name 0", "enabled": True, **document}


# --- what is shared ----------------------------------------------------------------------------


def test_what_most_accounts_share_is_lifted_and_means_the_same() -> None:
    blocks: dict[str, JsonObject] = {
        f"a{n}": {
            "settings": {"name": f"{n}", "language": "de" if n == 3 else "en", "flags": ["x"]}
        }
        for n in range(10)
    }
    blocks["other"] = {"settings": {"name": "other", "flags": []}}
    found = factored(blocks)
    assert found.templates == ({"settings": {"flags": ["x"], "language": "en"}},)
    assert "other" not in found.extends
    assert found.blocks["a1"] == {"settings": {"name": "1"}}
    assert found.blocks["a3"] == {"settings": {"name": "3", "language": "de"}}
    assert found.blocks["other"] == blocks["other"]


def test_defaults_say_only_what_all_accounts_have() -> None:
    blocks: list[JsonObject] = [
        {"settings": {"name": "a", "language": "en", "org": "x"}},
        {"settings": {"name": "b", "language": "en"}},
        {"settings": {"name": "c", "language": 1}},
    ]
    assert shared(blocks) == {"settings": {"language": "en"}}
    assert shared(blocks[:1]) == {}
