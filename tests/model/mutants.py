"""The protocol with one rule taken out: each must be found out.

Where the code has two lines of defence, `GUARDED` takes out only the first, and shows that the second holds; `MUTANTS`
then takes out both.
"""

# ruff: noqa: ARG002 -- a mutant looks at less than the rule it replaces

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from bridge.commands import settle
from bridge.commands.settle import Settlement
from bridge.ledger import transitions
from bridge.ledger.partition import LedgerPartition
from bridge.ledger.records import CommandRecord, Fence, Record, Sending, Settled, Unsure
from bridge.ledger.state import LedgerState, Verdict
from bridge.ledger.transitions import Archived, Entry, State
from bridge.model.results import Result
from tests.model import judge
from tests.model.facts import FACTS
from tests.model.knowledge import Seen
from tests.model.scenarios import CALLED, NO_ANSWER
from tests.model.scripts import Asked, OutcomeName, Script, Scripts
from tests.model.stage import Do
from tests.model.world import Bounds

Patch = tuple[object, str, Any]

_judge: Callable[[LedgerState, Record, int], Verdict] = LedgerState.judge
_state: Callable[[Entry, Settled | None, Unsure | None], State] = Entry.state_given
_is_statement: Callable[[CommandRecord | None], bool] = transitions._is_statement


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


class ReadsNothingAnew(Scripts):
    """Who goes on from what its process kept does not read what was written meanwhile."""

    def kept_from(self, knowledge: int) -> int:
        """Behind everything."""
        return 99 if knowledge >= 0 else 0


class KeepsForEver(Scripts):
    """What a process kept is taken up again when what led on from it was erased long ago."""

    keeps_for_ever = True


class OneKeyForAll(Scripts):
    """All records of a command have one key: compaction leaves the last."""

    def key(self, fact: int) -> bytes:
        """The command's id."""
        found = FACTS.all[fact]
        return found.key if found.command_id is None else found.command_id.encode()


class OneKeyForDecisions(Scripts):
    """What owners decide about a command shares a key."""

    def key(self, fact: int) -> bytes:
        """The command's id."""
        return re.sub(rb"/decided/.*", b"/decided", FACTS.all[fact].key)


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


def _frees_unsettled(entry: Entry, settled: Settled | None, unsure: Unsure | None) -> State:
    state = _state(entry, settled, unsure)
    return State.FREE if state is State.UNSETTLED else state


def _frees_unknown(entry: Entry, settled: Settled | None, unsure: Unsure | None) -> State:
    """Proof that an attempt was not sent counts even after somebody has doubted it."""
    state = _state(entry, settled, unsure)
    proven = entry.unsent is not None and entry.unsent.attempt == entry.attempt
    return State.FREE if state is State.UNKNOWN and proven else state


def _frees_by_any_attempt(entry: Entry, settled: Settled | None, unsure: Unsure | None) -> State:
    """Proof that an earlier attempt was not sent counts for a later one."""
    state = _state(entry, settled, unsure)
    return State.FREE if state is State.UNSETTLED and entry.unsent is not None else state


def _always_counts(state: LedgerState, claim: Sending) -> bool:
    return True


async def _does_not_look(partition: LedgerPartition) -> None:
    """What stands behind the fence is found out by and by."""


def _keeps_void(entry: Entry, record: CommandRecord) -> None:
    """A decision that stood first stands."""


def _keeps_archived(record: CommandRecord, archived: Archived) -> bool:
    return False


def _takes_doubts_for_knowledge(record: CommandRecord | None) -> bool:
    return _is_statement(record) and not isinstance(record, Unsure)


def _takes_giving_up_for_knowledge(settled: Settled) -> bool:
    return settled.outcome is None


async def _gives_up_unjudged(settlement: Settlement, command_id: str) -> bool:
    """A refusal for want of an owner is written down and told as if it were the provider's word."""
    ledger = settlement._ledger
    entry = ledger.state.entry(command_id)
    assert entry is not None
    assert entry.unsent is not None
    result = settlement._refused(entry, entry.unsent)
    await settlement._pay(msgspec.structs.replace(entry.unsent, epoch=ledger.state.epoch, result=result))
    return True


def _does_not_settle(result: Result) -> Result:
    """What is told again of a command that was unknown is what stands in the log."""
    return result


def _doubts_nothing(unsure: Unsure, end: Settled | Archived) -> bool:
    """A doubt of which the writer of an end knew nothing is no unknown that it settles."""
    return False


UNAWARE: Patch = (transitions, "_doubts", _doubts_nothing)
SETTLING: Patch = (settle, "settling", _does_not_settle)
LOOK: Patch = (LedgerPartition, "_look_behind_the_fence", _does_not_look)
ORDER: Patch = (transitions, "_drop_void", _keeps_void)
REOPENED: Patch = (transitions, "_reopens", _keeps_archived)
DOUBTS: Patch = (transitions, "_is_statement", _takes_doubts_for_knowledge)
GIVEN_UP: Patch = (Settled, "is_decision", property(_takes_giving_up_for_knowledge))
GIVING_UP: Patch = (Settlement, "give_up", _gives_up_unjudged)
FENCES: Patch = (LedgerState, "judge", _overlooks_fences)
CLAIMS: Patch = (LedgerState, "judge", _overlooks_claims)
ALL_KNOWN: Patch = (LedgerState, "may_count", _always_counts)
UNSETTLED: Patch = (Entry, "state_given", _frees_unsettled)
UNKNOWN: Patch = (Entry, "state_given", _frees_unknown)
ANY_ATTEMPT: Patch = (Entry, "state_given", _frees_by_any_attempt)

TWO = Bounds(owners=2)
COPY = Bounds(owners=2, copies=1)
TWO_COMMANDS = Bounds(
    owners=2, attempts=1, copies=1, copies_claims_only=True, second_command_from=1, outcomes=(NO_ANSWER, NO_ANSWER)
)

OLD = Bounds(attempts=1, unconfigured=frozenset({0}))
OLD_COPY = OLD._replace(copies=1, outcomes=CALLED)
EXPIRY = Bounds(attempts=1, expires=True, outcomes=(NO_ANSWER,))
KEPT = Bounds(keeps=True, attempts=1, outcomes=CALLED)
KEPT_WINDOW = KEPT._replace(sweeps=1, outcomes=(("accepted",),))
LATE_ANSWER = Bounds(attempts=1, copies=1, outcomes=(("accepted",),))
WEBHOOKS = Bounds(hears=True, attempts=1, outcomes=CALLED)
GIVES_UP = Bounds(outcomes=(("not_sent", "unknown"),))

MUTANTS = (
    Mutant("dials before the acknowledgement", TWO, judge.TWICE, DialsBeforeTheAnswer),
    Mutant("counts a time-out as an acknowledgement", TWO._replace(retries=1), judge.TWICE, CountsTimeouts),
    Mutant("ignores the gap", TWO, judge.TWICE, IgnoresTheGap),
    Mutant("does not end on a foreign fence", TWO, judge.UNCOUNTED, patches=(FENCES,)),
    Mutant("does not end on an emptied offset", COPY, judge.TWICE, FillsTheGap),
    Mutant("does not look behind its fence", TWO._replace(hears=True, attempts=1), judge.ONE_ID, patches=(LOOK,)),
    Mutant("ignores a foreign claim in the gap", COPY, judge.TWICE, patches=(CLAIMS, ALL_KNOWN, LOOK)),
    Mutant("judges a claim by its own gap only", TWO_COMMANDS, judge.TWICE, patches=(ALL_KNOWN, LOOK)),
    Mutant("does not ask what is known", TWO_COMMANDS, judge.DOUBT, patches=(ALL_KNOWN,)),
    Mutant("tells a settlement again as if nothing had been unknown", WEBHOOKS, judge.ONE_ID, patches=(SETTLING,)),
    Mutant("tells an end as its writer knew it", LATE_ANSWER, judge.ONE_ID, patches=(UNAWARE,)),
    Mutant("lets a decision stand that stood first", OLD, judge.ONE_ID, patches=(ORDER,)),
    Mutant("lets a decision stand that was archived", OLD_COPY, judge.DENIAL, patches=(REOPENED,)),
    Mutant("one key for all decisions", EXPIRY, judge.ONE_ID, OneKeyForDecisions),
    Mutant("takes a former owner's doubt for knowledge", EXPIRY, judge.ONE_ID, patches=(DOUBTS,)),
    Mutant("does not judge a refusal for want of an owner", GIVES_UP, judge.DENIAL, patches=(GIVEN_UP, GIVING_UP)),
    Mutant("un-writes a claim after an error", TWO, judge.TWICE, Unwrites),
    Mutant("retries what is unknown", TWO, judge.TWICE, RetriesUnknown),
    Mutant("claims again what a former owner left unsettled", TWO, judge.TWICE, patches=(UNSETTLED,)),
    Mutant("does not read what was written since it kept", KEPT, judge.TWICE, ReadsNothingAnew),
    Mutant("keeps for ever", KEPT_WINDOW, judge.ONE_ID, KeepsForEver),
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
    Mutant("ignores a foreign claim in the gap", COPY._replace(attempts=1), judge.TWICE, patches=(CLAIMS, LOOK)),
    # Whoever looks behind its fence has seen every claim that counted before it claims itself.
    Mutant("judges a claim by its own gap only", TWO_COMMANDS, judge.TWICE, patches=(ALL_KNOWN,)),
)
