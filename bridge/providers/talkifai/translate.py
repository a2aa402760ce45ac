"""Tables and pure functions: TalkifAI's statuses and events in our words.

Pages read for it: the contract's sections 2.1 (place a call), 2.2 (statuses) and 2.3 (webhooks), which name the vendor's
own. What is not in a table is not guessed: an unlisted status is `Unknown`, an unlisted event is `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from bridge.model import events
from bridge.model.outcome import Accepted, NotSent, Outcome, RefusalReason, Refused, Unknown
from bridge.model.phone import e164_from_wire
from bridge.model.scrub import describe
from bridge.model.words import JsonObject
from bridge.providers.http import Answered, retry_after_seconds
from bridge.providers.names import callee_name
from bridge.providers.talkifai.wire import WireEnvelope
from bridge.providers.values import float_of, iso_moment, number_of, text_of

# https://docs.talkifai.dev/ and its openapi.json (contract 2.1).
REFUSALS: Mapping[int, RefusalReason] = {
    400: "rejected_by_provider",  # a number's format, or a text-only agent
    401: "unauthorized",
    402: "no_credit",
    403: "unauthorized",
    404: "not_found",  # from_number is unknown, or has no outbound agent
    408: "no_answer",  # a business result: the callee did not answer within 60 s
    422: "rejected_by_provider",
}
_SUCCESS = range(200, 300)
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500
_LONGEST_ROOM_NAME = 256


def outcome_of(answer: Answered, *, detail: str | None, now: datetime) -> Outcome:
    """What the answer to a dial means. 429 is `NotSent`: the provider says it did not execute it.

    Args:
        answer: the whole answer.
        detail: its words, scrubbed.
        now: wall time, against which a `Retry-After` date is read.
    """
    status = answer.status
    if status in _SUCCESS:
        return _accepted(answer, detail)
    if status == _TOO_MANY_REQUESTS:
        wait = retry_after_seconds(answer.headers.get("retry-after"), now=now)
        return NotSent("rate_limited", detail=detail, retry_after_seconds=wait)
    if reason := REFUSALS.get(status):
        return Refused(reason, provider_status=status, detail=detail)
    return Unknown("server_error" if status >= _SERVER_ERRORS else "unexpected_answer", status, detail)


def _accepted(answer: Answered, detail: str | None) -> Outcome:
    fields = _fields_of(answer.body)
    room = text_of(fields.get("room_name"))
    if room is not None and len(room) <= _LONGEST_ROOM_NAME:
        return Accepted(provider_call_id=room, provider_status=answer.status)
    if fields.get("success") is False:  # a success that says it is none: nobody documents it
        return Unknown("unexpected_answer", answer.status, detail)
    return Accepted(provider_status=answer.status)


def words_of(body: bytes) -> str | None:
    """What an error says to a person, not yet scrubbed: `detail` (a string or FastAPI's list), `error`, `message`."""
    if not body.strip():
        return None
    fields = _fields_of(body)
    if not fields:
        return body.decode("utf-8", "replace")
    said: list[object] = []
    for name in ("detail", "error", "message"):
        value = fields.get(name)
        said += [_said_of(each) for each in value] if isinstance(value, list) else [value]
    return " / ".join(word for word in said if isinstance(word, str) and word) or describe(fields)


def _said_of(entry: object) -> object:
    """One entry of FastAPI's list: where, and what is wrong there. Its `input` may hold anything and is left out."""
    if not isinstance(entry, dict):
        return entry
    place = entry.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return " ".join(word for word in (where, text_of(entry.get("msg"))) if word)


def _fields_of(body: bytes) -> JsonObject:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class Meaning(NamedTuple):
    """What one type of event is for us. `of_call`: it is about a call, and must say which."""

    kind: type[events.Event]
    data: Callable[[WireEnvelope], msgspec.Struct]
    starts_session: bool = False
    of_call: bool = True


def _progress(event: WireEnvelope) -> msgspec.Struct:
    return events.Progress(
        direction=direction_of(event), from_=number_of(event.data.get("from")), to=number_of(event.data.get("to"))
    )


def _ended(event: WireEnvelope) -> msgspec.Struct:
    status, word = text_of(event.data.get("status")), text_of(event.data.get("endReason"))
    otherwise: events.EndReason = "failed" if event.name == "call.failed" else "completed"
    return events.Ended(
        reason=_END_STATUSES.get(status or "", otherwise),
        provider_reason=word or status,
        ended_by=_ended_by(event, word),
        duration_seconds=float_of(event.data.get("duration")),
    )


def _ended_by(event: WireEnvelope, word: str | None) -> Literal["caller", "callee"] | None:
    direction = direction_of(event)
    if word != "user_hangup" or direction is None:
        return None
    return "callee" if direction == "outbound" else "caller"


def _report(event: WireEnvelope) -> msgspec.Struct:
    return events.Report(
        duration_seconds=float_of(event.data.get("duration")),
        summary=text_of(event.data.get("summary")),
        transcript_url=text_of(event.data.get("transcriptUrl")),
        recording_url=text_of(event.data.get("recordingUrl")),
    )


def _other(event: WireEnvelope) -> msgspec.Struct:
    return events.Other(provider_type=event.name)


_END_STATUSES: Mapping[str, events.EndReason] = {
    "completed": "completed",
    "failed": "failed",
    "no_answer": "no_answer",
    "timeout": "no_answer",
    "busy": "busy",
    "cancelled": "cancelled",
    "blocked": "rejected",
    "invalid_number": "failed",
    "carrier_error": "failed",
}
"""`data.status`, in the words of TalkifAI's three vocabularies (contract 2.2)."""
# https://docs.talkifai.dev/api-reference/webhooks (contract 2.3). The payloads of `call.failed` and `analysis.completed`
# are not documented, so nothing is demanded of them.
MEANINGS: Mapping[str, Meaning] = {
    "call.started": Meaning(events.CallAnswered, _progress, starts_session=True),
    "call.ended": Meaning(events.CallEnded, _ended),
    "call.failed": Meaning(events.CallEnded, _ended, of_call=False),
    "transcript.ready": Meaning(events.CallReport, _report),
    "analysis.completed": Meaning(events.CallReport, _report, of_call=False),
}
OTHER = Meaning(events.OtherEvent, _other, of_call=False)
"""`credit.low`, `credit.depleted`, and what is not listed."""

Direction: TypeAlias = Literal["inbound", "outbound"]
_DIRECTIONS: Mapping[str, Direction] = {
    "inbound": "inbound",
    "outbound": "outbound",
    "inbound_telephony": "inbound",
    "outbound_telephony": "outbound",
}


def direction_of(event: WireEnvelope) -> Direction | None:
    """Who called whom, where it is said."""
    return _DIRECTIONS.get(text_of(event.data.get("direction")) or "")


def known_by(event: WireEnvelope) -> tuple[str, ...]:
    """Names of the command whose call this may be: the room, and of an outbound call that begins the callee."""
    names = [] if event.room is None else [room_name(event.room)]
    if event.name == "call.started" and direction_of(event) == "outbound":
        callee = e164_from_wire(text_of(event.data.get("to")) or "")
        names += [callee_name(callee)] if callee else []
    return tuple(names)


def occurred_at(event: WireEnvelope) -> datetime | None:
    """`created` or `timestamp`, ISO 8601; without a zone it is UTC."""
    return iso_moment(event.moment)


def room_name(room: str) -> str:
    """The name in the index of a call in this room, which is what the answer to a dial gives."""
    return f"call/{room}"
