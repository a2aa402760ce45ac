"""One command, from the decision to the published result: the only place that orders those steps.

Promises that a dial follows only a claim that counts, that an outcome is in the ledger before it is published, and that
when `place` or `cancel` return, the command's offset may be committed: its result is acknowledged, or the ledger holds
what will lead to one. Which decision is right is `policy`'s business; which commands run when is the lane's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio
import msgspec

from bridge.commands import policy
from bridge.commands.accounts import Account, Gate
from bridge.commands.dials import Dials
from bridge.commands.results import Results
from bridge.commands.settle import Addressee, Settlement, settled_of
from bridge.ledger import records
from bridge.ledger.index import Index, Known, lifetime, name_key
from bridge.ledger.partition import Ended, LedgerPartition, Tombstone
from bridge.ledger.records import Deferred, Sending
from bridge.model.commands import CancelCall, PlaceCall, digest
from bridge.model.errors import Broken, Unavailable
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused, Unknown
from bridge.model.words import call_id_of
from bridge.providers.protocol import Plan, Provider, on_sent
from bridge.runtime.clock import Clock, epoch_ms
from bridge.runtime.crashpoints import reached
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class Origin(msgspec.Struct, frozen=True):
    """Where a command came from: what its result needs besides the command."""

    key: bytes | None
    trace: tuple[tuple[str, bytes], ...] = ()
    due: bool = False
    """It comes out of the ledger because its time has come."""

    @property
    def addressee(self) -> Addressee:
        """To whom its result goes."""
        return Addressee(self.key, self.trace)


class DispatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one command's way."""

    limits: policy.Limits
    inline_delay_seconds: float = 2.0
    """A back-off up to this long is waited for in place; a longer one in the ledger."""
    retry_seconds: float = 0.5


class World(msgspec.Struct, frozen=True):
    """What all dispatchers of a process share."""

    connections: Mapping[str, Provider]
    accounts: Mapping[str, Account]
    dials: Dials
    index: Index
    results: Results
    clock: Clock
    metrics: Metrics
    settings: DispatchSettings


class LaneView(Protocol):
    """What a dispatcher asks of its lane."""

    @property
    def draining(self) -> bool:
        """Whether nothing new may be begun."""
        ...

    def gate(self, connection: str) -> Gate:
        """The lane's way to an account."""
        ...

    def doubt(self, sending: Sending, outcome: Unknown, duration_ms: int | None) -> None:
        """Look for evidence of what a claim came to; the ledger holds the claim, so the command itself is done."""
        ...


class _Case(msgspec.Struct, frozen=True):
    """A command with what does not change while it is being brought to its end."""

    command: PlaceCall
    digest: bytes
    origin: Origin
    provider: Provider | None
    check: Plan | Refused


class _Again(msgspec.Struct, frozen=True):
    """The ledger knows more now: ask policy again."""


_AGAIN = _Again()


class Dispatch:
    """Carries decisions out against one lane's ledger partition."""

    def __init__(self, world: World, ledger: LedgerPartition, settlement: Settlement, lane: LaneView) -> None:
        self._world = world
        self._ledger = ledger
        self._settlement = settlement
        self._lane = lane

    async def place(self, command: PlaceCall, origin: Origin) -> Deferred | None:
        """Bring a `call.place` to its result, or into the ledger until later (then that record is returned).

        Raises:
            Ended: the lane was succeeded or comes to rest; nothing further is done for this command here.
        """
        case = self._case(command, origin)
        while True:
            step = await self._carry_out(policy.decide(self._question(case), self._world.settings.limits), case)
            if not isinstance(step, _Again):
                return step

    async def cancel(self, command: CancelCall, origin: Origin) -> None:
        """Bring a `call.cancel` to its result.

        Raises:
            Ended: the lane was succeeded.
        """
        entry = self._ledger.state.entry(command.command_id)
        match policy.decide_cancel(command, entry):
            case policy.Finish(result):
                body = b"" if entry is None else entry.digest
                if not await self._settlement.finish(result, digest=body, to=origin.addressee):
                    await self.cancel(command, origin)
                    return
            case policy.Publish(result):
                await self._settlement.publish(result, origin.addressee)
                return
            case policy.Repeat():
                await self._settlement.publish_again(command.command_id, origin.addressee)
            case decision:
                raise Broken(f"a cancel came to {type(decision).__name__}")
        if entry is not None and entry.deferred is not None:
            await self.let_go(entry.deferred)  # or it would come back when it is due, and tell its end once more

    async def let_go(self, deferred: Deferred) -> None:
        """Forget the deferral of a command whose result is published.

        Raises:
            Ended: the lane was succeeded.
        """
        await self._ledger.write(Tombstone(records.key_of(deferred)))

    # -- steps ------------------------------------------------------------------------------------------------------

    def _case(self, command: PlaceCall, origin: Origin) -> _Case:
        connections = self._world.connections
        provider = connections.get(command.connection)
        if provider is None:
            names = ", ".join(sorted(connections)) or "none"
            check: Plan | Refused = Refused("unknown_connection", detail=f"configured connections: {names}")
        else:
            check = provider.check(command, call_id=call_id_of(command.command_id))
        return _Case(command, digest(command), origin, provider, check)

    def _question(self, case: _Case) -> policy.Question:
        return policy.Question(
            command=case.command,
            digest=case.digest,
            provider=None if case.provider is None else case.provider.name,
            check=case.check,
            entry=self._ledger.state.entry(case.command.command_id),
            now=self._world.clock.now(),
            due=case.origin.due,
        )

    async def _carry_out(self, decision: policy.Decision, case: _Case) -> Deferred | _Again | None:
        self._world.metrics.commands_decided.labels(decision=decision.name).inc()
        reached("after_decide")
        to = case.origin.addressee
        match decision:
            case policy.Nothing():
                return None
            case policy.Repeat():
                await self._settlement.publish_again(case.command.command_id, to)
            case policy.Publish(result):
                await self._settlement.publish(result, to)
            case policy.Finish(result):
                owed, body = case.origin.due, case.digest
                return None if await self._settlement.finish(result, digest=body, to=to, owed=owed) else _AGAIN
            case policy.Doubt(sending):
                self._lane.doubt(sending, Unknown("owner_gone"), None)
            case policy.Postpone(due):
                return await self._postpone(case, due)
            case policy.Claim(attempt, plan):
                return await self._in_turn(case, plan, attempt)
        return None

    async def _in_turn(self, case: _Case, plan: Plan, attempt: int) -> Deferred | _Again | None:
        """Wait for the account's permission, a short while here, a long one in the ledger; then make the attempt."""
        gate = self._lane.gate(case.command.connection)
        come_back = gate.come_back(due=case.origin.due)
        if come_back is not None:
            return await self._postpone(case, datetime.fromtimestamp(come_back, UTC))
        decided_at = self._world.clock.now()
        async with gate.turn():
            if self._lane.draining:
                raise Ended("the lane comes to rest")
            expires_at = case.command.expires_at
            if expires_at is not None and decided_at < expires_at <= self._world.clock.now():
                return _AGAIN
            return await self._attempt(case, plan, attempt, gate)

    async def _attempt(self, case: _Case, plan: Plan, attempt: int, gate: Gate) -> Deferred | _Again | None:
        """Claim, dial, settle, publish. Returns the deferral where the next attempt is far away."""
        command, provider = case.command, case.provider
        if provider is None:
            raise Broken("a plan without a provider")
        sending = Sending(
            command_id=command.command_id,
            attempt=attempt,
            epoch=self._ledger.state.epoch,
            at_ms=epoch_ms(self._world.clock),
            digest=case.digest,
            key=case.origin.key,
            connection=command.connection,
            provider=provider.name,
            not_sent=policy.not_sent(self._ledger.state.entry(command.command_id)),
            metadata=command.metadata,
            trace=case.origin.trace,
        )
        late_seconds = provider.late_webhook_seconds
        await self._announce(plan, plan.known_by, provider.match_window_seconds, late_seconds=late_seconds)
        reached("before_claim")
        if await self._ledger.claim(sending) == "contested":
            return _AGAIN  # policy finds the claim unsettled now
        reached("after_claim")
        started = self._world.clock.monotonic()
        outcome = await self._dial(provider, plan, sending, gate)
        seconds = self._world.clock.monotonic() - started
        reached("after_dial")
        self._note(sending, outcome, seconds, gate)
        return await self._conclude(case, plan, (sending, outcome), int(seconds * 1000))

    async def _dial(self, provider: Provider, plan: Plan, sending: Sending, gate: Gate) -> Outcome:
        """Dial when it is time."""
        begun = await gate.dial_now()
        try:
            return await self._dial_once(provider, plan, sending, lambda: gate.left(begun))
        finally:
            gate.over(begun)

    async def _dial_once(self, provider: Provider, plan: Plan, sending: Sending, left: Callable[[], None]) -> Outcome:
        """The one place that dials. What expired while the claim was on its way is not dialled."""
        expires_at = plan.command.expires_at
        if expires_at is not None and expires_at <= self._world.clock.now():
            return NotSent("not_tried", detail="expired before the request was sent")
        reached("before_dial")
        started = self._world.clock.monotonic()

        async def orphaned(outcome: Outcome) -> None:
            duration_ms = int((self._world.clock.monotonic() - started) * 1000)
            try:
                await self._settlement.testify(sending, outcome, duration_ms=duration_ms)
            except Unavailable as error:
                log.warning("testimony.lost", command_id=sending.command_id, error=error)

        told = on_sent.set(left)
        try:
            return await self._world.dials.run(lambda: provider.dial(plan), orphaned)
        finally:
            on_sent.reset(told)

    async def _conclude(
        self, case: _Case, plan: Plan, attempt: tuple[Sending, Outcome], duration_ms: int
    ) -> Deferred | _Again | None:
        """From the outcome to the result."""
        sending, outcome = attempt
        owed = case.origin.due  # its offset was committed long ago
        reached("before_settle")
        match outcome:
            case Unknown():
                self._lane.doubt(sending, outcome, duration_ms)
            case NotSent():
                return await self._not_sent(case, sending, outcome)
            case Accepted():
                if outcome.provider_call_id is not None and case.provider is not None:
                    names = (f"call/{outcome.provider_call_id}",)
                    await self._announce(plan, names, case.provider.session_ttl_seconds)
                await self._settlement.answered(sending, outcome, duration_ms=duration_ms, by="answer", owed=owed)
                if outcome.provider_call_id is None and case.provider is not None:
                    # No webhook names it so; but the watchdog sees by it that the call was taken, and waits for one.
                    window_seconds = case.provider.match_window_seconds + case.provider.late_webhook_seconds
                    await self._announce(plan, (f"call/{plan.call_id}",), window_seconds)
            case Refused():
                await self._settlement.answered(sending, outcome, duration_ms=duration_ms, by="answer", owed=owed)
                await self._retract(plan)
        return None

    async def _announce(
        self, plan: Plan, names: Sequence[str], window_seconds: float, *, late_seconds: float = 0.0
    ) -> None:
        """Let every replica know under which names the provider may speak of the call, as soon as we know them.

        Within the window the call begins; what tells of that may come by so much later.
        """
        if not names:
            return
        world = self._world
        now = world.clock.now()
        known = Known(
            at=now,
            until=lifetime(now, window_seconds + late_seconds),
            command_id=plan.command.command_id,
            call_id=plan.call_id,
            partition=self._ledger.partition.partition,
            metadata=plan.command.metadata,
            begins_until=lifetime(now, window_seconds) if late_seconds else None,
        )
        while True:
            try:
                await world.index.announce(plan.command.connection, names, known)
            except Unavailable:
                await anyio.sleep(world.settings.retry_seconds)
            else:
                return

    async def _retract(self, plan: Plan) -> None:
        """The call will not be heard of: its names must not make another call's ambiguous."""
        try:
            names = (name_key(plan.command.connection, name, plan.call_id) for name in plan.known_by)
            await self._world.index.forget(*names)
        except Unavailable as error:
            log.warning("index.stale", call_id=plan.call_id, error=error)

    async def _not_sent(self, case: _Case, sending: Sending, outcome: NotSent) -> Deferred | _Again | None:
        """Write the proof down, then wait: a short while here, a long one in the ledger."""
        await self._ledger.write(settled_of(sending, outcome, None, at_ms=epoch_ms(self._world.clock)))
        settings = self._world.settings
        if sending.attempt >= settings.limits.max_attempts:
            return _AGAIN
        delay = policy.retry_delay_seconds(
            outcome,
            attempt=sending.attempt,
            limits=settings.limits,
            jitter=random.random(),  # noqa: S311 -- spreads load, protects nothing
        )
        if delay <= settings.inline_delay_seconds:
            await anyio.sleep(delay)
            return _AGAIN
        return await self._postpone(case, self._world.clock.now() + timedelta(seconds=delay))

    async def _postpone(self, case: _Case, due: datetime) -> Deferred:
        """Keep the command in the ledger until `due`, or until it expires."""
        if case.command.expires_at is not None:
            due = min(due, case.command.expires_at)
        deferred = Deferred(
            command_id=case.command.command_id,
            epoch=self._ledger.state.epoch,
            at_ms=epoch_ms(self._world.clock),
            due_ms=int(due.timestamp() * 1000) + 1,
            digest=case.digest,
            key=case.origin.key,
            command=case.command,
            trace=case.origin.trace,
        )
        await self._ledger.write(deferred)
        return deferred

    def _note(self, sending: Sending, outcome: Outcome, seconds: float, gate: Gate) -> None:
        """Learn from the outcome, count it, and write the canonical line of an attempt."""
        gate.took(seconds)
        self._world.accounts[sending.connection].heard(outcome)
        name = str(outcome.__struct_config__.tag)
        self._world.metrics.dials.labels(provider=sending.provider, outcome=name).inc()
        self._world.metrics.dial_seconds.labels(provider=sending.provider).observe(seconds)
        log.info(
            "command.dialled",
            command_id=sending.command_id,
            call_id=call_id_of(sending.command_id),
            connection=sending.connection,
            provider=sending.provider,
            attempt=sending.attempt,
            outcome=name,
            reason=None if isinstance(outcome, Accepted) else outcome.reason,
            status=None if isinstance(outcome, NotSent) else outcome.provider_status,
            duration_ms=int(seconds * 1000),
            partition=self._ledger.partition.partition,
        )
