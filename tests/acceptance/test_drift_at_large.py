"""2,000 accounts, changed at random by others: all of that is found, and nothing else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import pytest

from reconciler.sandbox.options import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Project, World

Found = set[tuple[str, str, Any]]
"""Key, path, and what is live as JSON would have it; None for what is gone."""

_LEAVES: Final = 1800


def settings_of(key: str, number: int) -> dict[str, Any]:
    return {
        "name": key,
        "realm": f"{key}.sip.example.com",
        "language": "en-us",
        "timezone": "Europe/Paris",
        "flags": ["a", "b"],
        "caller_id": {"external": {"name": key, "number": f"+1212555{number:04}"}},
        "call_recording": {
            "account": {"inbound": {"offnet": {"enabled": True, "time_limit": 3600}}}
        },
        "dial_plan": {"system": ["us", "fr"], "^1": {"prefix": "1"}},
        "notifications": {"low_balance": {"sent_low_balance": False, "enabled": True}},
        "music_on_hold": {},
    }


def planted(world: World) -> dict[str, dict[str, Any]]:
    """The accounts, made by others, as blocks: 20 resellers, 180 below them, 1,800 leaves."""
    blocks: dict[str, dict[str, Any]] = {}

    def plant(key: str, parent: str, *, reseller: bool) -> None:
        below = ROOT_ID if parent == "root" else blocks[parent]["id"]
        settings = settings_of(key, len(blocks))
        made = str(world.call("PUT", f"/accounts/{below}", settings, expect=201)["id"])
        blocks[key] = {"id": made, "parent": parent, "settings": settings}
        if reseller:
            world.call("PUT", f"/accounts/{made}/reseller", {}, expect=201)
            blocks[key]["reseller"] = True

    for a in range(20):
        plant(f"r{a:02}", "root", reseller=True)
        for b in range(9):
            plant(f"r{a:02}-{b}", f"r{a:02}", reseller=b % 3 == 0)
            for c in range(10):
                plant(f"r{a:02}-{b}-{c}", f"r{a:02}-{b}", reseller=False)
    assert len(blocks) == 2000
    return blocks


class Outsider:
    """Somebody at the platform's own console. Each change tells what of it is drift."""

    def __init__(
        self, world: World, blocks: dict[str, dict[str, Any]], dice: random.Random
    ) -> None:
        self.world = world
        self.blocks = blocks
        self.dice = dice
        self.made: set[str] = set()
        self.gone: set[str] = set()

    def patch(self, key: str, **fields: Any) -> None:
        self.world.call("PATCH", f"/accounts/{self.blocks[key]['id']}", {"enabled": True, **fields})

    def a_field(self, key: str) -> Found:
        value = self.dice.choice(["fr-fr", "de-de", "yes", "\u202e"])
        self.patch(key, language=value)
        return {(key, "settings.language", value)}

    def nested_fields(self, key: str) -> Found:
        self.patch(
            key, caller_id={"external": {"name": "Somebody"}}, dial_plan={"^1": {"prefix": "2"}}
        )
        return {
            (key, "settings.caller_id.external.name", "Somebody"),
            (key, 'settings.dial_plan["^1"].prefix', "2"),
        }

    def a_removal(self, key: str) -> Found:
        self.patch(key, caller_id={"external": {"number": None}}, language=None)
        return {(key, "settings.caller_id.external.number", None), (key, "settings.language", None)}

    def a_whole_object_removed(self, key: str) -> Found:
        self.patch(key, caller_id={})
        return {
            (key, "settings.caller_id.external.number", None),
            (key, "settings.caller_id.external.name", None),
        }

    def lists(self, key: str) -> Found:
        system = self.dice.choice([["fr", "us"], ["us"], [], ["us", "fr", "us"]])
        self.patch(key, flags=["a", "c"], dial_plan={"system": system})
        return {
            (key, "settings.flags", repr(["a", "c"])),
            (key, "settings.dial_plan.system", repr(system)),
        }

    def an_empty_object_filled(self, key: str) -> Found:
        self.patch(key, music_on_hold={"media_id": "x"})
        return {(key, "settings.music_on_hold", repr({"media_id": "x"}))}

    def disabled(self, key: str) -> Found:
        self.patch(key, enabled=False)
        return {(key, "settings.enabled", False)}

    def promoted(self, key: str) -> Found:
        self.world.call("PUT", f"/accounts/{self.blocks[key]['id']}/reseller", {}, expect=201)
        return {(key, "reseller", True)}

    def moved(self, key: str) -> Found:
        to = self.dice.choice([f"r{n:02}" for n in range(20)])
        self.world.call(
            "POST", f"/accounts/{self.blocks[key]['id']}/move", {"to": self.blocks[to]["id"]}
        )
        return {(key, "parent", to)}

    def deleted(self, key: str) -> Found:
        self.world.call("DELETE", f"/accounts/{self.blocks[key]['id']}")
        self.gone.add(key)
        return set()

    # --- what is no drift

    def a_stranger_below(self, key: str) -> Found:
        self.made.add(self.world.create(f"s-{key}", self.blocks[key]["id"]))
        return set()

    def what_nobody_declares(self, key: str) -> Found:
        self.patch(
            key, org="Somebody", caller_id={"emergency": {"name": "x"}}, preflow={"always": "x"}
        )
        return set()

    def the_same_again(self, key: str) -> Found:
        self.patch(key, language="en-us", flags=["b", "a"])
        return set()

    def a_number_as_another(self, key: str) -> Found:
        self.patch(key, call_recording={"account": {"inbound": {"offnet": {"time_limit": 3600.0}}}})
        return set()

    def what_the_platform_writes(self, key: str) -> Found:
        self.patch(key, notifications={
            "low_balance": {"sent_low_balance": True, "last_notification": 63000000000},
            "first_occurrence": {"sent_initial_call": True},
        })  # fmt: skip
        return set()


@pytest.mark.parametrize("seed", [1])
def test_all_that_others_changed_is_found_and_nothing_else(
    release: World, project: Project, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - a seeded world, no secret
    blocks = planted(release)
    accounts = {
        key: {**block, "settings": {**block["settings"], "enabled": True}}
        for key, block in blocks.items()
    }
    project.write("reconciler.yaml", _yaml(accounts))
    project.settle()
    assert project.run("drift").code == 0

    outsider = Outsider(release, blocks, dice)
    kinds: list[Callable[[str], Found]] = [
        outsider.a_field, outsider.nested_fields, outsider.a_removal, outsider.a_whole_object_removed,
        outsider.lists, outsider.an_empty_object_filled, outsider.disabled, outsider.promoted,
        outsider.moved, outsider.deleted, outsider.a_stranger_below, outsider.what_nobody_declares,
        outsider.the_same_again, outsider.a_number_as_another, outsider.what_the_platform_writes,
    ]  # fmt: skip
    expected: Found = set()
    for key in ("r03-0", "r05-3"):  # resellers without resellers below them
        release.call("DELETE", f"/accounts/{blocks[key]['id']}/reseller")
        expected.add((key, "reseller", False))
    leaves = [key for key in blocks if key.count("-") == 2]
    assert len(leaves) == _LEAVES
    for key in dice.sample(leaves, 600):
        expected |= dice.choice(kinds)(key)
    release.call("POST", f"/accounts/{blocks['r07-1']['id']}/move", {"to": blocks["r08"]["id"]})
    expected.add(("r07-1", "parent", "r08"))

    release.log.clear()
    told = project.run("drift", "--unmanaged", "--format", "json")
    assert told.code == 2
    assert release.writes == []
    document = told.json
    changes = document["changes"]
    found = {
        (change["address"].removeprefix("accounts."), field["path"], _plain(field["after"]))
        for change in changes
        for field in change["fields"]
    }
    assert found == expected
    gone = {c["address"].removeprefix("accounts.") for c in changes if "deleted" in c["reason"]}
    assert gone == outsider.gone
    assert {one["id"] for one in document["unmanaged"]} == outsider.made


def _plain(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value


def _yaml(accounts: dict[str, Any]) -> str:
    """JSON is YAML; names that turn text round must be escaped in it, which `json` does."""
    import json

    safety = {"max_update_percent": 100}
    return json.dumps({"version": 1, "safety": safety, "accounts": accounts}, indent=1)
