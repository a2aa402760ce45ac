"""The simulated sipgate AI Flow against a raw client and a raw agent: it talks as the contract says.

Each test places or takes calls at a hundred times life's speed, answers the webhooks itself, and looks at what was
sent, what was done with the answers and what the history remembers.
"""

import json
from typing import Any

import pytest

from bridge.demo.simulators import faults, script
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.script import Callee, Say
from bridge.demo.simulators.sipgate import DEMO_NUMBER
from tests.contract.simulator_stage import CALLEE, Event, action, dial, over, reminder, request, silent, stage

pytestmark = pytest.mark.anyio

# ---- placing calls


async def test_a_call_is_placed_and_announced() -> None:
    """201 without a body; then `session_start` with the proof and the numbers as digits."""
    async with stage(silent, Callee(turns=(script.HangUp(unprompted=True),))) as (simulator, agent):
        assert await dial(simulator.base_url) == (201, b"")
        await simulator.wait_for(over(), 5)
        assert agent.heard == ["session_start", "session_end"]
        session = agent.events[0]["session"]
        assert session == {
            "id": session["id"],
            "account_id": "acc-4410",
            "phone_number": CALLEE,
            "direction": "outbound",
            "from_phone_number": DEMO_NUMBER,
            "to_phone_number": CALLEE,
        }
        headers = agent.requests[0].headers
        assert (headers["x-api-token"], headers["content-type"]) == ("s3cret", "application/json")
        assert simulator.history.placed(CALLEE) == simulator.history.received(CALLEE) == 1
        [record] = simulator.history.dials
        assert (record.number, record.decided, record.ended, record.session) == (
            CALLEE,
            "201",
            "answered",
            session["id"],
        )
        assert not simulator.history.violations


@pytest.mark.parametrize(
    ("changes", "status", "is_breach"),
    [
        ({"Authorization": "Bearer wrong"}, 401, False),
        ({"flow": "nowhere"}, 404, False),
        ({"flow": "numberless"}, 400, False),
        ({"number": "+" + CALLEE}, 400, True),
        ({"number": "12"}, 400, True),
        ({"body": {"billingDevice": "device 2"}}, 422, True),
        ({"body": {"billingDevice": 2}}, 400, True),
        ({"body": {"metadata": {}}}, 400, True),
        ({"Content_Type": "text/plain"}, 415, True),
    ],
)
async def test_wrong_requests_are_refused(changes: dict[str, Any], status: int, *, is_breach: bool) -> None:
    """No phone rings; what only a wrong adapter would send is recorded as a violation."""
    async with stage(silent) as (simulator, _):
        assert (await dial(simulator.base_url, **changes))[0] == status
        assert simulator.history.counts["dials.received"] == 1
        assert simulator.history.counts[f"dials.decided.{status}"] == 1
        assert not simulator.history.calls
        assert simulator.history.counts["violations.dial_request"] == int(is_breach)


async def test_nobody_answers_and_nothing_is_said() -> None:
    """A call that nobody takes is silent towards the webhook."""
    async with stage(silent, Callee(answers=False)) as (simulator, agent):
        assert (await dial(simulator.base_url))[0] == 201
        await simulator.wait_for(lambda history: history.counts["calls.unanswered"] == 1, 5)
        assert not agent.events


# ---- conversations


async def test_a_conversation() -> None:
    """Greeting, answer, goodbye, hang-up: the events in the vendor's order, with the vendor's fields."""
    async with stage(reminder, Callee(turns=(Say(text="Yes"),))) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert agent.heard == [
            "session_start",
            "assistant_speak",
            "assistant_speech_ended",
            "user_speak",
            "assistant_speak",
            "assistant_speech_ended",
            "session_end",
        ]
        spoken = agent.events[1]
        assert spoken["text"].startswith("Hello")
        assert spoken["duration_ms"] == round(len(spoken["text"]) * 65)
        assert spoken["speech_started_at"] > 1_700_000_000_000
        assert agent.events[3]["text"] == "Yes"
        assert "barged_in" not in agent.events[3]
        assert agent.events[3]["session"].keys() == {"id", "account_id", "phone_number", "direction"}
        [call] = simulator.history.calls.values()
        assert (call.state, call.ended_by) == ("ended", "agent")
        assert call.said == [f"agent: {spoken['text']}", "callee: Yes", "agent: Good. Goodbye!"]
        assert [webhook.actions for webhook in simulator.history.webhooks if webhook.status == 200] == [
            ("speak",),
            ("speak", "hangup"),
        ]


async def test_keys_and_silence() -> None:
    """Each key is an event; a silence is one event if the speech asked for it."""
    callee = Callee(turns=(script.Press(digits="1#"), script.StaySilent(), Say(text="Yes")))
    asked = iter([reminder, silent])  # the second key is not answered

    def answers(event: Event) -> object:
        return next(asked)(event) if event["type"] == "dtmf_received" else reminder(event)

    async with stage(answers, callee) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        mine = [event for event in agent.events if not event["type"].startswith(("assistant", "session"))]
        assert [(event["type"], event.get("digit")) for event in mine] == [
            ("dtmf_received", "1"),
            ("dtmf_received", "#"),
            ("user_input_timeout", None),
            ("user_speak", None),
        ]


@pytest.mark.parametrize(("strategy", "barged_in"), [("immediate", True), ("none", None)])
async def test_interruptions(strategy: str, *, barged_in: bool | None) -> None:
    """An interruption stops the speech and what was queued behind it; where it isn't allowed, it waits."""

    def answers(event: Event) -> object:
        if event["type"] == "session_start":
            long = action(event, "speak", text="blah " * 100, barge_in={"strategy": strategy})
            return [long] if strategy == "none" else [long, action(event, "speak", text="never heard")]
        return action(event, "hangup") if event["type"] == "user_speak" else None

    async with stage(answers, Callee(turns=(script.Interrupt(text="Stop it"),))) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        [spoken] = [event for event in agent.events if event["type"] == "user_speak"]
        assert spoken.get("barged_in") == barged_in
        assert ("assistant_speech_ended" in agent.heard) is (strategy == "none")
        assert not any("never heard" in line for call in simulator.history.calls.values() for line in call.said)


async def test_the_agent_stops_its_own_speech() -> None:
    """`barge_in` in front of an array ends what is being played; the rest of the array follows."""

    def answers(event: Event) -> object:
        match event["type"]:
            case "session_start":
                return action(event, "speak", text="blah " * 2000, barge_in={"strategy": "manual"})
            case "user_speak":
                return [action(event, "barge_in"), action(event, "speak", text="Bye"), action(event, "hangup")]
            case _:
                return None

    async with stage(answers, Callee(turns=(script.Interrupt(text="Stop"),))) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert agent.heard.count("assistant_speak") == 2
        assert agent.heard.count("assistant_speech_ended") == 1


async def test_other_actions() -> None:
    """What the webhook hears nothing of is taken without a word; an SMS that fails is told."""

    def answers(event: Event) -> object:
        match event["type"]:
            case "session_start":
                return [
                    action(event, "configure_transcription", provider="DEEPGRAM", languages=["de-DE"]),
                    action(event, "mix_audio", audio="UklGRg==", volume=0.2),
                    action(event, "send_sms", phone_number=CALLEE, message="Tuesday"),
                    action(event, "audio", audio="UklG" * 1000),
                ]
            case "sms_failed":
                return action(event, "hangup")
            case _:
                return None

    async with stage(answers, Callee(sms_arrives=False)) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert agent.heard == ["session_start", "assistant_speech_ended", "sms_failed", "session_end"]
        assert agent.events[2]["reason"]
        assert not simulator.history.violations


@pytest.mark.parametrize(
    ("succeeds", "timeout", "heard", "state"),
    [
        (True, 20, ["session_start"], "transferred"),
        (False, 20, ["session_start", "session_start", "session_end"], "ended"),
        (False, None, ["session_start", "session_end"], "ended"),
    ],
)
async def test_transfers(*, succeeds: bool, timeout: int | None, heard: list[str], state: str) -> None:
    """Done: silence. Failed with a timeout: the same session starts again. Failed without: the call ends."""

    def answers(event: Event) -> object:
        if agent.heard.count("session_start") > 1:
            return action(event, "hangup") if event["type"] == "session_start" else None
        limit = {} if timeout is None else {"timeout": timeout}
        target = {"target_phone_number": "4930123456", "caller_id_name": "A", "caller_id_number": DEMO_NUMBER}
        return action(event, "transfer", **target, **limit) if event["type"] == "session_start" else None

    async with stage(answers, Callee(transfer_succeeds=succeeds)) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert agent.heard == heard
        assert len({event["session"]["id"] for event in agent.events}) == 1
        [call] = simulator.history.calls.values()
        assert call.state == state
        assert not simulator.history.violations


async def test_somebody_calls() -> None:
    """An inbound call has the caller's number in `from` and ours in `to`; it can be asked for over HTTP."""
    async with stage(reminder, Callee(number="4917*", turns=(Say(text="Yes"),))) as (simulator, agent):
        status, body = await request(simulator.base_url, "POST", "/_sim/inbound", body={"from": "+491761111111"})
        assert status == 201
        await simulator.wait_for(over(), 5)
        session = agent.events[0]["session"]
        assert session["id"] == json.loads(body)["session"]
        assert (session["direction"], session["from_phone_number"]) == ("inbound", "491761111111")
        assert session["to_phone_number"] == session["phone_number"] == DEMO_NUMBER


# ---- violations


@pytest.mark.parametrize(
    ("given", "kind", "listens"),
    [
        (b'{"success":true}', "not_an_action", False),
        (b"OK", "not_an_action", False),
        (b"", "not_an_action", False),
        (b'{"type":"dance","session_id":"x"}', "not_an_action", False),
        (b"[]", "empty_array", True),
        (b'{"type":"hangup","session_id":"another"}', "wrong_session", True),
        (b'{"type":"hangup"}', "invalid_action", True),
        (b'{"type":"speak","session_id":"x","text":"a","ssml":"b"}', "invalid_action", True),
        (b'{"type":"transfer","session_id":"x","target_phone_number":"493012"}', "invalid_action", True),
    ],
)
async def test_wrong_answers_are_recorded(given: bytes, kind: str, *, listens: bool) -> None:
    """A 200 that is no action makes the platform stop listening; a wrong action is not carried out."""
    callee = Callee(turns=(Say(text="Hello?", unprompted=True), script.HangUp(unprompted=True)))
    async with stage(lambda event: given if event["type"] == "session_start" else None, callee) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert [violation.kind for violation in simulator.history.violations] == [kind]
        assert simulator.history.violations[0].number == CALLEE
        assert agent.heard == ["session_start", *(["user_speak"] if listens else []), "session_end"]


async def test_an_answer_to_the_end_is_a_violation() -> None:
    """`session_end` takes 204 only."""
    callee = Callee(turns=(script.HangUp(unprompted=True),))
    async with stage(lambda event: action(event, "speak", text="Wait!"), callee, speed=10_000.0) as (simulator, _):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert simulator.history.counts["violations.answer_to_session_end"] == 1


async def test_late_answers_do_not_count() -> None:
    """After the cap the webhook is unanswered, and what comes later is not carried out."""
    callee = Callee(turns=(script.HangUp(unprompted=True),))

    def answers(event: Event) -> object:
        late = Answer(status=200, body=json.dumps(action(event, "speak", text="late")), delay_seconds=0.3)
        return late if event["type"] == "session_start" else None

    async with stage(answers, callee, answer_cap_seconds=0.05) as (simulator, _):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert simulator.history.counts["webhooks.failure.no_answer"] == 1
        assert simulator.history.counts["actions.speak"] == 0


async def test_answers_must_say_that_they_are_json() -> None:
    """The action is carried out, the breach is recorded."""

    def answers(event: Event) -> object:
        text = {"Content-Type": "text/html"}
        return Answer(headers=text, body=json.dumps(action(event, "hangup"))) if agent.events[1:] == [] else None

    async with stage(answers) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert [violation.kind for violation in simulator.history.violations] == ["wrong_content_type"]


async def test_where_the_vendor_is_silent_the_settings_decide() -> None:
    """No word before the hang-up, no `assistant_speak`, bare sessions, an end to calls that are not answered."""

    def answers(event: Event) -> object:
        if event["session"].get("to_phone_number") == "4930111111":
            return faults.Hang()
        return [action(event, "speak", text="Bye"), action(event, "hangup")]

    async with stage(
        lambda event: answers(event) if event["type"] == "session_start" else None,
        answer_cap_seconds=0.1,
        announces_speech=False,
        hangup_waits_for_speech=False,
        later_sessions="id",
        unanswered="hang_up",
    ) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        assert agent.heard == ["session_start", "session_end"]
        assert agent.events[1]["session"].keys() == {"id"}
        await dial(simulator.base_url, "4930111111")
        await simulator.wait_for(over(2), 5)
        assert [call.ended_by for call in simulator.history.calls.values()] == ["agent", "platform"]
