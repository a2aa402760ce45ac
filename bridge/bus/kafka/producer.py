"""The producer: acks=all, neither idempotent nor transactional, each call under its own deadline.

Promises that a returned position was acknowledged by all in-sync replicas, and that nothing waits longer than
`publish_timeout_seconds`. A deadline proves nothing: aiokafka tries a batch again whose answer it missed, so a record
may be stored late, and more than once; telling copies apart is left to the readers (ids, the ledger's rules).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from bridge.bus.kafka import internals
from bridge.bus.kafka.connection import Connection, describe, milliseconds
from bridge.bus.protocol import BatchItem, Headers, Position
from bridge.model.errors import Broken, Poison, Unavailable

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class KafkaProducer:
    """One connection's worth of publishing. Open it with `opened`."""

    def __init__(self, client: AIOKafkaProducer, connection: Connection) -> None:
        self._client = client
        self._timeout_seconds = connection.settings.publish_timeout_seconds
        self._max_record_bytes = connection.settings.max_record_bytes

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Position:
        """Store one record.

        Cancelling is safe without a shield: `send` waits only in front of the place where it appends the record to a
        batch, so a cancelled one has left nothing there; after that only the wait for the answer is cancelled.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if partition is not None:
                    await self._check_partition(topic, partition)
                stored = await (await self._client.send(topic, value, key, partition, None, headers))
        except (KafkaError, OSError) as error:
            raise self._translated(error, topic, (key, value, headers)) from error
        return Position(stored.partition, stored.offset)

    async def publish_batch(
        self, topic: str, partition: int, items: Sequence[BatchItem]
    ) -> list[Position | Unavailable | Poison]:
        """Hand all records over in order and in one go, then wait for all answers."""
        handed: list[asyncio.Future[Any] | Exception] = []
        missing: Exception = TimeoutError()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._check_partition(topic, partition)
                for item in items:
                    # One by one: what was handed over must be known when this is cut short.
                    handed.append(await self._hand_over(topic, partition, item))  # noqa: PERF401
                if waiting := [each for each in handed if isinstance(each, asyncio.Future)]:
                    await asyncio.wait(waiting)
        except (KafkaError, OSError, Unavailable) as error:
            missing = error
        finally:
            answers = [_settled(each, missing) for each in handed]
        answers += [missing] * (len(items) - len(handed))
        return [
            self._translated(answer, topic, item) if isinstance(answer, Exception) else answer
            for answer, item in zip(answers, items, strict=True)
        ]

    async def _hand_over(self, topic: str, partition: int, item: BatchItem) -> asyncio.Future[Any] | Exception:
        key, value, headers = item
        handed: asyncio.Future[Any] | Exception
        try:
            handed = await self._client.send(topic, value, key, partition, None, headers)
        except KafkaError as error:
            handed = error
        return handed

    async def _check_partition(self, topic: str, partition: int) -> None:
        """For this aiokafka has an assertion. It costs nothing once the topic is known."""
        if partition not in await self._client.partitions_for(topic):
            raise Unavailable(f"publish to {topic}/{partition}: the topic has no such partition, as far as known")

    def _translated(self, error: Exception, topic: str, item: BatchItem) -> Unavailable | Poison:
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, TOO_LARGE):
            allowed = f"at most {self._max_record_bytes} bytes, and what max.message.bytes of {topic} says"
            return Poison("$", found=f"a record of {_size_bytes(item)} bytes", allowed=allowed)
        if internals.sender_died(self._client):
            raise Broken(f"the task that writes to Kafka has ended: {describe(error)}") from error
        if isinstance(error, TimeoutError):
            return Unavailable(f"publish to {topic}: no acknowledgement within {self._timeout_seconds:g} s")
        return Unavailable(f"publish to {topic}: {describe(error)}")


def _settled(handed: asyncio.Future[Any] | Exception, missing: Exception) -> Position | Exception:
    """What became of a record. One whose answer is still out is left to itself; nobody will look at its future."""
    if not isinstance(handed, asyncio.Future):
        return handed
    if not handed.done():
        handed.cancel()
    if handed.cancelled():
        return missing
    error = handed.exception()
    if error is not None:
        return error if isinstance(error, Exception) else missing
    stored = handed.result()
    return Position(stored.partition, stored.offset)


def _size_bytes(item: BatchItem) -> int:
    key, value, headers = item
    return len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(text) for name, text in headers)


@asynccontextmanager
async def opened(connection: Connection, name: str) -> AsyncIterator[KafkaProducer]:
    """A producer for the length of the block. Leaving waits for batches under way, within the stop deadline."""
    settings = connection.settings
    client = await connection.started(
        lambda: AIOKafkaProducer(
            **connection.arguments(name),
            acks="all",
            enable_idempotence=False,
            max_batch_size=settings.max_batch_bytes,
            max_request_size=settings.max_record_bytes,
            linger_ms=milliseconds(settings.linger_seconds),
        )
    )
    try:
        yield KafkaProducer(client, connection)
    finally:
        await connection.stop(client)
