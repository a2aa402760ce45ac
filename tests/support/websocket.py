"""A WebSocket client on a raw connection: whole messages, or single frames and bytes where a test wants to misbehave.

It answers pings only if asked to, closes only when told, and every wait of it has a deadline (the wire's).
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections import deque
from typing import NamedTuple

import anyio
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side

from tests.support.wire import WAIT_SECONDS, Wire

KEY = base64.b64encode(bytes(16))


def asking(path: str = "/", *headers: bytes, version: bytes = b"13") -> bytes:
    """A request for a WebSocket."""
    lines = [
        b"GET " + path.encode() + b" HTTP/1.1",
        b"host: x",
        b"connection: Upgrade",
        b"upgrade: websocket",
        b"sec-websocket-version: " + version,
        b"sec-websocket-key: " + KEY,
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Closed(NamedTuple):
    """The peer's goodbye; 1006 for none."""

    code: int
    reason: str = ""


class Socket:
    """An open WebSocket, seen from the client."""

    def __init__(self, wire: Wire, *, answers_pings: bool = True) -> None:
        self.wire = wire
        self.pings = self.pongs = 0
        self._answers_pings = answers_pings
        self._protocol = Protocol(Side.CLIENT, max_size=None)
        self._messages: deque[str | Closed] = deque()

    async def say(self, text: str) -> None:
        """Send one message."""
        await self.frame(Frame(Opcode.TEXT, text.encode()))

    async def frame(self, frame: Frame) -> None:
        """Send one frame."""
        await self.wire.send(frame.serialize(mask=True))

    async def close(self, code: int = 1000) -> None:
        """Say goodbye."""
        await self.frame(Frame(Opcode.CLOSE, Close(code, "").serialize()))

    async def hear(self) -> str | Closed:
        """The next message, or the goodbye."""
        while not self._messages:
            try:
                data = await self.wire.some()
            except (EOFError, ConnectionError):
                return Closed(1006)
            await self._take(data)
        return self._messages.popleft()

    async def _take(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._protocol.data_to_send()  # what the library would answer is ours to decide
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.TEXT:
                self._messages.append(bytes(frame.data).decode())
            elif frame.opcode is Opcode.PING:
                self.pings += 1
                if self._answers_pings:
                    await self.frame(Frame(Opcode.PONG, frame.data))
            elif frame.opcode is Opcode.PONG:
                self.pongs += 1
            elif frame.opcode is Opcode.CLOSE:
                close = Close.parse(bytes(frame.data))
                self._messages.append(Closed(int(close.code), close.reason))


async def connected(base_url: str) -> Wire:
    """A connection to a daemon, by its `http://HOST:PORT`."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    sock = socket.socket()
    sock.setblocking(False)
    try:
        with anyio.fail_after(WAIT_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    except BaseException:
        sock.close()
        raise
    return Wire(sock)


async def opened(wire: Wire, path: str = "/", *headers: bytes, answers_pings: bool = True) -> Socket:
    """Ask for a socket, and get it."""
    await wire.send(asking(path, *headers))
    answer = await wire.answer()
    assert answer.status == 101, answer
    return Socket(wire, answers_pings=answers_pings)
