"""See to it that no action vanishes: each record of actions ends in one verdict, whoever could or could not use it.

A consumer group over the actions and their results, the same partitions together: a record whose verdict does not come
from the replica that held its question in time is given to the provider's live control where there is one, and else
expires. What cannot be read goes to dead letters, once. A keeper that dies between control and verdict leaves the
record to the next one, which does it again.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence

import anyio
import msgspec

from bridge.actions.given import Given, read_given
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.bus.dead_letters import DeadLetter, DeadLetters
from bridge.bus.protocol import Bus, GroupConsumer, Record, TopicPartition
from bridge.bus.watermark import Watermark
from bridge.model.actions import ActionStatus
from bridge.model.errors import Poison, Unavailable
from bridge.model.scrub import scrub
from bridge.providers.protocol import CanControl, Provider, Rejected
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class KeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long another replica's word is waited for, and how records are read."""

    actions_topic: str
    results_topic: str
    group_id: str
    verdict_wait_seconds: float = 6.0
    """Longer than the longest deadline of any question: then nobody can use the record any more."""
    unasked_wait_seconds: float = 0.5
    """For an action without a token whose provider can be controlled: time for an open question to take it."""
    poll_records: int = 500
    poll_seconds: float = 0.2
    max_record_bytes: int = 262_144
    commit_interval_seconds: float = 1.0
    max_waiting: int = 100_000
    """Records without a verdict; more, and reading waits."""
    retry_seconds: float = 0.5


class _Share:
    """What the keeper knows of one partition number: records that wait, verdicts that were seen."""

    def __init__(self) -> None:
        self.waiting: dict[str, Given] = {}
        self.deadlines: list[tuple[float, str]] = []
        self.seen: dict[str, None] = {}
        self.actions = Watermark()
        self.results: deque[tuple[float, int]] = deque()


class KeeperTools(msgspec.Struct, frozen=True):
    """What the keeper works with."""

    bus: Bus
    connections: Mapping[str, Provider]
    verdicts: Verdicts
    dead_letters: DeadLetters
    tokens: Tokens
    clock: Clock
    metrics: Metrics


class Keeper:
    """One member of the keeper's group."""

    def __init__(self, tools: KeeperTools, settings: KeeperSettings) -> None:
        self._tools = tools
        self._settings = settings
        self._shares: dict[int, _Share] = {}
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Read nothing more; `run` commits, leaves the group and returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Keep until `stop`."""
        settings = self._settings
        group = self._tools.bus.group(
            settings.group_id,
            [settings.actions_topic, settings.results_topic],
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )
        committed_at = self._tools.clock.monotonic()
        async with group as consumer:
            while not self._stopping.is_set():
                if sum(len(share.waiting) for share in self._shares.values()) < settings.max_waiting:
                    for record in await self._fetch(consumer):
                        await self._take(record)
                else:
                    await anyio.sleep(settings.poll_seconds)
                await self._expire()
                if self._tools.clock.monotonic() - committed_at >= settings.commit_interval_seconds:
                    committed_at = self._tools.clock.monotonic()
                    await self._commit(consumer)
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

    # -- records ----------------------------------------------------------------------------------------------------

    async def _take(self, record: Record) -> None:
        share = self._shares.setdefault(record.partition, _Share())
        if record.topic == self._settings.results_topic:
            self._take_verdict(share, record)
            return
        share.actions.started(record.offset)
        place = f"{record.topic}-{record.partition}-{record.offset}"
        if share.seen.pop(place, ...) is None:
            share.actions.finished(record.offset)
            return
        try:
            given = read_given(record, max_bytes=self._settings.max_record_bytes)
        except Poison as poison:
            await self._bury(record, poison)
            share.actions.finished(record.offset)
            return
        token = given.actions.in_reply_to
        if token is not None and not self._tools.tokens.genuine(token, given.reference):
            await self._tools.verdicts.publish(given, "rejected", reason="token_not_genuine")
            share.actions.finished(record.offset)
            return
        share.waiting[place] = given
        heapq.heappush(share.deadlines, (self._tools.clock.monotonic() + self._patience(given), place))

    def _take_verdict(self, share: _Share, record: Record) -> None:
        share.results.append((self._tools.clock.monotonic(), record.offset + 1))
        place = next((value for name, value in record.headers if name == "ce_id"), b"").decode().removesuffix(".result")
        waiting = share.waiting.pop(place, None)
        if waiting is not None:
            share.actions.finished(waiting.offset)
            return
        share.seen[place] = None
        while len(share.seen) > self._settings.max_waiting:
            del share.seen[next(iter(share.seen))]

    def _patience(self, given: Given) -> float:
        unasked = given.actions.in_reply_to is None
        if unasked and isinstance(self._tools.connections.get(given.connection), CanControl):
            return self._settings.unasked_wait_seconds
        return self._settings.verdict_wait_seconds

    async def _expire(self) -> None:
        """Bring what nobody used in time to its end."""
        now = self._tools.clock.monotonic()
        for share in list(self._shares.values()):
            late: list[tuple[str, Given]] = []
            while share.deadlines and share.deadlines[0][0] <= now and len(late) < self._settings.poll_records:
                place = heapq.heappop(share.deadlines)[1]
                if place in share.waiting:
                    late.append((place, share.waiting[place]))
            if late:
                await self._end(share, late)

    async def _end(self, share: _Share, late: list[tuple[str, Given]]) -> None:
        """Sessions side by side, the records of one in their order."""
        by_session: dict[str, list[Given]] = {}
        for _, given in late:
            by_session.setdefault(given.reference, []).append(given)
        async with anyio.create_task_group() as tasks:
            for records in by_session.values():
                tasks.start_soon(self._end_session, records)
        for place, given in late:
            share.waiting.pop(place, None)
            share.actions.finished(given.offset)

    async def _end_session(self, records: list[Given]) -> None:
        for given in records:
            provider: object = self._tools.connections.get(given.connection)
            if isinstance(provider, CanControl) and given.actions.actions:
                await self._control(provider, given)
            else:
                asked = given.actions.in_reply_to is not None
                reason = "no_replica_held_the_question" if asked else "no_question_was_open"
                await self._tools.verdicts.publish(given, "expired", reason=reason)

    async def _control(self, provider: CanControl, given: Given) -> None:
        """Another way to the call: the provider's live control."""
        verdicts = self._tools.verdicts
        try:
            await provider.control(given.session, given.actions.actions)
        except Poison as poison:
            await verdicts.publish(given, "rejected", reason="invalid_for_provider", detail=scrub(str(poison)))
        except Rejected as rejected:
            await verdicts.publish(given, "rejected", reason="refused_by_provider", detail=scrub(str(rejected)))
        except Unavailable as error:
            await verdicts.publish(given, "expired", reason="provider_unavailable", detail=scrub(str(error)))
        else:
            status: ActionStatus = "delivered" if given.actions.in_reply_to is None else "delivered_late"
            await verdicts.publish(given, status, delivered_by="control")

    async def _bury(self, record: Record, poison: Poison) -> None:
        letter = DeadLetter(
            source=record.topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            partition=record.partition,
            offset=record.offset,
        )
        while True:
            try:
                await self._tools.dead_letters.publish(letter, poison, at=self._tools.clock.now())
            except Unavailable:
                await anyio.sleep(self._settings.retry_seconds)
            else:
                break
        self._tools.metrics.dead_letters.labels(source="actions").inc()
        log.warning(
            "action.dead_letter",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(poison),
        )

    # -- membership -------------------------------------------------------------------------------------------------

    async def _on_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self._shares = {partition.partition: _Share() for partition in partitions}

    async def _on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Nothing to hand over: what has no verdict is read again by the next owner."""
        for partition in partitions:
            self._shares.pop(partition.partition, None)

    async def _commit(self, consumer: GroupConsumer) -> None:
        """Actions up to the first without a verdict. Verdicts only when no action can wait for one of them any more."""
        settled_before = self._tools.clock.monotonic() - 2 * self._settings.verdict_wait_seconds
        offsets: dict[TopicPartition, int] = {}
        for number, share in self._shares.items():
            offset = share.actions.committable
            if offset is not None:
                offsets[TopicPartition(self._settings.actions_topic, number)] = offset
            while share.results and share.results[0][0] < settled_before:
                offsets[TopicPartition(self._settings.results_topic, number)] = share.results.popleft()[1]
        if not offsets:
            return
        try:
            await consumer.commit(offsets)
        except Unavailable as error:
            log.warning("commit.waits", topic=self._settings.actions_topic, error=str(error))
            return
        for partition, offset in offsets.items():
            if partition.topic == self._settings.actions_topic and partition.partition in self._shares:
                self._shares[partition.partition].actions.committed(offset)
