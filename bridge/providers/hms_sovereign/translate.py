"""Tables and pure functions: HMS Sovereign's statuses and events in our words.

Pages read for it: the contract's sections 3.1 (place a call), 3.2 (statuses) and 3.4 (webhooks), which name the vendor's
own. What is not in a table is not guessed: an unlisted status is `Unknown`, an unlisted event is `other`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec

from bridge.model import events
from bridge.model.outcome import Accepted, NotSent, Outcome, RefusalReason, Refused, Unknown
from bridge.model.scrub import describe
from bridge.model.words import JsonObject
from bridge.providers.hms_sovereign.wire import WireMessage, tools_of
from bridge.providers.http import Answered, retry_after_seconds
from bridge.providers.values import float_of, iso_moment, number_of, text_of

# https://doc.hmsovereign.com/docs/reference/error-codes (contract 3.1).
REFUSALS: Mapping[int, RefusalReason] = {
    400: "rejected_by_provider",
    401: "unauthorized",  # also an expired or revoked key
    402: "no_credit",
    403: "unauthorized",
    404: "not_found",
    409: "rejected_by_provider",
    422: "rejected_by_provider",
}
SUCCESS = range(200, 300)
"""Which 2xx a success has is not shown: each is one (contract 3.1)."""
TOO_MANY_REQUESTS = 429
SERVER_ERRORS = 500
_LONGEST_CALL_ID = 256


def outcome_of(answer: Answered, *, detail: str | None, now: datetime) -> Outcome:
    """What the answer to a dial means. 429 is `NotSent`: the provider says it did not execute it.

    Args:
        answer: the whole answer.
        detail: its words, scrubbed.
        now: wall time, against which a `Retry-After` date is read.
    """
    status = answer.status
    if status in SUCCESS:
        return _accepted(answer, detail)
    if status == TOO_MANY_REQUESTS:
        return NotSent("rate_limited", detail=detail, retry_after_seconds=_retry_after(answer, now))
    if reason := REFUSALS.get(status):
        return Refused(reason, provider_status=status, detail=detail)
    return Unknown("server_error" if status >= SERVER_ERRORS else "unexpected_answer", status, detail)


def _accepted(answer: Answered, detail: str | None) -> Outcome:
    fields = fields_of(answer.body)
    call_id = text_of(fields.get("call_id"))
    if call_id is not None and len(call_id) <= _LONGEST_CALL_ID:
        return Accepted(provider_call_id=call_id, provider_status=answer.status)
    if fields.get("success") is False:  # a success that says it is none: nobody documents it
        return Unknown("unexpected_answer", answer.status, detail)
    return Accepted(provider_status=answer.status)


def _retry_after(answer: Answered, now: datetime) -> float | None:
    """From the header, else from `retry_after` of the body (contract 3.1: both occur); at most one day."""
    seconds = fields_of(answer.body).get("retry_after")
    said = str(seconds) if isinstance(seconds, int) and not isinstance(seconds, bool) else None
    return retry_after_seconds(answer.headers.get("retry-after") or said, now=now)


def fields_of(body: bytes) -> JsonObject:
    """The fields of a JSON object; none where the body is none."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def words_of(body: bytes) -> str | None:
    """What an error says to a person, not yet scrubbed: flat `error`, `message`, `details`, or nested in `error`."""
    if not body.strip():
        return None
    fields = fields_of(body)
    if not fields:
        return body.decode("utf-8", "replace")
    nested = fields.get("error")
    said = [nested.get("code"), nested.get("message"), nested.get("param")] if isinstance(nested, dict) else [nested]
    details = fields.get("details")
    said += [fields.get("message"), *(details if isinstance(details, list) else [details])]
    return " / ".join(word for word in said if isinstance(word, str) and word) or describe(fields)


class Meaning(NamedTuple):
    """What one type of event is for us."""

    kind: type[events.Event]
    data: Callable[[WireMessage], msgspec.Struct]
    waits: bool = False
    starts_session: bool = False
    ends_session: bool = False


def meaning_of(message: WireMessage) -> Meaning:
    """What this message is for us."""
    if message.type == "status-update":
        return STATUSES.get(text_of(message.call.status) or "", OTHER)
    return MEANINGS.get(message.type, OTHER)


def _progress(message: WireMessage) -> msgspec.Struct:
    direction, caller, callee = _who(message)
    return events.Progress(direction=direction, from_=caller, to=callee)


def _parties(message: WireMessage) -> msgspec.Struct:
    direction, caller, callee = _who(message)
    return events.Parties(direction=direction, from_=caller, to=callee)


def ended_of(message: WireMessage) -> events.Ended:
    """How it ended, by the word where that is known, else by the status."""
    status, word = text_of(message.call.status) or "", text_of(message.end_reason)
    return events.Ended(
        reason=_END_REASONS.get((word or "").replace("-", "_")) or END_STATUSES.get(status, "unknown"),
        provider_reason=word or text_of(message.error) or (status if status != "ended" else None),
        ended_by=_ended_by(message, word),
        duration_seconds=float_of(message.duration_seconds),
    )


def _ended_by(message: WireMessage, word: str | None) -> Literal["caller", "callee", "provider"] | None:
    if word == "max_duration":
        return "provider"
    direction = direction_of(message)
    if word != "user_hangup" or direction is None:
        return None
    return "callee" if direction == "outbound" else "caller"


def _tools(message: WireMessage) -> msgspec.Struct:
    return events.ToolCalls(calls=[events.ToolCall(tool.id, tool.name, tool.arguments) for tool in tools_of(message)])


def _report(message: WireMessage) -> msgspec.Struct:
    return events.Report(
        duration_seconds=float_of(message.duration_seconds),
        summary=text_of(message.summary),
        recording_url=text_of(message.recording_url),
    )


def _other(message: WireMessage) -> msgspec.Struct:
    return events.Other(provider_type=message.type)


_END_REASONS: Mapping[str, events.EndReason] = {
    "user_hangup": "completed",
    "max_duration": "completed",
    **{word: word for word in get_args(events.EndReason) if word != "unknown"},  # the same word in both vocabularies
}
"""`end_reason`: the samples are `user_hangup` and `max_duration`, the list is open (contract 3.4)."""
END_STATUSES: Mapping[str, events.EndReason] = {
    "ended": "completed",
    "ended-with-error": "failed",
    "failed": "failed",
    "rejected": "rejected",
    "transferred": "transferred",
    "insufficient-credits": "failed",
}
STATUSES: Mapping[str, Meaning] = {
    "connecting": Meaning(events.CallTrying, _progress),
    "ringing": Meaning(events.CallRinging, _progress),
    "in-progress": Meaning(events.CallAnswered, _progress, starts_session=True),
    **{status: Meaning(events.CallEnded, ended_of) for status in END_STATUSES},
}
"""`status-update` by `call.status`. Documented are `in-progress`, `ended` and `ended-with-error`; the others are of the
same vocabulary (contract 3.2) and would mean no other thing here. The report that follows an end ends the session."""
MEANINGS: Mapping[str, Meaning] = {
    "assistant-request": Meaning(events.AssistantRequested, _parties, waits=True, starts_session=True),
    "tool-calls": Meaning(events.ToolRequested, _tools, waits=True),
    "end-of-call-report": Meaning(events.CallReport, _report, ends_session=True),
}
"""https://doc.hmsovereign.com/docs/webhooks/ (contract 3.4); `waits`: the answer is used."""
OTHER = Meaning(events.OtherEvent, _other)

Direction: TypeAlias = Literal["inbound", "outbound"]
_DIRECTIONS: Mapping[str, Direction] = {"inbound_phone_call": "inbound", "outbound_phone_call": "outbound"}


def direction_of(message: WireMessage) -> Direction | None:
    """Who called whom; None for a web call."""
    return _DIRECTIONS.get(text_of(message.call.type) or "")


def _who(message: WireMessage) -> tuple[Direction | None, str | None, str | None]:
    """Direction, caller, callee: `phone_number` is ours, `customer` the other's."""
    direction = direction_of(message)
    ours, theirs = _number(message.phone_number), _number(message.customer)
    return (direction, theirs, ours) if direction == "inbound" else (direction, ours, theirs)


def _number(holder: object) -> str | None:
    return number_of(holder.get("number")) if isinstance(holder, dict) else None


def occurred_at(message: WireMessage) -> datetime | None:
    """`timestamp`, ISO 8601; without a zone it is UTC."""
    return iso_moment(message.timestamp)


def event_id(message: WireMessage) -> str | None:
    """An id on which two deliveries of one event agree: HMS Sovereign gives none, but says when it happened.

    Made of what the contract (3.4) would tell events apart by: call, type, status, moment, and the tools' ids.
    """
    stamp = text_of(message.timestamp)
    if stamp is None or meaning_of(message) is OTHER:
        return None
    tools = [tool.id for tool in tools_of(message)] if message.type == "tool-calls" else []
    parts = (message.call.id, message.type, text_of(message.call.status) or "", stamp, *tools)
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).digest()
    return "evt_" + base64.b32encode(digest[:15]).decode().lower()


def provider_name(provider_call_id: str) -> str:
    """The name in the index of a call under the id that the answer to the dial gave."""
    return f"call/{provider_call_id}"
