"""State under a key: nothing of it is readable, nothing of it can be changed unseen."""

from __future__ import annotations

import binascii
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from reconciler.backends.backend import open_backend
from reconciler.backends.codec import PLAIN, Codec, checked_line, codec_from, read_checked_line
from reconciler.backends.encryption import KEY, PREVIOUS
from reconciler.backends.integrity import Witness
from reconciler.core.state import Owed, Unusable, dump, dump_document, parse_document
from reconciler.core.values import AccountId

from .other_run import OTHER_LINEAGE, a_state, an_entry, flipped

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.backends.backend import Backend
    from reconciler.core.state import State
    from reconciler.core.values import JsonObject

ONE = "the first key, for tests alone"
TWO = "the second key, for tests alone"
OWED = Owed(AccountId("7"), reseller=False, settings={"org": "hooli"}, run="run")
STATE = replace(a_state(3, "acme", "globex"), owed={OWED.id: OWED})


def codec(key: str = "", previous: str = "") -> Codec:
    return codec_from({KEY: key, PREVIOUS: previous})


def backend(directory: Path, key: str = "", previous: str = "") -> Backend:
    return open_backend("s.json", directory, {KEY: key, PREVIOUS: previous})


def test_nothing_but_who_it_is_about_can_be_read(tmp_path: Path) -> None:
    place = backend(tmp_path, ONE)
    with place.lock("run", "test", 0) as writer:
        writer.save(STATE)
        writer.journal(STATE, [an_entry("initech")])
    document = json.loads((tmp_path / "s.json").read_bytes())
    assert document.keys() == {
        "api", "checksum", "encrypted", "format", "lineage", "serial", "tool"
    }  # fmt: skip
    assert (document["lineage"], document["serial"]) == (STATE.lineage, STATE.serial)
    text = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in ("acme", "globex", "hooli", "initech", STATE.digest_key, ONE):
        assert secret.encode() not in text
    found = place.read()
    assert found is not None
    assert found.accounts.keys() == {"acme", "globex", "initech"}
    assert found.owed == STATE.owed


def test_the_same_state_is_never_sealed_to_the_same_text() -> None:
    assert codec(ONE).encode(STATE) != codec(ONE).encode(STATE)


@pytest.mark.parametrize(
    ("key", "previous", "why"),
    [("", "", f"Set {KEY}"), (TWO, "", f"{KEY} does not open it"), (TWO, TWO, "does not open it")],
)
def test_without_the_right_key_it_is_unusable_and_never_none(
    tmp_path: Path, key: str, previous: str, why: str
) -> None:
    with backend(tmp_path, ONE).lock("run", "test", 0) as writer:
        writer.save(STATE)
    before = (tmp_path / "s.json").read_bytes()
    with backend(tmp_path, key, previous).lock("run", "test", 0) as writer:
        for use in (writer.read, lambda: writer.save(a_state(9))):
            with pytest.raises(Unusable, match=why) as caught:
                use()
            assert ONE not in str(caught.value)
            assert TWO not in str(caught.value)
    assert (tmp_path / "s.json").read_bytes() == before


def test_a_new_key_takes_over_with_the_next_save(tmp_path: Path) -> None:
    with backend(tmp_path, ONE).lock("run", "test", 0) as writer:
        writer.save(STATE)
        writer.journal(STATE, [an_entry("initech")])
    with backend(tmp_path, TWO, ONE).lock("run", "test", 0) as writer:
        state = writer.read()
        assert state is not None
        assert "initech" in state.accounts
        writer.save(state)
    assert backend(tmp_path, TWO).read() == state
    with pytest.raises(Unusable, match="does not open it"):
        backend(tmp_path, ONE).read()
    assert backend(tmp_path, TWO, ONE).generation(3) == STATE


def test_a_plain_state_is_encrypted_with_the_next_save_and_never_back_unasked(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.json"
    with backend(tmp_path).lock("run", "test", 0) as writer:
        writer.save(STATE)
    with backend(tmp_path, ONE).lock("run", "test", 0) as writer:
        assert writer.read() == STATE
        writer.save(a_state(4, "acme"))
    assert b"acme" not in path.read_bytes()
    path.write_bytes(dump(a_state(9, "evil")))  # readable, a good checksum, a higher serial
    for key in (ONE, ""):
        with pytest.raises(Unusable, match="not encrypted"):
            backend(tmp_path, key).read()


def test_with_the_previous_key_alone_it_is_decrypted_for_good(tmp_path: Path) -> None:
    with backend(tmp_path, ONE).lock("run", "test", 0) as writer:
        writer.save(STATE)
    with backend(tmp_path, "", ONE).lock("run", "test", 0) as writer:
        assert writer.read() == STATE
        writer.journal(STATE, [])
        writer.save(a_state(4, "acme"))
    assert backend(tmp_path).read() == a_state(4, "acme")


def test_a_journal_that_somebody_else_wrote_is_refused() -> None:
    record = PLAIN.encode_record(STATE, 1, [an_entry("evil")])
    last = Witness(STATE.lineage, STATE.serial, encrypted=True)
    with pytest.raises(Unusable, match="not encrypted"):
        codec(ONE).decode_record(STATE, 1, record, last)
    before = Witness(STATE.lineage, STATE.serial, encrypted=False)
    assert codec(ONE).decode_record(STATE, 1, record, before) == [an_entry("evil")]


@pytest.mark.parametrize(
    "changed",
    [
        {"serial": 99},
        {"lineage": OTHER_LINEAGE},
        {"tool": "another"},
        {"api": {"url": "https://elsewhere.example.com", "root": "root"}},
        {"accounts": {}},
    ],
)
def test_who_it_is_about_is_bound_to_the_rest(changed: JsonObject) -> None:
    document = parse_document(codec(ONE).encode(STATE)) | changed
    with pytest.raises(Unusable, match="does not open it"):
        codec(ONE).decode(dump_document(document))


def test_every_flipped_bit_is_found_even_under_a_new_checksum() -> None:
    cipher = codec(ONE)
    document = parse_document(cipher.encode(a_state(1)))
    sealed = document["encrypted"]
    assert isinstance(sealed, str)
    raw = binascii.a2b_base64(sealed)
    for damaged in (*flipped(raw), *(raw[:length] for length in range(len(raw)))):
        text = binascii.b2a_base64(damaged, newline=False).decode()
        with pytest.raises(Unusable):
            cipher.decode(dump_document(document | {"encrypted": text}))


@pytest.mark.parametrize(
    ("base", "number"),
    [(STATE, 2), (a_state(4), 1), (a_state(3, lineage=OTHER_LINEAGE), 1)],
)
def test_a_record_is_bound_to_its_place(base: State, number: int) -> None:
    record = codec(ONE).encode_record(STATE, 1, [an_entry("a")])
    assert codec(ONE).decode_record(STATE, 1, record) == [an_entry("a")]
    says = {"lineage": base.lineage, "serial": base.serial, "number": number}
    moved = checked_line(read_checked_line(record) | says)
    with pytest.raises(Unusable, match="does not open it"):
        codec(ONE).decode_record(base, number, moved)


@pytest.mark.parametrize("name", [KEY, PREVIOUS])
def test_a_short_key_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(Unusable, match=rf"{name} has fewer than 16 characters") as caught:
        codec_from({name: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_key_is_never_in_a_representation() -> None:
    assert ONE not in repr(codec(ONE, TWO))
    assert TWO not in repr(codec(ONE, TWO).cipher)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(Unusable, match=r"install reconciler\[encryption\]"):
        codec(ONE)
    assert codec().decode(dump(STATE)) == STATE
