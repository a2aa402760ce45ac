"""The simulated TalkifAI against a raw client and a raw agent: it talks as the contract says.

Each test places calls at a hundred times life's speed, answers the webhooks itself, and looks at what was sent and what
the history remembers.
"""

import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.demo.simulators import faults, script
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.history import History
from bridge.demo.simulators.script import Callee, Say, Script
from bridge.demo.simulators.talkifai import DEMO_NUMBER, TalkifaiSettings, TalkifaiSimulator
from bridge.demo.simulators.talkifai import Agent as Voice
from tests.contract.simulator_stage import CALLEE, Agent, Event, listening, one_call_of_a_process, request

pytestmark = pytest.mark.anyio

SHORT = Callee(turns=(Say(text="Yes."), script.HangUp()))
PATH = "/telephony/outbound-call"


def fine(_: Event) -> object:
    """Take every webhook."""
    return Answer(status=200)


@asynccontextmanager
async def stage(
    answers: Callable[[Event], object], *callees: Callee, **settings: Any
) -> AsyncIterator[tuple[TalkifaiSimulator, Agent]]:
    """A simulator with these callees, and an agent that answers like this."""
    async with listening(Agent(answers)) as agent:
        whole: dict[str, Any] = {
            "webhook_url": agent.url,
            "webhook_secret": "s3cret",
            "numbers": {DEMO_NUMBER: Voice(), "+12025550188": Voice(speaks=False)},
            "script": Script(callees=callees),
            "speed": 100.0,
            **settings,
        }
        async with TalkifaiSimulator(TalkifaiSettings(**whole)) as simulator:
            yield simulator, agent


async def dial(url: str, to: str = f"%2B{CALLEE}", caller: str = "%2B12025550177", **changes: Any) -> tuple[int, Any]:
    """A request to dial, right but for the changes; the answer's JSON."""
    headers = {"Authorization": "Bearer tf-key"} | changes.pop("headers", {})
    query = changes.pop("query", f"?to_number={to}&from_number={caller}")
    status, answer = await request(url, "POST", PATH + query, **headers, **changes)
    return status, json.loads(answer or b"null")


def sent(count: int) -> Callable[[History], bool]:
    """So many webhooks are over."""
    return lambda history: history.counts["webhooks.sent"] == count


async def test_a_call_is_placed_and_told() -> None:
    """The answer comes when the callee has answered; then the account's webhooks, signed over the body alone."""
    async with stage(fine, SHORT) as (simulator, agent):
        began = time.monotonic()
        status, answer = await dial(simulator.base_url)
        assert status == 200
        assert time.monotonic() - began >= 0.04  # four seconds of ringing
        assert answer["room_name"].rpartition("_")[0] == f"outbound_agent_q7_{CALLEE}"
        assert (answer["from_number"], answer["to_number"]) == (DEMO_NUMBER, f"+{CALLEE}")
        await simulator.wait_for(sent(3), 5)
        assert [event["type"] for event in agent.events] == ["call.started", "call.ended", "transcript.ready"]
        started, ended, _ = agent.events
        assert started["data"] == {
            "callId": started["data"]["callId"],
            "agentId": "agent_q7",
            "direction": "outbound",
            "from": DEMO_NUMBER,
            "to": f"+{CALLEE}",
        }
        assert (ended["data"]["status"], ended["data"]["endReason"]) == ("completed", "user_hangup")
        assert len({event["id"] for event in agent.events}) == 3
        first = agent.requests[0]
        expected = hmac.new(b"s3cret", first.body, hashlib.sha256).hexdigest()
        assert first.headers["x-talkifai-signature"] == f"sha256={expected}"
        assert simulator.history.placed(CALLEE) == simulator.history.received(CALLEE) == 1
        assert not simulator.history.violations


@pytest.mark.parametrize("tells", [True, False])
async def test_nobody_answers(*, tells: bool) -> None:
    """408 after the time of ringing, and perhaps an event."""
    async with stage(fine, Callee(answers=False), tells_no_answer=tells) as (simulator, agent):
        began = time.monotonic()
        assert await dial(simulator.base_url) == (408, {"detail": "Call timed out (no answer)"})
        assert time.monotonic() - began >= 0.6
        await simulator.wait_for(sent(int(tells)), 5)
        assert [event["type"] for event in agent.events] == ["call.failed"] * tells
        assert simulator.history.counts["calls.unanswered"] == 1
        assert simulator.history.placed(CALLEE) == 1


@pytest.mark.parametrize(
    ("changes", "status", "is_breach"),
    [
        ({"headers": {"Authorization": "Bearer wrong"}}, 401, False),
        ({"caller": "%2B12025550100"}, 404, False),
        ({"caller": "%2B12025550188"}, 400, False),
        ({"to": f"+{CALLEE}"}, 400, True),  # a space, once it is decoded
        ({"to": CALLEE}, 400, True),
        ({"query": ""}, 422, True),
        ({"query": f"?to_number=%2B{CALLEE}"}, 422, True),
        ({"body": {"to_number": f"+{CALLEE}"}}, 400, True),
    ],
)
async def test_wrong_requests_are_refused(changes: dict[str, Any], status: int, *, is_breach: bool) -> None:
    """No phone rings; what only a wrong adapter would send is recorded as a violation."""
    async with stage(fine) as (simulator, _):
        assert (await dial(simulator.base_url, **changes))[0] == status
        assert simulator.history.counts[f"dials.decided.{status}"] == 1
        assert not simulator.history.calls
        assert simulator.history.counts["violations.dial_request"] == int(is_breach)


@pytest.mark.parametrize(("auth", "status"), [("either", 200), ("x-api-key", 200), ("bearer", 401)])
async def test_the_other_header(auth: str, status: int) -> None:
    """The vendor's pages name both."""
    async with stage(fine, SHORT, auth=auth) as (simulator, _):
        headers = {"Authorization": "", "X_API_Key": "tf-key"}
        assert (await dial(simulator.base_url, headers=headers))[0] == status


async def test_both_envelopes() -> None:
    """The agent's has the room's name, no id and no signature yet."""
    async with stage(fine, SHORT, envelopes=("account", "agent")) as (simulator, agent):
        _, answer = await dial(simulator.base_url)
        await simulator.wait_for(sent(6), 5)
        own = [index for index, event in enumerate(agent.events) if "event" in event]
        assert Counter(agent.events[index]["event"] for index in own) == {
            "call.started": 1,
            "call.ended": 1,
            "transcript.ready": 1,
        }
        assert {agent.events[index]["data"]["roomName"] for index in own} == {answer["room_name"]}
        assert not [index for index in own if "id" in agent.events[index]]
        assert not [index for index in own if "x-talkifai-signature" in agent.requests[index].headers]


async def test_what_is_not_taken_is_sent_again() -> None:
    """Not 200, not even 204: the same bytes and id come again; after three retries it is given up."""
    given = iter([Answer(status=503), Answer(status=204)])

    def answers(event: Event) -> object:
        if event["type"] == "call.ended":
            return Answer(status=500)
        return next(given, Answer(status=200)) if event["type"] == "call.started" else Answer(status=200)

    async with stage(answers, SHORT, speed=20_000.0) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(lambda history: history.counts["webhooks.given_up"] == 1, 5)
        await simulator.wait_for(sent(3 + 4 + 1), 5)
        bodies = Counter(exchange.body for exchange in agent.requests)
        ids = Counter(event["id"] for event in agent.events)
        assert sorted(bodies.values()) == sorted(ids.values()) == [1, 3, 4]
        assert simulator.history.counts["webhooks.retried"] == 5


@pytest.mark.parametrize(
    ("fault", "decided", "placed"),
    [
        (Answer(status=429, headers={"Retry-After": "1"}), "429", 0),
        (Answer(status=500, acts=True), "500", 1),
        (faults.Close(), "close", 1),
        (faults.AnswerLate(), "overtaken", 1),
    ],
)
async def test_dial_faults(fault: faults.ReplyFault, decided: str, placed: int) -> None:
    """Whether the phone rings is counted exactly."""
    async with stage(fine, SHORT) as (simulator, agent):
        simulator.play(Script(callees=(SHORT,), dial_faults=(script.DialRule(fault=fault, number=CALLEE),)))
        status, _ = await dial(simulator.base_url)
        history = simulator.history
        assert [record.decided for record in history.dials] == [decided]
        assert (history.received(CALLEE), history.placed(CALLEE)) == (1, placed)
        if decided == "overtaken":
            assert (status, agent.events[0]["type"]) == (200, "call.started")


async def test_webhook_faults() -> None:
    """A forged signature is not taken, and comes again honest."""
    rule = script.WebhookRule(on="call.started", fault=faults.WrongSecret())
    callee = Callee(turns=(script.HangUp(),), webhook_faults=(rule,))
    heard: list[bool] = []

    def answers(_: Event) -> object:
        exchange = agent.requests[-1]
        signature = hmac.new(b"s3cret", exchange.body, hashlib.sha256).hexdigest()
        heard.append(exchange.headers["x-talkifai-signature"] == f"sha256={signature}")
        return Answer(status=200 if heard[-1] else 401)

    async with stage(answers, callee, speed=1000.0) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(sent(4), 5)
        assert (heard[0], heard.count(True)) == (False, 3)
        assert simulator.history.counts["webhooks.status.401"] == 1


async def test_inbound_calls_are_not_simulated() -> None:
    """And the control interface says so."""
    async with stage(fine) as (simulator, _):
        assert (await request(simulator.base_url, "POST", "/_sim/inbound", body={"from": "+491761111111"}))[0] == 400


async def test_as_a_process() -> None:
    """It says where it listens, prints its timeline, and ends with code 0 on SIGTERM."""
    happened = await one_call_of_a_process("talkifai", Agent(fine), dial, "--agent-events")
    assert {"dial received", "answered", "webhook", "webhook answered", "callee says"} <= set(happened)
