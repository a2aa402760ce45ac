"""Let go of what is past the deduplication window: tombstones for old entries, so that memory and log stay bounded.

Promises that a claim's record is erased, and acknowledged as erased, before the record of what it came to, so that no
reader ever finds a claim without its end; and that fences of former owners leave the log once nobody can need them.
"""

from __future__ import annotations

import anyio
import msgspec

from bridge.ledger.partition import Ended, LedgerPartition, Tombstone
from bridge.ledger.transitions import Entry, State
from bridge.runtime.clock import Clock

_TOMBSTONES_AT_ONCE = 500
"""Well below what a ledger partition lets wait, so that commands find room beside the sweep."""


class SweepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished commands are remembered, and how much is let go at a time."""

    window_seconds: float = 7 * 86_400.0
    every_seconds: float = 60.0
    max_entries: int = 2000


class Sweep:
    """The broom of one lane."""

    def __init__(self, ledger: LedgerPartition, clock: Clock, settings: SweepSettings) -> None:
        self._ledger = ledger
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Sweep until cancelled, or until the lane has ended."""
        try:
            while True:
                while await self.once():
                    await anyio.lowlevel.checkpoint()
                await anyio.sleep(self._settings.every_seconds)
        except Ended:
            return

    async def once(self) -> bool:
        """Let go of some old entries; True if there may be more.

        Raises:
            Ended: the lane was succeeded.
        """
        before_ms = int((self._clock.now().timestamp() - self._settings.window_seconds) * 1000)
        old = self._ledger.state.over_before(before_ms, most=self._settings.max_entries)
        await self._erase([key for command_id, entry in old for key in _claims(command_id, entry)])
        await self._erase([key for command_id, entry in old for key in _ends(command_id, entry)])
        await self._erase(self._ledger.state.take_old_fences(before_ms))
        return len(old) == self._settings.max_entries

    async def _erase(self, keys: list[bytes]) -> None:
        for start in range(0, len(keys), _TOMBSTONES_AT_ONCE):
            await self._ledger.write(*(Tombstone(key) for key in keys[start : start + _TOMBSTONES_AT_ONCE]))


def _claims(command_id: str, entry: Entry) -> list[bytes]:
    """What would lead to something, did it stand alone: claims, the deferral, and what was said and is void."""
    kinds = [] if entry.deferred is None else ["deferred"]
    kinds += (f"decided/{epoch}" for epoch in entry.decided if epoch != entry.standing_decision)
    kinds += (f"sending/{attempt}" for attempt in range(1, entry.attempt + 1))
    if entry.state is not State.UNKNOWN:
        kinds += _doubts(entry)
    return [f"{command_id}/{kind}".encode() for kind in kinds]


def _doubts(entry: Entry) -> list[str]:
    return [f"unsure/{attempt}" for attempt in range(1, entry.doubted + 1)]


def _ends(command_id: str, entry: Entry) -> list[bytes]:
    unsent = entry.unsent.attempt if entry.unsent is not None else 0
    unsent = max(unsent, entry.archived.unsent if entry.archived is not None else 0)
    kinds = [f"unsent/{attempt}" for attempt in range(1, unsent + 1)]
    kinds.append(f"settled/{entry.attempt}")
    if entry.standing_decision is not None:
        kinds.append(f"decided/{entry.standing_decision}")
    if entry.state is State.UNKNOWN:
        kinds += _doubts(entry)
    return [f"{command_id}/{kind}".encode() for kind in kinds]
