"""One WebSocket on a connection that began as an HTTP request: messages in, messages out, and limits for everything.

A peer holds at most `SocketLimits` of memory and time: a message is bounded in bytes, fragments and duration, the
messages nobody has taken yet in number (then we stop reading), a peer that takes no bytes or gives no sign of life is
cut. Framing and handshake are the `websockets` library's (its part without I/O); compression is never agreed on.
What messages mean is `dialogues`'; who may open a socket was decided before.

Theory of operation. Bytes are parsed in small pieces, and not at all while the queue of messages is full or the peer
takes nothing from us, so that neither a flood of tiny frames nor of pings costs more than one piece. `close` only says
goodbye: messages that were under way are still given until the peer's own close arrives, or the grace is over.
The server's sweep calls `expire`. Probes: tests/contract/test_server_websocket.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated, Protocol, TypeAlias

import msgspec
from websockets.frames import BINARY, CLOSE, CONT, TEXT, Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_PIECE_BYTES = 4096
_SWITCHING, _UPGRADE_REQUIRED = 101, 426

# https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1
GOING_AWAY, UNSUPPORTED, LOST, POLICY, FAILED, TRY_AGAIN = 1001, 1003, 1006, 1008, 1011, 1013


class SocketLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one port grants the peers of its WebSockets, beside what `ServerLimits` says of time.

    Attributes:
        max_sockets: open ones; more are refused with 503.
        max_message_bytes: one message, all its fragments together; more is closed with 1009.
        max_fragments: of one message; more is closed with 1008.
        max_queued: messages that arrived and were not taken yet; then nothing more is read.
        ping_seconds: how often a peer is asked for a sign of life.
        pong_seconds: how long it may take to give one; then it is closed with 1011.
        idle_seconds: without a message in either direction; then it is closed with 1001.
    """

    max_sockets: _AtLeastOne = 2_000
    max_message_bytes: _AtLeastOne = 262_144
    max_fragments: _AtLeastOne = 64
    max_queued: _AtLeastOne = 32
    ping_seconds: _Seconds = 20.0
    pong_seconds: _Seconds = 10.0
    idle_seconds: _Seconds = 3_600.0


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """The server's own deadlines, as far as a socket has them too."""

    receive_timeout_seconds: float
    """From the first fragment of a message to its last."""
    send_timeout_seconds: float
    grace_seconds: float
    drain_seconds: float


class HandshakeRefused(Exception):
    """No socket: the answer to the request is this status."""

    def __init__(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)


class Upgrade(Protocol):
    """A request that asks for a WebSocket, not answered yet."""

    def accept(self, subprotocol: str | None) -> WebSocket:
        """Make a socket of its connection; `subprotocol`, if given, must be among those that the peer offers.

        Raises:
            HandshakeRefused: a bad handshake, too many sockets, or the server is draining.
        """
        ...


class WebSocket(asyncio.Protocol):
    """An open socket. One task reads; any may send."""

    def __init__(
        self, protocol: ServerProtocol, transport: asyncio.Transport, *, limits: SocketLimits, times: Times
    ) -> None:
        self.going_away = asyncio.Event()
        """Set when the server drains: be brief, and close when nothing is due any more."""
        self.closed = asyncio.Event()
        """Set when the peer has closed, or is gone."""
        self.close_code = LOST
        """The peer's reason for closing, once `closed` is set."""
        self.on_lost: Callable[[], None] = lambda: None
        self._protocol = protocol
        self._transport = transport
        self._limits = limits
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._messages: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._unparsed = bytearray()
        self._pieces: list[bytes] = []
        self._write_paused_since: float | None = None
        self._message_since: float | None = None
        self._pinged_at: float | None = None
        now = self._loop.time()
        self._heard_at = self._active_at = now
        self._away_at: float | None = None
        self._abort_at: float | None = None

    # The application's side

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is OPEN and not self._transport.is_closing()

    async def receive(self) -> bytes | None:
        """The next text message; None when the peer has closed or is gone."""
        while not self._messages:
            if self.closed.is_set():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self._parse()
        return message

    def send(self, *messages: bytes) -> bool:
        """Hand text messages (UTF-8) to the socket, all or none; False if it is closed or its peer takes nothing."""
        if not self.is_open or self._write_paused_since is not None:
            return False
        for message in messages:
            self._protocol.send_text(message)
        self._active_at = self._loop.time()
        self._flush()
        return True

    def close(self, code: int, reason: str) -> None:
        """Say goodbye, once; the connection ends when the peer agrees, or after the grace."""
        if not self.is_open:
            return
        self._protocol.send_close(code, reason)
        self._abort_at = self._loop.time() + self._times.grace_seconds
        self._flush()

    # The transport's side

    def begin(self, answer: bytes) -> None:
        """The handshake is done: send its answer and read."""
        self._transport.set_protocol(self)
        self._transport.write(answer)

    def data_received(self, data: bytes) -> None:
        """Keep, and parse as much as may be."""
        self._unparsed += data
        self._parse()

    def eof_received(self) -> None:
        """The peer sends nothing more; the transport closes itself."""
        self._end(LOST)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, by whomever."""
        del exc
        self._end(LOST)
        self.on_lost()

    def pause_writing(self) -> None:
        """The peer does not take what we send: it is given nothing more, and nothing is read from it."""
        self._write_paused_since = self._loop.time()

    def resume_writing(self) -> None:
        """It takes again."""
        self._write_paused_since = None
        if not self._transport.is_closing():
            self._parse()

    def _parse(self) -> None:
        while self._unparsed and not self._is_full:
            piece = bytes(self._unparsed[:_PIECE_BYTES])
            del self._unparsed[:_PIECE_BYTES]
            self._protocol.receive_data(piece)
            self._heard_at, self._pinged_at = self._loop.time(), None
            for frame in self._protocol.events_received():
                if isinstance(frame, Frame):
                    self._take(frame)
            self._flush()
        if self._transport.is_closing():
            return
        if self._is_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def _is_full(self) -> bool:
        return len(self._messages) >= self._limits.max_queued or self._write_paused_since is not None

    def _take(self, frame: Frame) -> None:
        if frame.opcode is CLOSE:
            received = self._protocol.close_rcvd
            self._end(LOST if received is None else int(received.code))
        elif frame.opcode is BINARY:
            self._fail(UNSUPPORTED, "only text")
        elif frame.opcode in {TEXT, CONT}:
            self._pieces.append(bytes(frame.data))
            if frame.fin:
                self._messages.append(b"".join(self._pieces))
                self._pieces, self._message_since = [], None
                self._active_at = self._loop.time()
                self._arrived.set()
            elif len(self._pieces) >= self._limits.max_fragments:
                self._fail(POLICY, "too many fragments")
            else:
                self._message_since = self._message_since or self._loop.time()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            else:
                self._leave()

    def _fail(self, code: int, reason: str) -> None:
        """The peer broke a rule: goodbye, and nothing more is read."""
        if self.is_open:
            self._protocol.fail(code, reason)
            self._flush()
        self._pieces, self._message_since = [], None
        self._end(code)

    def _leave(self) -> None:
        """Half-close, so that the goodbye is not lost to a reset, and let the peer, or the sweep, close."""
        self._abort_at = self._loop.time() + self._times.grace_seconds
        self._end(LOST if self._protocol.close_sent is None else int(self._protocol.close_sent.code))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _end(self, code: int) -> None:
        if not self.closed.is_set():
            self.close_code = code
            self.closed.set()
            self._arrived.set()

    # The server's side

    def expire(self, now: float) -> None:
        """Look after everything that has a deadline."""
        if self._abort_at is not None and now >= self._abort_at:
            self._transport.abort()
        elif self._write_paused_since is not None:
            if now >= self._write_paused_since + self._times.send_timeout_seconds:
                self._transport.abort()
        elif self.is_open:
            self._expire_open(now)

    def _expire_open(self, now: float) -> None:
        if self._message_since is not None and now >= self._message_since + self._times.receive_timeout_seconds:
            self._fail(POLICY, "the message took too long")
        elif self._away_at is not None and now >= self._away_at:
            self.close(GOING_AWAY, "the server stops")
        elif now >= self._active_at + self._limits.idle_seconds:
            self.close(GOING_AWAY, "idle")
        elif self._is_full:
            self._heard_at, self._pinged_at = now, None  # it is us who do not read
        elif self._pinged_at is not None and now >= self._pinged_at + self._limits.pong_seconds:
            self._fail(FAILED, "no sign of life")
        elif self._pinged_at is None and now >= self._heard_at + self._limits.ping_seconds:
            self._pinged_at = now
            self._protocol.send_ping(b"")
            self._flush()

    def shutdown(self) -> None:
        """The server stops: what is due may be done, but not for longer than the drain takes."""
        self.going_away.set()
        left = self._times.drain_seconds - 2 * self._times.grace_seconds
        self._away_at = self._loop.time() + max(0.0, left)

    def cut(self) -> None:
        """Close at once."""
        self._transport.abort()


Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


def asks_for_socket(headers: Headers) -> bool:
    """Whether a request wants a WebSocket, and has no body that another parser could see."""
    fields = dict(headers)
    wanted = fields.get(b"upgrade", b"").strip().lower() == b"websocket"
    return wanted and b"content-length" not in fields and b"transfer-encoding" not in fields


def handshake(
    target: bytes, headers: Headers, subprotocol: str | None, limits: SocketLimits
) -> tuple[ServerProtocol, bytes]:
    """The framing of a new socket, and the answer that opens it.

    Raises:
        HandshakeRefused: the request is no handshake of RFC 6455, or does not offer the subprotocol.
    """
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]
    protocol = ServerProtocol(subprotocols=offered, max_size=limits.max_message_bytes)
    lines = [b"GET %b HTTP/1.1" % target, *(b"%b: %b" % header for header in headers), b"\r\n"]
    protocol.receive_data(b"\r\n".join(lines))
    request = next((each for each in protocol.events_received() if isinstance(each, Request)), None)
    if request is None:
        raise HandshakeRefused(400, "not a WebSocket handshake")
    answer = protocol.accept(request)
    if answer.status_code != _SWITCHING:
        detail = str(protocol.handshake_exc or "not a WebSocket handshake")
        wanted = [(b"upgrade", b"websocket")] if answer.status_code == _UPGRADE_REQUIRED else []
        raise HandshakeRefused(answer.status_code, detail, [*wanted, (b"sec-websocket-version", b"13")])
    protocol.send_response(answer)
    return protocol, b"".join(protocol.data_to_send())
