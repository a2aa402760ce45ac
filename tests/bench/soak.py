"""Months in minutes: whole calls one after the other, with every window short, and what the daemon holds after each lot.

A call is a command, its dial, three webhooks (the beginning, a question, the end) and an action. Everything that is kept for
days is kept for a minute here; what is bounded by a number reaches that number in the first rows. After that the memory of
a process that can run for months does not grow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from aiokafka import AIOKafkaProducer

from tests.bench import measure, payloads
from tests.bench.load import Gang, gang
from tests.bench.provider import FastProvider, provider
from tests.bench.report import Report
from tests.bench.stage import Setting, child, configured, new_prefix, owning, replica, until, webhook_port
from tests.support.daemon import Daemon
from tests.support.kafka_tools import Outgoing, end_offsets, produce, producing

AT_ONCE = 50
PARTITIONS = 3
NO_CONTENT, OK = 204, 200
EVENTS = 3
WINDOW_SECONDS = 60.0
MIB = 1024 * 1024
SHORT: dict[str, Any] = {
    "commands": {"deduplication_window_seconds": WINDOW_SECONDS, "max_in_flight": AT_ONCE},
    "index": {"ended_session_seconds": WINDOW_SECONDS, "evidence_seconds": WINDOW_SECONDS},
    "actions": {"quiet_session_seconds": WINDOW_SECONDS},
    "connections": {
        "demo": {
            "http": {"max_connections": AT_ONCE},
            "match_window_seconds": WINDOW_SECONDS,
            "session_ttl_seconds": WINDOW_SECONDS,
            "reply": {"deadline_seconds": 4.0, "events": {"session.started": {"deadline_seconds": 0}}},
        }
    },
}


class Calls:
    """Whole calls, so many at once."""

    def __init__(self, prefix: str, far_end: FastProvider, producer: AIOKafkaProducer, callers: Gang) -> None:
        self._topic = f"{prefix}commands"
        self._far_end = far_end
        self._producer = producer
        self._callers = callers
        self.made = 0
        self.answered = 0

    async def make(self, count: int) -> None:
        """Make so many, in lots of as many as there are connections."""
        for _ in range(0, count, AT_ONCE):
            await self._lot()

    async def _lot(self) -> None:
        numbers = range(self.made, self.made + AT_ONCE)
        self.made += AT_ONCE
        commands = [(f"call-{each}", payloads.number(each)) for each in numbers]
        await produce(
            self._producer, self._topic, [Outgoing(payloads.command(*each), each[0].encode()) for each in commands]
        )
        await until(lambda: len(self._far_end.dials) >= self.made, f"{self.made} dials")
        begun = await self._callers.ask([payloads.call_start(*each) for each in commands])
        begun.only(NO_CONTENT)
        asked = await self._callers.ask([payloads.user_speak(session) for session, _ in commands])
        self.answered += asked.statuses[OK]
        (await self._callers.ask([payloads.session_end(session) for session, _ in commands])).only(NO_CONTENT)


async def bench(setting: Setting) -> Report:
    """Lot after lot, and a look at the daemon behind each."""
    prefix = new_prefix()
    rows, count = setting.sized(30, 3), setting.sized(1000, AT_ONCE)
    columns = ("calls", "calls/s", "CPU us/call", "RSS MiB", "open files", "commands", "names", "watched sessions")
    report = Report("soak", f"whole calls with every window at {WINDOW_SECONDS:g} s, {AT_ONCE} at once", columns)
    async with AsyncExitStack() as stack:
        far_end = await stack.enter_async_context(provider())
        producer = await stack.enter_async_context(producing(setting.bootstrap))
        daemon = await stack.enter_async_context(
            replica(configured(setting, prefix, "one", base_url=far_end.base_url, **SHORT))
        )
        await owning(daemon, PARTITIONS)
        to = {"bootstrap": setting.bootstrap, "events": f"{prefix}events", "actions": f"{prefix}actions"}
        await stack.enter_async_context(child(setting, "agent", **to))
        calls = Calls(prefix, far_end, producer, await stack.enter_async_context(gang(webhook_port(daemon), AT_ONCE)))
        for _ in range(rows):
            report.rows.append(await _row(daemon, calls, count))
        report.notes += await _rest(daemon, far_end, calls, [float(row[3]) for row in report.rows], count)
    events = sum((await end_offsets(setting.bootstrap, f"{prefix}events")).values())
    report.notes.append(f"{events:,} events, {events - EVENTS * calls.made:,} more than the calls had")
    return report


async def _row(daemon: Daemon, calls: Calls, count: int) -> Sequence[float | int]:
    cpu, began = measure.cpu_seconds(daemon.pid), time.perf_counter()
    await calls.make(count)
    seconds = time.perf_counter() - began
    cpu = measure.cpu_seconds(daemon.pid) - cpu
    held = [int(await daemon.metric(name)) for name in ("lane_entries", "index_entries", "watched_sessions")]
    return (calls.made, count / seconds, cpu / count * 1e6, measure.rss_mib(daemon.pid), _open_files(daemon), *held)


async def _rest(daemon: Daemon, far_end: FastProvider, calls: Calls, rss: Sequence[float], count: int) -> list[str]:
    """What is left when nobody calls any more and every window has ended; and whether it still grew."""
    third = len(rss) // 3
    grown = (measure.median(rss[-third:]) - measure.median(rss[third : 2 * third])) * MIB / (third * count)
    await anyio.sleep(3 * WINDOW_SECONDS if third > 1 else 0.0)
    answered = f"{calls.answered:,} of {calls.made:,} questions answered by the consumer"
    left = [f"{await daemon.metric(name):g} {name}" for name in ("lane_entries", "index_entries", "watched_sessions")]
    return [
        f"{answered}, {len(far_end.dialled_twice())} numbers dialled twice",
        f"the last third against the one before: {grown:,.0f} bytes more a call",
        f"three windows after the last call: {', '.join(left)}; {measure.rss_mib(daemon.pid):.0f} MiB",
    ]


def _open_files(daemon: Daemon) -> int:
    return sum(1 for _ in (Path("/proc") / str(daemon.pid) / "fd").iterdir())
