"""Accounts and gates: who waits here, who comes back later, and what a provider's silence does to its own commands only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands.accounts import Account, AccountSettings, Gate
from bridge.commands.pacing import WINDOW_SECONDS
from bridge.model.outcome import Accepted, NotSent, NotSentReason, Outcome, Refused, Unknown
from bridge.providers.settings import AccountLimits
from tests.support.clock import HandClock

DOWN = NotSent("connection_refused")
SETTINGS = AccountSettings(partitions=1, first_pause_seconds=1.0, longest_pause_seconds=30.0, inline_delay_seconds=2.0)


@pytest.fixture
def clock() -> HandClock:
    """Time in the test's hand."""
    return HandClock()


def account(clock: HandClock, *, settings: AccountSettings = SETTINGS, **limits: float) -> Account:
    """An account without limits, unless some are named."""
    return Account("demo", AccountLimits(**limits), settings, clock)  # type: ignore[arg-type]


def gate(held: Account, *, partition: int = 0, recent: Sequence[tuple[float, float | None]] = ()) -> Gate:
    """A lane's way to it."""
    return Gate(held, partition=partition, recent=recent)


def pause_of(held: Account) -> float:
    """How long the account is paused from now on."""
    return max(0.0, held.paused_until - held.now())


def seconds_from_now(clock: HandClock, moment: float | None) -> float:
    """Small enough to be compared with care; a moment there must be."""
    assert moment is not None
    return moment - clock.now().timestamp()


# -- pausing and going on ---------------------------------------------------------------------------------------------------


def test_pauses_double(clock: HandClock) -> None:
    """Each failure after a pause doubles the next one, up to the longest."""
    held = account(clock)
    pauses = []
    for _ in range(7):
        held.heard(DOWN)
        pauses.append(pause_of(held))
        clock.advance(pause_of(held))
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])


def test_failures_under_way_are_one(clock: HandClock) -> None:
    """Dials that fail while the account is paused already began before it was: they say nothing new."""
    held = account(clock)
    for _ in range(50):
        held.heard(DOWN)
    assert pause_of(held) == pytest.approx(1.0)


@pytest.mark.parametrize("outcome", [Accepted(), Refused("busy"), Unknown("timeout"), Unknown("server_error")])
def test_an_answer_of_any_kind_ends_the_pause(clock: HandClock, outcome: Outcome) -> None:
    """The provider was reached: the account takes calls, and the next pause is the first one again."""
    held = account(clock)
    held.heard(DOWN)
    clock.advance(1.0)
    held.heard(DOWN)
    held.heard(outcome)
    assert pause_of(held) == 0
    held.heard(DOWN)
    assert pause_of(held) == pytest.approx(1.0)


def test_what_was_not_tried_says_nothing(clock: HandClock) -> None:
    """A dial that we did not make ourselves is no sign of the provider's health, good or bad."""
    held = account(clock)
    held.heard(NotSent("not_tried"))
    assert pause_of(held) == 0
    held.heard(DOWN)
    held.heard(NotSent("not_tried"))
    assert pause_of(held) == pytest.approx(1.0)


@pytest.mark.parametrize("reason", ["rate_limited", "connect_timeout", "tls_failed", "pool_timeout"])
def test_every_proof_of_nothing_sent_pauses(clock: HandClock, reason: NotSentReason) -> None:
    """Whatever kept the request from leaving keeps the next one too, for a while."""
    held = account(clock)
    held.heard(NotSent(reason))
    assert pause_of(held) == pytest.approx(1.0)


def test_retry_after_is_kept(clock: HandClock) -> None:
    """What the provider asked for is waited for, though it be longer than our longest pause, and amid another pause."""
    held = account(clock)
    held.heard(DOWN)
    held.heard(NotSent("rate_limited", retry_after_seconds=120.0))
    assert pause_of(held) == pytest.approx(120.0)
    held.heard(NotSent("rate_limited", retry_after_seconds=5.0))
    assert pause_of(held) == pytest.approx(120.0)


def test_retry_after_has_an_end(clock: HandClock) -> None:
    """One answer that asks for a day does not silence the account for a day: it is asked again after the longest."""
    settings = msgspec.structs.replace(SETTINGS, longest_retry_after_seconds=300.0)
    held = account(clock, settings=settings)
    held.heard(NotSent("rate_limited", retry_after_seconds=86_400.0))
    assert pause_of(held) == pytest.approx(300.0)
    assert held.paused_seconds() == pytest.approx(300.0)
    clock.advance(301.0)
    assert held.paused_seconds() == 0
    assert gate(held).come_back(due=True) is None
    held.heard(NotSent("rate_limited", retry_after_seconds=299.0))
    assert pause_of(held) == pytest.approx(299.0)


# -- coming back ----------------------------------------------------------------------------------------------------------------


def test_nobody_is_sent_away_without_reason(clock: HandClock) -> None:
    """A lane with nothing to do and a healthy account lets every command wait here."""
    way = gate(account(clock, calls_per_second=10, calls_in_flight=10))
    assert way.come_back(due=False) is None
    assert way.come_back(due=True) is None


def test_a_short_pause_is_waited_for_here(clock: HandClock) -> None:
    """Up to the inline delay nobody is sent into the ledger; for a longer one everybody is, until its end."""
    held = account(clock)
    way = gate(held)
    held.heard(NotSent("rate_limited", retry_after_seconds=2.0))
    assert way.come_back(due=False) is None
    held.heard(NotSent("rate_limited", retry_after_seconds=2.1))
    assert way.come_back(due=False) == held.paused_until
    assert seconds_from_now(clock, way.come_back(due=True)) == pytest.approx(2.105, abs=1e-6)


def test_those_sent_away_come_back_in_order_at_the_lanes_pace(clock: HandClock) -> None:
    """Each gets a time of its own, later than the one before by the pace, whatever is asked meanwhile."""
    held = account(clock, calls_per_second=5)
    way = gate(held)
    held.heard(NotSent("rate_limited", retry_after_seconds=60.0))
    times = []
    for _ in range(20):
        back = way.come_back(due=False)
        assert back is not None
        times.append(back)
        clock.advance(0.5)
    assert times[0] == held.paused_until
    assert [after - before for before, after in pairwise(times)] == pytest.approx([WINDOW_SECONDS / 5] * 19, abs=1e-5)


def test_nobody_overtakes_those_who_were_sent_away(clock: HandClock) -> None:
    """While some are still to come back, a new command goes behind them and one that has come back does not."""
    held = account(clock, calls_per_second=5)
    way = gate(held)
    held.heard(NotSent("rate_limited", retry_after_seconds=10.0))
    back = way.come_back(due=False)
    assert back is not None
    held.heard(Accepted())

    behind = way.come_back(due=False)
    assert behind is not None
    assert behind > back
    assert way.come_back(due=True) is None
    clock.advance(behind - held.now())
    assert way.come_back(due=False) is None


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=40))
def test_times_to_come_back_only_rise(steps: list[tuple[float, bool, bool]]) -> None:
    """Whatever happens to the account, no two commands of a lane get the same time, and none one in the past."""
    clock = HandClock()
    held = account(clock, calls_per_second=3)
    way = gate(held)
    times: list[float] = []
    for seconds, due, fails in steps:
        clock.advance(seconds)
        held.heard(NotSent("rate_limited", retry_after_seconds=7.0) if fails else Accepted())
        back = way.come_back(due=due)
        if back is not None:
            assert back >= held.now()
            times.append(back)
    assert all(after > before for before, after in pairwise(times))


# -- turns ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_crowd_is_sent_away_by_its_length(clock: HandClock) -> None:
    """When those who wait would take longer than the inline delay at the lane's pace, the next is sent away."""
    way = gate(account(clock, calls_per_second=10, calls_in_flight=1))
    entered: list[int] = []
    leave = anyio.Event()

    async def take(number: int) -> None:
        async with way.turn():
            entered.append(number)
            await leave.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, 0)
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 6):
            assert way.come_back(due=False) is None
            tasks.start_soon(take, number)
            await anyio.wait_all_tasks_blocked()
        assert entered == [0]
        back = way.come_back(due=False)  # five wait for one place, and a dial takes half a second
        assert seconds_from_now(clock, back) == pytest.approx(SETTINGS.inline_delay_seconds, abs=1e-3)
        tasks.cancel_scope.cancel()
    clock.advance(60)
    assert way.come_back(due=False) is None


@pytest.mark.anyio
async def test_turns_are_taken_in_order_and_places_are_kept(clock: HandClock) -> None:
    """No more than the places are inside at once, and those outside come in as they came."""
    way = gate(account(clock, calls_in_flight=2))
    entered: list[int] = []
    leave = [anyio.Event() for _ in range(6)]

    async def take(number: int) -> None:
        async with way.turn():
            entered.append(number)
            await leave[number].wait()

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(take, number)
            await anyio.wait_all_tasks_blocked()
        assert entered == [0, 1]
        for number in range(6):
            leave[number].set()
            await anyio.wait_all_tasks_blocked()
            assert entered == list(range(min(6, number + 3)))


@pytest.mark.anyio
async def test_places_are_shared_by_the_lanes_of_a_replica(clock: HandClock) -> None:
    """What one lane holds of the account's places another cannot have, and gets when it is given back."""
    settings = AccountSettings(partitions=2, max_in_flight=1)
    held = account(clock, settings=settings)
    first, second = gate(held, partition=0), gate(held, partition=1)
    inside = anyio.Event()

    async def take() -> None:
        async with second.turn():
            inside.set()

    async with anyio.create_task_group() as tasks:
        async with first.turn():
            tasks.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            assert not inside.is_set()
        with anyio.fail_after(5):
            await inside.wait()


@pytest.mark.anyio
async def test_a_turn_that_fails_or_is_given_up_leaves_nothing(clock: HandClock) -> None:
    """After an error inside and a cancellation outside, the place is free and nobody is thought to wait."""
    way = gate(account(clock, calls_in_flight=1))
    with pytest.raises(ZeroDivisionError):
        async with way.turn():
            raise ZeroDivisionError
    async with way.turn():
        for _ in range(10):
            with anyio.move_on_after(0) as given_up:
                async with way.turn():
                    pytest.fail("two at once")
            assert given_up.cancelled_caught
    assert way.come_back(due=False) is None
    with anyio.fail_after(5):
        async with way.turn():
            pass


@given(st.integers(1, 200), st.integers(1, 40))
def test_the_places_sum_to_the_limit(limit: int, partitions: int) -> None:
    """Calls in flight are divided over the partitions without a rest."""
    clock = HandClock()
    held = account(clock, settings=AccountSettings(partitions=partitions, max_in_flight=1000), calls_in_flight=limit)
    parts = [gate(held, partition=number)._share_in_flight for number in range(partitions)]
    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


@pytest.mark.anyio
async def test_a_new_owner_waits_for_what_the_former_one_dialled() -> None:
    """The times of earlier claims fill the window: the first turn here comes when theirs is over."""
    clock = HandClock()
    now = clock.now().timestamp()
    held = account(clock, calls_per_second=2)
    full, empty = gate(held, recent=[(now - 0.99, None), (now - 0.98, None)]), gate(held)
    entered: dict[str, anyio.Event] = {"full": anyio.Event(), "empty": anyio.Event()}

    async def take(name: str, way: Gate) -> None:
        async with way.turn():
            entered[name].set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, "full", full)
        tasks.start_soon(take, "empty", empty)
        with anyio.fail_after(5):
            await entered["empty"].wait()
            assert not entered["full"].is_set()
            clock.advance(WINDOW_SECONDS)
            await entered["full"].wait()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("known", "wait"),
    [(None, WINDOW_SECONDS), (-0.6, WINDOW_SECONDS - 0.6), (-0.1, WINDOW_SECONDS - 0.1), (0.0, WINDOW_SECONDS)],
)
async def test_a_former_owners_request_left_before_its_end_was_known(known: float | None, wait: float) -> None:
    """A claim of 0.7 s ago: its request left when its end was known, at the latest; until that is known, now."""
    clock = HandClock()
    now = clock.now().timestamp()
    way = gate(account(clock, calls_per_second=1), recent=[(now - 0.7, None if known is None else now + known)])
    clock.advance(wait - 0.02)
    with anyio.move_on_after(0.01) as waited:
        await way.dial_now()
    assert waited.cancelled_caught
    clock.advance(0.04)
    with anyio.fail_after(5):
        await way.dial_now()


@pytest.mark.anyio
async def test_a_former_owners_request_left_soon(clock: HandClock) -> None:
    """A dial that takes a minute left its request at the beginning: the window is not held up by what is long gone."""
    now = clock.now().timestamp()
    way = gate(account(clock, calls_per_second=1), recent=[(now - 50.0, None), (now - 40.0, now - 1.0)])
    with anyio.fail_after(5):
        await way.dial_now()


@pytest.mark.anyio
async def test_a_turn_waits_for_the_end_of_a_pause() -> None:
    """While the provider wants us to be slower nobody claims; when the pause is over the turn is taken."""
    clock = HandClock()
    held = account(clock, settings=AccountSettings(partitions=1, first_pause_seconds=0.02))
    way = gate(held)
    held.heard(DOWN)
    with anyio.move_on_after(0.001) as paused:
        async with way.turn():
            pytest.fail("amid the pause")
    assert paused.cancelled_caught
    with anyio.fail_after(5):
        async with way.turn():
            pass


@pytest.mark.anyio
async def test_dials_keep_a_pace_of_their_own() -> None:
    """Claims that were acknowledged together do not leave together: the second dial waits for its distance."""
    clock = HandClock()
    way = gate(account(clock, calls_per_second=50))
    started: list[float] = []

    async def dial() -> None:
        way.left(await way.dial_now())
        started.append(clock.monotonic())

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(dial)
        await anyio.wait_all_tasks_blocked()
        assert started == [0.0]
        clock.advance(1.0)
    assert started == [0.0, 1.0]


@pytest.mark.anyio
async def test_long_dials_make_long_waits(clock: HandClock) -> None:
    """The more time a dial was seen to take, the fewer may wait here for a place."""
    way = gate(account(clock, calls_in_flight=1))
    for _ in range(50):
        way.took(10.0)
    leave = anyio.Event()

    async def take() -> None:
        async with way.turn():
            await leave.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            assert way.come_back(due=True) is None
            tasks.start_soon(take)
            await anyio.wait_all_tasks_blocked()
        assert way.come_back(due=True) is not None
        leave.set()


@pytest.mark.anyio
async def test_a_dial_counts_from_when_its_request_left() -> None:
    """What left late keeps the next claim and the next dial at their distance from then; without limits nobody counts."""
    clock = HandClock()
    way, free = gate(account(clock, calls_per_second=1)), gate(account(clock))
    async with way.turn():
        begun = await way.dial_now()
    clock.advance(0.6)
    way.left(begun)
    free.left(await free.dial_now())
    clock.advance(WINDOW_SECONDS - 0.1)  # long enough since it was begun, and not since it left
    for wait in (way.dial_now, way.turn().__aenter__):
        with anyio.move_on_after(0.01) as waited:
            await wait()
        assert waited.cancelled_caught
    clock.advance(0.2)
    with anyio.fail_after(5):
        await way.dial_now()


@pytest.mark.anyio
async def test_what_has_not_left_may_leave_now() -> None:
    """A dial whose connection takes longer than a window stays in it, and counts from when its request leaves."""
    clock = HandClock()
    way = gate(account(clock, calls_per_second=1))
    begun = await way.dial_now()
    for seconds in (WINDOW_SECONDS, WINDOW_SECONDS + 0.5, 0.3):
        clock.advance(seconds)
        with anyio.move_on_after(0.01) as waited:
            await way.dial_now()
        assert waited.cancelled_caught
    way.left(begun)
    clock.advance(WINDOW_SECONDS - 0.1)
    with anyio.move_on_after(0.01) as waited:
        await way.dial_now()
    assert waited.cancelled_caught
    clock.advance(0.2)
    with anyio.fail_after(5):
        await way.dial_now()


@pytest.mark.anyio
async def test_what_is_over_does_not_leave_any_more() -> None:
    """A dial that came to its end without a request gives its place in the window back, after a window."""
    clock = HandClock()
    way = gate(account(clock, calls_per_second=1))
    begun = await way.dial_now()
    clock.advance(30.0)
    with anyio.move_on_after(0.01) as waited:
        await way.dial_now()
    assert waited.cancelled_caught
    way.over(begun)
    clock.advance(WINDOW_SECONDS + 0.01)
    with anyio.fail_after(5):
        await way.dial_now()
