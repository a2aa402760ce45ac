"""The router's last resort: an error of ours is counted as what the provider sees, and nobody swallows it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

import anyio
import pytest

from bridge.actions.pending import Pending
from bridge.actions.relay import Relay, Waiter
from bridge.actions.sockets import Sockets
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.bus.dead_letters import DeadLetters
from bridge.bus.protocol import BatchItem, Position
from bridge.events.forward import Forward
from bridge.events.identify import Identify, IdentifySettings
from bridge.ingress.asgi import Scope, Send
from bridge.ingress.guarded import ServerLimits
from bridge.ingress.passage import Flows
from bridge.ingress.router import Router, RouterSettings
from bridge.ingress.server import HttpServer
from bridge.ingress.websocket import SocketLimits
from bridge.ledger.index import Index, IndexSettings
from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison, Unavailable
from bridge.model.outcome import Outcome, Refused
from bridge.providers.protocol import Answer, Heard, Plan, Provider, Verified, Webhook
from bridge.providers.settings import AccountLimits
from bridge.runtime.health import Part
from bridge.runtime.metrics import Metrics
from tests.support.clock import HandClock
from tests.support.daemon import request
from tests.support.websocket import asking, connected

pytestmark = pytest.mark.anyio

SETTINGS = RouterSettings(max_body_bytes=1000, max_in_progress=10, publish_seconds=1.0, retry_after_seconds=1)


class Wrong(Exception):
    """What nobody foresaw."""


class Faulty:
    """A provider with a mistake in what it does with webhooks."""

    name = "faulty"
    match_window_seconds = 1.0
    limits = AccountLimits()
    session_ttl_seconds = 1.0
    late_webhook_seconds = 1.0

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Not in these tests."""
        raise AssertionError(command, call_id)

    async def dial(self, plan: Plan) -> Outcome:
        """Not in these tests."""
        raise AssertionError(plan)

    def verify(self, webhook: Webhook) -> Verified:
        """The mistake."""
        raise Wrong(webhook.connection)

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """It never comes so far."""
        raise AssertionError(verified)

    def acknowledge(self, heard: Heard) -> Answer:
        """It never comes so far."""
        raise AssertionError(heard)


class Nowhere:
    """A Kafka that nothing may reach."""

    async def publish(self, topic: str, **_: object) -> Position:
        """Not in these tests."""
        raise AssertionError(topic)

    async def publish_batch(
        self, topic: str, partition: int, items: Sequence[BatchItem]
    ) -> list[Position | Unavailable | Poison]:
        """Not in these tests."""
        raise AssertionError(topic, partition, items)


def flows(metrics: Metrics) -> Flows:
    """All of ours, and the faulty provider."""
    clock, producer = HandClock(), Nowhere()
    pending: Pending[Waiter] = Pending(max_open=1, max_remembered=1)
    verdicts = Verdicts(producer, "action-results", source="/x", clock=clock, metrics=metrics)
    faulty: Provider = Faulty()
    return Flows(
        connections={"demo": faulty},
        identify=Identify(Index("index", producer, clock, IndexSettings()), clock, IdentifySettings()),
        forward=Forward(producer, "events", source="/x"),
        relay=Relay(pending, Tokens([b"a secret"]), verdicts=verdicts, clock=clock, metrics=metrics),
        dead_letters=DeadLetters(producer, "dead-letters"),
        kafka=Part("kafka"),
        clock=clock,
        metrics=metrics,
        sockets=Sockets(),
    )


def counted(metrics: Metrics) -> dict[str, float]:
    """The answers so far, by status."""
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("callbridge_webhooks_total{")]
    found = [(line.split('status="')[1].split('"')[0], float(line.rsplit(" ", 1)[1])) for line in lines]
    return {status: value for status, value in found if value}


@contextlib.asynccontextmanager
async def served(router: Router) -> AsyncIterator[int]:
    """The router on a port of its own, as in the daemon."""
    limits = ServerLimits(drain_seconds=1.0, sockets=SocketLimits())
    server = HttpServer(router, host="127.0.0.1", port=0, limits=limits, on_reject=lambda _: None)
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(server.serve)
        server.stop()


async def test_an_error_of_ours_is_counted_and_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The provider is told 500, the metric says so, and the log names the line."""
    metrics = Metrics(connections=("demo",))
    async with served(Router(flows(metrics), SETTINGS)) as port:
        answer = await request(f"http://127.0.0.1:{port}/webhooks/demo", method="POST", body=b"{}")
    assert answer.status == 500
    assert counted(metrics) == {"500": 1}
    [record] = [each for each in caplog.records if each.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Wrong)


async def test_an_error_of_a_socket_is_counted_too() -> None:
    """The other way in has no way around it."""
    metrics = Metrics(connections=("demo",))

    async def upgraded(_scope: Scope, _send: Send) -> NoReturn:
        raise Wrong

    router = Router(flows(metrics), SETTINGS, upgraded=upgraded)
    async with served(router) as port, await connected(f"http://127.0.0.1:{port}") as wire:
        await wire.send(asking("/webhooks/demo"))
        assert b" 500 " in await wire.some()
    assert counted(metrics) == {"500": 1}
