"""`python -m tests.faults --seed S --commands N --faults F`: one campaign, its report, and 1 where a promise broke."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from tests.faults.campaign import Done, running, start_kafka
from tests.faults.plan import Settings, plan
from tests.faults.recovery import openings, recovery_seconds
from tests.faults.report import report
from tests.support.apache_kafka import ApacheKafka
from tests.support.daemon import ROOT

START_SECONDS = 10.0
"""About what the broker and the first replicas take until they are up."""


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--commands", type=int, required=True)
    parser.add_argument("--faults", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=Settings.replicas)
    parser.add_argument("--partitions", type=int, default=Settings.partitions)
    parser.add_argument("--rate", type=float, default=Settings.rate, help="new commands a second")
    parser.add_argument("--report", type=Path, help="where it goes; else reports/faults-SEED.md")
    parser.add_argument("--logs", type=Path, help="an empty folder for configurations and logs of the replicas")
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients are in the same storm
    settings = Settings(given.seed, given.commands, given.faults, given.replicas, given.partitions, given.rate)
    with tempfile.TemporaryDirectory(prefix="callbridge-faults-") as temporary:
        folder: Path = given.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        done, text = anyio.run(campaign, settings, folder, backend_options={"use_uvloop": True})
    path: Path = given.report or ROOT / "reports" / f"faults-{settings.seed}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)
    for end in done.own_ends:
        print(end.story, end="\n\n", file=sys.stderr)
    return int(done.findings is None or done.findings.is_fatal)


async def campaign(
    settings: Settings, folder: Path, broker: Callable[[int], ApacheKafka] = start_kafka
) -> tuple[Done, str]:
    """One campaign, and its report."""
    planned = plan(settings, begins=time.time() + START_SECONDS)
    async with running(settings, planned, folder, broker=broker) as (one, done):
        await one.run()
        dials = [
            (dial.received.wall, done.partition_of[dial.number])
            for dial in one.here.simulator.history.dials
            if dial.received is not None and dial.number in done.partition_of
        ]
    return done, report(done, recovery_seconds(done.kills, openings(folder), dials))


if __name__ == "__main__":
    sys.exit(main())
