"""What an outcome of `bridge.providers.http` is worth: every row says what the server did, what it saw, what was told.

`NotSent` must never be told where the server can have read a byte of the request, however the connection ended. The
rows where httpx2's exception alone would say the wrong thing are marked.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import anyio
import msgspec
import pytest
from httpcore2._backends.anyio import AnyIOStream

from bridge.model.outcome import NotSent, NotSentReason, Unknown, UnknownReason
from bridge.providers.http import Answered, Exchange, HttpClient
from bridge.providers.settings import HttpSettings
from tests.support.raw_http import RawConnection, Script, answering, http_answer, raw_server

pytestmark = pytest.mark.anyio

BODY = b'{"to":"the body of the request"}'
CREATED = http_answer(201, b"{}")
QUICK = HttpSettings(
    connect_timeout_seconds=0.3,
    write_timeout_seconds=0.3,
    read_timeout_seconds=0.3,
    pool_timeout_seconds=0.3,
    total_timeout_seconds=3,
    max_connections=4,
    max_response_bytes=4096,
)
KEEPING = msgspec.structs.replace(QUICK, keep_alive_seconds=5)


async def ask(url: str, settings: HttpSettings = QUICK, tls: ssl.SSLContext | None = None) -> Exchange:
    """One POST with a client of its own."""
    async with HttpClient(url, settings, tls=tls) as client:
        return await client.send("POST", "/call", content=BODY)


# --- what servers do -------------------------------------------------------------------------------------------------


async def close_unread(connection: RawConnection) -> None:
    """Accept, close."""
    connection.close()


async def reset_unread(connection: RawConnection) -> None:
    """Wait for the request to arrive, reset without having read it."""
    await connection.arrived()
    connection.reset()


async def hang_unread(connection: RawConnection) -> None:
    """Accept, do nothing."""
    del connection
    await anyio.sleep_forever()


async def read_and_hang(connection: RawConnection) -> None:
    """Read, never answer."""
    await connection.read_request()
    await anyio.sleep_forever()


async def read_and_close(connection: RawConnection) -> None:
    """Read, close."""
    await connection.read_request()
    connection.close()


async def read_and_reset(connection: RawConnection) -> None:
    """Read, reset."""
    await connection.read_request()
    connection.reset()


async def trickle(connection: RawConnection) -> None:
    """Answer with a body that never ends, slowly."""
    await connection.read_request()
    await connection.send(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n")
    while True:
        await connection.send(b"x")
        await anyio.sleep(0.05)


async def trickle_head(connection: RawConnection) -> None:
    """Answer with a head that never ends, slowly."""
    await connection.read_request()
    await connection.send(b"HTTP/1.1 201 Created\r\n")
    while True:
        await connection.send(b"x: y\r\n")
        await anyio.sleep(0.05)


def read_then(answer: bytes) -> Script:
    """Read the request, say this, close."""

    async def script(connection: RawConnection) -> None:
        await connection.read_request()
        await connection.send(answer)
        connection.close()

    return script


@dataclass(frozen=True)
class Row:
    """One bad day: `requests` is how many whole requests the server read, `status` what its head said."""

    name: str
    script: Script
    reason: UnknownReason
    requests: int
    status: int | None = None
    settings: HttpSettings = QUICK


HEAD = b"HTTP/1.1 201 Created\r\n"
ROWS = [
    Row("accepted and closed before reading", close_unread, "connection_lost", 0),
    Row("accepted and reset before reading", reset_unread, "connection_lost", 0),
    Row("accepted and never read", hang_unread, "timeout", 0),
    Row("read and hung", read_and_hang, "timeout", 1),
    Row("read and closed", read_and_close, "connection_lost", 1),
    Row("read and reset", read_and_reset, "connection_lost", 1),
    Row("half a status line", read_then(b"HTTP/1.1 20"), "connection_lost", 1),
    Row("half a head", read_then(HEAD + b"content-le"), "connection_lost", 1),
    Row("half a body", read_then(HEAD + b"content-length: 100\r\n\r\nonly"), "garbled_answer", 1, 201),
    Row("half a chunk", read_then(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab"), "garbled_answer", 1, 201),
    Row("a chunk of no size", read_then(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n"), "garbled_answer", 1, 201),
    Row("not HTTP", read_then(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "garbled_answer", 1),
    Row("noise", read_then(bytes(range(256)) + b"\r\n\r\n"), "garbled_answer", 1),
    Row("a TLS alert", read_then(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"), "garbled_answer", 1),
    Row("two lengths", read_then(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx"), "garbled_answer", 1),
    Row("a negative length", read_then(HEAD + b"content-length: -1\r\n\r\nx"), "garbled_answer", 1),
    Row("a head without end", read_then(HEAD + b"x: " + b"y" * 200_000), "garbled_answer", 1),
    Row("body over the cap", answering(http_answer(201, b"x" * 4097)), "garbled_answer", 1, 201),
    Row(
        "endless body",
        read_then(HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n" * 9),
        "garbled_answer",
        1,
        201,
    ),
    Row("trickled body", trickle, "timeout", 1, 201, HttpSettings(read_timeout_seconds=2, total_timeout_seconds=0.4)),
    Row("trickled head", trickle_head, "timeout", 1, None, HttpSettings(total_timeout_seconds=0.4)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_once_the_request_may_have_left_the_outcome_is_unknown(row: Row) -> None:
    """Unknown, with the reason and as much of the answer as came; and the server's own count of what it read."""
    async with raw_server(row.script) as server:
        outcome = await ask(server.url, row.settings)
    assert isinstance(outcome, Unknown), outcome
    assert (outcome.reason, outcome.provider_status) == (row.reason, row.status)
    assert len(server.requests) == row.requests
    assert (BODY in server.bytes_read) == bool(row.requests)
    assert server.connections == 1, "asked once, whatever came of it"


# --- proof of not sent -----------------------------------------------------------------------------------------------


def assert_not_sent(outcome: Exchange, reason: NotSentReason) -> None:
    """The outcome and its reason, with words for the operator."""
    assert isinstance(outcome, NotSent), outcome
    assert outcome.reason == reason
    assert outcome.detail


async def test_nobody_listens() -> None:
    """A refused connection is proof."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert_not_sent(await ask(f"http://127.0.0.1:{port}"), "connection_refused")


async def test_reset_as_soon_as_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no socket any more when anyio asks uvloop for the peer: a campaign found it, no server can bring it about."""

    def gone(stream: AnyIOStream, info: str) -> object:
        stream._stream._transport.abort()  # type: ignore[attr-defined] # of anyio's stream over a socket
        raise AttributeError(f"'NoneType' object has no attribute 'getpeername' ({info})")

    monkeypatch.setattr(AnyIOStream, "get_extra_info", gone)
    async with raw_server(hang_unread) as server:
        outcome = await ask(server.url)
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "connection_refused"


@pytest.mark.parametrize("host", ["name.invalid", "a" * 64 + ".invalid"])
async def test_name_not_resolved(host: str) -> None:
    """A name without an address is proof. `.invalid` never has one (RFC 6761)."""
    settings = HttpSettings(connect_timeout_seconds=30, total_timeout_seconds=60)
    assert_not_sent(await ask(f"http://{host}:9", settings), "name_not_resolved")


@pytest.fixture
def full_backlog() -> Iterator[socket.socket]:
    """A listener whose queue is full: the system lets further connections wait in vain."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for filler in waiting:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener
        for filler in waiting:
            filler.close()


def _read_from_all(listener: socket.socket) -> bytes:
    """What can be read from the connections that wait to be accepted, also from those that come a little later."""
    data = b""
    listener.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            accepted, _ = listener.accept()
            with accepted, contextlib.suppress(BlockingIOError):
                accepted.setblocking(False)
                data += accepted.recv(65536)
    return data


@pytest.mark.parametrize(
    "settings",
    [QUICK, HttpSettings(connect_timeout_seconds=5, total_timeout_seconds=0.3)],
    ids=["connect time-out", "total deadline while connecting"],
)
async def test_connecting_takes_too_long(full_backlog: socket.socket, settings: HttpSettings) -> None:
    """Giving up while connecting is proof: whatever the listener accepts later has nothing to read."""
    port = full_backlog.getsockname()[1]
    assert_not_sent(await ask(f"http://127.0.0.1:{port}", settings), "connect_timeout")
    assert _read_from_all(full_backlog) == b""


async def test_waiting_for_a_connection_counts_as_not_sent() -> None:
    """With every connection busy the next request waits in front of the pool, and the server never hears of it."""
    settings = HttpSettings(max_connections=1, pool_timeout_seconds=0.2, read_timeout_seconds=0.8)
    async with (
        raw_server(read_and_hang) as server,
        HttpClient(server.url, settings) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.send, "POST", "/first")
        await server.asked.wait()
        assert_not_sent(await client.send("POST", "/second", content=BODY), "pool_timeout")
    assert len(server.requests) == 1
    assert BODY not in server.bytes_read


async def test_the_total_deadline_bounds_waiting_too() -> None:
    """`total_timeout_seconds` ends the wait for a connection as well, and still nothing was sent."""
    settings = HttpSettings(max_connections=1, pool_timeout_seconds=30, total_timeout_seconds=0.3)
    async with raw_server(answering(CREATED)) as server, HttpClient(server.url, settings) as client:
        await client._slots.acquire()  # taken by nobody who would give it back
        assert_not_sent(await client.send("POST", "/call", content=BODY), "pool_timeout")
    assert server.connections == 0


# --- connections that are kept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [read_and_close, read_and_reset, reset_unread], ids=lambda script: script.__name__)
async def test_a_kept_connection_ends_as_the_next_request_is_sent(ending: Script) -> None:
    """Whether the server read the second request cannot be told from here: Unknown, on the same connection, not again."""

    async def script(connection: RawConnection) -> None:
        await connection.read_request()
        await connection.send(CREATED)
        await ending(connection)

    async with raw_server(script) as server, HttpClient(server.url, KEEPING) as client:
        assert isinstance(await client.send("POST", "/call"), Answered)
        outcome = await client.send("POST", "/call", content=BODY)
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason == "connection_lost"
    assert server.connections == 1
    assert (BODY in server.bytes_read) == (ending is not reset_unread)


async def test_a_connection_closed_while_idle_is_not_used() -> None:
    """A connection that the server has ended before is seen to be dead, and the request goes over a new one."""

    async def once(connection: RawConnection) -> None:
        await connection.read_request()
        await connection.send(CREATED)
        connection.close()

    async with raw_server(once) as server, HttpClient(server.url, KEEPING) as client:
        assert isinstance(await client.send("POST", "/call"), Answered)
        await anyio.sleep(0.05)
        assert isinstance(await client.send("POST", "/call", content=BODY), Answered)
    assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize(("keep", "connections"), [(0, 2), (5, 1)])
async def test_how_long_connections_are_kept(keep: float, connections: int) -> None:
    """`keep_alive_seconds = 0` opens a connection for each request."""
    settings = HttpSettings(keep_alive_seconds=keep)
    async with raw_server(answering(CREATED)) as server, HttpClient(server.url, settings) as client:
        for _ in range(2):
            assert isinstance(await client.send("POST", "/call"), Answered)
    assert server.connections == connections


# --- writing and cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["head", "body"])
async def test_the_server_stops_reading(where: str) -> None:
    """A request that does not fit into the system's buffers has left in part: Unknown, even if its head has not all."""

    async def read_a_little(connection: RawConnection) -> None:
        await connection.read()
        await anyio.sleep_forever()

    much = "x" * 32 * 1024 * 1024
    headers, content = ({"x": much}, b"") if where == "head" else ({}, much.encode())
    async with raw_server(read_a_little) as server, HttpClient(server.url, QUICK) as client:
        outcome = await client.send("POST", "/call", headers=headers, content=content)
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason == "timeout"
    assert server.bytes_read


async def test_cancellation_under_contention_leaves_the_client_usable() -> None:
    """What poisons httpx 0.28 for ever: many requests cancelled while they wait for few connections."""

    async def slowly(connection: RawConnection) -> None:
        while True:
            await connection.read_request()
            await anyio.sleep(0.005)
            await connection.send(CREATED)

    settings = HttpSettings(max_connections=4, keep_alive_seconds=5)
    async with raw_server(slowly) as server, HttpClient(server.url, settings) as client:
        for round_ in range(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(40):
                    tasks.start_soon(client.send, "POST", "/cancelled")
                await anyio.sleep(0.002 * (round_ % 8))
                tasks.cancel_scope.cancel()
        outcomes: list[Exchange] = []

        async def one() -> None:
            outcomes.append(await client.send("POST", "/call", content=BODY))

        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(one)
    assert [type(outcome) for outcome in outcomes] == [Answered] * 16
