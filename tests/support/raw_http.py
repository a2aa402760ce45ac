"""A loopback HTTP server down to the socket: it does to a client what providers do on bad days, and says what it saw.

A script is an async function over one accepted connection; it decides what is read, when, and how the connection ends.
Nothing is read that a script did not ask for, so `bytes_read` and `requests` are evidence of what really arrived.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_RESET = struct.pack("ii", 1, 0)


class ConnectionEnded(Exception):
    """The client went away while a script was reading."""


class RawConnection:
    """One accepted connection; over TLS after `start_tls`."""

    def __init__(self, sock: socket.socket, server: RawServer) -> None:
        self._sock = sock
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def read(self) -> bytes:
        """What has come, at least one byte."""
        data = await (self._receive() if self._tls is None else self._unwrap(self._tls))
        if not data:
            raise ConnectionEnded
        self._server.bytes_read += data
        return data

    async def read_request(self) -> bytes:
        """One whole request, head and body."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.read()
        head, _, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        while len(body) < int(length[1] if length else 0):
            body += await self.read()
        self._server.requests.append(head + b"\r\n\r\n" + body)
        self._server.asked.set()
        return self._server.requests[-1]

    async def arrived(self) -> None:
        """Wait until there is something to read, and leave it there."""
        while True:
            with suppress(BlockingIOError):
                self._sock.recv(1, socket.MSG_PEEK)
                return
            await asyncio.sleep(0.001)

    async def send(self, data: bytes) -> None:
        """Write, encrypted if TLS has started."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        await self.send_plain(data)

    async def send_plain(self, data: bytes) -> None:
        """Write past TLS."""
        await self._loop.sock_sendall(self._sock, data)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the handshake as the server."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send_plain(self._outgoing.read())
                self._incoming.write(await self._receive() or _ended())
            else:
                break
        self._tls = tls
        await self.send_plain(self._outgoing.read())

    async def flush_tls(self) -> None:
        """Send what TLS has to say, such as an alert after a handshake that failed."""
        await self.send_plain(self._outgoing.read())

    def close(self) -> None:
        """End it politely; what was not read makes the system send a reset."""
        self._sock.close()

    def reset(self) -> None:
        """End it with a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    async def _receive(self) -> bytes:
        return await self._loop.sock_recv(self._sock, 65536)

    async def _unwrap(self, tls: ssl.SSLObject) -> bytes:
        while True:
            try:
                return tls.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(await self._receive() or _ended())


def _ended() -> bytes:
    raise ConnectionEnded


Script: TypeAlias = Callable[[RawConnection], Awaitable[None]]


@dataclass
class RawServer:
    """What a server saw."""

    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    bytes_read: bytes = b""
    asked: anyio.Event = field(default_factory=anyio.Event)
    """Set when the first whole request was read."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """The same for TLS."""
        return f"https://127.0.0.1:{self.port}"


@asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[RawServer]:
    """Serve every connection with the script for the length of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = RawServer(listener.getsockname()[1])
    with listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_accept, listener, server, script)
            yield server
            tasks.cancel_scope.cancel()


async def _accept(listener: socket.socket, server: RawServer, script: Script) -> None:
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as tasks:
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            server.connections += 1
            tasks.start_soon(_serve, sock, server, script)


async def _serve(sock: socket.socket, server: RawServer, script: Script) -> None:
    with sock, suppress(ConnectionEnded, OSError):
        await script(RawConnection(sock, server))


def answering(answer: bytes) -> Script:
    """Read every request of a connection and answer each with these bytes."""

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.read_request()
            await connection.send(answer)

    return script


def http_answer(status: int, body: bytes = b"", headers: str = "") -> bytes:
    """The bytes of an answer."""
    return f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def certificate(folder: Path, *, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for `name` (an IP address or a host name) and its key, made by openssl.

    Raises:
        OSError: there is no openssl.
    """
    kind = "IP" if re.fullmatch(r"[\d.]+", name) else "DNS"
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key
