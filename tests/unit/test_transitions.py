"""The rules of the ledger: what each record does to each state, in whatever order records and their copies arrive."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger.records import CommandRecord, Fence, KeyParts, Record, Sending, Settled, Unsure, key_of, parts_of
from bridge.ledger.state import LedgerState, Verdict, recent_dials
from bridge.ledger.transitions import Archived, Entry, State
from bridge.model.outcome import Accepted, Refused
from tests.support.ledger_values import (
    DIGEST,
    FOREIGN_EPOCH,
    ME,
    MY_EPOCH,
    cancelled,
    decision,
    deferred,
    folded,
    initiated,
    not_sent,
    sending,
    settled,
    unsure,
)

REFUSED = Refused("busy")

Make: TypeAlias = Callable[[], list[Record]]

STATES: dict[str, tuple[State, Make]] = {
    "nothing": (State.FREE, list),
    "deferred": (State.DEFERRED, lambda: [deferred()]),
    "claimed": (State.UNSETTLED, lambda: [sending()]),
    "claimed when due": (State.UNSETTLED, lambda: [deferred(), sending()]),
    "not sent": (State.FREE, lambda: [sending(), not_sent()]),
    "not sent, later again": (State.DEFERRED, lambda: [sending(), not_sent(), deferred()]),
    "claimed again": (State.UNSETTLED, lambda: [sending(), not_sent(), sending(attempt=2)]),
    "unknown": (State.UNKNOWN, lambda: [sending(), unsure()]),
    "settled": (State.FINISHED, lambda: [sending(), settled()]),
    "settled, still deferred": (State.FINISHED, lambda: [deferred(), sending(), settled()]),
    "settled after unknown": (State.FINISHED, lambda: [sending(), unsure(), settled()]),
    "ended before any claim": (State.FINISHED, lambda: [settled(attempt=0, result=cancelled())]),
}
NEWS: dict[str, CommandRecord] = {
    "sending 1": sending(),
    "sending 2": sending(attempt=2),
    "not sent 1": not_sent(),
    "not sent 2": not_sent(attempt=2),
    "settled 1": settled(),
    "settled 2": settled(attempt=2),
    "unsure 1": unsure(),
    "deferred": deferred(),
}
FINISHES = {"settled 1", "settled 2"}
AFTER: dict[str, dict[str, State]] = {
    "nothing": {
        "sending 1": State.UNSETTLED,
        "sending 2": State.UNSETTLED,
        "unsure 1": State.UNKNOWN,
        "deferred": State.DEFERRED,
    },
    "deferred": {"sending 1": State.UNSETTLED, "sending 2": State.UNSETTLED, "unsure 1": State.UNKNOWN},
    "claimed": {"not sent 1": State.FREE, "not sent 2": State.FREE, "unsure 1": State.UNKNOWN},
    "claimed when due": {"not sent 1": State.DEFERRED, "not sent 2": State.DEFERRED, "unsure 1": State.UNKNOWN},
    "not sent": {"sending 2": State.UNSETTLED, "unsure 1": State.UNKNOWN, "deferred": State.DEFERRED},
    "not sent, later again": {"sending 2": State.UNSETTLED, "unsure 1": State.UNKNOWN},
    "claimed again": {"not sent 2": State.FREE, "unsure 1": State.UNKNOWN},
    "unknown": {},
    "settled": {},
    "settled, still deferred": {},
    "settled after unknown": {},
    "ended before any claim": {},
}
"""What changes the state, besides a result; everything else leaves it as it is."""


def state_after(records: Sequence[Record]) -> State:
    """The state of command `c`."""
    entry = folded(records).entry("c")
    return State.FREE if entry is None else entry.state


@pytest.mark.parametrize("before", STATES)
def test_each_state_is_what_its_records_say(before: str) -> None:
    """The histories that flows write lead to the states that policy decides by."""
    expected, make = STATES[before]
    assert state_after(make()) is expected


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("first", [False, True], ids=["behind", "in front"])
def test_a_former_owners_decision_is_void_where_there_is_a_claim(before: str, first: bool) -> None:
    """An end without a dial finishes what is open; it changes nothing of what was claimed since, wherever it stands."""
    was, make = STATES[before]
    history = make()
    claimed = any(isinstance(each, Sending | Unsure) for each in history)
    expected = was if claimed else State.FINISHED
    assert state_after([decision(0), *history] if first else [*history, decision(0)]) is expected


@pytest.mark.parametrize("before", STATES)
def test_a_decision_may_be_told_where_nothing_was_claimed(before: str) -> None:
    """Or where every claim is proven not to have dialled."""
    was, make = STATES[before]
    assert folded(make()).may_count(decision(2)) == (was in {State.FREE, State.DEFERRED})


@pytest.mark.parametrize("news", NEWS)
@pytest.mark.parametrize("before", STATES)
def test_each_record_in_each_state(before: str, news: str) -> None:
    """The whole table: a result finishes, whatever was before; of the rest only what the table names changes a state."""
    was, make = STATES[before]
    expected = State.FINISHED if news in FINISHES else AFTER[before].get(news, was)
    assert state_after([*make(), NEWS[news]]) is expected


# -- any order, any copies ------------------------------------------------------------------------------------------------


def _consistent(attempt: int, result: bool, owed: bool) -> list[CommandRecord]:
    """The records of one attempt: what it came to is the same in each, except that what was owed gets published."""
    if not result:
        return [not_sent(attempt=attempt)]
    outcome = REFUSED if attempt % 2 else Accepted()
    paid = settled(attempt=attempt, result=initiated(attempt=attempt, settles_unknown=owed), outcome=outcome)
    return [msgspec.structs.replace(paid, owed=True), paid] if owed else [paid]


@st.composite
def histories(draw: st.DrawFn) -> list[CommandRecord]:
    """Records of one command, with copies, in any order that keeps the order under each key."""
    kinds: list[list[CommandRecord]] = []
    for attempt in range(draw(st.integers(0, 1)), draw(st.integers(1, 3)) + 1):
        if attempt and draw(st.booleans()):
            kinds.append([sending(attempt=attempt, epoch=epoch) for epoch in (1, 2)[: draw(st.integers(1, 2))]])
        if draw(st.booleans()):
            kinds.append(_consistent(attempt, draw(st.booleans()), draw(st.booleans())))
        if attempt and draw(st.integers(0, 3)) == 0:
            told: list[CommandRecord] = [unsure(attempt=attempt, owed=True), unsure(attempt=attempt)]
            kinds.append(told[draw(st.integers(0, 1)) :])
    if draw(st.booleans()):
        kinds.append([deferred(at_ms=1000 + number) for number in range(draw(st.integers(1, 2)))])
    copied = [[each for each in kind for _ in range(draw(st.integers(1, 2)))] for kind in kinds]
    return _interleaved(copied, draw(st.randoms(use_true_random=False)))


def _interleaved(kinds: Sequence[Sequence[CommandRecord]], chance: random.Random) -> list[CommandRecord]:
    order = [number for number, kind in enumerate(kinds) for _ in kind]
    chance.shuffle(order)
    queues = [iter(kind) for kind in kinds]
    return [next(queues[number]) for number in order]


def _by_key(records: Sequence[CommandRecord]) -> list[list[CommandRecord]]:
    keys = list(dict.fromkeys(map(key_of, records)))
    return [[record for record in records if key_of(record) == key] for key in keys]


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_between_keys_does_not_matter(history: list[CommandRecord], chance: random.Random) -> None:
    """The same records, interleaved in another way, are the same state, attempt and digest."""
    other = _interleaved(_by_key(history), chance)
    one, two = folded(history).entry("c"), folded(other).entry("c")
    assert _told(one) == _told(two)


@given(histories())
def test_copies_change_nothing(history: list[CommandRecord]) -> None:
    """Any record folded a second time, at once or at the end, leaves the state as it was."""
    expected = _told(folded(history).entry("c"))
    assert _told(folded([each for each in history for _ in range(2)]).entry("c")) == expected
    last_of_each_key = [kind[-1] for kind in _by_key(history)]
    assert _told(folded([*history, *last_of_each_key]).entry("c")) == expected


@given(histories())
def test_compaction_takes_no_knowledge(history: list[CommandRecord]) -> None:
    """What is left when compaction keeps the last record of each key tells a new owner the same."""
    left = [each for place, each in enumerate(history) if key_of(each) not in map(key_of, history[place + 1 :])]
    assert _told(folded(left).entry("c")) == _told(folded(history).entry("c"))


def test_compaction_takes_no_result_that_evidence_led_to() -> None:
    """A finished command is finished for every later owner too, whatever a former one wrote late."""
    history: list[Record] = [sending(), settled(epoch=2), not_sent()]
    assert state_after(history) is State.FINISHED
    left = {key_of(record): record for record in history}
    assert state_after(list(left.values())) is State.FINISHED


def _told(entry: Entry | None) -> object:
    """What policy goes by; the attempt only while there may be another."""
    return None if entry is None else (entry.state, 0 if entry.state is State.FINISHED else entry.attempt, entry.digest)


@given(histories())
def test_nothing_leads_back_to_a_claim_but_proof(history: list[CommandRecord]) -> None:
    """Only `settled(not_sent)` of the claimed attempt leaves UNSETTLED for a new claim, and only a later claim UNKNOWN."""
    state = LedgerState("me")
    for offset, record in enumerate(history):
        entry = state.entry("c")
        before = State.FREE if entry is None else entry.state
        claimed = 0 if entry is None or entry.sending is None else entry.sending.attempt
        state.fold(record, offset)
        after = state.entries["c"].state
        if before is State.UNSETTLED and after in {State.FREE, State.DEFERRED}:
            assert isinstance(record, Settled)
            assert record.result is None
            assert record.attempt >= claimed  # a later attempt was claimed only after this one's proof
        if before is State.FINISHED:
            assert after is State.FINISHED
        if before is State.UNKNOWN and after not in {State.UNKNOWN, State.FINISHED}:
            assert isinstance(record, Sending)
            assert record.epoch > 1  # who doubted was succeeded and never told it


@given(histories(), histories())
def test_an_archived_entry_stays_what_it_is(history: list[CommandRecord], later: list[CommandRecord]) -> None:
    """Once a result is archived nothing that arrives changes state, attempt or digest; only a copy moves the offset."""
    state = folded([sending(), settled()])
    archived = state.entries["c"].archived
    assert archived is not None
    for offset, record in enumerate([*history, *later], start=10):
        state.fold(record, offset)
        now = state.entries["c"].archived
        assert now is not None
        assert (now.attempt, now.digest, now.was_cancelled) == (archived.attempt, archived.digest, False)
        is_copy = isinstance(record, Settled) and record.result is not None and record.attempt == archived.attempt
        assert now.offset == (offset if is_copy else archived.offset)
        archived = now
    assert state.entries["c"].state is State.FINISHED


# -- what is remembered -----------------------------------------------------------------------------------------------------


def test_a_result_in_the_log_leaves_little_in_memory() -> None:
    """A finished command is archived: where its result stands, not what it says; unless something is left to do for it."""
    entry = folded([sending(), settled(at_ms=77)]).entries["c"]
    assert entry.archived == Archived(attempt=1, digest=DIGEST, at_ms=77, offset=1, epoch=1)
    assert (entry.sending, entry.settled, entry.unsure) == (None, None, None)

    not_yet: list[list[Record]] = [[deferred(), sending(), settled()], [sending(), settled(owed=True)]]
    for unfinished in not_yet:
        entry = folded(unfinished).entries["c"]
        assert entry.archived is None
        assert entry.settled is not None


def test_letting_go_of_the_deferral_archives() -> None:
    """When the deferral of a finished command is erased, the entry is archived at its result's offset."""
    for copies in (1, 2):
        state = folded([deferred(), sending(), *[settled()] * copies])
        state.erase(KeyParts("c", "deferred"), 9)
        archived = state.entries["c"].archived
        assert archived is not None
        assert archived.offset == 1 + copies  # compaction leaves the last copy only


def test_a_cancelled_command_is_known_to_be_cancelled() -> None:
    """Its archive says so, because a second cancel is answered with the same result and any other end is not."""
    entry = folded([settled(attempt=0, result=cancelled(), digest=b"")]).entries["c"]
    assert entry.archived is not None
    assert (entry.archived.was_cancelled, entry.doubted) == (True, 0)
    assert entry.digest == b""


# -- what is owed -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "owed"),
    [
        ([sending()], False),
        ([sending(), not_sent()], False),
        ([sending(), settled()], False),
        ([sending(), settled(owed=True)], True),
        ([sending(), settled(owed=True), settled()], False),
        ([sending(), unsure(owed=True)], True),
        ([sending(), unsure(owed=True), unsure()], False),
        ([sending(), unsure(owed=True), unsure(), not_sent()], False),
        ([sending(), unsure(owed=True), not_sent()], True),
        ([sending(), unsure(), settled(owed=True)], True),
        ([sending(), unsure(), settled(owed=True), settled()], False),
        ([sending(), unsure(owed=True), settled()], False),
        ([deferred(), sending(), settled()], False),
    ],
)
def test_a_result_is_owed_until_it_is_written_without(history: list[Record], owed: bool) -> None:
    """What was written as owed may be unpublished; once the same is written without, or more is known, it is not."""
    assert folded(history).entries["c"].owed == owed


def test_a_late_copy_of_what_was_owed_changes_nothing() -> None:
    """Of two records of one settlement the published one is kept, whatever came last in the gap."""
    late = deferred()
    entry = folded([late, sending(), settled(owed=True), settled(), settled(owed=True)]).entries["c"]
    assert entry.settled is not None
    assert not entry.owed


def test_a_settlement_after_unknown_remembers_it() -> None:
    """The archive says that there was an unknown, whose record is still to be let go one day."""
    entry = folded([sending(), unsure(), settled()]).entries["c"]
    assert entry.archived is not None
    assert entry.doubted == 1
    assert entry.state is State.FINISHED


@pytest.mark.parametrize(
    ("log", "owed"),
    [
        # the writer's epoch is the offset of its fence; the record under test is the last
        ([Fence("a", 0), settled(epoch=0)], False),
        ([Fence("a", 0), Fence("a", 0), settled(epoch=0)], False),
        ([Fence("a", 0), Fence("b", 0), settled(epoch=0)], True),
        ([Fence("a", 0), Fence("b", 0), Fence("b", 0), settled(epoch=1)], False),
        ([Fence("a", 0), Fence(ME, 0), settled(epoch=0)], True),
        ([Fence("a", 0), Fence(ME, 0), settled(epoch=1)], False),
        ([Fence("a", 0), Fence(ME, 0), Fence(ME, 0), settled(epoch=1)], False),
        ([Fence(ME, 0), Fence("b", 0), Fence(ME, 0), settled(epoch=0)], False),
        ([Fence(ME, 0), Fence("b", 0), Fence(ME, 0), settled(epoch=1)], True),
    ],
)
def test_a_result_behind_somebody_elses_fence_is_owed(log: list[Record], owed: bool) -> None:
    """Its writer publishes no more, so the owner does; a copy of the writer's own fence, as a probe writes, means nothing."""
    entry = folded(log).entries["c"]
    assert entry.owed == owed
    assert (entry.archived is None) == owed


def test_the_highest_attempt_and_the_newest_time_speak() -> None:
    """Attempt and last time are the highest that any record names."""
    entry = folded([sending(at_ms=5), not_sent(), sending(attempt=2, at_ms=3000), deferred(at_ms=2000)]).entries["c"]
    assert (entry.attempt, entry.last_ms) == (2, 3000)
    assert [type(each).__name__ for each in entry.records()] == ["Sending", "Settled", "Deferred"]
    assert Entry().attempt == 0
    assert (Entry().last_ms, Entry().digest, Entry().state) == (0, b"", State.FREE)


def test_a_later_deferral_replaces_an_earlier() -> None:
    """What is due is what was written last; a late copy of the earlier one does not bring it back."""
    state = folded([deferred(at_ms=1, due_ms=10), deferred(at_ms=2, due_ms=20), deferred(at_ms=1, due_ms=10)])
    found = state.entries["c"].deferred
    assert found is not None
    assert found.due_ms == 20
    at_once = folded([deferred(due_ms=10), deferred(due_ms=20)]).entries["c"].deferred
    assert at_once is not None
    assert at_once.due_ms == 20


@given(histories())
def test_erasing_everything_leaves_nothing(history: list[CommandRecord]) -> None:
    """After a tombstone for each key of a command, claims first, nothing is known of it, and never was it unsettled."""
    state = folded(history)
    was = state.entries["c"].state if history else State.FREE
    keys = sorted({key_of(each) for each in history}, key=lambda key: b"/sending/" not in key)
    for offset, key in enumerate(keys, start=len(history)):
        parts = parts_of(key)
        assert parts is not None
        state.erase(parts, offset)
        entry = state.entry("c")
        assert was is State.UNSETTLED or entry is None or entry.state is not State.UNSETTLED
    assert state.entries == {}
    assert state.next_offset == len(history) + len(keys)


ALL = frozenset({"sending", "settled", "unsent", "unsure", "deferred"})


@pytest.mark.parametrize(
    ("key", "left"),
    [
        (KeyParts("c", "sending", 2), ALL),
        (KeyParts("c", "sending", 1), ALL - {"sending"}),
        (KeyParts("c", "settled", 0), ALL),
        (KeyParts("c", "settled", 1), ALL - {"settled"}),
        (KeyParts("c", "unsent", 2), ALL),
        (KeyParts("c", "unsent", 1), ALL - {"unsent"}),
        (KeyParts("c", "unsure", 3), ALL),
        (KeyParts("c", "unsure", 1), ALL - {"unsure"}),
        (KeyParts("c", "deferred"), ALL - {"deferred"}),
        (KeyParts("d", "sending", 1), ALL),
        (KeyParts(None, "fence"), ALL),
        (KeyParts("c", "other"), ALL),
    ],
)
def test_a_tombstone_erases_what_it_names(key: KeyParts, left: frozenset[str]) -> None:
    """Exactly the record under that key goes; of another attempt's or command's tombstone nothing."""
    state = folded([sending(), not_sent(), unsure(), deferred(), settled(owed=True)])
    state.erase(key, 50)
    kept = [parts_of(key_of(each)) for each in state.entries["c"].records() if not isinstance(each, Archived)]
    assert {"" if each is None else each.kind for each in kept} == left
    assert state.next_offset == 51


def test_an_old_offset_does_not_move_what_was_seen() -> None:
    """Reading an earlier stretch again leaves `next_offset` behind the newest."""
    state = folded([sending(), settled()])
    state.fold(sending(), 0)
    state.erase(KeyParts("c", "unsure", 1), 0)
    assert state.next_offset == 2


def test_unsettled_claims_are_found() -> None:
    """Of all commands or of some: those that were claimed and not settled, and nothing that is over."""
    records: list[Record] = [
        sending("open"),
        sending("done"),
        settled("done"),
        sending("unknown"),
        unsure("unknown"),
        deferred("later"),
        sending("free"),
        not_sent("free"),
    ]
    state = folded(records)
    assert [each.command_id for each in state.unsettled()] == ["open"]
    assert [each.command_id for each in state.unsettled(["done", "open", "nobody", "later"])] == ["open"]
    assert state.unsettled([]) == []


def test_what_is_over_comes_in_the_order_of_its_end() -> None:
    """Letting go finds what ended before a time, oldest first, passes by what is not over, and takes so many at most."""
    state = folded(
        [
            deferred("waits", at_ms=1),
            sending("late", at_ms=1),
            sending("early", at_ms=2),
            sending("open", at_ms=3),
            settled("early", at_ms=10),
            unsure("unknown", at_ms=20),
            settled("late", at_ms=30),
        ]
    )
    assert [name for name, _ in state.over_before(31, most=9)] == ["early", "unknown", "late"]
    assert [name for name, _ in state.over_before(30, most=9)] == ["early", "unknown"]
    assert [name for name, _ in state.over_before(31, most=1)] == ["early"]
    assert state.over_before(10, most=9) == []


# -- who owns the partition -------------------------------------------------------------------------------------------------


def opened() -> LedgerState:
    """A lane whose fence stands at `MY_EPOCH`."""
    state = LedgerState(ME)
    state.fold(Fence(ME, 0), MY_EPOCH)
    return state


def test_the_epoch_is_the_offset_of_the_first_own_fence() -> None:
    """A fence written twice (a retried write, a probe) leaves the epoch, and is none of the old ones to clean up."""
    state = opened()
    state.fold(Fence(ME, 0), MY_EPOCH + 5)
    assert (state.epoch, state.next_offset) == (MY_EPOCH, MY_EPOCH + 6)
    assert state.take_old_fences(10**15) == []


AGAINST = Verdict(foreign=frozenset("c"), against=frozenset("c"))


@pytest.mark.parametrize(
    ("record", "offset", "expected"),
    [
        (Fence("other", 0), MY_EPOCH + 1, Verdict(ended="another owner's fence stands at offset 8")),
        (Fence("other", 0), MY_EPOCH - 1, Verdict()),
        (Fence(ME, 0), MY_EPOCH + 1, Verdict()),
        (sending(epoch=FOREIGN_EPOCH), 9, AGAINST),
        (settled(epoch=FOREIGN_EPOCH), 9, AGAINST),
        (not_sent(epoch=FOREIGN_EPOCH), 9, AGAINST),
        (unsure(epoch=FOREIGN_EPOCH), 9, Verdict(foreign=frozenset("c"))),
        (decision(FOREIGN_EPOCH), 9, Verdict(foreign=frozenset("c"))),
        (unsure(epoch=MY_EPOCH + 2), 9, AGAINST),
        (decision(MY_EPOCH + 2), 9, AGAINST),
        (sending(epoch=MY_EPOCH + 2), 9, AGAINST),
        (sending(epoch=MY_EPOCH), 9, Verdict()),
        (settled(epoch=MY_EPOCH), 9, Verdict()),
        (unsure(epoch=MY_EPOCH), 9, Verdict()),
        (deferred(epoch=MY_EPOCH), 9, Verdict()),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Fence | CommandRecord) else None,
)
def test_what_a_record_in_a_gap_means(record: Record, offset: int, expected: Verdict) -> None:
    """A later foreign fence ends the lane, foreign knowledge names its command, and own copies mean nothing.

    What a former owner decided, or doubts, is no knowledge: it does not stand against a claim.
    """
    state = opened()
    before = state.next_offset
    assert state.judge(record, offset) == expected
    assert (state.next_offset, state.entries) == (before, {})


CLAIMS: list[tuple[list[Record], bool]] = [
    ([], True),
    ([deferred()], True),
    ([sending(epoch=FOREIGN_EPOCH), not_sent()], True),
    ([sending(epoch=FOREIGN_EPOCH), not_sent(), deferred()], True),
    ([sending(attempt=2, epoch=MY_EPOCH)], True),
    ([sending(attempt=2, epoch=MY_EPOCH), sending(attempt=2, epoch=MY_EPOCH)], True),
    ([sending(attempt=2, epoch=FOREIGN_EPOCH)], False),
    ([sending(attempt=2, epoch=FOREIGN_EPOCH), sending(attempt=2, epoch=MY_EPOCH)], False),
    ([sending(attempt=2, epoch=MY_EPOCH), sending(attempt=2, epoch=FOREIGN_EPOCH)], False),
    ([sending(attempt=1, epoch=FOREIGN_EPOCH)], False),
    ([sending(attempt=3, epoch=MY_EPOCH)], False),
    ([not_sent(attempt=2)], False),
    ([not_sent(attempt=3), deferred()], False),
    ([unsure()], True),
    ([decision(FOREIGN_EPOCH)], True),
    ([unsure(epoch=MY_EPOCH)], False),
    ([decision(MY_EPOCH)], False),
    ([sending(attempt=2, epoch=MY_EPOCH), unsure(epoch=MY_EPOCH)], False),
    ([settled()], False),
    ([sending(attempt=2, epoch=MY_EPOCH), settled()], False),
    ([deferred(), settled()], False),
]


@pytest.mark.parametrize(("before", "counts"), CLAIMS)
def test_what_stands_against_a_claim(before: list[Record], counts: bool) -> None:
    """A claim of attempt 2 counts only where all that is known of the command leaves that attempt free, own copies aside."""
    state = opened()
    for offset, record in enumerate(before, start=MY_EPOCH + 1):
        state.fold(record, offset)
    assert state.may_count(sending(attempt=2, epoch=MY_EPOCH)) == counts


def test_a_contest_ends_with_its_attempt() -> None:
    """Two claims of one attempt keep each other from counting; once the attempt is proven unsent, the next may count."""
    state = opened()
    both: list[Record] = [sending(epoch=FOREIGN_EPOCH), sending(epoch=MY_EPOCH)]
    for offset, record in enumerate([*both, not_sent()], start=8):
        state.fold(record, offset)
    assert state.may_count(sending(attempt=2, epoch=MY_EPOCH))


def test_a_contest_does_not_outlive_the_next_claim() -> None:
    """An attempt that only one owner claimed is not contested, whatever the one before it was."""
    state = opened()
    both: list[Record] = [sending(epoch=FOREIGN_EPOCH), sending(epoch=MY_EPOCH)]
    for offset, record in enumerate([*both, not_sent(), sending(attempt=2, epoch=MY_EPOCH)], start=8):
        state.fold(record, offset)
    assert state.may_count(sending(attempt=2, epoch=MY_EPOCH))


def test_old_fences_are_given_once_and_only_when_old() -> None:
    """Keys of former owners' fences from before a time, each once; younger ones and the own stay."""
    state = LedgerState(ME)
    fences = [Fence("a", 100), Fence("a", 100), Fence("b", 200), Fence("c", 300), Fence(ME, 100)]
    for offset, fence in enumerate(fences):
        state.fold(fence, offset)
    assert state.take_old_fences(300) == [b"fence/a", b"fence/b"]
    assert state.take_old_fences(300) == []
    assert state.take_old_fences(301) == [b"fence/c"]


def test_recent_claims_are_kept_by_connection() -> None:
    """When each connection was claimed for last, in seconds, oldest first, and since when the end is known."""
    state = folded([sending("a", at_ms=1500), sending("b", at_ms=2000), settled("a", at_ms=9000), deferred("d")])
    assert recent_dials(state, "demo") == [(1.5, 9.0), (2.0, None)]
    assert recent_dials(state, "another") == []


def test_the_end_of_another_attempt_says_nothing_of_a_recent_claim() -> None:
    """Each claim has its own end: what is known of the first attempt is not known of the second."""
    state = folded([sending("a", at_ms=900), not_sent("a"), sending("a", 2, at_ms=2000)])
    assert recent_dials(state, "demo") == [(0.9, 1.0), (2.0, None)]
    state.fold(unsure("a", 2, at_ms=3000), 10)
    assert recent_dials(state, "demo") == [(0.9, 1.0), (2.0, 3.0)]


def test_recent_claims_are_bounded() -> None:
    """However many claims the log holds, the newest few are kept, those of commands that are over too."""
    state = LedgerState(ME)
    for number in range(12_000):
        state.fold(sending(f"c{number % 10}", at_ms=number * 1000), 2 * number)
        state.fold(settled(f"c{number % 10}"), 2 * number + 1)
    kept = [claimed for claimed, _ in recent_dials(state, "demo")]
    assert kept == [float(number) for number in range(12_000 - len(kept), 12_000)]
    assert len(kept) == 10_000
