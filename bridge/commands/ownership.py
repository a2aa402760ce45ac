"""What a lane does while it owns its partition: jobs in turn, deferred commands in time, old entries let go.

Promises that jobs that share a key or a command id run one after the other in the order in which they came, and that a
job whose lane has ended leaves its record unfinished. Opening and closing are the lane's, the steps of a command
`dispatch`'s.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup

from bridge.bus.dead_letters import DeadLetter, DeadLetters
from bridge.bus.protocol import Record
from bridge.commands.accounts import Gate
from bridge.commands.dispatch import Dispatch, Origin, World
from bridge.commands.recovery import Recovery, RecoverySettings
from bridge.commands.settle import Settlement
from bridge.commands.sweep import Sweep, SweepSettings
from bridge.ledger.partition import Ended, LedgerPartition, LedgerSettings
from bridge.ledger.records import Deferred, Sending
from bridge.ledger.state import recent_dials
from bridge.model.codec import Envelope, decode_command, open_envelope
from bridge.model.commands import CancelCall, Command, PlaceCall
from bridge.model.errors import Poison, Unavailable
from bridge.model.outcome import Unknown
from bridge.runtime.logging import get_logger

log = get_logger()

Job: TypeAlias = Callable[[], Awaitable[None]]
_IDLE_SECONDS = 3600.0


class OwnershipSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one ownership."""

    max_record_bytes: int = 262_144
    partitioner: str = "any"
    partition_of: Callable[[bytes], int] | None = None
    """Where the partitioner puts a key; a command elsewhere is not taken."""
    retry_seconds: float = 0.5
    ledger: LedgerSettings = LedgerSettings()
    recovery: RecoverySettings = RecoverySettings()
    sweep: SweepSettings = SweepSettings()


class LanePort(Protocol):
    """What an ownership asks of its lane."""

    @property
    def draining(self) -> bool:
        """Whether nothing new may be begun."""
        ...

    def finish(self, record: Record) -> None:
        """Nothing needs this record any more."""
        ...

    def poison(self, found: bool) -> None:
        """Whether a record could not be read."""
        ...

    def counted(self) -> AbstractContextManager[None]:
        """A job is under way for the length of the block."""
        ...


class Ownership:
    """One owner's work, from the opened ledger to the lane's end."""

    def __init__(
        self,
        world: World,
        ledger: LedgerPartition,
        *,
        dead_letters: DeadLetters,
        settings: OwnershipSettings,
        lane: LanePort,
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._settings = settings
        self._lane = lane
        settlement = Settlement(ledger, world.results, world.clock, world.metrics)
        self._dispatch = Dispatch(world, ledger, settlement, self)
        self._settlement = settlement
        self._recovery = Recovery(world, ledger, settlement, settings.recovery)
        self._gates: dict[str, Gate] = {}
        self._tails: dict[object, anyio.Event] = {}
        self._jobs: TaskGroup | None = None
        self._due: list[tuple[int, str]] = []
        self._due_changed = anyio.Event()
        ledger.on_gap = lambda _: world.metrics.ledger_gaps.inc()
        ledger.on_append = world.metrics.ledger_append_seconds.observe
        ledger.on_foreign = self._on_foreign
        ledger.on_deferred = self._schedule

    async def work(self, tasks: TaskGroup, records: list[Record]) -> None:
        """Recover, let records in, and return when the group commit ends, which is when the lane has ended."""
        self._jobs = tasks
        for command_id in self._recovery.take_over():
            self._conclude(command_id)
        for entry in self._ledger.state.entries.values():
            if entry.deferred is not None:
                self._schedule(entry.deferred)
        tasks.start_soon(self._recovery.run, self._conclude)
        tasks.start_soon(self._keep_time)
        tasks.start_soon(Sweep(self._ledger, self._world.clock, self._settings.sweep).run)
        for record in records:
            self.start(record)
        await self._ledger.run()

    # -- for the lane and its dispatcher ----------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether nothing new may be begun."""
        return self._lane.draining

    @property
    def entries(self) -> int:
        """Commands held in memory."""
        return len(self._ledger.state.entries)

    @property
    def deferred(self) -> int:
        """Commands whose time is waited for, those that were cancelled meanwhile among them."""
        return len(self._due)

    def gate(self, connection: str) -> Gate:
        """This lane's way to an account."""
        gate = self._gates.get(connection)
        if gate is None:
            account = self._world.accounts[connection]
            recent = recent_dials(self._ledger.state, connection)
            gate = Gate(account, partition=self._ledger.partition.partition, recent=recent)
            self._gates[connection] = gate
        return gate

    def doubt(self, sending: Sending, outcome: Unknown, duration_ms: int | None) -> None:
        """Look for evidence of what a claim came to."""
        self._recovery.add(sending, outcome, duration_ms)
        if self._world.index.heard_of(sending.command_id) is not None:
            self._conclude(sending.command_id)

    def heard_of(self, command_id: str) -> None:
        """A webhook has named this command's session."""
        entry = self._ledger.state.entry(command_id)
        if entry is not None and entry.archived is None:
            self._conclude(command_id)

    def start(self, record: Record) -> None:
        """Work on a record, in its turn."""
        try:
            envelope, command = self._decode(record)
        except Poison as poison:
            self._spawn((), self._burial(record, poison))
            return
        self._lane.poison(False)
        origin = Origin(record.key, envelope.trace)
        self._spawn((command.command_id, record.key), self._command(record, command, origin))

    # -- jobs -------------------------------------------------------------------------------------------------------

    def _decode(self, record: Record) -> tuple[Envelope, Command]:
        if record.key is None:
            allowed = "a key that is always the same for the same command_id, such as the command_id itself"
            raise Poison("record key", found="nothing", allowed=allowed)
        expected = None if self._settings.partition_of is None else self._settings.partition_of(record.key)
        if expected not in {None, record.partition}:
            found = f"a key that belongs into partition {expected}, in partition {record.partition}"
            allowed = f"the partitioner that the configuration names, {self._settings.partitioner}"
            raise Poison("record key", found=found, allowed=allowed)
        # Key and trace go into the ledger as well, which must take whatever is taken here.
        size, limit = _size_bytes(record), self._settings.max_record_bytes
        if size > limit:
            raise Poison("$", found=f"{size} bytes with key and headers", allowed=f"at most {limit} bytes")
        envelope = open_envelope(record.value, record.headers)
        return envelope, decode_command(envelope)

    def _spawn(self, names: tuple[object, ...], job: Job) -> None:
        """Run a job after all earlier ones that share a name with it."""
        if self._jobs is None:
            return
        before = [self._tails[name] for name in names if name in self._tails]
        done = anyio.Event()
        for name in names:
            self._tails[name] = done
        self._jobs.start_soon(self._in_turn, before, done, names, job)

    async def _in_turn(self, before: list[anyio.Event], done: anyio.Event, names: tuple[object, ...], job: Job) -> None:
        for event in before:
            await event.wait()
        try:
            if not self._lane.draining:
                with self._lane.counted():
                    await job()
        except Ended:
            pass  # said once, by the lane; the record stays unfinished
        finally:
            done.set()
            for name in names:
                if self._tails.get(name) is done:
                    del self._tails[name]

    def _command(self, record: Record, command: Command, origin: Origin) -> Job:
        started = self._world.clock.monotonic()

        async def job() -> None:
            match command:
                case PlaceCall():
                    deferred = await self._dispatch.place(command, origin)
                    if deferred is not None:
                        self._schedule(deferred)
                case CancelCall():
                    await self._dispatch.cancel(command, origin)
            self._lane.finish(record)
            self._world.metrics.command_seconds.observe(self._world.clock.monotonic() - started)

        return job

    def _burial(self, record: Record, poison: Poison) -> Job:
        async def job() -> None:
            self._lane.poison(True)
            letter = DeadLetter.of(record)
            while True:
                try:
                    await self._dead_letters.publish(letter, poison, at=self._world.clock.now())
                except Unavailable:
                    await anyio.sleep(self._settings.retry_seconds)
                else:
                    break
            self._world.metrics.dead_letters.labels(source="commands").inc()
            log.warning(
                "command.dead_letter",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=str(poison),
            )
            self._lane.finish(record)

        return job

    def _conclude(self, command_id: str) -> None:
        async def job() -> None:
            await self._recovery.conclude(command_id)

        self._spawn((command_id,), job)

    def _on_foreign(self, command_ids: frozenset[str]) -> None:
        """Somebody else wrote about these: a former owner, late."""
        for sending in self._ledger.state.unsettled(command_ids):
            self._recovery.add(sending, Unknown("owner_gone"), None)
        for command_id in command_ids:
            self._conclude(command_id)

    # -- deferred commands ------------------------------------------------------------------------------------------

    def _schedule(self, deferred: Deferred) -> None:
        heapq.heappush(self._due, (deferred.due_ms, deferred.command_id))
        self._due_changed.set()

    async def _keep_time(self) -> None:
        """Start deferred commands when they are due."""
        while not self._lane.draining:
            self._due_changed = anyio.Event()
            wait = _IDLE_SECONDS
            while self._due:
                wait = self._due[0][0] / 1000 - self._world.clock.now().timestamp()
                if wait > 0:
                    break
                self._start_due(heapq.heappop(self._due)[1])
            with anyio.move_on_after(wait):
                await self._due_changed.wait()

    def _start_due(self, command_id: str) -> None:
        entry = self._ledger.state.entry(command_id)
        if entry is None or entry.deferred is None:
            return
        deferred = entry.deferred

        async def job() -> None:
            current = self._ledger.state.entry(command_id)
            if current is None or current.deferred is not deferred:
                return  # postponed again meanwhile, and scheduled so; or let go
            origin = Origin(deferred.key, deferred.trace, due=True)
            again = await self._dispatch.place(deferred.command, origin)
            if again is not None:
                self._schedule(again)
            else:
                await self._dispatch.let_go(deferred)

        self._spawn((command_id, deferred.key), job)


def _size_bytes(record: Record) -> int:
    headers = sum(len(name) + len(content) for name, content in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
