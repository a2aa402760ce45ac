"""Named points at which a test may end the process without a word, as a power cut would.

Does nothing unless the environment variable `CALLBRIDGE_CRASH_AT` names the point (`NAME` or `NAME:N` for its N-th time).
Part of the product on purpose: what is killed in tests is the very code that runs.
"""

from __future__ import annotations

import os
import signal
from typing import Literal, TypeAlias, get_args

Point: TypeAlias = Literal[
    "before_fence",
    "after_fence",
    "after_decide",
    "before_claim",
    "after_claim",
    "before_dial",
    "after_dial",
    "before_settle",
    "after_settle",
    "after_publish",
    "before_commit",
    "after_commit",
]
POINTS: tuple[Point, ...] = get_args(Point)

_name, _, _count = os.environ.get("CALLBRIDGE_CRASH_AT", "").partition(":")
_left = int(_count or 1)


def reached(point: Point) -> None:
    """End the process here, if that was asked for."""
    global _left  # noqa: PLW0603 -- one process, one death
    if point == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
