"""An S3 server for tests, as a process of its own: moto, which answers one request after the other.

One at a time, because moto looks at a condition and obeys it in two steps, where S3 has one. In
buckets whose names begin with `deaf-` it ignores the header that the name goes on with.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

_moto = DomainDispatcherApplication(create_backend_app)


def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    if ignored := re.match("/deaf-([a-z-]*)/", environ["PATH_INFO"]):
        environ.pop(f"HTTP_{ignored[1].upper().replace('-', '_')}", None)
    answer: Iterable[bytes] = _moto(environ, start)
    return answer


def main() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        server = make_server("127.0.0.1", 0, application, fd=listening.fileno())
        print(listening.getsockname()[1], flush=True)  # noqa: T201 - this is how it answers
        server.serve_forever()


if __name__ == "__main__":
    main()
