"""What the tests of the ledger partition share: owners of one partition, a raw producer behind their backs, the log.

Each owner has a producer of its own, as each process has. What must hold is left to the tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from bridge.bus.protocol import Bus, PartitionReader, Position, Producer, TopicPartition
from bridge.bus.protocol import Record as BusRecord
from bridge.ledger import records
from bridge.ledger.partition import LedgerPartition, LedgerSettings
from bridge.ledger.records import Deferred, Record, Sending, Settled
from bridge.model.errors import Unavailable
from tests.contract.bus_support import make_topic
from tests.support.ledger_values import sending, settled

QUICK = LedgerSettings(retry_seconds=0.05)
COMPACTED = {"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000"}


class Watched:
    """An owner with what it told its lane."""

    def __init__(self, ledger: LedgerPartition) -> None:
        self.ledger = ledger
        self.foreign: list[str] = []
        self.gaps: list[int] = []
        self.deferred: list[Deferred] = []
        ledger.on_deferred = self.deferred.append
        ledger.on_foreign = lambda ids: self.foreign.extend(sorted(ids))
        ledger.on_gap = self.gaps.append

    @property
    def epoch(self) -> int:
        """Where its fence stands."""
        return self.ledger.state.epoch

    def claim_of(self, command_id: str, attempt: int = 1) -> Sending:
        """A claim as this owner writes it."""
        return sending(command_id, attempt, epoch=self.epoch)

    def end_of(self, command_id: str, attempt: int = 1) -> Settled:
        """Its end."""
        return settled(command_id, attempt, epoch=self.epoch)


class Partition:
    """One ledger partition, and whoever works on it."""

    def __init__(self, bus: Bus, topic: str, stack: AsyncExitStack, *, raw: Producer, reader: PartitionReader) -> None:
        self.bus = bus
        self.place = TopicPartition(topic, 0)
        self.reader = reader
        self.tasks: TaskGroup | None = None
        self.settings = QUICK
        self.stack = stack
        self._raw = raw

    async def owner(
        self, name: str, *, settings: LedgerSettings = QUICK, reader: PartitionReader | None = None, runs: bool = True
    ) -> Watched:
        """A new owner that has opened the partition, and writes."""
        ledger = await self.closed(name, settings=settings, reader=reader)
        await ledger.open(at_ms=1)
        assert self.tasks is not None
        if runs:
            self.tasks.start_soon(ledger.run)
        return Watched(ledger)

    async def closed(
        self, name: str, *, settings: LedgerSettings = QUICK, reader: PartitionReader | None = None
    ) -> LedgerPartition:
        """One that has not opened it yet."""
        producer = await self.stack.enter_async_context(self.bus.producer(name))
        return LedgerPartition(self.place, producer, reader or self.reader, owner=name, settings=settings)

    async def inject(self, *written: Record | BusRecord) -> list[int]:
        """Append records as somebody else, or copies of what stands there; their offsets."""
        items = [
            (each.key, each.value, ())
            if isinstance(each, BusRecord)
            else (records.key_of(each), records.encode(each), ())
            for each in written
        ]
        answers = await self._raw.publish_batch(self.place.topic, 0, items)
        assert all(isinstance(each, Position) for each in answers), answers
        return [each.offset for each in answers if isinstance(each, Position)]

    async def log(self) -> list[BusRecord]:
        """Everything that stands in the partition."""
        end = await self._raw.publish(self.place.topic, key=b"a mark of the test", value=None, partition=0)
        batches = self.reader.read(self.place, start=0, end=end.offset)
        return [each async for batch in batches for each in batch if each.key != b"a mark of the test"]

    async def written(self) -> list[Record | bytes]:
        """The same, decoded; a tombstone by its key."""
        return [(each.key or b"") if each.value is None else records.decode(each.value) for each in await self.log()]


@asynccontextmanager
async def partition_of(bus: Bus, topic: str) -> AsyncIterator[Partition]:
    """A new partition; what its owners run ends with the block."""
    await make_topic(bus, topic, config=COMPACTED)
    async with (
        AsyncExitStack() as stack,
        bus.producer("raw") as raw,
        bus.partition_reader() as reader,
    ):
        found = Partition(bus, topic, stack, raw=raw, reader=reader)
        async with anyio.create_task_group() as found.tasks:
            yield found
            found.tasks.cancel_scope.cancel()


class Hiding:
    """A reader that does not show some offsets, as after compaction."""

    def __init__(self, reader: PartitionReader, hidden: Collection[int]) -> None:
        self._reader = reader
        self._hidden = hidden

    async def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[BusRecord]]:
        """What is left."""
        async for batch in self._reader.read(partition, start=start, end=end):
            yield [each for each in batch if each.offset not in self._hidden]


class Failing:
    """A reader that breaks off once when it is told to, after so many records."""

    def __init__(self, reader: PartitionReader) -> None:
        self._reader = reader
        self.after: int | None = None

    async def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[BusRecord]]:
        """All of it, or a part and an error."""
        found = [each async for batch in self._reader.read(partition, start=start, end=end) for each in batch]
        after, self.after = self.after, None
        yield found[:after]
        if after is not None:
            raise Unavailable("the broker is away")
