"""Memory of one replica that holds many webhooks open: of an idle connection with its session, and of the held request."""

from __future__ import annotations

import asyncio
import time

import anyio

from bridge.runtime.files import allow_files
from tests.bench import measure, payloads
from tests.bench.load import gang
from tests.bench.patient import REPLY_SECONDS
from tests.bench.report import Report
from tests.bench.stage import Setting, configured, new_prefix, replica, webhook_port
from tests.support.daemon import Daemon

HELD = (1_000, 5_000, 10_000)
SPARE_FILES = 2_000
SETTLE_SECONDS = 1.0
HELD_SECONDS = 120.0
LOOK_SECONDS = 0.25
KIB = 1024.0
NO_CONTENT = 204


async def bench(setting: Setting) -> Report:
    """A fresh replica for each number."""
    counts = (200,) if setting.quick else HELD
    _raise_file_limit(max(counts) + SPARE_FILES)
    columns = (
        "held",
        "MiB at start",
        "MiB with sessions",
        "MiB held",
        "KiB/session+conn",
        "KiB/held request",
        "MiB after",
    )
    report = Report("held", "memory of held requests, one replica", columns)
    for count in counts:
        report.rows.append(await _one(setting, count))
    report.notes.append("a session has begun on each connection before; bodies are 1 KiB; no consumer answers")
    return report


async def _one(setting: Setting, count: int) -> tuple[int | float, ...]:
    reply = {"deadline_seconds": REPLY_SECONDS, "events": {"session.started": {"deadline_seconds": 0}}}
    config = configured(
        setting,
        new_prefix(),
        "patient",
        connections={"demo": {"reply": reply}},
        ingress={
            "max_connections": count + SPARE_FILES,
            "max_held_requests": count,
            "keep_alive_seconds": REPLY_SECONDS,
            "receive_timeout_seconds": REPLY_SECONDS,
        },
        events={"max_publishing": 50_000, "publish_seconds": 60.0},
        kafka={"publish_timeout_seconds": 90.0, "request_timeout_seconds": 60.0},
    )
    sessions = [f"session-{number}" for number in range(count)]
    async with replica(config, module="tests.bench.patient") as daemon:
        at_start = measure.rss_mib(daemon.pid)
        async with gang(webhook_port(daemon), count) as callers:
            (await callers.ask([payloads.session_start(session) for session in sessions])).only(NO_CONTENT)
            await anyio.sleep(SETTLE_SECONDS)
            with_sessions = measure.rss_mib(daemon.pid)
            asking = asyncio.create_task(callers.ask([payloads.user_speak(session) for session in sessions]))
            await _all_held(daemon, count, asking)
            held = measure.rss_mib(daemon.pid)
            asking.cancel()
        await _all_gone(daemon)
        after = measure.rss_mib(daemon.pid)
    per_session = (with_sessions - at_start) / count * KIB
    return count, at_start, with_sessions, held, per_session, (held - with_sessions) / count * KIB, after


async def _all_held(daemon: Daemon, count: int, asking: asyncio.Task[object]) -> None:
    with anyio.fail_after(HELD_SECONDS):
        while await daemon.metric("held_requests") < count or await daemon.metric("events_total") < 2 * count:
            if asking.done():
                raise RuntimeError(f"answered instead of held: {asking.result()}")
            await anyio.sleep(LOOK_SECONDS)
    await anyio.sleep(SETTLE_SECONDS)


async def _all_gone(daemon: Daemon) -> None:
    deadline = time.monotonic() + HELD_SECONDS
    while await daemon.metric("held_requests"):
        if time.monotonic() > deadline:
            raise TimeoutError(daemon.explained(f"requests are held {HELD_SECONDS:g} s after their callers left"))
        await anyio.sleep(LOOK_SECONDS)
    await anyio.sleep(SETTLE_SECONDS)


def _raise_file_limit(files: int) -> None:
    """For this process and what it starts."""
    if (allowed := allow_files(files)) < files:
        raise RuntimeError(f"needs {files} open files, `ulimit -Hn` is {allowed}")
