"""A record of actions as it was read: whom it is for, by which name its verdict will be known, and what it says.

The session comes from the record's key (`connection/session`), which also gives order; a body that names a session must
name the same one. Only a record without a key needs both in its body.
"""

from __future__ import annotations

import msgspec

from bridge.bus.protocol import Record
from bridge.model.actions import Actions, ActionStatus, DeliveredBy
from bridge.model.codec import Envelope, decode_actions, open_envelope
from bridge.model.errors import Poison
from bridge.model.scrub import describe
from bridge.model.words import session_reference


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A record of actions with its place, and whom it is for."""

    topic: str
    partition: int
    offset: int
    connection: str
    session: str
    actions: Actions
    envelope: Envelope
    written_at: float = 0.0
    """The record's own time, in seconds since 1970; 0: it has none."""

    @property
    def action_id(self) -> str:
        """The consumer's own id, else the CloudEvents id, else the record's place."""
        return self.actions.action_id or self.envelope.id or self.place

    @property
    def place(self) -> str:
        """Where the record stands: unique."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    @property
    def reference(self) -> str:
        """The session's reference."""
        return session_reference(self.connection, self.session)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one record of actions."""

    given: Given
    status: ActionStatus
    delivered_by: DeliveredBy | None = None
    event_id: str | None = None
    reason: str | None = None
    detail: str | None = None


def read_given(record: Record, *, max_bytes: int) -> Given:
    """Read a record of the actions topic.

    Raises:
        Poison: too large, not actions, or not for one session.
    """
    if record.value is not None and len(record.value) > max_bytes:
        raise Poison("$", found=f"{len(record.value)} bytes", allowed=f"at most {max_bytes} bytes")
    envelope = open_envelope(record.value, record.headers)
    actions = decode_actions(envelope)
    connection, session = _whose(record.key, actions)
    return Given(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        connection=connection,
        session=session,
        actions=actions,
        envelope=envelope,
        written_at=max(0.0, record.timestamp_ms / 1000),
    )


def _whose(key: bytes | None, actions: Actions) -> tuple[str, str]:
    """Connection and session, from the key, the body, or both where they agree."""
    connection, session = actions.connection, actions.session
    if key is not None:
        in_key = key.decode("utf-8", "replace").partition("/")
        if not in_key[0] or not in_key[2]:
            raise Poison("record key", found=describe(in_key[0]), allowed="connection/session, as the event's key")
        for field, in_body, of_key in (("$.connection", connection, in_key[0]), ("$.session", session, in_key[2])):
            if in_body is not None and in_body != of_key:
                raise Poison(field, found=describe(in_body), allowed=f"{describe(of_key)}, as the record key says")
        return in_key[0], in_key[2]
    if connection is None or session is None:
        field = "$.connection" if connection is None else "$.session"
        raise Poison(field, found="nothing, and no record key", allowed="the session's key (connection/session)")
    return connection, session
