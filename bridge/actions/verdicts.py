"""What became of a record of actions: one verdict each, on the action-results topic under the session's reference.

The id of a verdict is made from the record's place in the actions topic, so a repeated one is visible as the same.
Who decides the verdict is the relay's, the replies' and the keeper's business.
"""

from __future__ import annotations

import anyio

from bridge.actions.given import Given
from bridge.bus.protocol import Producer
from bridge.model.actions import ActionResult, ActionStatus, DeliveredBy
from bridge.model.codec import cloudevents_headers, encoder
from bridge.model.errors import Unavailable
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()

_TRIES = 5
_RETRY_SECONDS = 0.5


class Verdicts:
    """The way to the action-results topic."""

    def __init__(self, producer: Producer, topic: str, *, source: str, clock: Clock, metrics: Metrics) -> None:
        self._producer = producer
        self._topic = topic
        self._source = source
        self._clock = clock
        self._metrics = metrics

    async def publish(
        self,
        given: Given,
        status: ActionStatus,
        *,
        delivered_by: DeliveredBy | None = None,
        event_id: str | None = None,
        reason: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Store the verdict. If Kafka stays away, the keeper of a later time will say what it can: logged, not raised."""
        result = ActionResult(
            action_id=given.action_id,
            status=status,
            connection=given.connection,
            session=given.session,
            at=self._clock.now(),
            delivered_by=delivered_by,
            event_id=event_id,
            in_reply_to=given.actions.in_reply_to,
            reason=reason,
            detail=detail,
        )
        headers = cloudevents_headers(
            event_id=f"{given.place}.result",
            source=self._source,
            event_type=f"action.{status}",
            time=result.at,
            subject=given.reference,
            trace=given.envelope.trace,
        )
        for _ in range(_TRIES):
            try:
                await self._producer.publish(
                    self._topic,
                    key=given.reference.encode(),
                    value=encoder.encode(result),
                    headers=headers,
                    # Beside its action, wherever that was put (without a key, or by another client's hash): the keeper
                    # sees both only if their partitions have the same number.
                    partition=given.partition,
                )
            except Unavailable as error:
                log.warning("verdict.waits", action_id=given.action_id, status=status, error=str(error))
                await anyio.sleep(_RETRY_SECONDS)
            else:
                self._metrics.action_results.labels(status=status).inc()
                return
