"""Live is not ready: what the two pages say, and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from bridge.runtime.health import Health, beat
from bridge.runtime.management import management_app
from bridge.runtime.metrics import Metrics


class Clock:
    """A clock that stands still until it is told otherwise."""

    seconds = 0.0

    def now(self) -> datetime:
        """Never asked."""
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        """The seconds it was set to."""
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """Time, in the test's hand."""
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    """Health under test."""
    return Health(clock, stuck_after_seconds=10)


async def get(health: Health, path: str, metrics: Metrics | None = None) -> tuple[int, Any]:
    """Status and body of a page."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        pytest.fail("a page needs no body")

    await management_app(health, metrics or Metrics())({"type": "http", "path": path}, receive, send)
    start, body = sent
    headers = dict(start["headers"])
    assert int(headers[b"content-length"]) == len(body["body"])
    is_json = headers[b"content-type"] == b"application/json"
    return start["status"], json.loads(body["body"]) if is_json else body["body"].decode()


@pytest.mark.anyio
async def test_ready_when_every_part_has_said_so(health: Health) -> None:
    """A part that was named but has said nothing is not ready; each reason is in the answer."""
    kafka, index = health.part("kafka"), health.part("index")
    kafka.ready()
    assert await get(health, "/readyz") == (503, {"ready": False, "parts": {"kafka": "ready", "index": "starting"}})

    index.ready()
    assert await get(health, "/readyz") == (200, {"ready": True, "parts": {"kafka": "ready", "index": "ready"}})

    kafka.not_ready("no acknowledgement for 5 s")
    status, page = await get(health, "/readyz")
    assert (status, page["parts"]["kafka"]) == (503, "no acknowledgement for 5 s")
    assert health.part("kafka") is kafka


@pytest.mark.anyio
async def test_draining_is_not_ready_but_live(health: Health) -> None:
    """A process that is being stopped wants no new work and is not to be killed for it."""
    health.part("kafka").ready()
    health.drain()

    assert await get(health, "/readyz") == (503, {"ready": False, "parts": {"kafka": "ready", "process": "draining"}})
    assert (await get(health, "/livez"))[0] == 200


@pytest.mark.anyio
async def test_live_while_tasks_move(health: Health, clock: Clock) -> None:
    """A watched task that stops moving makes the process not live; readiness of parts does not matter."""
    health.part("kafka").not_ready("gone")
    move = health.watch("commands")
    clock.seconds = 10.0
    assert await get(health, "/livez") == (200, {"live": True, "stuck": {}})

    clock.seconds = 10.5
    assert await get(health, "/livez") == (503, {"live": False, "stuck": {"commands": "has not moved for 10.5 s"}})

    move()
    assert (await get(health, "/livez"))[0] == 200

    clock.seconds = 99.0
    health.forget("commands")
    assert (await get(health, "/livez"))[0] == 200


@pytest.mark.anyio
async def test_metrics_page(health: Health) -> None:
    """The page has the metrics, and readiness among them."""
    metrics = Metrics()
    _, before = await get(health, "/metrics", metrics)
    health.part("kafka")
    _, after = await get(health, "/metrics", metrics)

    assert "callbridge_ready 1.0" in before
    assert "callbridge_ready 0.0" in after


@pytest.mark.anyio
async def test_other_paths(health: Health) -> None:
    """Nothing else is served."""
    assert (await get(health, "/"))[0] == 404


@pytest.mark.anyio
async def test_heartbeat_moves_and_measures(health: Health, clock: Clock) -> None:
    """The beat keeps the process live and says by how much it was woken late."""
    lags: list[float] = []
    beaten = anyio.Event()

    def on_lag(seconds: float) -> None:
        lags.append(seconds)
        clock.seconds += 0.25  # the loop comes a quarter of a second late, by this clock
        if len(lags) == 3:
            beaten.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: beat(health, clock, every_seconds=0.001, on_lag=on_lag))
        await beaten.wait()
        tasks.cancel_scope.cancel()

    assert not health.stuck()
    assert lags[0] == 0.0
    assert lags[1] == pytest.approx(0.249)
