"""Named timers of one call, in the call's own time.

It promises that a timer of a name replaces the one before, and that nothing fires after `clear`. What time means
(telephony is divided by `speed`, deadlines of the other side are not) is said by who starts one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """`speed`: how many times faster than life the call is."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def after(self, seconds: float, name: str, callback: Callable[[], object]) -> None:
        """Call back after so many seconds of the call's time."""

        def fire() -> None:
            self._handles.pop(name, None)
            callback()

        self.cancel(name)
        self._handles[name] = asyncio.get_running_loop().call_later(seconds / self._speed, fire)

    def cancel(self, *names: str) -> None:
        """Forget these, as far as they run."""
        for name in names:
            handle = self._handles.pop(name, None)
            if handle is not None:
                handle.cancel()

    def clear(self) -> None:
        """Forget all of them."""
        self.cancel(*self._handles)
