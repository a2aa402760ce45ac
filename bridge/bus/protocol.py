"""What the flows may ask of Kafka: publish and wait, read a stretch of a partition, consume as a group, tail.

Every call has a deadline of its own inside and raises `Unavailable` when it passes; after that nobody knows whether
the thing happened. Cancelling a call leaves the adapter consistent, but a record under way may still be stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeAlias

from bridge.model.errors import Poison, Unavailable

Headers: TypeAlias = Sequence[tuple[str, bytes]]
BatchItem: TypeAlias = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of one record among several."""


class TopicPartition(NamedTuple):
    """One partition."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where a record was stored."""

    partition: int
    offset: int


class Record(NamedTuple):
    """One record as it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0


class Producer(Protocol):
    """Writes with acks=all."""

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Position:
        """Store one record; returns after the acknowledgement of all in-sync replicas.

        Calls made concurrently are batched; those of one caller made in order to one partition are stored in order.

        Raises:
            Unavailable: no acknowledgement in time. The record may have been stored, or may be stored later.
            Poison: the record can never be stored (larger than the broker takes).
            Broken: the producer is dead and stays so; the process must end.
        """
        ...

    async def publish_batch(
        self, topic: str, partition: int, items: Sequence[BatchItem]
    ) -> list[Position | Unavailable | Poison]:
        """Store several records of one partition: handed over in order and in one go, then waited for together.

        Says for each item what `publish` would have returned or raised. Acknowledged items have ascending offsets, and
        contiguous ones as long as they fit into one batch and nobody else writes. An item that is `Unavailable` may
        have been stored, may be stored later, and may be stored *several times*: a batch whose acknowledgement was lost
        is tried again inside, and nothing tells the copies apart. A later item may be stored where an earlier is not.

        Raises:
            Broken: as for `publish`.
        """
        ...


class PartitionReader(Protocol):
    """Reads a stretch of one partition, for the ledger."""

    def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Every record with `start <= offset < end` that compaction has left, in order, in batches of bounded size.

        `start` may lie before the first offset that is left. Returns when everything below `end` has been read, also
        where the last offsets are gone.

        Raises:
            Unavailable: nothing came for the deadline of one step.
        """
        ...


class Look(NamedTuple):
    """An answer of a broker. Where nothing is left, all that was acknowledged before it has been polled."""

    at: float
    """Wall time, in seconds since 1970."""
    nothing_left: bool


class GroupConsumer(Protocol):
    """A member of a consumer group. One task polls; others may pause, resume and commit."""

    async def poll(self, *, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records of assigned, unpaused partitions; empty after `timeout_seconds`, also amid a rebalance.

        Nothing of a partition comes before `on_assigned` has returned or after `on_revoked` was called. Call it all
        the time, with everything paused if need be: a member that doesn't poll leaves the group.

        Raises:
            Unavailable: the group or a topic refuses us; polling again may help.
            Broken: this member can never get partitions again; the process must end.
            Exception: what a hook raised, unchanged.
        """
        ...

    def pause(self, partition: TopicPartition) -> None:
        """Deliver nothing of this partition until `resume`. What was prefetched is fetched again then."""
        ...

    def resume(self, partition: TopicPartition) -> None:
        """Deliver again. A partition that is no longer assigned is ignored."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read of each partition.

        Raises:
            Unavailable: not confirmed in time, or the partition has another owner by now.
        """
        ...

    def last_look(self, partition: TopicPartition) -> Look | None:
        """When a broker last answered for this partition, and whether all it had has been polled. None: not yet."""
        ...

    def seconds_since_contact(self) -> float:
        """How long ago any broker last sent anything; heartbeats keep it at a few seconds while Kafka is there."""
        ...


class TailReader(Protocol):
    """Reads all partitions of a topic without a group, on every replica, from its end or its beginning."""

    async def poll(self, *, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records; empty after `timeout_seconds`. Partitions added to the topic are picked up, none is lost."""
        ...

    def lag(self) -> int:
        """How many records of this topic, as far as known here, have not been returned yet; at most, with compaction.

        Counts at least up to the ends known on entering: 0 means that what stood there then has been returned.
        """
        ...

    def seconds_since_contact(self) -> float:
        """How long ago any broker last sent anything; fetches keep it below a second while Kafka is there."""
        ...


PartitionsHook: TypeAlias = Callable[[frozenset[TopicPartition]], Awaitable[None]]


class TopicInfo(NamedTuple):
    """A topic as the cluster has it. `config` holds only what was asked for and is known."""

    partitions: int
    replication_factor: int
    config: Mapping[str, str]


class TopicAdmin(Protocol):
    """Topics: look and create."""

    async def describe(self, topics: Sequence[str]) -> Mapping[str, TopicInfo]:
        """Those of `topics` that exist.

        Raises:
            Unavailable: no answer in time.
        """
        ...

    async def create(self, topic: str, *, partitions: int, replication_factor: int, config: Mapping[str, str]) -> None:
        """Create a topic; one that exists already is left as it is.

        Raises:
            Unavailable: no answer in time, or the cluster refuses (the message says why).
        """
        ...


class Admin(TopicAdmin, Protocol):
    """Topics, and a look at groups."""

    async def has_members(self, group_id: str) -> bool:
        """Whether anybody is in this consumer group: at work, or just gathering for it. No such group: nobody.

        Raises:
            Unavailable: no answer in time, the cluster refuses, or it cannot say so of this group.
        """
        ...


class Bus(Protocol):
    """One cluster. Everything opened here lives as long as its `async with` block and closes within a deadline."""

    def producer(self, name: str) -> AbstractAsyncContextManager[Producer]:
        """A producer of its own, so that one flow's stuck batches don't hold up another's."""
        ...

    def partition_reader(self) -> AbstractAsyncContextManager[PartitionReader]:
        """A reader for stretches of partitions."""
        ...

    def group(
        self, group_id: str, topics: Sequence[str], *, on_assigned: PartitionsHook, on_revoked: PartitionsHook
    ) -> AbstractAsyncContextManager[GroupConsumer]:
        """Join a group. `on_revoked` is awaited before partitions go elsewhere, and once more by hand before leaving.

        Entering doesn't wait for partitions. `on_assigned` runs in a task of its own, with heartbeats going on; where
        the partitions are taken away before it returned it is cancelled, and `on_revoked` follows for them. Every
        rebalance takes all partitions and gives them anew. `on_revoked` must be done well within the rebalance
        time-out: after that others own the partitions nevertheless. Neither is called with nothing.

        Offsets start at the group's commit, else at the earliest record. Partitions arrive unpaused. Topics that are
        consumed together are assigned together (range assignment over equal partition counts).
        """
        ...

    def tail(self, topic: str, *, from_beginning: bool) -> AbstractAsyncContextManager[TailReader]:
        """Read a whole topic on this replica.

        On entering, every partition's position is resolved: no record written
        after that is missed.
        """
        ...

    def admin(self) -> AbstractAsyncContextManager[Admin]:
        """A client for topics."""
        ...
