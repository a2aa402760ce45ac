"""What a process keeps of a partition that it lost, in case it gets it back: the knowledge, not the right to act on it.

In a consumer group a rebalance takes every partition from everybody and gives most of them back (aiokafka speaks the
eager protocol only). Whoever gets one back writes a fence of its own, as ever, and reads on from where its knowledge
ends, instead of everything from the beginning.

What was known stays true, and what was written meanwhile is read; only what was written *and erased* meanwhile can be
missed: the end of a claim, with the tombstones that let go of both. Nothing is let go of before the deduplication window
has passed since its end, so what is kept for less than the window cannot have missed the end of anything. What was let
go of meanwhile is remembered a little longer than by others, and let go of again. Memory stays bounded by number and
time.
"""

from __future__ import annotations

import msgspec

from bridge.ledger.state import LedgerState
from bridge.runtime.clock import Clock


class KeepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept, and how long."""

    keep_seconds: float = 120.0
    """Below the deduplication window. 0: nothing is kept."""
    max_entries: int = 1_000_000
    """Commands in all partitions that are kept; what was lost first goes first."""


class _Kept(msgspec.Struct, frozen=True):
    state: LedgerState
    until: float
    until_wall: float
    """By the wall clock as well: the other stands still while the machine sleeps."""


class Kept:
    """Ledger states of partitions that are nobody's here. Each is given out once."""

    def __init__(self, settings: KeepSettings, clock: Clock) -> None:
        self.keep_seconds = settings.keep_seconds
        self._settings = settings
        self._clock = clock
        self._states: dict[int, _Kept] = {}

    def __len__(self) -> int:
        return len(self._states)

    @property
    def entries(self) -> int:
        """Commands in memory for partitions that may never come back."""
        return sum(len(kept.state.entries) for kept in self._states.values())

    def put(self, partition: int, state: LedgerState) -> None:
        """Keep what was known when the partition was lost. Nobody may change it any more."""
        self.forget()
        self._states.pop(partition, None)
        seconds = self._settings.keep_seconds
        now, now_wall = self._clock.monotonic(), self._clock.now().timestamp()
        self._states[partition] = _Kept(state, now + seconds, now_wall + seconds)
        while self.entries > self._settings.max_entries:
            del self._states[next(iter(self._states))]

    def take(self, partition: int) -> LedgerState | None:
        """What is known of a partition that comes back, unless that is too old or was too much to keep."""
        self.forget()
        kept = self._states.pop(partition, None)
        return None if kept is None else kept.state

    def forget(self) -> None:
        """Let go of what is too old."""
        now, now_wall = self._clock.monotonic(), self._clock.now().timestamp()
        old = [each for each, kept in self._states.items() if kept.until <= now or kept.until_wall <= now_wall]
        for partition in old:
            del self._states[partition]
