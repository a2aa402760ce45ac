"""What a WebSocket's peer can make the server spend, and what it cannot: every limit probed on a real socket.

The handler is an echo; proof, frames' meaning and sessions are in tests/flows/test_websocket_*.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import msgspec
import pytest
from websockets.frames import Close, Frame, Opcode

from bridge.ingress.asgi import Receive, Scope, Send, respond
from bridge.ingress.guarded import ServerLimits
from bridge.ingress.websocket import HandshakeRefused, SocketLimits, WebSocket
from tests.contract.test_server_lifecycle import anonymous
from tests.support.websocket import Closed, asking, opened
from tests.support.wire import GET, Served, Wire, post, serving

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024 * 1024
SOCKETS = SocketLimits(
    max_sockets=3, max_message_bytes=65_536, max_fragments=8, max_queued=4, ping_seconds=30.0, pong_seconds=30.0
)
LIMITS = ServerLimits(
    max_header_bytes=4_096,
    receive_timeout_seconds=0.5,
    send_timeout_seconds=0.5,
    grace_seconds=0.4,
    drain_seconds=5.0,
    sockets=SOCKETS,
)


class Echoes:
    """Accepts at `/`, says everything back; refuses elsewhere. `paused` holds it before it takes a message."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.go_on.set()
        self.sockets: list[WebSocket] = []
        self.taken: list[bytes] = []
        self.ended: list[int] = []
        self.one_ended = anyio.Event()
        self.subprotocol: str | None = None

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """One request."""
        if "upgrade" not in scope:
            await respond(send, 200)
            return
        if scope["path"] != "/":
            await respond(send, 401, b"who?")
            return
        try:
            socket = scope["upgrade"].accept(self.subprotocol)
        except HandshakeRefused as refused:
            await respond(send, refused.status, refused.detail.encode(), refused.headers)
            return
        self.sockets.append(socket)
        await self.go_on.wait()
        while (message := await socket.receive()) is not None:
            self.taken.append(message)
            socket.send(message)
            await self.go_on.wait()
        self.ended.append(socket.close_code)
        self.one_ended.set()


@pytest.fixture
def echoes() -> Echoes:
    """The handler."""
    return Echoes()


@pytest.fixture
async def served(echoes: Echoes) -> AsyncIterator[Served]:
    """A server that takes WebSockets."""
    async with serving(echoes, LIMITS) as served:
        yield served


async def test_messages_there_and_back(served: Served, echoes: Echoes) -> None:
    """Whole or in fragments, with a ping between them; the goodbye is returned, and nothing is left."""
    async with await served.connect() as wire:
        socket = await opened(wire)
        await socket.say("one")
        await socket.frame(Frame(Opcode.TEXT, b"tw", fin=False))
        await socket.frame(Frame(Opcode.PING, b"?"))
        await socket.frame(Frame(Opcode.CONT, b"o"))
        assert [await socket.hear(), await socket.hear()] == ["one", "two"]
        assert socket.pongs == 1
        assert (served.server.sockets, served.server.requests, served.server.connections) == (1, 1, 1)
        await socket.close(1000)
        assert await socket.hear() == Closed(1000)
        assert await wire.rest() == b""
    with anyio.fail_after(5):
        await echoes.one_ended.wait()
    assert echoes.ended == [1000]
    await served.caught_up()
    assert served.server.sockets == 0


async def test_what_was_sent_before_the_goodbye_is_given(served: Served, echoes: Echoes) -> None:
    """Messages that a busy handler has not taken yet are not lost to a close right behind them."""
    echoes.go_on = anyio.Event()
    async with await served.connect() as wire:
        socket = await opened(wire)
        for text in ("1", "2", "3"):
            await socket.say(text)
        await socket.close(1000)
        assert await socket.hear() == Closed(1000)
        echoes.go_on.set()
        with anyio.fail_after(5):
            await echoes.one_ended.wait()
    assert echoes.taken == [b"1", b"2", b"3"]


async def test_over_tls(echoes: Echoes) -> None:
    """The same through TLS, where a connection cannot be half-closed: the goodbye still arrives."""
    text, goodbye = Frame(Opcode.TEXT, b"x"), Frame(Opcode.CLOSE, Close(1000, "").serialize())
    async with serving(echoes, LIMITS, ssl_context=anonymous(ssl.PROTOCOL_TLS_SERVER)) as served:
        with anyio.fail_after(10):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=anonymous(ssl.PROTOCOL_TLS_CLIENT)
            )
            writer.write(asking())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(text.serialize(mask=True))
            assert await reader.readexactly(3) == text.serialize(mask=False)
            writer.write(goodbye.serialize(mask=True))
            assert await reader.read() == goodbye.serialize(mask=False)
            writer.close()
            await echoes.one_ended.wait()
    assert echoes.ended == [1000]


# -- the handshake ----------------------------------------------------------------------------------------------------


async def test_without_proof_there_is_no_socket(served: Served, echoes: Echoes) -> None:
    """The handler answers like any other request, and the connection is over."""
    async with await served.connect() as wire:
        await wire.send(asking("/elsewhere"))
        answer = await wire.answer()
        assert (answer.status, answer.body) == (401, b"who?")
        assert await wire.rest() == b""
    assert echoes.sockets == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(asking(version=b"8"), 400, id="another version"),
        pytest.param(asking().replace(b"sec-websocket-key", b"x-key"), 400, id="no key"),
        pytest.param(asking().replace(b"websocket\r\n", b"h2c\r\n"), 400, id="another protocol"),
        pytest.param(asking().replace(b"GET", b"POST"), 400, id="POST"),
        pytest.param(asking("/", b"content-length: 5"), 400, id="with a body"),
        pytest.param(asking("/", b"transfer-encoding: chunked"), 400, id="with chunks"),
        pytest.param(asking() + Frame(Opcode.TEXT, b"early").serialize(mask=True), 400, id="frames before the answer"),
        pytest.param(asking("/", b"x-long: " + b"x" * 5_000), 431, id="too long a head"),
    ],
)
async def test_a_bad_handshake_is_refused(served: Served, echoes: Echoes, request_bytes: bytes, status: int) -> None:
    """What is not exactly RFC 6455 opens nothing."""
    async with await served.connect() as wire:
        await wire.send(request_bytes)
        assert (await wire.answer()).status == status
        assert await wire.rest() == b""
    assert echoes.sockets == []


async def test_a_subprotocol_that_is_wanted_must_be_offered(served: Served, echoes: Echoes) -> None:
    """Offered it is agreed on; not offered there is no socket."""
    echoes.subprotocol = "ws.example"
    async with await served.connect() as wire:
        await wire.send(asking("/", b"sec-websocket-protocol: other, ws.example"))
        answer = await wire.answer()
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "ws.example")
    async with await served.connect() as wire:
        await wire.send(asking("/", b"sec-websocket-protocol: other"))
        assert (await wire.answer()).status == 400


async def test_compression_is_never_agreed_on(served: Served) -> None:
    """A compressed message could be a thousand times what it weighs on the wire."""
    async with await served.connect() as wire:
        await wire.send(asking("/", b"sec-websocket-extensions: permessage-deflate"))
        answer = await wire.answer()
    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers


async def test_not_behind_a_request_that_is_still_answered() -> None:
    """A pipelined upgrade would take the connection from under the answer."""
    entered, go_on = anyio.Event(), anyio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await go_on.wait()
        await respond(send, 200)

    async with serving(slow, LIMITS) as served, await served.connect() as wire:
        await wire.send(post(b"") + asking())
        await entered.wait()
        go_on.set()
        assert (await wire.answer()).status == 200
        assert await wire.rest() == b""
        assert served.rejections == ["malformed"]


async def test_nothing_may_come_before_the_answer() -> None:
    """What a hasty peer sends meanwhile is no frame, and no request either."""
    entered, go_on, refused = anyio.Event(), anyio.Event(), []

    async def slow(scope: Scope, _: Receive, send: Send) -> None:
        if "upgrade" not in scope:
            await respond(send, 200)
            return
        entered.set()
        await go_on.wait()
        with pytest.raises(HandshakeRefused) as refusal:
            scope["upgrade"].accept(None)
        refused.append(refusal.value.status)
        await respond(send, refusal.value.status)

    async with serving(slow, LIMITS) as served, await served.connect() as wire:
        await wire.send(asking())
        await entered.wait()
        await wire.send(GET)
        await served.caught_up()
        go_on.set()
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""
    assert refused == [400]


async def test_a_port_without_sockets_refuses(echoes: Echoes) -> None:
    """The management port takes none."""
    async with serving(echoes, msgspec.structs.replace(LIMITS, sockets=None)) as served, await served.connect() as wire:
        await wire.send(asking())
        assert (await wire.answer()).status == 400
    assert served.rejections == ["malformed"]


async def test_too_many_sockets(served: Served) -> None:
    """One more than allowed is told to come later; a place that was left is free again."""
    wires = [await served.connect() for _ in range(4)]
    sockets = [await opened(wire) for wire in wires[:3]]
    await wires[3].send(asking())
    answer = await wires[3].answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    await sockets[0].close()
    assert await wires[0].rest()
    wires[0].sock.close()
    await served.caught_up()
    async with await served.connect() as wire:
        await opened(wire)
    for wire in wires[1:]:
        wire.sock.close()


# -- messages ---------------------------------------------------------------------------------------------------------


async def test_a_message_that_is_too_long(served: Served, echoes: Echoes) -> None:
    """It is refused by what its head says, before it is sent; in fragments when they pass the limit together."""
    async with await served.connect() as wire:
        socket = await opened(wire)
        await wire.send(Frame(Opcode.TEXT, bytes(65_537)).serialize(mask=True)[:14])
        closed = await socket.hear()
    assert isinstance(closed, Closed)
    assert closed.code == 1009
    async with await served.connect() as wire:
        socket = await opened(wire)
        await socket.frame(Frame(Opcode.TEXT, bytes(40_000), fin=False))
        await socket.frame(Frame(Opcode.CONT, bytes(40_000)))
        closed = await socket.hear()
    assert isinstance(closed, Closed)
    assert closed.code == 1009
    assert set(echoes.ended) <= {1009}


async def test_a_message_in_too_many_fragments(served: Served) -> None:
    """Empty fragments weigh nothing and could go on for ever."""
    async with await served.connect() as wire:
        socket = await opened(wire)
        await socket.frame(Frame(Opcode.TEXT, b"", fin=False))
        for _ in range(8):
            await socket.frame(Frame(Opcode.CONT, b"", fin=False))
        assert await socket.hear() == Closed(1008, "too many fragments")


async def test_a_message_that_takes_too_long(served: Served) -> None:
    """From the first fragment to the last there is a deadline, whatever else is said in between."""
    async with await served.connect() as wire:
        socket = await opened(wire)
        await socket.frame(Frame(Opcode.TEXT, b"to be ", fin=False))
        assert await socket.hear() == Closed(1008, "the message took too long")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(Frame(Opcode.BINARY, b"x").serialize(mask=True), 1003, id="binary"),
        pytest.param(Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002, id="not masked"),
        pytest.param(b"\xc1\x81\x00\x00\x00\x00x", 1002, id="compressed"),
        pytest.param(Frame(Opcode.CONT, b"x").serialize(mask=True), 1002, id="continues nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 1002, id="another request"),
    ],
)
async def test_what_is_no_text_message_ends_the_socket(served: Served, data: bytes, code: int) -> None:
    """With the code that says why, and nothing is given to the handler."""
    async with await served.connect() as wire:
        socket = await opened(wire)
        await wire.send(data)
        closed = await socket.hear()
        assert isinstance(closed, Closed)
        assert closed.code == code
        assert await wire.rest() == b""


# -- time and memory --------------------------------------------------------------------------------------------------


async def test_no_sign_of_life(echoes: Echoes) -> None:
    """Who answers no ping is gone, as far as we can know; who answers stays."""
    sockets = msgspec.structs.replace(SOCKETS, ping_seconds=0.2, pong_seconds=0.3)
    limits = msgspec.structs.replace(LIMITS, sockets=sockets)
    async with (
        serving(echoes, limits) as served,
        await served.connect() as wire,
        await served.connect() as other,
        anyio.create_task_group() as tasks,
    ):
        silent, alive = await opened(wire, answers_pings=False), await opened(other)
        tasks.start_soon(alive.hear)  # answers pings
        assert await silent.hear() == Closed(1011, "no sign of life")
        assert alive.pings >= 1
        assert echoes.sockets[1].is_open
        tasks.cancel_scope.cancel()


async def test_idle(echoes: Echoes) -> None:
    """A peer that lives and says nothing is sent away after its time."""
    sockets = msgspec.structs.replace(SOCKETS, idle_seconds=0.5)
    limits = msgspec.structs.replace(LIMITS, sockets=sockets)
    async with serving(echoes, limits) as served, await served.connect() as wire:
        assert await (await opened(wire)).hear() == Closed(1001, "idle")
        with anyio.fail_after(3):
            assert await wire.rest() == b""  # although it does not return the goodbye


async def test_a_peer_that_takes_nothing_is_cut(served: Served, echoes: Echoes) -> None:
    """What we say waits in no memory of ours: `send` says no, and after the deadline the connection ends."""
    async with await served.connect(receive_buffer_bytes=4_096) as wire:
        await opened(wire)
        [socket] = echoes.sockets
        said = 0
        while socket.send(bytes(60_000)):
            said += 1
            assert said < 1_000
        with anyio.fail_after(5):
            await echoes.one_ended.wait()
    assert echoes.ended == [1006]
    assert not socket.send(b"more")


async def taken_before_it_blocks(wire: Wire, data: bytes) -> int:
    """How many bytes the server's side takes, sent again and again, until for half a second it takes not one more."""
    taken, rest = 0, data
    while taken < 16 * MEBIBYTE:
        with anyio.move_on_after(0.5) as scope:
            await anyio.wait_writable(wire.sock)
        if scope.cancelled_caught:
            break
        sent = wire.sock.send(rest)
        taken, rest = taken + sent, rest[sent:] or data
    return taken


async def test_a_flood_of_messages_is_not_read(served: Served, echoes: Echoes) -> None:
    """A busy handler's peer is held back by TCP, and what has come waits unparsed."""
    echoes.go_on = anyio.Event()
    messages = Frame(Opcode.TEXT, bytes(100)).serialize(mask=True) * 2_000
    async with await served.connect() as wire:
        await opened(wire)
        assert await taken_before_it_blocks(wire, messages) < 16 * MEBIBYTE
        echoes.go_on.set()
        await anyio.lowlevel.checkpoint()
        assert not echoes.ended


async def test_pings_of_a_peer_that_takes_no_pongs(echoes: Echoes) -> None:
    """Pongs are not piled up: while they are not taken, nothing more is read."""
    pings = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 2_000
    limits = msgspec.structs.replace(LIMITS, send_timeout_seconds=30.0)
    async with serving(echoes, limits) as served, await served.connect(receive_buffer_bytes=4_096) as wire:
        await opened(wire)
        assert await taken_before_it_blocks(wire, pings) < 16 * MEBIBYTE
        wire.reset()


async def test_a_reset_ends_the_handler(served: Served, echoes: Echoes) -> None:
    """A peer that is suddenly gone leaves nothing behind."""
    wire = await served.connect()
    await opened(wire)
    wire.reset()
    with anyio.fail_after(5):
        await echoes.one_ended.wait()
    await served.caught_up()
    assert (echoes.ended, served.server.sockets) == ([1006], 0)


# -- the end of the server --------------------------------------------------------------------------------------------


async def test_draining(echoes: Echoes) -> None:
    """A socket is told 1001 near the end of the drain, may say and hear until then, and a new one is refused."""
    limits = msgspec.structs.replace(LIMITS, drain_seconds=1.6)
    async with serving(echoes, limits) as served, await served.connect() as wire, await served.connect() as idle:
        await idle.send(GET)
        await idle.answer()
        socket = await opened(wire)
        served.server.stop()
        await echoes.sockets[0].going_away.wait()
        await socket.say("still here")
        assert await socket.hear() == "still here"
        assert await socket.hear() == Closed(1001, "the server stops")
        await socket.close(1001)
        with anyio.fail_after(5):
            await served.returned.wait()
    assert served.server.requests_cut == 0
    assert echoes.ended == [1001]


async def test_a_socket_that_ends_while_draining(served: Served, echoes: Echoes) -> None:
    """The server does not wait for longer than for its last peer."""
    async with await served.connect() as wire:
        socket = await opened(wire)
        served.server.stop()
        await echoes.sockets[0].going_away.wait()
        await socket.close()
        assert await socket.hear() == Closed(1000)
    with anyio.fail_after(3):
        await served.returned.wait()


async def test_a_peer_that_stays_is_cut_with_the_drain(echoes: Echoes) -> None:
    """Whoever does not answer the goodbye is gone after the grace, and the server returns in time."""
    limits = msgspec.structs.replace(LIMITS, drain_seconds=1.2)
    async with serving(echoes, limits) as served, await served.connect() as wire:
        socket = await opened(wire)
        served.server.stop()
        assert await socket.hear() == Closed(1001, "the server stops")
        with anyio.fail_after(5):
            await served.returned.wait()
    assert served.server.connections == 0
