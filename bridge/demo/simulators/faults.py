"""What may go wrong on the wire, as values that a script can hold.

Three places: when a connection is accepted (nothing of it has been read), when a request has been read whole, and
when a webhook is sent. Seconds in faults are real seconds, never scaled: the other side's deadlines are real too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec


class _Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Every kind is a table in a script: `{ kind = "hang", seconds = 3 }`."""


# ---- on a connection, before a request on it was read


class CloseUnread(_Fault, frozen=True, kw_only=True, tag="close_unread"):
    """Accept and close. The client sees an end of stream, or a reset once it has sent something."""


class ResetUnread(_Fault, frozen=True, kw_only=True, tag="reset_unread"):
    """Accept and send RST."""


class HangUnread(_Fault, frozen=True, kw_only=True, tag="hang_unread"):
    """Accept and never read, until released, until the time is up; then close."""

    seconds: float | None = None


class ResetAfterHead(_Fault, frozen=True, kw_only=True, tag="reset_after_head"):
    """Read the first request's head and nothing behind it, then send RST: a request seen to begin, not to end."""


ConnectionFault: TypeAlias = CloseUnread | ResetUnread | HangUnread | ResetAfterHead


# ---- when a request has been read whole


class _Reply(_Fault, frozen=True, kw_only=True):
    """`acts`: whether the request is carried out (the phone rings) although the answer is lost or says no."""

    acts: bool | None = None


class Answer(_Reply, frozen=True, kw_only=True, tag="answer"):
    """Any status, headers and body, after `delay_seconds`. Carried out if the status says so, unless `acts` does."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: str = ""
    delay_seconds: float = 0.0


class Hang(_Reply, frozen=True, kw_only=True, tag="hang"):
    """No answer until released, until the time is up or the client goes; then close."""

    seconds: float | None = None


class Close(_Reply, frozen=True, kw_only=True, tag="close"):
    """End of stream instead of an answer."""


class Reset(_Reply, frozen=True, kw_only=True, tag="reset"):
    """RST instead of an answer."""


class HalfAnswer(_Reply, frozen=True, kw_only=True, tag="half_answer"):
    """The head and `sent` characters of the body that the head promises, then end of stream."""

    status: int = 201
    headers: Mapping[str, str] = {}
    body: str = '{"status":"accepted"}'
    sent: int = 5


class Garbled(_Reply, frozen=True, kw_only=True, tag="garbled"):
    """Something that is not HTTP (each character is one byte), then end of stream."""

    data: str = "\x15\x03\x01 no such protocol\r\n\r\n"


class Trickle(_Reply, frozen=True, kw_only=True, tag="trickle"):
    """A whole answer, one byte of it each `interval_seconds`."""

    status: int = 201
    headers: Mapping[str, str] = {}
    body: str = ""
    interval_seconds: float = 0.5


Reply: TypeAlias = Answer | Hang | Close | Reset | HalfAnswer | Garbled | Trickle


class AnswerLate(_Reply, frozen=True, kw_only=True, tag="overtaken"):
    """Success, said only after the call's first webhook was answered: the webhook overtakes the answer."""


ReplyFault: TypeAlias = Answer | Hang | Close | Reset | HalfAnswer | Garbled | Trickle | AnswerLate

_FIRST_REFUSAL = 400


def acts(fault: ReplyFault) -> bool:
    """Whether the request is carried out in spite of the fault."""
    if fault.acts is not None:
        return fault.acts
    return not isinstance(fault, Answer) or fault.status < _FIRST_REFUSAL


# ---- when a webhook is sent


class Duplicate(_Fault, frozen=True, kw_only=True, tag="duplicate"):
    """The same bytes `copies` times, `gap_seconds` apart, each on a connection of its own; the first answer counts."""

    copies: int = 2
    gap_seconds: float = 0.0


class Drop(_Fault, frozen=True, kw_only=True, tag="drop"):
    """Sent whole; the connection goes `after_seconds`, while the answer is awaited. `reset`: by RST."""

    after_seconds: float = 0.0
    reset: bool = False


class LeaveUnread(_Fault, frozen=True, kw_only=True, tag="leave_unread"):
    """Sent whole; the answer is never read, and the connection goes after `seconds`."""

    seconds: float = 1.0


class Cut(_Fault, frozen=True, kw_only=True, tag="cut"):
    """Only the first `share` of the request is sent, then end of stream."""

    share: float = 0.8


class WrongSecret(_Fault, frozen=True, kw_only=True, tag="wrong_secret"):
    """Sent with a proof that is not ours."""


class Delay(_Fault, frozen=True, kw_only=True, tag="delay"):
    """Sent `seconds` late, so that later webhooks of the call overtake it."""

    seconds: float = 0.2


# ---- only when a webhook is a frame of a WebSocket; over HTTP they do nothing


class Garbage(_Fault, frozen=True, kw_only=True, tag="garbage"):
    """A frame that nobody can read goes before it."""

    text: str = "{no JSON"


class Oversize(_Fault, frozen=True, kw_only=True, tag="oversize"):
    """A frame of so many bytes goes before it."""

    bytes: int = 1_048_576


WebhookFault: TypeAlias = Duplicate | Drop | LeaveUnread | Cut | WrongSecret | Delay | Garbage | Oversize
