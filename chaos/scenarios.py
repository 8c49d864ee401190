"""What is interrupted: a project before, what happens outside, the project after, the command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chaos.world import World
    from reconciler.core.values import JsonObject, JsonValue
    from reconciler.sandbox.options import Dialect

CANARY: Final = "canary-7d1f93b5e2"
"""A secret that must not be found in any output or state."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One interrupted command. `deletes`: how many deletes it may send at most."""

    name: str
    before: Mapping[str, JsonObject]
    after: Mapping[str, JsonObject]
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    command: tuple[str, ...] = ("apply",)
    dialect: Dialect = "release"
    outside: Callable[[World], None] | None = None
    deletes: int = 0
    unique_names: bool = True

    def project(self, *, after: bool) -> JsonObject:
        """The one file of the project."""
        top: JsonObject = {
            "version": 1,
            "variables": {"secret": {"env": "CHAOS_SECRET", "sensitive": True}},
            "safety": {"max_delete": 20, "max_demote": 20, "max_update_percent": 100},
            "accounts": dict(self.after if after else self.before),
        }
        return {**top, **(self.extra if after else {})}


def account(key: str, **fields: JsonValue) -> JsonObject:
    """A block: what is no key of a block is a setting. A realm of `...` stands for none."""
    blocks = ("parent", "reseller", "id", "lifecycle")
    settings: JsonObject = {"name": key.title(), "realm": f"{key}.example.com"}
    settings |= {name: value for name, value in fields.items() if name not in blocks}
    if settings["realm"] is None:
        del settings["realm"]
    return {**{n: v for n, v in fields.items() if n in blocks}, "settings": settings}


def accounts(**blocks: Mapping[str, JsonValue]) -> Mapping[str, JsonObject]:
    """Blocks by key."""
    return {key: account(key, **fields) for key, fields in blocks.items()}


_URL: Final = "https://user:${var.secret}@rec.example.com/in"
_RECORDED: Final[JsonObject] = {"account": {"any": {"any": {"enabled": True, "url": _URL}}}}
_TREE: Final = accounts(a={"reseller": True}, b={"parent": "a"}, c={"parent": "b"})


def _rename_outside(world: World) -> None:
    for record in world.records():
        world.call("PATCH", f"/accounts/{record.id}", {"org": "Outside", "enabled": record.enabled})


SCENARIOS: Final = (
    Scenario("first-apply", {}, accounts(a={}, b={"parent": "a"}, c={"parent": "a"})),
    Scenario("create-and-promote", accounts(z={}), {**accounts(z={}), **_TREE}),
    Scenario(
        "create-without-realm",
        accounts(z={}),
        accounts(z={}, a={"realm": None}, b={"realm": None, "parent": "a"}),
        unique_names=False,
    ),
    Scenario("create-disabled", {}, accounts(a={"enabled": False}, b={"parent": "a", "enabled": False})),
    Scenario(
        "update",
        accounts(a={"language": "en-us"}, b={}, c={"org": "C"}),
        accounts(a={"language": "fr-fr", "call_recording": _RECORDED}, b={"timezone": "Europe/Paris"}, c={"org": "D"}),
        outside=_rename_outside,
    ),
    Scenario(
        "remove-fields",
        accounts(a={"caller_id": {"external": {"name": "A", "number": "1"}, "internal": {"name": "A"}}}),
        accounts(a={"caller_id": {"external": {"number": "1"}}}),
    ),
    Scenario(
        "remove-fields-head",
        accounts(a={"caller_id": {"external": {"name": "A", "number": "1"}, "internal": {"name": "A"}}}),
        accounts(a={"caller_id": {"external": {"number": "1"}}}),
        dialect="head",
    ),
    Scenario("promote", accounts(a={}, b={"parent": "a"}), accounts(a={"reseller": True}, b={"parent": "a"})),
    Scenario(
        "promote-above-resellers",
        accounts(a={}, b={"parent": "a", "reseller": True}, c={"parent": "b", "reseller": True}),
        accounts(a={"reseller": True}, b={"parent": "a", "reseller": True}, c={"parent": "b", "reseller": True}),
    ),
    Scenario(
        "promote-above-undeclared-ranks",
        accounts(a={}, b={"parent": "a", "reseller": True}),
        accounts(a={"reseller": True}, b={"parent": "a", "reseller": True}, c={"parent": "b"}),
    ),
    Scenario(
        "demote",
        accounts(a={"reseller": True}, b={"parent": "a", "reseller": True}),
        accounts(a={"reseller": False}, b={"parent": "a", "reseller": False}),
    ),
    Scenario(
        "move",
        accounts(a={}, b={}, c={"parent": "a"}, d={"parent": "c"}),
        accounts(a={}, b={}, c={"parent": "b"}, d={"parent": "c"}),
    ),
    Scenario(
        "delete",
        accounts(a={}, b={"parent": "a"}, c={"parent": "b"}, z={}),
        accounts(z={}),
        extra={"removed": [{"account": key, "destroy": True} for key in "abc"]},
        deletes=3,
    ),
    Scenario(
        "forget-and-rename",
        accounts(a={}, b={}, z={}),
        accounts(c={"name": "A", "realm": "a.example.com"}, z={"org": "Z"}),
        extra={"removed": [{"account": "b", "destroy": False}], "moved": [{"from": "a", "to": "c"}]},
    ),
    Scenario(
        "mixture",
        accounts(a={"reseller": True}, b={"parent": "a"}, c={"parent": "a", "reseller": True}, d={}, e={"parent": "d"}),
        accounts(
            a={"reseller": True, "org": "A"}, c={"reseller": True}, d={"reseller": True},
            e={"parent": "d", "reseller": True}, f={"parent": "e"}, g={"parent": "c", "reseller": True},
        ),
        extra={"removed": [{"account": "b", "destroy": True}]},
        deletes=1,
    ),
    Scenario("destroy", _TREE, {}, command=("destroy",), deletes=3),
)  # fmt: skip
