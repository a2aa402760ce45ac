"""How the server starts, drains, stops and shares a process, over raw sockets on loopback.

After `stop()` whatever had arrived is answered, within its deadline; afterwards nothing of the server is left.
Limits and hostile peers are in test_server_probes.py.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time

import anyio
import msgspec
import pytest

from bridge.ingress.asgi import Receive, Scope, Send, TooLarge, read_body, respond, until_disconnect
from bridge.ingress.guarded import ServerLimits
from bridge.ingress.server import HttpServer
from tests.support.wire import GET, Answer, Served, serving

pytestmark = pytest.mark.anyio

LIMITS = ServerLimits(
    max_header_bytes=4_096,
    max_body_bytes=65_536,
    receive_timeout_seconds=5.0,
    keep_alive_seconds=60.0,
    grace_seconds=0.4,
    drain_seconds=5.0,
)


async def at_once(_: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body."""
    await respond(send, 200, await read_body(receive, 65_536))


class Held:
    """Answers when released; notes how its requests end."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.released = anyio.Event()
        self.ended: list[str] = []

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Hold."""
        self.entered.set()
        try:
            await self.released.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)  # the work of ending
            self.ended.append("cancelled")
            raise
        await respond(send, 200)
        self.ended.append("answered")


async def test_stop_answers_a_held_request_and_closes_everything_else() -> None:
    """Idle connections close at once, new ones are refused, and serve() returns when the last answer is out."""
    held = Held()
    async with serving(held, LIMITS) as served:
        async with await served.connect() as idle, await served.connect() as wire:
            await wire.send(GET)
            with anyio.fail_after(5):
                await held.entered.wait()
            served.server.stop()
            assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await served.connect()
            assert not served.returned.is_set()
            held.released.set()
            assert await wire.answer() == Answer(200, {"content-length": "0", "connection": "close"}, b"")
            assert await wire.rest() == b""
        await served.stopped()
    assert held.ended == ["answered"]
    assert served.server.requests_cut == 0


async def test_stop_closes_idle_keep_alive_connections_at_once() -> None:
    """A connection between two requests does not delay the stop."""
    async with serving(at_once, LIMITS) as served, await served.connect() as wire:
        await wire.send(GET)
        assert (await wire.answer()).status == 200
        begun = time.monotonic()
        await served.stopped()
        assert time.monotonic() - begun < 2
        assert await wire.rest() == b""


HALVES = pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"POST / HTT", b"P/1.1\r\ncontent-length: 2\r\n\r\nhi"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nh", b"i"),
    ],
    ids=["in the head", "in the body"],
)


@HALVES
async def test_stop_gives_a_half_sent_request_the_grace_and_no_more(first: bytes, second: bytes) -> None:
    """A request that never completes holds the stop neither for the receive nor for the drain deadline."""
    async with serving(at_once, LIMITS) as served, await served.connect() as wire:
        await wire.send(first)
        await served.caught_up()
        begun = time.monotonic()
        await served.stopped()
        assert time.monotonic() - begun < 2
        assert (await wire.rest()).startswith(b"HTTP/1.1 408 ")
    assert served.rejections == ["receive_timeout"]
    assert served.server.requests_cut == 0


@HALVES
async def test_a_half_sent_request_that_completes_in_the_grace_is_answered(first: bytes, second: bytes) -> None:
    """A webhook that was arriving when the stop began is not lost."""
    async with serving(at_once, LIMITS) as served, await served.connect() as wire:
        await wire.send(first)
        await served.caught_up()
        served.server.stop()
        await wire.send(second)
        assert await wire.answer() == Answer(200, {"content-length": "2", "connection": "close"}, b"hi")
        await served.stopped()


async def test_a_request_that_outlives_the_drain_is_cut_and_counted() -> None:
    """When serve() returns no handler is left, even one that takes a moment to end."""
    held = Held()
    async with (
        serving(held, msgspec.structs.replace(LIMITS, drain_seconds=0.3)) as served,
        await served.connect() as wire,
    ):
        await wire.send(GET)
        with anyio.fail_after(5):
            await held.entered.wait()
        await served.stopped()
        assert held.ended == ["cancelled"]
        assert served.server.requests_cut == 1
        assert await wire.rest() == b""


async def test_cancelling_the_task_group_cuts_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The hard stop waits for no drain and no grace of a peer, and is no error of the handler."""
    held = Held()
    server = HttpServer(held, host="127.0.0.1", port=0, limits=LIMITS, on_reject=lambda _: None)
    async with anyio.create_task_group() as group:
        port = await group.start(server.serve)
        async with await Served(server, [], "127.0.0.1", port).connect() as wire:
            await wire.send(GET)
            with anyio.fail_after(5):
                await held.entered.wait()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert await wire.rest() == b""
    assert held.ended == ["cancelled"]
    assert (server.requests_cut, server.connections, server.requests) == (1, 0, 0)
    assert not caplog.records


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    """Neither exit nor hang: the caller's task group gets an OSError with host and port."""
    async with serving(at_once, LIMITS) as served:
        second = HttpServer(at_once, host="127.0.0.1", port=served.port, limits=LIMITS, on_reject=lambda _: None)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {served.port}: .*in use"):
            await second.serve()


async def test_stop_before_serve_returns_at_once() -> None:
    """A stop that comes while the process is still opening is not forgotten."""
    server = HttpServer(at_once, host="127.0.0.1", port=0, limits=LIMITS, on_reject=lambda _: None)
    server.stop()
    with anyio.fail_after(5):
        await server.serve()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_an_ipv6_host_works() -> None:
    """The family follows the host."""
    async with serving(at_once, LIMITS, host="::1") as served:
        await served.caught_up()


async def test_two_servers_share_a_process_and_its_signals_stay_its_own() -> None:
    """A management port outlives the webhook port, and neither touches a signal handler."""
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    async with serving(at_once, LIMITS) as management:
        async with serving(at_once, LIMITS) as webhooks:
            assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
            await webhooks.caught_up()
        await management.caught_up()


async def test_an_answer_names_no_server_and_no_date() -> None:
    """What the app did not say is not said."""
    async with serving(at_once, LIMITS) as served, await served.connect() as wire:
        await wire.send(GET)
        assert (await wire.answer()).headers == {"content-length": "0"}


def anonymous(purpose: int) -> ssl.SSLContext:
    """TLS without certificates, so that none has to lie in the repository."""
    context = ssl.SSLContext(purpose)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")
    return context


async def test_tls_answers_and_a_silent_handshake_is_closed() -> None:
    """The receive deadline holds before a connection is one, and answers pass through TLS."""
    limits = msgspec.structs.replace(LIMITS, receive_timeout_seconds=0.5)
    async with serving(at_once, limits, ssl_context=anonymous(ssl.PROTOCOL_TLS_SERVER)) as served:
        async with await served.connect() as silent:
            assert await silent.rest() == b""
        with anyio.fail_after(5):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=anonymous(ssl.PROTOCOL_TLS_CLIENT)
            )
            writer.write(GET.replace(b"host", b"connection: close\r\nhost"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()


async def test_an_abandoned_request_can_stop_waiting() -> None:
    """`until_disconnect` returns when the caller hangs up, so that its slot is freed."""
    entered, freed = anyio.Event(), anyio.Event()

    async def waiting(_: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, 0)
        entered.set()
        await until_disconnect(receive)
        await respond(send, 200)  # to nobody: does nothing
        freed.set()

    async with serving(waiting, LIMITS) as served:
        async with await served.connect() as wire:
            await wire.send(GET)
            with anyio.fail_after(5):
                await entered.wait()
        with anyio.fail_after(5):
            await freed.wait()


async def test_a_handler_may_take_less_than_the_server() -> None:
    """`read_body` stops at the handler's own cap; an empty answer of status 204 has no length; the rest is discarded."""

    async def small(_: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(receive, 3)
        except TooLarge:
            await respond(send, 413, b"no", [(b"content-type", b"text/plain")])
        else:
            await respond(send, 204)

    async with serving(small, LIMITS) as served, await served.connect() as wire:
        await wire.send(
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nfour" + b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"
        )
        assert await wire.answer() == Answer(413, {"content-type": "text/plain", "content-length": "2"}, b"no")
        assert await wire.answer() == Answer(204, {}, b"")
