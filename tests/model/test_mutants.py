"""The exploration sees what it is there to see: with a rule taken out, it finds the way to a second call."""

from __future__ import annotations

import pytest

from tests.model.explore import Exploration
from tests.model.mutants import GUARDED, MUTANTS, Mutant
from tests.model.scenarios import Scenario, look_at


def _explored(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> Exploration:
    for owner, name, value in mutant.patches:
        monkeypatch.setattr(owner, name, value)
    return look_at(Scenario(mutant.name, mutant.bounds, frozenset({mutant.breaks})), mutant.rules)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_found_out(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """It breaks the promise; the print shows the shortest way there."""
    explored = _explored(mutant, monkeypatch)
    print(f"\n{mutant.name}: {explored}")
    assert explored.broken == mutant.breaks


@pytest.mark.parametrize("mutant", GUARDED, ids=lambda mutant: mutant.name)
def test_second_line_holds(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two rules say the same, one may fail."""
    explored = _explored(mutant, monkeypatch)
    print(f"\n{mutant.name}: {explored}")
    assert explored.broken is None, str(explored)
