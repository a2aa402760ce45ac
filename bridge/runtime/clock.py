"""Time as a parameter: wall time for what is written down, monotonic time for what is waited for."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Two readings; nothing here waits."""

    def now(self) -> datetime:
        """Wall time in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; comparable within this process only."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of the same clock as the event loop's."""
        return time.monotonic()


def epoch_ms(clock: Clock) -> int:
    """Wall time in milliseconds since 1970, as records carry it."""
    return int(clock.now().timestamp() * 1000)
