"""An agent: which events a program hears, and what it does then. Plain registration, no I/O.

agent = Agent("reception")

@agent.on(UserSpoke)
async def reply(heard: Heard[UserSpoke]) -> None:
    await heard.answer(Speak(text=f"You said: {heard.event.data.text}"))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, overload

from bridge.client.heard import Heard
from bridge.client.reading import KINDS
from bridge.model.events import Event

E = TypeVar("E", bound=Event)

F = TypeVar("F", bound=Event)
G = TypeVar("G", bound=Event)

Handler: TypeAlias = Callable[[Heard[E]], Awaitable[None]]
Register: TypeAlias = Callable[[Handler[E]], Handler[E]]
Everything: TypeAlias = Callable[[Event], bool]


class Agent:
    """Handlers by type of event, under the name of a consumer group.

    Processes with the same `group_id` share the sessions: each session is one process's, as long as none comes or goes.
    An agent hears only the sessions that `is_mine` says yes to, and of them only what it has a handler for.
    """

    def __init__(self, group_id: str, *, is_mine: Everything = lambda _: True) -> None:
        self.group_id = group_id
        self.is_mine = is_mine
        self._handlers: dict[type, Handler[Event]] = {}
        self._other: Handler[Event] | None = None

    @overload
    def on(self, kind: type[E], /) -> Register[E]: ...
    @overload
    def on(self, kind: type[E], second: type[F], /) -> Register[E | F]: ...
    @overload
    def on(self, kind: type[E], second: type[F], third: type[G], /) -> Register[E | F | G]: ...
    def on(self, *kinds: type) -> Register[Any]:
        """The handler of up to three types of events. It may run more than once for one event (at least once, that is).

        Raises:
            ValueError: one of them has a handler.
        """

        def register(handler: Handler[Any]) -> Handler[Any]:
            for kind in kinds:
                if kind in self._handlers:
                    raise ValueError(f"{kind.__name__} has a handler already")
                self._handlers[kind] = handler
            return handler

        return register

    def on_other(self, handler: Handler[Event]) -> Handler[Event]:
        """The handler of every event that no other one is for."""
        self._other = handler
        return handler

    def hears(self, kind: bytes | None) -> bool:
        """Whether there is a handler for what the header says; what has no such header must be looked at."""
        if kind is None:
            return True
        known = KINDS.get(kind)
        return known is not None and (self._other is not None or known in self._handlers)

    def handler_of(self, event: Event) -> Handler[Event] | None:
        """Who handles this event, if anybody does."""
        return self._handlers.get(type(event), self._other)
