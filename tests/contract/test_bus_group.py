"""The promises of `GroupConsumer`, on both brokers (the quick-start broker takes five seconds for each join)."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from bridge.bus.protocol import Bus, GroupConsumer, Record, TopicPartition
from bridge.model.errors import Unavailable
from tests.contract.bus_support import (
    PATIENCE_SECONDS,
    POLL_SECONDS,
    Member,
    bus_at,
    make_topic,
    publish_numbers,
)
from tests.support.brokers import Broker

pytestmark = pytest.mark.anyio


def numbers_of(records: list[Record]) -> list[int]:
    """What `publish_numbers` wrote."""
    return sorted(int(record.value or b"") for record in records)


async def nothing(_: frozenset[TopicPartition]) -> None:
    """A hook that does nothing."""


async def test_partitions_are_handed_over_without_loss(broker: Broker, topic_prefix: str) -> None:
    """The second member gets nothing before the first one's `on_revoked` has returned; each record is seen once."""
    bus = bus_at(broker.bootstrap)
    topics = [await make_topic(bus, topic_prefix + name, partitions=2) for name in ("left", "right")]
    group_id = topic_prefix + "g"
    journal: list[tuple[str, str]] = []
    first, second = Member("first", journal), Member("second", journal)
    first.hold_revocation = anyio.Event()
    async with bus.producer("p") as producer:
        for topic in topics:
            await publish_numbers(producer, topic, range(50), partitions=2)
        async with first.joined(bus, group_id, topics):
            await first.poll_until(lambda: len(first.seen) == 100)
            assert first.held == {TopicPartition(topic, number) for topic in topics for number in (0, 1)}
            async with second.joined(bus, group_id, topics), anyio.create_task_group() as tasks:
                await tasks.start(second.work)
                await first.poll_until(first.revoking.is_set)
                for _ in range(5):  # while the hook is held, nobody gets anything
                    assert await first.poll() == []
                    assert not second.held
                first.hold_revocation.set()
                await first.poll_until(lambda: bool(first.held) and bool(second.held))
                for topic in topics:
                    await publish_numbers(producer, topic, range(50, 100), partitions=2)
                await first.poll_until(lambda: len(first.seen) + len(second.seen) == 200)
                tasks.cancel_scope.cancel()
            # Range assignment: topics that are consumed together are split alike.
            assert {each.partition for each in first.held} == {0} or {each.partition for each in first.held} == {1}
    assert journal[:2] == [("first", "assigned"), ("first", "revoked")]
    assert set(journal[2:4]) == {("first", "assigned"), ("second", "assigned")}
    assert numbers_of(first.seen + second.seen) == sorted([*range(100)] * 2)
    assert not first.held
    assert not second.held


async def test_a_member_goes_on_where_the_last_one_committed(broker: Broker, topic_prefix: str) -> None:
    """Leaving calls `on_revoked`; what was committed there is not delivered again; a paused partition is silent."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    first, second = Member("first", []), Member("second", [])
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(20), partitions=2)
        async with first.joined(bus, topic_prefix + "g", [topic]) as consumer:
            await first.poll_until(lambda: len(first.seen) == 20)
            consumer.pause(TopicPartition(topic, 0))
            consumer.resume(TopicPartition(topic, 99))
            await publish_numbers(producer, topic, range(20, 30), partitions=2)
            await first.poll_until(lambda: len(first.seen) == 25)
            assert await first.poll() == []
            consumer.resume(TopicPartition(topic, 0))
            await first.poll_until(lambda: len(first.seen) == 30)
            assert consumer.seconds_since_contact() < 3
        assert not first.held
        await publish_numbers(producer, topic, range(30, 40), partitions=2)
        async with second.joined(bus, topic_prefix + "g", [topic]):
            await second.poll_until(lambda: len(second.seen) == 10)
            assert await second.poll() == []
    assert numbers_of(first.seen) == list(range(30))
    assert numbers_of(second.seen) == list(range(30, 40))


async def test_committing_what_is_not_assigned_is_unavailable(apache_kafka: Broker, topic_prefix: str) -> None:
    """Before the first assignment, and for a partition of somebody else, the outcome of a commit is an error."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=1)
    member = Member("only", [])
    async with member.joined(bus, topic_prefix + "g", [topic]) as consumer:
        with pytest.raises(Unavailable):
            await consumer.commit({TopicPartition(topic, 0): 1})
        await member.poll_until(lambda: bool(member.held))
        with pytest.raises(Unavailable, match="IllegalStateError"):
            await consumer.commit({TopicPartition(topic, 7): 1})
        await consumer.commit({})
        await consumer.commit({TopicPartition(topic, 0): 0})


async def test_what_on_assigned_raises_comes_out_of_poll(broker: Broker, topic_prefix: str) -> None:
    """The client swallows it; the bus does not."""
    bus = bus_at(broker.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")

    async def fail(_: frozenset[TopicPartition]) -> None:
        raise LookupError("assigned")

    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(3), partitions=1)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with bus.group(topic_prefix + "g", [topic], on_assigned=fail, on_revoked=nothing) as consumer:
            with pytest.raises(LookupError, match="assigned"):
                await _poll_until_records(consumer)


async def _poll_until_records(consumer: GroupConsumer) -> Sequence[Record]:
    while not (records := await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)):
        pass
    return records


async def test_what_on_revoked_raises_comes_out(apache_kafka: Broker, topic_prefix: str) -> None:
    """Of the next poll after a rebalance, and of the block's end after leaving."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)

    async def fail(_: frozenset[TopicPartition]) -> None:
        raise LookupError("revoked")

    async def poll_for_ever(bus: Bus) -> None:
        assigned = anyio.Event()

        async def note(_: frozenset[TopicPartition]) -> None:
            assigned.set()

        async with bus.group(topic_prefix + "g", [topic], on_assigned=note, on_revoked=fail) as consumer:
            while not assigned.is_set():
                await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)
            joined.set()
            while not leave.is_set():
                await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS)

    other = Member("other", [])
    with anyio.fail_after(PATIENCE_SECONDS):
        joined, leave = anyio.Event(), anyio.Event()
        leave.set()
        with pytest.raises(LookupError, match="revoked"):
            await poll_for_ever(bus)
        joined, leave = anyio.Event(), anyio.Event()
        with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="revoked")):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll_for_ever, bus)
                await joined.wait()
                async with other.joined(bus, topic_prefix + "g", [topic]):
                    await tasks.start(other.work)


async def test_a_slow_on_assigned_keeps_the_membership(apache_kafka: Broker, topic_prefix: str) -> None:
    """No record comes before `on_assigned` returns; cut off by a rebalance it is cancelled, and `on_revoked` follows."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    journal: list[str] = []
    started, go_on = anyio.Event(), anyio.Event()

    async def slow(_: frozenset[TopicPartition]) -> None:
        started.set()
        try:
            await go_on.wait()
        except anyio.get_cancelled_exc_class():
            journal.append("cancelled")
            raise
        journal.append("assigned")

    async def revoked(_: frozenset[TopicPartition]) -> None:
        journal.append("revoked")
        go_on.set()

    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(10), partitions=2)
    other = Member("other", [])
    async with bus.group(topic_prefix + "g", [topic], on_assigned=slow, on_revoked=revoked) as consumer:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not started.is_set():
                assert await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS) == []
            assert await consumer.poll(max_records=9, timeout_seconds=POLL_SECONDS) == []
            async with other.joined(bus, topic_prefix + "g", [topic]), anyio.create_task_group() as tasks:
                await tasks.start(other.work)
                records = await _poll_until_records(consumer)
                tasks.cancel_scope.cancel()
    assert journal[:3] == ["cancelled", "revoked", "assigned"]
    assert {record.topic for record in records} == {topic}


async def test_cancelling_polls_loses_nothing(apache_kafka: Broker, topic_prefix: str) -> None:
    """Polls cut off at any moment give every record once, in order."""
    bus = bus_at(apache_kafka.bootstrap)
    topic = await make_topic(bus, topic_prefix + "t")
    member = Member("only", [])
    async with bus.producer("p") as producer, member.joined(bus, topic_prefix + "g", [topic]):
        await member.poll_until(lambda: bool(member.held))
        async with anyio.create_task_group() as tasks:

            async def publish() -> None:
                for number in range(300):
                    await producer.publish(topic, key=b"k", value=b"%d" % number)

            tasks.start_soon(publish)
            with anyio.fail_after(PATIENCE_SECONDS):
                while len(member.seen) < 300:
                    with anyio.move_on_after(0.002):
                        await member.poll()
    assert [record.offset for record in member.seen] == list(range(300))


async def test_a_named_replica_comes_back_to_its_partitions(apache_kafka: Broker, topic_prefix: str) -> None:
    """With an instance id a restart takes the place of the member that stopped, in each group of the process."""
    bus = bus_at(apache_kafka.bootstrap, group_instance_id="replica-0")
    topic = await make_topic(bus, topic_prefix + "t", partitions=2)
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(4), partitions=2)
    for group_id in (topic_prefix + "g", topic_prefix + "h"):
        seen = []
        for _ in range(2):
            member = Member("replica", [])
            async with member.joined(bus, group_id, [topic]):
                await member.poll_until(lambda each=member: bool(each.held))  # type: ignore[misc]
                await member.poll()
                seen += member.seen
        assert numbers_of(seen) == list(range(4))
