"""The way of notes to the actions topic. Each is written once: whether it came is seen by who reads it."""

from __future__ import annotations

from bridge.actions.notes import Note, write_note
from bridge.actions.tokens import Tokens
from bridge.bus.protocol import Producer
from bridge.model.errors import Poison, Unavailable
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class Teller:
    """Writes notes, with the proof that they are ours."""

    def __init__(self, producer: Producer, topic: str, *, tokens: Tokens, metrics: Metrics) -> None:
        self._producer = producer
        self._topic = topic
        self._tokens = tokens
        self._metrics = metrics

    async def tell(self, reference: str, partition: int, note: Note) -> None:
        """Write a note to a session. If Kafka does not take it, it is lost, which is logged."""
        value, headers = write_note(note, reference, self._tokens)
        try:
            await self._producer.publish(
                self._topic, key=reference.encode(), value=value, headers=headers, partition=partition
            )
        except (Unavailable, Poison) as error:
            log.warning("note.lost", topic=self._topic, error=str(error))
        else:
            self._metrics.notes.labels(kind=type(note).__name__.lower()).inc()
