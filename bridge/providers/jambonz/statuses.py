"""Tables and pure functions: what jambonz's webhooks say, in our words.

Statuses are sent without waiting for one another and may repeat (contract 7), and replicas share no memory: so nothing
is remembered here. Each message is read for itself; an equal one gets the equal id `call_sid/call_status`, by which
consumers drop it; a final status is final whatever comes after it, and late ones are passed on as what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from bridge.model import events
from bridge.model.phone import e164_from_wire
from bridge.model.words import AnyJson, SessionId
from bridge.providers.values import float_of, text_of


class WireBody(msgspec.Struct, frozen=True):
    """The base fields of every webhook (contract 6) and the own ones of hooks (3.4, 7, 8). Only `call_sid` is relied on."""

    call_sid: SessionId
    parent_call_sid: AnyJson = None
    direction: AnyJson = None
    from_: AnyJson = msgspec.field(name="from", default=None)
    to: AnyJson = None
    sip_status: AnyJson = None
    call_status: AnyJson = None
    call_termination_by: AnyJson = None
    duration: AnyJson = None
    customer_data: AnyJson = msgspec.field(name="customerData", default=None)
    defaults: AnyJson = None
    error: AnyJson = None
    type: AnyJson = None
    reason: AnyJson = None
    hint: AnyJson = None
    greeting: AnyJson = None
    transcript: AnyJson = None
    speech: AnyJson = None
    digits: AnyJson = None
    verb_id: AnyJson = None
    dial_call_status: AnyJson = None
    refer_status: AnyJson = None
    final_referred_call_status: AnyJson = None


class Meaning(NamedTuple):
    """One message in our words: which event it is, how its data is read, what it asks for."""

    kind: type[events.Event]
    data: Callable[[WireBody], msgspec.Struct]
    waits: bool = False
    is_final: bool = False


# --- call statuses (contract 7) --------------------------------------------------------------------------------------


def _progress(body: WireBody) -> events.Progress:
    parties = parties_of(body)
    return events.Progress(parties.direction, parties.from_, parties.to, sip_status=_whole(body.sip_status))


def ended_of(body: WireBody) -> events.Ended:
    """How it ended, by its final status."""
    status, sip_status = text_of(body.call_status) or "", _whole(body.sip_status)
    reason = _ENDINGS.get(status, "failed")
    if reason == "no_answer" and sip_status in _BUSY:
        reason = "busy"
    return events.Ended(
        reason=reason,
        provider_reason=status,
        ended_by=_ended_by(body),
        duration_seconds=float_of(body.duration),
        sip_status=sip_status,
    )


_ENDINGS: Mapping[str, events.EndReason] = {
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no_answer",  # also a call that we cancelled: the message is the same
    "failed": "failed",
}
_BUSY = {486, 600}
"""Cognigy's page has these under `no-answer`, jambonz under `busy` (contract 7)."""

STATUSES: Mapping[str, Meaning] = {
    "trying": Meaning(events.CallTrying, _progress),
    "ringing": Meaning(events.CallRinging, _progress),
    "early-media": Meaning(events.CallRinging, _progress),  # it rings with sound
    "in-progress": Meaning(events.CallAnswered, _progress),
    **{status: Meaning(events.CallEnded, ended_of, is_final=True) for status in _ENDINGS},
}


def _ended_by(body: WireBody) -> Literal["caller", "callee", "provider", "us"] | None:
    """`caller` is the far end: of an outbound call that is who was called (contract 6)."""
    match text_of(body.call_termination_by):
        case "caller":
            return "callee" if body.direction == "outbound" else "caller"
        case "bot":
            return "us"
        case "jambonz":
            return "provider"
        case _:
            return None


# --- answering machine detection (contract 3.4) ----------------------------------------------------------------------

Verdict: TypeAlias = Literal["human", "machine", "no_speech", "tone", "machine_finished", "undecided", "stopped"]
VERDICTS: Mapping[str, Verdict] = {
    "amd_human_detected": "human",
    "amd_machine_detected": "machine",
    "amd_no_speech_detected": "no_speech",
    "amd_decision_timeout": "undecided",
    "amd_tone_detected": "tone",
    "amd_machine_stopped_speaking": "machine_finished",
    "amd_stopped": "stopped",
}


def _detected(body: WireBody) -> events.Detected:
    greeting = text_of(body.greeting) or text_of(body.transcript) or text_of(body.hint)
    return events.Detected(VERDICTS[str(body.type)], detail=text_of(body.reason), greeting=greeting)


AMD = Meaning(events.CallAmd, _detected)

# --- hooks that wait for verbs (contract 8) --------------------------------------------------------------------------


def parties_of(body: WireBody) -> events.Parties:
    """Who called whom; numbers in E.164 form where they are numbers."""
    direction = _DIRECTIONS.get(body.direction) if isinstance(body.direction, str) else None
    return events.Parties(direction, _party(body.from_), _party(body.to))


_DIRECTIONS: Mapping[str, Literal["inbound", "outbound"]] = {"inbound": "inbound", "outbound": "outbound"}


def _said(body: WireBody) -> events.Said:
    return events.Said(text=transcript_of(body.speech) or "")


def transcript_of(speech: object) -> str | None:
    """The first, that is the best, of what a gather understood."""
    alternatives = speech.get("alternatives") if isinstance(speech, dict) else None
    best = alternatives[0] if isinstance(alternatives, list) and alternatives else None
    return text_of(best.get("transcript")) if isinstance(best, dict) else None


def _nothing(_: WireBody) -> events.Nothing:
    return events.Nothing()


def _verb_result(body: WireBody) -> events.VerbResult:
    verb, reason = verb_of(body)
    return events.VerbResult(verb=verb, reason=reason, text=transcript_of(body.speech), digits=text_of(body.digits))


def verb_of(body: WireBody) -> tuple[str | None, str | None]:
    """Which verb has ended, as far as its fields tell, and how."""
    if body.dial_call_status is not None:
        return "dial", text_of(body.dial_call_status)
    if body.refer_status is not None:
        status = _whole(body.final_referred_call_status) or _whole(body.refer_status)
        return "sip:refer", None if status is None else str(status)
    if body.speech is not None or body.digits is not None or text_of(body.reason) in _GATHERED:
        return "gather", text_of(body.reason)
    return None, text_of(body.reason)


_GATHERED = {"speechDetected", "dtmfDetected", "timeout", "stt-low-confidence"}

ANSWERED = Meaning(events.SessionStarted, parties_of, waits=True)
SPOKE = Meaning(events.UserSpoke, _said, waits=True)
SILENT = Meaning(events.UserSilent, _nothing, waits=True)
VERB = Meaning(events.VerbFinished, _verb_result, waits=True)
"""Also keys that were pressed: one gather has several, and one hook has one answer."""

# --- the rest --------------------------------------------------------------------------------------------------------


def _trouble(body: WireBody) -> events.VerbResult:
    said = [text for text in (text_of(body.error), text_of(body.reason)) if text]
    return events.VerbResult(reason=": ".join(said) or "error")


TROUBLE = Meaning(events.VerbFinished, _trouble)
"""A status that carries `error` is no transition: an action hook's answer was not understood (contract 7)."""

WAITING = ("session.started", "user.spoke", "user.silent", "verb.finished")
"""Our types of the events that wait."""


def other(provider_type: str) -> Meaning:
    """Passed on under the provider's name: a child leg of a dial, or something this version does not know."""
    return Meaning(events.OtherEvent, lambda _: events.Other(provider_type=provider_type))


def _party(value: object) -> str | None:
    text = text_of(value)
    return (e164_from_wire(text) or text) if text else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
