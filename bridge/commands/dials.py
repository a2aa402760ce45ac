"""Dials under way, which outlive the lanes that began them.

A lane that loses its partition in the middle of a dial must not cut the request: the phone may be ringing, and cutting
would only make it unknown. The dial goes on here, and what comes of it is handed to `orphaned`, which writes it into the
ledger as evidence for the new owner. At the end of the process dials are waited for, within a deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from bridge.model.outcome import Outcome
from bridge.runtime.logging import get_logger

log = get_logger()


class _Flight:
    """One dial under way."""

    __slots__ = ("done", "is_orphan", "outcome")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.is_orphan = False
        self.outcome: Outcome | None = None


class Dials:
    """All dials of this process. Open it with `opened`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._under_way = 0
        self._landed = anyio.Event()

    async def run(
        self, dial: Callable[[], Awaitable[Outcome]], orphaned: Callable[[Outcome], Awaitable[None]]
    ) -> Outcome:
        """The outcome of `dial`. If the caller is cancelled meanwhile, `orphaned` gets it instead."""
        flight = _Flight()
        self._under_way += 1
        self._tasks.start_soon(self._fly, flight, dial, orphaned)
        try:
            await flight.done.wait()
        except anyio.get_cancelled_exc_class():
            flight.is_orphan = flight.outcome is None
            raise
        if flight.outcome is None:
            raise AssertionError("a dial that is done has an outcome")
        return flight.outcome

    async def rest(self, timeout_seconds: float) -> bool:
        """Wait until nothing is under way; False if the deadline came first."""
        with anyio.move_on_after(timeout_seconds):
            while self._under_way:
                self._landed = anyio.Event()
                await self._landed.wait()
        return not self._under_way

    async def _fly(
        self, flight: _Flight, dial: Callable[[], Awaitable[Outcome]], orphaned: Callable[[Outcome], Awaitable[None]]
    ) -> None:
        try:
            outcome = await dial()
            flight.outcome = outcome
            flight.done.set()
            if flight.is_orphan:
                await orphaned(outcome)
        finally:
            self._under_way -= 1
            self._landed.set()


@asynccontextmanager
async def opened(*, rest_seconds: float) -> AsyncIterator[Dials]:
    """A place for dials; on leaving, those under way are waited for, then cut."""
    async with anyio.create_task_group() as tasks:
        dials = Dials(tasks)
        try:
            yield dials
        finally:
            with anyio.CancelScope(shield=True):
                if not await dials.rest(rest_seconds):
                    log.warning("dials.cut_off", wait_ms=int(rest_seconds * 1000))
            tasks.cancel_scope.cancel()
