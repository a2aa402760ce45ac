"""Read actions on every replica and give them to the questions that wait here.

Every replica tails the whole topic without a group and skips by key, before decoding, what concerns no question of its
own. What it cannot place it leaves to the keeper; what it can place, it answers or refuses with a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bridge.actions.given import Given, read_given
from bridge.actions.pending import Pending, Question
from bridge.actions.relay import Waiter
from bridge.actions.verdicts import Verdicts
from bridge.bus.protocol import Record, TailReader
from bridge.model.actions import ActionStatus
from bridge.model.errors import Poison, Unavailable
from bridge.model.scrub import scrub
from bridge.providers.protocol import CanControl
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class RepliesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How actions are read."""

    poll_records: int = 500
    poll_seconds: float = 0.2
    max_record_bytes: int = 262_144
    max_waiting_verdicts: int = 1000


class _Refusal(msgspec.Struct, frozen=True):
    """A verdict that is not a delivery."""

    given: Given
    status: ActionStatus
    reason: str
    event_id: str
    detail: str | None = None


class Replies:
    """From the actions topic to the open questions."""

    def __init__(
        self, pending: Pending[Waiter], verdicts: Verdicts, metrics: Metrics, settings: RepliesSettings
    ) -> None:
        self._pending = pending
        self._verdicts = verdicts
        self._metrics = metrics
        self._settings = settings

    async def run(self, tail: TailReader) -> None:
        """Follow the topic until cancelled."""
        send, receive = anyio.create_memory_object_stream[_Refusal](self._settings.max_waiting_verdicts)
        async with anyio.create_task_group() as tasks, send:
            tasks.start_soon(self._say, receive)
            while True:
                for record in await self._fetch(tail):
                    if record.key is None or self._pending.concerns(record.key):
                        await self._take(record, send)
                    else:
                        self._metrics.foreign_actions.inc()

    async def _fetch(self, tail: TailReader) -> Sequence[Record]:
        """The next records; none while Kafka is away."""
        try:
            return await tail.poll(max_records=self._settings.poll_records, timeout_seconds=self._settings.poll_seconds)
        except Unavailable as error:
            log.warning("poll.waits", topic="actions", error=error)
            await anyio.sleep(self._settings.poll_seconds)
            return ()

    async def _take(self, record: Record, send: MemoryObjectSendStream[_Refusal]) -> None:
        try:
            given = read_given(record, max_bytes=self._settings.max_record_bytes)
        except Poison:
            return  # the keeper puts it into dead letters, once
        refusal = self.resolve(given)
        if refusal is not None:
            await send.send(refusal)

    def resolve(self, given: Given) -> _Refusal | None:
        """Give the actions to the question they answer. None: done, or not for this replica to say."""
        token = given.actions.in_reply_to
        if token is None:
            question = self._pending.newest_open(given.reference.encode())
            refusal = None if question is None else self._answer(question, given)
            if refusal is not None and question is not None and isinstance(question.waiter.provider, CanControl):
                return None  # not an answer to this question; the keeper has it done in the live call
            return refusal
        question = self._pending.by_token(token)
        if question is None or question.reference != given.reference:
            return None  # not genuine for this session: the keeper rejects it, once
        match question.closed:
            case None:
                return self._answer(question, given)
            case "answered":
                return _Refusal(given, "superseded", "another_answer_came_first", question.event_id)
            case "timed_out":
                return _Refusal(given, "expired", "too_late", question.event_id)
            case "caller_gone":
                return _Refusal(given, "expired", "caller_gone", question.event_id)

    def _answer(self, question: Question[Waiter], given: Given) -> _Refusal | None:
        """The provider's words for it; actions that it does not have leave the question open for better ones."""
        waiter = question.waiter
        try:
            answer = waiter.provider.answer(waiter.heard, given.actions.actions)
        except Poison as poison:
            return _Refusal(given, "rejected", "invalid_for_provider", question.event_id, scrub(str(poison)))
        if self._pending.close(question, "answered"):
            waiter.fill(answer, given)
        return None

    async def _say(self, receive: MemoryObjectReceiveStream[_Refusal]) -> None:
        async with receive:
            async for refusal in receive:
                await self._verdicts.publish(
                    refusal.given,
                    refusal.status,
                    event_id=refusal.event_id,
                    reason=refusal.reason,
                    detail=refusal.detail,
                )
