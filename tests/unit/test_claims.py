"""Claims on unasked actions: the first one in the log takes it, if it is read back soon."""

from __future__ import annotations

import json

from bridge.actions.claims import Claims
from bridge.actions.given import Given, read_given
from bridge.bus.protocol import Record


def given(offset: int) -> Given:
    """An unasked action."""
    return read_given(Record("a", 3, offset, b"demo/s", json.dumps({"actions": []}).encode()), max_bytes=1000)


def test_the_first_one_takes_it() -> None:
    """Once; a second claim of the same replica is nothing."""
    claims, action = Claims(valid_seconds=0.25), given(7)
    claims.begin(action, "t", 0.0)
    assert claims.read("3-7", "t", 0.1) is action
    assert claims.read("3-7", "t", 0.1) is None


def test_somebody_elses_came_first() -> None:
    """Then ours is of no use, in whatever order ours was begun; of another partition it says nothing."""
    claims = Claims(valid_seconds=0.25)
    claims.begin(given(7), "t", 0.0)
    assert claims.read("3-7", "another's", 0.1) is None
    assert claims.read("3-7", "t", 0.1) is None
    assert claims.read("3-8", "another's", 0.1) is None
    claims.begin(given(8), "t", 0.0)
    assert claims.read("3-8", "t", 0.1) is None
    claims.begin(given(9), "t", 0.0)
    assert claims.read("4-9", "another's", 0.1) is None
    assert claims.read("3-9", "t", 0.1) is not None


def test_too_late() -> None:
    """The keeper may have begun something else."""
    claims = Claims(valid_seconds=0.25)
    claims.begin(given(7), "t", 0.0)
    assert claims.read("3-7", "t", 0.26) is None


def test_bounded() -> None:
    """What is not read back is forgotten."""
    claims = Claims(valid_seconds=0.25, max_claims=2)
    for offset in range(3):
        claims.begin(given(offset), "t", 0.0)
    assert claims.read("3-0", "t", 0.1) is None
    assert claims.read("3-2", "t", 0.1) is not None
