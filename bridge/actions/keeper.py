"""See to it that no action vanishes: each record of actions ends in one verdict, whoever could or could not use it.

A consumer group over events, actions and results, the same partition numbers together, so that one keeper sees a session
whole. What becomes of each record is decided in `share` (pure) and done by `errands`; here is what is read, what is
committed, and who owns what. After a rebalance the new owner reads on from the commits and so knows all of it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anyio
import msgspec

from bridge.actions.errands import Bury, Calm, Errands, ErrandTools, Holding
from bridge.actions.given import read_given
from bridge.actions.notes import is_note, read_note
from bridge.actions.seen import Seen, read_seen, read_verdict
from bridge.actions.sessions import Rules
from bridge.actions.share import Share
from bridge.bus.protocol import Bus, GroupConsumer, Record, TopicPartition
from bridge.model.errors import Poison, Unavailable
from bridge.runtime.logging import get_logger

log = get_logger()


class Watch(Protocol):
    """Who else wants to hear of the sessions whose partitions this keeper has."""

    def assigned(self, partitions: frozenset[int]) -> None:
        """These are ours now; their events come from the commit on."""
        ...

    def revoked(self, partitions: frozenset[int]) -> None:
        """These are not ours any more."""
        ...

    def seen(self, partition: int, seen: Seen, offset: int) -> None:
        """An event."""
        ...

    def oldest_needed(self, partition: int) -> int | None:
        """The first event that the next owner must read again; None: none."""
        ...


class KeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is read, and how. Times and bounds of what is done with it are `Rules`."""

    events_topic: str
    actions_topic: str
    results_topic: str
    group_id: str
    poll_records: int = 500
    poll_seconds: float = 0.1
    max_record_bytes: int = 262_144
    commit_interval_seconds: float = 1.0
    max_waiting: int = 100_000
    """Records without a verdict; at more, no further actions are read until there are fewer."""
    rest_seconds: float = 5.0
    """How long errands may go on when partitions go elsewhere, or at the end. Below the rebalance time-out."""
    retry_seconds: float = 0.5
    silence_seconds: float = 2.5
    """Without an answer of a broker: well above what a broker waits for records before it says that there are none."""


class Keeper:
    """One member of the keeper's group."""

    def __init__(
        self, bus: Bus, tools: ErrandTools, rules: Rules, settings: KeeperSettings, *, watches: Sequence[Watch] = ()
    ) -> None:
        self._bus = bus
        self._tools = tools
        self._rules = rules
        self._settings = settings
        self._watches = watches
        self._holdings: dict[int, Holding] = {}
        self._errands: Errands | None = None
        self._full = False
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Read nothing more; `run` finishes its errands, commits, leaves the group and returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Keep until `stop`."""
        settings = self._settings
        topics = [settings.events_topic, settings.actions_topic, settings.results_topic]
        async with anyio.create_task_group() as tasks:
            self._errands = errands = Errands(self._tools, tasks)
            group = self._bus.group(
                settings.group_id, topics, on_assigned=self._on_assigned, on_revoked=self._on_revoked
            )
            async with group as consumer:
                await self._keep(consumer, errands)
                await errands.rest(seconds=settings.rest_seconds)
                await self._commit(consumer)
            tasks.cancel_scope.cancel()

    async def _keep(self, consumer: GroupConsumer, errands: Errands) -> None:
        clock = self._tools.clock
        committed_at = clock.monotonic()
        while not self._stopping.is_set():
            for record in await self._fetch(consumer):
                holding = self._holdings.get(record.partition)
                if holding is not None:
                    self._take(holding, record, errands)
            self._tick(consumer, errands)
            self._balance(consumer)
            if clock.monotonic() - committed_at >= self._settings.commit_interval_seconds:
                committed_at = clock.monotonic()
                await self._commit(consumer)

    async def _fetch(self, consumer: GroupConsumer) -> Sequence[Record]:
        """The next records; none while Kafka is away."""
        try:
            return await consumer.poll(
                max_records=self._settings.poll_records, timeout_seconds=self._settings.poll_seconds
            )
        except Unavailable as error:
            log.warning("poll.waits", topic=self._settings.actions_topic, error=error)
            await anyio.sleep(self._settings.retry_seconds)
            return ()

    # -- records ------------------------------------------------------------------------------------------------------

    def _take(self, holding: Holding, record: Record, errands: Errands) -> None:
        now = self._tools.clock.now().timestamp()
        if record.topic == self._settings.actions_topic:
            self._take_action(holding, record, errands, now)
        elif record.topic == self._settings.events_topic:
            holding.progress.event(record.offset)
            seen = read_seen(record)
            if seen is not None:
                for watch in self._watches:
                    watch.seen(record.partition, seen, record.offset)
                errands.put(holding, holding.share.event(seen, record.offset, now))
        else:
            verdict = read_verdict(record, self._settings.actions_topic)
            holding.progress.result(record.offset, None if verdict is None else verdict.offset)
            if verdict is not None and holding.share.verdict(verdict, record.offset, now):
                holding.progress.actions.finished(verdict.offset)

    def _take_action(self, holding: Holding, record: Record, errands: Errands, now: float) -> None:
        share, watermark = holding.share, holding.progress.actions
        watermark.started(record.offset)
        try:
            if is_note(record):
                _, note = read_note(record, self._tools.tokens)
                share.noted(note)
                watermark.finished(record.offset)
                return
            given = read_given(record, max_bytes=self._settings.max_record_bytes)
        except Poison as poison:
            errands.put(holding, [Bury(record, poison)])
            return
        token = given.actions.in_reply_to
        genuine = token is None or self._tools.tokens.genuine(token, given.reference)
        if not share.action(given, now, genuine=genuine):
            watermark.finished(record.offset)

    def _tick(self, consumer: GroupConsumer, errands: Errands) -> None:
        now = self._tools.clock.now().timestamp()
        paused = self._settings.actions_topic if self._full else None
        for holding in self._holdings.values():
            time = min(now, holding.time(consumer.last_look, paused=paused))
            if time:
                errands.put(holding, holding.share.tick(time))
        self._tools.metrics.parked_actions.set(sum(holding.share.parked for holding in self._holdings.values()))

    def _balance(self, consumer: GroupConsumer) -> None:
        """Read no more actions than fit, and go on with the rest: it is what makes room."""
        full = sum(len(holding.share) for holding in self._holdings.values()) >= self._settings.max_waiting
        if full == self._full:
            return
        self._full = full
        for number in self._holdings:
            partition = TopicPartition(self._settings.actions_topic, number)
            if full:
                consumer.pause(partition)
            else:
                consumer.resume(partition)
        log.warning("keeper.full" if full else "keeper.reads_on", topic=self._settings.actions_topic)

    # -- membership ---------------------------------------------------------------------------------------------------

    async def _on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        numbers = frozenset(each.partition for each in partitions)
        self._full = False
        self._holdings = {number: self._hold(number) for number in numbers}
        for watch in self._watches:
            watch.assigned(numbers)

    def _hold(self, number: int) -> Holding:
        settings = self._settings
        topics = (settings.results_topic, settings.events_topic, settings.actions_topic)
        calm = Calm(settings.silence_seconds, self._rules.slack_seconds)
        return Holding(number, Share(number, self._rules), topics, calm)

    async def _on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """What is under way is finished; what has no verdict then is read again by the next owner."""
        numbers = frozenset(each.partition for each in partitions)
        gone = [holding for number in numbers if (holding := self._holdings.pop(number, None)) is not None]
        for watch in self._watches:
            watch.revoked(numbers)
        for holding in gone:
            holding.gone = True
        if self._errands is not None and gone:
            await self._errands.rest(seconds=self._settings.rest_seconds)

    async def _commit(self, consumer: GroupConsumer) -> None:
        settings = self._settings
        topics = {
            "events": settings.events_topic,
            "actions": settings.actions_topic,
            "results": settings.results_topic,
        }
        found: dict[int, dict[str, int]] = {}
        for number, holding in self._holdings.items():
            sessions = holding.share.sessions
            events = [sessions.first_event, *(each.oldest_needed(number) for each in self._watches)]
            found[number] = holding.progress.committable(events, [sessions.first_verdict])
        offsets = {
            TopicPartition(topics[use], number): at for number, uses in found.items() for use, at in uses.items()
        }
        if not offsets:
            return
        holdings = dict(self._holdings)
        try:
            await consumer.commit(offsets)
        except Unavailable as error:
            log.warning("commit.waits", topic=settings.actions_topic, error=str(error))
            return
        for number, uses in found.items():
            holdings[number].progress.committed(uses)
