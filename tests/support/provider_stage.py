"""The whole loop over a provider that is not sipgate: a broker, its simulator, one daemon, and everything it writes.

It promises topics of its own and one connection in the place of sipgate's, and looks at the end of each stage that the
daemon stopped with 0, buried no record, broke no contract of the provider's, and wrote no number in clear into its log.
What happens is the test's.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from bridge.demo.broker import LOOPBACK
from bridge.demo.simulators.jambonz import DEMO_ACCOUNT, DEMO_APPLICATION
from bridge.demo.simulators.vendor import Vendor
from tests.support.brokers import Broker
from tests.support.daemon import Daemon, Table, assert_masked, running, write_config
from tests.support.kafka_tools import Follower, Message, Outgoing, following, produce, producing

METADATA = {"order": 7}
"""Of every call that is placed."""

WRITTEN = ("results", "events", "action-results", "dead-letters")
SPEECH = ("synthesis_vendor", "synthesis_voice", "synthesis_language", "recognizer_vendor", "recognizer_language")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The one connection of a stage."""

    name: str
    number: str
    """Whom it calls."""
    token: str
    webhook_secret: str
    lines: Callable[[str], Sequence[str]]
    """Of its table, given our address for its webhooks, beside those that every provider has; tables may follow."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Secrets that the lines name, beside API_TOKEN and HOOK_SECRET."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """The environment of the daemon."""
        return {"API_TOKEN": self.token, "HOOK_SECRET": self.webhook_secret, **self.env}

    def write(self, config: Path, simulator_url: str) -> None:
        """Put this connection in the place of sipgate's."""
        port = tomllib.loads(config.read_text())["ingress"]["port"]
        table = [
            f"[connections.{self.name}]",
            f'base_url = "{simulator_url}"',
            'token = { env = "API_TOKEN" }',
            'webhook_secrets = [{ env = "HOOK_SECRET" }]',
            *self.lines(f"http://{LOOPBACK}:{port}/webhooks/{self.name}"),
        ]
        others = [line for line in config.read_text().splitlines() if not line.startswith('"connections"')]
        config.write_text("\n".join([*others, *table]) + "\n")


def jambonz(*lines: str, flavour: str = "jambonz", env: Mapping[str, str] | None = None) -> Connection:
    """To the simulated jambonz; Cognigy's calls have an application that is not ours. `lines`: more of its table."""
    speech = ", ".join(f'{name} = "x"' for name in SPEECH)
    return Connection(
        name="vg",
        number="+15083084809",
        token="vg-token",
        webhook_secret="wh_secret_demo",
        lines=lambda url: (
            'provider = "jambonz"',
            f'flavour = "{flavour}"',
            f'account_sid = "{DEMO_ACCOUNT}"',
            'from = "+16173333456"',
            f'public_webhook_url = "{url}"',
            f"speech = {{ {speech} }}" if flavour == "jambonz" else f'application_sid = "{DEMO_APPLICATION}"',
            *lines,
        ),
        env=env or {},
    )


@dataclass
class Here:
    """A daemon with one connection to the simulator, and everything it writes."""

    simulator: Vendor
    connection: Connection
    daemon: Daemon
    producer: AIOKafkaProducer
    written: Follower
    prefix: str

    @classmethod
    @contextlib.asynccontextmanager
    async def staged(
        cls, broker: Broker, folder: Path, simulator: Vendor, connection: Connection, **changes: Table
    ) -> AsyncIterator[Self]:
        """A stage with a daemon that is ready. `changes`: of the configuration."""
        prefix = f"{connection.name}-{secrets.token_hex(4)}-"
        async with simulator:
            config = write_config(
                folder / "callbridge.toml",
                bootstrap=broker.bootstrap,
                prefix=prefix,
                simulator_url=simulator.base_url,
                **changes,
            )
            connection.write(config, simulator.base_url)
            topics = [f"{prefix}{use}" for use in WRITTEN]
            async with running(config, env=connection.secrets) as daemon, producing(broker.bootstrap) as producer:
                async with following(broker.bootstrap, topics) as written:
                    written.explain = daemon.explained
                    yield cls(simulator, connection, daemon, producer, written, prefix)
                if daemon.exit_code is None:
                    await daemon.terminate()
                assert daemon.exit_code == 0
                assert_masked(daemon.log_lines(), [connection.number])
            assert not simulator.history.violations, list(simulator.history.violations)
            assert not written[f"{prefix}dead-letters"]

    async def place(self, command_id: str, **fields: object) -> Any:
        """Place a call; the value of its result."""
        body = {
            "type": "call.place",
            "command_id": command_id,
            "connection": self.connection.name,
            "to": self.connection.number,
            "metadata": METADATA,
            **fields,
        }
        await produce(self.producer, f"{self.prefix}commands", [Outgoing(json.dumps(body).encode(), b"k")])
        topic = f"{self.prefix}results"
        [result] = await self.written.wait_for(topic, lambda each: bool(each.json["command_id"] == command_id))
        return result.json

    async def act(self, event: Message, *actions: dict[str, object], asked: bool = True) -> Any:
        """Answer an event, which has to wait for that, or act unasked in its session; the verdict."""
        reply = {"in_reply_to": event.json["reply"]["token"]} if asked else {}
        wanted = secrets.token_hex(4)
        body = {"actions": actions, "action_id": wanted, **reply}
        await produce(self.producer, f"{self.prefix}actions", [Outgoing(json.dumps(body).encode(), event.key)])
        topic = f"{self.prefix}action-results"
        [verdict] = await self.written.wait_for(topic, lambda each: bool(each.json["action_id"] == wanted))
        return verdict.json

    async def event(self, kind: str, *, nth: int = 1) -> Message:
        """The nth event of a type."""
        found = await self.written.wait_for(f"{self.prefix}events", lambda each: each.type == kind, count=nth)
        return found[nth - 1]

    def events(self) -> list[Any]:
        """The values of all events so far."""
        return [message.json for message in self.written[f"{self.prefix}events"]]

    def placed(self) -> int:
        """How many calls the provider has placed."""
        return self.simulator.history.placed(self.connection.number.lstrip("+"))
