"""Actions: what consumers want done in a call, on `calls.actions` under `connection/session`; and what became of it.

One record may carry several actions, done in order. It answers a question by its token (`in_reply_to`), or is unasked
(`session` alone). Common fields are the same for every provider; `options` are the provider's own and strict.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from bridge.model.words import ConnectionName, JsonObject, SessionId

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]


class _Action(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True
):
    """What every action has."""

    options: JsonObject = {}


class Speak(_Action, frozen=True, kw_only=True, tag="speak"):
    """Say something: `text` or `ssml`, exactly one. `user_input_timeout_seconds`: tell us when the user stays silent."""

    text: Text | None = None
    ssml: Text | None = None
    user_input_timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None


class Play(_Action, frozen=True, kw_only=True, tag="play"):
    """Play audio: `audio` (base64 WAV) or `url`; in the background as a loop, or `stop` to end the background."""

    audio: str | None = None
    url: str | None = None
    background: bool = False
    volume: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    stop: bool = False


class Hangup(_Action, frozen=True, kw_only=True, tag="hangup"):
    """End the call."""


class Transfer(_Action, frozen=True, kw_only=True, tag="transfer"):
    """Connect the user with somebody else; after `timeout_seconds` without an answer the call comes back."""

    to: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    caller_id_name: str | None = None
    caller_id_number: str | None = None
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] | None = None


class Interrupt(_Action, frozen=True, kw_only=True, tag="interrupt"):
    """Stop what the assistant is saying."""


class InjectContext(_Action, frozen=True, kw_only=True, tag="inject_context"):
    """Tell the provider's assistant something it should know."""

    text: Text


class ToolResult(_Action, frozen=True, kw_only=True, tag="tool_result"):
    """The result of a tool the provider's assistant asked for."""

    tool_call_id: str
    result: Any


class SendSms(_Action, frozen=True, kw_only=True, tag="send_sms"):
    """Send a text message."""

    to: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    text: Text


class SendDtmf(_Action, frozen=True, kw_only=True, tag="send_dtmf"):
    """Press keys."""

    digits: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-D*#]{1,64}$")]


class Configure(_Action, frozen=True, kw_only=True, tag="configure"):
    """Change how the provider listens or speaks; `options` say what."""


class RawAction(_Action, frozen=True, kw_only=True, tag="raw"):
    """The provider's own verb, passed through."""

    verb: JsonObject


Action: TypeAlias = (
    Speak
    | Play
    | Hangup
    | Transfer
    | Interrupt
    | InjectContext
    | ToolResult
    | SendSms
    | SendDtmf
    | Configure
    | RawAction
)


def action_type(action: Action) -> str:
    """The action's name in messages."""
    return str(action.__struct_config__.tag)


class Actions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One record of `calls.actions`. An empty list says: nothing to do, do not wait longer.

    `action_id` comes back in the action result; without one the record's CloudEvents id or its place in the topic is
    used. `session` is the provider's session id, as in the event; `connection` is only needed without a record key.
    """

    actions: Annotated[list[Action], msgspec.Meta(max_length=32)]
    type: Literal["call.actions"] = "call.actions"
    action_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    in_reply_to: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    connection: ConnectionName | None = None
    session: SessionId | None = None


ActionStatus: TypeAlias = Literal["delivered", "delivered_late", "superseded", "expired", "rejected"]
DeliveredBy: TypeAlias = Literal["answer", "control", "websocket"]


class ActionResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one record of actions: exactly one each.

    `event_id`: the question that it went into, or for which it came too late. `reason`, where it was not delivered:

    - superseded: `another_answer_came_first`, `newer_user_turn` (the user has spoken again since the question);
    - expired: `no_question_was_open` and `too_late` (and its provider has no other way), `no_question_came` (it waited
      for the session's next one), `session_ended`, `too_many_parked`, `too_old`, `provider_unavailable`;
      `question_unknown` and `session_unknown`: no event of it stands beside the record, see `detail`;
    - rejected: `invalid_for_provider`, `not_with_the_answer` (it waited, and could not be given together with what was
      answered), `refused_by_provider`, `token_not_genuine`, `no_such_connection`, `not_possible` (this provider takes no actions).
    """

    action_id: str
    status: ActionStatus
    connection: str
    session: str
    at: datetime
    delivered_by: DeliveredBy | None = None
    event_id: str | None = None
    in_reply_to: str | None = None
    reason: str | None = None
    detail: str | None = None
