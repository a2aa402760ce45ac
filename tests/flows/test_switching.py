"""One daemon with a connection to every provider: a producer changes one word, `connection`, and nothing else.

The simulators are processes and the connections' tables are those of the demos, so whoever is shipped is tried. Each call
goes the whole way on Apache Kafka: command, result, events with the command's metadata, an action, the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from bridge.demo import quickstart
from bridge.demo.broker import free_ports
from bridge.demo.plays import PLAYS, Play
from bridge.demo.processes import get
from tests.support.brokers import Broker
from tests.support.daemon import SECRETS, Daemon, running, write_config
from tests.support.kafka_tools import Follower, Message, Outgoing, following, produce, producing

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

NUMBER, NOBODY = "+34600111222", "+34600111999"
ENDS = {"call.ended", "session.ended"}
METADATA = {"order": 7}
TALKS = """
callees = [
    { number = "34600111999", answers = false },
    { number = "*", rings_seconds = 4, turns = [{ do = "hang_up", after_seconds = %d }] },
]
"""
SPEED, SOON_SECONDS, LATE_SECONDS = 8, 16, 4000
"""In the call's time: callees hang up soon only where nothing else ends the call."""


@dataclass
class Simulated:
    """A provider as a process."""

    name: str
    play: Play
    address: tuple[str, int]

    def counts(self) -> dict[str, int]:
        """What it has seen, exactly."""
        page = get(self.address, "/_sim/history?limit=0")
        assert page is not None
        found: dict[str, int] = json.loads(page)["counts"]
        return found


@contextlib.contextmanager
def simulated(name: str, folder: Path, webhook_url: str, env: Mapping[str, str]) -> Iterator[Simulated]:
    """The provider of a play, listening; ended on the way out."""
    play, table = PLAYS[name], quickstart.connection_of(name)
    script = folder / f"{name}.toml"
    script.write_text(TALKS % (LATE_SECONDS if play.mine else SOON_SECONDS))
    arguments = ["--token-env", _token(table), "--webhook-secret-env", _secret(table), "--script", str(script)]
    arguments += ["--webhook-url", webhook_url] if play.has_webhook_url else []
    for argument, setting in play.arguments.items():
        arguments += [argument, str(table[setting])]
    command = [sys.executable, "-m", f"bridge.demo.simulators.{play.simulator}", "--speed", str(SPEED), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on http://"), line
            host, _, port = line.strip().removeprefix("listening on http://").partition(":")
            yield Simulated(name, play, (host, int(port)))
        finally:
            process.terminate()


def _token(table: Mapping[str, Any]) -> str:
    return str(table.get("token", table.get("auth_token"))["env"])


def _secret(table: Mapping[str, Any]) -> str:
    return str(table["webhook_secrets"][0]["env"]) if "webhook_secrets" in table else _token(table)


@dataclass
class Here:
    """The daemon, every provider, and everything the daemon writes."""

    providers: Mapping[str, Simulated]
    producer: AIOKafkaProducer
    written: Follower
    prefix: str
    partitions: dict[str, int] = field(default_factory=dict)
    """By command: where it was put."""

    async def command(self, connection: str, *, to: str = NUMBER, number: int = 1) -> str:
        """The same command as always, through this connection; its id."""
        command_id = f"through-{connection}-{number}"
        body = {
            "type": "call.place",
            "command_id": command_id,
            "connection": connection,
            "to": to,
            "metadata": METADATA,
        }
        record = Outgoing(json.dumps(body).encode(), command_id.encode())
        [(self.partitions[command_id], _)] = await produce(self.producer, f"{self.prefix}commands", [record])
        return command_id

    async def result(self, command_id: str) -> Any:
        """What came of a command."""
        topic = f"{self.prefix}results"
        [result] = await self.written.wait_for(topic, lambda each: bool(each.json["command_id"] == command_id))
        return result.json

    async def event(self, connection: str, *kinds: str) -> Message:
        """The first event of one of these types in the connection's call."""
        [first, *_] = await self.written.wait_for(
            f"{self.prefix}events", lambda each: each.type in kinds and bool(each.json["connection"] == connection)
        )
        return first

    def events(self, connection: str) -> list[Any]:
        """All events of a connection so far."""
        found = [message.json for message in self.written[f"{self.prefix}events"]]
        return [event for event in found if event["connection"] == connection]

    async def hang_up(self, event: Message) -> Any:
        """End the call, as an answer where the event waits; the verdict."""
        reply = event.json.get("reply")
        body = {"action_id": secrets.token_hex(4), "actions": [{"type": "hangup"}]}
        body |= {"in_reply_to": reply["token"]} if reply else {}
        await produce(self.producer, f"{self.prefix}actions", [Outgoing(json.dumps(body).encode(), event.key)])
        topic = f"{self.prefix}action-results"
        [verdict] = await self.written.wait_for(topic, lambda each: bool(each.json["action_id"] == body["action_id"]))
        return verdict.json


@contextlib.asynccontextmanager
async def stage(broker: Broker, folder: Path) -> AsyncIterator[Here]:
    """Everybody is up."""
    [port] = free_ports(1)
    prefix = f"switch-{secrets.token_hex(4)}-"
    tables = {name: quickstart.connection_of(name) for name in PLAYS}
    made_up = {each(table): secrets.token_hex(16) for table in tables.values() for each in (_token, _secret)}
    env = {**os.environ, **SECRETS, **made_up}
    with contextlib.ExitStack() as vendors:
        providers = {
            name: vendors.enter_context(simulated(name, folder, f"http://127.0.0.1:{port}/webhooks/{name}", env))
            for name in PLAYS
        }
        connections = {name: _here(tables[name], providers[name], port) for name in PLAYS}
        config = write_config(
            folder / "callbridge.toml",
            bootstrap=broker.bootstrap,
            prefix=prefix,
            simulator_url="",
            ingress={"port": port},
            connections={},
        )
        _connect(config, connections)
        topics = [f"{prefix}{use}" for use in ("results", "events", "action-results", "dead-letters")]
        async with running(config, env=env) as daemon, producing(broker.bootstrap) as producer:
            async with following(broker.bootstrap, topics) as written:
                written.explain = daemon.explained
                yield Here(providers, producer, written, prefix)
            await _end(daemon)
            assert not written[f"{prefix}dead-letters"]


async def _end(daemon: Daemon) -> None:
    code = await daemon.terminate()
    assert code == 0, daemon.explained(f"it stopped with {code}")


def _here(table: Mapping[str, Any], provider: Simulated, port: int) -> dict[str, Any]:
    """The shipped table with the addresses of today."""
    host, vendor_port = provider.address
    found = {**table, "base_url": f"http://{host}:{vendor_port}"}
    if "public_webhook_url" in found:
        found["public_webhook_url"] = f"http://127.0.0.1:{port}/webhooks/{provider.name}"
    return found


def _connect(config: Path, connections: Mapping[str, Mapping[str, Any]]) -> None:
    """Put these connections in the place of the usual one."""
    lines = [line for line in config.read_text().splitlines() if not line.startswith('"connections"')]
    for name, table in connections.items():
        lines += [f"[connections.{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    config.write_text("\n".join(lines) + "\n")


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return json.dumps(value)


@pytest.fixture(scope="module")
async def here(apache_kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    """Everybody, for all tests of this file."""
    async with stage(apache_kafka, tmp_path_factory.mktemp("switching")) as found:
        yield found


@pytest.mark.parametrize("name", PLAYS)
async def test_only_the_connection_differs(here: Here, name: str) -> None:
    """The provider dials once, its events are the command's, and the call ends as its consumer wants, where it can."""
    provider = here.providers[name]
    command_id = await here.command(name)
    result = await here.result(command_id)
    assert (result["type"], result["metadata"]) == ("call.initiated", METADATA), result
    if provider.play.mine is not None:
        verdict = await here.hang_up(await here.event(name, provider.play.mine.event))
        way = "answer" if provider.play.mine.answers else "control"
        assert (verdict["status"], verdict["delivered_by"]) == ("delivered", way), verdict
    await here.event(name, *ENDS)
    for event in here.events(name):
        assert (event["command_id"], event["metadata"]) == (command_id, METADATA), event["type"]
        assert event["call_id"] == result["call_id"]
    counts = provider.counts()
    assert (counts["dials.received"], counts.get("violations", 0)) == (1, 0), counts


async def test_a_dial_that_blocks_stalls_nobody(here: Here) -> None:
    """While TalkifAI waits for somebody to answer, the other commands of its partition go to other providers."""
    blocked = await here.command("talkifai", to=NOBODY, number=2)
    others = [await here.command("sipgate", to=NOBODY, number=number) for number in range(2, 8)]
    assert here.partitions[blocked] in {here.partitions[other] for other in others}
    for other in others:
        assert (await here.result(other))["type"] == "call.initiated"
    results = [message.json["command_id"] for message in here.written[f"{here.prefix}results"]]
    assert blocked not in results
    refused = await here.result(blocked)
    assert (refused["type"], refused["reason"]) == ("call.refused", "no_answer")
