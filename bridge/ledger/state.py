"""What one lane knows of its ledger partition: `transitions` applied to the log, record by record, without holes.

Pure. Promises that folding a copy again changes nothing, and that `next_offset` stands directly behind everything seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from bridge.ledger import transitions
from bridge.ledger.records import CommandRecord, Fence, KeyParts, Record, Sending, Settled, Unsure, key_of
from bridge.ledger.transitions import Entry, State

_RECENT_CLAIMS = 10_000
"""As many as an account may be allowed in a second."""


class Verdict(msgspec.Struct, frozen=True):
    """What a gap in front of an acknowledged offset means for the lane."""

    ended: str | None = None
    """Why the lane has to end, if it has to."""
    foreign: frozenset[str] = frozenset()
    """Command ids about which somebody else wrote."""
    against: frozenset[str] = frozenset()
    """Those of them of which a claim does not count now."""


class RecentClaim(NamedTuple):
    """A claim that was made not long ago; `at` in wall-clock seconds."""

    at: float
    command_id: str
    attempt: int


class LedgerState:
    """One lane's knowledge of its ledger partition. `next_offset` is directly behind everything it has seen.

    An owner that has not opened its partition yet may go on from what a former owner knew, in whose hands that is no more.
    """

    def __init__(self, owner: str, known: LedgerState | None = None) -> None:
        self.owner = owner
        self.epoch = -1
        self.next_offset = 0
        self.entries: dict[str, Entry] = {}
        self.recent_claims: dict[str, deque[RecentClaim]] = {}
        """The last ones for each connection: what a new owner's pace goes on from."""
        self._old_fences: dict[str, Fence] = {}
        self._fence: Fence | None = None
        self._last_owner = ""
        self._last_fence = -1
        if known is not None:
            self._go_on_from(known)

    def _go_on_from(self, known: LedgerState) -> None:
        self.next_offset, self.entries, self.recent_claims = known.next_offset, known.entries, known.recent_claims
        self._old_fences, self._last_owner, self._last_fence = known._old_fences, known._last_owner, known._last_fence
        if known._fence is not None:
            self._old_fences[known.owner] = known._fence

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
        transitions.erase(entry, key)
        if not entry.decided and not any(True for _ in entry.records()):
            del self.entries[key.command_id]

    def _fold_fence(self, fence: Fence, offset: int) -> None:
        if fence.owner != self.owner:
            self._old_fences[fence.owner] = fence
        elif self.epoch < 0:
            self.epoch, self._fence = offset, fence
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
            recent = self.recent_claims.setdefault(record.connection, deque(maxlen=_RECENT_CLAIMS))
            recent.append(RecentClaim(record.at_ms / 1000, record.command_id, record.attempt))
        was_over = entry.archived is not None
        transitions.fold(entry, record, offset)
        if isinstance(record, Settled | Unsure) and not was_over and entry.is_over:
            # What is over stands in the order of its end, so that letting go of the oldest need not look at all.
            self.entries[record.command_id] = self.entries.pop(record.command_id)

    def judge(self, record: Record, offset: int) -> Verdict:
        """What a record in a gap means, before it is folded."""
        match record:
            case Fence() if record.owner != self.owner and offset > self.epoch:
                return Verdict(ended=f"another owner's fence stands at offset {offset}")
            case Settled(is_decision=True) | Unsure() if record.epoch < self.epoch:
                return Verdict(foreign=frozenset({record.command_id}))
            case Sending() | Settled() | Unsure() if record.epoch != self.epoch:
                return Verdict(foreign=frozenset({record.command_id}), against=frozenset({record.command_id}))
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
            return transitions.may_end(entry, claim)
        return transitions.may_count(entry, claim, epoch=self.epoch)

    def unsettled(self, among: Iterable[str] | None = None) -> list[Sending]:
        """Claims of which nobody has said what they came to; only those of some commands, if they are named."""
        entries = self.entries.values() if among is None else [self.entries.get(each) for each in among]
        return [each.sending for each in entries if each and each.sending and each.state is State.UNSETTLED]

    def over_before(self, before_ms: int, *, most: int) -> list[tuple[str, Entry]]:
        """Commands that came to their end before that time, oldest first; what is not over yet is passed by."""
        old: list[tuple[str, Entry]] = []
        for command_id, entry in self.entries.items():
            if entry.is_over:
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


def recent_dials(state: LedgerState, connection: str) -> list[tuple[float, float | None]]:
    """When each recent claim was made, and when it was known what it came to, if it is; in wall-clock seconds."""
    recent = state.recent_claims.get(connection, ())
    return [(each.at, _known_at(each, state.entry(each.command_id))) for each in recent]


def _known_at(claim: RecentClaim, entry: Entry | None) -> float | None:
    ends = () if entry is None else (entry.archived, entry.settled, entry.unsent, entry.unsure)
    return next((each.at_ms / 1000 for each in ends if each is not None and each.attempt == claim.attempt), None)
