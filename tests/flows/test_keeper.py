"""Actions to the end on Apache Kafka: late ones, unasked ones, stale turns, a keeper that dies in between.

Everything is real but the providers. Every record of actions that a test sends is looked up when its stage closes: one
verdict each, and never a second one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.simulators.script import Callee, Script
from tests.flows.test_jambonz import stage as jambonz_stage
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, running, write_config
from tests.support.kafka_tools import Outgoing
from tests.support.stage import Stage, stage, telling
from tests.support.webhooks import Action, asking, ended, new_session, post, pressed, said, speak, started

pytestmark = pytest.mark.anyio

DEADLINE_SECONDS = 4.0
CONNECTIONS: Mapping[str, Any] = {
    "demo": {
        "reply": {
            "deadline_seconds": DEADLINE_SECONDS,
            "events": {"user.dtmf": {"deadline_seconds": 0.2}, "session.started": {"deadline_seconds": 1.5}},
        }
    },
}
ACTIONS = {"parked_seconds": 30.0}


@pytest.fixture(scope="module")
async def shared_stage(apache_kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon for the tests that break nothing."""
    folder = tmp_path_factory.mktemp("keeper")
    async with stage(apache_kafka, folder, connections=CONNECTIONS, actions=ACTIONS) as found:
        yield found


@pytest.fixture
def here(shared_stage: Stage) -> Iterator[Stage]:
    """The shared stage."""
    with telling(shared_stage) as found:
        yield found


def texts(body: bytes) -> list[str]:
    """What an answer has sipgate say."""
    actions = json.loads(body) if body else []
    return [each["text"] for each in (actions if isinstance(actions, list) else [actions])]


async def late(here: Stage, session: str, *words: str) -> list[tuple[int, int]]:
    """Let a key's time pass for each of these words, then say them; returns when they are parked."""
    before, questions = await here.daemon.metric("parked_actions"), []
    for _ in words:
        async with asking(here, pressed(session)) as question:
            assert (await question.answered).status == 204
            questions.append(question)
    places = [await each.act(speak(text)) for each, text in zip(questions, words, strict=True)]
    await here.daemon.until_metric("parked_actions", before + len(words))
    return places


async def unasked(here: Stage, session: str, *actions: Action) -> tuple[int, int]:
    """Act without being asked."""
    body = json.dumps({"actions": actions}).encode()
    return (await here.send_actions(Outgoing(body, f"demo/{session}".encode())))[0]


async def notes(here: Stage, kind: str = "attach") -> float:
    """How many the keeper has written."""
    return await here.daemon.metric("notes_total", kind=kind)


# -- without a live control -------------------------------------------------------------------------------------------


async def test_late_answers_go_into_the_next_one(here: Stage) -> None:
    """In front of what the consumer answers then, in the order in which they came; each has its own verdict."""
    session, before = new_session(), await notes(here)
    first, second = await late(here, session, "one", "two")
    async with asking(here, said(session)) as question:
        await here.daemon.until_metric("notes_total", before + 2, kind="attach")
        own = await question.act(speak("three"))

    assert texts(question.answer.body) == ["one", "two", "three"]
    verdicts = [await here.verdict(place) for place in (first, second, own)]
    assert [each["status"] for each in verdicts] == ["delivered_late", "delivered_late", "delivered"]
    assert {each["delivered_by"] for each in verdicts} == {"answer"}
    assert {each["event_id"] for each in verdicts} == {question.event.ce_id}
    assert verdicts[0]["in_reply_to"] != question.token


async def test_a_late_answer_where_nobody_says_more(here: Stage) -> None:
    """At the next question's deadline it is said instead of the fallback."""
    session = new_session()
    [place] = await late(here, session, "late")
    async with asking(here, started(session)) as question:
        pass

    verdict = await here.verdict(place)
    assert texts(question.answer.body) == ["late"]
    assert question.answer.seconds >= 1.4
    assert (verdict["status"], verdict["event_id"]) == ("delivered_late", question.event.ce_id)


async def test_unasked(here: Stage) -> None:
    """Nobody asks just now: it waits for the next question, and is delivered with that."""
    session, before = new_session(), await here.daemon.metric("parked_actions")
    await post(here, {"type": "user_speech_started", "session": {"id": session}})
    place = await unasked(here, session, speak("unasked"))
    await here.daemon.until_metric("parked_actions", before + 1)
    written = await notes(here)
    async with asking(here, said(session)) as question:
        await here.daemon.until_metric("notes_total", written + 1, kind="attach")
        own = await question.act()

    verdict = await here.verdict(place)
    assert texts(question.answer.body) == ["unasked"]
    assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "answer")
    assert (await here.verdict(own))["status"] == "delivered"


async def test_what_waits_is_checked_for_itself(here: Stage) -> None:
    """What the provider does not take is rejected when its question comes; the consumer's own answer is given."""
    session, before = new_session(), await here.daemon.metric("parked_actions")
    await post(here, {"type": "user_speech_started", "session": {"id": session}})
    place = await unasked(here, session, {"type": "send_dtmf", "digits": "1"})
    await here.daemon.until_metric("parked_actions", before + 1)
    async with asking(here, said(session)) as question:
        verdict = await here.verdict(place)
        await question.act(speak("fine"))

    assert (verdict["status"], verdict["reason"]) == ("rejected", "invalid_for_provider")
    assert "send_dtmf" in verdict["detail"]
    assert texts(question.answer.body) == ["fine"]


async def test_the_session_ends(here: Stage) -> None:
    """What still waits then expires at once, and what comes afterwards too."""
    session = new_session()
    [place] = await late(here, session, "never")
    await post(here, ended(session))

    assert ((await here.verdict(place))["status"], (await here.verdict(place))["reason"]) == (
        "expired",
        "session_ended",
    )
    after = await here.verdict(await unasked(here, session, speak("after the end")))
    assert (after["status"], after["reason"]) == ("expired", "session_ended")


async def test_another_partition_than_the_sessions(here: Stage) -> None:
    """Without a key, or by another client's hash, a late record is not seen beside its session: it is told so."""
    session = new_session()
    async with asking(here, pressed(session)) as question:
        await question.answered
    body = {"in_reply_to": question.token, "actions": [speak("x")], "connection": "demo", "session": session}
    [keyed] = await here.send_actions(Outgoing(json.dumps(body).encode(), question.event.key))
    others = [
        place
        for _ in range(8)
        for place in await here.send_actions(Outgoing(json.dumps(body).encode()))
        if place[0] != keyed[0]
    ]
    assert others
    await post(here, ended(session))
    verdicts = [await here.verdict(place) for place in others]
    assert {(each["status"], each["reason"]) for each in verdicts} == {("expired", "question_unknown")}
    assert all(f"partition {place[0]}" in each["detail"] for place, each in zip(others, verdicts, strict=True))


async def test_nobody_else_can_write_a_note(here: Stage) -> None:
    """A copy with another content, or for another session, answers nothing and goes to dead letters."""
    session = new_session()
    async with asking(here, said(session)) as question:
        value = json.dumps({"type": "void", "token": question.token}).encode()
        forged = Outgoing(value, question.event.key, [("callbridge_note", b"c2lnbmVkIGJ5IG5vYm9keQ==")])
        await here.send_actions(forged)
        letter = await here.letter(value)
        await question.act(speak("still open"))

    assert letter.headers["dlq_field"] == "header callbridge_note"
    assert texts(question.answer.body) == ["still open"]


# -- stale turns ------------------------------------------------------------------------------------------------------


async def test_a_newer_turn(here: Stage) -> None:
    """The older question gets its fallback at once, and no answer to it is ever delivered."""
    session = new_session()
    async with asking(here, said(session, "yes")) as first, asking(here, said(session, "no, wait")) as second:
        await first.answered
        stale = await first.act(speak("stale"))
        await second.act(speak("fresh"))

    assert first.answer.seconds < DEADLINE_SECONDS - 0.5
    assert (first.answer.status, texts(second.answer.body)) == (204, ["fresh"])
    verdict = await here.verdict(stale)
    assert (verdict["status"], verdict["reason"]) == ("superseded", "newer_user_turn")


async def test_the_user_interrupts(here: Stage) -> None:
    """As soon as the user speaks again; what that will be is asked when it has been said."""
    session = new_session()
    async with asking(here, said(session)) as question:
        await post(here, {"type": "user_speech_started", "session": {"id": session}})
        await question.answered

    assert question.answer.seconds < DEADLINE_SECONDS - 0.5
    assert await here.daemon.metric("questions_total", answered_with="superseded") >= 1


async def other_daemon(here: Stage, folder: Path) -> Path:
    """The configuration of one more replica of the stage's."""
    return write_config(
        folder / "other.toml",
        bootstrap=here.broker.bootstrap,
        prefix=here.prefix,
        simulator_url=here.simulator.base_url,
        connections=CONNECTIONS,
        actions=ACTIONS,
    )


async def test_a_newer_turn_at_another_replica(here: Stage, tmp_path: Path) -> None:
    """Whoever holds the older question hears of it from the keeper, wherever that is."""
    async with running(await other_daemon(here, tmp_path)) as other:
        for older, newer in ((here.daemon, other), (other, here.daemon)):
            await _a_newer_turn_elsewhere(here, older, newer)
        assert await other.terminate() == 0


async def _a_newer_turn_elsewhere(here: Stage, older: Daemon, newer: Daemon) -> None:
    session = new_session()
    async with (
        asking(here, said(session, "yes"), url=older.webhook_url) as first,
        asking(here, said(session, "no, wait"), url=newer.webhook_url) as second,
    ):
        await first.answered
        stale = await first.act(speak("stale"))
        await second.act(speak("fresh"))
    assert first.answer.seconds < DEADLINE_SECONDS - 0.5
    assert (first.answer.status, texts(second.answer.body)) == (204, ["fresh"])
    verdict = await here.verdict(stale)
    assert (verdict["status"], verdict["reason"]) == ("superseded", "newer_user_turn")


async def test_unasked_where_two_replicas_hold_a_question(here: Stage, tmp_path: Path) -> None:
    """The log decides which of them takes it: it is said once."""
    async with running(await other_daemon(here, tmp_path)) as other:
        for number in range(5):
            session, word = new_session(), f"once {number}"
            async with (
                asking(here, started(session), url=other.webhook_url) as one,
                asking(here, said(session)) as two,
            ):
                place = await unasked(here, session, speak(word))
                assert (await here.verdict(place))["status"] == "delivered"
                await here.send_actions(*(Outgoing(_nothing(each.token), each.event.key) for each in (one, two)))
            assert [*texts(one.answer.body), *texts(two.answer.body)] == [word]
        assert await other.terminate() == 0


def _nothing(token: str) -> bytes:
    return json.dumps({"in_reply_to": token, "actions": []}).encode()


# -- with a live control ----------------------------------------------------------------------------------------------


async def test_late_and_live(apache_kafka: Broker, tmp_path: Path) -> None:
    """jambonz: words wait for its next hook, since a live call takes none; a late hang-up ends the call at once."""
    callee = Callee(rings_seconds=1, patience_seconds=10_000)
    async with jambonz_stage(apache_kafka, tmp_path, Script(callees=(callee,))) as here:
        await here.place("c-1")
        asked = await here.event("session.started")
        await here.event("verb.finished", nth=2)  # nobody has answered twice: the fallback holds the call
        late_words = await here.act(asked, speak("Sorry, I was busy."))
        assert (late_words["status"], late_words["delivered_by"]) == ("delivered_late", "answer")
        other = await here.event("verb.finished")
        late_end = await here.act(other, {"type": "hangup"})
        assert (late_end["status"], late_end["delivered_by"]) == ("delivered_late", "control")
        assert (await here.event("call.ended")).json["data"]["reason"] == "completed"
        [call] = here.simulator.history.calls.values()
        assert "agent: Sorry, I was busy." in call.said


# -- a keeper that dies -----------------------------------------------------------------------------------------------


async def test_killed_in_between(apache_kafka: Broker, tmp_path: Path) -> None:
    """What was parked by one keeper is known to the next: delivered once, with one verdict."""
    async with stage(apache_kafka, tmp_path, connections=CONNECTIONS, actions=ACTIONS) as here:
        session, other = new_session(), new_session()
        [parked], [lost] = await late(here, session, "parked"), await late(here, other, "lost")
        here.kill()
        await here.start()
        await here.daemon.until_metric("parked_actions", 2)
        async with asking(here, said(session)) as question:
            await here.daemon.until_metric("notes_total", 1, kind="attach")
            await question.act()
        assert texts(question.answer.body) == ["parked"]
        assert (await here.verdict(parked))["status"] == "delivered_late"
        await post(here, ended(other))
        assert (await here.verdict(lost))["reason"] == "session_ended"
