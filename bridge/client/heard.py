"""An event that was heard, and what can be done about it: answer, let the provider go on, act unasked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from bridge.bus.protocol import Headers
from bridge.client.sent import Sent
from bridge.model.actions import Action, ActionResult
from bridge.model.events import Event, Reply

E_co = TypeVar("E_co", bound=Event, covariant=True)


class Act(Protocol):
    """`Client.act`."""

    async def __call__(
        self,
        connection: str,
        session: str,
        actions: Sequence[Action],
        *,
        in_reply_to: str | None = None,
        trace: Headers = (),
    ) -> Sent[ActionResult]:
        """Put actions on their topic."""
        ...


class Heard(Generic[E_co]):
    """What a handler is given.

    Attributes:
        event: the event, typed; `event.raw` holds the provider's own words.
    """

    __slots__ = ("_act", "_trace", "event")

    def __init__(self, event: E_co, act: Act, trace: Headers = ()) -> None:
        self.event = event
        self._act = act
        self._trace = trace

    @property
    def reply(self) -> Reply | None:
        """The question, where the provider waits: until `reply.by`."""
        return self.event.reply

    @property
    def seconds_left(self) -> float:
        """For how long the provider still waits, by this machine's clock; 0 where it does not."""
        reply = self.event.reply
        return 0.0 if reply is None else max(0.0, (reply.by - datetime.now(UTC)).total_seconds())

    async def answer(self, action: Action, *more: Action) -> Sent[ActionResult]:
        """Answer the question with these actions, in their order; where none was asked they are unasked ones.

        Whether the answer came in time is the bridge's to say: `await (await heard.answer(…)).result(seconds=10)`.

        Raises:
            Poison: the bridge could not read it; nothing was written.
            Unavailable: nobody knows whether it was stored.
        """
        token = None if self.event.reply is None else self.event.reply.token
        return await self._send((action, *more), token)

    async def act(self, action: Action, *more: Action) -> Sent[ActionResult]:
        """The same, leaving the question open: for what is to be done beside the answer, or much later.

        Raises:
            Unavailable: nobody knows whether it was stored.
        """
        return await self._send((action, *more), None)

    async def release(self) -> None:
        """Nothing to do: the provider need not wait. Where it does not wait any more, nothing is written.

        Raises:
            Unavailable: nobody knows whether it was stored.
        """
        if self.event.reply is not None and self.seconds_left > 0:
            await self._send((), self.event.reply.token)

    async def _send(self, actions: Sequence[Action], token: str | None) -> Sent[ActionResult]:
        event = self.event
        return await self._act(event.connection, event.session, actions, in_reply_to=token, trace=self._trace)
