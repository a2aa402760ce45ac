"""What was sent, and the way to what became of it."""

from __future__ import annotations

from typing import Generic, TypeVar

from bridge.client.awaited import Slot

T = TypeVar("T")


class Sent(Generic[T]):
    """A record of actions, or a command.

    Attributes:
        id: the id of the action or the command.
    """

    __slots__ = ("_slot", "id")

    def __init__(self, name: str, slot: Slot[T] | None) -> None:
        self.id = name
        self._slot = slot

    async def result(self, *, seconds: float) -> T:
        """What became of it, as soon as the bridge has said so.

        Raises:
            NotYet: nothing came in time (an `Unavailable` that brings no event back).
            ValueError: the settings' `follows` leave this kind of result out.
        """
        if self._slot is None:
            raise ValueError("results of this kind are not followed: see `follows` in the settings")
        return await self._slot.value(seconds=seconds)
