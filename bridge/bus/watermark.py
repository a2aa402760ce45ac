"""Which offset of a partition may be committed: the end of the unbroken finished prefix. Pure.

Records finish in any order; what is committed never passes one that has not finished, so a crash repeats work instead
of losing it. One such object a partition and assignment; who finishes what is the lane's business.
"""

from __future__ import annotations

import heapq


class Watermark:
    """Offsets started and finished; `committable` is the next offset to read after a restart."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._finished: set[int] = set()
        self._next: int | None = None
        self._committed: int | None = None

    def started(self, offset: int) -> None:
        """Work on this record begins. Offsets come in rising order; gaps are no records."""
        heapq.heappush(self._open, offset)
        self._next = offset + 1 if self._next is None else max(self._next, offset + 1)

    def finished(self, offset: int) -> None:
        """Nothing needs this record any more."""
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            self._finished.discard(heapq.heappop(self._open))

    @property
    def in_progress(self) -> int:
        """How many records have started and not finished."""
        return len(self._open) - len(self._finished)

    @property
    def committable(self) -> int | None:
        """The offset to commit, or None where there is nothing new to say."""
        position = self._open[0] if self._open else self._next
        return None if position == self._committed else position

    def committed(self, offset: int) -> None:
        """The commit of `offset` was confirmed."""
        self._committed = offset if self._committed is None else max(self._committed, offset)
