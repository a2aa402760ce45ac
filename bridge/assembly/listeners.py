"""HTTP in, built: the webhooks' router and the listeners with their limits."""

from __future__ import annotations

import ssl
from typing import Any

import anyio

from bridge.assembly.shared import Drain, House, spawn_stoppable
from bridge.ingress.dialogues import Dialogues, DialogueSettings
from bridge.ingress.guarded import ServerLimits
from bridge.ingress.passage import Flows
from bridge.ingress.router import Router, RouterSettings
from bridge.ingress.server import HttpServer
from bridge.ingress.tls import server_tls
from bridge.ingress.websocket import SocketLimits
from bridge.model.errors import Misconfigured


class Listener:
    """One bound port, and how to bring it to rest."""

    def __init__(self, port: int, drain: Drain) -> None:
        self.port = port
        self.drain = drain


async def listen_webhooks(house: House, flows: Flows) -> Listener:
    """Serve what providers send.

    Raises:
        Misconfigured: the address cannot be bound, or the certificate cannot be read.
    """
    ingress, events = house.config.ingress, house.config.events
    dialogues = Dialogues(
        flows,
        DialogueSettings(publish_seconds=events.publish_seconds, insist_seconds=events.websocket_insist_seconds),
    )
    router = Router(
        flows,
        RouterSettings(
            max_body_bytes=ingress.max_body_bytes,
            max_in_progress=ingress.max_held_requests + events.max_publishing,
            publish_seconds=events.publish_seconds,
            retry_after_seconds=events.retry_after_seconds,
        ),
        upgraded=dialogues,
    )
    tls = server_tls(ingress, config_file=house.checked.file)
    sockets = SocketLimits(
        max_sockets=ingress.max_websockets,
        max_message_bytes=ingress.max_body_bytes,
        ping_seconds=ingress.websocket_ping_seconds,
        pong_seconds=ingress.websocket_pong_seconds,
        idle_seconds=ingress.websocket_idle_seconds,
    )
    return await listen(house, "webhooks", router, (ingress.host, ingress.port), tls=tls, sockets=sockets)


async def listen(
    house: House,
    name: str,
    app: Any,
    address: tuple[str, int],
    *,
    tls: ssl.SSLContext | None = None,
    sockets: SocketLimits | None = None,
) -> Listener:
    """Serve `app`; returns once the port is bound. Without `sockets` it takes no WebSockets.

    Raises:
        Misconfigured: the address cannot be bound.
    """
    ingress = house.config.ingress
    limits = ServerLimits(
        max_header_bytes=ingress.max_header_bytes,
        max_body_bytes=ingress.max_body_bytes,
        max_connections=ingress.max_connections,
        receive_timeout_seconds=ingress.receive_timeout_seconds,
        keep_alive_seconds=ingress.keep_alive_seconds,
        drain_seconds=max(ingress.drain_seconds, 0.1),
        sockets=sockets,
    )
    server = HttpServer(
        app,
        host=address[0],
        port=address[1],
        limits=limits,
        on_reject=lambda kind: house.metrics.http_rejections.labels(kind=kind).inc(),
        ssl_context=tls,
    )
    binding = _Binding()

    async def serve() -> None:
        try:
            await server.serve(task_status=binding)
        except OSError as error:
            table, found = name.replace("webhooks", "ingress"), str(error.strerror)
            binding.failed(Misconfigured(house.checked.file, table, found=found, allowed="a free address and port"))
            await anyio.sleep_forever()  # whoever waits for the port raises it, and that ends the process

    drain = spawn_stoppable(house.supervisor, name, serve, server.stop)
    return Listener(await binding.bound(), drain)


class _Binding:
    """A task status that hands the port, or why there is none, to whoever waits for it."""

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self._port = 0
        self._failure: Misconfigured | None = None

    def started(self, value: int | None = None) -> None:
        """Called by the server when it listens."""
        self._port = value or 0
        self._settled.set()

    def failed(self, failure: Misconfigured) -> None:
        """The server could not listen."""
        self._failure = failure
        self._settled.set()

    async def bound(self) -> int:
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure
        return self._port
