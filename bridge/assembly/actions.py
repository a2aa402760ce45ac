"""FLOW 2 and 3 built: events, held requests, actions, keeper."""

from __future__ import annotations

import anyio

from bridge.actions.keeper import Keeper, KeeperSettings, KeeperTools
from bridge.actions.pending import Pending
from bridge.actions.relay import Relay, Waiter
from bridge.actions.replies import Replies, RepliesSettings
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.assembly.shared import Drain, House, Shared, spawn_stoppable
from bridge.bus.dead_letters import DeadLetters
from bridge.bus.protocol import Producer
from bridge.events.forward import Forward
from bridge.events.identify import Identify, IdentifySettings
from bridge.ingress.router import Flows
from bridge.ledger.index import PROBE_KEY
from bridge.model.errors import Unavailable
from bridge.runtime.logging import get_logger

log = get_logger()

_KAFKA_LOOK_SECONDS = 1.0


async def open_actions(shared: Shared) -> tuple[Flows, Drain]:
    """Listen for actions; returns what the webhooks' router needs, and how to stop the keeper."""
    house, config, producer = shared.house, shared.house.config, shared.producer
    most = config.ingress.max_held_requests
    pending: Pending[Waiter] = Pending(max_open=most, max_remembered=most)
    tokens = Tokens(_token_keys(house))
    verdicts = Verdicts(
        producer,
        config.topics.action_results.name,
        source=config.process.source,
        clock=house.clock,
        metrics=house.metrics,
    )
    dead_letters = DeadLetters(producer, config.topics.dead_letters.name)
    replies = Replies(
        pending, verdicts, house.metrics, RepliesSettings(max_record_bytes=config.actions.max_record_bytes)
    )
    tail = await house.supervisor.open("actions", shared.bus.tail(config.topics.actions.name, from_beginning=False))
    house.supervisor.spawn("actions reader", lambda: replies.run(tail))
    keeper = Keeper(
        KeeperTools(shared.bus, shared.connections, verdicts, dead_letters, tokens, house.clock, house.metrics),
        _keeper_settings(house),
    )
    flows = Flows(
        connections=shared.connections,
        identify=Identify(shared.index, house.clock, IdentifySettings()),
        forward=Forward(producer, config.topics.events.name, source=config.process.source),
        relay=Relay(pending, tokens, verdicts=verdicts, clock=house.clock, metrics=house.metrics),
        dead_letters=dead_letters,
        kafka=house.health.part("kafka"),
        clock=house.clock,
        metrics=house.metrics,
    )
    house.supervisor.spawn("kafka watch", lambda: _watch_kafka(house, producer))
    return flows, spawn_stoppable(house.supervisor, "keeper", keeper.run, keeper.stop)


def _keeper_settings(house: House) -> KeeperSettings:
    actions, topics = house.config.actions, house.config.topics
    return KeeperSettings(
        actions_topic=topics.actions.name,
        results_topic=topics.action_results.name,
        group_id=actions.keeper_group_id,
        verdict_wait_seconds=actions.result_after_seconds,
        max_record_bytes=actions.max_record_bytes,
        commit_interval_seconds=actions.commit_interval_seconds,
    )


def _token_keys(house: House) -> list[bytes]:
    sources = house.config.actions.reply_token_secrets
    if not sources:
        log.warning("tokens.unshared", detail="actions.reply_token_secrets is empty: right for one replica only")
    return [
        source.resolve(config_file=house.checked.file, path=f"actions.reply_token_secrets[{number}]").reveal().encode()
        for number, source in enumerate(sources)
    ]


async def _watch_kafka(house: House, producer: Producer) -> None:
    """Once an event could not be stored: try until something can be, and be ready again."""
    part = house.health.part("kafka")
    while True:
        await anyio.sleep(_KAFKA_LOOK_SECONDS)
        if part.reason is None:
            continue
        try:
            await producer.publish(house.config.topics.index.name, key=PROBE_KEY, value=None)
        except Unavailable as error:
            log.warning("kafka.unavailable", error=error)
        else:
            part.ready()
