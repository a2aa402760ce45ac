"""Which offset may be committed: never one behind which something is unfinished, and always as far as possible."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from bridge.bus.watermark import Watermark


class Naive:
    """The same by definition, over everything that ever happened."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.finished: set[int] = set()
        self.confirmed: int | None = None

    @property
    def committable(self) -> int | None:
        """The first unfinished offset, else the one behind the last, unless it is confirmed already."""
        unfinished = [offset for offset in self.started if offset not in self.finished]
        position = unfinished[0] if unfinished else self.started[-1] + 1 if self.started else None
        return None if position == self.confirmed else position


@given(st.lists(st.integers(0, 5), max_size=40), st.randoms(use_true_random=False))
def test_against_the_definition(gaps: list[int], chance: random.Random) -> None:
    """Offsets with gaps, started in order and finished and committed in any: always what the definition says."""
    mark, naive = Watermark(), Naive()
    waiting: list[int] = []
    offset = chance.randrange(100)
    for gap in gaps:
        offset += gap + 1
        mark.started(offset)
        naive.started.append(offset)
        waiting.append(offset)
        while waiting and chance.random() < 0.6:
            done = waiting.pop(chance.randrange(len(waiting)))
            mark.finished(done)
            naive.finished.add(done)
            assert mark.committable == naive.committable
        assert mark.committable == naive.committable
        assert mark.in_progress == len(waiting)
        if mark.committable is not None and chance.random() < 0.3:
            naive.confirmed = mark.committable
            mark.committed(mark.committable)
            assert mark.committable is None
    for done in waiting:
        mark.finished(done)
        naive.finished.add(done)
        assert mark.committable == naive.committable
    assert mark.in_progress == 0


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_never_past_what_is_unfinished(done: list[bool]) -> None:
    """Whatever is finished, the offset to commit is at most the first unfinished one: a crash loses nothing."""
    mark = Watermark()
    for offset in range(len(done)):
        mark.started(offset)
    for offset in (each for each, finished in enumerate(done) if finished):
        mark.finished(offset)
    expected = done.index(False) if False in done else len(done)
    assert mark.committable == expected


def test_nothing_to_commit_before_the_first_record() -> None:
    """A partition that gave nothing commits nothing, and neither does one whose commit was confirmed."""
    mark = Watermark()
    assert (mark.committable, mark.in_progress) == (None, 0)
    mark.started(7)
    assert (mark.committable, mark.in_progress) == (7, 1)
    mark.committed(7)
    assert mark.committable is None
    mark.finished(7)
    assert mark.committable == 8


def test_a_late_confirmation_does_not_go_back() -> None:
    """Confirmations may come out of order; the highest one counts."""
    mark = Watermark()
    for offset in (1, 2, 3):
        mark.started(offset)
        mark.finished(offset)
    mark.committed(4)
    mark.committed(2)
    assert mark.committable is None
