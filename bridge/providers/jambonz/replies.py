"""How long consumers may take to answer a question, and what jambonz gets when they took longer.

Everything is looked up in tables that are made, and checked, when the connection is built. Whatever the settings say,
an answer to a question is never an empty array: a call whose verbs run out is hung up (contract 8).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.actions import Action
from bridge.model.errors import Poison
from bridge.providers.jambonz.actions import NOTHING, Way, render
from bridge.providers.jambonz.hooks import Hooks, call_id_in
from bridge.providers.jambonz.settings import JambonzSettings
from bridge.providers.jambonz.statuses import WAITING
from bridge.providers.jambonz.webhook import REDIRECTED
from bridge.providers.protocol import Answer, Heard
from bridge.providers.settings import Place


class Replies:
    """The deadlines and fallbacks of one connection, and its answers."""

    def __init__(self, settings: JambonzSettings, hooks: Hooks, place: Place) -> None:
        """Make the tables.

        Raises:
            Misconfigured: an event that does not wait, or an action that jambonz would not take.
        """
        self._hooks = hooks
        self._hold_seconds = settings.hold_seconds
        self._redirected_seconds = settings.redirected_seconds
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
        if not heard.waits:
            return 0.0
        return self._redirected_seconds if heard.provider_type == REDIRECTED else self._seconds[_type(heard)]

    def fallback(self, heard: Heard) -> Answer:
        """The answer without the consumer."""
        return self.answer(heard, self.fallback_actions(heard))

    def fallback_actions(self, heard: Heard) -> Sequence[Action]:
        """What is done without the consumer; empty where the call is only held, or nothing is waited for."""
        return self._fallbacks[_type(heard)] if heard.waits else ()

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as verbs; 204 for what does not wait.

        Raises:
            Poison: an action that jambonz does not take here.
        """
        if not heard.waits:
            if actions:
                allowed = f"none: jambonz takes no answer to {heard.provider_type}"
                raise Poison("$.actions", found="actions", allowed=allowed)
            return NOTHING
        return render(actions, self._way(call_id_in(heard.known_by)))

    def _way(self, call_id: str | None) -> Way:
        return Way(self._hooks.url("verb", call_id), self._hold_seconds)

    def _try_out(self, fallback: Sequence[Action], place: Place, tail: str) -> None:
        try:
            render(fallback, self._way(None))
        except Poison as error:
            field = error.field.replace("$.actions", tail, 1)
            raise place.wrong(field, found=error.found, allowed=error.allowed) from error


def _type(heard: Heard) -> str:
    return str(heard.kind.__struct_config__.tag)  # type: ignore[attr-defined] # `kind` is a class of our events
