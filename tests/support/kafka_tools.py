"""Kafka from outside, as producers and consumers of the gateway see it: produce much, follow topics, read offsets.

It promises that what is produced is acknowledged when the call returns, that a follower has every record of its topics
from the first one on, and that waiting has a deadline. It uses aiokafka directly, so that a mistake in our adapter is
not hidden by the same mistake here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

WAIT_SECONDS = 60.0

Headers: TypeAlias = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A record that was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The value."""
        return json.loads(self.value or b"null")

    @property
    def ce_id(self) -> str:
        """The CloudEvents id."""
        return self.headers["ce_id"]

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return self.headers["ce_type"]

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return self.partition, self.offset


@contextlib.asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for the length of the block."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=4_000_000)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def produce(producer: AIOKafkaProducer, topic: str, records: Iterable[Outgoing]) -> list[tuple[int, int]]:
    """Store all records, in order for each key; returns partition and offset of each."""
    async with asyncio.timeout(WAIT_SECONDS):
        futures = [
            await producer.send(topic, each.value, each.key, each.partition, headers=list(each.headers))
            for each in records
        ]
        stored = await asyncio.gather(*futures)
    return [(each.partition, each.offset) for each in stored]


@dataclass
class Follower:
    """What stands in some topics, from their first record on, as it comes in."""

    messages: dict[str, list[Message]]
    explain: Callable[[str], str] = field(default=lambda what: what)
    """Makes the message of a failed wait; a stage puts the daemon's log there."""
    _waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = field(default_factory=list)

    def __getitem__(self, topic: str) -> list[Message]:
        return self.messages[topic]

    async def wait_for(
        self, topic: str, wanted: Callable[[Message], bool], *, count: int = 1, seconds: float = WAIT_SECONDS
    ) -> list[Message]:
        """The records of a topic that are wanted, as soon as there are `count` of them."""

        def found() -> list[Message]:
            return [message for message in self.messages[topic] if wanted(message)]

        await self.until(lambda: len(found()) >= count, f"{count} records on {topic}", seconds=seconds)
        return found()

    async def until(self, condition: Callable[[], object], what: str, *, seconds: float = WAIT_SECONDS) -> None:
        """Return when the condition holds; it is asked again whenever records have come in."""
        if condition():
            return
        entry = (condition, asyncio.get_running_loop().create_future())
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(seconds):
                await entry[1]
        except TimeoutError:
            counts = {topic: len(messages) for topic, messages in self.messages.items()}
            raise AssertionError(self.explain(f"waited {seconds} s for {what}; read so far: {counts}")) from None
        finally:
            self._waiters.remove(entry)

    def take(self, messages: Iterable[Message]) -> None:
        """Add records, and ask those who wait."""
        for message in messages:
            self.messages[message.topic].append(message)
        for condition, future in self._waiters:
            if not future.done() and condition():
                future.set_result(None)


@contextlib.asynccontextmanager
async def following(bootstrap: str, topics: Sequence[str]) -> AsyncIterator[Follower]:
    """Follow topics that exist, for the length of the block."""
    async with _reader(bootstrap) as consumer:
        await assign(consumer, topics)
        follower = Follower({topic: [] for topic in topics})

        async def pump() -> None:
            while True:
                fetched = await consumer.getmany(timeout_ms=500)
                follower.take(_message(record) for records in fetched.values() for record in records)

        task = asyncio.create_task(pump())
        try:
            yield follower
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def read_all(bootstrap: str, topic: str) -> list[Message]:
    """Everything that stands in a topic now."""
    async with asyncio.timeout(WAIT_SECONDS), _reader(bootstrap) as consumer:
        partitions = await assign(consumer, [topic])
        ends = await consumer.end_offsets(partitions)
        messages: list[Message] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                messages += map(_message, records)
    return messages


async def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """The end of each partition of a topic."""
    async with asyncio.timeout(WAIT_SECONDS), _reader(bootstrap) as consumer:
        ends = await consumer.end_offsets(await assign(consumer, [topic]))
    return {each.partition: offset for each, offset in ends.items()}


async def committed_offsets(bootstrap: str, topic: str, group_id: str) -> dict[int, int]:
    """What a group has committed of each partition; 0 where it has not."""
    async with asyncio.timeout(WAIT_SECONDS), _reader(bootstrap, group_id) as consumer:
        partitions = await assign(consumer, [topic])
        return {each.partition: await consumer.committed(each) or 0 for each in partitions}


async def create_topics(bootstrap: str, partitions: Mapping[str, int]) -> None:
    """Create topics with so many partitions each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(topic, count, 1) for topic, count in partitions.items()])
    finally:
        await admin.close()


async def warmed(bootstrap: str) -> None:
    """Return when a broker that was just started has stored a record and a group's offset: the first ones take seconds."""
    topic = f"warm-{secrets.token_hex(4)}"
    await create_topics(bootstrap, {topic: 1})
    async with asyncio.timeout(WAIT_SECONDS), producing(bootstrap) as producer:
        await produce(producer, topic, [Outgoing(b"warm", b"k")])
    async with asyncio.timeout(WAIT_SECONDS), _reader(bootstrap, topic) as consumer:
        await consumer.commit(dict.fromkeys(await assign(consumer, [topic]), 1))


@contextlib.asynccontextmanager
async def _reader(bootstrap: str, group_id: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=4_000_000,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def assign(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Read these topics, all partitions of them, without a group."""
    partitions: list[TopicPartition] = []
    for topic in topics:
        numbers = await consumer._client._wait_on_metadata(topic)
        partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    return partitions


def _message(record: Any) -> Message:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    return Message(record.topic, record.partition, record.offset, record.key, record.value, headers)
