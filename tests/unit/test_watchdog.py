"""Which silent calls are due, and when: pure, by time and by the order in which index and events tell of a call."""

from __future__ import annotations

import gc
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.actions.ends import Ends, Repair
from bridge.actions.seen import Seen
from bridge.actions.silence import Call, Patience, Silence, SilenceSettings, moment
from bridge.actions.watchdog import end_id
from bridge.ledger.index import Known, name_key, session_key
from tests.support.clock import NOON

START = NOON.timestamp()
TTL = 4 * 3600.0
SILENT = 60.0
RETRY = 1.0
MINE, OTHERS = 1, 2
HMS, SIPGATE = "hms", "sipgate"
S1 = f"{HMS}/s-1"


class Told:
    """A `Silence` with short ways to tell it things. Keys that end in `x` belong to a partition of others."""

    def __init__(self, *, max_calls: int = 100, assigned_at: float = START - SILENT) -> None:
        self.heard_of: set[str] = set()
        self.silence = Silence(
            {HMS: Patience(TTL, can_look_up=True), SIPGATE: Patience(TTL, can_look_up=False)},
            SilenceSettings(silent_seconds=SILENT, longest_pause_seconds=400, max_calls=max_calls),
            partition_of=lambda key: OTHERS if key.endswith(b"x") else MINE,
            is_heard_of=self.heard_of.__contains__,
        )
        self.silence.assigned(frozenset({MINE}), assigned_at)
        self.offset = 0

    def session(self, reference: str, *, at: float = 0.0, ended: bool = False, call_id: str | None = None) -> None:
        """The index tells of a session."""
        self.silence.indexed(session_key(reference), known(at, TTL, ended=ended, call_id=call_id))

    def taken(self, connection: str, name: str, *, at: float = 0.0, lives: float = TTL, call_id: str = "c-1") -> None:
        """The index tells of a call that the provider took."""
        entry = known(at, lives, call_id=call_id, command_id=f"command of {call_id}")
        self.silence.indexed(name_key(connection, f"call/{name}", call_id), entry)

    def event(self, reference: str, kind: str, *, at: float = 0.0, call_id: str | None = None) -> int:
        """The events topic tells of an event; returns its offset."""
        connection, _, session = reference.partition("/")
        event = Seen(
            type=kind,
            event_id=f"e-{self.offset}",
            connection=connection,
            provider="p",
            session=session,
            received_at=NOON + timedelta(seconds=at),
            call_id=call_id,
        )
        self.silence.seen(MINE, event, self.offset)
        self.offset += 1
        return self.offset - 1

    def due(self, at: float) -> list[Call]:
        """What is due so long after the start."""
        return self.silence.due(START + at, limit=100)

    def due_references(self, at: float) -> list[str]:
        """The same by reference; and all is put back as it was asked for without an answer."""
        calls = self.due(at)
        for call in calls:
            self.silence.returned(call, START + at - RETRY, "later")
        return [call.reference for call in calls]


def known(
    at: float, lives: float, *, ended: bool = False, call_id: str | None = None, command_id: str | None = None
) -> Known:
    """An entry of the index, written so long after the start."""
    begin = NOON + timedelta(seconds=at)
    return Known(at=begin, until=begin + timedelta(seconds=lives), ended=ended, call_id=call_id, command_id=command_id)


# -- silence ----------------------------------------------------------------------------------------------------------


def test_a_call_that_can_be_looked_up_is_due_after_silence_and_then_ever_more_rarely() -> None:
    """60 s, then pauses of 120, 240, 400, 400 s."""
    told = Told()
    told.session(S1)
    moments = []
    for second in range(0, 1500, 10):
        for call in told.due(second):
            moments.append(second)
            told.silence.returned(call, START + second, "live")
    assert moments == [60, 180, 420, 820, 1220]


def test_every_event_begins_the_silence_anew() -> None:
    """Also after looks: the pauses are short again."""
    told = Told()
    told.session(S1)
    (call,) = told.due(60)
    told.silence.returned(call, START + 60, "live")
    told.event(S1, "user.spoke", at=100)
    assert told.due_references(159) == []
    (call,) = told.due(180)
    told.silence.returned(call, START + 180, "in vain")
    assert told.due_references(299) == []
    assert told.due_references(300) == [S1]


def test_a_call_that_cannot_be_looked_up_is_due_when_its_time_is_over() -> None:
    """And each event prolongs it."""
    told = Told()
    told.session(f"{SIPGATE}/s")
    told.event(f"{SIPGATE}/s", "user.spoke", at=1000)
    assert told.due_references(TTL + 999) == []
    assert told.due_references(TTL + 1015) == [f"{SIPGATE}/s"]


def test_a_call_that_is_live_by_its_providers_word_gets_more_time() -> None:
    """However long it lasts."""
    told = Told()
    told.session(S1)
    (call,) = told.due(TTL)
    assert call.until == START + TTL
    told.silence.returned(call, START + TTL, "live")
    assert call.until == START + 2 * TTL


def test_a_call_that_is_attended_is_nobody_elses() -> None:
    """Until it is given back."""
    told = Told()
    told.session(S1)
    (call,) = told.due(100)
    assert told.due(500) == []
    told.silence.returned(call, START + 500, "later")
    assert told.due(500.5) == []
    assert told.due(500 + RETRY) == [call]


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["call.ended", "session.ended"])
def test_an_end_is_an_end(end: str) -> None:
    """Whichever the provider has, and before or after the index tells of the session."""
    told = Told()
    told.session(S1)
    told.event(S1, end, at=5)
    told.event(f"{HMS}/s-2", end, at=5)
    told.session(f"{HMS}/s-2")
    assert told.due_references(2 * TTL) == []


def test_an_end_in_the_index_is_an_end() -> None:
    """Another replica has seen it."""
    told = Told()
    told.session(S1)
    told.session(S1, ended=True)
    assert told.due_references(2 * TTL) == []
    assert len(told.silence) == 0


def test_what_comes_after_the_end_begins_nothing() -> None:
    """A report, an echo of the index, a turn that was overtaken."""
    told = Told()
    told.session(S1)
    told.event(S1, "call.ended", at=5)
    told.event(S1, "call.report", at=9)
    told.event(S1, "user.spoke", at=9)
    told.session(S1)
    assert told.due_references(2 * TTL) == []


def test_a_report_is_no_end() -> None:
    """A recording may be told of in the middle of a call: that is still watched, and looked up after silence."""
    told = Told()
    told.session(S1)
    told.event(f"{HMS}/s-2", "call.answered")
    for reference in (S1, f"{HMS}/s-2"):
        told.event(reference, "call.report", at=5)
    assert told.due_references(64) == []
    assert sorted(told.due_references(80)) == [S1, f"{HMS}/s-2"]
    assert told.silence.ends.repairs(START + 1000, after_seconds=10) == []


@pytest.mark.parametrize("kind", ["other", "verb.finished", "sms.failed", "call.report"])
def test_what_may_come_after_an_end_begins_no_watch(kind: str) -> None:
    """Of a session that is not known, because it ended long ago."""
    told = Told()
    told.event(S1, kind)
    assert len(told.silence) == 0


def test_an_end_that_comes_while_the_call_is_looked_up_counts() -> None:
    """Nothing is to be published then."""
    told = Told()
    told.session(S1)
    (call,) = told.due(60)
    told.event(S1, "call.ended", at=61)
    assert not call.is_open
    told.silence.returned(call, START + 62, "live")
    assert told.due_references(2 * TTL) == []


def test_a_call_that_was_closed_is_closed() -> None:
    """Our own end, read back, and the provider's that comes late after all."""
    told = Told()
    told.session(S1)
    (call,) = told.due(60)
    told.silence.closed(call, START + 61)
    told.session(S1, ended=True)
    told.event(S1, "call.ended", at=61)
    told.event(S1, "call.ended", at=500)
    assert told.silence.oldest_needed(MINE) is None
    assert told.due_references(2 * TTL) == []


# -- calls that were taken and never heard of -------------------------------------------------------------------------


def test_a_call_that_was_taken_is_watched_by_the_providers_id() -> None:
    """Looked up like any other; `call/` holds the provider's id."""
    told = Told()
    told.taken(HMS, "id-7")
    assert told.due_references(60) == [f"{HMS}/id-7"]


def test_a_call_without_an_id_is_over_when_its_webhooks_window_is() -> None:
    """With as long again as silence may last, because a session may begin in the last moment."""
    told = Told()
    told.taken(SIPGATE, "c-1", lives=120)
    assert told.due_references(179) == []
    assert told.due_references(200) == [f"{SIPGATE}/c-1"]


@pytest.mark.parametrize("how", ["index", "event", "end"])
def test_a_call_that_is_heard_of_under_another_name_is_watched_under_that(how: str) -> None:
    """HMS's ids in webhooks may differ from the one in its answer."""
    told = Told()
    told.taken(HMS, "id-7")
    if how == "index":
        told.session(f"{HMS}/other", call_id="c-1")
    else:
        told.event(f"{HMS}/other", "call.answered" if how == "event" else "call.ended", call_id="c-1")
    told.taken(HMS, "id-7")  # the index tells everything twice
    assert told.due_references(70) == ([] if how == "end" else [f"{HMS}/other"])


@pytest.mark.parametrize("how", ["index", "event"])
def test_a_webhook_that_overtakes_the_answer_to_the_dial(how: str) -> None:
    """The call is watched already when the provider's id of it is known: it is not watched twice."""
    told = Told()
    if how == "index":
        told.session(f"{HMS}/other", call_id="c-1")
    else:
        told.event(f"{HMS}/other", "call.answered", call_id="c-1")
        told.session(f"{HMS}/other")  # which knows less than the event
        told.session(f"{HMS}/other", call_id="c-1")
    told.taken(HMS, "id-7")
    assert told.due_references(70) == [f"{HMS}/other"]
    told.event(f"{HMS}/other", "call.ended", call_id="c-1", at=80)
    assert len(told.silence) == 0


def test_two_sessions_of_one_call_are_two() -> None:
    """Each is watched until its own end, whatever the index knows of them."""
    told = Told()
    told.event(S1, "call.answered", call_id="c-1")
    told.event(f"{HMS}/s-2", "call.answered", call_id="c-1")
    told.session(S1)
    assert told.due_references(70) == [S1, f"{HMS}/s-2"]
    told.event(S1, "call.ended", at=80)
    told.event(f"{HMS}/s-2", "user.spoke", call_id="c-1", at=90)
    assert told.due_references(170) == [f"{HMS}/s-2"]


def test_a_call_that_was_heard_of_before_we_were_there_is_not_expected() -> None:
    """Names live as long as sessions may; sessions are forgotten soon after their end."""
    told = Told()
    told.heard_of.add("command of c-1")
    told.taken(HMS, "id-7")
    assert told.due_references(TTL * 2) == []
    assert len(told.silence) == 0


def test_a_whole_call_may_overtake_the_answer_to_its_dial() -> None:
    """Nothing of it is watched any more, and nothing is later, when that it was heard of is forgotten."""
    told = Told()
    told.session(f"{SIPGATE}/s", call_id="c-1")
    told.event(f"{SIPGATE}/s", "session.ended", call_id="c-1")
    told.heard_of.add("command of c-1")
    told.taken(SIPGATE, "c-1", lives=120)
    assert len(told.silence) == 0
    told.heard_of.clear()
    assert told.due_references(200) == []


def test_other_names_are_no_proof_that_the_provider_took_the_call() -> None:
    """They are written before the dial leaves."""
    told = Told()
    entry = known(0, 120, call_id="c-1")
    told.silence.indexed(name_key(SIPGATE, "callee/+49301234567", "c-1"), entry)
    told.silence.indexed(name_key(HMS, "ref/c-1", "c-1"), entry)
    told.silence.indexed(session_key("elsewhere/s"), entry)
    assert len(told.silence) == 0


# -- owners -----------------------------------------------------------------------------------------------------------


def test_only_the_owner_finds_a_call_due_and_only_after_having_listened() -> None:
    """Calls of other partitions wait; a new owner waits as long as a call may be silent."""
    told = Told()
    told.session(S1)
    told.session(f"{HMS}/x")
    assert told.due_references(100) == [S1]
    told.silence.revoked(frozenset({MINE}))
    assert told.due_references(200) == []
    told.silence.assigned(frozenset({MINE, OTHERS}), START + 300)
    assert told.due_references(359) == []
    assert sorted(told.due_references(400)) == [S1, f"{HMS}/x"]


def test_a_session_that_the_index_does_not_know_is_kept_for_the_next_owner() -> None:
    """By its first event, until it is over or the index knows it."""
    told = Told()
    told.event(S1, "call.answered")
    first = told.event(f"{HMS}/s-2", "call.answered")
    assert told.silence.oldest_needed(MINE) == 0
    told.session(S1)
    assert told.silence.oldest_needed(MINE) == first
    told.silence.revoked(frozenset({MINE}))
    assert told.silence.oldest_needed(MINE) is None
    told.silence.assigned(frozenset({MINE}), START)
    assert told.due_references(100) == [S1]


def test_an_end_that_the_index_does_not_know_is_repaired_before_it_is_let_go() -> None:
    """Who took it may have died before he could tell the index, and a later owner would close the call again."""
    told = Told()
    told.session(S1)
    offset = told.event(S1, "call.ended", at=5)
    assert told.silence.oldest_needed(MINE) == offset
    assert told.silence.ends.repairs(START + 14, after_seconds=10) == []
    ((reference, entry),) = told.silence.ends.repairs(START + 15, after_seconds=10)
    assert (reference, entry.until) == (S1, moment(START + TTL))
    assert told.silence.oldest_needed(MINE) == offset
    told.session(S1, ended=True)
    assert told.silence.ends.repairs(START + 15, after_seconds=10) == []
    assert told.silence.oldest_needed(MINE) is None


def test_an_end_is_repaired_by_the_owner_only() -> None:
    """Who is one no more leaves it to the next, who reads it again."""
    told = Told()
    told.session(S1)
    told.event(S1, "call.ended", at=5)
    told.silence.revoked(frozenset({OTHERS}))
    assert len(told.silence.ends.repairs(START + 15, after_seconds=10)) == 1
    told.silence.revoked(frozenset({MINE}))
    assert told.silence.ends.repairs(START + 15, after_seconds=10) == []


def test_an_end_before_its_session_is_repaired_too() -> None:
    """Events and index are read side by side."""
    told = Told()
    told.event(S1, "call.ended", at=5)
    told.session(S1)
    assert len(told.silence.ends.repairs(START + 15, after_seconds=10)) == 1


def test_an_end_of_what_the_index_never_knew_is_told_to_it() -> None:
    """Or a late webhook would open the session there, and a later owner close it a second time."""
    told = Told()
    offset = told.event(S1, "call.ended", at=5, call_id="c-1")
    assert told.silence.ends.repairs(START + 14, after_seconds=10) == []
    ((reference, entry),) = told.silence.ends.repairs(START + 15, after_seconds=10)
    assert (reference, entry.call_id) == (S1, "c-1")
    assert told.silence.oldest_needed(MINE) == offset
    told.session(S1, ended=True)
    assert told.silence.ends.repairs(START + 15, after_seconds=10) == []
    assert told.silence.oldest_needed(MINE) is None


def test_an_end_that_the_index_forgot_is_repaired() -> None:
    """A late webhook opened the session again, long after everybody knew that it was over; it is not watched either."""
    told = Told()
    told.session(S1)
    told.event(S1, "call.ended", at=5)
    told.session(S1, ended=True)
    told.session(S1, at=1000, call_id="c-1")
    assert told.due_references(1000 + 2 * TTL) == []
    ((reference, entry),) = told.silence.ends.repairs(START + 1010, after_seconds=10)
    assert (reference, entry.call_id) == (S1, "c-1")
    told.session(S1, ended=True)
    assert told.silence.ends.repairs(START + 2000, after_seconds=10) == []


def test_an_end_that_the_index_forgot_is_repaired_by_its_owner() -> None:
    """By whoever owns the partition then: nobody reads the end again."""
    told = Told()
    told.session(S1, ended=True)
    told.silence.revoked(frozenset({MINE}))
    told.session(S1, at=1000)
    assert told.silence.ends.repairs(START + 2000, after_seconds=10) == []
    told.silence.assigned(frozenset({OTHERS}), START)
    assert told.silence.ends.repairs(START + 2000, after_seconds=10) == []
    told.silence.assigned(frozenset({MINE}), START)
    assert [each for each, _ in told.silence.ends.repairs(START + 2000, after_seconds=10)] == [S1]


def test_another_name_of_a_call_is_no_end() -> None:
    """A session that is opened under the name that the call was taken under goes on in the index."""
    told = Told()
    told.taken(HMS, "id-7")
    told.event(f"{HMS}/other", "call.answered", call_id="c-1")
    told.session(f"{HMS}/id-7", at=10)
    assert told.silence.ends.repairs(START + 1000, after_seconds=10) == []


def test_ends_that_the_index_does_not_take_are_bounded() -> None:
    """Kafka may be away for hours: the oldest are forgotten, and hold no commit back any more."""
    ends = Ends(max_ends=3)
    ends.assigned(frozenset({MINE}))
    for number in range(10):
        ends.seen(Repair(f"{HMS}/{number}", known(0, TTL), MINE, number, START))
    assert [each for each, _ in ends.repairs(START, after_seconds=0)] == [f"{HMS}/{number}" for number in (7, 8, 9)]
    assert ends.oldest_needed(MINE) == 7


def test_an_end_of_ours_that_the_index_was_not_told_of_is_repaired() -> None:
    """Kafka went away in between."""
    told = Told()
    told.session(S1)
    (call,) = told.due(60)
    told.silence.closed(call, START + 61)
    offset = told.event(S1, "call.ended", at=61)
    assert told.silence.oldest_needed(MINE) == offset
    assert [each for each, _ in told.silence.ends.repairs(START + 80, after_seconds=10)] == [S1]


def test_no_more_calls_are_held_than_allowed() -> None:
    """The rest is not watched; the gauge shows it."""
    told = Told(max_calls=3)
    for number in range(10):
        told.session(f"{HMS}/{number}")
    assert len(told.silence) == 3


def test_calls_that_have_ended_take_no_room() -> None:
    """Though their time, which nobody looks at any more, would be over in hours only."""
    told = Told()
    before = sum(isinstance(each, Call) for each in gc.get_objects())
    for number in range(5000):
        told.session(f"{SIPGATE}/{number}")
        told.session(f"{SIPGATE}/{number}", ended=True)
    assert sum(isinstance(each, Call) for each in gc.get_objects()) - before < 2000


# -- everything at once -----------------------------------------------------------------------------------------------


class World:
    """What is told and done, each step 70 s after the one before; checks what is due."""

    def __init__(self) -> None:
        self.told = Told()
        self.at = 0.0
        self.over: set[str] = set()

    def anonymous(self, number: int) -> None:
        """The index tells of a session, and not whose it is."""
        self.told.session(f"{HMS}/{number}", at=self.at)

    def other(self, number: int) -> None:
        """An event of the same call under another name."""
        self.told.event(f"{HMS}/{number}-other", "call.answered", at=self.at, call_id=f"c-{number}")

    def session(self, number: int) -> None:
        """The index tells of a session."""
        self.told.session(f"{HMS}/{number}", at=self.at, call_id=f"c-{number}")

    def ended(self, number: int) -> None:
        """The index tells of its end."""
        self.told.session(f"{HMS}/{number}", at=self.at, ended=True)
        self.over.add(f"{HMS}/{number}")

    def answered(self, number: int) -> None:
        """An event."""
        self.told.event(f"{HMS}/{number}", "call.answered", at=self.at, call_id=f"c-{number}")

    def end(self, number: int) -> None:
        """The event of its end."""
        self.told.event(f"{HMS}/{number}", "call.ended", at=self.at)
        self.over.add(f"{HMS}/{number}")

    def taken(self, number: int) -> None:
        """The index tells of a call that was taken."""
        self.told.taken(HMS, str(number), at=self.at, call_id=f"c-{number}")

    def rebalance(self, _: int) -> None:
        """Everything is taken and given anew, a while ago."""
        self.told.silence.revoked(frozenset({MINE}))
        self.told.silence.assigned(frozenset({MINE}), START + self.at - SILENT)

    def look(self, _: int) -> None:
        """What is due is looked up in vain."""
        for call in self.told.due(self.at):
            assert call.reference not in self.over
            self.told.silence.returned(call, START + self.at, "in vain")

    def close(self, _: int) -> None:
        """What is due is closed."""
        for call in self.told.due(self.at):
            assert call.reference not in self.over
            self.told.silence.closed(call, START + self.at)
            self.over.add(call.reference)


KINDS = ["anonymous", "other", "session", "ended", "answered", "end", "taken", "rebalance", "look", "close"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2)), max_size=40)


@given(STEPS)
def test_in_every_order_an_end_that_was_seen_is_never_followed_by_ours(steps: list[tuple[str, int]]) -> None:
    """And no call is closed twice by one replica, whatever is told again."""
    world = World()
    for step, number in steps:
        world.at += 70
        getattr(world, step)(number)


def test_the_id_of_an_end_is_made_from_its_session() -> None:
    """So that the same end by another replica is visible as the same, and no other."""
    assert end_id(S1) == end_id(S1)
    assert len({end_id(S1), end_id(f"{HMS}/s-2"), end_id(f"{SIPGATE}/s-1")}) == 3
