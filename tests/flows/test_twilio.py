"""A whole call over Twilio, everything real but the provider: command, result, events with metadata, answers, end.

What only Twilio has: form webhooks signed over their URL, TwiML as answers, our reference in the path of each webhook,
statuses that come out of order, and control of a live call.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from bridge.demo.simulators.faults import Answer, AnswerLate, Delay
from bridge.demo.simulators.script import Callee, DialRule, Press, Say, Script, WebhookRule
from bridge.demo.simulators.twilio import DEMO_ACCOUNT, DEMO_NUMBER, TwilioSettings, TwilioSimulator
from tests.support.brokers import Broker
from tests.support.provider_stage import Connection, Here

pytestmark = pytest.mark.anyio

NUMBER = "+4915790000687"
CONNECTION = Connection(
    name="tw",
    number=NUMBER,
    token="tw-token",
    webhook_secret="tw-auth-token",
    lines=lambda url: (
        'provider = "twilio"',
        f'account_sid = "{DEMO_ACCOUNT}"',
        f'from = "{DEMO_NUMBER}"',
        f'public_webhook_url = "{url}"',
        "reply = { deadline_seconds = 1.5 }",
    ),
)


def stage(broker: Broker, folder: Path, script: Script) -> AbstractAsyncContextManager[Here]:
    """A stage with a daemon that is ready."""
    return Here.staged(broker, folder, TwilioSimulator(TwilioSettings(speed=20, script=script)), CONNECTION)


async def test_a_whole_call(broker: Broker, tmp_path: Path) -> None:
    """`initiated` overtakes the 201; words, a key, a fallback that holds, a hang-up; metadata on every event."""
    overtaken = DialRule(fault=AnswerLate())
    turns = (Say(text="ja, Dienstag & gern"), Press(digits="1"))
    callee = Callee(rings_seconds=2, patience_seconds=1000, turns=turns, is_machine=True)
    async with stage(broker, tmp_path, Script(callees=(callee,), dial_faults=(overtaken,))) as here:
        result = await here.place("whole", options={"amd": {}, "record": {}})
        started = await here.event("session.started")
        ask = {"type": "speak", "text": "Kommen Sie?", "user_input_timeout_seconds": 5}
        assert (await here.act(started, ask))["status"] == "delivered"
        spoke = await here.event("user.spoke")
        assert (await here.act(spoke, {**ask, "text": "1 für ja."}))["status"] == "delivered"
        pressed = await here.event("user.dtmf")
        assert (await here.act(pressed, {"type": "speak", "text": "Gut."}))["status"] == "delivered"
        await here.event("verb.finished")  # what next? nobody answers: the call is held, and asked about again
        again = await here.event("verb.finished", nth=2)
        assert (await here.act(again, {"type": "hangup"}))["delivered_by"] == "answer"
        ended = await here.event("call.ended")
        report = await here.event("call.report")
        machine = await here.event("call.amd")

        [call] = here.simulator.history.calls.values()
        assert (result["type"], result["provider_call_id"]) == ("call.initiated", call.session)
        assert (spoke.json["data"]["text"], pressed.json["data"]) == ("ja, Dienstag & gern", {"digit": "1"})
        assert (ended.json["data"]["reason"], ended.json["raw"]["CallStatus"]) == ("completed", "completed")
        assert report.json["data"]["recording_url"].startswith("https://")
        assert machine.json["data"]["verdict"] == "machine"
        agent = ["agent: Kommen Sie?", "agent: 1 für ja.", "agent: Gut."]
        assert [line for line in call.said if line.startswith("agent")] == agent
        assert {event["type"] for event in here.events()} >= {"call.trying", "call.ringing", "call.answered"}
        for event in here.events():
            assert (event["command_id"], event["metadata"]) == ("whole", {"order": 7}), event["type"]
            assert (event["call_id"], event["session"]) == (result["call_id"], call.session)
            assert event["raw"]["CallSid"] == call.session
        assert here.placed() == 1


async def test_an_answer_that_was_lost(quick_broker: Broker, tmp_path: Path) -> None:
    """500, and the phone rings: the path of a webhook settles it, no second call is placed, and control cancels it."""
    lost = DialRule(fault=Answer(status=500, acts=True))
    async with stage(quick_broker, tmp_path, Script(callees=(Callee(rings_seconds=40),), dial_faults=(lost,))) as here:
        result = await here.place("lost")
        ringing = await here.event("call.ringing")
        verdict = await here.act(ringing, {"type": "hangup"}, asked=False)
        ended = await here.event("call.ended")

        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        assert (ended.json["data"]["reason"], ended.json["metadata"]) == ("cancelled", {"order": 7})
        assert here.placed() == 1


async def test_a_live_call_is_interrupted(quick_broker: Broker, tmp_path: Path) -> None:
    """While a long text is said nobody asks: an unasked record takes its place, and then the question comes."""
    callee = Callee(rings_seconds=1, patience_seconds=5000)
    async with stage(quick_broker, tmp_path, Script(callees=(callee,))) as here:
        await here.place("live")
        started = await here.event("session.started")
        await here.act(started, {"type": "speak", "text": "lang " * 600})
        verdict = await here.act(
            started, {"type": "interrupt"}, {"type": "speak", "text": "Kurz & knapp."}, asked=False
        )
        what_next = await here.event("verb.finished")
        await here.act(what_next, {"type": "hangup"})
        ended = await here.event("call.ended")

        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        [call] = here.simulator.history.calls.values()
        assert call.said[1:] == ["agent: Kurz & knapp."]
        assert here.simulator.history.counts["updates.Twiml"] == 1
        assert ended.json["metadata"] == {"order": 7}
        assert ended.json["data"]["duration_seconds"] < len(call.said[0]) * 0.065


async def test_an_inbound_call(quick_broker: Broker, tmp_path: Path) -> None:
    """Nobody's command: the question comes while it rings, its answer takes the call, and the number tells the end."""
    async with stage(quick_broker, tmp_path, Script(callees=(Callee(turns=(Say(text="hallo"),)),))) as here:
        here.simulator.point_webhooks_at(f"{here.daemon.webhook_url}/webhooks/tw")
        session = here.simulator.inbound(NUMBER)
        started = await here.event("session.started")
        ask = {"type": "speak", "text": "Guten Tag.", "user_input_timeout_seconds": 5}
        await here.act(started, ask)
        await here.act(await here.event("user.spoke"), {"type": "hangup"})
        ended = await here.event("call.ended")

        assert started.json["data"] == {"direction": "inbound", "from": NUMBER, "to": DEMO_NUMBER}
        assert (started.json["session"], started.json["raw"]["CallStatus"]) == (session, "ringing")
        assert (ended.json["data"]["reason"], "command_id" in ended.json) == ("completed", False)


async def test_statuses_out_of_order(quick_broker: Broker, tmp_path: Path) -> None:
    """`initiated` comes after the end, and is of the same call; the end is told once, and is the end."""
    late = (WebhookRule(on="initiated", fault=Delay(seconds=1.0)),)
    nobody = Callee(answers=False, rings_seconds=2, webhook_faults=late)
    async with stage(quick_broker, tmp_path, Script(callees=(nobody,))) as here:
        await here.place("late", ring_timeout_seconds=5)
        await here.event("call.trying")

        events = here.events()
        assert [event["type"] for event in events] == ["call.ringing", "call.ended", "call.trying"]
        assert events[1]["data"]["reason"] == "no_answer"
        assert [event["command_id"] for event in events] == ["late"] * 3
        assert len({event["event_id"] for event in events}) == 3
        assert [int(event["raw"]["SequenceNumber"]) for event in events] == [1, 2, 0]
