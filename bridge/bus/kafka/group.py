"""A member of a consumer group: polling, the two hooks, commits, and an orderly departure.

Promises that `poll` gives nothing of a partition before `on_assigned` returned nor after `on_revoked` began, and that
whatever a hook raises comes out of the next `poll` (aiokafka swallows it). Who commits what, and bounding `on_revoked`
below the rebalance time-out, is left to the flows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from bridge.bus.kafka import internals
from bridge.bus.kafka.connection import Connection, describe, milliseconds, unavailable
from bridge.bus.kafka.records import flattened, make_consumer
from bridge.bus.protocol import Look, PartitionsHook, Record, TopicPartition
from bridge.model.errors import Broken, Unavailable

POLL_MARGIN_SECONDS: Final = 0.05

NOTHING: Final[frozenset[TopicPartition]] = frozenset()


class Hooks(NamedTuple):
    """What a flow does when partitions come and go."""

    on_assigned: PartitionsHook
    on_revoked: PartitionsHook


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called by aiokafka inside its coordination task, in which no heartbeat is sent while partitions are assigned.

    So `on_assigned` runs in a task of ours, which `on_revoked` cancels where it comes first; `on_revoked` is awaited,
    for only that holds the partitions back.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._held = NOTHING
        self._assigning: asyncio.Task[None] | None = None
        self._leaving = False
        self._one_at_a_time = asyncio.Lock()
        self.open = asyncio.Event()
        """Set while records may be given out, or an error waits to be raised."""
        self.error: Exception | None = None
        self.polling: asyncio.Timeout | None = None
        """The poll under way; a rebalance ends it, or it would go on to records `on_assigned` hasn't heard of."""

    async def on_partitions_assigned(self, assigned: frozenset[aiokafka.TopicPartition]) -> None:
        """Called by aiokafka after a rebalance."""
        if not self._leaving:
            self._held = frozenset(TopicPartition(each.topic, each.partition) for each in assigned)
            self._assigning = asyncio.create_task(self._assign(self._held), name="kafka-on-assigned")

    async def on_partitions_revoked(self, _revoked: frozenset[aiokafka.TopicPartition]) -> None:
        """Called by aiokafka before it joins the group again."""
        self._close()
        async with self._one_at_a_time:
            await self._revoke()

    async def leave(self) -> None:
        """The same by hand; aiokafka does not call a listener when it stops."""
        self._leaving = True
        self._close()
        async with self._one_at_a_time:
            await self._revoke()

    async def _assign(self, partitions: frozenset[TopicPartition]) -> None:
        try:
            if partitions:
                await self._hooks.on_assigned(partitions)
        except Exception as error:  # noqa: BLE001 - raised by the next poll
            self.error = error
        self.open.set()

    async def _revoke(self) -> None:
        if self._assigning is not None:
            self._assigning.cancel()
            await asyncio.wait({self._assigning})
            self._assigning = None
        held, self._held = self._held, NOTHING
        try:
            if held:
                await self._hooks.on_revoked(held)
        except Exception as error:  # noqa: BLE001 - raised by the next poll, or by leaving
            self.error = error
            self.open.set()

    def _close(self) -> None:
        if self.error is None:
            self.open.clear()
        if self.polling is not None and not self.polling.expired():
            self.polling.reschedule(asyncio.get_running_loop().time())


class KafkaGroupConsumer:
    """One member. Open it with `opened`."""

    def __init__(self, consumer: AIOKafkaConsumer, connection: Connection, listener: _Listener) -> None:
        self._consumer = consumer
        self._commit_timeout_seconds = connection.settings.commit_timeout_seconds
        self._leave_timeout_seconds = connection.settings.rebalance_timeout_seconds
        self._listener = listener
        self._last_answer = time.monotonic()

    async def poll(self, *, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records; waits out a rebalance as it waits for records."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            with internals.polling(self._consumer):
                # `getmany` keeps its time-out but for a rebalance that begins just then. Cancelling it loses
                # nothing (row 17): it doesn't wait again once it has taken records.
                async with asyncio.timeout_at(deadline + POLL_MARGIN_SECONDS) as self._listener.polling:
                    return await self._poll(max_records, deadline)
        except TimeoutError:
            self._raise_hook_error()
            return []
        except (KafkaError, OSError) as error:
            if internals.coordination_died(self._consumer):
                raise Broken(f"the task that keeps us in the group has ended: {describe(error)}") from error
            raise Unavailable(f"poll: {describe(error)}") from error
        finally:
            self._listener.polling = None

    def pause(self, partition: TopicPartition) -> None:
        """Deliver nothing of it."""
        if partition in self._consumer.assignment():
            self._consumer.pause(aiokafka.TopicPartition(*partition))

    def resume(self, partition: TopicPartition) -> None:
        """Deliver again."""
        if partition in self._consumer.assignment():
            self._consumer.resume(aiokafka.TopicPartition(*partition))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit; after the deadline nobody knows."""
        if not offsets:
            return
        if not internals.is_member(self._consumer):
            raise Unavailable("commit: this member has left its group, so its partitions may have another owner")
        with unavailable("commit"):
            async with asyncio.timeout(self._commit_timeout_seconds):
                await self._consumer.commit({aiokafka.TopicPartition(*each): at for each, at in offsets.items()})

    def last_look(self, partition: TopicPartition) -> Look | None:
        """When a broker last answered, and whether that was all."""
        if partition not in self._consumer.assignment():
            return None
        state = internals.partition_state(self._consumer, partition)
        if state.answered_at_ms is None or state.position is None:
            return None
        return Look(state.answered_at_ms / 1000, nothing_left=state.position == state.highwater)

    def seconds_since_contact(self) -> float:
        """How long ago any broker last sent anything to this member."""
        self._last_answer = max(self._last_answer, internals.last_answer(self._consumer))
        return time.monotonic() - self._last_answer

    async def leave(self) -> None:
        """Give everything back by hand; an error of the hook is raised. It has as long as in a rebalance."""
        with unavailable("leave: on_revoked"):
            async with asyncio.timeout(self._leave_timeout_seconds):
                await self._listener.leave()
        self._raise_hook_error()

    async def _poll(self, max_records: int, deadline: float) -> Sequence[Record]:
        internals.raise_errors(self._consumer)
        await self._listener.open.wait()
        self._raise_hook_error()
        remaining = max(0.0, deadline - asyncio.get_running_loop().time())
        fetched = await self._consumer.getmany(timeout_ms=milliseconds(remaining), max_records=max_records)
        return flattened(fetched)

    def _raise_hook_error(self) -> None:
        """An error is raised once by poll; nothing is given out afterwards until partitions are assigned again."""
        error, self._listener.error = self._listener.error, None
        if error is not None:
            self._listener.open.clear()
            raise error


def _make(connection: Connection, group_id: str) -> AIOKafkaConsumer:
    settings = connection.settings
    instance = connection.instance
    consumer = make_consumer(
        connection,
        group_id,
        fetch_max_wait_seconds=settings.fetch_max_wait_seconds,
        group_id=group_id,
        # Several groups of one process are several members: each needs a name of its own.
        group_instance_id=None if instance is None else f"{instance}-{group_id}",
        session_timeout_ms=milliseconds(settings.session_timeout_seconds),
        heartbeat_interval_ms=milliseconds(settings.heartbeat_interval_seconds),
        rebalance_timeout_ms=milliseconds(settings.rebalance_timeout_seconds),
        max_poll_interval_ms=milliseconds(settings.max_poll_interval_seconds),
        partition_assignment_strategy=(RangePartitionAssignor,),
    )
    seconds = settings.rebalance_timeout_seconds + settings.request_timeout_seconds
    internals.let_joins_wait(consumer, seconds=seconds)
    return consumer


@asynccontextmanager
async def opened(
    connection: Connection, group_id: str, topics: Sequence[str], hooks: Hooks
) -> AsyncIterator[KafkaGroupConsumer]:
    """A member for the length of the block. Entering doesn't wait for partitions: `on_assigned` tells of them."""
    consumer = await connection.started(lambda: _make(connection, group_id))
    internals.retrieve_commit_errors(consumer)
    listener = _Listener(hooks)
    member = KafkaGroupConsumer(consumer, connection, listener)
    try:
        for topic in topics:
            with unavailable(f"join {group_id}: topic {topic}"):
                await internals.topic_known(consumer, topic)
        consumer.subscribe(list(topics), listener=listener)
        yield member
        await member.leave()
    except BaseException:
        with contextlib.suppress(Unavailable):  # what ended the block says more
            await member.leave()
        raise
    finally:
        await connection.stop(consumer)
