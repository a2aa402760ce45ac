"""Pure: calls whose end was seen, and whether the index knows of it: what keeps an end from being told twice.

Who took a call's last event may die before he has told the index, or not know that it was the last (some providers
have no event that ends a session). So each end that is read is held until the index is seen to know it, or is told
here (`repairs`), and no later owner is let pass its offset before (`oldest_needed`). Times are seconds since the epoch.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from msgspec.structs import replace

from bridge.ledger.index import Known


class Repair(msgspec.Struct, frozen=True):
    """An end that the index has not been seen to know."""

    reference: str
    known: Known | None
    """None: the index does not know the session either; nothing is to be done, unless it hears of it soon."""
    partition: int
    offset: int | None
    """None: it was published here and has not been read back."""
    since: float


class Ends:
    """A bounded memory: the oldest ends are forgotten first."""

    def __init__(self, *, max_ends: int) -> None:
        self._max_ends = max_ends
        self._is_indexed: OrderedDict[str, bool] = OrderedDict()
        self._repairs: dict[str, Repair] = {}

    def __contains__(self, reference: str) -> bool:
        return reference in self._is_indexed

    def seen(self, end: Repair) -> None:
        """The end was read from the events topic, or published there."""
        if self._is_indexed.get(end.reference, False):
            return
        before = self._repairs.get(end.reference, end)
        self._repairs[end.reference] = before if before.offset is not None else replace(before, offset=end.offset)
        self._remember(end.reference, is_indexed=False)

    def indexed(self, reference: str) -> None:
        """The index knows of it."""
        self._repairs.pop(reference, None)
        self._remember(reference, is_indexed=True)

    def contradicted(self, reference: str, known: Known) -> None:
        """The index has the session open."""
        repair = self._repairs.get(reference)
        if repair is not None:
            self._repairs[reference] = replace(repair, known=known)

    def revoked(self, partitions: frozenset[int]) -> None:
        """Another owner reads again what was held."""
        self._repairs = {name: each for name, each in self._repairs.items() if each.partition not in partitions}

    def oldest_needed(self, partition: int) -> int | None:
        """The first offset that a later owner must read again."""
        held = [each.offset for each in self._repairs.values() if each.partition == partition]
        return min((offset for offset in held if offset is not None), default=None)

    def repairs(self, now: float, *, after_seconds: float) -> list[tuple[str, Known]]:
        """Sessions that the index has open although it should know their end by now; `indexed` takes them away."""
        old = [each for each in self._repairs.values() if each.since + after_seconds <= now]
        for each in old:
            if each.known is None:
                del self._repairs[each.reference]
        return [(each.reference, each.known) for each in old if each.known is not None]

    def _remember(self, reference: str, *, is_indexed: bool) -> None:
        self._is_indexed[reference] = is_indexed
        if len(self._is_indexed) > self._max_ends:
            self._is_indexed.popitem(last=False)
