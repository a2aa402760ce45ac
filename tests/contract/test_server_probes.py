"""What hostile, broken and slow peers get from the guarded server, probed over raw sockets on loopback.

Each test is a row of the table of probes the server was chosen by; uvicorn is pinned to a minor version because the
guarded protocol leans on its callbacks, and these tests are what a newer version must pass.
The shapes of requests are in test_server_requests.py; starting, draining and stopping in test_server_lifecycle.py.
"""

from __future__ import annotations

import gc
import time

import anyio
import msgspec
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bridge.ingress.asgi import Receive, Scope, Send, read_body
from bridge.ingress.guarded import ServerLimits
from tests.contract import server_stage
from tests.contract.server_stage import echo, served
from tests.support.wire import CHUNKED, GET, Echo, Held, Served, Wire, post, serving

pytestmark = pytest.mark.anyio

__all__ = ["echo", "served"]

LIMITS = msgspec.structs.replace(server_stage.LIMITS, send_timeout_seconds=0.5, keep_alive_seconds=0.5)


@pytest.fixture
def limits() -> ServerLimits:
    """Where a peer that does not read is cut soon, too."""
    return LIMITS


async def trickle(wire: Wire, piece: bytes) -> None:
    """Send a piece ten times a second, for ever."""
    while True:
        await wire.send_if_wanted(piece)
        await anyio.sleep(0.1)


async def rest_of_trickled(wire: Wire, piece: bytes) -> bytes:
    """What the server says to a peer that sends a piece ten times a second and would never end."""
    async with anyio.create_task_group() as group:
        group.start_soon(trickle, wire, piece)
        rest = await wire.rest()
        group.cancel_scope.cancel()
    return rest


# Slow peers


async def test_a_connection_that_sends_nothing_is_closed_without_an_answer(served: Served) -> None:
    """Silence ends at the receive deadline, and not before it."""
    async with await served.connect() as wire:
        begun = time.monotonic()
        assert await wire.rest() == b""
    assert 0.4 < time.monotonic() - begun < 3
    assert served.rejections == ["receive_timeout"]


async def test_trickled_headers_end_in_408(served: Served, echo: Echo) -> None:
    """Progress does not extend the receive deadline, and no handler starts."""
    async with await served.connect() as wire:
        await wire.send(b"GET / HTTP/1.1\r\n")
        assert (await rest_of_trickled(wire, b"x-a: b\r\n")).startswith(b"HTTP/1.1 408 ")
    assert served.rejections == ["receive_timeout"]
    assert echo.scopes == []


async def test_a_trickled_body_ends_in_408(served: Served, echo: Echo) -> None:
    """The deadline covers the body, and the handler that waits for it sees the disconnect."""
    async with await served.connect() as wire:
        await wire.send(post(b"")[:-4].replace(b"length: 0", b"length: 5000") + b"\r\n\r\n")
        assert (await rest_of_trickled(wire, b"x")).startswith(b"HTTP/1.1 408 ")
        with anyio.fail_after(5):
            await echo.disconnected.wait()
    assert served.rejections == ["receive_timeout"]


async def test_blank_lines_do_not_keep_a_connection(served: Served) -> None:
    """Line ends between requests are skipped by the parser and hold neither a new nor an idle connection."""
    async with await served.connect() as wire:
        assert await rest_of_trickled(wire, b"\r\n") == b""
    async with await served.connect() as wire:
        await wire.send(GET)
        assert (await wire.answer()).status == 200
        assert await rest_of_trickled(wire, b"\r\n") == b""


async def test_a_peer_that_does_not_read_its_answer_is_cut() -> None:
    """A handler blocked on a full socket is let go after the send deadline."""
    let_go = anyio.Event()

    async def flood(_: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, 0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _piece in range(64):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        let_go.set()

    async with serving(flood, LIMITS) as served, await served.connect(receive_buffer_bytes=4_096) as wire:
        begun = time.monotonic()
        await wire.send(GET)
        with anyio.fail_after(5):
            await let_go.wait()
        assert time.monotonic() - begun > 0.4
        assert served.server.connections == 0


async def test_an_idle_connection_is_closed_after_keep_alive_seconds(served: Served) -> None:
    """Between requests another clock runs than within one; idleness is no rejection."""
    async with await served.connect() as wire:
        await wire.send(GET)
        assert (await wire.answer()).status == 200
        begun = time.monotonic()
        assert await wire.rest() == b""
    assert 0.4 < time.monotonic() - begun < 3
    assert served.rejections == []


# Sizes


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x-a: bcdefghijklmn\r\n" * 52_429, id="1 MiB of headers"),
        pytest.param(b"GET / HTTP/1.1\r\nx-a: " + b"b" * 2**24, id="one header of 16 MiB"),
        pytest.param(b"GET /" + b"b" * 2**20, id="a path of 1 MiB"),
        pytest.param(b"GET /" + b"b" * 4_096 + b" HTTP/1.1\r\n\r\n", id="a path of the whole cap"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x-a: bcdefghijklmn\r\n" * 220 + b"\r\n", id="some headers too many"),
        pytest.param(b"GET / HTTP/1.1\r\nx-a:" + b" " * 2**20, id="1 MiB of spaces"),
    ],
)
async def test_a_head_over_the_cap_gets_431(served: Served, echo: Echo, head: bytes) -> None:
    """However the bytes are spread over lines, the head is capped and the refusal reaches the peer."""
    async with await served.connect() as wire:
        await wire.send_if_wanted(head)
        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")
    assert served.rejections == ["header_too_large"]
    assert echo.scopes == []


async def test_a_head_just_under_the_cap_passes_however_it_is_cut(served: Served) -> None:
    """A head that follows a long body in one segment is not weighed with that body."""
    head = b"GET / HTTP/1.1\r\nx-a: " + b"b" * 4_000 + b"\r\n\r\n"
    body = b"x" * 64_000  # ends in the middle of a piece
    for cut in (1, 1_000, 3_000):
        async with await served.connect() as wire:
            await wire.send(post(body) + head[:cut])
            assert (await wire.answer()).body == body
            await wire.send(head[cut:-1])
            await served.caught_up()
            await wire.send(head[-1:])
            assert (await wire.answer()).status == 200
    assert served.rejections == []


async def test_a_body_announced_over_the_cap_gets_413_before_it_is_sent(served: Served, echo: Echo) -> None:
    """The announced length suffices; no 100 Continue invites the body."""
    async with await served.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\ncontent-length: 65537\r\nexpect: 100-continue\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 413 ")
    assert served.rejections == ["body_too_large"]
    assert echo.scopes == []


async def test_a_peer_that_sends_a_long_body_regardless_can_read_the_413(served: Served) -> None:
    """The refusal is not lost to a reset while the peer is still sending; it repeats nothing of the request."""
    async with await served.connect() as wire:
        await wire.send(post(b"secret" * 3_000_000))
        rest = await wire.rest()
    assert rest == b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


async def test_a_body_of_exactly_the_cap_passes(served: Served) -> None:
    """The cap is inclusive, by length and in chunks."""
    body = b"x" * 65_536
    async with await served.connect() as wire:
        await wire.send(post(body))
        assert (await wire.answer()).body == body
        await wire.send(CHUNKED + b"8000\r\n" + body[:0x8000] + b"\r\n8000\r\n" + body[:0x8000] + b"\r\n0\r\n\r\n")
        assert (await wire.answer()).body == body


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"1000\r\n" + b"x" * 4_096 + b"\r\n", id="data"),
        pytest.param(b"1;" + b"e" * 4_096 + b"\r\nx\r\n", id="chunk extensions"),
        pytest.param(b"0\r\nx-t: " + b"t" * 4_096, id="one trailer"),
    ],
)
async def test_a_chunked_body_over_the_cap_gets_413(served: Served, echo: Echo, chunks: bytes) -> None:
    """Chunks announce no total, so what arrives is weighed, framing included; the running handler is told."""
    async with await served.connect() as wire:
        await wire.send(CHUNKED)
        await wire.send_if_wanted(chunks + chunks.removeprefix(b"0\r\nx-t: ") * 64)
        assert (await wire.rest()).startswith(b"HTTP/1.1 413 ")
        with anyio.fail_after(5):
            await echo.disconnected.wait()
        assert served.server.connections == 1, "told by the refusal, before the connection is gone"
    assert served.rejections == ["body_too_large"]


async def test_one_connection_too_many_gets_503() -> None:
    """The cap counts connections, and a closed one makes room."""
    async with serving(Echo(), msgspec.structs.replace(LIMITS, max_connections=1)) as served:
        async with await served.connect() as first:
            await first.send(GET)
            assert (await first.answer()).status == 200
            async with await served.connect() as second:
                assert (await second.rest()).startswith(b"HTTP/1.1 503 ")
            assert served.rejections == ["too_many_connections"]
            await first.send(GET.replace(b"host", b"connection: close\r\nhost"))
            assert (await first.answer()).status == 200
            assert await first.rest() == b""
        async with await served.connect() as third:
            await third.send(GET)
            assert (await third.answer()).status == 200


async def test_a_held_request_is_not_the_peers_delay() -> None:
    """Once a request is complete, its receive deadline is over however long the answer takes."""
    held = Held()
    async with serving(held, LIMITS) as served, await served.connect() as wire:
        await wire.send(GET)
        with anyio.fail_after(5):
            await held.entered.wait()
        async with await served.connect() as clock:
            assert await clock.rest() == b""
        assert served.rejections == ["receive_timeout"], "the clock's own, and no other"
        held.released.set()
        assert (await wire.answer()).status == 200


# Peers that leave


def living_requests() -> int:
    """How many requests the process still holds in memory."""
    gc.collect()
    return sum(isinstance(each, RequestResponseCycle) for each in gc.get_objects())


@pytest.mark.parametrize("follower", [b"", GET], ids=["alone", "with another behind it"])
async def test_a_held_request_learns_that_its_caller_is_gone(follower: bytes) -> None:
    """A hang-up frees the slot of the request that is being answered, whatever was pipelined behind it."""
    held = Held()
    async with serving(held, LIMITS) as served, await served.connect() as wire:
        await wire.send(GET + follower)
        with anyio.fail_after(5):
            await held.entered.wait()
            wire.reset()
            await held.abandoned.wait()


async def test_connections_closed_by_reset_leave_no_request_behind(echo: Echo) -> None:
    """A load balancer that drops hundreds of idle connections by RST does not fill our memory until keep-alive ends."""
    async with serving(echo, msgspec.structs.replace(LIMITS, keep_alive_seconds=60.0)) as served:
        before = living_requests()
        wires = [await served.connect() for _ in range(300)]
        for wire in wires:
            await wire.send(GET)
            assert (await wire.answer()).status == 200
        for wire in wires:
            wire.reset()
        async with await served.connect() as probe:
            await probe.send(GET)
            assert (await probe.answer()).status == 200
            assert served.server.connections == 1, "the loop has seen every reset before the probe"
            echo.scopes.clear()
            assert living_requests() == before + 1, "the probe's own"
