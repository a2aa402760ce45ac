"""Every metric of the daemon, in one table: name with unit, meaning, and the closed sets its labels are taken from.

Counters stand at zero from the start for every combination of labels, so a rate is right from the first event; a label
value outside its set counts as `other`. The registry is an object, not a global: the daemon can be started twice in one
process. When to count is the flows' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from bridge.model.actions import ActionStatus
from bridge.model.events import Event
from bridge.model.outcome import Outcome
from bridge.model.results import Result

CONTENT_TYPE = CONTENT_TYPE_LATEST
NO_CONNECTION = "unknown"
"""The label of a webhook whose path names no connection of the configuration."""

CommandDecision: TypeAlias = Literal["dial", "finish", "publish", "repeat", "postpone", "doubt", "nothing"]
DeadLetterSource: TypeAlias = Literal["commands", "actions", "webhooks"]
AnsweredWith: TypeAlias = Literal[
    "action", "fallback", "parked", "superseded", "acknowledgement", "full", "caller_gone", "nobody_listens"
]
ClosedBy: TypeAlias = Literal["lookup", "silence"]
PublishedTo: TypeAlias = Literal["results", "events"]
Rejection: TypeAlias = Literal[
    "header_too_large", "body_too_large", "too_many_connections", "too_many_pipelined", "receive_timeout", "malformed"
]
_STATUSES = ("101", "200", "204", "400", "401", "404", "405", "408", "413", "499", "500", "503")
_OTHER = "other"

# Upper bounds in seconds: of a record's way into Kafka, of a provider's answer, of a consumer's answer to a question.
_APPEND_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DIAL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ANSWER_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)
_LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

M = TypeVar("M")


class Family(Generic[M]):
    """One metric over the closed sets of its labels."""

    def __init__(self, member: Callable[..., M], sets: Mapping[str, Sequence[str]]) -> None:
        self._member = member
        self._sets = sets
        self._members: dict[tuple[str, ...], M] = {values: member(*values) for values in product(*sets.values())}

    def labels(self, **values: str | int) -> M:
        """The member for these label values."""
        key = tuple(str(values[name]) for name in self._sets)
        member = self._members.get(key)
        return member if member is not None else self._unlisted(key)

    def _unlisted(self, key: tuple[str, ...]) -> M:
        pairs = zip(key, self._sets.values(), strict=True)
        return self._member(*(value if value in values else _OTHER for value, values in pairs))


class _Table:
    """Makes metrics of one registry, all under one prefix."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"callbridge_{name}", meaning, registry=self._registry)

    def gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"callbridge_{name}", meaning, registry=self._registry)

    def histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> Histogram:
        return Histogram(f"callbridge_{name}", meaning, buckets=bounds, registry=self._registry)

    def counters(self, name: str, meaning: str, **sets: Sequence[str]) -> Family[Counter]:
        parent = Counter(f"callbridge_{name}", meaning, list(sets), registry=self._registry)
        return Family(parent.labels, sets)

    def gauges(self, name: str, meaning: str, **sets: Sequence[str]) -> Family[Gauge]:
        parent = Gauge(f"callbridge_{name}", meaning, list(sets), registry=self._registry)
        return Family(parent.labels, sets)

    def histograms(self, name: str, meaning: str, bounds: Sequence[float], **sets: Sequence[str]) -> Family[Histogram]:
        parent = Histogram(f"callbridge_{name}", meaning, list(sets), buckets=bounds, registry=self._registry)
        return Family(parent.labels, sets)


class Metrics:
    """The table. `connections` and `providers` are those of the configuration, and close the sets of these labels."""

    def __init__(
        self,
        *,
        connections: Sequence[str] = (),
        providers: Sequence[str] = (),
        dropped_log_lines: Callable[[], int] = lambda: 0,
    ) -> None:
        self.registry = CollectorRegistry()
        table = _Table(self.registry)
        self._commands(table, providers)
        self._lanes(table, connections)
        self._webhooks(table, connections)
        self._questions(table)
        self._process(table)
        self.registry.register(_DroppedLines(dropped_log_lines))
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        """The text of `/metrics`; its media type is `CONTENT_TYPE`."""
        return generate_latest(_WithoutCreationTimes(self.registry))

    def _commands(self, table: _Table, providers: Sequence[str]) -> None:
        self.commands_read = table.counter("commands_read_total", "Records read from the commands topic.")
        self.commands_decided = table.counters(
            "commands_decided_total", "Decisions about commands.", decision=get_args(CommandDecision)
        )
        self.commands_in_flight = table.gauge("commands_in_flight", "Commands being worked on.")
        self.command_seconds = table.histogram(
            "command_seconds", "From reading a command to its published result, deferrals apart.", _DIAL_SECONDS
        )
        self.dials = table.counters(
            "dials_total", "Requests to place a call, by what came of them.", provider=providers, outcome=_tags(Outcome)
        )
        self.dial_seconds = table.histograms(
            "dial_seconds", "How long a provider's answer to a dial took.", _DIAL_SECONDS, provider=providers
        )
        self.results = table.counters("results_total", "Published results.", type=_tags(Result))

    def _lanes(self, table: _Table, connections: Sequence[str]) -> None:
        self.account_paused_seconds = table.gauges(
            "account_paused_seconds",
            "For how long from now on this connection dials nothing, because its provider is down or asked for a pause.",
            connection=connections,
        )
        self.commands_deferred = table.gauge(
            "commands_deferred", "Commands that wait in the ledger for their time; cancelled ones until then too."
        )
        self.lanes = table.gauge("lanes", "Partitions of the commands topic whose lane is open here.")
        self.lane_entries = table.gauge("lane_entries", "Commands held in memory by all lanes of this process.")
        self.ledger_append_seconds = table.histogram(
            "ledger_append_seconds", "From writing to the ledger to its acknowledgement.", _APPEND_SECONDS
        )
        self.ledger_gaps = table.counter(
            "ledger_gaps_total", "Acknowledged offsets that were not directly behind all that the lane had seen."
        )
        self.index_entries = table.gauge("index_entries", "Names in the index in memory.")

    def _webhooks(self, table: _Table, connections: Sequence[str]) -> None:
        paths = (*connections, NO_CONNECTION)
        self.webhooks = table.counters("webhooks_total", "Answered webhooks.", connection=paths, status=_STATUSES)
        self.sockets = table.gauge("sockets", "Open WebSockets of providers.")
        self.events = table.counters("events_total", "Published events.", type=_tags(Event))
        self.event_publish_seconds = table.histogram(
            "event_publish_seconds", "From a parsed webhook to Kafka's acknowledgement.", _APPEND_SECONDS
        )

        self.watched_sessions = table.gauge(
            "watched_sessions", "Calls of which no end has been heard, of all replicas."
        )
        self.look_ups = table.counters(
            "look_ups_total",
            "Silent calls asked for at their provider.",
            found=("live", "over", "no_record", "no_answer"),
        )
        self.calls_closed = table.counters(
            "calls_closed_total",
            "Calls closed by the watchdog, by what said that they are over.",
            by=get_args(ClosedBy),
        )

    def _questions(self, table: _Table) -> None:
        self.held_requests = table.gauge("held_requests", "Webhooks whose answer a consumer is being asked for.")
        self.questions = table.counters(
            "questions_total",
            "Webhooks that waited, by what they were answered with.",
            answered_with=get_args(AnsweredWith),
        )
        self.answer_seconds = table.histogram(
            "answer_seconds", "From a webhook to its answer, its event stored.", _ANSWER_SECONDS
        )
        self.nobody_listens = table.gauge(
            "nobody_listens",
            "1 while actions.consumer_group_id has no members, and questions get the fallback at once.",
        )
        self.foreign_actions = table.counter(
            "foreign_actions_total", "Records of actions skipped because another replica, or nobody, waits for them."
        )
        self.parked_actions = table.gauge(
            "parked_actions", "Records of actions that wait here for their session's next question."
        )
        self.notes = table.counters(
            "notes_total", "Notes of the bridge to itself, on the actions topic.", kind=("attach", "void", "claim")
        )
        self.action_results = table.counters(
            "action_results_total", "Published action results.", status=get_args(ActionStatus)
        )

    def _process(self, table: _Table) -> None:
        self.dead_letters = table.counters(
            "dead_letters_total", "Records and bodies nobody can process.", source=get_args(DeadLetterSource)
        )
        self.publish_failures = table.counters(
            "publish_failures_total", "Records without an acknowledgement in time.", topic=get_args(PublishedTo)
        )
        self.http_rejections = table.counters(
            "http_rejections_total", "Requests refused by a limit of the server.", kind=get_args(Rejection)
        )
        self.loop_lag_seconds = table.histogram(
            "loop_lag_seconds", "By how much the event loop came late to its heartbeat.", _LAG_SECONDS
        )
        self.ready = table.gauge("ready", "1 while /readyz answers 200.")


class _DroppedLines(Collector):
    """The sink counts by itself, also before there are metrics."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "callbridge_log_lines_dropped", "Log lines lost because the reader of our output is slow.", self._count()
        )


class _WithoutCreationTimes(Collector):
    """A third fewer lines: nobody reads when a counter was created."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _tags(union: object) -> tuple[str, ...]:
    return tuple(str(member.__struct_config__.tag) for member in get_args(union))
