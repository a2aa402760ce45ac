"""The promises of `PartitionReader`, on both brokers; compaction and deletion on Apache Kafka."""

from __future__ import annotations

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition as AioTopicPartition

from bridge.bus.kafka.frontier import Frontier
from bridge.bus.kafka.internals import PartitionState
from bridge.bus.protocol import Bus, TopicPartition
from bridge.model.errors import Unavailable
from tests.contract.bus_support import PATIENCE_SECONDS, bus_at, make_topic, publish_numbers, read_all
from tests.support.brokers import Broker

pytestmark = pytest.mark.anyio


async def test_a_stretch_is_read_exactly(broker: Broker, topic_prefix: str) -> None:
    """`start` is included, `end` is not, nothing beside them comes, an empty stretch is empty."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(2000), partitions=1)
    partition = TopicPartition(topic, 0)
    for start, end in ((0, 2000), (3, 1234), (1999, 2000), (0, 1)):
        assert [r.offset for r in await read_all(bus, partition, start, end)] == list(range(start, end))
    assert await read_all(bus, partition, 5, 5) == []


async def test_batches_are_bounded(broker: Broker, topic_prefix: str) -> None:
    """A long stretch comes in pieces."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(2000), partitions=1)
    async with bus.partition_reader() as reader:
        sizes = [len(batch) async for batch in reader.read(TopicPartition(topic, 0), start=0, end=2000)]
    assert max(sizes) <= 500
    assert sum(sizes) == 2000


async def test_stretches_are_read_side_by_side(broker: Broker, topic_prefix: str) -> None:
    """Several at once, of one reader, do not disturb each other."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=4)
    found: dict[int, list[bytes | None]] = {n: [] for n in range(4)}
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(400), partitions=4)
    async with bus.partition_reader() as reader, anyio.create_task_group() as group:

        async def read(number: int) -> None:
            async for batch in reader.read(TopicPartition(topic, number), start=0, end=100):
                found[number] += [record.value for record in batch]

        for number in found:
            group.start_soon(read, number)
    assert found == {number: [b"%d" % n for n in range(number, 400, 4)] for number in range(4)}


async def test_a_reading_that_is_given_up_is_closed(broker: Broker, topic_prefix: str) -> None:
    """Leaving the loop half-way leaves nothing open when the reader's block ends."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(1000), partitions=1)
    async with bus.partition_reader() as reader:
        async for _ in reader.read(TopicPartition(topic, 0), start=0, end=1000):
            break
        with anyio.move_on_after(0.001):
            async for _ in reader.read(TopicPartition(topic, 0), start=0, end=1000):
                pass


async def test_beyond_the_end_is_unavailable(broker: Broker, topic_prefix: str) -> None:
    """A stretch that isn't there yet is not taken for an empty one."""
    bus = bus_at(broker.bootstrap, read_timeout_seconds=1.0)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(10), partitions=1)
    with anyio.fail_after(5), pytest.raises(Unavailable, match=r"nothing from offset 10 \(of 20\)"):
        await read_all(bus, TopicPartition(topic, 0), 5, 20)


async def test_a_start_below_the_log_begins_at_the_earliest(apache_kafka: Broker, topic_prefix: str) -> None:
    """Deleted records are passed over; where all of them are deleted, the reading still ends."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", config={"cleanup.policy": "delete"})
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(30), partitions=1)
    partition = TopicPartition(topic, 0)
    await _delete_below(apache_kafka, partition, 20)
    with anyio.fail_after(PATIENCE_SECONDS):
        assert [r.offset for r in await read_all(bus, partition, 0, 30)] == list(range(20, 30))
        assert await read_all(bus, partition, 0, 10) == []
        await _delete_below(apache_kafka, partition, 30)
        assert await read_all(bus, partition, 0, 30) == []


async def test_a_stretch_whose_end_was_compacted_away_ends(apache_kafka: Broker, topic_prefix: str) -> None:
    """The last offsets of a stretch may be gone; the records that are left come, and then it is over."""
    bus = bus_at(apache_kafka.bootstrap)
    config = {"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.001"}
    topic = await make_topic(bus, topic_prefix + "t", config=config)
    partition = TopicPartition(topic, 0)
    async with bus.producer("p") as producer:
        gone = await producer.publish(topic, key=b"kept", value=b"1")
        for _ in range(10):  # each starts a segment, for the one before is a millisecond old
            gone = await producer.publish(topic, key=b"again", value=b"2")
            await producer.publish(topic, key=b"other", value=b"3")
        with anyio.fail_after(PATIENCE_SECONDS):
            while gone.offset in (left := await _offsets(bus, partition, gone.offset + 1)):
                # The cleaner wakes up by the clock; it passes over the newest segment, so there must be newer ones.
                await producer.publish(topic, key=b"again", value=b"4")
    assert 0 in left


async def _offsets(bus: Bus, partition: TopicPartition, end: int) -> set[int]:
    return {record.offset for record in await read_all(bus, partition, 0, end)}


async def _delete_below(broker: Broker, partition: TopicPartition, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({AioTopicPartition(*partition): RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


def test_only_an_empty_answer_at_the_position_moves_the_frontier() -> None:
    """An answer that was there before the position was reached proves nothing; a newer and empty one does."""
    frontier = Frontier(0)
    steps = [
        (PartitionState(0, None, None), True, 0),  # nothing was answered yet
        (PartitionState(0, 9, 100), False, 0),  # answered with records that are not taken out yet
        (PartitionState(5, 9, 100), True, 5),  # taken out; that answer was asked for at 0
        (PartitionState(5, 9, 100), True, 5),  # still the same answer
        (PartitionState(None, 9, 200), True, 5),  # the position is being looked up
        (PartitionState(5, 9, 200), False, 5),  # a new answer, and it brought something
        (PartitionState(7, 9, 200), True, 7),
        (PartitionState(7, 12, 300), True, 12),  # asked for at 7, brought nothing: all below 12 is read
        (PartitionState(7, 12, 300), True, 12),
    ]
    for state, nothing_buffered, expected in steps:
        frontier.observe(state, nothing_buffered=nothing_buffered)
        assert frontier.read_to == expected
