"""What watches the calls and the consumers, built: the watchdog, and who listens."""

from __future__ import annotations

from collections.abc import Callable

from bridge.actions.listeners import Listeners, ListenersSettings
from bridge.actions.silence import Silence, SilenceSettings
from bridge.actions.watchdog import Watchdog, WatchdogSettings, WatchdogTools, patience_of
from bridge.assembly.shared import Shared
from bridge.bus.kafka.partitioners import partition_of
from bridge.events.forward import Forward


def somebody() -> bool:
    """Without a group to ask for."""
    return True


def open_listeners(shared: Shared) -> Callable[[], bool]:
    """Begin to look at the consumers' group, if one is named; returns whether anybody listens."""
    actions = shared.house.config.actions
    if actions.consumer_group_id is None:
        return somebody
    settings = ListenersSettings(group_id=actions.consumer_group_id, look_seconds=actions.look_seconds)
    listeners = Listeners(settings, shared.house.metrics)
    shared.house.supervisor.spawn("listeners", lambda: listeners.run(shared.bus))
    return listeners.anybody


async def open_watchdog(shared: Shared, forward: Forward) -> Watchdog:
    """Watch for calls that never end; the keeper is to tell it what stands on the events topic.

    Raises:
        Unavailable: the cluster does not say how many partitions that has.
    """
    house, watchdog = shared.house, shared.house.config.watchdog
    topic = house.config.topics.events.name
    async with shared.bus.admin() as admin:
        found = (await admin.describe([topic])).get(topic)
    # One that was just made may not be visible yet.
    partitions = house.config.topics.events.partitions if found is None else found.partitions
    by_key = partition_of("murmur2", partitions=partitions)  # as our own producer does
    silence = Silence(
        patience_of(shared.connections),
        SilenceSettings(
            silent_seconds=watchdog.silent_seconds,
            longest_pause_seconds=watchdog.longest_pause_seconds,
            max_calls=house.config.index.max_entries,
        ),
        partition_of=by_key or (lambda _: 0),
        is_heard_of=lambda command_id: shared.index.heard_of(command_id) is not None,
    )
    dog = Watchdog(
        WatchdogTools(shared.connections, shared.index, forward.publish, house.clock, house.metrics),
        silence,
        WatchdogSettings(
            max_look_ups=watchdog.max_look_ups,
            look_up_seconds=watchdog.look_up_seconds,
            tick_seconds=watchdog.tick_seconds,
            ended_seconds=house.config.index.ended_session_seconds,
        ),
    )
    house.supervisor.spawn("watchdog", dog.run)
    return dog
