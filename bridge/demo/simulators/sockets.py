"""The vendors' WebSocket client: one link a call, frames in order, and badly where a script says so.

It promises that frames leave in the order in which they were given, that what arrives and how the link ends is told
exactly once, and that it is never waited for. What frames mean, and what a call does without its link, is the vendor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import anyio
import anyio.abc
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from bridge.demo.simulators.faults import Cut, Delay, Drop, Duplicate, Garbage, Oversize, WebhookFault

_OPEN_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_FINAL = 1000


class Where(NamedTuple):
    """A receiver's address: with the right proof."""

    url: str
    headers: Mapping[str, str]
    subprotocols: Sequence[str] = ()
    max_frame_bytes: int | None = None
    """Longer ones than this end the link."""


class Ended(NamedTuple):
    """How a link ended: refused with a status, or open once and closed with a code (1006: without a word)."""

    code: int | None = None
    status: int | None = None


class _Out(NamedTuple):
    text: str
    fault: WebhookFault | None
    sent: Callable[[], None]


class Link:
    """One WebSocket to the receiver, opened when it is made."""

    def __init__(
        self,
        group: anyio.abc.TaskGroup,
        where: Where,
        *,
        on_frame: Callable[[str], None],
        on_end: Callable[[Ended], None],
    ) -> None:
        self.is_over = False
        self._where = where
        self._on_frame = on_frame
        self._on_end = on_end
        self._queue: asyncio.Queue[_Out | int] = asyncio.Queue()
        group.start_soon(self._run)

    def send(self, text: str, *, fault: WebhookFault | None = None, sent: Callable[[], None] = lambda: None) -> None:
        """Send a frame; `sent` is called when it has left, and never if it has not."""
        self._queue.put_nowait(_Out(text, fault, sent))

    def close(self, code: int = _FINAL) -> None:
        """Close in order, behind what is still to be sent."""
        self._queue.put_nowait(code)

    async def _run(self) -> None:
        ended = Ended(code=1006)
        try:
            ended = await self._connect()
        except InvalidStatus as refused:
            ended = Ended(status=refused.response.status_code)
        except (OSError, TimeoutError, InvalidHandshake):
            ended = Ended(status=0)
        finally:
            self.is_over = True
            self._on_end(ended)

    async def _connect(self) -> Ended:
        where = self._where
        async with connect(
            where.url,
            additional_headers=dict(where.headers),
            subprotocols=[Subprotocol(name) for name in where.subprotocols] or None,
            compression=None,
            proxy=None,
            max_size=where.max_frame_bytes,
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            ping_interval=None,
        ) as connection:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, connection, tasks.cancel_scope)
                await self._read(connection)
                tasks.cancel_scope.cancel()
            return Ended(code=connection.close_code or 1006)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for message in connection:
                self._on_frame(message if isinstance(message, str) else message.decode("utf-8", "replace"))
        except ConnectionClosed:
            pass

    async def _write(self, connection: ClientConnection, scope: anyio.CancelScope) -> None:
        try:
            while True:
                out = await self._queue.get()
                if isinstance(out, int):
                    await connection.close(out)
                elif not await _send(connection, out):
                    scope.cancel()
        except ConnectionClosed:
            pass


async def _send(connection: ClientConnection, out: _Out) -> bool:
    """False if the fault was the end of the link."""
    match out.fault:
        case Delay(seconds=seconds):
            await anyio.sleep(seconds)
        case Garbage(text=text):
            await connection.send(text)
        case Oversize(bytes=size):
            await connection.send("x" * size)
        case Duplicate(copies=copies):
            for _ in range(copies - 1):
                await connection.send(out.text)
        case Cut(share=share):
            frame = Frame(Opcode.TEXT, out.text.encode()).serialize(mask=True)
            connection.transport.write(frame[: int(len(frame) * share)])
            connection.transport.close()
            return False
        case _:
            pass
    await connection.send(out.text)
    out.sent()
    if isinstance(out.fault, Drop):
        await anyio.sleep(out.fault.after_seconds)
        connection.transport.abort()
        return False
    return True
