"""What could not be understood, kept: the raw bytes on the dead-letters topic, with headers that say why.

Nothing is lost: the record is acknowledged there before the original may be forgotten. The headers name the field,
what was found and what is allowed, without personal data; the value is untouched.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from bridge.bus.protocol import Headers, Producer, Record
from bridge.model.codec import rfc3339
from bridge.model.errors import Poison

_BEGINNING_BYTES = 100_000
"""What is kept of a value that the topic does not take whole."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record or body that nobody can process, and where it came from."""

    source: str
    """The topic, or `webhooks/CONNECTION`."""
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    offset: int | None = None

    @classmethod
    def of(cls, record: Record) -> DeadLetter:
        """The record as it stands on its topic."""
        return cls(
            source=record.topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            partition=record.partition,
            offset=record.offset,
        )


class DeadLetters:
    """The way to the dead-letters topic."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def publish(self, letter: DeadLetter, poison: Poison, *, at: datetime) -> None:
        """Store the letter; returns after the acknowledgement. A value that is too large is stored as its beginning.

        Raises:
            Unavailable: no acknowledgement in time.
        """
        headers = [
            ("dlq_field", poison.field.encode()),
            ("dlq_found", poison.found.encode()),
            ("dlq_allowed", poison.allowed.encode()),
            ("dlq_source", letter.source.encode()),
            ("dlq_time", rfc3339(at).encode()),
        ]
        if letter.offset is not None:
            headers += [("dlq_partition", b"%d" % (letter.partition or 0)), ("dlq_offset", b"%d" % letter.offset)]
        try:
            await self._producer.publish(
                self._topic, key=letter.key, value=letter.value, headers=[*headers, *letter.headers]
            )
        except Poison:
            value = letter.value or b""
            headers.append(("dlq_truncated_from_bytes", b"%d" % len(value)))
            await self._producer.publish(self._topic, key=None, value=value[:_BEGINNING_BYTES], headers=headers)
