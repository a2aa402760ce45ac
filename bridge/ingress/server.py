"""Runs a raw ASGI app on one port, inside the caller's task group: `port = await group.start(server.serve)`.

It says when it listens, touches no signal, and after `stop()` answers what had arrived for up to `drain_seconds`;
when `serve()` has returned or raised, no connection and no request task of it is left.
Uvicorn's own `Server` is left out on purpose (signals, `sys.exit`, polling); limits of one connection are `guarded`'s.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus
from uvicorn import Config
from uvicorn.server import ServerState

from bridge.ingress.asgi import App, Receive, Scope, Send
from bridge.ingress.guarded import Gate, GuardedProtocol, Rejection, ServerLimits, Watched, sweep
from bridge.ingress.websocket import WebSocket


class HttpServer:
    """One port, served once. Use one instance for webhooks and another for management.

    Attributes:
        requests_cut: requests that were still running when `drain_seconds`, or a cancellation, ended them.
    """

    def __init__(
        self,
        app: App,
        *,
        host: str,
        port: int,
        limits: ServerLimits,
        on_reject: Callable[[Rejection], None],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.requests_cut = 0
        self._app = app
        self._host = host
        self._port = port
        self._limits = limits
        self._ssl_context = ssl_context
        self._state = ServerState()
        self._gate = Gate(limits, on_reject)
        self._stopping = asyncio.Event()
        self._cutting = False

    @property
    def connections(self) -> int:
        """Open connections, idle ones too."""
        return len(self._state.connections)

    @property
    def sockets(self) -> int:
        """Open WebSockets; each is a connection, and a request that is being answered."""
        return self._gate.sockets

    @property
    def requests(self) -> int:
        """Requests being answered."""
        return len(self._state.tasks)

    def stop(self) -> None:
        """Begin to drain: stop accepting, close idle connections, answer what runs. Safe to repeat."""
        self._stopping.set()

    async def serve(self, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop()`; reports the bound port once it listens.

        Cancelling this is the hard stop: requests are cut at once. A handler that resists being cancelled is waited
        for no longer than `grace_seconds`.

        Raises:
            OSError: host and port cannot be bound; the message names them.
        """
        listener = await self._listen()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(sweep, self._watched, self._limits)
                task_status.started(listener.sockets[0].getsockname()[1])
                await self._stopping.wait()
                listener.close()
                await self._drain()
                group.cancel_scope.cancel()
        finally:
            listener.close()
            await self._cut()

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        config = self._config()

        def connection() -> GuardedProtocol:
            return GuardedProtocol(config, self._state, loop=loop, gate=self._gate)

        # A peer that never finishes its handshake is not a connection yet: its deadline is the loop's.
        timeout = None if self._ssl_context is None else self._limits.receive_timeout_seconds
        try:
            return await loop.create_server(
                connection,
                self._host,
                self._port,
                backlog=self._limits.backlog,
                ssl=self._ssl_context,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=timeout,
            )
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {self._host} port {self._port}: {error.strerror}") from error

    def _config(self) -> Config:
        config = Config(
            self._answer,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            workers=1,  # else an environment variable is consulted
            reset_contextvars=True,  # cpython 140947: context leaks from one request to the next on a connection
            timeout_keep_alive=self._limits.keep_alive_seconds,  # type: ignore[arg-type]  # goes to call_later
        )
        config.load()
        return config

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Only `_cut` cancels a request. uvicorn would log a traceback for each; `requests_cut` says it shorter.
            if not self._cutting:
                raise

    def _watched(self) -> list[Watched]:
        every: list[object] = [*self._state.connections]
        return [each for each in every if isinstance(each, GuardedProtocol | WebSocket)]

    async def _drain(self) -> None:
        self._gate.draining = True
        for connection in self._watched():
            connection.shutdown()
        with anyio.move_on_after(self._limits.drain_seconds):
            if self._state.connections:
                await self._gate.emptied.wait()
            if self._state.tasks:
                await asyncio.wait(self._state.tasks)

    async def _cut(self) -> None:
        self._gate.draining = True
        self._cutting = True
        tasks = list(self._state.tasks)
        self.requests_cut = len(tasks)
        for connection in self._watched():
            connection.cut()
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(self._limits.grace_seconds, shield=True):
            if tasks:
                await asyncio.wait(tasks)
            if self._state.connections:
                await self._gate.emptied.wait()
