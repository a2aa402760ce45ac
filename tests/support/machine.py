"""How busy the machine is meanwhile: what is slow on a busy one says nothing about the gateway.

A daemon that is woken late cannot act in time, whatever it is made of. So tests that judge speed look at the machine
beside it, print what they saw, and judge only where it had time; promises are judged on any machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

PULSE_SECONDS = 0.005
CALM_SECONDS = 0.01
"""How late one in ten wake-ups may be on a machine that has time for us, and … """
IDLE = 0.2
"""… how much of its processors' time must be left over."""


@dataclass
class Machine:
    """How busy it was: how late each wake-up of this process came, and how much of the processors nobody wanted."""

    late: list[float] = field(default_factory=list)
    idle: float = 1.0

    @property
    def usually_late(self) -> float:
        """Nine of ten wake-ups came no later."""
        return sorted(self.late)[len(self.late) * 9 // 10]

    @property
    def is_calm(self) -> bool:
        """Whether what is slow here is the gateway."""
        return self.usually_late <= CALM_SECONDS and self.idle >= IDLE

    def __str__(self) -> str:
        return f"wake-ups late by {self.usually_late * 1000:.1f} ms (9 in 10), {self.idle:.0%} idle"


@asynccontextmanager
async def watched() -> AsyncIterator[Machine]:
    """The machine, for the length of the block; its figures are whole when the block is over."""
    machine, before = Machine(), _ticks()

    async def pulse() -> None:
        while True:
            due = time.monotonic() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            machine.late.append(time.monotonic() - due)

    task = asyncio.create_task(pulse())
    try:
        yield machine
    finally:
        task.cancel()
        idle, whole = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
        machine.idle = idle / whole if whole else 1.0


def _ticks() -> tuple[int, int]:
    """Of all processors since the start: idle, and all; nothing where nobody says so."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return 0, 0
    user, nice, system, idle, *others = map(int, first.split()[1:9])
    return idle, user + nice + system + idle + sum(others)
