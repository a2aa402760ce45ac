"""Take events as a member of a group and give each to its handler: in order in a session, sessions side by side.

Promises at-least-once: an event's offset is committed when its handler has returned. An event that Kafka kept from
being answered is tried again; one whose handler failed or took too long, or that cannot be read, is logged and counts
as handled. Bounded: so many handlers at once, so many events in hand; more, and partitions are paused.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from time import time

import anyio
from anyio.abc import TaskGroup

from bridge.bus.protocol import Bus, GroupConsumer, Record, TopicPartition
from bridge.bus.watermark import Watermark
from bridge.client.agent import Agent, Handler
from bridge.client.awaited import NotYet
from bridge.client.heard import Act, Heard
from bridge.client.reading import kind_of, read_event, trace_of
from bridge.client.settings import Hearing
from bridge.client.tasks import task_group
from bridge.model.errors import Poison, Unavailable
from bridge.model.events import Event, event_type

log = logging.getLogger("bridge.client")


class _Share:
    """One partition as long as it is ours."""

    def __init__(self) -> None:
        self.watermark = Watermark()
        self.closing = False
        self._at_work: set[anyio.CancelScope] = set()
        self._at_rest = anyio.Event()

    def enter(self, scope: anyio.CancelScope) -> None:
        """A handler begins."""
        self._at_work.add(scope)

    def leave(self, scope: anyio.CancelScope) -> None:
        """It has ended, somehow."""
        self._at_work.discard(scope)
        if self.closing and not self._at_work:
            self._at_rest.set()

    async def close(self, seconds: float) -> None:
        """Begin nothing more, and wait for what is at work; what takes too long is cut off, and comes again."""
        self.closing = True
        if self._at_work:
            with anyio.move_on_after(seconds):
                await self._at_rest.wait()
        for scope in self._at_work:
            scope.cancel()


class _Item:
    """An event in hand."""

    __slots__ = ("record", "share")

    def __init__(self, record: Record, share: _Share) -> None:
        self.record = record
        self.share = share


class Ear:
    """One member of an agent's group."""

    def __init__(self, bus: Bus, topic: str, agent: Agent, settings: Hearing, *, act: Act) -> None:
        self._bus = bus
        self._topic = topic
        self._agent = agent
        self._settings = settings
        self._act = act
        self._shares: dict[TopicPartition, _Share] = {}
        self._sessions: dict[bytes, deque[_Item]] = {}
        self._in_hand = 0
        self._paused = False
        self._workers = anyio.Semaphore(settings.max_parallel, fast_acquire=True)
        self._on_ready: Callable[[], None] = lambda: None
        self._stop = anyio.Event()
        self._consumer: GroupConsumer | None = None

    async def hear(self, stop: anyio.Event, on_ready: Callable[[], None]) -> None:
        """Until `stop`. Leaving the group waits for handlers at work and commits.

        Raises:
            Broken: this member can never get partitions again.
        """
        self._on_ready, self._stop = on_ready, stop
        group = self._bus.group(
            self._agent.group_id, [self._topic], on_assigned=self._on_assigned, on_revoked=self._on_revoked
        )
        async with task_group() as tasks:
            async with group as self._consumer:
                await self._poll(self._consumer, tasks)
            tasks.cancel_scope.cancel()

    async def _poll(self, consumer: GroupConsumer, tasks: TaskGroup) -> None:
        committed_at = anyio.current_time()
        while not self._stop.is_set():
            for record in await self._fetch(consumer):
                self._take(record, tasks)
            self._balance(consumer)
            if anyio.current_time() - committed_at >= self._settings.commit_interval_seconds:
                committed_at = anyio.current_time()
                await self._commit(list(self._shares))

    async def _fetch(self, consumer: GroupConsumer) -> Sequence[Record]:
        settings = self._settings
        try:
            return await consumer.poll(max_records=settings.poll_records, timeout_seconds=settings.poll_seconds)
        except Unavailable as error:
            log.warning("events cannot be read just now: %s", error)
            await anyio.sleep(settings.retry_seconds)
            return ()

    def _take(self, record: Record, tasks: TaskGroup) -> None:
        """Put a record behind the others of its session; what nobody handles is done at once."""
        share = self._shares.get(TopicPartition(record.topic, record.partition))
        if share is None:
            return
        share.watermark.started(record.offset)
        if not self._agent.hears(kind_of(record)) or self._is_stale(record):
            share.watermark.finished(record.offset)
            return
        key = record.key or b""
        self._in_hand += 1
        waiting = self._sessions.get(key)
        if waiting is None:
            self._sessions[key] = deque((_Item(record, share),))
            tasks.start_soon(self._work, key)
        else:
            waiting.append(_Item(record, share))

    def _is_stale(self, record: Record) -> bool:
        limit = self._settings.stale_after_seconds
        return limit is not None and time() - record.timestamp_ms / 1000 > limit

    def _balance(self, consumer: GroupConsumer) -> None:
        """Pause when there is enough in hand; go on when half of it is done."""
        if not self._paused and self._in_hand >= self._settings.max_in_hand:
            self._paused = True
            for partition in self._shares:
                consumer.pause(partition)
        elif self._paused and self._in_hand <= self._settings.max_in_hand // 2:
            self._paused = False
            for partition in self._shares:
                consumer.resume(partition)

    # -- one session ------------------------------------------------------------------------------------------------

    async def _work(self, key: bytes) -> None:
        """A session's events, one after the other, as long as there are any."""
        waiting = self._sessions[key]
        while waiting:
            async with self._workers:
                await self._one(waiting[0])
            waiting.popleft()
            self._in_hand -= 1
        del self._sessions[key]

    async def _one(self, item: _Item) -> None:
        """One event, unless we stop or its partition is going elsewhere: then it is the next owner's."""
        share = item.share
        if share.closing or self._stop.is_set():
            return
        with anyio.CancelScope() as scope:
            share.enter(scope)
            try:
                await self._give(item.record)
                share.watermark.finished(item.record.offset)
            finally:
                share.leave(scope)

    async def _give(self, record: Record) -> None:
        try:
            event = read_event(record)
        except Poison as poison:
            place = f"{record.topic}/{record.partition}/{record.offset}"
            log.warning("unreadable event at %s: %s", place, poison.field)
            return
        handler = self._agent.handler_of(event)
        if handler is None:
            return
        heard = Heard(event, self._act, trace_of(record))
        while True:
            if await self._handled(handler, heard):
                return
            await anyio.sleep(self._settings.retry_seconds)

    async def _handled(self, handler: Handler[Event], heard: Heard[Event]) -> bool:
        """Whether the handler is done with the event; False: Kafka kept it from that."""
        what = event_type(heard.event), heard.event.event_id
        try:
            if self._agent.is_mine(heard.event):
                with anyio.fail_after(self._settings.handler_seconds):
                    await handler(heard)
        except NotYet as error:  # once more would send once more what it waits for
            log.error("the handler of %s %s failed: %s", *what, error)  # noqa: TRY400
        except Unavailable as error:
            log.warning("the handler of %s %s comes again: %s", *what, error)
            return False
        except Exception as error:  # noqa: BLE001 - somebody else's code; one event's failure is not the program's
            # The frames only: an error's text may hold what was said in the call.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("the handler of %s %s failed: %s\n%s", *what, type(error).__name__, frames)  # noqa: TRY400
        return True

    # -- membership -------------------------------------------------------------------------------------------------

    async def _on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self._paused = False  # partitions arrive unpaused
        for partition in partitions:
            self._shares[partition] = _Share()
        self._on_ready()

    async def _on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        shares = [self._shares[partition] for partition in partitions if partition in self._shares]
        async with anyio.create_task_group() as tasks:
            for share in shares:
                tasks.start_soon(share.close, self._settings.drain_seconds)
        await self._commit(list(partitions))
        for partition in partitions:
            self._shares.pop(partition, None)

    async def _commit(self, partitions: Sequence[TopicPartition]) -> None:
        """What is finished without a gap. Where that fails, the events come again."""
        offsets: dict[TopicPartition, int] = {}
        for partition in partitions:
            share = self._shares.get(partition)
            offset = None if share is None else share.watermark.committable
            if offset is not None:
                offsets[partition] = offset
        if not offsets or self._consumer is None:
            return
        try:
            await self._consumer.commit(offsets)
        except Unavailable as error:
            log.warning("offsets cannot be committed just now: %s", error)
            return
        for partition, offset in offsets.items():
            if partition in self._shares:
                self._shares[partition].watermark.committed(offset)
