"""A consumer that behaves as badly as consumers do: late, twice, with others' tokens, unasked. On the client library.

It promises that every text it sends is unique and that everything it sent is in `sent`, by a seed that can be repeated.
What must come of that is the checker's matter.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from bridge.client import Agent, Client, Event, Heard, SessionStarted, Speak, UserDtmf, UserSpoke
from tests.support.answers_checker import Kind, Sent

LATE_SHARE, DUPLICATE_SHARE, FOREIGN_SHARE, REPLAY_SHARE, UNASKED_SHARE = 0.2, 0.15, 0.1, 0.1, 0.1


@dataclass
class WildConsumer:
    """`late_after_seconds` is a little more than the provider's patience."""

    client: Client
    tasks: TaskGroup
    late_after_seconds: float
    seed: int = 1
    sent: list[Sent] = field(default_factory=list)
    heard: int = 0
    working: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - a test's dice
        self._numbers = itertools.count()
        self._tokens: dict[str, list[str]] = {}

    def agent(self, group_id: str) -> Agent:
        """Its ears: what the user does is answered some time; every other question is released at once."""
        agent = Agent(group_id)

        @agent.on(SessionStarted, UserSpoke, UserDtmf)
        async def asked(heard: Heard[SessionStarted | UserSpoke | UserDtmf]) -> None:
            self.heard += 1
            self.working += 1
            self.tasks.start_soon(self._respond, heard)

        @agent.on_other
        async def other(heard: Heard[Event]) -> None:
            if heard.reply is not None:
                await self._send(heard, "release", heard.reply.token, says=False)

        return agent

    async def _respond(self, heard: Heard[Event]) -> None:
        """One question: an answer in time or late, and then perhaps something that it should not have sent."""
        if heard.reply is None:
            self.working -= 1
            return
        dice, session, token = self._random, heard.event.session, heard.reply.token
        late = dice.random() < LATE_SHARE
        await anyio.sleep(self.late_after_seconds + dice.random() if late else dice.random() * 0.3)
        await self._send(heard, "late" if late else "answer", token)
        if dice.random() < DUPLICATE_SHARE:
            await self._send(heard, "duplicate", token)
        if dice.random() < FOREIGN_SHARE and (others := [each for each in self._tokens if each != session]):
            await self._send(heard, "foreign", self._tokens[dice.choice(others)][-1])
        if dice.random() < REPLAY_SHARE and (earlier := self._tokens.get(session)):
            await self._send(heard, "replayed", earlier[0])
        if dice.random() < UNASKED_SHARE:
            await self._send(heard, "unasked", None)
        if not late:
            self._tokens.setdefault(session, []).append(token)
        self.working -= 1

    async def _send(self, heard: Heard[Event], kind: Kind, token: str | None, *, says: bool = True) -> None:
        event = heard.event
        text = f"{kind} {next(self._numbers)}" if says else None
        actions = [] if text is None else [Speak(text=text)]
        made = await self.client.act(event.connection, event.session, actions, in_reply_to=token)
        self.sent.append(Sent(made.id, event.session, kind, token, text))
