"""A lane's start: how long the ledger of a million commands is read, and what it takes in memory; beside plain reading."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bridge.ledger import records
from bridge.ledger.records import Sending, Settled
from bridge.model.outcome import Accepted
from bridge.model.results import CallInitiated
from bridge.model.words import call_id_of
from bridge.runtime.settings import LEDGER_COMPACTION_LAG_MS
from tests.bench import measure
from tests.bench.report import Report
from tests.bench.stage import Json, Setting, asked, new_prefix

BATCH_BYTES = 512 * 1024
AT_ONCE = 4
METADATA = {"about": "a benchmark", "tenant": "practice-4410"}


async def bench(setting: Setting) -> Report:
    """Write once; then read and open, each in a fresh process each time."""
    topic = f"{new_prefix()}ledger"
    await _create(setting.bootstrap, topic)
    began = time.monotonic()
    count, size = await _fill(setting.bootstrap, topic, setting.entries)
    filled = time.monotonic() - began
    found: dict[str, list[Json]] = {"plain read": [], "LedgerPartition.open": []}
    for _ in range(setting.rounds):
        found["plain read"].append(await asked("ledger-read", bootstrap=setting.bootstrap, topic=topic))
        found["LedgerPartition.open"].append(await asked("ledger-open", bootstrap=setting.bootstrap, topic=topic))
    columns = ("what", "records", "s", "records/s", "CPU us/record", "x plain", "MiB", "MiB grown", "KiB/entry")
    report = Report("ledger-start", f"opening a lane over {setting.entries:,} finished commands", columns)
    plain = measure.median([each["cpu"] / each["records"] for each in found["plain read"]])
    for name, rounds in found.items():
        seconds = measure.median([each["seconds"] for each in rounds])
        cpu = measure.median([each["cpu"] / each["records"] for each in rounds])
        rss = measure.median([each["rss"] for each in rounds])
        grown = measure.median([each["rss"] - each["rss_before"] for each in rounds])
        read, entries = rounds[-1]["records"], rounds[-1]["entries"]
        per_entry = grown * 1024 / entries if entries else 0.0
        report.rows.append((name, read, seconds, read / seconds, cpu * 1e6, cpu / plain, rss, grown, per_entry))
    report.notes.append(f"written: {count:,} records, {size / 1e6:,.0f} MB of values, in {filled:.0f} s")
    return report


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    config = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(LEDGER_COMPACTION_LAG_MS)}
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=config)])
    finally:
        await admin.close()


async def _fill(bootstrap: str, topic: str, entries: int) -> tuple[int, int]:
    """Write whole batches, a few at a time; returns how many records, and the bytes of their values."""
    count = size = 0
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    async with producer:
        batch, under_way = producer.create_batch(), []
        for key, value in _records(entries):
            count += 1
            size += len(value)
            if batch.append(key=key, value=value, timestamp=None) is None:
                under_way.append(await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
                if len(under_way) >= AT_ONCE:
                    await under_way.pop(0)
        under_way.append(await producer.send_batch(batch, topic, partition=0))
        for each in under_way:
            await each
    return count, size


def _records(entries: int) -> Iterator[tuple[bytes, bytes]]:
    """A claim and its end for each command, as a lane writes them."""
    now = datetime.now(UTC)
    at_ms = int(now.timestamp() * 1000)
    for number in range(entries):
        command_id = f"command-{number:08d}"
        key, digest = command_id.encode(), hashlib.sha256(command_id.encode()).digest()
        sending = Sending(
            command_id=command_id,
            attempt=1,
            epoch=0,
            at_ms=at_ms,
            digest=digest,
            key=key,
            connection="demo",
            provider="sipgate",
            metadata=METADATA,
        )
        result = CallInitiated(
            command_id=command_id,
            call_id=call_id_of(command_id),
            connection="demo",
            provider="sipgate",
            attempts=1,
            metadata=METADATA,
            accepted_at=now,
            duration_ms=87,
            settled_by="answer",
        )
        settled = Settled(
            command_id=command_id,
            attempt=1,
            epoch=0,
            at_ms=at_ms,
            digest=digest,
            key=key,
            outcome=Accepted(provider_status=201),
            result=result,
        )
        yield records.key_of(sending), records.encode(sending)
        yield records.key_of(settled), records.encode(settled)
