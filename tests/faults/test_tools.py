"""The campaign's own tools: a network that hurts one replica only, and how long partitions stood still."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.demo.broker import LOOPBACK
from tests.faults.arrivals import STEP_SECONDS, Arrivals
from tests.faults.network import Balancer, Network, Serving, pump
from tests.faults.recovery import Kill, openings, recovery_seconds

WAIT_SECONDS = 60.0


class _Echo(Serving):
    """A server that says everything back, to whom still listens."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pump(reader, writer)


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """Where it listens."""
    async with _Echo() as echo:
        yield echo.port


class Client:
    """A replica's connection: its first bytes are shaped like a Kafka request with a client id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, replica: str, network: Network) -> Client:
        """Connected, and heard once."""
        client = cls(*await asyncio.open_connection(LOOPBACK, network.port))
        name = f"{replica}-commands".encode()
        await client.say(bytes(12) + len(name).to_bytes(2) + name)
        return client

    async def say(self, data: bytes) -> None:
        """Send it and hear it back."""
        self.writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await self._reader.readexactly(len(data)) == data


@pytest.mark.anyio
async def test_a_stall_holds_one_replica_back(echo_port: int) -> None:
    """What a stalled replica says arrives when the stall ends; another one notices nothing."""
    async with Network() as network:
        network.target_port = echo_port
        stalled, other = await Client.of("r1", network), await Client.of("r2", network)
        network.stall("r1")
        waiting = asyncio.create_task(stalled.say(b"late"))
        await other.say(b"in time")
        late_one = asyncio.create_task(Client.of("r1", network))  # new connections are stalled as well
        await other.say(b"in time again")
        assert not waiting.done()
        assert not late_one.done()

        network.resume("r1")

        await waiting
        for client in (stalled, other, await late_one):
            client.writer.close()


@pytest.mark.anyio
async def test_a_cut_resets_one_replica(echo_port: int) -> None:
    """Its connections end, another's do not, and it may connect again."""
    async with Network() as network:
        network.target_port = echo_port
        cut, other = await Client.of("r1", network), await Client.of("r2", network)

        network.cut("r1")

        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await cut.say(b"lost")
        await other.say(b"here")
        again = await Client.of("r1", network)
        for client in (cut, other, again):
            client.writer.close()


@pytest.mark.anyio
async def test_webhooks_go_to_who_takes_them(echo_port: int) -> None:
    """A replica that refuses is passed over."""
    async with Balancer(
        lambda: ["http://127.0.0.1:1", f"http://{LOOPBACK}:{echo_port}"],
        random.Random(1),  # noqa: S311 - protects nothing
    ) as balancer:
        for _ in range(4):
            client = Client(*await asyncio.open_connection(LOOPBACK, balancer.port))
            await client.say(b"session_start")
            client.writer.close()


@pytest.mark.anyio
async def test_an_arrival_is_when_the_kernel_had_it(echo_port: int) -> None:
    """Not when anybody came to look: here everybody is kept from it for a while."""
    async with Arrivals(f"http://{LOOPBACK}:{echo_port}") as door:
        began, ended, client = _say_and_hold_everybody_up(int(door.url.rpartition(":")[2]), seconds=0.3)
        [arrived] = await door.times(1, seconds=WAIT_SECONDS)
        client.close()

    assert began - STEP_SECONDS <= arrived <= ended + STEP_SECONDS


def _say_and_hold_everybody_up(port: int, *, seconds: float) -> tuple[float, float, socket.socket]:
    """Send a request, and keep the loop from looking at it; when it was begun to be sent, and when it was sent."""
    client = socket.create_connection((LOOPBACK, port), timeout=WAIT_SECONDS)
    began = time.monotonic()
    client.sendall(b"a request")
    ended = time.monotonic()
    time.sleep(seconds)
    return began, ended, client


def test_recovery_is_from_the_kill_to_the_next_dial(tmp_path: Path) -> None:
    """Only of partitions that the killed replica was the last to open; of each the first dial after the kill."""

    def opened(at: float, partition: int) -> str:
        moment = datetime.fromtimestamp(at, UTC).isoformat()
        return json.dumps({"timestamp": moment, "event": "lane.opened", "partition": partition}, separators=(",", ":"))

    (tmp_path / "r0-1.log").write_text("\n".join([opened(10, 0), "no JSON", opened(10, 1), opened(10, 2)]))
    (tmp_path / "r1-1.log").write_text("\n".join([opened(20, 2), opened(34, 0)]))
    dials = [(31.0, 2), (29.0, 0), (36.0, 0), (35.0, 0), (33.5, 1)]

    seconds = recovery_seconds([Kill("r0", 30.0)], openings(tmp_path), dials)

    assert seconds == pytest.approx([5.0, 3.5])
