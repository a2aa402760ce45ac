"""One normalised event becomes one record: `publish` returns when all in-sync replicas have it.

The key is the session's reference, so order in a session is arrival order. Nothing is decided here, and the provider's
own words ride along untouched.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime

import msgspec

from bridge.bus.protocol import Headers, Producer
from bridge.ledger.index import Known
from bridge.model.codec import cloudevents_headers, encoder
from bridge.model.events import Event, Reply, event_type
from bridge.model.words import session_reference
from bridge.providers.protocol import Heard


class Forward:
    """The way to the events topic."""

    def __init__(self, producer: Producer, topic: str, *, source: str) -> None:
        self._producer = producer
        self._topic = topic
        self._source = source

    async def publish(self, event: Event, *, trace: Headers = ()) -> None:
        """Store the event; returns after the acknowledgement.

        Raises:
            Unavailable: no acknowledgement in time; the event may have been stored.
        """
        reference = session_reference(event.connection, event.session)
        headers = cloudevents_headers(
            event_id=event.event_id,
            source=f"{self._source}/{event.connection}",
            event_type=event_type(event),
            time=event.occurred_at or event.received_at,
            subject=reference,
            trace=trace,
        )
        await self._producer.publish(self._topic, key=reference.encode(), value=encoder.encode(event), headers=headers)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when something was heard, and the id that its event has."""

    connection: str
    provider: str
    received_at: datetime
    event_id: str


def compose(heard: Heard, place: Place, known: Known | None, reply: Reply | None) -> Event:
    """The event: what the webhook says, whose call it is, and whether an answer is awaited."""
    return heard.kind(
        event_id=place.event_id,
        connection=place.connection,
        provider=place.provider,
        session=heard.session,
        received_at=place.received_at,
        call_id=None if known is None else known.call_id,
        command_id=None if known is None else known.command_id,
        metadata=None if known is None else known.metadata,
        occurred_at=heard.occurred_at,
        reply=reply,
        raw=msgspec.Raw(heard.raw),
        data=heard.data,
    )


def minted_id(connection: str, heard: Heard, received_at: datetime) -> str:
    """An id for an event whose provider gives none: from its content and the moment it arrived.

    The moment is part of it, because two equal events (the same key pressed twice) are two events, and the kind, because
    one webhook may tell of several things.
    """
    text = f"{connection}/{heard.session}/{received_at.isoformat()}/{heard.kind.__name__}/".encode()
    return "evt_" + base64.b32encode(hashlib.sha256(text + heard.raw).digest()[:15]).decode().lower()
