"""From a directory to a configuration: files, merging, interpolation, variables, errors."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.config.project import HostMismatch, open_project
from reconciler.core.configuration import Configuration, Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from reconciler.core.values import Diagnostic

Load = Any  # the fixture's type: see conftest.py


def settings(
    found: tuple[Configuration | None, list[Diagnostic]], key: str = "a"
) -> dict[str, Any]:
    configuration, diagnostics = found
    assert not [d for d in diagnostics if d.severity == "error"], diagnostics
    assert configuration is not None
    return configuration.accounts[key].settings


def problems(found: tuple[Configuration | None, list[Diagnostic]]) -> list[str]:
    """file:line:column summary of each error."""
    return [
        f"{d.source} {d.summary}" if d.source else d.summary
        for d in found[1]
        if d.severity == "error"
    ]


def test_layers_merge_mappings_deeply_and_replace_all_else(loaded: Load) -> None:
    found = settings(
        loaded(
            {
                "reconciler.yaml": "include: [more]\ndefaults: {settings: {enabled: true, flags: [d], caller_id: {external: {name: D, number: '1'}}}}\n",
                "more/t.yaml": "templates:\n  t1: {settings: {flags: [t1], org: T1, caller_id: {external: {name: T1}}}}\n  t2: {extends: [t1], settings: {org: T2}}\n",
                "more/a.yaml": "accounts: {a: {extends: [t2], settings: {name: A, realm: a.example.com, caller_id: {external: {number: '2'}}, ringtones: null}}}\n",
            }
        )
    )
    assert found == {
        "enabled": True,
        "flags": ["t1"],
        "org": "T2",
        "caller_id": {"external": {"name": "T1", "number": "2"}},
        "name": "A",
        "realm": "a.example.com",
        "ringtones": None,
    }


def test_every_leaf_names_the_place_it_comes_from(loaded: Load) -> None:
    configuration, _ = loaded(
        {
            "reconciler.yaml": "include: [a.yaml]\nvariables: {who: {default: x}}\n"
            "defaults:\n  settings: {language: en-us}\ntemplates:\n  t:\n    settings:\n      org: T\n",
            "a.yaml": "accounts:\n  a:\n    extends: [t]\n    settings:\n      name: A ${var.who}\n      realm: a.example.com\n",
        }
    )
    origin = configuration.accounts["a"].origin

    def told(field: str) -> str:
        source, kind = origin(("settings", field))
        return f"{source} {kind}"

    assert told("language") == "reconciler.yaml:6:24 default"
    assert told("org") == "reconciler.yaml:10:12 template t"
    assert told("name") == "a.yaml:5:13 variable who"
    assert told("realm") == "a.yaml:6:14 account"


def test_interpolation_keeps_the_type_of_a_whole_value(loaded: Load) -> None:
    found = settings(
        loaded(
            {
                "reconciler.yaml": "variables: {n: {default: 60}, on: {default: true}, l: {default: [x, y]}}\n"
                "accounts: {a: {settings: {name: 'A${var.n}-${var.on}', realm: '${account.key}.example.com', flags: '${var.l}',"
                " org: '$${var.n}', call_recording: {account: {any: {any: {time_limit: '${var.n}', enabled: '${var.on}'}}}}}}}\n"
            }
        )
    )
    assert found["name"] == "A60-true"
    assert found["realm"] == "a.example.com"
    assert found["flags"] == ["x", "y"]
    assert found["org"] == "${var.n}"
    assert found["call_recording"]["account"]["any"]["any"] == {"time_limit": 60, "enabled": True}


VARIABLE = "variables: {v: {default: d, env: MY_V}}\naccounts: {a: {settings: {name: A, realm: a.example.com, org: '${var.v}'}}}\n"


@pytest.mark.parametrize(
    ("given", "environment", "value"),
    [
        ({}, {}, "d"),
        ({}, {"MY_V": "e"}, "e"),
        ({}, {"MY_V": "e", "RECONCILER_VAR_v": "r"}, "r"),
        ({"v": "g"}, {"MY_V": "e", "RECONCILER_VAR_v": "r"}, "g"),
    ],
)
def test_the_nearest_source_of_a_variable_wins(
    loaded: Load, given: dict[str, str], environment: dict[str, str], value: str
) -> None:
    found = loaded({"reconciler.yaml": VARIABLE}, given, environment)
    assert settings(found)["org"] == value
    assert bool(found[0].accounts["a"].sensitive) is (value in "er")


def test_a_name_from_the_environment_is_taken_with_a_warning_and_a_secret_one_refused(
    loaded: Load,
) -> None:
    text = "variables: {v: {env: MY_V%s}}\naccounts: {a: {settings: {name: '${var.v}', realm: a.example.com}}}\n"
    found = loaded({"reconciler.yaml": text % ""}, {}, {"MY_V": "Acme"})
    assert settings(found)["name"] == "Acme"
    assert [d.summary for d in found[1]] == ["A value that is shown"]
    for said, expected in ((", sensitive: true", ["A sensitive name"]), (", sensitive: false", [])):
        found = loaded({"reconciler.yaml": text % said}, {}, {"MY_V": "Acme"})
        assert [d.summary for d in found[1]] == expected


def test_text_from_outside_takes_the_type_of_the_default(loaded: Load) -> None:
    text = "variables: {n: {default: 60}}\naccounts: {a: {settings: {name: A, realm: a.example.com, topup: {threshold: '${var.n}'}}}}\n"
    assert settings(loaded({"reconciler.yaml": text}, {"n": "5"}))["topup"] == {"threshold": 5}
    assert problems(loaded({"reconciler.yaml": text}, {"n": "five"})) == [
        "reconciler.yaml:3:13 A wrong value for the variable: n"
    ]


@pytest.mark.parametrize(
    "value",
    ["https://u:p@h.example.com/x", "https://h.example.com/x?token=1", "sip://u@h", "http://[bad"],
)
def test_credentials_in_a_url_make_a_value_sensitive(loaded: Load, value: str) -> None:
    found = loaded(
        {
            "reconciler.yaml": f'accounts: {{a: {{settings: {{name: A, realm: a.example.com, org: "{value}"}}}}}}\n'
        }
    )
    assert found[0].accounts["a"].sensitive == {("settings", "org"): "accounts.a.settings.org"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"reconciler.yaml": "include: [nowhere]\n"}, ["reconciler.yaml:3:11 A wrong include"]),
        ({"reconciler.yaml": "include: ['*.yml']\n"}, ["reconciler.yaml:3:11 A wrong include"]),
        ({"reconciler.yaml": "include: ['a**']\n"}, ["reconciler.yaml:3:11 A wrong include"]),
        ({"reconciler.yaml": "include: [../x, /etc/passwd]\n"}, ["reconciler.yaml:3:11 A wrong include", "reconciler.yaml:3:17 A wrong include"]),
        ({"reconciler.yaml": "include: [a.yaml]\n", "a.yaml": ""}, ["a.yaml:1:1 A file without content"]),
        ({"reconciler.yaml": "include: [a.yaml]\n", "a.yaml": "- x\n"}, ["a.yaml:1:1 A file without content"]),
        ({"reconciler.yaml": "include: [a.yaml]\n", "a.yaml": "defaults: {}\n"}, ['a.yaml:1:1 An unknown key "defaults"']),
        ({"reconciler.yaml": "acounts: {}\nsafety: {max_delete: -1}\n"}, ['reconciler.yaml:3:1 An unknown key "acounts"', "reconciler.yaml:4:22 A wrong value"]),
        ({"reconciler.yaml": "accounts: {a: {reseller: yes}}\n"}, ["reconciler.yaml:3:12 A missing field", "reconciler.yaml:3:26 A wrong value"]),
        ({"reconciler.yaml": "accounts: {a: {extends: [t]}}\n"}, ["reconciler.yaml:3:12 A missing field", "reconciler.yaml:3:26 An unknown template"]),
        ({"reconciler.yaml": "templates: {t: {extends: [u]}, u: {extends: [t]}}\naccounts: {a: {extends: [t], settings: {name: A, realm: aaaa}}}\n"}, ["reconciler.yaml:3:46 Templates in a circle"]),
        ({"reconciler.yaml": "accounts: {a b: {settings: {name: A}}, root: {settings: {name: B}}}\n"}, ["reconciler.yaml:3:12 A malformed key", "reconciler.yaml:3:40 A malformed key"]),
        ({"reconciler.yaml": "include: [x]\naccounts: {a: {settings: {name: A, realm: aaaa}}}\n", "x/a.yaml": "accounts: {a: {settings: {name: A, realm: aaaa}}}\n"}, ["x/a.yaml:1:12 An account declared twice"]),
        ({"reconciler.yaml": "accounts: {a: {settings: {name: '${var.x}', realm: aaaa, org: '${env.HOME}'}}}\n"}, ["reconciler.yaml:3:33 A broken interpolation", "reconciler.yaml:3:63 A broken interpolation"]),
        ({"reconciler.yaml": "variables: {x: {}}\n"}, ["reconciler.yaml:3:13 No value for the variable: x"]),
        ({"reconciler.yaml": "accounts: {a: {id: '../b', settings: {name: A, realm: aaaa}}}\n"}, ["reconciler.yaml:3:20 A malformed account id"]),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_files_is_told_at_once_with_its_place(
    loaded: Load, files: dict[str, str], expected: list[str]
) -> None:
    assert problems(loaded(files)) == expected


COVERED = """\
defaults: {settings: {enabled: 1, name: "${account.key}"}}
templates:
  t: {parent: nobody, settings: {timezone: 5, org: "${row.x} ${account.key} ${var.x}"}}
  u: {settings: {language: 5}}
variables: {x: {default: x}}
accounts:
  a: {extends: [t, u], parent: root, settings: {realm: aaaa, enabled: true, timezone: Etc/UTC, org: A}}
  b: {extends: [u], settings: {realm: bbbb, enabled: true}}
"""


def test_what_is_wrong_in_defaults_and_templates_is_wrong_where_accounts_cover_it_too(
    loaded: Load,
) -> None:
    found = loaded({"reconciler.yaml": COVERED})
    assert problems(found) == [
        "reconciler.yaml:3:32 A value of the wrong type",
        "reconciler.yaml:5:15 An unknown parent",
        "reconciler.yaml:5:44 A value of the wrong type",
        "reconciler.yaml:6:28 A value of the wrong type",
    ]
    assert [d.address for d in found[1]] == ["defaults", "templates.t", "templates.t", "accounts.a"]
    assert [d.detail.count("(The same from here: ") for d in found[1]] == [0, 0, 0, 1]


def test_what_a_key_and_a_row_make_of_a_template_is_not_told_before_they_do(loaded: Load) -> None:
    text = """\
variables: {domain: {default: example.com}}
templates:
  t: {settings: {realm: "${account.key}.${var.domain}", enabled: "${row.on}", flags: ["${row.x}"]}}
  u: {settings: {org: "${account.key}.${var.domian}"}}
"""
    assert problems(loaded({"reconciler.yaml": text})) == [
        "reconciler.yaml:6:23 A broken interpolation"
    ]


def test_the_defaults_can_extend_templates(loaded: Load) -> None:
    text = """\
templates: {t: {settings: {org: T, language: t}}}
defaults: {extends: [%s], settings: {org: D}}
accounts: {a: {settings: {name: A, realm: aaaa}}}
"""
    assert settings(loaded({"reconciler.yaml": text % "t"})) == {
        "name": "A", "realm": "aaaa", "org": "D", "language": "t",
    }  # fmt: skip
    assert problems(loaded({"reconciler.yaml": text % "v"})) == [
        "reconciler.yaml:4:22 An unknown template"
    ]


def test_a_link_out_of_the_project_is_refused(
    loaded: Load, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "a.yaml"
    outside.write_text("accounts: {}\n")
    (tmp_path / "linked.yaml").symlink_to(outside)
    assert problems(loaded({"reconciler.yaml": "include: [linked.yaml]\n"})) == [
        "reconciler.yaml:3:11 A wrong include"
    ]


def test_a_variable_that_nobody_declared_is_refused(loaded: Load) -> None:
    assert problems(
        loaded({"reconciler.yaml": "variables: {region: {default: x}}\n"}, {"regio": "y"})
    ) == ["An undeclared variable: regio"]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., str]:
    """The URL that a project with this `api:` uses under this environment."""

    def run(api: str, **environment: str) -> str:
        (tmp_path / "reconciler.yaml").write_text(f"version: 1\napi: {api}\n")
        return open_project(tmp_path, environment).url

    return run


def test_file_and_environment_must_name_the_same_platform(opened: Callable[..., str]) -> None:
    assert opened("{url: 'https://a.example.com/v2/'}") == "https://a.example.com/v2"
    assert opened("{}", VINIX_API_URL="https://b.example.com/v2") == "https://b.example.com/v2"
    assert opened("{}", VINIX_BASE="https://b.example.com/v2") == "https://b.example.com/v2"
    assert (
        opened("{url: 'https://a.example.com/v2'}", VINIX_API_URL="https://a.example.com/v2/")
        == "https://a.example.com/v2"
    )
    for api in ("https://a.example.com/v2", "sandbox:"):
        with pytest.raises(HostMismatch, match=r"reconciler.yaml:2:12: api.url"):
            opened(f"{{url: '{api}'}}", VINIX_API_URL="https://b.example.com/v2")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v2",
        "ftp://x/",
        "https://",
        "https://u:p@x/v2",
        "https://x/v2?a=b",
        "",
        "x",
    ],
)
def test_a_url_that_could_leak_the_credential_is_refused(
    opened: Callable[..., str], url: str
) -> None:
    with pytest.raises(Invalid) as caught:
        opened(f"{{url: '{url}'}}")
    assert [d.summary for d in caught.value.diagnostics] == ["A wrong api.url"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v2", "http://localhost:8000/v2", "http://[::1]:8000/v2"]
)
def test_plain_http_is_for_this_machine(opened: Callable[..., str], url: str) -> None:
    assert opened(f"{{url: '{url}'}}") == url


def test_a_project_without_a_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        open_project(tmp_path, {})
    assert "reconciler init" in caught.value.diagnostics[0].detail


@pytest.mark.parametrize(
    ("file", "pinned", "expected"),
    [
        ("", None, "state/reconciler.state.json"),
        ("state: https://state.example.com/a\n", None, "https://state.example.com/a"),
        ("", "https://state.example.com/a", "https://state.example.com/a"),
        ("state: a.json\n", "a.json", "a.json"),
    ],
)
def test_state_is_where_the_file_or_the_environment_says(
    tmp_path: Path, file: str, pinned: str | None, expected: str
) -> None:
    (tmp_path / "reconciler.yaml").write_text(f"version: 1\n{file}")
    environment = {"RECONCILER_STATE": pinned} if pinned else {}
    assert open_project(tmp_path, environment).state == expected


def test_a_file_can_not_send_state_and_its_password_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "reconciler.yaml").write_text(
        "version: 1\nstate: https://u:p@elsewhere.example.com/a\n"
    )
    project = open_project(tmp_path, {"RECONCILER_STATE": "https://state.example.com/a"})
    with pytest.raises(
        HostMismatch, match=r"reconciler\.yaml:2:8: state is https://elsewhere"
    ) as caught:
        _ = project.state
    assert "u:p" not in str(caught.value)


def test_a_directory_without_a_project_is_named_as_its_user_named_it(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as elsewhere:
        open_project(tmp_path, {})
    assert f"There is none in {tmp_path}." in str(elsewhere.value.diagnostics[0].detail)
    with pytest.raises(Invalid) as here, chdir(tmp_path):
        open_project(Path(), {})
    assert "There is none in this directory." in str(here.value.diagnostics[0].detail)
