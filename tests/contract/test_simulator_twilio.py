"""The simulated Twilio keeps the contract's wire: what it takes, what it posts, how it reads TwiML, how it fails.

Clients and agents here speak HTTP by hand, so that nothing of the adapter stands between a test and the simulator.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from bridge.demo.simulators import faults
from bridge.demo.simulators.faults import Answer, AnswerLate, Close, Delay, Duplicate, WrongSecret
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
from bridge.demo.simulators.twilio import DEMO_ACCOUNT, DEMO_NUMBER, TwilioSettings, TwilioSimulator, twiml
from bridge.demo.simulators.webhooks import Delivery
from tests.contract.simulator_stage import HooksAgent, listening, over, request

pytestmark = pytest.mark.anyio

CALLEE = "+4915790000687"
HANG_UP = "<Response><Hangup/></Response>"
CALLS = f"/2010-04-01/Accounts/{DEMO_ACCOUNT}/Calls"
Form = dict[str, str]
Answers = Callable[[str, Form], object]
WAIT_SECONDS = 5.0


class Agent(HooksAgent[Form]):
    """The other side: hears webhooks, answers with TwiML."""

    def read(self, body: bytes) -> Form:
        """A form."""
        return dict(parse_qsl(body.decode(), keep_blank_values=True))

    def written(self, given: object) -> Answer:
        """A document."""
        return Answer(status=200, headers={"Content-Type": "text/xml"}, body=str(given))

    @property
    def statuses(self) -> list[str]:
        """The call statuses so far, as they came."""
        return [form["CallStatus"] for form in self.of("status")]


@asynccontextmanager
async def stage(answers: Answers, *callees: Callee, **settings: Any) -> AsyncIterator[tuple[TwilioSimulator, Agent]]:
    """A simulator with these callees, and an agent that answers like this."""
    async with listening(Agent(answers), "/hooks") as agent:
        whole = {"script": Script(callees=callees), "speed": 100.0, **settings}
        async with TwilioSimulator(TwilioSettings(**whole)) as simulator:
            yield simulator, agent


def order(agent: Agent, **changes: str | list[str] | None) -> dict[str, str | list[str]]:
    """A good request to dial, but for the changes."""
    whole: dict[str, str | list[str] | None] = {
        "To": CALLEE,
        "From": DEMO_NUMBER,
        "Url": f"{agent.url}/call",
        "StatusCallback": f"{agent.url}/status",
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


async def post(
    simulator: TwilioSimulator, form: dict[str, str | list[str]], *, path: str = f"{CALLS}.json", **headers: str
) -> tuple[int, Any]:
    """A request with this form; its status and JSON."""
    basic = base64.b64encode(f"{DEMO_ACCOUNT}:tw-token".encode()).decode()
    whole = {"Authorization": f"Basic {basic}", "Content_Type": "application/x-www-form-urlencoded", **headers}
    status, body = await request(simulator.base_url, "POST", path, body=urlencode(form, doseq=True).encode(), **whole)
    return status, json.loads(body) if body else None


async def dial(simulator: TwilioSimulator, agent: Agent, **changes: str | list[str] | None) -> str:
    """A good request to dial; the call's sid."""
    status, body = await post(simulator, order(agent, **changes))
    assert status == 201, body
    return str(body["sid"])


async def update(simulator: TwilioSimulator, sid: str, **form: str) -> tuple[int, Any]:
    """A control."""
    return await post(simulator, dict(form), path=f"{CALLS}/{sid}.json")


def hanging_up(word: str, _: Form) -> object:
    """Answer each question with the end."""
    return None if word in {"status", "amd", "recording"} else HANG_UP


def asking(*attributes: str) -> Answers:
    """Ask something, then hang up."""

    def answers(word: str, _: Form) -> object:
        prompt = f'<Gather action="gather" {" ".join(attributes)}><Say>Will you come?</Say></Gather>'
        return f"<Response>{prompt}</Response>" if word == "call" else hanging_up(word, _)

    return answers


# ---- requests to dial


async def test_a_call_is_placed() -> None:
    """201, `queued`; statuses in order with their numbers, the request for TwiML, one session."""
    async with stage(hanging_up) as (simulator, agent):
        status, body = await post(simulator, order(agent))
        await simulator.wait_for(over(), WAIT_SECONDS)

        assert (status, body["status"], body["to"], body["from"]) == (201, "queued", CALLEE, DEMO_NUMBER)
        assert sorted(agent.of("status"), key=lambda form: form["SequenceNumber"]) == agent.of("status")
        assert agent.statuses == ["initiated", "ringing", "in-progress", "completed"]
        [asked], [*_, last] = agent.of("call"), agent.of("status")
        assert (asked["CallSid"], asked["CallStatus"], asked["Direction"]) == (
            body["sid"],
            "in-progress",
            "outbound-api",
        )
        assert (last["CallbackSource"], last["SipResponseCode"]) == ("call-progress-events", "200")
        assert int(last["CallDuration"]) >= 1
        assert simulator.history.placed(CALLEE.lstrip("+")) == 1
        assert not simulator.history.violations


async def test_only_the_wanted_statuses_are_told() -> None:
    """Without a choice the last one."""
    async with stage(hanging_up) as (simulator, agent):
        await dial(simulator, agent, StatusCallbackEvent=None)
        await simulator.wait_for(over(), WAIT_SECONDS)
        assert agent.statuses == ["completed"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "is_breach"),
    [
        ({"To": None}, 400, 21201, True),
        ({"To": "015790000687"}, 400, 21211, True),
        ({"From": None}, 400, 21213, True),
        ({"From": "+14155550199"}, 400, 21210, False),
        ({"Url": None}, 400, 21205, True),
        ({"Url": "ftp://x.example"}, 400, 21205, True),
        ({"StatusCallbackEvent": "finished"}, 400, 21626, True),
        ({"Timeout": "601"}, 400, 20001, True),
        ({"MachineDetection": "true"}, 400, 20001, True),
        ({"Twiml": f"<Response>{'x' * 4000}</Response>"}, 400, 32018, True),
        ({"Twiml": "<Response>"}, 400, 20001, True),
        ({"Tag": "x"}, 400, 20001, True),
    ],
)
async def test_a_bad_request_to_dial_is_refused(
    changes: dict[str, str | None], status: int, code: int, *, is_breach: bool
) -> None:
    """With `{code, message, more_info, status}`; what only a wrong adapter sends is a breach."""
    async with stage(hanging_up) as (simulator, agent):
        got, body = await post(simulator, order(agent, **changes))
        assert (got, body["code"], body["status"]) == (status, code, status)
        assert body["more_info"].endswith(str(code))
        assert simulator.history.placed(CALLEE.lstrip("+")) == 0
        assert bool(simulator.history.violations) is is_breach


async def test_who_may_not_ask() -> None:
    """401 without the right credentials, 404 for another account; no breach."""
    async with stage(hanging_up) as (simulator, agent):
        wrong = base64.b64encode(b"AC1:wrong").decode()
        assert (await post(simulator, order(agent), Authorization=f"Basic {wrong}"))[1]["code"] == 20003
        other = f"/2010-04-01/Accounts/AC{'1' * 32}/Calls.json"
        assert (await post(simulator, order(agent), path=other))[1]["code"] == 20404
        assert not simulator.history.violations


@pytest.mark.parametrize(
    ("fault", "status", "places"),
    [
        (Answer(status=500, acts=True), 500, 1),
        (Answer(status=429, headers={"Retry-After": "2"}), 429, 0),
        (Close(), 0, 1),
    ],
)
async def test_faults_of_a_dial(fault: faults.ReplyFault, status: int, places: int) -> None:
    """As the script says, whether the phone rings or not."""
    async with stage(hanging_up) as (simulator, agent):
        simulator.play(Script(dial_faults=(DialRule(fault=fault),)))
        assert (await post(simulator, order(agent)))[0] == status
        assert simulator.history.placed(CALLEE.lstrip("+")) == places


async def test_a_webhook_may_overtake_the_answer() -> None:
    """201 after `initiated` was answered."""
    async with stage(hanging_up) as (simulator, agent):
        simulator.play(Script(dial_faults=(DialRule(fault=AnswerLate()),)))
        await dial(simulator, agent)
        assert agent.statuses[:1] == ["initiated"]


# ---- callees


@pytest.mark.parametrize(
    ("settings", "callee", "final", "sip_status"),
    [
        ({}, Callee(answers=False), "no-answer", "487"),
        ({"refusals": {"49*": 486}}, Callee(), "busy", "486"),
        ({"refusals": {"49*": 404}}, Callee(), "failed", "404"),
    ],
)
async def test_a_call_that_nobody_takes(settings: dict[str, Any], callee: Callee, final: str, sip_status: str) -> None:
    """Its last status says why, and no TwiML is asked for."""
    async with stage(hanging_up, callee, **settings) as (simulator, agent):
        await dial(simulator, agent, Timeout="20")
        await simulator.wait_for(over(), WAIT_SECONDS)
        assert agent.statuses[-1] == final
        assert (agent.of("status")[-1]["SipResponseCode"], agent.of("call")) == (sip_status, [])


@pytest.mark.parametrize(
    ("turn", "attributes", "heard"),
    [
        (Say(text="yes & no"), ['input="speech dtmf"'], {"SpeechResult": "yes & no"}),
        (Interrupt(text="stop", after_seconds=0.1), ['input="speech"'], {"SpeechResult": "stop"}),
        (Press(digits="12#"), ['input="dtmf"'], {"Digits": "12"}),
        (Press(digits="1234"), ['numDigits="2"'], {"Digits": "12"}),
        (Press(digits="12#"), ['finishOnKey=""'], {"Digits": "12#"}),
        (StaySilent(), ['actionOnEmptyResult="true"', 'timeout="1"'], {"Digits": ""}),
        (Say(text="x"), ['input="dtmf"', 'actionOnEmptyResult="true"'], {"Digits": ""}),
    ],
)
async def test_what_a_gather_understands(turn: Any, attributes: list[str], heard: Form) -> None:
    """Speech and keys, as far as it listens for them; silence only where it is asked for."""
    async with stage(asking(*attributes), Callee(turns=(turn,))) as (simulator, agent):
        await dial(simulator, agent)
        await simulator.wait_for(over(), WAIT_SECONDS)
        [asked] = agent.of("gather")
        assert {name: asked.get(name) for name in heard} == heard
        [call] = simulator.history.calls.values()
        assert call.said[0] == "agent: Will you come?"
        assert not simulator.history.violations


async def test_a_gather_that_hears_nothing_falls_through() -> None:
    """To the next verb, and without one the call is hung up."""
    async with stage(asking('timeout="1"')) as (simulator, agent):
        await dial(simulator, agent)
        await simulator.wait_for(over(), WAIT_SECONDS)
        assert agent.of("gather") == []
        assert simulator.history.counts["calls.ran_out_of_verbs"] == 1


async def test_the_callee_hangs_up() -> None:
    """While a gather listens."""
    async with stage(asking(), Callee(turns=(HangUp(),))) as (simulator, agent):
        await dial(simulator, agent)
        await simulator.wait_for(over(), WAIT_SECONDS)
        [call] = simulator.history.calls.values()
        assert (call.ended_by, agent.statuses[-1]) == ("callee", "completed")


async def test_an_inbound_call() -> None:
    """The number's Voice URL is asked while it rings; the first TwiML answers, and only the end is told."""
    async with stage(hanging_up) as (simulator, agent):
        simulator.point_webhooks_at(agent.url)
        session = simulator.inbound("+4915790000600")
        await simulator.wait_for(over(), WAIT_SECONDS)
        [asked] = agent.of("call")
        assert (asked["CallSid"], asked["Direction"], asked["To"]) == (session, "inbound", DEMO_NUMBER)
        assert (asked["CallStatus"], agent.statuses) == ("ringing", ["completed"])
        with pytest.raises(ValueError, match="http"):
            simulator.point_webhooks_at("wss://x")
        with pytest.raises(ValueError, match="one number"):
            simulator.inbound("+491", flow_id="x")


async def test_an_inbound_call_is_rejected() -> None:
    """It was never answered."""
    async with stage(lambda word, _: "<Response><Reject/></Response>" if word == "call" else None) as (
        simulator,
        agent,
    ):
        simulator.point_webhooks_at(agent.url)
        simulator.inbound("+4915790000600")
        await simulator.wait_for(over(), WAIT_SECONDS)
        [call] = simulator.history.calls.values()
        assert (call.state, agent.statuses, agent.of("status")[0]["CallDuration"]) == ("unanswered", ["busy"], "0")


# ---- detection and recordings


async def test_detection_beside_the_call_and_before_it() -> None:
    """A callback of its own; or in the request for TwiML, which then waits."""
    async with stage(asking(), Callee(turns=(StaySilent(),), is_machine=True)) as (simulator, agent):
        callback = f"{agent.url}/amd"
        await dial(simulator, agent, MachineDetection="Enable", AsyncAmd="true", AsyncAmdStatusCallback=callback)
        await simulator.wait_for(over(), WAIT_SECONDS)
        [found] = agent.of("amd")
        assert (found["AnsweredBy"], found["MachineDetectionDuration"]) == ("machine_start", "2400")
        assert "CallStatus" not in found
        assert "AnsweredBy" not in agent.of("call")[0]
    async with stage(hanging_up) as (simulator, agent):
        await dial(simulator, agent, MachineDetection="Enable")
        await simulator.wait_for(over(), WAIT_SECONDS)
        assert (agent.of("call")[0]["AnsweredBy"], agent.of("amd")) == ("human", [])


async def test_a_recorded_call() -> None:
    """Where the recording is, is told after the end."""
    async with stage(hanging_up) as (simulator, agent):
        await dial(simulator, agent, Record="true", RecordingStatusCallback=f"{agent.url}/recording")
        await simulator.wait_for(over(), WAIT_SECONDS)
        [told] = agent.of("recording")
        assert (told["RecordingStatus"], told["RecordingUrl"][:8]) == ("completed", "https://")


# ---- webhooks on the wire


@pytest.mark.parametrize("signs_fragment", [False, True])
async def test_webhooks_are_signed(*, signs_fragment: bool) -> None:
    """HMAC-SHA1 under the auth token over the URL that was ordered and the sorted parameters."""
    async with stage(hanging_up, signs_fragment=signs_fragment) as (simulator, agent):
        await dial(simulator, agent, Url=f"{agent.url}/call#rc=2")
        await simulator.wait_for(over(), WAIT_SECONDS)
        [(_, form, exchange)] = [post for post in agent.posts if post[0] == "call"]
        url = f"{agent.url}/call{'#rc=2' if signs_fragment else ''}"
        told = url + "".join(name + form[name] for name in sorted(form))
        proof = base64.b64encode(hmac.new(b"tw-auth-token", told.encode(), hashlib.sha1).digest()).decode()
        assert exchange.headers["x-twilio-signature"] == proof
        assert exchange.headers["content-type"].startswith("application/x-www-form-urlencoded")


async def test_faults_of_webhooks() -> None:
    """Late, twice, and with a wrong proof, as the script says."""
    faulty = Callee(
        webhook_faults=(
            WebhookRule(on="initiated", fault=Delay(seconds=0.3)),
            WebhookRule(on="ringing", fault=Duplicate()),
            WebhookRule(on="in-progress", fault=WrongSecret()),
        )
    )
    async with stage(hanging_up, faulty) as (simulator, agent):
        await dial(simulator, agent)
        await simulator.wait_for(over(), WAIT_SECONDS)
        assert agent.statuses[-1] == "initiated"  # all others overtook it
        numbers = [int(form["SequenceNumber"]) for form in agent.of("status")]
        assert sorted(numbers) == [0, 1, 1, 2, 3]
        assert numbers != sorted(numbers)


async def test_webhooks_are_tried_again_as_their_url_says() -> None:
    """After a 5xx only where that is asked for, and no more often."""
    for overrides, tries in (("", 1), ("#rc=2&rp=ct,5xx", 3), ("#rc=2&rp=4xx", 1)):
        async with stage(lambda word, _: Answer(status=503) if word == "call" else None) as (simulator, agent):
            await dial(simulator, agent, Url=f"{agent.url}/call{overrides}")
            await simulator.wait_for(over(), WAIT_SECONDS)
            assert len(agent.of("call")) == tries
            assert simulator.history.counts["calls.application_errors"] == 1


# ---- TwiML


@pytest.mark.parametrize(
    ("answer", "breach"),
    [
        (None, "12300"),
        (Answer(status=200, headers={"Content-Type": "application/json"}, body="[]"), "12300"),
        (Answer(status=404), "status 404"),
        ("<Response>", "12100"),
        ("<Say>x</Say>", "12100"),
        ("<Response><Sey>x</Sey></Response>", "12200"),
        ('<Response><Say volume="1">x</Say></Response>', "12200"),
        ('<Response><Pause length="1.5"/></Response>', "12200"),
        ("<Response><Say></Say></Response>", "12200"),
        ("<Response><Gather><Dial>1</Dial></Gather></Response>", "12200"),
        (f"<Response><Say>{'x' * 64_000}</Say></Response>", "11750"),
        ("<Response/>", None),
        (Answer(status=500), None),
    ],
)
async def test_an_answer_that_is_wrong_ends_the_call(answer: object, breach: str | None) -> None:
    """What only a wrong adapter says is a breach; every one of these leads to the end."""
    async with stage(lambda word, _: answer if word == "call" else None) as (simulator, agent):
        await dial(simulator, agent)
        await simulator.wait_for(over(), WAIT_SECONDS)
        found = [violation.detail for violation in simulator.history.violations]
        assert [breach in detail for detail in found] == ([True] if breach else []) if breach else found == []


async def test_verbs_one_after_the_other() -> None:
    """Say, Play, Pause, a Record and a Dial with their actions, a Redirect: all are done."""
    parts = {
        "call": "<Say>One &amp; two</Say><Play>https://a.example/x.mp3</Play><Pause/>"
        '<Record action="recorded" maxLength="3"/>',
        "recorded": '<Play digits="1"/><Redirect>next</Redirect>',
        "next": '<Dial action="dialled" timeout="5"><Number>+49301234567</Number></Dial>',
        "dialled": "<Hangup/>",
    }

    def answers(word: str, _: Form) -> object:
        return f"<Response>{parts[word]}</Response>" if word in parts else None

    async with stage(answers, Callee(transfer_succeeds=False)) as (simulator, agent):
        await dial(simulator, agent)
        await simulator.wait_for(over(), WAIT_SECONDS)
        [call] = simulator.history.calls.values()
        assert call.said == ["agent: One & two", "agent: (plays https://a.example/x.mp3)", "agent: (plays 1)"]
        assert agent.of("recorded")[0]["RecordingUrl"].startswith("https://")
        assert agent.of("dialled")[0]["DialCallStatus"] == "no-answer"
        assert call.ended_by == "agent"
        assert not simulator.history.violations


def test_the_overrides_of_a_url() -> None:
    """One retry after a failed connection, unless the fragment says otherwise."""
    answers = {name: Delivery(status, b"", "", 0.0, name) for name, status in (("no_answer", None), ("lost", None))}
    busy = Delivery(503, b"", "", 0.0)
    usual = twiml.retry_of("http://x/")
    assert usual.wants_more(answers["lost"], tried=0)
    assert not usual.wants_more(answers["lost"], tried=1)
    assert not usual.wants_more(busy, tried=0)
    asked = twiml.retry_of("http://x/#rc=3&rp=rt,5xx")
    assert asked.wants_more(busy, tried=2)
    assert asked.wants_more(answers["no_answer"], tried=0)
    assert not asked.wants_more(answers["lost"], tried=0)


# ---- control


def holding(word: str, _: Form) -> object:
    """Hold the call for long."""
    return "<Response><Pause length='60'/></Response>" if word == "call" else hanging_up(word, _)


async def test_a_live_call_is_steered() -> None:
    """Other TwiML in place of what is being done; a look; the end."""
    async with stage(holding) as (simulator, agent):
        sid = await dial(simulator, agent)
        await simulator.wait_for(lambda history: history.counts["webhooks.event.call"] > 0, WAIT_SECONDS)
        status, body = await update(simulator, sid, Twiml="<Response><Say>Hello</Say><Pause length='60'/></Response>")
        assert (status, body["status"]) == (200, "in-progress")
        assert (await update(simulator, sid, Status="canceled"))[1]["status"] == "in-progress"
        assert (await update(simulator, sid, Status="completed"))[1]["status"] == "completed"
        await simulator.wait_for(over(), WAIT_SECONDS)
        [call] = simulator.history.calls.values()
        assert (call.said, call.ended_by) == (["agent: Hello"], "agent")
        assert (await update(simulator, sid, Twiml=HANG_UP))[1]["code"] == 21220
        assert not simulator.history.violations


async def test_a_ringing_call_is_cancelled() -> None:
    """It cannot be given TwiML yet."""
    async with stage(hanging_up, Callee(rings_seconds=300)) as (simulator, agent):
        sid = await dial(simulator, agent)
        assert (await update(simulator, sid, Url=f"{agent.url}/call"))[1]["code"] == 21220
        assert (await update(simulator, sid, Status="completed"))[0] == 200
        await simulator.wait_for(over(), WAIT_SECONDS)
        assert agent.statuses[-1] == "canceled"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, 20001),
        ({"Status": "busy"}, 21218),
        ({"Twiml": HANG_UP, "Url": "http://x/"}, 20001),
        ({"Twiml": "<Response>"}, 20001),
        ({"Url": "x"}, 21205),
        ({"Say": "x"}, 20001),
    ],
)
async def test_a_bad_control_is_refused(form: Form, code: int) -> None:
    """And is a breach; an unknown call is none."""
    async with stage(holding) as (simulator, agent):
        sid = await dial(simulator, agent)
        await simulator.wait_for(lambda history: history.counts["webhooks.event.call"] > 0, WAIT_SECONDS)
        assert (await update(simulator, sid, **form))[1]["code"] == code
        assert simulator.history.violations
        assert (await update(simulator, "CA1", Status="completed"))[1]["code"] == 20404
