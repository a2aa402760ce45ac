"""Questions of HMS Sovereign: how long consumers may take, what their actions become, what it gets without them.

Everything is looked up in tables that are made, and checked, when the connection is built. A fallback can only be set
for `assistant.requested`: the results of tools name the ids of their calls, which no configuration knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.model.actions import Action
from bridge.providers.hms_sovereign import answers
from bridge.providers.hms_sovereign.settings import (
    ASSISTANT,
    ASSISTANT_REPLY_SECONDS,
    LONGEST_REPLY_SECONDS,
    TOOLS,
    HmsReply,
)
from bridge.providers.protocol import Answer, AnswersQuestions, Heard
from bridge.providers.reply_table import check_event, check_fallback, refuse_actions
from bridge.providers.settings import Place


class Replies(AnswersQuestions):
    """The half of a connection that answers."""

    def __init__(self, settings: HmsReply, place: Place) -> None:
        """Make the tables.

        Raises:
            Misconfigured: an event that asks nothing, a deadline beyond the vendor's, or a fallback that is no answer.
        """
        for event in settings.events:
            check_event(event, place, waiting=LONGEST_REPLY_SECONDS)
        self._seconds = {
            TOOLS: _seconds(settings, TOOLS, settings.deadline_seconds, place),
            ASSISTANT: _seconds(settings, ASSISTANT, ASSISTANT_REPLY_SECONDS, place),
        }
        self._assistant = _fallback(settings, place)

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """Results of tools, or the assistant of an inbound call."""
        if heard.waits:
            return answers.render(heard, actions)
        refuse_actions(actions, provider="HMS Sovereign", event=heard.provider_type)
        return answers.NOTHING

    def reply_seconds(self, heard: Heard) -> float:
        """From `reply` of the settings; 0 for what takes no answer."""
        return self._seconds[_type(heard)] if heard.waits else 0.0

    def fallback(self, heard: Heard) -> Answer:
        """An error for each tool; the number's own assistant unless `reply` of the settings says otherwise."""
        return self._assistant if heard.waits and _type(heard) == ASSISTANT else answers.unanswered(heard)


def _type(heard: Heard) -> str:
    return TOOLS if heard.provider_type == "tool-calls" else ASSISTANT


def _seconds(settings: HmsReply, event: str, default: float, place: Place) -> float:
    own = settings.events.get(event)
    is_own = own is not None and own.deadline_seconds is not None
    seconds = own.deadline_seconds if own is not None and own.deadline_seconds is not None else default
    if seconds > LONGEST_REPLY_SECONDS[event]:
        tail = f'reply.events."{event}".deadline_seconds' if is_own else "reply.deadline_seconds"
        allowed = f"0 to {LONGEST_REPLY_SECONDS[event]:g} (HMS Sovereign waits no longer)"
        raise place.wrong(tail, found=f"{seconds:g}", allowed=allowed)
    return seconds


def _fallback(settings: HmsReply, place: Place) -> Answer:
    tools = settings.events.get(TOOLS)
    for tail, given in (
        ("reply.fallback", settings.fallback),
        (f'reply.events."{TOOLS}".fallback', tools.fallback if tools else None),
    ):
        if given:
            allowed = f"a fallback for {ASSISTANT} only; tools get the error '{answers.TOO_LATE}'"
            raise place.wrong(tail, found=f"{len(given)} actions", allowed=allowed)
    own = settings.events.get(ASSISTANT)
    ours = (own.fallback if own else None) or ()
    return check_fallback(ours, place, f'reply.events."{ASSISTANT}".fallback', render=answers.configuration)
