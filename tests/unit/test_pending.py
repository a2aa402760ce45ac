"""The open questions of a replica: each closed exactly once, late answers told apart, and memory bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bridge.actions.pending import Closed, Pending, Question

MAX_OPEN, MAX_REMEMBERED = 4, 3
HOW: list[Closed] = ["answered", "timed_out", "caller_gone", "superseded"]


def question(token: str, reference: str = "demo/s1", event_type: str = "user.spoke") -> Question[str]:
    """A question of a session."""
    return Question(reference=reference, token=token, event_id=f"event-{token}", waiter=token, event_type=event_type)


def registry() -> Pending[str]:
    """An empty one with small bounds."""
    return Pending(max_open=MAX_OPEN, max_remembered=MAX_REMEMBERED)


def test_an_open_question_is_found_by_everything_it_is_known_by() -> None:
    """By token, by session, and its session's records concern this replica."""
    pending = registry()
    asked = question("t")
    assert not pending.concerns(b"demo/s1")
    pending.open(asked)
    assert pending.concerns(b"demo/s1")
    assert pending.by_token("t") is asked
    assert pending.newest_open(b"demo/s1") is asked
    assert len(pending) == 1


def test_nothing_is_found_of_others() -> None:
    """Another session's key, another token: nothing, and not an error."""
    pending = registry()
    pending.open(question("t"))
    assert not pending.concerns(b"demo/s2")
    assert pending.by_token("u") is None
    assert pending.newest_open(b"demo/s2") is None


@pytest.mark.parametrize("how", HOW)
def test_the_first_end_counts(how: Closed) -> None:
    """A question that was closed stays what it was closed as, whoever comes next."""
    pending = registry()
    asked = question("t")
    pending.open(asked)
    assert pending.close(asked, how)
    for later in HOW:
        assert not pending.close(asked, later)
    assert asked.closed == how
    assert len(pending) == 0


def test_a_closed_question_is_remembered() -> None:
    """A late answer still finds its question, which is not open any more."""
    pending = registry()
    asked = question("t")
    pending.open(asked)
    pending.close(asked, "timed_out")
    assert pending.by_token("t") is asked
    assert pending.concerns(b"demo/s1")
    assert pending.newest_open(b"demo/s1") is None


def test_the_newest_open_question_of_a_session() -> None:
    """Of several it is the one opened last that is still open."""
    pending = registry()
    first, second, third = questions = [question(each) for each in "abc"]
    for each in questions:
        pending.open(each)
    assert pending.newest_open(b"demo/s1") is third
    pending.close(third, "answered")
    assert pending.newest_open(b"demo/s1") is second
    pending.close(first, "answered")
    assert pending.newest_open(b"demo/s1") is second


def test_full_means_no_further_question() -> None:
    """It is full at its bound, and not when a question has been closed, though it be remembered."""
    pending = registry()
    asked = [question(str(number)) for number in range(MAX_OPEN)]
    for each in asked:
        assert not pending.full
        pending.open(each)
    assert pending.full
    pending.close(asked[1], "answered")
    assert not pending.full


def test_nothing_remembered_is_no_memory() -> None:
    """With a bound of 0 a closed question is forgotten at once."""
    pending: Pending[str] = Pending(max_open=1, max_remembered=0)
    asked = question("t")
    pending.open(asked)
    assert pending.close(asked, "answered")
    assert pending.by_token("t") is None
    assert not pending.concerns(b"demo/s1")


def test_a_newer_turn_ends_the_older_ones() -> None:
    """Open ones are given back to be woken; one that got no answer is stale too; an answered one stays answered."""
    pending: Pending[str] = Pending(max_open=9, max_remembered=9)
    answered, late, waits, newer = questions = [question(each) for each in "abcd"]
    for each in questions:
        pending.open(each)
    pending.close(answered, "answered")
    pending.close(late, "timed_out")
    assert pending.overtake(b"demo/s1", event_type="user.spoke", event_id="event-d") == [waits]
    assert [each.closed for each in questions] == ["answered", "superseded", "superseded", None]
    assert len(pending) == 1
    assert pending.newest_open(b"demo/s1") is newer


@pytest.mark.parametrize(
    ("asked", "event_type", "event_id", "session"),
    [
        ("user.spoke", "user.dtmf", "x", b"demo/s1"),
        ("user.spoke", "user.spoke", "event-t", b"demo/s1"),
        ("user.spoke", "user.spoke", "x", b"demo/s2"),
        ("tool.requested", "user.spoke", "x", b"demo/s1"),
        ("session.started", "user.speech_started", "x", b"demo/s1"),
        ("user.dtmf", "user.spoke", "x", b"demo/s1"),
    ],
)
def test_what_does_not_end_a_question(asked: str, event_type: str, event_id: str, session: bytes) -> None:
    """No newer turn, the same event again, another session, and questions that came from no turn."""
    pending = registry()
    pending.open(question("t", event_type=asked))
    assert pending.overtake(session, event_type=event_type, event_id=event_id) == []
    assert len(pending) == 1


def test_ending_questions_while_they_are_forgotten() -> None:
    """The memory of closed ones is short, and all open ones are ended all the same."""
    pending: Pending[str] = Pending(max_open=9, max_remembered=1)
    questions = [question(each) for each in "abcd"]
    for each in questions:
        pending.open(each)
    assert pending.overtake(b"demo/s1", event_type="user.speech_started", event_id="x") == questions
    assert len(pending) == 0


class AnyOrder(RuleBasedStateMachine):
    """Questions of a few sessions, opened and closed in any order, against two plain lists."""

    questions: Bundle[Question[str]] = Bundle("questions")

    def __init__(self) -> None:
        super().__init__()
        self.pending = registry()
        self.open: list[Question[str]] = []
        self.closed: list[Question[str]] = []
        self.count = 0

    @rule(target=questions, session=st.sampled_from("xyz"))
    def ask(self, session: str) -> Question[str]:
        """A webhook comes in."""
        asked = question(str(self.count), f"demo/{session}")
        self.count += 1
        self.pending.open(asked)
        self.open.append(asked)
        return asked

    @rule(asked=questions, how=st.sampled_from(HOW))
    def close(self, asked: Question[str], how: Closed) -> None:
        """Somebody ends it, perhaps not as the first."""
        assert self.pending.close(asked, how) == (asked in self.open)
        if asked in self.open:
            self.open.remove(asked)
            self.closed.append(asked)

    @rule(asked=consumes(questions))
    def close_and_drop(self, asked: Question[str]) -> None:
        """The same, by a caller that is not heard of again."""
        self.close(asked, "caller_gone")

    @invariant()
    def counts_and_memory_are_exact(self) -> None:
        """Open ones are all there; of the closed ones the last few, and nothing else."""
        remembered = self.closed[-MAX_REMEMBERED:]
        assert len(self.pending) == len(self.open)
        for asked in (*self.open, *remembered):
            assert self.pending.by_token(asked.token) is asked
        for asked in self.closed[:-MAX_REMEMBERED]:
            assert self.pending.by_token(asked.token) is None
        for session in "xyz":
            reference = f"demo/{session}"
            here = [each for each in self.open if each.reference == reference]
            known = here + [each for each in remembered if each.reference == reference]
            assert self.pending.concerns(reference.encode()) == bool(known)
            assert self.pending.newest_open(reference.encode()) is (here[-1] if here else None)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = run(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.integers(1, 5), st.integers(0, 5))
def test_memory_returns_to_nothing_open(most: int, remembered: int) -> None:
    """After many questions of many sessions only the remembered ones are left, in number and in sessions."""
    pending: Pending[str] = Pending(max_open=most, max_remembered=remembered)
    for number in range(50):
        asked = question(str(number), f"demo/{number}")
        pending.open(asked)
        pending.close(asked, "answered")
    kept = [number for number in range(50) if pending.concerns(f"demo/{number}".encode())]
    assert kept == list(range(50 - remembered, 50))
