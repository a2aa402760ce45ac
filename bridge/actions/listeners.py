"""Whether anybody listens: members in the consumer group that answers questions.

With nobody there a question would be asked in vain: it gets its fallback at once, and its event is published all the
same. Promises to believe in an absence only when Kafka has said so several times in a row, and in a member at once;
where Kafka cannot be asked, somebody is taken to listen. What is done about it is the relay's.
"""

from __future__ import annotations

import anyio
import msgspec

from bridge.bus.protocol import Admin, Bus
from bridge.model.errors import Unavailable
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class ListenersSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which group, and how often Kafka is asked."""

    group_id: str
    look_seconds: float = 3.0
    looks_without_members: int = 2
    """So many in a row, and nobody listens."""


class Listeners:
    """What is known of the group. `anybody` may be asked at any time."""

    def __init__(self, settings: ListenersSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._empty_looks = 0
        self._could_ask = True
        self._metrics.nobody_listens.set(0)

    def anybody(self) -> bool:
        """False only while the group is known to have no members."""
        return self._empty_looks < self._settings.looks_without_members

    async def run(self, bus: Bus) -> None:
        """Ask Kafka again and again, until cancelled; an outage of Kafka is waited out."""
        while True:
            try:
                async with bus.admin() as admin:
                    while True:
                        self.looked(has_members=await self._look(admin))
                        await anyio.sleep(self._settings.look_seconds)
            except Unavailable as error:
                self.could_not_look(error)
            await anyio.sleep(self._settings.look_seconds)

    async def _look(self, admin: Admin) -> bool:
        return await admin.has_members(self._settings.group_id)

    def looked(self, *, has_members: bool) -> None:
        """What Kafka said."""
        self._could_ask = True
        before = self.anybody()
        self._empty_looks = 0 if has_members else self._empty_looks + 1
        self._tell(before)

    def could_not_look(self, error: Unavailable) -> None:
        """Nobody knows: as if somebody listened. Said once, and again when it could be asked in between."""
        before = self.anybody()
        self._empty_looks = 0
        if self._could_ask:
            log.warning("listeners.unknown", group_id=self._settings.group_id, error=error)
        self._could_ask = False
        self._tell(before)

    def _tell(self, before: bool) -> None:
        after = self.anybody()
        self._metrics.nobody_listens.set(not after)
        if before and not after:
            log.error(
                "listeners.gone",
                group_id=self._settings.group_id,
                detail="the consumer group has no members: questions get their fallback at once",
            )
        elif after and not before:
            log.info("listeners.back", group_id=self._settings.group_id)
