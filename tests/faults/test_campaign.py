"""A short campaign: replicas, broker, network and provider fail as a fixed seed has it, and every promise holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import campaign
from tests.faults.plan import Plan, Settings, plan
from tests.faults.report import total
from tests.support.brokers import OwnKafka

# A seed that has most kinds: killed, frozen, cut off, added and removed replicas, a killed broker, a silent provider.
SHORT = Settings(seed=938, commands=300, faults=24, rate=9.0)


def test_one_seed_is_one_plan() -> None:
    """The same seed gives the same commands and the same faults, another seed others; the numbers are as asked for."""

    def planned(seed: int) -> Plan:
        return plan(Settings(seed, commands=500, faults=50), begins=0.0)

    first = planned(1)

    assert first == planned(1)
    assert first != planned(2)
    assert len(first.faults) + len(first.provider) == 50
    assert len({order.command_id for order in first.orders}) == 500
    assert len(first.orders) == 550


@pytest.mark.anyio
@pytest.mark.timeout(900)  # about a minute; the rest is for a machine that has much else to do
async def test_a_short_campaign(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """Nothing is dialled twice, nothing lost, nothing contradicted, and everything comes to rest, however long it takes."""
    done, text = await campaign(SHORT, tmp_path, lambda port: own_kafka(advertised_port=port))

    print(text)
    assert done.findings is not None
    assert not any(done.findings.problems.values()), text
    assert done.findings.commands == SHORT.commands
    assert total(done) + sum(done.skipped.values()) == SHORT.faults
    failures = [end.story for end in done.own_ends if end.is_failure]
    assert not failures, "\n\n".join(failures)
