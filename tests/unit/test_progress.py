"""How far each topic may be committed, so that whoever reads on from there knows everything again."""

from __future__ import annotations

from bridge.actions.progress import Progress


def test_actions_up_to_the_first_without_a_verdict() -> None:
    """In whatever order the verdicts come, and each offset once."""
    progress = Progress()
    for offset in (3, 4, 5):
        progress.actions.started(offset)
    progress.actions.finished(4)
    assert progress.committable([])["actions"] == 3
    progress.committed({"actions": 3})
    assert "actions" not in progress.committable([])
    progress.actions.finished(3)
    assert progress.committable([])["actions"] == 5


def test_a_verdict_stays_until_its_action_is_committed() -> None:
    """Or an action that is read again would get a second one: a confirmed commit, not a finished action."""
    progress = Progress()
    progress.actions.started(0)
    progress.actions.started(1)
    progress.result(10, 1)
    progress.result(11, 0)
    for offset in (0, 1):
        progress.actions.finished(offset)
    found = progress.committable([])
    assert found == {"actions": 2, "results": 10}
    progress.committed(found)
    assert progress.committable([]) == {"results": 12}


def test_what_others_need_is_held_back() -> None:
    """Events by their sessions and whoever watches, deliveries by the questions that they answered."""
    progress = Progress()
    progress.event(20)
    progress.result(30, None)
    assert progress.committable([None, 15, 18], [29, None]) == {"events": 15, "results": 29}
    progress.committed({"events": 15, "results": 29})
    assert progress.committable([15], [29]) == {}
    assert progress.committable([None], [None]) == {"events": 21, "results": 31}


def test_nothing_was_read() -> None:
    """Nothing may be said then."""
    assert Progress().committable([], []) == {}
