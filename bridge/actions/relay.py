"""Ask and wait: open a question, publish its event, and come back with the answer before the provider's patience ends.

Promises that the question is open before its event can be answered, that it is closed on every path, and that the
caller always gets an answer: the consumer's, or the configured fallback. The reading of actions is `replies`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from bridge.actions.given import Given, Verdict
from bridge.actions.pending import Closed, Pending, Question
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.model.actions import ActionStatus, DeliveredBy
from bridge.model.events import Reply
from bridge.providers.protocol import Answer, AnswersQuestions, Heard
from bridge.runtime.clock import Clock
from bridge.runtime.metrics import Metrics

AnsweredWith: TypeAlias = Literal[
    "action", "parked", "fallback", "superseded", "full", "nobody_listens", "caller_gone", "acknowledgement"
]
Publish: TypeAlias = Callable[[Reply | None], Awaitable[None]]
Gone: TypeAlias = Callable[[], Awaitable[None]]


class Waiter:
    """What a question's request waits on; `replies` fills it.

    `parked` are records that waited for this question: they go in front of what its consumer says, and are the answer,
    already rendered as `parked_answer`, if he says nothing in time.
    """

    __slots__ = ("answer", "ended", "heard", "parked", "parked_answer", "provider", "until", "used")

    def __init__(self, provider: AnswersQuestions, heard: Heard, *, until: float) -> None:
        """`until`: no answer is taken after it, by the monotonic clock."""
        self.provider = provider
        self.heard = heard
        self.until = until
        self.ended: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.answer: Answer | None = None
        self.used: tuple[Given, ...] = ()
        self.parked: list[Given] = []
        self.parked_answer: Answer | None = None

    def fill(self, answer: Answer, used: tuple[Given, ...]) -> None:
        """Wake the request with its answer, made of these records."""
        self.answer = answer
        self.used = used
        self.end("answered")

    def end(self, how: Closed) -> None:
        """Wake the request; the first one counts."""
        if not self.ended.done():
            self.ended.set_result(how)


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that waits."""

    provider: AnswersQuestions
    heard: Heard
    reference: str
    event_id: str
    received_at: datetime
    received_monotonic: float


class Asked(msgspec.Struct, frozen=True):
    """What came of it. `used` are the records of actions that `answer` was made of, `token` the question they answer."""

    answer: Answer
    answered_with: AnsweredWith
    used: tuple[Given, ...] = ()
    event_id: str = ""
    token: str = ""


class Relay:
    """Questions of this replica."""

    def __init__(
        self,
        pending: Pending[Waiter],
        tokens: Tokens,
        *,
        verdicts: Verdicts,
        clock: Clock,
        metrics: Metrics,
        anybody: Callable[[], bool] = lambda: True,
    ) -> None:
        """`anybody`: whether somebody listens; else asking would be in vain."""
        self._pending = pending
        self._tokens = tokens
        self._anybody = anybody
        self._verdicts = verdicts
        self._clock = clock
        self._metrics = metrics

    async def ask(self, asking: Asking, publish: Publish, gone: Gone) -> Asked:
        """Publish the event with a reply token and wait for the action; `gone` returns when the caller hangs up.

        Raises:
            Unavailable: the event could not be published; the question is closed.
        """
        seconds = asking.provider.reply_seconds(asking.heard)
        why_not = self._why_not(seconds)
        if why_not is not None:
            await publish(None)
            self.heard(asking.reference, asking.heard, asking.event_id)
            return Asked(asking.provider.fallback(asking.heard), why_not)
        question = Question(
            reference=asking.reference,
            token=self._tokens.mint(asking.reference),
            event_id=asking.event_id,
            event_type=asking.heard.event_type,
            waiter=Waiter(asking.provider, asking.heard, until=asking.received_monotonic + seconds),
        )
        how: Closed = "caller_gone"
        self._pending.open(question)
        self._metrics.held_requests.inc()
        try:
            await publish(Reply(question.token, asking.received_at + timedelta(seconds=seconds)))
            self.heard(asking.reference, asking.heard, asking.event_id)
            how = await _wait(question.waiter, gone, question.waiter.until - self._clock.monotonic())
        finally:
            self._metrics.held_requests.dec()
            self._pending.close(question, how)
        return _asked(asking, question)

    def heard(self, reference: str, heard: Heard, event_id: str) -> None:
        """An event is stored: a newer turn of the user ends the older ones' questions at once."""
        ended = self._pending.overtake(reference.encode(), event_type=heard.event_type, event_id=event_id)
        for question in ended:
            question.waiter.end("superseded")

    async def answered(self, asked: Asked, *, delivered_by: DeliveredBy = "answer") -> None:
        """The answer is on the wire: say so to whom it came from."""
        if asked.answered_with != "acknowledgement":
            self._metrics.questions.labels(answered_with=asked.answered_with).inc()
        for given in asked.used:
            late = given.actions.in_reply_to not in {None, asked.token}
            status: ActionStatus = "delivered_late" if late else "delivered"
            verdict = Verdict(given=given, status=status, delivered_by=delivered_by, event_id=asked.event_id)
            await self._verdicts.publish(verdict)

    def _why_not(self, seconds: float) -> AnsweredWith | None:
        """What the question is answered with at once; None if it is asked."""
        if seconds <= 0:
            return "acknowledgement"
        if self._pending.full:
            return "full"
        return None if self._anybody() else "nobody_listens"


def _asked(asking: Asking, question: Question[Waiter]) -> Asked:
    waiter = question.waiter
    match question.closed:
        case "answered" if waiter.answer is not None:
            return Asked(waiter.answer, "action", waiter.used, asking.event_id, question.token)
        case "timed_out" if waiter.parked_answer is not None:
            return Asked(waiter.parked_answer, "parked", tuple(waiter.parked), asking.event_id, question.token)
        case "caller_gone" | "superseded":
            return Asked(asking.provider.fallback(asking.heard), question.closed)
        case _:
            return Asked(asking.provider.fallback(asking.heard), "fallback")


async def _wait(waiter: Waiter, gone: Gone, seconds: float) -> Closed:
    """Until the answer, the deadline, or the end of the caller's patience."""

    def left(watch: asyncio.Future[None]) -> None:
        if not watch.cancelled():
            watch.result()  # an error of ours is the loop's to report
            waiter.end("caller_gone")

    timer = asyncio.get_running_loop().call_later(max(0.0, seconds), waiter.end, "timed_out")
    watch: asyncio.Future[None] = asyncio.ensure_future(gone())
    watch.add_done_callback(left)
    try:
        return await waiter.ended
    finally:
        timer.cancel()
        watch.cancel()
