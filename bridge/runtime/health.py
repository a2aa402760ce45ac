"""Whether the process lives and whether it is ready: what `/livez` and `/readyz` say.

Live means that the event loop turns and watched tasks move; it knows no Kafka, so that an outage there restarts nobody.
Ready means that every part has said so and nothing is being drained. What readiness of a part is, the part decides; how
these pages are served is `management`'s.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from bridge.runtime.clock import Clock

STARTING = "starting"
DRAINING = "draining"


class Part:
    """One part's word on whether it is ready. It begins as not ready."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason: str | None = STARTING
        """Why it is not ready; None when it is."""

    def ready(self) -> None:
        """It can do its work."""
        self.reason = None

    def not_ready(self, reason: str) -> None:
        """It cannot, at the moment."""
        self.reason = reason


class Health:
    """What all parts and tasks have said."""

    def __init__(self, clock: Clock, *, stuck_after_seconds: float) -> None:
        self._clock = clock
        self._stuck_after_seconds = stuck_after_seconds
        self._parts: dict[str, Part] = {}
        self._moved_at: dict[str, float] = {}
        self._draining = False

    def part(self, name: str) -> Part:
        """The part of this name; the first call makes it, and from then on readiness needs its word."""
        return self._parts.setdefault(name, Part(name))

    def watch(self, name: str) -> Callable[[], None]:
        """A function for a task to call each time it has moved; if it stops calling, the process is not live."""

        def move() -> None:
            self._moved_at[name] = self._clock.monotonic()

        move()
        return move

    def forget(self, name: str) -> None:
        """A watched task ended as it should."""
        self._moved_at.pop(name, None)

    def drain(self) -> None:
        """Not ready any more, whatever the parts say: no new work, please."""
        self._draining = True

    def reasons(self) -> dict[str, str]:
        """Why the process is not ready, by part; empty when it is."""
        waiting = {part.name: part.reason for part in self._parts.values() if part.reason is not None}
        return {**waiting, "process": DRAINING} if self._draining else waiting

    def parts(self) -> dict[str, str]:
        """Every part with `ready`, or the reason why not."""
        return {part.name: part.reason or "ready" for part in self._parts.values()} | self.reasons()

    def stuck(self) -> dict[str, float]:
        """Watched tasks that have not moved in time, with the seconds since they last did; empty when live."""
        now = self._clock.monotonic()
        still = {name: now - moved_at for name, moved_at in self._moved_at.items()}
        return {name: seconds for name, seconds in still.items() if seconds > self._stuck_after_seconds}


async def beat(health: Health, clock: Clock, *, every_seconds: float, on_lag: Callable[[float], None]) -> None:
    """The event loop's own task: moves, and measures by how many seconds it was woken late. Runs until cancelled."""
    move = health.watch("event_loop")
    due = clock.monotonic() + every_seconds
    while True:
        await anyio.sleep(every_seconds)
        now = clock.monotonic()
        on_lag(max(0.0, now - due))
        due = now + every_seconds
        move()
