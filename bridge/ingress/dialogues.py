"""Requests for a WebSocket, and what is said on one: proof ─▶ socket ─▶ frame ─▶ event ─▶ answer as frames.

Each frame goes the way of a webhook (`passage`), in the order in which they came; the next one is read when the event
of the last is stored, while its answer may still be awaited. Nothing is acknowledged before Kafka has it. An event that
Kafka does not take is tried again for `insist_seconds`, because a frame is sent once; then the socket is closed with
1013, so that the provider comes again or ends its call. What the frames mean is the provider's `Dialogue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import anyio
import anyio.abc
import msgspec

from bridge.actions.relay import Asked
from bridge.actions.sockets import Line
from bridge.ingress.asgi import Scope, Send, respond
from bridge.ingress.passage import Arrival, Effect, Flows, Passage, Way
from bridge.ingress.websocket import FAILED, GOING_AWAY, POLICY, TRY_AGAIN, HandshakeRefused, WebSocket
from bridge.model.actions import Action
from bridge.model.errors import Poison, Unavailable, Unverified
from bridge.model.words import session_reference
from bridge.providers.protocol import Dialogue, Heard, NotThisWay, SpeaksWebSocket, Spoken
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import NO_CONNECTION

log = get_logger()


class DialogueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one socket's way."""

    publish_seconds: float
    """How long one try to store an event may take."""
    insist_seconds: float
    """How long all tries may take."""
    retry_seconds: float = 0.25
    max_sessions: int = 16
    """On one socket; sipgate and jambonz open one for each call."""


class Dialogues:
    """Answers requests for a WebSocket, and serves each until it ends."""

    def __init__(self, flows: Flows, settings: DialogueSettings) -> None:
        self._flows = flows
        self._settings = settings
        self._passage = Passage(flows, publish_seconds=settings.publish_seconds)

    async def __call__(self, scope: Scope, send: Send) -> None:
        """One request; returns when its socket is closed."""
        connection = self._passage.connection_of(scope)
        known = connection if connection in self._flows.connections else NO_CONNECTION
        metrics = self._flows.metrics
        try:
            arrival, dialogue = self._believe(scope, connection)
            socket = scope["upgrade"].accept(dialogue.subprotocol)
        except HandshakeRefused as refused:
            metrics.webhooks.labels(connection=known, status=str(int(refused.status))).inc()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), *refused.headers]
            await respond(send, refused.status, refused.detail.encode(), headers)
            return
        metrics.webhooks.labels(connection=known, status="101").inc()
        metrics.sockets.inc()
        tools = _Tools(self._flows, self._settings, self._passage)
        try:
            await _Talk(tools, arrival, dialogue, socket).run()
        finally:
            metrics.sockets.dec()
            socket.close(FAILED, "an error of ours")  # only an error is the reason for one that is still open
        log.debug("socket.closed", connection=connection, status=socket.close_code)

    def _believe(self, scope: Scope, connection: str) -> tuple[Arrival, Dialogue]:
        provider = self._flows.connections.get(connection)
        if provider is None or not isinstance(provider, SpeaksWebSocket):
            raise HandshakeRefused(HTTPStatus.NOT_FOUND, "no WebSocket here")
        arrival = self._passage.arrival(scope, connection, provider, b"")
        try:
            return arrival, provider.welcome(arrival.webhook)
        except Unverified as error:
            log.warning("webhook.refused", connection=connection, reason="not_verified", error=str(error))
            raise HandshakeRefused(HTTPStatus.UNAUTHORIZED, "not verified") from error


class _Tools(NamedTuple):
    """What every talk works with."""

    flows: Flows
    settings: DialogueSettings
    passage: Passage


class _Talk:
    """One open socket."""

    def __init__(self, tools: _Tools, upgrade: Arrival, dialogue: Dialogue, socket: WebSocket) -> None:
        self._tools = tools
        self._upgrade = upgrade
        self._dialogue = dialogue
        self._socket = socket
        self._lines: dict[str, Line] = {}
        self._due = 0
        self._nothing_due = anyio.Event()

    @property
    def _connection(self) -> str:
        return self._upgrade.webhook.connection

    async def run(self) -> None:
        """Until the socket is closed; then what its sessions did not say themselves is said for them."""
        try:
            async with anyio.create_task_group() as watch:
                watch.start_soon(self._depart)
                async with anyio.create_task_group() as answering:
                    await self._read(answering)
                watch.cancel_scope.cancel()
        finally:
            for session, line in self._lines.items():
                self._tools.flows.sockets.drop(self._reference(session), line)
        for session in self._lines:
            await self._lost(session)

    async def _read(self, answering: anyio.abc.TaskGroup) -> None:
        while (frame := await self._socket.receive()) is not None:
            arrival = self._arrival(frame)
            try:
                heard = await self._understand(arrival)
                if not all(self._enlist(one.session) for one in heard):
                    self._socket.close(POLICY, "too many sessions on one socket")
                    return
                await answering.start(self._pass_on, arrival, heard)
            except Poison as poison:
                log.warning("webhook.refused", connection=self._connection, reason="too_large", error=str(poison))
            except Unavailable as error:
                log.warning("webhook.refused", connection=self._connection, reason="kafka_unavailable", error=error)
                self._socket.close(TRY_AGAIN, "events cannot be stored now")
                return

    def _arrival(self, frame: bytes) -> Arrival:
        clock = self._tools.flows.clock
        webhook = msgspec.structs.replace(self._upgrade.webhook, body=frame, received_at=clock.now())
        return msgspec.structs.replace(self._upgrade, webhook=webhook, monotonic=clock.monotonic())

    async def _understand(self, arrival: Arrival) -> Sequence[Heard]:
        """What the frame says; one that says nothing readable is kept, and does not end a call that goes on."""
        try:
            return self._dialogue.read(arrival.webhook.body, received_at=arrival.webhook.received_at)
        except Poison as poison:
            reason = poison
        log.warning("webhook.refused", connection=self._connection, reason="unreadable", error=str(reason))
        await self._insist(lambda: self._tools.passage.bury(arrival, reason))
        return ()

    async def _pass_on(
        self, arrival: Arrival, heard: Sequence[Heard], *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        """Store, let the next frame be read, and answer."""
        told = False

        def stored() -> None:
            nonlocal told
            if not told:
                told = True
                task_status.started()

        way = Way(speaker=self._dialogue, gone=self._gone, insist=self._insist, stored=stored)
        self._due += 1
        try:
            asked = await self._tools.passage.pass_on(arrival, heard, way)
            if asked is not None:
                await self._answer(asked)
        finally:
            self._due -= 1
            if not self._due:
                self._nothing_due.set()
        for one in heard:
            if one.ends_session:
                self._delist(one.session)
        stored()

    async def _answer(self, asked: Asked) -> None:
        frames = asked.answer.frames if isinstance(asked.answer, Spoken) else ()
        said = asked.answered_with != "caller_gone" and (self._socket.send(*frames) if frames else True)
        if not said:
            asked = msgspec.structs.replace(asked, used=())  # the keeper finds another way, or says that it is late
        await self._tools.flows.relay.answered(asked, delivered_by="websocket")

    async def _gone(self) -> None:
        await self._socket.closed.wait()

    async def _insist(self, effect: Effect) -> None:
        """Try until it is done, or until the time for it is over.

        Raises:
            Unavailable: it is.
        """
        settings = self._tools.settings
        with anyio.move_on_after(settings.insist_seconds):
            while True:
                try:
                    return await effect()
                except Unavailable as error:
                    self._tools.passage.kafka_failed()
                    log.warning("frame.waits", connection=self._connection, error=error)
                await anyio.sleep(settings.retry_seconds)
        raise Unavailable(f"not stored within {settings.insist_seconds} s")

    # -- sessions

    def _reference(self, session: str) -> str:
        return session_reference(self._connection, session)

    def _enlist(self, session: str) -> bool:
        """Let actions for this session be said here; False if there are too many."""
        if session in self._lines:
            return True
        if len(self._lines) >= self._tools.settings.max_sessions:
            return False
        line = Line(partial(self._say, session), waits=self._dialogue.waits)
        self._lines[session] = line
        self._tools.flows.sockets.put(self._reference(session), line)
        return True

    def _delist(self, session: str) -> None:
        line = self._lines.pop(session, None)
        if line is not None:
            self._tools.flows.sockets.drop(self._reference(session), line)

    def _say(self, session: str, actions: Sequence[Action]) -> bool:
        try:
            frames = self._dialogue.unasked(session, actions).frames
        except NotThisWay:
            return False  # the keeper knows another one
        return self._socket.send(*frames) if frames else self._socket.is_open

    async def _lost(self, session: str) -> None:
        """The socket ended before its session did."""
        if self._tools.flows.sockets.at(self._reference(session)) is not None:
            return  # it has come back on another socket
        heard = self._dialogue.lost(session, code=self._socket.close_code)
        if heard is None:
            return
        way = Way(speaker=self._dialogue, gone=self._gone, insist=self._insist)
        try:
            await self._tools.passage.pass_on(self._arrival(heard.raw), (heard,), way)
        except Unavailable as error:
            log.warning("session.lost", connection=self._connection, session=session, error=error)

    async def _depart(self) -> None:
        """The server stops: a provider that waits gets what is due, and is sent to another replica."""
        await self._socket.going_away.wait()
        if not self._dialogue.waits:
            return  # its call would be over: it has until the socket's own deadline
        while self._due:
            self._nothing_due = anyio.Event()
            await self._nothing_due.wait()
        self._socket.close(GOING_AWAY, "the server stops")
