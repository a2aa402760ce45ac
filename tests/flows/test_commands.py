"""Flow 1 with everything real but the provider: commands on Kafka, a daemon process, results on Kafka.

The simulated provider counts what it was asked for each number, exactly, so "dialled once" is what it saw and not what
the daemon says. Tests share a daemon for each broker; those that stop or kill one have a stage of their own.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.demo.simulators.faults import (
    Answer,
    Close,
    CloseUnread,
    ConnectionFault,
    Garbled,
    HalfAnswer,
    Hang,
    HangUnread,
    ReplyFault,
    Reset,
    ResetAfterHead,
    ResetUnread,
)
from bridge.demo.simulators.script import Callee, DialRule, Script
from tests.support.brokers import Broker
from tests.support.kafka_tools import Message, Outgoing, read_all
from tests.support.stage import NOBODY, Stage, command, stage, telling

pytestmark = pytest.mark.anyio

GATE = Answer(status=201, delay_seconds=600)
"""The provider answers when the test says so: `simulator.release()`."""

CONNECTIONS = {
    "demo": {"http": {"read_timeout_seconds": 60.0, "total_timeout_seconds": 90.0}},
    "impatient": {"http": {"read_timeout_seconds": 1.0}},
}


@pytest.fixture(scope="module")
async def shared_stage(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon for each broker."""
    folder = tmp_path_factory.mktemp("commands")
    async with stage(broker, folder, commands={"max_attempts": 6}, connections=CONNECTIONS) as found:
        yield found


@pytest.fixture
def here(shared_stage: Stage) -> Iterator[Stage]:
    """The shared stage, with a provider that does nothing unusual."""
    shared_stage.play(NOBODY)
    with telling(shared_stage) as found:
        yield found


def faulty(rules: Mapping[str, ReplyFault], *, count: int | None = None) -> Script:
    """Faults by phone number; for the first `count` requests to each."""
    faults = tuple(DialRule(number=number.lstrip("+"), fault=fault, count=count) for number, fault in rules.items())
    return Script(callees=NOBODY.callees, dial_faults=faults)


def soon(seconds: float) -> str:
    """A moment from now, as it stands in a command."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_one_call(here: Stage) -> None:
    """A command is dialled once, and its one result says by whom, when, and what the caller gave along."""
    number = await here.place("one-call", key="customer-7", metadata={"order": 4711, "tags": ["a"]})

    [message] = await here.results("one-call")

    result = message.json
    assert (message.type, message.key, message.headers["content-type"]) == (
        "call.initiated",
        b"customer-7",
        "application/json",
    )
    assert (result["type"], result["connection"], result["provider"]) == ("call.initiated", "demo", "sipgate")
    assert (result["attempts"], result["settled_by"]) == (1, "answer")
    assert result["metadata"] == {"order": 4711, "tags": ["a"]}
    assert datetime.fromisoformat(result["accepted_at"]).tzinfo is not None
    assert message.ce_id == f"{result['call_id']}.result"
    assert here.received(number) == 1


async def test_another_body_under_a_known_id(here: Stage) -> None:
    """The same id with another body is refused and not dialled; what the id stands for stays."""
    first = await here.place("reused")
    await here.results("reused")
    second = await here.place("reused", key="reused")

    _, refused = await here.results("reused", count=2)

    assert (refused.json["type"], refused.json["reason"]) == ("call.refused", "command_id_reused")
    assert refused.ce_id.endswith(".reused")
    assert (here.received(first), here.received(second)) == (1, 0)


async def test_refused_before_any_effect(here: Stage) -> None:
    """What can be known to be wrong is refused with its reason and field, and the provider hears nothing."""
    before = here.simulator.history.counts["dials.began"]
    number = here.callee()
    cases: dict[str, tuple[str, dict[str, object], str, str]] = {
        "no-connection": (number, {"connection": "nobody"}, "unknown_connection", "demo, impatient"),
        "no-number": ("+99912345678", {}, "invalid_number", "$.to"),
        "no-plus": (number.lstrip("+"), {}, "invalid_number", "$.to"),
        "sip": ("sip:agent@example.org", {}, "unsupported", "$.to"),
        "option": (number, {"options": {"flow": "x"}}, "invalid_options", "$.options: found the unknown field flow "),
        "option-value": (number, {"options": {"billing_device": 5}}, "invalid_options", "$.options.billing_device"),
        "ring": (number, {"ring_timeout_seconds": 20}, "unsupported", "$.ring_timeout_seconds"),
        "from": (number, {"from": "+4921170001000"}, "unsupported", "$.from"),
    }
    for name, (to, fields, _, _) in cases.items():
        await here.place(f"refused-{name}", to, **fields)  # type: ignore[arg-type]  # none is `key` or `headers`

    for name, (_, _, reason, field) in cases.items():
        result = await here.result(f"refused-{name}")
        assert (result["type"], result["reason"], result.get("attempts", 0)) == ("call.refused", reason, 0), name
        assert field in result["detail"], name
    assert here.simulator.history.counts["dials.began"] == before


async def test_the_provider_refuses(here: Stage) -> None:
    """Each refusal of the provider's has its reason, and is not asked for again."""
    reasons = {
        400: "rejected_by_provider",
        401: "unauthorized",
        402: "no_credit",
        403: "unauthorized",
        404: "not_found",
        409: "rejected_by_provider",
        422: "rejected_by_provider",
    }
    numbers = {status: here.callee() for status in reasons}
    here.play(faulty({numbers[status]: Answer(status=status, body='{"message":"no"}') for status in reasons}))
    for status, number in numbers.items():
        await here.place(f"says-{status}", number)

    for status, number in numbers.items():
        result = await here.result(f"says-{status}")
        assert (result["type"], result["reason"]) == ("call.refused", reasons[status])
        assert (result["provider_status"], result["detail"], result["attempts"]) == (status, "no", 1)
        assert here.received(number) == 1


async def test_too_many_requests(here: Stage) -> None:
    """429 says that nothing was done: it is tried again, and ends in one result that says what became of each attempt."""
    once, always = here.callee(), here.callee()
    rules = (
        DialRule(number=once.lstrip("+"), fault=Answer(status=429), count=1),
        DialRule(number=always.lstrip("+"), fault=Answer(status=429)),
    )
    here.play(Script(callees=NOBODY.callees, dial_faults=rules))
    await here.place("busy-once", once)
    await here.place("busy-always", always)

    second, given_up = await here.result("busy-once"), await here.result("busy-always")

    assert (second["type"], second["attempts"], here.received(once)) == ("call.initiated", 2, 2)
    assert (second["not_sent"], given_up["not_sent"]) == (["rate_limited"], ["rate_limited"] * 6)
    assert (given_up["type"], given_up["reason"]) == ("call.refused", "rate_limited")
    assert given_up["attempts"] == here.received(always) == 6
    assert (len(here.results_so_far("busy-once")), here.simulator.history.placed(once.lstrip("+"))) == (1, 1)


async def test_nobody_listens(here: Stage) -> None:
    """A refused connection is proof that nothing was sent: the call is made as soon as somebody listens."""
    failed = await here.daemon.metric("dials_total", outcome="not_sent")
    await here.simulator.server.refuse()
    try:
        number = await here.place("refused-connection")
        await here.daemon.until_metric("dials_total", failed + 1, outcome="not_sent")
    finally:
        here.simulator.server.listen()

    result = await here.result("refused-connection")

    assert result["type"] == "call.initiated"
    assert result["not_sent"] == ["connection_refused"] * (result["attempts"] - 1) != []
    assert here.received(number) == 1


async def test_nobody_knows(here: Stage) -> None:
    """What may have dialled before it failed is unknown, with the reason, and is asked for exactly once."""
    faults: dict[str, tuple[ReplyFault, str]] = {
        "500": (Answer(status=500), "server_error"),
        "503-rings": (Answer(status=503, acts=True), "server_error"),
        "418": (Answer(status=418), "unexpected_answer"),
        "302": (Answer(status=302, headers={"Location": "/v3"}), "unexpected_answer"),
        "hang": (Hang(), "timeout"),
        "reset": (Reset(), "connection_lost"),
        "close": (Close(), "connection_lost"),
        "half": (HalfAnswer(), "garbled_answer"),
        "garbled": (Garbled(), "garbled_answer"),
    }
    numbers = {name: here.callee() for name in faults}
    here.play(faulty({numbers[name]: fault for name, (fault, _) in faults.items()}))
    for name, number in numbers.items():
        await here.place(f"unknown-{name}", number, connection="impatient", metadata={"name": name})

    for name, number in numbers.items():
        result = await here.result(f"unknown-{name}")
        assert (result["type"], result["reason"]) == ("call.unknown", faults[name][1]), name
        assert (result["attempts"], result["metadata"]) == (1, {"name": name})
        assert here.received(number) == 1
    await here.place("unknown-again", numbers["500"], key="unknown-500")  # a call to the same number may be made
    assert (await here.result("unknown-again"))["type"] == "call.unknown"


async def test_a_webhook_settles_it(here: Stage) -> None:
    """An answer that was lost is made good by the call's own webhook: initiated, settled by it, and never unknown."""
    number = here.callee()
    callee = Callee(number=number.lstrip("+"), rings_seconds=0.2, patience_seconds=1)
    rule = DialRule(number=number.lstrip("+"), fault=Reset(acts=True))
    here.play(Script(callees=(callee,), dial_faults=(rule,)))
    await here.place("rings", number, metadata={"who": "me"})

    [message] = await here.results("rings")

    assert (message.type, message.json["settled_by"]) == ("call.initiated", "webhook")
    assert (message.json["metadata"], message.ce_id.endswith(".result")) == ({"who": "me"}, True)
    assert here.received(number) == 1


async def test_a_late_webhook_settles_it_too(here: Stage) -> None:
    """A webhook that comes after `call.unknown` leads to one settlement, with an id of its own."""
    number = here.callee()
    callee = Callee(number=number.lstrip("+"), rings_seconds=80, patience_seconds=1)  # at 20 times the speed
    rule = DialRule(number=number.lstrip("+"), fault=Answer(status=502, acts=True))
    here.play(Script(callees=(callee,), dial_faults=(rule,)))
    await here.place("rings-long", number)

    unknown, settlement = await here.results("rings-long", count=2)

    assert (unknown.type, unknown.ce_id.endswith(".result")) == ("call.unknown", True)
    assert (settlement.type, settlement.ce_id.endswith(".settlement")) == ("call.initiated", True)
    assert (settlement.json["settled_by"], settlement.json["settles_unknown"]) == ("webhook", True)
    assert here.received(number) == 1


@pytest.mark.parametrize("fault", [CloseUnread(), ResetAfterHead(), HangUnread()], ids=lambda f: type(f).__name__)
async def test_lost_before_it_was_read(here: Stage, fault: ConnectionFault) -> None:
    """A connection that ends after it was made may have carried the request: unknown, and no second connection."""
    server = here.simulator.server
    before = server.connections
    server.faults.append(fault)
    name = f"lost-{type(fault).__name__}"
    number = await here.place(name, connection="impatient")

    result = await here.result(name)

    assert (result["type"], result["attempts"]) == ("call.unknown", 1)
    assert result["reason"] == ("timeout" if isinstance(fault, HangUnread) else "connection_lost")
    assert (server.connections - before, here.received(number)) == (1, 0)
    here.simulator.release()


async def test_reset_at_once(here: Stage) -> None:
    """A reset may come before or after the first byte: either it is proven that nothing left, or nobody knows."""
    server = here.simulator.server
    before = server.connections
    server.faults.append(ResetUnread())
    number = await here.place("reset-at-once", connection="impatient")

    result = await here.result("reset-at-once")

    seen = (result["type"], result["attempts"], server.connections - before, here.received(number))
    assert seen in {("call.unknown", 1, 1, 0), ("call.initiated", 2, 2, 1)}


async def test_parallel_over_keys(here: Stage) -> None:
    """Calls of different keys are dialled at the same time, whatever the provider takes to answer."""
    numbers = [here.callee() for _ in range(24)]
    here.play(faulty(dict.fromkeys(numbers, GATE)))
    for index, number in enumerate(numbers):
        await here.place(f"parallel-{index}", number)

    await here.dialled(*numbers)  # none of them has been answered
    assert not any(here.results_so_far(f"parallel-{index}") for index in range(len(numbers)))
    here.simulator.release()

    for index in range(len(numbers)):
        assert (await here.result(f"parallel-{index}"))["type"] == "call.initiated"


async def test_in_order_for_each_key(here: Stage) -> None:
    """Calls of one key are dialled one after the other, in order, while others pass them by."""
    numbers = [here.callee() for _ in range(3)]
    passing = [here.callee() for _ in range(3)]
    here.play(faulty({numbers[0]: GATE, numbers[1]: GATE}))
    await here.send(*(Outgoing(command(f"row-{i}", number), b"row", partition=0) for i, number in enumerate(numbers)))
    for partition, number in enumerate(passing):
        await here.send(Outgoing(command(f"by-{partition}", number), b"by-%d" % partition, partition=partition))
    await here.dialled(numbers[0], *passing)
    assert [here.received(number) for number in numbers] == [1, 0, 0]

    here.simulator.release()
    await here.dialled(numbers[1])
    assert here.received(numbers[2]) == 0
    here.simulator.release()

    assert [(await here.result(f"row-{index}"))["type"] for index in range(3)] == ["call.initiated"] * 3
    order = [message.json["command_id"] for message in here.written[here.topic("results")]]
    assert [each for each in order if each.startswith("row-")] == ["row-0", "row-1", "row-2"]


async def test_no_key(here: Stage) -> None:
    """A command without a record key goes to dead letters untouched, with what was found and what is allowed."""
    body = command("keyless", here.callee())
    [(partition, offset)] = await here.send(Outgoing(body, None, (("traceparent", b"00-1-2-01"),)))

    [letter] = await here.written.wait_for(here.topic("dead-letters"), lambda message: message.value == body)

    assert letter.key is None
    assert letter.headers["dlq_source"] == here.topic("commands")
    assert (letter.headers["dlq_partition"], letter.headers["dlq_offset"]) == (str(partition), str(offset))
    assert (letter.headers["dlq_field"], letter.headers["dlq_found"]) == ("record key", "nothing")
    assert "command_id" in letter.headers["dlq_allowed"]
    assert letter.headers["traceparent"] == "00-1-2-01"


async def test_not_before(here: Stage) -> None:
    """A command for later is dialled when its time has come, not before; its offset does not wait for it."""
    due = datetime.now(UTC) + timedelta(seconds=2)
    number = await here.place("later", not_before=due.isoformat())
    await here.place("now")
    await here.results("now")

    result = await here.result("later")

    [dial] = [each for each in here.simulator.history.dials if each.number == number.lstrip("+")]
    assert dial.received is not None
    assert dial.received.wall >= due.timestamp()
    assert (result["type"], result["attempts"]) == ("call.initiated", 1)


async def test_cancel(here: Stage) -> None:
    """A cancel before the time is the command's result, and nothing waits for the time then; after the dial it is too late."""
    cancelled = await here.place("cancel-in-time", not_before=soon(3600), metadata={"who": "me"})
    waiting = await here.place("not-cancelled", key="cancel-in-time", not_before=soon(1))
    dialled = await here.place("cancel-too-late")
    await here.results("cancel-too-late")
    await here.cancel("cancel-in-time")
    await here.cancel("cancel-in-time")
    await here.cancel("cancel-too-late")

    in_time, again = await here.results("cancel-in-time", count=2)
    ledger = await read_all(here.broker.bootstrap, here.topic("ledger"))
    too_late = (await here.results("cancel-too-late", count=2))[1]
    assert (await here.result("not-cancelled"))["type"] == "call.initiated"

    end = in_time.json
    assert (end["type"], end["metadata"], end.get("attempts", 0)) == ("call.cancelled", {"who": "me"}, 0)
    assert (again.ce_id, again.value) == (in_time.ce_id, in_time.value)
    assert [each.value for each in ledger if each.key == b"cancel-in-time/deferred"][-1] is None
    assert (too_late.json["type"], too_late.json["reason"]) == ("call.refused", "too_late_to_cancel")
    assert [here.received(number) for number in (cancelled, waiting, dialled)] == [0, 1, 1]


async def test_expired(here: Stage) -> None:
    """What expired before it could be dialled is not dialled."""
    number = await here.place("too-old", expires_at=soon(-1))

    result = await here.result("too-old")

    assert (result["type"], result.get("attempts", 0), here.received(number)) == ("call.expired", 0, 0)


async def test_three_ways_to_write_a_command(here: Stage) -> None:
    """CloudEvents in binary and in structured mode and plain JSON are the same command; the trace comes through."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    numbers = {name: here.callee() for name in ("binary", "structured", "plain")}
    plain = json.loads(command("ce-plain", numbers["plain"]))
    binary = {**plain, "command_id": "ce-binary", "to": numbers["binary"]}
    del binary["type"]
    headers = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/test"), ("ce_type", b"call.place"))
    traced = (*headers, ("traceparent", trace.encode()))
    data = {**plain, "command_id": "ce-structured", "to": numbers["structured"]}
    event = {"specversion": "1.0", "id": "2", "source": "/test", "type": "call.place", "traceparent": trace}
    kind = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
    await here.send(
        Outgoing(json.dumps(binary).encode(), b"ce-binary", traced),
        Outgoing(json.dumps({**event, "data": data}).encode(), b"ce-structured", kind),
        Outgoing(json.dumps(plain).encode(), b"ce-plain"),
    )

    for name, number in numbers.items():
        [message] = await here.results(f"ce-{name}")
        assert message.type == "call.initiated"
        assert message.headers.get("traceparent") == (None if name == "plain" else trace)
        assert here.received(number) == 1


MALFORMED: Mapping[str, Outgoing] = {
    "not JSON": Outgoing(b'{"type": "call.place", ', b"k"),
    "not UTF-8": Outgoing(b'{"type": "call.place", "command_id": "\xff"}', b"k"),
    "no object": Outgoing(b'["call.place"]', b"k"),
    "no type": Outgoing(b'{"command_id": "m"}', b"k"),
    "unknown type": Outgoing(b'{"type": "call.hangup", "command_id": "m"}', b"k"),
    "no callee": Outgoing(b'{"type": "call.place", "command_id": "m", "connection": "demo"}', b"k"),
    "wrong type of a field": Outgoing(command("m", "+4930", metadata="x"), b"k"),
    "unknown field": Outgoing(command("m", "+4930", ring="x"), b"k"),
    "time without offset": Outgoing(command("m", "+4930", expires_at="2026-01-01T10:00:00"), b"k"),
    "too long an id": Outgoing(command("m" * 129, "+4930"), b"k"),
    "too large": Outgoing(command("m", "+4930", metadata={"x": "y" * 300_000}), b"k"),
    "tombstone": Outgoing(None, b"k"),
    "no key": Outgoing(command("m", "+4930"), None),
    "two types": Outgoing(command("m", "+4930"), b"k", (("ce_type", b"call.cancel"),)),
    "no structured event": Outgoing(b"{}", b"k", (("content-type", b"application/cloudevents+json"),)),
}


async def test_a_thousand_commands(apache_kafka: Broker, tmp_path: Path) -> None:
    """Of 1,000 records each id is dialled at most once, each record has its result or letter, and all is committed."""
    async with stage(apache_kafka, tmp_path) as here:
        valid = {f"valid-{index}": here.callee() for index in range(800)}
        expired = {f"expired-{index}": here.callee() for index in range(50)}
        bodies = {name: command(name, number, metadata={"name": name}) for name, number in valid.items()}
        bodies |= {name: command(name, number, expires_at=soon(-5)) for name, number in expired.items()}
        records = [Outgoing(body, name.encode()) for name, body in bodies.items()]
        twice = [Outgoing(bodies[f"valid-{index * 8}"], b"valid-%d" % (index * 8)) for index in range(100)]
        malformed = list(itertools.islice(itertools.cycle(MALFORMED.values()), 50))
        mixed = [*records, *twice, *malformed]
        random.Random(4711).shuffle(mixed)  # noqa: S311 - always the same order
        places = await here.send(*mixed)

        results = here.written[here.topic("results")]
        letters = here.written[here.topic("dead-letters")]
        await here.written.until(lambda: len(results) >= 950 and len(letters) >= 50, "950 results and 50 dead letters")
        await here.all_committed()

        assert {number: here.received(number) for number in valid.values()} == dict.fromkeys(valid.values(), 1)
        assert here.simulator.history.counts["dials.began"] == 800
        _check_results(
            results, valid=set(valid), expired=set(expired), twice={f"valid-{index * 8}" for index in range(100)}
        )
        _check_letters(letters, dict(zip(places, mixed, strict=True)), count=50)


def _check_results(results: list[Message], *, valid: set[str], expired: set[str], twice: set[str]) -> None:
    by_id: dict[str, list[Message]] = {}
    for message in results:
        by_id.setdefault(message.json["command_id"], []).append(message)
    assert by_id.keys() == valid | expired
    for name, messages in by_id.items():
        assert {message.type for message in messages} == {"call.expired" if name in expired else "call.initiated"}
        assert {message.key for message in messages} == {name.encode()}
        assert len(messages) == (2 if name in twice else 1)
        assert len({(message.ce_id, message.value) for message in messages}) == 1  # the very same result again


def _check_letters(letters: list[Message], sent: dict[tuple[int, int], Outgoing], *, count: int) -> None:
    assert len(letters) == count
    for letter in letters:
        original = sent.pop((int(letter.headers["dlq_partition"]), int(letter.headers["dlq_offset"])))  # each once
        assert (letter.value, letter.key) == (original.value, original.key)
        assert all(letter.headers[f"dlq_{name}"] for name in ("field", "found", "allowed", "source", "time"))
