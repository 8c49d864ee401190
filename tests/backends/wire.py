"""A wire between a client and an HTTP server, on which an answer gets lost."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

Fault = Literal["dropped", "replaced", "conflict"]


ANSWERS: Final = {
    "dropped": b"",
    "replaced": b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "conflict": b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}


class Wire:
    """Listens at `endpoint` and passes on to `server`, one request a connection.

    The request number `at` is done, but its answer is dropped, or a 503 comes in its place. In a
    conflict it is not done, and answered 409, as AWS does to one of two at the same time.
    """

    def __init__(self, server: str, fault: Fault, at: int) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._fault = fault
        self._at = at
        self.methods: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.struck = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def cut(self) -> None:
        """Nothing passes any more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def __exit__(self, *_: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                self._start(self._pass_on, self._listening.accept()[0])

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(ConnectionError):
            request = _read_request(client)
            if not request:
                return
            self.methods.append(request.partition(b" ")[0])
            strikes = len(self.methods) == self._at
            answer = b"" if strikes and self._fault == "conflict" else self._ask(request)
            if strikes:
                self.struck = True
                answer = ANSWERS[self._fault]
            client.sendall(answer)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(self._server) as server:
            server.sendall(request)
            parts = []
            while part := server.recv(65536):
                parts.append(part)
            return b"".join(parts)


def _read_request(client: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        part = client.recv(65536)
        if not part:
            return b""
        request += part
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
    missing = (int(length[1]) if length else 0) - len(body)
    while missing > 0:
        part = client.recv(65536)
        request += part
        missing -= len(part)
    return request
