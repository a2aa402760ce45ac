"""The composition root: every part built from the configuration, opened in the order of dependence.

It is the only place that knows concrete brokers, and it decides nothing: what starts before what, what stops before
what, and which number of the configuration goes where. Closing is the reverse of opening; the drains run in the order
in which they are named here.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
import msgspec

from bridge.actions.keeper import Keeper, KeeperSettings, KeeperTools
from bridge.actions.pending import Pending
from bridge.actions.relay import Relay, Waiter
from bridge.actions.replies import Replies, RepliesSettings
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.bus.dead_letters import DeadLetters
from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.partitioners import partition_of
from bridge.bus.protocol import Bus, Producer
from bridge.commands import policy
from bridge.commands.accounts import Account, AccountSettings
from bridge.commands.dials import Dials
from bridge.commands.dials import opened as dialling
from bridge.commands.dispatch import DispatchSettings, World
from bridge.commands.intake import Intake, IntakeSettings
from bridge.commands.lane import LaneSettings, Tools
from bridge.commands.ownership import OwnershipSettings
from bridge.commands.recovery import RecoverySettings
from bridge.commands.results import Results
from bridge.commands.sweep import SweepSettings
from bridge.configured import Checked, check_limits, examine
from bridge.events.forward import Forward
from bridge.events.identify import Identify, IdentifySettings
from bridge.ingress.guarded import ServerLimits
from bridge.ingress.router import Flows, Router, RouterSettings
from bridge.ingress.server import HttpServer
from bridge.ledger.index import PROBE_KEY, Index, IndexSettings
from bridge.model.errors import CallbridgeError, Misconfigured, Unavailable
from bridge.providers.protocol import Provider
from bridge.runtime import memory
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.health import Health, beat
from bridge.runtime.log_sink import Sink
from bridge.runtime.logging import get_logger
from bridge.runtime.management import management_app
from bridge.runtime.metrics import Metrics
from bridge.runtime.supervisor import Supervisor

log = get_logger()

_KAFKA_LOOK_SECONDS = 1.0
_LAST_DIALS_SECONDS = 2.0  # after the lanes are closed: for dials that were begun just before

_Drain: TypeAlias = Callable[[], Awaitable[None]]


class _Shared(msgspec.Struct, frozen=True):
    """What several parts work with. `producer` is the one for webhooks and what follows from them."""

    bus: Bus
    producer: Producer
    index: Index
    connections: Mapping[str, Provider]


class Daemon:
    """One life: `assemble` is what the supervisor runs."""

    def __init__(
        self, checked: Checked, supervisor: Supervisor, *, dropped_log_lines: Callable[[], int] = lambda: 0
    ) -> None:
        self.clock: Clock = SystemClock()
        self._checked = checked
        self._config = checked.config
        self._supervisor = supervisor
        self._health = Health(self.clock, stuck_after_seconds=self._config.process.stuck_after_seconds)
        self.metrics = Metrics(
            connections=tuple(checked.connections),
            providers=tuple({kind.name for kind, _ in checked.connections.values()}),
            dropped_log_lines=dropped_log_lines,
        )
        self._partitions = checked.config.topics.commands.partitions
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
        config, supervisor = self._config, self._supervisor
        ready = {name: self._health.part(name) for name in ("kafka", "index", "actions", "webhooks", "commands")}
        supervisor.spawn("heartbeat", self._heartbeat)
        management = management_app(self._health, self.metrics)
        await self._listen("management", management, self._config.management.host, self._config.management.port)

        bus = KafkaBus(self._checked.kafka, config_file=self._checked.file)
        connections = await self._open_connections()
        await self._examine_topics(connections)
        ready["kafka"].ready()

        for_commands = await supervisor.open("producer of commands", bus.producer("commands"))
        for_webhooks = await supervisor.open("producer of webhooks", bus.producer("webhooks"))
        index = await self._open_index(bus, for_webhooks)
        ready["index"].ready()

        shared = _Shared(bus, for_webhooks, index, connections)
        flows, stop_keeper = await self._open_actions(shared)
        ready["actions"].ready()
        stop_webhooks = await self._listen_webhooks(flows)
        ready["webhooks"].ready()
        stop_commands = await self._open_commands(shared, for_commands)
        ready["commands"].ready()

        supervisor.on_soft_stop("readiness", self._unready)
        supervisor.on_soft_stop("commands", stop_commands)
        supervisor.on_soft_stop("webhooks", stop_webhooks)
        supervisor.on_soft_stop("keeper", stop_keeper)
        memory.settle()
        log.info("process.ready", host=config.ingress.host, port=self.ports["webhooks"])

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _unready(self) -> None:
        self._health.drain()

    async def _heartbeat(self) -> None:
        await beat(
            self._health,
            self.clock,
            every_seconds=self._config.process.heartbeat_seconds,
            on_lag=self.metrics.loop_lag_seconds.observe,
        )

    async def _examine_topics(self, connections: Mapping[str, Provider]) -> None:
        found = await examine(self._checked)
        self._partitions = found.commands_partitions
        for name, provider in connections.items():
            check_limits(name, provider.limits, found.commands_partitions, self._checked.file)
        for risk in found.risks:
            log.warning("topic.risky", detail=risk)

    async def _watch_kafka(self, producer: Producer) -> None:
        """Once an event could not be stored: try until something can be, and be ready again."""
        part = self._health.part("kafka")
        while True:
            await anyio.sleep(_KAFKA_LOOK_SECONDS)
            if part.reason is None:
                continue
            try:
                await producer.publish(self._config.topics.index.name, key=PROBE_KEY, value=None)
            except Unavailable as error:
                log.warning("kafka.unavailable", error=error)
            else:
                part.ready()

    async def _open_connections(self) -> dict[str, Provider]:
        return {
            name: await self._supervisor.open(f"connection {name}", kind.build(context))
            for name, (kind, context) in self._checked.connections.items()
        }

    async def _open_index(self, bus: Bus, producer: Producer) -> Index:
        config = self._config
        settings = IndexSettings(max_entries=config.index.max_entries)
        index = Index(config.topics.index.name, producer, self.clock, settings)
        tail = await self._supervisor.open("index", bus.tail(config.topics.index.name, from_beginning=True))
        self._supervisor.spawn("index reader", lambda: index.run(tail))
        with anyio.fail_after(config.index.load_seconds):
            await index.caught_up.wait()
        self.metrics.index_entries.set_function(lambda: len(index))
        return index

    async def _open_actions(self, shared: _Shared) -> tuple[Flows, _Drain]:
        config, clock, metrics, producer = self._config, self.clock, self.metrics, shared.producer
        most = config.ingress.max_held_requests
        pending: Pending[Waiter] = Pending(max_open=most, max_remembered=most)
        tokens = Tokens(self._token_keys())
        verdicts = Verdicts(
            producer, config.topics.action_results.name, source=config.process.source, clock=clock, metrics=metrics
        )
        dead_letters = DeadLetters(producer, config.topics.dead_letters.name)
        replies = Replies(pending, verdicts, metrics, RepliesSettings(max_record_bytes=config.actions.max_record_bytes))
        tail = await self._supervisor.open("actions", shared.bus.tail(config.topics.actions.name, from_beginning=False))
        self._supervisor.spawn("actions reader", lambda: replies.run(tail))
        keeper = Keeper(
            KeeperTools(shared.bus, shared.connections, verdicts, dead_letters, tokens, clock, metrics),
            KeeperSettings(
                actions_topic=config.topics.actions.name,
                results_topic=config.topics.action_results.name,
                group_id=config.actions.keeper_group_id,
                verdict_wait_seconds=config.actions.result_after_seconds,
                max_record_bytes=config.actions.max_record_bytes,
                commit_interval_seconds=config.actions.commit_interval_seconds,
            ),
        )
        flows = Flows(
            connections=shared.connections,
            identify=Identify(shared.index, clock, IdentifySettings()),
            forward=Forward(producer, config.topics.events.name, source=config.process.source),
            relay=Relay(pending, tokens, verdicts=verdicts, clock=clock, metrics=metrics),
            dead_letters=dead_letters,
            kafka=self._health.part("kafka"),
            clock=clock,
            metrics=metrics,
        )
        self._supervisor.spawn("kafka watch", lambda: self._watch_kafka(producer))
        return flows, self._spawn_stoppable("keeper", keeper.run, keeper.stop)

    def _token_keys(self) -> list[bytes]:
        sources = self._config.actions.reply_token_secrets
        if not sources:
            log.warning("tokens.unshared", detail="actions.reply_token_secrets is empty: right for one replica only")
        return [
            source.resolve(config_file=self._checked.file, path=f"actions.reply_token_secrets[{number}]")
            .reveal()
            .encode()
            for number, source in enumerate(sources)
        ]

    async def _listen_webhooks(self, flows: Flows) -> _Drain:
        ingress, events = self._config.ingress, self._config.events
        router = Router(
            flows,
            RouterSettings(
                max_body_bytes=ingress.max_body_bytes,
                max_in_progress=ingress.max_held_requests + events.max_publishing,
                publish_seconds=events.publish_seconds,
                retry_after_seconds=events.retry_after_seconds,
            ),
        )
        tls = None
        if ingress.tls_certificate_file is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(ingress.tls_certificate_file, ingress.tls_key_file)
        return await self._listen("webhooks", router, ingress.host, ingress.port, tls=tls)

    async def _open_commands(self, shared: _Shared, producer: Producer) -> _Drain:
        commands, topic_names = self._config.commands, self._config.topics
        reader = await self._supervisor.open("ledger reader", shared.bus.partition_reader())
        dials = await self._supervisor.open("dials", dialling(rest_seconds=_LAST_DIALS_SECONDS))
        tools = Tools(
            world=self._world(shared, producer, dials),
            ledger_topic=topic_names.ledger.name,
            producer=producer,
            reader=reader,
            dead_letters=DeadLetters(producer, topic_names.dead_letters.name),
            settings=LaneSettings(
                max_backlog=commands.max_backlog,
                reopen_seconds=self._checked.kafka.session_timeout_seconds,
                ownership=OwnershipSettings(
                    max_record_bytes=commands.max_record_bytes,
                    partitioner=commands.partitioner,
                    partition_of=partition_of(commands.partitioner, partitions=self._partitions),
                    recovery=RecoverySettings(evidence_seconds=commands.evidence_seconds),
                    sweep=SweepSettings(window_seconds=commands.deduplication_window_seconds),
                ),
            ),
        )
        settings = IntakeSettings(
            topic=topic_names.commands.name,
            group_id=commands.group_id,
            poll_records=commands.max_poll_records,
            poll_seconds=commands.poll_seconds,
            commit_interval_seconds=commands.commit_interval_seconds,
            drain_seconds=commands.drain_seconds,
            max_poison_in_a_row=commands.max_poison_in_a_row,
        )
        intake = Intake(shared.bus, tools, settings, on_poll=self._health.watch("commands"))
        shared.index.listeners.append(lambda _, known: intake.heard_of(known.partition, known.command_id or ""))

        def stop() -> None:
            self._health.forget("commands")  # while it drains it does not poll
            intake.stop()

        return self._spawn_stoppable("commands", intake.run, stop)

    def _world(self, shared: _Shared, producer: Producer, dials: Dials) -> World:
        commands, source = self._config.commands, self._config.process.source
        account_settings = AccountSettings(
            partitions=self._partitions,
            max_in_flight=commands.max_in_flight,
            inline_delay_seconds=commands.inline_delay_seconds,
            longest_pause_seconds=commands.longest_backoff_seconds,
        )
        return World(
            connections=shared.connections,
            accounts={
                name: Account(name, provider.limits, account_settings, self.clock)
                for name, provider in shared.connections.items()
            },
            dials=dials,
            index=shared.index,
            results=Results(
                producer, self._config.topics.results.name, source=source, clock=self.clock, metrics=self.metrics
            ),
            clock=self.clock,
            metrics=self.metrics,
            settings=DispatchSettings(
                limits=policy.Limits(
                    max_attempts=commands.max_attempts,
                    retry_base_seconds=commands.first_backoff_seconds,
                    retry_max_seconds=commands.longest_backoff_seconds,
                ),
                inline_delay_seconds=commands.inline_delay_seconds,
            ),
        )

    # -- how parts live ---------------------------------------------------------------------------------------------

    async def _listen(self, name: str, app: Any, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> _Drain:
        """Serve `app`; returns, once the port is bound, how to bring it to rest."""
        ingress = self._config.ingress
        limits = ServerLimits(
            max_header_bytes=ingress.max_header_bytes,
            max_body_bytes=ingress.max_body_bytes,
            max_connections=ingress.max_connections,
            receive_timeout_seconds=ingress.receive_timeout_seconds,
            keep_alive_seconds=ingress.keep_alive_seconds,
            drain_seconds=max(ingress.drain_seconds, 0.1),
        )
        server = HttpServer(
            app,
            host=host,
            port=port,
            limits=limits,
            on_reject=lambda kind: self.metrics.http_rejections.labels(kind=kind).inc(),
            ssl_context=tls,
        )
        listening = _Listening()

        async def serve() -> None:
            try:
                await server.serve(task_status=listening)
            except OSError as error:
                table, found = name.replace("webhooks", "ingress"), str(error.strerror)
                self.failure = Misconfigured(self._checked.file, table, found=found, allowed="a free address and port")
                raise self.failure from error

        drain = self._spawn_stoppable(name, serve, server.stop)
        await listening.bound.wait()
        self.ports[name] = listening.port
        return drain

    def _spawn_stoppable(self, name: str, run: Callable[[], Awaitable[None]], stop: Callable[[], None]) -> _Drain:
        """Start a task that ends by itself once it was told to; returns how to tell it and wait."""
        ended = anyio.Event()

        async def live() -> None:
            try:
                await run()
            finally:
                ended.set()

        async def drain() -> None:
            stop()
            await ended.wait()

        self._supervisor.spawn(name, live)
        return drain


class _Listening:
    """A task status that remembers the port."""

    def __init__(self) -> None:
        self.bound = anyio.Event()
        self.port = 0

    def started(self, value: int | None = None) -> None:
        """Called by the server when it listens."""
        self.port = value or 0
        self.bound.set()


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
