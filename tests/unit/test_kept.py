"""What a process keeps of partitions that it lost: for how long, how much, and given out once."""

from __future__ import annotations

from bridge.ledger.kept import KeepSettings, Kept
from bridge.ledger.records import Fence
from bridge.ledger.state import LedgerState
from tests.support.clock import NOON, HandClock
from tests.support.ledger_values import sending, settled


def knowing(*command_ids: str) -> LedgerState:
    """What a lane knows that has read a claim of each of these."""
    state = LedgerState("me")
    state.fold(Fence("me", 7), 0)
    for offset, command_id in enumerate(command_ids, start=1):
        state.fold(sending(command_id, epoch=0), offset)
    return state


def kept(clock: HandClock, **settings: float) -> Kept:
    """A store for a minute."""
    return Kept(KeepSettings(**{"keep_seconds": 60.0, **settings}), clock)  # type: ignore[arg-type]


def test_it_is_given_out_once() -> None:
    """To whoever gets the partition back, and to nobody else."""
    store, state = kept(HandClock()), knowing("a")
    store.put(3, state)
    assert store.take(4) is None
    assert store.take(3) is state
    assert store.take(3) is None


def test_it_is_kept_for_so_long() -> None:
    """By either clock: the one that moves only forward stands still while the machine sleeps."""
    clock = HandClock()
    store = kept(clock)
    for _ in range(2):
        store.put(3, knowing("a"))
        clock.advance(59.9)
        store.put(4, knowing("b"))
        assert store.take(3) is not None
        clock.advance(60.0)
        assert store.take(4) is None
    store.put(3, knowing("a"))
    clock.at = NOON.replace(year=NOON.year + 1)
    assert store.take(3) is None


def test_it_is_forgotten_without_being_asked_for() -> None:
    """Memory is given back when the time is over."""
    clock = HandClock()
    store = kept(clock)
    store.put(3, knowing("a", "b"))
    assert (len(store), store.entries) == (1, 2)
    clock.advance(60.0)
    store.forget()
    assert (len(store), store.entries) == (0, 0)


def test_it_is_bounded() -> None:
    """Of too much, what was lost first goes first; what is too much alone is not kept."""
    store = kept(HandClock(), max_entries=3)
    store.put(1, knowing("a", "b"))
    store.put(2, knowing("c"))
    store.put(3, knowing("d"))
    assert [store.take(each) is None for each in (1, 2, 3)] == [True, False, False]
    store.put(1, knowing("a", "b", "c", "d"))
    assert len(store) == 0


def test_nothing_is_kept_for_no_time() -> None:
    """Zero seconds turn it off."""
    store = kept(HandClock(), keep_seconds=0.0)
    store.put(1, knowing("a"))
    assert store.take(1) is None


def test_in_the_hands_of_a_new_owner() -> None:
    """The knowledge stays, the right to act on it does not: the old fence is one to clean up, the epoch is to come."""
    state = LedgerState("again", knowing("a"))
    assert (state.owner, state.epoch, state.next_offset) == ("again", -1, 2)
    assert state.take_old_fences(8) == [b"fence/me"]
    state.fold(Fence("again", 9), 5)
    state.fold(settled("a", epoch=0), 6)
    assert state.epoch == 5
    assert state.entries["a"].owed  # its writer is a former owner, though in the same process
    assert state.take_old_fences(100) == []
