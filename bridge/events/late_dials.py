"""Sessions that no dial explained when they began: the dial may be read from the index a moment later.

A dial is announced before its request leaves, so its record is in the log before the provider can speak of the call; but
a replica whose reading lags (a broker went, a connection was cut) may take the webhook first. What it could not match
is remembered for a short while, and bound to its command when the announcement is read. A dial that was announced after
the session began is never meant.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime

import anyio
import msgspec

from bridge.ledger.index import Index, Known, Match
from bridge.model.errors import Unavailable
from bridge.model.words import session_reference
from bridge.providers.names import is_callee
from bridge.providers.protocol import Heard
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger

log = get_logger()


class LateDialsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what is remembered."""

    remember_seconds: float = 120.0
    most: int = 10_000
    retry_seconds: float = 0.5


class _Begun(msgspec.Struct, frozen=True):
    """A session that is nobody's so far."""

    connection: str
    reference: str
    names: tuple[str, ...]
    at: datetime
    occurred_at: datetime | None


class LateDials:
    """The sessions of this replica that are nobody's, by the names that they may go by."""

    def __init__(self, index: Index, clock: Clock, settings: LateDialsSettings) -> None:
        self._index = index
        self._clock = clock
        self._settings = settings
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._found: deque[_Begun] = deque()
        self._some = anyio.Event()
        index.watchers.append(self._read)

    def __len__(self) -> int:
        return len(self._begun)

    def remember(self, connection: str, heard: Heard) -> None:
        """A session began now, and the index knows no dial of the names that it goes by."""
        now = self._clock.now()
        reference = session_reference(connection, heard.session)
        begun = _Begun(connection, reference, heard.known_by, now, heard.occurred_at)
        for name in heard.known_by:
            self._begun[f"{connection}/{name}"] = begun
        while self._begun:
            oldest = next(iter(self._begun.values()))
            age_seconds = (now - oldest.at).total_seconds()
            if age_seconds <= self._settings.remember_seconds and len(self._begun) <= self._settings.most:
                break
            self._begun.popitem(last=False)

    def _read(self, key: str, known: Known) -> None:
        """An entry was read from the topic: perhaps the dial of one of them."""
        name, _, mark = key.rpartition("#")
        begun = self._begun.get(name)
        if begun is None or mark == "session" or known.command_id is None or known.at > begun.at:
            return
        del self._begun[name]
        if (self._clock.now() - begun.at).total_seconds() <= self._settings.remember_seconds:
            self._found.append(begun)
            self._some.set()

    async def run(self) -> None:
        """Bind what was found, until cancelled."""
        while True:
            await self._some.wait()
            self._some = anyio.Event()
            while self._found:
                try:
                    await self.bind(self._found[0])
                except Unavailable as error:
                    log.warning("publish.waits", topic="index", error=error)
                    await anyio.sleep(self._settings.retry_seconds)
                else:
                    self._found.popleft()

    async def bind(self, begun: _Begun) -> None:
        """Say whose session it is, if it is still nobody's and the dial still nobody else's.

        Raises:
            Unavailable: not written in time.
        """
        known = self._index.session(begun.reference)
        match = self._index.match(begun.connection, begun.names, occurred_at=begun.occurred_at or begun.at)
        if known is None or known.command_id is not None or match is None or match.known.at > begun.at:
            return
        bound = await bind_to(self._index, match, begun.reference, known)
        log.info("session.matched_late", connection=begun.connection, command_id=bound.command_id)


async def bind_to(index: Index, match: Match, reference: str, session: Known) -> Known:
    """The session of which this much is known is the matched call's; returns what is known of it then.

    Raises:
        Unavailable: not written in time.
    """
    bound = msgspec.structs.replace(
        match.known, at=session.at, until=session.until, certain=match.certain, ended=session.ended, begins_until=None
    )
    # A callee may be called again, so his name is used up; a reference of ours means this call and no other.
    await index.bind(reference, bound, matched=match.name if is_callee(match.name) else None)
    return bound
