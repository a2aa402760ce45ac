"""A call of sipgate over its WebSocket: one event a text frame, one action a text frame, and nobody waits.

The link is two-way for the whole call (contract 1.2, 1.6): an action is said whenever it comes, an answer is one that
names its event. So questions stay open for longer than over HTTP, and nothing is said where no answer came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from bridge.model import events
from bridge.model.actions import Action
from bridge.model.errors import Poison
from bridge.providers.protocol import AnswersQuestions, Heard, Spoken, Verified
from bridge.providers.sipgate import actions as words
from bridge.providers.sipgate.webhook import parse

_NOTHING = Spoken()


class SipgateDialogue(AnswersQuestions):
    """One socket. Implements `Dialogue` as well."""

    subprotocol: str | None = None
    waits = False

    def __init__(self, upgrade: Verified, *, reply_seconds: Callable[[Heard], float]) -> None:
        self._upgrade = upgrade
        self._reply_seconds = reply_seconds

    def read(self, frame: bytes, *, received_at: datetime) -> Sequence[Heard]:
        """The one event of a frame."""
        webhook = msgspec.structs.replace(self._upgrade.webhook, body=frame, received_at=received_at)
        return parse(Verified(webhook))

    def acknowledge(self, heard: Heard) -> Spoken:
        """Nothing: sipgate wants no acknowledgement."""
        del heard
        return _NOTHING

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Spoken:
        """One frame an action."""
        if actions and not heard.waits:
            allowed = f"none: sipgate takes no answer to {heard.provider_type}"
            raise Poison("$.actions", found="actions", allowed=allowed)
        return Spoken(frames=words.frames(actions, session=heard.session))

    def reply_seconds(self, heard: Heard) -> float:
        """How long an answer can name its event."""
        return self._reply_seconds(heard)

    def fallback(self, heard: Heard) -> Spoken:
        """Nothing: a call does not end because nobody spoke."""
        del heard
        return _NOTHING

    def unasked(self, session: str, actions: Sequence[Action]) -> Spoken:
        """As in an answer: the frames are the same."""
        return Spoken(frames=words.frames(actions, session=session))

    def lost(self, session: str, *, code: int) -> Heard | None:
        """The socket is open for the whole call: without it nothing is heard or done any more in this session."""
        return Heard(
            session=session,
            kind=events.SessionEnded,
            data=events.Ending(reason="websocket_closed"),
            raw=msgspec.json.encode({"type": "websocket_closed", "code": code}),
            provider_type="websocket_closed",
        )
