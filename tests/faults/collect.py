"""Read everything that the history checker judges: topics and offsets from Kafka, counters from the provider.

It promises one look at what stands there now; whether the run has come to rest is the checker's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faults.history import Collected, Seen
from tests.support.daemon import request
from tests.support.kafka_tools import committed_offsets, end_offsets, read_all

ALL = 1_000_000


async def collect(bootstrap: str, prefix: str, *, group_id: str, control_url: str) -> Collected:
    """What stands on the topics that begin with `prefix`, and what the provider behind `control_url` saw.

    One after the other while the run goes on, so the order matters: what an effect stands on is looked at after the
    effect. A result that is read was dialled for by the time the provider is asked, and what the provider counts was
    claimed by the time the ledger is read.
    """
    results = await read_all(bootstrap, f"{prefix}results")
    provider = (await request(f"{control_url}/_sim/history?limit={ALL}")).json
    return Collected(
        commands=await read_all(bootstrap, f"{prefix}commands"),
        results=results,
        ledger=await read_all(bootstrap, f"{prefix}ledger"),
        letters=await read_all(bootstrap, f"{prefix}dead-letters"),
        numbers=numbers_of(provider),
        requests=provider["counts"].get("dials.began", 0),
        ends=await end_offsets(bootstrap, f"{prefix}commands"),
        committed=await committed_offsets(bootstrap, f"{prefix}commands", group_id),
    )


def numbers_of(provider: Mapping[str, Any]) -> dict[str, Seen]:
    """What `GET /_sim/history` says of each number. A call that nobody was told of by webhook is no evidence."""
    told = {
        webhook["number"]
        for webhook in provider["webhooks"]
        if webhook["event"] == "session_start" and webhook["status"] is not None and 200 <= webhook["status"] < 300
    }
    return {
        number: Seen(seen["received"], seen["placed"], seen["decided"], number in told)
        for number, seen in provider["numbers"].items()
    }
