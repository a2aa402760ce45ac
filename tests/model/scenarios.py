"""The worlds that are explored, and what is watched in them.

`NORMAL` fits a test run; `MODEL_BOUND=large` adds worlds that take minutes each.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from tests.model import judge
from tests.model.explore import Exploration, explore, line, log_line, trace_to
from tests.model.judge import Judge
from tests.model.liveness import find_stuck
from tests.model.protocol import Protocol
from tests.model.scripts import OutcomeName, Scripts
from tests.model.world import Bounds

LARGE = os.environ.get("MODEL_BOUND") == "large"


class Scenario(NamedTuple):
    """A world, and what must hold in it."""

    name: str
    bounds: Bounds
    watched: frozenset[str] = judge.ALL


NO_ANSWER: tuple[OutcomeName, ...] = ()
"""The request leaves, and nothing is ever heard of it."""
OLD = frozenset({0})
NOT_SENT: tuple[tuple[OutcomeName, ...], ...] = (("not_sent", "unknown"),)
CALLED: tuple[tuple[OutcomeName, ...], ...] = (("accepted", "unknown"),)
REFUSED: tuple[tuple[OutcomeName, ...], ...] = (("refused", "unknown"),)

NORMAL = (
    Scenario("two owners", Bounds(owners=2)),
    Scenario("two owners, refusals", Bounds(owners=2, outcomes=REFUSED)),
    Scenario("three owners", Bounds(), judge.SAFETY),
    Scenario("two owners, a late copy", Bounds(owners=2, copies=1), judge.SAFETY),
    Scenario("two owners, a time-out", Bounds(owners=2, retries=1), judge.SAFETY),
    Scenario("two owners, webhooks", Bounds(owners=2, hears=True)),
    Scenario("two owners, a probe", Bounds(owners=2, probes=1, attempts=1)),
    Scenario("two owners, a long pause", Bounds(owners=2, pauses=1)),
    Scenario("two owners, expiry", Bounds(owners=2, expires=True)),
    Scenario("two owners, a cancellation", Bounds(owners=2, attempts=1, defers=True, cancels=True, outcomes=CALLED)),
    Scenario("three owners, one with an old configuration", Bounds(attempts=1, unconfigured=OLD)),
    Scenario("three owners, one gives up", Bounds(attempts=1, outcomes=NOT_SENT)),
    Scenario(
        "two owners, a late copy of a claim", Bounds(owners=2, copies=1, copies_claims_only=True, outcomes=NOT_SENT)
    ),
    Scenario(
        "two owners, two commands, a late copy of a claim",
        Bounds(
            owners=2,
            attempts=1,
            copies=1,
            copies_claims_only=True,
            second_command_from=1,
            outcomes=(NO_ANSWER, NO_ANSWER),
        ),
        judge.SAFETY,
    ),
    Scenario("two owners, the window ends", Bounds(owners=2, sweeps=1, attempts=1, outcomes=CALLED)),
    Scenario(
        "two owners, the window ends, an old configuration",
        Bounds(owners=2, sweeps=1, attempts=1, unconfigured=OLD, outcomes=CALLED),
    ),
    Scenario("two owners, kept", Bounds(owners=2, keeps=True)),
    Scenario("two owners, kept, webhooks", Bounds(owners=2, keeps=True, hears=True)),
    Scenario("two owners, kept, a late copy", Bounds(owners=2, keeps=True, copies=1, attempts=1)),
    Scenario(
        "two owners, the window ends before a cancelled command was due",
        Bounds(owners=2, attempts=1, defers=True, cancels=True, sweeps=1, outcomes=CALLED),
    ),
)

MORE = (
    Scenario("three owners, results", Bounds(attempts=1)),
    Scenario("three owners, webhooks", Bounds(hears=True, attempts=1)),
    Scenario("three owners, two attempts, one gives up", Bounds(outcomes=NOT_SENT)),
    Scenario(
        "three owners, a late copy, results",
        Bounds(attempts=1, copies=1, outcomes=(("accepted",),)),
    ),
    Scenario("three owners, expiry", Bounds(attempts=1, expires=True, outcomes=NOT_SENT)),
    Scenario("three owners, an old configuration, webhooks", Bounds(attempts=1, unconfigured=OLD, hears=True)),
    Scenario(
        "three owners, an old configuration, a late copy",
        Bounds(attempts=1, unconfigured=OLD, copies=1, outcomes=CALLED),
    ),
    Scenario(
        "two owners, expiry, a late copy of a claim", Bounds(owners=2, expires=True, copies=1, copies_claims_only=True)
    ),
    Scenario("three owners, kept", Bounds(keeps=True, attempts=1)),
    Scenario("three owners, kept, the window ends", Bounds(keeps=True, sweeps=1, attempts=1, outcomes=CALLED)),
    Scenario(
        "three owners, the window ends, an old configuration",
        Bounds(sweeps=1, attempts=1, unconfigured=OLD, outcomes=CALLED),
    ),
    Scenario("three owners, a cancellation", Bounds(attempts=1, defers=True, cancels=True, outcomes=CALLED)),
    Scenario("three owners, a long pause", Bounds(pauses=1), judge.SAFETY),
    Scenario("three owners, a late copy", Bounds(copies=1, attempts=1), judge.SAFETY),
    Scenario("three owners, two attempts, a late copy", Bounds(copies=1, outcomes=(("not_sent",),)), judge.SAFETY),
    Scenario("three owners, a probe", Bounds(probes=1, attempts=1)),
    Scenario("two owners, a late copy and a time-out", Bounds(owners=2, copies=1, retries=1, attempts=1), judge.SAFETY),
    Scenario("two owners, two late copies", Bounds(owners=2, copies=2, attempts=1), judge.SAFETY),
    Scenario("two owners, a late copy, webhooks", Bounds(owners=2, copies=1, attempts=1, hears=True)),
    Scenario(
        "two owners, two commands, a late copy of a claim, all owners",
        Bounds(owners=2, attempts=1, copies=1, copies_claims_only=True, outcomes=(NO_ANSWER, NO_ANSWER)),
        judge.SAFETY,
    ),
    Scenario(
        "two owners, a cancelled pause, a late copy",
        Bounds(owners=2, pauses=1, cancels=True, copies=1, outcomes=(("not_sent",),)),
        judge.SAFETY,
    ),
    Scenario(
        "two owners, two commands", Bounds(owners=2, attempts=1, outcomes=(("accepted", "unknown"), ("unknown",)))
    ),
)

LIVE = (
    Scenario("two owners", Bounds(owners=2)),
    Scenario("two owners, webhooks", Bounds(owners=2, hears=True)),
    Scenario("two owners, a late copy", Bounds(owners=2, copies=1, attempts=1, outcomes=CALLED)),
    Scenario("two owners, kept", Bounds(owners=2, keeps=True, attempts=1)),
    Scenario("two owners, a long pause", Bounds(owners=2, pauses=1)),
    Scenario("two owners, a cancellation", Bounds(owners=2, attempts=1, defers=True, cancels=True)),
    Scenario("two owners, expiry", Bounds(owners=2, expires=True, attempts=1)),
    Scenario("one owner, pauses", Bounds(owners=1, pauses=2)),
    Scenario("one owner, deferred", Bounds(owners=1, defers=True, cancels=True, expires=True)),
)

LIVE_TOO = (
    Scenario("two owners, a late copy of anything", Bounds(owners=2, copies=1)),
    Scenario("three owners, an old configuration", Bounds(attempts=1, unconfigured=OLD)),
    Scenario("three owners", Bounds(attempts=1)),
    Scenario("three owners, webhooks", Bounds(attempts=1, hears=True)),
    Scenario("three owners, a long pause", Bounds(attempts=1, pauses=1)),
)


def rules_for(bounds: Bounds, kind: type[Scripts] = Scripts) -> Scripts:
    """The rules, as this world asks for them."""
    return kind(defers=bounds.defers, expires=bounds.expires, max_attempts=bounds.attempts)


def look_at(scenario: Scenario, kind: type[Scripts] = Scripts) -> Exploration:
    """Explore a world."""
    with rules_for(scenario.bounds, kind) as rules:
        return explore(Protocol(rules, scenario.bounds, Judge(scenario.watched)))


def stuck_in(scenario: Scenario) -> tuple[Exploration, str]:
    """Explore a world and look for a command that never comes to a result: how, or nothing."""
    with rules_for(scenario.bounds) as rules:
        protocol = Protocol(rules, scenario.bounds, Judge(frozenset(), reads_results=True))
        explored = explore(protocol)
        stuck = find_stuck(protocol, explored.worlds)
        if stuck is None:
            return explored, ""
        lines = [*trace_to(explored.worlds, stuck.world), f"=> {log_line(stuck.world)}", "from there on:"]
        return explored, "\n".join((*lines, *(line(label) for label in stuck.future)))
