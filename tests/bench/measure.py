"""What is measured, and how: CPU of a process tree, resident memory, quantiles, medians, the machine's load.

CPU time is what to compare: it is nearly immune to the neighbours on the machine, which wall time is not. It is read
from /proc, in the kernel's ticks of 10 ms, so a round should burn a second of it.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MIB = 1024 * 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants so far, threads that have ended among it."""
    return sum(_ticks(each) for each in _tree(pid)) / _TICKS_PER_SECOND


def rss_mib(pid: int) -> float:
    """Resident memory of a process and its descendants."""
    return sum(int((_PROC / str(each) / "statm").read_text().split()[1]) for each in _tree(pid)) * _PAGE_BYTES / _MIB


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which this part of all lies; NaN where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def median(values: Sequence[float]) -> float:
    """The median of the rounds."""
    return statistics.median(values) if values else float("nan")


def load_average() -> float:
    """How many processes wanted a core in the last minute. Ours are among them."""
    return os.getloadavg()[0]


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in (_PROC / str(pid) / "task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _ticks(pid: int) -> int:
    # The second field is the name in parentheses, which may hold anything.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
