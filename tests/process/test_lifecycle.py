"""The daemon's life as an operator sees it: starting, not starting, stopping; its exit codes, its messages, its pages.

Each test runs a process of its own. Whatever the log of any of them says, it never says a phone number.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.demo.broker import free_ports
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.script import DialRule, Script
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, request, run_cli, running, started, write_config
from tests.support.kafka_tools import create_topics
from tests.support.stage import NOBODY, Stage, stage
from tests.support.webhooks import act, new_session, post, said, speak

pytestmark = pytest.mark.anyio

PATIENT = {
    "demo": {"reply": {"deadline_seconds": 4.0}, "http": {"read_timeout_seconds": 60, "total_timeout_seconds": 90}}
}
GATE = Script(callees=NOBODY.callees, dial_faults=(DialRule(fault=Answer(status=201, delay_seconds=600)),))
"""The provider answers when the test says so."""
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def prefix() -> str:
    """Topics of this test alone."""
    return f"life-{secrets.token_hex(5)}-"


@pytest.fixture
def deaf_port() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_soft_stop(apache_kafka: Broker, tmp_path: Path) -> None:
    """SIGTERM under load: no dial is cut and no webhook left without an answer; then the exit code is 0."""
    async with stage(apache_kafka, tmp_path, connections=PATIENT) as here:
        here.play(GATE)
        numbers = [await here.place(f"in-flight-{index}") for index in range(20)]
        await here.dialled(*numbers)
        sessions = [new_session() for _ in range(50)]
        held = [asyncio.create_task(post(here, said(session))) for session in sessions]
        events = [(await here.events(session))[0] for session in sessions]
        assert await here.daemon.metric("held_requests") == 50

        here.daemon.send(signal.SIGTERM)
        await here.daemon.until_reason("process", "draining")
        assert not await here.daemon.is_ready()
        acted = [
            await act(here, event, speak("still here"), in_reply_to=event.json["reply"]["token"])
            for event in events[:25]
        ]
        answers = await asyncio.gather(*held)
        assert here.daemon.exit_code is None  # it waits for the provider, which has said nothing yet
        here.simulator.release()

        assert await here.daemon.ended() == 0
        assert [answer.status for answer in answers] == [200] * 25 + [204] * 25
        assert {(await here.verdict(place))["status"] for place in acted} == {"delivered"}
        assert {(await here.result(f"in-flight-{index}"))["type"] for index in range(20)} == {"call.initiated"}
        assert [here.received(number) for number in numbers] == [1] * 20
        await here.all_committed()
        _check_log(here.daemon.log_lines(), dials=20)


def _check_log(lines: list[dict[str, Any]], *, dials: int) -> None:
    """A life in lines: each has its time, level and event; nothing was cut off."""
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines), lines
    events = [line["event"] for line in lines]
    for first, then in (
        ("process.configured", "process.ready"),
        ("process.ready", "process.started"),
        ("process.started", "process.stopping"),
        ("process.stopping", "process.stopped"),
    ):
        assert events.index(first) < events.index(then)
    assert not [event for event in events if event.endswith((".cut_off", ".failed"))]
    dialled = [line for line in lines if line["event"] == "command.dialled"]
    assert len(dialled) == dials
    for line in dialled:
        assert {"command_id", "call_id", "connection", "provider", "attempt", "outcome", "duration_ms"} <= line.keys()
    assert lines[-1].items() >= {"event": "process.stopped", "exit_code": 0}.items()


async def test_second_signal(apache_kafka: Broker, tmp_path: Path) -> None:
    """A second SIGTERM waits for nothing, and the exit code says so; the claim is left for the next owner."""
    async with stage(apache_kafka, tmp_path, connections=PATIENT) as here:
        here.play(GATE)
        number = await here.place("held")
        await here.dialled(number)
        here.daemon.send(signal.SIGTERM)
        await here.daemon.until_reason("process", "draining")

        here.daemon.send(signal.SIGTERM)

        assert await here.daemon.ended(seconds=15) == 128 + signal.SIGTERM
        [line] = here.daemon.lines_of("process.cut_off")
        assert "SIGTERM" in line["reason"]
        assert not here.results_so_far("held")
        here.play(NOBODY)
        await here.start()
        assert (await here.result("held"))["type"] == "call.unknown"
        assert here.received(number) == 1


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_ready_and_pages(quick_broker: Broker, tmp_path: Path) -> None:
    """A daemon that is ready says so part by part; its pages are what a probe and a scraper expect."""
    async with stage(quick_broker, tmp_path) as here:
        await _one_call(here)
        url = here.daemon.management_url
        ready, live, pages = [await request(f"{url}/{page}") for page in ("readyz", "livez", "metrics")]

        assert (ready.status, ready.json["ready"], set(ready.json["parts"].values())) == (200, True, {"ready"})
        assert {"kafka", "index", "actions", "webhooks", "commands"} <= ready.json["parts"].keys()
        assert (live.status, live.json) == (200, {"live": True, "stuck": {}})
        assert (pages.status, pages.headers["content-type"].split(";")[0]) == (200, "text/plain")
        families = {family.name: family for family in text_string_to_metric_families(pages.body.decode())}
        [dialled] = [
            each.value for each in families["callbridge_dials"].samples if each.labels["outcome"] == "accepted"
        ]
        assert dialled == 1
        assert all(family.documentation for family in families.values())
        assert (await request(f"{url}/webhooks/demo", method="POST")).status == 404  # nothing of calls on this port


async def _one_call(here: Stage) -> None:
    await here.place("one")
    assert (await here.result("one"))["type"] == "call.initiated"


async def test_kafka_absent(tmp_path: Path, prefix: str, deaf_port: str) -> None:
    """Without Kafka the daemon lives, is not ready, says which part waits, and gives up in time with a plain message."""
    config = write_config(
        tmp_path / "absent.toml",
        bootstrap=deaf_port,
        prefix=prefix,
        simulator_url=NOWHERE,
        kafka={"start_timeout_seconds": 3},
    )
    with started(config) as daemon:
        await daemon.until_reason("kafka", "starting")
        ready, live = [await request(f"{daemon.management_url}/{page}") for page in ("readyz", "livez")]
        assert (ready.status, ready.json["ready"], live.status) == (503, False, 200)
        assert await daemon.metric("ready") == 0

        assert await daemon.ended() == 1
        assert _message(daemon).startswith(f"callbridge: Kafka at {deaf_port} did not answer within 3 s")


async def test_signal_while_waiting_for_kafka(tmp_path: Path, prefix: str, deaf_port: str) -> None:
    """Somebody who stops a daemon that still waits for Kafka need not wait for it, and gets 0: nothing had begun."""
    config = write_config(tmp_path / "absent.toml", bootstrap=deaf_port, prefix=prefix, simulator_url=NOWHERE)
    with started(config) as daemon:
        await daemon.until_reason("kafka", "starting")
        assert await daemon.terminate(seconds=15) == 0


async def test_missing_topics(quick_broker: Broker, tmp_path: Path, prefix: str) -> None:
    """Topics that may not be created are reported with the exact commands that create them."""
    config = _config(tmp_path, quick_broker, prefix, topics={"create_missing": False, "partitions": 4})
    with started(config) as daemon:
        assert await daemon.ended() == 2
        message = _message(daemon, lines=9)

    assert message.startswith(
        f"callbridge: {config}: topics: found a cluster without the topics {prefix}action-results, "
    )
    commands = [line.strip() for line in message.splitlines()[1:]]
    assert commands == run_cli("topics", str(config)).stdout.splitlines()
    start = "kafka-topics.sh --bootstrap-server BROKER --create --topic"
    compacted = f"{start} {prefix}ledger --partitions 4 --replication-factor 1 --config cleanup.policy=compact"
    assert [command for command in commands if command.startswith(compacted)]
    assert len(commands) == 8


async def test_unequal_partition_counts(quick_broker: Broker, tmp_path: Path, prefix: str) -> None:
    """Topics that belong together must have equal partition counts; else the daemon does not start, and says which."""
    await create_topics(quick_broker.bootstrap, {f"{prefix}commands": 3, f"{prefix}ledger": 2})
    config = _config(tmp_path, quick_broker, prefix)
    with started(config) as daemon:
        assert await daemon.ended() == 2
        message = _message(daemon)

    assert f"{prefix}commands has 3, {prefix}ledger has 2" in message
    assert "equal" in message


@pytest.mark.parametrize("table", ["ingress", "management"])
async def test_port_in_use(quick_broker: Broker, tmp_path: Path, prefix: str, table: str) -> None:
    """A port that somebody else has is said plainly, with the place in the file; nothing is half started."""
    config = _config(tmp_path, quick_broker, prefix)
    async with running(config) as first:
        port = int((first.webhook_url if table == "ingress" else first.management_url).rpartition(":")[2])
        folder = tmp_path / "second"
        folder.mkdir()
        other = _config(folder, quick_broker, prefix, **{table: {"port": port}})
        with started(other) as second:
            assert await second.ended() == 2
            message = _message(second)

        assert message.startswith(f"callbridge: {other}: {table}: found cannot listen on 127.0.0.1 port {port}: ")
        assert "address already in use" in message
        assert await first.is_ready()
        assert await first.terminate() == 0


BAD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "unknown table": ({"comands": {}}, "(top level)", "comands (did you mean commands?)", "the fields kafka, "),
    "unknown field": (
        {"commands": {"max_atempts": 3}},
        "commands",
        "max_atempts (did you mean max_attempts?)",
        "fields ",
    ),
    "wrong type": ({"commands": {"max_attempts": "x"}}, "commands.max_attempts", "'x'", "a whole number from 1 to 100"),
    "no Kafka": ({"kafka": None}, "kafka", "nothing", "bootstrap_servers"),
    "no host and port": ({"kafka": {"bootstrap_servers": ["kafka"]}}, "kafka", '"kafka"', 'such as "kafka-1:9092"'),
    "no such provider": ({"connections": {"demo": {"provider": "x"}}}, "connections.demo.provider", "'x'", "one of "),
    "no secret": (
        {"connections": {"demo": {"token": {"env": "NOT_SET"}}}},
        "connections.demo.token",
        "environment variable NOT_SET, which is not set",
        "a secret",
    ),
    "too patient": (
        {"connections": {"demo": {"reply": {"deadline_seconds": 9}}}},
        "connections.demo.reply.deadline_seconds",
        "9",
        "0 to 4.0",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_configuration(tmp_path: Path, prefix: str, deaf_port: str, name: str) -> None:
    """A bad configuration ends the start with exit code 2 and one line: file, path, what was found, what is allowed."""
    changes, path, found, allowed = BAD[name]
    config = write_config(tmp_path / "bad.toml", bootstrap=deaf_port, prefix=prefix, simulator_url=NOWHERE, **changes)
    with started(config) as daemon:
        assert await daemon.ended() == 2
        message = _message(daemon)

    head, _, rest = message.partition(": found ")
    assert head == f"callbridge: {config}: {path}"
    assert found in rest.partition("; allowed: ")[0] or found in rest
    assert allowed in rest.partition("; allowed: ")[2]


def _config(folder: Path, broker: Broker, prefix: str, **changes: Any) -> Path:
    return write_config(
        folder / "callbridge.toml", bootstrap=broker.bootstrap, prefix=prefix, simulator_url=NOWHERE, **changes
    )


def _message(daemon: Daemon, *, lines: int = 1) -> str:
    """The last lines of its output, which are for a person and no JSON; all before them are log lines."""
    texts = [line.get("text") for line in daemon.log_lines()]
    assert [text for text in texts if text is not None] == texts[-lines:], daemon.explained(
        "expected a message at the end"
    )
    return "\n".join(map(str, texts[-lines:]))
