"""Flow 1 over the end of a process: what the ledger remembers when a daemon was stopped, or killed.

Each test has a stage of its own. After a stop the group's offsets are taken back to the beginning, so that everything
is delivered once more; after SIGKILL Kafka does that by itself for what was not committed.
"""

from __future__ import annotations

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


async def test_redelivery_after_a_restart(broker: Broker, tmp_path: Path) -> None:
    """After a restart everything is delivered again: the stored results are published again, and nothing is dialled."""
    async with stage(broker, tmp_path) as here:
        numbers = {name: here.callee() for name in ("good", "refused", "unknown", "cancelled", "cancelled-early")}
        here.play(_faults(numbers, refused=Answer(status=404), unknown=Answer(status=500)))
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for name in ("good", "refused", "unknown"):
            await here.place(name, numbers[name], metadata={"name": name})
        await here.place("cancelled", numbers["cancelled"], not_before=later)
        await here.cancel("cancelled")
        await here.cancel("cancelled-early")
        await here.place("cancelled-early", numbers["cancelled-early"])
        before = {name: await here.results(name) for name in numbers}
        await here.results("cancelled-early", count=2)
        assert await here.stop() == 0
        marks = {name: len(here.results_so_far(name)) for name in numbers}

        await here.deliver_everything_again()
        await here.start()

        for name in numbers:
            after = await here.results(name, count=marks[name] + 1)
            assert _same(after) == _same(before[name]), name
        await here.all_committed()
        kinds = {name: messages[0].type for name, messages in before.items()}
        assert kinds == {
            "good": "call.initiated",
            "refused": "call.refused",
            "unknown": "call.unknown",
            "cancelled": "call.cancelled",
            "cancelled-early": "call.cancelled",
        }
        assert {name: here.received(number) for name, number in numbers.items()} == {
            "good": 1,
            "refused": 1,
            "unknown": 1,
            "cancelled": 0,
            "cancelled-early": 0,
        }


async def test_deferred_over_a_restart(broker: Broker, tmp_path: Path) -> None:
    """A command for later lives in the ledger: after a restart it is dialled when due, once, its offset long gone."""
    async with stage(broker, tmp_path) as here:
        due = datetime.now(UTC) + timedelta(seconds=12)
        number = await here.place("later", not_before=due.isoformat(), metadata={"who": "me"})
        await here.all_committed()
        assert await here.stop() == 0
        assert here.received(number) == 0
        await here.start()

        result = await here.result("later")

        [dial] = [each for each in here.simulator.history.dials if each.number == number.lstrip("+")]
        assert dial.received is not None
        assert dial.received.wall >= due.timestamp()
        assert (result["type"], result["metadata"], here.received(number)) == ("call.initiated", {"who": "me"}, 1)


async def test_killed_while_dialling(broker: Broker, tmp_path: Path) -> None:
    """A daemon killed while the provider holds the request leaves a claim: unknown, and never a second request."""
    async with stage(broker, tmp_path) as here:
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
