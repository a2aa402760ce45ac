"""The questions that are open on this replica, and those it closed a short while ago. Pure.

Theory of operation. A question is opened before its event is published, because an answer may be faster than we are.
It is closed exactly once: answered, timed out, left by its caller, or superseded by a newer turn of its user. Closed ones are remembered for a bounded time and
number, so that an answer that comes too late can be told from one for another replica. What waits for a question is
opaque here (`waiter`), so that the rules can be tested without a loop.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Literal, TypeVar

from bridge.actions.turns import voids

W = TypeVar("W")
Closed = Literal["answered", "timed_out", "caller_gone", "superseded"]


class Question(Generic[W]):
    """One webhook that waits. Changed by `Pending` only."""

    __slots__ = ("closed", "event_id", "event_type", "reference", "token", "waiter")

    def __init__(self, *, reference: str, token: str, event_id: str, waiter: W, event_type: str = "") -> None:
        self.reference = reference
        self.token = token
        self.event_id = event_id
        self.event_type = event_type
        self.waiter = waiter
        self.closed: Closed | None = None


class Pending(Generic[W]):
    """The registry. `keys` is what the reader of actions skips by, before it decodes anything."""

    def __init__(self, *, max_open: int, max_remembered: int) -> None:
        self._max_open = max_open
        self._max_remembered = max_remembered
        self._by_token: dict[str, Question[W]] = {}
        self._by_reference: dict[bytes, list[Question[W]]] = {}
        self._closed: OrderedDict[str, Question[W]] = OrderedDict()

    def __len__(self) -> int:
        """How many questions are open."""
        return len(self._by_token) - len(self._closed)

    @property
    def full(self) -> bool:
        """No further question may be opened: its fallback is the answer."""
        return len(self) >= self._max_open

    def concerns(self, key: bytes) -> bool:
        """Whether a record with this key may be for us."""
        return key in self._by_reference

    def open(self, question: Question[W]) -> None:
        """Remember a question before its event is published."""
        self._by_token[question.token] = question
        self._by_reference.setdefault(question.reference.encode(), []).append(question)

    def by_token(self, token: str) -> Question[W] | None:
        """The question of this token, open or closed lately."""
        return self._by_token.get(token)

    def newest_open(self, reference: bytes) -> Question[W] | None:
        """The session's open question: the newest, if several webhooks of the session wait."""
        return next((q for q in reversed(self._by_reference.get(reference, ())) if q.closed is None), None)

    def overtake(self, reference: bytes, *, event_type: str, event_id: str) -> list[Question[W]]:
        """End the session's questions whose turns this event makes stale; returns those that were open.

        An answer to one that ended without any is stale from now on, too.
        """
        ended = []
        for each in list(self._by_reference.get(reference, ())):
            if each.closed == "answered" or not voids(event_type, event_id, each.event_type, each.event_id):
                continue
            if self.close(each, "superseded"):
                ended.append(each)
            each.closed = "superseded"
        return ended

    def close(self, question: Question[W], how: Closed) -> bool:
        """End a question. False if it was closed before: the first one counts."""
        if question.closed is not None:
            return False
        question.closed = how
        self._closed[question.token] = question
        while len(self._closed) > self._max_remembered:
            self._forget(self._closed.popitem(last=False)[1])
        return True

    def _forget(self, question: Question[W]) -> None:
        del self._by_token[question.token]
        key = question.reference.encode()
        questions = self._by_reference[key]
        questions.remove(question)
        if not questions:
            del self._by_reference[key]
