"""Tables and pure functions: what Twilio's webhooks say, in our words.

Status callbacks are sent without waiting for one another, so they may come in another order than they were sent in
(`SequenceNumber` tells), and replicas share no memory: so nothing is remembered here. Each is read for itself; an equal
one gets the equal id `CallSid/CallStatus`, by which consumers drop it; a final status is final whatever comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from bridge.model import events
from bridge.model.phone import e164_from_wire

Values: TypeAlias = Mapping[str, str]
"""A webhook's parameters. All may be missing or empty but `CallSid`."""


class Meaning(NamedTuple):
    """One message in our words: which event it is, how its data is read, what it asks for."""

    kind: type[events.Event]
    data: Callable[[Values], msgspec.Struct]
    waits: bool = False
    is_final: bool = False


# --- call statuses (contract 7) --------------------------------------------------------------------------------------


def parties_of(values: Values) -> events.Parties:
    """Who called whom; numbers in E.164 form where they are numbers."""
    return events.Parties(_direction(values), _party(values.get("From")), _party(values.get("To")))


def _progress(values: Values) -> events.Progress:
    parties = parties_of(values)
    return events.Progress(parties.direction, parties.from_, parties.to, sip_status=_whole(values, "SipResponseCode"))


def ended_of(values: Values) -> events.Ended:
    """How it ended, by its final status."""
    status = values.get("CallStatus", "")
    return events.Ended(
        reason=_ENDINGS.get(status, "failed"),
        provider_reason=status,
        duration_seconds=_whole(values, "CallDuration"),
        sip_status=_whole(values, "SipResponseCode"),
    )


_ENDINGS: Mapping[str, events.EndReason] = {
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "failed",
    "canceled": "cancelled",
}
OVER = frozenset(_ENDINGS)
"""In a call with one of these nobody waits for TwiML any more."""

STATUSES: Mapping[str, Meaning] = {
    "queued": Meaning(events.CallTrying, _progress),
    "initiated": Meaning(events.CallTrying, _progress),
    "ringing": Meaning(events.CallRinging, _progress),
    "in-progress": Meaning(events.CallAnswered, _progress),
    **{status: Meaning(events.CallEnded, ended_of, is_final=True) for status in _ENDINGS},
}


def sent_at(values: Values) -> datetime | None:
    """When Twilio says that it happened: RFC 2822, in status callbacks only."""
    try:
        moment = parsedate_to_datetime(values.get("Timestamp", ""))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- answering machine detection, recordings (contract 8) ------------------------------------------------------------

Verdict: TypeAlias = Literal["human", "machine", "no_speech", "tone", "machine_finished", "undecided", "stopped"]
VERDICTS: Mapping[str, Verdict] = {
    "human": "human",
    "machine_start": "machine",
    "machine_end_beep": "machine_finished",
    "machine_end_silence": "machine_finished",
    "machine_end_other": "machine_finished",
    "fax": "tone",
    "unknown": "undecided",
}
AMD = Meaning(
    events.CallAmd,
    lambda values: events.Detected(VERDICTS[values["AnsweredBy"]], detail=values["AnsweredBy"]),
)
RECORDED = Meaning(
    events.CallReport,
    lambda values: events.Report(
        duration_seconds=_whole(values, "RecordingDuration"), recording_url=values.get("RecordingUrl") or None
    ),
)

# --- what waits for TwiML (contract 6, 9) ----------------------------------------------------------------------------


def _pressed(values: Values) -> events.Pressed:
    return events.Pressed(values["Digits"])


def _result(values: Values) -> events.VerbResult:
    verb, reason = verb_of(values)
    return events.VerbResult(
        verb=verb, reason=reason, text=values.get("SpeechResult") or None, digits=values.get("Digits") or None
    )


def verb_of(values: Values) -> tuple[str, str | None]:
    """Which verb has ended, as its parameters tell, and how."""
    for verb, parameter in _RESULTS.items():
        if values.get(parameter):
            return verb, values[parameter]
    if values.get("RecordingUrl"):
        return "record", None
    if values.get("SpeechResult") or values.get("Digits"):
        return "gather", None
    return "redirect", None


_RESULTS: Mapping[str, str] = {
    "dial": "DialCallStatus",
    "enqueue": "QueueResult",
    "refer": "ReferCallStatus",
    "pay": "Result",
}

ANSWERED = Meaning(events.SessionStarted, parties_of, waits=True)
SPOKE = Meaning(events.UserSpoke, lambda values: events.Said(text=values["SpeechResult"]), waits=True)
PRESSED = Meaning(events.UserDtmf, _pressed, waits=True)
"""One key. Several that one gather collected are `verb.finished`: one webhook has one answer."""
SILENT = Meaning(events.UserSilent, lambda _: events.Nothing(), waits=True)
VERB = Meaning(events.VerbFinished, _result, waits=True)

WAITING = ("session.started", "user.spoke", "user.dtmf", "user.silent", "verb.finished")
"""Our types of the events that wait."""


def other(provider_type: str) -> Meaning:
    """Passed on under the provider's name: a leg of a dial, or something this version does not know."""
    return Meaning(events.OtherEvent, lambda _: events.Other(provider_type=provider_type))


def _direction(values: Values) -> Literal["inbound", "outbound"] | None:
    """`inbound`, `outbound-api` or `outbound-dial`."""
    match values.get("Direction", "").partition("-")[0]:
        case "inbound" | "outbound" as direction:
            return direction
        case _:
            return None


def _party(text: str | None) -> str | None:
    return (e164_from_wire(text) or text) if text else None


def _whole(values: Values, name: str) -> int | None:
    text = values.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else None


_LONGEST_NUMBER = 10
