"""What an operator is told of the ledger, by the functions and by the command line, on a real broker; nothing personal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from bridge.bus.protocol import Bus, TopicPartition
from bridge.ledger import inspect, records
from bridge.ledger.partition import LedgerPartition, Tombstone
from bridge.ledger.records import Fence, Record
from bridge.model.errors import Unavailable
from tests.contract.bus_support import PATIENCE_SECONDS, bus_at, make_topic
from tests.contract.ledger_support import COMPACTED, QUICK
from tests.support.brokers import Broker
from tests.support.daemon import run_cli, write_config
from tests.support.ledger_values import decision, deferred, not_sent, sending, settled, unsure

pytestmark = pytest.mark.anyio


class Ledger:
    """A ledger topic of two partitions."""

    def __init__(self, bus: Bus, topic: str) -> None:
        self.bus = bus
        self.topic = topic

    async def write(self, partition: int, *written: Record | Tombstone) -> None:
        """Append."""
        async with self.bus.producer("writer") as producer:
            for each in written:
                is_tombstone = isinstance(each, Tombstone)
                key = each.key if isinstance(each, Tombstone) else records.key_of(each)
                value = None if is_tombstone else records.encode(each)  # type: ignore[arg-type]
                await producer.publish(self.topic, key=key, value=value, partition=partition)


@pytest.fixture
async def ledger(broker: Broker, topic_prefix: str) -> AsyncIterator[Ledger]:
    """An empty one on each of the brokers."""
    with anyio.fail_after(PATIENCE_SECONDS):
        bus, topic = bus_at(broker.bootstrap), topic_prefix + "ledger"
        await make_topic(bus, topic, partitions=2, config=COMPACTED)
        yield Ledger(bus, topic)


async def test_an_empty_ledger(ledger: Ledger) -> None:
    """Nothing is said to be nothing."""
    assert await inspect.summary(ledger.bus, ledger.topic) == ["empty"]
    assert await inspect.find(ledger.bus, ledger.topic, "c") == [
        "nothing about 'c': never seen, or past the deduplication window"
    ]


async def test_commands_are_counted_by_state(ledger: Ledger) -> None:
    """For each partition; what is unsettled is named, because somebody may have to look after it."""
    await ledger.write(0, Fence("me", 0), *(sending(each) for each in ("a", "b", "gone")), settled("a"))
    await ledger.write(
        0, sending("u"), unsure("u"), sending("n"), not_sent("n"), deferred("d"), decision(0, command_id="r")
    )
    await ledger.write(0, Tombstone(b"gone/sending/1"), Tombstone(b"probe/me"))
    await ledger.write(1, Fence("other", 0))
    assert await inspect.summary(ledger.bus, ledger.topic) == [
        "partition 0: 1 deferred, 2 finished, 1 free, 1 unknown, 1 unsettled; next offset 13",
        "  unsettled: b attempt 1 claimed 1970-01-01T00:00:01.000Z",
        "partition 1: no commands; next offset 1",
    ]


async def test_the_counts_are_a_lanes(ledger: Ledger) -> None:
    """Whoever reads for an operator knows what a lane knows that has just opened."""
    await ledger.write(
        0, *(sending(f"c{number}") for number in range(50)), *(settled(f"c{n}") for n in range(0, 50, 3))
    )
    async with ledger.bus.producer("me") as producer, ledger.bus.partition_reader() as reader:
        place = TopicPartition(ledger.topic, 0)
        lane = LedgerPartition(place, producer, reader, owner="me", settings=QUICK)
        await lane.open(at_ms=1)
    lines = await inspect.summary(ledger.bus, ledger.topic)
    assert lines[0] == f"partition 0: 17 finished, 33 unsettled; next offset {lane.state.next_offset}"
    assert {line.split()[1] for line in lines[1:]} == {each.command_id for each in lane.state.unsettled()}


async def test_all_records_of_a_command_are_found(ledger: Ledger) -> None:
    """Oldest first, with place, time and what each says; of a name that looks alike nothing."""
    await ledger.write(
        1, sending("c"), not_sent("c"), sending("c/sending"), sending("c", 2), settled("c", 2), unsure("cc")
    )
    await ledger.write(1, deferred("c"), decision(3, command_id="c"), unsure("c", 2), Tombstone(b"c/deferred"))
    found = await inspect.find(ledger.bus, ledger.topic, "c")
    time = "1970-01-01T00:00:01.000Z"
    accepted = '{"outcome":"accepted","provider_call_id":null,"provider_status":null}'
    refused = '{"outcome":"not_sent","reason":"connection_refused","detail":"because","retry_after_seconds":null}'
    assert found == [
        f"partition 1 offset 0  sending  {time} attempt 1 epoch 1 connection demo",
        f"partition 1 offset 1  unsent   {time} attempt 1 epoch 1 may be tried again {refused}",
        f"partition 1 offset 3  sending  {time} attempt 2 epoch 1 connection demo",
        f"partition 1 offset 4  settled  {time} attempt 2 epoch 1 call.initiated {accepted}",
        f"partition 1 offset 6  deferred {time} epoch 1 due 1970-01-01T00:00:09.000Z",
        found[5],
        f"partition 1 offset 8  unsure   {time} attempt 2 epoch 1 call.unknown",
        "partition 1 offset 9  deferred erased",
    ]
    assert found[5].startswith("partition 1 offset 7  decided  1970-01-01T00:00:05.000Z attempt 0 epoch 3 call.refused")


async def test_nothing_personal_is_shown(ledger: Ledger) -> None:
    """Neither callees nor metadata, in whichever record they stand."""
    secret = {"metadata": {"name": "SECRET"}}
    waiting = deferred("c")
    command = msgspec.structs.replace(waiting.command, to="+4915799999999", **secret)
    end = settled("c")
    result = msgspec.structs.replace(end.result, **secret)  # type: ignore[type-var]
    await ledger.write(
        0,
        msgspec.structs.replace(waiting, command=command),
        msgspec.structs.replace(sending("c"), **secret),
        msgspec.structs.replace(end, result=result),
    )
    lines = await inspect.find(ledger.bus, ledger.topic, "c") + await inspect.summary(ledger.bus, ledger.topic)
    assert len(lines) == 4
    assert not any("SECRET" in line or "15799999999" in line for line in lines)


async def test_a_topic_that_is_not_there(ledger: Ledger) -> None:
    """It says so at once."""
    with pytest.raises(Unavailable, match="there is no topic"):
        await inspect.summary(ledger.bus, ledger.topic + "-elsewhere")


# -- on the command line ------------------------------------------------------------------------------------------------------


def config_of(folder: Path, broker: Broker, ledger: Ledger) -> str:
    """A configuration with this ledger."""
    prefix = ledger.topic.removesuffix("ledger")
    path = folder / "callbridge.toml"
    write_config(path, bootstrap=broker.bootstrap, prefix=prefix, simulator_url="http://127.0.0.1:9")
    return str(path)


async def test_on_the_command_line(ledger: Ledger, broker: Broker, tmp_path: Path) -> None:
    """The same lines on stdout, and nothing else; the ledger stays as it is."""
    await ledger.write(0, sending("c"), unsure("c"))
    config = config_of(tmp_path, broker, ledger)
    for arguments, expected in (
        (("show",), await inspect.summary(ledger.bus, ledger.topic)),
        (("find", "c"), await inspect.find(ledger.bus, ledger.topic, "c")),
        (("find", "nobody"), await inspect.find(ledger.bus, ledger.topic, "nobody")),
    ):
        done = await anyio.to_thread.run_sync(run_cli, "ledger", config, *arguments)
        assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, expected, "")
    assert (await inspect.summary(ledger.bus, ledger.topic))[0].endswith("next offset 2")


async def test_misuse_of_the_command_line(ledger: Ledger, broker: Broker, tmp_path: Path) -> None:
    """`find` needs a name and `show` takes none; a ledger that is not there ends with one line on stderr."""
    config = config_of(tmp_path, broker, ledger)
    for arguments in (("find",), ("show", "c")):
        done = await anyio.to_thread.run_sync(run_cli, "ledger", config, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "callbridge: ledger show, or ledger find COMMAND_ID\n"
    elsewhere = config_of(tmp_path, broker, Ledger(ledger.bus, f"x{ledger.topic}"))
    done = await anyio.to_thread.run_sync(run_cli, "ledger", elsewhere, "show")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
