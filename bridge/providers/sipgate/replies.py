"""How long consumers may take to answer an event, and what sipgate gets when they took longer.

Everything is looked up in tables that are made, and checked, when the connection is built. The fallback of the setting
answers the user's turns; the assistant's own events have only one that is set for them by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.actions import Action
from bridge.providers.protocol import Answer, Heard
from bridge.providers.reply_table import check_event, check_fallback
from bridge.providers.settings import Place
from bridge.providers.sipgate import actions, translate
from bridge.providers.sipgate.settings import SipgateReply

WAITING: tuple[str, ...] = tuple(
    dict.fromkeys(translate.type_of(meaning) for meaning in translate.MEANINGS.values() if meaning.waits)
)
"""Our types of the events that sipgate takes actions for."""
_ANSWERED_AT_ONCE = frozenset({"assistant.speaking"})
"""'Yes, usually none' (contract 1.3): holding it back would gain nothing."""
_WITHOUT_DEFAULT_FALLBACK = frozenset({"assistant.speaking", "assistant.finished"})
"""What is spoken in answer to these is followed by these again: a filler would go on for ever."""


class Replies:
    """The deadlines and fallbacks of one connection."""

    def __init__(self, settings: SipgateReply, place: Place) -> None:
        """Make the tables.

        Raises:
            Misconfigured: an event that is not one or takes no answer, or an action that sipgate would not take.
        """
        for event in settings.events:
            check_event(event, place, waiting=WAITING)
        self._seconds = {event: seconds_for(settings, event) for event in WAITING}
        self._fallbacks: dict[str, Sequence[Action]] = {event: _fallback(settings, event) for event in WAITING}
        check_fallback(settings.fallback, place, "reply.fallback", render=_render)
        for event, reply in settings.events.items():
            check_fallback(reply.fallback or (), place, f'reply.events."{event}".fallback', render=_render)

    def seconds(self, heard: Heard) -> float:
        """How long to wait for the consumer, counted from arrival; 0 where there is nothing to wait for."""
        return self._seconds.get(_type(heard), 0.0)

    def fallback(self, heard: Heard) -> Answer:
        """The answer without the consumer."""
        return actions.render(self._fallbacks.get(_type(heard), ()), session=heard.session)


def _type(heard: Heard) -> str:
    return translate.type_of(translate.MEANINGS.get(heard.provider_type, translate.OTHER))


def seconds_for(settings: SipgateReply, event: str) -> float:
    """How long these settings wait for the answer to this type of event; 0: it is answered at once."""
    own = settings.events.get(event)
    if own is not None and own.deadline_seconds is not None:
        return own.deadline_seconds
    return 0.0 if event in _ANSWERED_AT_ONCE else settings.deadline_seconds


def _fallback(settings: SipgateReply, event: str) -> Sequence[Action]:
    own = settings.events.get(event)
    if own is not None and own.fallback is not None:
        return own.fallback
    return () if event in _WITHOUT_DEFAULT_FALLBACK else settings.fallback


def _render(fallback: Sequence[Action]) -> Answer:
    return actions.render(fallback, session="a-session")
