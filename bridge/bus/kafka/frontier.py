"""Pure: when has everything been read that a broker has of a partition, though the last offsets are gone?

Compaction may empty the end of a log: the position then stays below the high watermark for ever, while every fetch is
answered with nothing. Promises to say so only after an answer that was asked for at exactly this position and brought
nothing; asking is left to the readers.
"""

from __future__ import annotations

from bridge.bus.kafka.internals import PartitionState


class Frontier:
    """Watches one partition. `read_to` is the first offset that may still hold something unread."""

    def __init__(self, start: int) -> None:
        self.read_to = start
        self._position: int | None = None
        self._answered_at_ms: int | None = None

    def observe(self, state: PartitionState, *, nothing_buffered: bool) -> None:
        """Tell the state directly after a fetch; `nothing_buffered` if a fetch without waiting gave nothing.

        A fetch for a position is sent only after the position was reached, and its answer is accepted only while
        the position still is the same. So an answer newer than the first look at a position was asked for there.
        """
        if state.position is None:
            return
        if state.position != self._position:
            self._position, self._answered_at_ms = state.position, state.answered_at_ms
            self.read_to = max(self.read_to, state.position)
        elif nothing_buffered and state.answered_at_ms != self._answered_at_ms and state.highwater is not None:
            self.read_to = max(self.read_to, state.highwater)
