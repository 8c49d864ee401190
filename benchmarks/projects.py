"""A project of any size to measure with: resellers, regional resellers, their customers.

An account has 25 leaves and 37 lines in its file; two templates and the defaults lie under it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Block = Mapping[str, object]

ACCOUNTS_PER_FILE = 500
_PER_RESELLER = 500
_PER_REGION = 50
_CHANGED = 100
"""One account in so many is another after `write_project(..., changed=True)`."""

_PROJECT = """\
version: 1
include: [templates.yaml, accounts]
variables:
  domain: {default: sip.example.com}
defaults:
  settings: {realm: "${account.key}.${var.domain}", enabled: true}
"""
_WHOLESALE: Block = {"flags": ["wholesale"], "topup": {"threshold": 250.0}}
_RETAIL: Block = {
    "flags": ["retail"],
    "call_waiting": {"enabled": True},
    "call_restriction": {
        "caribbean": {"action": "deny"},
        "international": {"action": "deny"},
        "toll_us": {"action": "inherit"},
    },
}


@dataclass(frozen=True, slots=True)
class Member:
    """One account of the tree. `parent` is None below the root; `settings`: what its file says."""

    key: str
    parent: str | None
    level: int
    reseller: bool
    settings: Block

    @property
    def document(self) -> Block:
        """What is sent to make it: its settings over those of its template and the defaults."""
        template = _WHOLESALE if self.reseller else _RETAIL
        return {
            "realm": f"{self.key}.sip.example.com",
            "enabled": True,
            **template,
            **self.settings,
        }


def members(count: int, *, changed: bool = False) -> Iterator[Member]:
    """The accounts of the tree, parents first within each level of a reseller."""
    for number in range(count):
        share, place = divmod(number, _PER_RESELLER)
        top = f"reseller-{share:04d}"
        region = f"{top}-{max(place - 1, 0) // _PER_REGION:02d}"
        org = "Changed, Inc." if changed and number % _CHANGED == _CHANGED // 2 else "Example, Inc."
        settings = _settings(number, org)
        if place == 0:
            yield Member(top, None, 1, reseller=True, settings=settings)
        elif (place - 1) % _PER_REGION == 0:
            yield Member(region, top, 2, reseller=True, settings=settings)
        else:
            yield Member(f"customer-{number:06d}", region, 3, reseller=False, settings=settings)


def _settings(number: int, org: str) -> Block:
    name = f"Account {number:06d}"
    caller = {"name": name, "number": f"+1555{number:07d}"}
    recording = {"enabled": True, "format": "mp3", "time_limit": 3600}
    return {
        "name": name,
        "org": org,
        "timezone": ("America/New_York", "America/Chicago", "Europe/Paris")[number % 3],
        "language": "en-us",
        "caller_id": {"internal": {"name": name}, "external": caller, "emergency": caller},
        "caller_id_options": {"outbound_privacy": "none", "show_rate": False},
        "call_recording": {"account": {"inbound": {"offnet": recording}}},
        "notifications": {"low_balance": {"enabled": True, "threshold": 25.0}},
        "voicemail": {"notify": {"callback": {"number": caller["number"], "attempts": 3}}},
        "zones": {"home": "us-east"},
    }


def write_project(directory: Path, count: int, *, changed: bool = False) -> None:
    """Write the project's files; with `changed`, one account in a hundred is another."""
    accounts = directory / "accounts"
    accounts.mkdir(parents=True, exist_ok=True)
    (directory / "reconciler.yaml").write_text(_PROJECT)
    templates = {
        "wholesale": {"reseller": True, "settings": _WHOLESALE},
        "retail": {"settings": _RETAIL},
    }
    (directory / "templates.yaml").write_text("\n".join(_lines({"templates": templates})) + "\n")
    lines: list[str] = []
    for number, member in enumerate(members(count, changed=changed), 1):
        block = {
            "extends": ["wholesale" if member.reseller else "retail"],
            "parent": member.parent or "root",
            "settings": member.settings,
        }
        lines += _lines({member.key: block}, indent="  ")
        if number % ACCOUNTS_PER_FILE == 0 or number == count:
            file = accounts / f"part-{(number - 1) // ACCOUNTS_PER_FILE:04d}.yaml"
            file.write_text("\n".join(["accounts:", *lines]) + "\n")
            lines.clear()


def _lines(block: Block, indent: str = "") -> Iterator[str]:
    """YAML in block style, a line per key."""
    for name, value in block.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {json.dumps(value)}"
