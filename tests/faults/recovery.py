"""How long partitions stood still: from the death of a replica to the next dial of what it had owned. Pure.

Who owned what is read from the replicas' logs (`lane.opened`), when was dialled next from the provider's history. A
partition may also stand still for want of commands, so the times are upper bounds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Kill:
    """A replica died, at this wall time."""

    replica: str
    at: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A replica began to own a partition."""

    at: float
    partition: int
    replica: str


def openings(folder: Path) -> list[Opened]:
    """All of them, in order, from the logs of all lives of all replicas (`NAME-LIFE.log`)."""
    found: list[Opened] = []
    for log in folder.glob("*-*.log"):
        lines = (line for line in log.read_text(errors="replace").splitlines() if '"lane.opened"' in line)
        found += [_opened(json.loads(line), log.stem.rpartition("-")[0]) for line in lines]
    return sorted(found, key=lambda each: each.at)


def _opened(line: Mapping[str, Any], replica: str) -> Opened:
    return Opened(datetime.fromisoformat(line["timestamp"]).timestamp(), line["partition"], replica)


def recovery_seconds(
    kills: Iterable[Kill], opened: Iterable[Opened], dials: Iterable[tuple[float, int]]
) -> list[float]:
    """For each kill and each partition it orphaned, when that was dialled next. `dials`: wall time and partition."""
    by_partition: dict[int, list[float]] = {}
    for at, partition in sorted(dials):
        by_partition.setdefault(partition, []).append(at)
    in_order = list(opened)
    return [seconds for kill in kills for seconds in _after(kill, in_order, by_partition)]


def _after(kill: Kill, opened: list[Opened], dials: Mapping[int, list[float]]) -> Iterator[float]:
    owners = {each.partition: each.replica for each in opened if each.at < kill.at}
    for partition, owner in owners.items():
        later = next((at for at in dials.get(partition, ()) if at > kill.at), None)
        if owner == kill.replica and later is not None:
            yield later - kill.at
