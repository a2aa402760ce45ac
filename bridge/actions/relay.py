"""Ask and wait: open a question, publish its event, and come back with the answer before the provider's patience ends.

Promises that the question is open before its event can be answered, that it is closed on every path, and that the
caller always gets an answer: the consumer's, or the configured fallback. The reading of actions is `replies`'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import anyio
import msgspec

from bridge.actions.given import Given
from bridge.actions.pending import Closed, Pending, Question
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.model.events import Reply
from bridge.providers.protocol import Answer, AnswersQuestions, Heard
from bridge.runtime.clock import Clock
from bridge.runtime.metrics import Metrics

AnsweredWith: TypeAlias = Literal["action", "fallback", "full", "caller_gone", "acknowledgement"]
Publish: TypeAlias = Callable[[Reply | None], Awaitable[None]]
Gone: TypeAlias = Callable[[], Awaitable[None]]


class Waiter:
    """What a question's request waits on; `replies` fills it."""

    __slots__ = ("answer", "done", "given", "heard", "provider")

    def __init__(self, provider: AnswersQuestions, heard: Heard) -> None:
        self.provider = provider
        self.heard = heard
        self.done = anyio.Event()
        self.answer: Answer | None = None
        self.given: Given | None = None

    def fill(self, answer: Answer, given: Given) -> None:
        """Wake the request with its answer."""
        self.answer = answer
        self.given = given
        self.done.set()


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that waits."""

    provider: AnswersQuestions
    heard: Heard
    reference: str
    event_id: str
    received_at: datetime
    received_monotonic: float


class Asked(msgspec.Struct, frozen=True):
    """What came of it. `given` is the record of actions that `answer` was made of."""

    answer: Answer
    answered_with: AnsweredWith
    given: Given | None = None
    event_id: str = ""


class Relay:
    """Questions of this replica."""

    def __init__(
        self, pending: Pending[Waiter], tokens: Tokens, *, verdicts: Verdicts, clock: Clock, metrics: Metrics
    ) -> None:
        self._pending = pending
        self._tokens = tokens
        self._verdicts = verdicts
        self._clock = clock
        self._metrics = metrics

    async def ask(self, asking: Asking, publish: Publish, gone: Gone) -> Asked:
        """Publish the event with a reply token and wait for the action; `gone` returns when the caller hangs up.

        Raises:
            Unavailable: the event could not be published; the question is closed.
        """
        seconds = asking.provider.reply_seconds(asking.heard)
        if seconds <= 0 or self._pending.full:
            await publish(None)
            return Asked(asking.provider.fallback(asking.heard), "acknowledgement" if seconds <= 0 else "full")
        waiter = Waiter(asking.provider, asking.heard)
        question = Question(
            reference=asking.reference,
            token=self._tokens.mint(asking.reference),
            event_id=asking.event_id,
            waiter=waiter,
        )
        how: Closed = "caller_gone"
        self._pending.open(question)
        self._metrics.held_requests.inc()
        try:
            await publish(Reply(question.token, asking.received_at + timedelta(seconds=seconds)))
            left = asking.received_monotonic + seconds - self._clock.monotonic()
            how = await _wait(waiter, gone, left)
        finally:
            self._metrics.held_requests.dec()
            self._pending.close(question, how)
        return self._asked(asking, waiter, how)

    async def answered(self, asked: Asked) -> None:
        """The answer is on the wire: say so to whom it came from."""
        if asked.answered_with != "acknowledgement":
            self._metrics.questions.labels(answered_with=asked.answered_with).inc()
        if asked.given is not None:
            await self._verdicts.publish(asked.given, "delivered", delivered_by="answer", event_id=asked.event_id)

    def _asked(self, asking: Asking, waiter: Waiter, how: Closed) -> Asked:
        if waiter.answer is not None:
            return Asked(waiter.answer, "action", waiter.given, asking.event_id)
        fallback = asking.provider.fallback(asking.heard)
        return Asked(fallback, "caller_gone" if how == "caller_gone" else "fallback")


async def _wait(waiter: Waiter, gone: Gone, seconds: float) -> Closed:
    """Until the answer, the deadline, or the end of the caller's patience."""
    how: Closed = "timed_out"
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal how
            await gone()
            how = "caller_gone"
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        with anyio.move_on_after(max(0.0, seconds)):
            await waiter.done.wait()
            how = "answered"
        tasks.cancel_scope.cancel()
    return how
