"""Lines for a person at a terminal: what happened when, in columns, in order although the sources are not.

It promises that lines are printed in the order of their times unless one comes later than `HOLD_SECONDS`, and colours
only where a terminal is. What a line says is `story`'s part.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from enum import IntEnum
from typing import NamedTuple, TextIO

HOLD_SECONDS = 0.4
"""How long a line waits for earlier ones of other sources; the tails of the topics are the slowest."""


class Step(IntEnum):
    """What kind of thing happened. The order counts within one millisecond, which is all that a record's time tells.

    An answer stands before the webhook of the same millisecond: nothing is answered that fast, but what is answered is
    followed by the next webhook at once.
    """

    COMMAND = 0
    CLAIM = 1
    DIAL = 2
    SETTLED = 3
    RESULT = 4
    ANSWER = 5
    PHONE = 6
    WEBHOOK = 7
    OVER = 8
    EVENT = 9
    ACTION = 10
    VERDICT = 11
    TROUBLE = 12


# Column and ANSI colour of each step: topics of producers and the provider's doings differ from what the bridge writes.
_SHOWN = {
    Step.COMMAND: ("command", "1;36"),
    Step.CLAIM: ("ledger", "2"),
    Step.DIAL: ("dial", "1;33"),
    Step.SETTLED: ("ledger", "2"),
    Step.RESULT: ("result", "1;32"),
    Step.ANSWER: ("answer", "32"),
    Step.PHONE: ("phone", "35"),
    Step.WEBHOOK: ("webhook", "33"),
    Step.OVER: ("phone", "35"),
    Step.EVENT: ("event", "36"),
    Step.ACTION: ("action", "34"),
    Step.VERDICT: ("verdict", "2"),
    Step.TROUBLE: ("TROUBLE", "1;31"),
}
_COLUMN = max(len(name) for name, _ in _SHOWN.values())
_RESET = "\033[0m"


class Line(NamedTuple):
    """One thing that happened; `at` is Unix time."""

    at: float
    step: Step
    text: str
    is_start: bool = False
    """Times are relative to this line from here on."""


class Timeline:
    """Collects lines and prints them in order."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._coloured = out.isatty() and "NO_COLOR" not in os.environ
        self._waiting: list[tuple[int, Step, int, Line]] = []
        self._numbers = itertools.count()
        self._start: int | None = None

    def add(self, line: Line) -> None:
        """Have it printed in its turn."""
        heapq.heappush(self._waiting, (_milliseconds(line.at), line.step, next(self._numbers), line))

    def print_due(self) -> None:
        """Print what nothing earlier is expected for any more."""
        self._print_before(time.time() - HOLD_SECONDS)

    def print_all(self) -> None:
        """Print what is left."""
        self._print_before(float("inf"))

    def say(self, text: str = "") -> None:
        """Something that is not part of the timeline."""
        print(text, file=self._out, flush=True)

    def _print_before(self, moment: float) -> None:
        while self._waiting and self._waiting[0][-1].at <= moment:
            at, *_, line = heapq.heappop(self._waiting)
            if line.is_start or self._start is None:
                self._start = at
            self.say(self._shown(line, (at - self._start) / 1000))

    def _shown(self, line: Line, seconds: float) -> str:
        name, colour = _SHOWN[line.step]
        label = f"{name:<{_COLUMN}}"
        label = f"\033[{colour}m{label}{_RESET}" if self._coloured else label
        return f"  {seconds:+8.3f} s  {label}  {line.text}"


def _milliseconds(at: float) -> int:
    return int(at * 1000)
