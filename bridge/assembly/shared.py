"""What every part is built from, and how parts live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import anyio
import msgspec

from bridge.bus.protocol import Bus, Producer
from bridge.configured import Checked
from bridge.ledger.index import Index
from bridge.providers.protocol import Provider
from bridge.runtime.clock import Clock
from bridge.runtime.config import Config
from bridge.runtime.health import Health
from bridge.runtime.metrics import Metrics
from bridge.runtime.supervisor import Supervisor

Drain: TypeAlias = Callable[[], Awaitable[None]]
"""Tells a part to come to rest, and waits until it has."""


class House(msgspec.Struct, frozen=True):
    """What is there before the first connection is made."""

    checked: Checked
    supervisor: Supervisor
    health: Health
    metrics: Metrics
    clock: Clock

    @property
    def config(self) -> Config:
        """The configuration as it was read."""
        return self.checked.config


class Shared(msgspec.Struct, frozen=True):
    """What several parts work with. `producer` is the one for webhooks and what follows from them."""

    house: House
    bus: Bus
    producer: Producer
    index: Index
    connections: Mapping[str, Provider]
    partitions: int
    """Of the commands topic."""


def spawn_stoppable(
    supervisor: Supervisor, name: str, run: Callable[[], Awaitable[None]], stop: Callable[[], None]
) -> Drain:
    """Start a task that ends by itself once it was told to; returns how to tell it and wait."""
    ended = anyio.Event()

    async def live() -> None:
        try:
            await run()
        finally:
            ended.set()

    async def drain() -> None:
        stop()
        await ended.wait()

    supervisor.spawn(name, live)
    return drain
