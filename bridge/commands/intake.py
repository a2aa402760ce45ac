"""Poll the commands topic, hand records to lanes, hold back, and commit what is finished.

Promises that polling never waits for work, that a partition whose lane is full is paused rather than dropped, and that
offsets are committed only up to the unbroken finished prefix: at intervals, on revoke, and at the end. It knows no
provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.abc import TaskGroup

from bridge.bus.protocol import Bus, GroupConsumer, Record, TopicPartition
from bridge.commands.lane import Lane, Tools
from bridge.model.errors import Broken, Unavailable
from bridge.runtime.crashpoints import reached
from bridge.runtime.logging import get_logger

log = get_logger()


class IntakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How commands are fetched."""

    topic: str
    group_id: str
    poll_records: int = 100
    poll_seconds: float = 0.2
    commit_interval_seconds: float = 1.0
    drain_seconds: float = 20.0
    max_poison_in_a_row: int = 100
    """So many records in a row that nobody can read are a bad deploy: the daemon stops. 0: never."""


class Intake:
    """The commands topic, as a member of its consumer group."""

    def __init__(self, bus: Bus, tools: Tools, settings: IntakeSettings, *, on_poll: Callable[[], None]) -> None:
        self._bus = bus
        self._tools = tools
        self._settings = settings
        self._on_poll = on_poll
        self._lanes: dict[TopicPartition, Lane] = {}
        self._paused: set[TopicPartition] = set()
        self._stopping = anyio.Event()
        self._poison_in_a_row = 0
        self._tasks: TaskGroup | None = None
        self._consumer: GroupConsumer | None = None
        tools.world.metrics.commands_deferred.set_function(lambda: sum(lane.deferred for lane in self._lanes.values()))
        tools.world.metrics.lane_entries.set_function(
            lambda: sum(lane.entries for lane in self._lanes.values()) + tools.kept.entries
        )

    def stop(self) -> None:
        """Fetch nothing more; `run` drains its lanes, commits, leaves the group and returns."""
        self._stopping.set()

    def heard_of(self, partition: int | None, command_id: str) -> None:
        """A webhook has named the session of a command of this partition: its lane may have waited for that."""
        lane = None if partition is None else self._lanes.get(TopicPartition(self._settings.topic, partition))
        if lane is not None:
            lane.heard_of(command_id)

    async def run(self) -> None:
        """Consume until `stop`.

        Raises:
            Broken: too many unreadable records in a row.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            async with self._membership() as consumer:
                await self._poll(consumer)
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def _membership(self) -> AsyncIterator[GroupConsumer]:
        group = self._bus.group(
            self._settings.group_id,
            [self._settings.topic],
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )
        async with group as consumer:
            self._consumer = consumer
            yield consumer

    async def _poll(self, consumer: GroupConsumer) -> None:
        clock = self._tools.world.clock
        committed_at = clock.monotonic()
        while not self._stopping.is_set():
            self._on_poll()
            for record in await self._fetch(consumer):
                self._hand_over(record)
            self._balance(consumer)
            if clock.monotonic() - committed_at >= self._settings.commit_interval_seconds:
                committed_at = clock.monotonic()
                await self._commit(list(self._lanes))
            limit = self._settings.max_poison_in_a_row
            if limit and self._poison_in_a_row >= limit:
                raise Broken(f"{limit} commands in a row could not be read: see the dead letters topic")

    async def _fetch(self, consumer: GroupConsumer) -> Sequence[Record]:
        """The next records; none while Kafka is away."""
        try:
            return await consumer.poll(
                max_records=self._settings.poll_records, timeout_seconds=self._settings.poll_seconds
            )
        except Unavailable as error:
            log.warning("poll.waits", topic=self._settings.topic, error=error)
            await anyio.sleep(self._settings.poll_seconds)
            return ()

    def _hand_over(self, record: Record) -> None:
        self._tools.world.metrics.commands_read.inc()
        lane = self._lanes.get(TopicPartition(record.topic, record.partition))
        if lane is not None:
            lane.offer(record)

    def _balance(self, consumer: GroupConsumer) -> None:
        """Pause partitions whose lanes are full; resume them when half of it is done."""
        for partition, lane in self._lanes.items():
            if lane.full and partition not in self._paused:
                consumer.pause(partition)
                self._paused.add(partition)
            elif partition in self._paused and lane.backlog <= self._tools.settings.max_backlog // 2:
                consumer.resume(partition)
                self._paused.discard(partition)

    async def _commit(self, partitions: list[TopicPartition]) -> None:
        offsets: dict[TopicPartition, int] = {}
        for partition in partitions:
            lane = self._lanes.get(partition)
            offset = None if lane is None else lane.watermark.committable
            if offset is not None:
                offsets[partition] = offset
        if not offsets or self._consumer is None:
            return
        reached("before_commit")
        try:
            await self._consumer.commit(offsets)
        except Unavailable as error:
            log.warning("commit.waits", topic=self._settings.topic, error=str(error))
            return
        reached("after_commit")
        for partition, offset in offsets.items():
            lane = self._lanes.get(partition)
            if lane is not None:
                lane.watermark.committed(offset)

    def _count_poison(self, poison: bool) -> None:
        self._poison_in_a_row = self._poison_in_a_row + 1 if poison else 0

    async def _on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        if self._tasks is None:
            return
        for partition in sorted(partitions):
            lane = Lane(partition, self._tools, on_poison=self._count_poison)
            self._lanes[partition] = lane
            self._paused.discard(partition)
            self._tasks.start_soon(lane.run, name=f"lane-{partition.partition}")

    async def _on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Let the lanes come to rest, commit, let go. Bounded: what is still under way then is the next owner's doubt."""
        lanes = [self._lanes[partition] for partition in partitions if partition in self._lanes]
        async with anyio.create_task_group() as tasks:
            for lane in lanes:
                tasks.start_soon(self._drain, lane)
        await self._commit([lane.partition for lane in lanes])
        for lane in lanes:
            lane.close()
            self._lanes.pop(lane.partition, None)
            self._paused.discard(lane.partition)

    async def _drain(self, lane: Lane) -> None:
        if not await lane.drain(self._settings.drain_seconds):
            log.warning("lane.cut_off", partition=lane.partition.partition, in_flight=lane.backlog)
