"""Pure: the sessions of one partition as their events show them: open questions, turns, ends.

Promises bounded memory: the last questions of a session, a number of sessions, and each for a bounded time. What it
forgets too early costs a reason in a verdict, never a second verdict. Actions are `share`'s matter.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from bridge.actions.seen import Seen, SeenVerdict
from bridge.actions.turns import ENDS, voids

_QUESTIONS = 32
"""Remembered of each session."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection's provider can do for an action that no question waits for."""

    controls: bool
    answers: bool
    session_seconds: float
    """A session of which nothing was heard for so long is over."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, and bounds."""

    ways: Mapping[str, Way]
    verdict_wait_seconds: float = 15.0
    """For a replica's verdict where the question, or the session, is not known."""
    slack_seconds: float = 2.0
    """For a replica's verdict after its question's time is over."""
    unasked_wait_seconds: float = 0.5
    """For a question to take an unasked action, where none is known to be open."""
    parked_seconds: float = 60.0
    """How long an action may wait for the session's next question."""
    max_parked_per_session: int = 16
    max_parked: int = 10_000
    max_sessions: int = 10_000
    max_verdicts: int = 50_000
    """Remembered of actions that were not read yet."""


class Asked:
    """A question as its event told it."""

    __slots__ = ("by", "event_id", "taken_by", "token", "type", "void")

    def __init__(self, seen: Seen, token: str, by: float) -> None:
        self.token = token
        self.event_id = seen.event_id
        self.type = seen.type
        self.by = by
        self.void = False
        self.taken_by: int | None = None
        """The offset of the action that answered it, or is about to."""

    def open(self, now: float) -> bool:
        """Whether an answer may still be taken."""
        return not self.void and self.taken_by is None and self.by > now


class Session:
    """One session."""

    __slots__ = ("connection", "ended_at", "first_offset", "first_verdict", "heard_at", "questions", "reference")

    def __init__(self, reference: str, connection: str, first_offset: int) -> None:
        self.reference = reference
        self.first_offset = first_offset
        self.first_verdict: int | None = None
        """Where on the results topic the first delivery stands that it must be known by."""
        self.connection = connection
        self.heard_at = 0.0
        self.ended_at: float | None = None
        self.questions: OrderedDict[str, Asked] = OrderedDict()

    def named(self, names: Iterable[str]) -> list[Asked]:
        """The questions with one of these tokens or event ids."""
        return [each for each in self.questions.values() if each.token in names or each.event_id in names]

    def newest_open(self, now: float, *, but: frozenset[str] | set[str] = frozenset()) -> Asked | None:
        """The question asked last of those that are open and not in `but`."""
        return next((q for t, q in reversed(self.questions.items()) if t not in but and q.open(now)), None)


class Change(msgspec.Struct, frozen=True):
    """What an event has changed."""

    session: Session
    asked: Asked | None
    voided: tuple[Asked, ...]


class Sessions:
    """The sessions of one partition."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._first_events: list[tuple[int, str]] = []
        self._first_verdicts: list[tuple[int, str]] = []
        self._early: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def get(self, reference: str) -> Session | None:
        """A session that is remembered."""
        return self._sessions.get(reference)

    def heard(self, seen: Seen, offset: int, now: float) -> Change:
        """Take in an event, in the order of the partition."""
        session = self._session(seen, offset, now)
        voided = tuple(
            each
            for each in session.questions.values()
            if not each.void and voids(seen.type, seen.event_id, each.type, each.event_id)
        )
        for each in voided:
            each.void = True
        asked = None
        if seen.reply is not None:
            session.ended_at = None
            self._ended.pop(session.reference, None)
            asked = Asked(seen, seen.reply.token, seen.reply.by.timestamp())
            session.questions[asked.token] = asked
            for name in (asked.token, asked.event_id):
                if name in self._early:
                    asked.taken_by, at = self._early.pop(name)
                    self._hold(session, at)
            if len(session.questions) > _QUESTIONS:
                session.questions.popitem(last=False)
        elif seen.type in ENDS and session.ended_at is None:
            session.ended_at = self._ended[session.reference] = now
        return Change(session, asked, voided)

    def _session(self, seen: Seen, offset: int, now: float) -> Session:
        reference, heard_at = seen.reference, min(now, seen.received_at.timestamp())
        session = self._sessions.get(reference)
        if session is None:
            session = self._sessions[reference] = Session(reference, seen.connection, offset)
            heapq.heappush(self._first_events, (offset, reference))
        session.heard_at = heard_at
        self._sessions.move_to_end(reference)
        return session

    def forget(self, now: float, *, in_use: Mapping[str, object]) -> None:
        """Let go of sessions that are over, or too many; not of those in use."""
        rules = self._rules
        while self._ended and next(iter(self._ended.values())) + rules.verdict_wait_seconds <= now:
            reference, _ = self._ended.popitem(last=False)
            self._drop(reference, in_use)
            if reference in self._sessions:
                self._ended[reference] = now
        looked = 0
        while len(self._sessions) > looked:
            session = next(iter(self._sessions.values()))
            way = rules.ways.get(session.connection)
            stale = way is None or session.heard_at + way.session_seconds <= now
            if not stale and len(self._sessions) <= rules.max_sessions:
                return
            self._drop(session.reference, in_use)
            looked += session.reference in self._sessions

    def _drop(self, reference: str, in_use: Mapping[str, object]) -> None:
        if reference not in self._sessions:
            return
        if reference in in_use:
            self._sessions.move_to_end(reference)
            return
        self._ended.pop(reference, None)
        del self._sessions[reference]

    def answered(self, seen: SeenVerdict, at: int) -> Session | None:
        """Take in a delivery, which stands at this offset of the results; its question's event may come later."""
        names = [each for each in (seen.event_id, seen.in_reply_to) if each is not None]
        session = self._sessions.get(seen.reference)
        found = [] if session is None else session.named(names)
        for asked in found:
            asked.taken_by = seen.offset if asked.taken_by is None else asked.taken_by
        if session is not None and found:
            self._hold(session, at)
        for name in set(names).difference(*((each.token, each.event_id) for each in found)):
            self._early[name] = (seen.offset, at)
            if len(self._early) > self._rules.max_verdicts:
                self._early.popitem(last=False)
        return session

    def _hold(self, session: Session, verdict_at: int) -> None:
        if session.first_verdict is None or verdict_at < session.first_verdict:
            session.first_verdict = verdict_at
            heapq.heappush(self._first_verdicts, (verdict_at, session.reference))

    @property
    def first_event(self) -> int | None:
        """Where the events of the sessions that are remembered begin."""
        return self._oldest(self._first_events, lambda session: session.first_offset)

    @property
    def first_verdict(self) -> int | None:
        """Where the verdicts begin by which their questions are known to be answered."""
        return self._oldest(self._first_verdicts, lambda session: session.first_verdict)

    def _oldest(self, heap: list[tuple[int, str]], of: Callable[[Session], int | None]) -> int | None:
        while heap:
            offset, reference = heap[0]
            session = self._sessions.get(reference)
            if session is not None and of(session) == offset:
                return offset
            heapq.heappop(heap)
        return None
