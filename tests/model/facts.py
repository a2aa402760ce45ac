"""Ledger records as small numbers: a state of the model is then a few tuples of integers, cheap to hash and compare.

Each number stands for one real record with its real key and bytes. Published results are bits of one number.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bridge.ledger import records
from bridge.ledger.records import Deferred, Fence, Record, Sending, Settled, Unsure
from bridge.model.commands import PlaceCall
from bridge.model.results import CallCancelled, CallExpired, CallRefused, Result, result_event_id, result_type

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
    denies: bool
    """It says that nothing was dialled: not by a provider's word, but by ours."""


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

    def tombstone(self, key: bytes) -> int:
        """The number of the tombstone that erases what stands under this key."""
        parts = records.parts_of(key)
        return self._enter(Fact(key, None, None, None if parts is None else parts.command_id))

    def probe(self, owner: str) -> int:
        """The number of the tombstone that erases nothing."""
        return self.tombstone(f"probe/{owner}".encode())

    def bit(self, result: Result) -> int:
        """The bit of a published result; none for the answer to a command that came too late or was no command."""
        if isinstance(result, CallRefused) and result.reason in {"too_late_to_cancel", "command_id_reused"}:
            return 0
        unasked = isinstance(result, CallRefused) and result.settled_by is None
        denies = unasked or isinstance(result, CallExpired | CallCancelled)
        publication = Publication(result.command_id, result_event_id(result), result_type(result), denies)
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
            case Settled(result=result) as record:
                says = "not_sent" if result is None else ("owed " * record.owed) + result_type(result)
                return f"{fact.key.decode()} ({says}) of epoch {record.epoch}"
            case Sending() | Unsure() | Deferred() as record:
                return f"{fact.key.decode()} of epoch {record.epoch}"

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
