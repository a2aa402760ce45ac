"""What the demo came to: a few rows of what was seen against what was wanted, and whether they agree.

It promises that the numbers of the provider's side are the simulator's own exact counts, asked for at the end, not
what the timeline happened to show. Printing when, and what follows from a row that does not agree, is `main`'s part.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import msgspec

from bridge.demo.plays import Play
from bridge.demo.story import Story
from bridge.model.results import CallInitiated

_WIDE, _NARROW = 44, 12


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    seen: str
    wanted: str
    is_good: bool = True

    def __str__(self) -> str:
        return f"  {self.what:<{_WIDE}}{self.seen:>{_NARROW}}   {'ok' if self.is_good else 'NOT ok'}, {self.wanted}"


class _Counts(msgspec.Struct):
    received: int = 0
    placed: int = 0


class _Webhook(msgspec.Struct):
    latency_seconds: float
    status: int | None = None
    actions: list[str] = []
    """What its answer made the provider do."""


class Seen(msgspec.Struct):
    """What the simulator remembers of one number: a part of its `/_sim/calls`."""

    counts: _Counts = msgspec.field(default_factory=_Counts)
    webhooks: list[_Webhook] = []


def rows(story: Story, seen: Seen, *, command_id: str, play: Play) -> Sequence[Row]:
    """The table for one call."""
    result = story.results.get(command_id)
    taken = sum(webhook.status in {200, 204} for webhook in seen.webhooks)
    return [
        Row(
            f"dials of {command_id} that the provider saw",
            f"{seen.counts.received}",
            "exactly 1",
            seen.counts.received == 1,
        ),
        Row(
            "its result",
            "none" if result is None else str(result.__struct_config__.tag),
            "call.initiated",
            isinstance(result, CallInitiated),
        ),
        Row("webhooks acknowledged", f"{taken} of {len(seen.webhooks)}", "all", 0 < taken == len(seen.webhooks)),
        _all("events with the command's metadata", story.counts["events.ours"], story.counts["events"]),
        *_acted(story, seen, play),
        Row("troubles", str(len(story.troubles)), "none", not story.troubles),
    ]


def _acted(story: Story, seen: Seen, play: Play) -> Iterator[Row]:
    """What the agent did, as far as it can do something with this provider."""
    counts = story.counts
    if play.is_asked:
        latencies = [webhook.latency_seconds for webhook in seen.webhooks if webhook.actions]
        yield _all("questions answered by the agent in time", counts["delivered.answer"], counts["questions"])
        yield Row("  webhook to answer, p50", _milliseconds(latencies, 0.5), "for information")
        yield Row("  webhook to answer, slowest", _milliseconds(latencies, 1.0), "for information")
    else:
        yield Row("questions", f"{counts['questions']}", "none: nothing waits here", counts["questions"] == 0)
    if play.is_unasked:
        yield _all("actions that nobody asked for, taken", counts["delivered.control"], counts["actions.unasked"])
    if play.is_asked or play.is_unasked:
        yield _all("actions with the verdict 'delivered'", counts["verdicts.delivered"], counts["actions"])


def _all(what: str, seen: int, of: int) -> Row:
    return Row(what, f"{seen} of {of}", "all", 0 < seen == of)


def ended(code: int | None) -> Row:
    """The row for the daemon's end."""
    return Row("the daemon's exit code after SIGTERM", str(code), "0", code == 0)


def _milliseconds(values: Collection[float], share: float) -> str:
    if not values:
        return "-"
    return f"{sorted(values)[math.ceil(share * len(values)) - 1] * 1000:.0f} ms"
