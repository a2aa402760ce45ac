"""The rules under test, which are the real ones: `LedgerPartition` (with `LedgerState` inside) and `policy`.

The model hands them what a reader and a producer would, and remembers every answer: a few thousand distinct questions
come up in hundreds of thousands of states. Knowledge is a number that stands for one `LedgerState`, whatever that class
is made of: it is copied and compared whole. A mutant overrides what it breaks (`mutants`).

The order of a command's steps is the one thing rewritten here (`after_outcome` and `protocol`), because a coroutine
cannot be copied; `test_conformance` compares it with the real `Dispatch`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from itertools import combinations
from types import TracebackType
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from bridge.bus.protocol import BatchItem, Headers, Position, TopicPartition
from bridge.bus.protocol import Record as BusRecord
from bridge.commands import policy
from bridge.ledger.partition import Ended, LedgerPartition, LedgerSettings
from bridge.ledger.records import Fence, Sending, Settled, Unsure
from bridge.ledger.transitions import Entry, LedgerState
from bridge.model.commands import digest
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused, Unknown
from bridge.model.results import CallCancelled, CallInitiated, CallRefused, CallUnknown, Result
from bridge.model.words import call_id_of
from tests.model.facts import FACTS, MOMENTS, cancel_call, place_call, plan_of

Log: TypeAlias = tuple[int, ...]
Seen: TypeAlias = tuple[tuple[int, int], ...]
"""What a read returns: `(offset, fact)`."""
Answer: TypeAlias = Literal["counted", "contested", "written", "ended"]
OutcomeName: TypeAlias = Literal["accepted", "refused", "not_sent", "unknown"]

PARTITION = TopicPartition("calls.ledger", 0)
OUTCOMES: dict[OutcomeName, Outcome] = {
    "accepted": Accepted(),
    "refused": Refused("rejected_by_provider"),
    "not_sent": NotSent("connection_refused"),
    "unknown": Unknown("timeout"),
}


class Move(NamedTuple):
    """What a lane does next with a command: publish, write a fact, or nothing."""

    publish: int = 0
    write: int | None = None


class _Log:
    """A producer and a reader at once: says the next position, and gives what the model lets be seen."""

    def __init__(self, offset: int, seen: Seen) -> None:
        self._offset = offset
        self._seen = seen

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Position:
        """The fence."""
        return Position(0, self._offset)

    async def publish_batch(self, topic: str, partition: int, items: Sequence[BatchItem]) -> list[Position]:
        """The one record that is acknowledged in this step."""
        assert len(items) == 1
        return [Position(0, self._offset)]

    async def read(self, partition: TopicPartition, *, start: int, end: int) -> AsyncIterator[Sequence[BusRecord]]:
        """What is left of the stretch."""
        facts = ((offset, FACTS.all[fact]) for offset, fact in self._seen if start <= offset < end)
        yield [BusRecord(topic=partition.topic, partition=0, offset=offset, key=f.key, value=f.value) for offset, f in facts]


class Rules:
    """Answers from the real code. Open it with `with`: it owns an event loop."""

    claims_early = False
    """Mutant: dial without waiting for the acknowledgement."""
    timeout_counts = False
    """Mutant: take a time-out for an acknowledgement."""
    loads_early = False
    """Mutant: read up to the end at the start, not up to the acknowledged fence."""

    def __init__(self, *, defers: bool = False, expires: bool = False, max_attempts: int = 2) -> None:
        self._defers, self._expires = defers, expires
        self._limits = policy.Limits(max_attempts=max_attempts)
        self._runner = asyncio.Runner()
        self._known: list[LedgerState] = []
        self._numbers: dict[object, int] = {}
        self._loads: dict[object, int] = {}
        self._accounts: dict[object, tuple[Answer, int]] = {}
        self._moves: dict[object, Move] = {}
        self._reads: dict[object, tuple[Seen, ...]] = {}

    def __enter__(self) -> Rules:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._runner.close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def key(self, fact: int) -> bytes:
        """What compaction goes by."""
        return FACTS.all[fact].key

    def reads(self, log: Log, start: int, end: int, *, compacts: bool) -> tuple[Seen, ...]:
        """Everything a read of `[start, end)` may return, the whole first.

        Any record with a later one under its key may be gone. A tombstone may be gone where all that it erases is.
        What one read misses another may see: every replica is compacted by itself, and leaders change.
        """
        question = (log, start, end)
        if question not in self._reads:
            keys = [self.key(fact) for fact in log]
            loose = [
                offset
                for offset in range(start, end)
                if compacts and (keys[offset] in keys[offset + 1 :] or FACTS.all[log[offset]].record is None)
            ]
            gone = (set(some) for count in range(len(loose) + 1) for some in combinations(loose, count))
            self._reads[question] = tuple(
                tuple((offset, log[offset]) for offset in range(start, end) if offset not in missing)
                for missing in gone
                if all(self._may_be_gone(log, keys, offset, missing, start) for offset in missing)
            )
        return self._reads[question]

    @staticmethod
    def _may_be_gone(log: Log, keys: list[bytes], offset: int, missing: set[int], start: int) -> bool:
        if FACTS.all[log[offset]].record is not None:
            return True
        return all(below in missing for below in range(start, offset) if keys[below] == keys[offset])

    # -- the ledger partition -----------------------------------------------------------------------------------------

    def make_state(self, owner: str) -> LedgerState:
        """The knowledge of a lane that has read nothing."""
        return LedgerState(owner)

    def load(self, owner: str, offset: int, seen: Seen) -> int:
        """What a lane knows that read `seen` below its fence at `offset`."""
        question = (owner, offset, seen)
        if question not in self._loads:
            partition = self._partition(self.make_state(owner), offset, self.shown(owner, seen, offset, loading=True))
            self._runner.run(partition.open(at_ms=0))
            self._loads[question] = self._number(partition.state)
        return self._loads[question]

    def account(self, knowledge: int, fact: int, offset: int, seen: Seen) -> tuple[Answer, int]:
        """What becomes of a write that was acknowledged at `offset`, with `seen` in the gap in front of it."""
        question = (knowledge, fact, offset, seen)
        if question not in self._accounts:
            state = copy.deepcopy(self._known[knowledge])
            shown = self.shown(state.owner, seen, offset, loading=False)
            self._accounts[question] = self._runner.run(self._account(self._partition(state, offset, shown), fact))
        return self._accounts[question]

    def shown(self, owner: str, seen: Seen, end: int, *, loading: bool) -> Seen:
        """What the partition is given of what could be read: all of it."""
        return seen

    def next_offset(self, knowledge: int) -> int:
        """Directly behind everything seen."""
        return self._known[knowledge].next_offset

    def epoch(self, knowledge: int) -> int:
        """The epoch under which the lane writes."""
        return self._known[knowledge].epoch

    def entry(self, knowledge: int, command_id: str) -> Entry | None:
        """What is known of a command."""
        return self._known[knowledge].entry(command_id)

    def scheduled(self, knowledge: int) -> list[str]:
        """The commands that the lane starts when they are due, as of its load."""
        return [deferred.command_id for deferred in self._known[knowledge].deferred()]

    @staticmethod
    def _partition(state: LedgerState, offset: int, seen: Seen) -> LedgerPartition:
        log = _Log(offset, seen)
        partition = LedgerPartition(PARTITION, log, log, owner=state.owner, settings=LedgerSettings())
        partition.state = state
        return partition

    async def _account(self, partition: LedgerPartition, fact: int) -> tuple[Answer, int]:
        record = FACTS.all[fact].record
        writer = asyncio.ensure_future(partition.run())
        answer: Answer = "written"
        try:
            match record:
                case Sending():
                    answer = await partition.claim(record)
                case None:
                    await partition.erase([FACTS.all[fact].key])
                case _:
                    await partition.write(record)
        except Ended:
            return "ended", -1
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return answer, self._number(partition.state)

    def _number(self, state: LedgerState) -> int:
        frozen = freeze(state)
        if frozen not in self._numbers:
            self._numbers[frozen] = len(self._known)
            self._known.append(state)
        return self._numbers[frozen]

    # -- policy -----------------------------------------------------------------------------------------------------

    def place(self, knowledge: int, command_id: str, moment: int, *, due: bool) -> Move:
        """What `call.place` comes to now."""
        question = (knowledge, command_id, moment, due)
        if question not in self._moves:
            command = place_call(command_id, defers=self._defers, expires=self._expires)
            asked = policy.Question(
                command=command,
                digest=digest(command),
                provider="demo",
                check=plan_of(command),
                entry=self.entry(knowledge, command_id),
                now=MOMENTS[moment],
                due=due,
            )
            self._moves[question] = self._move(self.decide(asked), asked, self.epoch(knowledge))
        return self._moves[question]

    def decide(self, question: policy.Question) -> policy.Decision:
        """Ask policy."""
        return policy.decide(question, self._limits)

    def cancel(self, knowledge: int, command_id: str) -> Move:
        """What `call.cancel` comes to now; that it comes too late is no result of the call and left out."""
        question = (knowledge, command_id)
        if question not in self._moves:
            entry = self.entry(knowledge, command_id)
            decision = policy.decide_cancel(cancel_call(command_id), entry)
            move = Move()
            if isinstance(decision, policy.Finish):
                body = b"" if entry is None else entry.digest or b""
                move = Move(write=self._finished(decision.result, body, self.epoch(knowledge)))
            elif isinstance(decision, policy.Publish) and isinstance(decision.result, CallCancelled):
                move = Move(publish=FACTS.bit(decision.result))
            self._moves[question] = move
        return self._moves[question]

    def _move(self, decision: policy.Decision, question: policy.Question, epoch: int) -> Move:
        command = question.command
        match decision:
            case policy.Nothing():
                return Move()
            case policy.Publish(result):
                return Move(publish=FACTS.bit(result))
            case policy.Finish(result):
                return Move(write=self._finished(result, question.digest, epoch))
            case policy.Doubt(sending):
                return Move(write=after_outcome(sending, OUTCOMES["unknown"], epoch))
            case policy.Postpone():
                return Move(write=FACTS.number(deferred_of(command, epoch, at_ms=0)))
            case policy.Claim(attempt):
                return Move(write=FACTS.number(sending_of(command, attempt, epoch)))

    @staticmethod
    def _finished(result: Result, body: bytes, epoch: int) -> int:
        return FACTS.number(
            Settled(
                command_id=result.command_id,
                attempt=result.attempts,
                epoch=epoch,
                at_ms=0,
                digest=body,
                key=result.command_id.encode(),
                result=result,
            )
        )

    def outcome(self, sending: Sending, name: OutcomeName) -> int:
        """What the lane writes when the provider has answered, or has not."""
        return after_outcome(sending, OUTCOMES[name], sending.epoch)
