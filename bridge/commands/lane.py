"""One lane: one partition of the commands topic with the ledger partition of the same number, in one owner's hands.

Promises that commands run parallel over keys and in order per key and per command id, that none runs before the ledger
has been read up to the lane's fence, and that a lane that was succeeded stops before it can harm. Polling and
committing are left to `intake`, the steps of one command to `dispatch`.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import msgspec
from anyio.abc import TaskGroup

from bridge.bus.dead_letters import DeadLetter, DeadLetters
from bridge.bus.protocol import PartitionReader, Producer, Record, TopicPartition
from bridge.bus.watermark import Watermark
from bridge.commands.dispatch import Dispatch, Origin, World
from bridge.ledger.partition import Ended, LedgerPartition, LedgerSettings
from bridge.ledger.records import Deferred, Sending
from bridge.ledger.transitions import State
from bridge.model.codec import Envelope, decode_command, open_envelope
from bridge.model.commands import CancelCall, Command, PlaceCall
from bridge.model.errors import Poison, Unavailable
from bridge.model.outcome import Unknown
from bridge.runtime.logging import get_logger

log = get_logger()


class LaneSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one lane."""

    max_backlog: int = 256
    max_record_bytes: int = 262_144
    retry_seconds: float = 0.5
    reopen_seconds: float = 10.0
    """How long a lane that was succeeded waits for its partition to be taken away, before it asks for it again."""
    ledger: LedgerSettings = LedgerSettings()


class Tools(msgspec.Struct, frozen=True):
    """What lanes share."""

    world: World
    ledger_topic: str
    producer: Producer
    reader: PartitionReader
    dead_letters: DeadLetters
    settings: LaneSettings


class Lane:
    """Work on one partition. `offer` hands it a record, `drain` lets it come to rest, `run` is its life."""

    def __init__(self, partition: TopicPartition, tools: Tools, *, on_poison: Callable[[bool], None]) -> None:
        self.partition = partition
        self.watermark = Watermark()
        self._tools = tools
        self._on_poison = on_poison
        self._unfinished: dict[int, Record] = {}
        self._tails: dict[object, anyio.Event] = {}
        self._active = 0
        self._rested = anyio.Event()
        self._draining = anyio.Event()
        self._closing = anyio.Event()
        self._opened = False
        self._jobs: TaskGroup | None = None
        self._dispatch: Dispatch | None = None
        self._ledger: LedgerPartition | None = None
        self._due: list[tuple[int, str]] = []
        self._due_changed = anyio.Event()

    @property
    def backlog(self) -> int:
        """Records offered and not finished."""
        return len(self._unfinished)

    @property
    def full(self) -> bool:
        """Whether nothing more should be offered for now."""
        return self.backlog >= self._tools.settings.max_backlog

    def offer(self, record: Record) -> None:
        """Take a record in; it is worked on as soon as its key and id are free."""
        self.watermark.started(record.offset)
        self._unfinished[record.offset] = record
        if self._opened:
            self._start(record)

    async def drain(self, timeout_seconds: float) -> bool:
        """Start nothing more and wait for what is under way; False if something was still under way at the end."""
        self._draining.set()
        with anyio.move_on_after(timeout_seconds):
            while self._active:
                self._rested = anyio.Event()
                await self._rested.wait()
        return self._active == 0

    def close(self) -> None:
        """End `run`, whatever is under way."""
        self._closing.set()

    async def run(self) -> None:
        """Own the partition until `close`: open, recover, work; and again, should the ledger say that it was lost."""
        while not self._closing.is_set():
            await self._own()
            if not self._closing.is_set():
                with anyio.move_on_after(self._tools.settings.reopen_seconds):
                    await self._closing.wait()

    # -- one ownership ----------------------------------------------------------------------------------------------

    async def _own(self) -> None:
        """From the fence to the end of the lane, or of the process."""
        tools = self._tools
        self._ledger = ledger = LedgerPartition(
            TopicPartition(tools.ledger_topic, self.partition.partition),
            tools.producer,
            tools.reader,
            owner=uuid.uuid4().hex,
            settings=tools.settings.ledger,
        )
        metrics = tools.world.metrics
        ledger.observe(on_gap=lambda _: metrics.ledger_gaps.inc())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_on_close, tasks.cancel_scope)
            if await self._open(ledger):
                metrics.lanes.inc()
                try:
                    await self._work(ledger, tasks)
                finally:
                    metrics.lanes.dec()
                    self._opened = False
                    self._tails.clear()
            tasks.cancel_scope.cancel()
        if ledger.ended is not None and not self._closing.is_set():
            log.warning("lane.ended", partition=self.partition.partition, reason=ledger.ended)

    async def _cancel_on_close(self, scope: anyio.CancelScope) -> None:
        await self._closing.wait()
        if self._ledger is not None:
            self._ledger.close("the lane was closed")
        scope.cancel()

    async def _open(self, ledger: LedgerPartition) -> bool:
        """Fence and read, again and again while Kafka is away."""
        clock = self._tools.world.clock
        started = clock.monotonic()
        while True:
            try:
                await ledger.open(at_ms=int(clock.now().timestamp() * 1000))
            except Unavailable as error:
                log.warning("lane.waits", partition=self.partition.partition, error=str(error))
                await anyio.sleep(self._tools.settings.retry_seconds)
            except Ended:
                return False
            else:
                log.info(
                    "lane.opened",
                    partition=self.partition.partition,
                    epoch=ledger.state.epoch,
                    entries=len(ledger.state.entries),
                    duration_ms=int((clock.monotonic() - started) * 1000),
                )
                return True

    async def _work(self, ledger: LedgerPartition, tasks: TaskGroup) -> None:
        """Recover, then let records in; returns when the group commit ends, which is when the lane has ended."""
        self._jobs = tasks
        self._dispatch = Dispatch(self._tools.world, ledger)
        for sending in ledger.state.unsettled():
            self._spawn((sending.command_id, sending.key), self._doubt_job(self._dispatch, sending))
        for deferred in ledger.state.deferred():
            self._schedule(deferred)
        tasks.start_soon(self._timer)
        self._opened = True
        for record in list(self._unfinished.values()):
            self._start(record)
        await ledger.run()

    # -- jobs -------------------------------------------------------------------------------------------------------

    def _start(self, record: Record) -> None:
        dispatch = self._dispatch
        if dispatch is None:
            return
        try:
            envelope, command = self._decode(record)
        except Poison as poison:
            self._spawn((), self._poison_job(record, poison))
            return
        self._on_poison(False)
        origin = Origin(record.key, envelope.trace, record.offset)
        self._spawn((command.command_id, record.key), self._command_job(dispatch, record, command, origin))

    def _decode(self, record: Record) -> tuple[Envelope, Command]:
        if record.key is None:
            raise Poison(
                "record key",
                found="nothing",
                allowed="a key that is always the same for the same command_id, such as the command_id itself",
            )
        limit = self._tools.settings.max_record_bytes
        if record.value is not None and len(record.value) > limit:
            raise Poison("$", found=f"{len(record.value)} bytes", allowed=f"at most {limit} bytes")
        envelope = open_envelope(record.value, record.headers)
        return envelope, decode_command(envelope)

    def _spawn(self, names: tuple[object, ...], job: Callable[[], Awaitable[None]]) -> None:
        """Run a job after all earlier ones that share a name with it."""
        if self._jobs is None:
            return
        before = [self._tails[name] for name in names if name in self._tails]
        done = anyio.Event()
        for name in names:
            self._tails[name] = done
        self._jobs.start_soon(self._in_turn, before, done, names, job)

    async def _in_turn(
        self,
        before: list[anyio.Event],
        done: anyio.Event,
        names: tuple[object, ...],
        job: Callable[[], Awaitable[None]],
    ) -> None:
        for event in before:
            await event.wait()
        try:
            async with self._tools.world.slots:
                if not self._draining.is_set():
                    with self._counted():
                        await job()
        except Ended:
            pass  # said once, by the ledger's writer; the record stays unfinished
        finally:
            done.set()
            for name in names:
                if self._tails.get(name) is done:
                    del self._tails[name]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._active += 1
        self._tools.world.metrics.commands_in_flight.inc()
        try:
            yield
        finally:
            self._active -= 1
            self._tools.world.metrics.commands_in_flight.dec()
            if not self._active:
                self._rested.set()

    def _command_job(
        self, dispatch: Dispatch, record: Record, command: Command, origin: Origin
    ) -> Callable[[], Awaitable[None]]:
        async def job() -> None:
            match command:
                case PlaceCall():
                    deferred = await dispatch.place(command, origin)
                    if deferred is not None:
                        self._schedule(deferred)
                case CancelCall():
                    await dispatch.cancel(command, origin)
            self._finish(record)

        return job

    def _poison_job(self, record: Record, poison: Poison) -> Callable[[], Awaitable[None]]:
        async def job() -> None:
            self._on_poison(True)
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
                    await self._tools.dead_letters.publish(letter, poison, at=self._tools.world.clock.now())
                except Unavailable:
                    await anyio.sleep(self._tools.settings.retry_seconds)
                else:
                    break
            self._tools.world.metrics.dead_letters.labels(source="commands").inc()
            log.warning(
                "command.dead_letter",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=str(poison),
            )
            self._finish(record)

        return job

    def _doubt_job(self, dispatch: Dispatch, sending: Sending) -> Callable[[], Awaitable[None]]:
        async def job() -> None:
            entry = self._ledger.state.entry(sending.command_id) if self._ledger is not None else None
            if entry is not None and entry.state is State.UNSETTLED:
                await dispatch.doubt(sending, Unknown("owner_gone"))

        return job

    def _finish(self, record: Record) -> None:
        self._unfinished.pop(record.offset, None)
        self.watermark.finished(record.offset)

    # -- deferred commands ------------------------------------------------------------------------------------------

    def _schedule(self, deferred: Deferred) -> None:
        heapq.heappush(self._due, (deferred.due_ms, deferred.command_id))
        self._due_changed.set()

    async def _timer(self) -> None:
        """Start deferred commands when they are due."""
        clock = self._tools.world.clock
        while not self._draining.is_set():
            self._due_changed = anyio.Event()
            wait = 3600.0
            while self._due:
                wait = self._due[0][0] / 1000 - clock.now().timestamp()
                if wait > 0:
                    break
                self._start_due(heapq.heappop(self._due)[1])
            with anyio.move_on_after(wait):
                await self._due_changed.wait()

    def _start_due(self, command_id: str) -> None:
        dispatch, ledger = self._dispatch, self._ledger
        entry = None if ledger is None else ledger.state.entry(command_id)
        if dispatch is None or entry is None or entry.deferred is None:
            return
        deferred = entry.deferred

        async def job() -> None:
            if entry.deferred is not deferred:
                return
            again = await dispatch.place(deferred.command, Origin(deferred.key, deferred.trace, due=True))
            if again is not None:
                self._schedule(again)
            else:
                await dispatch.let_go(deferred)

        self._spawn((command_id, deferred.key), job)
