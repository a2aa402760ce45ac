"""What a simulator saw, exactly: requests to dial, calls, webhooks, breaches of the contract.

It promises counters that are exact for as long as it lives, details of the most recent things within a bound, and
waiting on events instead of polling. What is worth recording is decided by the simulators.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec


class Moment(msgspec.Struct, frozen=True):
    """One instant on both clocks; the monotonic one is shared by all processes of a machine."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        """This instant."""
        return cls(time.monotonic(), time.time())


class Dial(msgspec.Struct, eq=False):
    """A request to dial, from its head on. `number` and `received` are known once it was read whole."""

    id: int
    began: Moment
    connection: int
    target: str
    number: str | None = None
    received: Moment | None = None
    decided: str = "unfinished"
    """What we chose to do: `201`, `429`, `hang`, `reset`, …"""
    ended: str | None = None
    """What came of that on the wire (`Exchange.ended`)."""
    session: str | None = None
    """The session of the call it placed; None if it placed none."""


class Call(msgspec.Struct, eq=False):
    """A call the platform made or took. `state`: ringing, talking, ended, unanswered, transferred."""

    session: str
    number: str
    direction: str
    began: Moment
    state: str = "ringing"
    answered: Moment | None = None
    ended: Moment | None = None
    ended_by: str | None = None
    webhooks: int = 0
    """How many were sent, copies not counted."""
    answers: int = 0
    """How many of them are over: answered, or known to have failed."""
    actions: int = 0
    said: list[str] = []
    """What was said, `agent: …` and `callee: …`, the most recent lines."""


class Webhook(msgspec.Struct, frozen=True):
    """One webhook that was sent (each copy of a duplicate is one) and what it was answered with."""

    session: str
    number: str
    event: str
    sent: Moment
    latency_seconds: float
    status: int | None
    failure: str | None
    actions: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    fault: str | None = None


class Violation(msgspec.Struct, frozen=True):
    """A breach of the vendor's contract by the other side."""

    at: Moment
    kind: str
    detail: str
    number: str | None = None
    session: str | None = None


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the timeline."""

    at: float
    what: str
    number: str | None = None
    session: str | None = None
    detail: str | None = None


class PerNumber(msgspec.Struct):
    """Exact counts for one dialled number."""

    received: int = 0
    placed: int = 0
    """How many of them made the phone ring."""
    decided: dict[str, int] = {}


Observer: TypeAlias = Callable[[Happening], None]
_LINES_PER_CALL = 40


class History:
    """The memory of one simulator.

    Attributes:
        counts: exact totals by name: `dials.began`, `dials.received`, `calls.placed`, `webhooks.sent`,
            `webhooks.status.200`, `webhooks.failure.no_answer`, `webhooks.event.user_speak`, `actions.speak`,
            `violations`, `violations.not_an_action`, …
        numbers: exact counts by dialled number.
        dials, webhooks, violations: the most recent ones, in order.
        calls: by session; those that are over are forgotten first.
    """

    def __init__(self, *, limit: int = 20_000) -> None:
        self.counts: Counter[str] = Counter()
        self.numbers: dict[str, PerNumber] = {}
        self.dials: deque[Dial] = deque(maxlen=limit)
        self.webhooks: deque[Webhook] = deque(maxlen=limit)
        self.violations: deque[Violation] = deque(maxlen=limit)
        self.calls: dict[str, Call] = {}
        self._limit = limit
        self._over: deque[str] = deque()
        self._ids = itertools.count(1)
        self._waiters: list[tuple[Callable[[History], bool], asyncio.Future[None]]] = []
        self._observers: list[Observer] = []

    # ---- recording

    def dial_begins(self, connection: int, target: str) -> Dial:
        """The head of a request to dial has been read."""
        dial = Dial(next(self._ids), Moment.now(), connection, target)
        self.dials.append(dial)
        self.counts["dials.began"] += 1
        self.changed()
        return dial

    def dial_received(self, dial: Dial, *, number: str | None, decided: str, places: bool) -> None:
        """It was read whole, and this is what we do about it."""
        dial.received = Moment.now()
        dial.number, dial.decided = number, decided
        self.counts["dials.received"] += 1
        self.counts[f"dials.decided.{decided}"] += 1
        if number is not None:
            entry = self.numbers.setdefault(number, PerNumber())
            entry.received += 1
            entry.placed += places
            entry.decided[decided] = entry.decided.get(decided, 0) + 1
        self.tell("dial received", number=number, detail=decided)
        self.changed()

    def count(self, name: str) -> None:
        """One more of these."""
        self.counts[name] += 1
        self.changed()

    def call_begins(self, session: str, *, number: str, direction: str) -> Call:
        """The platform makes or takes a call."""
        call = self.calls[session] = Call(session, number, direction, Moment.now())
        self.counts["calls.placed" if direction == "outbound" else "calls.inbound"] += 1
        self.changed()
        return call

    def call_answered(self, call: Call) -> None:
        """Somebody picked up."""
        call.state, call.answered = "talking", Moment.now()
        self.counts["calls.answered"] += 1
        self.tell("answered", number=call.number, session=call.session)
        self.changed()

    def call_ends(self, call: Call, *, state: str, by: str) -> None:
        """Nothing more will happen in this call."""
        call.state, call.ended, call.ended_by = state, Moment.now(), by
        self.counts[f"calls.{state}"] += 1
        self._over.append(call.session)
        while len(self._over) > self._limit:
            self.calls.pop(self._over.popleft(), None)
        self.tell("call over", number=call.number, session=call.session, detail=f"{state} by {by}")
        self.changed()

    def said(self, call: Call, who: str, text: str) -> None:
        """Words, spoken or played."""
        call.said.append(f"{who}: {text}")
        del call.said[:-_LINES_PER_CALL]
        self.tell(f"{who} says", number=call.number, session=call.session, detail=text)

    def webhook_done(self, webhook: Webhook) -> None:
        """A webhook was answered, or will not be."""
        self.webhooks.append(webhook)
        counts = self.counts
        counts["webhooks.sent"] += 1
        counts[f"webhooks.event.{webhook.event}"] += 1
        if webhook.status is not None:
            counts[f"webhooks.status.{webhook.status}"] += 1
        if webhook.failure is not None:
            counts[f"webhooks.failure.{webhook.failure}"] += 1
        for action in webhook.actions:
            counts[f"actions.{action}"] += 1
        if self._observers:
            outcome = f"{webhook.status or webhook.failure} in {webhook.latency_seconds * 1000:.0f} ms"
            what = f"{webhook.event}: {outcome}; {', '.join(webhook.actions) or 'no action'}"
            self.tell("webhook answered", number=webhook.number, session=webhook.session, detail=what)
        self.changed()

    def breach(self, kind: str, detail: str, *, number: str | None = None, session: str | None = None) -> None:
        """The other side broke the contract."""
        self.violations.append(Violation(Moment.now(), kind, detail, number, session))
        self.counts["violations"] += 1
        self.counts[f"violations.{kind}"] += 1
        self.tell("violation", number=number, session=session, detail=f"{kind}: {detail}")
        self.changed()

    # ---- watching

    def observe(self, observer: Observer) -> None:
        """Call this with everything that happens from now on."""
        self._observers.append(observer)

    def tell(
        self, what: str, *, number: str | None = None, session: str | None = None, detail: str | None = None
    ) -> None:
        """Pass one happening to the observers."""
        if self._observers:
            happening = Happening(time.time(), what, number, session, detail)
            for observer in self._observers:
                observer(happening)

    async def wait_for(self, predicate: Callable[[History], bool], *, timeout_seconds: float) -> None:
        """Return as soon as the predicate holds; it is asked again after each change.

        Raises:
            TimeoutError: it did not hold in time; the message has the counters.
        """
        if predicate(self):
            return
        entry = (predicate, asyncio.get_running_loop().create_future())
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(timeout_seconds):
                await entry[1]
        except TimeoutError:
            raise TimeoutError(f"not within {timeout_seconds} s; seen so far: {dict(self.counts)}") from None
        finally:
            self._waiters.remove(entry)

    def changed(self) -> None:
        """Ask the waiting predicates again."""
        for predicate, future in self._waiters:
            if not future.done() and predicate(self):
                future.set_result(None)

    # ---- reading

    def placed(self, number: str) -> int:
        """How often this number's phone was made to ring: exact."""
        entry = self.numbers.get(number)
        return entry.placed if entry else 0

    def received(self, number: str) -> int:
        """How many requests to dial this number were read whole: exact."""
        entry = self.numbers.get(number)
        return entry.received if entry else 0

    def of_number(self, number: str) -> dict[str, Any]:
        """All that is known of one number, for JSON."""
        return {
            "number": number,
            "counts": self.numbers.get(number, PerNumber()),
            "dials": [dial for dial in self.dials if dial.number == number],
            "calls": [call for call in self.calls.values() if call.number == number],
            "webhooks": [webhook for webhook in self.webhooks if webhook.number == number],
            "violations": [violation for violation in self.violations if violation.number == number],
        }

    def snapshot(self, *, limit: int) -> dict[str, Any]:
        """The exact counts and the most recent `limit` of everything else, for JSON."""
        return {
            "now": Moment.now(),
            "counts": self.counts,
            "numbers": self.numbers,
            "latency_seconds": _quantiles(webhook.latency_seconds for webhook in self.webhooks),
            "dials": _last(self.dials, limit),
            "calls": _last(self.calls.values(), limit),
            "webhooks": _last(self.webhooks, limit),
            "violations": _last(self.violations, limit),
        }


def _last(items: Iterable[Any], limit: int) -> list[Any]:
    found = list(items)
    return found[max(0, len(found) - limit) :]


def _quantiles(values: Iterable[float]) -> dict[str, float]:
    """Of the webhooks that are remembered."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {name: ordered[round(last * share)] for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
