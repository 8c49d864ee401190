"""Plans are written once, as a whole, for their owner alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reconciler.config.planfile import Unsaved, check_free, read, seal_key, write

if TYPE_CHECKING:
    from pathlib import Path


def test_what_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "plan", tmp_path / "link"
    path.write_bytes(b"precious")
    link.symlink_to(tmp_path / "victim")
    for place in (path, link):
        with pytest.raises(Unsaved, match="--force"):
            write(place, b"new", force=False)
    assert read(path) == b"precious"
    assert {found.name for found in tmp_path.iterdir()} == {"plan", "link"}


def test_force_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    write(link, b"new", force=True)
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.stat().st_mode & 0o777 == 0o600
    assert {found.name for found in tmp_path.iterdir()} == {"victim", "link"}


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        with pytest.raises(Unsaved, match="no regular file"):
            check_free(place, force=True)


@pytest.mark.parametrize(
    ("set_to", "key"), [(None, None), ("", None), ("k", b"k"), ("é", "é".encode())]
)
def test_an_empty_key_is_none(set_to: str | None, key: bytes | None) -> None:
    environment = {} if set_to is None else {"RECONCILER_PLAN_KEY": set_to}
    assert seal_key(environment) == key
