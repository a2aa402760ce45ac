"""A closed-loop HTTP load: so many connections, each with one request on its way, the next as soon as it is answered.

It is cheap (a parser and a list of latencies a connection) because it shares the machine with what it measures. An end
of a connection while a request waits for its answer is an error, not a number.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import httptools

from bridge.demo.broker import LOOPBACK

_AT_A_TIME = 200
_FAR = float("inf")


@dataclass(slots=True)
class Load:
    """What a stretch of load came to. `latencies` are in seconds."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Requests that were answered."""
        return len(self.latencies)

    def only(self, status: int) -> None:
        """Refuse a load that was answered with anything else: its figures would mean something else, too."""
        if set(self.statuses) != {status}:
            raise RuntimeError(f"wanted only {status}, was answered with {dict(self.statuses)}")


class Gang:
    """Open connections to one port."""

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._load = Load()
        self._left = 0
        self._done: asyncio.Future[None] | None = None

    async def ask(self, requests: Sequence[bytes]) -> Load:
        """Send each connection's request once; returns when all are answered."""
        return await self.loop(requests, seconds=0.0)

    async def loop(self, requests: Sequence[bytes], *, seconds: float) -> Load:
        """Send each connection's request again and again for so long; returns when the last ones are answered."""
        self._load = Load()
        self._left = len(self._members)
        self._done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        for member, request in zip(self._members, requests, strict=True):
            member.start(request, until=began + seconds)
        await self._done
        self._load.seconds = time.perf_counter() - began
        return self._load

    # -- for its members

    def answered(self, status: int, seconds: float) -> None:
        """One request has its answer."""
        self._load.statuses[status] += 1
        self._load.latencies.append(seconds)

    def rested(self) -> None:
        """One connection sends nothing more."""
        self._left -= 1
        if not self._left and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def broke(self, error: Exception) -> None:
        """One connection ended with a request under way."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    # -- its life

    async def _open(self, port: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        while len(self._members) < count:
            some = [_Member(self) for _ in range(min(_AT_A_TIME, count - len(self._members)))]
            await asyncio.gather(*(loop.create_connection(partial(_same, each), LOOPBACK, port) for each in some))
            self._members += some

    def _close(self) -> None:
        for member in self._members:
            member.close()


class _Member(asyncio.Protocol):
    """One connection."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._request = b""
        self._sent_at: float | None = None
        self._until = _FAR

    def start(self, request: bytes, *, until: float) -> None:
        """Send the first one."""
        self._request = request
        self._until = until
        self._send()

    def close(self) -> None:
        """Hang up."""
        self._sent_at = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, for uvloop's transports are asyncio's by shape only.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._sent_at is not None:
            self._gang.broke(ConnectionError(f"the server hung up on a request: {exc}"))

    def on_message_complete(self) -> None:
        """For the parser: an answer is whole."""
        now = time.perf_counter()
        if self._sent_at is not None:
            self._gang.answered(self._parser.get_status_code(), now - self._sent_at)
        self._sent_at = None
        if now < self._until:
            self._send()
        else:
            self._gang.rested()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._transport is None:
            self._gang.broke(ConnectionError("the server hung up between two requests"))
            return
        self._transport.write(self._request)


def _same(member: _Member) -> _Member:
    return member


@contextlib.asynccontextmanager
async def gang(port: int, count: int) -> AsyncIterator[Gang]:
    """So many connections to a port of the loopback interface, for the length of the block."""
    opened = Gang()
    try:
        await opened._open(port, count)
        yield opened
    finally:
        opened._close()
