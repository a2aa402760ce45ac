"""The protocol with one rule taken out: each must be found out.

Where the code has two lines of defence, `GUARDED` takes out only the first, and shows that the second holds; `MUTANTS`
then takes out both.
"""

# ruff: noqa: ARG002 -- a mutant looks at less than the rule it replaces

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from bridge.ledger.records import Fence, Record, Sending
from bridge.ledger.transitions import Entry, LedgerState, State, Verdict
from tests.model import judge
from tests.model.facts import FACTS
from tests.model.knowledge import Seen
from tests.model.scenarios import NO_ANSWER
from tests.model.scripts import Asked, OutcomeName, Script, Scripts
from tests.model.stage import Do
from tests.model.world import Bounds

Patch = tuple[type, str, Any]

_judge: Callable[[LedgerState, Record, int], Verdict] = LedgerState.judge
_state: Callable[[Entry], State] = Entry.state.fget  # type: ignore[attr-defined]


class Mutant(NamedTuple):
    """What is taken out, where, and what it leads to."""

    name: str
    bounds: Bounds
    breaks: str
    rules: type[Scripts] = Scripts
    patches: tuple[Patch, ...] = ()


# -- what a lane does -------------------------------------------------------------------------------------------------


class DialsBeforeTheAnswer(Scripts):
    """The request leaves together with the claim."""

    dials_before_the_answer = True


class CountsTimeouts(Scripts):
    """No acknowledgement is taken for one."""

    counts_timeouts = True


class LoadsAtTheStart(Scripts):
    """The fence is not waited for: what stands between the end as it was and the fence is never read."""

    loads_at_the_start = True


class Unwrites(Scripts):
    """After an error the claim is erased, as if it had not been made."""

    def counted(self, asked: Asked, claim: int, outcome: OutcomeName | None) -> Script:
        """A tombstone instead of a doubt."""
        if outcome == "unknown":
            return ((Do.WRITE, FACTS.tombstone(FACTS.all[claim].key)),)
        return super().counted(asked, claim, outcome)


class RetriesUnknown(Scripts):
    """A time-out of the provider is taken for proof that nothing was dialled."""

    def counted(self, asked: Asked, claim: int, outcome: OutcomeName | None) -> Script:
        """Settled as not sent instead of doubted."""
        return super().counted(asked, claim, "not_sent" if outcome == "unknown" else outcome)


# -- what a lane reads ------------------------------------------------------------------------------------------------


class IgnoresTheGap(Scripts):
    """What stands in front of an acknowledged offset is taken for own copies, unread."""

    def shown(self, owner: str, seen: Seen, start: int, end: int) -> Seen:
        """Own fences throughout."""
        return _own(owner, range(start, end)) if start else seen


class FillsTheGap(Scripts):
    """An offset that compaction emptied is taken for an own copy."""

    def shown(self, owner: str, seen: Seen, start: int, end: int) -> Seen:
        """Own fences where nothing is left."""
        there = {offset for offset, _ in seen}
        empty = [offset for offset in range(start, end) if offset not in there]
        return tuple(sorted((*seen, *_own(owner, empty)))) if start else seen


class ReadsAPart(Scripts):
    """The record in front of the own fence is not read."""

    def shown(self, owner: str, seen: Seen, start: int, end: int) -> Seen:
        """All but the last."""
        return seen if start else seen[:-1]


class OneKeyForAll(Scripts):
    """All records of a command have one key: compaction leaves the last."""

    def key(self, fact: int) -> bytes:
        """The command's id."""
        found = FACTS.all[fact]
        return found.key if found.command_id is None else found.command_id.encode()


class OneKeyForAnAttempt(Scripts):
    """Claim, end and doubt of an attempt share a key."""

    def key(self, fact: int) -> bytes:
        """The command's id and the attempt."""
        return re.sub(rb"/(sending|unsent|settled|unsure)/", b"/all/", FACTS.all[fact].key)


def _own(owner: str, offsets: range | list[int]) -> Seen:
    return tuple((offset, FACTS.number(Fence(owner, 0))) for offset in offsets)


# -- what a lane makes of it ------------------------------------------------------------------------------------------


def _overlooks_fences(state: LedgerState, record: Record, offset: int) -> Verdict:
    return Verdict() if isinstance(record, Fence) else _judge(state, record, offset)


def _overlooks_claims(state: LedgerState, record: Record, offset: int) -> Verdict:
    return Verdict() if isinstance(record, Sending) else _judge(state, record, offset)


def _frees_unsettled(entry: Entry) -> State:
    state = _state(entry)
    return State.FREE if state is State.UNSETTLED else state


def _frees_unknown(entry: Entry) -> State:
    """Proof that an attempt was not sent counts even after somebody has doubted it."""
    state = _state(entry)
    proven = entry.unsent is not None and entry.unsent.attempt == entry.attempt
    return State.FREE if state is State.UNKNOWN and proven else state


def _frees_by_any_attempt(entry: Entry) -> State:
    """Proof that an earlier attempt was not sent counts for a later one."""
    state = _state(entry)
    return State.FREE if state is State.UNSETTLED and entry.unsent is not None else state


def _always_counts(state: LedgerState, claim: Sending) -> bool:
    return True


FENCES: Patch = (LedgerState, "judge", _overlooks_fences)
CLAIMS: Patch = (LedgerState, "judge", _overlooks_claims)
ALL_KNOWN: Patch = (LedgerState, "may_count", _always_counts)
UNSETTLED: Patch = (Entry, "state", property(_frees_unsettled))
UNKNOWN: Patch = (Entry, "state", property(_frees_unknown))
ANY_ATTEMPT: Patch = (Entry, "state", property(_frees_by_any_attempt))

TWO = Bounds(owners=2)
COPY = Bounds(owners=2, copies=1)
TWO_COMMANDS = Bounds(
    owners=2, attempts=1, copies=1, copies_claims_only=True, second_command_from=1, outcomes=(NO_ANSWER, NO_ANSWER)
)

MUTANTS = (
    Mutant("dials before the acknowledgement", TWO, judge.TWICE, DialsBeforeTheAnswer),
    Mutant("counts a time-out as an acknowledgement", TWO._replace(retries=1), judge.TWICE, CountsTimeouts),
    Mutant("ignores the gap", TWO, judge.TWICE, IgnoresTheGap),
    Mutant("does not end on a foreign fence", TWO, judge.UNCOUNTED, patches=(FENCES,)),
    Mutant("does not end on an emptied offset", COPY, judge.TWICE, FillsTheGap),
    Mutant("ignores a foreign claim in the gap", COPY, judge.TWICE, patches=(CLAIMS, ALL_KNOWN)),
    Mutant("judges a claim by its own gap only", TWO_COMMANDS, judge.TWICE, patches=(ALL_KNOWN,)),
    Mutant("un-writes a claim after an error", TWO, judge.TWICE, Unwrites),
    Mutant("retries what is unknown", TWO, judge.TWICE, RetriesUnknown),
    Mutant("claims again what a former owner left unsettled", TWO, judge.TWICE, patches=(UNSETTLED,)),
    Mutant("does not wait for its fence", TWO, judge.TWICE, LoadsAtTheStart),
    Mutant("one key for all records of a command", COPY, judge.TWICE, OneKeyForAll),
    Mutant("one key for all records of an attempt", Bounds(), judge.DOUBT, OneKeyForAnAttempt),
    Mutant("reads only a part of the log", TWO, judge.TWICE, ReadsAPart),
    Mutant("lets late proof free what was doubted", TWO, judge.DOUBT, patches=(UNKNOWN,)),
    Mutant(
        "takes proof of any attempt for all", TWO._replace(attempts=3), judge.TWICE, patches=(ANY_ATTEMPT, ALL_KNOWN)
    ),
)

GUARDED = (
    # `LedgerState.may_count` finds the claim in what the gap has told, though `judge` does not name it.
    Mutant("ignores a foreign claim in the gap", COPY, judge.TWICE, patches=(CLAIMS,)),
)
