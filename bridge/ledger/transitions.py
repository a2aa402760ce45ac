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
    a foreign `settled`                   is knowledge, and welcome; a claim of that id does not count
    a former owner's word (see below)     is void where there is a claim, and the owner's own where there is none
    own copies (a retried write)          nothing new

What compaction took from in front of the fence, because it stands behind it once more, a lane finds by reading a second
time when it opens: from its fence to a place that is acknowledged after the first reading. Only then it acts.

States of a command id, from its records (each kind has its own key; the highest attempt speaks):

    (none) ──sending──▶ UNSETTLED ──settled(result)───▶ FINISHED
      │                    │  │                            ▲
      │                    │  └──settled(not_sent)──▶ FREE │ (may be claimed again under the next attempt)
      │                    └──unsure──▶ UNKNOWN ──settled──┘ (evidence came late; the one way out of UNKNOWN)
      ├──deferred──▶ DEFERRED ──sending──▶ …
      └──settled(attempt 0)──▶ FINISHED (refused, expired or cancelled before any claim)

An end without a dial (refused, expired, cancelled, given up) is a decision, not knowledge. It is judged by its gap as a
claim is, and told only if it counts. Decision and `unsure` are an owner's word: void where a later owner has claimed the
command or said something else, in whatever order the two stand. That owner did not know of the word, so it was never
told. Each owner's decision has a key of its own: one that was never told must not let compaction take one that was.

Invariants: nothing leads from UNSETTLED or UNKNOWN to a claim except `settled(not_sent)` of that very attempt (a void
word apart); whether a command is over depends on no order of records and copies; knowledge is never taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeGuard

import msgspec

from bridge.ledger.records import CommandRecord, Deferred, KeyParts, Sending, Settled, Unsure
from bridge.model.results import CallCancelled


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
    epoch: int
    was_cancelled: bool = False
    unsent: int = 0
    """The last attempt that was proven not to have dialled, if any was."""
    is_decision: bool = False
    settles_unknown: bool = False
    """It is to be told as a settlement."""


class Entry:
    """All that is known of one command id. Changed by `fold` and `erase` only."""

    __slots__ = (
        "archived",
        "claimed_in",
        "contested",
        "decided",
        "deferred",
        "doubted",
        "sending",
        "settled",
        "settled_offset",
        "unsent",
        "unsure",
    )

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
        self.claimed_in = -1
        """The epoch of the last owner that claimed it, under whichever attempt."""
        self.decided: tuple[int, ...] = ()
        """Epochs of the owners whose decisions about it stand in the log, void or not: all are to be erased one day."""
        self.doubted = 0
        """The last attempt that somebody said nobody knows about, void or not: likewise."""

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
        return self.state_given(self.settled, self.unsure)

    def state_given(self, settled: Settled | None, unsure: Unsure | None) -> State:
        """The same, did only these statements stand."""
        if self.archived is not None or settled is not None:
            return State.FINISHED
        if unsure is not None:
            return State.UNKNOWN
        if self.sending is not None and (self.unsent is None or self.unsent.attempt < self.sending.attempt):
            return State.UNSETTLED
        return State.DEFERRED if self.deferred is not None else State.FREE

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come but its erasure; so it is with what came in after that, too."""
        if self.archived is not None:
            return True
        remnant = self.sending is None and (self.unsent is not None or bool(self.decided))
        state = self.state
        is_over = state is State.FINISHED or state is State.UNKNOWN or (state is State.FREE and remnant)
        return is_over and not self.owed

    @property
    def standing_decision(self) -> int | None:
        """The epoch of the decision that is its end, if one is."""
        if self.archived is not None:
            return self.archived.epoch if self.archived.is_decision else None
        return self.settled.epoch if self.settled is not None and self.settled.is_decision else None

    def records(self) -> Iterable[CommandRecord | Archived]:
        """What is remembered, each kind once."""
        known = (self.sending, self.settled, self.unsent, self.unsure, self.deferred, self.archived)
        return (record for record in known if record is not None)


def fold(entry: Entry, record: CommandRecord, offset: int) -> None:
    """Take in a record. Order and copies do not matter."""
    if entry.archived is not None and _reopens(record, entry.archived):
        entry.archived = None
    if isinstance(record, Unsure):  # whether it stands or not, it will have to be erased
        entry.doubted = max(entry.doubted, record.attempt)
    elif isinstance(record, Settled) and record.is_decision and record.epoch not in entry.decided:
        entry.decided = (*entry.decided, record.epoch)
    if entry.archived is not None:
        entry.archived = _noted(entry.archived, record, offset)
        return
    if entry.settled is not None or entry.unsure is not None:
        _drop_void(entry, record)
    if not _is_void(record, entry):
        _merge(entry, record, offset)
        archive(entry)


def may_count(entry: Entry, claim: Sending, *, epoch: int) -> bool:
    """Whether an acknowledged claim of the owner of this epoch is the permission to dial."""
    if entry.contested == claim.attempt:
        return False
    settled = None if _overrules(claim, entry.settled) else entry.settled
    state = entry.state_given(settled, None if _overrules(claim, entry.unsure) else entry.unsure)
    if state in {State.FREE, State.DEFERRED}:
        return entry.attempt < claim.attempt
    copy = entry.sending
    own = copy is not None and (copy.epoch, copy.attempt) == (epoch, claim.attempt)
    return own and state is State.UNSETTLED


def may_end(entry: Entry, decision: Settled) -> bool:
    """Whether an acknowledged decision to end a command may be told."""
    if entry.state is State.UNKNOWN:
        return _settles_unknown(decision)
    is_copy = entry.standing_decision == decision.epoch
    return entry.state in {State.FREE, State.DEFERRED} or is_copy


def archive(entry: Entry) -> None:
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
        unsent=0 if entry.unsent is None else entry.unsent.attempt,
        epoch=settled.epoch,
        is_decision=settled.is_decision,
        settles_unknown=settles_unknown(entry),
    )
    entry.settled = entry.sending = entry.unsent = entry.unsure = None


def erase(entry: Entry, key: KeyParts) -> None:
    """Take in a tombstone."""
    match key.kind:
        case "deferred":
            entry.deferred = None
        case "sending" if entry.sending is not None and entry.sending.attempt == key.attempt:
            entry.sending = None
        case "unsure" if entry.unsure is not None and entry.unsure.attempt == key.attempt:
            entry.unsure = None
        case "unsent" if entry.unsent is not None and entry.unsent.attempt == key.attempt:
            entry.unsent = None
        case "settled" if entry.standing_decision is None:
            _erase_end(entry, key.attempt)
        case "decided":
            _erase_decision(entry, key.attempt)
        case _:
            pass
    archive(entry)


def _is_statement(record: CommandRecord | None) -> TypeGuard[Settled | Unsure]:
    """Whether a record is no knowledge, but what its owner has made up its mind to say.

    What settles an unknown takes what was said into account: it stands beside it.
    """
    if isinstance(record, Settled):
        return record.is_decision and not _settles_unknown(record)
    return isinstance(record, Unsure)


def _overrules(record: CommandRecord | None, statement: CommandRecord | None) -> bool:
    """Whether what an owner said is void, because a later owner claimed the command or said something else.

    The order of the two tells nothing: either may be a copy that stands behind where the original stood.
    """
    if not _is_statement(statement) or (isinstance(record, Unsure) and isinstance(statement, Unsure)):
        return False
    return (isinstance(record, Sending) or _is_statement(record)) and record.epoch > statement.epoch


def _is_void(record: CommandRecord, entry: Entry) -> bool:
    if not _is_statement(record):
        return False
    return entry.claimed_in > record.epoch or _overrules(entry.unsure, record) or _overrules(entry.settled, record)


def _reopens(record: CommandRecord, archived: Archived) -> bool:
    """Whether the archived end was a decision, and turns out to be void."""
    if not archived.is_decision or archived.settles_unknown:
        return False
    if isinstance(record, Settled) and record.result is not None and not record.is_decision:
        return True
    return (isinstance(record, Sending) or _is_statement(record)) and record.epoch > archived.epoch


def settles_unknown(entry: Entry) -> bool:
    """Whether the end is to be told as the settlement of an unknown, though whoever wrote it may not have known of that."""
    if entry.settled is None:
        return entry.archived is not None and entry.archived.settles_unknown
    return _settles_unknown(entry.settled) or (entry.unsure is not None and _doubts(entry.unsure, entry.settled))


def _doubts(unsure: Unsure, end: Settled | Archived) -> bool:
    """Whether a later owner than the one that knew the end said that nobody knows: it was not told of it."""
    return not end.is_decision and unsure.epoch > end.epoch


def _settles_unknown(settled: Settled) -> bool:
    return getattr(settled.result, "settles_unknown", False)


def _noted(archived: Archived, record: CommandRecord, offset: int) -> Archived:
    if _is_end(record, archived):  # a copy: compaction will leave only this one
        return msgspec.structs.replace(archived, offset=offset)
    if isinstance(record, Unsure) and _doubts(record, archived):
        return msgspec.structs.replace(archived, settles_unknown=True)
    return archived


def _is_end(record: CommandRecord, archived: Archived) -> bool:
    """Whether this is a copy of what ended the command."""
    if not isinstance(record, Settled) or record.result is None:
        return False
    if record.is_decision:
        return archived.is_decision and record.epoch == archived.epoch
    return not archived.is_decision and record.attempt == archived.attempt


def _drop_void(entry: Entry, record: CommandRecord) -> None:
    if _overrules(record, entry.settled):
        entry.settled, entry.settled_offset = None, -1
    if _overrules(record, entry.unsure):
        entry.unsure = None


def _merge(entry: Entry, record: CommandRecord, offset: int) -> None:
    match record:
        case Sending():
            _merge_claim(entry, record)
        case Unsure():
            if entry.unsure is None or (record.epoch, record.attempt) >= (entry.unsure.epoch, entry.unsure.attempt):
                entry.unsure = record
        case Deferred() if entry.deferred is None or record.at_ms >= entry.deferred.at_ms:
            entry.deferred = record
        case Settled(result=None) if entry.unsent is None or record.attempt >= entry.unsent.attempt:
            entry.unsent = record
        case Settled() if record.result is not None:
            entry.settled = _better(entry.settled, record)
            entry.settled_offset = offset if entry.settled is record else entry.settled_offset


def _merge_claim(entry: Entry, record: Sending) -> None:
    entry.claimed_in = max(entry.claimed_in, record.epoch)
    known = entry.sending
    if known is not None and known.attempt == record.attempt and known.epoch != record.epoch:
        entry.contested = record.attempt
    if known is None or (record.attempt, record.epoch) >= (known.attempt, known.epoch):
        entry.sending = record


def _erase_end(entry: Entry, attempt: int) -> None:
    if entry.settled is not None and entry.settled.attempt == attempt:
        entry.settled = None
    if entry.archived is not None and entry.archived.attempt == attempt:
        entry.archived = None


def _erase_decision(entry: Entry, epoch: int) -> None:
    if entry.standing_decision == epoch:
        entry.settled = entry.archived = None
    entry.decided = tuple(each for each in entry.decided if each != epoch)


def _better(known: Settled | None, record: Settled) -> Settled:
    """A settlement beats what it settles, knowledge a decision, the later attempt the earlier, the published the owed."""
    return record if known is None or _weight(record) >= _weight(known) else known


def _weight(settled: Settled) -> tuple[bool, bool, int, bool]:
    return _settles_unknown(settled), not settled.is_decision, settled.attempt, not settled.owed
