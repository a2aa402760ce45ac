"""How long consumers may take to answer a question, and what jambonz gets when they took longer.

Everything is looked up in tables that are made, and checked, when the connection is built. Whatever the settings say,
an answer to a question is never an empty array: a call whose verbs run out is hung up (contract 8).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.actions import Action
from bridge.providers.jambonz.actions import NOTHING, Way, render
from bridge.providers.jambonz.hooks import Hooks
from bridge.providers.jambonz.settings import JambonzSettings
from bridge.providers.jambonz.statuses import WAITING
from bridge.providers.jambonz.webhook import REDIRECTED
from bridge.providers.names import call_id_in
from bridge.providers.protocol import Answer, Heard
from bridge.providers.reply_table import ReplyTable, refuse_actions
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
        way = self._way(None)
        self._table = ReplyTable(settings.reply, place, waiting=WAITING, render=lambda actions: render(actions, way))

    def seconds(self, heard: Heard) -> float:
        """How long to wait for the consumer, counted from arrival; 0 where nothing is waited for."""
        if not heard.waits:
            return 0.0
        return self._redirected_seconds if heard.provider_type == REDIRECTED else self._table.seconds(heard.event_type)

    def fallback(self, heard: Heard) -> Answer:
        """The answer without the consumer."""
        return self.answer(heard, self.fallback_actions(heard))

    def fallback_actions(self, heard: Heard) -> Sequence[Action]:
        """What is done without the consumer; empty where the call is only held, or nothing is waited for."""
        return self._table.fallback(heard.event_type) if heard.waits else ()

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as verbs; 204 for what does not wait.

        Raises:
            Poison: an action that jambonz does not take here.
        """
        if not heard.waits:
            refuse_actions(actions, provider="jambonz", event=heard.provider_type)
            return NOTHING
        return render(actions, self._way(call_id_in(heard.known_by)))

    def _way(self, call_id: str | None) -> Way:
        return Way(self._hooks.url("verb", call_id), self._hold_seconds)
