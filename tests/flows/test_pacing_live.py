"""An account's limit over several replicas: never passed in any rolling second, and used while there is a backlog.

What counts is when the simulated provider had read a request, not what a daemon meant to do. The backlog is divided over
the partitions as the limit is, so that no lane runs out of work before the others. Both figures depend on how late the
machine lets anybody run, so that is measured beside them: the second is shorter by it, and the use is not judged where
half of all wake-ups would be late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, cluster, command
from tests.support.brokers import Broker
from tests.support.kafka_tools import Outgoing

pytestmark = pytest.mark.anyio

LIMIT = 20
SHARES = (7, 7, 6)
"""Of the limit, by partition."""
BACKLOG = 400
USED = 0.95
PULSE_SECONDS = 0.005
CALM_SECONDS = 0.01
"""How late one in ten wake-ups may be on a machine that has time for us."""


@pytest.fixture
async def here(apache_kafka: Broker, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A limited account, and no daemon yet."""
    async with cluster(
        apache_kafka.bootstrap,
        tmp_path,
        kafka={"session_timeout_seconds": 2.0, "heartbeat_interval_seconds": 0.3},
        connections={"demo": {"limits": {"calls_per_second": LIMIT}}},
    ) as found:
        yield found


@asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """By how many seconds each wake-up of this process came late, for the length of the block."""
    late: list[float] = []

    async def pulse() -> None:
        while True:
            due = time.monotonic() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            late.append(time.monotonic() - due)

    task = asyncio.create_task(pulse())
    try:
        yield late
    finally:
        task.cancel()


async def send_backlog(here: Cluster) -> None:
    """More commands than the limit lets through in a second, by far."""
    for partition, share in enumerate(SHARES):
        names = [f"c-{partition}-{index}" for index in range(BACKLOG * share // LIMIT)]
        await here.send(*(Outgoing(command(each, here.callee()), each.encode(), partition=partition) for each in names))


def most_in(times: Sequence[float], seconds: float) -> int:
    """Of any rolling stretch of so many seconds."""
    return max(sum(start <= each < start + seconds for each in times[index:]) for index, start in enumerate(times))


def rate(times: Sequence[float]) -> float:
    """Dials a second, from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0])


def told(times: Sequence[float]) -> str:
    """The figures of a run."""
    gap = max(later - earlier for earlier, later in pairwise(times))
    return f"{rate(times):.2f} dials/s of {LIMIT}, {most_in(times, 1.0)} at most in a second, longest gap {gap:.2f} s"


def judge(times: Sequence[float], late: Sequence[float]) -> None:
    """The limit holds, and it is used."""
    ordered = sorted(late)
    usually, worst = ordered[len(ordered) * 9 // 10], ordered[-1]
    figures = f"{told(times)}; wake-ups late by {usually * 1000:.1f} ms (9 in 10), {worst * 1000:.0f} ms (all)"
    print(figures)
    assert most_in(times, 1.0 - worst) <= LIMIT, figures
    if usually > CALM_SECONDS:
        pytest.skip(f"the machine is too busy to judge how much of the limit is used: {figures}")
    assert rate(times[: BACKLOG * 9 // 10]) >= USED * LIMIT, figures


async def test_three_replicas(here: Cluster) -> None:
    """The limit holds in every rolling second, and at least 95 % of it are used while the backlog lasts."""
    await here.start_ready("r0", "r1", "r2")
    await here.shared_out()

    async with lateness() as late:
        await send_backlog(here)
        times = await here.dialled(BACKLOG)

    judge(times, late)


@pytest.mark.parametrize("change", ["comes", "goes"])
async def test_through_a_rebalance(here: Cluster, change: str) -> None:
    """A replica comes, or goes, in the middle: the limit holds and is used all the same."""
    await here.start_ready(*(("r0", "r1") if change == "comes" else ("r0", "r1", "r2")))
    await here.shared_out()

    async with lateness() as late:
        await send_backlog(here)
        await here.dialled(BACKLOG // 2)
        if change == "comes":
            await here.start_ready("r2")
        else:
            assert await here.replicas["r0"].terminate() == 0
        times = await here.dialled(BACKLOG)

    judge(times, late)
