"""What a campaign does when, out of a seed: the commands with what their provider does to them, and the faults.

Promises that one seed is one plan, whatever the machine does with it, and that what is planned adds up to the number of
faults asked for. Pure; carrying it out is the campaign's matter.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from bridge.demo.simulators.faults import (
    Answer,
    AnswerLate,
    Close,
    Duplicate,
    Garbled,
    HalfAnswer,
    Hang,
    ReplyFault,
    Reset,
    Trickle,
)
from bridge.demo.simulators.script import Callee, DialRule, Script, WebhookRule
from tests.faults.cluster import command
from tests.support.kafka_tools import Outgoing

Kind: TypeAlias = Literal[
    "replica killed",
    "replica frozen past its session",
    "replica frozen for a moment",
    "replica cut off past its session",
    "replica's connections reset",
    "replica added",
    "replica removed",
    "all connections reset",
    "broker restarted",
    "broker killed",
    "broker frozen",
    "provider refuses connections",
    "connection closed unread",
    "connection reset unread",
    "connection never read",
    "connection reset after the head",
]

WEIGHTS: Mapping[Kind, float] = {
    "replica killed": 22,
    "replica frozen past its session": 12,
    "replica frozen for a moment": 8,
    "replica cut off past its session": 12,
    "replica's connections reset": 10,
    "replica added": 8,
    "replica removed": 8,
    "all connections reset": 4,
    "broker restarted": 3,
    "broker killed": 3,
    "broker frozen": 5,
    "provider refuses connections": 6,
    "connection closed unread": 4,
    "connection reset unread": 4,
    "connection never read": 4,
    "connection reset after the head": 4,
}
"""How often each is planned, among what happens to replicas, brokers and connections."""

PROVIDER: Mapping[str, ReplyFault] = {
    "no answer, phone rings": Hang(acts=True),
    "no answer, phone silent": Hang(acts=False),
    "reset after reading, phone rings": Reset(acts=True),
    "reset after reading, phone silent": Reset(acts=False),
    "closed after reading": Close(acts=True),
    "503, phone rings": Answer(status=503, acts=True),
    "503, phone silent": Answer(status=503),
    "429 with Retry-After": Answer(status=429, headers={"Retry-After": "1"}),
    "slow answer": Answer(status=201, delay_seconds=1.0),
    "too slow an answer": Answer(status=201, delay_seconds=4.0, acts=True),
    "answer in half": HalfAnswer(acts=True),
    "garbled answer": Garbled(acts=True),
    "trickled answer": Trickle(acts=True, interval_seconds=0.02),
    "overtaken by its webhook": AnswerLate(acts=True),
}
"""What the provider does to one request to dial. Read time-outs in a campaign are 2 s, in all 3 s."""

PROVIDER_SHARE = 0.6
"""Of all faults; the rest happens to replicas, brokers and connections."""
USUAL = DialRule(fault=Answer(status=201, delay_seconds=0.3), every=2)
"""What happens to a request without a fault, every second time; so that there are always some under way."""

DUPLICATES = 0.1
SHARED_KEYS = 40
"""A fifth of the commands share so many keys, so that some wait for others."""

# By the digit behind the prefix: who picks up after how many seconds, and who is told of it.
_PREFIX = "491579"
_NOBODY = 5
_CALLEES = (
    Callee(number=f"{_PREFIX}0*", rings_seconds=0.3, patience_seconds=1.0),
    Callee(number=f"{_PREFIX}1*", rings_seconds=2.0, patience_seconds=1.0),
    Callee(number=f"{_PREFIX}2*", rings_seconds=12.0, patience_seconds=1.0),
    Callee(
        number=f"{_PREFIX}3*",
        rings_seconds=1.0,
        patience_seconds=1.0,
        webhook_faults=(WebhookRule(fault=Duplicate(gap_seconds=0.1), on="session_start"),),
    ),
    Callee(number=f"{_PREFIX}*", answers=False, rings_seconds=2.0),
)
_CLASSES = (0, 0, 1, 1, 2, 2, 3, *(_NOBODY,) * 8)


@dataclass(frozen=True)
class Settings:
    """What is asked of a campaign."""

    seed: int
    commands: int
    faults: int
    replicas: int = 3
    partitions: int = 6
    rate: float = 12.0
    """New commands a second; duplicates come on top."""

    @property
    def seconds(self) -> float:
        """How long commands are sent."""
        return self.commands / self.rate


@dataclass(frozen=True, slots=True)
class Order:
    """A record to send: `at` seconds after the start."""

    at: float
    command_id: str
    number: str
    record: Outgoing


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to do to replicas, brokers or connections. `pick`: between 0 and 1, chooses among those there are."""

    at: float
    kind: Kind
    seconds: float
    pick: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. `provider`: which fault a number meets, by name."""

    orders: list[Order]
    faults: list[Fault]
    provider: dict[str, str]

    @property
    def script(self) -> Script:
        """What the simulator has to be told."""
        rules = [DialRule(number=number, fault=PROVIDER[name], count=1) for number, name in self.provider.items()]
        return Script(callees=_CALLEES, dial_faults=(*rules, USUAL))


def plan(settings: Settings, *, begins: float) -> Plan:
    """The plan of a seed. `begins`: about when, in wall time, for the commands that name times."""
    choose = random.Random(settings.seed)  # noqa: S311 - to be repeated, not to protect anything
    placed = list(_commands(settings, choose, begins))
    again = list(_duplicates(placed, settings, choose))
    at_provider = min(settings.commands, round(settings.faults * PROVIDER_SHARE))
    numbers = choose.sample([order.number for order in placed], at_provider)
    names = list(PROVIDER)
    return Plan(
        orders=sorted([*placed, *again], key=lambda order: order.at),
        faults=sorted(_faults(settings, settings.faults - at_provider, choose), key=lambda fault: fault.at),
        provider={number: names[index % len(names)] for index, number in enumerate(numbers)},
    )


def _commands(settings: Settings, choose: random.Random, begins: float) -> Iterator[Order]:
    for index in range(settings.commands):
        at = index / settings.rate
        command_id = f"s{settings.seed}-{index}"
        number = f"{_PREFIX}{choose.choice(_CLASSES)}{index:06d}"
        shares = choose.random() < 0.2
        key = f"customer-{choose.randrange(SHARED_KEYS)}" if shares else command_id
        times = choose.choices(({}, {"not_before": 4.0}, {"expires_at": 8.0}), (18, 1, 1))[0]
        fields = {
            name: datetime.fromtimestamp(begins + at + seconds, UTC).isoformat() for name, seconds in times.items()
        }
        body = command(command_id, f"+{number}", metadata={"index": index}, **fields)
        yield Order(at, command_id, number, Outgoing(body, key.encode()))


def _duplicates(placed: list[Order], settings: Settings, choose: random.Random) -> Iterator[Order]:
    """At once, a little later, or much later."""
    for order in choose.sample(placed, round(len(placed) * DUPLICATES)):
        later = choose.choice((0.0, choose.uniform(0, 5), choose.uniform(0, settings.seconds / 3)))
        yield Order(order.at + later, order.command_id, order.number, order.record)


def _faults(settings: Settings, count: int, choose: random.Random) -> Iterator[Fault]:
    """One in each stretch of the time, somewhere in it."""
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    stretch = settings.seconds / max(1, count)
    for index in range(count):
        [kind] = choose.choices(kinds, weights)
        at = (index + choose.random()) * stretch
        yield Fault(at, kind, choose.uniform(0.3, 3.0), choose.random())
