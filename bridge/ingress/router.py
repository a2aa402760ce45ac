"""The readable list: path ─▶ connection ─▶ verify ─▶ parse ─▶ event or question ─▶ status.

Promises the order of the steps (limits before bytes, proof before parsing, Kafka before the answer) and one status code
for each way it can end. What a webhook means is its provider's; who answers a question is the relay's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import anyio
import msgspec

from bridge.actions.relay import Asked, Asking, Relay
from bridge.bus.dead_letters import DeadLetter, DeadLetters
from bridge.events.forward import Forward, compose, minted_id
from bridge.events.identify import Identify
from bridge.ingress.asgi import Disconnected, Receive, Scope, Send, TooLarge, read_body, respond, until_disconnect
from bridge.ledger.index import Known
from bridge.model.errors import Poison, Unavailable, Unverified
from bridge.model.events import Reply, event_type
from bridge.model.words import session_reference
from bridge.providers.protocol import Answer, AnswersQuestions, Heard, Provider, Webhook
from bridge.runtime.clock import Clock
from bridge.runtime.health import Part
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import NO_CONNECTION, Metrics

log = get_logger()

_PREFIX = "/webhooks/"


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one request's way."""

    max_body_bytes: int
    max_in_progress: int
    publish_seconds: float
    retry_after_seconds: int


class Flows(msgspec.Struct, frozen=True):
    """Where webhooks go."""

    connections: Mapping[str, Provider]
    identify: Identify
    forward: Forward
    relay: Relay
    dead_letters: DeadLetters
    kafka: Part
    """Told when an event could not be stored; somebody else finds out when it can."""
    clock: Clock
    metrics: Metrics


class _Ended(Exception):
    """The request ends here, with this status."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class _Arrival(msgspec.Struct, frozen=True):
    """A webhook with what its way needs."""

    webhook: Webhook
    provider: Provider
    monotonic: float
    trace: tuple[tuple[str, bytes], ...]


class Router:
    """The ASGI application for webhooks."""

    def __init__(self, flows: Flows, settings: RouterSettings) -> None:
        self._flows = flows
        self._settings = settings
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        started = self._flows.clock.monotonic()
        connection = scope["path"].removeprefix(_PREFIX).split("/", 1)[0] if scope["path"].startswith(_PREFIX) else ""
        known = connection if connection in self._flows.connections else NO_CONNECTION
        self._in_progress += 1
        try:
            asked = await self._answer(scope, receive, connection)
            status = asked.answer.status
            await _send(send, asked.answer)
            await self._flows.relay.answered(asked)
        except _Ended as end:
            status = int(end.status)
            headers = [(b"content-type", b"text/plain; charset=utf-8"), *end.headers]
            await respond(send, status, end.detail.encode(), headers)
        except Disconnected:
            status = 499
        finally:
            self._in_progress -= 1
        log.debug("webhook.answered", connection=known, status=status)
        self._flows.metrics.webhooks.labels(connection=known, status=str(status)).inc()
        self._flows.metrics.answer_seconds.observe(self._flows.clock.monotonic() - started)

    # -- the list ---------------------------------------------------------------------------------------------------

    async def _answer(self, scope: Scope, receive: Receive, connection: str) -> Asked:
        if self._in_progress > self._settings.max_in_progress:
            raise self._busy("too many requests in progress")
        arrival = await self._arrive(scope, receive, connection)
        heard = await self._understand(arrival)
        try:
            return await self._pass_on(arrival, heard, receive)
        except Poison as poison:
            raise _Ended(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the event does not fit into a record") from poison
        except Unavailable as error:
            self._flows.kafka.not_ready("takes no events")
            self._flows.metrics.publish_failures.labels(topic="events").inc()
            log.warning("webhook.refused", connection=connection, reason="kafka_unavailable", error=str(error))
            raise self._busy("the event could not be stored; send it again") from error

    async def _arrive(self, scope: Scope, receive: Receive, connection: str) -> _Arrival:
        provider = self._flows.connections.get(connection)
        if provider is None:
            raise _Ended(HTTPStatus.NOT_FOUND, "no such connection")
        if scope["method"] != "POST":
            raise _Ended(HTTPStatus.METHOD_NOT_ALLOWED, "webhooks are sent by POST", [(b"allow", b"POST")])
        monotonic = self._flows.clock.monotonic()
        received_at = self._flows.clock.now()
        try:
            body = await read_body(receive, self._settings.max_body_bytes)
        except TooLarge:
            raise _Ended(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._settings.max_body_bytes} bytes"
            ) from None
        headers = dict(scope["headers"])
        webhook = Webhook(
            connection=connection,
            method=scope["method"],
            path=scope["path"][len(_PREFIX) + len(connection) :],
            query=scope["query_string"],
            headers=headers,
            body=body,
            received_at=received_at,
        )
        trace = tuple((name, headers[name.encode()]) for name in _TRACE if name.encode() in headers)
        return _Arrival(webhook, provider, monotonic, trace)

    async def _understand(self, arrival: _Arrival) -> Sequence[Heard]:
        """Proof first, then meaning; what is proven but unreadable is kept in dead letters."""
        connection = arrival.webhook.connection
        try:
            verified = arrival.provider.verify(arrival.webhook)
        except Unverified as error:
            log.warning("webhook.refused", connection=connection, reason="not_verified", error=str(error))
            raise _Ended(HTTPStatus.UNAUTHORIZED, "not verified") from error
        try:
            return arrival.provider.parse(verified)
        except Poison as poison:
            await self._bury(arrival, poison)
            log.warning("webhook.refused", connection=connection, reason="unreadable", error=str(poison))
            raise _Ended(HTTPStatus.BAD_REQUEST, str(poison)) from poison

    async def _bury(self, arrival: _Arrival, poison: Poison) -> None:
        letter = DeadLetter(source=f"webhooks/{arrival.webhook.connection}", key=None, value=arrival.webhook.body)
        try:
            await self._flows.dead_letters.publish(letter, poison, at=arrival.webhook.received_at)
        except Unavailable as error:
            raise self._busy("the webhook could not be stored; send it again") from error
        self._flows.metrics.dead_letters.labels(source="webhooks").inc()

    async def _pass_on(self, arrival: _Arrival, heard: Sequence[Heard], receive: Receive) -> Asked:
        """Publish everything; at most one thing that a webhook says waits for an answer, and it is the last word."""
        asked: Asked | None = None
        for one in heard:
            asked = await self._pass_on_one(arrival, one, receive)
        if asked is None:
            raise _Ended(HTTPStatus.BAD_REQUEST, "the webhook says nothing")
        return asked

    async def _pass_on_one(self, arrival: _Arrival, heard: Heard, receive: Receive) -> Asked:
        provider, connection = arrival.provider, arrival.webhook.connection
        with anyio.move_on_after(self._settings.publish_seconds) as scope:
            known = await self._flows.identify.whose(
                connection, heard, session_ttl_seconds=provider.session_ttl_seconds
            )
        if scope.cancelled_caught:
            raise Unavailable(f"the index took no entry within {self._settings.publish_seconds} s")
        event_id = heard.event_id or minted_id(connection, heard, arrival.webhook.received_at)

        async def publish(reply: Reply | None) -> None:
            await self._publish(arrival, heard, known, reply)

        if heard.waits and isinstance(provider, AnswersQuestions):
            asking = Asking(
                provider=provider,
                heard=heard,
                reference=session_reference(connection, heard.session),
                event_id=event_id,
                received_at=arrival.webhook.received_at,
                received_monotonic=arrival.monotonic,
            )
            return await self._flows.relay.ask(asking, publish, lambda: until_disconnect(receive))
        await publish(None)
        if heard.ends_session:
            await self._flows.identify.ended(connection, heard)
        return Asked(provider.acknowledge(heard), "acknowledgement")

    async def _publish(self, arrival: _Arrival, heard: Heard, known: Known | None, reply: Reply | None) -> None:
        event = compose(
            heard,
            connection=arrival.webhook.connection,
            provider=arrival.provider.name,
            received_at=arrival.webhook.received_at,
            known=known,
            reply=reply,
        )
        started = self._flows.clock.monotonic()
        with anyio.move_on_after(self._settings.publish_seconds) as scope:
            await self._flows.forward.publish(event, trace=arrival.trace)
        if scope.cancelled_caught:
            raise Unavailable(f"the event was not acknowledged within {self._settings.publish_seconds} s")
        self._flows.metrics.event_publish_seconds.observe(self._flows.clock.monotonic() - started)
        self._flows.metrics.events.labels(type=event_type(event)).inc()

    def _busy(self, detail: str) -> _Ended:
        after = b"%d" % self._settings.retry_after_seconds
        return _Ended(HTTPStatus.SERVICE_UNAVAILABLE, detail, [(b"retry-after", after)])


_TRACE = ("traceparent", "tracestate")


async def _send(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", answer.content_type)] if answer.body else []
    await respond(send, answer.status, answer.body, headers)
