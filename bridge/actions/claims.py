"""Pure: which replica takes an action that names no question, where several hold one of its session.

A replica that would take it writes a claim behind it, on the same partition, and takes it only if its own is the first
claim that it reads back, and soon enough: the keeper, who reads the claims too, waits longer than that before he looks
for another way. So the log decides, and nobody takes what somebody else has taken.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from bridge.actions.given import Given


class _Mine(NamedTuple):
    given: Given
    token: str
    read_at: float


class Claims:
    """Those that were read lately, and those of this replica that it waits to read back."""

    def __init__(self, *, valid_seconds: float, max_claims: int = 10_000) -> None:
        """`valid_seconds`: between reading an action and reading back the claim on it."""
        self._valid_seconds = valid_seconds
        self._max_claims = max_claims
        self._first: OrderedDict[str, str] = OrderedDict()
        self._mine: OrderedDict[str, _Mine] = OrderedDict()

    def begin(self, given: Given, token: str, now: float) -> None:
        """A claim on this action for this question is about to be written."""
        self._mine[f"{given.partition}-{given.offset}"] = _Mine(given, token, now)
        if len(self._mine) > self._max_claims:
            self._mine.popitem(last=False)

    def read(self, place: str, token: str, now: float) -> Given | None:
        """A claim stands in the log, in the order of its partition. The action, if this replica is to take it now."""
        if place in self._first:
            return None
        self._first[place] = token
        if len(self._first) > self._max_claims:
            self._first.popitem(last=False)
        mine = self._mine.pop(place, None)
        if mine is None or mine.token != token or now - mine.read_at > self._valid_seconds:
            return None
        return mine.given
