"""No command is dialled twice, whatever happens in whichever order: every state of some small worlds is looked at."""

from __future__ import annotations

import pytest

from tests.model.scenarios import LARGE, LIVE, LIVE_TOO, MORE, NORMAL, Scenario, look_at, stuck_in


def _named(scenario: Scenario) -> str:
    return scenario.name


@pytest.mark.parametrize("scenario", NORMAL, ids=_named)
def test_holds_in_every_state(scenario: Scenario) -> None:
    """The invariants hold; the print says how much was looked at."""
    explored = look_at(scenario)
    print(f"\n{scenario.name}: {explored}")
    assert explored.broken is None, str(explored)


@pytest.mark.skipif(not LARGE, reason="MODEL_BOUND=large")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", MORE, ids=_named)
def test_holds_in_larger_worlds(scenario: Scenario) -> None:
    """The same, for those who have the time."""
    test_holds_in_every_state(scenario)


@pytest.mark.parametrize("scenario", LIVE, ids=_named)
def test_every_command_comes_to_a_result(scenario: Scenario) -> None:
    """From every state, if nothing goes wrong any more: with the present owner, and with a fresh one."""
    explored, stuck = stuck_in(scenario)
    print(f"\n{scenario.name}: {explored}")
    assert not stuck, stuck


@pytest.mark.skipif(not LARGE, reason="MODEL_BOUND=large")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", LIVE_TOO, ids=_named)
def test_every_command_comes_to_a_result_in_larger_worlds(scenario: Scenario) -> None:
    """The same, for those who have the time."""
    test_every_command_comes_to_a_result(scenario)
