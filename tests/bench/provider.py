"""The far end of a dial, as fast as it can be: every POST is answered 201 without a body, at once or after a while."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import cast

import httptools

from bridge.demo.broker import LOOPBACK
from tests.bench.payloads import PREFIX

_CREATED = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
_NUMBER = re.compile(rb'"toPhoneNumber":"(%s\d+)"' % PREFIX.lstrip("+").encode())


class FastProvider:
    """Takes dials and remembers each: when it came, and for which number. Open it with `provider`."""

    def __init__(self, *, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.dials: list[tuple[float, str]] = []
        self.base_url = ""

    def dialled(self, body: bytes) -> None:
        """A whole request is there. Numbers that are none of the commands' (a floor's) are not remembered."""
        found = _NUMBER.search(body)
        if found:
            self.dials.append((time.monotonic(), found[1].decode()))

    def dialled_twice(self) -> list[str]:
        """Numbers for which more than one request came."""
        seen: set[str] = set()
        return [number for _, number in self.dials if number in seen or seen.add(number)]  # type: ignore[func-returns-value]


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, provider: FastProvider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """For the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """For the parser."""
        self._provider.dialled(self._body)
        self._body = b""
        if self._provider.delay_seconds:
            asyncio.get_running_loop().call_later(self._provider.delay_seconds, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(_CREATED)


@contextlib.asynccontextmanager
async def provider(*, delay_seconds: float = 0.0) -> AsyncIterator[FastProvider]:
    """A provider at a free port, for the length of the block."""
    found = FastProvider(delay_seconds=delay_seconds)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(found), LOOPBACK, 0, backlog=2048)
    found.base_url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
