"""Uvicorn's httptools protocol with the limits it lacks: caps on head, body, pipeline and connections, and deadlines.

A peer holds at most `ServerLimits` of memory and time; a refused request is answered shortly, never with what it sent
and never where the answer to an earlier request is due; its handler, if one runs, sees `http.disconnect`.
Listening and draining are `server`'s; how many requests may be held at once, and their deadlines, are the router's.

Theory of operation. A connection is between requests (IDLE), in a head or in a body. `_deadline` is when the sweep
looks at it again: it runs while a request arrives, stands still while we are the ones not reading, and bounds the
goodbye after a refusal. Input is parsed in pieces of `max_header_bytes`, so that counting whole pieces (the parser
keeps an unfinished header to itself) never overshoots by more than one. Uvicorn knows the newest request only; with
pipelining the one being answered is another, `_running`. Probes: tests/contract/test_server_probes.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Annotated, Literal, NoReturn, Protocol

import httptools
import msgspec
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from bridge.ingress.websocket import HandshakeRefused, SocketLimits, Times, WebSocket, asks_for_socket, handshake

Rejection = Literal[
    "header_too_large",
    "body_too_large",
    "too_many_connections",
    "too_many_pipelined",
    "receive_timeout",
    "malformed",
]

_STATUS: dict[Rejection, bytes] = {
    "header_too_large": b"431 Request Header Fields Too Large",
    "body_too_large": b"413 Content Too Large",
    "too_many_connections": b"503 Service Unavailable",
    "too_many_pipelined": b"503 Service Unavailable",
    "receive_timeout": b"408 Request Timeout",
    "malformed": b"400 Bad Request",
}

_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one listening port grants its peers.

    Attributes:
        max_header_bytes: request line and headers of one request.
        max_body_bytes: one decoded body; with chunk framing and trailers it may be twice that and a head on the wire.
        max_pipelined: requests waiting on one connection behind the one being answered.
        max_connections: open connections, idle ones too; more are answered 503 and closed.
        receive_timeout_seconds: from a request's first byte, or from the connection, to the request's last byte.
        send_timeout_seconds: how long a peer may refuse to take the bytes of its answer.
        keep_alive_seconds: idle time after an answer. Longer than the load balancer's, or that one sees resets.
        grace_seconds: time to read a refusal, and to finish a half-sent request when the server stops.
        backlog: connections the kernel keeps for us.
        drain_seconds: after `stop()`, how long running requests may take. Longer than the longest held one.
        sockets: what WebSockets are granted; None: a request for one is malformed.
    """

    max_header_bytes: _AtLeastOne = 16_384
    max_body_bytes: _AtLeastOne = 262_144
    max_pipelined: _AtLeastOne = 32
    max_connections: _AtLeastOne = 4_096
    receive_timeout_seconds: _Seconds = 10.0
    send_timeout_seconds: _Seconds = 10.0
    keep_alive_seconds: _Seconds = 75.0
    grace_seconds: _Seconds = 1.0
    backlog: _AtLeastOne = 2_048
    drain_seconds: _Seconds = 10.0
    sockets: SocketLimits | None = None


class Gate:
    """What the connections of one server share: limits, the counter of refusals, and whether it is draining."""

    def __init__(self, limits: ServerLimits, on_reject: Callable[[Rejection], None]) -> None:
        self.limits = limits
        self.on_reject = on_reject
        self.draining = False
        self.emptied = asyncio.Event()
        self.sockets = 0
        self.max_wire_bytes = 2 * limits.max_body_bytes + limits.max_header_bytes


class _Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class Watched(Protocol):
    """A connection as the server sees it: a request's, or a socket."""

    def expire(self, now: float) -> None:
        """Look after its deadlines."""

    def shutdown(self) -> None:
        """The server stops."""

    def cut(self) -> None:
        """Close at once."""


class _RefusedError(Exception):
    """Stops the parser inside a callback; the refusal itself has been dealt with."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, config: Config, state: ServerState, *, loop: asyncio.AbstractEventLoop, gate: Gate) -> None:
        super().__init__(config, state, {}, loop)
        self._gate = gate
        self._limits = gate.limits
        self._phase = _Phase.IDLE
        self._phase_is_new = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._deadline: float | None = None
        self._send_deadline: float | None = None
        self._running: RequestResponseCycle | None = None
        self._refused = False
        self._is_upgrade = False

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The clock runs from here: a peer that connects and sends nothing is closed."""
        super().connection_made(transport)
        self._deadline = self.loop.time() + self._limits.receive_timeout_seconds
        if self._gate.draining:
            transport.close()
        elif len(self.connections) > self._limits.max_connections:
            self._refuse("too_many_connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Every request of this connection learns of it, and no timer keeps them alive."""
        super().connection_lost(exc)
        # uvicorn 0.54 does this only when exc is None: a reset would keep the request alive for keep_alive_seconds.
        self._unset_keepalive_if_required()
        self._deadline = None
        self._tell_gone(self._running)
        self.pipeline.clear()
        if self._gate.draining and not self.connections:
            self._gate.emptied.set()

    def data_received(self, data: bytes) -> None:
        """Parse piece by piece, until something is refused.

        Uvicorn's is replaced: it stops the keep-alive clock for any byte (blank lines would hold a connection for
        ever), logs every malformed request, and answers it even where another answer is due.
        """
        step = self._limits.max_header_bytes
        if len(data) <= step:
            self._parse(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), step):
            self._parse(view[start : start + step])

    def _parse(self, piece: bytes | memoryview) -> None:
        if self._refused:
            return
        early = self._is_upgrade
        if early:
            self._refuse("malformed")  # who asks for a WebSocket must wait for the answer
            return
        self._phase_is_new = False
        try:
            self.parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as stop:
            if not self._is_upgrade or stop.args[0] != len(piece):
                self._refuse("malformed")
            return
        self._weigh_wire(piece)

    def _weigh_wire(self, piece: bytes | memoryview) -> None:
        if self._phase is not _Phase.IDLE and not self._phase_is_new:
            self._wire_bytes += len(piece)
            if self._phase is _Phase.HEAD and self._wire_bytes > self._limits.max_header_bytes:
                self._refuse("header_too_large")
            elif self._wire_bytes > self._gate.max_wire_bytes:
                self._refuse("body_too_large")

    # The parser's side

    def on_message_begin(self) -> None:
        """A request begins, and so does its deadline."""
        self._enter(_Phase.HEAD)
        self._head_bytes = self._body_bytes = 0
        self._deadline = self.loop.time() + self._limits.receive_timeout_seconds
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Weigh one header. A body that says it is too long is refused before it is sent."""
        if self._phase is not _Phase.HEAD:
            return  # a trailer: the handler already reads the headers, nothing may be added to them
        self._weigh_head(len(name) + len(value) + 4)
        if name.lower() == b"content-length" and int(value) > self._limits.max_body_bytes:
            self._stop_parsing("body_too_large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: its handler starts, or queues behind an earlier one."""
        if self.parser.should_upgrade():
            # The parser takes an upgrade's body for another protocol's bytes, and what follows for a new request.
            self._is_upgrade = self._wants_socket()
            if not self._is_upgrade:
                self._stop_parsing("malformed")
            self.scope["upgrade"] = self  # type: ignore[typeddict-unknown-key]  # `asgi.Scope` has it
        self._weigh_head(len(self.url))
        if len(self.pipeline) >= self._limits.max_pipelined:
            self._stop_parsing("too_many_pipelined")
        super().on_headers_complete()
        self._enter(_Phase.BODY)
        if self._gate.draining or self._is_upgrade:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Weigh what arrives; this also holds for chunks, which announce no length."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self._stop_parsing("body_too_large")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The peer has done its part."""
        self._enter(_Phase.IDLE)
        self._deadline = None
        super().on_message_complete()

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._phase_is_new = True
        self._wire_bytes = 0

    def _weigh_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_header_bytes:
            self._stop_parsing("header_too_large")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # WebSockets

    def _wants_socket(self) -> bool:
        """A bare GET for a WebSocket, with nothing before it that is still being answered."""
        busy = self._running is not None and not self._running.response_complete
        is_get = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        return self._limits.sockets is not None and is_get and not busy and asks_for_socket(self.headers)

    def accept(self, subprotocol: str | None) -> WebSocket:
        """The connection becomes a socket's; see `websocket.Upgrade`."""
        limits, gate = self._limits, self._gate
        if limits.sockets is None or self._refused or self.transport.is_closing():
            raise HandshakeRefused(400, "the connection is not what it was")
        if gate.draining or gate.sockets >= limits.sockets.max_sockets:
            raise HandshakeRefused(503, "no more WebSockets here now", [(b"retry-after", b"1")])
        protocol, answer = handshake(self.url, self.headers, subprotocol, limits.sockets)
        times = Times(
            receive_timeout_seconds=limits.receive_timeout_seconds,
            send_timeout_seconds=limits.send_timeout_seconds,
            grace_seconds=limits.grace_seconds,
            drain_seconds=limits.drain_seconds,
        )
        socket = WebSocket(protocol, self.transport, limits=limits.sockets, times=times)
        self._hand_over(socket)
        socket.begin(answer)
        return socket

    def _hand_over(self, socket: WebSocket) -> None:
        """The server watches over the socket in place of this; the request's answer is the socket."""
        gate, connections = self._gate, self.connections
        self.cycle.disconnected = True
        self._deadline = None
        connections.discard(self)
        connections.add(socket)  # type: ignore[arg-type]  # uvicorn's own set; it looks at nothing of its members
        gate.sockets += 1

        def lost() -> None:
            gate.sockets -= 1
            connections.discard(socket)
            if gate.draining and not connections:
                gate.emptied.set()

        socket.on_lost = lost

    # Refusing and leaving

    def _stop_parsing(self, kind: Rejection) -> NoReturn:
        self._refuse(kind)
        raise _RefusedError

    def _refuse(self, kind: Rejection) -> None:
        """Stop listening to this peer. Requests that arrived before the refused one are answered first."""
        if self._refused:
            return
        self._refused = True
        self._deadline = None
        self._gate.on_reject(kind)
        arriving = self.cycle if self._phase is _Phase.BODY else None
        if self.pipeline and self.pipeline[0][0] is arriving:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and last is not arriving and not last.response_complete:
            last.keep_alive = False
            return
        nothing_asked = kind == "receive_timeout" and self._phase is _Phase.IDLE
        answered = arriving is not None and arriving.response_started
        self._tell_gone(arriving)
        if not nothing_asked and not answered:
            self.transport.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % _STATUS[kind])
        self._leave(in_a_hurry=nothing_asked or self._gate.draining or kind == "too_many_connections")

    def _leave(self, *, in_a_hurry: bool) -> None:
        self._deadline = self.loop.time() + self._limits.grace_seconds
        if in_a_hurry or self.scheme == "https":
            self.transport.close()
        elif not self.transport.is_closing():
            # Closing with unread bytes resets the connection and the peer loses our answer: say goodbye, discard
            # what still arrives, and let the peer, or the sweep, close.
            self.transport.write_eof()

    def _tell_gone(self, cycle: RequestResponseCycle | None) -> None:
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()

    def expire(self, now: float) -> None:
        """Refuse, or cut, a peer whose time is up. The sweep calls this."""
        if self.flow.write_paused or self.transport.is_closing():
            self._send_deadline = self._send_deadline or now + self._limits.send_timeout_seconds
            if now >= self._send_deadline:
                self.transport.abort()
                return
        else:
            self._send_deadline = None
        if self._deadline is None or now < self._deadline:
            return
        if self._refused or self.transport.is_closing():
            self.transport.abort()
        elif self.flow.read_paused and not self._gate.draining:
            self._deadline = now + self._limits.receive_timeout_seconds
        else:
            self._refuse("receive_timeout")

    def shutdown(self) -> None:
        """The server stops: close if idle, otherwise after the answers that are due."""
        answering = self._running is not None and not self._running.response_complete
        in_body = self._phase is _Phase.BODY and not self.cycle.response_complete
        if not self._refused and (in_body or self._phase is _Phase.HEAD):
            self._deadline = self.loop.time() + self._limits.grace_seconds
        elif not answering:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def cut(self) -> None:
        """Close at once; a running handler sees `http.disconnect`."""
        self._tell_gone(self._running)
        self.transport.abort()


async def sweep(connections: Callable[[], Iterable[Watched]], limits: ServerLimits) -> None:
    """Watch over the deadlines of all connections until cancelled; a deadline is missed by a quarter grace at most."""
    loop = asyncio.get_running_loop()
    period = min(limits.grace_seconds, limits.receive_timeout_seconds, limits.send_timeout_seconds) / 4
    while True:
        await asyncio.sleep(period)
        _expire_all(connections(), loop.time())


def _expire_all(connections: Iterable[Watched], now: float) -> None:
    # A function of its own, so that no variable of the sleeping sweep keeps a dead connection.
    for connection in connections:
        connection.expire(now)
