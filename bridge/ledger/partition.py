"""One ledger partition as its lane sees it: the fence, the reading, the group commit, and what makes a claim count.

Promises that every record it reports as written is acknowledged by all in-sync replicas and folded into the state, in
the order of the log; that a claim it reports as counted stands directly behind everything the lane had seen; and that
nothing is reported after the lane was succeeded. What to write, and when, is left to the lane.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import anyio
import msgspec

from bridge.bus.protocol import PartitionReader, Position, Producer, TopicPartition
from bridge.bus.protocol import Record as BusRecord
from bridge.ledger import records
from bridge.ledger.records import Deferred, Fence, Record, Sending, Settled
from bridge.ledger.state import LedgerState, Verdict
from bridge.model.errors import Broken, Poison, Unavailable
from bridge.runtime.crashpoints import reached

_RECALLS = 3

Claimed: TypeAlias = Literal["counted", "contested"]


class Ended(Exception):
    """Not an error, but the normal end of an owner that was succeeded.

    The lane no longer owns its partition, or cannot prove that it does: it must stop, without a dial.
    """


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a ledger partition's writer."""

    max_batch_records: int = 256
    max_waiting_writes: int = 4096
    max_recent_results: int = 2000
    """Results kept in memory for duplicates that come soon; older ones are read again."""
    retry_seconds: float = 0.25
    """Pause before records without an acknowledgement are written again."""


class Tombstone(NamedTuple):
    """Erases what stands under a key."""

    key: bytes


class _Write:
    """One record (or tombstone) on its way."""

    __slots__ = ("claim", "done", "key", "offset", "record", "value")

    def __init__(self, item: Record | Tombstone) -> None:
        self.record = None if isinstance(item, Tombstone) else item
        self.key = item.key if isinstance(item, Tombstone) else records.key_of(item)
        self.value = None if self.record is None else records.encode(self.record)
        self.done = anyio.Event()
        self.offset: int | None = None
        self.claim: Claimed | None = None


class LedgerPartition:
    """The lane's hand on its ledger partition. Open it with `opened`; all writes go through one group commit."""

    def __init__(
        self,
        partition: TopicPartition,
        producer: Producer,
        reader: PartitionReader,
        *,
        owner: str,
        settings: LedgerSettings,
        known: LedgerState | None = None,
    ) -> None:
        self.partition = partition
        self.state = LedgerState(owner, known)
        self.ended: str | None = None
        self.records_read = 0
        """In front of the fence, by all tries to open."""
        self._producer = producer
        self._reader = reader
        self._settings = settings
        self._waiting: deque[_Write] = deque()
        self._work = anyio.Event()
        self._recent: OrderedDict[str, Settled] = OrderedDict()
        self.on_foreign: Callable[[frozenset[str]], None] = lambda _: None
        """Told of command ids about which somebody else wrote something."""
        self.on_deferred: Callable[[Deferred], None] = lambda _: None
        """Told of a command that somebody else deferred: it is this lane's now."""
        self.on_append: Callable[[float], None] = lambda _: None
        """Told how many seconds each write to the log took."""
        self.on_gap: Callable[[int], None] = lambda _: None
        """Told of the length of each gap."""

    async def open(self, *, at_ms: int) -> None:
        """Write the fence, read everything up to it, and then what others have written behind it meanwhile.

        After this the state is complete: a record that compaction took from the first reading stands behind the fence
        once more, as a later copy, and the second reading finds it there. What is known already, from an earlier try
        or an earlier ownership, is not read again.

        Raises:
            Unavailable: Kafka does not take the fence or does not give the records in time. It may be opened again.
            Ended: a later fence was read already.
        """
        fence = Fence(self.state.owner, at_ms)
        reached("before_fence")
        position = await self._producer.publish(
            self.partition.topic,
            key=records.key_of(fence),
            value=records.encode(fence),
            partition=self.partition.partition,
        )
        reached("after_fence")
        if self.state.next_offset > position.offset:  # the log that was read is no more
            self.state = LedgerState(self.state.owner)
        async for batch in self._reader.read(self.partition, start=self.state.next_offset, end=position.offset):
            self.records_read += len(batch)
            for record in batch:
                self._fold(record)
        self.state.fold(fence, position.offset)
        # An earlier try's fence may stand in the log as well; this one was waited for.
        self.state.epoch = position.offset
        await self._look_behind_the_fence()

    async def _look_behind_the_fence(self) -> None:
        key = self._probe_key
        position = await self._producer.publish(
            self.partition.topic, key=key, value=None, partition=self.partition.partition
        )
        if position.offset > self.state.next_offset:
            await self._fold_gap(self.state.next_offset, position.offset)
        self._erase(key, position.offset)

    @property
    def _probe_key(self) -> bytes:
        return f"probe/{self.state.owner}".encode()

    async def write(self, *items: Record | Tombstone) -> None:
        """Append records, in order; returns when all are acknowledged and folded.

        Raises:
            Ended: the lane was succeeded. The records may be in the log nevertheless.
        """
        await self._commit([_Write(item) for item in items])

    async def claim(self, sending: Sending | Settled) -> Claimed:
        """Append a claim. `counted` is the permission to dial, once. `contested`: somebody else claimed the id too.

        Or append the decision to end a command without a dial; `counted` is the permission to say so.

        Raises:
            Ended: the lane was succeeded, or cannot prove that it was not.
        """
        write = _Write(sending)
        await self._commit([write])
        if write.claim is None:
            raise Broken(f"claim at offset {write.offset} was acknowledged but not judged")
        return write.claim

    async def probe(self) -> None:
        """See what others may have written: a tombstone that erases nothing, and with it whatever stands in front of it.

        Raises:
            Ended: as for `write`.
        """
        await self._commit([_Write(Tombstone(self._probe_key))])

    async def testify(self, record: Settled) -> None:
        """Append what a dial came to although the lane may be no more: evidence for whoever owns the partition now.

        Raises:
            Unavailable: not acknowledged in time; it may be in the log nevertheless.
        """
        await self._producer.publish(
            self.partition.topic,
            key=records.key_of(record),
            value=records.encode(record),
            partition=self.partition.partition,
        )

    async def recall(self, command_id: str) -> Settled:
        """The stored end of a finished command.

        Raises:
            Ended: the lane was succeeded meanwhile.
            Broken: the log does not hold what the lane knows to be there.
        """
        for _ in range(_RECALLS):
            recent = self._recent.get(command_id)
            if recent is not None:
                return recent
            entry = self.state.entry(command_id)
            if entry is None or entry.archived is None:
                break
            offset = entry.archived.offset
            for record in await self._read_patiently(offset, offset + 1):
                found = self._decode(record, record.value or b"null")
                if isinstance(found, Settled) and found.command_id == command_id:
                    return found
            await self.probe()  # a later copy has made compaction take this one: find out where it stands
        raise Broken(f"{self.partition}: the stored result of a finished command is not in the log")

    async def run(self) -> None:
        """The group commit. Runs until cancelled or until the lane has ended; one such task a partition."""
        try:
            while True:
                while not self._waiting:
                    self._work = anyio.Event()
                    await self._work.wait()
                batch = [
                    self._waiting.popleft() for _ in range(min(len(self._waiting), self._settings.max_batch_records))
                ]
                await self._store(batch)
        except Ended as end:
            self._end(str(end))

    def close(self, reason: str) -> None:
        """Refuse further writes and release everybody who waits for one."""
        self._end(reason)

    # -- the group commit -------------------------------------------------------------------------------------------

    async def _commit(self, writes: Sequence[_Write]) -> None:
        if self.ended is not None:
            raise Ended(self.ended)
        if len(self._waiting) + len(writes) > self._settings.max_waiting_writes:
            raise Broken(f"more than {self._settings.max_waiting_writes} ledger writes wait in {self.partition}")
        self._waiting.extend(writes)
        self._work.set()
        for write in writes:
            await write.done.wait()
            if write.offset is None:
                raise Ended(self._why())

    async def _store(self, batch: list[_Write]) -> None:
        """Write a batch until each record of it is acknowledged. A time-out is no acknowledgement: write again."""
        pending = batch
        try:
            while pending:
                started = anyio.current_time()
                answers = await self._producer.publish_batch(
                    self.partition.topic, self.partition.partition, [(write.key, write.value, ()) for write in pending]
                )
                self._refuse_poison(answers)
                self.on_append(anyio.current_time() - started)
                acknowledged = [(a.offset, w) for a, w in zip(answers, pending, strict=True) if isinstance(a, Position)]
                for offset, write in sorted(acknowledged, key=lambda pair: pair[0]):
                    await self._account(offset, write)
                pending = [w for a, w in zip(answers, pending, strict=True) if not isinstance(a, Position)]
                if pending:
                    await anyio.sleep(self._settings.retry_seconds)
        finally:
            for write in pending:
                write.done.set()

    def _refuse_poison(self, answers: Sequence[Position | Unavailable | Poison]) -> None:
        """A record that no broker takes would be written again for ever. Limits of the configuration rule it out."""
        poison = next((answer for answer in answers if isinstance(answer, Poison)), None)
        if poison is not None:
            raise Broken(f"{self.partition} does not take a record of ours: {poison}")

    async def _account(self, offset: int, write: _Write) -> None:
        """Take in one acknowledged record: first whatever stands between it and what the lane has seen."""
        against: frozenset[str] = frozenset()
        if offset > self.state.next_offset:
            against = await self._fold_gap(self.state.next_offset, offset)
        record = write.record
        if isinstance(record, Sending) or (isinstance(record, Settled) and record.is_decision):
            # Not only the gap in front of this claim speaks: an earlier write's gap may have told of the id as well.
            counts = record.command_id not in against and self.state.may_count(record)
            write.claim = "counted" if counts else "contested"
        if write.record is None:
            self._erase(write.key, offset)
        else:
            self.state.fold(write.record, offset)
            self._remember(write.record)
        write.offset = offset
        write.done.set()

    def _remember(self, record: Record) -> None:
        if isinstance(record, Settled) and record.result is not None:
            self._recent[record.command_id] = record
            if len(self._recent) > self._settings.max_recent_results:
                self._recent.popitem(last=False)

    async def _fold_gap(self, start: int, end: int) -> frozenset[str]:
        """Read what stands in `[start, end)`, judge it and fold it in; ids of which a claim does not count now.

        Raises:
            Ended: a foreign fence, or an offset of which nothing is left.
        """
        self.on_gap(end - start)
        expected = start
        foreign: set[str] = set()
        against: set[str] = set()
        for record in await self._read_patiently(start, end):
            if record.offset != expected:
                break
            expected += 1
            verdict = self._judge(record)
            foreign |= verdict.foreign
            against |= verdict.against
            self._fold(record)
        if expected != end:
            raise Ended(f"offset {expected} in front of an own record has been compacted away")
        if foreign:
            self.on_foreign(frozenset(foreign))
        return frozenset(against)

    async def _read_patiently(self, start: int, end: int) -> list[BusRecord]:
        """Read a gap, again and again while Kafka is away: there is nothing better to do with a claim in hand."""
        while True:
            try:
                batches = self._reader.read(self.partition, start=start, end=end)
                return [record async for batch in batches for record in batch]
            except Unavailable:
                await anyio.sleep(self._settings.retry_seconds)

    def _judge(self, record: BusRecord) -> Verdict:
        """Whose ids somebody else wrote about. Raises `Ended` where the record ends the lane."""
        if record.value is None:
            return Verdict()
        found = self._decode(record, record.value)
        verdict = self.state.judge(found, record.offset)
        if verdict.ended is not None:
            raise Ended(verdict.ended)
        if isinstance(found, Deferred) and found.epoch != self.state.epoch:
            self.on_deferred(found)
        return verdict

    def _fold(self, record: BusRecord) -> None:
        if record.value is None:
            self._erase(record.key or b"", record.offset)
        else:
            self.state.fold(self._decode(record, record.value), record.offset)

    def _erase(self, key: bytes, offset: int) -> None:
        parts = records.parts_of(key)
        if parts is not None:
            self.state.erase(parts, offset)
        self.state.next_offset = max(self.state.next_offset, offset + 1)

    def _decode(self, record: BusRecord, value: bytes) -> Record:
        try:
            return records.decode(value)
        except msgspec.DecodeError as error:
            where = f"{self.partition.topic}/{self.partition.partition} offset {record.offset}"
            raise Broken(f"{where}: not a ledger record of this version: {error}") from error

    def _why(self) -> str:
        return self.ended or "the lane has ended"

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
        while self._waiting:
            self._waiting.popleft().done.set()
