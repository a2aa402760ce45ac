"""Events: what happens in calls, on `calls.events` under `connection/session`.

One normalised vocabulary over all providers; the provider's own words ride along untouched in `raw`. Where the
provider waits for an answer, `reply` names the token to answer with and the time until which an answer counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from bridge.model.words import JsonObject


class Reply(msgspec.Struct, frozen=True):
    """The provider waits: answer on `calls.actions` with `in_reply_to = token`, before `by`."""

    token: str
    by: datetime


class Nothing(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event whose type says it all."""


class Parties(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who speaks with whom, in E.164 where the provider's number is one."""

    direction: Literal["inbound", "outbound"] | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finished turn of the user. `barged_in`: the user interrupted the assistant."""

    text: str
    barged_in: bool = False


class Pressed(msgspec.Struct, frozen=True):
    """One key."""

    digit: str


class Playback(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the assistant says, as far as the provider tells."""

    text: str | None = None
    ssml: str | None = None
    duration_ms: float | None = None
    started_at: datetime | None = None


class Ending(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why it is over, where that is known."""

    reason: str | None = None


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What failed, in the provider's words."""

    reason: str | None = None


EndReason: TypeAlias = Literal[
    "completed",  # an answered call that somebody ended
    "busy",
    "no_answer",  # rang until its time was over, or nobody took it
    "cancelled",  # by us, before it was answered
    "rejected",  # by the callee or his network
    "failed",  # the provider or the network could not
    "transferred",  # handed over; the provider says no more about it
    "unknown",  # no end was heard
]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a call is, with what the provider says of its signalling."""

    direction: Literal["inbound", "outbound"] | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    sip_status: int | None = None


class Ended(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a call ended: `reason` is one vocabulary for all providers, `provider_reason` their own word."""

    reason: EndReason
    provider_reason: str | None = None
    ended_by: Literal["caller", "callee", "provider", "us"] | None = None
    duration_seconds: float | None = None
    sip_status: int | None = None


class Detected(msgspec.Struct, frozen=True, omit_defaults=True):
    """What answering machine detection (AMD) found."""

    verdict: Literal["human", "machine", "no_speech", "tone", "machine_finished", "undecided", "stopped"]
    detail: str | None = None
    greeting: str | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """One tool that the provider's assistant wants called."""

    tool_call_id: str
    name: str
    arguments: JsonObject = {}


class ToolCalls(msgspec.Struct, frozen=True):
    """Tools that are wanted at once: answer each with an action `tool_result`."""

    calls: list[ToolCall]


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a provider says about a call when it is over."""

    duration_seconds: float | None = None
    summary: str | None = None
    transcript_url: str | None = None
    recording_url: str | None = None


class VerbResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verb of the provider has ended."""

    verb: str | None = None
    reason: str | None = None
    text: str | None = None
    digits: str | None = None


class Other(msgspec.Struct, frozen=True):
    """An event this version does not know: `provider_type` is the provider's name for it."""

    provider_type: str


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What every event says. `raw` is the provider's payload, untouched."""

    event_id: str
    connection: str
    provider: str
    session: str
    received_at: datetime
    call_id: str | None = None
    command_id: str | None = None
    metadata: JsonObject | None = None
    occurred_at: datetime | None = None
    reply: Reply | None = None
    raw: msgspec.Raw = msgspec.Raw(b"null")


class SessionStarted(_Event, frozen=True, kw_only=True, tag="session.started"):
    """The conversation begins (or begins again, after a transfer that failed)."""

    data: Parties


class SessionEnded(_Event, frozen=True, kw_only=True, tag="session.ended"):
    """The conversation is over."""

    data: Ending


class UserSpeechStarted(_Event, frozen=True, kw_only=True, tag="user.speech_started"):
    """The user began to speak."""

    data: Nothing = Nothing()


class UserSpoke(_Event, frozen=True, kw_only=True, tag="user.spoke"):
    """The user finished a turn."""

    data: Said


class UserDtmf(_Event, frozen=True, kw_only=True, tag="user.dtmf"):
    """The user pressed a key."""

    data: Pressed


class UserSilent(_Event, frozen=True, kw_only=True, tag="user.silent"):
    """The user said nothing for the time that was asked for."""

    data: Nothing = Nothing()


class AssistantSpeaking(_Event, frozen=True, kw_only=True, tag="assistant.speaking"):
    """The assistant's words are played."""

    data: Playback


class AssistantFinished(_Event, frozen=True, kw_only=True, tag="assistant.finished"):
    """The assistant's words have been played."""

    data: Nothing = Nothing()


class SmsFailed(_Event, frozen=True, kw_only=True, tag="sms.failed"):
    """A text message asked for in the call could not be sent."""

    data: Failure


class CallTrying(_Event, frozen=True, kw_only=True, tag="call.trying"):
    """The provider has begun to call."""

    data: Progress = Progress()


class CallRinging(_Event, frozen=True, kw_only=True, tag="call.ringing"):
    """It rings at the callee."""

    data: Progress = Progress()


class CallAnswered(_Event, frozen=True, kw_only=True, tag="call.answered"):
    """Somebody, or something, has answered."""

    data: Progress = Progress()


class CallEnded(_Event, frozen=True, kw_only=True, tag="call.ended"):
    """The call is over. Exactly one such event a call, as far as the provider's messages allow."""

    data: Ended


class CallAmd(_Event, frozen=True, kw_only=True, tag="call.amd"):
    """Answering machine detection has found something."""

    data: Detected


class ToolRequested(_Event, frozen=True, kw_only=True, tag="tool.requested"):
    """The provider's assistant wants tools called and waits for their results."""

    data: ToolCalls


class AssistantRequested(_Event, frozen=True, kw_only=True, tag="assistant.requested"):
    """An inbound call came in and the provider asks which assistant shall take it."""

    data: Parties


class CallReport(_Event, frozen=True, kw_only=True, tag="call.report"):
    """What there is to say about a call that is over."""

    data: Report


class VerbFinished(_Event, frozen=True, kw_only=True, tag="verb.finished"):
    """A verb of the provider has ended, and it asks what next."""

    data: VerbResult


class OtherEvent(_Event, frozen=True, kw_only=True, tag="other"):
    """Something this version does not know; never dropped."""

    data: Other


Event: TypeAlias = (
    SessionStarted
    | SessionEnded
    | UserSpeechStarted
    | UserSpoke
    | UserDtmf
    | UserSilent
    | AssistantSpeaking
    | AssistantFinished
    | CallTrying
    | CallRinging
    | CallAnswered
    | CallEnded
    | CallAmd
    | ToolRequested
    | AssistantRequested
    | CallReport
    | VerbFinished
    | SmsFailed
    | OtherEvent
)


def event_type(event: Event) -> str:
    """The CloudEvents type of an event."""
    return str(event.__struct_config__.tag)
