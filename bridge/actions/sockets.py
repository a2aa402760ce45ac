"""The sessions that have an open WebSocket on this replica: what is for one of them can be said at once.

A line is a session's end of its socket. It says things in the same turn of the loop or not at all, so nothing waits
here, and what could not be said is left to the keeper. A session that comes back on a new socket is reached there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bridge.model.actions import Action

Say = Callable[[Sequence[Action]], bool]


class Line(NamedTuple):
    """How a session is reached."""

    say: Say
    """Write the actions to the socket; False if it takes nothing. Raises Poison for what the provider does not do."""
    waits: bool
    """The provider waits for its questions' answers: an action without a token is one, if a question is open."""


class Sockets:
    """The registry."""

    def __init__(self) -> None:
        self._lines: dict[bytes, Line] = {}

    def __len__(self) -> int:
        """How many sessions can be reached."""
        return len(self._lines)

    def concerns(self, key: bytes) -> bool:
        """Whether a record with this key may be for one of them."""
        return key in self._lines

    def at(self, reference: str) -> Line | None:
        """The line of this session."""
        return self._lines.get(reference.encode())

    def put(self, reference: str, line: Line) -> None:
        """The session is reached by this line from now on."""
        self._lines[reference.encode()] = line

    def drop(self, reference: str, line: Line) -> None:
        """The line is closed; another one of the session stays."""
        key = reference.encode()
        if self._lines.get(key) is line:
            del self._lines[key]
