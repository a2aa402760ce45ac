"""The vendors' HTTP client: many webhooks at once, cheaply, and badly where a script says so.

It promises one request per `post` (never a retry), one answer or one named failure, and that the time limit counts
from the first byte sent. It is httptools on a bare protocol, because a simulator must not be a test's bottleneck:
14 us of CPU a webhook, where h11 takes 85 and httpx2 440 to 1,040 (8 to 256 at once; Python 3.11, uvloop).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

import httptools
import msgspec

from bridge.demo.simulators.connection import reset_on_close
from bridge.demo.simulators.faults import Cut, Drop, LeaveUnread

_IDLE_SECONDS = 20.0  # well under the time after which servers close idle connections
_LARGEST_ANSWER = 8 * 1024 * 1024  # half a minute of background audio is 1.3 MB

Mishap: TypeAlias = Drop | LeaveUnread | Cut
"""The faults that happen to one request on its connection."""


class Delivery(msgspec.Struct, frozen=True):
    """What came of one webhook: an answer, or the name of a failure.

    `failure` is `no_answer` (the time was up), `refused`, `lost` (the connection ended first), `garbled`, `too_large`,
    or what we did to it ourselves: `dropped`, `left_unread`, `cut`.
    """

    status: int | None
    body: bytes
    content_type: str
    latency_seconds: float
    failure: str | None = None


class Endpoint:
    """Where webhooks go: the URL and the headers each of them carries, encoded once."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"a webhook URL must begin with http://, this one with {parts.scheme!r}")
        self.url = url
        self.address = (parts.hostname, parts.port or 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, "Content-Type": "application/json", **headers}
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._head = "\r\n".join(lines).encode() + b"\r\nContent-Length: "

    def request(self, body: bytes) -> bytes:
        """The bytes of one webhook."""
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)


class _Connection(asyncio.Protocol):
    """One connection, one webhook at a time."""

    def __init__(self, pool: WebhookClient, address: tuple[str, int]) -> None:
        self.address = address
        self.idle_since = 0.0
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Delivery] | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._sent_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._content_type = ""

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes, *, cap_seconds: float, mishap: Mishap | None) -> asyncio.Future[Delivery]:
        """Write the request; the future always ends, by `cap_seconds` at the latest."""
        assert self._transport is not None  # noqa: S101 - connection_made comes first
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Delivery] = loop.create_future()
        self._waiter = waiter
        self._sent_at = time.monotonic()
        if not self.is_open:
            self._finish(None, "lost")
            return waiter
        match mishap:
            case None:
                self._limit = loop.call_later(cap_seconds, self._fail, "no_answer")
            case Drop(after_seconds=seconds, reset=reset):
                self._limit = loop.call_later(seconds, self._reset if reset else self._fail, "dropped")
            case LeaveUnread(seconds=seconds):
                self._transport.pause_reading()
                self._limit = loop.call_later(seconds, self._fail, "left_unread")
            case Cut(share=share):
                self._transport.write(data[: int(len(data) * share)])
                self._fail("cut")
                return waiter
        self._transport.write(data)
        return waiter

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvloop's can't be asked
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("garbled")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._pool.forget(self)
        self._finish(None, "lost")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._content_type = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > _LARGEST_ANSWER:
            self._fail("too_large")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        keep, status = self._parser.should_keep_alive(), self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - an interim answer
            return
        self._finish(status, None)
        if keep and self.is_open:
            self._body, self._size, self._content_type = [], 0, ""
            self._pool.give_back(self)
        else:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _reset(self, failure: str) -> None:
        if self._transport is not None:
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()
        self._finish(None, failure)

    def _fail(self, failure: str) -> None:
        self._finish(None, failure)
        self.close()

    def _finish(self, status: int | None, failure: str | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        waiter.set_result(
            Delivery(
                status=status,
                body=b"".join(self._body) if status is not None else b"",
                content_type=self._content_type,
                latency_seconds=time.monotonic() - self._sent_at,
                failure=failure,
            )
        )


class WebhookClient:
    """Connections to the webhooks' receivers, kept alive; as many at once as there are webhooks under way.

    Attributes:
        opened: how many connections were made so far.
    """

    def __init__(self) -> None:
        self.opened = 0
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
        self._all: set[_Connection] = set()

    async def post(
        self, endpoint: Endpoint, body: bytes, *, cap_seconds: float, mishap: Mishap | None = None, fresh: bool = False
    ) -> Delivery:
        """Send one webhook and wait for what comes of it; never raises for what the other side does.

        `fresh`: on a connection of its own.
        """
        started = time.monotonic()
        connection = None if fresh else self._take(endpoint.address)
        try:
            if connection is None:
                async with asyncio.timeout(cap_seconds):
                    connection = await self._open(endpoint.address)
        except (OSError, TimeoutError) as error:
            failure = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
            return Delivery(None, b"", "", time.monotonic() - started, failure)
        return await connection.send(endpoint.request(body), cap_seconds=cap_seconds, mishap=mishap)

    def give_back(self, connection: _Connection) -> None:
        """This connection may carry the next webhook."""
        connection.idle_since = time.monotonic()
        self._idle.setdefault(connection.address, []).append(connection)

    def forget(self, connection: _Connection) -> None:
        """This connection has ended."""
        self._all.discard(connection)
        idle = self._idle.get(connection.address, [])
        if connection in idle:
            idle.remove(connection)

    def close(self) -> None:
        """End every connection."""
        for connection in list(self._all):
            connection.close()

    def _take(self, address: tuple[str, int]) -> _Connection | None:
        idle = self._idle.get(address)
        if not idle:
            return None
        connection = idle.pop()
        if connection.is_open and time.monotonic() - connection.idle_since < _IDLE_SECONDS:
            return connection
        connection.close()  # the freshest one is stale, so all are
        for stale in idle:
            stale.close()
        idle.clear()
        return None

    async def _open(self, address: tuple[str, int]) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self, address), *address)
        self._all.add(connection)
        self.opened += 1
        return connection
