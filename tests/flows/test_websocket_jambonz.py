"""jambonz over its WebSocket API with everything real but the provider: messages, acknowledgements, commands, reconnects.

The simulated platform connects to the daemon, as the hook of a dial tells it to; where single messages matter, the tests
are the platform. Limits of the sockets themselves are in tests/contract/test_server_websocket.py.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from bridge.demo.simulators.faults import Drop
from bridge.demo.simulators.jambonz import JambonzSettings, JambonzSimulator
from bridge.demo.simulators.script import Callee, Say, Script, WebhookRule
from tests.support import provider_stage
from tests.support.brokers import Broker, OwnKafka
from tests.support.daemon import Table
from tests.support.kafka_tools import warmed
from tests.support.provider_stage import jambonz
from tests.support.websocket import Closed, Socket, asking, connected, opened

pytestmark = pytest.mark.anyio

PASSWORDS = {"VG_PASSWORD": "sesame", "VG_NEXT": "open"}
NOBODY = Script()
SUBPROTOCOL = b"sec-websocket-protocol: ws.jambonz.org"


class Here(provider_stage.Here):
    """Where the tests can be the platform, too."""

    @contextlib.asynccontextmanager
    async def calling(self, *, login: bytes | None = None) -> AsyncIterator[Socket]:
        """An open socket, as jambonz opens one for a call."""
        async with await connected(self.daemon.webhook_url) as wire:
            yield await opened(wire, "/webhooks/vg", SUBPROTOCOL, login or _login("sesame"))


def _login(password: str) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(f"callbridge:{password}".encode())


def stage(
    broker: Broker, folder: Path, script: Script = NOBODY, *, reply_seconds: float = 1.5, **changes: Table
) -> contextlib.AbstractAsyncContextManager[Here]:
    """A stage with a daemon that is ready. `changes`: of the configuration."""
    connection = jambonz(
        f"reply = {{ deadline_seconds = {reply_seconds} }}",
        'websocket = { passwords = [{ env = "VG_PASSWORD" }, { env = "VG_NEXT" }], dial = true }',
        "[connections.hooks]",  # a provider that comes by webhook only
        'provider = "hms_sovereign"',
        'token = { env = "API_TOKEN" }',
        'assistant_id = "17a0cb75-fa09-4bdd-9a44-92a70d829c88"',
        'webhook_secrets = [{ env = "HOOK_SECRET" }]',
        env=PASSWORDS,
    )
    return Here.staged(
        broker, folder, JambonzSimulator(JambonzSettings(speed=20, script=script)), connection, **changes
    )


def new_call() -> str:
    """A call that nobody has heard of."""
    return secrets.token_hex(8)


async def tell(socket: Socket, kind: str, session: str, *, msgid: str = "m1", **data: object) -> None:
    """Send a message."""
    base = {"call_sid": session, "direction": "inbound", "from": "+4915790000700", "to": "+16173333456"}
    message = {
        "type": kind,
        "msgid": msgid,
        "call_sid": session,
        "data": {**base, "call_status": "in-progress", **data},
    }
    await socket.say(json.dumps(message))


async def heard(socket: Socket) -> dict[str, Any]:
    """The next message."""
    frame = await socket.hear()
    assert isinstance(frame, str), frame
    message: dict[str, Any] = json.loads(frame)
    return message


def speak(text: str, **fields: object) -> dict[str, object]:
    """Say this."""
    return {"type": "speak", "text": text, **fields}


# -- whole calls ------------------------------------------------------------------------------------------------------


async def test_a_whole_call(broker: Broker, tmp_path: Path) -> None:
    """A dial names our WebSocket; statuses and questions come over it, answers are acknowledgements, and it goes on."""
    callee = Callee(rings_seconds=2, patience_seconds=1000, turns=(Say(text="yes, Tuesday"),))
    async with stage(broker, tmp_path, Script(callees=(callee,))) as here:
        result = await here.place("ws-whole")
        started = await here.event("session.started")
        asked = await here.act(started, speak("Will you come?", user_input_timeout_seconds=5))
        spoke = await here.event("user.spoke")
        await here.act(spoke, speak("Good."))
        again = await here.event("verb.finished")
        assert (await here.act(again))["status"] == "delivered"  # nothing to do: the call waits, it does not end
        unasked = await here.act(again, speak("One more thing."), asked=False)
        last = await here.event("verb.finished", nth=2)
        await here.act(last, {"type": "hangup"})
        ended = await here.event("call.ended")

        [call] = here.simulator.history.calls.values()
        assert (asked["status"], asked["delivered_by"]) == ("delivered", "websocket")
        assert (unasked["status"], unasked["delivered_by"]) == ("delivered", "websocket")
        assert call.said == ["agent: Will you come?", "callee: yes, Tuesday", "agent: Good.", "agent: One more thing."]
        assert ended.json["data"]["reason"] == "completed"
        events = here.events()
        assert {event["type"] for event in events} >= {"call.trying", "call.ringing", "call.answered"}
        for event in events:
            assert (event["command_id"], event["metadata"]) == ("ws-whole", {"order": 7}), event["type"]
            assert (event["call_id"], event["session"]) == (result["call_id"], call.session)
            assert event["raw"]["type"] in {"session:new", "call:status", "verb:hook", "session:redirect"}
        counts = here.simulator.history.counts
        assert (counts["sockets.opened"], counts["commands.redirect"], counts["webhooks.failure.lost"]) == (1, 1, 0)


async def test_it_reconnects(quick_broker: Broker, tmp_path: Path) -> None:
    """A line that is cut is opened again: the session goes on there, and its end is not made up."""
    cut = WebhookRule(on="gather", fault=Drop())
    callee = Callee(
        rings_seconds=0, patience_seconds=1000, turns=(Say(text="one"), Say(text="two")), webhook_faults=(cut,)
    )
    async with stage(quick_broker, tmp_path, Script(callees=(callee,))) as here:
        await here.place("ws-again")
        started = await here.event("session.started")
        await here.act(started, speak("Go on.", user_input_timeout_seconds=5))
        back = await here.event("other")
        assert back.json["data"]["provider_type"] == "session:reconnect"
        await here.simulator.wait_for(lambda history: history.counts["sockets.reconnected"] == 1, 20)
        verdict = await here.act(back, speak("There you are.", user_input_timeout_seconds=5), asked=False)
        spoke = await here.event("user.spoke", nth=2)
        await here.act(spoke, {"type": "hangup"})
        await here.event("call.ended")
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "websocket")
        assert spoke.json["data"]["text"] == "two"
        assert spoke.json["metadata"] == {"order": 7}
        assert not [each for each in here.written[f"{here.prefix}events"] if each.type == "session.ended"]


# -- messages ---------------------------------------------------------------------------------------------------------


async def test_messages(quick_broker: Broker, tmp_path: Path) -> None:
    """What wants an acknowledgement gets one by its id, with verbs if asked for; the rest is an event and no more."""
    async with stage(quick_broker, tmp_path, reply_seconds=8.0) as here:
        session = new_call()
        async with here.calling() as socket:
            await tell(socket, "session:new", session, msgid="new", defaults={})
            await here.act(await here.event("session.started"), speak("hello"))
            redirect = {"verb": "redirect", "actionHook": "/verb"}
            assert await heard(socket) == {
                "type": "ack",
                "msgid": "new",
                "data": [{"verb": "say", "text": "hello"}, redirect],
            }
            await tell(socket, "call:status", session, msgid="status")
            await tell(socket, "llm:event", session, msgid="llm")
            await tell(socket, "jambonz:error", session, msgid="error", msg="InvalidMessage")
            await tell(socket, "session:reconnect", session, msgid="again")
            assert await heard(socket) == {"type": "ack", "msgid": "again"}
            await tell(socket, "verb:hook", session, msgid="hook", reason="timeout")
            with anyio.fail_after(5):  # jambonz waits no longer, whatever `reply` says
                silent = await here.event("user.silent")  # nobody answers
                assert await heard(socket) == {"type": "ack", "msgid": "hook"}
            late = await here.act(silent, speak("late"))
            assert await heard(socket) == {
                "type": "command",
                "command": "redirect",
                "queueCommand": False,
                "data": [{"verb": "say", "text": "late"}, redirect],
            }
            keys = await here.act(silent, {"type": "send_dtmf", "digits": "1#"}, asked=False)
            pressed = [await heard(socket) for _ in "1#"]
            assert [(each["command"], each["data"]["digit"]) for each in pressed] == [("dtmf", "1"), ("dtmf", "#")]
            wrong = await here.act(silent, {"type": "interrupt"}, asked=False)
        trouble = await here.event("verb.finished")
        assert (late["status"], keys["status"]) == ("delivered_late", "delivered")
        assert (wrong["status"], wrong["reason"]) == ("rejected", "invalid_for_provider")
        assert trouble.json["data"]["reason"] == "InvalidMessage"
        assert "reply" not in trouble.json
        assert (await here.event("other")).json["data"]["provider_type"] == "llm:event"


async def test_too_long_an_acknowledgement(quick_broker: Broker, tmp_path: Path) -> None:
    """Jambonz takes 24 KiB: a longer answer is rejected, and a shorter one still taken."""
    async with stage(quick_broker, tmp_path) as here:
        async with here.calling() as socket:
            await tell(socket, "session:new", new_call(), defaults={})
            started = await here.event("session.started")
            verdict = await here.act(started, speak("la " * 4_500), speak("lu " * 4_500))
            await here.act(started, speak("la"))
            assert (await heard(socket))["data"][0]["text"] == "la"
        assert (verdict["status"], verdict["reason"]) == ("rejected", "invalid_for_provider")
        assert "bytes in all" in verdict["detail"]


async def test_proof(quick_broker: Broker, tmp_path: Path) -> None:
    """Each password opens, no other; the subprotocol has to be offered; and other providers have no WebSocket."""
    async with stage(quick_broker, tmp_path) as here:
        async with here.calling(login=_login("open")):
            pass
        refused = [((SUBPROTOCOL,), 401), ((SUBPROTOCOL, _login("guess")), 401), ((_login("sesame"),), 400)]
        for headers, status in refused:
            async with await connected(here.daemon.webhook_url) as wire:
                await wire.send(asking("/webhooks/vg", *headers))
                assert (await wire.answer()).status == status
        async with await connected(here.daemon.webhook_url) as wire:
            await wire.send(asking("/webhooks/hooks", SUBPROTOCOL, _login("sesame")))
            assert (await wire.answer()).status == 404


# -- trouble of ours --------------------------------------------------------------------------------------------------


async def test_nothing_is_acknowledged_before_kafka_has_it(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """While Kafka is away nothing is acknowledged; then 1013 sends the platform to another socket."""
    kafka = own_kafka()
    await warmed(kafka.bootstrap)
    events = {
        "publish_seconds": 1.0,
        "websocket_insist_seconds": 6.0,
    }
    async with stage(Broker("own", kafka.bootstrap), tmp_path, events=events) as here:
        session = new_call()
        async with here.calling() as socket:
            await tell(socket, "session:new", session, defaults={})
            await here.act(await here.event("session.started"), speak("hello"))
            await heard(socket)
            kafka.pause()
            await tell(socket, "session:reconnect", session, msgid="again")
            assert await socket.hear() == Closed(1013, "events cannot be stored now")
            kafka.resume()
        async with here.calling() as socket:
            await here.daemon.ready()
            await tell(socket, "session:reconnect", session, msgid="back")
            assert await heard(socket) == {"type": "ack", "msgid": "back"}


async def test_the_daemon_stops(quick_broker: Broker, tmp_path: Path) -> None:
    """What is due is still said; then 1001 sends the platform to another replica, long before the drain is over."""
    async with (
        stage(quick_broker, tmp_path, reply_seconds=4.5, ingress={"drain_seconds": 20.0}) as here,
        here.calling() as socket,
        here.calling() as idle,
        anyio.create_task_group() as tasks,
    ):
        session, ids = new_call(), itertools.count(1)
        drains = anyio.Event()

        async def ask() -> None:
            while not drains.is_set():  # so that something is due when the drain begins
                await tell(socket, "verb:hook", session, msgid=f"m{next(ids)}", reason="timeout")
                await anyio.sleep(0.5)

        tasks.start_soon(ask)
        await here.event("user.silent")
        tasks.start_soon(here.daemon.terminate)
        assert await idle.hear() == Closed(1001, "the server stops")
        drains.set()
        await idle.close(1001)
        last = [each for each in here.written[f"{here.prefix}events"] if each.type == "user.silent"][-1]
        await here.act(last, speak("goodbye"))
        heard_last: dict[str, Any] = {}
        while "data" not in heard_last:
            heard_last = await heard(socket)
        assert heard_last["data"][0]["text"] == "goodbye"
        while (closed := await socket.hear()) and isinstance(closed, str):
            assert json.loads(closed)["type"] == "ack"
        assert closed == Closed(1001, "the server stops")
        await socket.close(1001)
