"""A whole call over Twilio, everything real but the provider: command, result, events with metadata, answers, end.

What only Twilio has: form webhooks signed over their URL, TwiML as answers, our reference in the path of each webhook,
statuses that come out of order, and control of a live call.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from bridge.demo.simulators.faults import Answer, AnswerLate, Delay
from bridge.demo.simulators.script import Callee, DialRule, Press, Say, Script, WebhookRule
from bridge.demo.simulators.twilio import DEMO_ACCOUNT, DEMO_NUMBER, TwilioSettings, TwilioSimulator
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, assert_masked, running, write_config
from tests.support.kafka_tools import Follower, Message, Outgoing, following, produce, producing

pytestmark = pytest.mark.anyio

SECRETS = {"TWILIO_TOKEN": "tw-token", "TWILIO_AUTH_TOKEN": "tw-auth-token"}
NUMBER = "+4915790000687"


@dataclass
class Here:
    """A daemon with one connection to the simulator, and everything it writes."""

    simulator: TwilioSimulator
    daemon: Daemon
    producer: AIOKafkaProducer
    written: Follower
    prefix: str

    async def place(self, command_id: str, **fields: object) -> Any:
        """Place a call; the value of its result."""
        body = {
            "type": "call.place",
            "command_id": command_id,
            "connection": "tw",
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

    async def act(self, event: Message, *actions: dict[str, object], asked: bool = True) -> Any:
        """Answer an event where it waits, act unasked where it does not (or is not to be answered); the verdict."""
        reply = event.json.get("reply", {}).get("token") if asked else None
        body = {"actions": actions, "action_id": secrets.token_hex(4), **({"in_reply_to": reply} if reply else {})}
        await produce(self.producer, f"{self.prefix}actions", [Outgoing(json.dumps(body).encode(), event.key)])
        wanted = body["action_id"]
        topic = f"{self.prefix}action-results"
        [verdict] = await self.written.wait_for(topic, lambda each: bool(each.json["action_id"] == wanted))
        return verdict.json

    def events(self) -> list[Any]:
        """The values of all events so far."""
        return [message.json for message in self.written[f"{self.prefix}events"]]


@contextlib.asynccontextmanager
async def stage(broker: Broker, folder: Path, script: Script) -> AsyncIterator[Here]:
    """A stage with a daemon that is ready."""
    prefix = f"tw-{secrets.token_hex(4)}-"
    async with TwilioSimulator(TwilioSettings(speed=20, script=script)) as simulator:
        config = write_config(
            folder / "callbridge.toml", bootstrap=broker.bootstrap, prefix=prefix, simulator_url=simulator.base_url
        )
        _connect(config, simulator.base_url)
        topics = [f"{prefix}{use}" for use in ("results", "events", "action-results", "dead-letters")]
        async with running(config, env=SECRETS) as daemon, producing(broker.bootstrap) as producer:
            async with following(broker.bootstrap, topics) as written:
                written.explain = daemon.explained
                yield Here(simulator, daemon, producer, written, prefix)
            assert await daemon.terminate() == 0
            assert_masked(daemon.log_lines(), [NUMBER])
        assert not simulator.history.violations, list(simulator.history.violations)
        assert not written[f"{prefix}dead-letters"]


def _connect(config: Path, simulator_url: str) -> None:
    """Put the connection `tw` in the place of sipgate's."""
    port = tomllib.loads(config.read_text())["ingress"]["port"]
    lines = [line for line in config.read_text().splitlines() if not line.startswith('"connections"')]
    lines += [
        "[connections.tw]",
        'provider = "twilio"',
        f'base_url = "{simulator_url}"',
        f'account_sid = "{DEMO_ACCOUNT}"',
        'token = { env = "TWILIO_TOKEN" }',
        f'from = "{DEMO_NUMBER}"',
        f'public_webhook_url = "http://127.0.0.1:{port}/webhooks/tw"',
        'webhook_secrets = [{ env = "TWILIO_AUTH_TOKEN" }]',
        "reply = { deadline_seconds = 1.5 }",
    ]
    config.write_text("\n".join(lines) + "\n")


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
        assert here.simulator.history.placed(NUMBER.lstrip("+")) == 1


async def test_an_answer_that_was_lost(quick_broker: Broker, tmp_path: Path) -> None:
    """500, and the phone rings: the path of a webhook settles it, no second call is placed, and control cancels it."""
    lost = DialRule(fault=Answer(status=500, acts=True))
    async with stage(quick_broker, tmp_path, Script(callees=(Callee(rings_seconds=40),), dial_faults=(lost,))) as here:
        result = await here.place("lost")
        ringing = await here.event("call.ringing")
        verdict = await here.act(ringing, {"type": "hangup"})
        ended = await here.event("call.ended")

        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "control")
        assert (ended.json["data"]["reason"], ended.json["metadata"]) == ("cancelled", {"order": 7})
        assert here.simulator.history.placed(NUMBER.lstrip("+")) == 1


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
