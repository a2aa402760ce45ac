"""Ledger records as small numbers: a state of the model is then a few tuples of integers, cheap to hash and compare.

Each number stands for one real record with its real key and bytes. Published results are bits of one number.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bridge.ledger import records
from bridge.ledger.records import Deferred, Fence, Record, Sending, Settled, Unsure
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.results import Result, result_event_id, result_type
from bridge.model.words import call_id_of
from bridge.providers.protocol import Plan

MOMENTS = tuple(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(3))
"""The three times of day there are: before a deferred command is due, after that, and after it has expired."""

COMMANDS = ("x", "y")


class Fact(NamedTuple):
    """One record, or a tombstone (no record)."""

    key: bytes
    value: bytes | None
    record: Record | None
    command_id: str | None


class Publication(NamedTuple):
    """What a consumer of the results topic can tell apart."""

    command_id: str
    event_id: str
    kind: str


class Facts:
    """The two tables."""

    def __init__(self) -> None:
        self.all: list[Fact] = []
        self.publications: list[Publication] = []
        self._numbers: dict[tuple[bytes, bytes | None], int] = {}
        self._bits: dict[Publication, int] = {}

    def number(self, record: Record) -> int:
        """The number of a record."""
        command_id = None if isinstance(record, Fence) else record.command_id
        return self._enter(Fact(records.key_of(record), records.encode(record), record, command_id))

    def tombstone(self, number: int) -> int:
        """The number of the tombstone that erases this fact."""
        fact = self.all[number]
        return self._enter(Fact(fact.key, None, None, fact.command_id))

    def bit(self, result: Result) -> int:
        """The bit of a published result."""
        publication = Publication(result.command_id, result_event_id(result), result_type(result))
        if publication not in self._bits:
            self._bits[publication] = 1 << len(self.publications)
            self.publications.append(publication)
        return self._bits[publication]

    def published(self, bits: int) -> list[Publication]:
        """What stands behind the bits."""
        return [each for index, each in enumerate(self.publications) if bits >> index & 1]

    def describe(self, number: int) -> str:
        """A fact, as a trace shows it."""
        fact = self.all[number]
        match fact.record:
            case None:
                return f"tombstone {fact.key.decode()}"
            case Fence(owner=owner):
                return f"fence/{owner}"
            case Sending() as record:
                return f"{record.command_id}/sending/{record.attempt} of epoch {record.epoch}"
            case Settled() as record:
                says = result_type(record.result) if record.result is not None else "not_sent"
                return f"{record.command_id}/settled/{record.attempt} ({says}) of epoch {record.epoch}"
            case Unsure() as record:
                return f"{record.command_id}/unsure/{record.attempt} of epoch {record.epoch}"
            case Deferred() as record:
                return f"{record.command_id}/deferred of epoch {record.epoch}"

    def _enter(self, fact: Fact) -> int:
        identity = (fact.key, fact.value)
        if identity not in self._numbers:
            self._numbers[identity] = len(self.all)
            self.all.append(fact)
        return self._numbers[identity]


FACTS = Facts()


def place_call(command_id: str, *, defers: bool, expires: bool) -> PlaceCall:
    """The command that is to be placed."""
    return PlaceCall(
        command_id=command_id,
        connection="demo",
        to="+49301234567",
        not_before=MOMENTS[1] if defers else None,
        expires_at=MOMENTS[2] if expires else None,
    )


def cancel_call(command_id: str) -> CancelCall:
    """The command that takes it back."""
    return CancelCall(command_id=command_id)


def plan_of(command: PlaceCall) -> Plan:
    """A checked command."""
    return Plan(command, call_id_of(command.command_id), (), None)
