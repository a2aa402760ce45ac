"""Read the ledger for an operator: what is in it, and what is known of one command.

Reads the whole topic once, as a lane would, and changes nothing. Personal data is not shown: metadata and callees are
left out, details were scrubbed when they were written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import msgspec

from bridge.bus.protocol import Bus
from bridge.bus.protocol import Record as BusRecord
from bridge.ledger import records
from bridge.ledger.records import CommandRecord, Deferred, Fence, Record, Sending, Settled, Unsure
from bridge.ledger.state import LedgerState
from bridge.model.codec import rfc3339
from bridge.model.errors import Unavailable
from bridge.model.results import result_type

_BATCH = 1000
_STEP_SECONDS = 0.5


async def summary(bus: Bus, topic: str) -> list[str]:
    """Lines that say, for each partition, how many commands are in which state, and which are unsettled.

    Raises:
        Unavailable: the topic cannot be read.
    """
    states: dict[int, LedgerState] = {}
    async for record in _read(bus, topic):
        _fold(states.setdefault(record.partition, LedgerState("")), record)
    return [line for partition, state in sorted(states.items()) for line in _describe(partition, state)] or ["empty"]


async def find(bus: Bus, topic: str, command_id: str) -> list[str]:
    """Lines for every record about one command that is left in the log, oldest first.

    Raises:
        Unavailable: the topic cannot be read.
    """
    lines: list[str] = []
    async for record in _read(bus, topic):
        parts = records.parts_of(record.key or b"")
        if parts is not None and parts.command_id == command_id:
            place = f"partition {record.partition} offset {record.offset}"
            found = None if record.value is None else records.decode(record.value)
            lines.append(f"{place}  {parts.kind:<9}{'erased' if found is None else _say(found)}")
    return lines or [f"nothing about '{command_id}': never seen, or past the deduplication window"]


async def _read(bus: Bus, topic: str) -> AsyncIterator[BusRecord]:
    async with bus.admin() as admin:
        if topic not in await admin.describe([topic]):
            raise Unavailable(f"there is no topic {topic}")
    async with bus.tail(topic, from_beginning=True) as tail:
        while tail.lag() > 0:
            for record in await tail.poll(max_records=_BATCH, timeout_seconds=_STEP_SECONDS):
                yield record


def _fold(state: LedgerState, record: BusRecord) -> None:
    if record.value is not None:
        state.fold(records.decode(record.value), record.offset)
        return
    parts = records.parts_of(record.key or b"")
    if parts is not None:
        state.erase(parts, record.offset)
    state.next_offset = max(state.next_offset, record.offset + 1)  # a probe


def _describe(partition: int, state: LedgerState) -> Iterator[str]:
    counts = Counter(entry.state.value for entry in state.entries.values())
    words = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no commands"
    yield f"partition {partition}: {words}; next offset {state.next_offset}"
    for sending in state.unsettled():
        yield f"  unsettled: {sending.command_id} attempt {sending.attempt} claimed {_time(sending)}"


def _time(record: CommandRecord | Fence) -> str:
    return rfc3339(datetime.fromtimestamp(record.at_ms / 1000, UTC))


def _say(record: Record) -> str:
    match record:
        case Fence():
            return f"{_time(record)} owner {record.owner}"
        case Sending():
            return f"{_time(record)} attempt {record.attempt} epoch {record.epoch} connection {record.connection}"
        case Settled():
            outcome = "no dial" if record.outcome is None else msgspec.json.encode(record.outcome).decode()
            result = "may be tried again" if record.result is None else result_type(record.result)
            return f"{_time(record)} attempt {record.attempt} epoch {record.epoch} {result} {outcome}"
        case Unsure():
            return f"{_time(record)} attempt {record.attempt} epoch {record.epoch} {result_type(record.result)}"
        case Deferred():
            due = rfc3339(datetime.fromtimestamp(record.due_ms / 1000, UTC))
            return f"{_time(record)} epoch {record.epoch} due {due}"
