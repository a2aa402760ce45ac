"""What became of a record of actions: one verdict each, on the action-results topic under the session's reference.

The id of a verdict is made from the record's place in the actions topic, so a repeated one is visible as the same.
Who decides the verdict is the relay's, the replies' and the keeper's business.
"""

from __future__ import annotations

import anyio

from bridge.actions.given import Verdict
from bridge.bus.protocol import Producer
from bridge.model.actions import ActionResult
from bridge.model.codec import cloudevents_headers, encoder
from bridge.model.errors import Unavailable
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()

_RETRY_SECONDS = 0.1


class Verdicts:
    """The way to the action-results topic."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        *,
        source: str,
        clock: Clock,
        metrics: Metrics,
        give_up_seconds: float = 15.0,
    ) -> None:
        """`give_up_seconds`: how long a replica's verdict is tried to be stored."""
        self._producer = producer
        self._topic = topic
        self._source = source
        self._clock = clock
        self._metrics = metrics
        self._give_up_seconds = give_up_seconds

    async def publish(self, verdict: Verdict) -> None:
        """Store the verdict of a replica, trying again while Kafka is away; in the end it is the keeper's: not raised.

        While nobody can write, the keeper can't read either, and takes nobody's silence for an answer (`Holding.time`).
        """
        until = self._clock.monotonic() + self._give_up_seconds
        while True:
            try:
                await self.store(verdict)
            except Unavailable as error:
                log.warning("verdict.waits", action_id=verdict.given.action_id, error=str(error))
            else:
                return
            if self._clock.monotonic() >= until:
                log.warning("verdict.left_to_keeper", action_id=verdict.given.action_id, status=verdict.status)
                return
            await anyio.sleep(_RETRY_SECONDS)

    async def store(self, verdict: Verdict) -> None:
        """Store a verdict, once.

        Raises:
            Unavailable: no acknowledgement; it may have been stored.
        """
        given = verdict.given
        result = ActionResult(
            action_id=given.action_id,
            status=verdict.status,
            connection=given.connection,
            session=given.session,
            at=self._clock.now(),
            delivered_by=verdict.delivered_by,
            event_id=verdict.event_id,
            in_reply_to=given.actions.in_reply_to,
            reason=verdict.reason,
            detail=verdict.detail,
        )
        headers = cloudevents_headers(
            event_id=f"{given.place}.result",
            source=self._source,
            event_type=f"action.{verdict.status}",
            time=result.at,
            subject=given.reference,
            trace=given.envelope.trace,
        )
        await self._producer.publish(
            self._topic,
            key=given.reference.encode(),
            value=encoder.encode(result),
            headers=headers,
            # Beside its action, wherever that was put (without a key, or by another client's hash): the keeper
            # sees both only if their partitions have the same number.
            partition=given.partition,
        )
        self._metrics.action_results.labels(status=verdict.status).inc()
