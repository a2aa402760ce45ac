"""The simulated jambonz keeps the contract's wire: what it takes, what it posts, how it reads answers, how it fails.

Clients and agents here speak HTTP by hand, so that nothing of the adapter stands between a test and the simulator.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from bridge.demo.simulators.faults import Answer, AnswerLate, Delay, Duplicate, Reset, WrongSecret
from bridge.demo.simulators.jambonz import (
    DEMO_ACCOUNT,
    DEMO_APPLICATION,
    Application,
    JambonzSettings,
    JambonzSimulator,
    verbs,
)
from bridge.demo.simulators.script import (
    Callee,
    DialRule,
    HangUp,
    Interrupt,
    Press,
    Say,
    Script,
    StaySilent,
    WebhookRule,
)
from bridge.demo.simulators.webhooks import Delivery
from tests.contract.simulator_stage import HooksAgent, listening, over, request

pytestmark = pytest.mark.anyio

CALLEE = "+15083084809"
HANG_UP = [{"verb": "hangup"}]
Body = dict[str, Any]
Answers = Callable[[str, Body], object]
SPEECH = {
    "speech_synthesis_vendor": "google",
    "speech_synthesis_language": "en-US",
    "speech_synthesis_voice": "x",
    "speech_recognizer_vendor": "google",
    "speech_recognizer_language": "en-US",
}


class Agent(HooksAgent[Body]):
    """The other side: hears hooks, answers with JSON."""

    def read(self, body: bytes) -> Body:
        """An object."""
        found: Body = json.loads(body)
        return found

    def written(self, given: object) -> Answer:
        """Verbs."""
        return Answer(status=200, body=json.dumps(given))

    @property
    def statuses(self) -> list[str]:
        """The call statuses so far."""
        return [body["call_status"] for body in self.of("status")]


@asynccontextmanager
async def stage(answers: Answers, *callees: Callee, **settings: Any) -> AsyncIterator[tuple[JambonzSimulator, Agent]]:
    """A simulator with these callees, and an agent that answers like this."""
    async with listening(Agent(answers), "/hooks") as agent:
        app = Application(call_hook=f"{agent.url}/call", call_status_hook=f"{agent.url}/status")
        whole = {"applications": (app,), "script": Script(callees=callees), "speed": 100.0, **settings}
        async with JambonzSimulator(JambonzSettings(**whole)) as simulator:
            yield simulator, agent


async def post(simulator: JambonzSimulator, body: Body, **headers: str) -> tuple[int, bytes]:
    """A request to dial with this body."""
    whole = {"Authorization": "Bearer vg-token", "Content_Type": "application/json"} | headers
    return await request(simulator.base_url, "POST", f"/v1/Accounts/{DEMO_ACCOUNT}/Calls", body=body, **whole)


async def dial(simulator: JambonzSimulator, number: str = CALLEE, **changes: Any) -> str:
    """A good request to dial; the call's sid."""
    to = {"type": "phone", "number": number}
    status, body = await post(simulator, {"application_sid": DEMO_APPLICATION, "from": "+1617", "to": to, **changes})
    assert status == 201, body
    return str(json.loads(body)["sid"])


async def put(simulator: JambonzSimulator, sid: str, body: Body) -> tuple[int, bytes]:
    """A control."""
    headers = {"Authorization": "Bearer vg-token", "Content_Type": "application/json"}
    return await request(simulator.base_url, "PUT", f"/v1/Accounts/{DEMO_ACCOUNT}/Calls/{sid}", body=body, **headers)


def hanging_up(word: str, _: Body) -> object:
    """Answer the first question with the end."""
    return None if word in {"status", "amd"} else HANG_UP


# ---- requests to dial


@pytest.mark.parametrize(("flavour", "spelt"), [("cognigy", "callid"), ("jambonz", "callId")])
async def test_a_call_is_placed(flavour: str, spelt: str) -> None:
    """201 with `sid` and the SIP call id in the flavour's spelling; webhooks carry both, and the tag."""
    async with stage(hanging_up, flavour=flavour) as (simulator, agent):
        to = {"type": "phone", "number": CALLEE}
        tag = {"a": {"b": 1}}
        status, body = await post(
            simulator, {"application_sid": DEMO_APPLICATION, "from": "+1617", "to": to, "tag": tag, "timeout": 20}
        )
        placed = json.loads(body)
        await simulator.wait_for(over(), 5)
        assert (status, placed.keys()) == (201, {"sid", spelt})
        for _, sent, _ in agent.posts:
            assert (sent["call_sid"], sent["call_id"], sent["customerData"]) == (placed["sid"], placed[spelt], tag)
        assert agent.statuses == ["trying", "ringing", "in-progress", "completed"]
        assert (simulator.history.placed("15083084809"), simulator.history.counts["violations"]) == (1, 0)


@pytest.mark.parametrize(
    ("changes", "status", "words", "is_breach"),
    [
        ({"from": ""}, 400, b"missing from parameter", True),
        ({"to": {"type": "phone"}}, 400, b"missing or invalid to property", True),
        ({"to": {"type": "sip", "number": "+1"}}, 400, b"missing or invalid to property", True),
        ({"application_sid": "x"}, 400, b"application_sid not found x", False),
        ({"application_sid": None}, 400, b"either application_sid or set of", True),
        ({"application_sid": None, **SPEECH}, 400, b"either call_hook or", True),
        ({"application_sid": None, **SPEECH, "call_hook": "/x"}, 400, b"absolute", True),
        ({"timeout": "20"}, 500, b"Internal Server Error", True),
        ({"timeout": 20.5}, 500, b"Internal Server Error", True),
        ({"tag": "x"}, 500, b"Internal Server Error", True),
        ({"amd": {}}, 500, b"Internal Server Error", True),
        ({"notifyUrl": "http://x"}, 500, b"Internal Server Error", True),
        ({"answerOnBridge": True}, 500, b"Internal Server Error", True),
        ({"Authorization": "Bearer x"}, 401, b"Unauthorized", False),
        ({"Content_Type": "text/plain"}, 400, b"missing from parameter", True),
    ],
)
async def test_wrong_requests_are_refused(changes: Body, status: int, words: bytes, *, is_breach: bool) -> None:
    """By layer A in words, by layer B as a bare 500; no phone rings, and an adapter's mistake is a violation."""
    headers = {name: changes.pop(name) for name in ("Authorization", "Content_Type") if name in changes}
    async with stage(hanging_up) as (simulator, _):
        body = {"application_sid": DEMO_APPLICATION, "from": "+1", "to": {"type": "phone", "number": CALLEE}} | changes
        answer = await post(simulator, body, **headers)
        assert (answer[0], words in answer[1]) == (status, True), answer
        assert not simulator.history.calls
        assert simulator.history.counts["violations.dial_request"] == int(is_breach)


async def test_cognigy_takes_a_url_to_notify() -> None:
    """Beside the application's own hooks, which are not ours."""
    async with stage(hanging_up, Callee(turns=(HangUp(),)), flavour="cognigy", applications=(Application(),)) as (
        simulator,
        agent,
    ):
        await dial(
            simulator, notifyUrl=f"{agent.url}/status/c-1#rc=3&rp=ct,5xx", amd={"actionHook": f"{agent.url}/amd"}
        )
        await simulator.wait_for(over(), 5)
        assert agent.statuses == ["trying", "ringing", "in-progress", "completed"]
        assert [body["type"] for body in agent.of("amd")] == ["amd_human_detected", "amd_stopped"]
        assert not agent.of("call")
        assert agent.posts[0][2].path == "/hooks/status/c-1"


async def test_hooks_are_signed() -> None:
    """Over the moment and the raw bytes; a script can have a wrong one."""
    rule = WebhookRule(on="ringing", fault=WrongSecret())
    async with stage(hanging_up, Callee(webhook_faults=(rule,))) as (simulator, agent):
        await dial(simulator)
        await simulator.wait_for(over(), 5)
        for _, body, exchange in agent.posts:
            moment, proof = exchange.headers["jambonz-signature"].split(",")
            signed = moment.removeprefix("t=").encode() + b"." + exchange.body
            right = hmac.new(b"wh_secret_demo", signed, hashlib.sha256).hexdigest()
            assert (proof == f"v1={right}") is (body["call_status"] != "ringing")


@pytest.mark.parametrize(
    ("callee", "refusals", "final", "sip_status"),
    [
        (Callee(answers=False), {}, "no-answer", 487),
        (Callee(), {"1508*": 486}, "busy", 486),
        (Callee(), {"*": 603}, "busy", 603),
        (Callee(), {"15083084809": 503}, "failed", 503),
    ],
)
async def test_nobody_answers(callee: Callee, refusals: dict[str, int], final: str, sip_status: int) -> None:
    """One final status, and no `completed`."""
    async with stage(hanging_up, callee, refusals=refusals) as (simulator, agent):
        await dial(simulator, timeout=10)
        await simulator.wait_for(over(), 5)
        assert (agent.statuses[0], agent.statuses[-1], len(agent.statuses)) == ("trying", final, 3)
        assert agent.of("status")[-1]["sip_status"] == sip_status


# ---- verbs


async def test_a_conversation() -> None:
    """Prompts, speech, keys, silence and an interruption reach the gather's hook; the line goes when the agent says so."""
    turns = (Say(text="yes"), Press(digits="12"), StaySilent(), Interrupt(text="stop", after_seconds=0.1))
    understood: list[object] = []

    def answers(word: str, body: Body) -> object:
        gather = {"verb": "gather", "input": ["speech", "digits"], "bargein": True, "actionHook": "verb"}
        if word == "verb":
            understood.append(body.get("digits") or body["reason"])
            if body["reason"] == "speechDetected":
                understood.append(body["speech"]["alternatives"][0]["transcript"])
        if word in {"status", "amd"}:
            return None
        more = [{**gather, "say": {"text": "and what would you like?"}}]
        return [{"verb": "say", "text": "Bye"}, *HANG_UP] if "stop" in understood else more

    async with stage(answers, Callee(turns=turns)) as (simulator, agent):
        await dial(simulator)
        await simulator.wait_for(over(), 5)
        [call] = simulator.history.calls.values()
        assert understood == ["speechDetected", "yes", "12", "timeout", "speechDetected", "stop"]
        assert (call.said[-1], call.ended_by) == ("agent: Bye", "agent")
        assert agent.of("status")[-1]["duration"] >= 1
        assert agent.of("status")[-1]["call_termination_by"] == "jambonz"
        assert not simulator.history.counts["violations"]


async def test_a_held_call() -> None:
    """Pause and redirect ask again; an array that ends is the end of the call."""
    asked = iter(
        [
            [{"verb": "pause", "length": 1}, {"verb": "redirect", "actionHook": "/hooks/verb"}],
            [{"verb": "dtmf", "dtmf": "1"}],
        ]
    )

    async with stage(lambda word, _: None if word == "status" else next(asked)) as (simulator, agent):
        await dial(simulator)
        await simulator.wait_for(over(), 5)
        assert [word for word, _, _ in agent.posts if word != "status"] == ["call", "verb"]
        assert simulator.history.counts["calls.ran_out_of_verbs"] == 1


@pytest.mark.parametrize(("succeeds", "result"), [(True, "completed"), (False, "no-answer")])
async def test_a_transfer(*, succeeds: bool, result: str) -> None:
    """The leg has statuses of its own, with its parent's sid; then the hook is asked."""
    dialling = [{"verb": "dial", "target": [{"type": "phone", "number": "+1"}], "actionHook": "/hooks/verb"}]
    answers: Answers = lambda word, _: {"call": dialling, "verb": HANG_UP}.get(word)  # noqa: E731

    async with stage(answers, Callee(transfer_succeeds=succeeds)) as (simulator, agent):
        sid = await dial(simulator)
        await simulator.wait_for(over(), 5)
        legs = [body for body in agent.of("status") if "parent_call_sid" in body]
        assert [body["call_status"] for body in legs] == ["trying", result]
        assert {body["parent_call_sid"] for body in legs} == {sid}
        assert agent.of("verb")[0]["dial_call_status"] == result


@pytest.mark.parametrize(
    ("answer", "breach"),
    [
        ([{"verb": "shout"}], "the unknown verb shout"),
        ([{"verb": "say", "text": "x", "loud": True}], "say with loud"),
        ([{"verb": "say"}], "say without text"),
        ([{"verb": "pause", "length": "1"}], "pause.length is no number"),
        ({"verb": "hangup"}, "not an array"),
        (Answer(status=201), "status 201"),
        (Answer(status=200, headers={"Content-Type": "application/json"}), "application/json without JSON"),
        (Answer(status=204, headers={"Content-Type": "application/json"}), "application/json without JSON"),
    ],
)
async def test_answers_that_are_not_understood(answer: object, breach: str) -> None:
    """Named, told to the status hook where the array is wrong; and the call ends for want of verbs."""
    async with stage(lambda word, _: None if word == "status" else answer) as (simulator, agent):
        await dial(simulator)
        await simulator.wait_for(over(), 5)
        assert [violation.detail for violation in simulator.history.violations] == [f"call_hook: {breach}"]
        told = [body["reason"] for body in agent.of("status") if "error" in body]
        assert told == ([] if isinstance(answer, Answer) else [breach])


# ---- steering


async def test_look_up() -> None:
    """A record shows the last status, without the tag and without times; it outlives the call, and then there is none."""
    answers: Answers = lambda word, _: {"call": [{"verb": "pause", "length": 3000}]}.get(word)  # noqa: E731
    async with stage(answers, Callee(rings_seconds=20)) as (simulator, _):

        async def record(sid: str) -> tuple[int, bytes]:
            path = f"/v1/Accounts/{DEMO_ACCOUNT}/Calls/{sid}"
            return await request(simulator.base_url, "GET", path, Authorization="Bearer vg-token")

        assert await record("5c1d3ac1-6a4b-4f43-a44b-32b8b9f5a1d2") == (404, b"Not Found")
        sid = await dial(simulator)
        rings = json.loads((await record(sid))[1])
        assert (rings["call_sid"], rings["call_status"]) == (sid, "trying")
        await simulator.wait_for(lambda history: history.counts["webhooks.event.call_hook"] > 0, 5)
        assert json.loads((await record(sid))[1])["call_status"] == "in-progress"
        assert (await put(simulator, sid, {"call_status": "completed"}))[0] == 202
        ended = json.loads((await record(sid))[1])
        assert (ended["call_status"], ended["call_termination_by"]) == ("completed", "jambonz")
        assert "customerData" not in ended


async def test_control() -> None:
    """States, one control a request, and a redirect that replaces what is being done."""
    answers: Answers = lambda word, _: {"call": [{"verb": "pause", "length": 3000}], "verb": HANG_UP}.get(word)  # noqa: E731
    async with stage(answers, Callee(rings_seconds=20)) as (simulator, agent):
        sid = await dial(simulator)
        assert (await put(simulator, sid, {"call_status": "completed"}))[0] == 422
        await simulator.wait_for(lambda history: history.counts["webhooks.event.call_hook"] > 0, 5)
        assert (await put(simulator, sid, {"call_status": "no-answer"}))[0] == 422
        assert await put(simulator, sid, {"dtmf": {"digit": "1"}}) == (202, b"Accepted")
        assert (await put(simulator, sid, {"mute_status": "off"}))[0] == 400
        assert (await put(simulator, sid, {"mute_status": "mute", "dtmf": {"digit": "1"}}))[0] == 400
        assert (await put(simulator, "5c1d3ac1-6a4b-4f43-a44b-32b8b9f5a1d2", {"call_status": "completed"}))[0] == 404
        assert (await put(simulator, sid, {"call_hook": f"{agent.url}/verb"}))[0] == 202
        await simulator.wait_for(over(), 5)
        answer = await put(simulator, sid, {"call_status": "completed"})
        assert (answer[0], b"is gone" in answer[1]) == (422, True)
        assert simulator.history.counts["updates.dtmf"] == 1


async def test_a_ringing_call_is_cancelled() -> None:
    """By `no-answer`; its status is the same as when nobody took it."""
    async with stage(hanging_up, Callee(rings_seconds=100)) as (simulator, agent):
        sid = await dial(simulator)
        assert (await put(simulator, sid, {"call_status": "no-answer"}))[0] == 202
        await simulator.wait_for(over(), 5)
        assert agent.statuses[-1] == "no-answer"


async def test_somebody_calls() -> None:
    """Inbound: the answer hook at once, without a tag."""
    async with stage(hanging_up) as (simulator, agent):
        sid = simulator.inbound("+4915790000687")
        await simulator.wait_for(over(), 5)
        [asked] = agent.of("call")
        assert (asked["call_sid"], asked["direction"], asked["from"]) == (sid, "inbound", "+4915790000687")
        assert "customerData" not in asked


# ---- faults


async def test_a_webhook_overtakes_the_201() -> None:
    """`trying` is answered before the dial is."""
    rules = (DialRule(fault=AnswerLate()),)
    async with stage(hanging_up, script=Script(dial_faults=rules)) as (simulator, agent):
        await dial(simulator)
        assert agent.statuses[0] == "trying"


async def test_a_dial_that_fails_and_rings() -> None:
    """The answer says no, the phone rings: exact counts."""
    rules = (DialRule(fault=Answer(status=500, acts=True), count=1), DialRule(fault=Answer(status=480), first=2))
    async with stage(hanging_up, script=Script(dial_faults=rules)) as (simulator, _):
        body = {"application_sid": DEMO_APPLICATION, "from": "+1", "to": {"type": "phone", "number": CALLEE}}
        assert [(await post(simulator, body))[0] for _ in range(2)] == [500, 480]
        assert (simulator.history.received("15083084809"), simulator.history.placed("15083084809")) == (2, 1)


async def test_statuses_come_mixed_and_twice() -> None:
    """As a script says: they are sent without waiting for one another."""
    rules = (WebhookRule(on="trying", fault=Delay(seconds=0.5)), WebhookRule(on="completed", fault=Duplicate()))
    async with stage(hanging_up, Callee(webhook_faults=rules)) as (simulator, agent):
        await dial(simulator)
        await simulator.wait_for(over(), 5)
        await anyio.sleep(0.05)
        assert sorted(agent.statuses) == ["completed", "completed", "in-progress", "ringing", "trying"]
        assert agent.statuses[-1] == "trying"


async def test_a_hook_is_repeated_only_where_its_url_says_so() -> None:
    """`#rc=3&rp=ct,5xx`: after a 503 and a reset, not after a 404; and never without."""
    answers = iter([Answer(status=503), Reset(), None])

    def failing(word: str, body: Body) -> object:
        if word == "status" and body["call_status"] == "trying":
            return next(answers)
        return Answer(status=404) if word == "status" else Answer(status=503)

    async with stage(failing) as (simulator, agent):
        hooks = {"call_hook": f"{agent.url}/call", "call_status_hook": f"{agent.url}/status/c#rc=3&rp=ct,5xx"}
        await dial(simulator, application_sid=None, **SPEECH, **hooks)
        await simulator.wait_for(over(), 5)
        assert sorted(agent.statuses) == ["completed", "in-progress", "ringing", "trying", "trying", "trying"]
        assert (len(agent.of("call")), simulator.history.counts["webhooks.retried"]) == (1, 2)


@pytest.mark.parametrize(
    ("url", "delivery", "waits"),
    [
        ("http://x/#rc=2", Delivery(None, b"", "", 0.0, "refused"), [0.5, 1.0, None]),
        ("http://x/#rc=2", Delivery(503, b"", "", 0.0), [None]),
        ("http://x/#rc=1&rp=5xx", Delivery(503, b"", "", 0.0), [0.5, None]),
        ("http://x/#rc=1&rp=4xx", Delivery(404, b"", "", 0.0), [0.5, None]),
        ("http://x/#rc=1&rp=ct", Delivery(None, b"", "", 10.0, "no_answer"), [None]),
        ("http://x/#rc=1&rp=all", Delivery(None, b"", "", 10.0, "no_answer"), [0.5, None]),
        ("http://x/#rc=1&rp=all", Delivery(204, b"", "", 0.0), [None]),
        ("http://x/", Delivery(None, b"", "", 0.0, "refused"), [None]),
    ],
)
def test_retry_policies(url: str, delivery: Delivery, waits: list[float | None]) -> None:
    """What a fragment asks for (contract 6)."""
    retry = verbs.retry_of(url)
    assert [retry.wait_seconds(delivery, tried=tried) for tried in range(len(waits))] == waits
