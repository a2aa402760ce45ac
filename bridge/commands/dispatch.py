"""One command, from the decision to the published result: the only place that orders those steps.

Promises that a dial follows only a claim that counts, that an outcome is in the ledger before it is published, and that
when `place` or `cancel` return, the command's offset may be committed. Which decision is right is `policy`'s business;
which records run when is the lane's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta

import anyio
import msgspec

from bridge.commands import policy
from bridge.commands.results import Results
from bridge.ledger import records
from bridge.ledger.index import Index, Known, lifetime
from bridge.ledger.partition import LedgerPartition
from bridge.ledger.records import Deferred, Sending, Settled, Unsure
from bridge.model import outcome as outcomes
from bridge.model.commands import CancelCall, PlaceCall, digest
from bridge.model.errors import Broken, Unavailable
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused
from bridge.model.results import CallInitiated, CallRefused, CallUnknown, Result, result_type
from bridge.model.words import call_id_of
from bridge.providers.protocol import Plan, Provider
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class Origin(msgspec.Struct, frozen=True):
    """Where a command came from: what its result needs besides the command."""

    key: bytes | None
    trace: tuple[tuple[str, bytes], ...] = ()
    offset: int | None = None
    due: bool = False
    """It comes out of the ledger because its time has come."""


class DispatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one command's way."""

    limits: policy.Limits
    inline_delay_seconds: float = 2.0
    """A back-off up to this long is waited for in place; a longer one goes into the ledger."""
    retry_seconds: float = 0.5


class World(msgspec.Struct, frozen=True):
    """What all dispatchers of a process share."""

    connections: Mapping[str, Provider]
    index: Index
    results: Results
    clock: Clock
    metrics: Metrics
    settings: DispatchSettings
    slots: anyio.CapacityLimiter


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

    def __init__(self, world: World, ledger: LedgerPartition) -> None:
        self._world = world
        self._ledger = ledger

    async def place(self, command: PlaceCall, origin: Origin) -> Deferred | None:
        """Bring a `call.place` to its result, or into the ledger until later (then that record is returned).

        Raises:
            Ended: the lane was succeeded; nothing further may be done for this command here.
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
                await self._finish(result, b"" if entry is None else entry.digest or b"", origin)
            case policy.Publish(result):
                await self._publish(result, origin)
            case decision:
                raise AssertionError(f"no step for {decision}")

    async def doubt(self, sending: Sending, outcome: outcomes.Unknown, *, duration_ms: int | None = None) -> None:
        """Say that nobody knows what a claim came to.

        Raises:
            Ended: the lane was succeeded.
        """
        result = CallUnknown(
            command_id=sending.command_id,
            call_id=call_id_of(sending.command_id),
            connection=sending.connection,
            provider=sending.provider,
            attempts=sending.attempt,
            metadata=sending.metadata,
            reason=outcome.reason,
            provider_status=outcome.provider_status,
            detail=outcome.detail,
            duration_ms=duration_ms,
        )
        await self._ledger.write(
            Unsure(
                command_id=sending.command_id,
                attempt=sending.attempt,
                epoch=self._ledger.state.epoch,
                at_ms=self._now_ms(),
                digest=sending.digest,
                key=sending.key,
                result=result,
                trace=sending.trace,
            )
        )
        await self._publish(result, Origin(sending.key, sending.trace))

    async def let_go(self, deferred: Deferred) -> None:
        """Forget the deferral of a command whose result is published.

        Raises:
            Ended: the lane was succeeded.
        """
        await self._ledger.erase([records.key_of(deferred)])

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
        match decision:
            case policy.Nothing():
                return None
            case policy.Publish(result):
                await self._publish(result, case.origin)
                return None
            case policy.Finish(result):
                await self._finish(result, case.digest, case.origin)
                return None
            case policy.Postpone(due):
                return await self._postpone(case, due_ms=int(due.timestamp() * 1000))
            case policy.Doubt(sending):
                await self.doubt(sending, outcomes.Unknown("owner_gone"))
                return None
            case policy.Claim(attempt, plan):
                return await self._attempt(case, plan, attempt)

    async def _attempt(self, case: _Case, plan: Plan, attempt: int) -> Deferred | _Again | None:
        """Claim, dial, settle, publish. Returns the deferral where the next attempt is far away."""
        command, origin, provider = case.command, case.origin, case.provider
        if provider is None:
            raise Broken("a plan without a provider")
        sending = Sending(
            command_id=command.command_id,
            attempt=attempt,
            epoch=self._ledger.state.epoch,
            at_ms=self._now_ms(),
            digest=case.digest,
            key=origin.key,
            connection=command.connection,
            provider=provider.name,
            metadata=command.metadata,
            trace=origin.trace,
        )
        await self._announce(plan, window_seconds=provider.match_window_seconds)
        if await self._ledger.claim(sending) == "contested":
            return _AGAIN  # policy finds the claim unsettled now
        started = self._world.clock.monotonic()
        outcome = await self._dial(provider, plan)
        duration_ms = int((self._world.clock.monotonic() - started) * 1000)
        self._world.metrics.dials.labels(provider=provider.name, outcome=_name(outcome)).inc()
        self._world.metrics.dial_seconds.labels(provider=provider.name).observe(duration_ms / 1000)
        match outcome:
            case outcomes.Unknown():
                await self.doubt(sending, outcome, duration_ms=duration_ms)
                self._line(sending, outcome, duration_ms)
                return None
            case NotSent():
                return await self._not_sent(sending, outcome, case)
            case Accepted() | Refused():
                result = self._result(sending, outcome, duration_ms)
                await self._settle(sending, outcome, result)
                await self._publish(result, origin)
                self._line(sending, outcome, duration_ms)
                return None

    async def _dial(self, provider: Provider, plan: Plan) -> Outcome:
        """The one place that dials. What expired while the claim was on its way is not dialled."""
        expires_at = plan.command.expires_at
        if expires_at is not None and expires_at <= self._world.clock.now():
            return NotSent("not_tried", detail="expired before the request was sent")
        return await provider.dial(plan)

    async def _announce(self, plan: Plan, *, window_seconds: float) -> None:
        """Let every replica know under which names the provider may speak of the call, before it can."""
        if not plan.known_by:
            return
        world = self._world
        now = world.clock.now()
        known = Known(
            at=now,
            until=lifetime(now, window_seconds),
            command_id=plan.command.command_id,
            call_id=plan.call_id,
            partition=self._ledger.partition.partition,
            metadata=plan.command.metadata,
        )
        while True:
            try:
                await world.index.announce(plan.command.connection, plan.known_by, known)
            except Unavailable:
                await anyio.sleep(world.settings.retry_seconds)
            else:
                return

    async def _not_sent(self, sending: Sending, outcome: NotSent, case: _Case) -> Deferred | _Again | None:
        """Write the proof down, then wait: a short while here, a long one in the ledger."""
        await self._settle(sending, outcome, None)
        world = self._world
        limits = world.settings.limits
        delay = policy.retry_delay_seconds(
            outcome,
            attempt=sending.attempt,
            limits=limits,
            jitter=random.random(),  # noqa: S311 -- spreads load, protects nothing
        )
        self._line(sending, outcome, None)
        if sending.attempt >= limits.max_attempts or delay <= world.settings.inline_delay_seconds:
            if sending.attempt < limits.max_attempts:
                await anyio.sleep(delay)
            return _AGAIN
        due = world.clock.now() + timedelta(seconds=delay)
        if case.command.expires_at is not None:
            due = min(due, case.command.expires_at)
        return await self._postpone(case, due_ms=int(due.timestamp() * 1000))

    def _result(self, sending: Sending, outcome: Accepted | Refused, duration_ms: int) -> Result:
        match outcome:
            case Accepted():
                return CallInitiated(
                    command_id=sending.command_id,
                    call_id=call_id_of(sending.command_id),
                    connection=sending.connection,
                    provider=sending.provider,
                    attempts=sending.attempt,
                    metadata=sending.metadata,
                    provider_call_id=outcome.provider_call_id,
                    accepted_at=self._world.clock.now(),
                    duration_ms=duration_ms,
                    settled_by="answer",
                )
            case Refused():
                return CallRefused(
                    command_id=sending.command_id,
                    call_id=call_id_of(sending.command_id),
                    connection=sending.connection,
                    provider=sending.provider,
                    attempts=sending.attempt,
                    metadata=sending.metadata,
                    reason=outcome.reason,
                    provider_status=outcome.provider_status,
                    detail=outcome.detail,
                    duration_ms=duration_ms,
                    settled_by="answer",
                )

    async def _settle(self, sending: Sending, outcome: Outcome, result: Result | None) -> None:
        await self._ledger.write(
            Settled(
                command_id=sending.command_id,
                attempt=sending.attempt,
                epoch=self._ledger.state.epoch,
                at_ms=self._now_ms(),
                digest=sending.digest,
                key=sending.key,
                outcome=outcome,
                result=result,
                trace=sending.trace,
            )
        )

    async def _finish(self, result: Result, body: bytes, origin: Origin) -> None:
        """End a command without a dial: its result goes into the ledger under the attempt it reached."""
        await self._ledger.write(
            Settled(
                command_id=result.command_id,
                attempt=result.attempts,
                epoch=self._ledger.state.epoch,
                at_ms=self._now_ms(),
                digest=body,
                key=origin.key,
                result=result,
                trace=origin.trace,
            )
        )
        await self._publish(result, origin)

    async def _postpone(self, case: _Case, *, due_ms: int) -> Deferred:
        deferred = Deferred(
            command_id=case.command.command_id,
            epoch=self._ledger.state.epoch,
            at_ms=self._now_ms(),
            due_ms=due_ms,
            digest=case.digest,
            key=case.origin.key,
            command=case.command,
            trace=case.origin.trace,
        )
        await self._ledger.write(deferred)
        return deferred

    async def _publish(self, result: Result, origin: Origin) -> None:
        await self._world.results.publish(result, key=origin.key, trace=origin.trace)
        self._world.metrics.results.labels(type=result_type(result)).inc()

    def _now_ms(self) -> int:
        return int(self._world.clock.now().timestamp() * 1000)

    def _line(self, sending: Sending, outcome: Outcome, duration_ms: int | None) -> None:
        """The canonical line of one attempt."""
        log.info(
            "command.dialled",
            command_id=sending.command_id,
            call_id=call_id_of(sending.command_id),
            connection=sending.connection,
            provider=sending.provider,
            attempt=sending.attempt,
            outcome=_name(outcome),
            reason=getattr(outcome, "reason", None),
            provider_status=getattr(outcome, "provider_status", None),
            duration_ms=duration_ms,
            partition=self._ledger.partition.partition,
        )


def _name(outcome: Outcome) -> str:
    return str(outcome.__struct_config__.tag)
