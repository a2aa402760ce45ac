"""Whose call is this? A session to its command, by the index; and what a webhook proves, written back to it.

Promises that a session is bound to at most one command, that a name which could mean several calls is never taken as
evidence, that nothing makes a session live again whose end the index knows, and that a lookup waits only briefly for
another replica's word.
"""

from __future__ import annotations

import anyio
import msgspec

from bridge.events.late_dials import LateDials, bind_to
from bridge.ledger.index import Index, Known, lifetime
from bridge.model.words import session_reference
from bridge.providers.protocol import Heard
from bridge.runtime.clock import Clock


class IdentifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long an unknown session is waited for."""

    unknown_session_wait_seconds: float = 0.05
    """A session that began on another replica may not have been read from the index yet."""
    ended_session_seconds: float = 3600.0
    """How long a session is remembered after its end. TalkifAI repeats a webhook for 36 minutes, and the events behind an
    end that it may have waited for come minutes later."""


class Identify:
    """Finds and writes whose session it is."""

    def __init__(
        self, index: Index, clock: Clock, settings: IdentifySettings, *, late_dials: LateDials | None = None
    ) -> None:
        self._index = index
        self._late_dials = late_dials
        self._clock = clock
        self._settings = settings

    async def whose(self, connection: str, heard: Heard, *, session_ttl_seconds: float) -> Known | None:
        """The call this event belongs to; a session that begins is bound, one that ends is let go.

        Raises:
            Unavailable: what the webhook proves could not be written.
        """
        reference = session_reference(connection, heard.session)
        known = self._index.session(reference)
        if heard.starts_session and (known is None or _is_nobodys_end(known)):
            return await self._begin(connection, heard, known, session_ttl_seconds=session_ttl_seconds)
        if known is None:
            with anyio.move_on_after(self._settings.unknown_session_wait_seconds):
                known = await self._index.wait_for_session(reference)
        return known

    async def ended(self, connection: str, heard: Heard) -> None:
        """The session is over: remember it for longer, for webhooks that were overtaken by this one or come late.

        Raises:
            Unavailable: not written in time.
        """
        reference = session_reference(connection, heard.session)
        known = self._index.session(reference)
        if known is not None:
            until = lifetime(self._clock.now(), self._settings.ended_session_seconds)
            await self._index.bind(reference, msgspec.structs.replace(known, until=until, ended=True))

    async def _begin(self, connection: str, heard: Heard, ended: Known | None, *, session_ttl_seconds: float) -> Known:
        """`ended`: what is known already: that the session, whosever it is, is over. It stays so."""
        reference = session_reference(connection, heard.session)
        now = self._clock.now()
        known = Known(at=now, until=lifetime(now, session_ttl_seconds)) if ended is None else ended
        match = self._index.match(connection, heard.known_by, occurred_at=heard.occurred_at)
        if match is None:
            if ended is None:
                await self._index.bind(reference, known)
            if self._late_dials is not None and heard.known_by:
                self._late_dials.remember(connection, heard)
            return known
        return await bind_to(self._index, match, reference, msgspec.structs.replace(known, at=now))


def _is_nobodys_end(known: Known) -> bool:
    """An end that overtook the beginning: that may yet say whose call it was."""
    return known.ended and known.call_id is None
