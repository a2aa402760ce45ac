"""Sends webhooks with whatever their script has in store for them, and reports each copy once.

It promises exactly one report for each copy that is sent, in the order in which they end. What a webhook says and
what an answer means is left to the vendor's simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio
import anyio.abc
import msgspec

from bridge.demo.simulators.faults import Cut, Delay, Drop, Duplicate, LeaveUnread, WebhookFault, WrongSecret
from bridge.demo.simulators.history import Moment
from bridge.demo.simulators.webhooks import Delivery, Endpoint, WebhookClient


class Report(msgspec.Struct, frozen=True):
    """What came of one copy of a webhook."""

    delivery: Delivery
    sent: Moment
    is_first: bool
    """The first copy to end: the one whose answer counts."""


Done: TypeAlias = Callable[[Report], None]


class Address(msgspec.Struct, frozen=True):
    """Where one receiver's webhooks go: with the right proof, and with a wrong one."""

    honest: Endpoint
    forged: Endpoint


class Courier:
    """Sends in the background, in its owner's task group."""

    def __init__(self, group: anyio.abc.TaskGroup, client: WebhookClient, *, cap_seconds: float) -> None:
        self._group = group
        self._client = client
        self._cap_seconds = cap_seconds

    def send(self, address: Address, body: bytes, *, fault: WebhookFault | None, done: Done) -> None:
        """Begin to send; `done` is called for each copy."""
        if isinstance(fault, Duplicate):
            once = _Once(done)
            for copy in range(fault.copies):
                pause = Delay(seconds=copy * fault.gap_seconds)
                self._group.start_soon(self._send, address, body, pause, once.done)
        else:
            self._group.start_soon(self._send, address, body, fault, done)

    async def _send(self, address: Address, body: bytes, fault: WebhookFault | None, done: Done) -> None:
        if isinstance(fault, Delay) and fault.seconds:
            await anyio.sleep(fault.seconds)
        endpoint = address.forged if isinstance(fault, WrongSecret) else address.honest
        sent = Moment.now()
        mishap = fault if isinstance(fault, Drop | LeaveUnread | Cut) else None
        fresh = fault is not None  # copies must not wait for each other's connection, nor faults spoil a good one
        delivery = await self._client.post(endpoint, body, cap_seconds=self._cap_seconds, mishap=mishap, fresh=fresh)
        done(Report(delivery, sent, is_first=True))


class _Once:
    """Marks all reports but the first."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._is_first = True

    def done(self, report: Report) -> None:
        first, self._is_first = self._is_first, False
        self._done(msgspec.structs.replace(report, is_first=first))
