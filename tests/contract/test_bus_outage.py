"""What the bus does while Kafka is frozen: an Apache Kafka of this file's own, stopped by SIGSTOP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import anyio
import pytest

from bridge.bus.protocol import Bus, Position, Record, TopicPartition
from bridge.demo.broker import live_brokers
from bridge.model.errors import Unavailable
from tests.contract.bus_support import PATIENCE_SECONDS, POLL_SECONDS, Member, bus_at, make_topic, read_all
from tests.support.apache_kafka import ApacheKafka

pytestmark = pytest.mark.anyio

QUICK = {
    "request_timeout_seconds": 1.0,
    "publish_timeout_seconds": 1.5,
    "commit_timeout_seconds": 1.0,
    "read_timeout_seconds": 1.0,
    "stop_timeout_seconds": 1.0,
}


@pytest.fixture(scope="module")
def kafka(own_kafka: Callable[..., ApacheKafka]) -> ApacheKafka:
    """A node to freeze."""
    return own_kafka()


@pytest.fixture
def bus(kafka: ApacheKafka) -> Bus:
    """A bus whose deadlines are short."""
    return bus_at(kafka.bootstrap, **QUICK)


@pytest.fixture(autouse=True)
async def nothing_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """A test leaves no task behind, and the event loop had nothing to complain about."""
    before = {task.get_name() for task in asyncio.all_tasks()}
    yield
    left = [task for task in asyncio.all_tasks() if task.get_name() not in before and "TestRunner" not in repr(task)]
    assert not left
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@contextmanager
def frozen(kafka: ApacheKafka) -> Iterator[None]:
    """Nothing answers inside the block. The signal takes a moment to reach all threads of the broker."""
    host, _, port = kafka.bootstrap.rpartition(":")
    kafka.pause()
    try:
        while live_brokers((host, int(port)), timeout=0.1):
            pass
        yield
    finally:
        kafka.resume()


async def test_publishing_fails_in_time_and_heals(kafka: ApacheKafka, bus: Bus, topic_prefix: str) -> None:
    """While Kafka is frozen each publish is Unavailable within its deadline; afterwards the same producer works."""
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        await producer.publish(topic, key=b"k", value=b"before")
        with frozen(kafka):
            began = time.monotonic()
            with pytest.raises(Unavailable, match=topic):
                await producer.publish(topic, key=b"k", value=b"during")
            answers = await producer.publish_batch(topic, 0, [(b"k", b"during", ())] * 3)
            assert [type(answer) for answer in answers] == [Unavailable] * 3
            assert time.monotonic() - began < 2 * QUICK["publish_timeout_seconds"] + 1
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    last = await producer.publish(topic, key=b"k", value=b"after")
                    break
                except Unavailable:
                    continue
    stored = [record.value for record in await read_all(bus, TopicPartition(topic, 0), 0, last.offset + 1)]
    assert stored[0] == b"before"
    assert stored[-1] == b"after"
    assert set(stored) <= {b"before", b"during", b"after"}


async def test_a_publish_cancelled_while_frozen_harms_nothing(kafka: ApacheKafka, bus: Bus, topic_prefix: str) -> None:
    """The producer is as good as before, and the record under way is stored or not."""
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        await producer.publish(topic, key=b"k", value=b"before")
        with frozen(kafka), anyio.move_on_after(0.1):
            await producer.publish(topic, key=b"k", value=b"during")
        assert isinstance(await producer.publish(topic, key=b"k", value=b"after"), Position)


async def test_everything_closes_in_time_while_frozen(kafka: ApacheKafka, bus: Bus, topic_prefix: str) -> None:
    """A producer with a batch under way, a member, a tail and a reader: all close, and leave no task behind."""
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    member = Member("only", [])
    stack = AsyncExitStack()
    async with stack:
        await stack.enter_async_context(bus.admin())
        producer = await stack.enter_async_context(bus.producer("p"))
        tail = await stack.enter_async_context(bus.tail(topic, from_beginning=False))
        await stack.enter_async_context(bus.partition_reader())
        consumer = await stack.enter_async_context(
            bus.group(topic_prefix + "g", [topic], on_assigned=member.on_assigned, on_revoked=nothing)
        )
        with anyio.fail_after(PATIENCE_SECONDS):
            while not member.held:
                await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)
        await producer.publish(topic, key=b"k", value=b"before")
        await tail.poll(max_records=9, timeout_seconds=POLL_SECONDS)
        with frozen(kafka):
            with anyio.move_on_after(0.1):
                await producer.publish(topic, key=b"k", value=b"during")
            with pytest.raises(Unavailable):
                await consumer.commit(dict.fromkeys(member.held, 0))
            began = time.monotonic()
            await stack.aclose()
            assert time.monotonic() - began < 4 * (QUICK["stop_timeout_seconds"] + 1.0)


async def test_closing_while_cancelled_is_complete(bus: Bus, topic_prefix: str) -> None:
    """Cancelling everything at once leaves nothing open either."""
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    member = Member("only", [])
    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            anyio.create_task_group() as tasks,
            bus.producer("p") as producer,
            bus.tail(topic, from_beginning=False) as tail,
            bus.group(topic_prefix + "g", [topic], on_assigned=member.on_assigned, on_revoked=nothing) as consumer,
        ):
            while not member.held:
                await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)
            tasks.start_soon(producer.publish_batch, topic, 0, [(b"k", b"v", ())])
            tasks.cancel_scope.cancel()
            await tail.poll(max_records=9, timeout_seconds=POLL_SECONDS)


async def test_opening_while_frozen_is_unavailable(kafka: ApacheKafka, topic_prefix: str) -> None:
    """Within the start deadline, whatever is opened."""
    bus = bus_at(kafka.bootstrap, **QUICK | {"start_timeout_seconds": 0.5, "stop_timeout_seconds": 0.5})
    topic = await make_topic(bus, topic_prefix + "t")
    member = Member("only", [])
    opened: list[Callable[[], object]] = [
        bus.admin,
        lambda: bus.producer("p"),
        lambda: bus.tail(topic, from_beginning=True),
        lambda: bus.group("g", [topic], on_assigned=member.on_assigned, on_revoked=nothing),
    ]
    with frozen(kafka), anyio.fail_after(PATIENCE_SECONDS):
        for each in opened:
            with pytest.raises(Unavailable, match=r"did not answer within 0\.5 s"):
                async with each():  # type: ignore[attr-defined]
                    pytest.fail("opened")


async def test_a_member_survives_the_freeze(kafka: ApacheKafka, bus: Bus, topic_prefix: str) -> None:
    """After longer than its session the member gets partitions and records again, and its silence was to be seen."""
    bus = bus_at(kafka.bootstrap, **QUICK | {"session_timeout_seconds": 2.0, "rebalance_timeout_seconds": 5.0})
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    member = Member("only", [])
    async with (
        bus.producer("p") as producer,
        bus.tail(topic, from_beginning=False) as tail,
        bus.group(topic_prefix + "g", [topic], on_assigned=member.on_assigned, on_revoked=member.forget) as consumer,
    ):
        with anyio.fail_after(PATIENCE_SECONDS):
            while not member.held:
                await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)
            with frozen(kafka):
                while consumer.seconds_since_contact() < 3 or tail.seconds_since_contact() < 3:
                    await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)
            seen: list[Record] = []
            tailed: list[Record] = []
            while not seen or not tailed:
                with contextlib.suppress(Unavailable):
                    await producer.publish(topic, key=b"k", value=b"after")
                seen += await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)
                tailed += await tail.poll(max_records=9, timeout_seconds=POLL_SECONDS)


async def nothing(_: frozenset[TopicPartition]) -> None:
    """A hook that does nothing."""
