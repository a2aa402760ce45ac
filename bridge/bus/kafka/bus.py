"""One Kafka cluster as the flows see it: the ports of `bus/protocol.py`, each opened by its module.

Promises that whatever was opened is closed within a deadline when its block ends. It holds no connection itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from bridge.bus.kafka import admin, group, producer, reader, tail
from bridge.bus.kafka.connection import Connection
from bridge.bus.kafka.settings import KafkaSettings
from bridge.bus.protocol import Admin, GroupConsumer, PartitionReader, PartitionsHook, Producer, TailReader


class KafkaBus:
    """The bus over aiokafka. Reads secrets and certificates at once: `Misconfigured` where it can't."""

    def __init__(self, settings: KafkaSettings, *, config_file: str = "the configuration") -> None:
        self._connection = Connection(settings, config_file=config_file)

    def producer(self, name: str) -> AbstractAsyncContextManager[Producer]:
        """A producer with connections and batches of its own."""
        return producer.opened(self._connection, name)

    def partition_reader(self) -> AbstractAsyncContextManager[PartitionReader]:
        """A reader for stretches of partitions."""
        return reader.opened(self._connection)

    def group(
        self, group_id: str, topics: Sequence[str], *, on_assigned: PartitionsHook, on_revoked: PartitionsHook
    ) -> AbstractAsyncContextManager[GroupConsumer]:
        """A member of a group."""
        return group.opened(self._connection, group_id, topics, group.Hooks(on_assigned, on_revoked))

    def tail(self, topic: str, *, from_beginning: bool) -> AbstractAsyncContextManager[TailReader]:
        """A reader of the whole topic."""
        return tail.opened(self._connection, topic, from_beginning=from_beginning)

    def admin(self) -> AbstractAsyncContextManager[Admin]:
        """A client for topics."""
        return admin.opened(self._connection)
