"""The consumers' library against the daemon and the simulated provider, and its promises on Kafka alone.

With the daemon: the agent of docs/client.md as it stands there, answers and their results, calls placed. Without it:
events are put on a topic by hand, and what a handler gets, how often and in which order, is looked at.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiokafka import AIOKafkaProducer

from bridge.client import (
    Agent,
    Client,
    ClientSettings,
    Event,
    Heard,
    Hearing,
    KafkaSettings,
    PlaceCall,
    Poison,
    Sent,
    SessionStarted,
    Speak,
    TopicNames,
    Unavailable,
    UserSpoke,
    connected,
    read_settings,
)
from bridge.client.awaited import Slot
from bridge.demo.simulators.script import Callee, HangUp, Say, Script
from tests.support.brokers import Broker
from tests.support.daemon import ROOT
from tests.support.kafka_tools import Outgoing, committed_offsets, create_topics, end_offsets, produce, producing
from tests.support.stage import Stage, stage
from tests.support.webhooks import new_session, post, said

pytestmark = pytest.mark.anyio

SECONDS = 60.0
TOPICS = ("events", "actions", "action-results", "commands", "results")


def settings_for(bootstrap: str, prefix: str, **hearing: float) -> ClientSettings:
    """A client of these topics; partitions move quickly."""
    kafka = KafkaSettings(
        bootstrap_servers=bootstrap.split(","),
        fetch_max_wait_seconds=0.02,
        session_timeout_seconds=6.0,
        heartbeat_interval_seconds=0.3,
        retry_backoff_seconds=0.05,
    )
    wanted = {"commit_interval_seconds": 0.1, "retry_seconds": 0.05, **hearing}
    return ClientSettings(kafka=kafka, topics=TopicNames(prefix=prefix), hearing=Hearing(**wanted))  # type: ignore[arg-type]


@asynccontextmanager
async def hearing(client: Client, agent: Agent) -> AsyncIterator[anyio.Event]:
    """The agent hears for the length of the block, from when it has partitions on; the event given stops it."""
    stop, ready = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: client.hear(agent, stop=stop, on_ready=ready.set))
        with anyio.fail_after(SECONDS):
            await ready.wait()
        yield stop
        stop.set()


class Collected:
    """What handlers have seen, and a way to wait for more."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._more = anyio.Event()

    def add(self, text: str) -> None:
        """One more."""
        self.texts.append(text)
        self._more.set()
        self._more = anyio.Event()

    async def count(self, count: int) -> list[str]:
        """All of them, as soon as there are so many."""
        with anyio.fail_after(SECONDS):
            while len(self.texts) < count:
                await self._more.wait()
        return self.texts


# -- with the daemon --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def here(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon for each broker."""
    reply = {"deadline_seconds": 4.0}
    async with stage(broker, tmp_path_factory.mktemp("client"), connections={"demo": {"reply": reply}}) as found:
        yield found


def client_toml(here: Stage, file: Path) -> Path:
    """The settings file of docs/client.md, for this stage's topics."""
    servers = json.dumps(here.broker.bootstrap.split(","))
    kafka = f"[kafka]\nbootstrap_servers = {servers}\nfetch_max_wait_seconds = 0.02\n"
    file.write_text(f"{kafka}[topics]\nprefix = {json.dumps(here.prefix)}\n")
    return file


def start(program: Path) -> subprocess.Popen[bytes]:
    """A consumer's program."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, str(program)], cwd=program.parent, env=env, stderr=subprocess.PIPE)


async def test_the_agent_of_the_documentation(here: Stage, tmp_path: Path) -> None:
    """docs/client.md's agent, as it stands there, holds a conversation, and ends with 0 on SIGTERM."""
    [source, *_] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    program = tmp_path / "agent.py"
    program.write_text(source)
    client_toml(here, tmp_path / "client.toml")
    number = here.callee()
    callee = Callee(
        number=number.lstrip("+"),
        rings_seconds=0.1,
        turns=(Say(text="How are you?"), Say(text="Goodbye then")),
        patience_seconds=2000,
    )
    here.play(Script(callees=(callee,)))
    agent = start(program)
    try:
        await here.place("documented", number)
        await here.simulator.wait_for(
            lambda history: any(call.number == number.lstrip("+") and call.ended for call in history.calls.values()), 60
        )
        agent.send_signal(signal.SIGTERM)
        _, errors = await anyio.to_thread.run_sync(lambda: agent.communicate(timeout=30))
    finally:
        agent.kill()
        agent.wait()
    [call] = [call for call in here.simulator.history.calls.values() if call.number == number.lstrip("+")]
    assert call.said == [
        "agent: Hello! Say something, or goodbye.",
        "callee: How are you?",
        "agent: You said: How are you?",
        "callee: Goodbye then",
        "agent: Goodbye!",
    ]
    assert (agent.returncode, errors) == (0, b"")


async def test_place_answer_and_learn(here: Stage, tmp_path: Path) -> None:
    """A call placed has its result, an answer its `delivered`, both awaited where they were sent."""
    agent, results = Agent(f"{here.prefix}learn"), Collected()
    number = here.callee()

    @agent.on(SessionStarted)
    async def greet(heard: Heard[SessionStarted]) -> None:
        assert heard.reply is not None
        assert 0 < heard.seconds_left <= 4.0
        sent = await heard.answer(Speak(text="hello"))
        result = await sent.result(seconds=SECONDS)
        assert (result.action_id, result.event_id) == (sent.id, heard.event.event_id)
        results.add(f"{result.status} by {result.delivered_by} in {heard.event.metadata}")

    @agent.on_other
    async def other(heard: Heard[Event]) -> None:
        await heard.release()

    here.play(Script(callees=(Callee(number=number.lstrip("+"), rings_seconds=0.1, turns=(HangUp(),)),)))
    async with connected(read_settings(client_toml(here, tmp_path / "client.toml"))) as client, hearing(client, agent):
        sent = await client.place(
            PlaceCall(command_id="learn", connection="demo", to=number, metadata={"who": "learn"})
        )
        placed = await sent.result(seconds=SECONDS)
        again = await (
            await client.place(PlaceCall(command_id="learn", connection="demo", to=number, metadata={"who": "learn"}))
        ).result(seconds=SECONDS)
        await client.cancel("learn")
        assert await results.count(1) == ["delivered by answer in {'who': 'learn'}"]
        with anyio.fail_after(SECONDS):
            while client.unsettled:
                await here.written.until(lambda: not client.unsettled, "all results")
    assert type(placed).__name__ == "CallInitiated"
    assert again == placed
    assert here.received(number) == 1
    late = [each.json for each in await here.results("learn", count=3)]
    assert [each.get("reason") for each in late][-1] == "too_late_to_cancel"


async def test_unasked_and_answered_twice(here: Stage) -> None:
    """The first answer counts, the second learns that it does not; actions that nobody asked for end in a result too."""
    agent, sent = Agent(f"{here.prefix}twice"), dict[str, Sent[object]]()
    session, answered = new_session(), anyio.Event()

    @agent.on(UserSpoke)
    async def reply(heard: Heard[UserSpoke]) -> None:
        if heard.event.session == session:
            sent["first"] = await heard.answer(Speak(text="one"))  # type: ignore[assignment]
            sent["second"] = await heard.answer(Speak(text="two"))  # type: ignore[assignment]
            answered.set()

    settings = settings_for(here.broker.bootstrap, here.prefix)
    async with connected(settings) as client, hearing(client, agent):
        answer = await post(here, said(session))
        with anyio.fail_after(SECONDS):
            await answered.wait()
        unasked = await client.act("demo", new_session(), [Speak(text="anybody?")])
        first, second = [await each.result(seconds=SECONDS) for each in sent.values()]
        third = await unasked.result(seconds=SECONDS)
        with pytest.raises(Poison, match=r"at most 32 entries"):
            await client.act("demo", session, [Speak(text="hi")] * 33)
    assert answer.json["text"] == "one"
    assert [getattr(each, "status", None) for each in (first, second)] == ["delivered", "superseded"]
    assert (third.status, third.action_id) == ("expired", unasked.id)


# -- on Kafka alone ---------------------------------------------------------------------------------------------------


class Bench:
    """Topics without a bridge, and events by hand."""

    def __init__(self, broker: Broker, prefix: str, producer: AIOKafkaProducer) -> None:
        self.broker = broker
        self.prefix = prefix
        self.group_id = f"{prefix}agent"
        self.producer = producer

    async def say(self, *texts: str, session: str = "s", partition: int | None = None) -> None:
        """The user of this session says these things."""
        await self.put(*[event(text, session) for text in texts], key=f"demo/{session}", partition=partition)

    async def put(self, *values: bytes, key: str = "demo/s", partition: int | None = None) -> None:
        """Records on the events topic."""
        records = [Outgoing(value, key.encode(), (), partition) for value in values]
        await produce(self.producer, f"{self.prefix}events", records)

    def settings(self, **hearing: float) -> ClientSettings:
        """A client's."""
        return settings_for(self.broker.bootstrap, self.prefix, **hearing)

    async def committed(self) -> tuple[dict[int, int], dict[int, int]]:
        """What the group has committed, and what it could have."""
        bootstrap, topic = self.broker.bootstrap, f"{self.prefix}events"
        return await committed_offsets(bootstrap, topic, self.group_id), await end_offsets(bootstrap, topic)


@pytest.fixture
async def bench(apache_kafka: Broker, topic_prefix: str) -> AsyncIterator[Bench]:
    """Two partitions of everything."""
    await create_topics(apache_kafka.bootstrap, {f"{topic_prefix}{use}": 2 for use in TOPICS})
    async with producing(apache_kafka.bootstrap) as producer:
        yield Bench(apache_kafka, topic_prefix, producer)


def event(text: str, session: str) -> bytes:
    """A `user.spoke`, without any header."""
    common = {"event_id": f"id-{len(text)}", "connection": "demo", "provider": "sipgate", "session": session}
    body = {"type": "user.spoke", **common, "received_at": "2026-01-31T09:30:00Z", "data": {"text": text}}
    return json.dumps(body).encode()


async def test_order_in_a_session_and_sessions_side_by_side(bench: Bench) -> None:
    """A slow handler holds its own session back and no other; handlers at work never exceed the bound."""
    agent, seen = Agent(bench.group_id), Collected()
    release, at_work, most = anyio.Event(), 0, 0

    @agent.on(UserSpoke)
    async def handle(heard: Heard[UserSpoke]) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if heard.event.session.startswith("slow"):
            await release.wait()
        await anyio.lowlevel.checkpoint()
        at_work -= 1
        seen.add(heard.event.data.text)

    async with connected(bench.settings(max_parallel=3)) as client, hearing(client, agent):
        await bench.say("slow 0", "slow 1", session="slow")
        await bench.say("slow too", session="slow too")
        for number in range(10):
            await bench.say(*(f"{number}/{turn}" for turn in range(5)), session=str(number))
        assert not [text for text in await seen.count(50) if text.startswith("slow")]
        release.set()
        texts = await seen.count(53)
    assert most == 3
    assert [text for text in texts if text != "slow too"][-2:] == ["slow 0", "slow 1"]
    for number in range(10):
        assert [text for text in texts if text.startswith(f"{number}/")] == [f"{number}/{turn}" for turn in range(5)]


async def test_what_was_not_handled_comes_again(bench: Bench) -> None:
    """A program that ends in the middle of an event gets it again; what it had finished does not come back."""
    agent, seen = Agent(bench.group_id), Collected()

    @agent.on(UserSpoke)
    async def handle(heard: Heard[UserSpoke]) -> None:
        seen.add(heard.event.data.text)
        if heard.event.data.text == "stuck" and seen.texts.count("stuck") == 1:
            await anyio.sleep_forever()

    await bench.say("done", "stuck", "behind")
    for round_ends_at in (2, 4):
        async with connected(bench.settings(drain_seconds=0.2)) as client, hearing(client, agent):
            await seen.count(round_ends_at)
    assert seen.texts == ["done", "stuck", "stuck", "behind"]
    committed, ends = await bench.committed()
    assert committed == ends


async def test_a_stop_waits_for_handlers(bench: Bench) -> None:
    """Stopping lets the handler at work finish and commits what it did, and begins nothing more."""
    agent, seen = Agent(bench.group_id), Collected()
    begun, release = anyio.Event(), anyio.Event()

    @agent.on(UserSpoke)
    async def handle(heard: Heard[UserSpoke]) -> None:
        begun.set()
        await release.wait()
        seen.add(heard.event.data.text)

    await bench.say("at work", "not begun", partition=0)
    async with connected(bench.settings()) as client, hearing(client, agent) as stop:
        await begun.wait()
        stop.set()
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert seen.texts == ["at work"]
    assert (await bench.committed())[0][0] == 1


async def test_bad_records_and_bad_handlers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read and what a handler fails at is passed over without its words in the log; Kafka's failure brings it back."""
    agent, seen = Agent(bench.group_id, is_mine=lambda each: "whose" not in str(each.data) or 1 / 0 > 0), Collected()
    failures = iter([Unavailable("no Kafka"), Unavailable("no Kafka")])

    @agent.on(UserSpoke)
    async def handle(heard: Heard[UserSpoke]) -> None:
        text = heard.event.data.text
        seen.add(text)
        if text == "secret words":
            raise ValueError(text)
        if text == "no result":
            await Sent("a", Slot(b"k")).result(seconds=0.01)
        if text == "late":
            await anyio.sleep_forever()
        if text == "again" and (failure := next(failures, None)) is not None:
            raise failure

    bad = [b"", b"{", b'{"type": "user.spoke"}', b'{"type": "of.another.version", "event_id": "x"}']
    await bench.put(*bad, key="demo/s")
    await bench.say("secret words", "whose?", "late", "no result", "again", "fine")
    async with connected(bench.settings(handler_seconds=0.2)) as client, hearing(client, agent):
        assert await seen.count(7) == ["secret words", "late", "no result", "again", "again", "again", "fine"]
    assert "secret words" not in caplog.text
    assert caplog.text.count("unreadable event") == len(bad)
    committed, ends = await bench.committed()
    assert committed == ends


async def test_a_bound_on_what_is_in_hand(bench: Bench) -> None:
    """Handlers that get nowhere: no more events are fetched than the bound allows, and all are handled in the end."""
    agent, seen, release = Agent(bench.group_id), Collected(), anyio.Event()
    begun = 0

    @agent.on(UserSpoke)
    async def handle(heard: Heard[UserSpoke]) -> None:
        nonlocal begun
        begun += 1
        await release.wait()
        seen.add(heard.event.data.text)

    for number in range(200):
        await bench.say(str(number), session=str(number))
    settings = bench.settings(max_parallel=200, max_in_hand=20, poll_records=10)
    async with connected(settings) as client, hearing(client, agent):
        with anyio.move_on_after(2):
            await seen.count(1)
        assert 20 <= begun <= 30
        release.set()
        assert sorted(await seen.count(200)) == sorted(map(str, range(200)))


async def test_members_come_and_go(bench: Bench) -> None:
    """A second process takes over a share, and gives it back: everything is handled, in order in each session."""
    agents, seen = (Agent(bench.group_id), Agent(bench.group_id)), Collected()
    for number, agent in enumerate(agents):

        @agent.on(UserSpoke)
        async def handle(heard: Heard[UserSpoke], who: int = number) -> None:
            await anyio.lowlevel.checkpoint()
            seen.add(f"{heard.event.data.text} by {who}")

    async def say(round_number: int) -> None:
        for partition in (0, 1):
            for turn in range(20):
                await bench.say(f"{partition}:{round_number:02}{turn:02}", session=str(partition), partition=partition)

    async with connected(bench.settings()) as client, hearing(client, agents[0]):
        await say(0)
        await seen.count(40)
        async with connected(bench.settings()) as second, hearing(second, agents[1]):
            await say(1)
            await seen.count(80)
        await say(2)
        texts = await seen.count(120)
    assert {text.split(" by ")[1] for text in texts[40:80]} == {"0", "1"}
    for partition in ("0:", "1:"):
        mine = [text.split(" by ")[0] for text in texts if text.startswith(partition)]
        assert list(dict.fromkeys(mine)) == sorted(set(mine))
        assert len(set(mine)) == 60
