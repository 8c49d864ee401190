"""What a field of the YAML does to the platform, and what no field of the YAML ever does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reconciler.sandbox.options import ROOT_ID

if TYPE_CHECKING:
    from reconciler.core.values import JsonObject, JsonValue

    from .conftest import Project, World


def an_applied(project: Project, **fields: JsonValue) -> None:
    """Declare and apply the one account `acme`."""
    project.declare({"acme": fields})
    project.settle()


def redeclared(project: Project, world: World, **fields: JsonValue) -> None:
    """Declare `acme` anew, and forget what was sent before."""
    project.declare({"acme": fields})
    world.log.clear()


def document(world: World) -> JsonObject:
    return world.account("acme").document


def test_one_changed_field_is_one_patch_with_it_and_enabled(world: World, project: Project) -> None:
    external: JsonObject = {"name": "Acme", "number": "+1"}
    an_applied(project, language="en-us", caller_id={"external": external})
    redeclared(project, world, language="en-us", caller_id={"external": {**external, "name": "A"}})
    assert project.plan().code == 2
    applied = project.apply()
    assert "0 created, 0 promoted, 1 updated" in applied.out
    (patch,) = world.writes
    assert (patch.method, patch.query) == ("PATCH", {})
    assert patch.body == {"enabled": True, "caller_id": {"external": {"name": "A"}}}
    assert project.plan().code == 0


def test_what_was_never_declared_is_never_sent_and_never_touched(
    world: World, project: Project
) -> None:
    an_applied(project, language="en-us", caller_id={"external": {"name": "A"}})
    by_hand: JsonObject = {
        "caller_id": {"external": {"number": "+2"}, "internal": {"name": "in"}},
        "topup": {"threshold": 5.0},
        "ringtones": {"internal": "ring"},
    }
    world.patch("acme", **by_hand)
    redeclared(project, world, language="de-de", caller_id={"external": {"name": "B"}})
    assert project.apply().code == 0
    assert world.writes[0].body.keys() == {"enabled", "language", "caller_id"}
    found = document(world)
    assert found["caller_id"] == {
        "external": {"name": "B", "number": "+2"},
        "internal": {"name": "in"},
    }
    assert (found["topup"], found["ringtones"]) == ({"threshold": 5.0}, {"internal": "ring"})
    assert project.plan().code == 0


def test_a_field_that_leaves_the_yaml_is_removed(release: World, project: Project) -> None:
    an_applied(project, language="en-us", org="Acme", caller_id={"external": {"name": "A"}})
    redeclared(project, release, org="Acme")
    assert project.apply().code == 0
    (patch,) = release.writes
    assert patch.body == {
        "enabled": True,
        "language": None,
        "caller_id": {"external": {"name": None}},
    }
    assert "language" not in document(release)
    assert document(release)["caller_id"] == {"external": {}}
    assert project.plan().code == 0


def test_a_nested_field_goes_though_the_platform_ignores_null(
    head: World, project: Project
) -> None:
    an_applied(project, caller_id={"external": {"name": "A", "number": "+1"}})
    head.patch("acme", caller_id={"external": {"realm": "by.hand"}, "internal": {"name": "in"}})
    redeclared(project, head, caller_id={"external": {"number": "+1"}})
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert document(head)["caller_id"] == {
        "external": {"number": "+1", "realm": "by.hand"},
        "internal": {"name": "in"},
    }
    bodies = [entry.body["caller_id"] for entry in head.writes]
    assert bodies == [
        {"external": {"name": None}},
        {"external": {}},
        {"external": {"number": "+1", "realm": "by.hand"}},
    ]
    assert all(entry.body["enabled"] is True for entry in head.writes)
    assert project.plan().code == 0


def test_a_top_level_scalar_that_the_platform_keeps_is_an_error_and_stays_owed(
    head: World, project: Project
) -> None:
    an_applied(project, language="en-us")
    redeclared(project, head, timezone="Europe/Paris")
    for _ in range(2):
        applied = project.apply()
        assert applied.code == 5
        assert "the platform does not remove settings.language" in applied.err
    assert document(head)["timezone"] == "Europe/Paris"
    assert project.state()["accounts"]["acme"]["applied"]["settings"]["language"] == "en-us"
    assert project.run("drift").code == 0
    redeclared(project, head, timezone="Europe/Paris", language="")
    project.settle()


@pytest.mark.parametrize("before", [{}, {"language": None, "topup": {"threshold": None}}])
def test_null_removes_what_anybody_set(
    release: World, project: Project, before: JsonObject
) -> None:
    an_applied(project, **before)
    release.patch("acme", language="en-us", topup={"threshold": 5, "amount": 1})
    redeclared(project, release, language=None, topup={"threshold": None})
    assert project.apply().code == 0
    (patch,) = release.writes
    assert patch.body == {"enabled": True, "language": None, "topup": {"threshold": None}}
    assert "language" not in document(release)
    assert document(release)["topup"] == {"amount": 1}
    assert project.plan().code == 0


def test_null_in_a_new_account_sends_nothing(world: World, project: Project) -> None:
    an_applied(project, language=None, caller_id={"external": {"name": None, "number": "+1"}})
    (create,) = world.writes
    assert create.body.keys() == {"name", "realm", "caller_id"}
    assert create.body["caller_id"] == {"external": {"number": "+1"}}


EMPTY: JsonObject = {
    "language": "",
    "flags": [],
    "music_on_hold": {},
    "caller_id": {"external": {}, "internal": {"name": ""}},
    "call_restriction": {},
}


def test_empty_values_are_set_exactly_at_creation(world: World, project: Project) -> None:
    an_applied(project, **EMPTY)
    assert EMPTY.items() <= document(world).items()


def test_empty_values_are_set_exactly_later(world: World, project: Project) -> None:
    an_applied(
        project,
        language="en-us",
        flags=["a"],
        music_on_hold={"media_id": "m"},
        caller_id={"external": {"name": "A"}, "internal": {"name": "B"}},
        call_restriction={"tollfree_us": {"action": "deny"}},
    )
    redeclared(project, world, **EMPTY)
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert EMPTY.items() <= document(world).items()
    assert project.plan().code == 0


def test_a_list_is_replaced_and_flags_are_a_set(world: World, project: Project) -> None:
    an_applied(project, flags=["a", "b"], dial_plan={"system": ["x", "y"]})
    redeclared(project, world, flags=["b", "a"], dial_plan={"system": ["x", "y"]})
    assert project.plan().code == 0
    redeclared(project, world, flags=["b", "c"], dial_plan={"system": ["y", "x"]})
    assert project.apply().code == 0
    assert document(world)["flags"] == ["b", "c"]
    assert document(world)["dial_plan"] == {"system": ["y", "x"]}
    assert project.plan().code == 0


def test_odd_names_of_keys_are_no_paths(world: World, project: Project) -> None:
    rules: JsonObject = {"^\\+1(.*)$": {"prefix": "1"}, "a.b": {"suffix": "#"}, "^9": {}}
    an_applied(project, dial_plan=rules)
    assert document(world)["dial_plan"] == rules
    changed: JsonObject = {"^\\+1(.*)$": {"prefix": "2"}, "^9": {}}
    redeclared(project, world, dial_plan=changed)
    assert project.apply().code == 0
    assert document(world)["dial_plan"] in (changed, {**changed, "a.b": {}})
    assert project.plan().code == 0


# --- enabled: a PATCH without it would enable a disabled account again ---


def test_an_account_declared_disabled_stays_so(world: World, project: Project) -> None:
    an_applied(project, enabled=False)
    assert [entry.method for entry in world.writes] == ["PUT", "PATCH"]
    assert world.account("acme").enabled is False
    redeclared(project, world, enabled=False, language="de-de")
    assert project.apply().code == 0
    (patch,) = world.writes
    assert patch.body == {"enabled": False, "language": "de-de"}
    assert world.account("acme").enabled is False


def test_an_account_disabled_by_somebody_else_stays_so(world: World, project: Project) -> None:
    an_applied(project, caller_id={"external": {"name": "A", "number": "+1"}})
    world.call("PATCH", f"/accounts/{world.account('acme').id}", {"enabled": False})
    redeclared(project, world, language="de-de", caller_id={"external": {"name": "A"}})
    applied = project.apply()
    assert applied.code == 0, applied.err
    assert all(entry.body["enabled"] is False for entry in world.writes)
    assert world.account("acme").enabled is False


def test_enabled_is_no_longer_managed_when_it_leaves_the_yaml(
    world: World, project: Project
) -> None:
    an_applied(project, enabled=False)
    redeclared(project, world)
    planned = project.plan()
    assert planned.code == 0
    assert "settings.enabled" in planned.err
    assert project.apply().code == 0
    assert world.account("acme").enabled is False


@pytest.mark.parametrize("field", ["realm", "timezone"])
def test_what_can_not_be_absent_is_let_go_with_a_warning(
    world: World, project: Project, field: str
) -> None:
    value = {"realm": "acme.example.com", "timezone": "Asia/Tokyo"}[field]
    an_applied(project, **{field: value})
    project.declare({"acme": {field: "(left out)"}})
    world.log.clear()
    planned = project.plan()
    assert planned.code == 0
    assert f"settings.{field}" in planned.err
    assert project.apply().code == 0
    assert world.writes == []
    assert document(world)[field] == value


def test_an_account_below_a_disabled_one_is_as_declared(world: World, project: Project) -> None:
    project.declare(
        {
            "off": {"enabled": False},
            "on": {"parent": "off", "enabled": True},
            "below": {"parent": "on", "enabled": False},
        }
    )
    project.settle()
    assert [world.account(name).enabled for name in ("off", "on", "below")] == [False, True, False]


def test_fields_in_ignore_changes_are_set_once(world: World, project: Project) -> None:
    lifecycle: JsonObject = {"ignore_changes": ["language", "caller_id.external"]}
    an_applied(
        project, language="en-us", caller_id={"external": {"name": "A"}}, lifecycle=lifecycle
    )
    assert document(world)["language"] == "en-us"
    world.patch("acme", language="fr-fr")
    redeclared(
        project,
        world,
        language="de-de",
        caller_id={"external": {"name": "B"}, "internal": {"name": "C"}},
        lifecycle=lifecycle,
    )
    assert project.apply().code == 0
    (patch,) = world.writes
    assert patch.body == {"enabled": True, "caller_id": {"internal": {"name": "C"}}}
    assert document(world)["language"] == "fr-fr"
    assert project.plan().code == 0


def test_what_the_platform_writes_by_itself_is_no_drift(world: World, project: Project) -> None:
    an_applied(project, notifications={"low_balance": {"enabled": True, "threshold": 5}})
    for _ in range(2):
        world.fault(path=f"/accounts/{world.account('acme').id}", occur=True)
        assert project.plan().code == 0
        assert project.run("drift").code == 0


def test_the_root_account_is_never_written(world: World, project: Project) -> None:
    before = world.platform.store.get(ROOT_ID)
    an_applied(project, language="en-us")
    after = world.platform.store.get(ROOT_ID)
    assert before is not None
    assert after is not None
    assert {**before.document, "descendants_count": 1} == after.document
