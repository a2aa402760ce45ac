"""A plain HTTP proxy in front of several replicas: each request goes to the next one, whoever's session it is.

It promises one upstream connection a request, that a replica which refuses is passed over, and a row in `passed` for
each request with the replica that had it and what came of it. It repeats nothing that a replica may have read: where
one dies in the middle, the caller gets 502.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.demo.broker import LOOPBACK

UPSTREAM_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Passed:
    """One request. `status` is the replica's, None where it ended without an answer; `body` is the answer's."""

    replica: str | None
    session: str
    event: str
    status: int | None
    began: float
    ended: float
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Request:
    head: bytes
    body: bytes

    def upstream(self) -> bytes:
        """The same for a connection of its own."""
        lines = [line for line in self.head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + self.body

    def about(self) -> tuple[str, str]:
        """Session and event of sipgate's body; empty where it is none."""
        try:
            body = json.loads(self.body)
            return str(body["session"]["id"]), str(body["type"])
        except (ValueError, KeyError, TypeError):
            return "", ""


class RoundRobin:
    """The proxy. `replicas` (`host:port`) may change at any time."""

    def __init__(self) -> None:
        self.replicas: list[str] = []
        self.passed: list[Passed] = []
        self.url = ""
        self._turn = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One caller's connection, request after request."""
        try:
            while (request := await _read(reader)) is not None:
                writer.write(await self._pass_on(request))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller has gone
        finally:
            writer.transport.abort()

    async def _pass_on(self, request: _Request) -> bytes:
        began, (session, event) = time.monotonic(), request.about()
        replica, answer = await self._ask_someone(request)
        status = int(answer.split(b" ", 2)[1]) if answer else None
        self.passed.append(Passed(replica, session, event, status, began, time.monotonic(), _body(answer)))
        return answer or b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"

    async def _ask_someone(self, request: _Request) -> tuple[str | None, bytes]:
        self._turn += 1
        first = self._turn % max(1, len(self.replicas))
        for replica in self.replicas[first:] + self.replicas[:first]:
            try:
                async with asyncio.timeout(UPSTREAM_SECONDS):
                    reader, writer = await asyncio.open_connection(*replica.split(":"))
            except OSError:
                continue
            return replica, await _exchange(request, reader, writer)
        return None, b""


async def _exchange(request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The answer, for a connection that goes on; nothing where there is none."""
    try:
        async with asyncio.timeout(UPSTREAM_SECONDS):
            writer.write(request.upstream())
            await writer.drain()
            return _kept_alive(await reader.read())
    except OSError:  # TimeoutError is one
        return b""
    finally:
        writer.transport.abort()


def _body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def _kept_alive(answer: bytes) -> bytes:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return b""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"content-length:"))]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""]) + body


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    return _Request(head, await reader.readexactly(length))


@asynccontextmanager
async def round_robin() -> AsyncIterator[RoundRobin]:
    """The proxy on a free port, for the length of the block."""
    proxy = RoundRobin()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, LOOPBACK, 0)
    proxy.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
