"""A whole call over jambonz and over Cognigy, all real but the provider: command, result, events with metadata, end.

The consumer is the test. Here it is what only these two have: a reference of ours in every webhook, verbs, and control of
a live call. The whole calls run on Apache Kafka, what goes wrong on the quick-start broker.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from bridge.demo.simulators.faults import Answer, AnswerLate, Delay, WrongSecret
from bridge.demo.simulators.jambonz import JambonzSettings, JambonzSimulator
from bridge.demo.simulators.script import Callee, DialRule, HangUp, Say, Script, WebhookRule
from tests.support.brokers import Broker
from tests.support.daemon import Table
from tests.support.provider_stage import Here, jambonz

pytestmark = pytest.mark.anyio

Flavour: TypeAlias = Literal["cognigy", "jambonz"]


def stage(
    broker: Broker, folder: Path, script: Script, *, flavour: Flavour = "jambonz", **changes: Table
) -> AbstractAsyncContextManager[Here]:
    """A stage with a daemon that is ready. `changes`: of the configuration."""
    simulator = JambonzSimulator(JambonzSettings(speed=20, script=script, flavour=flavour))
    connection = jambonz("reply = { deadline_seconds = 1.5 }", flavour=flavour)
    return Here.staged(broker, folder, simulator, connection, **changes)


async def test_a_whole_call(apache_kafka: Broker, tmp_path: Path) -> None:
    """`trying` overtakes the 201; greeting with a gather, the user's words, a fallback that holds, and a hang-up."""
    overtaken = DialRule(fault=AnswerLate())
    callee = Callee(rings_seconds=2, patience_seconds=1000, turns=(Say(text="yes, Tuesday"),))
    async with stage(apache_kafka, tmp_path, Script(callees=(callee,), dial_faults=(overtaken,))) as here:
        result = await here.place("whole", options={"tag": {"mine": "x"}})
        started = await here.event("session.started")
        ask = {"type": "speak", "text": "Will you come?", "user_input_timeout_seconds": 5}
        assert (await here.act(started, ask))["status"] == "delivered"
        spoke = await here.event("user.spoke")
        assert (await here.act(spoke, {"type": "speak", "text": "Good."}))["status"] == "delivered"
        await here.event("verb.finished")  # what next? nobody answers: the call is held, and asked about again
        again = await here.event("verb.finished", nth=2)
        assert (await here.act(again, {"type": "hangup"}))["delivered_by"] == "answer"
        ended = await here.event("call.ended")

        [call] = here.simulator.history.calls.values()
        assert (result["type"], result["provider_call_id"]) == ("call.initiated", call.session)
        assert spoke.json["data"]["text"] == "yes, Tuesday"
        assert (ended.json["data"]["reason"], ended.json["data"]["ended_by"]) == ("completed", "provider")
        assert call.said == ["agent: Will you come?", "callee: yes, Tuesday", "agent: Good."]
        events = here.events()
        assert {event["type"] for event in events} >= {"call.trying", "call.ringing", "call.answered"}
        for event in events:
            assert (event["command_id"], event["metadata"]) == ("whole", {"order": 7}), event["type"]
            assert (event["call_id"], event["session"]) == (result["call_id"], call.session)
            assert event["raw"]["customerData"]["mine"] == "x"
        assert here.placed() == 1


async def test_a_whole_call_over_cognigy(apache_kafka: Broker, tmp_path: Path) -> None:
    """The application talks, we hear of the call by its own URLs: an answering machine is hung up on, unasked."""
    callee = Callee(rings_seconds=4, is_machine=True)
    async with stage(apache_kafka, tmp_path, Script(callees=(callee,)), flavour="cognigy") as here:
        result = await here.place("whole", options={"amd": {}, "caller_name": "Service Desk"})
        machine = await here.event("call.amd")
        verdict = await here.act(machine, {"type": "hangup"}, asked=False)
        ended = await here.event("call.ended")

        assert (result["type"], result["provider"]) == ("call.initiated", "jambonz")
        assert machine.json["data"]["verdict"] == "machine"
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        assert (ended.json["data"]["reason"], ended.json["data"]["ended_by"]) == ("completed", "provider")
        events = here.events()
        assert {event["type"] for event in events} >= {"call.trying", "call.ringing", "call.answered"}
        for event in events:
            assert (event["command_id"], event["metadata"]) == ("whole", {"order": 7}), event["type"]
            assert event["call_id"] == result["call_id"]
            assert "reply" not in event, event["type"]
        assert here.placed() == 1


async def test_words_for_a_call_that_cognigy_leads(quick_broker: Broker, tmp_path: Path) -> None:
    """Its application asks us nothing: unasked words bring the call to our hook, which has them, and it is ours then."""
    callee = Callee(rings_seconds=1, is_machine=True, patience_seconds=1000)
    async with stage(quick_broker, tmp_path, Script(callees=(callee,)), flavour="cognigy") as here:
        await here.place("machine", options={"amd": {}})
        machine = await here.event("call.amd")
        verdict = await here.act(machine, {"type": "speak", "text": "Please call us back."}, asked=False)
        redirected = await here.event("verb.finished")
        await here.act(await here.event("verb.finished", nth=2), {"type": "hangup"})
        await here.event("call.ended")

        [call] = here.simulator.history.calls.values()
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "answer"), verdict
        assert verdict["event_id"] == redirected.json["event_id"]
        assert call.said == ["agent: Please call us back."]


async def test_statuses_out_of_order(quick_broker: Broker, tmp_path: Path) -> None:
    """`trying` comes after the end, and is of the same call; the end is told once, and is the end."""
    late = (WebhookRule(on="trying", fault=Delay(seconds=1.0)),)
    nobody = Callee(answers=False, rings_seconds=2, webhook_faults=late)
    async with stage(quick_broker, tmp_path, Script(callees=(nobody,))) as here:
        await here.place("late", ring_timeout_seconds=5)
        await here.event("call.trying")

        events = here.events()
        assert [event["type"] for event in events] == ["call.ringing", "call.ended", "call.trying"]
        assert events[1]["data"]["reason"] == "no_answer"
        assert [event["command_id"] for event in events] == ["late"] * 3
        assert len({event["event_id"] for event in events}) == 3


async def test_an_end_that_was_lost(quick_broker: Broker, tmp_path: Path) -> None:
    """The final status never arrives: after long silence jambonz is asked, and its record is the end."""
    lost = WebhookRule(fault=WrongSecret(), on="completed")
    callee = Callee(rings_seconds=2, turns=(HangUp(),), webhook_faults=(lost,))
    quick = {"silent_seconds": 1.0, "longest_pause_seconds": 2.0, "tick_seconds": 0.1}
    async with stage(quick_broker, tmp_path, Script(callees=(callee,)), watchdog=quick) as here:
        result = await here.place("silent")
        ask = {"type": "speak", "text": "Will you come?", "user_input_timeout_seconds": 5}
        await here.act(await here.event("session.started"), ask)
        ended = await here.event("call.ended")
        data = ended.json["data"]
        assert (data["reason"], data["ended_by"], data["sip_status"]) == ("completed", "callee", 200)
        assert (ended.json["command_id"], ended.json["call_id"]) == ("silent", result["call_id"])
        assert here.simulator.history.counts["look_ups"] >= 1


async def test_an_answer_that_was_lost(quick_broker: Broker, tmp_path: Path) -> None:
    """500, and the phone rings: our reference in `trying` settles it, and no second call is placed. Then control ends it."""
    lost = DialRule(fault=Answer(status=500, acts=True))
    async with stage(quick_broker, tmp_path, Script(callees=(Callee(rings_seconds=40),), dial_faults=(lost,))) as here:
        result = await here.place("lost")
        ringing = await here.event("call.ringing")
        verdict = await here.act(ringing, {"type": "hangup"}, asked=False)
        ended = await here.event("call.ended")

        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        assert ended.json["data"]["reason"] == "no_answer"  # cancelled while it rang
        assert here.placed() == 1
