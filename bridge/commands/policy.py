"""What to do with a command, given what the ledger knows: pure, and the only place that decides it.

Everything that can refuse does so here, before any effect. The answer is one of seven decisions; `dispatch` carries it
out and asks again after each outcome, so that the same table serves first attempts, retries, redeliveries and
recovery.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

import msgspec

from bridge.ledger.records import Sending
from bridge.ledger.transitions import Entry, State
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.outcome import NotSent, NotSentReason, RefusalReason, Refused
from bridge.model.results import (
    CallCancelled,
    CallExpired,
    CallRefused,
    Result,
)
from bridge.model.words import call_id_of
from bridge.providers.protocol import Plan

DecisionName: TypeAlias = Literal["dial", "finish", "publish", "repeat", "postpone", "doubt", "nothing"]


class Finish(msgspec.Struct, frozen=True):
    """The command ends without a dial: write the result into the ledger, then publish it."""

    name: ClassVar[DecisionName] = "finish"

    result: Result


class Repeat(msgspec.Struct, frozen=True):
    """The ledger has a result: publish it once more."""

    name: ClassVar[DecisionName] = "repeat"


class Publish(msgspec.Struct, frozen=True):
    """Publish this; the ledger need not know it."""

    name: ClassVar[DecisionName] = "publish"

    result: Result


class Claim(msgspec.Struct, frozen=True):
    """Claim this attempt; when the claim counts, dial."""

    name: ClassVar[DecisionName] = "dial"

    attempt: int
    plan: Plan


class Doubt(msgspec.Struct, frozen=True):
    """A claim of which nobody knows what it came to: wait for evidence, or say so."""

    name: ClassVar[DecisionName] = "doubt"

    sending: Sending


class Postpone(msgspec.Struct, frozen=True):
    """Not due yet: keep the command in the ledger until then."""

    name: ClassVar[DecisionName] = "postpone"

    due: datetime


class Nothing(msgspec.Struct, frozen=True):
    """The ledger takes care of it already."""

    name: ClassVar[DecisionName] = "nothing"


Decision: TypeAlias = Finish | Repeat | Publish | Claim | Doubt | Postpone | Nothing


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What policy needs of the configuration."""

    max_attempts: int = 5
    retry_base_seconds: float = 0.5
    retry_max_seconds: float = 60.0
    longest_retry_after_seconds: float = 900.0
    """A longer pause that a provider asks for is taken as this one."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A command to place, with all that deciding about it needs."""

    command: PlaceCall
    digest: bytes
    provider: str | None
    check: Plan | Refused
    entry: Entry | None
    now: datetime
    due: bool = False
    """The command comes out of the ledger because its time has come."""


def decide(question: Question, limits: Limits) -> Decision:
    """What to do with a `call.place`."""
    entry, command = question.entry, question.command
    if entry is not None:
        if entry.digest not in {question.digest, b""}:
            return Publish(_refused(question, Refused("command_id_reused", detail=_REUSED)))
        known = _known(entry, due=question.due)
        if known is not None:
            return known
    if command.expires_at is not None and command.expires_at <= question.now:
        return Finish(
            CallExpired(
                command_id=command.command_id,
                call_id=call_id_of(command.command_id),
                connection=command.connection,
                provider=question.provider,
                attempts=0 if entry is None else entry.attempt,
                not_sent=not_sent(entry),
                metadata=command.metadata,
                expires_at=command.expires_at,
            )
        )
    if isinstance(question.check, Refused):
        return Finish(_refused(question, question.check))
    if entry is not None and entry.attempt >= limits.max_attempts:
        return Finish(_refused(question, given_up(entry)))
    if command.not_before is not None and command.not_before > question.now:
        return Postpone(command.not_before)
    return Claim(1 if entry is None else entry.attempt + 1, question.check)


def decide_cancel(command: CancelCall, entry: Entry | None) -> Decision:
    """What to do with a `call.cancel`: it works until the claim, and says so after it."""
    call_id = call_id_of(command.command_id)
    state = State.FREE if entry is None else entry.state
    match state:
        case State.FREE | State.DEFERRED:
            waiting = None if entry is None or entry.deferred is None else entry.deferred.command
            return Finish(
                CallCancelled(
                    command_id=command.command_id,
                    call_id=call_id,
                    connection=None if waiting is None else waiting.connection,
                    attempts=0 if entry is None else entry.attempt,
                    not_sent=not_sent(entry),
                    metadata={} if waiting is None else waiting.metadata,
                )
            )
        case State.FINISHED if entry is not None and _was_cancelled(entry):
            return Repeat()
        case _:
            return Publish(
                CallRefused(
                    command_id=command.command_id,
                    call_id=call_id,
                    attempts=0 if entry is None else entry.attempt,
                    not_sent=not_sent(entry),
                    reason="too_late_to_cancel",
                    detail=f"the command is {state.value}",
                )
            )


def retry_delay_seconds(outcome: NotSent, *, attempt: int, limits: Limits, jitter: float) -> float:
    """How long to wait before the next attempt: doubling, jittered (0 ≤ `jitter` < 1).

    Never less than was asked for, of which `longest_retry_after_seconds` count at most.
    """
    doubled = limits.retry_base_seconds * 2.0 ** (attempt - 1)
    backoff = min(limits.retry_max_seconds, doubled) * (0.5 + jitter / 2)
    return max(backoff, min(outcome.retry_after_seconds or 0.0, limits.longest_retry_after_seconds))


def given_up(entry: Entry) -> Refused:
    """The refusal after the last attempt that provably did not dial."""
    outcome = None if entry.unsent is None else entry.unsent.outcome
    detail = f"given up after {entry.attempt} attempts"
    if isinstance(outcome, NotSent):
        reason: RefusalReason = "rate_limited" if outcome.reason == "rate_limited" else "provider_unreachable"
        return Refused(reason, detail=f"{detail}: {outcome.reason}: {outcome.detail}")
    return Refused("provider_unreachable", detail=detail)


def not_sent(entry: Entry | None) -> tuple[NotSentReason, ...]:
    """Why the attempts so far did not dial, as far as memory goes, the first one first."""
    if entry is None:
        return ()
    sending, unsent = entry.sending, entry.unsent
    before = () if sending is None else sending.not_sent
    if unsent is None or not isinstance(unsent.outcome, NotSent) or unsent.attempt < entry.attempt:
        return before
    return (*before, unsent.outcome.reason)


_REUSED = "a command with this id and another body is known; give every command an id of its own"


def _known(entry: Entry, *, due: bool) -> Decision | None:
    """What the ledger already says about this very command; None where it is free to be decided."""
    match entry.state:
        case State.FINISHED | State.UNKNOWN:
            return Repeat()
        case State.UNSETTLED if entry.sending is not None:
            return Doubt(entry.sending)
        case State.DEFERRED if not due:
            return Nothing()
        case _:
            return None


def _was_cancelled(entry: Entry) -> bool:
    """Whether the end of a finished command was that it was cancelled."""
    if entry.settled is not None:
        return isinstance(entry.settled.result, CallCancelled)
    return entry.archived is not None and entry.archived.was_cancelled


def _refused(question: Question, refused: Refused) -> CallRefused:
    command = question.command
    return CallRefused(
        command_id=command.command_id,
        call_id=call_id_of(command.command_id),
        connection=command.connection,
        provider=question.provider,
        attempts=0 if question.entry is None else question.entry.attempt,
        not_sent=not_sent(question.entry),
        metadata=command.metadata,
        reason=refused.reason,
        provider_status=refused.provider_status,
        detail=refused.detail,
    )
