"""Pure: calls whose end was seen, and whether the index knows of it: what keeps an end from being told twice.

Who took a call's last event may die before he has told the index, or not know that it was the last (some providers
have no event that ends a session); and who has not read the end yet may open the session again behind it. So each end
that is read is held until the index is seen to know it, or is told here (`repairs`), and no later owner is let pass its
offset before (`oldest_needed`). Times are seconds since the epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from bridge.ledger.index import Known

_Standing: TypeAlias = Literal["untold", "indexed", "renamed"]
"""The index is not seen to know the end; it is; the call goes on under another name."""


class Repair(msgspec.Struct, frozen=True):
    """An end that the index has not been seen to know."""

    reference: str
    known: Known
    """What the index has of the session; where it has nothing, what the events say of it."""
    partition: int
    offset: int | None
    """None: it was published here and has not been read back, or it was read long ago, by whomever."""
    since: float


class Ends:
    """A bounded memory: the oldest ends are forgotten first."""

    def __init__(self, *, max_ends: int) -> None:
        self._max_ends = max_ends
        self._ends: OrderedDict[str, _Standing] = OrderedDict()
        self._repairs: dict[str, Repair] = {}
        self._partitions: set[int] = set()
        """Whose ends are ours to repair."""

    def __contains__(self, reference: str) -> bool:
        return reference in self._ends

    def seen(self, end: Repair) -> None:
        """The end was read from the events topic, or published there."""
        if self._ends.get(end.reference, "untold") != "untold":
            return
        before = self._repairs.get(end.reference, end)
        self._repairs[end.reference] = before if before.offset is not None else replace(before, offset=end.offset)
        self._remember(end.reference, "untold")

    def indexed(self, reference: str) -> None:
        """The index knows of it."""
        self._repairs.pop(reference, None)
        self._remember(reference, "indexed")

    def renamed(self, reference: str) -> None:
        """The call was heard of under another name: under this one nothing is to be watched, and nothing has ended."""
        self._repairs.pop(reference, None)
        self._remember(reference, "renamed")

    def contradicted(self, reference: str, known: Known, partition: int) -> None:
        """The index has the session open: not yet told of its end, or told by somebody who did not know that."""
        if self._ends.get(reference) == "renamed":
            return
        anew = Repair(reference, known, partition, None, known.at.timestamp())
        self._repairs[reference] = replace(self._repairs.get(reference, anew), known=known)
        self._remember(reference, "untold")

    def assigned(self, partitions: frozenset[int]) -> None:
        """Their ends are ours to repair."""
        self._partitions |= partitions

    def revoked(self, partitions: frozenset[int]) -> None:
        """Another owner reads again what was held. What nobody will read again stays known, for when they are ours again."""
        self._partitions -= partitions
        self._repairs = {
            name: each
            for name, each in self._repairs.items()
            if each.offset is None or each.partition not in partitions
        }

    def oldest_needed(self, partition: int) -> int | None:
        """The first offset that a later owner must read again."""
        held = [each.offset for each in self._repairs.values() if each.partition == partition]
        return min((offset for offset in held if offset is not None), default=None)

    def repairs(self, now: float, *, after_seconds: float) -> list[tuple[str, Known]]:
        """Sessions whose end the index should know by now, and does not; `indexed` takes them away."""
        return [
            (each.reference, each.known)
            for each in self._repairs.values()
            if each.since + after_seconds <= now and each.partition in self._partitions
        ]

    def _remember(self, reference: str, standing: _Standing) -> None:
        self._ends[reference] = standing
        if len(self._ends) > self._max_ends:
            oldest, _ = self._ends.popitem(last=False)
            self._repairs.pop(oldest, None)
