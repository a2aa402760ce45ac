"""Do what the shares decide: live control, verdicts, notes, dead letters; sessions side by side, each in its order.

Promises that a verdict is stored before its record counts as settled, and that nothing is begun any more for a share
that was given away. A keeper that dies between control and verdict leaves the record to the next one, which does it
again: an action may be done twice then, but never has two verdicts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup

from bridge.actions.given import Given, Verdict
from bridge.actions.progress import Progress
from bridge.actions.share import Control, Say, Share, Step, Tell
from bridge.actions.teller import Teller
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.bus.dead_letters import DeadLetter, DeadLetters
from bridge.bus.protocol import Look, Record, TopicPartition
from bridge.model.actions import ActionStatus
from bridge.model.errors import Poison, Unavailable
from bridge.model.scrub import scrub
from bridge.providers.protocol import CanControl, NotThisWay, Provider, Rejected
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()

_LAST_TRIES = 3


class Bury(msgspec.Struct, frozen=True):
    """Keep what nobody can read."""

    record: Record
    poison: Poison


Errand: TypeAlias = Step | Bury


class _Reading:
    """How far one topic has been read, as times."""

    __slots__ = ("answered_at", "read_until")

    def __init__(self) -> None:
        self.answered_at = 0.0
        self.read_until = 0.0


class Calm(msgspec.Struct, frozen=True):
    """After so long without an answer of a broker the time stands still for so long."""

    after_seconds: float
    seconds: float


class Holding:
    """A partition number that this keeper owns, until `gone`."""

    def __init__(self, partition: int, share: Share, topics: Iterable[str], calm: Calm) -> None:
        """`topics`: those that must have been read for the share's time to go on."""
        self.partition = partition
        self.share = share
        self.progress = Progress()
        self.gone = False
        self._reading = {TopicPartition(topic, partition): _Reading() for topic in topics}
        self._calm = calm
        self._calm_from = 0.0

    def time(self, last_look: Callable[[TopicPartition], Look | None], *, paused: str | None = None) -> float:
        """The time up to which all is read that could speak of the share's records; 0: not known yet.

        After a while without answers (Kafka was away, we were asleep) it stands still for a moment more: what others
        could not write meanwhile comes now, and what is not ours any more is about to be taken from us. `paused`: a
        topic that is not read now, and not waited for.
        """
        for partition, reading in self._reading.items():
            look = last_look(partition)
            if look is None:
                continue
            if look.at - reading.answered_at > self._calm.after_seconds:
                self._calm_from = max(self._calm_from, look.at + self._calm.seconds)
            reading.answered_at = look.at
            if look.nothing_left:
                reading.read_until = look.at
        until = min(each.read_until for where, each in self._reading.items() if where.topic != paused)
        return until if until >= self._calm_from else 0.0

    def settle(self, offset: int, *, delivered: bool) -> None:
        """The record's verdict is stored."""
        if self.share.settled(offset, delivered=delivered):
            self.progress.actions.finished(offset)


class ErrandTools(msgspec.Struct, frozen=True, kw_only=True):
    """What errands are done with."""

    connections: Mapping[str, Provider]
    verdicts: Verdicts
    dead_letters: DeadLetters
    teller: Teller
    tokens: Tokens
    clock: Clock
    metrics: Metrics
    max_at_once: int = 64
    retry_seconds: float = 0.5


class Errands:
    """Runs them in a task group that outlives them. A queue holds at most what its share holds, which is bounded."""

    def __init__(self, tools: ErrandTools, tasks: TaskGroup) -> None:
        self._tools = tools
        self._tasks = tasks
        self._queues: dict[tuple[int, str], deque[tuple[Holding, Errand]]] = {}
        self._limit = anyio.Semaphore(tools.max_at_once)
        self._idle = anyio.Event()

    def put(self, holding: Holding, errands: Iterable[Errand]) -> None:
        """Have these done, each after the earlier ones of its session."""
        for errand in errands:
            line = (id(holding), _whose(errand))
            queue = self._queues.get(line)
            if queue is None:
                queue = self._queues[line] = deque()
                self._tasks.start_soon(self._work_off, line, queue)
            queue.append((holding, errand))

    async def rest(self, *, seconds: float) -> None:
        """Wait until nothing is left to do, but not longer."""
        with anyio.move_on_after(seconds):
            while self._queues:
                self._idle = anyio.Event()
                await self._idle.wait()

    async def _work_off(self, line: tuple[int, str], queue: deque[tuple[Holding, Errand]]) -> None:
        async with self._limit:
            while queue:
                holding, errand = queue.popleft()
                if not holding.gone:
                    await self._do(holding, errand)
        del self._queues[line]
        if not self._queues:
            self._idle.set()

    async def _do(self, holding: Holding, errand: Errand) -> None:
        match errand:
            case Control():
                if holding.share.wants(errand.given.offset):
                    await self._control(holding, errand)
            case Say():
                if holding.share.wants(errand.verdict.given.offset):
                    await self._store(holding, errand.verdict)
            case Tell():
                await self._tools.teller.tell(errand.reference, holding.partition, errand.note)
            case Bury():
                await self._bury(holding, errand)

    async def _control(self, holding: Holding, errand: Control) -> None:
        """Another way to the call: the provider's live control."""
        given = errand.given
        provider: object = self._tools.connections.get(given.connection)
        if not isinstance(provider, CanControl):
            raise TypeError(f"{given.connection} cannot be controlled")
        try:
            await provider.control(given.session, given.actions.actions)
        except NotThisWay:
            self.put(holding, holding.share.not_this_way(given.offset, self._tools.clock.now().timestamp()))
        except Poison as poison:
            await self._store(holding, _ended(given, "rejected", "invalid_for_provider", str(poison)))
        except Rejected as rejected:
            await self._store(holding, _ended(given, "rejected", "refused_by_provider", str(rejected)))
        except Unavailable as error:
            await self._store(holding, _ended(given, "expired", "provider_unavailable", str(error)))
        else:
            status: ActionStatus = "delivered" if given.actions.in_reply_to is None else "delivered_late"
            done = Verdict(given=given, status=status, delivered_by="control", event_id=errand.event_id)
            await self._store(holding, done)

    async def _store(self, holding: Holding, verdict: Verdict) -> None:
        """Until Kafka has it. For what was given away meanwhile a few tries are enough: the next owner speaks then."""
        tries = 0
        while holding.share.wants(verdict.given.offset) and (tries < _LAST_TRIES or not holding.gone):
            tries += 1
            try:
                await self._tools.verdicts.store(verdict)
            except Unavailable as error:
                log.warning("verdict.waits", action_id=verdict.given.action_id, error=str(error))
                await anyio.sleep(self._tools.retry_seconds)
            else:
                holding.settle(verdict.given.offset, delivered=verdict.status.startswith("delivered"))

    async def _bury(self, holding: Holding, errand: Bury) -> None:
        record, metrics = errand.record, self._tools.metrics
        letter = DeadLetter.of(record)
        while not holding.gone:
            try:
                await self._tools.dead_letters.publish(letter, errand.poison, at=self._tools.clock.now())
            except Unavailable as error:
                log.warning("dead_letter.waits", topic=record.topic, error=str(error))
                await anyio.sleep(self._tools.retry_seconds)
            else:
                metrics.dead_letters.labels(source="actions").inc()
                log.warning(
                    "action.dead_letter",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    error=str(errand.poison),
                )
                holding.progress.actions.finished(record.offset)
                return


def _ended(given: Given, status: ActionStatus, reason: str, detail: str) -> Verdict:
    return Verdict(given=given, status=status, reason=reason, detail=scrub(detail))


def _whose(errand: Errand) -> str:
    match errand:
        case Tell():
            return errand.reference
        case Bury():
            return ""
        case Control():
            return errand.given.reference
        case Say():
            return errand.verdict.given.reference
