"""What a replica does with what it reads: answers, what waited for its question, and what it leaves to the keeper.

The provider's words are HMS Sovereign's for `assistant.requested`, which takes one `configure` and not two: so that there
is an answer that cannot be given together with what waited.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from bridge.actions.given import Given, Verdict, read_given
from bridge.actions.notes import Void, attach
from bridge.actions.pending import Pending
from bridge.actions.relay import Asked, Asking, Relay, Waiter
from bridge.actions.replies import Replies, RepliesSettings, RepliesTools
from bridge.actions.sockets import Sockets
from bridge.actions.teller import Teller
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.bus.protocol import BatchItem, Headers, Position, Record
from bridge.model.actions import Action
from bridge.model.errors import Poison, Unavailable
from bridge.model.events import AssistantRequested, Parties, Reply, UserSpoke
from bridge.providers.hms_sovereign import answers
from bridge.providers.protocol import Answer, Heard
from bridge.runtime.metrics import Metrics
from tests.support.clock import HandClock

pytestmark = pytest.mark.anyio

REFERENCE = "demo/s-1"
FALLBACK = answers.NOTHING
ONE = {"type": "configure", "options": {"assistant_id": "17a0cb75-fa09-4bdd-9a44-92a70d829c88"}}


class Provider:
    """Its questions, answered within ten seconds."""

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The real rendering."""
        return answers.render(heard, actions)

    def reply_seconds(self, _heard: Heard) -> float:
        """Longer than any test."""
        return 10.0

    def fallback(self, _heard: Heard) -> Answer:
        """The vendor's own default."""
        return FALLBACK


class Written:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Position:
        """Stored at once."""
        self.records.append(Record(topic, partition or 0, len(self.records), key, value, headers))
        return Position(partition or 0, len(self.records) - 1)

    @property
    def values(self) -> list[Any]:
        """What was said."""
        return [json.loads(each.value or b"") for each in self.records]

    async def publish_batch(
        self, topic: str, partition: int, items: Sequence[BatchItem]
    ) -> list[Position | Unavailable | Poison]:
        """Several, in order."""
        return [await self.publish(topic, key=item[0], value=item[1], partition=partition) for item in items]


class Replica:
    """A relay and what reads for it, without a Kafka between them."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.written = Written()
        self.tokens = Tokens([b"one secret of all replicas"])
        self.pending: Pending[Waiter] = Pending(max_open=10, max_remembered=10)
        metrics = Metrics()
        verdicts = Verdicts(self.written, "results", source="/x", clock=self.clock, metrics=metrics)
        self.relay = Relay(self.pending, self.tokens, verdicts=verdicts, clock=self.clock, metrics=metrics)
        teller = Teller(self.written, "actions", tokens=self.tokens, metrics=metrics)
        tools = RepliesTools(self.tokens, verdicts, Sockets(), self.clock, metrics, teller)
        self.replies = Replies(self.pending, tools, RepliesSettings())
        self.hung_up = asyncio.Event()
        self._records = 0

    @contextlib.asynccontextmanager
    async def asking(self, kind: Callable[..., Any] = AssistantRequested, event_id: str = "e-1") -> AsyncIterator[Any]:
        """A webhook that is held; its token, and the task that waits for its answer."""
        token: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def publish(reply: Reply | None) -> None:
            assert reply is not None
            token.set_result(reply.token)

        heard = Heard(session="s-1", kind=kind, data=Parties(), raw=b"{}", provider_type="x", waits=True)
        asking = Asking(
            provider=Provider(),
            heard=heard,
            reference=REFERENCE,
            event_id=event_id,
            received_at=self.clock.now(),
            received_monotonic=self.clock.monotonic(),
        )
        task = asyncio.create_task(self.relay.ask(asking, publish, self._gone))
        yield await token, task
        task.cancel()
        await asyncio.wait({task})

    async def _gone(self) -> None:
        await self.hung_up.wait()

    def given(self, *actions: dict[str, Any], **fields: object) -> Given:
        """A record of actions as it is read."""
        self._records += 1
        body = json.dumps({"actions": actions, **fields}).encode()
        return read_given(Record("actions", 0, self._records, REFERENCE.encode(), body), max_bytes=10_000)


def told(verdicts: Sequence[Verdict]) -> list[tuple[int, str, str | None]]:
    """Whom, what, why."""
    return [(each.given.offset, each.status, each.reason) for each in verdicts]


async def test_what_waited_is_the_answer_where_nobody_says_more() -> None:
    """At the deadline, once, though the note came twice; the verdict is that of its own place."""
    here = Replica()
    parked = here.given(ONE, in_reply_to="an older one")
    async with here.asking() as (token, task):
        note = attach(parked, token)
        assert here.replies.noted(0, REFERENCE, note) == here.replies.noted(0, REFERENCE, note) == []
        question = here.pending.by_token(token)
        assert question is not None
        question.waiter.end("timed_out")
        asked: Asked = await task
    assert (asked.answered_with, json.loads(asked.answer.body)) == ("parked", ONE["options"])
    await here.relay.answered(asked)
    [verdict] = here.written.values
    assert (verdict["action_id"], verdict["status"], verdict["event_id"]) == (parked.place, "delivered_late", "e-1")


async def test_not_together() -> None:
    """The consumer's answer goes alone, and what waited is rejected with the provider's reason."""
    here = Replica()
    parked = here.given(ONE)
    async with here.asking() as (token, task):
        here.replies.noted(0, REFERENCE, attach(parked, token))
        answer = here.given(ONE, in_reply_to=token)
        verdicts = here.replies.resolve(answer)
        asked: Asked = await task
    assert told(verdicts) == [(parked.offset, "rejected", "not_with_the_answer")]
    assert "2 actions" in (verdicts[0].detail or "")
    assert [each.offset for each in asked.used] == [answer.offset]
    assert told(here.replies.resolve(here.given(ONE, in_reply_to=token)))[0][1:] == (
        "superseded",
        "another_answer_came_first",
    )


async def test_together() -> None:
    """Nothing more to do, says the consumer: what waited is said then, at once."""
    here = Replica()
    parked = here.given(ONE)
    async with here.asking() as (token, task):
        here.replies.noted(0, REFERENCE, attach(parked, token))
        assert here.replies.resolve(here.given(in_reply_to=token)) == []
        asked: Asked = await task
    assert (asked.answered_with, json.loads(asked.answer.body)) == ("action", ONE["options"])
    await here.relay.answered(asked)
    assert [each["status"] for each in here.written.values] == ["delivered", "delivered"]


async def test_what_waited_in_vain() -> None:
    """What the provider does not take in this answer is rejected when its question comes; the question stays open."""
    here = Replica()
    parked = here.given({"type": "speak", "text": "x"})
    async with here.asking() as (token, task):
        verdicts = here.replies.noted(0, REFERENCE, attach(parked, token))
        assert told(verdicts) == [(parked.offset, "rejected", "invalid_for_provider")]
        assert not task.done()


async def test_notes_that_are_of_no_use() -> None:
    """For a question of another replica, of another session, or one that is over: nothing is said."""
    here = Replica()
    parked = here.given(ONE)
    async with here.asking() as (token, task):
        assert here.replies.noted(0, REFERENCE, attach(parked, "another")) == []
        assert here.replies.noted(0, "demo/s-2", attach(parked, token)) == []
        assert here.replies.noted(0, "demo/s-2", Void(token=token)) == []
        assert not task.done()
        assert here.replies.noted(0, REFERENCE, Void(token=token)) == []
        asked: Asked = await task
        assert (asked.answered_with, asked.answer) == ("superseded", FALLBACK)
        assert here.replies.noted(0, REFERENCE, attach(parked, token)) == []
        assert here.replies.noted(0, REFERENCE, Void(token=token)) == []
    assert told(here.replies.resolve(here.given(ONE, in_reply_to=token)))[0][1:] == ("superseded", "newer_user_turn")


async def test_a_replica_that_was_asleep() -> None:
    """When it wakes after a question's time it answers nothing any more, though nothing has closed the question yet."""
    here = Replica()
    async with here.asking() as (token, task):
        here.clock.advance(10.1)
        assert here.replies.resolve(here.given(ONE, in_reply_to=token)) == []
        assert here.replies.noted(0, REFERENCE, attach(here.given(ONE), token)) == []
        assert not task.done()


async def test_an_unasked_one_that_may_be_old() -> None:
    """Nothing was read just before, so nobody knows for how long it stood there: it is the keeper's."""
    here = Replica()
    async with here.asking() as (_, task):
        assert here.replies.resolve(here.given(ONE)) == []
        assert not task.done()


async def test_a_newer_turn_ends_the_older_question() -> None:
    """At once, with the fallback; the newer one goes on."""
    here = Replica()
    async with here.asking(UserSpoke, "e-1") as (_, older), here.asking(UserSpoke, "e-2") as (token, newer):
        asked: Asked = await older
        assert (asked.answered_with, asked.answer) == ("superseded", FALLBACK)
        here.replies.resolve(here.given(ONE, in_reply_to=token))
        assert (await newer).answered_with == "action"


async def test_the_caller_hangs_up() -> None:
    """The question is over, and what is said then is the keeper's."""
    here = Replica()
    async with here.asking() as (token, task):
        here.hung_up.set()
        assert (await task).answered_with == "caller_gone"
        assert here.replies.resolve(here.given(ONE, in_reply_to=token)) == []
