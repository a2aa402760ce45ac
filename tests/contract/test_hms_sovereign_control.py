"""HMS Sovereign in a live call: what our actions become, what its answers mean, and its limit of ten a minute.

The server is a raw one on loopback, so that what was sent is seen; nothing is sent that is refused here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from bridge.model import actions
from bridge.model.actions import Action
from bridge.model.errors import Poison, Unavailable
from bridge.providers.catalogue import KINDS
from bridge.providers.hms_sovereign.control import CallLimit
from bridge.providers.protocol import CanControl, ConnectionContext, Rejected
from bridge.providers.settings import HttpSettings
from tests.support.raw_http import RawConnection, RawServer, Script, answering, http_answer, raw_server

pytestmark = pytest.mark.anyio

DONE = answering(http_answer(200, b'{"success":true,"message":"ok"}'))


@asynccontextmanager
async def controlled(script: Script, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[CanControl, RawServer]]:
    """A connection to a server of this behaviour."""
    monkeypatch.setenv("HMS_TOKEN", "fl_live_token")
    kind = KINDS["hms_sovereign"]
    async with raw_server(script) as server:
        table: dict[str, Any] = {
            "base_url": server.url,
            "token": {"env": "HMS_TOKEN"},
            "allow_unverified_webhooks": True,
            "http": msgspec.to_builtins(HttpSettings(read_timeout_seconds=0.2, total_timeout_seconds=1.0)),
        }
        context = ConnectionContext("demo", msgspec.convert(table, kind.settings), "callbridge.toml")
        async with kind.build(context) as provider:
            assert isinstance(provider, CanControl)
            yield provider, server


def sent(server: RawServer) -> list[Any]:
    """The commands, in order."""
    return [msgspec.json.decode(request.partition(b"\r\n\r\n")[2]) for request in server.requests]


@pytest.mark.parametrize(
    ("action", "wire"),
    [
        (actions.Speak(text="Hi"), {"type": "say", "content": "Hi", "end_after": False}),
        (
            actions.Speak(text="Bye", options={"end_after": True}),
            {"type": "say", "content": "Bye", "end_after": True},
        ),
        (
            actions.InjectContext(text="code 7"),
            {"type": "inject-context", "content": "code 7", "trigger_response": False},
        ),
        (
            actions.InjectContext(text="code 7", options={"trigger_response": True}),
            {"type": "inject-context", "content": "code 7", "trigger_response": True},
        ),
        (actions.Hangup(), {"type": "end-call"}),
        (actions.Hangup(options={"message": "Bye."}), {"type": "end-call", "message": "Bye."}),
        (actions.Transfer(to="+31201110099"), {"type": "transfer", "destination": "+31201110099"}),
        (
            actions.Transfer(to="sip:desk@example.org", options={"message": "Connecting you."}),
            {"type": "transfer", "destination": "sip:desk@example.org", "message": "Connecting you."},
        ),
        (actions.RawAction(verb={"type": "mute", "on": True}), {"type": "mute", "on": True}),
    ],
)
async def test_an_action_is_one_command(action: Action, wire: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract 3.3: path, credentials and body."""
    async with controlled(DONE, monkeypatch) as (provider, server):
        await provider.control("c-77+1", [action])
    assert server.requests[0].startswith(b"POST /calls/c-77%2B1/control HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer fl_live_token\r\n" in server.requests[0]
    assert sent(server) == [wire]


@pytest.mark.parametrize(
    ("action", "field"),
    [
        (actions.Speak(ssml="<speak/>"), "$.actions[1]"),
        (actions.Speak(text="a", user_input_timeout_seconds=3), "$.actions[1].user_input_timeout_seconds"),
        (actions.Speak(text="a", options={"voice": "x"}), "$.actions[1].options"),
        (actions.Transfer(to="0201110099"), "$.actions[1].to"),
        (actions.Transfer(to="+31201110099", timeout_seconds=20), "$.actions[1].timeout_seconds"),
        (actions.RawAction(verb={}), "$.actions[1].verb.type"),
        (actions.Play(url="https://media.example/a.wav"), "$.actions[1].type"),
        (actions.ToolResult(tool_call_id="t", result=1), "$.actions[1].type"),
        (actions.Interrupt(), "$.actions[1].type"),
    ],
)
async def test_what_it_cannot_do_is_refused_whole(action: Action, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first of the actions is sent."""
    async with controlled(DONE, monkeypatch) as (provider, server):
        with pytest.raises(Poison) as caught:
            await provider.control("c-77", [actions.Hangup(), action])
        assert caught.value.field == field
        assert server.connections == 0


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"error":"call not active"}', Rejected),
        (404, b"", Rejected),
        (401, b'{"error":{"code":"api_key_revoked","message":"no"}}', Rejected),
        (429, b"", Rejected),
        (200, b'{"success":false,"message":"too late"}', Rejected),
        (302, b"", Unavailable),
        (500, b"", Unavailable),
        (503, b"", Unavailable),
    ],
)
async def test_what_an_answer_means(
    status: int, body: bytes, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, or nobody knows; how many were done before it is said, and the rest is not sent."""
    answers = iter([http_answer(200, b"{}"), http_answer(status, body)])

    async def script(connection: RawConnection) -> None:
        await connection.read_request()
        await connection.send(next(answers))

    async with controlled(script, monkeypatch) as (provider, server):
        with pytest.raises(error, match=rf"^{status}.*\(after 1 of 3 were done\)"):
            await provider.control("c-77", [actions.Speak(text="a"), actions.Speak(text="b"), actions.Hangup()])
        assert [command["type"] for command in sent(server)] == ["say", "say"]


async def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been done."""

    async def silent(connection: RawConnection) -> None:
        await connection.read_request()
        await connection.read()

    async with controlled(silent, monkeypatch) as (provider, _):
        with pytest.raises(Unavailable, match="timeout"):
            await provider.control("c-77", [actions.Hangup()])


async def test_ten_commands_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eleventh is not sent, nor any of a record that would pass the limit; another call has its own ten."""
    async with controlled(DONE, monkeypatch) as (provider, server):
        await provider.control("c-77", [actions.Speak(text="a")] * 8)
        with pytest.raises(Rejected, match="3 commands, 2 left of 10 a minute"):
            await provider.control("c-77", [actions.Speak(text="b")] * 3)
        await provider.control("c-77", [actions.Speak(text="c")] * 2)
        with pytest.raises(Rejected):
            await provider.control("c-77", [actions.Hangup()])
        await provider.control("c-78", [actions.Hangup()])
        assert [command.get("content") for command in sent(server)] == [*"a" * 8, *"c" * 2, None]


class _Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


def test_the_limit_is_a_window_and_its_memory_is_bounded() -> None:
    """A minute later there are ten again; calls that are idle are forgotten, the oldest first."""
    clock = _Clock()
    limit = CallLimit(clock)
    for seconds in range(10):
        clock.seconds = float(seconds)
        limit.take("c-77", 1)
    clock.seconds = 59.9
    with pytest.raises(Rejected):
        limit.take("c-77", 1)
    clock.seconds = 60.0
    limit.take("c-77", 1)
    with pytest.raises(Rejected):
        limit.take("c-77", 1)
    for number in range(10_001):
        limit.take(f"other-{number}", 1)
    limit.take("c-77", 10)
    many: Sequence[str] = list(limit._sent)
    assert len(many) == 10_000
