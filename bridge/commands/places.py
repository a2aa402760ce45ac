"""Room for so many calls at once, given out by turns: a lane with a long queue does not keep the others waiting.

Promises that never more than `most` are inside, that a place which becomes free goes to the lane whose turn is the
longest ago, and within a lane to who came first. Who needs a place is left to `accounts`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Places:
    """The places of one account in this replica."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.free = most
        self._queues: dict[int, deque[anyio.Event]] = {}
        """Who waits, by lane; the lane whose turn is next stands first."""

    @asynccontextmanager
    async def taken(self, lane: int) -> AsyncIterator[None]:
        """A place for the length of the block."""
        await self._enter(lane)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, lane: int) -> None:
        if self.free:
            self.free -= 1
            return
        granted = anyio.Event()
        queue = self._queues.setdefault(lane, deque())
        queue.append(granted)
        try:
            await granted.wait()
        except anyio.get_cancelled_exc_class():
            if granted.is_set():
                self._leave()
            else:
                self._forget(lane, granted)
            raise

    def _forget(self, lane: int, waiting: anyio.Event) -> None:
        queue = self._queues[lane]
        queue.remove(waiting)
        if not queue:
            del self._queues[lane]

    def _leave(self) -> None:
        if not self._queues:
            self.free += 1
            return
        lane, queue = next(iter(self._queues.items()))
        queue.popleft().set()
        del self._queues[lane]
        if queue:
            self._queues[lane] = queue  # behind the others
