"""What an attempt came to, written down and then told: the ledger first, the results topic second.

Promises that a result is in the ledger before it is published, that a command which was published as unknown gets at
most one settlement after it, and that knowledge of somebody else's is published by the owner. Who found it out, and
when to give up looking, is left to `dispatch` and `recovery`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from bridge.commands.policy import given_up, not_sent
from bridge.commands.results import Results
from bridge.ledger.partition import LedgerPartition
from bridge.ledger.records import CommandRecord, Sending, Settled, Unsure
from bridge.ledger.transitions import Entry, settles_unknown
from bridge.model.errors import Broken
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused, Unknown
from bridge.model.results import (
    CallInitiated,
    CallRefused,
    CallUnknown,
    Result,
    SettledBy,
    result_type,
)
from bridge.model.words import call_id_of
from bridge.runtime.clock import Clock, epoch_ms
from bridge.runtime.crashpoints import reached
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class Addressee(msgspec.Struct, frozen=True):
    """To whom a result goes: the command's record key, and the trace it came with."""

    key: bytes | None
    trace: tuple[tuple[str, bytes], ...] = ()


def addressee(record: CommandRecord) -> Addressee:
    """The one a ledger record names."""
    return Addressee(record.key, record.trace)


class Settlement:
    """Writes and publishes for one lane."""

    def __init__(self, ledger: LedgerPartition, results: Results, clock: Clock, metrics: Metrics) -> None:
        self._ledger = ledger
        self._results = results
        self._clock = clock
        self._metrics = metrics

    async def publish(self, result: Result, to: Addressee) -> None:
        """Tell a result; returns after the acknowledgement."""
        await self._results.publish(result, key=to.key, trace=to.trace)
        self._metrics.results.labels(type=result_type(result)).inc()
        log.info(
            "command.finished",
            command_id=result.command_id,
            call_id=result.call_id,
            connection=result.connection,
            result=result_type(result),
            reason=getattr(result, "reason", None),
            attempts=result.attempts,
            not_sent=list(result.not_sent),
        )
        reached("after_publish")

    async def publish_again(self, command_id: str, to: Addressee) -> None:
        """Tell the stored result of a finished or unknown command once more.

        Raises:
            Ended: the lane was succeeded.
        """
        entry = self._ledger.state.entry(command_id)
        if entry is None:
            return
        if entry.owed:
            await self.pay(command_id)
        elif entry.archived is not None:
            is_settlement = settles_unknown(entry)
            result = (await self._ledger.recall(command_id)).result
            if result is not None:
                await self.publish(settling(result) if is_settlement else result, to)
        elif entry.settled is not None and entry.settled.result is not None:
            result = entry.settled.result
            await self.publish(settling(result) if settles_unknown(entry) else result, to)
        elif entry.unsure is not None:
            await self.publish(entry.unsure.result, to)

    async def finish(self, result: Result, *, digest: bytes, to: Addressee, owed: bool = False) -> bool:
        """End a command without a dial, under the attempt it reached; False if the log told of a claim meanwhile.

        `owed`: no offset waits for this call to return, so that the record itself must lead to the publication.

        Raises:
            Ended: the lane was succeeded.
        """
        decision = Settled(
            command_id=result.command_id,
            attempt=result.attempts,
            epoch=self._ledger.state.epoch,
            at_ms=epoch_ms(self._clock),
            digest=digest,
            key=to.key,
            result=result,
            owed=owed,
            trace=to.trace,
        )
        if await self._ledger.claim(decision) == "contested":
            return False
        if owed:
            await self._publish_owed(decision)
        else:
            await self.publish(result, to)
        return True

    async def answered(
        self,
        sending: Sending,
        outcome: Accepted | Refused,
        *,
        duration_ms: int | None,
        by: SettledBy,
        owed: bool = True,
    ) -> None:
        """The attempt came to an end that is known, by the provider's answer or by evidence. `owed`: as for `finish`.

        Raises:
            Ended: the lane was succeeded.
        """
        entry = self._ledger.state.entry(sending.command_id)
        result = result_of(sending, outcome, at=self._clock.now(), duration_ms=duration_ms, by=by)
        if entry is not None and entry.unsure is not None:
            result = msgspec.structs.replace(result, settles_unknown=True)
        settled = settled_of(sending, outcome, result, at_ms=epoch_ms(self._clock))
        settled = msgspec.structs.replace(settled, epoch=self._ledger.state.epoch)
        if owed:
            await self._pay(settled)
        else:  # the command's offset waits for this very call to return
            await self._ledger.write(settled)
            reached("after_settle")
            await self.publish(result, addressee(sending))

    async def unsure(self, sending: Sending, outcome: Unknown, *, duration_ms: int | None = None) -> None:
        """Say that nobody knows what an attempt came to.

        Raises:
            Ended: the lane was succeeded.
        """
        result = CallUnknown(
            command_id=sending.command_id,
            call_id=call_id_of(sending.command_id),
            connection=sending.connection,
            provider=sending.provider,
            attempts=sending.attempt,
            not_sent=sending.not_sent,
            metadata=sending.metadata,
            reason=outcome.reason,
            provider_status=outcome.provider_status,
            detail=outcome.detail,
            duration_ms=duration_ms,
        )
        await self._pay(
            Unsure(
                command_id=sending.command_id,
                attempt=sending.attempt,
                epoch=self._ledger.state.epoch,
                at_ms=epoch_ms(self._clock),
                digest=sending.digest,
                key=sending.key,
                result=result,
                trace=sending.trace,
            )
        )

    async def pay(self, command_id: str) -> None:
        """Publish a result that is owed: written by a former owner late, or before a crash.

        Raises:
            Ended: the lane was succeeded.
        """
        entry = self._ledger.state.entry(command_id)
        if entry is None or not entry.owed:
            return
        if entry.settled is None or entry.settled.result is None:
            if entry.unsure is not None:
                await self._pay(msgspec.structs.replace(entry.unsure, epoch=self._ledger.state.epoch))
            return
        result = entry.settled.result
        if entry.unsure is not None:
            result = settling(result)
        own = msgspec.structs.replace(entry.settled, epoch=self._ledger.state.epoch, result=result)
        await self._pay(own)

    async def give_up(self, command_id: str) -> bool:
        """A former owner has proven that its attempt did not dial, and the command itself is no longer at hand.

        This is a decision, like any end without a dial: False if the log told of something else meanwhile.

        Raises:
            Ended: the lane was succeeded.
        """
        entry = self._ledger.state.entry(command_id)
        if entry is None or entry.unsent is None:
            return True
        result = self._refused(entry, entry.unsent)
        if entry.unsure is not None:
            result = msgspec.structs.replace(result, settles_unknown=True)
        settled = msgspec.structs.replace(
            entry.unsent, epoch=self._ledger.state.epoch, at_ms=epoch_ms(self._clock), result=result, owed=True
        )
        if await self._ledger.claim(settled) == "contested":
            return False
        await self._publish_owed(settled)
        return True

    async def testify(self, sending: Sending, outcome: Outcome, *, duration_ms: int) -> None:
        """What came of a dial whose lane is no more, as evidence for the new owner. Publishes nothing.

        Raises:
            Unavailable: not acknowledged in time.
        """
        if isinstance(outcome, Unknown):
            return
        result: Result | None = None
        if not isinstance(outcome, NotSent):
            result = result_of(sending, outcome, at=self._clock.now(), duration_ms=duration_ms, by="answer")
        await self._ledger.testify(
            msgspec.structs.replace(settled_of(sending, outcome, result, at_ms=epoch_ms(self._clock)), owed=True)
        )

    async def _pay(self, record: Settled | Unsure) -> None:
        """Write a result down as owed, publish it, and write down that it is not owed any more."""
        await self._ledger.write(msgspec.structs.replace(record, owed=True))
        await self._publish_owed(record)

    async def _publish_owed(self, record: Settled | Unsure) -> None:
        if record.result is None:
            raise Broken("nothing is owed without a result")
        reached("after_settle")
        await self.publish(record.result, addressee(record))
        await self._ledger.write(msgspec.structs.replace(record, owed=False))

    def _refused(self, entry: Entry, settled: Settled) -> CallRefused:
        """A command that provably was not dialled, by somebody who could not try again."""
        refused = given_up(entry)
        sending = entry.sending
        return CallRefused(
            command_id=settled.command_id,
            call_id=call_id_of(settled.command_id),
            connection=None if sending is None else sending.connection,
            provider=None if sending is None else sending.provider,
            attempts=settled.attempt,
            not_sent=not_sent(entry),
            metadata={} if sending is None else sending.metadata,
            reason=refused.reason,
            detail=refused.detail,
        )


def settling(result: Result) -> Result:
    """The same result, as one that settles what was published as unknown."""
    if isinstance(result, CallInitiated | CallRefused):
        return msgspec.structs.replace(result, settles_unknown=True)
    return result


def result_of(
    sending: Sending, outcome: Accepted | Refused, *, at: datetime, duration_ms: int | None, by: SettledBy
) -> CallInitiated | CallRefused:
    """The result that an outcome is."""
    match outcome:
        case Accepted():
            return CallInitiated(
                command_id=sending.command_id,
                call_id=call_id_of(sending.command_id),
                connection=sending.connection,
                provider=sending.provider,
                attempts=sending.attempt,
                not_sent=sending.not_sent,
                metadata=sending.metadata,
                provider_call_id=outcome.provider_call_id,
                accepted_at=at,
                duration_ms=duration_ms,
                settled_by=by,
            )
        case Refused():
            return CallRefused(
                command_id=sending.command_id,
                call_id=call_id_of(sending.command_id),
                connection=sending.connection,
                provider=sending.provider,
                attempts=sending.attempt,
                not_sent=sending.not_sent,
                metadata=sending.metadata,
                reason=outcome.reason,
                provider_status=outcome.provider_status,
                detail=outcome.detail,
                duration_ms=duration_ms,
                settled_by=by,
            )


def settled_of(sending: Sending, outcome: Outcome, result: Result | None, *, at_ms: int) -> Settled:
    """The ledger's record of what a claim came to."""
    return Settled(
        command_id=sending.command_id,
        attempt=sending.attempt,
        epoch=sending.epoch,
        at_ms=at_ms,
        digest=sending.digest,
        key=sending.key,
        outcome=outcome,
        result=result,
        trace=sending.trace,
    )
