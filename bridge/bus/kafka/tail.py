"""Reads a whole topic on this replica, without a group, from its end or its beginning, new partitions included.

Promises that no record written after `opened` was entered is missed; after a log was cut or lost, records may come
twice. Which records matter is left to the caller, who should look at the key first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiokafka
from aiokafka import AIOKafkaConsumer

from bridge.bus.kafka import internals
from bridge.bus.kafka.connection import Connection, milliseconds, unavailable
from bridge.bus.kafka.frontier import Frontier
from bridge.bus.kafka.records import flattened, make_consumer
from bridge.bus.protocol import Record

RATE_WINDOW_SECONDS: Final = 1.0


class Pacer:
    """Pure: whether to pause in front of a fetch.

    While records trickle an answer costs more than the records in it. So above a rate fewer and fuller answers are
    better; below it a pause would only be latency.
    """

    def __init__(self, *, pause_seconds: float, above_records_per_second: float, now: float) -> None:
        self._pause_seconds = pause_seconds
        self._above = above_records_per_second
        self._window_start = now
        self._records = 0
        self._busy = False
        self._more = False

    def count(self, records: int, *, max_records: int, now: float) -> None:
        """Take in what a fetch brought; a full one has left more in the buffer, for which nobody needs to wait."""
        self._more = records >= max_records
        self._records += records
        elapsed = now - self._window_start
        if elapsed >= RATE_WINDOW_SECONDS:
            self._busy = self._records / elapsed > self._above
            self._window_start, self._records = now, 0
        elif self._records > self._above * RATE_WINDOW_SECONDS:
            self._busy = True

    def pause_seconds(self) -> float:
        """How long to wait before the next fetch."""
        return self._pause_seconds if self._busy and not self._more else 0.0


class KafkaTailReader:
    """All partitions of a topic. Open it with `opened`."""

    def __init__(self, consumer: AIOKafkaConsumer, connection: Connection, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._frontiers: dict[aiokafka.TopicPartition, Frontier] = {}
        self._known_ends: Mapping[aiokafka.TopicPartition, int] = {}
        self._last_answer = time.monotonic()
        self._pacer = Pacer(
            pause_seconds=connection.settings.tail_pause_seconds,
            above_records_per_second=connection.settings.tail_pause_above_records_per_second,
            now=time.monotonic(),
        )

    async def poll(self, *, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records."""
        self._take_new_partitions()
        pause = min(self._pacer.pause_seconds(), timeout_seconds)
        if pause:
            await asyncio.sleep(pause)
        with unavailable(f"tail {self._topic}"):
            fetched: dict[Any, Any] = await self._consumer.getmany(
                timeout_ms=milliseconds(timeout_seconds - pause), max_records=max_records
            )
            # Without waiting: whether anything is buffered that came in while the time-out ran out.
            fetched = fetched or await self._consumer.getmany(timeout_ms=0, max_records=max_records)
        for partition, frontier in self._frontiers.items():
            frontier.observe(self._state(partition), nothing_buffered=not fetched)
        records = flattened(fetched)
        self._pacer.count(len(records), max_records=max_records, now=time.monotonic())
        return records

    def lag(self) -> int:
        """Offsets below the end as it is known here that were not passed yet; some may hold no record any more."""
        return sum(
            max(0, max(self._known_ends.get(partition, 0), self._state(partition).highwater or 0) - frontier.read_to)
            for partition, frontier in self._frontiers.items()
        )

    def seconds_since_contact(self) -> float:
        """How long ago any broker last sent anything to this reader."""
        self._last_answer = max(self._last_answer, internals.last_answer(self._consumer))
        return time.monotonic() - self._last_answer

    async def start(self, *, from_beginning: bool) -> None:
        """Take all partitions and resolve the position of each."""
        partitions = self._partitions()
        self._consumer.assign(partitions)
        if not from_beginning:
            await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            self._frontiers[partition] = Frontier(await self._consumer.position(partition))
        self._known_ends = await self._consumer.end_offsets(partitions)

    def _partitions(self) -> list[aiokafka.TopicPartition]:
        numbers: set[int] = self._consumer.partitions_for_topic(self._topic) or set()
        return [aiokafka.TopicPartition(self._topic, number) for number in sorted(numbers)]

    def _take_new_partitions(self) -> None:
        """`assign` forgets every position (row 18), so put them back; what is new is read from its first record."""
        partitions = [*self._frontiers, *(each for each in self._partitions() if each not in self._frontiers)]
        if len(partitions) == len(self._frontiers):
            return
        positions = {each: self._state(each).position for each in self._frontiers}
        if None in positions.values():  # just being looked up again; the next poll will do
            return
        self._consumer.assign(partitions)
        for partition in partitions:
            self._frontiers.setdefault(partition, Frontier(0))
            self._consumer.seek(partition, positions.get(partition, 0))

    def _state(self, partition: aiokafka.TopicPartition) -> internals.PartitionState:
        return internals.partition_state(self._consumer, partition)


@asynccontextmanager
async def opened(connection: Connection, topic: str, *, from_beginning: bool) -> AsyncIterator[KafkaTailReader]:
    """A tail for the length of the block; every position is resolved when it is entered."""
    settings = connection.settings
    make: Callable[[], AIOKafkaConsumer] = lambda: make_consumer(  # noqa: E731
        connection, f"tail-{topic}", fetch_max_wait_seconds=settings.fetch_max_wait_seconds
    )
    consumer = await connection.started(make)
    try:
        reader = KafkaTailReader(consumer, connection, topic)
        with unavailable(f"tail {topic}"):
            async with asyncio.timeout(settings.start_timeout_seconds):
                await internals.topic_known(consumer, topic)
                await reader.start(from_beginning=from_beginning)
        yield reader
    finally:
        await connection.stop(consumer)
