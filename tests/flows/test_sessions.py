"""Flows 2 and 3 with everything real but the provider: webhooks in, events on Kafka, actions back into the answers.

The consumer's side is played by the tests; for whole calls the simulated provider talks to an agent that answers
everything. Every record of actions that a test sends is looked up when the stage closes: one verdict each, no more.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from bridge.demo.simulators.script import Callee, HangUp, Say, Script
from tests.support.brokers import Broker
from tests.support.daemon import WEBHOOK_SECRET, request
from tests.support.kafka_tools import Outgoing
from tests.support.stage import Stage, stage, telling
from tests.support.webhooks import act, answering, asking, echo, ended, new_session, post, pressed, said, speak

pytestmark = pytest.mark.anyio

CONNECTIONS = {
    "demo": {
        "webhook_secrets": [{"env": "SIPGATE_WEBHOOK_SECRET"}, {"env": "NEXT_WEBHOOK_SECRET"}],
        "reply": {"deadline_seconds": 4.0, "events": {"user.dtmf": {"deadline_seconds": 0.2}}},
    },
    "slow": {"reply": {"deadline_seconds": 4.0}},
    "filler": {"reply": {"deadline_seconds": 0.2, "fallback": [{"type": "speak", "text": "One moment."}]}},
}


@pytest.fixture(scope="module")
async def shared_stage(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon for each broker."""
    folder = tmp_path_factory.mktemp("sessions")
    env = {"NEXT_WEBHOOK_SECRET": "next"}
    async with stage(broker, folder, env=env, ingress={"max_body_bytes": 65_536}, connections=CONNECTIONS) as found:
        yield found


@pytest.fixture
def here(shared_stage: Stage) -> Iterator[Stage]:
    """The shared stage."""
    with telling(shared_stage) as found:
        yield found


# -- calls ------------------------------------------------------------------------------------------------------------


async def test_a_whole_call(here: Stage) -> None:
    """Every event of a call carries its command's id and metadata, in the order of the call, with the raw payload."""
    number = here.callee()
    callee = Callee(number=number.lstrip("+"), rings_seconds=1, turns=(Say(text="Yes"), HangUp()))
    here.play(Script(callees=(callee,)))
    async with answering(here, echo):
        await here.place("whole-call", number, metadata={"order": 7})
        call_id = (await here.result("whole-call"))["call_id"]
        await here.simulator.wait_for(lambda history: history.counts["calls.ended"] > 0, 60)

    [call] = [call for call in here.simulator.history.calls.values() if call.number == number.lstrip("+")]
    events = [message.json for message in await here.events(call.session, count=call.webhooks)]
    assert [event["type"] for event in events] == [
        "session.started",
        "assistant.speaking",
        "assistant.finished",
        "user.spoke",
        "assistant.speaking",
        "assistant.finished",
        "session.ended",
    ]
    for event in events:
        assert (event["command_id"], event["call_id"], event["metadata"]) == ("whole-call", call_id, {"order": 7})
        assert (event["connection"], event["provider"], event["session"]) == ("demo", "sipgate", call.session)
        assert event["raw"]["session"]["id"] == call.session
    assert events[0]["data"]["to"] == number
    assert call.said == ["agent: hello", "callee: Yes", "agent: you said: Yes"]


async def test_somebody_calls(here: Stage) -> None:
    """An inbound session belongs to no command; its event says who called whom."""
    caller = here.callee()
    here.play(Script(callees=(Callee(turns=(HangUp(unprompted=True, after_seconds=0.1),)),)))
    session = here.simulator.inbound(caller)

    events = [message.json for message in await here.events(session, count=2)]

    first = events[0]
    assert (first["type"], first["data"]["direction"]) == ("session.started", "inbound")
    assert (first["data"]["from"], first["data"]["to"]) == (caller, "+49211700010")
    assert not {"command_id", "call_id"} & first.keys()


# -- answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer(here: Stage) -> None:
    """The consumer's action is the answer to the webhook; the event says until when, the verdict that it was used."""
    session = new_session()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with asking(here, said(session, "hi"), headers={"traceparent": trace}) as question:
        place = await question.act(speak("hello"), action_id="mine")

    answer, event = question.answer, question.event
    verdict = await here.verdict(place)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {"type": "speak", "session_id": session, "text": "hello"}
    assert (event.key, event.headers["ce_subject"]) == (f"demo/{session}".encode(), f"demo/{session}")
    assert (event.type, event.ce_id, event.headers["traceparent"]) == ("user.spoke", event.json["event_id"], trace)
    assert event.json["reply"]["by"] > event.json["received_at"]
    assert (verdict["status"], verdict["delivered_by"], verdict["action_id"]) == ("delivered", "answer", "mine")
    assert (verdict["event_id"], verdict["session"]) == (event.ce_id, session)


async def test_several_actions(here: Stage) -> None:
    """Several actions in one record are one answer, in their order."""
    session = new_session()
    async with asking(here, said(session)) as question:
        await question.act(speak("one"), speak("two"), {"type": "hangup"})

    answer = question.answer.json
    assert [(each["type"], each.get("text")) for each in answer] == [
        ("speak", "one"),
        ("speak", "two"),
        ("hangup", None),
    ]
    assert {each["session_id"] for each in answer} == {session}


async def test_nothing_to_do(here: Stage) -> None:
    """An empty list of actions ends the wait at once, with 204."""
    async with asking(here, said(new_session())) as question:
        place = await question.act()

    answer = question.answer
    assert (answer.status, answer.body, (await here.verdict(place))["status"]) == (204, b"", "delivered")


async def test_by_session_alone(here: Stage) -> None:
    """Actions without a token answer the session's open question, with the key or with names in the body."""
    for body, keyed in (({}, True), ({"connection": "demo", "session": ""}, False)):
        session = new_session()
        async with asking(here, said(session)) as question:
            named = {"session": session} if "session" in body else {}
            record = {"actions": [speak("unasked")], **body, **named}
            key = question.event.key if keyed else None
            [place] = await here.send_actions(Outgoing(json.dumps(record).encode(), key))

        assert question.answer.json["text"] == "unasked"
        assert (await here.verdict(place))["status"] == "delivered"


async def test_too_late(here: Stage) -> None:
    """Without an action in time the answer is the fallback; the one that comes then waits for another question in vain."""
    async with asking(here, pressed(new_session())) as nothing:
        await nothing.answered
        place = await nothing.act(speak("late"))
    answer = await post(here, said(new_session()), connection="filler")

    verdict = await here.verdict(place)
    assert nothing.answer.status == 204
    assert (answer.status, answer.json["text"]) == (200, "One moment.")
    assert 0.2 <= answer.seconds < 4
    assert (verdict["status"], verdict["reason"]) == ("expired", "no_question_came")


async def test_a_second_answer(here: Stage) -> None:
    """The first answer counts; another one to the same question is superseded."""
    async with asking(here, said(new_session())) as question:
        first = await question.act(speak("first"))
        second = await question.act(speak("second"))

    assert question.answer.json["text"] == "first"
    assert [(await here.verdict(place))["status"] for place in (first, second)] == ["delivered", "superseded"]


async def test_somebody_elses_question(here: Stage) -> None:
    """A token is good for its own session only, a forged one for none; the question stays open for the right answer."""
    async with asking(here, said(new_session())) as mine, asking(here, said(new_session())) as other:
        stolen = await act(here, mine.event, speak("wrong"), in_reply_to=other.token)
        forged = await act(here, mine.event, speak("wrong"), in_reply_to=other.token[:-1] + "A")
        unknown = await here.send_actions(
            Outgoing(json.dumps({"actions": [], "in_reply_to": mine.token}).encode(), b"demo/nobody"),
            Outgoing(json.dumps({"actions": [speak("to nobody")]}).encode(), b"demo/nobody"),
        )
        await mine.act(speak("right"))
        await other.act(speak("right"))

    assert (mine.answer.json["text"], other.answer.json["text"]) == ("right", "right")
    verdicts = [await here.verdict(place) for place in (stolen, forged, *unknown)]
    assert [verdict["status"] for verdict in verdicts] == ["rejected", "rejected", "rejected", "expired"]
    assert verdicts[3]["reason"] == "session_unknown"
    assert f"partition {unknown[1][0]}" in verdicts[3]["detail"]


async def test_not_for_this_provider(here: Stage) -> None:
    """What the provider cannot do is rejected with field, found and allowed; a better answer is still taken."""
    async with asking(here, said(new_session())) as question:
        wrong = await question.act(speak("fine"), {"type": "send_dtmf", "digits": "1"})
        verdict = await here.verdict(wrong)
        right = await question.act(speak("better"))

    assert (verdict["status"], verdict["reason"]) == ("rejected", "invalid_for_provider")
    assert "$.actions[1].type: found 'send_dtmf'" in verdict["detail"]
    assert "allowed: one of 'speak'" in verdict["detail"]
    assert question.answer.json["text"] == "better"
    assert (await here.verdict(right))["status"] == "delivered"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"actions":[{"type":"sing"}]}',
        b'{"actions":[{"type":"speak","words":"x"}]}',
        b"[]",
        b'{"in_reply_to":"x"}',
    ],
    ids=["no JSON", "unknown action", "unknown field", "no object", "no actions"],
)
async def test_unreadable_actions(here: Stage, body: bytes) -> None:
    """A record of actions that nobody can read goes to dead letters untouched; the question stays open."""
    unique = body + b" " * len(here.written[here.topic("dead-letters")])
    async with asking(here, said(new_session())) as question:
        [(partition, offset)] = await here.send_actions(Outgoing(unique, question.event.key))
        letter = await here.letter(unique)
        await question.act(speak("readable"))

    assert question.answer.json["text"] == "readable"
    assert (letter.key, letter.headers["dlq_source"]) == (question.event.key, here.topic("actions"))
    assert (letter.headers["dlq_partition"], letter.headers["dlq_offset"]) == (str(partition), str(offset))
    assert all(letter.headers[f"dlq_{name}"] for name in ("field", "found", "allowed"))


async def test_the_provider_hangs_up(here: Stage) -> None:
    """A question whose webhook was given up by its sender is over: an action that comes then expires with the session."""
    async with asking(here, said(new_session())) as question:
        await question.hang_up()
        await here.daemon.until_metric("questions_total", 1, answered_with="caller_gone")
        place = await question.act(speak("nobody hears"))
    await post(here, ended(question.event.json["session"]))

    verdict = await here.verdict(place)
    assert (verdict["status"], verdict["reason"]) == ("expired", "session_ended")


# -- webhooks ---------------------------------------------------------------------------------------------------------


async def test_the_same_webhook_twice(here: Stage) -> None:
    """A webhook that is sent twice is two events, each answered on its own connection."""
    event = pressed(new_session(), "7")
    async with asking(here, event, connection="slow") as first, asking(here, event, connection="slow") as second:
        assert first.event.ce_id != second.event.ce_id
        assert first.event.json["raw"] == second.event.json["raw"] == event
        await second.act(speak("to the second"))
        await first.act(speak("to the first"))

    assert first.answer.json["text"] == "to the first"
    assert second.answer.json["text"] == "to the second"


async def test_an_event_nobody_knows(here: Stage) -> None:
    """An unknown type of event is forwarded as `other` with its payload, and acknowledged."""
    session = new_session()
    event = {"type": "user_sneezed", "session": {"id": session}, "loudness": [1, None, {"x": 1.50}]}

    answer = await post(here, event)

    [message] = await here.events(session)
    assert (answer.status, answer.body) == (204, b"")
    assert (message.type, message.json["data"]) == ("other", {"provider_type": "user_sneezed"})
    assert message.json["raw"] == event
    assert "reply" not in message.json


async def test_secrets(here: Stage) -> None:
    """Each live secret opens the door; with a wrong one or none it is 401, and nothing of it comes through."""
    session = new_session()
    event = {"type": "user_speech_started", "session": {"id": session}}
    secrets: Sequence[str | None] = ("wrong", "", None, WEBHOOK_SECRET, "next")

    answers = [await post(here, {**event, "secret": secret}, secret=secret) for secret in secrets]

    assert [answer.status for answer in answers] == [401, 401, 401, 204, 204]
    assert b"secret" not in answers[0].body.lower()
    messages = await here.events(session, count=2)
    assert [message.json["raw"]["secret"] for message in messages] == [WEBHOOK_SECRET, "next"]


async def test_unreadable_bodies(here: Stage) -> None:
    """A body that is proven but unreadable is 400 and kept untouched; without proof nothing of it is kept."""
    marker = new_session().encode()
    forged = b'{"forged": "' + marker
    bodies = [b"{" + marker, b"[]" + marker, b'{"type":"user_speak","session":{}} ', b'{"x":"\xff"} ' + marker, marker]

    assert (await post(here, forged, secret="wrong")).status == 401
    for body in bodies:
        answer = await post(here, body)
        letter = await here.letter(body)
        assert answer.status == 400, body
        assert letter.headers["dlq_source"] == "webhooks/demo"
        assert all(letter.headers[f"dlq_{name}"] for name in ("field", "found", "allowed"))
        assert letter.headers["dlq_field"] in answer.body.decode()
    assert not [letter for letter in here.written[here.topic("dead-letters")] if letter.value == forged]


async def test_too_large(here: Stage) -> None:
    """A body above the limit is 413 and nothing of it is kept; one just below is an event."""
    session, most = new_session(), 65_536
    event = {"type": "user_speech_started", "session": {"id": session}, "filler": ""}
    event["filler"] = "x" * (most - len(json.dumps(event)))

    fits, too_large = await post(here, event), await post(here, json.dumps(event).encode() + b" ")

    assert (fits.status, too_large.status) == (204, 413)
    [message] = await here.events(session)
    assert message.json["raw"] == event


async def test_ways_that_lead_nowhere(here: Stage) -> None:
    """A path without a connection is 404, another method than POST 405; neither is told what else there is."""
    url = here.daemon.webhook_url
    event = said(new_session())

    elsewhere = [await post(here, event, connection=name) for name in ("nobody", "Demo", "")]
    wrong_root = await request(f"{url}/", method="POST")
    wrong_method = [await request(f"{url}/webhooks/demo", method=method) for method in ("GET", "PUT", "DELETE")]

    assert [answer.status for answer in [*elsewhere, wrong_root]] == [404] * 4
    assert [(answer.status, answer.headers["allow"]) for answer in wrong_method] == [(405, "POST")] * 3
