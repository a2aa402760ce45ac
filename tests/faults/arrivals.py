"""The door of the provider, which knows when each request came, however late anybody here gets round to looking.

It promises bytes in order and unchanged, and of each request that is answered the time at which the kernel had all of
it. What a process notes that is kept waiting for the processor is later than that, by tens of milliseconds on a busy
machine. Linux says it itself (`tcpi_last_data_recv` in tcp(7)'s TCP_INFO); elsewhere the time of the answer has to do.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

from bridge.demo.broker import LOOPBACK
from tests.faults.network import CHUNK_BYTES, Serving, pump

STEP_SECONDS = 0.01
"""How wrong the distance of two arrivals may be: two ticks of a kernel that has 250 in a second, and a little."""
_INFO_BYTES = 104
_LAST_DATA_RECEIVED_AT = 52
"""In `struct tcp_info` of linux/tcp.h: milliseconds, 32 bits."""


class Arrivals(Serving):
    """`async with Arrivals(base_url) as door:` clients of `door.url` reach the provider; one request a connection."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        host, _, port = base_url.removeprefix("http://").partition(":")
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._target = (host, int(port))
        self._times: list[float] = []
        self._changed = asyncio.Condition()

    async def times(self, count: int, *, seconds: float) -> list[float]:
        """When the requests so far had arrived, as soon as there are so many; on the monotonic clock, in order."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self._times) >= count)
            return sorted(self._times)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            await asyncio.gather(pump(reader, far_writer), self._answer(far_reader, writer))
        finally:
            far_writer.transport.abort()

    async def _answer(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The request is whole when its answer begins, and nothing follows it."""
        answer = await far_reader.read(CHUNK_BYTES)
        if answer:
            self._times.append(_arrived(writer))
            async with self._changed:
                self._changed.notify_all()
        await pump(far_reader, writer, first=answer)


def _arrived(writer: asyncio.StreamWriter) -> float:
    """When the kernel took in the last bytes of this connection."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    now = time.monotonic()
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return now
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    [ago_ms] = struct.unpack_from("I", info, _LAST_DATA_RECEIVED_AT)
    return now - float(ago_ms) / 1000
