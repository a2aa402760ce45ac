"""Flows 2 and 3 with many sessions at once, with several replicas, and with Kafka away. On Apache Kafka.

The simulated provider remembers what was said in each call, so an answer that reached another session or another turn
is seen where it matters. Latencies are measured by the provider, from the first byte of a webhook to its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from bridge.demo.simulators.history import Call, Webhook
from bridge.demo.simulators.script import Callee, HangUp, Say, Script
from tests.support.brokers import Broker, OwnKafka
from tests.support.daemon import running, write_config
from tests.support.kafka_tools import warmed
from tests.support.stage import Stage, stage
from tests.support.webhooks import answering, asking, echo, new_session, post, said, speak, started

pytestmark = pytest.mark.anyio

SESSIONS = 200
TURNS = 5
REPLY = {"deadline_seconds": 4.0}
IN_LIFE = {"speed": 1.0, "announces_speech": False, "answer_cap_seconds": 8.0}
"""Telephony as fast as it is; the provider would wait longer than the daemon does."""


async def test_two_hundred_sessions(apache_kafka: Broker, tmp_path: Path) -> None:
    """200 calls at once, each with a turn a second: no event is lost, no answer crossed, no deadline missed."""
    async with stage(apache_kafka, tmp_path, simulator=IN_LIFE, connections={"demo": {"reply": REPLY}}) as here:
        callees = [_callee(here.callee(), rings_seconds=0.5 + index / SESSIONS) for index in range(SESSIONS)]
        here.play(Script(callees=tuple(callees)))
        async with answering(here, echo) as agent:
            for index, callee in enumerate(callees):
                await here.place(f"call-{index}", f"+{callee.number}", metadata={"to": callee.number[-4:]})
            await here.simulator.wait_for(lambda history: history.counts["calls.ended"] == SESSIONS, 100)
            calls = list(here.simulator.history.calls.values())
            await here.written.until(
                lambda: len(here.written[here.topic("events")]) >= sum(call.webhooks for call in calls), "all events"
            )
            await agent.heard(sum(call.webhooks for call in calls))
        webhooks = list(here.simulator.history.webhooks)
        _print_latencies(webhooks)

        assert [call.said for call in calls] == [_conversation(call) for call in calls]
        _check_events(here, calls, [event["event_id"] for event in agent.events])
        assert {(webhook.failure, webhook.status in {200, 204}) for webhook in webhooks} == {(None, True)}
        assert max(webhook.latency_seconds for webhook in webhooks) < REPLY["deadline_seconds"]
        assert await here.daemon.metric("questions_total", answered_with="fallback") == 0
        assert await here.daemon.metric("questions_total", answered_with="action") == SESSIONS * (2 * TURNS + 2)


def _callee(number: str, *, rings_seconds: float) -> Callee:
    digits = number.lstrip("+")
    turns = tuple(Say(text=f"{digits[-4:]}/{turn}", after_seconds=0.4) for turn in range(TURNS))
    return Callee(number=digits, rings_seconds=rings_seconds, turns=(*turns, HangUp(after_seconds=0.4)))


def _conversation(call: Call) -> list[str]:
    """What is said in a call where every answer reaches its own turn."""
    texts = [f"{call.number[-4:]}/{turn}" for turn in range(TURNS)]
    return ["agent: hello", *(line for text in texts for line in (f"callee: {text}", f"agent: you said: {text}"))]


def _check_events(here: Stage, calls: Sequence[Call], heard: Sequence[str]) -> None:
    """Each webhook is one event under its session's key, with its command's metadata; the agent heard each once."""
    events = [message.json for message in here.written[here.topic("events")]]
    assert Counter(event["session"] for event in events) == {call.session: call.webhooks for call in calls}
    assert {(event["session"], event["metadata"]["to"]) for event in events} == {
        (call.session, call.number[-4:]) for call in calls
    }
    assert sorted(heard) == sorted({event["event_id"] for event in events})
    for call in calls:
        texts = [
            event["data"]["text"]
            for event in events
            if event["session"] == call.session and event["type"] == "user.spoke"
        ]
        assert texts == [f"{call.number[-4:]}/{turn}" for turn in range(TURNS)]  # arrival order is topic order


def _print_latencies(webhooks: Sequence[Webhook]) -> None:
    for kind in ("user_speak", "session_start", "assistant_speech_ended"):
        ordered = sorted(webhook.latency_seconds * 1000 for webhook in webhooks if webhook.event == kind)
        p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        print(
            f"\n{kind}: {len(ordered)} webhooks, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms", end=""
        )
    print()


async def test_several_replicas(apache_kafka: Broker, tmp_path: Path) -> None:
    """Any replica takes any webhook and any answer: nothing is sticky, and each action has one verdict."""
    async with stage(apache_kafka, tmp_path, connections={"demo": {"reply": REPLY}}) as here:
        folder = tmp_path / "other"
        folder.mkdir()
        other_config = write_config(
            folder / "other.toml",
            bootstrap=apache_kafka.bootstrap,
            prefix=here.prefix,
            simulator_url=here.simulator.base_url,
            connections={"demo": {"reply": REPLY}},
        )
        async with running(other_config) as other:
            number = here.callee()
            here.play(Script(callees=(Callee(number=number.lstrip("+"), rings_seconds=0.1),)))
            await here.place("call", number, metadata={"who": "me"})
            await here.simulator.wait_for(lambda history: history.counts["calls.answered"] == 1, 60)
            [session] = here.simulator.history.calls
            await here.events(session)

            for turn, url in enumerate([here.daemon.webhook_url, other.webhook_url] * 3):
                async with asking(here, said(session, f"turn {turn}"), url=url) as question:
                    place = await question.act(speak(f"answer {turn}"))
                assert question.answer.json["text"] == f"answer {turn}"
                assert question.event.json["metadata"] == {"who": "me"}
                assert (await here.verdict(place))["status"] == "delivered"
            await here.check_verdicts()
            assert await other.terminate() == 0


async def test_kafka_is_away(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """While Kafka does not answer a webhook is refused with Retry-After, in time; when it is back all goes on."""
    kafka = own_kafka()
    await warmed(kafka.bootstrap)
    async with stage(Broker("apache-kafka", kafka.bootstrap), tmp_path) as here:
        session = new_session()
        assert (await post(here, started(session, here.callee()))).status == 204
        kafka.pause()
        try:
            began = time.monotonic()
            events = [said(session), said(session, "hello?"), started(new_session(), here.callee())]
            refused = await asyncio.gather(*(post(here, event) for event in events))
            assert not await here.daemon.is_ready()
            seconds = time.monotonic() - began
        finally:
            kafka.resume()

        assert [(answer.status, answer.headers["retry-after"]) for answer in refused] == [(503, "2")] * 3
        assert max(answer.seconds for answer in refused) < 4.0, seconds
        with anyio.fail_after(30):
            while (answer := await post(here, said(session, "back"))).status == 503:
                pass  # told to come again, so it does
        assert answer.status == 204
        await here.daemon.ready()
        async with asking(here, said(session, "again")) as question:
            await question.act(speak("welcome back"))
        assert question.answer.json["text"] == "welcome back"
