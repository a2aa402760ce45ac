"""A small HTTP/1.1 server that can misbehave on purpose, connection by connection and byte by byte.

It promises that a fault does on the wire what its docstring in `faults` says, that faults "before reading" are chosen
before a byte is read, and that no connection outlives the context. What to answer is left to its handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import anyio
import anyio.abc
import h11

from bridge.demo.simulators.background import background_tasks
from bridge.demo.simulators.connection import Connection, Desk, Exchange, Handler, Held, Limits, Watcher, reset_on_close
from bridge.demo.simulators.faults import CloseUnread, ConnectionFault, HangUnread, ResetAfterHead, ResetUnread

LOOPBACK = "127.0.0.1"
_BACKLOG = 1_024

ChooseFault: TypeAlias = Callable[[int], ConnectionFault | None]


def _watch_nothing(_: Exchange) -> None:
    pass


def _no_fault(_: int) -> ConnectionFault | None:
    return None


class Http1Server:
    """A listening server; `serve` makes one.

    Attributes:
        faults: played on the next connections, one each, before `choose_fault` is asked.
        choose_fault: asked once a connection, with its number from 1, before anything of it is read.
        connections: how many were accepted so far.
    """

    def __init__(self, desk: Desk, group: anyio.abc.TaskGroup, *, choose_fault: ChooseFault = _no_fault) -> None:
        self.faults: deque[ConnectionFault] = deque()
        self.choose_fault = choose_fault
        self.connections = 0
        self._desk = desk
        self._group = group
        self._address = (LOOPBACK, 0)
        self._accepting: anyio.CancelScope | None = None
        self._refusing = anyio.Event()
        self._open = 0

    @property
    def base_url(self) -> str:
        """Where it listens."""
        host, port = self._address
        return f"http://{host}:{port}"

    def listen(self, address: tuple[str, int] | None = None) -> None:
        """Begin to accept; without an address, where it did before."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address or self._address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        self._address = listener.getsockname()
        self._accepting = anyio.CancelScope()
        self._refusing = anyio.Event()
        self._group.start_soon(self._accept, listener, self._accepting)

    async def refuse(self) -> None:
        """Stop listening: new connections are refused until `listen` is called, those that are open go on."""
        if self._accepting is not None:
            self._accepting.cancel()
            await self._refusing.wait()
            self._accepting = None

    def release(self) -> None:
        """End every hang and every delay that is under way."""
        self._desk.held.release()

    async def _accept(self, listener: socket.socket, accepting: anyio.CancelScope) -> None:
        loop = asyncio.get_running_loop()
        try:
            with accepting:
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    self.connections += 1
                    fault = self.faults.popleft() if self.faults else self.choose_fault(self.connections)
                    if self._open >= self._desk.limits.connections:
                        fault = CloseUnread()
                    self._group.start_soon(self._serve, sock, self.connections, fault)
        finally:
            listener.close()
            self._refusing.set()

    async def _serve(self, sock: socket.socket, number: int, fault: ConnectionFault | None) -> None:
        with sock:
            match fault:
                case CloseUnread():
                    pass
                case ResetUnread():
                    reset_on_close(sock)
                case HangUnread(seconds=seconds):
                    with self._desk.held.holding(seconds):
                        await anyio.sleep_forever()
                case ResetAfterHead() | None:
                    await self._converse(sock, number, cut=fault is not None)

    async def _converse(self, sock: socket.socket, number: int, *, cut: bool) -> None:
        self._open += 1
        try:
            reader, writer = await asyncio.open_connection(sock=sock, limit=self._desk.limits.head_bytes)
        except OSError:  # the client left at once
            self._open -= 1
            return
        try:
            await Connection(reader, writer, number=number, desk=self._desk, cut=cut).run()
        except (OSError, h11.ProtocolError):
            writer.transport.abort()
        except anyio.get_cancelled_exc_class():
            writer.transport.abort()
            raise
        finally:
            self._open -= 1
            writer.close()
            with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serve(
    handler: Handler,
    *,
    address: tuple[str, int] = (LOOPBACK, 0),
    limits: Limits | None = None,
    on_begin: Watcher = _watch_nothing,
    on_end: Watcher = _watch_nothing,
    choose_fault: ChooseFault = _no_fault,
) -> AsyncIterator[Http1Server]:
    """A server that listens while the context is open; at its end every connection is closed at once."""
    desk = Desk(handler=handler, limits=limits or Limits(), held=Held(), on_begin=on_begin, on_end=on_end)
    async with background_tasks() as group:
        server = Http1Server(desk, group, choose_fault=choose_fault)
        server.listen(address)
        yield server
