"""FLOW 1 built: intake, lanes, accounts and dials."""

from __future__ import annotations

from bridge.assembly.shared import Drain, Shared, spawn_stoppable
from bridge.bus.dead_letters import DeadLetters
from bridge.bus.kafka.partitioners import partition_of
from bridge.bus.protocol import Producer
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
from bridge.ledger.kept import KeepSettings, Kept

_LAST_DIALS_SECONDS = 2.0  # after the lanes are closed: for dials that were begun just before


async def open_commands(shared: Shared, producer: Producer) -> Drain:
    """Consume commands; `producer` is the one that carries claims and results."""
    house, config = shared.house, shared.house.config
    commands = config.commands
    reader = await house.supervisor.open("ledger reader", shared.bus.partition_reader())
    dials = await house.supervisor.open("dials", dialling(rest_seconds=_LAST_DIALS_SECONDS))
    keep = KeepSettings(
        keep_seconds=min(commands.keep_ledger_seconds, commands.deduplication_window_seconds / 2),
        max_entries=commands.keep_ledger_entries,
    )
    tools = Tools(
        world=_world(shared, producer, dials),
        kept=Kept(keep, house.clock),
        ledger_topic=config.topics.ledger.name,
        producer=producer,
        reader=reader,
        dead_letters=DeadLetters(producer, config.topics.dead_letters.name),
        settings=_lanes(shared),
    )
    settings = IntakeSettings(
        topic=config.topics.commands.name,
        group_id=commands.group_id,
        poll_records=commands.max_poll_records,
        poll_seconds=commands.poll_seconds,
        commit_interval_seconds=commands.commit_interval_seconds,
        drain_seconds=commands.drain_seconds,
        max_poison_in_a_row=commands.max_poison_in_a_row,
    )
    intake = Intake(shared.bus, tools, settings, on_poll=house.health.watch("commands"))
    shared.index.listeners.append(lambda _, known: intake.heard_of(known.partition, known.command_id or ""))

    def stop() -> None:
        house.health.forget("commands")  # while it drains it does not poll
        intake.stop()

    return spawn_stoppable(house.supervisor, "commands", intake.run, stop)


def _lanes(shared: Shared) -> LaneSettings:
    commands = shared.house.config.commands
    return LaneSettings(
        max_backlog=commands.max_backlog,
        reopen_seconds=shared.house.checked.kafka.session_timeout_seconds,
        ownership=OwnershipSettings(
            max_record_bytes=commands.max_record_bytes,
            partitioner=commands.partitioner,
            partition_of=partition_of(commands.partitioner, partitions=shared.partitions),
            recovery=RecoverySettings(evidence_seconds=commands.evidence_seconds),
            sweep=SweepSettings(window_seconds=commands.deduplication_window_seconds),
        ),
    )


def _world(shared: Shared, producer: Producer, dials: Dials) -> World:
    house, config = shared.house, shared.house.config
    commands = config.commands
    account_settings = AccountSettings(
        partitions=shared.partitions,
        max_in_flight=commands.max_in_flight,
        inline_delay_seconds=commands.inline_delay_seconds,
        longest_pause_seconds=commands.longest_backoff_seconds,
        longest_retry_after_seconds=commands.longest_retry_after_seconds,
    )
    accounts = {
        name: Account(name, provider.limits, account_settings, house.clock)
        for name, provider in shared.connections.items()
    }
    for name, account in accounts.items():
        house.metrics.account_paused_seconds.labels(connection=name).set_function(account.paused_seconds)
    return World(
        connections=shared.connections,
        accounts=accounts,
        dials=dials,
        index=shared.index,
        results=Results(
            producer, config.topics.results.name, source=config.process.source, clock=house.clock, metrics=house.metrics
        ),
        clock=house.clock,
        metrics=house.metrics,
        settings=DispatchSettings(
            limits=policy.Limits(
                max_attempts=commands.max_attempts,
                retry_base_seconds=commands.first_backoff_seconds,
                retry_max_seconds=commands.longest_backoff_seconds,
                longest_retry_after_seconds=commands.longest_retry_after_seconds,
            ),
            inline_delay_seconds=commands.inline_delay_seconds,
        ),
    )
