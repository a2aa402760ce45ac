"""Whose call is this? A session to its command, by the index; and what a webhook proves, written back to it.

Promises that a session is bound to at most one command, that a name which could mean several calls is never taken as
evidence, and that a lookup waits only briefly for another replica's word.
"""

from __future__ import annotations

import anyio
import msgspec

from bridge.ledger.index import Index, Known, lifetime
from bridge.model.words import session_reference
from bridge.providers.protocol import Heard
from bridge.runtime.clock import Clock


class IdentifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long an unknown session is waited for."""

    unknown_session_wait_seconds: float = 0.05
    """A session that began on another replica may not have been read from the index yet."""
    ended_session_seconds: float = 60.0


class Identify:
    """Finds and writes whose session it is."""

    def __init__(self, index: Index, clock: Clock, settings: IdentifySettings) -> None:
        self._index = index
        self._clock = clock
        self._settings = settings

    async def whose(self, connection: str, heard: Heard, *, session_ttl_seconds: float) -> Known | None:
        """The call this event belongs to; a session that begins is bound, one that ends is let go.

        Raises:
            Unavailable: what the webhook proves could not be written.
        """
        reference = session_reference(connection, heard.session)
        known = self._index.session(reference)
        if known is None and heard.starts_session:
            return await self._begin(connection, heard, session_ttl_seconds=session_ttl_seconds)
        if known is None:
            with anyio.move_on_after(self._settings.unknown_session_wait_seconds):
                known = await self._index.wait_for_session(reference)
        return known

    async def ended(self, connection: str, heard: Heard) -> None:
        """The session is over: remember it a little longer, for webhooks that were overtaken by this one.

        Raises:
            Unavailable: not written in time.
        """
        reference = session_reference(connection, heard.session)
        known = self._index.session(reference)
        if known is not None:
            until = lifetime(self._clock.now(), self._settings.ended_session_seconds)
            await self._index.bind(reference, msgspec.structs.replace(known, until=until, ended=True))

    async def _begin(self, connection: str, heard: Heard, *, session_ttl_seconds: float) -> Known:
        reference = session_reference(connection, heard.session)
        now = self._clock.now()
        until = lifetime(now, session_ttl_seconds)
        match = self._index.match(connection, heard.known_by)
        if match is None:
            known = Known(at=now, until=until)
            await self._index.bind(reference, known)
            return known
        known = msgspec.structs.replace(match.known, at=now, until=until, certain=match.certain)
        # A callee may be called again, so his name is used up; a reference of ours means this call and no other.
        used_up = match.name if "/callee/" in match.name else None
        await self._index.bind(reference, known, matched=used_up)
        return known
