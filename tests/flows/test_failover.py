"""One of two daemons is killed: how long its partitions stand still, against the session time-out.

A limited account under a backlog dials steadily in each partition, so the silence after the kill is the time it takes
until somebody else owns it, has read its ledger and dials on. That time is judged where the machine was not busy with
other things; that nothing is dialled twice or lost, on any machine.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, cluster, command
from tests.faults.recovery import Kill, openings, recovery_seconds
from tests.support.brokers import Broker
from tests.support.kafka_tools import Outgoing
from tests.support.machine import watched

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]  # waits have deadlines of their own, for slow machines

SESSION_SECONDS = 3.0
HEARTBEAT_SECONDS = 0.5
PARTITIONS = 4
LIMIT = 40
BACKLOG = 400
MARGIN_SECONDS = 3.0
"""Beside the session: the survivor's next heartbeat, its drain, the join, the fence, the ledger."""


@pytest.fixture
async def here(apache_kafka: Broker, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A limited account, and no daemon yet."""
    async with cluster(
        apache_kafka.bootstrap,
        tmp_path,
        partitions=PARTITIONS,
        kafka={"session_timeout_seconds": SESSION_SECONDS, "heartbeat_interval_seconds": HEARTBEAT_SECONDS},
        connections={"demo": {"limits": {"calls_per_second": LIMIT}}},
    ) as found:
        yield found


async def test_killed(here: Cluster) -> None:
    """The survivor dials on in the orphaned partitions soon after the session has run out, and nothing twice."""
    partition_of: dict[str, int] = {}
    for index in range(BACKLOG):
        partition_of[here.callee()] = index % PARTITIONS
    await here.start_ready("r0", "r1")
    await here.shared_out()
    await here.send(
        *(Outgoing(command(f"c{to}", to), to.encode(), partition=each) for to, each in partition_of.items())
    )
    await here.dialled(BACKLOG // 4)

    async with watched() as machine:
        here.replicas["r0"].kill()
        kill = Kill("r0", time.time())
        await here.dialled(BACKLOG * 9 // 10)

    dials = [
        (dial.received.wall, partition_of[f"+{dial.number}"])
        for dial in here.simulator.history.dials
        if dial.received is not None
    ]
    seconds = recovery_seconds([kill], openings(here.folder), dials)
    figures = f"dialled on after {', '.join(f'{each:.2f}' for each in seconds)} s; session time-out {SESSION_SECONDS} s"
    print(f"{figures}; {machine}")
    _, findings = await here.at_rest()
    assert not any(findings.problems.values()), here.explained(str(findings))
    assert seconds, here.explained("the one that was killed owned nothing")
    if not machine.is_calm:
        pytest.skip(f"nothing lost, nothing twice; the machine was too busy to judge the time: {figures}; {machine}")
    assert len(seconds) == PARTITIONS // 2, here.explained("the partitions were not shared out")
    assert max(seconds) < SESSION_SECONDS + MARGIN_SECONDS
