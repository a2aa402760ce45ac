"""What an owner knows when it has opened its partition: with nothing to go on from, and with what its process kept.

On both brokers. Whatever happened, it knows what somebody knows who read the whole log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

import anyio
import msgspec
import pytest

from bridge.bus.protocol import PartitionReader, TopicPartition
from bridge.bus.protocol import Record as BusRecord
from bridge.commands.sweep import Sweep, SweepSettings
from bridge.ledger import records
from bridge.ledger.partition import Ended, LedgerPartition, Tombstone
from bridge.ledger.records import Fence, Record
from bridge.ledger.state import LedgerState
from bridge.ledger.transitions import Entry, State
from tests.contract.bus_support import PATIENCE_SECONDS, bus_at
from tests.contract.ledger_support import Failing, Partition, Watched, partition_of
from tests.support.brokers import Broker
from tests.support.clock import HandClock
from tests.support.ledger_values import decision, deferred, not_sent, sending, settled, unsure

pytestmark = pytest.mark.anyio

MANY = 300


@pytest.fixture
async def partition(broker: Broker, topic_prefix: str) -> AsyncIterator[Partition]:
    """A new ledger partition on each of the brokers."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with partition_of(bus_at(broker.bootstrap), topic_prefix + "ledger") as found:
            yield found


def facts(state: LedgerState) -> dict[str, object]:
    """All that is known of each command."""
    return {name: _fields(entry) for name, entry in state.entries.items()}


def _fields(entry: Entry) -> dict[str, object]:
    values = {name: getattr(entry, name) for name in Entry.__slots__}
    return {
        name: msgspec.to_builtins(each) if isinstance(each, msgspec.Struct) else each for name, each in values.items()
    }


async def read_anew(partition: Partition, known: LedgerState) -> LedgerState:
    """What the same owner would know that has read the whole log as far as this one has."""
    anew = LedgerState(known.owner)
    for record in await partition.log():
        if record.offset >= known.next_offset:
            continue
        parts = records.parts_of(record.key or b"")
        if record.value is not None:
            anew.fold(records.decode(record.value), record.offset)
        elif parts is not None:
            anew.erase(parts, record.offset)
    return anew


async def some_work(owner: Watched, name: str, count: int) -> None:
    """Of everything something: ended, open, unknown, to be tried again, deferred, refused."""
    epoch = owner.epoch
    for number in range(count):
        each = f"{name}{number}"
        kinds: list[list[Record]] = [
            [sending(each, epoch=epoch), settled(each, epoch=epoch)],
            [sending(each, epoch=epoch)],
            [sending(each, epoch=epoch), unsure(each, epoch=epoch)],
            [sending(each, epoch=epoch), not_sent(each, epoch=epoch)],
            [deferred(each, epoch=epoch)],
            [decision(epoch, command_id=each)],
        ]
        await owner.ledger.write(*kinds[number % len(kinds)])


async def revoked(owner: Watched) -> LedgerState:
    """The partition is taken away; what the process keeps."""
    owner.ledger.close("taken away")
    return owner.ledger.state


async def back(partition: Partition, known: LedgerState, name: str) -> Watched:
    """The process that kept this owns the partition again."""
    producer = await partition.stack.enter_async_context(partition.bus.producer(name))
    ledger = LedgerPartition(
        partition.place, producer, partition.reader, owner=name, settings=partition.settings, known=known
    )
    await ledger.open(at_ms=2)
    assert partition.tasks is not None
    partition.tasks.start_soon(ledger.run)
    return Watched(ledger)


async def test_what_comes_back_is_read_on(partition: Partition) -> None:
    """Assigned, taken away, worked on by somebody else, assigned again: only what is new is read, and nothing is missed."""
    me = await partition.owner("me")
    await some_work(me, "mine", MANY)
    kept = await revoked(me)
    other = await partition.owner("other")
    await some_work(other, "theirs", 12)
    await other.ledger.write(
        settled("mine1", epoch=other.epoch),  # evidence
        sending("mine3", 2, epoch=other.epoch),
        settled("mine3", 2, epoch=other.epoch),
        Tombstone(b"mine4/deferred"),
        decision(other.epoch, command_id="mine4"),
    )
    await partition.inject(settled("mine7", epoch=me.epoch))  # a former owner, late
    await revoked(other)

    again = await back(partition, kept, "me again")
    state = again.ledger.state
    assert facts(state) == facts(await read_anew(partition, state))
    assert state.entries["mine7"].owed
    assert again.ledger.records_read < 50 < MANY < len(await partition.log())
    assert await again.ledger.claim(again.claim_of("new")) == "counted"
    assert await again.ledger.claim(again.claim_of("mine1")) == "contested"
    with pytest.raises(Ended):
        await other.ledger.claim(other.claim_of("new"))


async def test_what_was_let_go_meanwhile_is_forgotten(partition: Partition) -> None:
    """Tombstones are read on, too: what others swept is known no more, and their fences are cleaned up after them."""
    me = await partition.owner("me")
    await some_work(me, "mine", 60)
    kept = await revoked(me)
    other = await partition.owner("other")
    await Sweep(other.ledger, HandClock(), SweepSettings(window_seconds=60.0)).once()
    await revoked(other)
    again = await back(partition, kept, "me again")
    state = again.ledger.state
    assert facts(state) == facts(await read_anew(partition, state))
    assert {entry.state for entry in state.entries.values()} == {State.UNSETTLED, State.FREE, State.DEFERRED}
    assert state.take_old_fences(10) == [b"fence/me", b"fence/other"]


async def test_a_log_that_is_no_more(partition: Partition) -> None:
    """Where the fence stands in front of what is known, the topic is another one: everything is read."""
    await partition.inject(sending("a"), settled("a"))
    elsewhere = LedgerState("elsewhere")
    elsewhere.fold(sending("never here"), 1000)
    again = await back(partition, elsewhere, "again")
    assert set(again.ledger.state.entries) == {"a"}
    assert again.ledger.records_read == 2


async def test_opening_goes_on_where_it_broke_off(partition: Partition) -> None:
    """What a failed try has read is not read again; the fence that counts is the last."""
    await partition.inject(*(sending(f"c{number}") for number in range(10)))
    reader = Failing(partition.reader)
    ledger = await partition.closed("me", reader=reader)
    reader.after = 6
    with pytest.raises(Exception, match="the broker is away"):
        await ledger.open(at_ms=1)
    await ledger.open(at_ms=1)
    assert (ledger.state.epoch, len(ledger.state.entries), ledger.records_read) == (11, 10, 11)


# -- what compaction hides ----------------------------------------------------------------------------------------------------


class Compacted:
    """A reader that shows what is left once somebody's later copies are stored: they arrive as reading begins."""

    def __init__(self, partition: Partition, *copies: Record, hides: Collection[int] = ()) -> None:
        self._partition = partition
        self._reader: PartitionReader = partition.reader
        self._copies = copies
        self._hides = hides

    async def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[BusRecord]]:
        """What is left."""
        copies, self._copies = self._copies, ()
        if copies:
            await self._partition.inject(*copies)
        async for batch in self._reader.read(partition, start=start, end=end):
            yield [each for each in batch if each.offset not in self._hides]


async def test_what_compaction_hides_is_found_behind_the_fence(partition: Partition) -> None:
    """A claim in front of the fence is gone because of a late copy behind it: the owner knows it before it acts."""
    await partition.inject(Fence("former", 0), sending("c", epoch=0))
    me = await partition.owner("me", reader=Compacted(partition, sending("c", epoch=0), hides=[1]))
    assert [each.command_id for each in me.ledger.state.unsettled()] == ["c"]
    assert await me.ledger.claim(me.claim_of("c")) == "contested"
    assert me.foreign == []


async def test_whoever_is_succeeded_while_it_opens_ends(partition: Partition) -> None:
    """A foreign fence behind the own one is found before anything is done."""
    with pytest.raises(Ended, match="another owner's fence"):
        await partition.owner("me", reader=Compacted(partition, Fence("other", 0)))


async def test_an_emptied_offset_behind_the_fence_ends_the_lane(partition: Partition) -> None:
    """Nobody can say what stood there: the lane opens anew."""
    await partition.inject(Fence("former", 0))
    with pytest.raises(Ended, match="offset 2 in front of an own record has been compacted away"):
        await partition.owner("me", reader=Compacted(partition, sending("c"), hides=[2]))
