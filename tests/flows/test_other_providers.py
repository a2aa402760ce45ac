"""A whole call over HMS Sovereign and over TalkifAI, everything real but the provider: command, result, events, end.

The consumer is the test. Here it is how each of these two tells whose call an event is about, and what may be done in
the call. The whole calls run on Apache Kafka, what goes wrong on the quick-start broker.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.simulators.faults import Answer, AnswerLate, WrongSecret
from bridge.demo.simulators.hms_sovereign import DEMO_ASSISTANT, HmsSettings, HmsSimulator
from bridge.demo.simulators.script import Callee, DialRule, HangUp, Say, Script, WebhookRule
from bridge.demo.simulators.talkifai import DEMO_NUMBER, TalkifaiSettings, TalkifaiSimulator
from bridge.demo.simulators.vendor import Vendor
from tests.support import provider_stage
from tests.support.brokers import Broker
from tests.support.daemon import Table
from tests.support.kafka_tools import Message
from tests.support.provider_stage import METADATA, Connection

pytestmark = pytest.mark.anyio

NUMBER = "+34600111222"
TOKEN = "api-token"
SECRET = "hook-secret"
HMS = ('provider = "hms_sovereign"', f'assistant_id = "{DEMO_ASSISTANT}"', "reply = { deadline_seconds = 3.0 }")
TALKIFAI = ('provider = "talkifai"', f'from_number = "{DEMO_NUMBER}"')


class Here(provider_stage.Here):
    """Where every event that is looked for has to say whose it is."""

    async def event(self, kind: str, *, nth: int = 1) -> Message:
        """The nth event of a type, which says whose it is."""
        event = await super().event(kind, nth=nth)
        assert event.json["metadata"] == METADATA, event.json
        return event

    def all_are_of(self, result: Any) -> bool:
        """Whether every event so far is of this command's call, and says so."""
        whose = {(event["command_id"], event["call_id"], event["metadata"]["order"]) for event in self.events()}
        return whose == {(result["command_id"], result["call_id"], METADATA["order"])}


@contextlib.asynccontextmanager
async def stage(
    broker: Broker, folder: Path, vendor: Vendor, lines: Callable[[str], Sequence[str]], **changes: Table
) -> AsyncIterator[Here]:
    """A stage with a daemon that is ready. `lines`: of the connection's table, given our address for webhooks.

    `changes`: of the configuration.
    """
    connection = Connection(name="x", number=NUMBER, token=TOKEN, webhook_secret=SECRET, lines=lines)
    async with Here.staged(broker, folder, vendor, connection, **changes) as here:
        vendor.point_webhooks_at(f"{here.daemon.webhook_url}/webhooks/{connection.name}")
        yield here


def hms(script: Script) -> HmsSimulator:
    """The simulated HMS Sovereign."""
    settings = HmsSettings(speed=20, script=script, token=TOKEN, webhook_secret=SECRET)
    return HmsSimulator(settings)


async def test_hms_sovereign(apache_kafka: Broker, tmp_path: Path) -> None:
    """A tool of the assistant's is answered, words are spoken unasked, the call is ended; all events are the command's."""
    callee = Callee(rings_seconds=2, patience_seconds=10_000, turns=(Say(text="Is Tuesday possible?"),))
    vendor = hms(Script(callees=(callee,), dial_faults=(DialRule(fault=AnswerLate()),)))
    async with stage(apache_kafka, tmp_path, vendor, lambda url: (*HMS, f'public_webhook_url = "{url}"')) as here:
        result = await here.place("c-1")
        assert (result["type"], result["provider"]) == ("call.initiated", "hms_sovereign")
        assert result["provider_call_id"].startswith("call-outbound-")
        answered = await here.event("call.answered")
        assert (answered.json["command_id"], answered.json["call_id"]) == ("c-1", result["call_id"])
        assert answered.json["data"]["to"] == NUMBER
        asked = await here.event("tool.requested")
        [call] = asked.json["data"]["calls"]
        assert (call["name"], call["arguments"]) == ("find_slot", {"day": "Tue"})
        given = await here.act(
            asked, {"type": "tool_result", "tool_call_id": call["tool_call_id"], "result": {"slot": "10:30"}}
        )
        assert (given["status"], given["delivered_by"]) == ("delivered", "answer")
        spoken = await here.act(answered, {"type": "speak", "text": "A colleague will join."}, asked=False)
        assert (spoken["status"], spoken["delivered_by"]) == ("delivered", "control")
        assert (await here.act(answered, {"type": "hangup"}, asked=False))["status"] == "delivered"
        assert (await here.event("call.ended")).json["data"]["provider_reason"] == "assistant_hangup"
        assert (await here.event("call.report")).json["data"]["summary"]
        [told] = vendor.history.calls.values()
        assert 'agent: The answer is {"slot":"10:30"}.' in told.said
        assert "agent: A colleague will join." in told.said
        assert here.all_are_of(result)
        late = await here.act(answered, {"type": "hangup"}, asked=False)
        assert (late["status"], late["reason"]) == ("rejected", "refused_by_provider")


async def test_hms_sovereign_unknown_is_settled_by_a_webhook(quick_broker: Broker, tmp_path: Path) -> None:
    """A 500 although the phone rings: our reference in the metadata is the proof, and nothing is dialled again."""
    fault = DialRule(fault=Answer(status=500, acts=True))
    vendor = hms(Script(callees=(Callee(rings_seconds=1, turns=(HangUp(),)),), dial_faults=(fault,)))
    async with stage(quick_broker, tmp_path, vendor, lambda _: HMS) as here:
        result = await here.place("c-1")
        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        await here.event("call.report")
        assert vendor.history.received(NUMBER.lstrip("+")) == 1


@pytest.mark.parametrize("envelope", ["account", "agent"])
async def test_talkifai(apache_kafka: Broker, tmp_path: Path, envelope: str) -> None:
    """The dial waits for the callee; its events are matched by the callee, or by the room that the answer named."""
    callee = Callee(rings_seconds=2, turns=(Say(text="Yes."), HangUp(after_seconds=20.0)))
    settings = TalkifaiSettings(
        speed=20,
        script=Script(callees=(callee,)),
        token=TOKEN,
        webhook_secret=SECRET,
        envelopes=("account",) if envelope == "account" else ("agent",),
    )
    vendor = TalkifaiSimulator(settings)
    async with stage(
        apache_kafka, tmp_path, vendor, lambda _: (*TALKIFAI, "allow_unsigned_agent_events = true")
    ) as here:
        result = await here.place("c-1")
        assert (result["type"], result["provider"]) == ("call.initiated", "talkifai")
        assert result["provider_call_id"].startswith("outbound_agent_q7_")
        answered = await here.event("call.answered")
        assert (answered.json["command_id"], answered.json["data"]["to"]) == ("c-1", NUMBER)
        ended = await here.event("call.ended")
        assert (ended.json["data"]["reason"], ended.json["call_id"]) == ("completed", result["call_id"])
        assert (await here.event("call.report")).json["data"]["transcript_url"]
        assert here.all_are_of(result)
        refused = await here.act(answered, {"type": "hangup"}, asked=False)
        assert (refused["status"], refused["reason"]) == ("rejected", "not_possible")
        assert vendor.history.counts["webhooks.status.200"] == 3


async def test_a_webhook_of_talkifai_that_gets_through_at_its_repetition(quick_broker: Broker, tmp_path: Path) -> None:
    """Long after the match window: the call is found by the time at which TalkifAI says that it began."""
    refused = WebhookRule(fault=WrongSecret(), on="call.started")
    callee = Callee(rings_seconds=2, turns=(Say(text="Yes."), HangUp(after_seconds=60)), webhook_faults=(refused,))
    settings = TalkifaiSettings(speed=10, script=Script(callees=(callee,)), token=TOKEN, webhook_secret=SECRET)
    vendor = TalkifaiSimulator(settings)
    async with stage(quick_broker, tmp_path, vendor, lambda _: (*TALKIFAI, "match_window_seconds = 1.5")) as here:
        result = await here.place("c-1")
        answered = (await here.event("call.answered")).json
        waited = datetime.fromisoformat(answered["received_at"]) - datetime.fromisoformat(answered["occurred_at"])
        assert waited > timedelta(seconds=2.5)
        await here.event("call.ended")
        await here.event("call.report")
        assert here.all_are_of(result)


async def test_talkifai_nobody_answers(quick_broker: Broker, tmp_path: Path) -> None:
    """408 is a result, not a fault: refused with `no_answer`, and asked for once."""
    settings = TalkifaiSettings(
        speed=60, script=Script(callees=(Callee(answers=False),)), token=TOKEN, webhook_secret=SECRET
    )
    vendor = TalkifaiSimulator(settings)
    async with stage(quick_broker, tmp_path, vendor, lambda _: TALKIFAI) as here:
        result = await here.place("c-1")
        assert (result["type"], result["reason"], result["provider_status"]) == ("call.refused", "no_answer", 408)
        assert vendor.history.received(NUMBER.lstrip("+")) == 1
