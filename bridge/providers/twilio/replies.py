"""How long consumers may take to answer a question, and what Twilio gets when they took longer.

Everything is looked up in tables that are made, and checked, when the connection is built. Whatever the settings say,
an answer to a question is never an empty document: a call whose verbs run out is hung up (contract 9).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.actions import Action
from bridge.providers.names import call_id_in
from bridge.providers.protocol import Answer, Heard
from bridge.providers.reply_table import ReplyTable, refuse_actions
from bridge.providers.settings import Place
from bridge.providers.twilio.actions import NOTHING, Way, render
from bridge.providers.twilio.hooks import Hooks
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
        way = way_of(settings, hooks, None)
        self._table = ReplyTable(settings.reply, place, waiting=WAITING, render=lambda actions: render(actions, way))

    def seconds(self, heard: Heard) -> float:
        """How long to wait for the consumer, counted from arrival; 0 where nothing is waited for."""
        return self._table.seconds(heard.event_type) if heard.waits else 0.0

    def fallback(self, heard: Heard) -> Answer:
        """The answer without the consumer."""
        return self.answer(heard, self._table.fallback(heard.event_type) if heard.waits else ())

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as TwiML; 204 for what does not wait.

        Raises:
            Poison: an action that Twilio does not take here.
        """
        if not heard.waits:
            refuse_actions(actions, provider="Twilio", event=heard.provider_type)
            return NOTHING
        return render(actions, way_of(self._settings, self._hooks, call_id_in(heard.known_by)))


def way_of(settings: TwilioSettings, hooks: Hooks, call_id: str | None) -> Way:
    """How a call goes on; without a call id one that is not ours, or of which only the session is known."""
    said = {"voice": settings.voice, "language": settings.language}
    voice = {name: value for name, value in said.items() if value is not None}
    return Way(hooks.url("verb", call_id), hooks.url("gather", call_id), settings.hold_seconds, voice)
