"""Publishing results: one function that returns when the broker has acknowledged.

Ids of results are derived from the command id, so publishing twice is visible as the same result. It never sees what a
provider said, only what the ledger knows.
"""

from __future__ import annotations

import anyio

from bridge.bus.protocol import Headers, Producer
from bridge.model.codec import cloudevents_headers, encoder
from bridge.model.errors import Unavailable
from bridge.model.results import Result, result_event_id, result_type
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()

_RETRY_SECONDS = 0.5


class Results:
    """The way to the results topic."""

    def __init__(self, producer: Producer, topic: str, *, source: str, clock: Clock, metrics: Metrics) -> None:
        self._producer = producer
        self._topic = topic
        self._source = source
        self._clock = clock
        self._metrics = metrics

    async def publish(self, result: Result, *, key: bytes | None, trace: Headers = ()) -> None:
        """Store the result; returns after the acknowledgement, however long Kafka is away. Ends by cancellation."""
        headers = cloudevents_headers(
            event_id=result_event_id(result),
            source=self._source,
            event_type=result_type(result),
            time=self._clock.now(),
            subject=result.command_id,
            trace=trace,
        )
        while True:
            try:
                await self._producer.publish(self._topic, key=key, value=encoder.encode(result), headers=headers)
            except Unavailable as error:
                self._metrics.publish_failures.labels(topic="results").inc()
                log.warning("result.waits", command_id=result.command_id, error=str(error))
                await anyio.sleep(_RETRY_SECONDS)
            else:
                return
