"""Faults that the exploration has found and that are not mended yet: each a world in which something does break.

A fault that is mended makes its test pass, which is an error here (`xfail_strict`): then its world belongs to
`scenarios.NORMAL`, or its test goes.
"""

from __future__ import annotations

import pytest

from tests.model import judge
from tests.model.scenarios import Scenario, look_at, stuck_in
from tests.model.scripts import OutcomeName
from tests.model.world import Bounds

CALLED: tuple[tuple[OutcomeName, ...], ...] = (("accepted", "unknown"),)

FAULTS = (
    (
        Scenario("late expiry", Bounds(owners=2, expires=True, attempts=1), frozenset({judge.DENIAL})),
        (
            "An owner that was succeeded without noticing finds a command of its backlog expired: settled/0, stored behind "
            "the present owner's claim, makes the command finished, and call.expired is published though it was dialled."
        ),
    ),
    (
        Scenario(
            "late cancel",
            Bounds(owners=2, attempts=1, defers=True, cancels=True, outcomes=CALLED),
            frozenset({judge.DENIAL}),
        ),
        "The same with a cancellation.",
    ),
    (
        Scenario(
            "old configuration",
            Bounds(attempts=1, unconfigured=frozenset({0}), outcomes=(("accepted",),)),
            frozenset({judge.CONTRADICTION}),
        ),
        "The same with a refusal, by an owner whose configuration lacks the connection: initiated and refused.",
    ),
    (
        Scenario("duplicate before a look", Bounds(owners=2), frozenset({judge.ONE_ID})),
        (
            "call.unknown is published although the gap in front of `unsure` told the end; a duplicate of the command then "
            "publishes that end under the same id."
        ),
    ),
    (
        Scenario("expiry behind a hidden claim", Bounds(owners=2, expires=True, copies=1), frozenset({judge.DENIAL})),
        (
            "An end without a dial is not judged by its gap as a claim is: a late copy of a former owner's claim in it, of "
            "which compaction has taken the original, is folded and call.expired is published nevertheless."
        ),
    ),
    (
        Scenario(
            "swept before it was due",
            Bounds(owners=2, attempts=1, defers=True, cancels=True, sweeps=1, outcomes=CALLED),
            frozenset({judge.DOUBT}),
        ),
        (
            "The sweep erases the end of a cancelled command before its deferral: who sees only the first tombstone, as "
            "when a batch is stored in part, dials when the time comes."
        ),
    ),
)

STUCK = (
    (
        Scenario("proof without an owner", Bounds(owners=2, outcomes=(("not_sent",),))),
        (
            "A command that is done with (in doubt, offset committed) and then proven not sent by its former owner is free "
            "in the eyes of the next owner, and nobody brings it back: it never gets a result."
        ),
    ),
)


def _params(faults: tuple[tuple[Scenario, str], ...]) -> list[object]:
    return [
        pytest.param(
            scenario, id=scenario.name, marks=pytest.mark.xfail(strict=True, reason=reason, raises=AssertionError)
        )
        for scenario, reason in faults
    ]


@pytest.mark.parametrize("scenario", _params(FAULTS))
def test_holds(scenario: Scenario) -> None:
    """It should."""
    explored = look_at(scenario)
    print(f"\n{scenario.name}: {explored}")
    assert explored.broken is None, str(explored)


@pytest.mark.parametrize("scenario", _params(STUCK))
def test_comes_to_a_result(scenario: Scenario) -> None:
    """It should."""
    explored, stuck = stuck_in(scenario)
    print(f"\n{scenario.name}: {explored}\n{stuck}")
    assert not stuck, stuck
