"""The decision table: every state a command may be in, against every command that may come for it."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands import policy
from bridge.commands.policy import (
    Claim,
    Decision,
    Doubt,
    Finish,
    Limits,
    Nothing,
    Postpone,
    Publish,
    Question,
    Repeat,
    decide,
    decide_cancel,
    given_up,
    retry_delay_seconds,
)
from bridge.ledger.records import Record
from bridge.ledger.transitions import Entry, State
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.outcome import NotSent, NotSentReason, Refused
from bridge.model.results import CallCancelled, CallExpired, CallRefused, result_event_id
from bridge.model.words import call_id_of
from bridge.providers.protocol import Plan
from tests.support.clock import NOON
from tests.support.ledger_values import (
    DIGEST,
    cancelled,
    deferred,
    folded,
    not_sent,
    place,
    sending,
    settled,
    unsure,
)

LIMITS = Limits(max_attempts=3)
LATER = NOON + timedelta(minutes=5)
COMMAND = place(metadata={"who": "me"})
PLAN = Plan(COMMAND, call_id_of("c"), (), None)
CALL_ID = call_id_of("c")

HISTORIES: dict[str, list[Record]] = {
    "nothing": [],
    "not sent": [sending(), not_sent()],
    "not sent twice": [sending(), not_sent(), sending(attempt=2), not_sent(attempt=2)],
    "deferred": [deferred()],
    "deferred after an attempt": [sending(), not_sent(), deferred()],
    "claimed": [sending()],
    "claimed again": [sending(), not_sent(), sending(attempt=2)],
    "claimed when due": [deferred(), sending()],
    "unknown": [sending(), unsure()],
    "unknown, then settled": [sending(), unsure(), settled()],
    "settled": [sending(), settled()],
    "settled, still deferred": [deferred(), sending(), settled()],
    "cancelled": [settled(attempt=0, result=cancelled())],
    "cancelled, still deferred": [deferred(), settled(attempt=0, result=cancelled())],
    "cancelled before it came": [settled(attempt=0, result=cancelled(), digest=b"")],
}
FREE_AT = {"nothing": 1, "not sent": 2, "not sent twice": 3}
"""States in which a command is open to be decided, and the attempt that is next."""
FREE_WHEN_DUE = {**FREE_AT, "deferred": 1, "deferred after an attempt": 2}
FINISHED = set(HISTORIES) - set(FREE_WHEN_DUE) - {"claimed", "claimed again", "claimed when due"}


def entry_of(history: str) -> Entry | None:
    """What the ledger knows after a history."""
    return folded(HISTORIES[history]).entry("c")


def asked(history: str, command: PlaceCall = COMMAND, *, due: bool = False, check: Plan | Refused = PLAN) -> Question:
    """The question of this command at noon."""
    return Question(
        command=command,
        digest=DIGEST,
        provider="sipgate",
        check=check,
        entry=entry_of(history),
        now=NOON,
        due=due,
    )


def attempts_of(history: str) -> int:
    """How many attempts were made."""
    entry = entry_of(history)
    return 0 if entry is None else entry.attempt


def expired(history: str, command: PlaceCall) -> Finish:
    """The decision that a command's time is over."""
    return Finish(
        CallExpired(
            command_id="c",
            call_id=CALL_ID,
            connection="demo",
            provider="sipgate",
            attempts=attempts_of(history),
            not_sent=policy.not_sent(entry_of(history)),
            metadata={"who": "me"},
            expires_at=command.expires_at,
        )
    )


def refused(history: str, refusal: Refused) -> CallRefused:
    """The result of a refusal."""
    return CallRefused(
        command_id="c",
        call_id=CALL_ID,
        connection="demo",
        provider="sipgate",
        attempts=attempts_of(history),
        not_sent=policy.not_sent(entry_of(history)),
        metadata={"who": "me"},
        reason=refusal.reason,
        provider_status=refusal.provider_status,
        detail=refusal.detail,
    )


def test_why_nothing_was_sent() -> None:
    """Each claim carries the reasons before it, so that the last one and its proof know them all."""
    second = msgspec.structs.replace(sending(attempt=2), not_sent=("rate_limited",))
    assert policy.not_sent(None) == ()
    assert policy.not_sent(folded([sending()]).entry("c")) == ()
    assert policy.not_sent(folded([sending(), not_sent(reason="rate_limited")]).entry("c")) == ("rate_limited",)
    assert policy.not_sent(folded([sending(), not_sent(reason="rate_limited"), second]).entry("c")) == ("rate_limited",)
    tried_twice: list[Record] = [
        sending(),
        not_sent(reason="rate_limited"),
        second,
        not_sent(reason="name_not_resolved", attempt=2),
    ]
    assert policy.not_sent(folded(tried_twice).entry("c")) == ("rate_limited", "name_not_resolved")


@pytest.mark.parametrize("due", [False, True])
@pytest.mark.parametrize("history", HISTORIES)
def test_place(history: str, due: bool) -> None:
    """The table of `call.place`: open states are claimed, claims are doubted, what has a result repeats it."""
    expected: Decision
    if history in (FREE_WHEN_DUE if due else FREE_AT):
        expected = Claim(FREE_WHEN_DUE[history], PLAN)
    elif history in FREE_WHEN_DUE:
        expected = Nothing()
    elif history in FINISHED:
        expected = Repeat()
    else:
        expected = Doubt(sending(attempt=2 if history == "claimed again" else 1))
    assert decide(asked(history, due=due), LIMITS) == expected


@pytest.mark.parametrize("due", [False, True])
@pytest.mark.parametrize("history", [each for each in HISTORIES if each not in {"nothing", "cancelled before it came"}])
def test_a_known_id_with_another_body(history: str, due: bool) -> None:
    """In every state it is refused, without touching the ledger, under an id of its own, even when it is long expired."""
    for command in (COMMAND, place(metadata={"who": "me"}, expires_at=NOON - timedelta(days=1))):
        question = msgspec.structs.replace(asked(history, command, due=due), digest=b"another")
        decision = decide(question, LIMITS)
        assert isinstance(decision, Publish)
        assert isinstance(decision.result, CallRefused)
        assert (decision.result.reason, decision.result.attempts) == ("command_id_reused", attempts_of(history))
        assert result_event_id(decision.result) == f"{CALL_ID}.reused"


def test_a_command_cancelled_before_it_came_has_no_body_yet() -> None:
    """Whatever body comes under the id, it is the cancelled one."""
    question = msgspec.structs.replace(asked("cancelled before it came"), digest=b"any")
    assert decide(question, LIMITS) == Repeat()


@pytest.mark.parametrize("history", HISTORIES)
def test_expiry_is_looked_at_before_everything_else(history: str) -> None:
    """What may still be dialled expires, whatever else is wrong with it; what was claimed or ended does not expire."""
    for moment in (NOON, NOON - timedelta(days=9)):
        command = place(metadata={"who": "me"}, expires_at=moment, not_before=LATER)
        for check in (PLAN, Refused("invalid_number")):
            decision = decide(asked(history, command, due=True, check=check), Limits(max_attempts=1))
            if history in FREE_WHEN_DUE:
                assert decision == expired(history, command)
            else:
                assert isinstance(decision, Repeat | Doubt)


def test_a_deferred_command_expires_when_it_is_due() -> None:
    """A copy of a command that waits in the ledger changes nothing, though its time be over."""
    command = place(metadata={"who": "me"}, expires_at=NOON)
    assert decide(asked("deferred", command), LIMITS) == Nothing()


@pytest.mark.parametrize("history", FREE_WHEN_DUE)
def test_what_can_refuse_refuses_before_the_claim(history: str) -> None:
    """A refusal of the check ends the command in every open state, before attempts and time are looked at."""
    refusal = Refused("invalid_number", detail="$.to")
    command = place(metadata={"who": "me"}, not_before=LATER)
    decision = decide(asked(history, command, due=True, check=refusal), Limits(max_attempts=1))
    assert decision == Finish(refused(history, refusal))


@pytest.mark.parametrize("history", FREE_WHEN_DUE)
def test_not_before(history: str) -> None:
    """Before its time an open command is postponed to it, at its time it is dialled."""
    early, now = place(not_before=LATER), place(not_before=NOON)
    assert decide(asked(history, early, due=True), LIMITS) == Postpone(LATER)
    assert decide(asked(history, now, due=True), LIMITS) == Claim(FREE_WHEN_DUE[history], PLAN)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("rate_limited", "rate_limited"),
        ("connection_refused", "provider_unreachable"),
        ("connect_timeout", "provider_unreachable"),
        ("tls_failed", "provider_unreachable"),
        ("not_tried", "provider_unreachable"),
    ],
)
def test_attempts_run_out(last: NotSentReason, reason: str) -> None:
    """After the last attempt the refusal says why that one failed, and no `not_before` delays it."""
    history: list[Record] = [sending(), not_sent(), sending(attempt=2), not_sent(attempt=2, reason=last)]
    question = msgspec.structs.replace(asked("nothing", place(not_before=LATER)), entry=folded(history).entry("c"))

    assert decide(question, Limits(max_attempts=3)) == Postpone(LATER)
    decision = decide(question, Limits(max_attempts=2))

    assert isinstance(decision, Finish)
    assert isinstance(decision.result, CallRefused)
    assert (decision.result.reason, decision.result.attempts) == (reason, 2)
    assert decision.result.detail == f"given up after 2 attempts: {last}: because"


def test_giving_up_without_a_reason() -> None:
    """Where the proof itself is gone the refusal still says how often it was tried."""
    entry = folded([sending(attempt=4)]).entries["c"]
    assert given_up(entry) == Refused("provider_unreachable", detail="given up after 4 attempts")


# -- cancel ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", HISTORIES)
def test_cancel(history: str) -> None:
    """It works until the claim; a cancelled command is said to be cancelled again; otherwise it comes too late."""
    decision = decide_cancel(CancelCall(command_id="c"), entry_of(history))

    if history in FREE_WHEN_DUE:
        is_known = history.startswith("deferred")
        assert decision == Finish(
            CallCancelled(
                command_id="c",
                call_id=CALL_ID,
                connection="demo" if is_known else None,
                attempts=attempts_of(history),
                not_sent=policy.not_sent(entry_of(history)),
                metadata={"who": "me"} if is_known else {},
            )
        )
    elif history.startswith("cancelled"):
        assert decision == Repeat()
    else:
        entry = entry_of(history)
        assert entry is not None
        assert isinstance(decision, Publish)
        result = decision.result
        assert isinstance(result, CallRefused)
        assert (result.reason, result.attempts) == ("too_late_to_cancel", entry.attempt)
        assert result.detail == f"the command is {entry.state.value}"
        assert result_event_id(result) == f"{CALL_ID}.cancel"


@pytest.mark.parametrize("history", FREE_WHEN_DUE)
def test_a_cancelled_command_is_never_claimed(history: str) -> None:
    """When the cancellation is in the ledger, place comes to the stored result in every state it may have been in."""
    decision = decide_cancel(CancelCall(command_id="c"), entry_of(history))
    assert isinstance(decision, Finish)
    end = settled(attempt=decision.result.attempts, result=decision.result)
    entry = folded([*HISTORIES[history], end]).entries["c"]
    assert entry.state is State.FINISHED
    for due in (False, True):
        assert decide(msgspec.structs.replace(asked("nothing", due=due), entry=entry), LIMITS) == Repeat()


# -- when to try again --------------------------------------------------------------------------------------------------------

limits = st.builds(
    Limits,
    retry_base_seconds=st.floats(0.01, 100),
    retry_max_seconds=st.floats(0.01, 3600),
    longest_retry_after_seconds=st.floats(1, 5000),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(limits, st.integers(1, 100), jitters, st.none() | st.floats(0, 7200))
def test_the_delay_is_within_its_bounds(limits: Limits, attempt: int, jitter: float, asked_for: float | None) -> None:
    """Between half of the doubled delay and all of it, and never less than was asked for; of which the longest counts."""
    outcome = NotSent("rate_limited", retry_after_seconds=asked_for)
    delay = retry_delay_seconds(outcome, attempt=attempt, limits=limits, jitter=jitter)
    doubled = min(limits.retry_max_seconds, limits.retry_base_seconds * 2 ** (attempt - 1))
    least = min(asked_for or 0.0, limits.longest_retry_after_seconds)
    assert delay >= least
    assert doubled / 2 <= delay <= max(doubled, least)


@given(limits, st.integers(1, 100), jitters)
def test_the_delay_never_shrinks_with_attempts(limits: Limits, attempt: int, jitter: float) -> None:
    """With the same luck a later attempt waits at least as long."""
    outcome = NotSent("connection_refused")
    delays = [
        retry_delay_seconds(outcome, attempt=each, limits=limits, jitter=jitter) for each in (attempt, attempt + 1)
    ]
    assert delays == sorted(delays)


def test_the_delay_doubles() -> None:
    """With the default limits and no jitter: half of 0.5, 1, 2 seconds, up to half a minute; jitter fills the other half."""
    outcome = NotSent("connection_refused")
    delays = [retry_delay_seconds(outcome, attempt=n, limits=Limits(), jitter=0.0) for n in (1, 2, 3, 7, 8, 9, 100)]
    assert delays == [0.25, 0.5, 1.0, 16.0, 30.0, 30.0, 30.0]
    assert retry_delay_seconds(outcome, attempt=1, limits=Limits(), jitter=0.5) == 0.375


def test_a_pause_that_was_asked_for_has_an_end() -> None:
    """A provider that says "in a day" is asked again after the longest pause; what is below it is kept."""
    limits = Limits(longest_retry_after_seconds=600.0)
    delays = [
        retry_delay_seconds(NotSent("rate_limited", retry_after_seconds=each), attempt=1, limits=limits, jitter=0.0)
        for each in (86_400.0, 599.0)
    ]
    assert delays == [600.0, 599.0]
