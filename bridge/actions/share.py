"""Pure: what becomes of each record of actions of one partition. Inputs: events, records, verdicts, time; outputs: steps.

Theory of operation. A replica that holds a question uses its answer within milliseconds and says so on the results
topic; the keeper only acts on what nobody spoke of in time. A record *waits* for such a word; then it is *busy* (given
to the provider's live control, or being told its verdict), or *parked* until the session asks again, or *attached*: a note
has given it to an open question, and whoever holds that one says what came of it. No word by then: parked again.
Every way ends in one verdict, of a replica or of ours. Time is the time up to which the results topic has been read, so
that a slow reader never takes a word that it has not read for silence.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Literal, TypeAlias

import msgspec

from bridge.actions.given import Given, Verdict
from bridge.actions.notes import Attach, Claim, Note, Void, attach
from bridge.actions.seen import Seen, SeenVerdict
from bridge.actions.sessions import Asked, Change, Rules, Session, Sessions
from bridge.model.actions import ActionStatus

State: TypeAlias = Literal["waits", "busy", "parked", "attached"]


class Control(msgspec.Struct, frozen=True):
    """Have the actions done in the live call, and say what came of it."""

    given: Given
    event_id: str | None = None
    """Of the question it was too late for."""


class Say(msgspec.Struct, frozen=True):
    """Give the verdict."""

    verdict: Verdict


class Tell(msgspec.Struct, frozen=True):
    """Write a note to the session's replicas."""

    reference: str
    note: Note


Step: TypeAlias = Control | Say | Tell


class _Item:
    """A record without a verdict."""

    __slots__ = ("arrived", "claimed_for", "due", "genuine", "given", "parked_at", "state", "tried")

    def __init__(self, given: Given, arrived: float, *, genuine: bool) -> None:
        self.given = given
        self.genuine = genuine
        self.arrived = arrived
        self.state: State = "waits"
        self.due: float | None = None
        self.parked_at: float | None = None
        self.claimed_for: str | None = None
        """The question that takes it, as its replica says, though it names none."""
        self.tried: set[str] = set()

    @property
    def token(self) -> str | None:
        """The question it answers; None for an unasked one."""
        return self.given.actions.in_reply_to


class Share:
    """The records of one partition that have no verdict yet."""

    def __init__(self, partition: int, rules: Rules) -> None:
        self.sessions = Sessions(rules)
        self._partition = partition
        self._rules = rules
        self._items: dict[int, _Item] = {}
        self._by_reference: dict[str, dict[int, _Item]] = {}
        self._parked: set[int] = set()
        self._early: OrderedDict[int, None] = OrderedDict()
        self._due: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """How many records have no verdict."""
        return len(self._items)

    @property
    def parked(self) -> int:
        """How many wait for a question of their session."""
        return len(self._parked)

    def wants(self, offset: int) -> bool:
        """Whether this record still has no verdict."""
        return offset in self._items

    # -- what is read -------------------------------------------------------------------------------------------------

    def action(self, given: Given, now: float, *, genuine: bool = True) -> bool:
        """A record of actions; False if its verdict was read before it. `genuine`: its token, if any, is one of ours."""
        spoken_of = given.offset in self._early
        while self._early and next(iter(self._early)) <= given.offset:  # each record comes once, in order
            self._early.popitem(last=False)
        if spoken_of:
            self._early.pop(given.offset, None)
            return False
        item = _Item(given, now, genuine=genuine)
        self._items[given.offset] = item
        self._by_reference.setdefault(given.reference, {})[given.offset] = item
        self._wait(item, self._patience(item))
        return True

    def noted(self, note: Note) -> None:
        """A note stands in the log, perhaps of the keeper before us."""
        match note:
            case Claim():
                self._claimed(note)
            case Attach():
                self._attached(note)
            case Void():
                pass  # the event says so, too

    def _claimed(self, claim: Claim) -> None:
        """A replica takes an unasked action for its question; only the first one does."""
        item = self._items.get(claim.offset)
        if item is not None and item.state == "waits" and item.token is None and item.claimed_for is None:
            item.claimed_for = claim.token
            self._wait(item, self._patience(item))

    def _attached(self, note: Attach) -> None:
        """A note that was written for this record, perhaps by the keeper before us: a replica may have acted on it."""
        item = self._items.get(note.offset)
        if item is None or item.state == "busy" or note.token in item.tried:
            return
        item.tried.add(note.token)
        item.state = "attached"
        item.parked_at = item.arrived if item.parked_at is None else item.parked_at
        self._parked.add(note.offset)
        self._take(item)
        session = self.sessions.get(item.given.reference)
        question = None if session is None else session.questions.get(note.token)
        wait = self._rules.verdict_wait_seconds
        self._wait(item, item.arrived + wait if question is None else self._word_by(item, question))

    def verdict(self, seen: SeenVerdict, at: int, now: float) -> bool:
        """A replica's word, or ours, at this offset of the results; False if its record was not read yet."""
        if seen.delivered:
            session = self.sessions.answered(seen, at)
            if session is not None:
                self._look_again(session, seen.event_id, now)
        if self.settled(seen.offset, delivered=seen.delivered):
            return True
        self._early[seen.offset] = None
        if len(self._early) > self._rules.max_verdicts:
            self._early.popitem(last=False)
        return False

    def event(self, seen: Seen, offset: int, now: float) -> list[Step]:
        """What happened in a session."""
        change = self.sessions.heard(seen, offset, now)
        items = self._by_reference.get(seen.reference, {})
        held = [each for each in change.voided if each.by > now and each.taken_by is None]
        steps: list[Step] = [Tell(seen.reference, Void(token=each.token)) for each in held]
        steps += self._stale(change, items)
        if change.session.ended_at is not None:
            steps += [self._say(each, "expired", "session_ended") for each in _in(items, "parked")]
        for each in _in(items, "waits"):
            self._wait(each, self._patience(each))
        if change.asked is not None:
            self._recognise(_in(items, "attached"), change.asked)
            steps += self._attach(_in(items, "parked"), change.asked, now)
        return steps

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now: float, *, most: int = 500) -> list[Step]:
        """What is due, `now` being the time up to which events and results have been read."""
        steps: list[Step] = []
        while self._due and self._due[0][0] <= now and len(steps) < most:
            due, offset = heapq.heappop(self._due)
            item = self._items.get(offset)
            if item is not None and item.due == due:
                item.due = None
                steps += self._decide(item, now)
        self.sessions.forget(now, in_use=self._by_reference)
        return steps

    # -- what came of a step ------------------------------------------------------------------------------------------

    def settled(self, offset: int, *, delivered: bool) -> bool:
        """A verdict is stored. False if it is not of a record that waits."""
        item = self._items.pop(offset, None)
        if item is None:
            return False
        self._parked.discard(offset)
        reference = item.given.reference
        del self._by_reference[reference][offset]
        if not self._by_reference[reference]:
            del self._by_reference[reference]
        asked = self._asked(item)
        if asked is not None and asked.taken_by == offset and not delivered:
            asked.taken_by = None
        return True

    def not_this_way(self, offset: int, now: float) -> list[Step]:
        """The live control cannot do it: only an answer can."""
        item = self._items.get(offset)
        return [] if item is None else self._park(item, now)

    # -- decisions ----------------------------------------------------------------------------------------------------

    def _patience(self, item: _Item) -> float:
        """Until when a replica may speak of it."""
        rules, session = self._rules, self.sessions.get(item.given.reference)
        token = item.token or item.claimed_for
        if not item.genuine:
            return item.arrived
        if token is not None:
            asked = None if session is None else session.questions.get(token)
            return item.arrived + rules.verdict_wait_seconds if asked is None else self._word_by(item, asked)
        way = rules.ways.get(item.given.connection)
        known = session is not None or (way is not None and way.controls)
        return item.arrived + (rules.unasked_wait_seconds if known else rules.verdict_wait_seconds)

    def _word_by(self, item: _Item, asked: Asked) -> float:
        return max(item.arrived, asked.by) + self._rules.slack_seconds

    def _decide(self, item: _Item, now: float) -> list[Step]:
        if item.state == "attached":
            return self._park(item, now)
        if item.state == "parked":
            return [self._say(item, "expired", "no_question_came")]
        end = self._hopeless(item, now)
        if end is not None:
            return [end]
        if self._rules.ways[item.given.connection].controls:
            asked = self._take(item)
            item.state, item.due = "busy", None
            return [Control(item.given, None if asked is None else asked.event_id)]
        return self._park(item, now)

    def _hopeless(self, item: _Item, now: float) -> Say | None:
        """The verdict, where no way of bringing it is right."""
        given, asked = item.given, self._asked(item)
        if not item.genuine:
            return self._say(item, "rejected", "token_not_genuine")
        way = self._rules.ways.get(given.connection)
        if way is None or not (way.controls or way.answers):
            return self._say(item, "rejected", "no_such_connection" if way is None else "not_possible")
        if asked is not None and asked.taken_by not in {None, given.offset}:
            return self._say(item, "superseded", "another_answer_came_first", asked)
        if asked is not None and asked.void:
            return self._say(item, "superseded", "newer_user_turn", asked)
        if item.token is not None and asked is None:
            return self._say(item, "expired", "question_unknown", detail=self._elsewhere())
        if not given.actions.actions:
            return self._say(item, "expired", "no_question_was_open" if item.token is None else "too_late", asked)
        if given.written_at and now - given.written_at > self._rules.parked_seconds + self._rules.verdict_wait_seconds:
            return self._say(item, "expired", "too_old", asked)
        return None

    def _park(self, item: _Item, now: float) -> list[Step]:
        """Wait for the session's next question, or go into one that is open."""
        rules, given = self._rules, item.given
        session = self.sessions.get(given.reference)
        if not rules.ways[given.connection].answers:
            late = "no_question_was_open" if item.token is None else "too_late"
            return [self._say(item, "expired", late, self._asked(item))]
        if session is None:
            return [self._say(item, "expired", "session_unknown", detail=self._elsewhere())]
        if session.ended_at is not None:
            return [self._say(item, "expired", "session_ended")]
        asked = self._asked(item)
        if asked is not None and asked.void:
            return [self._say(item, "superseded", "newer_user_turn", asked)]
        beside = sum(1 for offset in self._by_reference[given.reference] if offset in self._parked)
        if given.offset not in self._parked and (
            beside >= rules.max_parked_per_session or len(self._parked) >= rules.max_parked
        ):
            return [self._say(item, "expired", "too_many_parked")]
        item.parked_at = now if item.parked_at is None else item.parked_at
        self._parked.add(given.offset)
        self._take(item)
        item.state = "parked"
        self._wait(item, item.parked_at + rules.parked_seconds)
        question = session.newest_open(now, but=item.tried)
        return [] if question is None else self._attach([item], question, now)

    def _attach(self, items: list[_Item], asked: Asked, now: float) -> list[Step]:
        if not asked.open(now):
            return []
        for item in items:
            item.tried.add(asked.token)
            item.state = "attached"
            self._wait(item, asked.by + self._rules.slack_seconds)
        return [Tell(item.given.reference, attach(item.given, asked.token)) for item in items]

    def _recognise(self, attached: list[_Item], asked: Asked) -> None:
        """An event that is read after a note of the keeper before us: of the question attached to, or answered late."""
        for item in attached:
            if asked.token in item.tried:
                self._wait(item, self._word_by(item, asked))
            if item.token == asked.token and asked.taken_by is None:
                asked.taken_by = item.given.offset

    def _stale(self, change: Change, items: dict[int, _Item]) -> list[Step]:
        """Parked answers to turns that a newer one has overtaken."""
        voided = {each.token: each for each in change.voided}
        return [
            self._say(each, "superseded", "newer_user_turn", voided[each.token])
            for each in _in(items, "parked")
            if each.token in voided
        ]

    def _look_again(self, session: Session, event_id: str | None, now: float) -> None:
        """A question was answered: what was to go into its answer and is not spoken of soon, came too late for it."""
        answered = {each.token for each in session.questions.values() if each.event_id == event_id}
        for item in self._by_reference.get(session.reference, {}).values():
            attached = item.state == "attached" and bool(item.tried & answered)
            claimed = item.state == "waits" and item.claimed_for in answered
            if item.due is not None and (attached or claimed):
                self._wait(item, min(item.due, now + self._rules.slack_seconds))

    # -- small things -------------------------------------------------------------------------------------------------

    def _asked(self, item: _Item) -> Asked | None:
        session = self.sessions.get(item.given.reference)
        return None if session is None or item.token is None else session.questions.get(item.token)

    def _take(self, item: _Item) -> Asked | None:
        """Its question has its answer, unless this one comes to nothing."""
        asked = self._asked(item)
        if asked is not None:
            asked.taken_by = item.given.offset
        return asked

    def _wait(self, item: _Item, due: float) -> None:
        if item.due != due:
            item.due = due
            heapq.heappush(self._due, (due, item.given.offset))

    def _say(
        self, item: _Item, status: ActionStatus, reason: str, asked: Asked | None = None, *, detail: str | None = None
    ) -> Say:
        item.state, item.due = "busy", None
        event_id = None if asked is None else asked.event_id
        return Say(Verdict(given=item.given, status=status, reason=reason, event_id=event_id, detail=detail))

    def _elsewhere(self) -> str:
        return f"no event of it stands in partition {self._partition}; does this record have its key and partitioner?"


def _in(items: dict[int, _Item], state: State) -> list[_Item]:
    return [each for each in items.values() if each.state == state]
