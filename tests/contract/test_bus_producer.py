"""The promises of `Producer` and `Admin`, on both brokers."""

from __future__ import annotations

import anyio
import pytest

from bridge.bus.protocol import Position, TopicPartition
from bridge.model.errors import Poison, Unavailable
from tests.contract.bus_support import bus_at, make_topic, read_all
from tests.support.brokers import Broker

pytestmark = pytest.mark.anyio

TOO_LARGE = b"x" * 1_100_000


async def test_positions_are_where_the_records_are(broker: Broker, topic_prefix: str) -> None:
    """A returned position leads to the record, whole: key, value, headers."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    headers = [("a", b"1"), ("a", b"2")]
    async with bus.producer("p") as producer:
        positions = [
            await producer.publish(topic, key=b"k", value=b"%d" % n, headers=headers, partition=1) for n in range(5)
        ]
    records = await read_all(bus, TopicPartition(topic, 1), 0, 5)
    assert positions == [Position(1, n) for n in range(5)]
    assert [(r.offset, r.key, r.value) for r in records] == [(n, b"k", b"%d" % n) for n in range(5)]
    assert all(list(r.headers) == headers and r.topic == topic and r.timestamp_ms > 0 for r in records)


async def test_a_key_stays_in_its_partition(broker: Broker, topic_prefix: str) -> None:
    """Without a partition the key chooses it, always the same."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=4)
    async with bus.producer("p") as producer:
        found = {(await producer.publish(topic, key=b"session", value=None)).partition for _ in range(10)}
    assert len(found) == 1


async def test_a_batch_is_stored_in_order_and_without_gaps(broker: Broker, topic_prefix: str) -> None:
    """`publish_batch` gives contiguous positions in the order of the items, over several batches of aiokafka's too."""
    bus = bus_at(broker.bootstrap, max_batch_bytes=4096)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        first = await producer.publish_batch(topic, 0, [(b"k", b"%d" % n, ()) for n in range(50)])
        second = await producer.publish_batch(topic, 0, [(b"k", b"%d" % n * 300, ()) for n in range(50)])
        assert await producer.publish_batch(topic, 0, []) == []
    assert [*first, *second] == [Position(0, n) for n in range(100)]
    records = await read_all(bus, TopicPartition(topic, 0), 0, 50)
    assert [r.value for r in records] == [b"%d" % n for n in range(50)]


async def test_what_is_too_large_is_poison(broker: Broker, topic_prefix: str) -> None:
    """A record that can never be stored is Poison, says how large it was, and harms no other item of its batch."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        with pytest.raises(Poison) as poison:
            await producer.publish(topic, key=b"k", value=TOO_LARGE)
        answers = await producer.publish_batch(topic, 0, [(b"k", b"a", ()), (b"k", TOO_LARGE, ()), (b"k", b"b", ())])
    assert poison.value.field == "$"
    assert "1100001 bytes" in poison.value.found
    assert "1000000 bytes" in poison.value.allowed
    assert isinstance(answers[1], Poison)
    assert [answers[0], answers[2]] == [Position(0, 0), Position(0, 1)]


async def test_what_the_broker_refuses_as_too_large_is_poison(apache_kafka: Broker, topic_prefix: str) -> None:
    """The topic's own limit counts too."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", config={"max.message.bytes": "2000"})
    async with bus.producer("p") as producer:
        with pytest.raises(Poison, match=r"max\.message\.bytes"):
            await producer.publish(topic, key=b"k", value=b"x" * 3000)


async def test_an_unknown_partition_is_unavailable(broker: Broker, topic_prefix: str) -> None:
    """A partition that isn't there raises, and counts for each item of a batch."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.producer("p") as producer:
        with pytest.raises(Unavailable, match="no such partition"):
            await producer.publish(topic, key=b"k", value=b"v", partition=7)
        answers = await producer.publish_batch(topic, 7, [(b"k", b"v", ())] * 2)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]


async def test_cancelling_leaves_the_producer_usable(broker: Broker, topic_prefix: str) -> None:
    """Publishing cancelled at any moment breaks nothing: what was acknowledged is stored once, and the next works."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    acknowledged: list[bytes] = []
    async with bus.producer("p") as producer:

        async def publish(value: bytes, seconds: float) -> None:
            with anyio.move_on_after(seconds):
                if (await producer.publish_batch(topic, 0, [(b"k", value, ())]))[0]:
                    acknowledged.append(value)
                await producer.publish(topic, key=b"k", value=b"late " + value)

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(publish, b"%d" % n, n * 0.00005)
        end = (await producer.publish(topic, key=b"k", value=b"last")).offset
    stored = [record.value for record in await read_all(bus, TopicPartition(topic, 0), 0, end + 1)]
    assert stored[-1] == b"last"
    assert len(set(stored)) == len(stored)
    assert set(acknowledged) <= set(stored)


async def test_topics_are_described_and_created_once(broker: Broker, topic_prefix: str) -> None:
    """Looking creates nothing; creating twice changes nothing; what the broker says of settings is passed on."""
    bus = bus_at(broker.bootstrap)
    topic, absent = topic_prefix + "there", topic_prefix + "absent"
    await make_topic(bus, topic, partitions=3, config={"cleanup.policy": "compact"})
    async with bus.admin() as admin:
        await admin.create(topic, partitions=5, replication_factor=1, config={})
        assert absent not in await admin.describe([topic, absent])
        found = await admin.describe([topic, absent])
    assert set(found) == {topic}
    assert (found[topic].partitions, found[topic].replication_factor) == (3, 1)
    assert found[topic].config["cleanup.policy"] == "compact"


async def test_a_refused_topic_says_why(apache_kafka: Broker, topic_prefix: str) -> None:
    """More replicas than brokers: the cluster's own reason is in the message."""
    bus = bus_at(apache_kafka.bootstrap)
    async with bus.admin() as admin:
        with pytest.raises(Unavailable, match="InvalidReplicationFactor"):
            await admin.create(topic_prefix + "t", partitions=1, replication_factor=99, config={})


async def test_apache_kafka_tells_what_the_checks_need(apache_kafka: Broker, topic_prefix: str) -> None:
    """All settings `callbridge check` looks at are there."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    async with bus.admin() as admin:
        config = (await admin.describe([topic]))[topic].config
    assert set(config) == {
        "cleanup.policy",
        "max.message.bytes",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "retention.ms",
        "unclean.leader.election.enable",
    }


async def test_nobody_there_is_unavailable_within_the_deadline() -> None:
    """Opening tries again until its deadline, then says whom it asked."""
    bus = bus_at("127.0.0.1:1", start_timeout_seconds=0.5, start_backoff_seconds=0.05)
    with anyio.fail_after(3), pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 did not answer within 0\.5 s; last: "):
        async with bus.producer("p"):
            pytest.fail("opened")
