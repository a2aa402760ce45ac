"""The network between replicas and the broker, and in front of their webhooks: cut, stalled and healed by replica.

`tests.support.tcp_proxy` knows no clients; here each connection belongs to the replica whose client id its first request
carries. It promises bytes in order and unchanged, and that what a stall held back arrives when it ends, also where the
client has gone meanwhile: as packets that were on their way do.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from bridge.demo.broker import LOOPBACK, free_ports

CHUNK_BYTES = 65_536
# A Kafka request: size (4), API key (2), version (2), correlation id (4), length of the client id (2), client id.
_LENGTH_AT, _NAME_AT = 12, 14
# l_onoff=1, l_linger=0: closing sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


class Serving:
    """A listening server whose connections end with its context, and may end before it by any error of the net."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, LOOPBACK, self.port, limit=CHUNK_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._guarded(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Network(Serving):
    """`async with Network(kafka.proxied_port):` replicas that were told this port reach the broker through it."""

    def __init__(self) -> None:
        super().__init__()
        self.target_port = 0
        """Where the broker listens; to be set before the first connection."""
        self._links: dict[str, set[asyncio.StreamWriter]] = defaultdict(set)
        self._flowing: dict[str, asyncio.Event] = {}

    def cut(self, replica: str | None = None) -> None:
        """Reset every connection (of a replica); new ones are served."""
        for name in list(self._links):
            if replica in {None, name}:
                for writer in list(self._links[name]):
                    _reset(writer)

    def stall(self, replica: str) -> None:
        """Hold back what the replica and the broker say to each other; nothing is closed."""
        self._flows(replica).clear()

    def resume(self, replica: str) -> None:
        """Undo `stall`: what was held back arrives."""
        self._flows(replica).set()

    def heal(self) -> None:
        """Undo every `stall`."""
        for event in self._flowing.values():
            event.set()

    def _flows(self, replica: str) -> asyncio.Event:
        event = self._flowing.get(replica)
        if event is None:
            event = self._flowing[replica] = asyncio.Event()
            event.set()
        return event

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(CHUNK_BYTES)
        name = _client_of(first)
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target_port, limit=CHUNK_BYTES)
        ends = {writer, far_writer}
        self._links[name] |= ends
        try:
            await asyncio.gather(
                pump(reader, far_writer, self._flows(name), first), pump(far_reader, writer, self._flows(name))
            )
        finally:
            self._links[name] -= ends
            far_writer.transport.abort()


class Balancer(Serving):
    """What stands in front of the replicas' webhooks: each connection goes to one that takes it."""

    def __init__(self, backends: Callable[[], Sequence[str]], choose: random.Random) -> None:
        super().__init__()
        self._backends = backends
        self._choose = choose

    @property
    def url(self) -> str:
        """Where webhooks are to be sent."""
        return f"http://{LOOPBACK}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backends = list(self._backends())
        self._choose.shuffle(backends)
        for url in backends:
            host, _, port = url.removeprefix("http://").partition(":")
            try:
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
            except OSError:
                continue
            try:
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            finally:
                far_writer.transport.abort()
            return


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event | None = None, first: bytes = b""
) -> None:
    """Everything one side says, to the other, while it flows."""
    if flowing is None:
        flowing = asyncio.Event()
        flowing.set()
    data = first or await reader.read(CHUNK_BYTES)
    while data:
        await flowing.wait()
        if writer.is_closing():  # uvloop's transports raise RuntimeError for what asyncio's let pass
            return
        writer.write(data)
        await writer.drain()
        data = await reader.read(CHUNK_BYTES)
    await flowing.wait()
    if not writer.is_closing():
        writer.write_eof()


def _client_of(request: bytes) -> str:
    """The replica that sent a connection's first request: its client ids are `NAME-PURPOSE`."""
    length = int.from_bytes(request[_LENGTH_AT:_NAME_AT])
    return request[_NAME_AT : _NAME_AT + length].decode("utf-8", "replace").partition("-")[0]


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
