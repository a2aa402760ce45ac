"""What the tests of the bus share: a bus with short time-outs, topics, and a member that keeps a journal.

Every wait here has a deadline and waits for something the parts say themselves. What must hold is left to the tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskStatus

from bridge.bus.kafka import KafkaBus, KafkaSettings
from bridge.bus.protocol import Bus, GroupConsumer, Position, Producer, Record, TopicPartition

PATIENCE_SECONDS = 40.0
POLL_SECONDS = 0.2

NO_CONFIG: Mapping[str, str] = {}


def bus_at(bootstrap: str, **settings: Any) -> Bus:
    """A bus whose groups notice each other quickly."""
    quick: dict[str, Any] = {"heartbeat_interval_seconds": 0.3, "session_timeout_seconds": 6.0}
    return KafkaBus(KafkaSettings(bootstrap_servers=bootstrap.split(","), **quick | settings))


async def make_topic(bus: Bus, topic: str, *, partitions: int = 1, config: Mapping[str, str] = NO_CONFIG) -> str:
    """Create it and wait until it is there."""
    async with bus.admin() as admin:
        await admin.create(topic, partitions=partitions, replication_factor=1, config=config)
        with anyio.fail_after(PATIENCE_SECONDS):
            while topic not in await admin.describe([topic]):
                pass
    return topic


async def publish_numbers(producer: Producer, topic: str, numbers: Sequence[int], *, partitions: int) -> None:
    """Each number once, spread over the partitions by its remainder."""
    for partition in range(partitions):
        items = [(b"%d" % n, b"%d" % n, ()) for n in numbers if n % partitions == partition]
        for answer in await producer.publish_batch(topic, partition, items):
            assert isinstance(answer, Position), answer


async def read_all(bus: Bus, partition: TopicPartition, start: int, end: int) -> list[Record]:
    """A stretch of a partition."""
    async with bus.partition_reader() as reader:
        return [record async for batch in reader.read(partition, start=start, end=end) for record in batch]


class Member:
    """A member of a group that works off what it gets and commits it when partitions are taken away."""

    def __init__(self, name: str, journal: list[tuple[str, str]]) -> None:
        self.name = name
        self.held: frozenset[TopicPartition] = frozenset()
        self.assigned = anyio.Event()
        self.seen: list[Record] = []
        self.hold_revocation: anyio.Event | None = None
        self.revoking = anyio.Event()
        self._journal = journal
        self._next: dict[TopicPartition, int] = {}
        self._consumer: GroupConsumer | None = None

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Note it."""
        assert not self.held, "assigned twice without a revocation"
        self.held = partitions
        self._journal.append((self.name, "assigned"))
        self.assigned.set()

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Commit, then give back; waits where the test wants to look."""
        assert partitions == self.held
        self.revoking.set()
        if self.hold_revocation is not None:
            await self.hold_revocation.wait()
        assert self._consumer is not None
        await self._consumer.commit({each: at for each, at in self._next.items() if each in partitions})
        self.held, self._next = frozenset(), {}
        self.assigned = anyio.Event()
        self._journal.append((self.name, "revoked"))

    async def forget(self, partitions: frozenset[TopicPartition]) -> None:
        """Give back without a commit."""
        assert partitions == self.held
        self.held = frozenset()

    async def poll(self) -> Sequence[Record]:
        """One poll; what it gives must be of partitions that are held."""
        assert self._consumer is not None
        records = await self._consumer.poll(max_records=100, timeout_seconds=POLL_SECONDS)
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            assert partition in self.held, "a record of a partition that is not held"
            self._next[partition] = record.offset + 1
            self.seen.append(record)
        return records

    async def poll_until(self, done: Callable[[], bool]) -> None:
        """Poll until something is so."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while not done():
                await self.poll()

    async def work(self, *, task_status: TaskStatus[None]) -> None:
        """Poll until cancelled."""
        task_status.started()
        while True:
            await self.poll()

    @asynccontextmanager
    async def joined(self, bus: Bus, group_id: str, topics: Sequence[str]) -> AsyncIterator[GroupConsumer]:
        """In the group for the length of the block."""
        async with bus.group(
            group_id, topics, on_assigned=self.on_assigned, on_revoked=self.on_revoked
        ) as self._consumer:
            yield self._consumer
