"""Events and verdicts as they are read back from their topics by the keeper and the watchdog: who, what, when.

Only what they need to know is decoded.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from bridge.bus.protocol import Record
from bridge.model.events import Reply
from bridge.model.words import JsonObject, session_reference


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an event that says how its session stands."""

    type: str
    event_id: str
    connection: str
    provider: str
    session: str
    received_at: datetime
    call_id: str | None = None
    command_id: str | None = None
    metadata: JsonObject | None = None
    reply: Reply | None = None

    @property
    def reference(self) -> str:
        """The session's reference."""
        return session_reference(self.connection, self.session)


_decoder = msgspec.json.Decoder(Seen)


def read_seen(record: Record) -> Seen | None:
    """The event of a record; None for what the bridge did not write."""
    if record.value is None:
        return None
    try:
        return _decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class SeenVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict as it is read back: of which action of its partition, and whether that was delivered, and where."""

    offset: int
    reference: str
    delivered: bool
    event_id: str | None = None
    """The question whose answer it went into."""
    in_reply_to: str | None = None
    """The token it was given for: another one, if it came too late for that."""


class _Verdict(msgspec.Struct, frozen=True):
    status: str
    connection: str
    session: str
    event_id: str | None = None
    in_reply_to: str | None = None


_verdict_decoder = msgspec.json.Decoder(_Verdict)


def read_verdict(record: Record, actions_topic: str) -> SeenVerdict | None:
    """The verdict of a record; None for one on no action of the same partition."""
    ce_id = next((value for name, value in record.headers if name == "ce_id"), b"").decode("utf-8", "replace")
    place, _, rest = ce_id.removeprefix(f"{actions_topic}-").partition("-")
    offset = rest.removesuffix(".result")
    if place != str(record.partition) or not (offset.isascii() and offset.isdecimal()) or record.value is None:
        return None
    try:
        said = _verdict_decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return SeenVerdict(
        offset=int(offset),
        reference=session_reference(said.connection, said.session),
        delivered=said.status.startswith("delivered"),
        event_id=said.event_id,
        in_reply_to=said.in_reply_to,
    )
