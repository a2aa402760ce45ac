"""One program's way to the bridge: place and cancel calls, act in sessions, and learn what became of both.

Promises the right key for everything it writes: the command's id for commands (P1 rests on that, and on the one
partitioner of this library, Java's murmur2), the session's reference for actions. What it writes is stored on all
in-sync replicas when the call returns; where that is not certain it raises `Unavailable`, and for a command sending it
again is then right, for the bridge dials an id once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import anyio
import msgspec
from anyio.abc import TaskGroup

from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.protocol import Bus, Headers, Producer
from bridge.client.agent import Agent
from bridge.client.awaited import Awaited
from bridge.client.followers import follow, taking_action_results, taking_results
from bridge.client.hearing import Ear
from bridge.client.sent import Sent
from bridge.client.settings import ClientSettings
from bridge.client.tasks import task_group
from bridge.model.actions import Action, ActionResult, Actions
from bridge.model.codec import cloudevents_headers, encoder
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.results import Result
from bridge.model.validation import decode_json
from bridge.model.words import session_reference

T = TypeVar("T")

_place = msgspec.json.Decoder(PlaceCall)
_actions = msgspec.json.Decoder(Actions)


class Client:
    """Opened by `connected`. Everything may be called from any task of the loop."""

    def __init__(self, bus: Bus, producer: Producer, settings: ClientSettings) -> None:
        self._bus = bus
        self._producer = producer
        self._settings = settings
        self._action_results: Awaited[ActionResult] = Awaited(most=settings.max_awaited)
        self._results: Awaited[Result] = Awaited(most=settings.max_awaited)

    async def place(self, command: PlaceCall) -> Sent[Result]:
        """Ask for a call. A second time with the same command brings the same result, and no second call.

        Raises:
            Poison: the bridge could not read it; nothing was written.
            Unavailable: nobody knows whether it was stored; placing it again is safe.
        """
        value = _checked(encoder.encode(command), PlaceCall, _place)
        key = command.command_id.encode()
        slot = self._results.expect(command.command_id, key) if "results" in self._settings.follows else None
        await self._publish(self._settings.topics.commands, key, value, "call.place")
        return Sent(command.command_id, slot)

    async def cancel(self, command_id: str) -> None:
        """Call it off, if it has not been dialled yet. Whether that was in time, the command's result says.

        Raises:
            Unavailable: nobody knows whether it was stored; cancelling again is safe.
        """
        value = encoder.encode(CancelCall(command_id=command_id))
        await self._publish(self._settings.topics.commands, command_id.encode(), value, "call.cancel")

    async def act(
        self,
        connection: str,
        session: str,
        actions: Sequence[Action],
        *,
        in_reply_to: str | None = None,
        trace: Headers = (),
    ) -> Sent[ActionResult]:
        """Have something done in a session: as the answer to a question (its token), or unasked.

        Raises:
            Poison: the bridge could not read it; nothing was written.
            Unavailable: nobody knows whether it was stored. Acting again may do it twice.
        """
        action_id = uuid4().hex
        record = Actions(action_id=action_id, in_reply_to=in_reply_to, actions=list(actions))
        value = _checked(encoder.encode(record), Actions, _actions)
        key = session_reference(connection, session).encode()
        follows = "action-results" in self._settings.follows
        slot = self._action_results.expect(action_id, key) if follows else None
        await self._publish(self._settings.topics.actions, key, value, "call.actions", event_id=action_id, trace=trace)
        return Sent(action_id, slot)

    async def hear(
        self, agent: Agent, *, stop: anyio.Event | None = None, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """Let an agent hear events until `stop` is set; then handlers at work finish, and what they did is committed.

        `on_ready` is called whenever the agent's group has given this process partitions.

        Raises:
            Broken: this member of the group can never get partitions again; the program must end.
        """
        ear = Ear(self._bus, self._settings.topics.events, agent, self._settings.hearing, act=self.act)
        await ear.hear(stop or anyio.Event(), on_ready)

    @property
    def unsettled(self) -> int:
        """How many results have not come yet."""
        return len(self._action_results) + len(self._results)

    async def _publish(
        self, topic: str, key: bytes, value: bytes, kind: str, *, event_id: str = "", trace: Headers = ()
    ) -> None:
        headers = cloudevents_headers(
            event_id=event_id or uuid4().hex,
            source=self._settings.source,
            event_type=kind,
            time=datetime.now(UTC),
            subject=key.decode(),
            trace=trace,
        )
        await self._producer.publish(topic, key=key, value=value, headers=headers)

    async def follow(self, tasks: TaskGroup, stack: AsyncExitStack) -> None:
        """Begin to read the results that the settings follow. For `connected`."""
        topics = self._settings.topics
        if "action-results" in self._settings.follows:
            tail = await stack.enter_async_context(self._bus.tail(topics.action_results, from_beginning=False))
            actions = self._action_results
            tasks.start_soon(follow, tail, actions.concerns, taking_action_results(actions))
        if "results" in self._settings.follows:
            tail = await stack.enter_async_context(self._bus.tail(topics.results, from_beginning=False))
            tasks.start_soon(follow, tail, self._results.concerns, taking_results(self._results))


def _checked(value: bytes, shape: type[T], decoder: msgspec.json.Decoder[T]) -> bytes:
    """What the bridge will be able to read: a struct built in code has not been looked at yet."""
    decode_json(value, shape, decoder)
    return value


@asynccontextmanager
async def connected(settings: ClientSettings, *, config_file: str = "the settings") -> AsyncIterator[Client]:
    """A client for the length of the block; entering waits for Kafka.

    Raises:
        Unavailable: Kafka does not answer within `kafka.start_timeout_seconds`, or a topic is not there.
        Misconfigured: a secret or a certificate cannot be read.
    """
    bus = KafkaBus(settings.kafka, config_file=config_file)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(bus.producer("client"))
        client = Client(bus, producer, settings)
        async with task_group() as tasks:
            await client.follow(tasks, stack)
            yield client
            tasks.cancel_scope.cancel()
