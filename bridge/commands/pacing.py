"""How fast one lane may dial over one account: its share of the account's limits. Pure.

Theory of operation. An account's limits are divided over the partitions of the commands topic, so replicas need no
shared counter. With at least one call a second for each partition a lane gets whole permits in a rolling window that is
a little longer than a second, so that what is late on its way does not land in the next second; dials are spread over
the window, and time lost to a late one is made up for. A dial counts from when its request has left: on a busy machine
that is tens of milliseconds after it was begun. With fewer calls than partitions the lanes take turns by the wall
clock: one slot of time for each call, and each slot belongs to one partition.

A new owner restores its window from the times of the claims in the ledger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable

import msgspec

WINDOW_SECONDS = 1.02
"""A rolling second and a margin for the way to the provider: 98 % of the limit are used, at most."""
_SMOOTHNESS = 0.7
"""How much of the even distance between two dials is always kept."""
TURN_SECONDS = 1.05
"""The same for turns by the clock."""
TURN_LATENESS_SECONDS = 0.04
"""A turn is taken no later than this after the beginning of its slot, or not at all."""


class Share(msgspec.Struct, frozen=True):
    """What one lane may do. `permits` in each window, or, where that is 0, one in each own slot of `slot_seconds`."""

    permits: int
    slot_seconds: float = 0.0
    slots: int = 1
    own_slot: int = 0


def share_of(calls_per_second: float, *, partitions: int, partition: int) -> Share:
    """The share of `partition` among `partitions`. The shares together never pass the limit."""
    whole = int(calls_per_second)
    if whole >= partitions:
        return Share(whole // partitions + (1 if partition < whole % partitions else 0))
    return Share(0, slot_seconds=TURN_SECONDS / calls_per_second, slots=partitions, own_slot=partition)


class Pace:
    """When the next dial may start. Times are wall-clock seconds, so that they mean the same to the next owner."""

    def __init__(self, share: Share, recent: Iterable[float] = ()) -> None:
        self._share = share
        self._starts: deque[float] = deque(sorted(recent)[-max(1, share.permits) :], maxlen=max(1, share.permits))

    @property
    def per_second(self) -> float:
        """The rate in the long run."""
        if self._share.permits:
            return self._share.permits / WINDOW_SECONDS
        return 1 / (self._share.slot_seconds * self._share.slots)

    def wait_seconds(self, now: float) -> float:
        """How long until a dial may start; 0: now. Starts in the future are those of a clock that was wrong."""
        while self._starts and self._starts[-1] > now:
            self._starts.pop()
        return self._until_window(now) if self._share.permits else self._until_turn(now)

    def started(self, now: float) -> None:
        """A dial starts."""
        self._starts.append(now)

    def delay(self, moment: float, seconds: float) -> None:
        """What started at that moment, or last before it, counts so much later."""
        index = bisect_right(self._starts, moment) - 1
        if index >= 0:
            later = self._starts[index] + seconds
            del self._starts[index]
            self._starts.insert(bisect_right(self._starts, later), later)

    def _until_window(self, now: float) -> float:
        if not self._starts:
            return 0.0
        smooth = self._starts[-1] + WINDOW_SECONDS / self._share.permits * _SMOOTHNESS
        full = self._starts[0] + WINDOW_SECONDS if len(self._starts) == self._share.permits else now
        return max(0.0, smooth - now, full - now)

    def _until_turn(self, now: float) -> float:
        share = self._share
        slot, into = divmod(now, share.slot_seconds)
        mine = int(slot) % share.slots == share.own_slot
        taken = bool(self._starts) and self._starts[-1] >= now - into
        if mine and into <= TURN_LATENESS_SECONDS and not taken:
            return 0.0
        ahead = (share.own_slot - int(slot)) % share.slots or share.slots
        return ahead * share.slot_seconds - into
