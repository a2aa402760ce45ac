"""What a lane knows, by the real code: `LedgerPartition` with `LedgerState` inside, driven one step at a time.

The model hands it what a reader and a producer would, and remembers every answer: a few thousand distinct questions
come up in hundreds of thousands of states. Knowledge is a number that stands for all that a partition holds, whatever
its classes are made of: it is copied and compared whole.
"""

# ruff: noqa: ARG002 -- stand-ins take what the real ones are given

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Sequence
from itertools import chain, combinations
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias, TypeVar

import msgspec

from bridge.bus.protocol import BatchItem, Headers, Position, TopicPartition
from bridge.bus.protocol import Record as BusRecord
from bridge.ledger.partition import Ended, LedgerPartition, LedgerSettings, Tombstone
from bridge.ledger.records import Fence, Sending, Settled
from bridge.ledger.state import LedgerState
from bridge.ledger.transitions import Entry
from bridge.model.errors import Poison, Unavailable
from tests.model.facts import FACTS

Log: TypeAlias = tuple[int, ...]
Seen: TypeAlias = tuple[tuple[int, int], ...]
"""What a read returns: `(offset, fact)`."""
Write: TypeAlias = tuple[int, bool]
"""A fact on its way, and whether it is a claim: whether the lane asks if it counts."""
Answer: TypeAlias = Literal["counted", "contested", "written", "ended"]

PARTITION = TopicPartition("calls.ledger", 0)

IRRELEVANT = frozenset({"recent_claims"})
"""What a `LedgerState` holds for the pace of a lane only."""

P = TypeVar("P", bound=LedgerPartition)


class Accounted(NamedTuple):
    """What became of an acknowledged write."""

    answer: Answer
    knowledge: int = -1
    foreign: tuple[str, ...] = ()
    """Commands about which somebody else wrote."""
    unsettled: tuple[int, ...] = ()
    """Claims of these commands that were unsettled when the lane was told of them."""
    deferred: tuple[str, ...] = ()
    """Commands that somebody else deferred."""


class Broker:
    """A producer and a reader at once: says the next position, and gives what the model lets be seen."""

    def __init__(self, offset: int, seen: Seen, *, end: int = -1) -> None:
        self._offset = offset
        self._seen = seen
        self._end = end

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Position:
        """The fence, or the look behind it, which goes to the end."""
        return Position(0, self._offset if value is not None else self._end)

    async def publish_batch(
        self, topic: str, partition: int, items: Sequence[BatchItem]
    ) -> list[Position | Unavailable | Poison]:
        """The one record that is acknowledged in this step."""
        assert len(items) == 1
        return [Position(0, self._offset)]

    async def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[BusRecord]]:
        """What is left of the stretch."""
        facts = [(offset, FACTS.all[fact]) for offset, fact in self._seen if start <= offset < end]
        yield [BusRecord(partition.topic, 0, offset, fact.key, fact.value) for offset, fact in facts]


class Knowledge:
    """All that any lane came to know, by number. Use it in a `with` block: it owns an event loop."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self._known: list[LedgerPartition] = []
        self._copies: list[bytes] = []
        self._numbers: dict[object, int] = {}
        self._loads: dict[object, Accounted] = {}
        self._accounts: dict[object, Accounted] = {}
        self._reads: dict[object, tuple[Seen, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.runner.close()

    # -- what a mutant may change -----------------------------------------------------------------------------------

    def key(self, fact: int) -> bytes:
        """What compaction goes by."""
        return FACTS.all[fact].key

    def shown(self, owner: str, seen: Seen, start: int, end: int) -> Seen:
        """What the partition is given of what the broker has."""
        return seen

    # -- reading ----------------------------------------------------------------------------------------------------

    def reads(self, log: Log, start: int, end: int, *, compacts: bool) -> tuple[Seen, ...]:
        """Everything a read of `[start, end)` may return, the whole first.

        Any record with a later one under its key may be gone. A tombstone may be gone where all that it erases is.
        What one read misses another may see: every replica is compacted by itself, and leaders change.
        """
        question = (log, start, end, compacts)
        if question not in self._reads:
            keys = [self.key(fact) for fact in log]
            loose = [
                offset
                for offset in range(start, end)
                if compacts and (keys[offset] in keys[offset + 1 :] or FACTS.all[log[offset]].record is None)
            ]
            self._reads[question] = tuple(
                tuple((offset, log[offset]) for offset in range(start, end) if offset not in gone)
                for gone in chain.from_iterable(combinations(loose, count) for count in range(len(loose) + 1))
                if all(_may_be_gone(offset, start, log, keys, gone) for offset in gone)
            )
        return self._reads[question]

    def load(self, owner: str, place: tuple[int, int], seen: tuple[Seen, Seen], *, kept: int = -1) -> Accounted:
        """What a lane knows that read `seen` in front of its fence and behind it, up to the end: `place` is the two.

        `kept` is what is known already from an earlier ownership in the same process, if anything.
        """
        question = (owner, place, seen, kept)
        if question not in self._loads:
            self._loads[question] = self._load(owner, place, seen, kept)
        return self._loads[question]

    def _load(self, owner: str, place: tuple[int, int], seen: tuple[Seen, Seen], kept: int) -> Accounted:
        offset, end = place
        start = self.kept_from(kept)
        front, behind = self.shown(owner, seen[0], start, offset), self.shown(owner, seen[1], offset + 1, end)
        broker = Broker(offset, (*front, *behind), end=end)
        known = self.revive(kept, LedgerPartition, broker).state if kept >= 0 else None
        partition = new_partition(LedgerPartition, owner, broker, known)
        try:
            self.runner.run(partition.open(at_ms=0))
        except Ended:
            return Accounted("ended", self._number(partition))
        partition.state.next_offset = min(
            end, partition.state.next_offset
        )  # a probe tells nobody anything: here it takes no place in the log
        return Accounted("written", self._number(partition))

    # -- writing ----------------------------------------------------------------------------------------------------

    def account(self, knowledge: int, write: Write, offset: int, seen: Seen) -> Accounted:
        """What becomes of a write that was acknowledged at `offset`, with `seen` in the gap in front of it."""
        question = (knowledge, write, offset, seen)
        if question not in self._accounts:
            start = self.next_offset(knowledge)
            assert start <= offset, "acknowledged offsets ascend"
            broker = Broker(offset, self.shown(self.owner(knowledge), seen, start, offset))
            partition = self.revive(knowledge, LedgerPartition, broker)
            self._accounts[question] = self.runner.run(self._account(partition, write))
        return self._accounts[question]

    async def _account(self, partition: LedgerPartition, write: Write) -> Accounted:
        foreign: list[str] = []
        unsettled: list[int] = []

        def on_foreign(command_ids: frozenset[str]) -> None:
            foreign.extend(sorted(command_ids))
            unsettled.extend(FACTS.number(each) for each in partition.state.unsettled(sorted(command_ids)))

        deferred: list[str] = []
        partition.on_foreign = on_foreign
        partition.on_deferred = lambda found: deferred.append(found.command_id)
        writer = asyncio.ensure_future(partition.run())
        try:
            answer = await _write(partition, write)
        except Ended:
            return Accounted("ended", self._number(partition))
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return Accounted(answer, self._number(partition), tuple(foreign), tuple(unsettled), tuple(deferred))

    # -- asking -----------------------------------------------------------------------------------------------------

    def revive(self, knowledge: int, kind: type[P], broker: Broker) -> P:
        """A partition that knows this, and may be written to."""
        known = self._known[knowledge]
        partition = new_partition(kind, known.state.owner, broker)
        for name, value in pickle.loads(self._copies[knowledge]).items():  # noqa: S301 -- our own, and a quick copy
            setattr(partition, name, value)
        return partition

    def state(self, knowledge: int) -> LedgerState:
        """The state; not to be changed."""
        return self._known[knowledge].state

    def owner(self, knowledge: int) -> str:
        """Who knows this."""
        return self.state(knowledge).owner

    def kept_from(self, knowledge: int) -> int:
        """Where an owner begins to read that goes on from this, or from nothing."""
        return self.next_offset(knowledge) if knowledge >= 0 else 0

    def next_offset(self, knowledge: int) -> int:
        """Directly behind everything seen."""
        return self.state(knowledge).next_offset

    def entry(self, knowledge: int, command_id: str) -> Entry | None:
        """What is known of a command."""
        return self.state(knowledge).entry(command_id)

    def _number(self, partition: LedgerPartition) -> int:
        frozen = _freeze(_data(partition))
        if frozen not in self._numbers:
            self._numbers[frozen] = len(self._known)
            self._known.append(partition)
            self._copies.append(pickle.dumps(_data(partition)))
        return self._numbers[frozen]


def new_partition(kind: type[P], owner: str, broker: Broker, known: LedgerState | None = None) -> P:
    """A partition that is to be opened."""
    return kind(PARTITION, broker, broker, owner=owner, settings=LedgerSettings(), known=known)


async def _write(partition: LedgerPartition, write: Write) -> Answer:
    fact, claims = write
    match FACTS.all[fact].record:
        case Sending() | Settled() as claim if claims:
            return await partition.claim(claim)
        case None:
            await partition.write(Tombstone(FACTS.all[fact].key))
        case record:
            await partition.write(record)
    return "written"


def _data(partition: LedgerPartition) -> dict[str, object]:
    """What a partition remembers, as opposed to what it works with."""
    return {name: value for name, value in vars(partition).items() if isinstance(value, LedgerState | Fence | dict)}


def _may_be_gone(offset: int, start: int, log: Log, keys: Sequence[bytes], gone: Sequence[int]) -> bool:
    if FACTS.all[log[offset]].record is not None:
        return True
    return all(below in gone for below in range(start, offset) if keys[below] == keys[offset])


def _freeze(value: object) -> object:
    """Any value of the ledger as something that can be compared and hashed."""
    if isinstance(value, msgspec.Struct):
        return type(value).__name__, msgspec.json.encode(value)
    if isinstance(value, dict):
        return tuple(sorted((key, _freeze(each)) for key, each in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_freeze(each) for each in value)
    if isinstance(value, set | frozenset):
        return frozenset(_freeze(each) for each in value)
    if isinstance(value, LedgerState | Entry):
        names = (*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", ()))
        return tuple((name, _freeze(getattr(value, name))) for name in names if name not in IRRELEVANT)
    return value
