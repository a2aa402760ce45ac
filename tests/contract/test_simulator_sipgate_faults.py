"""The simulated sipgate when things go wrong, in the long run, over HTTP and as a process.

What each fault does on the wire is the matter of test_simulator_http1.py; here it is when they strike, what becomes of
the call, and what the history says of it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.simulators import faults, http1, script
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.script import Callee, Say, Script
from tests.contract.simulator_stage import (
    CALLEE,
    Agent,
    dial,
    one_call_of_a_process,
    over,
    reminder,
    request,
    silent,
    stage,
)

pytestmark = pytest.mark.anyio

SCRIPTS = Path(http1.__file__).parents[1] / "scripts"

# ---- faults


def one_dial(fault: faults.ReplyFault, **rule: Any) -> Script:
    """A script with one rule."""
    callees = (Callee(turns=(script.HangUp(unprompted=True),)),)
    return Script(callees=callees, dial_faults=(script.DialRule(fault=fault, **rule),))


@pytest.mark.parametrize(
    ("fault", "decided", "placed"),
    [
        (Answer(status=429, headers={"Retry-After": "1"}), "429", 0),
        (Answer(status=503, acts=True), "503", 1),
        (faults.Close(), "close", 1),
        (faults.HalfAnswer(), "half_answer", 1),
        (faults.Garbled(data="HTTP?"), "garbled", 1),
        (faults.Hang(seconds=0.05, acts=False), "hang", 0),
    ],
)
async def test_dial_faults(fault: faults.ReplyFault, decided: str, placed: int) -> None:
    """The rule hits the numbers and requests it names; whether the phone rings is counted exactly."""
    async with stage(silent) as (simulator, _):
        simulator.play(one_dial(fault, number=CALLEE, first=2, count=1))
        assert (await dial(simulator.base_url, "4930123456"))[0] == 201
        assert (await dial(simulator.base_url))[0] == 201
        status, _ = await dial(simulator.base_url)
        assert status != 201 or decided == "half_answer"
        assert (await dial(simulator.base_url))[0] == 201
        history = simulator.history
        assert [record.decided for record in history.dials if record.number == CALLEE] == ["201", decided, "201"]
        assert history.received(CALLEE) == 3
        assert history.placed(CALLEE) == 2 + placed
        await simulator.wait_for(over(3 + placed), 5)


async def test_connection_faults_leave_a_trace_only_if_something_was_read() -> None:
    """A reset before reading begins nothing; a reset behind the head begins and does not receive."""
    rules = (
        script.ConnectionRule(first=1, count=1, fault=faults.ResetUnread()),
        script.ConnectionRule(first=2, count=1, fault=faults.ResetAfterHead()),
    )
    async with stage(silent, control_port=0, script=Script(connection_faults=rules)) as (simulator, _):
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await dial(simulator.base_url)
        counts = simulator.history.counts
        assert (counts["dials.began"], counts["dials.received"]) == (1, 0)
        assert simulator.history.dials[0].decided == "unfinished"
        assert simulator.control_url is not None
        assert (await request(simulator.control_url, "GET", "/_sim/history"))[0] == 200
        assert (await dial(simulator.base_url))[0] == 201


async def test_the_webhook_overtakes_the_answer() -> None:
    """`session_start` is answered before the 201 is sent."""
    order: list[str] = []
    async with stage(lambda event: order.append(event["type"])) as (simulator, _):
        simulator.play(one_dial(faults.AnswerLate()))
        assert (await dial(simulator.base_url))[0] == 201
        assert order[0] == "session_start"


async def test_duplicates_come_on_connections_of_their_own_and_count_once() -> None:
    """Three copies of a webhook: the agent hears three, the call does what one of them was answered."""
    rule = script.WebhookRule(on="session_start", fault=faults.Duplicate(copies=3))
    callee = Callee(turns=(Say(text="Yes"),), webhook_faults=(rule,))
    async with stage(reminder, callee) as (simulator, agent):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        await simulator.wait_for(lambda history: history.counts["webhooks.event.session_start"] == 3, 5)
        assert agent.heard.count("session_start") == 3
        assert len({sent.connection for sent in agent.requests[:3]}) == 3
        assert len({sent.body for sent in agent.requests[:3]}) == 1
        [call] = simulator.history.calls.values()
        assert len(call.said) == 3


@pytest.mark.parametrize(
    ("fault", "failure", "status"),
    [
        (faults.Drop(after_seconds=0.02), "dropped", None),
        (faults.Drop(after_seconds=0.02, reset=True), "dropped", None),
        (faults.LeaveUnread(seconds=0.02), "left_unread", None),
        (faults.Cut(), "cut", None),
        (faults.WrongSecret(), None, 204),
        (faults.Delay(seconds=0.02), None, 204),
    ],
)
async def test_webhook_faults(fault: faults.WebhookFault, failure: str | None, status: int | None) -> None:
    """A call goes on after each of them, and the history names it."""
    rule = script.WebhookRule(on="session_start", fault=fault)
    callee = Callee(turns=(script.HangUp(unprompted=True),), webhook_faults=(rule,))
    is_lost = isinstance(fault, faults.Drop)
    async with stage(lambda event: faults.Hang() if is_lost and event["type"] == "session_start" else None, callee) as (
        simulator,
        agent,
    ):
        await dial(simulator.base_url)
        await simulator.wait_for(over(), 5)
        [first] = [webhook for webhook in simulator.history.webhooks if webhook.event == "session_start"]
        assert (first.failure, first.status) == (failure, status)
        assert first.fault == fault.__struct_config__.tag
        assert simulator.history.counts["webhooks.event.session_end"] == 1
        if isinstance(fault, faults.WrongSecret):
            assert agent.requests[0].headers["x-api-token"] != "s3cret"


# ---- memory, time, processes


async def test_memory_is_bounded_and_counts_are_exact() -> None:
    """Details of old things are forgotten; totals and counts by number are not."""
    callee = Callee(turns=(script.HangUp(unprompted=True),))
    async with stage(silent, callee, history_limit=3, speed=10_000.0) as (simulator, _):
        for index in range(10):
            await dial(simulator.base_url, f"49301234{index}")
        await simulator.wait_for(lambda history: history.counts["webhooks.event.session_end"] == 10, 5)
        history = simulator.history
        assert (len(history.dials), len(history.webhooks), len(history.calls)) == (3, 3, 3)
        assert history.counts["calls.ended"] == 10
        assert [history.placed(f"49301234{index}") for index in range(10)] == [1] * 10


async def test_waiting_in_vain_says_what_was_seen() -> None:
    """The time-out carries the counters."""
    async with stage(silent) as (simulator, _):
        await dial(simulator.base_url)
        with pytest.raises(TimeoutError, match=r"dials\.received"):
            await simulator.wait_for(lambda _: False, 0.01)


async def test_the_control_interface() -> None:
    """Script, receiver and history are reachable over HTTP; nonsense is refused with a reason."""
    async with stage(silent, speed=10_000.0) as (simulator, agent):
        url = simulator.base_url
        toml = b'[[callees]]\nturns = [{ do = "hang_up", unprompted = true }]\n'
        assert (await request(url, "PUT", "/_sim/script", body=toml, Content_Type="application/toml"))[0] == 204
        assert (await request(url, "PUT", "/_sim/script", body={"callees": [{"mood": "bad"}]}))[0] == 400
        assert (await request(url, "PUT", "/_sim/webhook", body={"url": agent.url + "/elsewhere"}))[0] == 204
        assert (await request(url, "PUT", "/_sim/webhook", body={"url": "ftp://x"}))[0] == 400
        assert (await request(url, "POST", "/_sim/release"))[0] == 204
        assert (await request(url, "GET", "/_sim/nothing"))[0] == 404
        await dial(url)
        await simulator.wait_for(over(), 5)
        assert agent.requests[0].path == "/webhooks/demo/elsewhere"
        shown = json.loads((await request(url, "GET", f"/_sim/calls?number={CALLEE}"))[1])
        assert shown["counts"] == {"received": 1, "placed": 1, "decided": {"201": 1}}
        assert [webhook["event"] for webhook in shown["webhooks"]] == ["session_start", "session_end"]
        whole = json.loads((await request(url, "GET", "/_sim/history?limit=1"))[1])
        assert whole["counts"]["calls.ended"] == 1
        assert len(whole["webhooks"]) == 1


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_scripts_are_valid(path: Path) -> None:
    """Each script that is shipped loads and says what it is about."""
    assert script.load(path).description


async def test_as_a_process() -> None:
    """It says where it listens, prints its timeline, and ends with code 0 on SIGTERM."""
    happened = await one_call_of_a_process("sipgate", Agent(reminder), dial, "--control-port", "0", status=201)
    assert happened[:2] == ["dial received", "answered"]
    assert {"webhook", "webhook answered", "action", "agent says", "callee says"} <= set(happened)
