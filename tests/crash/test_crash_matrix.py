"""Killed between every two steps: a daemon dies at each named point, another one comes, and every promise holds.

The points are the product's own (`bridge.runtime.crashpoints`); two more are the provider's side of a request: read and
not answered, and read in half. The history checker judges what is on the topics against what the provider counted.

Between the write of a claim and its acknowledgement there is no point of its own: whoever comes next finds the claim in the
log, as at `after_claim`, or does not, as at `before_claim`; a broker that answers too late is the contract tests' matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from signal import SIGKILL
from typing import Any, TypeAlias

import pytest

from bridge.demo.simulators.faults import Hang
from bridge.demo.simulators.history import History
from bridge.demo.simulators.script import Callee, DialRule, Script
from bridge.runtime.crashpoints import POINTS
from tests.crash.halfway import Halfway
from tests.faults.cluster import NOBODY, Cluster, cluster, command, twice
from tests.faults.history import Collected, Findings
from tests.support.brokers import Broker
from tests.support.kafka_tools import Outgoing

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]  # waits have deadlines of their own, for slow machines

CHANGES: dict[str, Any] = {
    "kafka": {"session_timeout_seconds": 30.0},
    "commands": {"evidence_seconds": 0.2, "commit_interval_seconds": 0.1, "poll_seconds": 0.1},
}
DOOMED: dict[str, Any] = {"session_timeout_seconds": 2.0, "heartbeat_interval_seconds": 0.4}
"""Only who dies: the death is noticed soon, and who lives on is not taken for dead where the machine is slow."""
COMMANDS = 6
AT_ONCE = 4
SLOW_SECONDS = 90.0
"""What a busy machine may need for anything."""

Deaths: TypeAlias = tuple[str, ...]
"""Where one daemon after the other dies: `POINT:NTH`, the NTH time that it is there."""

BEFORE_ANY_CLAIM: frozenset[Deaths] = frozenset(
    {("before_fence:1",), ("after_fence:1",), ("after_decide:1",), ("before_claim:1",)}
)
ONCE: tuple[Deaths, ...] = (
    *((f"{point}:1",) for point in POINTS),
    ("before_fence:3",),
    ("after_claim:3",),
    ("after_publish:3",),
)
TWICE: tuple[Deaths, ...] = (
    ("after_claim:3", "after_publish:2"),
    ("after_dial:3", "after_fence:2"),
    ("before_settle:1", "before_commit:1"),
)


@pytest.fixture
async def here(apache_kafka: Broker, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A provider and topics; no daemon yet."""
    async with cluster(apache_kafka.bootstrap, tmp_path, **CHANGES) as found:
        yield found


@pytest.fixture(scope="module")
async def lives(
    apache_kafka: Broker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[Deaths, asyncio.Task[tuple[Collected, Findings]]]]:
    """What came of each row of deaths. Some run at the same time, each on topics of its own: they wait more than work."""
    places = asyncio.Semaphore(AT_ONCE)

    async def live(deaths: Deaths) -> tuple[Collected, Findings]:
        async with places, cluster(apache_kafka.bootstrap, tmp_path_factory.mktemp("crash"), **CHANGES) as here:
            await send_some(here)
            for point in deaths:
                await dies_at(here, point)
            here.start("replica")
            return await check_all(here)

    tasks = {deaths: asyncio.create_task(live(deaths)) for deaths in (*ONCE, *TWICE)}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


async def send_some(here: Cluster) -> list[str]:
    """A handful of commands, some of them twice; the numbers they are for."""
    numbers = [here.callee() for _ in range(COMMANDS)]
    records = [Outgoing(command(f"c-{i}", number), b"c-%d" % i) for i, number in enumerate(numbers)]
    await here.send(*twice(records, every=3))
    return numbers


async def dies_at(here: Cluster, point: str) -> None:
    """Start the daemon and see it killed there."""
    here.config("doomed", kafka=DOOMED)
    doomed = here.start("doomed", env={"CALLBRIDGE_CRASH_AT": point})
    assert await doomed.ended(seconds=SLOW_SECONDS) == -SIGKILL


def told(seen: History) -> int:
    """Of how many calls the webhook that names them was acknowledged."""
    sessions = {
        webhook.session
        for webhook in seen.webhooks
        if webhook.event == "session_start" and webhook.status is not None and webhook.status < 300
    }
    return len(sessions)


async def check_all(here: Cluster) -> tuple[Collected, Findings]:
    """Every promise holds, and nothing is left to be done."""
    collected, findings = await here.at_rest()
    assert not any(findings.problems.values()), here.explained(str(findings))
    assert findings.commands == COMMANDS
    assert findings.finals.keys() <= {"call.initiated", "call.unknown"}
    return collected, findings


@pytest.mark.parametrize("deaths", ONCE, ids=" ".join)
async def test_killed_at(lives: Mapping[Deaths, asyncio.Task[tuple[Collected, Findings]]], deaths: Deaths) -> None:
    """Dialled at most once; exactly once where it was not in doubt; a result for each, and nothing left open."""
    collected, findings = await lives[deaths]

    if deaths in BEFORE_ANY_CLAIM:
        assert findings.finals == {"call.initiated": COMMANDS}
        assert all(seen.received == 1 for seen in collected.numbers.values())


@pytest.mark.parametrize("deaths", TWICE, ids=" ".join)
async def test_killed_again_while_it_recovers(
    lives: Mapping[Deaths, asyncio.Task[tuple[Collected, Findings]]], deaths: Deaths
) -> None:
    """The successor dies too, over what its predecessor left in doubt: the third one brings all to its end."""
    await lives[deaths]


async def test_a_webhook_settles_what_a_crash_left_open(here: Cluster) -> None:
    """Killed with the provider's answers in hand: unknown at first, and settled when the callees pick up."""
    here.simulator.play(Script(callees=(Callee(rings_seconds=here.simulator.settings.speed * 3600),)))
    await send_some(here)
    await dies_at(here, "after_dial:3")
    successor = here.start("replica")
    here.simulator.point_webhooks_at(f"{successor.webhook_url}/webhooks/demo")
    _, before = await check_all(here)

    for ringing in list(here.simulator._calls.values()):
        ringing.pick_up()
    placed = here.simulator.history.counts["calls.placed"]
    await here.simulator.wait_for(lambda seen: told(seen) == placed, SLOW_SECONDS)
    collected, after = await check_all(here)

    assert before.finals["call.unknown"] > 0
    assert after.finals["call.initiated"] == sum(seen.placed for seen in collected.numbers.values())
    assert after.finals["call.initiated"] > before.finals["call.initiated"]


async def test_killed_while_the_provider_decides(here: Cluster) -> None:
    """The provider has read the requests and not answered: each is unknown, and none is asked for again."""
    here.simulator.play(Script(callees=NOBODY.callees, dial_faults=(DialRule(fault=Hang()),)))
    numbers = [number.lstrip("+") for number in await send_some(here)]
    here.config("doomed", kafka=DOOMED)
    doomed = here.start("doomed")
    await here.simulator.wait_for(lambda seen: all(map(seen.received, numbers)), SLOW_SECONDS)
    doomed.kill()
    here.simulator.play(NOBODY)
    here.start("replica")

    collected, findings = await check_all(here)

    assert findings.finals == {"call.unknown": COMMANDS}
    assert {seen.received for seen in collected.numbers.values()} == {1}


async def test_killed_in_the_middle_of_a_request(here: Cluster) -> None:
    """The provider has read half of each request: nobody can know, so each is unknown and none is sent again."""
    async with Halfway(here.simulator.base_url) as way:
        here.provider_url = way.url
        await send_some(here)
        here.config("doomed", kafka=DOOMED)
        doomed = here.start("doomed")
        await way.held(COMMANDS, seconds=SLOW_SECONDS)
        doomed.kill()
        way.open()
        here.start("replica")

        collected, findings = await check_all(here)

    assert findings.finals == {"call.unknown": COMMANDS}
    assert (collected.requests, collected.numbers) == (COMMANDS, {})
