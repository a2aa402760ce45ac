"""sipgate's side of a webhook by hand, and the consumer's side of its answer: for tests that say both parts themselves.

It promises that a held webhook is under way while its block is, and is over when the block is. Whole calls with all
their events are the simulator's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.support.daemon import WEBHOOK_SECRET, Answer, request
from tests.support.kafka_tools import Message, Outgoing, assign
from tests.support.stage import Stage

Event = dict[str, Any]
Action = dict[str, Any]


def new_session() -> str:
    """A session that nobody has heard of."""
    return secrets.token_hex(8)


def said(session: str, text: str = "hello", **fields: object) -> Event:
    """The user spoke."""
    return {"type": "user_speak", "text": text, "session": {"id": session}, **fields}


def pressed(session: str, digit: str = "1") -> Event:
    """The user pressed a key."""
    return {"type": "dtmf_received", "digit": digit, "session": {"id": session}}


def started(session: str, caller: str = "+4915790000600") -> Event:
    """Somebody called."""
    parties = {"direction": "inbound", "from_phone_number": caller, "to_phone_number": "+49211700010"}
    return {"type": "session_start", "session": {"id": session, **parties}}


def ended(session: str) -> Event:
    """The session is over."""
    return {"type": "session_end", "session": {"id": session}}


async def post(
    here: Stage,
    event: Event | bytes,
    *,
    connection: str = "demo",
    secret: str | None = WEBHOOK_SECRET,
    headers: Mapping[str, str] | None = None,
    url: str | None = None,
) -> Answer:
    """Send one webhook to the stage's daemon (or to `url`), and its answer."""
    proof = {} if secret is None else {"X-API-TOKEN": secret}
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    whole = {"content-type": "application/json", **proof, **(headers or {})}
    address = url or here.daemon.webhook_url
    return await request(f"{address}/webhooks/{connection}", method="POST", headers=whole, body=body)


@dataclass
class Question:
    """A webhook that is held, and its event."""

    here: Stage
    event: Message
    answered: asyncio.Task[Answer]

    @property
    def token(self) -> str:
        """The reply token."""
        return str(self.event.json["reply"]["token"])

    @property
    def answer(self) -> Answer:
        """What it was answered with, once that has come."""
        return self.answered.result()

    async def hang_up(self) -> None:
        """Close the connection without waiting for the answer."""
        self.answered.cancel()
        await asyncio.wait({self.answered})

    async def act(self, *actions: Action, **fields: object) -> tuple[int, int]:
        """Answer it; where the record stands."""
        return await act(self.here, self.event, *actions, in_reply_to=self.token, **fields)


@contextlib.asynccontextmanager
async def asking(here: Stage, event: Event, **fields: Any) -> AsyncIterator[Question]:
    """Send a webhook that waits; the question, as soon as its event stands on Kafka."""
    session, known = event["session"]["id"], len(here.events_so_far(event["session"]["id"]))
    task = asyncio.create_task(post(here, event, **fields))
    try:
        messages = await here.events(session, count=known + 1)
        yield Question(here, messages[-1], task)
        await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()  # raises what went wrong


async def act(here: Stage, event: Message, *actions: Action, **fields: object) -> tuple[int, int]:
    """Put a record of actions on the topic under an event's key; where it stands."""
    body = json.dumps({"actions": actions, **fields}).encode()
    return (await here.send_actions(Outgoing(body, event.key)))[0]


def speak(text: str) -> Action:
    """Say this."""
    return {"type": "speak", "text": text}


# -- a consumer that answers everything -------------------------------------------------------------------------------


class Agent:
    """Answers every question with what `answer` makes of its event; counts the events it saw."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, actions_topic: str) -> None:
        self.events: list[Event] = []
        self._consumer = consumer
        self._producer = producer
        self._topic = actions_topic
        self._more = asyncio.Event()

    async def heard(self, count: int, *, seconds: float = 30.0) -> None:
        """Return when it has seen so many events: it reads beside whoever else reads them."""
        async with asyncio.timeout(seconds):
            while len(self.events) < count:
                self._more.clear()
                await self._more.wait()

    async def run(self, answer: Callable[[Event], Sequence[Action]]) -> None:
        """Until cancelled."""
        while True:
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    event = json.loads(record.value)
                    self.events.append(event)
                    self._more.set()
                    if "reply" in event:
                        body = {"in_reply_to": event["reply"]["token"], "actions": answer(event)}
                        await self._producer.send(self._topic, json.dumps(body).encode(), record.key)


@contextlib.asynccontextmanager
async def answering(here: Stage, answer: Callable[[Event], Sequence[Action]]) -> AsyncIterator[Agent]:
    """An agent for the length of the block, for events from now on."""
    bootstrap = here.broker.bootstrap
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=20)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    async with contextlib.AsyncExitStack() as stack:
        for client in (consumer, producer):
            await client.start()
            stack.push_async_callback(client.stop)
        await consumer.seek_to_end(*await assign(consumer, [here.topic("events")]))
        agent = Agent(consumer, producer, here.topic("actions"))
        task = asyncio.create_task(agent.run(answer))
        try:
            yield agent
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def echo(event: Event) -> Sequence[Action]:
    """A greeting, then the user's own words; nothing more is asked for in between."""
    match event["type"]:
        case "session.started":
            return [speak("hello")]
        case "user.spoke":
            return [speak(f"you said: {event['data']['text']}")]
        case _:
            return []
