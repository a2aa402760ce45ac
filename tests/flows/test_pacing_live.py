"""An account's limit over several replicas: never passed in any rolling second, and used while there is a backlog.

What counts is when the simulated provider had read a request, not what a daemon meant to do. The backlog is divided over
the partitions as the limit is, so that no lane runs out of work before the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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


async def send_backlog(here: Cluster) -> None:
    """More commands than the limit lets through in a second, by far."""
    for partition, share in enumerate(SHARES):
        names = [f"c-{partition}-{index}" for index in range(BACKLOG * share // LIMIT)]
        await here.send(*(Outgoing(command(each, here.callee()), each.encode(), partition=partition) for each in names))


def most_in_a_second(times: Sequence[float]) -> int:
    """Of any rolling second."""
    return max(sum(start <= each < start + 1.0 for each in times[index:]) for index, start in enumerate(times))


def rate(times: Sequence[float]) -> float:
    """Dials a second, from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0])


def told(times: Sequence[float]) -> str:
    """The figures of a run."""
    gap = max(later - earlier for earlier, later in pairwise(times))
    return (
        f"{rate(times):.2f} dials/s of {LIMIT}, {most_in_a_second(times)} at most in a second, longest gap {gap:.2f} s"
    )


async def test_three_replicas(here: Cluster) -> None:
    """The limit holds in every rolling second, and at least 95 % of it are used while the backlog lasts."""
    await here.start_ready("r0", "r1", "r2")
    await here.shared_out()
    await send_backlog(here)

    times = await here.dialled(BACKLOG)

    print(told(times))
    assert most_in_a_second(times) <= LIMIT
    assert rate(times[: BACKLOG * 9 // 10]) >= USED * LIMIT, told(times)


async def test_a_replica_comes_and_another_goes(here: Cluster) -> None:
    """Through a rebalance the limit holds too."""
    await here.start_ready("r0", "r1")
    await here.shared_out()
    await send_backlog(here)
    before = await here.dialled(BACKLOG // 4)
    await here.start_ready("r2")
    between = await here.dialled(BACKLOG // 2)
    code = await here.replicas["r0"].terminate()

    times = await here.dialled(BACKLOG)

    print(f"before: {told(before)}\nuntil one had come: {told(between)}\nuntil one had gone: {told(times)}")
    assert code == 0
    assert most_in_a_second(times) <= LIMIT
    assert rate(times[: BACKLOG * 9 // 10]) >= USED * LIMIT, told(times)
