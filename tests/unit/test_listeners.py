"""When nobody is taken to listen: by what Kafka said, and how often."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.actions.listeners import Listeners, ListenersSettings
from bridge.model.errors import Unavailable
from bridge.runtime.logging import capture_logs
from bridge.runtime.metrics import Metrics


def gauge(metrics: Metrics) -> float | None:
    """What the metric says."""
    return metrics.registry.get_sample_value("callbridge_nobody_listens")


@pytest.mark.parametrize(
    ("looks", "anybody"),
    [
        ([], True),
        ([False], True),
        ([False, False], False),
        ([False, True, False], True),
        ([False, False, False, True], True),
        ([False, False, None], True),
        ([False, None, False], True),
    ],
)
def test_absence_is_believed_when_it_was_said_twice_in_a_row(looks: Sequence[bool | None], anybody: bool) -> None:
    """A member is believed at once; None: Kafka could not be asked, so nobody knows."""
    metrics = Metrics()
    told = Listeners(ListenersSettings(group_id="agents"), metrics)
    for look in looks:
        if look is None:
            told.could_not_look(Unavailable("away"))
        else:
            told.looked(has_members=look)
    assert told.anybody() is anybody
    assert gauge(metrics) == float(not anybody)


def test_each_change_is_said_once() -> None:
    """Not once a look, and not once a question."""
    told = Listeners(ListenersSettings(group_id="agents"), Metrics())
    with capture_logs() as lines:
        for look in (False,) * 5 + (True,) * 5:
            told.looked(has_members=look)
        for _ in range(3):
            told.could_not_look(Unavailable("away"))
    assert [line["event"] for line in lines] == ["listeners.gone", "listeners.back", "listeners.unknown"]
