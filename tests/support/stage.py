"""The whole loop on one stage: a broker, the simulated sipgate, one daemon, and everything it writes, as it comes.

It promises topics, groups and phone numbers of its own, and looks at the end of each stage that the daemon stopped
with 0, broke no contract of the provider's, and wrote no number in clear into its log. What happens is the test's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
from aiokafka import AIOKafkaProducer

from bridge.demo.simulators.script import Callee, Script
from bridge.demo.simulators.sipgate import Flow, SipgateSettings, SipgateSimulator
from tests.support.brokers import Broker
from tests.support.daemon import WEBHOOK_SECRET, Daemon, Line, assert_masked, write_config
from tests.support.kafka_tools import (
    WAIT_SECONDS,
    Follower,
    Headers,
    Message,
    Outgoing,
    committed_offsets,
    end_offsets,
    following,
    produce,
    producing,
)

FLOW = "demo-flow"
WRITTEN = ("results", "events", "action-results", "dead-letters")
NOBODY = Script(callees=(Callee(answers=False, rings_seconds=0),))
"""Every call is placed, and nothing is heard of it."""


class Stage:
    """What a test works with."""

    def __init__(
        self,
        broker: Broker,
        prefix: str,
        config: Path,
        simulator: SipgateSimulator,
        producer: AIOKafkaProducer,
        daemon: Daemon,
    ) -> None:
        self.broker = broker
        self.prefix = prefix
        self.config = config
        self.simulator = simulator
        self.daemon = daemon
        self.group_id = f"{prefix}commands"
        self.written = Follower({})
        self.numbers: list[str] = []
        self._producer = producer
        self._suffixes = itertools.count(secrets.randbelow(5_000_000))
        self._earlier: list[Line] = []
        self._acted: list[tuple[int, int]] = []

    # -- what goes in

    def callee(self) -> str:
        """A phone number that nobody has used yet."""
        self.numbers.append(f"+491579{next(self._suffixes):07d}")
        return self.numbers[-1]

    def play(self, script: Script) -> None:
        """Have the provider behave like this from now on."""
        self.simulator.play(script)

    async def place(
        self, command_id: str, to: str | None = None, *, key: str | None = None, headers: Headers = (), **fields: object
    ) -> str:
        """Put a `call.place` on the topic; the number it is for."""
        to = self.callee() if to is None else to
        await self.send(Outgoing(command(command_id, to, **fields), (key or command_id).encode(), headers))
        return to

    async def cancel(self, command_id: str, *, key: str | None = None) -> None:
        """Put a `call.cancel` on the topic."""
        body = {"type": "call.cancel", "command_id": command_id}
        await self.send(Outgoing(json.dumps(body).encode(), (key or command_id).encode()))

    async def send(self, *records: Outgoing, use: str = "commands") -> list[tuple[int, int]]:
        """Put records on a topic; where they stand."""
        return await produce(self._producer, self.topic(use), records)

    async def send_actions(self, *records: Outgoing) -> list[tuple[int, int]]:
        """Put records of actions on their topic; each of them is to end in exactly one verdict or dead letter."""
        places = await self.send(*records, use="actions")
        self._acted += places
        return places

    # -- what comes out

    def topic(self, use: str) -> str:
        """The name of a topic of this stage."""
        return self.prefix + use

    async def results(self, command_id: str, *, count: int = 1) -> list[Message]:
        """The results of a command, as soon as there are so many."""
        return await self.written.wait_for(
            self.topic("results"), lambda message: bool(message.json["command_id"] == command_id), count=count
        )

    async def result(self, command_id: str) -> Any:
        """The value of a command's one result."""
        return (await self.results(command_id))[0].json

    def results_so_far(self, command_id: str) -> list[Message]:
        """The results of a command until now."""
        return [each for each in self.written[self.topic("results")] if each.json["command_id"] == command_id]

    async def events(self, session: str, *, count: int = 1) -> list[Message]:
        """The events of a session, as soon as there are so many."""
        key = f"/{session}".encode()
        return await self.written.wait_for(
            self.topic("events"), lambda message: bool(message.key and message.key.endswith(key)), count=count
        )

    def events_so_far(self, session: str) -> list[Message]:
        """The events of a session until now."""
        return [each for each in self.written[self.topic("events")] if each.json["session"] == session]

    async def verdict(self, place: tuple[int, int]) -> Any:
        """What became of the record of actions at this place."""
        ce_id = self._verdict_id(place)
        return (await self.written.wait_for(self.topic("action-results"), lambda each: each.ce_id == ce_id))[0].json

    async def letter(self, value: bytes) -> Message:
        """The dead letter with these bytes."""
        return (await self.written.wait_for(self.topic("dead-letters"), lambda each: each.value == value))[0]

    def received(self, number: str) -> int:
        """How many requests to dial this number the provider has read."""
        return self.simulator.history.received(number.lstrip("+"))

    async def dialled(self, *numbers: str, times: int = 1) -> None:
        """Return when the provider was asked to dial each of these numbers."""
        await self.simulator.wait_for(lambda _: all(self.received(each) >= times for each in numbers), WAIT_SECONDS)

    async def all_committed(self) -> None:
        """Return when everything that is on the commands' topic now is committed."""
        await self._until_committed(self.topic("commands"), self.group_id)

    async def check_verdicts(self) -> None:
        """Each record of actions that was sent so far ends in one verdict, and never gets a second one."""
        if not self._acted:
            return
        await self._until_committed(self.topic("actions"), f"{self.prefix}keeper")
        letters = self.written[self.topic("dead-letters")]
        buried = {
            tuple(each.headers.get(f"dlq_{name}") for name in ("source", "partition", "offset")) for each in letters
        }
        sent = [place for place in self._acted if (self.topic("actions"), *map(str, place)) not in buried]
        for place in sent:
            await self.verdict(place)
        verdicts: dict[str, list[Any]] = {}
        for message in self.written[self.topic("action-results")]:
            verdicts.setdefault(message.ce_id, []).append(message.json)
        several = [each for each in map(self._verdict_id, sent) if len(verdicts[each]) > 1]
        assert not several, {each: verdicts[each] for each in several}

    def _verdict_id(self, place: tuple[int, int]) -> str:
        return f"{self.topic('actions')}-{place[0]}-{place[1]}.result"

    async def _until_committed(self, topic: str, group_id: str) -> None:
        ends = await end_offsets(self.broker.bootstrap, topic)
        committed: dict[int, int] = {}
        deadline = anyio.current_time() + WAIT_SECONDS

        def is_behind() -> bool:  # being ahead is fine: the daemon writes notes for itself between the questions
            return any(committed.get(partition, 0) < end for partition, end in ends.items())

        while is_behind() and anyio.current_time() < deadline:
            committed = await committed_offsets(self.broker.bootstrap, topic, group_id)
        assert not is_behind(), self.daemon.explained(f"{group_id} committed {committed} of {ends} of {topic}")

    # -- the daemon

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        return await self.daemon.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self.daemon.kill()

    async def start(self, *, env: Mapping[str, str] | None = None) -> None:
        """Start it again after it has ended, with the same configuration."""
        self._retire()
        self.daemon = Daemon(self.config, env=env)
        self.written.explain = self.daemon.explained
        await self.daemon.ready()

    def deliver_everything_again(self) -> None:
        """While it is down: let it be another group from now on, so that every command is delivered once more."""
        before, self.group_id = self.group_id, f"{self.group_id}-again"
        name = '"group_id" = '
        self.config.write_text(self.config.read_text().replace(f'{name}"{before}"', f'{name}"{self.group_id}"'))

    def log_lines(self) -> list[Line]:
        """The log of every run so far."""
        return self._earlier + self.daemon.log_lines()

    def _retire(self) -> None:
        assert self.daemon.exit_code is not None, "one daemon at a time has this configuration"
        self._earlier += self.daemon.log_lines()
        self.daemon.close()


@contextlib.asynccontextmanager
async def stage(
    broker: Broker,
    folder: Path,
    *,
    simulator: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    **changes: Any,
) -> AsyncIterator[Stage]:
    """A stage with a daemon that is ready. `simulator`: settings of the provider; `changes`: of the configuration."""
    prefix = f"flow-{secrets.token_hex(5)}-"
    flow = Flow(id=FLOW, webhook_secret=WEBHOOK_SECRET)
    settings = {"flows": (flow,), "script": NOBODY, "speed": 20.0, **(simulator or {})}
    async with SipgateSimulator(SipgateSettings(**settings)) as sipgate, producing(broker.bootstrap) as producer:
        config = write_config(
            folder / "callbridge.toml",
            bootstrap=broker.bootstrap,
            prefix=prefix,
            simulator_url=sipgate.base_url,
            **changes,
        )
        found = Stage(broker, prefix, config, sipgate, producer, Daemon(config, env=env))
        try:
            await found.daemon.ready()
            sipgate.point_webhooks_at(f"{found.daemon.webhook_url}/webhooks/demo")
            async with following(broker.bootstrap, [found.topic(use) for use in WRITTEN]) as found.written:
                found.written.explain = found.daemon.explained
                yield found
                await _close(found)
        except BaseException as error:
            error.add_note(found.daemon.explained("the daemon at that time:"))
            raise
        finally:
            found.daemon.close()


async def _close(found: Stage) -> None:
    if found.daemon.exit_code is None:
        await found.check_verdicts()
        code = await found.daemon.terminate()
        assert code == 0, found.daemon.explained(f"it stopped with {code}")
    assert_masked(found.log_lines(), found.numbers)
    assert not found.simulator.history.violations, list(found.simulator.history.violations)


@contextlib.contextmanager
def telling(found: Stage) -> Iterator[Stage]:
    """For a stage that several tests share: print the log of this test, which pytest shows when the test fails."""
    before = len(found.log_lines())
    yield found
    for line in found.log_lines()[before:]:
        print(json.dumps(line))


def command(command_id: str, to: str, **fields: object) -> bytes:
    """The body of a `call.place`."""
    body = {"type": "call.place", "command_id": command_id, "connection": "demo", "to": to, **fields}
    return json.dumps(body).encode()
