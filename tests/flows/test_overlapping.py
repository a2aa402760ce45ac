"""Webhooks of one session that wait at the same time, and sessions side by side."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.brokers import Broker
from tests.support.stage import Stage, stage, telling
from tests.support.webhooks import Question, asking, new_session, pressed, said, speak, started

pytestmark = pytest.mark.anyio

CONNECTIONS = {"demo": {"reply": {"deadline_seconds": 4.0}}}


@pytest.fixture(scope="module")
async def shared_stage(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon for each broker."""
    async with stage(broker, tmp_path_factory.mktemp("overlapping"), connections=CONNECTIONS) as found:
        yield found


@pytest.fixture
def here(shared_stage: Stage) -> Iterator[Stage]:
    """The shared stage."""
    with telling(shared_stage) as found:
        yield found


def spoken(question: Question) -> str:
    """The words that a webhook was answered with."""
    [action] = (
        json.loads(question.answer.body)
        if question.answer.body.startswith(b"[")
        else [json.loads(question.answer.body)]
    )
    return str(action["text"])


async def test_each_gets_its_own_answer(here: Stage) -> None:
    """In whichever order the consumer answers: a begin, two equal keys and a turn wait together, and none is mixed up."""
    session = new_session()
    async with (
        asking(here, started(session)) as begin,
        asking(here, pressed(session)) as key,
        asking(here, pressed(session)) as same_key,
        asking(here, said(session)) as turn,
    ):
        places = [
            await question.act(speak(name))
            for name, question in (("turn", turn), ("same key", same_key), ("begin", begin), ("key", key))
        ]
    assert [spoken(each) for each in (begin, key, same_key, turn)] == ["begin", "key", "same key", "turn"]
    assert {(await here.verdict(place))["status"] for place in places} == {"delivered"}


async def test_one_session_keeps_no_other_waiting(here: Stage) -> None:
    """While a turn waits for its consumer, turns of another session are answered, one after the other in order."""
    async with asking(here, said(new_session())) as waiting:
        other = new_session()
        words = [f"answer {number}" for number in range(5)]
        heard: list[str] = []
        for text in words:
            async with asking(here, said(other)) as turn:
                await turn.act(speak(text))
            heard.append(spoken(turn))
        await waiting.act(speak("at last"))
    assert (heard, spoken(waiting)) == (words, "at last")
    sequence = [message.json["received_at"] for message in here.events_so_far(other)]
    assert sequence == sorted(sequence)
