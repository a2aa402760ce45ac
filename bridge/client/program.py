"""A whole program around one agent: connect, hear until a signal comes, stop in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable

import anyio

from bridge.client.agent import Agent
from bridge.client.client import connected
from bridge.client.settings import ClientSettings
from bridge.client.tasks import task_group


async def serve(agent: Agent, settings: ClientSettings, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run an agent until SIGTERM or SIGINT; handlers at work may finish. A second signal ends it at once.

    `on_ready` is called whenever the agent's group has given this process partitions.

    Raises:
        Unavailable: Kafka does not answer at the start, or a topic is not there.
        Misconfigured: a secret or a certificate cannot be read.
        Broken: the group can never be joined again; the program must be started anew.
    """
    stop = anyio.Event()
    async with task_group() as tasks:
        tasks.start_soon(_listen, stop, tasks.cancel_scope)
        async with connected(settings) as client:
            await client.hear(agent, stop=stop, on_ready=on_ready)
        tasks.cancel_scope.cancel()


async def _listen(stop: anyio.Event, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                scope.cancel()
            stop.set()
