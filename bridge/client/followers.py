"""Read the topics of results on this process and give each result to who waits for it.

A tail without a group, like the bridge's own: every process reads all, and skips by key what it did not send. Promises
to go on through an outage of Kafka; what cannot be read is skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio

from bridge.bus.protocol import Record, TailReader
from bridge.client.awaited import Awaited
from bridge.client.reading import read_action_result, read_result
from bridge.model.actions import ActionResult
from bridge.model.errors import Poison, Unavailable
from bridge.model.results import CallRefused, Result

log = logging.getLogger("bridge.client")

_RECORDS = 500
_SECONDS = 0.2


async def follow(tail: TailReader, concerns: Callable[[bytes | None], bool], take: Callable[[Record], None]) -> None:
    """Until cancelled."""
    while True:
        for record in await _fetch(tail):
            if not concerns(record.key):
                continue
            try:
                take(record)
            except Poison as poison:
                place = f"{record.topic}/{record.partition}/{record.offset}"
                log.warning("unreadable result at %s: %s", place, poison.field)


async def _fetch(tail: TailReader) -> Sequence[Record]:
    try:
        return await tail.poll(max_records=_RECORDS, timeout_seconds=_SECONDS)
    except Unavailable as error:
        log.warning("results cannot be read just now: %s", error)
        await anyio.sleep(_SECONDS)
        return ()


def taking_action_results(awaited: Awaited[ActionResult]) -> Callable[[Record], None]:
    """By the action's id."""

    def take(record: Record) -> None:
        result = read_action_result(record)
        awaited.take(result.action_id, result)

    return take


def taking_results(awaited: Awaited[Result]) -> Callable[[Record], None]:
    """By the command's id. That a cancel came too late is not what became of the call."""

    def take(record: Record) -> None:
        result = read_result(record)
        if not (isinstance(result, CallRefused) and result.reason == "too_late_to_cancel"):
            awaited.take(result.command_id, result)

    return take
