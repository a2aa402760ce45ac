"""What jambonz' WebSocket API says and is told, message by message of the contract's section 10, without a socket.

Whole calls and what is acknowledged when are in tests/flows/test_websocket_jambonz.py.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from bridge.model import actions as ours
from bridge.model.commands import PlaceCall
from bridge.model.errors import Misconfigured, Poison, Unverified
from bridge.providers.jambonz import KIND
from bridge.providers.jambonz.client import DialRequest, detail_of
from bridge.providers.jambonz.settings import JambonzSettings
from bridge.providers.protocol import (
    AnswersQuestions,
    ConnectionContext,
    Dialogue,
    Heard,
    NotThisWay,
    Plan,
    Provider,
    SpeaksWebSocket,
    Webhook,
)

pytestmark = pytest.mark.anyio

CALL = "98e4dd21-b178-4af1-83b6-3c1582893890"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEECH = ("synthesis_vendor", "synthesis_voice", "synthesis_language", "recognizer_vendor", "recognizer_language")
TABLE: dict[str, Any] = {
    "flavour": "jambonz",
    "base_url": "https://api.example",
    "account_sid": "9351f46a-678c-43f5-b8a6-d4eb58d131af",
    "token": {"env": "VG_TOKEN"},
    "from": "+16173333456",
    "public_webhook_url": "https://gw.example/webhooks/demo",
    "speech": dict.fromkeys(SPEECH, "x"),
    "webhook_secrets": [{"env": "VG_TOKEN"}],
    "websocket": {"passwords": [{"env": "VG_PASSWORD"}], "dial": True},
}


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    """The connection of `TABLE`."""
    monkeypatch.setenv("VG_TOKEN", "token")
    monkeypatch.setenv("VG_PASSWORD", "sesame")
    settings = msgspec.convert(TABLE, JambonzSettings)
    async with KIND.build(ConnectionContext("demo", settings, "a file")) as provider:
        yield provider


@pytest.fixture
def dialogue(provider: Provider) -> Dialogue:
    """An open one."""
    assert isinstance(provider, SpeaksWebSocket)
    return provider.welcome(upgrade("callbridge:sesame"))


def upgrade(login: str | None) -> Webhook:
    """A request for a socket."""
    headers = {} if login is None else {b"authorization": b"Basic " + base64.b64encode(login.encode())}
    return Webhook("demo", "GET", "", b"", headers, b"", NOW)


def read(dialogue: Dialogue, kind: str, data: object = None, **fields: object) -> Heard:
    """What one message says."""
    message = {"type": kind, "msgid": "m", "call_sid": CALL, "data": data, **fields}
    [heard] = dialogue.read(msgspec.json.encode(message), received_at=NOW)
    return heard


def type_of(heard: Heard) -> str:
    """Our name of the event."""
    return str(getattr(heard.kind, "__struct_config__").tag)  # noqa: B009 - `kind` is a class of our events


def acknowledged(dialogue: Dialogue, heard: Heard, *actions: ours.Action) -> list[Any]:
    """What is said to it, decoded."""
    assert isinstance(dialogue, AnswersQuestions)
    answer = dialogue.answer(heard, actions) if actions else dialogue.acknowledge(heard)
    return [msgspec.json.decode(frame) for frame in getattr(answer, "frames", ())]


@pytest.mark.parametrize(
    ("kind", "data", "event", "waits", "acks"),
    [
        ("session:new", {"defaults": {}}, "session.started", True, True),
        ("session:redirect", {}, "verb.finished", True, True),
        ("verb:hook", {"reason": "timeout"}, "user.silent", True, True),
        ("verb:hook", {"digits": "1"}, "verb.finished", True, True),
        ("call:status", {"call_status": "ringing"}, "call.ringing", False, False),
        ("call:status", {"call_status": "completed"}, "call.ended", False, False),
        ("session:reconnect", {}, "other", False, True),
        ("session:adulting", {}, "other", False, True),
        ("dial:confirm", {}, "other", False, True),
        ("verb:status", {"id": "x"}, "other", False, False),
        ("llm:tool-call", ["anything"], "other", False, False),
        ("jambonz:error", {"msg": "InvalidMessage"}, "verb.finished", False, False),
        ("jambonz:error", "no object", "verb.finished", False, False),
    ],
)
async def test_each_message(
    dialogue: Dialogue, kind: str, data: object, event: str, *, waits: bool, acks: bool
) -> None:
    """Its event, whether it asks, and whether it is acknowledged by its id."""
    heard = read(dialogue, kind, data)
    assert (type_of(heard), heard.waits, heard.session) == (event, waits, CALL)
    assert acknowledged(dialogue, heard) == ([{"type": "ack", "msgid": "m"}] if acks else [])
    if waits:
        assert acknowledged(dialogue, heard, ours.Hangup()) == [
            {"type": "ack", "msgid": "m", "data": [{"verb": "hangup"}]}
        ]
    else:
        with pytest.raises(Poison):
            acknowledged(dialogue, heard, ours.Hangup())


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b"[]",
        b'{"type":"session:new","msgid":"m"}',
        b'{"msgid":"m","call_sid":"x"}',
        b'{"type":"verb:hook","call_sid":"","data":{}}',
        b'{"type":"verb:hook","call_sid":"x","data":{"a":"\xff"}}',
    ],
)
async def test_what_is_no_message(dialogue: Dialogue, frame: bytes) -> None:
    """It is poison, and says why."""
    with pytest.raises(Poison):
        dialogue.read(frame, received_at=NOW)


async def test_whose_call_it_is(dialogue: Dialogue) -> None:
    """Our reference comes in the tag, as in a webhook; the envelope's call goes before one in the data."""
    tag = {"callbridge": {"call_id": "call_1"}}
    heard = read(dialogue, "call:status", {"call_status": "trying", "customerData": tag, "call_sid": "another"})
    assert (heard.known_by, heard.starts_session, heard.session) == (("ref/call_1",), True, CALL)


@pytest.mark.parametrize(
    ("actions", "commands"),
    [
        (
            [ours.SendDtmf(digits="1#")],
            [("dtmf", {"digit": "1", "duration": 250}), ("dtmf", {"digit": "#", "duration": 250})],
        ),
        ([ours.Hangup()], [("redirect", [{"verb": "hangup"}])]),
        (
            [ours.RawAction(verb={"verb": "leave"}), ours.SendDtmf(digits="1")],
            [
                (
                    "redirect",
                    [{"verb": "leave"}, {"verb": "dtmf", "dtmf": "1"}, {"verb": "redirect", "actionHook": "/verb"}],
                )
            ],
        ),
        ([], []),
    ],
)
async def test_unasked(dialogue: Dialogue, actions: Sequence[ours.Action], commands: list[tuple[str, object]]) -> None:
    """Keys alone disturb nothing; verbs replace what the call is doing."""
    frames = [msgspec.json.decode(frame) for frame in dialogue.unasked(CALL, actions).frames]
    assert [(frame["command"], frame["data"]) for frame in frames] == commands
    assert all(frame["type"] == "command" and frame["queueCommand"] is False for frame in frames)


async def test_what_only_the_rest_api_can_do(dialogue: Dialogue) -> None:
    """The body of a PUT is no verb: somebody else's to do, and not refused."""
    with pytest.raises(NotThisWay):
        dialogue.unasked(CALL, [ours.RawAction(verb={"mute_status": "mute"})])


async def test_a_frame_has_a_limit(dialogue: Dialogue) -> None:
    """Jambonz would close the socket on a longer one."""
    long = [ours.Speak(text="x" * 13_000), ours.Speak(text="y" * 13_000)]
    with pytest.raises(Poison, match="24576"):
        dialogue.unasked(CALL, long)


@pytest.mark.parametrize("login", [None, "callbridge:guess", "another:sesame", "callbridge:", "sesame"])
async def test_another_login(provider: Provider, login: str | None) -> None:
    """Only user and password of the settings open a socket."""
    assert isinstance(provider, SpeaksWebSocket)
    with pytest.raises(Unverified):
        provider.welcome(upgrade(login))


async def test_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing of WebSockets takes none."""
    monkeypatch.setenv("VG_TOKEN", "token")
    table = {name: value for name, value in TABLE.items() if name != "websocket"}
    settings = msgspec.convert(table, JambonzSettings)
    async with KIND.build(ConnectionContext("demo", settings, "a file")) as provider:
        assert isinstance(provider, SpeaksWebSocket)
        with pytest.raises(Unverified):
            provider.welcome(upgrade("callbridge:sesame"))


async def test_a_dial_names_the_socket(provider: Provider) -> None:
    """Both hooks of the call are the one WebSocket, with what opens it."""
    plan = provider.check(PlaceCall(command_id="c", connection="demo", to="+15083084809"), call_id="call_1")
    assert isinstance(plan, Plan)
    assert isinstance(plan.request, DialRequest)
    body = msgspec.json.decode(plan.request.content)
    url = "wss://gw.example/webhooks/demo#rc=3&rp=ct,5xx"
    assert body["call_hook"] == {"url": url, "username": "callbridge", "password": "sesame"}
    assert body["call_status_hook"] == body["call_hook"]
    said = detail_of(b'{"msg":"call_hook: sesame is too short"}', *plan.request.hidden)
    assert said is not None
    assert "sesame" not in said


async def test_an_application_has_its_own_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dial` beside an application would silently do nothing."""
    monkeypatch.setenv("VG_TOKEN", "token")
    monkeypatch.setenv("VG_PASSWORD", "sesame")
    table = {**TABLE, "application_sid": CALL}
    del table["speech"]
    settings = msgspec.convert(table, JambonzSettings)
    with pytest.raises(Misconfigured, match=r"websocket\.dial"):
        async with KIND.build(ConnectionContext("demo", settings, "a file")):
            pass
