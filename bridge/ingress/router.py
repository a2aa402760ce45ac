"""The readable list: path ─▶ connection ─▶ verify ─▶ parse ─▶ event or question ─▶ status.

Promises the order of the steps (limits before bytes, proof before parsing, Kafka before the answer) and one status code
for each way it can end. What a webhook means is its provider's; who answers a question is the relay's; a request for a
WebSocket is `dialogues`'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import msgspec

from bridge.actions.relay import Asked
from bridge.ingress.asgi import Disconnected, Receive, Scope, Send, TooLarge, read_body, respond, until_disconnect
from bridge.ingress.passage import Arrival, Flows, Passage, Way
from bridge.model.errors import Poison, Unavailable, Unverified
from bridge.providers.protocol import Answer, Heard
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import NO_CONNECTION

log = get_logger()


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one request's way."""

    max_body_bytes: int
    max_in_progress: int
    publish_seconds: float
    retry_after_seconds: int


class _Ended(Exception):
    """The request ends here, with this status."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class Router:
    """The ASGI application for webhooks; `upgraded` takes requests for a WebSocket."""

    def __init__(
        self,
        flows: Flows,
        settings: RouterSettings,
        *,
        upgraded: Callable[[Scope, Send], Awaitable[None]] | None = None,
    ) -> None:
        self._flows = flows
        self._settings = settings
        self._passage = Passage(flows, publish_seconds=settings.publish_seconds)
        self._upgraded = upgraded
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. An error that nobody foresaw is counted as the 500 that the server says, and goes on to its log."""
        connection = self._passage.connection_of(scope)
        known = connection if connection in self._flows.connections else NO_CONNECTION
        try:
            if self._upgraded is not None and "upgrade" in scope:
                await self._upgraded(scope, send)
            else:
                await self._webhook(scope, receive, send, known)
        except Exception:
            self._flows.metrics.webhooks.labels(connection=known, status="500").inc()
            raise

    async def _webhook(self, scope: Scope, receive: Receive, send: Send, known: str) -> None:
        """One message, answered and counted."""
        started = self._flows.clock.monotonic()
        self._in_progress += 1
        try:
            asked = await self._answer(scope, receive)
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

    async def _answer(self, scope: Scope, receive: Receive) -> Asked:
        connection = self._passage.connection_of(scope)
        if self._in_progress > self._settings.max_in_progress:
            raise self._busy("too many requests in progress")
        arrival = await self._arrive(scope, receive, connection)
        heard = await self._understand(arrival)
        way = Way(speaker=arrival.provider, gone=lambda: until_disconnect(receive))
        try:
            asked = await self._passage.pass_on(arrival, heard, way)
        except Poison as poison:
            raise _Ended(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the event does not fit into a record") from poison
        except Unavailable as error:
            self._passage.kafka_failed()
            log.warning("webhook.refused", connection=connection, reason="kafka_unavailable", error=str(error))
            raise self._busy("the event could not be stored; send it again") from error
        if asked is None:
            raise _Ended(HTTPStatus.BAD_REQUEST, "the webhook says nothing")
        return asked

    async def _arrive(self, scope: Scope, receive: Receive, connection: str) -> Arrival:
        provider = self._flows.connections.get(connection)
        if provider is None:
            raise _Ended(HTTPStatus.NOT_FOUND, "no such connection")
        if scope["method"] != "POST":
            raise _Ended(HTTPStatus.METHOD_NOT_ALLOWED, "webhooks are sent by POST", [(b"allow", b"POST")])
        arrival = self._passage.arrival(scope, connection, provider, b"")
        try:
            body = await read_body(receive, self._settings.max_body_bytes)
        except TooLarge:
            raise _Ended(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._settings.max_body_bytes} bytes"
            ) from None
        return msgspec.structs.replace(arrival, webhook=msgspec.structs.replace(arrival.webhook, body=body))

    async def _understand(self, arrival: Arrival) -> Sequence[Heard]:
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

    async def _bury(self, arrival: Arrival, poison: Poison) -> None:
        try:
            await self._passage.bury(arrival, poison)
        except Unavailable as error:
            raise self._busy("the webhook could not be stored; send it again") from error

    def _busy(self, detail: str) -> _Ended:
        after = b"%d" % self._settings.retry_after_seconds
        return _Ended(HTTPStatus.SERVICE_UNAVAILABLE, detail, [(b"retry-after", after)])


async def _send(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", answer.content_type)] if answer.body else []
    await respond(send, answer.status, answer.body, headers)
