"""Who may dial when: the limits of provider accounts, and what is done while a provider says "slower" or is down.

Promises that an account's limits hold over all replicas (each lane has its share, see `pacing`), that a provider that is
down or overrun pauses its own commands only, and that nobody waits long in memory: what must wait longer than
`inline_delay_seconds` is told when to come back and waits in the ledger.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio
import msgspec

from bridge.commands.pacing import Pace, share_of
from bridge.commands.places import Places
from bridge.model.outcome import NotSent, Outcome
from bridge.providers.settings import AccountLimits
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger

log = get_logger()

_FROM_CLAIM_TO_DIAL_SECONDS = 1.0
"""A former owner's request has left by then, also on a busy machine; where its end is known, it left before that."""
_LEAVING_SECONDS = 0.5
"""A request that has not left so long after its dial was begun counts as leaving now; well below a window."""


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all accounts."""

    partitions: int
    """Of the commands topic: an account's limits are divided by it."""
    max_in_flight: int = 64
    """Dials of one account at once, in this replica."""
    inline_delay_seconds: float = 2.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    longest_retry_after_seconds: float = 900.0
    """A longer pause that a provider asks for is taken as this one."""


class Account:
    """One connection as this process sees it: whether it takes calls at the moment, and how many are under way."""

    def __init__(self, connection: str, limits: AccountLimits, settings: AccountSettings, clock: Clock) -> None:
        self.connection = connection
        self.limits = limits
        self.settings = settings
        self.clock = clock
        self.places = Places(settings.max_in_flight)
        self.paused_until = 0.0
        self._failures = 0

    def now(self) -> float:
        """Wall time in seconds."""
        return self.clock.now().timestamp()

    def paused_seconds(self) -> float:
        """How long the pause lasts from now on; 0: there is none."""
        return max(0.0, self.paused_until - self.now())

    def heard(self, outcome: Outcome) -> None:
        """Learn from what came of a dial: proof that nothing was sent slows the account down, anything else ends that."""
        if not isinstance(outcome, NotSent):
            if self._failures:
                log.info("account.resumed", connection=self.connection)
            self._failures = 0
            self.paused_until = 0.0
            return
        if outcome.reason == "not_tried" or (self.paused_until > self.now() and outcome.retry_after_seconds is None):
            return
        self._failures += 1
        settings = self.settings
        pause = min(settings.longest_pause_seconds, settings.first_pause_seconds * 2.0 ** (self._failures - 1))
        pause = max(pause, min(outcome.retry_after_seconds or 0.0, settings.longest_retry_after_seconds))
        self.paused_until = max(self.paused_until, self.now() + pause)
        log.warning("account.paused", connection=self.connection, reason=outcome.reason, wait_ms=int(pause * 1000))


class Gate:
    """One lane's way to one account."""

    def __init__(self, account: Account, *, partition: int, recent: Iterable[tuple[float, float | None]]) -> None:
        """`recent`: when this partition's owners claimed for the account, and when it was known what that came to."""
        limits, partitions = account.limits, account.settings.partitions
        self._account = account
        self._partition = partition
        self._order = anyio.Lock()
        self._waiting = 0
        self._last_due = 0.0
        self._dial_seconds = 0.5
        self._leaving: dict[float, float] = {}
        """Dials that were begun and whose requests have not left, by when that was; and as of when they count."""
        self._claims: Pace | None = None
        self._dials: Pace | None = None
        if limits.calls_per_second is not None:
            share = share_of(limits.calls_per_second, partitions=partitions, partition=partition)
            dials, now = list(recent), account.now()
            self._claims = Pace(share, (claimed for claimed, _ in dials))
            self._dials = Pace(share, (_left_by(claimed, known, now=now) for claimed, known in dials))
        self._share_in_flight = _part(limits.calls_in_flight, partitions, partition)
        self._places = anyio.CapacityLimiter(self._share_in_flight)

    def come_back(self, *, due: bool) -> float | None:
        """When to come back (wall time), if the wait would be long; None: wait here. `due`: it has come back already."""
        account, now = self._account, self._account.now()
        patience = account.settings.inline_delay_seconds
        if account.paused_until > now + patience:
            return self._next_due(account.paused_until)
        behind_others = self._last_due > now and not due
        if behind_others or self._expected_wait() > patience:
            return self._next_due(now + patience)
        return None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place among the account's calls, and the permission to claim: in order, at the lane's pace."""
        self._waiting += 1
        try:
            async with self._places, self._account.places.taken(self._partition):
                async with self._order:
                    await self._until_resumed()
                    await self._in_pace(self._claims)
                self._waiting -= 1
                try:
                    yield
                finally:
                    self._waiting += 1
        finally:
            self._waiting -= 1

    async def dial_now(self) -> float:
        """Return when the dial itself may start: claims that were acknowledged together do not leave together."""
        begun = await self._in_pace(self._dials)
        self._leaving[begun] = begun
        return begun

    def left(self, begun: float) -> None:
        """The request of the dial that was begun then has left: it counts from now, and claims keep their distance."""
        now = self._account.now()
        for pace, moment in ((self._claims, begun), (self._dials, self._leaving.pop(begun, begun))):
            if pace is not None:
                pace.delay(moment, max(0.0, now - moment))

    def over(self, begun: float) -> None:
        """The dial that was begun then has come to its end: what has not left by now does not leave any more."""
        self._leaving.pop(begun, None)

    def took(self, seconds: float) -> None:
        """Learn how long a dial takes, for the estimate of waiting."""
        self._dial_seconds += 0.2 * (seconds - self._dial_seconds)

    def _expected_wait(self) -> float:
        by_pace = 0.0 if self._claims is None else self._waiting / self._claims.per_second
        places = min(self._places.total_tokens, self._account.places.most)
        free = min(self._places.available_tokens, self._account.places.free)
        by_places = max(0.0, self._waiting - free) * self._dial_seconds / places
        return max(by_pace, by_places)

    def _next_due(self, earliest: float) -> float:
        """The next free time of this lane's future: deferred commands come back one by one, in order, at its pace."""
        distance = 0.005 if self._claims is None else 1 / self._claims.per_second
        self._last_due = max(self._last_due + distance, earliest)
        return self._last_due

    async def _until_resumed(self) -> None:
        pause = self._account.paused_seconds()
        if pause > 0:
            await anyio.sleep(min(pause, self._account.settings.inline_delay_seconds))

    async def _in_pace(self, pace: Pace | None) -> float:
        if pace is None:
            return 0.0
        while (wait := self._wait_seconds(pace)) > 0:  # noqa: ASYNC110 -- time is what is waited for
            await anyio.sleep(wait)
        now = self._account.now()
        pace.started(now)
        return now

    def _wait_seconds(self, pace: Pace) -> float:
        """What is about to leave stays in the window, however long it takes: it may leave at this very moment."""
        now = self._account.now()
        for begun, moment in self._leaving.items():
            if self._dials is not None and now - moment >= _LEAVING_SECONDS:
                self._dials.delay(moment, now - moment)
                self._leaving[begun] = now
        return pace.wait_seconds(now)


def _left_by(claimed: float, known: float | None, *, now: float) -> float:
    """The latest moment at which the request of a claim has left."""
    latest = claimed + _FROM_CLAIM_TO_DIAL_SECONDS
    return max(claimed, min(now, latest if known is None else min(latest, known)))


def _part(limit: int | None, partitions: int, partition: int) -> float:
    """A lane's part of the calls in flight; the parts together never pass the limit."""
    if limit is None:
        return float("inf")
    return limit // partitions + (1 if partition < limit % partitions else 0)
