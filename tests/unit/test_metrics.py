"""Metrics: closed sets, zero from the start, none of it global, and no use in the source of a name that is not there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

import bridge
from bridge.ingress import guarded
from bridge.runtime.metrics import Family, Metrics, Rejection

SOURCE = Path(bridge.__file__).parent


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Everything on the page, by name and labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_combination_stands_at_zero() -> None:
    """A counter exists before the first event, for each combination of its labels."""
    page = samples(Metrics(connections=("demo",), providers=("sipgate",)))

    assert page["callbridge_commands_read_total", ()] == 0
    assert page["callbridge_dials_total", (("outcome", "not_sent"), ("provider", "sipgate"))] == 0
    assert page["callbridge_webhooks_total", (("connection", "unknown"), ("status", "401"))] == 0
    assert page["callbridge_events_total", (("type", "user.spoke"),)] == 0
    assert page["callbridge_log_lines_dropped_total", ()] == 0
    assert not [name for name, _ in page if name.endswith("_created")]


def test_counting() -> None:
    """What is counted is on the page; a value outside its set counts as `other`."""
    metrics = Metrics(connections=("demo",), dropped_log_lines=lambda: 7)
    metrics.webhooks.labels(connection="demo", status=200).inc()
    metrics.webhooks.labels(connection="demo", status=299).inc()
    metrics.webhooks.labels(connection="demo", status=298).inc()
    metrics.event_publish_seconds.observe(0.02)
    page = samples(metrics)

    assert page["callbridge_webhooks_total", (("connection", "demo"), ("status", "200"))] == 1
    assert page["callbridge_webhooks_total", (("connection", "demo"), ("status", "other"))] == 2
    assert page["callbridge_event_publish_seconds_bucket", (("le", "0.025"),)] == 1
    assert page["callbridge_log_lines_dropped_total", ()] == 7


def test_two_daemons_in_one_process() -> None:
    """Each has metrics of its own."""
    first, second = Metrics(), Metrics()
    first.commands_read.inc()

    assert samples(second)["callbridge_commands_read_total", ()] == 0


def test_a_forgotten_label_is_a_bug() -> None:
    """A label that is left out is not guessed."""
    with pytest.raises(KeyError):
        Metrics().dials.labels(provider="x")


def test_rejections_are_those_of_the_server() -> None:
    """The kinds of refusals are the server's own."""
    assert set(get_args(Rejection)) == set(get_args(guarded.Rejection))


def _uses() -> Iterator[tuple[str, str, frozenset[str] | None]]:
    """Each `….metrics.NAME` or `….metrics.NAME.labels(…)` of the source: where, which, with which labels."""
    for file in SOURCE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("metrics"):
                method = parents[node]
                call = parents.get(method)
                with_labels = isinstance(method, ast.Attribute) and method.attr == "labels"
                labels = (
                    frozenset(str(keyword.arg) for keyword in call.keywords) if isinstance(call, ast.Call) else None
                )
                yield f"{file.name}:{node.lineno}", node.attr, labels if with_labels else None


def test_uses_in_the_source() -> None:
    """Every metric the source counts exists and is given exactly its labels."""
    metrics = Metrics()
    wrong = []
    for place, name, labels in _uses():
        if name[0].isupper() or name == "render":
            continue
        family = getattr(metrics, name, None)
        wanted = frozenset(family._sets) if isinstance(family, Family) else None
        if family is None or wanted != labels:
            wrong.append((place, name, labels))

    assert wrong == []
