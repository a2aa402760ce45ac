"""What every message of a provider goes through, by whichever transport it came: whose call, publish, ask, acknowledge.

Promises that an event is published before anything is answered, and that Kafka is given up only with `Unavailable`.
Proof and status codes, frames and close codes are the transports': `router` and `dialogues`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import anyio
import msgspec

from bridge.actions.relay import Asked, Asking, Gone, Relay
from bridge.actions.sockets import Sockets
from bridge.bus.dead_letters import DeadLetter, DeadLetters
from bridge.events.forward import Forward, Place, compose, minted_id
from bridge.events.identify import Identify
from bridge.ingress.asgi import Scope
from bridge.ledger.index import Known
from bridge.model.errors import Poison, Unavailable
from bridge.model.events import Event, Reply, event_type
from bridge.model.words import session_reference
from bridge.providers.protocol import Answer, AnswersQuestions, Heard, Provider, Webhook
from bridge.runtime.clock import Clock
from bridge.runtime.health import Part
from bridge.runtime.metrics import Metrics

PREFIX = "/webhooks/"
_TRACE = ("traceparent", "tracestate")


class Flows(msgspec.Struct, frozen=True):
    """Where messages go."""

    connections: Mapping[str, Provider]
    identify: Identify
    forward: Forward
    relay: Relay
    dead_letters: DeadLetters
    kafka: Part
    """Told when an event could not be stored; somebody else finds out when it can."""
    clock: Clock
    metrics: Metrics
    sockets: Sockets
    """Where actions find the sessions that have an open WebSocket here."""


class Arrival(msgspec.Struct, frozen=True):
    """A message with what its way needs."""

    webhook: Webhook
    provider: Provider
    monotonic: float
    trace: tuple[tuple[str, bytes], ...]


class Speaker(Protocol):
    """Who finds the words for the answer; one that `AnswersQuestions` is asked for those to questions."""

    def acknowledge(self, heard: Heard) -> Answer:
        """The answer to an event that asks for nothing."""
        ...


Effect: TypeAlias = Callable[[], Awaitable[None]]


async def once(effect: Effect) -> None:
    """The effect, and its failure."""
    await effect()


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How a transport has it done."""

    speaker: Speaker
    gone: Gone
    """Returns when nobody waits for the answer any more."""
    insist: Callable[[Effect], Awaitable[None]] = once
    """Has an effect on Kafka happen, or raises `Unavailable`."""
    stored: Callable[[], None] = lambda: None
    """Called when an event is stored, and before its answer is waited for."""


class Passage:
    """The part of the flow that does not depend on the transport."""

    def __init__(self, flows: Flows, *, publish_seconds: float) -> None:
        self._flows = flows
        self._publish_seconds = publish_seconds

    def connection_of(self, scope: Scope) -> str:
        """The name that the path gives; empty for a path that is none of ours."""
        path = scope["path"]
        return path.removeprefix(PREFIX).split("/", 1)[0] if path.startswith(PREFIX) else ""

    def arrival(self, scope: Scope, connection: str, provider: Provider, body: bytes) -> Arrival:
        """A request, come in now."""
        headers = dict(scope["headers"])
        webhook = Webhook(
            connection=connection,
            method=scope["method"],
            path=scope["path"][len(PREFIX) + len(connection) :],
            query=scope["query_string"],
            headers=headers,
            body=body,
            received_at=self._flows.clock.now(),
        )
        trace = tuple((name, headers[name.encode()]) for name in _TRACE if name.encode() in headers)
        return Arrival(webhook, provider, self._flows.clock.monotonic(), trace)

    async def bury(self, arrival: Arrival, poison: Poison) -> None:
        """Keep what is proven but unreadable.

        Raises:
            Unavailable: Kafka did not take it.
        """
        letter = DeadLetter(source=f"webhooks/{arrival.webhook.connection}", key=None, value=arrival.webhook.body)
        await self._flows.dead_letters.publish(letter, poison, at=arrival.webhook.received_at)
        self._flows.metrics.dead_letters.labels(source="webhooks").inc()

    async def pass_on(self, arrival: Arrival, heard: Sequence[Heard], way: Way) -> Asked | None:
        """Publish everything; at most one thing that a message says waits for an answer, and it is the last word.

        Raises:
            Poison: an event does not fit into a record.
            Unavailable: Kafka did not take it.
        """
        asked: Asked | None = None
        for one in heard:
            asked = await self._pass_on_one(arrival, one, way)
        return asked

    async def _pass_on_one(self, arrival: Arrival, heard: Heard, way: Way) -> Asked:
        connection, speaker = arrival.webhook.connection, way.speaker
        known: Known | None = None

        async def identify() -> None:
            nonlocal known
            known = await self._whose(arrival, heard)

        event_id = heard.event_id or minted_id(connection, heard, arrival.webhook.received_at)
        place = Place(
            connection=connection,
            provider=arrival.provider.name,
            received_at=arrival.webhook.received_at,
            event_id=event_id,
        )

        async def publish(reply: Reply | None) -> None:
            await way.insist(lambda: self._publish(compose(heard, place, known, reply), arrival))
            if not heard.ends_session:
                way.stored()

        await way.insist(identify)
        if heard.waits and isinstance(speaker, AnswersQuestions):
            asking = Asking(
                provider=speaker,
                heard=heard,
                reference=session_reference(connection, heard.session),
                event_id=event_id,
                received_at=arrival.webhook.received_at,
                received_monotonic=arrival.monotonic,
            )
            return await self._flows.relay.ask(asking, publish, way.gone)
        await publish(None)
        self._flows.relay.heard(session_reference(connection, heard.session), heard, event_id)
        if heard.ends_session:
            await way.insist(lambda: self._flows.identify.ended(connection, heard))
        return Asked(speaker.acknowledge(heard), "acknowledgement")

    async def _whose(self, arrival: Arrival, heard: Heard) -> Known | None:
        ttl_seconds = arrival.provider.session_ttl_seconds
        with anyio.move_on_after(self._publish_seconds):
            return await self._flows.identify.whose(arrival.webhook.connection, heard, session_ttl_seconds=ttl_seconds)
        raise Unavailable(f"the index took no entry within {self._publish_seconds} s")

    async def _publish(self, event: Event, arrival: Arrival) -> None:
        started = self._flows.clock.monotonic()
        with anyio.move_on_after(self._publish_seconds) as scope:
            await self._flows.forward.publish(event, trace=arrival.trace)
        if scope.cancelled_caught:
            raise Unavailable(f"the event was not acknowledged within {self._publish_seconds} s")
        self._flows.metrics.event_publish_seconds.observe(self._flows.clock.monotonic() - started)
        self._flows.metrics.events.labels(type=event_type(event)).inc()

    def kafka_failed(self) -> None:
        """An event could not be stored: not ready until something can be."""
        self._flows.kafka.not_ready("takes no events")
        self._flows.metrics.publish_failures.labels(topic="events").inc()
