"""Calls that never end: look silent ones up where that is possible, and close those that nobody will say more about.

Some ends are never told: after a transfer, of calls that nobody took, by webhooks that were lost. Promises that a call
is closed once by this replica, never after an end was seen, under an id that is made from the session (so that the
same end by another replica is visible as the same), and that every replica then knows it. `silence` decides; the keeper
says what stands on the events topic. A provider's own end that comes later passes as it comes; and where the end is on
the topic and the index does not know it, or has the session open again, the index is told instead of anybody else.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

import anyio
import msgspec

from bridge.actions.seen import Seen
from bridge.actions.silence import Call, Patience, Silence, moment
from bridge.ledger.index import Index, Known
from bridge.model.errors import Unavailable
from bridge.model.events import CallEnded, Ended
from bridge.providers.protocol import CanLookUp, Live, NoRecord, Over, Provider, Standing
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()

Found: TypeAlias = Literal["live", "over", "no_record", "no_answer"]


class WatchdogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How hard it works."""

    max_look_ups: int = 8
    """Of one connection, at once."""
    look_up_seconds: float = 15.0
    """The longest that one may take."""
    tick_seconds: float = 1.0
    most_per_tick: int = 200
    repair_after_seconds: float = 10.0
    """By then whoever took an end has told the index of it."""
    ended_seconds: float = 3600.0
    """How long the index knows at least of a call that was closed, or repaired, here."""


class WatchdogTools(msgspec.Struct, frozen=True):
    """What it works with."""

    connections: Mapping[str, Provider]
    index: Index
    publish: Callable[[CallEnded], Awaitable[None]]
    """Returns when the event is stored on the events topic; raises Unavailable where that is not certain."""
    clock: Clock
    metrics: Metrics


class Watchdog:
    """One replica's. The keeper tells it of events and partitions, the index of sessions."""

    def __init__(self, tools: WatchdogTools, silence: Silence, settings: WatchdogSettings) -> None:
        self._tools = tools
        self._silence = silence
        self._settings = settings
        self._under_way: Counter[str] = Counter()
        for key, known in tools.index:
            silence.indexed(key, known)
        tools.index.watchers.append(silence.indexed)
        tools.metrics.watched_sessions.set_function(lambda: len(silence))

    # -- told by the keeper -----------------------------------------------------------------------------------------

    def seen(self, partition: int, seen: Seen, offset: int) -> None:
        """An event of one of our partitions, in its order."""
        self._silence.seen(partition, seen, offset)

    def assigned(self, partitions: frozenset[int]) -> None:
        """Partitions of the events topic are ours."""
        self._silence.assigned(partitions, self._time())

    def revoked(self, partitions: frozenset[int]) -> None:
        """They are not any more."""
        self._silence.revoked(partitions)

    def oldest_needed(self, partition: int) -> int | None:
        """Commit no offset above this one; None: any."""
        return self._silence.oldest_needed(partition)

    # -- work -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until cancelled."""
        settings = self._settings
        async with anyio.create_task_group() as tasks:
            while True:
                for call in self._silence.due(self._time(), limit=settings.most_per_tick):
                    if self._under_way[call.connection] >= settings.max_look_ups:
                        self._silence.returned(call, self._time(), "later")
                        continue
                    asks = isinstance(self._tools.connections[call.connection], CanLookUp)
                    self._under_way[call.connection] += asks
                    tasks.start_soon(self._attend, call, asks)
                await self._repair()
                await anyio.sleep(settings.tick_seconds)

    async def _attend(self, call: Call, asks: bool) -> None:
        """See what has become of one silent call."""
        provider = self._tools.connections[call.connection]
        try:
            standing = await self._look_up(provider, call) if isinstance(provider, CanLookUp) else NoRecord()
            now = self._time()
            if not call.is_open:
                return
            match standing:
                case Over():
                    await self._close(call, provider, standing, "lookup")
                case _ if not isinstance(standing, Live) and now >= call.until:
                    await self._close(call, provider, Over(Ended(reason="unknown")), "silence")
                case _:
                    self._silence.returned(call, now, "live" if isinstance(standing, Live) else "in vain")
        except Unavailable as error:
            log.warning("call.not_closed", connection=call.connection, session=call.session, error=error)
            self._silence.returned(call, self._time(), "later")
        finally:
            self._under_way[call.connection] -= asks

    async def _look_up(self, provider: CanLookUp, call: Call) -> Standing | None:
        """What the provider says; None where it does not answer."""
        standing: Standing | None = None
        try:
            with anyio.move_on_after(self._settings.look_up_seconds):
                standing = await provider.look_up(call.session)
        except Unavailable as error:
            log.info("look_up.failed", connection=call.connection, session=call.session, error=error)
        self._tools.metrics.look_ups.labels(found=_found(standing)).inc()
        return standing

    async def _close(self, call: Call, provider: Provider, over: Over, by: Literal["lookup", "silence"]) -> None:
        """Publish the end, then let every replica know.

        Raises:
            Unavailable: it is not certain that the end is stored; again is harmless, it has the same id.
        """
        tools, known = self._tools, call.known
        event = CallEnded(
            event_id=end_id(call.reference),
            connection=call.connection,
            provider=provider.name,
            session=call.session,
            received_at=tools.clock.now(),
            call_id=known.call_id,
            command_id=known.command_id,
            metadata=known.metadata,
            occurred_at=over.at,
            data=over.ended,
        )
        await tools.publish(event)
        self._silence.closed(call, self._time())
        tools.metrics.events.labels(type="call.ended").inc()
        tools.metrics.calls_closed.labels(by=by).inc()
        log.info(
            "call.closed",
            connection=call.connection,
            session=call.session,
            call_id=known.call_id,
            reason=over.ended.reason,
            settled_by=by,
        )
        await self._mark_ended(call.reference, known)

    async def _repair(self) -> None:
        """Tell the index of ends that it was not told of, by whoever took them, or that a late webhook made it forget."""
        ends = self._silence.ends
        for reference, known in ends.repairs(self._time(), after_seconds=self._settings.repair_after_seconds):
            if not await self._mark_ended(reference, known):
                return

    async def _mark_ended(self, reference: str, known: Known) -> bool:
        """Whether the index took it; if not, it is tried again."""
        found = self._tools.index.session(reference)
        if found is not None and found.call_id is not None:
            known = found
        until = max(known.until, moment(self._time() + self._settings.ended_seconds))
        try:
            await self._tools.index.bind(reference, msgspec.structs.replace(known, until=until, ended=True))
        except Unavailable as error:
            log.warning("index.stale", call_id=known.call_id, error=error)
            return False
        return True

    def _time(self) -> float:
        return self._tools.clock.now().timestamp()


def patience_of(connections: Mapping[str, Provider]) -> Mapping[str, Patience]:
    """What `Silence` must know of each connection."""
    return {
        name: Patience(provider.session_ttl_seconds, isinstance(provider, CanLookUp))
        for name, provider in connections.items()
    }


def end_id(reference: str) -> str:
    """The id of the event that closes this session: whoever closes it, it is the same."""
    return "end_" + base64.b32encode(hashlib.sha256(b"end/" + reference.encode()).digest()[:15]).decode().lower()


def _found(standing: Standing | None) -> Found:
    match standing:
        case Live():
            return "live"
        case Over():
            return "over"
        case NoRecord():
            return "no_record"
        case None:
            return "no_answer"
