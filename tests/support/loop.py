"""The tests' event loop: the gateway's own, except that it says what was left open at its end instead of hanging.

uvloop warns of each handle that nobody closed while it closes the loop, and where warnings are errors that handle stays
open and `close` waits for it for ever. Here the end closes everything, and then fails with the names of what was left.
"""

from __future__ import annotations

import gc
import warnings
from typing import Any

import uvloop


class TidyLoop(uvloop.Loop):
    """A loop whose `close` always returns."""

    def close(self) -> None:
        """Close it, and everything that is still open on it.

        Raises:
            ResourceWarning: something was; the message says what.
        """
        if self.is_closed():
            return
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ResourceWarning)
            super().close()
        if said:
            whole = [*(str(each.message) for each in said), *_transports()]
            raise ResourceWarning("left open at the end of the loop: " + "; ".join(whole))


def _transports() -> list[str]:
    """Connections that somebody still holds, and for whom they were."""
    found: list[Any] = [each for each in gc.get_objects() if type(each).__name__ == "TCPTransport"]
    return [f"{each!r} to {each.get_extra_info('peername')} for {each.get_protocol()!r}" for each in found]
