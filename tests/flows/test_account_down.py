"""One provider is down: what that costs its own commands, what it costs those of another connection, and who can see it.

Commands of the two go in pairs under one key, the one to the dead provider first, so that the other stands behind it in
the same partition. How often the dead one was tried is counted, exactly: a lane that spins shows at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.brokers import Broker
from tests.support.stage import stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PAIRS = 4
BACKOFF_SECONDS = 10.0
"""After the first failure nothing of the dead connection moves for at least half of it."""


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address where nobody listens, and nobody else can begin to: connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


async def test_a_provider_that_is_down(quick_broker: Broker, tmp_path: Path, dead_url: str) -> None:
    """Its commands wait and are refused in the end; the other's are dialled at once; nothing spins; a gauge says so."""
    commands = {
        "max_attempts": 2,
        "inline_delay_seconds": 0.5,
        "first_backoff_seconds": BACKOFF_SECONDS,
        "longest_backoff_seconds": BACKOFF_SECONDS,
    }
    connections = {"demo": {}, "dead": {"base_url": dead_url}}
    async with stage(quick_broker, tmp_path, commands=commands, connections=connections) as here:
        await here.place("first")  # until the lanes are open
        assert (await here.result("first"))["type"] == "call.initiated"
        soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
        await here.place("expires", connection="dead", key="key-0", expires_at=soon)
        for number in range(PAIRS):
            await here.place(f"dead-{number}", connection="dead", key=f"key-{number}")
        await here.daemon.until_metric("dials_total", 1 + PAIRS, outcome="not_sent")
        began = time.monotonic()
        for number in range(PAIRS):
            to = await here.place(f"live-{number}", key=f"key-{number}")
            assert (await here.result(f"live-{number}"))["type"] == "call.initiated"
            assert here.received(to) == 1
        assert time.monotonic() - began < BACKOFF_SECONDS / 2

        # Meanwhile nobody has tried the dead one again, and what waits for it waits in the ledger.
        assert await here.daemon.metric("dials_total", outcome="not_sent") == 1 + PAIRS
        assert await here.daemon.metric("commands_deferred") >= PAIRS
        assert not any(here.results_so_far(f"dead-{number}") for number in range(PAIRS))
        expired = await here.result("expires")
        assert (expired["type"], expired["not_sent"]) == ("call.expired", ["connection_refused"])

        await here.daemon.until_metric("account_paused_seconds", 0.01, connection="dead")
        assert await here.daemon.metric("account_paused_seconds", connection="demo") == 0
        for number in range(PAIRS):
            refused = await here.result(f"dead-{number}")
            assert (refused["type"], refused["reason"]) == ("call.refused", "provider_unreachable")
            assert refused["not_sent"] == ["connection_refused"] * 2
        assert await here.daemon.metric("dials_total", outcome="not_sent") == 1 + 2 * PAIRS
        assert await here.daemon.metric("dials_total", outcome="accepted") == 1 + PAIRS
