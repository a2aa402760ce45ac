"""The simulated HMS Sovereign against a raw client and a raw agent: it talks as the contract says.

Each test places or takes calls at a hundred times life's speed, answers the webhooks itself, and looks at what was
sent, what was done with the answers and what the history remembers.
"""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.demo.simulators import faults, script
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.hms_sovereign import DEMO_ASSISTANT, HmsSettings, HmsSimulator
from bridge.demo.simulators.script import Callee, Say, Script
from tests.contract.simulator_stage import CALLEE, Agent, listening, one_call_of_a_process, over, request

pytestmark = pytest.mark.anyio

Message = dict[str, Any]
HANG_UP = Callee(turns=(script.HangUp(),))
TUESDAY = Callee(turns=(Say(text="Is Tuesday possible?"), script.HangUp()))


def helpful(message: Message) -> object:
    """An agent that finds a slot for every tool call."""
    if message["type"] != "tool-calls":
        return None
    results = [{"tool_call_id": each["id"], "result": {"slot": "10:30"}} for each in message["tool_call_list"]]
    return {"results": results}


@asynccontextmanager
async def stage(
    answers: Callable[[Message], object], *callees: Callee, **settings: Any
) -> AsyncIterator[tuple[HmsSimulator, Agent]]:
    """A simulator with these callees, and an agent that answers like this."""
    async with listening(Agent(lambda event: answers(event["message"]))) as agent:
        whole: dict[str, Any] = {
            "webhook_url": agent.url,
            "webhook_secret": "s3cret",
            "script": Script(callees=callees),
            "speed": 100.0,
            **settings,
        }
        async with HmsSimulator(HmsSettings(**whole)) as simulator:
            yield simulator, agent


async def dial(url: str, **changes: Any) -> tuple[int, Any]:
    """A request to dial, right but for the changes; the answer's JSON."""
    headers = {"Authorization": changes.pop("authorization", "Bearer fl_live_demo")}
    body = {"destination": f"+{CALLEE}", "assistant_id": DEMO_ASSISTANT} | changes
    wanted = {name: value for name, value in body.items() if value is not None}
    status, answer = await request(url, "POST", "/calls/outbound", body=wanted, **headers)
    return status, json.loads(answer or b"null")


async def command(simulator: HmsSimulator, call_id: str, **body: Any) -> tuple[int, Any]:
    """A control command."""
    path = f"/calls/{call_id}/control"
    status, answer = await request(simulator.base_url, "POST", path, body=body, Authorization="Bearer fl_live_demo")
    return status, json.loads(answer)


def heard(agent: Agent) -> list[tuple[str, str]]:
    """Type and status of each webhook so far."""
    messages = [event["message"] for event in agent.events]
    return [(message["type"], message["call"]["status"]) for message in messages]


async def test_a_call_is_placed_and_told() -> None:
    """A `call_id` at once; then signed webhooks with numbers, status and the resolved assistant."""
    override = {"metadata": {"call_id": "call_x"}, "webhook_events": ["status-update", "end-of-call-report"]}
    async with stage(helpful, HANG_UP) as (simulator, agent):
        status, answer = await dial(simulator.base_url, assistant_override=override)
        assert (status, answer["success"], answer["status"]) == (200, True, "dialing")
        await simulator.wait_for(over(), 5)
        assert heard(agent) == [
            ("status-update", "in-progress"),
            ("status-update", "ended"),
            ("end-of-call-report", "ended"),
        ]
        first, _, report = [event["message"] for event in agent.events]
        assert first["call"]["type"] == "outbound_phone_call"
        assert first["call"]["id"] != answer["call_id"]
        assert (first["phone_number"]["number"], first["customer"]["number"]) == ("+31850001122", f"+{CALLEE}")
        assert first["assistant"]["metadata"] == {"call_id": "call_x"}
        assert report["summary"]
        assert agent.events[1]["message"]["end_reason"] == "user_hangup"
        headers, body = agent.requests[0].headers, agent.requests[0].body
        stamp = headers["x-webhook-timestamp"]
        assert abs(int(stamp) - time.time()) < 5
        expected = hmac.new(b"s3cret", f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        assert (headers["x-webhook-signature"], headers["x-webhook-event"]) == (f"sha256={expected}", "status-update")
        assert simulator.history.placed(CALLEE) == simulator.history.received(CALLEE) == 1
        assert not simulator.history.violations


@pytest.mark.parametrize(
    ("changes", "status", "is_breach"),
    [
        ({"authorization": "Bearer wrong"}, 401, False),
        ({"assistant_id": "nobody"}, 404, False),
        ({"number_id": "none"}, 404, False),
        ({"destination": CALLEE}, 400, True),
        ({"destination": "sip:a@example.org"}, 400, True),
        ({"assistant_id": None}, 400, True),
        ({"assistant_id": None, "agent_id": DEMO_ASSISTANT}, 400, True),
        ({"assistant_id": None, "assistant": {}}, 400, True),
        ({"assistant": {"llm_config": {"provider": "xai_realtime"}}}, 400, True),
        ({"assistant_id": None, "assistant": {"llm_config": {"provider": "openai"}}}, 400, True),
        ({"assistant_override": {"llm_config": {"provider": "xai_realtime"}, "tts_config": {"a": 1}}}, 400, True),
        ({"ring_timeout": 3}, 400, True),
    ],
)
async def test_wrong_requests_are_refused(changes: dict[str, Any], status: int, *, is_breach: bool) -> None:
    """No phone rings; what only a wrong adapter would send is recorded as a violation."""
    async with stage(helpful) as (simulator, _):
        assert (await dial(simulator.base_url, **changes))[0] == status
        assert simulator.history.counts[f"dials.decided.{status}"] == 1
        assert not simulator.history.calls
        assert simulator.history.counts["violations.dial_request"] == int(is_breach)


async def test_a_call_may_have_its_own_webhook_and_secret() -> None:
    """The most specific address wins, and the events are filtered."""
    async with stage(helpful, TUESDAY) as (simulator, agent):
        own = {"webhook_url": f"{agent.url}/call_1", "webhook_secret": "own", "webhook_events": ["end-of-call-report"]}
        await dial(simulator.base_url, assistant_override=own)
        await simulator.wait_for(lambda history: history.counts["webhooks.sent"] == 1, 5)
        [sent] = agent.requests
        assert sent.path == "/webhooks/demo/call_1"
        stamp = sent.headers["x-webhook-timestamp"]
        signature = hmac.new(b"own", f"{stamp}.".encode() + sent.body, hashlib.sha256).hexdigest()
        assert sent.headers["x-webhook-signature"] == f"sha256={signature}"
        assert "webhook_secret" not in agent.events[0]["message"]["assistant"]


async def test_tools() -> None:
    """The assistant hears the tool's word, waits for its result, and says it."""
    async with stage(helpful, TUESDAY) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        [asked] = [event["message"] for event in agent.events if event["message"]["type"] == "tool-calls"]
        assert asked["tool_call_list"] == [
            {"id": "tool_1", "type": "function", "function": {"name": "find_slot", "arguments": {"day": "Tue"}}}
        ]
        [call] = simulator.history.calls.values()
        assert call.said[1:3] == ["callee: Is Tuesday possible?", 'agent: The answer is {"slot":"10:30"}.']
        assert simulator.history.counts["actions.tool_result"] == 1


@pytest.mark.parametrize(
    ("given", "breach", "said"),
    [
        (faults.Hang(), 0, '{"error":"no_answer"}'),
        (Answer(status=500), 0, '{"error":"status 500"}'),
        ({"results": []}, 1, '{"error":"no result"}'),
        ({"results": [{"tool_call_id": "tool_9", "result": 1}]}, 1, '{"error":"no result"}'),
        (b"OK", 1, '{"error":"unreadable"}'),
    ],
)
async def test_tools_without_a_result(given: object, breach: int, said: str) -> None:
    """The call goes on with an error; an answer of another shape is a violation."""
    async with stage(
        lambda message: given if message["type"] == "tool-calls" else None, TUESDAY, tool_cap_seconds=0.1
    ) as (simulator, _):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        [call] = simulator.history.calls.values()
        assert call.said[2] == f"agent: The answer is {said}."
        assert simulator.history.counts["violations.tool_answer"] == breach


async def test_control() -> None:
    """Say, context, hand over, end: by the id of the dial and by that of the webhooks; only while it is in progress."""
    patient = Callee(patience_seconds=1000.0)
    async with stage(helpful, patient) as (simulator, agent):
        _, placed = await dial(simulator.base_url)
        call_id = placed["call_id"]
        assert (await command(simulator, call_id, type="end-call"))[0] == 400  # it still rings
        await simulator.wait_for(lambda history: history.counts["webhooks.sent"] == 1, 5)
        session = agent.events[0]["message"]["call"]["id"]
        assert await command(simulator, session, type="say", content="One.", end_after=False) == (
            200,
            {"success": True, "message": "Command sent"},
        )
        assert (await command(simulator, call_id, type="inject-context", content="it rains", trigger_response=True))[
            0
        ] == 200
        assert (await command(simulator, session, type="say", content="No."))[0] == 400
        assert (await command(simulator, session, type="dance"))[0] == 400
        assert (await command(simulator, "nobody", type="end-call"))[0] == 404
        assert (await command(simulator, session, type="end-call", message="Bye."))[0] == 200
        await simulator.wait_for(over(), 5)
        assert (await command(simulator, session, type="end-call"))[0] == 400
        [call] = simulator.history.calls.values()
        assert call.said[1:] == ["agent: One.", "agent: I hear that it rains", "agent: Bye."]
        assert (call.ended_by, agent.events[1]["message"]["end_reason"]) == ("agent", "assistant_hangup")
        assert simulator.history.counts["violations.command"] == 2
        status, shown = await request(
            simulator.base_url, "GET", f"/calls/{call_id}", Authorization="Bearer fl_live_demo"
        )
        assert (status, json.loads(shown)["status"]) == (200, "ended")


async def test_ten_commands_a_minute() -> None:
    """The eleventh is refused, and a violation: the adapter should have known."""
    async with stage(helpful, Callee(patience_seconds=1000.0, rings_seconds=0)) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(lambda history: history.counts["webhooks.sent"] == 1, 5)
        session = agent.events[0]["message"]["call"]["id"]
        context = {"type": "inject-context", "content": "x", "trigger_response": False}
        statuses = [(await command(simulator, session, **context))[0] for _ in range(11)]
        assert statuses == [200] * 10 + [429]
        assert simulator.history.counts["violations.rate_limit"] == 1


async def test_a_transfer_and_a_limit() -> None:
    """Handed over, the call ends as `transferred`; a longest duration ends it as `max_duration`."""
    patient = Callee(patience_seconds=10_000.0, rings_seconds=0)
    async with stage(helpful, patient) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(lambda history: history.counts["webhooks.sent"] == 1, 5)
        session = agent.events[0]["message"]["call"]["id"]
        assert (await command(simulator, session, type="transfer", destination="+31201110099"))[0] == 200
        await simulator.wait_for(over(), 5)
        await dial(simulator.base_url, assistant_override={"max_duration_seconds": 20})
        await simulator.wait_for(over(2), 5)
        reasons = [event["message"].get("end_reason") for event in agent.events]
        assert [reason for reason in reasons if reason] == ["transferred", "max_duration"]


@pytest.mark.parametrize("told", ["silent", "ended-with-error"])
async def test_nobody_answers(told: str) -> None:
    """The vendor does not say whether it tells; both are played."""
    async with stage(helpful, Callee(answers=False), unanswered=told) as (simulator, agent):
        assert (await dial(simulator.base_url))[0] == 200
        await simulator.wait_for(over(), 5)
        await simulator.wait_for(lambda history: history.counts["calls.unanswered"] == 1, 5)
        assert heard(agent) == ([] if told == "silent" else [("status-update", "ended-with-error")])


@pytest.mark.parametrize(
    ("choice", "said", "ended"),
    [
        (None, "agent: Hello, this is the clinic.", "ended"),
        ({}, "agent: Hello, this is the clinic.", "ended"),
        ({"assistant_id": DEMO_ASSISTANT, "assistant_override": {"first_message": "Hi."}}, "agent: Hi.", "ended"),
        ({"error": "We are closed."}, "agent: We are closed.", "ended-with-error"),
    ],
)
async def test_somebody_calls(choice: object, said: str, ended: str) -> None:
    """The webhook is asked for the assistant before the call is answered."""
    async with stage(
        lambda message: choice if message["type"] == "assistant-request" else None, HANG_UP
    ) as (simulator, agent):  # fmt: skip
        status, _ = await request(simulator.base_url, "POST", "/_sim/inbound", body={"from": "+491761111111"})
        assert status == 201
        await simulator.wait_for(over(), 5)
        first = agent.events[0]["message"]
        assert (first["type"], first["call"]["status"], first["call"]["type"]) == (
            "assistant-request",
            "ringing",
            "inbound_phone_call",
        )
        assert first["customer"]["number"] == "+491761111111"
        [call] = simulator.history.calls.values()
        assert call.said[0] == said
        assert agent.events[-1]["message"]["call"]["status"] == ended
        assert not simulator.history.violations


@pytest.mark.parametrize(
    ("fault", "decided", "placed"),
    [
        (Answer(status=429, headers={"Retry-After": "1"}), "429", 0),
        (Answer(status=503, acts=True), "503", 1),
        (faults.Close(), "close", 1),
        (faults.HalfAnswer(), "half_answer", 1),
        (faults.AnswerLate(), "overtaken", 1),
    ],
)
async def test_dial_faults(fault: faults.ReplyFault, decided: str, placed: int) -> None:
    """Whether the phone rings is counted exactly."""
    async with stage(helpful, HANG_UP) as (simulator, agent):
        simulator.play(Script(callees=(HANG_UP,), dial_faults=(script.DialRule(fault=fault, number=CALLEE),)))
        status, _ = await request(
            simulator.base_url,
            "POST",
            "/calls/outbound",
            body={"destination": f"+{CALLEE}", "assistant_id": DEMO_ASSISTANT},
            Authorization="Bearer fl_live_demo",
        )
        history = simulator.history
        assert [record.decided for record in history.dials] == [decided]
        assert (history.received(CALLEE), history.placed(CALLEE)) == (1, placed)
        if decided == "overtaken":
            assert (status, heard(agent)[0]) == (200, ("status-update", "in-progress"))


async def test_webhook_faults() -> None:
    """A forged signature and a copy, as the script wants them."""
    rules = (
        script.WebhookRule(on="status-update", nth=1, fault=faults.WrongSecret()),
        script.WebhookRule(on="end-of-call-report", fault=faults.Duplicate(copies=2)),
    )
    callee = Callee(turns=(script.HangUp(),), webhook_faults=rules)
    async with stage(helpful, callee) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(lambda history: history.counts["webhooks.event.end-of-call-report"] == 2, 5)
        first = agent.requests[0]
        stamp = first.headers["x-webhook-timestamp"]
        signature = hmac.new(b"s3cret", f"{stamp}.".encode() + first.body, hashlib.sha256).hexdigest()
        assert first.headers["x-webhook-signature"] != f"sha256={signature}"
        assert [fault.fault for fault in simulator.history.webhooks] == ["wrong_secret", None, "duplicate", "duplicate"]


async def test_as_a_process() -> None:
    """It says where it listens, prints its timeline, and ends with code 0 on SIGTERM."""
    agent = Agent(lambda event: helpful(event["message"]))
    happened = await one_call_of_a_process("hms_sovereign", agent, dial, "--control-port", "0")
    assert {"dial received", "answered", "webhook", "webhook answered", "callee says"} <= set(happened)
