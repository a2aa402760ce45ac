"""Each action ends in exactly one verdict, whatever is read, done, delayed or lost in whatever order.

The world is a log for each topic, two replicas that keep their promises (they speak of an answer before its question's
time is over, and take an unasked action only by the first claim on it), and a keeper that reads with any delay, may die at any moment and be followed by one that reads on from what
was committed. Time passes at random. At the end everything is read and done, and the verdicts are counted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import settings as run
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.actions.claims import Claims
from bridge.actions.errands import Calm, Holding
from bridge.actions.given import Given
from bridge.actions.notes import Attach, Claim
from bridge.actions.seen import Seen, SeenVerdict
from bridge.actions.sessions import Rules, Way
from bridge.actions.share import Control, Say, Share, Step, Tell
from bridge.actions.turns import voids
from bridge.bus.protocol import Look
from bridge.model.actions import Actions, Speak
from bridge.model.codec import Envelope
from bridge.model.events import Reply

RULES = Rules(
    ways={
        "flow": Way(controls=False, answers=True, session_seconds=300.0),
        "live": Way(controls=True, answers=True, session_seconds=300.0),
        "mute": Way(controls=False, answers=False, session_seconds=300.0),
    },
    verdict_wait_seconds=15.0,
    slack_seconds=2.0,
    unasked_wait_seconds=0.5,
    parked_seconds=20.0,
    max_parked_per_session=2,
    max_sessions=2,
)
TOPICS = ("results", "events", "actions")
FRESH_SECONDS = RULES.unasked_wait_seconds / 2
SESSIONS = st.sampled_from(["flow/a", "flow/a", "flow/a", "live/a", "live/a", "flow/b", "mute/a"])
KINDS = st.sampled_from(["session.started", "verb.finished", "user.spoke", "user.silent"])


@dataclass
class Held:
    """A question at its replica."""

    replica: int
    seen: Seen
    token: str
    by: float
    open: bool = True
    parked: list[int] = field(default_factory=list)


class Replica:
    """How far it has read, and the claims it knows."""

    def __init__(self) -> None:
        self.read = 0
        self.claims = Claims(valid_seconds=FRESH_SECONDS)


class World(RuleBasedStateMachine):
    """Everything but the rules that are tested."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.events: list[Seen] = []
        self.actions: list[Given | Claim | Attach] = []
        self.claiming: list[Claim] = []
        self.replicas = [Replica(), Replica()]
        self.answered: dict[str, list[int]] = {}
        self.results: list[SeenVerdict] = []
        self.held: list[Held] = []
        self.committed = {"actions": 0, "results": 0, "events": 0}
        self.begin()

    def begin(self) -> None:
        """A keeper that knows nothing."""
        self.read = dict(self.committed)
        self.holding = Holding(0, Share(0, RULES), TOPICS, Calm(1.0, 0.0))
        self.steps: deque[Step] = deque()

    @property
    def share(self) -> Share:
        """What is tested."""
        return self.holding.share

    # -- the provider, the consumer, and time

    @rule(reference=SESSIONS, kind=KINDS, seconds=st.sampled_from([4.0, 4.0, 1.0, 0.0]))
    def happens(self, reference: str, kind: str, seconds: float) -> None:
        """An event; with seconds, a question."""
        connection, session = reference.split("/")
        event_id = f"event-{len(self.events)}"
        for held in self.held:
            if held.open and held.seen.reference == reference and voids(kind, event_id, held.seen.type, ""):
                held.open = False
        token = f"token-{len(self.events)}"
        reply = Reply(token, datetime.fromtimestamp(self.now + seconds, UTC)) if seconds else None
        seen = Seen(
            type=kind,
            event_id=event_id,
            connection=connection,
            provider="x",
            session=session,
            received_at=datetime.fromtimestamp(self.now, UTC),
            reply=reply,
        )
        self.events.append(seen)
        if seconds:
            self.held.append(Held(len(self.held) % 2, seen, token, self.now + seconds))

    @rule(reference=SESSIONS)
    def ends(self, reference: str) -> None:
        """The session is over."""
        self.happens(reference, "session.ended", 0.0)

    @rule(reference=SESSIONS, back=st.sampled_from([1, 1, 0, 0, 2, 3]), empty=st.sampled_from([False, False, True]))
    def act(self, reference: str, back: int, empty: bool) -> None:
        """A consumer acts: unasked, or in reply to one of the session's questions, or to nobody's."""
        asked = [each.token for each in self.held if each.seen.reference == reference]
        token = None if back == 0 else asked[-back] if len(asked) >= back else "nobody's"
        connection, session = reference.split("/")
        self.actions.append(
            Given(
                topic="actions",
                partition=0,
                offset=len(self.actions),
                connection=connection,
                session=session,
                actions=Actions(actions=[] if empty else [Speak(text="x")], in_reply_to=token),
                envelope=Envelope(b""),
                written_at=self.now,
            )
        )

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 3.0, 7.0, 30.0]))
    def passes(self, seconds: float) -> None:
        """Time, in which questions come to their end: what is parked in them is their answer."""
        self.now += seconds
        for held in self.held:
            if held.open and held.by <= self.now:
                held.open = False
                for offset in held.parked:
                    self.say(offset, delivered=True, event_id=held.seen.event_id)

    # -- the replica

    @rule(reference=SESSIONS, back=st.sampled_from([1, 1, 0]), seconds=st.sampled_from([0.01, 1.0, 7.0]))
    def is_asked_and_answered(self, reference: str, back: int, seconds: float) -> None:
        """In time or not; the replica may not have read it yet, nor any keeper."""
        self.happens(reference, "session.started", 4.0)
        self.passes(seconds)
        self.act(reference, back, False)

    @rule(reference=SESSIONS)
    def is_answered_in_time(self, reference: str) -> None:
        """By its replica, of which no keeper has heard yet."""
        self.is_asked_and_answered(reference, 1, 0.01)
        self.replicas_read()

    @rule(reference=SESSIONS, both=st.booleans(), seconds=st.sampled_from([0.01, 0.2, 0.3]))
    def is_claimed(self, reference: str, both: bool, seconds: float) -> None:
        """Unasked, while both replicas hold a question; nobody has read the claims yet."""
        for _ in range(2):
            self.happens(reference, "session.started", 4.0)
        self.act(reference, 0, False)
        for which in (0, 1) if both else (0,):
            while self.replicas[which].read < len(self.actions):
                self.replica_reads(which)
        self.passes(seconds)
        self.claims_arrive()

    @rule(
        topics=st.permutations(["events", "actions", "results"]),
        seconds=st.sampled_from([0.0, 0.6, 7.0]),
        outcome=st.sampled_from(["done", "done", "not this way", "nothing yet"]),
    )
    def keeps_up(self, topics: list[str], seconds: float, outcome: str) -> None:
        """The keeper reads all, and does what is due a little later."""
        for topic in topics:
            self.keeper_reads(topic, 1_000)
        self.passes(seconds)
        self.tick()
        if outcome != "nothing yet":
            self.does(outcome, 1_000)

    @rule(which=st.integers(0, 1))
    def replica_reads(self, which: int) -> None:
        """The next record of actions."""
        replica = self.replicas[which]
        if replica.read >= len(self.actions):
            return
        record = self.actions[replica.read]
        replica.read += 1
        mine = [each for each in self.held if each.replica == which and each.open]
        if isinstance(record, Claim):
            given = replica.claims.read(f"0-{record.offset}", record.token, self.now)
            question = next((each for each in mine if each.token == record.token), None)
            if given is not None and question is not None:
                self.answer(question, given)
        elif isinstance(record, Given):  # a note that attaches was read at once
            self.resolve(replica, record, [each for each in mine if each.seen.reference == record.reference])

    def resolve(self, replica: Replica, given: Given, mine: list[Held]) -> None:
        """Answer with it, or claim it for the newest question."""
        token = given.actions.in_reply_to
        if token is not None:
            question = next((each for each in mine if each.token == token), None)
            if question is not None:
                self.answer(question, given)
        elif mine and self.now - given.written_at <= FRESH_SECONDS:
            replica.claims.begin(given, mine[-1].token, self.now)
            self.claiming.append(Claim(token=mine[-1].token, offset=given.offset))

    @rule()
    def claims_arrive(self) -> None:
        """In the log, behind what they are for."""
        self.actions += self.claiming
        self.claiming.clear()

    @rule()
    def replicas_read(self) -> None:
        """Everything, and what they write meanwhile."""
        for _ in range(2):
            for which in (0, 1):
                for _ in range(len(self.actions) - self.replicas[which].read):
                    self.replica_reads(which)
            self.claims_arrive()

    def answer(self, question: Held, given: Given) -> None:
        """It is given to the provider, with what was parked for it."""
        question.open = False
        for offset in (*question.parked, given.offset):
            self.say(offset, delivered=True, event_id=question.seen.event_id)

    def noted(self, note: Tell) -> None:
        """The note is written, and its replica reads it."""
        if isinstance(note.note, Attach):
            self.actions.append(note.note)
        question = next((each for each in self.held if each.token == note.note.token), None)
        if question is None or not question.open:
            return
        if not isinstance(note.note, Attach):
            question.open = False
        elif note.note.offset not in question.parked:
            question.parked.append(note.note.offset)

    def say(self, offset: int, *, delivered: bool, event_id: str | None = None) -> None:
        """A verdict is written."""
        given = self.actions[offset]
        assert isinstance(given, Given)
        token = given.actions.in_reply_to
        if delivered and token is not None:
            self.answered.setdefault(token, []).append(offset)
        self.results.append(
            SeenVerdict(
                offset=offset, reference=given.reference, delivered=delivered, event_id=event_id, in_reply_to=token
            )
        )

    # -- the keeper

    @rule(topic=st.sampled_from(["actions", "results", "events"]), count=st.integers(1, 5))
    def keeper_reads(self, topic: str, count: int) -> None:
        """Some records of one topic, as they come."""
        for _ in range(count):
            at = self.read[topic]
            if at >= {"actions": len(self.actions), "results": len(self.results), "events": len(self.events)}[topic]:
                return
            self.read[topic] += 1
            self.take(topic, at)

    def take(self, topic: str, at: int) -> None:
        """One record, as the keeper does it."""
        progress = self.holding.progress
        if topic == "events":
            progress.event(at)
            self.steps += self.share.event(self.events[at], at, self.now)
        elif topic == "results":
            seen = self.results[at]
            progress.result(at, seen.offset)
            if self.share.verdict(seen, at, self.now):
                progress.actions.finished(seen.offset)
        else:
            progress.actions.started(at)
            record = self.actions[at]
            if isinstance(record, Claim | Attach):
                self.share.noted(record)
                progress.actions.finished(at)
            elif not self.share.action(record, self.now):
                progress.actions.finished(at)

    @rule()
    def tick(self) -> None:
        """Time goes on for the share only as far as everything has been read."""
        ends = {"results": len(self.results), "events": len(self.events), "actions": len(self.actions)}
        at = self.holding.time(lambda where: Look(self.now, self.read[where.topic] == ends[where.topic]))
        if at:
            self.steps += self.share.tick(at)

    @rule(outcome=st.sampled_from(["done", "refused", "not this way"]), count=st.integers(1, 5))
    def does(self, outcome: str, count: int) -> None:
        """The oldest steps."""
        for _ in range(min(count, len(self.steps))):
            match self.steps.popleft():
                case Tell() as note:
                    self.noted(note)
                case Say() as said if self.share.wants(said.verdict.given.offset):
                    self.say(said.verdict.given.offset, delivered=False)
                    self.holding.settle(said.verdict.given.offset, delivered=False)
                case Control(given) if self.share.wants(given.offset):
                    self.control(given.offset, outcome)
                case _:
                    pass

    def control(self, offset: int, outcome: str) -> None:
        """The provider's word."""
        if outcome == "not this way":
            self.steps += self.share.not_this_way(offset, self.now)
            return
        self.say(offset, delivered=outcome == "done")
        self.holding.settle(offset, delivered=outcome == "done")

    @rule()
    def commits(self) -> None:
        """What may be let go."""
        found = self.holding.progress.committable(
            [self.share.sessions.first_event], [self.share.sessions.first_verdict]
        )
        self.holding.progress.committed(found)
        self.committed.update(found)

    @rule()
    def dies(self) -> None:
        """And the next one begins at what was committed."""
        self.begin()

    @rule()
    def dies_in_the_middle(self) -> None:
        """A control was done and its verdict is stored, but the keeper knows nothing of it any more."""
        for step in self.steps:
            if isinstance(step, Control) and self.share.wants(step.given.offset):
                self.say(step.given.offset, delivered=True)
                break
        self.begin()

    # -- what must be true

    @invariant()
    def never_two(self) -> None:
        """No action has two verdicts, and no question two answers."""
        spoken_of = [each.offset for each in self.results]
        assert len(spoken_of) == len(set(spoken_of)), spoken_of
        assert all(len(each) == 1 for each in self.answered.values()), self.answered

    def teardown(self) -> None:
        """In the end each has one, nothing is left in memory, and all may be committed."""
        for _ in range(12):
            self.passes(30.0)
            self.replicas_read()
            for topic in ("actions", "events", "results"):
                self.keeper_reads(topic, 1_000)
            self.tick()
            self.does("done", 1_000)
            self.keeper_reads("results", 1_000)
            self.commits()
        acted = [offset for offset, each in enumerate(self.actions) if isinstance(each, Given)]
        assert sorted(each.offset for each in self.results) == acted
        self.never_two()
        assert (len(self.share), self.share.parked, len(self.share.sessions)) == (0, 0, 0)
        assert self.committed["actions"] == len(self.actions)
        assert self.committed["events"] == len(self.events)


TestAnyOrder = World.TestCase
TestAnyOrder.settings = run(max_examples=120, stateful_step_count=60, deadline=None)
