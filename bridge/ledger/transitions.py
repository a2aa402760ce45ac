"""The rules of the ledger, pure: what a lane knows, and what each record it reads or writes does to that knowledge.

Theory of operation. One *lane* owns one partition of the commands topic and the ledger partition of the same number.
Who owns is decided by the log and by nothing else: an owner writes a `fence`, and its offset is the owner's epoch. A
lane knows the partition without holes: everything below its fence by reading it, everything behind by being told the
offset of each of its own records. A claim (`sending`) *counts* only if its acknowledged offset lies directly behind
everything the lane has seen. Then no foreign fence can stand before it, so every later owner, whose fence comes later,
finds the claim when it reads. Where there is a gap in front of an acknowledged offset, the lane reads the gap and
folds it in, and only then decides:

    in the gap                            the lane
    ------------------------------------  ------------------------------------------------------------
    a foreign fence with a later offset   has been succeeded: it ends, without a dial
    an offset that compaction emptied     cannot know what stood there: it ends, without a dial
    a foreign `sending` of the claimed id the claim does not count: unsettled, evidence may come
    a foreign `settled` or `unsure`       is knowledge, and welcome; a claim of that id does not count
    own copies (a retried write)          nothing new

States of a command id, from its records (each kind has its own key; the highest attempt speaks):

    (none) ──sending──▶ UNSETTLED ──settled(result)───▶ FINISHED
      │                    │  │                            ▲
      │                    │  └──settled(not_sent)──▶ FREE │ (may be claimed again under the next attempt)
      │                    └──unsure──▶ UNKNOWN ──settled──┘ (evidence came late; the one way out of UNKNOWN)
      ├──deferred──▶ DEFERRED ──sending──▶ …
      └──settled(attempt 0)──▶ FINISHED (refused, expired or cancelled before any claim)

Invariants: nothing leads from UNSETTLED or UNKNOWN to a claim except `settled(not_sent)` of that very attempt; records
fold to the same state in whatever order copies arrive; knowledge is never taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

import msgspec

from bridge.ledger.records import (
    CommandRecord,
    Deferred,
    Fence,
    KeyParts,
    Record,
    Sending,
    Settled,
    Unsure,
)

S = TypeVar("S", Sending, Unsure)


class State(Enum):
    """What a lane may do with a command id."""

    FREE = "free"
    """Never claimed, or every claim so far is proven not to have dialled."""
    DEFERRED = "deferred"
    UNSETTLED = "unsettled"
    UNKNOWN = "unknown"
    FINISHED = "finished"


class Entry:
    """All that is known of one command id. Changed by `LedgerState.fold` only."""

    __slots__ = ("deferred", "sending", "settled", "unsure")

    def __init__(self) -> None:
        self.sending: Sending | None = None
        self.settled: Settled | None = None
        self.unsure: Unsure | None = None
        self.deferred: Deferred | None = None

    @property
    def attempt(self) -> int:
        """The highest attempt that any record names; 0 before the first."""
        return max(
            (record.attempt for record in (self.sending, self.settled, self.unsure) if record is not None), default=0
        )

    @property
    def digest(self) -> bytes | None:
        """The digest of the body under which the id is known."""
        return next((record.digest for record in self.records()), None)

    @property
    def state(self) -> State:
        """See the table at the head of this file."""
        if self.settled is not None and self.settled.result is not None:
            return State.FINISHED
        if self.unsure is not None:
            return State.UNKNOWN
        if self.sending is not None and (self.settled is None or self.settled.attempt < self.sending.attempt):
            return State.UNSETTLED
        return State.DEFERRED if self.deferred is not None else State.FREE

    def records(self) -> Iterable[CommandRecord]:
        """What is remembered, each kind once."""
        return (record for record in (self.sending, self.settled, self.unsure, self.deferred) if record is not None)


class Verdict(msgspec.Struct, frozen=True):
    """What a gap in front of an acknowledged offset means for the lane."""

    ended: str | None = None
    """Why the lane has to end, if it has to."""
    foreign: frozenset[str] = frozenset()
    """Command ids about which somebody else wrote: a claim of one of them does not count now."""


class LedgerState:
    """One lane's knowledge of its ledger partition. `next_offset` is directly behind everything it has seen."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.epoch = -1
        self.next_offset = 0
        self.entries: dict[str, Entry] = {}
        self.old_fences: list[str] = []

    def entry(self, command_id: str) -> Entry | None:
        """What is known of the id, if anything."""
        return self.entries.get(command_id)

    def fold(self, record: Record, offset: int) -> None:
        """Take in one record, whoever wrote it. Folding a copy again changes nothing."""
        match record:
            case Fence(owner=self.owner):
                self.epoch = offset if self.epoch < 0 else self.epoch
            case Fence():
                self.old_fences.append(record.owner)
            case _:
                _merge(self.entries.setdefault(record.command_id, Entry()), record)
        self.next_offset = max(self.next_offset, offset + 1)

    def erase(self, key: KeyParts, offset: int) -> None:
        """Take in a tombstone."""
        if key.command_id is None:
            self.next_offset = max(self.next_offset, offset + 1)
            return
        entry = self.entries.get(key.command_id)
        if entry is not None:
            _erase(entry, key)
            if not any(True for _ in entry.records()):
                del self.entries[key.command_id]
        self.next_offset = max(self.next_offset, offset + 1)

    def judge(self, record: Record, offset: int) -> Verdict:
        """What a record in a gap means, before it is folded."""
        match record:
            case Fence() if record.owner != self.owner and offset > self.epoch:
                return Verdict(ended=f"another owner's fence stands at offset {offset}")
            case Sending() | Settled() | Unsure() if record.epoch != self.epoch:
                return Verdict(foreign=frozenset({record.command_id}))
            case _:
                return Verdict()

    def unsettled(self) -> list[Sending]:
        """Claims of which nobody has said what they came to."""
        return [
            entry.sending
            for entry in self.entries.values()
            if entry.sending is not None and entry.state is State.UNSETTLED
        ]

    def deferred(self) -> list[Deferred]:
        """Commands that wait for their time (or whose end is not published yet)."""
        return [entry.deferred for entry in self.entries.values() if entry.deferred is not None]


def _merge(entry: Entry, record: CommandRecord) -> None:
    """Keep the record that knows more. Order and copies do not matter."""
    match record:
        case Sending():
            entry.sending = _later(entry.sending, record)
        case Unsure():
            entry.unsure = _later(entry.unsure, record)
        case Deferred():
            if entry.deferred is None or record.at_ms >= entry.deferred.at_ms:
                entry.deferred = record
        case Settled():
            entry.settled = _better(entry.settled, record)


def _later(known: S | None, record: S) -> S:
    return record if known is None or record.attempt >= known.attempt else known


def _better(known: Settled | None, record: Settled) -> Settled:
    """A result beats none; among equals the later attempt."""
    if known is None:
        return record
    if (known.result is None) != (record.result is None):
        return record if known.result is None else known
    return record if record.attempt > known.attempt else known


def _erase(entry: Entry, key: KeyParts) -> None:
    match key.kind:
        case "deferred":
            entry.deferred = None
        case "sending" if entry.sending is not None and entry.sending.attempt == key.attempt:
            entry.sending = None
        case "unsure" if entry.unsure is not None and entry.unsure.attempt == key.attempt:
            entry.unsure = None
        case "settled" if entry.settled is not None and entry.settled.attempt == key.attempt:
            entry.settled = None
        case _:
            pass
