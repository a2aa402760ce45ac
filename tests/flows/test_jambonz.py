"""A whole call over jambonz and over Cognigy, all real but the provider: command, result, events with metadata, end.

The consumer is the test. Here it is what only these two have: a reference of ours in every webhook, verbs, and control of
a live call. The whole calls run on Apache Kafka, what goes wrong on the quick-start broker.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from aiokafka import AIOKafkaProducer

from bridge.demo.simulators.faults import Answer, AnswerLate, Delay, WrongSecret
from bridge.demo.simulators.jambonz import DEMO_ACCOUNT, DEMO_APPLICATION, JambonzSettings, JambonzSimulator
from bridge.demo.simulators.script import Callee, DialRule, HangUp, Say, Script, WebhookRule
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, running, write_config
from tests.support.kafka_tools import Follower, Message, Outgoing, following, produce, producing

pytestmark = pytest.mark.anyio

SPEECH = ("synthesis_vendor", "synthesis_voice", "synthesis_language", "recognizer_vendor", "recognizer_language")
SECRETS = {"VG_TOKEN": "vg-token", "VG_WEBHOOK_SECRET": "wh_secret_demo"}
NUMBER = "+15083084809"

Flavour: TypeAlias = Literal["cognigy", "jambonz"]


@dataclass
class Here:
    """A daemon with one connection to the simulator, and everything it writes."""

    simulator: JambonzSimulator
    daemon: Daemon
    producer: AIOKafkaProducer
    written: Follower
    prefix: str

    async def place(self, command_id: str, **fields: object) -> Any:
        """Place a call; the value of its result."""
        body = {
            "type": "call.place",
            "command_id": command_id,
            "connection": "vg",
            "to": NUMBER,
            "metadata": {"order": 7},
            **fields,
        }
        await produce(self.producer, f"{self.prefix}commands", [Outgoing(json.dumps(body).encode(), b"k")])
        topic = f"{self.prefix}results"
        [result] = await self.written.wait_for(topic, lambda each: bool(each.json["command_id"] == command_id))
        return result.json

    async def event(self, kind: str, *, nth: int = 1) -> Message:
        """The nth event of a type."""
        found = await self.written.wait_for(f"{self.prefix}events", lambda each: each.type == kind, count=nth)
        return found[nth - 1]

    async def act(self, event: Message, *actions: dict[str, object]) -> Any:
        """Answer an event where it waits, act unasked where it does not; the verdict."""
        reply = event.json.get("reply", {}).get("token")
        body = {"actions": actions, "action_id": secrets.token_hex(4), **({"in_reply_to": reply} if reply else {})}
        await produce(self.producer, f"{self.prefix}actions", [Outgoing(json.dumps(body).encode(), event.key)])
        wanted = body["action_id"]
        topic = f"{self.prefix}action-results"
        [verdict] = await self.written.wait_for(topic, lambda each: bool(each.json["action_id"] == wanted))
        return verdict.json


@contextlib.asynccontextmanager
async def stage(
    broker: Broker, folder: Path, script: Script, *, flavour: Flavour = "jambonz", **changes: Any
) -> AsyncIterator[Here]:
    """A stage with a daemon that is ready. `changes`: of the configuration."""
    prefix = f"vg-{secrets.token_hex(4)}-"
    async with JambonzSimulator(JambonzSettings(speed=20, script=script, flavour=flavour)) as simulator:
        config = write_config(
            folder / "callbridge.toml",
            bootstrap=broker.bootstrap,
            prefix=prefix,
            simulator_url=simulator.base_url,
            **changes,
        )
        _connect(config, simulator.base_url, flavour)
        topics = [f"{prefix}{use}" for use in ("results", "events", "action-results", "dead-letters")]
        async with running(config, env=SECRETS) as daemon, producing(broker.bootstrap) as producer:
            async with following(broker.bootstrap, topics) as written:
                written.explain = daemon.explained
                yield Here(simulator, daemon, producer, written, prefix)
            assert await daemon.terminate() == 0
        assert not simulator.history.violations, list(simulator.history.violations)
        assert not written[f"{prefix}dead-letters"]


def _connect(config: Path, simulator_url: str, flavour: Flavour) -> None:
    """Put the connection `vg` in the place of sipgate's. Cognigy's calls have an application that is not ours."""
    port = tomllib.loads(config.read_text())["ingress"]["port"]
    speech = ", ".join(f'{name} = "x"' for name in SPEECH)
    lines = [line for line in config.read_text().splitlines() if not line.startswith('"connections"')]
    lines += [
        "[connections.vg]",
        'provider = "jambonz"',
        f'flavour = "{flavour}"',
        f'base_url = "{simulator_url}"',
        f'account_sid = "{DEMO_ACCOUNT}"',
        'token = { env = "VG_TOKEN" }',
        'from = "+16173333456"',
        f'public_webhook_url = "http://127.0.0.1:{port}/webhooks/vg"',
        'webhook_secrets = [{ env = "VG_WEBHOOK_SECRET" }]',
        f"speech = {{ {speech} }}" if flavour == "jambonz" else f'application_sid = "{DEMO_APPLICATION}"',
        "reply = { deadline_seconds = 1.5 }",
    ]
    config.write_text("\n".join(lines) + "\n")


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
        events = [message.json for message in here.written[f"{here.prefix}events"]]
        assert {event["type"] for event in events} >= {"call.trying", "call.ringing", "call.answered"}
        for event in events:
            assert (event["command_id"], event["metadata"]) == ("whole", {"order": 7}), event["type"]
            assert (event["call_id"], event["session"]) == (result["call_id"], call.session)
            assert event["raw"]["customerData"]["mine"] == "x"
        assert here.simulator.history.placed(NUMBER.lstrip("+")) == 1


async def test_a_whole_call_over_cognigy(apache_kafka: Broker, tmp_path: Path) -> None:
    """The application talks, we hear of the call by its own URLs: an answering machine is hung up on, unasked."""
    callee = Callee(rings_seconds=4, is_machine=True)
    async with stage(apache_kafka, tmp_path, Script(callees=(callee,)), flavour="cognigy") as here:
        result = await here.place("whole", options={"amd": {}, "caller_name": "Service Desk"})
        machine = await here.event("call.amd")
        verdict = await here.act(machine, {"type": "hangup"})
        ended = await here.event("call.ended")

        assert (result["type"], result["provider"]) == ("call.initiated", "jambonz")
        assert machine.json["data"]["verdict"] == "machine"
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        assert (ended.json["data"]["reason"], ended.json["data"]["ended_by"]) == ("completed", "provider")
        events = [message.json for message in here.written[f"{here.prefix}events"]]
        assert {event["type"] for event in events} >= {"call.trying", "call.ringing", "call.answered"}
        for event in events:
            assert (event["command_id"], event["metadata"]) == ("whole", {"order": 7}), event["type"]
            assert event["call_id"] == result["call_id"]
            assert "reply" not in event, event["type"]
        assert here.simulator.history.placed(NUMBER.lstrip("+")) == 1


async def test_words_for_a_call_that_cognigy_leads(quick_broker: Broker, tmp_path: Path) -> None:
    """Its application asks us nothing: unasked words bring the call to our hook, which has them, and it is ours then."""
    callee = Callee(rings_seconds=1, is_machine=True, patience_seconds=1000)
    async with stage(quick_broker, tmp_path, Script(callees=(callee,)), flavour="cognigy") as here:
        await here.place("machine", options={"amd": {}})
        machine = await here.event("call.amd")
        verdict = await here.act(machine, {"type": "speak", "text": "Please call us back."})
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

        events = [message.json for message in here.written[f"{here.prefix}events"]]
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
        verdict = await here.act(ringing, {"type": "hangup"})
        ended = await here.event("call.ended")

        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        assert ended.json["data"]["reason"] == "no_answer"  # cancelled while it rang
        assert here.simulator.history.placed(NUMBER.lstrip("+")) == 1
