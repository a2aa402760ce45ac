"""Two replicas, and one is killed while it dials: how long its partition stands still, and what the other one's does."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio

from tests.bench import measure, payloads
from tests.bench.provider import FastProvider, provider
from tests.bench.report import Report
from tests.bench.stage import Setting, configured, new_prefix, owning, until
from tests.support.daemon import Daemon
from tests.support.kafka_tools import Outgoing, produce, producing

SESSION_SECONDS = (6.0, 10.0)
HEARTBEAT_SECONDS = {6.0: 2.0, 10.0: 3.0}
PARTITIONS = 2
A_PARTITION = 1_000_000
COMMANDS = 6000
"""A partition: more than both replicas dial while one looks."""
DIAL_SECONDS = 0.5
DIALLING_SECONDS = 3.0
IN_FLIGHT_SECONDS = 1.0
"""What the killed one had sent may be read by the provider for so long."""
AFTER_SECONDS = 5.0


async def bench(setting: Setting) -> Report:
    """Every session time-out, each round with a cluster of two fresh replicas."""
    columns = ("session s", "dials again after s", "over session s", "the other's longest gap s", "dialled twice")
    report = Report("failover", "kill -9 of one of two replicas amid a backlog", columns)
    for session in SESSION_SECONDS[: setting.sized(2, 1)]:
        found = [await _one(setting, session) for _ in range(setting.rounds)]
        again = [each[0] for each in found]
        gap, twice = measure.median([each[1] for each in found]), sum(each[2] for each in found)
        report.rows.append((session, measure.median(again), measure.median(again) - session, gap, twice))
        report.notes.append(f"session {session:g} s: {', '.join(f'{each:.1f}' for each in again)} s")
    report.notes.append("before the session ends nobody can know; gap: between two dials of the partition not orphaned")
    return report


async def _one(setting: Setting, session: float) -> tuple[float, float, int]:
    prefix = new_prefix()
    async with AsyncExitStack() as stack:
        far_end = await stack.enter_async_context(provider(delay_seconds=DIAL_SECONDS))
        daemons = []
        for name in ("one", "other"):
            config = configured(
                setting,
                prefix,
                name,
                base_url=far_end.base_url,
                kafka={
                    "session_timeout_seconds": session,
                    "heartbeat_interval_seconds": HEARTBEAT_SECONDS[session],
                },
                topics={"partitions": PARTITIONS},
                connections={"demo": {"http": {"max_connections": 64}}},
            )
            daemon = Daemon(config)
            stack.callback(daemon.close)
            await daemon.ready()
            daemons.append(daemon)
        for daemon in daemons:
            await owning(daemon, 1)
        await _produce(setting, prefix)
        return await _fail(far_end, daemons)


async def _produce(setting: Setting, prefix: str) -> None:
    numbers = [(partition, partition * A_PARTITION + at) for at in range(COMMANDS) for partition in range(PARTITIONS)]
    async with producing(setting.bootstrap) as producer:
        records = [
            Outgoing(
                payloads.command(f"command-{number}", payloads.number(number)),
                b"command-%d" % number,
                partition=partition,
            )
            for partition, number in numbers
        ]
        await produce(producer, f"{prefix}commands", records)


async def _fail(far_end: FastProvider, daemons: Sequence[Daemon]) -> tuple[float, float, int]:
    """Kill the first; how long until its partition dials, the longest gap of the other's, numbers dialled twice."""
    orphan = int(daemons[0].lines_of("lane.opened")[-1]["partition"])
    await until(lambda: all(_dials(far_end, each) for each in range(PARTITIONS)), "dials of both")
    await anyio.sleep(DIALLING_SECONDS)
    killed = time.monotonic()
    daemons[0].kill()
    await anyio.sleep(IN_FLIGHT_SECONDS)
    after = time.monotonic()
    await until(lambda: any(at > after for at in _dials(far_end, orphan)[-1:]), "a dial of the orphaned partition")
    again = next(at for at in _dials(far_end, orphan) if at > after)
    await anyio.sleep(AFTER_SECONDS)
    others = [at for at in _dials(far_end, 1 - orphan) if at > killed - DIALLING_SECONDS]
    gap = max((later - earlier for earlier, later in itertools.pairwise(others)), default=0.0)
    return again - killed, gap, len(far_end.dialled_twice())


def _dials(far_end: FastProvider, partition: int) -> list[float]:
    start = partition * A_PARTITION
    return [at for at, number in far_end.dials if start <= int(number[6:]) < start + A_PARTITION]
