"""How long consumers may take to answer a question, and what Twilio gets when they took longer.

Everything is looked up in tables that are made, and checked, when the connection is built. Whatever the settings say,
an answer to a question is never an empty document: a call whose verbs run out is hung up (contract 9).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.actions import Action
from bridge.model.errors import Poison
from bridge.providers.protocol import Answer, Heard
from bridge.providers.settings import Place
from bridge.providers.twilio.actions import NOTHING, Way, render
from bridge.providers.twilio.hooks import Hooks, call_id_in
from bridge.providers.twilio.settings import TwilioSettings
from bridge.providers.twilio.statuses import WAITING


class Replies:
    """The deadlines and fallbacks of one connection, and its answers."""

    def __init__(self, settings: TwilioSettings, hooks: Hooks, place: Place) -> None:
        """Make the tables.

        Raises:
            Misconfigured: an event that does not wait, or an action that Twilio would not take.
        """
        self._settings = settings
        self._hooks = hooks
        self._seconds = dict.fromkeys(WAITING, settings.reply.deadline_seconds)
        self._fallbacks: dict[str, Sequence[Action]] = dict.fromkeys(WAITING, settings.reply.fallback)
        self._try_out(settings.reply.fallback, place, "reply.fallback")
        for event, reply in settings.reply.events.items():
            if event not in WAITING:
                raise place.wrong("reply.events", found=f"'{event}'", allowed=", ".join(WAITING))
            if reply.deadline_seconds is not None:
                self._seconds[event] = reply.deadline_seconds
            if reply.fallback is not None:
                self._try_out(reply.fallback, place, f'reply.events."{event}".fallback')
                self._fallbacks[event] = reply.fallback

    def seconds(self, heard: Heard) -> float:
        """How long to wait for the consumer, counted from arrival; 0 where nothing is waited for."""
        return self._seconds[_type(heard)] if heard.waits else 0.0

    def fallback(self, heard: Heard) -> Answer:
        """The answer without the consumer."""
        return self.answer(heard, self._fallbacks[_type(heard)] if heard.waits else ())

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as TwiML; 204 for what does not wait.

        Raises:
            Poison: an action that Twilio does not take here.
        """
        if not heard.waits:
            if actions:
                allowed = f"none: Twilio takes no answer to {heard.provider_type}"
                raise Poison("$.actions", found="actions", allowed=allowed)
            return NOTHING
        return render(actions, way_of(self._settings, self._hooks, call_id_in(heard.known_by)))

    def _try_out(self, fallback: Sequence[Action], place: Place, tail: str) -> None:
        try:
            render(fallback, way_of(self._settings, self._hooks, None))
        except Poison as error:
            field = error.field.replace("$.actions", tail, 1)
            raise place.wrong(field, found=error.found, allowed=error.allowed) from error


def way_of(settings: TwilioSettings, hooks: Hooks, call_id: str | None) -> Way:
    """How a call goes on; without a call id one that is not ours, or of which only the session is known."""
    said = {"voice": settings.voice, "language": settings.language}
    voice = {name: value for name, value in said.items() if value is not None}
    return Way(hooks.url("verb", call_id), hooks.url("gather", call_id), settings.hold_seconds, voice)


def _type(heard: Heard) -> str:
    return str(heard.kind.__struct_config__.tag)  # type: ignore[attr-defined] # `kind` is a class of our events
