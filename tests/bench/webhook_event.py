"""Webhook to acknowledged event: what one costs, beside a server that does nothing and a script that does the least."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio

from bridge.demo.broker import free_ports
from tests.bench import measure, payloads
from tests.bench.load import gang
from tests.bench.report import Report
from tests.bench.stage import Setting, child, configured, new_prefix, replica, webhook_port
from tests.support.kafka_tools import create_topics

AT_ONCE = 64
WARM_UP_SECONDS = 1.0
PARTITIONS = 3
IDLE_SECONDS = 3.0
NO_CONTENT = 204


@dataclass(slots=True)
class Subject:
    """A server under load, and its rounds."""

    name: str
    pid: int
    port: int
    cpu: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    async def round(self, requests: Sequence[bytes], seconds: float) -> None:
        """Load it for so long, over fresh connections: idle ones would be closed during the others' turns."""
        async with gang(self.port, len(requests)) as callers:
            await callers.ask(requests)
            before = measure.cpu_seconds(self.pid)
            load = await callers.loop(requests, seconds=seconds)
        load.only(NO_CONTENT)
        self.cpu.append((measure.cpu_seconds(self.pid) - before) / load.count * 1e6)
        self.rates.append(load.count / load.seconds)
        self.latencies += load.latencies


async def bench(setting: Setting) -> Report:
    """Three servers, one after the other in each round."""
    prefix = new_prefix()
    sessions = [f"session-{number}" for number in range(AT_ONCE)]
    requests = [payloads.assistant_speak(session) for session in sessions]
    ports = free_ports(2)
    await create_topics(setting.bootstrap, {f"{prefix}script": PARTITIONS})
    changes = {"demo": {"reply": {"events": {"session.started": {"deadline_seconds": 0}}}}}
    async with AsyncExitStack() as stack:
        asgi = await stack.enter_async_context(child(setting, "asgi", port=ports[0]))
        arguments = {"port": ports[1], "bootstrap": setting.bootstrap, "topic": f"{prefix}script"}
        script = await stack.enter_async_context(child(setting, "script", **arguments))
        daemon = await stack.enter_async_context(replica(configured(setting, prefix, "one", connections=changes)))
        subjects = [
            Subject(name, pid, port)
            for name, pid, port in (
                ("guarded uvicorn, 204", asgi.pid, ports[0]),
                ("script: decode, send, ack", script.pid, ports[1]),
                ("daemon", daemon.pid, webhook_port(daemon)),
            )
        ]
        idle = measure.cpu_seconds(daemon.pid)
        await anyio.sleep(IDLE_SECONDS)
        idle = (measure.cpu_seconds(daemon.pid) - idle) / IDLE_SECONDS
        for subject in subjects:
            async with gang(subject.port, AT_ONCE) as callers:
                (await callers.ask([payloads.session_start(session) for session in sessions])).only(NO_CONTENT)
                await callers.loop(requests, seconds=WARM_UP_SECONDS)
        for _ in range(setting.rounds):
            for subject in subjects:
                await subject.round(requests, setting.seconds)
    return _report(subjects, idle)


def _report(subjects: Sequence[Subject], idle: float) -> Report:
    floors = [measure.median(subject.cpu) for subject in subjects[:2]]
    columns = ("server", "CPU us/event", "x server", "x script", "events/s", "p50 ms", "p99 ms")
    report = Report("webhook-event", f"webhook to acked event, {AT_ONCE} connections, 1 KiB", columns)
    for subject in subjects:
        cpu = measure.median(subject.cpu)
        p50, p99 = (measure.quantile(subject.latencies, part) * 1e3 for part in (0.5, 0.99))
        report.rows.append(
            (subject.name, cpu, cpu / floors[0], cpu / floors[1], measure.median(subject.rates), p50, p99)
        )
    report.notes.append(f"the daemon at rest: {idle * 1e3:.0f} ms of CPU a second")
    return report
