"""What becomes of each action, as pure rules: who waits how long for whose word, and one verdict whatever the order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from bridge.actions.given import Given
from bridge.actions.notes import Attach, Claim, Void, attach
from bridge.actions.seen import Seen, SeenVerdict
from bridge.actions.sessions import Rules, Way
from bridge.actions.share import Control, Say, Share, Step, Tell
from bridge.model.actions import Actions, Speak
from bridge.model.codec import Envelope
from bridge.model.events import Reply

RULES = Rules(
    ways={
        "flow": Way(controls=False, answers=True, session_seconds=1000.0),
        "live": Way(controls=True, answers=True, session_seconds=1000.0),
        "mute": Way(controls=False, answers=False, session_seconds=1000.0),
    },
    verdict_wait_seconds=15.0,
    slack_seconds=2.0,
    unasked_wait_seconds=0.5,
    parked_seconds=60.0,
    max_parked_per_session=2,
)
NOW = 1_000_000.0


class Stand:
    """A share, and a log of what was put into it."""

    def __init__(self, connection: str = "flow", rules: Rules = RULES) -> None:
        self.share = Share(3, rules)
        self.connection = connection
        self._events = 0
        self._records = 0

    def event(
        self, kind: str, at: float, *, token: str | None = None, seconds: float = 4.0, event_id: str = ""
    ) -> list[Step]:
        """An event of the session; with a token it is a question."""
        self._events += 1
        reply = None if token is None else Reply(token, datetime.fromtimestamp(at + seconds, UTC))
        seen = Seen(
            type=kind,
            event_id=event_id or f"event-{self._events}",
            connection=self.connection,
            provider="x",
            session="s",
            received_at=datetime.fromtimestamp(at, UTC),
            reply=reply,
        )
        return self.share.event(seen, self._events, at)

    def act(self, at: float, token: str | None = None, *, connection: str | None = None, empty: bool = False) -> Given:
        """A record of actions is read."""
        given = self.given(token, connection=connection, empty=empty)
        assert self.share.action(given, at)
        return given

    def given(self, token: str | None = None, *, connection: str | None = None, empty: bool = False) -> Given:
        """The next record of actions."""
        self._records += 1
        return Given(
            topic="actions",
            partition=3,
            offset=self._records,
            connection=connection or self.connection,
            session="s",
            actions=Actions(actions=[] if empty else [Speak(text="x")], in_reply_to=token),
            envelope=Envelope(b""),
        )

    def word(self, given: Given, at: float, *, delivered: bool = True, event_id: str | None = None) -> bool:
        """A verdict is read."""
        seen = SeenVerdict(offset=given.offset, reference=given.reference, delivered=delivered, event_id=event_id)
        return self.share.verdict(seen, given.offset, at)


def said(steps: Sequence[Step]) -> list[tuple[int, str, str | None]]:
    """The verdicts among these steps, and nothing else in them."""
    assert all(isinstance(each, Say) for each in steps), steps
    return [(s.verdict.given.offset, s.verdict.status, s.verdict.reason) for s in steps if isinstance(s, Say)]


def told(steps: Sequence[Step]) -> list[tuple[str, str, int]]:
    """The notes among these steps, and nothing else in them: kind, token, the record's offset."""
    notes = [each.note for each in steps if isinstance(each, Tell)]
    assert len(notes) == len(steps), steps
    return [(type(n).__name__, n.token, n.offset if isinstance(n, Attach) else 0) for n in notes]


def test_a_replicas_word_is_the_end_of_it() -> None:
    """Read after its action or before it: nothing is left, and nothing is done."""
    stand = Stand()
    stand.event("user.spoke", NOW, token="t")
    after = stand.act(NOW + 1, "t")
    assert stand.word(after, NOW + 1.1, event_id="event-1")
    before = stand.given("t")
    assert not stand.word(before, NOW + 1.2, delivered=False)
    assert not stand.share.action(before, NOW + 1.3)
    assert (len(stand.share), stand.share.tick(NOW + 500)) == (0, [])


@pytest.mark.parametrize("event_first", [True, False])
def test_a_late_answer_goes_to_the_live_call(event_first: bool) -> None:
    """As soon as its question's time is over and its replica has had time to speak; the event may be read after it."""
    stand = Stand("live")
    if event_first:
        stand.event("session.started", NOW, token="t")
    given = stand.act(NOW + 1, "t")
    if not event_first:
        stand.event("session.started", NOW, token="t")
    assert stand.share.tick(NOW + 5.9) == []
    assert stand.share.tick(NOW + 6.0) == [Control(given, "event-1")]
    assert stand.share.settled(given.offset, delivered=True)
    second = stand.act(NOW + 7, "t")
    assert said(stand.share.tick(NOW + 9.1)) == [(second.offset, "superseded", "another_answer_came_first")]


def test_a_control_that_came_to_nothing_leaves_room_for_another_answer() -> None:
    """The first answer is only the first if it was delivered."""
    stand = Stand("live")
    stand.event("session.started", NOW, token="t")
    first = stand.act(NOW + 4, "t")
    assert len(stand.share.tick(NOW + 6.1)) == 1
    stand.share.settled(first.offset, delivered=False)
    second = stand.act(NOW + 7, "t")
    assert stand.share.tick(NOW + 9.1) == [Control(second, "event-1")]


def test_what_cannot_be_done_live_waits_for_the_next_question() -> None:
    """And goes into it; no word until its time is over: into the one after it, and never twice into one."""
    stand = Stand("live")
    given = stand.act(NOW)
    assert stand.share.tick(NOW + 0.5) == [Control(given)]
    assert said(stand.share.not_this_way(given.offset, NOW + 0.6)) == [(given.offset, "expired", "session_unknown")]
    stand = Stand("live")
    stand.event("call.answered", NOW)
    given = stand.act(NOW)
    assert stand.share.tick(NOW + 0.5) == [Control(given)]
    assert stand.share.not_this_way(given.offset, NOW + 0.6) == []
    assert told(stand.event("verb.finished", NOW + 1, token="a")) == [("Attach", "a", given.offset)]
    assert stand.share.tick(NOW + 7.1) == []
    assert told(stand.event("verb.finished", NOW + 8, token="b")) == [("Attach", "b", given.offset)]
    assert stand.word(given, NOW + 8.1, event_id="event-3")
    assert stand.share.tick(NOW + 500) == []


def test_an_unasked_one_is_parked_and_expires() -> None:
    """Without a live control: a moment for an open question, then parked, then the end of its time."""
    stand = Stand()
    stand.event("session.started", NOW)
    given = stand.act(NOW)
    assert stand.share.tick(NOW + 0.5) == []
    assert said(stand.share.tick(NOW + 60.5)) == [(given.offset, "expired", "no_question_came")]


def test_parked_into_a_question_that_is_open_already() -> None:
    """Its replica did not take it, perhaps because it was asleep when the record came: a note gives it once more."""
    stand = Stand()
    stand.event("session.started", NOW, token="t")
    given = stand.act(NOW + 0.1)
    assert stand.share.tick(NOW + 0.5) == []
    assert told(stand.share.tick(NOW + 0.6)) == [("Attach", "t", given.offset)]
    assert stand.share.tick(NOW + 6.1) == []  # no word: parked, and not into the same question again


@pytest.mark.parametrize("event_first", [True, False])
def test_an_unasked_one_that_a_replica_takes(event_first: bool) -> None:
    """Its claim is read: the keeper waits for its word as for that of an answer; then it looks for another way."""
    stand = Stand("live")
    if event_first:
        stand.event("session.started", NOW, token="t")
    given = stand.act(NOW + 0.1)
    stand.share.noted(Claim(token="t", offset=given.offset))
    stand.share.noted(Claim(token="another's", offset=given.offset))
    stand.share.noted(Claim(token="t", offset=given.offset + 1))
    if not event_first:
        stand.event("session.started", NOW, token="t")
    assert stand.share.tick(NOW + 5.9) == []
    assert stand.share.tick(NOW + 6.0) == [Control(given)]


def test_a_claim_that_came_too_late() -> None:
    """Its question was answered by something else: the keeper does not wait for the question's time."""
    stand = Stand("live")
    stand.event("session.started", NOW, token="t", seconds=30)
    given, answer = stand.act(NOW + 0.1), stand.act(NOW + 0.1, "t")
    stand.share.noted(Claim(token="t", offset=given.offset))
    stand.word(answer, NOW + 0.2, event_id="event-1")
    assert stand.share.tick(NOW + 2.1) == []
    assert stand.share.tick(NOW + 2.2) == [Control(given)]


def test_a_question_that_was_answered_without_the_parked_one() -> None:
    """The note came too late for it: soon parked again, for the next."""
    stand = Stand()
    stand.event("session.started", NOW)
    parked = stand.act(NOW)
    stand.share.tick(NOW + 1)
    stand.event("user.dtmf", NOW + 2, token="t", seconds=30)
    answer = stand.act(NOW + 2.1, "t")
    stand.word(answer, NOW + 2.2, event_id="event-2")
    assert stand.share.tick(NOW + 4.3) == []
    assert told(stand.event("user.dtmf", NOW + 5, token="u")) == [("Attach", "u", parked.offset)]


def test_the_sessions_end_is_the_end_of_what_waits_for_its_questions() -> None:
    """Parked and late ones expire; a record that comes after it, too."""
    stand = Stand()
    stand.event("session.started", NOW, token="t")
    late = stand.act(NOW + 5, "t")
    assert stand.share.tick(NOW + 7.1) == []
    assert said(stand.event("session.ended", NOW + 8)) == [(late.offset, "expired", "session_ended")]
    after = stand.act(NOW + 8.5)
    assert said(stand.share.tick(NOW + 9.1)) == [(after.offset, "expired", "session_ended")]


@pytest.mark.parametrize("newer", ["user.spoke", "user.speech_started"])
def test_a_newer_turn_makes_the_older_question_void(newer: str) -> None:
    """A note says so at once; whatever answers it is superseded, parked or not, and goes nowhere."""
    stand = Stand("live")
    stand.event("user.spoke", NOW, token="t")
    early = stand.act(NOW + 0.5, "t")
    assert told(stand.event(newer, NOW + 1)) == [("Void", "t", 0)]
    late = stand.act(NOW + 9, "t")
    assert said(stand.share.tick(NOW + 6.1)) == [(early.offset, "superseded", "newer_user_turn")]
    assert said(stand.share.tick(NOW + 11.1)) == [(late.offset, "superseded", "newer_user_turn")]


def test_a_parked_answer_is_overtaken_by_a_newer_turn() -> None:
    """It waited for another question, and the user said something else."""
    stand = Stand()
    stand.event("user.spoke", NOW, token="t")
    late = stand.act(NOW + 5, "t")
    assert stand.share.tick(NOW + 7.1) == []
    assert said(stand.event("user.spoke", NOW + 8, token="u")) == [(late.offset, "superseded", "newer_user_turn")]


@pytest.mark.parametrize(
    ("older", "newer", "same_id"),
    [
        ("session.started", "user.spoke", False),
        ("tool.requested", "tool.requested", False),
        ("verb.finished", "user.spoke", False),
        ("user.dtmf", "user.dtmf", False),
        ("user.spoke", "user.dtmf", False),
        ("user.spoke", "assistant.finished", False),
        ("user.spoke", "user.spoke", True),
    ],
)
def test_what_makes_nothing_void(older: str, newer: str, same_id: bool) -> None:
    """Questions that are no turns, events that are none, and the same event delivered once more."""
    stand = Stand()
    stand.event(older, NOW, token="t", event_id="one")
    assert stand.event(newer, NOW + 1, token="u", event_id="one" if same_id else "two") == []


def test_what_is_not_asked_again() -> None:
    """A note about a question that is answered, or whose time is over, would be of no use."""
    stand = Stand()
    stand.event("user.spoke", NOW, token="t")
    answer = stand.act(NOW + 0.1, "t")
    stand.word(answer, NOW + 0.2, event_id="event-1")
    assert stand.event("user.spoke", NOW + 1, token="u") == []
    assert stand.event("user.spoke", NOW + 6, token="v") == []


def test_bounds() -> None:
    """No more are parked in a session than allowed; the one too many is told so at once."""
    stand = Stand()
    stand.event("session.started", NOW)
    records = [stand.act(NOW) for _ in range(3)]
    assert said(stand.share.tick(NOW + 1)) == [(records[2].offset, "expired", "too_many_parked")]


@pytest.mark.parametrize(
    ("connection", "token", "empty", "status", "reason"),
    [
        ("mute", None, False, "rejected", "not_possible"),
        ("nobody", None, False, "rejected", "no_such_connection"),
        ("flow", "unknown", False, "expired", "question_unknown"),
        ("flow", None, True, "expired", "no_question_was_open"),
        ("flow", None, False, "expired", "session_unknown"),
    ],
)
def test_what_can_go_nowhere(connection: str, token: str | None, empty: bool, status: str, reason: str) -> None:
    """Said with the reason; where the events are looked for in vain, it names the partition."""
    stand = Stand()
    given = stand.act(NOW, token, connection=connection, empty=empty)
    [step] = stand.share.tick(NOW + 15)
    assert said([step]) == [(given.offset, status, reason)]
    assert isinstance(step, Say)
    assert ("partition 3" in (step.verdict.detail or "")) == reason.endswith("_unknown")


@pytest.mark.parametrize("event_first", [True, False])
def test_a_note_of_the_keeper_before(event_first: bool) -> None:
    """What it attached may have been said: its question's time is waited for, though the session be over."""
    stand = Stand()
    if event_first:
        stand.event("session.started", NOW, token="t", seconds=30)
    given = stand.act(NOW + 1)
    stand.share.noted(attach(given, "t"))
    stand.share.noted(attach(given, "t"))
    if not event_first:
        stand.event("session.started", NOW, token="t", seconds=30)
    assert stand.event("session.ended", NOW + 2) == []
    assert stand.share.tick(NOW + 31.9) == []
    assert said(stand.share.tick(NOW + 32)) == [(given.offset, "expired", "session_ended")]


def test_a_forged_token() -> None:
    """Rejected at once, which is when everything that was said until then has been read."""
    stand = Stand("live")
    given = stand.given("forged")
    assert stand.share.action(given, NOW, genuine=False)
    assert stand.share.tick(NOW - 0.1) == []
    assert said(stand.share.tick(NOW)) == [(given.offset, "rejected", "token_not_genuine")]


def test_an_old_record_is_not_done_hours_later() -> None:
    """A keeper that was away for long finds what nobody wants any more."""
    stand = Stand("live")
    given = Given(
        topic="actions",
        partition=3,
        offset=1,
        connection="live",
        session="s",
        actions=Actions(actions=[Speak(text="x")]),
        envelope=Envelope(b""),
        written_at=NOW - 3600,
    )
    stand.share.action(given, NOW)
    assert said(stand.share.tick(NOW + 1)) == [(1, "expired", "too_old")]


def test_sessions_are_forgotten() -> None:
    """After their end or a long silence, but not while an action of theirs waits."""
    stand = Stand()
    stand.event("session.started", NOW)
    stand.share.tick(NOW + 999)
    assert [each.first_offset for each in stand.share.sessions] == [1]
    stand.share.tick(NOW + 1000)
    assert not list(stand.share.sessions)
    assert stand.share.sessions.first_event is None
    stand.event("session.started", NOW + 2000)
    stand.event("session.ended", NOW + 2001)
    given = stand.act(NOW + 2001)
    stand.share.tick(NOW + 2001.1)
    stand.share.tick(NOW + 2017)
    assert len(stand.share.sessions) == 1
    stand.share.settled(given.offset, delivered=False)
    stand.share.tick(NOW + 2040)
    assert not list(stand.share.sessions)


def test_a_void_note_names_the_question() -> None:
    """And the session it belongs to."""
    stand = Stand()
    stand.event("user.silent", NOW, token="t")
    assert stand.event("user.spoke", NOW + 1) == [Tell("flow/s", Void(token="t"))]


@pytest.mark.parametrize("by", ["token", "event"])
def test_a_delivery_that_is_read_before_its_question(by: str) -> None:
    """Topics have no common order: a second answer is superseded all the same, and the delivery is needed again."""
    stand = Stand("live")
    first = stand.act(NOW, "t")
    event_id, token = ("event-1", None) if by == "event" else (None, "t")
    seen = SeenVerdict(
        offset=first.offset, reference=first.reference, delivered=True, event_id=event_id, in_reply_to=token
    )
    assert stand.share.verdict(seen, 77, NOW)
    assert not list(stand.share.sessions)
    stand.event("session.started", NOW, token="t")
    assert stand.share.sessions.first_verdict == 77
    second = stand.act(NOW + 1, "t")
    assert said(stand.share.tick(NOW + 6.1)) == [(second.offset, "superseded", "another_answer_came_first")]
