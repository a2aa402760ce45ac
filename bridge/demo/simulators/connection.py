"""One HTTP/1.1 connection of a simulator: reads requests with h11, and answers them well or badly.

It promises that each reply does on the wire what its docstring in `faults` says and that nothing larger than the
limits is kept in memory. Which reply it is, and who may connect, is decided by others.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

import anyio
import h11

from bridge.demo.simulators.faults import Answer, Close, Garbled, HalfAnswer, Hang, Reply, Reset, Trickle

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds
_BODYLESS = 200  # statuses below it, and the two named next, never have a body
_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


@dataclass(slots=True, eq=False)
class Exchange:
    """One request, known from the moment its head is read; `body` and `received_at` come with its last byte."""

    connection: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    began_at: float
    body: bytes = b""
    received_at: float | None = None
    ended: str | None = None
    """`answered`, `client_gone`, `closed`, `reset`, `hung`, `half_answered`, `garbled`; None while it lasts."""


Handler: TypeAlias = Callable[[Exchange], Awaitable[Reply]]
Watcher: TypeAlias = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes before it says no."""

    head_bytes: int = 16_384
    body_bytes: int = 1_048_576
    connections: int = 4_096


@dataclass(slots=True)
class Held:
    """The waits that are under way on purpose, and the way to end them all."""

    scopes: set[anyio.CancelScope] = field(default_factory=set)

    @contextmanager
    def holding(self, seconds: float | None) -> Iterator[None]:
        """A stretch of waiting: over when its body is, after `seconds`, or at `release`."""
        with anyio.CancelScope(deadline=anyio.current_time() + (float("inf") if seconds is None else seconds)) as scope:
            self.scopes.add(scope)
            try:
                yield
            finally:
                self.scopes.discard(scope)

    def release(self) -> None:
        """End all of them."""
        for scope in self.scopes:
            scope.cancel()


@dataclass(frozen=True, slots=True)
class Desk:
    """What a connection needs of its server."""

    handler: Handler
    limits: Limits
    held: Held
    on_begin: Watcher
    """Told when a request's head has been read."""
    on_end: Watcher
    """Told when nothing more will happen to the request: answered, cut short, or the client left."""


class _TooLarge(Exception):
    """The body passed the limit."""


def reset_on_close(sock: socket.socket) -> None:
    """From now on closing this socket sends RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class Connection:
    """An accepted connection. `run` returns when it may be closed; errors of the net are the caller's to swallow."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, number: int, desk: Desk, cut: bool
    ) -> None:
        """`cut`: reset the connection as soon as the first head has been read."""
        self._reader = reader
        self._writer = writer
        self._number = number
        self._desk = desk
        self._cut = cut
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=desk.limits.head_bytes)

    async def run(self) -> None:
        """Serve requests until one side ends it."""
        try:
            await self._serve_all()
        except h11.RemoteProtocolError as error:
            if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await self._send(Answer(status=error.error_status_hint, headers={"Connection": "close"}))

    async def _serve_all(self) -> None:
        while (exchange := await self._next_head()) is not None:
            self._desk.on_begin(exchange)
            try:
                exchange.ended = await self._serve(exchange)
            finally:
                exchange.ended = exchange.ended or "client_gone"
                self._desk.on_end(exchange)
            if exchange.ended != "answered" or self._h11.our_state is not h11.DONE:
                return
            self._h11.start_next_cycle()

    async def _serve(self, exchange: Exchange) -> str:
        if self._cut:
            return self._reset()
        try:
            exchange.body = await self._read_body()
        except _TooLarge:
            await self._send(Answer(status=413, headers={"Connection": "close"}))
            return "answered"
        exchange.received_at = time.monotonic()
        reply = await self._desk.handler(exchange)
        return await self._perform(reply)

    async def _perform(self, reply: Reply) -> str:
        match reply:
            case Answer(delay_seconds=seconds):
                if seconds and not await self._wait(seconds):
                    return "client_gone"
                await self._send(reply)
                return "answered"
            case Hang(seconds=seconds):
                return "hung" if await self._wait(seconds) else "client_gone"
            case Close():
                return "closed"
            case Reset():
                return self._reset()
            case HalfAnswer() | Garbled() | Trickle():
                return await self._spoil(reply)

    async def _spoil(self, reply: HalfAnswer | Garbled | Trickle) -> str:
        match reply:
            case HalfAnswer(body=body, sent=sent):
                await self._write(_head(reply) + body.encode()[:sent])
                return "half_answered"
            case Garbled(data=data):
                await self._write(data.encode("latin-1", "replace"))
                return "garbled"
            case Trickle():
                return await self._trickle(reply)

    async def _trickle(self, reply: Trickle) -> str:
        for byte in _head(reply) + reply.body.encode():
            await self._write(bytes([byte]))
            if not await self._wait(reply.interval_seconds):
                return "client_gone"
        return "trickled"

    def _reset(self) -> str:
        reset_on_close(self._writer.get_extra_info("socket"))
        self._writer.transport.abort()
        return "reset"

    async def _wait(self, seconds: float | None) -> bool:
        """Let time pass; False as soon as the client has gone (or has closed its sending side)."""
        gone = False
        with self._desk.held.holding(seconds):
            await self._client_leaves()
            gone = True
        return not gone

    async def _client_leaves(self) -> None:
        early = 0
        while early <= self._desk.limits.body_bytes:
            data = await self._reader.read(self._desk.limits.head_bytes)
            if not data:
                return
            early += len(data)  # the next request, sent before this one is answered
            self._h11.receive_data(data)

    async def _next_head(self) -> Exchange | None:
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        if self._h11.they_are_waiting_for_100_continue and not self._cut:
            await self._write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        target = urlsplit(event.target.decode("latin-1"))
        return Exchange(
            connection=self._number,
            method=event.method.decode(),
            path=target.path,
            query=dict(parse_qsl(target.query)),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers},
            began_at=time.monotonic(),
        )

    async def _read_body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > self._desk.limits.body_bytes:
                raise _TooLarge
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError("the client left within its request")
        return bytes(body)

    async def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(self._desk.limits.head_bytes))
        return event

    async def _send(self, answer: Answer) -> None:
        reason = _reason(answer.status)
        body = b"" if _has_no_body(answer.status) else answer.body.encode()
        headers = _headers(answer.headers, body, status=answer.status)
        data = self._h11.send(h11.Response(status_code=answer.status, headers=headers, reason=reason)) or b""
        if body:
            data += self._h11.send(h11.Data(data=body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unassigned"


def _has_no_body(status: int) -> bool:
    return status < _BODYLESS or status in _WITHOUT_BODY


def _headers(headers: Mapping[str, str], body: bytes, *, status: int) -> list[tuple[bytes, bytes]]:
    """The reply's headers, with Content-Length and Content-Type unless it has its own."""
    given = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    names = {name.lower() for name, _ in given}
    if b"content-length" not in names and b"transfer-encoding" not in names and not _has_no_body(status):
        given.append((b"Content-Length", str(len(body)).encode()))
    if body and b"content-type" not in names:
        given.append((b"Content-Type", b"application/json"))
    return given


def _head(reply: HalfAnswer | Trickle) -> bytes:
    """Status line and headers by hand: h11 would not let us promise more than we send."""
    lines = [b"HTTP/1.1 %d %s" % (reply.status, _reason(reply.status))]
    lines += [b"%s: %s" % pair for pair in _headers(reply.headers, reply.body.encode(), status=reply.status)]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])
