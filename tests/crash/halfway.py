"""A way to the provider on which a request may stop in the middle: its head and the first bytes of its body arrive.

It promises that `held` returns when so many requests are held, and that what is held never arrives; once it is opened,
later requests pass whole. It knows as much HTTP as the end of a head.
"""

from __future__ import annotations

import asyncio

from bridge.demo.broker import LOOPBACK
from tests.faults.network import Serving, pump

BODY_BYTES = 10


class Halfway(Serving):
    """`async with Halfway(base_url) as way:` clients of `way.url` reach the provider, half."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        host, _, port = base_url.removeprefix("http://").partition(":")
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._target = (host, int(port))
        self._is_open = False
        self._held = 0
        self._changed = asyncio.Condition()

    def open(self) -> None:
        """Let later requests pass."""
        self._is_open = True

    async def held(self, count: int, *, seconds: float) -> None:
        """Return when so many requests have arrived in half."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: self._held >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            if self._is_open:
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            else:
                await self._hold(reader, far_writer)
        finally:
            far_writer.transport.abort()

    async def _hold(self, reader: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """The head and a little more; then nothing, until the client has gone."""
        target.write(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(BODY_BYTES))
        await target.drain()
        async with self._changed:
            self._held += 1
            self._changed.notify_all()
        await reader.read()
