"""Results that somebody may wait for, by the name of what was sent; bounded in number, found by key before decoding.

Promises that a result is kept for its sender even if it comes before it is awaited, and that nothing is kept here once
it has come. Reading the topics is left to `followers`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

import anyio

from bridge.model.errors import Unavailable

T = TypeVar("T")


class NotYet(Unavailable):
    """A result did not come in time; what it is the result of was sent, and may be done."""


class Slot(Generic[T]):
    """Where one result will be put."""

    __slots__ = ("_arrived", "_value", "key")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._arrived = anyio.Event()
        self._value: list[T] = []

    def fill(self, value: T) -> None:
        """The first one counts."""
        if not self._value:
            self._value.append(value)
            self._arrived.set()

    async def value(self, *, seconds: float) -> T:
        """The result, once it is there.

        Raises:
            NotYet: it did not come in time. It may come later.
        """
        with anyio.move_on_after(seconds):
            await self._arrived.wait()
        if not self._value:
            raise NotYet(f"no result within {seconds:g} s")
        return self._value[0]


class Awaited(Generic[T]):
    """The slots that are still empty."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._slots: OrderedDict[str, Slot[T]] = OrderedDict()
        self._keys: Counter[bytes] = Counter()

    def __len__(self) -> int:
        """How many results have not come yet."""
        return len(self._slots)

    def expect(self, name: str, key: bytes) -> Slot[T]:
        """The slot for the result of this name, which will come under this record key. Ask before you send."""
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = Slot(key)
            self._keys[key] += 1
            if len(self._slots) > self._most:
                self._drop(next(iter(self._slots)))
        return slot

    def concerns(self, key: bytes | None) -> bool:
        """Whether a record with this key may be awaited."""
        return key in self._keys

    def take(self, name: str, value: T) -> None:
        """A result has come; one that nobody expects is let go."""
        slot = self._slots.get(name)
        if slot is not None:
            slot.fill(value)
            self._drop(name)

    def _drop(self, name: str) -> None:
        key = self._slots.pop(name).key
        self._keys[key] -= 1
        if not self._keys[key]:
            del self._keys[key]
