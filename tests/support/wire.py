"""A raw TCP client, a served app and two handlers, for tests where single bytes, resets and half-sent requests matter.

The client sends what it is told, malformed or not, and reads answers without forgiving them anything; every wait of
it has a deadline, and closing is explicit or by `async with`.
What the server must do with it is the tests' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import anyio
import anyio.abc

from bridge.ingress.asgi import App, Disconnected, Receive, Scope, Send, read_body, respond, until_disconnect
from bridge.ingress.guarded import Rejection, ServerLimits
from bridge.ingress.server import HttpServer

WAIT_SECONDS = 10.0

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._read = bytearray()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        """Hand all bytes to the kernel."""
        with anyio.fail_after(WAIT_SECONDS):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send_if_wanted(self, data: bytes) -> None:
        """Hand over as much as the peer takes before it hangs up."""
        with contextlib.suppress(ConnectionError):
            await self.send(data)

    async def answer(self, *, head: bool = False) -> Answer:
        """The next response. `head` says the request was a HEAD, so that no body follows."""
        lines = (await self._until(b"\r\n\r\n")).decode("ascii").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        length = 0 if head else int(headers.get("content-length", "0"))
        while len(self._read) < length:
            await self._more()
        body = bytes(self._read[:length])
        del self._read[:length]
        return Answer(status, headers, body)

    async def some(self) -> bytes:
        """What has come, at least one byte.

        Raises:
            EOFError: the peer has closed.
            ConnectionError: it has reset.
        """
        if not self._read:
            await self._more()
        some = bytes(self._read)
        self._read.clear()
        return some

    async def rest(self) -> bytes:
        """Everything until the peer closes; a reset ends it too."""
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                await self._more()
        rest = bytes(self._read)
        self._read.clear()
        return rest

    def reset(self) -> None:
        """Close with RST, as a load balancer drops an idle connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._read.find(mark)) < 0:
            await self._more()
        found = bytes(self._read[:at])
        del self._read[: at + len(mark)]
        return found

    async def _more(self) -> None:
        with anyio.fail_after(WAIT_SECONDS):
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
        if not data:
            raise EOFError
        self._read += data


@dataclass(slots=True)
class Served:
    """A listening server, and what it refused so far."""

    server: HttpServer
    rejections: list[Rejection]
    host: str
    port: int = 0
    returned: anyio.Event = field(default_factory=anyio.Event)

    async def connect(self, *, receive_buffer_bytes: int | None = None) -> Wire:
        """Open a connection."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        sock.setblocking(False)
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            with anyio.fail_after(WAIT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
        except BaseException:
            sock.close()
            raise
        return Wire(sock)

    async def caught_up(self) -> None:
        """Return when the server has read what was sent on other connections before: one round trip later it has."""
        async with await self.connect() as probe:
            await probe.send(GET)
            assert (await probe.answer()).status == 200

    async def stopped(self) -> None:
        """Stop, and wait until `serve()` has returned."""
        self.server.stop()
        with anyio.fail_after(WAIT_SECONDS):
            await self.returned.wait()


@contextlib.asynccontextmanager
async def serving(
    app: App, limits: ServerLimits, *, host: str = "127.0.0.1", ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[Served]:
    """Serve an app on a free loopback port; stop at the end."""
    rejections: list[Rejection] = []
    server = HttpServer(app, host=host, port=0, limits=limits, on_reject=rejections.append, ssl_context=ssl_context)
    served = Served(server, rejections, host)

    async def serve(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        try:
            await server.serve(task_status=task_status)
        finally:
            served.returned.set()

    async with anyio.create_task_group() as group:
        served.port = await group.start(serve)
        yield served
        server.stop()


def post(body: bytes, *headers: bytes) -> bytes:
    """A well-formed POST."""
    lines = [b"POST / HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Echo:
    """Answers with the body; notes which requests ended without their caller."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.disconnected = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read all, answer all."""
        self.scopes.append(scope)
        try:
            body = await read_body(receive, 1_000_000)
        except Disconnected:
            self.disconnected.set()
            return
        await respond(send, 200, body)


class Held:
    """Holds the first request until released or abandoned; answers the others at once."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.released = anyio.Event()
        self.abandoned = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the first."""
        await read_body(receive, 1_000_000)
        if not self.entered.is_set():
            self.entered.set()
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, receive, group.cancel_scope)
                await self.released.wait()
                group.cancel_scope.cancel()
        await respond(send, 200, scope["raw_path"])

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        await until_disconnect(receive)
        self.abandoned.set()
        scope.cancel()
