"""An account's limit over several replicas: never passed in any rolling second, and used while there is a backlog.

What counts is when requests came to the provider's door, not what a daemon meant to do, nor when a busy test got round
to noting it (tests/faults/arrivals.py). So the limit is judged on any machine. How much of it is used says something
about the gateway only where processes get the processor when they want it: a daemon that is woken late can't dial in
time, and what it misses in a window is gone. So the machine is measured beside it; where it was busy, that half is
skipped with the figures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.arrivals import STEP_SECONDS, Arrivals
from tests.faults.cluster import REST_SECONDS, Cluster, cluster, command
from tests.support.brokers import Broker
from tests.support.kafka_tools import Outgoing
from tests.support.machine import Machine, watched

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]  # waits have deadlines of their own, for slow machines

LIMIT = 20
SHARES = (7, 7, 6)
"""Of the limit, by partition; the backlog is divided alike, so that no lane runs out of work before the others."""
BACKLOG = 400
USED = 0.95


@pytest.fixture
async def here(apache_kafka: Broker, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A limited account, and no daemon yet."""
    async with cluster(
        apache_kafka.bootstrap,
        tmp_path,
        kafka={"session_timeout_seconds": 10.0, "heartbeat_interval_seconds": 0.3},
        connections={"demo": {"limits": {"calls_per_second": LIMIT}}},
    ) as found:
        yield found


@pytest.fixture
async def door(here: Cluster) -> AsyncIterator[Arrivals]:
    """Where the daemons find the provider."""
    async with Arrivals(here.simulator.base_url) as found:
        here.provider_url = found.url
        yield found


async def send_backlog(here: Cluster) -> None:
    """More commands than the limit lets through in a second, by far."""
    for partition, share in enumerate(SHARES):
        names = [f"c-{partition}-{index}" for index in range(BACKLOG * share // LIMIT)]
        await here.send(*(Outgoing(command(each, here.callee()), each.encode(), partition=partition) for each in names))


def shortest(times: Sequence[float]) -> float:
    """The shortest stretch of time with one dial more than the limit allows in a second."""
    return min(last - first for first, last in zip(times, times[LIMIT:], strict=False))


def rate(times: Sequence[float]) -> float:
    """Dials a second, from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0])


def judge(times: Sequence[float], machine: Machine) -> None:
    """The limit holds; and it is used, where the machine let it."""
    steady = times[: BACKLOG * 9 // 10]
    gap = max(later - earlier for earlier, later in pairwise(steady))
    figures = (
        f"{rate(steady):.2f} dials/s of {LIMIT}, no {LIMIT + 1} within {shortest(times):.3f} s, longest gap {gap:.2f} s; "
        f"{machine}"
    )
    print(figures)
    assert shortest(times) >= 1.0 - STEP_SECONDS, figures
    if not machine.is_calm:
        pytest.skip(f"the limit held; the machine was too busy to judge how much of it is used: {figures}")
    assert rate(steady) >= USED * LIMIT, figures


@pytest.mark.parametrize("change", ["a third comes", "one of three goes"])
async def test_through_a_rebalance(here: Cluster, door: Arrivals, change: str) -> None:
    """With a replica more, or less, in the middle of a backlog: never more than the limit, and at least 95 % of it."""
    grows = change == "a third comes"
    await here.start_ready(*(("r0", "r1") if grows else ("r0", "r1", "r2")))
    await here.shared_out()

    async with watched() as machine:
        await send_backlog(here)
        await door.times(BACKLOG // 2, seconds=REST_SECONDS)
        if grows:
            await here.start_ready("r2")
        else:
            assert await here.replicas["r0"].terminate() == 0
        times = await door.times(BACKLOG, seconds=REST_SECONDS)

    assert len(times) == BACKLOG
    judge(times, machine)
