"""What the tests of the guarded server's peers share: limits that are soon reached, and a server that echoes.

A file that needs other limits has a fixture `limits` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.ingress.guarded import ServerLimits
from tests.support.wire import Echo, Served, serving

LIMITS = ServerLimits(
    max_header_bytes=4_096,
    max_body_bytes=65_536,
    max_pipelined=4,
    receive_timeout_seconds=0.5,
    grace_seconds=0.4,
    drain_seconds=5.0,
)


@pytest.fixture
def limits() -> ServerLimits:
    """Of the server of most tests."""
    return LIMITS


@pytest.fixture
def echo() -> Echo:
    """The handler of most tests."""
    return Echo()


@pytest.fixture
async def served(echo: Echo, limits: ServerLimits) -> AsyncIterator[Served]:
    """A server that answers with what it is sent."""
    async with serving(echo, limits) as served:
        yield served
