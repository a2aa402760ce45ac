"""Which shapes of requests the guarded server answers, and how it refuses the others without lying to anyone.

Framing that two parsers could read differently is refused; what HTTP/1.1 allows and callers use works; a refusal is
never sent where the answer to an earlier request on the same connection is due.
Sizes and deadlines are in test_server_probes.py.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from bridge.ingress.asgi import Disconnected, Receive, Scope, Send, read_body, respond
from tests.contract.server_stage import LIMITS, echo, limits, served
from tests.support.wire import CHUNKED, GET, Answer, Echo, Held, Served, post, serving

pytestmark = pytest.mark.anyio

__all__ = ["echo", "limits", "served"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(CHUNKED[:-2] + b"content-length: 5\r\n\r\n0\r\n\r\n", id="content-length and chunked"),
        pytest.param(post(b"hello", b"content-length: 6"), id="two content-lengths"),
        pytest.param(bytes.fromhex("16030100c8010000c40303") + bytes(64), id="TLS on the plain port"),
        pytest.param(post(GET, b"connection: upgrade", b"upgrade: h2c"), id="upgrade with a body"),
        pytest.param(b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", id="connect"),
        pytest.param(b"GET \xff HTTP/1.1\r\nhost: x\r\n\r\n", id="a path that is none"),
    ],
)
async def test_a_malformed_request_gets_400(served: Served, echo: Echo, request_bytes: bytes) -> None:
    """Ambiguous framing is refused, closed, and never handed to a handler."""
    async with await served.connect() as wire:
        await wire.send(request_bytes)
        rest = await wire.rest()
    assert rest == b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    assert served.rejections == ["malformed"]
    assert echo.scopes == []


async def test_a_refusal_never_follows_an_answer_that_was_already_given() -> None:
    """A body that grows too long after an early answer ends the connection; a second answer would be the next one's."""

    async def early(_: Scope, __: Receive, send: Send) -> None:
        await respond(send, 401)

    async with serving(early, LIMITS) as served, await served.connect() as wire:
        await wire.send(CHUNKED)
        assert (await wire.answer()).status == 401
        await wire.send_if_wanted((b"1000\r\n" + b"x" * 4_096 + b"\r\n") * 17)
        assert await wire.rest() == b""
        assert served.rejections == ["body_too_large"]


async def test_a_handler_that_comes_late_to_a_refused_body_sees_the_disconnect() -> None:
    """Inviting the body (100 Continue) after the refusal would be an error of ours, not the handler's."""
    go, gone = anyio.Event(), anyio.Event()

    async def late(_: Scope, receive: Receive, __: Send) -> None:
        await go.wait()
        with pytest.raises(Disconnected):
            await read_body(receive, 1_000_000)
        gone.set()

    async with serving(late, LIMITS) as served, await served.connect() as wire:
        await wire.send(CHUNKED.replace(b"host", b"expect: 100-continue\r\nhost"))
        await wire.send_if_wanted((b"1000\r\n" + b"x" * 4_096 + b"\r\n") * 17)
        assert (await wire.rest()).startswith(b"HTTP/1.1 413 ")
        assert served.server.connections == 1
        go.set()
        with anyio.fail_after(5):
            await gone.wait()


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(served: Served) -> None:
    """The interim answer comes once, before the final one."""
    async with await served.connect() as wire:
        await wire.send(post(b"", b"expect: 100-continue").replace(b"length: 0", b"length: 5"))
        assert (await wire.answer()).status == 100
        await wire.send(b"hello")
        assert await wire.answer() == Answer(200, {"content-length": "5"}, b"hello")


async def test_a_chunked_body_is_put_together_and_trailers_are_dropped(served: Served, echo: Echo) -> None:
    """What follows the body cannot add to the headers a handler already reads."""
    async with await served.connect() as wire:
        await wire.send(CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\nauthorization: forged\r\n\r\n" + GET)
        assert (await wire.answer()).body == b"hello"
        assert (await wire.answer()).status == 200
    assert echo.scopes[0]["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    """Up to the cap, requests sent without waiting are each answered on the same connection."""
    async with await served.connect() as wire:
        await wire.send(post(b"one") + post(b"two") + post(b"three"))
        assert [(await wire.answer()).body for _ in range(3)] == [b"one", b"two", b"three"]


# Refusals behind a request that is still being answered


@pytest.mark.parametrize(
    ("follower", "kind"),
    [
        (b"\x16\x03\x01", "malformed"),
        (b"POST / HTTP/1.1\r\ncontent-length: 65537\r\n\r\n", "body_too_large"),
        (CHUNKED + (b"1000\r\n" + b"x" * 4_096 + b"\r\n") * 17, "body_too_large"),
        (b"GET / HTTP/1.1\r\nx-a: " + b"b" * 20_000, "header_too_large"),
        (GET * 6, "too_many_pipelined"),
    ],
)
async def test_a_refusal_is_never_read_as_the_answer_to_an_earlier_request(follower: bytes, kind: str) -> None:
    """The earlier request gets its own answer, then the connection closes without the refused one's."""
    held = Held()
    async with serving(held, LIMITS) as served, await served.connect() as wire:
        await wire.send(GET)
        with anyio.fail_after(5):
            await held.entered.wait()
        await wire.send(follower)
        while not served.rejections:
            await anyio.lowlevel.checkpoint()
        held.released.set()
        answers = (await wire.rest()).split(b"HTTP/1.1 ")[1:]
        assert served.rejections == [kind]
        assert [answer[:3] for answer in answers] == [b"200"] * (5 if kind == "too_many_pipelined" else 1)
        assert b"connection: close" in answers[-1]


async def test_a_request_waiting_behind_a_held_one_does_not_run_out_of_time() -> None:
    """While we are the ones not reading, the peer's deadline stands still."""
    held = Held()
    async with serving(held, LIMITS) as served, await served.connect() as wire:
        await wire.send(GET)
        with anyio.fail_after(5):
            await held.entered.wait()
        await wire.send(post(b"hello")[:-1])
        async with await served.connect() as clock:
            assert await clock.rest() == b""
        assert served.rejections == ["receive_timeout"], "the clock's own, and no other"
        held.released.set()
        await wire.send(b"o")
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).status == 200
