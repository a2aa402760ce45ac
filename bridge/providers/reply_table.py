"""How long consumers may take to answer a question, and what stands in for them: tables, made and checked at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

from bridge.model.actions import Action
from bridge.model.errors import Poison
from bridge.providers.settings import Place, ReplySettings

T = TypeVar("T")
Render: TypeAlias = Callable[[Sequence[Action]], T]
"""Makes an answer of actions; raises Poison for one that the provider does not take."""


class ReplyTable:
    """Deadlines and fallbacks by our type of event, for a provider that waits for the same after each of them."""

    def __init__(
        self, settings: ReplySettings, place: Place, *, waiting: Iterable[str], render: Render[object]
    ) -> None:
        """Make the tables. `waiting`: the types of the questions.

        Raises:
            Misconfigured: an event that does not wait, or an action that the provider would not take.
        """
        self._seconds = dict.fromkeys(waiting, settings.deadline_seconds)
        self._fallbacks: dict[str, Sequence[Action]] = dict.fromkeys(self._seconds, settings.fallback)
        check_fallback(settings.fallback, place, "reply.fallback", render=render)
        for event, reply in settings.events.items():
            check_event(event, place, waiting=self._seconds)
            if reply.deadline_seconds is not None:
                self._seconds[event] = reply.deadline_seconds
            if reply.fallback is not None:
                check_fallback(reply.fallback, place, f'reply.events."{event}".fallback', render=render)
                self._fallbacks[event] = reply.fallback

    def seconds(self, event: str) -> float:
        """How long to wait for the consumer, counted from arrival."""
        return self._seconds[event]

    def fallback(self, event: str) -> Sequence[Action]:
        """What is done without the consumer."""
        return self._fallbacks[event]


def check_event(event: str, place: Place, *, waiting: Iterable[str]) -> None:
    """An event of `reply.events` asks something.

    Raises:
        Misconfigured: it does not.
    """
    if event not in waiting:
        raise place.wrong("reply.events", found=f"'{event}'", allowed=", ".join(waiting))


def check_fallback(fallback: Sequence[Action], place: Place, tail: str, *, render: Render[T]) -> T:
    """The answer that the provider would take for this fallback. `tail`: the setting it comes from.

    Raises:
        Misconfigured: it would not.
    """
    try:
        return render(fallback)
    except Poison as error:
        field = error.field.replace("$.actions", tail, 1)
        raise place.wrong(field, found=error.found, allowed=error.allowed) from error


def refuse_actions(actions: Sequence[Action], *, provider: str, event: str) -> None:
    """Nothing is said to what does not ask.

    Raises:
        Poison: there are actions.
    """
    if actions:
        raise Poison("$.actions", found="actions", allowed=f"none: {provider} takes no answer to {event}")
