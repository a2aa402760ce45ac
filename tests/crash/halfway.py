"""A way to the provider on which a request may stop in the middle: its head and the first bytes of its body arrive.

It promises that `held` returns when so many requests are held, and that what is held never arrives; once it is opened,
later requests pass whole. It knows as much HTTP as the end of a head.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from bridge.demo.broker import LOOPBACK

BODY_BYTES = 10
WAIT_SECONDS = 30.0
_CHUNK_BYTES = 65_536


class Halfway:
    """`async with Halfway(base_url) as way:` clients of `way.url` reach the provider, half."""

    def __init__(self, base_url: str) -> None:
        host, _, port = base_url.removeprefix("http://").partition(":")
        self.url = ""
        self._target = (host, int(port))
        self._is_open = False
        self._held = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server:
            self._server.close()

    def open(self) -> None:
        """Let later requests pass."""
        self._is_open = True

    async def held(self, count: int) -> None:
        """Return when so many requests have arrived in half."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self._held >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection(*self._target)
        try:
            if self._is_open:
                await asyncio.gather(_pump(reader, target_writer), _pump(target_reader, writer))
            else:
                await self._hold(reader, target_writer)
        finally:
            for each in (writer, target_writer):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _hold(self, reader: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """The head and a little more; then nothing, until the client has gone."""
        target.write(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(BODY_BYTES))
        await target.drain()
        async with self._changed:
            self._held += 1
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            await reader.read()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
