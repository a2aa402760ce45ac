"""Where the story comes from: the topics, tailed, and the simulator's output, read as it grows.

It promises that what is there when `follow` has started, and everything after it, reaches the timeline once. What it
means is `story`'s part.
"""

from __future__ import annotations

from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from bridge.bus.protocol import Bus
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

    async def follow(self, bus: Bus, *, task_status: TaskStatus[None]) -> None:
        """Tail all topics of the story until cancelled; started once every tail stands."""
        async with anyio.create_task_group() as tails:
            async with anyio.create_task_group() as starting:
                for topic in self._story.topics:
                    starting.start_soon(tails.start, self._tail, bus, topic)
            task_status.started()

    def read_simulator(self) -> None:
        """Take in what the simulator has written since the last time; half a line is left for the next."""
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            self._add(self._story.line(line))

    async def _tail(self, bus: Bus, topic: str, *, task_status: TaskStatus[None]) -> None:
        async with bus.tail(topic, from_beginning=True) as tail:
            task_status.started()
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
