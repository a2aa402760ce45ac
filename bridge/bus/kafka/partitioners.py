"""Where a key belongs: the partitioners of the usual clients, as pure functions.

A lane can only tell copies of a command apart that reach it, so all producers must put one key into one partition.
Which clients use which: see `Commands.partitioner` in the settings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeAlias

from aiokafka.partitioner import murmur2

from bridge.runtime.settings import Partitioner

PartitionOf: TypeAlias = Callable[[bytes], int]

_POSITIVE = 0x7FFF_FFFF


def partition_of(partitioner: Partitioner, *, partitions: int) -> PartitionOf | None:
    """The partition of a key among `partitions`; None where any will do."""
    match partitioner:
        case "murmur2":
            return lambda key: (int(murmur2(key)) & _POSITIVE) % partitions
        case "crc32":
            return lambda key: zlib.crc32(key) % partitions
        case "any":
            return None
