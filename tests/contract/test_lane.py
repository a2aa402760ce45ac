"""A lane in doubt, with a real process, log and provider: what counts as evidence, when, and over the daemon's end.

The provider takes the request and does not answer; what it does of its own, its webhooks, the tests send by hand. At
the end stand records that no lane should choke on. Everything runs on the quick-start broker.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.simulators.faults import Answer, Hang
from bridge.demo.simulators.script import DialRule, Script
from bridge.ledger import records
from bridge.ledger.records import Deferred
from bridge.model.commands import PlaceCall, digest
from tests.contract.bus_support import Member, bus_at
from tests.support.brokers import Broker
from tests.support.kafka_tools import Message, Outgoing
from tests.support.stage import NOBODY, Stage, command, stage, telling
from tests.support.webhooks import new_session, post

pytestmark = pytest.mark.anyio

EVIDENCE_SECONDS = 2.0
LONG = {"evidence_seconds": 30.0}
CONNECTIONS = {"demo": {"http": {"read_timeout_seconds": 0.5}, "reply": {"deadline_seconds": 0.1}}}
SILENT = Script(callees=NOBODY.callees, dial_faults=(DialRule(fault=Hang(acts=False)),))
"""Every request is read and never answered."""


@pytest.fixture(scope="module")
async def shared_stage(quick_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon that gives up after two seconds without evidence."""
    folder = tmp_path_factory.mktemp("lane")
    commands = {"evidence_seconds": EVIDENCE_SECONDS}
    async with stage(quick_broker, folder, commands=commands, connections=CONNECTIONS) as found:
        yield found


@pytest.fixture
def here(shared_stage: Stage) -> Iterator[Stage]:
    """The shared stage, with a provider that reads and says nothing."""
    shared_stage.play(SILENT)
    with telling(shared_stage) as found:
        yield found


def outbound(session: str, number: str) -> dict[str, Any]:
    """The provider says that a call of ours has begun."""
    parties = {"direction": "outbound", "from_phone_number": "+49211700010", "to_phone_number": number}
    return {"type": "session_start", "session": {"id": session, "phone_number": number, **parties}}


async def begins(here: Stage, number: str, session: str | None = None) -> dict[str, Any]:
    """The webhook of a session with this callee, until it is answered; its event."""
    session = session or new_session()
    count = len(here.events_so_far(session)) + 1
    answer = await post(here, outbound(session, number))
    assert answer.status in {200, 204}
    event: dict[str, Any] = (await here.events(session, count=count))[-1].json
    return event


def kinds(messages: list[Message]) -> list[tuple[str, str]]:
    """Type and the end of the id of each result."""
    return [(message.type, message.ce_id.partition(".")[2]) for message in messages]


# -- evidence -----------------------------------------------------------------------------------------------------------------


async def test_a_webhook_settles_a_request_without_an_answer(here: Stage) -> None:
    """While the dial hangs the callee is already talking: the call is initiated, by the webhook's word, and once."""
    number = await here.place("hanging", metadata={"order": 7})
    await here.dialled(number)
    event = await begins(here, number)
    result = await here.result("hanging")
    assert (result["type"], result["settled_by"], result["attempts"]) == ("call.initiated", "webhook", 1)
    assert result["metadata"] == event["metadata"] == {"order": 7}
    assert (event["command_id"], event["call_id"]) == ("hanging", result["call_id"])
    await here.all_committed()
    assert kinds(here.results_so_far("hanging")) == [("call.initiated", "result")]
    assert here.received(number) == 1


async def test_a_webhook_settles_what_is_in_doubt(here: Stage) -> None:
    """The answer said nothing (500), a webhook within the time for evidence says it all."""
    here.play(Script(callees=NOBODY.callees, dial_faults=(DialRule(fault=Answer(status=500, acts=False)),)))
    number = await here.place("doubt")
    await here.all_committed()  # the ledger has it; nothing waits for the offset
    await begins(here, number)
    result = await here.result("doubt")
    assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
    assert here.received(number) == 1


async def test_without_evidence_it_is_unknown(here: Stage) -> None:
    """Not before the time for evidence is over, counted from the claim, and with the reason why nobody knows."""
    began = time.monotonic()
    number = await here.place("silence", metadata={"order": 8})
    result = await here.result("silence")
    assert time.monotonic() - began >= EVIDENCE_SECONDS
    assert (result["type"], result["reason"], result["attempts"]) == ("call.unknown", "timeout", 1)
    assert (result["metadata"], result["connection"]) == ({"order": 8}, "demo")
    assert here.received(number) == 1


async def test_evidence_after_unknown_is_one_settlement(here: Stage) -> None:
    """It has an id of its own and says that it settles; no further webhook, and no copy of the command, adds another."""
    number = await here.place("late")
    await here.results("late")
    await begins(here, number)
    unknown, settlement = await here.results("late", count=2)
    assert kinds([unknown, settlement]) == [("call.unknown", "result"), ("call.initiated", "settlement")]
    assert (settlement.json["settles_unknown"], settlement.json["settled_by"]) == (True, "webhook")

    await begins(here, number)
    await here.place("late", number)
    _, _, again = await here.results("late", count=3)
    assert (again.ce_id, again.value) == (settlement.ce_id, settlement.value)
    await here.all_committed()
    assert len(here.results_so_far("late")) == 3
    assert here.received(number) == 1


async def test_what_could_mean_two_calls_is_no_evidence(here: Stage) -> None:
    """Two calls to one callee are in doubt: one session settles neither."""
    number = await here.place("either")
    await here.place("or", number)
    await here.dialled(number, times=2)
    event = await begins(here, number)
    assert event["command_id"] in {"either", "or"}
    for command_id in ("either", "or"):
        assert (await here.result(command_id))["type"] == "call.unknown"


async def test_somebody_elses_call_is_no_evidence(here: Stage) -> None:
    """A session with another callee, or one that the callee began, settles nothing."""
    number = await here.place("nobody")
    await here.dialled(number)
    await begins(here, here.callee())
    inbound = outbound(new_session(), "+49211700010")
    inbound["session"] |= {"direction": "inbound", "from_phone_number": number}
    assert (await post(here, inbound)).status in {200, 204}
    assert (await here.result("nobody"))["type"] == "call.unknown"


# -- over the end of a process --------------------------------------------------------------------------------------------------


async def test_evidence_after_a_crash(quick_broker: Broker, tmp_path: Path) -> None:
    """The claim's owner was killed in the dial; the next one is told by a webhook, and does not dial."""
    async with stage(quick_broker, tmp_path, commands=LONG, connections=CONNECTIONS) as here:
        here.play(SILENT)
        number = await here.place("killed", metadata={"order": 9})
        await here.dialled(number)
        here.kill()
        await here.start()
        event = await begins(here, number)
        result = await here.result("killed")
        assert (event["command_id"], event["metadata"]) == ("killed", {"order": 9})
        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        await here.all_committed()
        copies = here.results_so_far("killed")  # the command was delivered again, and may have been answered again
        assert {(message.ce_id, message.value) for message in copies} == {(copies[0].ce_id, copies[0].value)}
        assert here.received(number) == 1


async def test_evidence_that_nobody_came_to_use(quick_broker: Broker, tmp_path: Path) -> None:
    """The webhook was taken and the daemon killed while the dial still hung: the next owner finds the evidence at once."""
    patient = {"demo": {"http": {"read_timeout_seconds": 60.0}, "reply": {"deadline_seconds": 0.1}}}
    async with stage(quick_broker, tmp_path, commands=LONG, connections=patient) as here:
        here.play(SILENT)
        number = await here.place("killed")
        await here.dialled(number)
        await begins(here, number)
        assert here.results_so_far("killed") == []
        here.kill()
        began = time.monotonic()
        await here.start()
        result = await here.result("killed")
        assert (result["type"], result["settled_by"]) == ("call.initiated", "webhook")
        assert time.monotonic() - began < LONG["evidence_seconds"]
        assert here.received(number) == 1


async def test_evidence_after_unknown_and_a_restart(quick_broker: Broker, tmp_path: Path) -> None:
    """What was published as unknown by one process is settled by the next, once, and once more for a copy."""
    commands = {"evidence_seconds": 0.5}
    async with stage(quick_broker, tmp_path, commands=commands, connections=CONNECTIONS) as here:
        here.play(SILENT)
        number = await here.place("late")
        [unknown] = await here.results("late")
        assert await here.stop() == 0
        await here.start()
        await begins(here, number)
        _, settlement = await here.results("late", count=2)
        assert kinds([unknown, settlement]) == [("call.unknown", "result"), ("call.initiated", "settlement")]
        assert settlement.json["settles_unknown"] is True
        assert await here.stop() == 0
        await here.start()
        await here.place("late", number)
        copy = (await here.results("late", count=3))[-1]
        assert (copy.ce_id, copy.value) == (settlement.ce_id, settlement.value)
        await here.all_committed()
        assert len(here.results_so_far("late")) == 3
        assert here.received(number) == 1


async def test_an_unknown_that_is_owed_is_published(quick_broker: Broker, tmp_path: Path) -> None:
    """Killed between the ledger's word and the publication, with the offset committed long ago: the next owner says it."""
    commands = {"evidence_seconds": 1.5}
    env = {"CALLBRIDGE_CRASH_AT": "after_settle"}
    async with stage(quick_broker, tmp_path, env=env, commands=commands, connections=CONNECTIONS) as here:
        here.play(SILENT)
        number = await here.place("owed")
        await here.all_committed()
        assert await here.daemon.ended() != 0
        assert here.results_so_far("owed") == []
        await here.start()
        result = await here.result("owed")
        assert (result["type"], result["reason"]) == ("call.unknown", "timeout")
        await here.all_committed()
        assert here.received(number) == 1


# -- a partition that comes back ------------------------------------------------------------------------------------------------


async def test_what_comes_back_is_not_read_again(apache_kafka: Broker, tmp_path: Path) -> None:
    """Somebody joins the group and leaves it: the daemon knows what it knew, and reads only what is new."""
    names = [f"known-{number}" for number in range(40)]
    async with stage(apache_kafka, tmp_path) as here:
        here.play(NOBODY)
        numbers = {name: await here.place(name) for name in names}
        for name in names:
            await here.results(name)
        await here.all_committed()
        visitor = Member("visitor", [])
        async with visitor.joined(bus_at(apache_kafka.bootstrap), here.group_id, [here.topic("commands")]):
            await visitor.poll_until(lambda: bool(visitor.held))
        for name, number in numbers.items():
            await here.place(name, number)
        for name, number in numbers.items():
            await here.results(name, count=2)
            assert here.received(number) == 1
        opened = here.daemon.lines_of("lane.opened")
        last = {line["partition"]: line for line in opened}
        assert len(opened) > len(last)
        assert sum(line["count"] for line in last.values()) == len(names)
        assert sum(line["read"] for line in last.values()) <= 4 * len(last)  # fences, probes


# -- records that no lane should choke on ---------------------------------------------------------------------------------------


async def test_a_deferral_that_a_former_owner_wrote_late(here: Stage) -> None:
    """It stands behind the lane's fence and is the lane's to keep: the call is placed when it is due."""
    here.play(NOBODY)
    number = here.callee()
    due = datetime.now(UTC) + timedelta(seconds=1)
    placed = PlaceCall(command_id="inherited", connection="demo", to=number, metadata={"order": 10})
    record = Deferred(
        command_id="inherited",
        epoch=-7,
        at_ms=int(time.time() * 1000),
        due_ms=int(due.timestamp() * 1000),
        digest=digest(placed),
        key=b"inherited",
        command=placed,
    )
    [(partition, _)] = await here.send(Outgoing(command("neighbour", here.callee()), b"neighbour"))
    await here.results("neighbour")
    await here.send(Outgoing(records.encode(record), records.key_of(record), partition=partition), use="ledger")
    await here.place("behind", key="neighbour")  # whose claim has the deferral in front of it
    await here.results("behind")
    result = await here.result("inherited")
    assert (result["type"], result["metadata"]) == ("call.initiated", {"order": 10})
    assert datetime.now(UTC) >= due
    assert here.received(number) == 1


@pytest.mark.parametrize(
    ("value_bytes", "key_bytes", "header_bytes"),
    [(1_040_000, 10, 0), (300_000, 10, 0), (10, 800_000, 0), (10, 10, 800_000)],
)
async def test_what_is_too_large_is_kept_as_a_dead_letter(
    here: Stage, value_bytes: int, key_bytes: int, header_bytes: int
) -> None:
    """In its value, its key or its headers: the daemon goes on, and says what was too large."""
    here.play(NOBODY)
    body = command("large", here.callee(), metadata={"x": "x" * value_bytes})
    [(partition, offset)] = await here.send(Outgoing(body, b"k" * key_bytes, [("tracestate", b"t" * header_bytes)]))

    def is_it(message: Message) -> bool:
        place = (message.headers.get("dlq_partition"), message.headers.get("dlq_offset"))
        return place == (str(partition), str(offset))

    [letter] = await here.written.wait_for(here.topic("dead-letters"), is_it)
    assert letter.headers["dlq_allowed"].startswith("at most 262144 bytes")
    await here.place(f"after-{partition}-{offset}")
    await here.results(f"after-{partition}-{offset}")
    await here.all_committed()


async def test_headers_without_a_value(here: Stage) -> None:
    """Kafka allows them; a command that has some is a command."""
    here.play(NOBODY)
    nothing: Any = None
    names = ("content-type", "traceparent", "ce_id", "ce_type", "x")
    number = await here.place("null-headers", headers=[(name, nothing) for name in names])
    assert (await here.result("null-headers"))["type"] == "call.initiated"
    assert here.received(number) == 1
