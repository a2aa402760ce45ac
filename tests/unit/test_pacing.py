"""An account's limit, divided: together the lanes never pass it, at any phase, and under backlog they use it up."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.commands.pacing import TURN_LATENESS_SECONDS, TURN_SECONDS, WINDOW_SECONDS, Pace, Share, share_of
from bridge.ledger.state import LedgerState, recent_dials
from tests.support.ledger_values import sending

EPOCH = 1_770_000_000.0
"""Wall-clock seconds of these days, so that rounding is what it is in earnest."""
ROUNDING = 1e-5


def lanes(limit: float, partitions: int) -> list[Pace]:
    """One pace for each partition."""
    return [Pace(share_of(limit, partitions=partitions, partition=number)) for number in range(partitions)]


def backlogged(paces: Sequence[Pace], phases: Sequence[float], seconds: float) -> list[float]:
    """When dials start if every lane always has one waiting; each lane comes to life at its phase."""
    turns = [(EPOCH + phase, number) for number, phase in enumerate(phases)]
    heapq.heapify(turns)
    starts: list[float] = []
    while turns[0][0] < EPOCH + seconds:
        now, number = heapq.heappop(turns)
        wait = paces[number].wait_seconds(now)
        if wait == 0:
            paces[number].started(now)
            starts.append(now)
        heapq.heappush(turns, (now + max(wait, 1e-6), number))
    return starts


def most_in_a_second(starts: Sequence[float]) -> int:
    """The most starts in any rolling second."""
    most = first = 0
    for last, start in enumerate(starts):
        while start - starts[first] > 1.0 - ROUNDING:
            first += 1
        most = max(most, last - first + 1)
    return most


# -- shares -----------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_the_shares_sum_to_the_limit(limit: int, partitions: int) -> None:
    """Whole calls a second are divided without a rest; with fewer calls than partitions each slot has one owner."""
    shares = [share_of(limit, partitions=partitions, partition=number) for number in range(partitions)]
    if limit >= partitions:
        assert sum(share.permits for share in shares) == limit
        assert max(share.permits for share in shares) - min(share.permits for share in shares) <= 1
    else:
        assert [share.own_slot for share in shares] == list(range(partitions))
        assert {(share.permits, share.slots) for share in shares} == {(0, partitions)}
        assert {share.slot_seconds for share in shares} == {TURN_SECONDS / limit}


@given(st.floats(0.001, 10_000), st.integers(1, 300))
def test_the_rates_never_pass_the_limit(limit: float, partitions: int) -> None:
    """In the long run all lanes together stay below it, whatever fraction it has."""
    assert sum(pace.per_second for pace in lanes(limit, partitions)) <= limit


# -- lanes with permits -----------------------------------------------------------------------------------------------------

loads = st.integers(1, 12).flatmap(
    lambda partitions: st.tuples(
        st.integers(partitions, 40), st.lists(st.floats(0, 3), min_size=partitions, max_size=partitions)
    )
)


@given(loads)
@example((10, [0.0]))
@example((7, [0.0, 0.5, 0.9, 1.4]))
def test_a_backlog_uses_the_limit_and_never_more(load: tuple[int, list[float]]) -> None:
    """With whole permits: in no rolling second more than the limit, in ten at least 95 % of it."""
    limit, phases = load
    starts = backlogged(lanes(limit, len(phases)), phases, 14)
    assert most_in_a_second(starts) <= limit
    steady = [start for start in starts if EPOCH + 3 <= start < EPOCH + 13]
    assert len(steady) >= 0.95 * limit * 10 - len(phases)


@given(loads, st.randoms(use_true_random=True))
def test_commands_that_come_as_they_like(load: tuple[int, list[float]], chance: random.Random) -> None:
    """Bursts, pauses, and dials that start later than they might: in no rolling second more than the limit."""
    limit, phases = load
    starts = [start for pace in lanes(limit, len(phases)) for start in _sporadic(pace, chance)]
    assert most_in_a_second(sorted(starts)) <= limit


def _sporadic(pace: Pace, chance: random.Random) -> list[float]:
    """A lane whose commands come now and then, and whose sleeps end late."""
    now, starts = EPOCH + chance.random(), []
    while now < EPOCH + 10:
        wait = pace.wait_seconds(now)
        if wait > 0:
            now += wait + chance.choice([0, 0, 0.001, 0.05])
            continue
        pace.started(now)
        starts.append(now)
        now += chance.choice([0, 0, 0, 0.01, 0.3, 1.5])
    return starts


@given(st.integers(1, 40), st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5]), min_size=1, max_size=9))
@example(30, [0.0, 0.0, 0.0, 0.2])
@example(8, [0.2, 0.0, 0.0, 0.0, 0.0])
def test_requests_that_leave_late(limit: int, lateness: list[float]) -> None:
    """Requests that leave some time after their dial was begun: of those that left, no second has more than the limit."""
    pace = Pace(share_of(limit, partitions=1, partition=0))
    late = itertools.cycle(lateness)
    left: list[float] = []
    coming: list[tuple[float, float]] = [(EPOCH, 0.0)]  # when, and of what is leaving when it was begun
    while coming[0][0] < EPOCH + 6:
        now, begun = heapq.heappop(coming)
        if begun:
            pace.delay(begun, now - begun)
            left.append(now)
            continue
        wait = pace.wait_seconds(now)
        if wait == 0:
            pace.started(now)
            heapq.heappush(coming, (now + next(late), now))
        heapq.heappush(coming, (now + max(wait, 1e-6), 0.0))
    assert most_in_a_second(left) <= limit
    assert len(left) >= limit * 2


def test_what_left_late_counts_from_then() -> None:
    """The one that was begun at that moment, or last before it; what was begun later than all that is known does nothing."""
    pace = Pace(share_of(2, partitions=1, partition=0))
    pace.delay(EPOCH, 5.0)
    assert pace.wait_seconds(EPOCH) == 0
    pace.started(EPOCH)
    pace.started(EPOCH + 0.5)
    pace.delay(EPOCH + 0.1, 0.2)  # a claim of EPOCH, whose dial was begun a little later
    assert pace.wait_seconds(EPOCH + 0.9) == pytest.approx(0.2 + WINDOW_SECONDS - 0.9, abs=ROUNDING)


def test_dials_are_spread_over_the_window() -> None:
    """No burst at the beginning of each second: two starts keep most of their even distance, late ones are made up for."""
    starts = backlogged(lanes(10, 1), [0.0], 5)
    distances = [after - before for before, after in itertools.pairwise(starts)]
    assert min(distances) >= 0.7 * WINDOW_SECONDS / 10 - ROUNDING

    late = Pace(share_of(10, partitions=1, partition=0))
    late.started(EPOCH)
    late.started(EPOCH + 0.3)
    assert late.wait_seconds(EPOCH + 0.3) == pytest.approx(0.7 * WINDOW_SECONDS / 10, abs=ROUNDING)


def test_the_first_dial_need_not_wait() -> None:
    """A lane that has not dialled starts at once."""
    assert Pace(share_of(1, partitions=1, partition=0)).wait_seconds(EPOCH) == 0


# -- lanes that take turns ---------------------------------------------------------------------------------------------------

few = st.integers(2, 24).flatmap(
    lambda partitions: st.tuples(
        st.integers(1, partitions - 1), st.lists(st.floats(0, 30), min_size=partitions, max_size=partitions)
    )
)


@given(few)
@example((1, [0.0, 0.0]))
@example((5, [0.0] * 6))
def test_turns_use_the_limit_and_never_more(load: tuple[int, list[float]]) -> None:
    """Fewer calls than partitions, each lane with a backlog: slots are taken by their owners, no second has too many."""
    limit, phases = load
    starts = backlogged(lanes(limit, len(phases)), phases, 105)
    steady = [start for start in starts if start >= EPOCH + 55]  # the first start of a lane may be late in its slot
    assert most_in_a_second(steady) <= limit
    assert len(steady) >= 0.95 * limit * 50 - 1


def test_turns_of_commands_that_come_as_they_like() -> None:
    """The same with a command that comes in the middle of a slot, and another in the next: less than a second apart."""
    paces = lanes(1, 2)
    slot = TURN_SECONDS * (EPOCH // (2 * TURN_SECONDS)) * 2
    for late in (0.2 * TURN_SECONDS, TURN_LATENESS_SECONDS - ROUNDING, ROUNDING):
        starts = [slot + late, slot + TURN_SECONDS + ROUNDING]
        allowed = [pace.wait_seconds(start) == 0 for pace, start in zip(paces, starts, strict=True)]
        assert allowed[1]
        assert allowed != [True, True] or most_in_a_second(starts) <= 1


@given(few, st.randoms(use_true_random=True))
def test_a_slot_is_taken_once_and_by_its_owner(load: tuple[int, list[float]], chance: random.Random) -> None:
    """Whenever commands come, a start lies in the first part of a slot that is the lane's, and no slot has two."""
    limit, phases = load
    for number, pace in enumerate(lanes(limit, len(phases))):
        slots = [divmod(start, TURN_SECONDS / limit) for start in _sporadic(pace, chance)]
        assert all(int(slot) % len(phases) == number for slot, _ in slots)
        assert all(into <= TURN_LATENESS_SECONDS + ROUNDING for _, into in slots)
        assert len({slot for slot, _ in slots}) == len(slots)


# -- a new owner --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.floats(0, 5), st.floats(0, 2), st.randoms(use_true_random=True))
def test_a_hand_over_never_passes_the_limit(limit: int, moment: float, gap: float, chance: random.Random) -> None:
    """A new owner that knows the claims goes on where the former one stopped: no second has more than the limit."""
    share = share_of(limit, partitions=1, partition=0)
    before = backlogged([Pace(share)], [0.0], moment)
    known = list(before)
    chance.shuffle(known)
    after = backlogged([Pace(share, known)], [moment + gap], moment + gap + 3)
    assert most_in_a_second(before + after) <= limit


def test_a_hand_over_in_the_middle_of_a_turn() -> None:
    """A slot that the former owner has used is not used again."""
    share = Share(0, slot_seconds=1.0, slots=2, own_slot=0)
    assert Pace(share).wait_seconds(EPOCH + 0.03) == 0
    assert Pace(share, [EPOCH - 7, EPOCH + 0.01]).wait_seconds(EPOCH + 0.03) == pytest.approx(1.97)
    assert Pace(share, [EPOCH - 2]).wait_seconds(EPOCH + 0.03) == 0


def handed_over(limit: int) -> list[float]:
    """Starts of two owners, of whom the second knows what the ledger's state remembers of the first."""
    share = share_of(limit, partitions=1, partition=0)
    before = backlogged([Pace(share)], [0.0], 0.9)
    state = LedgerState("new")
    for offset, start in enumerate(before):
        state.fold(sending(f"c{offset}", at_ms=int(start * 1000)), offset)
    recent = [claimed for claimed, _ in recent_dials(state, "demo")]
    return before + backlogged([Pace(share, recent)], [0.9], 3)


def test_the_ledger_remembers_enough_for_a_hand_over() -> None:
    """For a lane of 200 calls a second the claims that the state keeps are enough."""
    assert most_in_a_second(handed_over(200)) <= 200


def test_the_ledger_remembers_enough_for_a_fast_account() -> None:
    """The same for a lane of 1000 calls a second."""
    assert most_in_a_second(handed_over(1000)) <= 1000


@pytest.mark.parametrize("limit", [10, 1])
def test_a_clock_that_was_set_back_stops_nobody(limit: int) -> None:
    """However wrong the times of earlier claims are, nobody waits longer for them than a window."""
    pace = Pace(share_of(limit, partitions=1, partition=0), [EPOCH + 3600 - number for number in range(limit)])
    assert pace.wait_seconds(EPOCH) <= WINDOW_SECONDS
