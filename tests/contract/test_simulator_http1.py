"""The simulators' HTTP server and client against raw sockets: each fault does on the wire what it says.

What is asserted is bytes, ends of stream and resets as a client's socket sees them, and what the server says it saw.
Waiting is on bytes and events; the only durations are those of the faults themselves, in hundredths of seconds.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest

from bridge.demo.simulators import faults, http1
from bridge.demo.simulators.connection import Exchange, Limits
from bridge.demo.simulators.faults import Answer, Reply
from bridge.demo.simulators.webhooks import Delivery, Endpoint, Mishap, WebhookClient

pytestmark = pytest.mark.anyio

REQUEST = b"POST /dial?x=1 HTTP/1.1\r\nHost: simulator\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = REQUEST.replace(b"Host:", b"Connection: close\r\nHost:")
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Watched:
    """A server with one reply, and what it saw."""

    reply: Reply
    server: http1.Http1Server = field(init=False)
    begun: list[Exchange] = field(default_factory=list)
    received: list[Exchange] = field(default_factory=list)
    ended: asyncio.Queue[Exchange] = field(default_factory=asyncio.Queue)
    has_received: anyio.Event = field(default_factory=anyio.Event)

    async def handle(self, exchange: Exchange) -> Reply:
        """Remember and reply."""
        self.received.append(exchange)
        self.has_received.set()
        return self.reply

    async def outcome(self) -> str | None:
        """How the next request to end ended."""
        with anyio.fail_after(5):
            return (await self.ended.get()).ended


@contextlib.asynccontextmanager
async def serving(reply: Reply | None = None, limits: Limits | None = None) -> AsyncIterator[Watched]:
    """A watched server."""
    watched = Watched(reply or Answer(status=201))
    async with http1.serve(
        watched.handle, limits=limits, on_begin=watched.begun.append, on_end=watched.ended.put_nowait
    ) as server:
        watched.server = server
        yield watched


@contextlib.asynccontextmanager
async def connected(server: http1.Http1Server) -> AsyncIterator[Client]:
    """A raw connection."""
    host, port = server.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(5):
            yield reader, writer
    finally:
        writer.transport.abort()


async def ask(server: http1.Http1Server, request: bytes = REQUEST) -> bytes:
    """Everything a server sends until the end of the stream."""
    async with connected(server) as (reader, writer):
        writer.write(request)
        return await reader.read()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer without a body, or with `Content-Length`."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


async def test_requests_are_read_whole_and_connections_kept() -> None:
    """Two requests, the second sent before the first is answered, are answered in turn on one connection."""
    async with serving(Answer(status=200, body='{"a":1}', headers={"X-One": "1"})) as watched:
        async with connected(watched.server) as (reader, writer):
            writer.write(REQUEST + REQUEST.replace(b"hello", b"again"))
            first, second = await read_answer(reader), await read_answer(reader)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b'\r\n\r\n{"a":1}')
        assert b"X-One: 1\r\n" in first
        assert second == first
        assert [exchange.body for exchange in watched.received] == [b"hello", b"again"]
        exchange = watched.received[0]
        assert (exchange.method, exchange.path, exchange.query) == ("POST", "/dial", {"x": "1"})
        assert exchange.headers["host"] == "simulator"
        assert exchange.received_at is not None
        assert exchange.received_at >= exchange.began_at
        assert watched.server.connections == 1


async def test_a_client_that_expects_100_is_told_to_go_on() -> None:
    """`Expect: 100-continue` gets its interim answer before the body is sent."""
    async with serving() as watched, connected(watched.server) as (reader, writer):
        head, body = REQUEST.split(b"\r\n\r\n")
        writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 201 Created\r\n")


# ---- faults on connections


async def test_close_unread_is_an_end_of_stream() -> None:
    """A client that has sent nothing yet sees the stream end, and no request is seen to begin."""
    async with serving() as watched:
        watched.server.faults.append(faults.CloseUnread())
        async with connected(watched.server) as (reader, _):
            assert await reader.read() == b""
        assert not watched.begun


async def test_reset_unread_is_a_reset() -> None:
    """The client sees RST, and no request is seen to begin; the next connection is well."""
    async with serving() as watched:
        watched.server.faults.append(faults.ResetUnread())
        with pytest.raises(ConnectionResetError):
            async with connected(watched.server) as (reader, _):
                await reader.readexactly(1)
        assert not watched.begun
        assert (await ask(watched.server, CLOSING)).startswith(b"HTTP/1.1 201 ")


async def test_hang_unread_takes_the_request_and_reads_nothing() -> None:
    """The client can send, hears nothing, and is reset (its bytes were never read) when the server lets go."""
    async with serving() as watched:
        watched.server.faults.append(faults.HangUnread())
        async with connected(watched.server) as (reader, writer):
            writer.write(REQUEST)
            await writer.drain()
            with anyio.move_on_after(0.05) as silence:
                await reader.read(1)
            assert silence.cancelled_caught
            watched.server.release()
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        assert not watched.begun


async def test_reset_after_head_is_a_request_that_begins_and_never_ends() -> None:
    """The server sees the request begin, not end; the client sees RST."""
    async with serving() as watched:
        watched.server.faults.append(faults.ResetAfterHead())
        with pytest.raises(ConnectionResetError):
            await ask(watched.server, REQUEST[:-2])
        assert await watched.outcome() == "reset"
        assert [exchange.path for exchange in watched.begun] == ["/dial"]
        assert watched.begun[0].received_at is None
        assert not watched.received


async def test_faults_are_chosen_per_connection_before_reading() -> None:
    """`choose_fault` is asked once a connection, with its number."""
    async with serving() as watched:
        watched.server.choose_fault = lambda number: faults.CloseUnread() if number == 2 else None
        assert (await ask(watched.server, CLOSING)).startswith(b"HTTP/1.1 201 ")
        async with connected(watched.server) as (reader, _):
            assert await reader.read() == b""
        assert (await ask(watched.server, CLOSING)).startswith(b"HTTP/1.1 201 ")


async def test_refusing_is_connection_refused_until_it_listens_again() -> None:
    """Connections that are open go on; new ones are refused; the port stays the same."""
    async with serving() as watched:
        before = watched.server.base_url
        async with connected(watched.server) as (reader, writer):
            writer.write(REQUEST)
            await read_answer(reader)
            await watched.server.refuse()
            with pytest.raises(ConnectionRefusedError):
                await ask(watched.server)
            writer.write(REQUEST)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 201 ")
        watched.server.listen()
        assert watched.server.base_url == before
        assert (await ask(watched.server, CLOSING)).startswith(b"HTTP/1.1 201 ")


# ---- faults of replies

HALF = b"HTTP/1.1 201 Created\r\nContent-Length: 21\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "sent", "outcome"),
    [
        (faults.Close(), b"", "closed"),
        (faults.HalfAnswer(), HALF + b'{"sta', "half_answered"),
        (faults.Garbled(data="\x16\x03nonsense"), b"\x16\x03nonsense", "garbled"),
        (
            faults.Trickle(status=204, interval_seconds=0.0001),
            b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            "trickled",
        ),
        (
            Answer(status=429, headers={"Retry-After": "1", "Connection": "close"}),
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "answered",
        ),
        (
            Answer(status=503, body="sorry", headers={"Content-Type": "text/plain", "Connection": "close"}),
            (
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: 5\r\n\r\nsorry"
            ),
            "answered",
        ),
    ],
    ids=["close", "half", "garbled", "trickle", "429", "503"],
)
async def test_replies_on_the_wire(reply: Reply, sent: bytes, outcome: str) -> None:
    """The request is read whole; exactly these bytes come, then the end of the stream."""
    async with serving(reply) as watched:
        assert await ask(watched.server) == sent
        assert await watched.outcome() == outcome
        assert watched.received[0].body == b"hello"


async def test_reset_after_reading() -> None:
    """The request is read whole, then the client sees RST."""
    async with serving(faults.Reset()) as watched:
        with pytest.raises(ConnectionResetError):
            await ask(watched.server)
        assert await watched.outcome() == "reset"
        assert watched.received[0].body == b"hello"


async def test_a_trickle_comes_byte_by_byte() -> None:
    """A client that leaves within the trickle is noticed."""
    async with serving(faults.Trickle(interval_seconds=0.01)) as watched:
        async with connected(watched.server) as (reader, writer):
            writer.write(REQUEST)
            assert await reader.read(1000) == b"H"
        assert await watched.outcome() == "client_gone"


async def test_a_hang_ends_when_released() -> None:
    """No byte comes; after the release the stream ends."""
    async with serving(faults.Hang()) as watched, connected(watched.server) as (reader, writer):
        writer.write(REQUEST)
        await watched.has_received.wait()
        assert watched.ended.empty()
        watched.server.release()
        assert await reader.read() == b""
        assert await watched.outcome() == "hung"


async def test_a_hang_ends_when_its_time_is_up_or_the_client_goes() -> None:
    """Both are told apart."""
    async with serving(faults.Hang(seconds=0.01)) as watched:
        assert await ask(watched.server) == b""
        assert await watched.outcome() == "hung"
        watched.reply = faults.Hang()
        watched.has_received = anyio.Event()
        async with connected(watched.server) as (_, writer):
            writer.write(REQUEST)
            await watched.has_received.wait()
        assert await watched.outcome() == "client_gone"


async def test_a_slow_answer_is_late_and_whole() -> None:
    """Not before its delay, and the connection lives on."""
    async with (
        serving(Answer(status=201, delay_seconds=0.05)) as watched,
        connected(watched.server) as (reader, writer),
    ):
        for _ in range(2):
            started = time.monotonic()
            writer.write(REQUEST)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 201 ")
            assert time.monotonic() - started >= 0.045  # the loop's clock is some milliseconds coarse


# ---- limits and ends


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 5000 + b"\r\n\r\n", b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"400"),
    ],
    ids=["body", "head", "tls", "no host"],
)
async def test_what_is_too_large_or_no_http_is_refused(request_bytes: bytes, status: bytes) -> None:
    """The handler is never asked."""
    async with serving(limits=Limits(head_bytes=1024, body_bytes=1024)) as watched:
        async with connected(watched.server) as (reader, writer):
            writer.write(request_bytes)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 " + status)
        assert not watched.received


async def test_a_request_that_is_given_up_is_seen_to_begin() -> None:
    """Head and half a body, then the client leaves."""
    async with serving() as watched:
        async with connected(watched.server) as (_, writer):
            writer.write(REQUEST[:-2])
            writer.write_eof()
            assert await watched.outcome() == "client_gone"
        assert watched.begun[0].received_at is None


async def test_the_end_closes_what_is_open() -> None:
    """The context ends at once although a client idles and another is kept waiting; both see their stream end."""
    async with contextlib.AsyncExitStack() as clients:
        with anyio.fail_after(2):
            async with serving(faults.Hang()) as watched:
                idle, _ = await clients.enter_async_context(connected(watched.server))
                waiting, writer = await clients.enter_async_context(connected(watched.server))
                writer.write(REQUEST)
                await watched.has_received.wait()
        assert await idle.read() == b""
        assert await waiting.read() == b""


# ---- the webhooks' client

Deliver = Callable[..., Awaitable[Delivery]]


@contextlib.asynccontextmanager
async def posting(watched: Watched) -> AsyncIterator[Deliver]:
    """A client that posts to the watched server."""
    client = WebhookClient()
    endpoint = Endpoint(f"{watched.server.base_url}/hook", {"X-API-TOKEN": "secret"})

    async def deliver(cap_seconds: float = 2.0, mishap: Mishap | None = None) -> Delivery:
        return await client.post(endpoint, b'{"type":"x"}', cap_seconds=cap_seconds, mishap=mishap)

    try:
        yield deliver
    finally:
        client.close()


async def test_webhooks_reuse_connections_and_carry_their_headers() -> None:
    """Many in a row need one connection; each is answered by its own answer."""
    async with serving(Answer(status=200, body="[]")) as watched, posting(watched) as deliver:
        for _ in range(3):
            delivery = await deliver()
            assert (delivery.status, delivery.body, delivery.content_type) == (200, b"[]", "application/json")
            assert delivery.failure is None
        assert watched.server.connections == 1
        assert watched.received[0].headers["x-api-token"] == "secret"
        assert watched.received[0].body == b'{"type":"x"}'


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (faults.Close(), "lost"),
        (faults.Reset(), "lost"),
        (faults.HalfAnswer(), "lost"),
        (faults.Garbled(), "garbled"),
        (faults.Hang(), "no_answer"),
        (Answer(delay_seconds=5), "no_answer"),
    ],
    ids=["close", "reset", "half", "garbled", "hang", "late"],
)
async def test_webhooks_that_are_answered_badly(reply: Reply, failure: str) -> None:
    """Each kind of bad answer has its name, and none is raised."""
    async with serving(reply) as watched, posting(watched) as deliver:
        delivery = await deliver(cap_seconds=0.2)
        assert (delivery.status, delivery.failure) == (None, failure)


@pytest.mark.parametrize(
    ("mishap", "failure"),
    [
        (faults.Drop(after_seconds=0.05), "dropped"),
        (faults.Drop(after_seconds=0.05, reset=True), "dropped"),
        (faults.LeaveUnread(seconds=0.05), "left_unread"),
    ],
    ids=["close", "reset", "unread"],
)
async def test_webhooks_that_are_given_up(mishap: Mishap, failure: str) -> None:
    """The receiver has the whole request, and sees its sender go while it works on the answer."""
    async with serving(faults.Hang()) as watched, posting(watched) as deliver:
        assert (await deliver(mishap=mishap)).failure == failure
        assert await watched.outcome() == "client_gone"
        assert watched.received[0].body == b'{"type":"x"}'


async def test_a_webhook_cut_short_never_arrives_whole() -> None:
    """The receiver sees it begin."""
    async with serving() as watched, posting(watched) as deliver:
        assert (await deliver(mishap=faults.Cut(share=0.95))).failure == "cut"
        assert await watched.outcome() == "client_gone"
        assert not watched.received


async def test_nobody_there() -> None:
    """A refused connection is a failure with a name."""
    async with serving() as watched, posting(watched) as deliver:
        await watched.server.refuse()
        assert (await deliver()).failure == "refused"
