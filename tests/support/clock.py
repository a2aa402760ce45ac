"""Time in a test's hand: a clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class HandClock:
    """Both readings move together, by `advance` only; `now` alone may be set to any moment."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at
        self.seconds = 0.0

    def now(self) -> datetime:
        """Wall time in UTC."""
        return self.at

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds
