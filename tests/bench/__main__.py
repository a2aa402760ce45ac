"""Measure: `python -m tests.bench [NAME...]`, all without a name. Prints a table each, and no verdict.

Nothing here is a timed test: the machine has neighbours. Each figure stands beside a floor that ran in the same rounds,
so read the ratios. The broker is Apache Kafka, `KAFKA_BOOTSTRAP` or one of our own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import anyio

from tests.bench import commands, failover, held, ledger_start, measure, soak, turn, webhook_event
from tests.bench.report import Report
from tests.bench.stage import Setting
from tests.support.apache_kafka import ApacheKafka
from tests.support.daemon import ROOT

REPORTS = ROOT / "reports"

BENCHES: Mapping[str, Callable[[Setting], Awaitable[Report]]] = {
    "webhook-event": webhook_event.bench,
    "turn": turn.bench,
    "commands": commands.bench,
    "held": held.bench,
    "ledger-start": ledger_start.bench,
    "failover": failover.bench,
    "soak": soak.bench,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named, one after the other."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(BENCHES)}")
    reports: list[Report] = []
    with _cluster() as bootstrap, tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder:
        setting = Setting(
            bootstrap=bootstrap,
            folder=Path(folder),
            rounds=options.rounds or (1 if options.quick else 3),
            seconds=options.seconds or (0.5 if options.quick else 5.0),
            entries=options.entries or (10_000 if options.quick else 1_000_000),
            quick=options.quick,
        )
        for name in options.names or BENCHES:
            before = measure.load_average()
            report = anyio.run(BENCHES[name], setting, backend_options={"use_uvloop": True})
            report.load = (before, measure.load_average())
            print(report.text(), flush=True)
            reports.append(report)
    if options.json:
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / options.json).write_text(json.dumps([report.values() for report in reports], indent=2) + "\n")
    return 0


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    named = os.environ.get("KAFKA_BOOTSTRAP")
    if named:
        yield named
        return
    with ApacheKafka() as kafka:
        yield kafka.bootstrap


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measurements, with a floor beside each."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, help="of floor and subject in turn; medians are shown (3)")
    parser.add_argument("--seconds", type=float, help="of load in a round (5)")
    parser.add_argument("--entries", type=int, help="of ledger-start (1,000,000)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing")
    parser.add_argument("--json", metavar="FILE", help="write the figures to reports/FILE, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
