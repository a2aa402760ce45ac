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

An end without a dial (refused, expired, cancelled) is a decision, not knowledge: it is judged by its gap as a claim is,
and where a claim stands before it, it is void.

Invariants: nothing leads from UNSETTLED or UNKNOWN to a claim except `settled(not_sent)` of that very attempt; records
fold to the same state in whatever order copies arrive; knowledge is never taken back.
"""

from __future__ import annotations

from collections import deque
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
    key_of,
)
from bridge.model.results import CallCancelled

S = TypeVar("S", Sending, Settled, Unsure)

_RECENT_CLAIMS = 10_000
"""As many as an account may be allowed in a second."""


class State(Enum):
    """What a lane may do with a command id."""

    FREE = "free"
    """Never claimed, or every claim so far is proven not to have dialled."""
    DEFERRED = "deferred"
    UNSETTLED = "unsettled"
    UNKNOWN = "unknown"
    FINISHED = "finished"


class Archived(msgspec.Struct, frozen=True, gc=False):
    """What stays in memory of a finished command: where its result stands in the log, and what tells a copy apart."""

    attempt: int
    digest: bytes
    at_ms: int
    offset: int
    was_cancelled: bool = False
    was_unsure: bool = False
    unsent: int = 0
    """The last attempt that was proven not to have dialled, if any was."""


class Entry:
    """All that is known of one command id. Changed by `LedgerState` only."""

    __slots__ = ("archived", "contested", "deferred", "sending", "settled", "settled_offset", "unsent", "unsure")

    def __init__(self) -> None:
        self.sending: Sending | None = None
        self.settled: Settled | None = None
        """With a result."""
        self.unsent: Settled | None = None
        """Proof that the latest such attempt did not dial."""
        self.unsure: Unsure | None = None
        self.deferred: Deferred | None = None
        self.settled_offset = -1
        self.archived: Archived | None = None
        self.contested = 0
        """The attempt that two owners have claimed, if any: no claim of it counts."""

    @property
    def owed(self) -> bool:
        """Whether a result is in the log and perhaps not published."""
        last = self.settled or self.unsure
        return last is not None and last.owed

    @property
    def attempt(self) -> int:
        """The highest attempt that any record names; 0 before the first."""
        known = (self.sending, self.settled, self.unsent, self.unsure, self.archived)
        return max((record.attempt for record in known if record is not None), default=0)

    @property
    def digest(self) -> bytes:
        """The digest of the body under which the id is known; empty where it is not (cancelled before it came)."""
        return next((record.digest for record in self.records()), b"")

    @property
    def last_ms(self) -> int:
        """When the newest record was written."""
        return max((record.at_ms for record in self.records()), default=0)

    @property
    def state(self) -> State:
        """See the table at the head of this file."""
        if self.archived is not None or self.settled is not None:
            return State.FINISHED
        if self.unsure is not None:
            return State.UNKNOWN
        if self.sending is not None and (self.unsent is None or self.unsent.attempt < self.sending.attempt):
            return State.UNSETTLED
        return State.DEFERRED if self.deferred is not None else State.FREE

    def records(self) -> Iterable[CommandRecord | Archived]:
        """What is remembered, each kind once."""
        known = (self.sending, self.settled, self.unsent, self.unsure, self.deferred, self.archived)
        return (record for record in known if record is not None)


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
        self.recent_claims: dict[str, deque[float]] = {}
        """When each connection was claimed for last, in wall-clock seconds: what a new owner's pace goes on from."""
        self._old_fences: dict[str, Fence] = {}
        self._last_owner = ""
        self._last_fence = -1

    def entry(self, command_id: str) -> Entry | None:
        """What is known of the id, if anything."""
        return self.entries.get(command_id)

    def fold(self, record: Record, offset: int) -> None:
        """Take in one record, whoever wrote it. Folding a copy again changes nothing."""
        match record:
            case Fence():
                self._fold_fence(record, offset)
            case Settled() if record.result is not None and not record.owed and self._is_late(record):
                # Written late by a former owner, who does not publish any more: the owner owes the result.
                self._fold_command(msgspec.structs.replace(record, owed=True), offset)
            case _:
                self._fold_command(record, offset)
        self.next_offset = max(self.next_offset, offset + 1)

    def erase(self, key: KeyParts, offset: int) -> None:
        """Take in a tombstone."""
        self.next_offset = max(self.next_offset, offset + 1)
        entry = None if key.command_id is None else self.entries.get(key.command_id)
        if key.command_id is None or entry is None:
            return
        _erase(entry, key)
        _archive(entry)
        if not any(True for _ in entry.records()):
            del self.entries[key.command_id]

    def _fold_fence(self, fence: Fence, offset: int) -> None:
        if fence.owner != self.owner:
            self._old_fences[fence.owner] = fence
        elif self.epoch < 0:
            self.epoch = offset
        if fence.owner != self._last_owner:  # a copy (a retried write, a probe) begins no new ownership
            self._last_owner, self._last_fence = fence.owner, offset

    def _is_late(self, record: Settled) -> bool:
        """Whether somebody else's fence stands between the writer's and this record."""
        return record.epoch != self.epoch and record.epoch < self._last_fence

    def _fold_command(self, record: CommandRecord, offset: int) -> None:
        entry = self.entries.get(record.command_id)
        if entry is None:
            entry = self.entries[record.command_id] = Entry()
        if isinstance(record, Sending):
            times = self.recent_claims.setdefault(record.connection, deque(maxlen=_RECENT_CLAIMS))
            times.append(record.at_ms / 1000)
        if isinstance(record, Settled) and record.is_decision and entry.state in {State.UNSETTLED, State.UNKNOWN}:
            return  # whoever decided it did not know of the claim
        if entry.archived is None:
            _merge(entry, record, offset)
            _archive(entry)
            if entry.state in {State.FINISHED, State.UNKNOWN}:
                # What is over stands in the order of its end, so that letting go of the oldest need not look at all.
                self.entries[record.command_id] = self.entries.pop(record.command_id)
        elif isinstance(record, Settled) and record.result is not None and record.attempt == entry.archived.attempt:
            # A copy: compaction will leave only this one.
            entry.archived = msgspec.structs.replace(entry.archived, offset=offset)

    def judge(self, record: Record, offset: int) -> Verdict:
        """What a record in a gap means, before it is folded."""
        match record:
            case Fence() if record.owner != self.owner and offset > self.epoch:
                return Verdict(ended=f"another owner's fence stands at offset {offset}")
            case Sending() | Settled() | Unsure() if record.epoch != self.epoch:
                return Verdict(foreign=frozenset({record.command_id}))
            case _:
                return Verdict()

    def may_count(self, claim: Sending | Settled) -> bool:
        """Whether an acknowledged claim is the permission to dial, by all that stands in front of it.

        The same for a decision to end a command without a dial: whether it may be told.
        """
        entry = self.entries.get(claim.command_id)
        if entry is None:
            return True
        if isinstance(claim, Settled):
            return entry.state in {State.FREE, State.DEFERRED} or _is_copy(entry, claim)
        if entry.contested == claim.attempt:
            return False
        if entry.state in {State.FREE, State.DEFERRED}:
            return entry.attempt < claim.attempt
        copy = entry.sending
        own = copy is not None and (copy.epoch, copy.attempt) == (self.epoch, claim.attempt)
        return own and entry.state is State.UNSETTLED

    def unsettled(self, among: Iterable[str] | None = None) -> list[Sending]:
        """Claims of which nobody has said what they came to; only those of some commands, if they are named."""
        entries = self.entries.values() if among is None else [self.entries.get(each) for each in among]
        return [each.sending for each in entries if each and each.sending and each.state is State.UNSETTLED]

    def over_before(self, before_ms: int, *, most: int) -> list[tuple[str, Entry]]:
        """Commands that came to their end before that time, oldest first; what is not over yet is passed by."""
        old: list[tuple[str, Entry]] = []
        for command_id, entry in self.entries.items():
            if entry.state in {State.FINISHED, State.UNKNOWN}:
                if entry.last_ms >= before_ms or len(old) == most:
                    break
                old.append((command_id, entry))
        return old

    def take_old_fences(self, before_ms: int) -> list[bytes]:
        """Keys of former owners' fences from before that time; each is given once."""
        old = [fence for fence in self._old_fences.values() if fence.at_ms < before_ms]
        for fence in old:
            del self._old_fences[fence.owner]
        return [key_of(fence) for fence in old]


def _is_copy(entry: Entry, decision: Settled) -> bool:
    """Whether what finished the command is an earlier copy of this very decision."""
    known = entry.settled or entry.archived
    return known is not None and (known.attempt, known.at_ms) == (decision.attempt, decision.at_ms)


def _merge(entry: Entry, record: CommandRecord, offset: int) -> None:
    """Keep the record that knows more. Order and copies do not matter."""
    match record:
        case Sending():
            known = entry.sending
            if known is not None and known.attempt == record.attempt and known.epoch != record.epoch:
                entry.contested = record.attempt
            entry.sending = _later(known, record)
        case Unsure():
            entry.unsure = _later(entry.unsure, record)
        case Deferred():
            if entry.deferred is None or record.at_ms >= entry.deferred.at_ms:
                entry.deferred = record
        case Settled() if record.result is None:
            entry.unsent = _later(entry.unsent, record)
        case Settled():
            entry.settled = _better(entry.settled, record)
            entry.settled_offset = offset if entry.settled is record else entry.settled_offset


def _archive(entry: Entry) -> None:
    """Once nothing is left to do for a finished command, memory keeps where its result stands; the log has the rest."""
    settled = entry.settled
    if settled is None or settled.owed or entry.deferred is not None:
        return
    entry.archived = Archived(
        attempt=settled.attempt,
        digest=settled.digest,
        at_ms=settled.at_ms,
        offset=entry.settled_offset,
        was_cancelled=isinstance(settled.result, CallCancelled),
        was_unsure=entry.unsure is not None,
        unsent=0 if entry.unsent is None else entry.unsent.attempt,
    )
    entry.settled = entry.sending = entry.unsent = entry.unsure = None


def _later(known: S | None, record: S) -> S:
    return record if known is None or record.attempt >= known.attempt else known


def _better(known: Settled | None, record: Settled) -> Settled:
    """A settlement beats what it settles, the later attempt the earlier, the published the owed."""
    return record if known is None or _weight(record) >= _weight(known) else known


def _weight(settled: Settled) -> tuple[bool, int, bool]:
    return getattr(settled.result, "settles_unknown", False), settled.attempt, not settled.owed


def _erase(entry: Entry, key: KeyParts) -> None:
    match key.kind:
        case "deferred":
            entry.deferred = None
        case "sending" if entry.sending is not None and entry.sending.attempt == key.attempt:
            entry.sending = None
        case "unsure" if entry.unsure is not None and entry.unsure.attempt == key.attempt:
            entry.unsure = None
        case "unsent" if entry.unsent is not None and entry.unsent.attempt == key.attempt:
            entry.unsent = None
        case "settled":
            if entry.settled is not None and entry.settled.attempt == key.attempt:
                entry.settled = None
            if entry.archived is not None and entry.archived.attempt == key.attempt:
                entry.archived = None
        case _:
            pass
