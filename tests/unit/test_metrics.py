"""Metrics: closed sets, zero from the start, none of it global, and no use in the source of a name that is not there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

import bridge
from bridge.actions import relay
from bridge.ingress import guarded
from bridge.runtime.metrics import AnsweredWith, DeadLetterSource, Family, Metrics, PublishedTo, Rejection

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


def test_an_account_tells_its_pause_when_it_is_asked() -> None:
    """A gauge for each connection that is read when the page is made, and 0 before anybody sets it."""
    metrics = Metrics(connections=("down", "well"))
    metrics.account_paused_seconds.labels(connection="down").set_function(lambda: 12.5)
    page = samples(metrics)

    assert page["callbridge_account_paused_seconds", (("connection", "down"),)] == 12.5
    assert page["callbridge_account_paused_seconds", (("connection", "well"),)] == 0


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


def test_answers_are_those_of_the_relay() -> None:
    """What a question is answered with is the relay's own."""
    assert set(get_args(AnsweredWith)) == set(get_args(relay.AnsweredWith))


@pytest.mark.parametrize(("name", "values"), [("dead_letters", DeadLetterSource), ("publish_failures", PublishedTo)])
def test_label_values_are_those_that_are_counted(name: str, values: object) -> None:
    """A value that the source never counts would stand at zero for good, and an alert on it would be in vain."""
    assert set(_words_of(name)) == set(get_args(values))


def _words_of(name: str) -> Iterator[str]:
    """The words that stand in `.NAME.labels(…)` anywhere in the source."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(f"metrics.{name}.labels"):
                for keyword in node.keywords:
                    yield from (
                        each.value
                        for each in ast.walk(keyword.value)
                        if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    )


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
