"""Reads stretches of partitions, for the ledger: a consumer of its own for each stretch, without a group.

Promises every record that is left in the stretch, in order, and an end, also where compaction took the last ones; any
number of stretches may be read at once. What the records mean is left to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiokafka
import anyio
from aiokafka import AIOKafkaConsumer

from bridge.bus.kafka import internals
from bridge.bus.kafka.connection import Connection, milliseconds, unavailable
from bridge.bus.kafka.frontier import Frontier
from bridge.bus.kafka.records import flattened, make_consumer
from bridge.bus.protocol import Record, TopicPartition
from bridge.model.errors import Unavailable

MAX_RECORDS: Final = 500

# What is read stands there already, so a fetch is answered at once; only one that finds nothing waits for this.
FETCH_MAX_WAIT_SECONDS: Final = 0.02
STEP_SECONDS: Final = 0.05


class KafkaPartitionReader:
    """Open it with `opened`; leaving the block ends readings that were given up half-way."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._consumers: set[AIOKafkaConsumer] = set()
        self._stopping: set[asyncio.Task[None]] = set()

    async def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Every record of `[start, end)` that is left."""
        if start >= end:
            return
        consumer = await self._open(partition)
        try:
            consumer.seek(aiokafka.TopicPartition(*partition), start)
            async for batch in self._batches(consumer, partition, start, end):
                yield batch
        finally:
            await self._close(consumer)

    async def close(self) -> None:
        """End what is still being read, and wait for what is just being closed in a task of somebody else's."""
        while self._consumers:
            await self._close(next(iter(self._consumers)))
        with anyio.CancelScope(shield=True):
            while self._stopping:
                await asyncio.wait(self._stopping)

    async def _batches(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[Sequence[Record]]:
        frontier = Frontier(start)
        seconds = self._connection.settings.read_timeout_seconds
        deadline = asyncio.get_running_loop().time() + seconds
        while frontier.read_to < end:
            before = frontier.read_to
            fetched = await self._fetch(consumer, partition, frontier)
            # After a reset to the earliest record (start below it, or a log that was cut) offsets may go back.
            batch = [record for record in fetched if before <= record.offset < end]
            if batch:
                yield batch
            now = asyncio.get_running_loop().time()
            if frontier.read_to > before:
                deadline = now + seconds
            elif now > deadline:
                where = f"{partition.topic}/{partition.partition}"
                raise Unavailable(f"read {where}: nothing from offset {before} (of {end}) within {seconds:g} s")

    async def _fetch(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, frontier: Frontier
    ) -> Sequence[Record]:
        """One step. The look without waiting makes sure that an answer that has just come in is not overlooked."""
        with unavailable(f"read {partition.topic}/{partition.partition}"):
            fetched: dict[Any, Any] = await consumer.getmany(
                timeout_ms=milliseconds(STEP_SECONDS), max_records=MAX_RECORDS
            )
            fetched = fetched or await consumer.getmany(timeout_ms=0, max_records=MAX_RECORDS)
        frontier.observe(internals.partition_state(consumer, partition), nothing_buffered=not fetched)
        return flattened(fetched)

    async def _open(self, partition: TopicPartition) -> AIOKafkaConsumer:
        def make() -> AIOKafkaConsumer:
            name = f"reader-{partition.topic}-{partition.partition}"
            consumer = make_consumer(self._connection, name, fetch_max_wait_seconds=FETCH_MAX_WAIT_SECONDS)
            consumer.assign([aiokafka.TopicPartition(*partition)])
            return consumer

        consumer = await self._connection.started(make)
        self._consumers.add(consumer)
        return consumer

    async def _close(self, consumer: AIOKafkaConsumer) -> None:
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            task = asyncio.create_task(self._connection.stop(consumer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            with anyio.CancelScope(shield=True):
                await task


@asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator[KafkaPartitionReader]:
    """A reader for the length of the block."""
    reader = KafkaPartitionReader(connection)
    try:
        yield reader
    finally:
        await reader.close()
