"""What the flows of a lane work with, as stand-ins that answer at once: time, provider, index, results, and the ledger.

The ledger is real but for its writing: it notes what is asked of it, line by line, and says that it is done.
"""

# ruff: noqa: ARG002 -- stand-ins take what the real ones are given

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import IntEnum
from typing import Any, TypeAlias

from bridge.commands.accounts import Gate
from bridge.commands.dispatch import DispatchSettings, World
from bridge.commands.policy import Limits
from bridge.commands.results import Results
from bridge.ledger.partition import Claimed, LedgerPartition, Tombstone
from bridge.ledger.records import Record, Sending, Settled
from bridge.ledger.state import LedgerState
from bridge.model.commands import PlaceCall
from bridge.model.outcome import Outcome, Unknown
from bridge.model.results import Result
from bridge.providers.protocol import Plan
from tests.model.facts import FACTS, MOMENTS


class Do(IntEnum):
    """What a line of a script says."""

    WRITE = 0
    CLAIM = 1
    DIAL = 2
    PUBLISH = 3
    DOUBT = 4
    """Wait for evidence about this claim."""
    SETTLED = 5
    """Wait for evidence no longer."""
    SCHEDULE = 6
    """Wait for the command's time."""
    AGAIN = 7
    """Ask the same flow again: the ledger knows more."""
    BREAK = 8
    """The process ends with `Broken`."""


Line: TypeAlias = tuple[Do, int]


class _Anything:
    """Metrics, accounts: whatever is asked of it, it lets happen."""

    def __init__(self, **known: object) -> None:
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        return _ANYTHING

    def __getitem__(self, name: str) -> Any:
        return _ANYTHING

    def __call__(self, *arguments: object, **named: object) -> Any:
        return _ANYTHING


_ANYTHING: Any = _Anything()


class Stopped(Exception):
    """The flow would look at the ledger again: the script ends here."""


class _Stale:
    """What a lane knew before it wrote: only who it is still holds."""

    def __init__(self, state: LedgerState) -> None:
        self.owner = state.owner
        self.epoch = state.epoch

    def __getattr__(self, name: str) -> Any:
        raise Stopped


class Paper(LedgerPartition):
    """A ledger that notes what it is to write."""

    lines: list[Line]
    counted: Callable[[], LedgerState] | None = None
    """Gives what the lane knows when the claim has been counted; without it, the script ends with the claim."""

    async def write(self, *items: Record | Tombstone) -> None:
        """Acknowledged at once."""
        for item in items:
            fact = FACTS.tombstone(item.key) if isinstance(item, Tombstone) else FACTS.number(item)
            self.lines.append((Do.WRITE, fact))
        self._written()

    def _written(self) -> None:
        stale: Any = _Stale(self.state)
        self.state = stale

    async def claim(self, record: Sending | Settled) -> Claimed:
        """Counted, if the script is to go on. So is a decision to end a command: its script goes on only if it is."""
        if isinstance(record, Sending) and self.counted is not None:
            self.state = self.counted()
            return "counted"
        self.lines.append((Do.CLAIM, FACTS.number(record)))
        if isinstance(record, Sending):
            raise Stopped
        self._written()
        return "counted"

    async def testify(self, record: Settled) -> None:
        """Sent, and not waited for."""
        self.lines.append((Do.WRITE, FACTS.number(record)))

    async def probe(self) -> None:
        """What was looked for in the log is gone: the flow looks again after this."""
        self.lines.append((Do.WRITE, FACTS.probe(self.state.owner)))
        raise Stopped


class Stage:
    """One run of one flow. It is its own clock, provider, gate, index, dials, results and lane."""

    name = "demo"
    match_window_seconds = 1.0
    late_webhook_seconds = 0.0
    draining = False

    def __init__(self, paper: Paper, moment: int, limits: Limits, *, configured: bool = True) -> None:
        self.lines = paper.lines
        self.moment = moment
        self.time = MOMENTS[moment]
        self.heard = False
        self.postpones = False
        self.claim = -1
        self.outcome: Outcome | None = None
        self._decided = 0
        self._limits = limits
        self._configured = configured

    def world(self) -> World:
        """What dispatchers share."""
        metrics: Any = _Anything(commands_decided=_Anything(labels=self._count))
        return World(
            connections={"demo": self} if self._configured else {},  # type: ignore[dict-item]
            accounts=_ANYTHING,
            dials=self,  # type: ignore[arg-type]
            index=self,  # type: ignore[arg-type]
            results=self.results(),
            clock=self,
            metrics=metrics,
            settings=DispatchSettings(limits=self._limits, inline_delay_seconds=-1.0 if self.postpones else 1.0),
        )

    def results(self) -> Results:
        """The way to the results topic."""
        results: Any = _Anything(publish=self._publish)
        return results  # type: ignore[no-any-return]

    def _count(self, **labels: str) -> Any:
        """Asking policy twice is looking at the ledger again."""
        self._decided += 1
        if self._decided > 1:
            raise Stopped
        return _ANYTHING

    async def _publish(self, result: Result, *, key: bytes | None, trace: object = ()) -> None:
        bit = FACTS.bit(result)
        if bit:
            self.lines.append((Do.PUBLISH, bit))

    # -- clock ------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """It stands still."""
        return self.time

    def monotonic(self) -> float:
        """It stands still."""
        return 0.0

    # -- provider, dials, gate ----------------------------------------------------------------------------------------

    def check(self, command: PlaceCall, *, call_id: str) -> Plan:
        """Everything can be placed."""
        return Plan(command, call_id, (), None)

    async def run(
        self, dial: Callable[[], Awaitable[Outcome]], orphaned: Callable[[Outcome], Awaitable[None]]
    ) -> Outcome:
        """The dial, and the time it takes."""
        if self.outcome is None:
            self.lines.append((Do.DIAL, self.claim))
            raise Stopped
        self.time = MOMENTS[self.moment]
        return self.outcome

    def gate(self, connection: str) -> Gate:
        """The way to the account."""
        gate: Any = _Anything(come_back=self._come_back, turn=self._turn, dial_now=self._dial_now)
        return gate  # type: ignore[no-any-return]

    def _come_back(self, *, due: bool) -> float | None:
        return MOMENTS[1].timestamp() if self.postpones else None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        yield

    async def _dial_now(self) -> float:
        return 0.0

    # -- index, lane --------------------------------------------------------------------------------------------------

    def heard_of(self, command_id: str) -> object | None:
        """Whether a webhook has named the command."""
        return True if self.heard else None

    async def announce(self, connection: str, names: object, known: object) -> None:
        """Names that may be heard of."""

    async def forget(self, *keys: str) -> None:
        """Names that will not be heard of."""

    def doubt(self, sending: Sending, outcome: Unknown, duration_ms: int | None) -> None:
        """Look for evidence of what a claim came to."""
        self.lines.append((Do.DOUBT, self.claim if self.claim >= 0 else FACTS.number(sending)))
