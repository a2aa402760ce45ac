"""The promises of `TailReader`, on both brokers; growing a topic on Apache Kafka, the quick-start broker can't."""

from __future__ import annotations

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from bridge.bus.kafka.tail import Pacer
from bridge.bus.protocol import Position, Producer, TailReader
from tests.contract.bus_support import PATIENCE_SECONDS, POLL_SECONDS, bus_at, make_topic, publish_numbers
from tests.support.brokers import Broker

pytestmark = pytest.mark.anyio


async def values_until(tail: TailReader, *, count: int) -> list[int]:
    """Poll until so many different numbers were seen."""
    seen: list[int] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(set(seen)) < count:
            seen += [
                int(record.value or b"") for record in await tail.poll(max_records=100, timeout_seconds=POLL_SECONDS)
            ]
    return seen


async def test_everything_written_after_entering_is_seen(broker: Broker, topic_prefix: str) -> None:
    """From the end: not one record written after the block was entered is missed, nor one seen twice."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=3)
    async with bus.producer("p") as producer:
        for number in range(30):  # one by one: the quick-start broker takes a batch for one record here
            await producer.publish(topic, key=b"%d" % number, value=b"%d" % -number)
        async with bus.tail(topic, from_beginning=False) as tail:
            await publish_numbers(producer, topic, range(1, 301), partitions=3)
            seen = await values_until(tail, count=300)
            assert tail.lag() == 0
            assert tail.seconds_since_contact() < 3
    assert sorted(seen) == list(range(1, 301))


async def test_lag_says_when_the_beginning_has_caught_up(broker: Broker, topic_prefix: str) -> None:
    """From the beginning: lag falls to 0 exactly when all that stood there has been returned."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=3)
    async with bus.producer("p") as producer:
        for number in range(300):
            await producer.publish(topic, key=b"k", value=b"%d" % number, partition=number % 3)
    seen = 0
    async with bus.tail(topic, from_beginning=True) as tail:
        assert tail.lag() == 300
        with anyio.fail_after(PATIENCE_SECONDS):
            while tail.lag():
                seen += len(await tail.poll(max_records=7, timeout_seconds=POLL_SECONDS))
                assert tail.lag() == 300 - seen
    assert seen == 300


async def test_an_empty_topic_has_no_lag(broker: Broker, topic_prefix: str) -> None:
    """There is nothing to catch up with."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    async with bus.tail(topic, from_beginning=True) as tail:
        assert tail.lag() == 0
        with anyio.fail_after(5):
            assert await tail.poll(max_records=7, timeout_seconds=POLL_SECONDS) == []


async def test_growing_a_topic_loses_nothing(apache_kafka: Broker, topic_prefix: str) -> None:
    """While records are written, partitions are added and written to: every record is seen, the old ones once."""
    bus = bus_at(apache_kafka.bootstrap, metadata_max_age_seconds=0.2)
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    written: list[int] = []
    grown = anyio.Event()

    async def write(producer: Producer) -> None:
        """Into the old partitions all the time, into the new ones as soon as the producer knows them."""
        answers = await producer.publish_batch(topic, 4, [(b"k", b"0", ())])
        while not isinstance(answers[0], Position):
            for partition in (0, 1):
                number = len(written) + 1
                await producer.publish(topic, key=b"k", value=b"%d" % number, partition=partition)
                written.append(number)
            answers = await producer.publish_batch(topic, 4, [(b"k", b"0", ())])
        written.append(0)
        grown.set()

    seen: list[int] = []
    async with bus.producer("p") as producer, bus.tail(topic, from_beginning=False) as tail:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, producer)
            tasks.start_soon(_grow, apache_kafka, topic, 5)
            with anyio.fail_after(PATIENCE_SECONDS):
                while not grown.is_set():
                    records = await tail.poll(max_records=100, timeout_seconds=POLL_SECONDS)
                    seen += [int(record.value or b"") for record in records]
        while len(set(seen)) < len(written):
            with anyio.fail_after(PATIENCE_SECONDS):
                records = await tail.poll(max_records=100, timeout_seconds=POLL_SECONDS)
                seen += [int(record.value or b"") for record in records]
    assert sorted(seen) == sorted(written)


async def _grow(broker: Broker, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    finally:
        await admin.close()


def test_the_pause_comes_with_the_rate_and_goes_with_it() -> None:
    """No pause for a trickle, none while the buffer has more; a pause above the rate, until a slower second."""
    pacer = Pacer(pause_seconds=0.01, above_records_per_second=200, now=0.0)
    pacer.count(50, max_records=100, now=0.1)
    assert pacer.pause_seconds() == 0
    pacer.count(100, max_records=100, now=0.2)
    pacer.count(100, max_records=100, now=0.3)
    assert pacer.pause_seconds() == 0
    pacer.count(1, max_records=100, now=0.4)
    assert pacer.pause_seconds() == 0.01
    pacer.count(1, max_records=100, now=1.0)
    assert pacer.pause_seconds() == 0.01
    pacer.count(1, max_records=100, now=2.1)
    assert pacer.pause_seconds() == 0
