"""Commands a second through the ledger: claim, dial, settle, publish; beside a loop that only sends the same requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.bench import measure, payloads
from tests.bench.provider import provider
from tests.bench.report import Report
from tests.bench.stage import Json, Setting, asked, configured, new_prefix, owning, replica
from tests.support.daemon import Daemon
from tests.support.kafka_tools import Outgoing, create_topics, produce, producing

COMMANDS = 3000
AT_ONCE = 64
PARTITIONS = 3
LOOK_SECONDS = 0.05
DEADLINE_SECONDS = 300.0


@dataclass(slots=True)
class Rounds:
    """CPU in µs a command, commands a second."""

    cpu: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, found: Json) -> None:
        """One round."""
        self.cpu.append(found["cpu"] / found["count"] * 1e6)
        self.rates.append(found["count"] / found["seconds"])


class Work:
    """Commands in, results out, counted by the ends of the topic so that looking costs the daemon nothing."""

    def __init__(self, daemon: Daemon, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, prefix: str) -> None:
        self._daemon = daemon
        self._producer = producer
        self._consumer = consumer
        self._prefix = prefix
        self._made = 0

    async def round(self, count: int) -> Json:
        """Produce so many; CPU and time until the last result is there."""
        numbers = range(self._made, self._made + count)
        self._made += count
        records = [
            Outgoing(payloads.command(f"command-{number}", payloads.number(number)), b"command-%d" % number)
            for number in numbers
        ]
        wanted = await self._results() + count
        cpu, began = measure.cpu_seconds(self._daemon.pid), time.monotonic()
        await produce(self._producer, f"{self._prefix}commands", records)
        while await self._results() < wanted:
            if time.monotonic() > began + DEADLINE_SECONDS:
                raise TimeoutError(self._daemon.explained(f"{count} commands took more than {DEADLINE_SECONDS:g} s"))
            await anyio.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - began
        return {"count": count, "cpu": measure.cpu_seconds(self._daemon.pid) - cpu, "seconds": seconds}

    async def _results(self) -> int:
        partitions = [TopicPartition(f"{self._prefix}results", number) for number in range(PARTITIONS)]
        ends = await self._consumer.end_offsets(partitions)
        return sum(ends.values())


async def bench(setting: Setting) -> Report:
    """The loop, the loop with four records beside each request, and the daemon."""
    prefix = new_prefix()
    count = setting.sized(COMMANDS, 300)
    await create_topics(setting.bootstrap, {f"{prefix}bare": PARTITIONS})
    rounds = {"POST": Rounds(), "POST and 4 acked records": Rounds(), "daemon": Rounds()}
    consumer = AIOKafkaConsumer(bootstrap_servers=setting.bootstrap)
    async with provider() as far_end, producing(setting.bootstrap) as producer, consumer:
        connection = {"http": {"max_connections": AT_ONCE}}
        changes = {"commands": {"max_in_flight": AT_ONCE}, "connections": {"demo": connection}}
        async with replica(configured(setting, prefix, "one", base_url=far_end.base_url, **changes)) as daemon:
            await owning(daemon, PARTITIONS)
            work = Work(daemon, producer, consumer, prefix)
            await work.round(count // 10)  # to warm up
            loop = {"base_url": far_end.base_url, "count": count, "at_once": AT_ONCE}
            for _ in range(setting.rounds):
                rounds["POST"].add(await asked("posts", **loop))
                stored = await asked("posts", bootstrap=setting.bootstrap, topic=f"{prefix}bare", **loop)
                rounds["POST and 4 acked records"].add(stored)
                rounds["daemon"].add(await work.round(count))
            outcomes = await daemon.metric("dials_total", outcome="accepted")
        notes = [
            f"{int(outcomes):,} dials accepted, {len(far_end.dialled_twice())} numbers dialled twice",
            "each request on a connection of its own (the default keep_alive_seconds = 0), for all three",
        ]
    return _report(rounds, notes)


def _report(rounds: Mapping[str, Rounds], notes: list[str]) -> Report:
    columns = ("what", "CPU us/command", "x POST", "x POST+records", "commands/s")
    report = Report("commands", f"commands through the ledger, {PARTITIONS} partitions, {AT_ONCE} at once", columns)
    cpu = {name: measure.median(found.cpu) for name, found in rounds.items()}
    for name, found in rounds.items():
        by = (cpu[name] / cpu["POST"], cpu[name] / cpu["POST and 4 acked records"])
        report.rows.append((name, cpu[name], *by, measure.median(found.rates)))
    report.notes += notes
    return report
