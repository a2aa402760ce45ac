"""Where the story comes from: the topics, tailed, and the simulator's output, read as it grows.

It promises that everything there is and will be, while it is open, reaches the timeline once. What it
means is `story`'s part.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import anyio

from bridge.bus.protocol import Bus, TailReader
from bridge.demo.story import Story
from bridge.demo.timeline import Line, Timeline
from bridge.model.errors import Unavailable

_POLL_SECONDS = 0.2
_RETRY_SECONDS = 0.5


class Sources:
    """From topics and the simulator's output to the timeline, by way of the story."""

    def __init__(self, story: Story, timeline: Timeline, *, simulator_log: Path) -> None:
        self._story = story
        self._timeline = timeline
        self._log = simulator_log
        self._read_bytes = 0

    @contextlib.asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[Callable[[], Coroutine[None, None, None]]]:
        """Tails of all topics of the story; to be read by running what is given, until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(bus.tail(each, from_beginning=True)) for each in self._story.topics
            ]

            async def read() -> None:
                async with anyio.create_task_group() as tasks:
                    for tail in opened:
                        tasks.start_soon(self._read, tail)

            yield read

    def read_simulator(self) -> None:
        """Take in what the simulator has written since the last time; half a line is left for the next."""
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            self._add(self._story.line(line))

    async def _read(self, tail: TailReader) -> None:
        while True:
            try:
                found = await tail.poll(max_records=500, timeout_seconds=_POLL_SECONDS)
            except Unavailable:  # whoever waits for something has a deadline
                await anyio.sleep(_RETRY_SECONDS)
                continue
            for record in found:
                self._add(self._story.record(record))

    def _add(self, line: Line | None) -> None:
        if line is not None:
            self._timeline.add(line)
