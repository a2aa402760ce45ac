"""Several replicas behind a plain round-robin proxy, a consumer that misbehaves, one killed, one added: on Apache Kafka.

Sessions talk, the consumer is late, repeats itself, uses other sessions' and old tokens and speaks unasked; the checker
counts. With FAULTS=1 there are 300 sessions, otherwise fewer. The second test grows the topics while questions run.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from bridge.client import (
    ActionResult,
    Agent,
    ClientSettings,
    Heard,
    Hearing,
    KafkaSettings,
    Sent,
    Speak,
    TopicNames,
    UserSpoke,
    connected,
)
from bridge.demo.simulators.script import Callee, HangUp, Press, Say, Script, Turn
from bridge.demo.simulators.sipgate import Flow, SipgateSettings, SipgateSimulator
from tests.support.answers_checker import Report, Verdict, Webhook, check
from tests.support.brokers import Broker
from tests.support.daemon import WEBHOOK_SECRET, Daemon, running, write_config
from tests.support.kafka_tools import Follower, Outgoing, end_offsets, following, read_all
from tests.support.round_robin import RoundRobin, round_robin
from tests.support.stage import FLOW, stage
from tests.support.webhooks import Question, asking, new_session, post, said, speak, started
from tests.support.wild_consumer import WildConsumer

pytestmark = pytest.mark.anyio

SESSIONS = 300 if os.environ.get("FAULTS") else 60
TURNS = 5
DEADLINE_SECONDS = 1.2
STARTS_WITHIN_SECONDS = 8.0
KILL_AFTER_SECONDS, ADD_AFTER_SECONDS = 9.0, 12.0
SETTLED_SECONDS = 60.0
PARTITIONS = 6
Answered: TypeAlias = Sent[ActionResult]
CHANGES: Mapping[str, Any] = {
    "kafka": {"metadata_max_age_seconds": 1.0},
    "connections": {"demo": {"reply": {"deadline_seconds": DEADLINE_SECONDS}}},
}


@dataclass
class Fleet:
    """Replicas by their address, as the proxy knows them."""

    broker: Broker
    folder: Path
    prefix: str
    simulator_url: str
    proxy: RoundRobin
    daemons: dict[str, Daemon] = field(default_factory=dict)
    killed: dict[str, float] = field(default_factory=dict)

    def start(self) -> str:
        """One more replica, not ready yet; its address."""
        config = write_config(
            self.folder / f"replica-{len(self.daemons)}.toml",
            bootstrap=self.broker.bootstrap,
            prefix=self.prefix,
            simulator_url=self.simulator_url,
            **CHANGES,
        )
        daemon = Daemon(config)
        address = daemon.webhook_url.removeprefix("http://")
        self.daemons[address] = daemon
        return address

    async def add(self) -> None:
        """One more replica that takes part."""
        address = self.start()
        await self.daemons[address].ready()
        self.proxy.replicas.append(address)

    def kill(self, address: str) -> None:
        """SIGKILL; the proxy finds out by itself."""
        self.killed[address] = time.monotonic()
        self.daemons[address].kill()

    def explained(self, what: str) -> str:
        """What and the end of each log."""
        return "\n".join([what, *(daemon.explained(address) for address, daemon in self.daemons.items())])

    def close(self) -> None:
        """End all."""
        for daemon in self.daemons.values():
            daemon.close()


@asynccontextmanager
async def fleet(broker: Broker, folder: Path, proxy: RoundRobin, simulator_url: str) -> AsyncIterator[Fleet]:
    """Three replicas that are ready, the first of which has made the topics."""
    found = Fleet(broker, folder, f"fleet-{secrets.token_hex(5)}-", simulator_url, proxy)
    try:
        await found.add()
        others = [found.start(), found.start()]
        for address in others:
            await found.daemons[address].ready()
            proxy.replicas.append(address)
        yield found
    except BaseException as error:
        error.add_note(found.explained("the replicas at that time:"))
        raise
    finally:
        found.close()


def callees() -> Script:
    """Who talks, however the assistant behaves; every third so fast that turns overtake answers."""
    return Script(callees=tuple(_callee(number, pace=(2.0, 1.6, 0.7)[number % 3]) for number in range(SESSIONS)))


def _callee(number: int, *, pace: float) -> Callee:
    said = [Say(text=f"{number}/{turn}", after_seconds=pace, unprompted=True) for turn in range(TURNS)]
    pressed = [Press(digits="1", after_seconds=pace, unprompted=True)] * 2
    turns: tuple[Turn, ...] = (*said[:2], pressed[0], *said[2:], pressed[1], HangUp(after_seconds=3, unprompted=True))
    return Callee(number=f"49157{number:07d}", rings_seconds=0, turns=turns)


def client_settings(broker: Broker, prefix: str) -> ClientSettings:
    """The consumer's."""
    servers = broker.bootstrap.split(",")
    kafka = KafkaSettings(bootstrap_servers=servers, fetch_max_wait_seconds=0.02, metadata_max_age_seconds=1.0)
    return ClientSettings(kafka=kafka, topics=TopicNames(prefix=prefix), hearing=Hearing(drain_seconds=5.0))


async def test_replicas_come_and_go(apache_kafka: Broker, tmp_path: Path) -> None:
    """Each action has one result that is true, no answer crosses sessions, no living replica loses a question."""
    flow = Flow(id=FLOW, webhook_secret=WEBHOOK_SECRET)
    settings = SipgateSettings(flows=(flow,), script=callees(), announces_speech=False, answer_cap_seconds=8.0)
    async with (
        round_robin() as proxy,
        SipgateSimulator(settings) as simulator,
        fleet(apache_kafka, tmp_path, proxy, simulator.base_url) as here,
        following(apache_kafka.bootstrap, [f"{here.prefix}action-results"]) as written,
        connected(client_settings(apache_kafka, here.prefix)) as client,
        anyio.create_task_group() as tasks,
    ):
        simulator.point_webhooks_at(f"{proxy.url}/webhooks/demo")
        consumer, stop, ready = WildConsumer(client, tasks, DEADLINE_SECONDS + 0.3), anyio.Event(), anyio.Event()
        agent = consumer.agent(f"{here.prefix}echo")
        tasks.start_soon(lambda: client.hear(agent, stop=stop, on_ready=ready.set))
        with anyio.fail_after(SETTLED_SECONDS):
            await ready.wait()
        async with anyio.create_task_group() as during:
            during.start_soon(_call, simulator)
            during.start_soon(_kill_and_add, here)
        await simulator.wait_for(lambda history: history.counts["calls.ended"] == SESSIONS, SETTLED_SECONDS)
        report = await _settled(consumer, here, written)
        stop.set()

        print("\n" + "\n".join(report.lines()))
        assert not report.violations, here.explained("\n".join(map(str, report.violations[:20])))
        assert consumer.heard >= 0.9 * SESSIONS * (1 + TURNS + 2)
        assert report.counts["late: delivered_late"], "what came too late came with the next question"
        assert report.counts["webhooks answered with words"] > SESSIONS
        assert client.unsettled == 0
        served = {passed.replica for passed in proxy.passed}
        assert served >= set(here.daemons), "every replica, the new one too, had webhooks"
        for address, daemon in here.daemons.items():
            if address not in here.killed:
                assert await daemon.terminate() == 0


async def _call(simulator: SipgateSimulator) -> None:
    """Everybody calls, one after the other."""
    for number in range(SESSIONS):
        simulator.inbound(f"+49157{number:07d}")
        await anyio.sleep(STARTS_WITHIN_SECONDS / SESSIONS)


async def _kill_and_add(here: Fleet) -> None:
    """In the middle of it."""
    await anyio.sleep(KILL_AFTER_SECONDS)
    here.kill(here.proxy.replicas[1])
    await anyio.sleep(ADD_AFTER_SECONDS - KILL_AFTER_SECONDS)
    await here.add()


async def _settled(consumer: WildConsumer, here: Fleet, written: Follower) -> Report:
    """The report, once everything that was sent has a result, or after a while without."""
    results = f"{here.prefix}action-results"

    def missing() -> set[str]:
        return {each.action_id for each in consumer.sent} - {each.json["action_id"] for each in written[results]}

    with contextlib.suppress(AssertionError):
        await written.until(lambda: not consumer.working and not missing(), "all results", seconds=SETTLED_SECONDS)
    verdicts = [
        Verdict(
            each.ce_id,
            each.json["action_id"],
            each.json["session"],
            each.json["status"],
            each.json.get("delivered_by"),
            each.json.get("reason"),
        )
        for each in written[results]
    ]
    webhooks = [Webhook(each.session, each.replica, each.status, each.body, each.ended) for each in here.proxy.passed]
    return check(consumer.sent, verdicts, webhooks, killed=here.killed)


# -- tokens and partitions --------------------------------------------------------------------------------------------


async def test_a_replayed_token_answers_nothing(apache_kafka: Broker, tmp_path: Path) -> None:
    """A token that was used answers no second question of its session, nor another session's; the right one still does."""
    async with stage(apache_kafka, tmp_path, connections={"demo": {"reply": {"deadline_seconds": 4.0}}}) as here:
        session, other = new_session(), new_session()
        async with asking(here, said(session, "first")) as first:
            await first.act(speak("one"))
        async with asking(here, said(session, "second")) as second, asking(here, said(other, "hello")) as elsewhere:
            replays = await here.send_actions(*[_replay(first, question) for question in (second, elsewhere)])
            statuses = [(await here.verdict(place))["status"] for place in replays]
            assert not second.answered.done()
            assert not elsewhere.answered.done()
            await second.act(speak("two"))
            await elsewhere.act(speak("three"))
        assert [each.answer.json["text"] for each in (first, second, elsewhere)] == ["one", "two", "three"]
        assert statuses == ["superseded", "rejected"]


async def test_a_token_stays_used_when_its_replica_dies(apache_kafka: Broker, tmp_path: Path) -> None:
    """Whoever keeps the sessions afterwards knows from the topics that their questions were answered."""
    connections = {"demo": {"reply": {"deadline_seconds": 4.0}}}
    actions = {"parked_seconds": 20.0}
    async with stage(apache_kafka, tmp_path, connections=connections, actions=actions) as here:
        config = write_config(
            tmp_path / "dies.toml",
            bootstrap=apache_kafka.bootstrap,
            prefix=here.prefix,
            simulator_url=here.simulator.base_url,
            connections=connections,
            actions=actions,
        )
        used: list[Question] = []
        async with running(config) as dies:
            for _ in range(6):
                async with asking(here, started(new_session(), here.callee()), url=dies.webhook_url) as question:
                    place = await question.act(speak("one"))
                assert (await here.verdict(place))["status"] == "delivered"
                used.append(question)
            dies.kill()
        replays = await here.send_actions(*[_replay(each, each) for each in used])
        verdicts = [await here.verdict(place) for place in replays]
        found = Counter((verdict["status"], verdict["reason"]) for verdict in verdicts)
        assert found == {("superseded", "another_answer_came_first"): len(used)}


def _replay(used: Question, question: Question) -> Outgoing:
    """The token of a question that was answered, to another one's session."""
    body = {"in_reply_to": used.token, "actions": [speak("again")]}
    return Outgoing(json.dumps(body).encode(), question.event.key)


async def test_growing_the_topics_loses_no_action(apache_kafka: Broker, tmp_path: Path) -> None:
    """While questions run, the topics of sessions get more partitions: all are noticed, and each action has its result.

    A question may meet its fallback until everybody has noticed; afterwards every one is answered.
    """
    connections = {"demo": {"reply": {"deadline_seconds": 4.0}}}
    async with stage(apache_kafka, tmp_path, **{**CHANGES, "connections": connections}) as here:
        settings, agent, sent = client_settings(here.broker, here.prefix), Agent(f"{here.prefix}echo"), list[Answered]()

        @agent.on(UserSpoke)
        async def echo(heard: Heard[UserSpoke]) -> None:
            sent.append(await heard.answer(Speak(text=heard.event.data.text)))

        async def converse(turns: int) -> list[bool]:
            session = new_session()
            answers = [await post(here, said(session, f"turn {turn}")) for turn in range(turns)]
            assert {answer.status for answer in answers} <= {200, 204}
            assert all(answer.json["text"] == f"turn {turn}" for turn, answer in enumerate(answers) if answer.body)
            return [bool(answer.body) for answer in answers]

        async def grow() -> None:
            for use in ("action-results", "actions", "events"):
                await _grow(apache_kafka, here.topic(use), PARTITIONS)

        async with connected(settings) as client, anyio.create_task_group() as tasks:
            stop, ready = anyio.Event(), anyio.Event()
            tasks.start_soon(lambda: client.hear(agent, stop=stop, on_ready=ready.set))
            with anyio.fail_after(SETTLED_SECONDS):
                await ready.wait()
            async with anyio.create_task_group() as talking:
                talking.start_soon(grow)
                for _ in range(20):
                    talking.start_soon(converse, 10)
            with anyio.fail_after(SETTLED_SECONDS):
                while not await _all_used(apache_kafka, here.topic("actions")):
                    await converse(1)
            afterwards = [await converse(2) for _ in range(20)]
            statuses = Counter([(await each.result(seconds=SETTLED_SECONDS)).status for each in sent])
            stop.set()
        print(f"\nresults: {dict(statuses)}")
        assert afterwards == [[True, True]] * 20
        assert statuses["delivered"] >= 0.5 * len(sent)
        results = Counter(each.ce_id for each in await read_all(here.broker.bootstrap, here.topic("action-results")))
        assert (len(results), max(results.values())) == (len(sent), 1)


async def _grow(broker: Broker, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    finally:
        await admin.close()


async def _all_used(broker: Broker, topic: str) -> bool:
    ends = await end_offsets(broker.bootstrap, topic)
    return len(ends) == PARTITIONS and all(ends.values())
