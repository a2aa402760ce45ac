"""A TCP proxy on loopback that breaks on demand: connections reset, connecting refused, bytes held back.

It promises bytes in order and unchanged while nothing is broken, and never holds more than a few buffers of a side
that doesn't read. It knows no protocol; that a client stays on it is left to the server's advertised address.
"""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self, cast

from bridge.demo.broker import LOOPBACK, free_ports

HIGH_WATER_BYTES = 64 * 1024

# l_onoff=1, l_linger=0: closing sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """`async with TcpProxy(host, port) as proxy:` clients of `proxy.port` reach host:port.

    What `refuse` and `stall` began holds for later connections too, until `accept` and `resume`.
    """

    def __init__(self, target_host: str, target_port: int, *, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._flowing = True
        self._ends: set[_End] = set()
        self._opening: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        gone = [end.gone for end in self._ends]
        self.cut()
        await asyncio.gather(*gone)

    def cut(self) -> None:
        """Reset (RST) every connection, on both sides; new ones are served."""
        for end in list(self._ends):
            end.reset()

    def refuse(self) -> None:
        """Stop listening: connecting is refused; connections that exist go on."""
        if self._server:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Listen (again), on the same port."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._accepted, LOOPBACK, self.port)

    def stall(self) -> None:
        """Hold bytes back without closing anything, as a network that drops packets does."""
        self._flowing = False
        for end in self._ends:
            end.read_or_hold()

    def resume(self) -> None:
        """Undo `stall`: what was held back arrives."""
        self._flowing = True
        for end in self._ends:
            end.read_or_hold()

    def is_flowing(self) -> bool:
        """Whether bytes are forwarded."""
        return self._flowing

    def _accepted(self) -> "_End":
        client, target = _End(self), _End(self)
        client.peer, target.peer = target, client
        task = asyncio.get_running_loop().create_task(self._open(client, target))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return client

    async def _open(self, client: "_End", target: "_End") -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: target, *self._target)
        except OSError:
            client.reset()

    def joined(self, end: "_End") -> None:
        """A connection's end is there."""
        self._ends.add(end)

    def left(self, end: "_End") -> None:
        """A connection's end is gone."""
        self._ends.discard(end)


class _End(asyncio.Protocol):
    """One end of a connection through the proxy; what it reads its peer writes."""

    peer: "_End"

    def __init__(self, proxy: TcpProxy) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, for uvloop's transports are asyncio's by shape only.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._proxy.joined(self)
        if self.peer.gone.done():
            self.reset()
        self.read_or_hold()
        self.peer.read_or_hold()

    def data_received(self, data: bytes) -> None:
        if self.peer._transport:
            self.peer._transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self.peer._transport:
            self.peer._transport.write_eof()
        return not self.peer._ended

    def pause_writing(self) -> None:
        self._writable = False
        self.peer.read_or_hold()

    def resume_writing(self) -> None:
        self._writable = True
        self.peer.read_or_hold()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.gone.set_result(None)
        self._proxy.left(self)
        if exc:
            self.peer.reset()
        elif self.peer._transport:
            self.peer._transport.close()

    def read_or_hold(self) -> None:
        """Read while bytes flow and the peer is there and takes them."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._proxy.is_flowing() and self.peer._transport and self.peer._writable:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def reset(self) -> None:
        """Close with RST; nothing that waits to be written is."""
        if self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()
