"""An event as it is read back from its topic by the keeper and the watchdog: who, what, when, and whether an answer is
wanted. The rest of the record is not decoded.
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
