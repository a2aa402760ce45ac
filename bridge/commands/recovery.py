"""Claims of which nobody has said what they came to: wait for evidence, and say "unknown" when none comes in time.

Evidence is the provider's look-up (where the adapter can find), a webhook that certainly belongs to the command, or what
a former owner writes late. Evidence that comes after `call.unknown` leads to the one settlement. Nothing here ever
leads to a dial.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import anyio
import msgspec

from bridge.commands.dispatch import World
from bridge.commands.settle import Settlement
from bridge.ledger.partition import Ended, LedgerPartition
from bridge.ledger.records import Sending
from bridge.ledger.transitions import Entry, State
from bridge.model.outcome import Accepted, Outcome, Refused, Unknown
from bridge.model.results import SettledBy
from bridge.model.words import call_id_of
from bridge.providers.protocol import CanFind
from bridge.runtime.logging import get_logger

log = get_logger()


class RecoverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long evidence is waited for, and how often it is looked for."""

    evidence_seconds: float = 60.0
    """Counted from the claim."""
    least_wait_seconds: float = 2.0
    """After taking a partition over: a former owner may be about to write what it knows."""
    look_seconds: float = 2.0
    """How often the ledger and the provider are asked."""


class _Doubt:
    """One claim in doubt."""

    __slots__ = ("duration_ms", "found", "outcome", "sending", "until")

    def __init__(self, sending: Sending, outcome: Unknown, *, duration_ms: int | None, until: float) -> None:
        self.sending = sending
        self.outcome = outcome
        self.duration_ms = duration_ms
        self.until = until
        self.found: Outcome | None = None


class Recovery:
    """The doubts of one lane. `spawn` runs a job after all others of the same command."""

    def __init__(
        self, world: World, ledger: LedgerPartition, settlement: Settlement, settings: RecoverySettings
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._settlement = settlement
        self._settings = settings
        self._doubts: dict[str, _Doubt] = {}
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._doubts)

    def take_over(self) -> list[str]:
        """Everything that former owners left in doubt or owed; returns what can be brought to its end at once."""
        state = self._ledger.state
        # Of a million commands almost all are archived, and nothing else happens while this looks at them.
        entries = {command_id: entry for command_id, entry in state.entries.items() if entry.archived is None}
        for sending in state.unsettled(entries):
            self.add(sending, Unknown("owner_gone"), None)
        for entry in entries.values():
            # Proven not sent, and not at hand: should nobody bring the command again, it is refused in time.
            if entry.state is State.FREE and entry.unsent is not None and entry.sending is not None:
                self.add(entry.sending, Unknown("owner_gone"), None)
        heard = [command_id for command_id in entries if self._world.index.heard_of(command_id) is not None]
        return [*(command_id for command_id, entry in entries.items() if entry.owed), *heard]

    def add(self, sending: Sending, outcome: Unknown, duration_ms: int | None) -> None:
        """Doubt a claim. Doubting it again changes nothing."""
        known = self._doubts.get(sending.command_id)
        if known is not None and known.sending.attempt >= sending.attempt:
            return
        now = self._now()
        until = max(sending.at_ms / 1000 + self._settings.evidence_seconds, now + self._settings.least_wait_seconds)
        self._doubts[sending.command_id] = _Doubt(sending, outcome, duration_ms=duration_ms, until=until)
        self._changed.set()

    async def conclude(self, command_id: str) -> None:
        """Bring a command in doubt to its end, if anything is known by now, or its time is over.

        Raises:
            Ended: the lane was succeeded.
        """
        await self._settlement.pay(command_id)
        entry = self._ledger.state.entry(command_id)
        if entry is not None and not await self._concluded(command_id, entry):
            return
        self._doubts.pop(command_id, None)

    async def _concluded(self, command_id: str, entry: Entry) -> bool:
        """Do what can be done; False while evidence is still waited for."""
        in_doubt = command_id in self._doubts or entry.unsure is not None
        if entry.state is State.FINISHED or not in_doubt:
            return True
        if entry.deferred is not None:
            return True  # the command is at hand and comes back by itself
        if entry.unsent is not None and entry.unsent.attempt == entry.attempt:
            doubt = self._doubts.get(command_id)
            if entry.unsure is None and doubt is not None and doubt.until > self._now():
                return False  # the command may yet come again, and be tried again
            return await self._settlement.give_up(command_id)
        evidence = self._evidence(command_id)
        if evidence is not None and entry.sending is not None:
            outcome, by = evidence
            await self._settlement.answered(entry.sending, outcome, duration_ms=None, by=by)
            return True
        return entry.state is not State.UNSETTLED or await self._give_up_in_time(command_id)

    def _evidence(self, command_id: str) -> tuple[Accepted | Refused, SettledBy] | None:
        """What is known by now, and from where."""
        if self._world.index.heard_of(command_id) is not None:
            return Accepted(), "webhook"
        doubt = self._doubts.get(command_id)
        if doubt is not None and isinstance(doubt.found, Accepted | Refused):
            return doubt.found, "lookup"
        return None

    async def run(self, spawn: Callable[[str], None]) -> None:
        """Look for evidence while anything is in doubt. `spawn` has `conclude` called, in the command's turn."""
        while True:
            if not self._doubts:
                self._changed = anyio.Event()
                await self._changed.wait()
            await anyio.sleep(self._next_look())
            try:
                await self._ledger.probe()
            except Ended:
                return
            await self._look_up()
            now = self._now()
            for command_id, doubt in list(self._doubts.items()):
                if not self._is_unsettled(doubt) or doubt.until <= now or self._evidence(command_id) is not None:
                    spawn(command_id)

    async def _give_up_in_time(self, command_id: str) -> bool:
        """Say "unknown" if the time for evidence is over."""
        doubt = self._doubts.get(command_id)
        if doubt is None or doubt.until > self._now():
            return False
        await self._settlement.unsure(doubt.sending, doubt.outcome, duration_ms=doubt.duration_ms)
        log.warning(
            "command.unknown",
            command_id=command_id,
            call_id=call_id_of(command_id),
            connection=doubt.sending.connection,
            reason=doubt.outcome.reason,
            attempt=doubt.sending.attempt,
        )
        return True

    async def _look_up(self) -> None:
        """Ask providers that can be asked."""
        for doubt in list(self._doubts.values()):
            provider: object = self._world.connections.get(doubt.sending.connection)
            if isinstance(provider, CanFind) and self._is_unsettled(doubt):
                since = datetime.fromtimestamp(doubt.sending.at_ms / 1000, UTC)
                doubt.found = await provider.find(call_id_of(doubt.sending.command_id), since=since)

    def _is_unsettled(self, doubt: _Doubt) -> bool:
        entry = self._ledger.state.entry(doubt.sending.command_id)
        return entry is not None and entry.state is State.UNSETTLED

    def _next_look(self) -> float:
        nearest = min((doubt.until for doubt in self._doubts.values()), default=0.0) - self._now()
        return max(0.05, min(self._settings.look_seconds, nearest))

    def _now(self) -> float:
        return self._world.clock.now().timestamp()
