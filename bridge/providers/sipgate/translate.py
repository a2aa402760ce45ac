"""Tables and pure functions: sipgate's statuses and events in our words.

Pages read for it: the contract's sections 1.1 (place a call) and 1.3 (events), which name sipgate's own. What is not in
a table is not guessed: an unlisted status is `Unknown`, an unlisted event is `other` and keeps its payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from bridge.model import events
from bridge.model.errors import Poison
from bridge.model.outcome import Accepted, NotSent, Outcome, RefusalReason, Refused, Unknown
from bridge.model.phone import E164, e164_from_wire
from bridge.model.scrub import describe
from bridge.model.words import AnyJson, SessionId
from bridge.providers.http import Answered, retry_after_seconds
from bridge.providers.names import callee_name
from bridge.providers.values import number_of, text_of

# https://sipgate.github.io/sipgate-ai-flow-api/ (outbound calls; contract 1.1): 201, 400 and 404 are documented, the
# rest is what the status means everywhere. A refusal is final; 408, 410, 3xx and the like are not in the table.
REFUSALS: Mapping[int, RefusalReason] = {
    400: "rejected_by_provider",  # documented: the flow has no phone_number
    401: "unauthorized",
    402: "no_credit",
    403: "unauthorized",
    404: "not_found",  # documented: no such flow
    409: "rejected_by_provider",
    422: "rejected_by_provider",
}
_SUCCESS = range(200, 300)  # documented: 201, without a body; another 2xx says the same thing less exactly
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500


def outcome_of(answer: Answered, *, detail: str | None, now: datetime) -> Outcome:
    """What the answer to a dial means. 429 is `NotSent`: the provider says it did not execute it.

    Args:
        answer: the whole answer.
        detail: its words, scrubbed.
        now: wall time, against which a `Retry-After` date is read.
    """
    status = answer.status
    if status in _SUCCESS:
        return Accepted(provider_status=status)
    if status == _TOO_MANY_REQUESTS:
        wait = retry_after_seconds(answer.headers.get("retry-after"), now=now)
        return NotSent("rate_limited", detail=detail, retry_after_seconds=wait)
    if reason := REFUSALS.get(status):
        return Refused(reason, provider_status=status, detail=detail)
    return Unknown("server_error" if status >= _SERVER_ERRORS else "unexpected_answer", status, detail)


class WireSession(msgspec.Struct, frozen=True):
    """`session` of every event. Only `id` is relied on: samples of later events carry nothing else."""

    id: SessionId
    direction: AnyJson = None
    phone_number: AnyJson = None
    from_phone_number: AnyJson = None
    to_phone_number: AnyJson = None


class WireEvent(msgspec.Struct, frozen=True):
    """An event as it comes. What is not needed to forward it may be of any type, and unknown fields are welcome."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    session: WireSession
    text: AnyJson = None
    ssml: AnyJson = None
    barged_in: AnyJson = None
    digit: AnyJson = None
    duration_ms: AnyJson = None
    speech_started_at: AnyJson = None
    reason: AnyJson = None


class Meaning(NamedTuple):
    """One event in our words: which it is, how its data is read, what it asks for."""

    kind: type[events.Event]
    data: Callable[[WireEvent], msgspec.Struct]
    waits: bool = True
    starts_session: bool = False
    ends_session: bool = False


_SAYING = ("message", "error_description", "detail", "title", "error")


def words_of(body: bytes) -> str | None:
    """What an answer's body says to a person, not yet scrubbed. The fields are a guess: sipgate documents no errors."""
    if not body.strip():
        return None
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    fields = value if isinstance(value, dict) else {}
    said = [fields[name] for name in _SAYING if isinstance(fields.get(name), str)]
    return " / ".join(said) or describe(value)


def _nothing(_: WireEvent) -> msgspec.Struct:
    return events.Nothing()


def _parties(event: WireEvent) -> events.Parties:
    session = event.session
    return events.Parties(
        direction=direction_of(session),
        from_=number_of(session.from_phone_number),
        to=number_of(callee_of(session)),
    )


def _said(event: WireEvent) -> events.Said:
    return events.Said(text=_required(event.text, "$.text"), barged_in=event.barged_in is True)


def _interrupted(event: WireEvent) -> events.Said:
    return events.Said(text=_required(event.text, "$.text"), barged_in=True)


def _pressed(event: WireEvent) -> events.Pressed:
    digit = _required(event.digit, "$.digit")
    if len(digit) != 1:
        raise Poison("$.digit", found=describe(digit), allowed="one of 0 to 9, * and #")
    return events.Pressed(digit=digit)


def _playback(event: WireEvent) -> events.Playback:
    duration = event.duration_ms
    return events.Playback(
        text=text_of(event.text),
        ssml=text_of(event.ssml),
        duration_ms=float(duration) if isinstance(duration, int | float) and not isinstance(duration, bool) else None,
        started_at=moment_of(event.speech_started_at),
    )


def _ending(event: WireEvent) -> events.Ending:
    return events.Ending(reason=text_of(event.reason))


def _failure(event: WireEvent) -> events.Failure:
    reason = event.reason
    return events.Failure(reason=reason if reason is None or isinstance(reason, str) else describe(reason))


def _other(event: WireEvent) -> events.Other:
    return events.Other(provider_type=event.type)


# https://sipgate.github.io/sipgate-ai-flow-api/api/events.html and its pages (contract 1.3). `waits`: a reply may carry
# actions. `session_start` comes again with the same id when a transfer with a time-out failed.
MEANINGS: Mapping[str, Meaning] = {
    "session_start": Meaning(events.SessionStarted, _parties, starts_session=True),
    "user_speech_started": Meaning(events.UserSpeechStarted, _nothing, waits=False),
    "user_speak": Meaning(events.UserSpoke, _said),
    "user_barge_in": Meaning(events.UserSpoke, _interrupted),  # legacy: now user_speak with barged_in
    "dtmf_received": Meaning(events.UserDtmf, _pressed),
    "user_input_timeout": Meaning(events.UserSilent, _nothing),
    "assistant_speak": Meaning(events.AssistantSpeaking, _playback),
    "assistant_speech_ended": Meaning(events.AssistantFinished, _nothing),
    "sms_failed": Meaning(events.SmsFailed, _failure),
    "session_end": Meaning(events.SessionEnded, _ending, waits=False, ends_session=True),
}
OTHER = Meaning(events.OtherEvent, _other, waits=False)
"""A type that is not listed: forwarded, and answered with 204, because nobody says whether it takes actions."""

Direction: TypeAlias = Literal["inbound", "outbound"]
_DIRECTIONS: Mapping[str, Direction] = {"inbound": "inbound", "outbound": "outbound"}


def occurred_at(event: WireEvent) -> datetime | None:
    """When it happened, where sipgate says so: only of the beginning of speech (contract 1.3)."""
    return moment_of(event.speech_started_at) if event.type == "assistant_speak" else None


def type_of(meaning: Meaning) -> str:
    """Our name of the event."""
    return str(meaning.kind.__struct_config__.tag)


def direction_of(session: WireSession) -> Direction | None:
    """Who called whom, where it is said."""
    return _DIRECTIONS.get(session.direction) if isinstance(session.direction, str) else None


def callee_of(session: WireSession) -> str | None:
    """The number that was called: `phone_number` is the flow's for inbound calls and the callee's for outbound ones."""
    return text_of(session.to_phone_number) or text_of(session.phone_number)


def known_by(event: WireEvent) -> tuple[str, ...]:
    """Names of the command whose call this may be: the beginning of an outbound session says its callee."""
    if event.type != "session_start" or direction_of(event.session) != "outbound":
        return ()
    callee = e164_from_wire(callee_of(event.session) or "")
    return (callee_name(callee),) if callee else ()


def wire_number(number: E164) -> str:
    """How sipgate writes a number: the digits of E.164 without `+` (seed 000)."""
    return number.removeprefix("+")


def moment_of(unix_ms: object) -> datetime | None:
    """A time in milliseconds since 1970, where it is one."""
    if not isinstance(unix_ms, int | float) or isinstance(unix_ms, bool):
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)
    except (OverflowError, ValueError):
        return None


def _required(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise Poison(field, found=describe(value), allowed="a string")
    return value
