"""State on a server that speaks Terraform's protocol: what every place promises, and the protocol."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from reconciler.backends.backend import Locked, Lost, Unwritable, open_backend
from reconciler.backends.state_server import Unreachable
from reconciler.cli import main
from reconciler.core.state import Unusable, parse

from .contract import Contract, locked, open_again, save
from .other_run import LINEAGE, OTHER_LINEAGE, a_state, an_entry
from .terraform_server import CREDENTIALS, TerraformServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .contract import Harm
    from .terraform_server import Stored, What

ENVIRONMENT = {
    "RECONCILER_STATE_USERNAME": CREDENTIALS[0],
    "RECONCILER_STATE_PASSWORD": CREDENTIALS[1],
}


@dataclass(frozen=True)
class HttpPlace:
    server: TerraformServer
    directory: Path
    name: str = "prod"
    environment: dict[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))

    @property
    def named(self) -> str:
        return self.server.base + self.name

    @property
    def stored(self) -> Stored:
        return self.server.stored(self.name)

    def copy(self) -> object:
        return self.stored.document

    def put(self, copy: object) -> None:
        assert isinstance(copy, bytes)
        self.stored.document = copy

    def harm(self, how: Harm) -> None:
        text = self.stored.document
        assert text is not None
        match how:
            case "gone":
                self.stored.document = None
            case "empty":
                self.stored.document = b""
            case "cut":
                self.stored.document = text[: len(text) // 2]
            case "flipped":
                self.stored.document = text.replace(b'"id": "a', b'"id": "b')

    def empty_twin(self) -> HttpPlace:
        return HttpPlace(self.server, self.directory / "twin", "twin")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[HttpPlace]:
    with serving("plain") as server:
        yield HttpPlace(server, tmp_path)


@pytest.fixture
def gitlab(tmp_path: Path) -> Iterator[HttpPlace]:
    with serving("gitlab") as server:
        yield HttpPlace(server, tmp_path)


class TestContract(Contract):
    """What every place promises. The protocol has no leases and keeps no generations."""

    keeps_generations = False
    has_leases = False

    @pytest.fixture
    def place(self, plain: HttpPlace) -> HttpPlace:
        return plain


class TestContractAtGitLab(TestContract):
    """What every place promises, at GitLab, which takes no serial twice."""

    raises_serials = True

    @pytest.fixture
    def place(self, gitlab: HttpPlace) -> HttpPlace:
        return gitlab


@pytest.fixture(params=["plain", "gitlab"])
def place(request: pytest.FixtureRequest) -> HttpPlace:
    """Both dialects, one after the other."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, HttpPlace)
    return found


@pytest.fixture(autouse=True)
def _low_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause between attempts is thrown from 0 to ever more seconds: here always nearly 0."""
    monkeypatch.setattr("random.uniform", lambda _low, high: min(high, 0.01))


# --- where ---


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("http://state.example.com/s", "use https://"),
        ("https://user:secret@state.example.com/s", "RECONCILER_STATE_USERNAME"),
        ("https:///s", "with a host"),
        ("https://state.example.com/s#x", "without #"),
        ("https://state.example.com:port/s", "no address"),
    ],
)
def test_an_address_that_would_leak_or_mean_nothing_is_refused(
    tmp_path: Path, named: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        open_backend(named, tmp_path, ENVIRONMENT)
    assert "secret" not in str(caught.value)


def test_half_a_credential_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one is missing"):
        open_backend("https://a.example.com/s", tmp_path, {"RECONCILER_STATE_USERNAME": "x"})


def test_a_wrong_password_is_told_and_shown_nowhere(plain: HttpPlace) -> None:
    wrong = HttpPlace(
        plain.server,
        plain.directory,
        environment={**ENVIRONMENT, "RECONCILER_STATE_PASSWORD": "hunter2"},
    )
    with pytest.raises(Unreachable, match="RECONCILER_STATE_PASSWORD") as reading:
        open_again(wrong).read()
    with pytest.raises(Unreachable, match="RECONCILER_STATE_PASSWORD") as writing:
        save(wrong, 1)
    assert "hunter2" not in str(reading.value) + str(writing.value)


def test_a_query_is_sent_and_not_shown(plain: HttpPlace) -> None:
    backend = open_backend(f"{plain.named}?token=secret", plain.directory, ENVIRONMENT)
    with backend.lock("run", "test", 0) as writer:
        writer.save(a_state(1))
    assert all(exchange.query["token"] == ["secret"] for exchange in plain.server.log)
    plain.harm("gone")
    with pytest.raises(Unusable) as caught:
        backend.read()
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_who_it_says_gets_no_password(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed(tmp_path / "server.pem"))
    with serving("plain", tls) as server:
        with pytest.raises(Unusable, match="CERTIFICATE_VERIFY_FAILED"):
            open_again(HttpPlace(server, tmp_path)).read()
        assert server.log == []


def self_signed(path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return path


def test_proxies_of_the_environment_are_not_used(
    plain: HttpPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    save(plain, 1)
    assert open_again(plain).read() == a_state(1, "a1")


# --- reading ---


def test_a_lost_or_cut_answer_is_asked_for_again(place: HttpPlace) -> None:
    save(place, 1)
    for what in ("drop", "cut", 503, 429):
        place.server.fault("GET", what)
        assert open_again(place).read() == a_state(1, "a1")


def test_a_server_that_asks_for_time_gets_it(
    plain: HttpPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    plain.server.retry_after = 7
    plain.server.fault("GET", 429)
    assert open_again(plain).read() is None
    assert 7 <= slept[0] < 8


@pytest.mark.parametrize(
    ("what", "why"),
    [("drop", "no whole answer"), ("cut", "no whole answer"), (500, "500"), (403, "role"),
     ("html", "web page"), ("redirect", "redirects are not followed")],
)  # fmt: skip
def test_what_is_no_answer_is_not_taken_for_no_state(
    place: HttpPlace, what: What, why: str
) -> None:
    save(HttpPlace(place.server, place.directory / "elsewhere", place.name), 1)
    place.server.fault("GET", what, times=9)
    with pytest.raises(Unusable, match=why):
        open_again(place).read()


def test_a_project_that_may_not_be_seen_is_not_one_without_state(gitlab: HttpPlace) -> None:
    gitlab.server.fault("GET", "no project")
    with pytest.raises(Unusable, match="404"):
        open_again(gitlab).read()


def test_what_this_machine_has_seen_it_misses(place: HttpPlace) -> None:
    save(place, 1, 2)
    for empty in (None, b""):
        place.stored.document = empty
        with pytest.raises(Unusable, match=r"gone|empty"):
            open_again(place).read()
    elsewhere = HttpPlace(place.server, place.directory / "elsewhere", place.name)
    place.stored.document = None
    assert open_again(elsewhere).read() is None


def test_what_another_machine_discarded_is_not_missed(place: HttpPlace) -> None:
    save(place, 1, 2)
    other = HttpPlace(place.server, place.directory / "other", place.name)
    with locked(other) as writer:
        writer.discard()
    assert open_again(place).read() is None
    with locked(place) as writer:
        assert writer.read() is None
        writer.save(a_state(1, "new", lineage=OTHER_LINEAGE))
    assert open_again(other).read() is not None
    assert [kept.serial for kept in open_again(other).history()] == [2]
    assert open_again(other).generation(2) == a_state(2, "a2")


def test_reading_writes_nothing(place: HttpPlace) -> None:
    save(place, 1)
    elsewhere = HttpPlace(place.server, place.directory / "elsewhere", place.name)
    before = len(place.server.log)
    assert open_again(elsewhere).read() == a_state(1, "a1")
    assert place.server.calls()[before:] == [("GET", 200)]
    assert not elsewhere.directory.exists()


# --- writing ---


def test_each_request_is_as_terraform_sends_it(place: HttpPlace) -> None:
    save(place, 1)
    lock, look, post, unlock = place.server.log
    assert [e.method for e in (lock, look, post, unlock)] == {
        "plain": ["LOCK", "GET", "POST", "UNLOCK"],
        "gitlab": ["POST", "GET", "POST", "DELETE"],
    }[place.server.dialect]
    assert lock.json == unlock.json
    assert sorted(lock.json) == ["Created", "ID", "Info", "Operation", "Path", "Version", "Who"]
    assert len(lock.json["ID"]) <= 255  # GitLab takes no more
    assert post.query["ID"] == [lock.json["ID"]]
    assert (post.json["lineage"], post.json["serial"]) == (LINEAGE, 1)
    assert post.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("what", ["lost", "drop", 502, 429])
def test_a_save_without_an_answer_is_made_sure_of(place: HttpPlace, what: What) -> None:
    with locked(place) as writer:
        writer.save(a_state(1))
        place.server.fault("POST", what)
        writer.journal(a_state(1), [an_entry("a")])
        writer.save(a_state(2, "a"))
    assert open_again(place).read() == a_state(2, "a")


@pytest.mark.parametrize("method", ["LOCK", "UNLOCK"])
def test_a_lock_without_an_answer_is_made_sure_of(place: HttpPlace, method: str) -> None:
    ways = {"LOCK": "POST", "UNLOCK": "DELETE"}
    place.server.fault(ways[method] if place.server.dialect == "gitlab" else method, "lost")
    save(place, 1)
    assert place.stored.lock is None
    assert open_again(place).read() == a_state(1, "a1")


@pytest.mark.parametrize(("status", "why"), [(413, "larger"), (403, "role"), (500, "500")])
def test_what_the_server_does_not_take_is_kept_and_can_be_pushed(
    place: HttpPlace, status: int, why: str
) -> None:
    save(place, 1)
    with locked(place) as writer:
        writer.read()
        place.server.fault("POST", status, times=9)
        with pytest.raises(Unwritable, match=why) as caught:
            writer.journal(a_state(1, "a1"), [an_entry("b")])
        place.server.faults.clear()
    (kept,) = (place.directory / ".reconciler").glob("state.unsaved.*")
    assert str(kept) in str(caught.value)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert parse(kept.read_bytes()) == a_state(2, "a1", "b")
    assert open_again(place).read() == a_state(1, "a1")


def test_who_has_lost_the_lock_asks_the_server_no_more(place: HttpPlace) -> None:
    with locked(place) as writer:
        writer.save(a_state(1))
        place.stored.lock = None
        with pytest.raises(Lost):
            writer.journal(a_state(1), [an_entry("a")])
        sent = len(place.server.log)
        with pytest.raises(Lost, match=r"state\.unsaved"):
            writer.save(a_state(2, "a", "b"))
        assert len(place.server.log) == sent
    (kept,) = (place.directory / ".reconciler").glob("state.unsaved.*")
    assert parse(kept.read_bytes()).accounts.keys() == {"a", "b"}


def test_without_locks_nothing_is_written(plain: HttpPlace) -> None:
    plain.server.fault("LOCK", 405)
    with pytest.raises(Unwritable, match="no locks"):
        save(plain, 1)
    assert plain.server.calls() == [("LOCK", 405)]


def test_a_lock_that_can_not_be_given_back_is_told_and_taken_over(
    place: HttpPlace, caplog: pytest.LogCaptureFixture
) -> None:
    place.server.fault("DELETE" if place.server.dialect == "gitlab" else "UNLOCK", 500, times=9)
    save(place, 1)
    assert "reconciler unlock" in caplog.text
    place.server.faults.clear()
    holder = open_again(place).holder()
    assert holder is not None
    open_again(place).unlock(holder.run)
    save(place, 2)


# --- other tools ---


TERRAFORM_S = {
    "ID": "0b1f1c1e-6c3c-4b52-8a6f-2a1b3c4d5e6f", "Operation": "OperationTypeApply", "Info": "",
    "Who": "alice@laptop", "Version": "1.11.4", "Created": "2026-01-02T03:04:05.678901234Z", "Path": "",
}  # fmt: skip


def test_a_lock_of_terraform_s_is_shown_and_can_be_freed(place: HttpPlace) -> None:
    place.stored.lock = dict(TERRAFORM_S)
    with pytest.raises(Locked) as caught:
        save(place, 1)
    shown = str(caught.value)
    assert "2026-01-02T03:04:05" in shown
    assert ("alice on laptop" in shown) is (place.server.dialect == "plain")
    assert "whether that run is alive can't be seen" in shown
    assert ("OperationTypeApply" in shown) is (place.server.dialect == "plain")
    assert "reconciler apply" not in shown  # GitLab tells of whoever asks what it does not know
    open_again(place).unlock(TERRAFORM_S["ID"])
    save(place, 1)


def test_a_lock_of_which_nothing_is_told_can_be_freed(plain: HttpPlace) -> None:
    plain.stored.lock = {}
    with pytest.raises(Locked, match="somebody on an unknown host"):
        save(plain, 1)
    holder = open_again(plain).holder()
    assert holder is not None
    open_again(plain).unlock(holder.run)
    save(plain, 1)


# --- the commands ---


def test_a_project_moves_its_state_to_the_server_and_goes_on_there(
    place: HttpPlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    project = place.directory / "shop"

    def run(*arguments: str) -> int:
        return main([*arguments, "-C", str(project)])

    assert run("init") == 0
    assert run("apply", "--auto-approve") == 0
    assert run("state", "migrate", place.named) == 0
    with (project / "reconciler.yaml").open("a") as file:
        file.write(f"\nstate: {place.named}\n")
    assert run("plan", "--detailed-exitcode") == 0
    assert run("state", "rm", "accounts.acme-west") == 0
    assert run("plan", "--detailed-exitcode") == 3  # it exists, and is not made twice
    with locked(place, "other-run"):
        assert run("apply", "--auto-approve") == 4
        assert run("unlock", "other-run", "--force") == 0
    assert run("unlock") == 0
    assert run("init", "--new-state", "--auto-approve") == 0
    (kept,) = (project / ".reconciler").glob("state.discarded.*")
    assert run("state", "restore", str(int(kept.suffix[1:])), "--auto-approve") == 0
    capsys.readouterr()
    assert run("state", "list") == 0
    assert capsys.readouterr().out.split() == ["accounts.acme", "accounts.acme-east"]
