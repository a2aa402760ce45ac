"""Replicas of one group with their provider and their topics: started, killed and looked at by name.

It promises topics that exist before the first replica does, ports that a replica keeps over its lives, and that no
process outlives the context. What goes wrong when is the caller's; whether all went well, the history checker's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bridge.demo.simulators.script import Callee, Script
from bridge.demo.simulators.sipgate import Flow, SipgateSettings, SipgateSimulator
from bridge.runtime.settings import Topics
from tests.faults.collect import collect
from tests.faults.history import Collected, Findings, Problem, check
from tests.support.daemon import WEBHOOK_SECRET, Daemon, write_config
from tests.support.kafka_tools import Outgoing, produce, producing

FLOW = "demo-flow"
NOBODY = Script(callees=(Callee(answers=False, rings_seconds=0),))
"""Every call is placed, and nothing is heard of it."""

REST_SECONDS = 120.0
LOOK_SECONDS = 0.25
RESTLESS: frozenset[Problem] = frozenset(
    {"lost", "unsettled claims", "waiting for ever", "unknown in spite of evidence", "offsets not at the end"}
)
"""What time may still heal."""


class Cluster:
    """What a test or a campaign works with; made by `cluster`."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        simulator: SipgateSimulator,
        producer: AIOKafkaProducer,
        *,
        partitions: int,
        **changes: Any,
    ) -> None:
        """`changes`: of each replica's configuration. `kafka.bootstrap_servers` there may lead through a proxy."""
        self.bootstrap = bootstrap
        self.prefix = f"cluster-{secrets.token_hex(5)}-"
        self.simulator = simulator
        self.replicas: dict[str, Daemon] = {}
        """Those that were started and not closed, by name."""
        self.provider_url = simulator.base_url
        """Where the replicas find the provider; may be set before the first one starts, to a proxy."""
        self.folder = folder
        self.partitions = partitions
        self._changes = changes
        self._producer = producer
        self._suffixes = itertools.count(secrets.randbelow(5_000_000))

    # -- what goes in

    def callee(self) -> str:
        """A phone number that nobody has used yet."""
        return f"+491579{next(self._suffixes):07d}"

    async def send(self, *records: Outgoing) -> list[tuple[int, int]]:
        """Put commands on their topic; partition and offset of each."""
        return await produce(self._producer, f"{self.prefix}commands", records)

    # -- replicas

    def config(self, name: str, *, kafka: Mapping[str, Any] | None = None) -> Path:
        """The replica's configuration, written when it is first asked for. `kafka`: what is this replica's alone."""
        path = self.folder / f"{name}.toml"
        if not path.exists():
            changes = {**self._changes, "kafka": {**self._changes.get("kafka", {}), **(kafka or {}), "client_id": name}}
            write_config(path, bootstrap=self.bootstrap, prefix=self.prefix, simulator_url=self.provider_url, **changes)
        return path

    def start(self, name: str, *, env: Mapping[str, str] | None = None) -> Daemon:
        """Start a replica (again); it is not waited for."""
        if name in self.replicas:
            self.replicas.pop(name).close()
        self.replicas[name] = Daemon(self.config(name), env=env)
        return self.replicas[name]

    async def start_ready(self, *names: str) -> None:
        """Start replicas and wait until they are ready."""
        for daemon in [self.start(name) for name in names]:
            await daemon.ready()

    def explained(self, what: str) -> str:
        """A message with the ends of all logs."""
        return "\n\n".join([what, *(daemon.explained(name) for name, daemon in self.replicas.items())])

    async def shared_out(self) -> None:
        """Return when every partition has its lane, and every replica as many as it should."""
        partitions, replicas = self.partitions, len(self.replicas)
        wanted = {partitions // replicas, -(-partitions // replicas)}
        deadline = time.monotonic() + REST_SECONDS
        lanes: list[float] = []
        while sum(lanes) != partitions or not wanted >= set(lanes):
            assert time.monotonic() < deadline, self.explained(f"the partitions were not shared out: {lanes}")
            await asyncio.sleep(LOOK_SECONDS)
            lanes = [await daemon.metric("lanes") for daemon in self.replicas.values()]

    async def dialled(self, count: int) -> list[float]:
        """When the provider had read each request to dial, as soon as there are so many; on the monotonic clock."""
        await self.simulator.wait_for(lambda seen: seen.counts["dials.received"] >= count, REST_SECONDS)
        return sorted(dial.received.monotonic for dial in self.simulator.history.dials if dial.received is not None)

    # -- the end

    async def collect(self) -> Collected:
        """Everything the checker looks at."""
        assert self.simulator.control_url is not None
        return await collect(
            self.bootstrap,
            self.prefix,
            group_id=f"{self.prefix}commands",
            control_url=self.simulator.control_url,
        )

    async def at_rest(self, *, seconds: float = REST_SECONDS) -> tuple[Collected, Findings]:
        """The checker's findings once nothing is left to happen, or at the deadline as they are then."""
        deadline = time.monotonic() + seconds
        while True:
            collected = await self.collect()
            findings = check(collected)
            if not any(findings.problems[each] for each in RESTLESS) or time.monotonic() > deadline:
                return collected, findings
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """End every replica."""
        while self.replicas:
            self.replicas.popitem()[1].close()


@contextlib.asynccontextmanager
async def cluster(
    bootstrap: str,
    folder: Path,
    *,
    simulator: Mapping[str, Any] | None = None,
    partitions: int = 3,
    **changes: Any,
) -> AsyncIterator[Cluster]:
    """A cluster without replicas yet. A failing body is told the ends of their logs."""
    flow = Flow(id=FLOW, webhook_secret=WEBHOOK_SECRET)
    settings = {"flows": (flow,), "script": NOBODY, "speed": 20.0, "control_port": 0, **(simulator or {})}
    async with SipgateSimulator(SipgateSettings(**settings)) as sipgate, producing(bootstrap) as producer:
        changes["topics"] = {**changes.get("topics", {}), "partitions": partitions}
        found = Cluster(bootstrap, folder, sipgate, producer, partitions=partitions, **changes)
        await _create_topics(bootstrap, Topics(prefix=found.prefix, partitions=partitions, replication_factor=1))
        try:
            yield found
        except BaseException as error:
            error.add_note(found.explained("the replicas at that time:"))
            raise
        finally:
            found.close()


async def _create_topics(bootstrap: str, topics: Topics) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        wanted = [
            NewTopic(each.name, each.partitions, each.replication_factor, topic_configs=each.config)
            for each in topics.by_use().values()
        ]
        await admin.create_topics(wanted)
    finally:
        await admin.close()


def command(command_id: str, to: str, **fields: object) -> bytes:
    """The body of a `call.place`."""
    body = {"type": "call.place", "command_id": command_id, "connection": "demo", "to": to, **fields}
    return json.dumps(body).encode()


def twice(records: Iterable[Outgoing], *, every: int) -> list[Outgoing]:
    """The records, each `every`th of them a second time at the end: a producer that did not believe its answer."""
    once = list(records)
    return [*once, *once[::every]]
