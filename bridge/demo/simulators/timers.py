"""Named timers of one call, in the call's own time.

It promises that a timer of a name replaces the one before, that nothing fires after `clear`, and that nothing is started
after `close`. What time means (telephony is divided by `speed`, deadlines of the other side are not) is said by who
starts one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec

_P = ParamSpec("_P")


class Timers:
    """`speed`: how many times faster than life the call is."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._is_closed = False

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def after(
        self, seconds: float, name: str, callback: Callable[_P, object], *arguments: _P.args, **fields: _P.kwargs
    ) -> None:
        """Call back after so many seconds of the call's time."""

        def fire() -> None:
            self._handles.pop(name, None)
            callback(*arguments, **fields)

        if self._is_closed:
            return
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

    def close(self) -> None:
        """Forget all of them, and those that somebody still wants to start."""
        self.clear()
        self._is_closed = True
