"""A campaign: a group of replicas on a broker of its own, commands at a steady rate, and faults as the seed has them.

It promises that everything is healed at the end and waited for within a deadline, that a replica which ends by itself
is noticed and started again, and that what is reported is what was done. Judging is the history checker's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

import bridge.bus.kafka.internals  # noqa: F401 -- our own clients are in the same storm: the same resets must not end them
from bridge.demo.simulators.faults import CloseUnread, ConnectionFault, HangUnread, ResetAfterHead, ResetUnread
from tests.faults.cluster import Cluster, cluster
from tests.faults.history import Collected, Findings
from tests.faults.network import Balancer, Network
from tests.faults.plan import Fault, Kind, Order, Plan, Settings
from tests.faults.recovery import Kill
from tests.support.apache_kafka import ApacheKafka
from tests.support.daemon import Daemon

SESSION_SECONDS = 2.0
READY_SECONDS = 180.0
END_SECONDS = 120.0
REST_SECONDS = 240.0
LOOK_SECONDS = 0.2
MOST_EXTRA_REPLICAS = 2

CONNECTION: dict[Kind, ConnectionFault] = {
    "connection closed unread": CloseUnread(),
    "connection reset unread": ResetUnread(),
    "connection never read": HangUnread(seconds=4.0),
    "connection reset after the head": ResetAfterHead(),
}

CHANGES: dict[str, Any] = {
    "kafka": {
        "session_timeout_seconds": SESSION_SECONDS,
        "heartbeat_interval_seconds": 0.5,
        "rebalance_timeout_seconds": 10.0,
        "request_timeout_seconds": 3.0,
        "publish_timeout_seconds": 4.0,
        "commit_timeout_seconds": 3.0,
        "stop_timeout_seconds": 3.0,
        "start_timeout_seconds": 60.0,
    },
    "commands": {"evidence_seconds": 6.0, "drain_seconds": 4.0, "max_attempts": 10},
    "connections": {
        "demo": {
            "http": {"read_timeout_seconds": 2.0, "total_timeout_seconds": 3.0, "connect_timeout_seconds": 1.0},
            "reply": {"deadline_seconds": 0.02},
        }
    },
}


CUT_OFF = 3
"""The exit code of a process that did not come to its end in time."""


@dataclass(frozen=True, slots=True)
class OwnEnd:
    """A replica ended by itself, or not as it was told to. `story`: what happened, with the end of its log."""

    code: int
    story: str

    @property
    def is_failure(self) -> bool:
        """Whether it says anything about the gateway; being cut off says as much about the machine."""
        return self.code != CUT_OFF


@dataclass
class Done:
    """What a campaign has to tell."""

    settings: Settings
    plan: Plan
    faults: Counter[str] = field(default_factory=Counter)
    """What was done to replicas, brokers and connections, by kind, and what the provider did."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What found nobody to be done to, or no request to be done with."""
    kills: list[Kill] = field(default_factory=list)
    own_ends: list[OwnEnd] = field(default_factory=list)
    removals: Counter[int] = field(default_factory=Counter)
    """Exit codes of replicas that were told to stop."""
    partition_of: dict[str, int] = field(default_factory=dict)
    """The partition of each number's command."""
    sent_seconds: float = 0.0
    seconds: float = 0.0
    collected: Collected | None = None
    findings: Findings | None = None


class Campaign:
    """One run; made by `running`."""

    def __init__(self, plan: Plan, kafka: ApacheKafka, network: Network, *, here: Cluster, done: Done) -> None:
        self.here = here
        self._plan = plan
        self._kafka = kafka
        self._network = network
        self._done = done
        self._busy: set[str] = set()
        """Replicas something is being done to, and those that are not up."""
        self._is_broker_busy = False
        self._is_refusing = False
        self._names = [f"r{number}" for number in range(done.settings.replicas + MOST_EXTRA_REPLICAS)]

    # -- the run

    async def run(self) -> None:
        """Everything from the first command to the findings."""
        began = time.monotonic()
        self.here.simulator.play(self._plan.script)
        await self.here.start_ready(*self._names[: self._done.settings.replicas])
        watching = asyncio.create_task(self._watch())
        try:
            started = time.monotonic()
            await _all([self._storm(started), self._feed(started)])
            self._done.sent_seconds = time.monotonic() - started
            await self._heal()
            self._done.collected, self._done.findings = await self.here.at_rest(seconds=REST_SECONDS)
            self._count_provider(self._done.collected)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        for name in sorted(self.here.replicas.keys() - self._busy):
            await self._remove(name)
        self._done.seconds = time.monotonic() - began

    async def _feed(self, started: float) -> None:
        await _all([self._send(order, started) for order in self._plan.orders])

    async def _send(self, order: Order, started: float) -> None:
        """Until it is acknowledged: a producer that can wait. What it sends twice on the way are more duplicates."""
        await asyncio.sleep(started + order.at - time.monotonic())
        while True:
            try:
                [(partition, _)] = await self.here.send(order.record)
            except (KafkaError, TimeoutError):
                continue
            self._done.partition_of[order.number] = partition
            return

    async def _storm(self, started: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for fault in self._plan.faults:
                await asyncio.sleep(started + fault.at - time.monotonic())
                tasks.create_task(self._inflict(fault))

    async def _heal(self) -> None:
        """The storm is over and every fault has ended by itself: let there be replicas, and no old wounds."""
        self._network.heal()
        self.here.simulator.server.faults.clear()
        self.here.simulator.release()
        if not self.here.replicas:
            await self._up(self._names[0])

    def _count_provider(self, collected: Collected) -> None:
        """A number's fault is met by its first request; an order that expired before had none."""
        for number, name in self._plan.provider.items():
            seen = collected.numbers.get(number)
            (self._done.faults if seen is not None and seen.received else self._done.skipped)[name] += 1

    async def _watch(self) -> None:
        """Start replicas again that ended by themselves, as a platform would, and remember them."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name, daemon in list(self.here.replicas.items()):
                if daemon.exit_code is not None and name not in self._busy:
                    self._own_end(daemon, f"{name} ended by itself with {daemon.exit_code}")
                    self._busy.add(name)
                    await self._up(name)

    # -- faults

    async def _inflict(self, fault: Fault) -> None:
        did = await self._do(fault)
        (self._done.faults if did else self._done.skipped)[fault.kind] += 1

    async def _do(self, fault: Fault) -> bool:
        match fault.kind:
            case "replica added" | "replica removed":
                return await self._scale(fault)
            case "broker restarted" | "broker killed" | "broker frozen":
                return await self._hurt_broker(fault)
            case "all connections reset":
                self._network.cut()
                return True
            case "provider refuses connections":
                return await self._refuse(fault.seconds)
            case kind if kind in CONNECTION:
                self.here.simulator.server.faults.append(CONNECTION[kind])
                return True
            case _:
                return await self._hurt_replica(fault)

    async def _hurt_replica(self, fault: Fault) -> bool:
        name = self._target(fault.pick)
        if name is None:
            return False
        self._busy.add(name)
        daemon = self.here.replicas[name]
        match fault.kind:
            case "replica killed":
                daemon.kill()
                self._done.kills.append(Kill(name, time.time()))
                await asyncio.sleep(fault.seconds)
                await self._up(name)
            case "replica frozen past its session":
                await _frozen(daemon, SESSION_SECONDS + fault.seconds)
            case "replica frozen for a moment":
                await _frozen(daemon, fault.seconds / 3)
            case "replica cut off past its session":
                self._network.stall(name)
                await asyncio.sleep(SESSION_SECONDS + fault.seconds)
                self._network.resume(name)
            case _:
                self._network.cut(name)
        self._busy.discard(name)
        return True

    async def _scale(self, fault: Fault) -> bool:
        if fault.kind == "replica added":
            free = [name for name in self._names if name not in self.here.replicas and name not in self._busy]
            if free:
                self._busy.add(free[0])
                await self._up(free[0])
            return bool(free)
        name = self._target(fault.pick)
        if name is None or len(self.here.replicas) <= 1:
            return False
        self._busy.add(name)
        await self._remove(name)
        self._busy.discard(name)
        return True

    async def _hurt_broker(self, fault: Fault) -> bool:
        if self._is_broker_busy:
            return False
        self._is_broker_busy = True
        match fault.kind:
            case "broker restarted":
                await asyncio.to_thread(self._kafka.restart)
            case "broker killed":
                await asyncio.to_thread(self._kafka.kill)
                await asyncio.sleep(fault.seconds)
                await asyncio.to_thread(self._kafka.start)
            case _:
                self._kafka.pause()
                await asyncio.sleep(fault.seconds)
                self._kafka.resume()
        self._is_broker_busy = False
        return True

    async def _refuse(self, seconds: float) -> bool:
        if self._is_refusing:
            return False
        self._is_refusing = True
        await self.here.simulator.server.refuse()
        await asyncio.sleep(seconds)
        self.here.simulator.server.listen()
        self._is_refusing = False
        return True

    def _target(self, pick: float) -> str | None:
        """A replica that is up and that nothing is being done to."""
        free = sorted(self.here.replicas.keys() - self._busy)
        return free[int(pick * len(free))] if free else None

    async def _up(self, name: str) -> None:
        """Start a replica, again and again while it ends by itself; then it may be hurt."""
        daemon = self.here.start(name)
        deadline = time.monotonic() + READY_SECONDS
        while not await daemon.is_ready():
            if time.monotonic() > deadline:
                raise AssertionError(daemon.explained(f"{name} was not ready within {READY_SECONDS} s"))
            if daemon.exit_code is not None:
                self._own_end(daemon, f"{name} ended with {daemon.exit_code} before it was ready")
                daemon = self.here.start(name)
            await asyncio.sleep(LOOK_SECONDS)
        self._busy.discard(name)

    async def _remove(self, name: str) -> None:
        """SIGTERM, and what it ended with."""
        daemon = self.here.replicas[name]
        code = await daemon.terminate(seconds=END_SECONDS)
        self._done.removals[code] += 1
        if code:
            self._own_end(daemon, f"{name} was told to stop and ended with {code}")
        self.here.replicas.pop(name).close()

    def _own_end(self, daemon: Daemon, what: str) -> None:
        self._done.own_ends.append(OwnEnd(daemon.exit_code or 0, daemon.explained(what)))


def start_kafka(advertised_port: int) -> ApacheKafka:
    """A broker for one campaign, whose replicas come by that port."""
    kafka = ApacheKafka(advertised_port=advertised_port)
    kafka.start()
    return kafka


@contextlib.asynccontextmanager
async def running(
    settings: Settings, plan: Plan, folder: Path, *, broker: Callable[[int], ApacheKafka] = start_kafka
) -> AsyncIterator[tuple[Campaign, Done]]:
    """A campaign that may be run: its broker, its network and its provider are up."""
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network())
        kafka = await asyncio.to_thread(broker, network.port)
        stack.callback(kafka.stop)
        network.target_port = kafka.proxied_port
        changes = {**CHANGES, "kafka": {**CHANGES["kafka"], "bootstrap_servers": [f"127.0.0.1:{network.port}"]}}
        here = await stack.enter_async_context(
            cluster(
                kafka.bootstrap,
                folder,
                partitions=settings.partitions,
                simulator={"speed": 1.0, "history_limit": 20 * settings.commands},
                **changes,
            )
        )
        backends = Balancer(
            lambda: [daemon.webhook_url for daemon in here.replicas.values()],
            random.Random(settings.seed),  # noqa: S311 - to be repeated, not to protect anything
        )
        balancer = await stack.enter_async_context(backends)
        here.simulator.point_webhooks_at(f"{balancer.url}/webhooks/demo")
        done = Done(settings, plan)
        yield Campaign(plan, kafka, network, here=here, done=done), done


async def _frozen(daemon: Daemon, seconds: float) -> None:
    daemon.suspend()
    await asyncio.sleep(seconds)
    daemon.resume()


async def _all(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    """All of them, or the first failure."""
    async with asyncio.TaskGroup() as tasks:
        for each in coroutines:
            tasks.create_task(each)
