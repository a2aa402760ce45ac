"""FLOW 2 and 3 built: events, held requests, actions, keeper."""

from __future__ import annotations

import anyio

from bridge.actions.errands import ErrandTools
from bridge.actions.keeper import Keeper, KeeperSettings
from bridge.actions.pending import Pending
from bridge.actions.relay import Relay, Waiter
from bridge.actions.replies import Replies, RepliesSettings, RepliesTools
from bridge.actions.sessions import Rules, Way
from bridge.actions.sockets import Sockets
from bridge.actions.teller import Teller
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.assembly.shared import Drain, House, Shared, spawn_stoppable
from bridge.assembly.watch import open_listeners, open_watchdog
from bridge.bus.dead_letters import DeadLetters
from bridge.bus.protocol import Producer
from bridge.configured import reply_token_keys
from bridge.events.forward import Forward
from bridge.events.identify import Identify, IdentifySettings
from bridge.events.late_dials import LateDials, LateDialsSettings
from bridge.ingress.passage import Flows
from bridge.ledger.index import PROBE_KEY
from bridge.model.errors import Unavailable
from bridge.providers.protocol import AnswersQuestions, CanControl
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
        give_up_seconds=config.actions.result_after_seconds,
    )
    anybody = open_listeners(shared)
    sockets = Sockets()
    teller = Teller(producer, config.topics.actions.name, tokens=tokens, metrics=house.metrics)
    settings = RepliesSettings(
        max_record_bytes=config.actions.max_record_bytes, fresh_seconds=config.actions.unasked_after_seconds / 2
    )
    replies = Replies(pending, RepliesTools(tokens, verdicts, sockets, house.clock, house.metrics, teller), settings)
    tail = await house.supervisor.open("actions", shared.bus.tail(config.topics.actions.name, from_beginning=False))
    house.supervisor.spawn("actions reader", lambda: replies.run(tail))
    forward = Forward(producer, config.topics.events.name, source=config.process.source)
    dead_letters = DeadLetters(producer, config.topics.dead_letters.name)
    tools = ErrandTools(
        connections=shared.connections,
        verdicts=verdicts,
        dead_letters=dead_letters,
        teller=teller,
        tokens=tokens,
        clock=house.clock,
        metrics=house.metrics,
    )
    watches = (await open_watchdog(shared, forward),)
    keeper = Keeper(shared.bus, tools, _rules(shared), _keeper_settings(house), watches=watches)
    flows = Flows(
        connections=shared.connections,
        identify=_identify(shared),
        forward=forward,
        relay=Relay(pending, tokens, verdicts=verdicts, clock=house.clock, metrics=house.metrics, anybody=anybody),
        dead_letters=dead_letters,
        kafka=house.health.part("kafka"),
        clock=house.clock,
        metrics=house.metrics,
        sockets=sockets,
    )
    house.supervisor.spawn("kafka watch", lambda: _watch_kafka(house, producer))
    return flows, spawn_stoppable(house.supervisor, "keeper", keeper.run, keeper.stop)


def _identify(shared: Shared) -> Identify:
    house = shared.house
    late_dials = LateDials(shared.index, house.clock, LateDialsSettings())
    house.supervisor.spawn("late dials", late_dials.run)
    settings = IdentifySettings(ended_session_seconds=house.config.index.ended_session_seconds)
    return Identify(shared.index, house.clock, settings, late_dials=late_dials)


def _keeper_settings(house: House) -> KeeperSettings:
    actions, topics = house.config.actions, house.config.topics
    return KeeperSettings(
        events_topic=topics.events.name,
        actions_topic=topics.actions.name,
        results_topic=topics.action_results.name,
        group_id=actions.keeper_group_id,
        max_record_bytes=actions.max_record_bytes,
        commit_interval_seconds=actions.commit_interval_seconds,
        silence_seconds=max(2.5, 4 * house.checked.kafka.fetch_max_wait_seconds),
    )


def _rules(shared: Shared) -> Rules:
    actions = shared.house.config.actions
    ways = {
        name: Way(
            controls=isinstance(provider, CanControl),
            answers=isinstance(provider, AnswersQuestions),
            session_seconds=min(provider.session_ttl_seconds, actions.quiet_session_seconds),
        )
        for name, provider in shared.connections.items()
    }
    return Rules(
        ways=ways,
        verdict_wait_seconds=actions.result_after_seconds,
        slack_seconds=actions.late_after_seconds,
        unasked_wait_seconds=actions.unasked_after_seconds,
        parked_seconds=actions.parked_seconds,
        max_parked_per_session=actions.max_parked_per_session,
        max_parked=actions.max_parked,
        max_sessions=actions.max_sessions,
    )


def _token_keys(house: House) -> list[bytes]:
    keys = reply_token_keys(house.checked)
    if not keys:
        log.warning("tokens.unshared", detail="actions.reply_token_secrets is empty: right for one replica only")
    return keys


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
