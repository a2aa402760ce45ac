"""The composition root: every part built from the configuration, opened in the order of dependence.

It is the only place that knows concrete brokers, and it decides nothing: what starts before what, what stops before
what, and which number of the configuration goes where. Closing is the reverse of opening; the drains run in the order
in which they are named here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio

from bridge.assembly.actions import open_actions
from bridge.assembly.commands import open_commands
from bridge.assembly.listeners import listen, listen_webhooks
from bridge.assembly.shared import House, Shared
from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.protocol import Bus, Producer
from bridge.configured import Checked, check_limits, examine
from bridge.ledger.index import Index, IndexSettings
from bridge.model.errors import CallbridgeError, Unavailable
from bridge.providers.protocol import Provider
from bridge.runtime import memory
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.files import allow_files
from bridge.runtime.health import Health, beat
from bridge.runtime.log_sink import Sink
from bridge.runtime.logging import get_logger
from bridge.runtime.management import management_app
from bridge.runtime.metrics import Metrics
from bridge.runtime.supervisor import Supervisor

log = get_logger()

_OTHER_FILES = 1_000  # Kafka, providers, probes, what Python has open


class Daemon:
    """One life: `assemble` is what the supervisor runs."""

    def __init__(
        self, checked: Checked, supervisor: Supervisor, *, dropped_log_lines: Callable[[], int] = lambda: 0
    ) -> None:
        clock: Clock = SystemClock()
        self._checked = checked
        self._config = checked.config
        self._supervisor = supervisor
        self._house = House(
            checked=checked,
            supervisor=supervisor,
            health=Health(clock, stuck_after_seconds=checked.config.process.stuck_after_seconds),
            metrics=Metrics(
                connections=tuple(checked.connections),
                providers=tuple({kind.name for kind, _ in checked.connections.values()}),
                dropped_log_lines=dropped_log_lines,
            ),
            clock=clock,
        )
        self.ports: dict[str, int] = {}
        """The ports that were bound, by listener: `webhooks` and `management`."""
        self.failure: CallbridgeError | None = None
        """Why it could not start, for the person who tried."""

    async def assemble(self) -> None:
        """Open everything; the process is ready when this returns."""
        try:
            await self._assemble()
        except CallbridgeError as error:
            self.failure = error
            raise

    async def _assemble(self) -> None:
        house, config, supervisor = self._house, self._config, self._supervisor
        ready = {name: house.health.part(name) for name in ("kafka", "index", "actions", "webhooks", "commands")}
        supervisor.spawn("heartbeat", self._heartbeat)
        self._allow_files()
        management = management_app(house.health, house.metrics)
        address = (config.management.host, config.management.port)
        self.ports["management"] = (await listen(house, "management", management, address)).port

        bus = KafkaBus(self._checked.kafka, config_file=self._checked.file)
        connections = await self._open_connections()
        partitions = await self._examine_topics(connections)
        ready["kafka"].ready()

        for_commands = await supervisor.open("producer of commands", bus.producer("commands"))
        for_webhooks = await supervisor.open("producer of webhooks", bus.producer("webhooks"))
        index = await self._open_index(bus, for_webhooks)
        ready["index"].ready()

        shared = Shared(house, bus, for_webhooks, index, connections, partitions)
        flows, stop_keeper = await open_actions(shared)
        ready["actions"].ready()
        webhooks = await listen_webhooks(house, flows)
        self.ports["webhooks"] = webhooks.port
        ready["webhooks"].ready()
        stop_commands = await open_commands(shared, for_commands)
        ready["commands"].ready()

        supervisor.on_soft_stop("readiness", self._unready)
        supervisor.on_soft_stop("commands", stop_commands)
        supervisor.on_soft_stop("webhooks", webhooks.drain)
        supervisor.on_soft_stop("keeper", stop_keeper)
        memory.settle()
        log.info("process.ready", host=config.ingress.host, port=webhooks.port)

    def _allow_files(self) -> None:
        wanted = self._config.ingress.max_connections + _OTHER_FILES
        allowed = allow_files(wanted)
        if allowed < wanted:
            log.warning("files.few", detail=f"{allowed} open files are allowed, {wanted} may be needed (ulimit -n)")

    async def _unready(self) -> None:
        self._house.health.drain()

    async def _heartbeat(self) -> None:
        await beat(
            self._house.health,
            self._house.clock,
            every_seconds=self._config.process.heartbeat_seconds,
            on_lag=self._house.metrics.loop_lag_seconds.observe,
        )

    async def _examine_topics(self, connections: Mapping[str, Provider]) -> int:
        """Returns the number of partitions of the commands topic."""
        found = await examine(self._checked)
        for name, provider in connections.items():
            check_limits(name, provider.limits, found.commands_partitions, self._checked.file)
        for risk in found.risks:
            log.warning("topic.risky", detail=risk)
        return found.commands_partitions

    async def _open_connections(self) -> dict[str, Provider]:
        return {
            name: await self._supervisor.open(f"connection {name}", kind.build(context))
            for name, (kind, context) in self._checked.connections.items()
        }

    async def _open_index(self, bus: Bus, producer: Producer) -> Index:
        config, house = self._config, self._house
        settings = IndexSettings(max_entries=config.index.max_entries, evidence_seconds=config.index.evidence_seconds)
        index = Index(config.topics.index.name, producer, house.clock, settings)
        tail = await self._supervisor.open("index", bus.tail(config.topics.index.name, from_beginning=True))
        self._supervisor.spawn("index reader", lambda: index.run(tail))
        with anyio.move_on_after(config.index.load_seconds):
            await index.caught_up.wait()
        if not index.caught_up.is_set():
            raise Unavailable(
                f"{config.topics.index.name}: not read to its end after {config.index.load_seconds:g} s "
                f"({len(index)} entries so far); is the cluster slow, or index.load_seconds too short?"
            )
        house.metrics.index_entries.set_function(lambda: len(index))
        return index


async def serve(checked: Checked, sink: Sink | None = None) -> int:
    """Run the daemon until a signal or a failure; returns the exit code.

    Raises:
        CallbridgeError: it could not start, and everything is closed again; the log has it too, scrubbed and shortened.
    """
    supervisor = Supervisor(SystemClock(), shutdown_seconds=checked.config.process.shutdown_seconds)
    daemon = Daemon(checked, supervisor, dropped_log_lines=lambda: 0 if sink is None else sink.dropped_lines)
    exit_code = await supervisor.run(daemon.assemble)
    if daemon.failure is not None:
        raise daemon.failure
    return exit_code
