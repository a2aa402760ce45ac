"""A turn: webhook, event, a consumer's action, answer; beside a bare ping-pong over Kafka, and a script around one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from bridge.demo.broker import free_ports
from tests.bench import measure, payloads
from tests.bench.load import gang
from tests.bench.report import Report
from tests.bench.stage import Setting, asked, child, configured, new_prefix, replica, webhook_port
from tests.support.kafka_tools import create_topics

AT_ONCE = (1, 64, 500)
PARTITIONS = 3
WARM_UP_SECONDS = 1.0
DEADLINE_SECONDS = 4.0
OK = 200
PING, SCRIPT, DAEMON = "ping-pong", "script that holds", "daemon"


@dataclass(slots=True)
class Rounds:
    """What was found at one concurrency: CPU in µs a turn, latencies in ms, turns a second."""

    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    late: int = 0

    def add(self, *, cpu: float, count: int, seconds: float, p50: float, p99: float) -> None:
        """One round, in seconds."""
        self.cpu.append(cpu / count * 1e6)
        self.rates.append(count / seconds)
        self.p50.append(p50 * 1e3)
        self.p99.append(p99 * 1e3)


async def bench(setting: Setting) -> Report:
    """Floor and daemon in turn, at each concurrency."""
    prefix = new_prefix()
    levels = AT_ONCE[: setting.sized(3, 2)]
    topics = {"to": f"{prefix}ping", "fro": f"{prefix}pong"}
    await create_topics(setting.bootstrap, dict.fromkeys(topics.values(), PARTITIONS))
    reply = {"deadline_seconds": DEADLINE_SECONDS, "events": {"session.started": {"deadline_seconds": 0}}}
    config = configured(setting, prefix, "one", connections={"demo": {"reply": reply}})
    rounds = {(level, who): Rounds() for level in levels for who in (PING, SCRIPT, DAEMON)}
    script_port = free_ports(1)[0]
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(replica(config))
        to = {"bootstrap": setting.bootstrap, "events": f"{prefix}events", "actions": f"{prefix}actions"}
        await stack.enter_async_context(child(setting, "agent", **to))
        back = {"bootstrap": setting.bootstrap, "source": topics["to"], "target": topics["fro"]}
        await stack.enter_async_context(child(setting, "pong", **back))
        there = {"bootstrap": setting.bootstrap, "target": topics["to"], "source": topics["fro"]}
        script = await stack.enter_async_context(child(setting, "holding", port=script_port, **there))
        for level in levels:
            for _ in range(setting.rounds):
                found = await asked("ping", at_once=level, seconds=setting.seconds, **there)
                rounds[level, PING].add(**found)
                await _round((script.pid, script_port), level, setting.seconds, rounds[level, SCRIPT])
                await _round((daemon.pid, webhook_port(daemon)), level, setting.seconds, rounds[level, DAEMON])
    return _report(rounds)


async def _round(server: tuple[int, int], level: int, seconds: float, into: Rounds) -> None:
    """Load a server, given by process and port."""
    pid, port = server
    sessions = [f"session-{number}" for number in range(level)]
    questions = [payloads.user_speak(session) for session in sessions]
    async with gang(port, level) as callers:
        await callers.ask([payloads.session_start(session) for session in sessions])
        await callers.loop(questions, seconds=min(seconds, WARM_UP_SECONDS))
        before = measure.cpu_seconds(pid)
        load = await callers.loop(questions, seconds=seconds)
        cpu = measure.cpu_seconds(pid) - before
    into.late += load.count - load.statuses[OK]
    p50, p99 = (measure.quantile(load.latencies, part) for part in (0.5, 0.99))
    into.add(cpu=cpu, count=load.count, seconds=load.seconds, p50=p50, p99=p99)


def _report(rounds: dict[tuple[int, str], Rounds]) -> Report:
    columns = (
        "held at once",
        "what",
        "CPU us/turn",
        "x ping",
        "x script",
        "turns/s",
        "p50 ms",
        "x ping p50",
        "p99 ms",
        "late",
    )
    report = Report("turn", "webhook to action to answer, beside a ping-pong over Kafka", columns)
    for (level, who), found in rounds.items():
        ping, script = rounds[level, PING], rounds[level, SCRIPT]
        cpu, p50, p99 = (measure.median(values) for values in (found.cpu, found.p50, found.p99))
        by_cpu = (cpu / measure.median(ping.cpu), cpu / measure.median(script.cpu))
        by_p50 = p50 / measure.median(ping.p50)
        report.rows.append((str(level), who, cpu, *by_cpu, measure.median(found.rates), p50, by_p50, p99, found.late))
    report.notes.append("CPU: of the daemon, and of the process that pings; the answering process is the same kind")
    report.notes.append(f"late: answered with the fallback after {DEADLINE_SECONDS:g} s, in all rounds")
    return report
