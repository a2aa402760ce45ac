"""One lane: one partition of the commands topic with the ledger partition of the same number, in one owner's hands.

Promises that commands run parallel over keys and in order per key and per command id, that none runs before the ledger
has been read up to the lane's fence, and that a lane that was succeeded stops before it can harm. Polling and
committing are left to `intake`, the steps of one command to `dispatch`, doubts to `recovery`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import msgspec

from bridge.bus.dead_letters import DeadLetters
from bridge.bus.protocol import PartitionReader, Producer, Record, TopicPartition
from bridge.bus.watermark import Watermark
from bridge.commands.dispatch import World
from bridge.commands.ownership import Ownership, OwnershipSettings
from bridge.ledger.kept import Kept
from bridge.ledger.partition import Ended, LedgerPartition
from bridge.model.errors import Unavailable
from bridge.runtime.clock import epoch_ms
from bridge.runtime.logging import get_logger

log = get_logger()


class LaneSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one lane."""

    max_backlog: int = 256
    retry_seconds: float = 0.5
    reopen_seconds: float = 10.0
    """How long a lane that was succeeded waits for its partition to be taken away, before it asks for it again."""
    ownership: OwnershipSettings = OwnershipSettings()


class Tools(msgspec.Struct, frozen=True):
    """What lanes share."""

    world: World
    kept: Kept
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
        self._active = 0
        self._rested = anyio.Event()
        self._draining = False
        self._closing = anyio.Event()
        self._ownership: Ownership | None = None

    @property
    def backlog(self) -> int:
        """Records offered and not finished."""
        return len(self._unfinished)

    @property
    def entries(self) -> int:
        """Commands held in memory."""
        return 0 if self._ownership is None else self._ownership.entries

    @property
    def deferred(self) -> int:
        """Commands whose time is waited for."""
        return 0 if self._ownership is None else self._ownership.deferred

    @property
    def full(self) -> bool:
        """Whether nothing more should be offered for now."""
        return self.backlog >= self._tools.settings.max_backlog

    def offer(self, record: Record) -> None:
        """Take a record in; it is worked on as soon as its key and id are free."""
        self.watermark.started(record.offset)
        self._unfinished[record.offset] = record
        if self._ownership is not None:
            self._ownership.start(record)

    def heard_of(self, command_id: str) -> None:
        """A webhook has named this command's session: evidence, should it be in doubt."""
        if self._ownership is not None:
            self._ownership.heard_of(command_id)

    async def drain(self, timeout_seconds: float) -> bool:
        """Start nothing more and wait for what is under way; False if something was still under way at the end."""
        self._draining = True
        with anyio.move_on_after(timeout_seconds):
            while self._active:
                self._rested = anyio.Event()
                await self._rested.wait()
        return self._active == 0

    def close(self) -> None:
        """End `run`, whatever is under way."""
        self._closing.set()

    async def run(self) -> None:
        """Own the partition until `close`: open, recover, work; and again, should the ledger say that it was lost.

        Returns when nothing is kept of it any more.
        """
        while not self._closing.is_set():
            await self._own()
            if not self._closing.is_set():
                with anyio.move_on_after(self._tools.settings.reopen_seconds):
                    await self._closing.wait()
        self._unfinished.clear()
        await anyio.sleep(self._tools.kept.keep_seconds)
        self._tools.kept.forget()

    # -- for its ownership ------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether nothing new may be begun."""
        return self._draining

    def finish(self, record: Record) -> None:
        """Nothing needs this record any more."""
        self._unfinished.pop(record.offset, None)
        self.watermark.finished(record.offset)

    def poison(self, found: bool) -> None:
        """Whether a record could not be read."""
        self._on_poison(found)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A job is under way."""
        self._active += 1
        self._tools.world.metrics.commands_in_flight.inc()
        try:
            yield
        finally:
            self._active -= 1
            self._tools.world.metrics.commands_in_flight.dec()
            if not self._active:
                self._rested.set()

    # -- one ownership ----------------------------------------------------------------------------------------------

    async def _own(self) -> None:
        """From the fence to the end of the lane, or of the process."""
        tools = self._tools
        ledger = LedgerPartition(
            TopicPartition(tools.ledger_topic, self.partition.partition),
            tools.producer,
            tools.reader,
            owner=uuid.uuid4().hex,
            settings=tools.settings.ownership.ledger,
            known=tools.kept.take(self.partition.partition),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_on_close, ledger, tasks.cancel_scope)
            if await self._open(ledger):
                tools.world.metrics.lanes.inc()
                try:
                    self._ownership = Ownership(
                        tools.world,
                        ledger,
                        dead_letters=tools.dead_letters,
                        settings=tools.settings.ownership,
                        lane=self,
                    )
                    await self._ownership.work(tasks, list(self._unfinished.values()))
                finally:
                    self._ownership = None
                    tools.world.metrics.lanes.dec()
            tasks.cancel_scope.cancel()
        tools.kept.put(self.partition.partition, ledger.state)
        if ledger.ended is not None and not self._closing.is_set():
            log.warning("lane.ended", partition=self.partition.partition, reason=ledger.ended)

    async def _end_on_close(self, ledger: LedgerPartition, scope: anyio.CancelScope) -> None:
        await self._closing.wait()
        ledger.close("the lane was closed")
        scope.cancel()

    async def _open(self, ledger: LedgerPartition) -> bool:
        """Fence and read, again and again while Kafka is away."""
        clock = self._tools.world.clock
        started = clock.monotonic()
        while True:
            try:
                await ledger.open(at_ms=epoch_ms(clock))
            except Unavailable as error:
                log.warning("lane.waits", partition=self.partition.partition, error=error)
                await anyio.sleep(self._tools.settings.retry_seconds)
            except Ended:
                return False
            else:
                break
        log.info(
            "lane.opened",
            partition=self.partition.partition,
            epoch=ledger.state.epoch,
            count=len(ledger.state.entries),
            read=ledger.records_read,
            duration_ms=int((clock.monotonic() - started) * 1000),
        )
        return True
