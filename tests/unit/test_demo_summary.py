"""The demo's table: it agrees when everything happened, and whatever did not happen makes a row that does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from bridge.demo import summary
from bridge.demo.plays import PLAYS, Play
from bridge.demo.story import Story
from bridge.model.results import CallInitiated
from bridge.runtime.settings import Topics

SEEN = {"counts": {"received": 1, "placed": 1}, "webhooks": [{"latency_seconds": 0.01, "status": 200}] * 3}


def facts(play: Play) -> dict[str, int]:
    """What the story counts when all went well."""
    asked, unasked = 2 * play.is_asked, 1 * play.is_unasked
    acted = asked + unasked
    return {
        "events": 4,
        "events.ours": 4,
        "questions": asked,
        "delivered.answer": asked,
        "actions.unasked": unasked,
        "delivered.control": unasked,
        "actions": acted,
        "verdicts.delivered": acted,
    }


def bad_rows(play: Play, counts: Mapping[str, int], seen: object = SEEN, *, has_result: bool = True) -> list[str]:
    """The rows that do not agree."""
    story = Story(Topics(), command_id="c-1")
    story.counts.update(counts)
    if has_result:
        story.results["c-1"] = CallInitiated(
            command_id="c-1",
            call_id="call_1",
            connection="demo",
            provider="any",
            attempts=1,
            settled_by="answer",
            accepted_at=datetime(2026, 1, 31, tzinfo=UTC),
        )
    rows = summary.rows(story, msgspec.convert(seen, summary.Seen), command_id="c-1", play=play)
    return [row.what for row in rows if not row.is_good]


@pytest.mark.parametrize("name", PLAYS)
def test_all_went_well(name: str) -> None:
    """Every row agrees."""
    assert bad_rows(PLAYS[name], facts(PLAYS[name])) == []


@pytest.mark.parametrize("name", PLAYS)
def test_whatever_is_missing_is_seen(name: str) -> None:
    """One fact fewer, of those that this play has, and a row says so."""
    play = PLAYS[name]
    for fact, count in facts(play).items():
        if count:
            fewer = {**facts(play), fact: count - 1}
            assert bad_rows(play, fewer), fact


@pytest.mark.parametrize("name", PLAYS)
def test_what_should_not_be_is_seen(name: str) -> None:
    """A second dial, a webhook that was not taken, no result; and a question where none can be."""
    play = PLAYS[name]
    good = facts(play)
    assert bad_rows(play, good, {**SEEN, "counts": {"received": 2}}) == ["dials of c-1 that the provider saw"]
    assert bad_rows(play, good, {**SEEN, "webhooks": [{"latency_seconds": 0.01, "status": 503}]})
    assert bad_rows(play, good, {"counts": {"received": 1}, "webhooks": []}) == ["webhooks acknowledged"]
    assert bad_rows(play, good, has_result=False) == ["its result"]
    if not play.is_asked:
        assert bad_rows(play, {**good, "questions": 1}) == ["questions"]
