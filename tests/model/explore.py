"""Walk every state that can be reached, nearest first, so that the way to a broken invariant is the shortest there is."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from tests.model.facts import COMMANDS, FACTS, MOMENTS
from tests.model.protocol import Protocol
from tests.model.world import OWNERS, Label, World


class TooLarge(Exception):
    """The world has more states than one is willing to look at: nothing is proven."""


class Exploration(NamedTuple):
    """What was found. `broken` is None where every state was looked at and none breaks anything."""

    states: int
    steps: int
    seconds: float
    worlds: dict[World, tuple[World, Label] | None]
    broken: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, or the counterexample."""
        size = f"{self.states} states, {self.steps} steps, {self.seconds:.1f} s"
        if self.broken is None:
            return size
        numbered = (f"{number:3}. {line}" for number, line in enumerate(self.trace, start=1))
        return "\n".join((f"{size}: {self.broken}", *numbered))


def explore(protocol: Protocol, *, at_most: int = 10_000_000) -> Exploration:
    """Look at every reachable state, or up to the first that breaks an invariant."""
    began = time.monotonic()
    first = protocol.first()
    reached: dict[World, tuple[World, Label] | None] = {first: None}
    waiting = deque([first])
    steps = 0
    while waiting:
        world = waiting.popleft()
        for step in protocol.steps(world):
            steps += 1
            if step.broken is not None:
                trace = (*trace_to(reached, world), line(step.label), f"=> {log_line(step.world)}")
                return Exploration(len(reached), steps, time.monotonic() - began, reached, step.broken, trace)
            if step.world not in reached:
                reached[step.world] = (world, step.label)
                waiting.append(step.world)
        if len(reached) > at_most:
            raise TooLarge(f"more than {at_most} states")
    return Exploration(len(reached), steps, time.monotonic() - began, reached)


def trace_to(reached: dict[World, tuple[World, Label] | None], world: World) -> list[str]:
    """How this state was reached."""
    lines: list[str] = []
    while (came := reached[world]) is not None:
        world, label = came
        lines.append(line(label))
    return lines[::-1]


def line(label: Label) -> str:
    """One step in words."""
    what, owner, detail, number = label
    who = OWNERS[owner] if owner >= 0 else "-"
    match what:
        case "tick":
            return f"-: it is {MOMENTS[number]:%H:%M}"
        case "late":
            return f"-: arrives late at {number}: {FACTS.describe(detail)}"
        case "start":
            return f"{who}: starts and sends its fence"
        case "opened" | "opened too late":
            hidden = f" ({number} records compacted away)" if number else ""
            return f"{who}: fence acknowledged, log read{hidden}{', and it ends' if what != 'opened' else ''}"
        case (
            "place" | "due" | "cancel" | "look" | "give up" | "heard" | "accepted" | "refused" | "not_sent" | "unknown"
        ):
            return f"{who}: {COMMANDS[detail]}: {what}"
        case "probe" | "sweep":
            return f"{who}: {what}"
        case _:
            place = f" at {number}" if number >= 0 else ""
            return f"{who}: {what}{place}: {FACTS.describe(detail)}"


def log_line(world: World) -> str:
    """The log in words."""
    return "log: " + " | ".join(f"{offset} {FACTS.describe(fact)}" for offset, fact in enumerate(world.log))
