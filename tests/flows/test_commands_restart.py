"""Flow 1 over the end of a process: what the ledger remembers when a daemon was stopped, or killed.

Each test has a stage of its own. After a stop the daemon comes back as another consumer group, so that everything is
delivered once more; after SIGKILL Kafka does that by itself for what was not committed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.demo.simulators.faults import Answer, Hang
from bridge.demo.simulators.script import DialRule, Script
from tests.support.brokers import Broker
from tests.support.kafka_tools import Message
from tests.support.stage import NOBODY, stage

pytestmark = pytest.mark.anyio

SOON_MISSED = {} if "KAFKA_BOOTSTRAP" in os.environ else {"session_timeout_seconds": 3.0}
"""How soon a killed member is taken for dead: as soon as brokers of our own allow."""
DIALLED = {"good": 1, "refused": 1, "unknown": 1, "cancelled": 0, "later": 1}
"""The commands of the first test, and how often each is dialled."""


async def test_stopped_and_started_again(broker: Broker, tmp_path: Path) -> None:
    """Delivered once more, a command's stored result is published again and nothing dialled but what is due by then."""
    async with stage(broker, tmp_path) as here:
        numbers = {name: here.callee() for name in DIALLED}
        here.play(_faults(numbers, refused=Answer(status=404), unknown=Answer(status=500)))
        due = datetime.now(UTC) + timedelta(seconds=8)
        await here.place("later", numbers["later"], not_before=due.isoformat(), metadata={"who": "me"})
        for name in ("good", "refused", "unknown"):
            await here.place(name, numbers[name], metadata={"name": name})
        await here.place("cancelled", numbers["cancelled"], not_before=(due + timedelta(hours=1)).isoformat())
        await here.cancel("cancelled")
        before = {name: await here.results(name) for name in DIALLED if name != "later"}
        await here.all_committed()  # the later one too: its offset does not wait for its time
        assert await here.stop() == 0
        assert not here.results_so_far("later")
        marks = {name: len(here.results_so_far(name)) for name in before}

        here.deliver_everything_again()
        await here.start()

        for name, messages in before.items():
            after = await here.results(name, count=marks[name] + 1)
            assert _same(after) == _same(messages), name
        assert (await here.result("later"))["metadata"] == {"who": "me"}
        await here.all_committed()
        assert {name: here.results_so_far(name)[0].type for name in DIALLED} == {
            "good": "call.initiated",
            "refused": "call.refused",
            "unknown": "call.unknown",
            "cancelled": "call.cancelled",
            "later": "call.initiated",
        }
        assert {name: here.received(number) for name, number in numbers.items()} == DIALLED
        [dial] = [each for each in here.simulator.history.dials if each.number == numbers["later"].lstrip("+")]
        assert dial.received is not None
        assert dial.received.wall >= due.timestamp()


async def test_killed_while_dialling(broker: Broker, tmp_path: Path) -> None:
    """A daemon killed while the provider holds the request leaves a claim: unknown, and never a second request."""
    async with stage(broker, tmp_path, kafka=SOON_MISSED) as here:
        number = here.callee()
        here.play(_faults({"held": number}, held=Hang()))
        await here.place("held", number, metadata={"who": "me"})
        await here.dialled(number)
        here.kill()
        here.play(NOBODY)
        await here.start()

        result = await here.result("held")
        assert (result["type"], result["reason"], result["attempts"]) == ("call.unknown", "owner_gone", 1)
        assert result["metadata"] == {"who": "me"}
        await here.place("held", number, metadata={"who": "me"})  # a producer that did not believe it
        behind = await here.place("behind", key="held")
        assert (await here.result("behind"))["type"] == "call.initiated"
        await here.all_committed()
        assert _same(here.results_so_far("held")) == _same(await here.results("held"))
        assert len(_same(here.results_so_far("held"))) == 1
        assert (here.received(number), here.received(behind)) == (1, 1)


def _same(messages: list[Message]) -> set[tuple[str, bytes | None]]:
    """Copies of one result are one: the same id, the same bytes."""
    return {(message.ce_id, message.value) for message in messages}


def _faults(numbers: Mapping[str, str], **faults: Answer | Hang) -> Script:
    rules = tuple(DialRule(number=numbers[name].lstrip("+"), fault=fault) for name, fault in faults.items())
    return Script(callees=NOBODY.callees, dial_faults=rules)
