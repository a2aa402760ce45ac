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


class Broke(Exception):
    """What was expected: anything else that goes wrong here is an error."""


CALLED: tuple[tuple[OutcomeName, ...], ...] = (("accepted", "unknown"),)

FAULTS = (
    (
        Scenario("a doubt that was hidden", Bounds(owners=2, hears=True, attempts=1), frozenset({judge.ONE_ID})),
        (
            "`unsure` is written twice, owed and paid: the second, stored behind the next owner's fence, lets compaction "
            "take the first, and that owner publishes what a webhook tells under the id of call.unknown."
        ),
    ),
    (
        Scenario(
            "a decision paid behind a contested claim",
            Bounds(attempts=1, unconfigured=frozenset({0})),
            frozenset({judge.ONE_ID}),
        ),
        (
            "An end without a dial that stands in front of a contested claim is written again behind it, to be paid: once "
            "compaction has taken the first, the next owner takes the second for void, and publishes call.unknown."
        ),
    ),
    (
        Scenario("refusal over a hidden claim", Bounds(owners=2, expires=True, copies=1), frozenset({judge.DENIAL})),
        (
            "A refusal for want of an owner (`Settlement.give_up`) is not judged by its gap as other ends without a dial "
            "are: a late copy of a former owner's next claim in it, of which compaction has taken the original, is folded "
            "and the refusal published nevertheless."
        ),
    ),
)

STUCK = (
    (
        Scenario("an end that was hidden", Bounds(owners=2, copies=1, attempts=1, outcomes=CALLED)),
        (
            "An owner that did not see the end of a command (a late copy behind its fence, the original compacted away) is "
            "done with it once it doubts it; the next owner sees original and copy, and takes neither for owed."
        ),
    ),
)


def _params(faults: tuple[tuple[Scenario, str], ...]) -> list[object]:
    return [
        pytest.param(scenario, id=scenario.name, marks=pytest.mark.xfail(strict=True, reason=reason, raises=Broke))
        for scenario, reason in faults
    ]


@pytest.mark.parametrize("scenario", _params(FAULTS))
def test_holds(scenario: Scenario) -> None:
    """It should."""
    explored = look_at(scenario)
    print(f"\n{scenario.name}: {explored}")
    if explored.broken is not None:
        raise Broke(str(explored))


@pytest.mark.parametrize("scenario", _params(STUCK))
def test_comes_to_a_result(scenario: Scenario) -> None:
    """It should."""
    explored, stuck = stuck_in(scenario)
    print(f"\n{scenario.name}: {explored}\n{stuck}")
    if stuck:
        raise Broke(stuck)
