"""Terraform itself on the same server: what it sends is what we send, and its locks are locks.

Without a `terraform` on the path these tests are not there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest

from reconciler.backends.backend import Locked
from reconciler.core.state import Unusable

from .contract import locked, open_again, save
from .terraform_server import CREDENTIALS, serving
from .test_terraform_http import HttpPlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .terraform_server import Exchange

TERRAFORM: Final = shutil.which("terraform")
CONFIGURATION: Final = """
terraform {{
  backend "http" {{
    address        = "{address}"
    lock_address   = "{lock}"
    unlock_address = "{lock}"
    {methods}
  }}
}}
resource "terraform_data" "one" {{ input = "1" }}
"""
ENVIRONMENT: Final = {
    "PATH": os.environ["PATH"],
    "TF_HTTP_USERNAME": CREDENTIALS[0],
    "TF_HTTP_PASSWORD": CREDENTIALS[1],
    "TF_IN_AUTOMATION": "1",
    "CHECKPOINT_DISABLE": "1",
}


@pytest.fixture(params=["plain", "gitlab"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HttpPlace]:
    with serving(request.param) as server:
        yield HttpPlace(server, tmp_path)


class Terraform:
    """A project of Terraform's whose state is at an address."""

    def __init__(self, place: HttpPlace) -> None:
        gitlab = place.server.dialect == "gitlab"
        self.directory = place.directory / "terraform"
        self.directory.mkdir()
        text = CONFIGURATION.format(
            address=place.named,
            lock=place.named + "/lock" if gitlab else place.named,
            methods='lock_method = "POST"\n    unlock_method = "DELETE"' if gitlab else "",
        )
        (self.directory / "main.tf").write_text(text)
        ended = self.run("init", "-input=false")
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(TERRAFORM), *arguments, "-no-color"],
            cwd=self.directory,
            env={**ENVIRONMENT, "HOME": str(self.directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def shape(exchange: Exchange) -> tuple[object, ...]:
    """What of a request has to be the same, whoever sends it."""
    lock_info = exchange.body and "Who" in exchange.json
    return (
        exchange.method,
        sorted(exchange.query),
        exchange.headers.get("Content-Type"),
        exchange.headers["Authorization"],
        {name: type(value) for name, value in exchange.json.items()} if lock_info else None,
        exchange.status,
    )


if TERRAFORM is not None:

    def test_what_we_send_is_what_terraform_sends(place: HttpPlace) -> None:
        terraform = Terraform(place)
        place.server.log.clear()
        applied = terraform.run("apply", "-auto-approve", "-input=false")
        assert applied.returncode == 0, applied.stderr
        theirs = [shape(exchange) for exchange in place.server.log]
        place.server.log.clear()
        ours = HttpPlace(place.server, place.directory, "ours")
        save(ours, 1)
        assert len(place.server.log) == 4
        for exchange in place.server.log:
            assert shape(exchange) in theirs

    def test_a_state_of_terraform_s_is_not_taken_for_ours_nor_written_over(
        place: HttpPlace,
    ) -> None:
        assert Terraform(place).run("apply", "-auto-approve").returncode == 0
        theirs = place.stored.document
        with pytest.raises(Unusable, match="no state of this tool"):
            open_again(place).read()
        with pytest.raises(Unusable, match="no state of this tool"):
            save(place, 1)
        assert place.stored.document == theirs

    def test_a_run_of_terraform_s_holds_us_up_and_is_named(place: HttpPlace) -> None:
        with Terraform(place).start("apply") as applying:
            while place.stored.lock is None:
                assert applying.poll() is None
                time.sleep(0.02)
            with pytest.raises(Locked) as caught:
                save(place, 1)
            holder = caught.value.holder
            applying.communicate("no\n")
        assert holder is not None
        assert holder.run == place.server.log[-1].json["ID"]
        assert holder.who
        assert holder.since
        save(place, 1)

    def test_a_run_of_ours_holds_terraform_up_and_is_named(place: HttpPlace) -> None:
        terraform = Terraform(place)
        with locked(place, "run-1"):
            refused = terraform.run("apply", "-auto-approve")
            assert refused.returncode == 1
            assert "ID=run-1/" in refused.stderr
        assert terraform.run("apply", "-auto-approve").returncode == 0
