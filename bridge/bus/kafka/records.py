"""From aiokafka's records to ours, and the one way all consumers here are made.

Promises a flat list in partition order. Which partitions, from where, and when to stop is left to the readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from bridge.bus.kafka.connection import Connection, milliseconds
from bridge.bus.protocol import Headers, Record


def flattened(fetched: Mapping[Any, Sequence[Any]]) -> list[Record]:
    """What `getmany` gave, partition by partition."""
    return [
        Record(each.topic, each.partition, each.offset, each.key, each.value, _headers(each.headers), each.timestamp)
        for records in fetched.values()
        for each in records
    ]


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> Headers:
    """A header may stand there without a value; here each has one."""
    return [(name, content or b"") for name, content in headers]


def make_consumer(
    connection: Connection, name: str, *, fetch_max_wait_seconds: float, **more: object
) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself and falls back to the earliest record, never past one."""
    return AIOKafkaConsumer(
        **connection.arguments(name),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
        fetch_max_wait_ms=milliseconds(fetch_max_wait_seconds),
        max_partition_fetch_bytes=connection.settings.max_partition_fetch_bytes,
        **more,
    )
